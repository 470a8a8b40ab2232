//! What a signal handler in a stub left on its stack: `struct rt_sigframe` of x86-64 Linux.
//!
//! The stack is memory that guest code can write, at any time and also while we read. It is copied
//! once; whatever is in it describes the guest's own state, and the host checks what is loaded.

use super::stack::SignalStack;
use crate::{Access, Fault, Registers, XState};

/// Offset of `uc_mcontext` in `struct ucontext`.
const MACHINE: u64 = 40;
/// Bytes of `struct sigcontext` that are read.
const MACHINE_LEN: usize = 192;
/// Bytes of `siginfo_t` that are read.
const INFO_LEN: usize = 24;

/// Page faults.
const TRAP_PAGE_FAULT: u64 = 14;
const PF_WRITE: u64 = 2;
const PF_FETCH: u64 = 16;

/// A signal that has been delivered to a stub's handler.
#[derive(Debug)]
pub struct Delivered {
    /// As a fault; the fields are those of `siginfo_t` and `struct sigcontext`.
    pub fault: Fault,
    /// The FP and vector state, if it can be found.
    pub xstate: Option<XState>,
    machine: [u8; MACHINE_LEN],
}

impl Delivered {
    /// Reads what a handler was called with: signal, `siginfo_t *`, `ucontext_t *`. `None` when that is
    /// not on the thread's signal stack, that is when guest code called our handler.
    pub fn read(stack: &SignalStack, signal: u64, info: u64, context: u64) -> Option<Self> {
        let mut bytes = [0; INFO_LEN];
        stack.read(info, &mut bytes)?;
        let (code, addr) = (word(&bytes, 8) as u32 as i32, word(&bytes, 16));
        let mut machine = [0; MACHINE_LEN];
        stack.read(context.checked_add(MACHINE)?, &mut machine)?;
        let (error, trap) = (word(&machine, 152), word(&machine, 160));
        let access = (trap == TRAP_PAGE_FAULT).then_some(match error {
            error if error & PF_FETCH != 0 => Access::Execute,
            error if error & PF_WRITE != 0 => Access::Write,
            _ => Access::Read,
        });
        let mut xstate = XState::initial();
        let found = stack.read(word(&machine, 184), &mut xstate.bytes).is_some();
        if let Some(software) = xstate.bytes.get_mut(464..512) {
            // The host's notes about the frame; not part of the state.
            software.fill(0);
        }
        let fault = Fault { signal: signal as i32, code, addr, access, trap, error };
        Some(Self { fault, xstate: found.then_some(xstate), machine })
    }

    /// Puts the interrupted code's registers into `registers`, which hold those of the handler: the
    /// others are the same in both.
    pub fn restore(&self, registers: &mut Registers) {
        let at = |index: usize| word(&self.machine, 8 * index);
        registers.r8 = at(0);
        registers.r9 = at(1);
        registers.r10 = at(2);
        registers.r11 = at(3);
        registers.r12 = at(4);
        registers.r13 = at(5);
        registers.r14 = at(6);
        registers.r15 = at(7);
        registers.rdi = at(8);
        registers.rsi = at(9);
        registers.rbp = at(10);
        registers.rbx = at(11);
        registers.rdx = at(12);
        registers.rax = at(13);
        registers.rcx = at(14);
        registers.rsp = at(15);
        registers.rip = at(16);
        registers.eflags = at(17);
        registers.cs = at(18) & 0xffff;
        registers.ss = at(18) >> 48;
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
    found.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
