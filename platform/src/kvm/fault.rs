//! From a vector to the signal that Linux gives for it.

use crate::registers::EFLAGS_TRAP;
use crate::{Fault, Registers, XState};

/// `si_code` of an exception that has no finer one.
const SI_KERNEL: i32 = 0x80;
/// `FPE_INTDIV`, `FPE_FLTDIV`, `FPE_FLTOVF`, `FPE_FLTUND`, `FPE_FLTRES`, `FPE_FLTINV`.
const FPE_INTDIV: i32 = 1;
const FPE_FLTDIV: i32 = 3;
const FPE_FLTOVF: i32 = 4;
const FPE_FLTUND: i32 = 5;
const FPE_FLTRES: i32 = 6;
const FPE_FLTINV: i32 = 7;
/// `TRAP_BRKPT`, `TRAP_TRACE`, `ILL_ILLOPN`, `BUS_ADRALN`.
const TRAP_BRKPT: i32 = 1;
const TRAP_TRACE: i32 = 2;
const ILL_ILLOPN: i32 = 2;
const BUS_ADRALN: i32 = 1;

/// Vectors of the CPU.
pub mod vector {
    pub const DIVIDE: u64 = 0;
    pub const DEBUG: u64 = 1;
    pub const BREAKPOINT: u64 = 3;
    pub const INVALID_OPCODE: u64 = 6;
    pub const NOT_PRESENT: u64 = 11;
    pub const STACK: u64 = 12;
    pub const GENERAL_PROTECTION: u64 = 13;
    pub const PAGE_FAULT: u64 = 14;
    pub const FP: u64 = 16;
    pub const ALIGNMENT: u64 = 17;
    pub const SIMD: u64 = 19;
}

/// The exception of a vector other than a page fault, as `arch/x86/kernel/traps.c` has it.
pub fn describe(
    trap: u64,
    error: u64,
    regs: &Registers,
    fp: impl FnOnce() -> Option<XState>,
) -> Fault {
    let (signal, code, addr) = match trap {
        vector::DIVIDE => (libc::SIGFPE, FPE_INTDIV, regs.rip),
        vector::DEBUG if regs.eflags & EFLAGS_TRAP != 0 => (libc::SIGTRAP, TRAP_TRACE, regs.rip),
        vector::DEBUG => (libc::SIGTRAP, TRAP_BRKPT, regs.rip),
        vector::BREAKPOINT => (libc::SIGTRAP, SI_KERNEL, 0),
        vector::INVALID_OPCODE => (libc::SIGILL, ILL_ILLOPN, regs.rip),
        vector::NOT_PRESENT | vector::STACK => (libc::SIGBUS, SI_KERNEL, 0),
        vector::FP => (libc::SIGFPE, fp().map_or(0, |state| x87_code(&state)), regs.rip),
        vector::SIMD => (libc::SIGFPE, fp().map_or(0, |state| simd_code(&state)), regs.rip),
        vector::ALIGNMENT => (libc::SIGBUS, BUS_ADRALN, 0),
        _ => (libc::SIGSEGV, SI_KERNEL, 0),
    };
    Fault { signal, code, addr, access: None, trap, error }
}

/// A fault that the CPU would raise on the way back to registers that it cannot load.
pub fn bad_return() -> Fault {
    Fault {
        signal: libc::SIGSEGV,
        code: SI_KERNEL,
        addr: 0,
        access: None,
        trap: vector::GENERAL_PROTECTION,
        error: 0,
    }
}

fn half(state: &XState, at: usize) -> u32 {
    let bytes = state.bytes.get(at..).and_then(|rest| rest.first_chunk::<2>());
    bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes).into())
}

fn x87_code(state: &XState) -> i32 {
    float_code(half(state, 2) & !half(state, 0))
}

fn simd_code(state: &XState) -> i32 {
    let mxcsr = half(state, 24);
    float_code(mxcsr & !(mxcsr >> 7))
}

/// The code for exceptions that are raised and not masked.
fn float_code(raised: u32) -> i32 {
    match raised {
        _ if raised & 0x01 != 0 => FPE_FLTINV,
        _ if raised & 0x04 != 0 => FPE_FLTDIV,
        _ if raised & 0x08 != 0 => FPE_FLTOVF,
        _ if raised & 0x12 != 0 => FPE_FLTUND,
        _ if raised & 0x20 != 0 => FPE_FLTRES,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_linuxs() {
        let regs = Registers { rip: 0x1234, ..Registers::default() };
        let stepped = Registers { eflags: EFLAGS_TRAP, ..regs };
        let of = |trap, regs: &Registers| {
            let fault = describe(trap, 0, regs, || None);
            (fault.signal, fault.code, fault.addr)
        };
        assert_eq!(of(0, &regs), (libc::SIGFPE, 1, 0x1234));
        assert_eq!(of(1, &stepped), (libc::SIGTRAP, 2, 0x1234));
        assert_eq!(of(1, &regs), (libc::SIGTRAP, 1, 0x1234));
        assert_eq!(of(3, &regs), (libc::SIGTRAP, 0x80, 0));
        assert_eq!(of(6, &regs), (libc::SIGILL, 2, 0x1234));
        assert_eq!(of(12, &regs), (libc::SIGBUS, 0x80, 0));
        assert_eq!(of(13, &regs), (libc::SIGSEGV, 0x80, 0));
        assert_eq!(of(17, &regs), (libc::SIGBUS, 1, 0));
        let mut state = XState { bytes: vec![0; 576].into_boxed_slice() };
        // Division by zero is raised, and everything but that is masked.
        state.bytes[24..26].copy_from_slice(&(0x1f80_u16 & !0x200 | 0x24).to_le_bytes());
        assert_eq!(describe(19, 0, &regs, || Some(state.clone())).code, FPE_FLTDIV);
        state.bytes[0..2].copy_from_slice(&0x37e_u16.to_le_bytes());
        state.bytes[2] = 0x21;
        assert_eq!(describe(16, 0, &regs, || Some(state)).code, FPE_FLTINV);
    }
}
