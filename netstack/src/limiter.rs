//! A token bucket.

use crate::time::Instant;

/// So many tokens a second, and so many at once.
#[derive(Debug)]
pub(crate) struct Limiter {
    per_second: u32,
    burst: u32,
    /// In millionths of a token.
    level: u64,
    at: Instant,
}

impl Limiter {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst, level: u64::from(burst) * 1_000_000, at: Instant::ZERO }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let us = now.micros().saturating_sub(self.at.micros());
        if us > 0 {
            let more = us.saturating_mul(self.per_second.into());
            self.level = self.level.saturating_add(more).min(u64::from(self.burst) * 1_000_000);
            self.at = now;
        }
        if self.level < 1_000_000 {
            return false;
        }
        self.level -= 1_000_000;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut l = Limiter::new(10, 3);
        let now = Instant::from_millis(5000);
        assert_eq!((0..10).filter(|_| l.take(now)).count(), 3);
        assert!(!l.take(Instant::from_millis(5099)));
        assert!(l.take(Instant::from_millis(5100)));
        assert_eq!((0..100).filter(|_| l.take(Instant::from_millis(99_999))).count(), 3);
    }
}
