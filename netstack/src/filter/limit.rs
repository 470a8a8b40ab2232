//! Rates: a bucket that fills with time (`xt_limit`, `nft limit`).

use parking_lot::Mutex;

/// A bucket.
#[derive(Debug)]
pub struct Limit {
    /// Nanoseconds that one unit costs.
    cost: u64,
    /// Most nanoseconds that are saved.
    capacity: u64,
    state: Mutex<(u64, u64)>,
}

impl Limit {
    /// One that lets `rate` units pass in `per` nanoseconds, and `burst` at once.
    pub fn new(rate: u64, per: u64, burst: u64) -> Limit {
        let cost = (per / rate.max(1)).max(1);
        let capacity = cost.saturating_mul(burst.max(1));
        Limit { cost, capacity, state: Mutex::new((capacity, 0)) }
    }

    /// True if `units` may pass at `now`.
    pub fn take(&self, units: u64, now: u64) -> bool {
        let mut state = self.state.lock();
        let (saved, last) = *state;
        let since = if last == 0 { 0 } else { now.saturating_sub(last) };
        let saved = saved.saturating_add(since).min(self.capacity);
        let cost = self.cost.saturating_mul(units);
        let fits = saved >= cost;
        *state = (if fits { saved - cost } else { saved }, now.max(1));
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::Limit;

    #[test]
    fn a_burst_then_the_rate() {
        let limit = Limit::new(10, 1_000_000_000, 3);
        let passed = (0..5).filter(|_| limit.take(1, 1)).count();
        assert_eq!(passed, 3);
        assert!(!limit.take(1, 99_000_000));
        assert!(limit.take(1, 101_000_000));
        assert!(!limit.take(1, 102_000_000));
    }
}
