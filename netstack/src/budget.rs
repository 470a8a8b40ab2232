//! One limit on the memory that the buffers of all endpoints take together (`tcp_mem`, `udp_mem`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A shared allowance in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Takes `n` bytes; false, and nothing taken, when that would pass the limit.
    pub(crate) fn take(&self, n: usize) -> bool {
        let before = self.used.fetch_add(n, Ordering::Relaxed);
        if before.saturating_add(n) > self.limit {
            self.used.fetch_sub(n, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Gives back what [`take`](Self::take) took.
    pub(crate) fn give(&self, n: usize) {
        self.used.fetch_sub(n, Ordering::Relaxed);
    }

    /// Bytes taken.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// True while less than a quarter is taken: storage may be kept for later.
    pub(crate) fn plenty(&self) -> bool {
        self.used() < self.limit / 4
    }

    /// True when more than three quarters are taken: buffers stop growing by themselves.
    pub(crate) fn pressure(&self) -> bool {
        self.used() > self.limit / 4 * 3
    }
}
