//! From a signal stop to an [`Event`].

use super::inject::gone;
use super::tracee::{SignalInfo, Tracee};
use crate::{Access, Event, Fault, Registers, Result};
use nix::errno::Errno;

/// `si_code` of an exception that has no finer one.
const SI_KERNEL: i32 = 0x80;
/// `si_code` of a `SIGSYS` from a seccomp filter.
const SYS_SECCOMP: i32 = 1;
/// `SEGV_ACCERR`.
const SEGV_ACCERR: i32 = 2;

/// `si_code` of an integer division by zero.
const FPE_INTDIV: i32 = 1;

/// x86 trap numbers.
mod trap {
    pub const DIVIDE: u64 = 0;
    pub const DEBUG: u64 = 1;
    pub const BREAKPOINT: u64 = 3;
    pub const INVALID_OPCODE: u64 = 6;
    pub const GENERAL_PROTECTION: u64 = 13;
    pub const PAGE_FAULT: u64 = 14;
    pub const ALIGNMENT: u64 = 17;
    pub const SIMD: u64 = 19;
}

/// Bits of a page fault's error code.
const PF_PROTECTION: u64 = 1;
const PF_USER: u64 = 4;
const PF_FETCH: u64 = 16;

/// Error code of `int 0x80` where the interrupt gate is not open to user code.
const INT80_ERROR: u64 = 0x80 << 3 | 2;

/// Entry points of the vsyscall page and the system calls they stand for.
pub(crate) const VSYSCALLS: [(u64, i64); 3] = [
    (0xffff_ffff_ff60_0000, libc::SYS_gettimeofday),
    (0xffff_ffff_ff60_0400, libc::SYS_time),
    (0xffff_ffff_ff60_0800, libc::SYS_getcpu),
];

/// The exception behind a signal that the host raised for an instruction.
///
/// ptrace shows neither trap number nor error code; they are reconstructed where signal and `si_code`
/// determine them.
pub fn describe(signal: i32, info: SignalInfo, registers: &Registers) -> Fault {
    let fetch = info.address == registers.rip;
    let (trap, error) = match (signal, info.code) {
        (libc::SIGFPE, FPE_INTDIV) => (trap::DIVIDE, 0),
        // x87 exceptions look the same; code that unmasks any uses the vector unit.
        (libc::SIGFPE, _) => (trap::SIMD, 0),
        (libc::SIGILL, _) => (trap::INVALID_OPCODE, 0),
        (libc::SIGTRAP, SI_KERNEL) => (trap::BREAKPOINT, 0),
        (libc::SIGTRAP, _) => (trap::DEBUG, 0),
        (libc::SIGBUS, libc::BUS_ADRALN) => (trap::ALIGNMENT, 0),
        (libc::SIGSEGV, SI_KERNEL) => (trap::GENERAL_PROTECTION, 0),
        (libc::SIGSEGV | libc::SIGBUS, code) => {
            let protection = if code == SEGV_ACCERR { PF_PROTECTION } else { 0 };
            (trap::PAGE_FAULT, PF_USER | protection | if fetch { PF_FETCH } else { 0 })
        }
        _ => (0, 0),
    };
    let access = (trap == trap::PAGE_FAULT && fetch).then_some(Access::Execute);
    Fault { signal, code: info.code, addr: info.address, access, trap, error }
}

/// Linux without 32-bit emulation treats `int 0x80` and its like as a protection fault; so do we.
///
/// The registers are put back to before the instruction.
pub fn foreign_syscall(registers: &mut Registers) -> Event {
    registers.rip = registers.rip.wrapping_sub(2);
    registers.rax = registers.orig_rax;
    registers.orig_rax = u64::MAX;
    Event::Fault(Fault {
        signal: libc::SIGSEGV,
        code: SI_KERNEL,
        addr: 0,
        access: None,
        trap: trap::GENERAL_PROTECTION,
        error: INT80_ERROR,
    })
}

/// A call of the vsyscall page, which the kernel would otherwise have answered itself.
///
/// It shows as a `SIGSYS` of the stub's filter, or as a fault where the host has no such page.
pub fn vsyscall(
    tracee: &Tracee,
    signal: i32,
    info: SignalInfo,
    registers: &mut Registers,
) -> Result<Option<Event>> {
    let known = VSYSCALLS.iter().find(|(address, _)| *address == info.address);
    let Some(&(address, number)) = known else { return Ok(None) };
    if signal == libc::SIGSEGV && registers.rip == address {
        // The entry was called, so the return address is on the stack.
        registers.rip = match tracee.peek(registers.rsp) {
            Ok(back) => back,
            Err(Errno::EIO | Errno::EFAULT) => return Ok(None),
            Err(error) => return Err(gone(error)),
        };
        registers.rsp = registers.rsp.wrapping_add(8);
    } else if signal != libc::SIGSYS || info.code != SYS_SECCOMP {
        // With the filter's signal the kernel has returned to the caller already.
        return Ok(None);
    }
    registers.orig_rax = number as u64;
    registers.rax = (-i64::from(libc::ENOSYS)) as u64;
    Ok(Some(Event::Syscall))
}
