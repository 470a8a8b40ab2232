//! Guest threads that share one CPU, while their sentry threads share another and take calls from memory there.
//!
//! Where all that runs makes one call after the other, and more of it runs than there are CPUs to look from, each pair on
//! its own CPU spends most of the time on going from one side to the other. Two CPUs' worth of such pairs get further when one
//! CPU has nothing but guest code to run, and the other nothing but the sentry's.

use crate::host::time::Clock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many calls are timed together.
const WINDOW: u64 = 256;
/// So many slow windows in a row are enough: in some of them the host may have run something else.
const SLOW: u32 = 3;
/// Calls of all in a second that are worth an attempt. With fewer, most of the time is not spent on the way between the sides, and one
/// CPU for all guest code would be too little.
const LEAST: u64 = 150_000;
/// So many calls are made between two that block, or the wake-ups across CPUs cost more than is gained. Calls alone do not show that:
/// a program that asks again and again makes more of them.
const STEADY: u64 = 16;
/// How often it is asked whether calls are made, in nanoseconds.
pub const LOOK: u64 = 8_000_000;

/// Whether it pays that some pairs share their CPUs so: their calls are counted.
#[derive(Debug)]
pub struct Together {
    /// Calls of all of them that a second had while each pair shared a CPU.
    expected: u64,
    calls: AtomicU64,
    since: AtomicU64,
    slow: AtomicU32,
    blocks: AtomicU64,
    /// Calls in the windows before this one.
    made: AtomicU64,
    /// Of these when it was asked last whether any are made, and when that was.
    seen: AtomicU64,
    asked: AtomicU64,
}

impl Together {
    /// For pairs of which a call, and the way to the next, took so long (in nanoseconds) while each shared a CPU; `None` if it is not
    /// worth an attempt.
    pub fn new(each: impl Iterator<Item = u64>) -> Option<Self> {
        let expected = each.map(|each| 1_000_000_000 / each.max(1)).sum();
        let now = Clock::Monotonic.now();
        (expected >= LEAST).then(|| Self {
            expected,
            calls: AtomicU64::new(0),
            since: AtomicU64::new(now),
            slow: AtomicU32::new(0),
            blocks: AtomicU64::new(0),
            made: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            asked: AtomicU64::new(now),
        })
    }

    /// Whether calls are made at all: they may have begun to compute, or nobody runs any more. For the balancer, who asks now and then.
    pub fn goes_on(&self, now: u64) -> bool {
        let waited = now.saturating_sub(self.asked.load(Ordering::Relaxed));
        if waited < LOOK {
            return true;
        }
        self.asked.store(now, Ordering::Relaxed);
        let made = self.made.load(Ordering::Relaxed);
        let new = made.saturating_sub(self.seen.swap(made, Ordering::Relaxed));
        new.saturating_mul(1_000_000_000) / waited >= self.expected / 4
    }

    /// One of them is about to block.
    pub fn block(&self) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them has made so many more calls. Returns whether it still pays: they make a quarter more than before.
    pub fn pays(&self, calls: u32) -> bool {
        self.pays_at(calls.into(), Clock::Monotonic.now())
    }

    fn pays_at(&self, calls: u64, now: u64) -> bool {
        let calls = self.calls.fetch_add(calls, Ordering::Relaxed) + calls;
        if calls < WINDOW {
            return true;
        }
        // Two that get here at once make one window wrong.
        self.calls.store(0, Ordering::Relaxed);
        self.made.fetch_add(calls, Ordering::Relaxed);
        let took = now.saturating_sub(self.since.swap(now, Ordering::Relaxed)).max(1);
        let reached = calls.saturating_mul(1_000_000_000) / took;
        let steady = self.blocks.swap(0, Ordering::Relaxed) * STEADY <= calls;
        if steady && reached / 5 * 4 >= self.expected {
            self.slow.store(0, Ordering::Relaxed);
            return true;
        }
        self.slow.fetch_add(1, Ordering::Relaxed) + 1 < SLOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pays_while_more_calls_are_made_than_before() {
        // 500,000 a second before.
        let together = Together::new([4000, 4000].into_iter()).unwrap();
        let mut now = together.since.load(Ordering::Relaxed);
        let mut window = |each: u64| {
            assert!(together.pays_at(WINDOW - 1, now));
            now += WINDOW * each;
            together.pays_at(1, now)
        };
        assert!(window(1500));
        for _ in 0..SLOW - 1 {
            assert!(window(1900));
        }
        assert!(!window(1900));
        assert!(window(1000));
        assert!(window(2100));
    }

    #[test]
    fn it_does_not_pay_for_those_that_block() {
        let together = Together::new([4000, 4000].into_iter()).unwrap();
        let start = together.since.load(Ordering::Relaxed);
        let window = |blocks: u64| {
            (0..blocks).for_each(|_| together.block());
            together.pays_at(WINDOW, start + 1)
        };
        assert!((0..10).all(|_| window(WINDOW / STEADY)));
        let more = WINDOW / STEADY + 1;
        assert!((1..SLOW).all(|_| window(more)) && !window(more));
    }

    #[test]
    fn it_ends_when_no_calls_are_made() {
        let together = Together::new([4000, 4000].into_iter()).unwrap();
        let start = together.asked.load(Ordering::Relaxed);
        assert!(together.goes_on(start + LOOK - 1));
        // Four windows are more than a quarter of what 8 ms had before, one is less.
        assert!((0..4).all(|_| together.pays_at(WINDOW, start + 1)));
        assert!(together.goes_on(start + LOOK));
        together.pays_at(WINDOW, start + LOOK);
        assert!(!together.goes_on(start + 2 * LOOK));
    }

    #[test]
    fn those_that_compute_between_their_calls_are_left_alone() {
        assert!(Together::new([7_000, 12_000].into_iter()).is_some());
        assert!(Together::new([14_000, 14_000].into_iter()).is_none());
        assert!(Together::new([20_000; 3].into_iter()).is_some());
    }
}
