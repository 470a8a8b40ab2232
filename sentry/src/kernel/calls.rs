//! Which system call a thread of the sentry is in.
//!
//! What was fetched from outside since the call began is as new as its caller can ask for.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// A system call of one thread; none is equal to another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call(u64);

/// Numbers of one thread's calls; more than it makes in a year.
const PER_THREAD: u64 = 1 << 44;

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// The calling thread begins a call.
pub fn begin() {
    CURRENT.with(|current| {
        let next = match current.get() {
            0 => NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(PER_THREAD),
            last => last.wrapping_add(1),
        };
        current.set(next);
    });
}

impl Call {
    /// The one that the calling thread began last; `None` in a thread that makes none.
    pub fn current() -> Option<Self> {
        let current = CURRENT.with(Cell::get);
        (current != 0).then_some(Self(current))
    }

    /// As a number, never 0.
    pub fn number(self) -> u64 {
        self.0
    }
}
