//! A guest thread's block: the words through which a patched call site and the sentry exchange a system call.
//!
//! It lies below the thread's signal stack, in memory that all guest code of the process can write. What the
//! sentry finds there is a system call that the guest could as well make otherwise, and which only the
//! process itself is hurt by; each word is read once.

use super::stack::SignalStack;

/// Offset of the state, in bytes from the block's start.
///
/// All words share one cache line: who writes a request or an answer has to get the line from the other CPU once, and who
/// looks at the state has the rest with it. An exchange over three lines took 0.5 µs where it takes 0.14 µs over one.
pub const STATE: u64 = 64;
/// Offset of the request's number, which has 32 bits.
pub const NUMBER: u64 = 68;
/// Offset of the address of the slot's `syscall`.
pub const SLOT: u64 = 72;
/// Offset of the arguments.
pub const ARGS: u64 = 80;
/// Offset of the result, which replaces the first argument: the sentry has read that by then.
pub const RESULT: u64 = ARGS;
/// Offset of the arithmetic flags, as `seto` and `lahf` give them; the sentry seldom looks at these, which
/// therefore have a line of their own.
pub const FLAGS: u64 = 128;

/// The arithmetic flags in the lowest byte of the flags register.
const EFLAGS_ARITHMETIC: u64 = 0xd5;
/// Position of the overflow flag.
const EFLAGS_OVERFLOW_BIT: u32 = 11;
/// All arithmetic flags.
pub const EFLAGS_SAVED: u64 = EFLAGS_ARITHMETIC | 1 << EFLAGS_OVERFLOW_BIT;

/// State: the sentry does not look here. A request has been answered.
pub const ASLEEP: u32 = 0;
/// State: the sentry looks here. A request has been answered.
pub const LISTENING: u32 = 1;
/// State: a request waits for its answer, and its thread looks here.
pub const REQUEST: u32 = 2;
/// State: the thread of a request waits for its answer in the host's kernel, or is about to.
pub const PARKED: u32 = 3;

/// A system call that has been written to a block.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Of the system call.
    pub number: u32,
    /// Where in its slot it came from.
    pub slot: u64,
    /// Arguments, in the order of the system-call convention.
    pub args: [u64; 6],
}

/// The block of the thread with this signal stack. A word that cannot be read, as the host has no memory for it, is zero.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a>(pub &'a SignalStack);

impl Block<'_> {
    /// The state.
    pub fn state(self) -> u32 {
        self.0.frames().load32(STATE).unwrap_or(ASLEEP)
    }

    /// Sets the state, whatever it is.
    pub fn set_state(self, state: u32) {
        let _ = self.0.frames().store32(STATE, state);
    }

    /// Changes the state; returns whether it was the expected one.
    pub fn change_state(self, from: u32, to: u32) -> bool {
        self.0.frames().compare_exchange32(STATE, from, to) == Ok(from)
    }

    /// Sets what `rax` becomes.
    pub fn set_answer(self, rax: u64) {
        let _ = self.0.frames().store64(RESULT, rax);
    }

    /// The arithmetic flags, where the flags register has them.
    pub fn flags(self) -> u64 {
        let [overflow, low] = self.0.frames().load32(FLAGS).map_or([0, 0], |word| {
            let [overflow, low, ..] = word.to_le_bytes();
            [overflow, low]
        });
        u64::from(low) & EFLAGS_ARITHMETIC | u64::from(overflow & 1) << EFLAGS_OVERFLOW_BIT
    }

    /// The number alone, as `rax` had it.
    pub fn number(self) -> u64 {
        self.0.frames().load32(NUMBER).unwrap_or(0).into()
    }

    /// The slot alone.
    pub fn slot(self) -> u64 {
        self.0.frames().load64(SLOT).unwrap_or(0)
    }

    /// The request.
    pub fn request(self) -> Request {
        let mut bytes = [0; 56];
        let _ = self.0.frames().read(SLOT, &mut bytes);
        let mut words = bytes
            .chunks_exact(8)
            .map(|chunk| chunk.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)));
        let mut next = || words.next().unwrap_or(0);
        let slot = next();
        let number = self.0.frames().load32(NUMBER).unwrap_or(0);
        Request { number, slot, args: std::array::from_fn(|_| next()) }
    }
}
