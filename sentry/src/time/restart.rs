//! Restart blocks: what `restart_syscall(2)` goes on with after a stop or an ignored signal.

use super::ClockId;
use crate::mm::UserAddr;

/// An interrupted sleep.
#[derive(Debug, Clone, Copy)]
pub enum RestartBlock {
    /// `nanosleep(2)` and relative `clock_nanosleep(2)`.
    Sleep {
        /// Clock that is waited on.
        clock: ClockId,
        /// When it ends, on that clock.
        until: u64,
        /// Where the remaining time goes.
        remaining: UserAddr,
    },
    /// `FUTEX_WAIT` with a relative timeout.
    Futex {
        /// The word.
        addr: UserAddr,
        /// Expected value.
        value: u32,
        /// Bits to wait for.
        bitset: u32,
        /// Private to the process.
        private: bool,
        /// Deadline, nanoseconds of `CLOCK_MONOTONIC`.
        deadline: u64,
    },
    /// `poll(2)`.
    Poll {
        /// The array of `struct pollfd`.
        fds: UserAddr,
        /// Its length.
        count: u32,
        /// Deadline, nanoseconds of `CLOCK_MONOTONIC`; `None` waits for ever.
        deadline: Option<u64>,
    },
}
