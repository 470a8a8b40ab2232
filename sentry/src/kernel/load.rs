//! Load averages (`getloadavg(3)`), without a clock tick that would wake an idle sandbox: when someone looks, what
//! the processes have run on CPUs since the last look tells how high the load was meanwhile.

use crate::sync::{Mutex, rank};
use crate::time::NANOS;

/// Nanoseconds between two looks that count (`LOAD_FREQ`).
const EVERY: u64 = 5 * NANOS;
/// Over how many seconds the averages go.
const SPANS: [f64; 3] = [60.0, 300.0, 900.0];

#[derive(Debug, Default)]
struct State {
    /// `CLOCK_BOOTTIME` of the last look that counted.
    at: u64,
    /// CPU time used until then.
    used: u64,
    averages: [f64; 3],
}

/// The averages of a sandbox.
#[derive(Debug, Default)]
pub struct LoadAverages {
    state: Mutex<State, { rank::LEAF }>,
}

impl LoadAverages {
    /// Averages over 1, 5 and 15 minutes. `now` is `CLOCK_BOOTTIME`, `start` when the sandbox was started, `used` the
    /// CPU time of its processes since then; all in nanoseconds.
    pub fn at(&self, now: u64, start: u64, used: u64) -> [f64; 3] {
        let mut state = self.state.lock();
        let since = state.at.max(start);
        let span = now.saturating_sub(since);
        if span >= EVERY {
            let load = used.saturating_sub(state.used) as f64 / span as f64;
            for (average, over) in state.averages.iter_mut().zip(SPANS) {
                let kept = (-(span as f64 / NANOS as f64) / over).exp();
                *average = *average * kept + load * (1.0 - kept);
            }
            (state.at, state.used) = (now, used);
        }
        state.averages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_load_is_approached() {
        let load = LoadAverages::default();
        let start = 100 * NANOS;
        assert_eq!(load.at(start + NANOS, start, NANOS), [0.0; 3]);
        let mut last = [0.0; 3];
        for minute in 1..=60 {
            // Two CPUs, all the time.
            last = load.at(start + minute * 60 * NANOS, start, 2 * minute * 60 * NANOS);
        }
        assert!(last.iter().all(|average| (1.9..=2.0).contains(average)), "{last:?}");
        let idle = load.at(start + 61 * 60 * NANOS, start, 2 * 60 * 60 * NANOS);
        assert!(idle[0] < 0.8 && idle[2] > 1.8, "{idle:?}");
    }
}
