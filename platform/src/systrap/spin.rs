//! When a sentry thread takes its guest thread's calls from memory, on a CPU of its own, instead of sleeping until
//! the host wakes it.
//!
//! It pays only while calls follow each other at short intervals, and while a CPU has nothing else to do. Going there and back
//! costs two migrations and two wake-ups across CPUs, so a thread has to show its rhythm first; what calls take is
//! compared with what they took before, and a failure makes the next attempt come later.

use crate::host::time::Clock;
use crate::placement::Together;

/// Longest interval between two calls that counts as short, in nanoseconds. As long is the search for the next call.
pub const SHORT: u64 = 50_000;
/// How many short intervals in a row make an attempt.
const RHYTHM: u32 = 32;
/// How many calls are timed together.
const WINDOW: u32 = 64;
/// How many of the first calls of an attempt are not timed: they pay for the way to the other CPU and for cold caches.
const WARM_UP: u32 = 64;
/// Fewer calls than this make an attempt a failure.
const LEAST: u32 = 200;
/// So many slow windows in a row end an attempt: in one of them the host may have run something else.
const SLOW: u32 = 2;
/// How long after a failure the next attempt is made, in nanoseconds; it doubles up to the second value. A failure costs
/// some 300 µs, so that failing for ever costs less than a hundredth.
const PENALTY: (u64, u64) = (5_000_000, 80_000_000);

/// What is known of a guest thread's calls.
#[derive(Debug, Default)]
pub struct Rhythm {
    /// The sentry's thread is away and takes calls from memory.
    pub away: bool,
    /// Short intervals in a row.
    short: u32,
    /// Calls since it has last blocked.
    steady: u32,
    /// When the last call came, or the last window began.
    since: u64,
    /// What a call and the way to the next took while both threads shared a CPU; a moving average.
    shared: u64,
    /// Calls in this window, and of this attempt.
    calls: u32,
    total: u32,
    /// Slow windows in a row.
    slow: u32,
    penalty: u64,
    not_before: u64,
}

impl Rhythm {
    /// A call came by the host, from a patched site.
    pub fn call(&mut self) {
        if self.away {
            return;
        }
        self.steady = self.steady.saturating_add(1);
        let now = Clock::Monotonic.now();
        let interval = now.saturating_sub(self.since);
        self.since = now;
        if interval > SHORT {
            self.short = 0;
            return;
        }
        self.short = self.short.saturating_add(1);
        self.shared = if self.shared == 0 { interval } else { (7 * self.shared + interval) / 8 };
    }

    /// Whether it is worth an attempt.
    pub fn is_due(&self) -> bool {
        !self.away && self.short >= RHYTHM && self.since >= self.not_before
    }

    /// The attempt begins, if there is a CPU for it.
    pub fn begin(&mut self, possible: bool) {
        self.short = 0;
        self.away = possible;
        (self.calls, self.total, self.slow) = (0, 0, 0);
        self.since = Clock::Monotonic.now();
        if !possible {
            // As long as others run there is no CPU: not a failure, but not to be asked for all the time.
            self.not_before = self.since + PENALTY.0 / 5;
        }
    }

    /// It is about to block.
    pub fn block(&mut self) {
        self.steady = 0;
    }

    /// What a call and the way to the next take while both threads share a CPU, in nanoseconds; `None` of one that blocks every few
    /// calls, and would wait for a wake-up across CPUs each time if it was in a group.
    pub fn steady(&self) -> Option<u64> {
        (self.steady >= RHYTHM).then_some(self.shared)
    }

    /// A call came while away, or in a group. Returns whether it still pays.
    pub fn pays(&mut self, together: Option<&Together>) -> bool {
        self.calls += 1;
        if self.calls < WINDOW {
            return true;
        }
        if let Some(together) = together {
            let calls = std::mem::take(&mut self.calls);
            self.total = self.total.saturating_add(calls);
            return together.pays(calls);
        }
        let warm = self.total >= WARM_UP;
        self.total = self.total.saturating_add(self.calls);
        let now = Clock::Monotonic.now();
        let each = now.saturating_sub(self.since) / u64::from(self.calls);
        (self.since, self.calls) = (now, 0);
        self.slow = if warm && each > self.shared / 4 * 3 { self.slow + 1 } else { 0 };
        self.slow < SLOW
    }

    /// The attempt is over, which may have been one `together` with others: a failure costs more then.
    pub fn end(&mut self, paid: bool, together: bool) {
        self.away = false;
        self.short = 0;
        self.since = Clock::Monotonic.now();
        let longest = if together { 8 * PENALTY.1 } else { PENALTY.1 };
        self.penalty = match self.total.saturating_add(self.calls) >= LEAST {
            true if paid => 0,
            true if !together => PENALTY.0,
            _ => (2 * self.penalty).clamp(PENALTY.0, longest),
        };
        self.not_before = self.since + self.penalty;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rhythm_makes_an_attempt() {
        let mut rhythm = Rhythm::default();
        rhythm.call();
        assert!(!rhythm.is_due());
        rhythm.short = RHYTHM;
        assert!(rhythm.is_due() && rhythm.steady().is_none());
        (0..RHYTHM).for_each(|_| rhythm.call());
        assert!(rhythm.steady().is_some());
        rhythm.block();
        assert!(rhythm.steady().is_none());
        rhythm.short = RHYTHM;
        rhythm.begin(false);
        assert!(!rhythm.is_due() && !rhythm.away);
        rhythm.short = RHYTHM;
        assert!(!rhythm.is_due());
        rhythm.since = rhythm.not_before;
        rhythm.begin(true);
        assert!(rhythm.away && !rhythm.is_due());
    }

    #[test]
    fn what_is_slower_than_before_does_not_pay() {
        let mut rhythm = Rhythm { shared: 10_000, away: true, total: WARM_UP, ..Rhythm::default() };
        for slow in 1..=SLOW {
            rhythm.since = Clock::Monotonic.now() - u64::from(WINDOW) * 100_000;
            assert!((1..WINDOW).all(|_| rhythm.pays(None)));
            assert_eq!(rhythm.pays(None), slow < SLOW);
        }
        // It had not lasted.
        rhythm.total = 0;
        rhythm.end(false, false);
        let first = rhythm.penalty;
        rhythm.begin(true);
        rhythm.end(true, false);
        assert!(rhythm.penalty > first);
        rhythm.begin(true);
        rhythm.total = LEAST;
        rhythm.end(true, false);
        assert_eq!(rhythm.penalty, 0);
        // Nor had what lasted, but was no gain for those who did it together.
        let mut penalties = (0..12).map(|_| {
            rhythm.begin(true);
            rhythm.total = LEAST;
            rhythm.end(false, true);
            rhythm.penalty
        });
        assert_eq!((penalties.next(), penalties.last()), (Some(PENALTY.0), Some(8 * PENALTY.1)));
    }
}
