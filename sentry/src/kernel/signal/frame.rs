//! Entering and leaving signal handlers: the frame on the user stack (`sigreturn(2)`).
//!
//! The layout is the kernel's `struct rt_sigframe` for x86-64: return address, `ucontext`, `siginfo`, and
//! above them, 64-byte aligned, the FP state in XSAVE format with the software-reserved words that the C
//! library and debuggers look for (`asm/sigcontext.h`).

use super::actions::{SA_ONSTACK, SA_RESTORER, SA_SIGINFO};
use super::{SigAction, SigInfo, SigSet};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use platform::XState;
use platform::registers::{EFLAGS_USER, USER_CS, USER_SS};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SS_ONSTACK`.
pub const SS_ONSTACK: u32 = 1;
/// `SS_DISABLE`.
pub const SS_DISABLE: u32 = 2;
/// `SS_AUTODISARM`.
pub const SS_AUTODISARM: u32 = 1 << 31;
/// Smallest alternate stack (`MINSIGSTKSZ`).
pub const MINSIGSTKSZ: u64 = 2048;

/// The alternate signal stack (`sigaltstack(2)`), as the kernel's `stack_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AltStack {
    /// Lowest address.
    pub sp: u64,
    /// `SS_*`.
    pub flags: u32,
    /// Zero.
    pub pad: u32,
    /// Length in bytes; 0 when there is none.
    pub size: u64,
}

impl Default for AltStack {
    fn default() -> Self {
        AltStack { sp: 0, flags: SS_DISABLE, pad: 0, size: 0 }
    }
}

impl AltStack {
    /// True if a stack pointer lies in it.
    pub fn contains(&self, sp: u64) -> bool {
        sp > self.sp && sp - self.sp <= self.size
    }

    /// True if a stack pointer counts as being on it; never with `SS_AUTODISARM`.
    pub fn is_on(&self, sp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && self.contains(sp)
    }

    /// Flags as `sigaltstack(2)` reports them.
    pub fn status(&self, sp: u64) -> u32 {
        if self.size == 0 {
            SS_DISABLE
        } else if self.is_on(sp) {
            SS_ONSTACK
        } else {
            0
        }
    }

    /// Replaces it, as `sigaltstack(2)` does with the stack pointer at `sp`.
    pub fn replace(&mut self, new: &AltStack, sp: u64) -> Result<()> {
        if self.is_on(sp) {
            return Err(Errno::EPERM);
        }
        let mode = new.flags & !SS_AUTODISARM;
        if !matches!(mode, 0 | SS_ONSTACK | SS_DISABLE) {
            return Err(Errno::EINVAL);
        }
        if mode == SS_DISABLE {
            *self = AltStack { flags: new.flags, ..AltStack::default() };
            return Ok(());
        }
        if new.size < MINSIGSTKSZ {
            return Err(Errno::ENOMEM);
        }
        *self = AltStack { pad: 0, ..*new };
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    eflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UContext {
    flags: u64,
    link: u64,
    stack: AltStack,
    mcontext: SigContext,
    sigmask: u64,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    pretcode: u64,
    uc: UContext,
    info: [u8; super::info::SIGINFO_SIZE],
}

/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS: u64 = 7;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Where the software-reserved words of the FXSAVE area are.
const SW_RESERVED: usize = 464;
/// Bytes below the stack pointer that belong to the interrupted function.
const RED_ZONE: u64 = 128;
const EFLAGS_DF: u64 = 1 << 10;
const EFLAGS_RF: u64 = 1 << 16;
/// The trap flag.
pub const EFLAGS_TF: u64 = 1 << 8;

/// The trap that a synchronous signal reports in its context.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrapInfo {
    /// x86 trap number.
    pub trap: u64,
    /// x86 error code.
    pub error: u64,
    /// Faulting address.
    pub cr2: u64,
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn get32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// Makes the guest enter a handler. `mask` is what the handler's return restores. An error means that the
/// frame cannot be written: `SIGSEGV`.
pub fn enter(
    t: &mut CurrentTask,
    action: &SigAction,
    info: &SigInfo,
    mask: SigSet,
    trap: TrapInfo,
) -> Result<()> {
    if action.flags & SA_RESTORER == 0 {
        return Err(Errno::EFAULT);
    }
    t.context.load_registers(&mut t.regs).map_err(|_| Errno::EFAULT)?;
    let regs = t.regs;
    let mut fp = t.context.xstate().map_err(|_| Errno::EFAULT)?.bytes.into_vec();
    let fp_size = fp.len();
    let features = XState::features();
    put32(&mut fp, SW_RESERVED, FP_XSTATE_MAGIC1);
    put32(&mut fp, SW_RESERVED + 4, fp_size as u32 + 4);
    put32(&mut fp, SW_RESERVED + 8, features as u32);
    put32(&mut fp, SW_RESERVED + 12, (features >> 32) as u32);
    put32(&mut fp, SW_RESERVED + 16, fp_size as u32);
    fp.extend_from_slice(&FP_XSTATE_MAGIC2.to_le_bytes());

    let on_alt = t.alt_stack.is_on(regs.rsp);
    let mut sp = regs.rsp.wrapping_sub(RED_ZONE);
    let switch = action.flags & SA_ONSTACK != 0 && t.alt_stack.size != 0 && !on_alt;
    if switch {
        sp = t.alt_stack.sp.wrapping_add(t.alt_stack.size);
    }
    sp = sp.wrapping_sub(fp.len() as u64) & !63;
    let fp_addr = sp;
    sp = (sp.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
    if (switch || on_alt) && !t.alt_stack.contains(sp) {
        return Err(Errno::EFAULT);
    }

    let mcontext = SigContext {
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rdi: regs.rdi,
        rsi: regs.rsi,
        rbp: regs.rbp,
        rbx: regs.rbx,
        rdx: regs.rdx,
        rax: regs.rax,
        rcx: regs.rcx,
        rsp: regs.rsp,
        rip: regs.rip,
        eflags: regs.eflags,
        cs: regs.cs as u16,
        gs: 0,
        fs: 0,
        ss: regs.ss as u16,
        err: trap.error,
        trapno: trap.trap,
        oldmask: mask.0,
        cr2: trap.cr2,
        fpstate: fp_addr,
        reserved: [0; 8],
    };
    let frame = Frame {
        pretcode: action.restorer,
        uc: UContext { flags: UC_FLAGS, link: 0, stack: t.alt_stack, mcontext, sigmask: mask.0 },
        info: if action.flags & SA_SIGINFO != 0 {
            info.to_bytes()
        } else {
            [0; super::info::SIGINFO_SIZE]
        },
    };
    t.mm().write(UserAddr(fp_addr), &fp)?;
    t.mm().write_obj(UserAddr(sp), &frame)?;
    t.context.set_xstate(&XState::initial()).map_err(|_| Errno::EFAULT)?;
    if t.alt_stack.flags & SS_AUTODISARM != 0 {
        t.alt_stack = AltStack::default();
    }

    let uc = sp + std::mem::offset_of!(Frame, uc) as u64;
    t.regs.rdi = info.signal.number() as u64;
    t.regs.rsi = sp + std::mem::offset_of!(Frame, info) as u64;
    t.regs.rdx = uc;
    t.regs.rax = 0;
    t.regs.rip = action.handler;
    t.regs.rsp = sp;
    t.regs.cs = USER_CS;
    t.regs.ss = USER_SS;
    t.regs.eflags &= !(EFLAGS_DF | EFLAGS_RF | EFLAGS_TF);
    t.regs.orig_rax = u64::MAX;
    Ok(())
}

/// Leaves a handler (`rt_sigreturn`): everything comes from the frame above the stack pointer, and all
/// of it may be forged. An error means `SIGSEGV`. Returns the value for `rax`.
pub fn leave(t: &mut CurrentTask) -> Result<u64> {
    let at = t.regs.rsp.wrapping_sub(8).wrapping_add(std::mem::offset_of!(Frame, uc) as u64);
    let uc: UContext = t.mm().read_obj(UserAddr(at))?;
    let m = &uc.mcontext;
    super::send::set_blocked(t.task(), SigSet(uc.sigmask));
    let r = &mut t.regs;
    r.r8 = m.r8;
    r.r9 = m.r9;
    r.r10 = m.r10;
    r.r11 = m.r11;
    r.r12 = m.r12;
    r.r13 = m.r13;
    r.r14 = m.r14;
    r.r15 = m.r15;
    r.rdi = m.rdi;
    r.rsi = m.rsi;
    r.rbp = m.rbp;
    r.rbx = m.rbx;
    r.rdx = m.rdx;
    r.rax = m.rax;
    r.rcx = m.rcx;
    r.rsp = m.rsp;
    r.rip = m.rip;
    r.eflags = r.eflags & !EFLAGS_USER | m.eflags & EFLAGS_USER;
    r.cs = USER_CS;
    r.ss = USER_SS;
    r.orig_rax = u64::MAX;
    restore_fp(t, m.fpstate)?;
    // As in Linux, a bad stack in the frame is ignored.
    let sp = t.regs.rsp;
    let _ = t.alt_stack.replace(&uc.stack, sp);
    Ok(m.rax)
}

fn restore_fp(t: &mut CurrentTask, addr: u64) -> Result<()> {
    if addr == 0 {
        return t.context.set_xstate(&XState::initial()).map_err(|_| Errno::EFAULT);
    }
    let mut state = XState::initial();
    let size = state.bytes.len();
    let legacy = state.bytes.get_mut(..512).ok_or(Errno::EFAULT)?;
    t.mm().read(UserAddr(addr), legacy)?;
    let extended = get32(legacy, SW_RESERVED) == Some(FP_XSTATE_MAGIC1)
        && get32(legacy, SW_RESERVED + 16).is_some_and(|n| n as usize == size)
        && size >= 576;
    let mut complete = false;
    if extended {
        let mut magic = [0; 4];
        t.mm().read(UserAddr(addr.wrapping_add(size as u64)), &mut magic)?;
        if u32::from_le_bytes(magic) == FP_XSTATE_MAGIC2 {
            let rest = state.bytes.get_mut(512..).ok_or(Errno::EFAULT)?;
            t.mm().read(UserAddr(addr.wrapping_add(512)), rest)?;
            complete = true;
        }
    }
    if !complete && let Some(header) = state.bytes.get_mut(512..520) {
        // Only the x87 and SSE state is there; the rest is as initialised.
        header.copy_from_slice(&3_u64.to_le_bytes());
    }
    t.context.set_xstate(&state).map_err(|_| Errno::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(size_of::<SigContext>(), 256);
        assert_eq!(size_of::<UContext>(), 304);
        assert_eq!(size_of::<Frame>(), 440);
        assert_eq!(std::mem::offset_of!(UContext, sigmask), 296);
    }

    #[test]
    fn alternate_stack_rules() {
        let mut stack = AltStack::default();
        assert_eq!(stack.status(0x1000), SS_DISABLE);
        let new = AltStack { sp: 0x1000, flags: 0, pad: 0, size: 0x2000 };
        assert_eq!(stack.replace(&new, 0), Ok(()));
        assert_eq!(stack.replace(&new, 0x1800), Err(Errno::EPERM));
        assert_eq!(stack.status(0x1800), SS_ONSTACK);
        assert_eq!(stack.replace(&AltStack { size: 100, ..new }, 0), Err(Errno::ENOMEM));
        assert_eq!(stack.replace(&AltStack { flags: 4, ..new }, 0), Err(Errno::EINVAL));
    }
}
