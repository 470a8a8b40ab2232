//! RACK-TLP (RFC 8985): losses are found by time, and the tail is probed before the time-out.

use super::conn::{Conn, State};
use super::recovery::Phase;
use super::rtt::RTO_MIN;
use super::scoreboard::Delivered;
use super::{Cx, Seq};
use crate::time::Instant;
use std::time::Duration;

/// RACK's variables (RFC 8985, section 5.3), and the probe's (section 7.1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Rack {
    /// When the segment that was delivered last, by its time of sending, was sent; and its end.
    newest: Option<(Instant, Seq)>,
    rtt: Duration,
    reordering_seen: bool,
    /// Quarters of the least round trip to wait for reordered segments.
    wnd_mult: u32,
    /// Recoveries left before the wait goes back to one quarter.
    wnd_persist: u32,
    /// D-SACKs are counted once each round trip.
    dsack_round: Option<Seq>,
    /// `SND.NXT` when the probe was sent, and whether it was a retransmission.
    pub probe: Option<(Seq, bool)>,
}

impl Conn {
    /// Takes in what an acknowledgement delivered (section 6.2, steps 1 to 4).
    pub(crate) fn rack_update(&mut self, cx: &Cx<'_>, d: &Delivered, echo: Option<u32>) {
        for s in &d.segments {
            let rtt = cx.now.since(s.at);
            if s.transmissions > 1 {
                // Which transmission was it? The time stamp's echo may say, and the round trip cannot be
                // shorter than the least.
                let early = echo.is_some_and(|echo| {
                    let sent = (s.at.millis() as u32).wrapping_add(self.stamps.offset);
                    (echo.wrapping_sub(sent) as i32) < 0
                });
                if early || self.rtt.min.is_some_and(|min| rtt < min) {
                    continue;
                }
            }
            if self.rack.newest.is_none_or(|newest| later((s.at, s.end()), newest)) {
                self.rack.newest = Some((s.at, s.end()));
                self.rack.rtt = rtt;
            }
        }
        if d.below_fack {
            self.rack.reordering_seen = true;
        }
        let una = self.snd.una;
        if self.rack.dsack_round.is_some_and(|round| !una.before(round)) {
            self.rack.dsack_round = None;
        }
        if d.dsack.is_some() && self.rack.dsack_round.is_none() {
            self.rack.dsack_round = Some(self.snd.nxt);
            self.rack.wnd_mult = (self.rack.wnd_mult + 1).min(64);
            self.rack.wnd_persist = 16;
        }
    }

    /// A recovery is over.
    pub(crate) fn rack_recovered(&mut self) {
        self.rack.wnd_persist = self.rack.wnd_persist.saturating_sub(1);
        if self.rack.wnd_persist == 0 {
            self.rack.wnd_mult = 0;
        }
    }

    fn reorder_window(&self) -> Duration {
        if !self.rack.reordering_seen {
            let recovering = matches!(self.recovery.phase, Phase::Recovery | Phase::Loss);
            if recovering || self.board.sacked() >= 3 * self.snd.mss {
                return Duration::ZERO;
            }
        }
        let min = self.rtt.min.unwrap_or_default();
        let window = min / 4 * (self.rack.wnd_mult + 1);
        window.min(self.rtt.srtt.unwrap_or(window))
    }

    /// Marks what must be lost, because something sent later has arrived (step 5), and sets the timer for
    /// what may still come.
    pub(crate) fn rack_detect(&mut self, now: Instant) {
        self.at.reorder = None;
        let Some(newest) = self.rack.newest else { return };
        let wait = self.rack.rtt + self.reorder_window();
        let mut lost = Vec::new();
        let mut timer: Option<Duration> = None;
        for (i, s) in self.board.iter().enumerate() {
            if !later(newest, (s.at, s.end())) {
                // Sent later than anything delivered. So is all that follows, unless it was sent again.
                if s.transmissions == 1 && s.at > newest.0 {
                    break;
                }
                continue;
            }
            if s.sacked || (s.lost && !s.resent) {
                continue;
            }
            let due = s.at + wait;
            if due <= now {
                lost.push(i);
            } else {
                let left = due.since(now);
                timer = Some(timer.map_or(left, |t: Duration| t.max(left)));
            }
        }
        for i in lost {
            self.board.mark_lost(i);
        }
        self.at.reorder = timer.map(|left| now + left);
    }

    /// Sets the probe's timer (section 7.2).
    pub(crate) fn arm_tlp(&mut self, now: Instant) {
        self.at.tlp = None;
        let may = self.sack_on
            && self.is_synchronized()
            && self.recovery.phase == Phase::Open
            && self.rack.probe.is_none()
            && self.board.sacked() == 0
            && self.board.lost() == 0
            && self.rtt.srtt.is_some();
        let Some(last) = self.board.last().filter(|_| may) else { return };
        let mut pto = self.rtt.srtt_or_init() * 2;
        // One segment: its acknowledgement may be delayed.
        pto += if self.board.len() == 1 { RTO_MIN } else { Duration::from_millis(2) };
        let at = last.at.max(now) + pto;
        if self.at.rto.is_some_and(|rto| at < rto) {
            self.at.tlp = Some(at);
        }
    }

    /// The probe's timer has run out (section 7.3): new data if there is some, else the last segment again.
    pub(crate) fn send_tail_probe(&mut self, cx: &mut Cx<'_>) {
        self.at.tlp = None;
        if self.board.is_empty() || self.rack.probe.is_some() || self.state == State::Closed {
            return;
        }
        cx.stack.stats().tcp_loss_probes.inc();
        let before = self.snd.nxt;
        let window = (self.snd.una + self.snd.wnd).since(self.snd.nxt);
        let len = self.unsent().min(self.snd.mss).min(window);
        let mut again = false;
        if len == 0 || !self.send_probe_data(cx, len) {
            let last = self.board.len().saturating_sub(1);
            again = true;
            if !self.resend(cx, last) {
                return;
            }
        }
        self.rack.probe = Some((if again { before } else { self.snd.nxt }, again));
        self.arm_rto(cx.now, true);
    }

    /// Whether the probe repaired a loss, which then must count as one (section 7.4).
    pub(crate) fn tail_probe_acked(&mut self, d: &Delivered) -> bool {
        let Some((end, again)) = self.rack.probe else { return false };
        if !again {
            if !self.snd.una.before(end) {
                self.rack.probe = None;
            }
            return false;
        }
        if d.dsack.is_some() {
            // Both the original and the probe arrived: no loss.
            self.rack.probe = None;
            return false;
        }
        if self.snd.una.after(end) {
            self.rack.probe = None;
            return true;
        }
        if self.snd.una == end && d.bytes == 0 {
            self.rack.probe = None;
        }
        false
    }
}

/// Sent later; of one burst, with the higher number.
fn later(a: (Instant, Seq), b: (Instant, Seq)) -> bool {
    a.0 > b.0 || (a.0 == b.0 && a.1.after(b.1))
}
