//! Round-trip times and the retransmission time-out (RFC 6298, with Linux's bounds).

use std::time::Duration;

/// `TCP_RTO_MIN`.
pub(crate) const RTO_MIN: Duration = Duration::from_millis(200);
/// `TCP_RTO_MAX`.
pub(crate) const RTO_MAX: Duration = Duration::from_secs(120);
/// `TCP_TIMEOUT_INIT`.
pub(crate) const RTO_INIT: Duration = Duration::from_secs(1);

/// The estimator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rtt {
    /// `None`: no sample yet.
    pub srtt: Option<Duration>,
    pub var: Duration,
    /// The least seen.
    pub min: Option<Duration>,
    pub latest: Duration,
    /// Time-outs in a row.
    pub backoff: u32,
}

impl Rtt {
    /// Takes in a sample (RFC 6298, section 2).
    pub(crate) fn sample(&mut self, r: Duration) {
        let r = r.max(Duration::from_micros(1));
        self.latest = r;
        self.min = Some(self.min.map_or(r, |m| m.min(r)));
        match self.srtt {
            None => {
                self.srtt = Some(r);
                self.var = r / 2;
            }
            Some(srtt) => {
                self.var = self.var * 3 / 4 + srtt.abs_diff(r) / 4;
                self.srtt = Some(srtt * 7 / 8 + r / 8);
            }
        }
    }

    /// The time-out without backing off. As in Linux, the minimum bounds the variance's part, so that the
    /// time-out is never below the round trip plus 200 ms.
    pub(crate) fn base_rto(&self) -> Duration {
        match self.srtt {
            None => RTO_INIT,
            Some(srtt) => (srtt + (self.var * 4).max(RTO_MIN)).min(RTO_MAX),
        }
    }

    /// The time-out.
    pub(crate) fn rto(&self) -> Duration {
        (self.base_rto() * (1 << self.backoff.min(20))).min(RTO_MAX)
    }

    /// The smoothed time, or a guess.
    pub(crate) fn srtt_or_init(&self) -> Duration {
        self.srtt.unwrap_or(RTO_INIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_first_sample_and_the_following() {
        let mut r = Rtt::default();
        assert_eq!(r.rto(), ms(1000));
        r.sample(ms(100));
        assert_eq!((r.srtt, r.var), (Some(ms(100)), ms(50)));
        assert_eq!(r.rto(), ms(300));
        r.sample(ms(180));
        assert_eq!((r.srtt, r.var), (Some(ms(110)), Duration::from_micros(57_500)));
        assert_eq!(r.rto(), ms(340));
    }

    #[test]
    fn the_variance_is_bounded_below_and_the_whole_above() {
        let mut r = Rtt::default();
        for _ in 0..100 {
            r.sample(ms(10));
        }
        assert!(r.rto() >= ms(209) && r.rto() <= ms(211));
        r.backoff = 3;
        assert!(r.rto() >= ms(8 * 209));
        r.backoff = 60;
        assert_eq!(r.rto(), RTO_MAX);
    }
}
