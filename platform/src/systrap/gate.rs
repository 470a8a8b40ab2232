#![expect(unsafe_code, reason = "the stub's gate page, in assembly")]
//! The gate: where patched call sites hand a system call to the sentry without entering the host.
//!
//! A site's slot ([`super::slots`]) jumps here with the number in `rax` and in `rcx` the address of its own
//! `syscall` instruction, two bytes before where it goes on afterwards. The thread's block
//! ([`super::block`]) is found through the gs base, as long as the guest leaves that alone. Is the
//! sentry's thread listening, the call is written to the block and the answer awaited; else the slot makes the real
//! call. Behind it, or the `lea` that follows it in the slot, all
//! registers and flags are as behind a `syscall`.
//!
//! The page has no rights that guest code does not have: nothing here is trusted.

use super::block;
use crate::stub::layout;

/// What `r11` has behind a system call besides the arithmetic flags: interrupts are enabled. (The bit that is always set
/// comes with `lahf`.)
const EFLAGS_INTERRUPTS: u32 = 0x200;

/// Number of the system call with which a thread waits for its answer in the host's kernel: none that Linux has.
pub const WAIT_CALL: u32 = 0x3fff_fffd;

/// How often a thread looks for its answer before it waits in the kernel; 50 to 100 µs.
const LOOKS: u32 = 1500;

core::arch::global_asm!(
    ".pushsection .text",
    ".p2align 6",
    ".hidden systrap_gate",
    ".globl systrap_gate",
    "systrap_gate:",
    "mov r11, rcx",
    // From here on the slot is in r11, and nothing changes the flags.
    ".hidden systrap_gate_checks",
    ".globl systrap_gate_checks",
    "systrap_gate_checks:",
    "rdgsbase rcx",
    "bswap rcx",
    "lea ecx, [rcx + {not_blocks}]",
    "jrcxz 1f",
    "jmp 4f",
    // The block has room for half of the number; no call needs more.
    "1:",
    "mov rcx, rax",
    "bswap rcx",
    "mov ecx, ecx",
    "jrcxz 2f",
    "jmp 4f",
    "2:",
    "mov ecx, gs:[{state}]",
    "lea ecx, [rcx - {listening}]",
    "jrcxz 3f",
    // Nobody listens: the slot makes the real call.
    "4:",
    "mov rcx, r11",
    "jmp rcx",
    "3:",
    "mov rcx, r11",
    "mov gs:[{number}], eax",
    // From here on the number is in the block, and the slot in rcx.
    ".hidden systrap_gate_stored",
    ".globl systrap_gate_stored",
    "systrap_gate_stored:",
    "lahf",
    "seto al",
    "mov gs:[{flags}], ax",
    // From here on the flags are in the block.
    ".hidden systrap_gate_saved",
    ".globl systrap_gate_saved",
    "systrap_gate_saved:",
    "mov gs:[{slot}], rcx",
    "mov gs:[{args}], rdi",
    "mov gs:[{args} + 8], rsi",
    "mov gs:[{args} + 16], rdx",
    "mov gs:[{args} + 24], r10",
    "mov gs:[{args} + 32], r8",
    "mov gs:[{args} + 40], r9",
    "mov eax, {listening}",
    "mov r11d, {request}",
    "lock cmpxchg gs:[{state}], r11d",
    // The zero flag tells whether it is a request now.
    ".hidden systrap_gate_tried",
    ".globl systrap_gate_tried",
    "systrap_gate_tried:",
    "jne 80f",
    ".hidden systrap_gate_sent",
    ".globl systrap_gate_sent",
    "systrap_gate_sent:",
    "mov r11d, {looks}",
    "10:",
    "cmp dword ptr gs:[{state}], {request}",
    "jne 20f",
    "pause",
    "dec r11d",
    "jnz 10b",
    "mov eax, {request}",
    "mov r11d, {parked}",
    "lock cmpxchg gs:[{state}], r11d",
    "20:",
    "cmp dword ptr gs:[{state}], {parked}",
    "jne 40f",
    "mov eax, {wait}",
    "syscall",
    ".hidden systrap_gate_waited",
    ".globl systrap_gate_waited",
    "systrap_gate_waited:",
    "40:",
    // Answered. All registers become what Linux leaves: r11 the flags; the slot loads rcx.
    "mov rcx, gs:[{slot}]",
    "lea rcx, [rcx + 2]",
    "movzx eax, byte ptr gs:[{flags}]",
    "shl eax, 11",
    "movzx r11d, byte ptr gs:[{flags} + 1]",
    "lea r11d, [r11 + rax + {interrupts}]",
    "mov ax, gs:[{flags}]",
    // One and this overflow.
    "add al, 0x7f",
    "sahf",
    "mov rax, gs:[{result}]",
    "jmp rcx",
    // Nobody listens any more.
    ".hidden systrap_gate_refused",
    ".globl systrap_gate_refused",
    "systrap_gate_refused:",
    "80:",
    "mov ax, gs:[{flags}]",
    "add al, 0x7f",
    "sahf",
    "mov eax, gs:[{number}]",
    ".hidden systrap_gate_real",
    ".globl systrap_gate_real",
    "systrap_gate_real:",
    "jmp rcx",
    ".hidden systrap_gate_end",
    ".globl systrap_gate_end",
    "systrap_gate_end:",
    ".popsection",
    // Zero with the upper half of the gs base, as `bswap` leaves it.
    not_blocks = const ((layout::SIGNAL_STACKS.start >> 32) as u32).swap_bytes().wrapping_neg() as i32,
    flags = const block::FLAGS,
    interrupts = const EFLAGS_INTERRUPTS,
    state = const block::STATE,
    result = const block::RESULT,
    number = const block::NUMBER,
    slot = const block::SLOT,
    args = const block::ARGS,
    listening = const block::LISTENING,
    request = const block::REQUEST,
    parked = const block::PARKED,
    looks = const LOOKS,
    wait = const WAIT_CALL,
);

// SAFETY: the labels above; only their addresses and the bytes between them are used.
unsafe extern "C" {
    static systrap_gate: u8;
    static systrap_gate_checks: u8;
    static systrap_gate_stored: u8;
    static systrap_gate_saved: u8;
    static systrap_gate_tried: u8;
    static systrap_gate_sent: u8;
    static systrap_gate_waited: u8;
    static systrap_gate_refused: u8;
    static systrap_gate_real: u8;
    static systrap_gate_end: u8;
}

fn in_stub(label: *const u8) -> u64 {
    layout::GATE + (label as u64 - &raw const systrap_gate as u64)
}

/// What a thread that was interrupted in the gate has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Has not sent a request; the number is in `rax`, the slot in `rcx`.
    Before,
    /// Has not sent a request; the number is in `rax`, the slot in `r11`.
    Checking,
    /// Has not sent a request; the number is in the block, the slot in `rcx`.
    Stored,
    /// As [`Progress::Stored`], and the flags are in the block.
    Saved,
    /// Has sent a request, which may have been answered; the slot and the flags are in the block (`rcx` has been overwritten
    /// if a wait was interrupted).
    Sent,
    /// Has been answered; the slot and the flags are in the block.
    Answered,
}

impl Progress {
    /// Whether the flags are in the block, and no longer with the thread.
    pub fn has_saved_flags(self) -> bool {
        matches!(self, Self::Saved | Self::Sent | Self::Answered)
    }
}

/// Where a thread in the gate is; `None` when `rip` is elsewhere. `zero` is its zero flag.
pub fn progress(rip: u64, zero: bool) -> Option<Progress> {
    let at = |label: *const u8| rip >= in_stub(label);
    if rip < layout::GATE || at(&raw const systrap_gate_end) {
        return None;
    }
    Some(if at(&raw const systrap_gate_real) {
        Progress::Before
    } else if at(&raw const systrap_gate_refused) {
        Progress::Saved
    } else if at(&raw const systrap_gate_waited) {
        Progress::Answered
    } else if at(&raw const systrap_gate_sent) {
        Progress::Sent
    } else if at(&raw const systrap_gate_tried) {
        if zero { Progress::Sent } else { Progress::Saved }
    } else if at(&raw const systrap_gate_saved) {
        Progress::Saved
    } else if at(&raw const systrap_gate_stored) {
        Progress::Stored
    } else if at(&raw const systrap_gate_checks) {
        Progress::Checking
    } else {
        Progress::Before
    })
}

/// Where a thread is while it waits in the kernel.
pub fn waiting() -> u64 {
    in_stub(&raw const systrap_gate_waited)
}

/// The code's bytes; less than a page. Slots enter at its start.
pub fn text() -> &'static [u8] {
    let (start, end) = (&raw const systrap_gate, &raw const systrap_gate_end);
    // SAFETY: both labels delimit bytes of this program's read-only text.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_told() {
        assert!((text().len() as u64) < crate::PAGE_SIZE);
        assert_eq!(progress(layout::GATE - 1, false), None);
        assert_eq!(progress(layout::GATE, false), Some(Progress::Before));
        let tried = in_stub(&raw const systrap_gate_tried);
        assert_eq!(progress(tried, false), Some(Progress::Saved));
        assert_eq!(progress(tried, true), Some(Progress::Sent));
        assert_eq!(progress(waiting(), true), Some(Progress::Answered));
        assert_eq!(progress(layout::GATE + 3, true), Some(Progress::Checking));
        let at = (waiting() - layout::GATE) as usize;
        assert_eq!(text()[at - 2..at], [0x0f, 0x05]);
        // A number that has been overwritten by then is told from one that has not.
        assert_eq!(progress(waiting() - 2, true), Some(Progress::Sent));
        assert_eq!(progress(layout::GATE + text().len() as u64, false), None);
    }
}
