//! Congestion control: Reno (RFC 5681) and CUBIC (RFC 9438), both with HyStart++ (RFC 9406) against
//! overshooting in slow start. Windows are in bytes.

use crate::config::Congestion;
use crate::time::Instant;
use std::time::Duration;

/// CUBIC's multiplicative decrease (RFC 9438, section 4.6).
const BETA: f64 = 0.7;
/// CUBIC's aggressiveness (RFC 9438, section 5.1).
const C: f64 = 0.4;
/// The initial window, in segments (RFC 6928).
const INITIAL: u32 = 10;

/// The state of a connection's congestion control.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub algorithm: Congestion,
    pub cwnd: u32,
    pub ssthresh: u32,
    /// Bytes acknowledged towards the next segment in congestion avoidance.
    credit: u32,
    cubic: Cubic,
    hystart: HyStart,
}

#[derive(Clone, Debug, Default)]
struct Cubic {
    /// The window at the last reduction, in segments.
    w_max: f64,
    /// Where the current epoch began; `None` until the first ACK behind a reduction.
    epoch: Option<Instant>,
    cwnd_epoch: f64,
    k: f64,
    /// What Reno would have (RFC 9438, section 4.3).
    w_est: f64,
}

#[derive(Clone, Debug, Default)]
struct HyStart {
    round_end: u64,
    delivered: u64,
    last_min: Option<Duration>,
    current_min: Option<Duration>,
    samples: u32,
    /// Rounds of conservative slow start left; `None`: plain slow start.
    css: Option<u32>,
    css_baseline: Duration,
}

impl Control {
    pub(crate) fn new(algorithm: Congestion, mss: u32) -> Self {
        Self {
            algorithm,
            cwnd: INITIAL * mss,
            ssthresh: u32::MAX,
            credit: 0,
            cubic: Cubic::default(),
            hystart: HyStart::default(),
        }
    }

    pub(crate) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// The threshold for a reduction now.
    pub(crate) fn reduced(&self, mss: u32) -> u32 {
        let target = match self.algorithm {
            Congestion::Reno => self.cwnd / 2,
            Congestion::Cubic => (f64::from(self.cwnd) * BETA) as u32,
        };
        target.max(2 * mss)
    }

    /// The window is about to be reduced.
    pub(crate) fn on_reduction(&mut self, mss: u32) {
        let cwnd = f64::from(self.cwnd) / f64::from(mss.max(1));
        // Fast convergence (RFC 9438, section 4.7).
        self.cubic.w_max = if cwnd < self.cubic.w_max { cwnd * (1.0 + BETA) / 2.0 } else { cwnd };
        self.cubic.epoch = None;
        self.credit = 0;
        self.hystart.css = None;
    }

    /// `acked` bytes were delivered in order while the window was what limited the sender.
    pub(crate) fn on_ack(&mut self, acked: u32, mss: u32, srtt: Duration, now: Instant) {
        if self.in_slow_start() {
            let acked = match self.hystart.css {
                Some(_) => acked / 4,
                // RFC 9406 allows more than one segment for each ACK when there is no burst limit to keep;
                // RFC 5681 caps it, Linux counts all.
                None => acked,
            };
            self.cwnd = self.cwnd.saturating_add(acked).min(self.ssthresh.max(self.cwnd));
            return;
        }
        match self.algorithm {
            Congestion::Reno => self.additive(acked, mss, self.cwnd),
            Congestion::Cubic => self.cubic_ack(acked, mss, srtt, now),
        }
    }

    /// One segment for each `per` bytes acknowledged.
    fn additive(&mut self, acked: u32, mss: u32, per: u32) {
        self.credit = self.credit.saturating_add(acked);
        if self.credit >= per {
            let segments = self.credit / per.max(1);
            self.credit -= segments * per;
            self.cwnd = self.cwnd.saturating_add(segments.min(acked.div_ceil(mss)) * mss);
        }
    }

    fn cubic_ack(&mut self, acked: u32, mss: u32, srtt: Duration, now: Instant) {
        let cwnd = f64::from(self.cwnd) / f64::from(mss);
        let epoch = match self.cubic.epoch {
            Some(epoch) => epoch,
            None => {
                self.cubic.epoch = Some(now);
                self.cubic.cwnd_epoch = cwnd;
                self.cubic.w_est = cwnd;
                if cwnd < self.cubic.w_max {
                    self.cubic.k = ((self.cubic.w_max - cwnd) / C).cbrt();
                } else {
                    self.cubic.k = 0.0;
                    self.cubic.w_max = cwnd;
                }
                now
            }
        };
        // The window CUBIC wants one round trip from now (RFC 9438, section 4.2).
        let t = (now.since(epoch) + srtt).as_secs_f64() - self.cubic.k;
        let target = (C * t * t * t + self.cubic.w_max).clamp(cwnd, cwnd * 1.5);
        let alpha = match self.cubic.w_est < self.cubic.w_max {
            true => 3.0 * (1.0 - BETA) / (1.0 + BETA),
            false => 1.0,
        };
        let segments = f64::from(acked) / f64::from(mss);
        self.cubic.w_est += alpha * segments / cwnd;
        let goal = target.max(self.cubic.w_est);
        if goal > cwnd {
            let per = cwnd / (goal - cwnd) * f64::from(mss);
            self.additive(acked, mss, (per as u32).max(mss));
        } else {
            // Plateau: a very slow growth.
            self.additive(acked, mss, self.cwnd.saturating_mul(100).max(mss));
        }
    }

    /// A round-trip sample, for HyStart++. `delivered` counts all bytes ever delivered; `flight` is what is
    /// outstanding.
    pub(crate) fn on_rtt(&mut self, rtt: Duration, delivered: u64, flight: u64) {
        const MIN_SAMPLES: u32 = 8;
        const CSS_ROUNDS: u32 = 5;
        if !self.in_slow_start() {
            return;
        }
        let h = &mut self.hystart;
        h.delivered = delivered;
        if delivered >= h.round_end {
            h.round_end = delivered + flight;
            h.last_min = h.current_min;
            h.current_min = None;
            h.samples = 0;
            if let Some(left) = h.css {
                if left <= 1 {
                    h.css = None;
                    self.ssthresh = self.cwnd;
                    return;
                }
                h.css = Some(left - 1);
            }
        }
        h.current_min = Some(h.current_min.map_or(rtt, |m| m.min(rtt)));
        h.samples += 1;
        let (Some(current), true) = (h.current_min, h.samples >= MIN_SAMPLES) else { return };
        match h.css {
            None => {
                let Some(last) = h.last_min else { return };
                let eta = (last / 8).clamp(Duration::from_millis(4), Duration::from_millis(16));
                if current >= last + eta {
                    h.css = Some(CSS_ROUNDS);
                    h.css_baseline = current;
                }
            }
            Some(_) if current < h.css_baseline => h.css = None,
            Some(_) => {}
        }
    }

    /// Nothing was sent for longer than the time-out: the window is no longer known to fit (RFC 5681,
    /// section 4.1).
    pub(crate) fn on_idle(&mut self, mss: u32, idle: Duration, rto: Duration) {
        self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
        let floor = (INITIAL * mss).min(self.cwnd);
        let mut idle = idle;
        while idle > rto && self.cwnd > floor {
            self.cwnd = (self.cwnd / 2).max(floor);
            idle -= rto;
        }
        self.cubic.epoch = None;
    }

    /// The window after a reduction that was not justified.
    pub(crate) fn undo(&mut self, cwnd: u32, ssthresh: u32) {
        self.cwnd = self.cwnd.max(cwnd);
        self.ssthresh = self.ssthresh.max(ssthresh);
        self.cubic.epoch = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;
    const RTT: Duration = Duration::from_millis(100);

    /// Acknowledges a full window in each of `rounds` round trips; the windows in segments.
    fn rounds(c: &mut Control, start: u64, rounds: u64) -> Vec<u32> {
        let mut out = Vec::new();
        for r in 0..rounds {
            let mut left = c.cwnd;
            let now = Instant::from_millis(start + r * 100);
            while left > 0 {
                c.on_ack(MSS.min(left), MSS, RTT, now);
                left = left.saturating_sub(MSS);
            }
            out.push(c.cwnd / MSS);
        }
        out
    }

    #[test]
    fn slow_start_doubles() {
        let mut c = Control::new(Congestion::Reno, MSS);
        assert_eq!(rounds(&mut c, 0, 4), [20, 40, 80, 160]);
    }

    #[test]
    fn reno_grows_by_one_segment_each_round_and_halves() {
        let mut c = Control::new(Congestion::Reno, MSS);
        c.cwnd = 20 * MSS;
        c.ssthresh = 20 * MSS;
        assert_eq!(rounds(&mut c, 0, 3), [21, 22, 23]);
        assert_eq!(c.reduced(MSS), 11_500);
    }

    #[test]
    fn cubic_is_concave_up_to_the_old_maximum_then_convex() {
        let mut c = Control::new(Congestion::Cubic, MSS);
        c.cwnd = 100 * MSS;
        c.ssthresh = c.reduced(MSS);
        assert_eq!(c.ssthresh, 70 * MSS);
        c.on_reduction(MSS);
        c.cwnd = c.ssthresh;
        // K = cbrt(30 / 0.4) = 4.2 s.
        let w = rounds(&mut c, 0, 100);
        assert!((90..=101).contains(&w[35]), "{w:?}");
        let step = |a: usize, b: usize| w[b] - w[a];
        assert!(step(0, 10) > step(30, 40), "concave: {w:?}");
        assert!(step(85, 95) > step(45, 55), "convex: {w:?}");
    }

    #[test]
    fn cubic_is_never_slower_than_reno() {
        // Short round trips and small windows: the Reno-friendly region.
        let mut c = Control::new(Congestion::Cubic, MSS);
        c.cwnd = 10 * MSS;
        c.ssthresh = c.reduced(MSS);
        c.on_reduction(MSS);
        c.cwnd = c.ssthresh;
        let w = rounds(&mut c, 0, 20);
        assert!(w[19] >= 7 + 20 / 2 - 1, "{w:?}");
    }

    #[test]
    fn fast_convergence_gives_way_to_newcomers() {
        let mut c = Control::new(Congestion::Cubic, MSS);
        c.cwnd = 100 * MSS;
        c.on_reduction(MSS);
        c.cwnd = 80 * MSS;
        c.on_reduction(MSS);
        assert!((c.cubic.w_max - 68.0).abs() < 0.01);
    }

    #[test]
    fn hystart_leaves_slow_start_when_the_round_trip_grows() {
        let mut c = Control::new(Congestion::Cubic, MSS);
        let mut delivered = 0;
        for round in 0..12u64 {
            let rtt = RTT + Duration::from_millis(round * 20);
            for _ in 0..10 {
                c.on_rtt(rtt, delivered, 10_000);
                c.on_ack(MSS, MSS, RTT, Instant::ZERO);
                delivered += 1000;
            }
        }
        assert!(c.ssthresh < u32::MAX);
        let mut c = Control::new(Congestion::Cubic, MSS);
        for n in 0..200 {
            c.on_rtt(RTT, n * 1000, 10_000);
        }
        assert_eq!(c.ssthresh, u32::MAX, "a steady path is left alone");
    }

    #[test]
    fn idle_windows_decay_to_the_initial_one() {
        let mut c = Control::new(Congestion::Reno, MSS);
        c.cwnd = 160 * MSS;
        c.on_idle(MSS, Duration::from_millis(450), Duration::from_millis(200));
        assert_eq!(c.cwnd, 40 * MSS);
        c.on_idle(MSS, Duration::from_secs(60), Duration::from_millis(200));
        assert_eq!(c.cwnd, 10 * MSS);
        assert_eq!(c.ssthresh, u32::MAX);
    }
}
