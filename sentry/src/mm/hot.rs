//! Pages that are written right after a fork, as experience shows.
//!
//! After `fork(2)` both sides share all private pages, and each write to one is a fault: on some pages
//! (the top of the stack, the C library's data) at every fork. Those are copied by the fork itself, and
//! the child maps its copies together with everything else it has to map. What has been learnt is shared
//! by all processes that descend from one program by forks, since a child has no later fork to use it in.

use super::PAGE_SIZE;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most windows that a fork copies.
const WINDOWS: usize = 8;
/// Forks after which a window must be seen again.
const TRUST: u64 = 32;

/// Windows of addresses that were written after a fork.
#[derive(Debug, Default)]
pub(super) struct HotPages {
    /// Each: 0, or the first address and, in the low bits, how many forks have copied the window.
    windows: [AtomicU64; WINDOWS],
}

impl HotPages {
    /// Bytes of a window, a power of two; windows are aligned to it.
    pub const WINDOW: u64 = 8 * PAGE_SIZE;

    /// Notes a write to a page that a fork has left shared. The first ones count.
    pub fn record(&self, page: u64) {
        let window = page & !(Self::WINDOW - 1);
        for slot in &self.windows {
            let seen = slot.load(Ordering::Relaxed);
            if seen & !(Self::WINDOW - 1) == window {
                return;
            }
            let taken = slot.compare_exchange(0, window, Ordering::Relaxed, Ordering::Relaxed);
            match taken {
                Ok(_) => return,
                // Someone else has just noted the same.
                Err(now) if now & !(Self::WINDOW - 1) == window => return,
                Err(_) => {}
            }
        }
    }

    /// The first addresses of the windows that a fork shall copy.
    pub fn take(&self) -> impl Iterator<Item = u64> + '_ {
        const { assert!(TRUST < Self::WINDOW) };
        self.windows.iter().filter_map(|slot| {
            let seen = slot.load(Ordering::Relaxed);
            let next = if seen & (Self::WINDOW - 1) < TRUST { seen + 1 } else { 0 };
            let live = seen != 0;
            // Of two forks at the same time one counts.
            let _ = live
                && slot.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            live.then_some(seen & !(Self::WINDOW - 1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: u64 = HotPages::WINDOW;

    #[test]
    fn the_first_windows_are_kept_and_expire() {
        let hot = HotPages::default();
        assert_eq!(hot.take().count(), 0);
        for page in (W..20 * W).step_by(PAGE_SIZE as usize) {
            hot.record(page);
        }
        let first: Vec<u64> = (1..=WINDOWS as u64).map(|n| n * W).collect();
        for _ in 0..=TRUST {
            assert_eq!(hot.take().collect::<Vec<_>>(), first);
        }
        assert_eq!(hot.take().count(), 0);
        hot.record(5 * W + PAGE_SIZE);
        assert_eq!(hot.take().collect::<Vec<_>>(), [5 * W]);
    }
}
