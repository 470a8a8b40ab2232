//! Signal frames of x86-64 Linux (`struct rt_sigframe`): what a handler in a stub was called with, and
//! what it loads with `rt_sigreturn(2)`.
//!
//! The stack is memory that guest code can write, at any time and also while we read. It is copied
//! once; whatever is in it describes the guest's own state, and the host checks what is loaded.

use super::stack::SignalStack;
use crate::{Access, Fault, Registers, XState};

/// Bytes of `struct ucontext`.
pub const CONTEXT_LEN: u64 = 304;
/// Bytes behind an FP state in a frame (`FP_XSTATE_MAGIC2`), rounded up.
pub const FP_TAIL: u64 = 64;

/// Offset of `uc_mcontext` in `struct ucontext`.
const MACHINE: u64 = 40;
/// Bytes of `struct sigcontext` that are read.
const MACHINE_LEN: usize = 192;
/// Words of `struct ucontext`: the first of `uc_mcontext`, those of the segments and of the FP pointer.
const FIRST_REGISTER: usize = 5;
const SEGMENTS: usize = FIRST_REGISTER + 18;
const FP_POINTER: usize = FIRST_REGISTER + 23;
/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const FLAGS: u64 = 7;
/// Bytes of `siginfo_t` that are read.
const INFO_LEN: usize = 32;

/// Page faults.
const TRAP_PAGE_FAULT: u64 = 14;
const PF_WRITE: u64 = 2;
const PF_FETCH: u64 = 16;

/// `struct _fpx_sw_bytes` within the legacy area of an FP state.
const SOFTWARE: std::ops::Range<usize> = 464..512;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;

/// A signal that has been delivered to a stub's handler.
#[derive(Debug)]
pub struct Delivered {
    /// As a fault; the fields are those of `siginfo_t` and `struct sigcontext`.
    pub fault: Fault,
    /// The number in a `SIGSYS` of a filter.
    pub number: u32,
    /// The entry that was used for it.
    pub arch: u32,
    /// Address of the FP state.
    pub fp: u64,
    machine: [u8; MACHINE_LEN],
}

impl Delivered {
    /// Reads what a handler was called with: signal, `siginfo_t *`, `ucontext_t *`. `None` when that is
    /// not on the thread's signal stack, that is when guest code called our handler.
    pub fn read(stack: &SignalStack, signal: u64, info: u64, context: u64) -> Option<Self> {
        let mut bytes = [0; INFO_LEN];
        stack.read(info, &mut bytes)?;
        let (code, addr) = (word(&bytes, 8) as u32 as i32, word(&bytes, 16));
        let call = word(&bytes, 24);
        let mut machine = [0; MACHINE_LEN];
        stack.read(context.checked_add(MACHINE)?, &mut machine)?;
        let (error, trap) = (word(&machine, 152), word(&machine, 160));
        let access = (trap == TRAP_PAGE_FAULT).then_some(match error {
            error if error & PF_FETCH != 0 => Access::Execute,
            error if error & PF_WRITE != 0 => Access::Write,
            _ => Access::Read,
        });
        let fault = Fault { signal: signal as i32, code, addr, access, trap, error };
        let (number, arch) = (call as u32, (call >> 32) as u32);
        Some(Self { fault, number, arch, fp: word(&machine, 184), machine })
    }

    /// Puts the interrupted code's registers into `registers`.
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

/// The FP and vector state at an address of the stack; `None` when there is none.
pub fn read_fp(stack: &SignalStack, at: u64) -> Option<XState> {
    let mut state = XState::initial();
    let mut legacy = [0; SOFTWARE.end];
    stack.read(at, &mut legacy)?;
    let (magic, size) = (word(&legacy, SOFTWARE.start) as u32, word(&legacy, SOFTWARE.start + 16));
    // The host may leave out components that the process has not been permitted to use.
    let size = (size as u32 as usize).min(state.bytes.len());
    if magic != MAGIC1 {
        return None;
    }
    state.bytes.fill(0);
    stack.read(at, state.bytes.get_mut(..size)?)?;
    // The host's notes about the frame; not part of the state.
    state.bytes.get_mut(SOFTWARE)?.fill(0);
    Some(state)
}

/// Writes an FP and vector state to an address of the stack.
pub fn write_fp(stack: &SignalStack, at: u64, state: &XState) -> Option<()> {
    let size = state.bytes.len();
    let mut bytes = state.bytes.to_vec();
    bytes.extend(MAGIC2.to_le_bytes());
    let software = bytes.get_mut(SOFTWARE)?;
    software.fill(0);
    let notes = [(0, MAGIC1), (4, size as u32 + 4), (8, XState::features() as u32)];
    for (at, value) in notes.into_iter().chain([(16, size as u32)]) {
        software.get_mut(at..at + 4)?.copy_from_slice(&value.to_le_bytes());
    }
    stack.write(at, &bytes)
}

/// Writes the `ucontext_t` that a handler is to load: registers, an FP state by its address, no signal
/// blocked.
pub fn write_context(stack: &SignalStack, at: u64, registers: &Registers, fp: u64) -> Option<()> {
    let mut words = [0_u64; CONTEXT_LEN as usize / 8];
    let [base, flags, size] = stack.description();
    let r = registers;
    let segments = (r.cs & 0xffff) | r.ss << 48;
    let state = [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx,
        r.rax, r.rcx, r.rsp, r.rip, r.eflags, segments,
    ];
    const { assert!(SEGMENTS - FIRST_REGISTER + 1 == 19) };
    let head = [FLAGS, 0, base, flags, size];
    for (word, value) in words.iter_mut().zip(head.into_iter().chain(state)) {
        *word = value;
    }
    *words.get_mut(FP_POINTER)? = fp;
    let mut bytes = [0; CONTEXT_LEN as usize];
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    stack.write(at, &bytes)
}

/// Lets the `ucontext_t` at an address block all signals.
pub fn block_signals(stack: &SignalStack, at: u64) -> Option<()> {
    const MASK: u64 = CONTEXT_LEN - 8;
    stack.write(at.checked_add(MASK)?, &u64::MAX.to_le_bytes())
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
    found.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
