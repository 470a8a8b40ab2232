//! Acknowledgements that come in: what they free, measure, and allow.

use super::Cx;
use super::conn::{Conn, State};
use super::scoreboard::Delivered;
use crate::endpoint::Readiness;
use crate::wire::tcp::{Flags, Segment};
use std::time::Duration;

impl Conn {
    /// Takes in the acknowledgement of an acceptable segment. False: the segment is to be dropped.
    pub(crate) fn take_ack(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) -> bool {
        let ack = s.header.ack;
        if ack.after(self.snd.nxt) || ack.before(self.snd.una - self.snd.max_wnd.max(65535)) {
            // Not of anything that we sent lately (RFC 5961, section 5.2).
            self.challenge(cx);
            return false;
        }
        let before = self.snd.una;
        let advanced = ack.after(before);
        let window_changed = !ack.before(before) && self.take_window(s);
        let mut d = Delivered::default();
        if self.sack_on {
            self.board.sack(s.header.options.sack(), before, self.snd.nxt, &mut d);
        }
        if ack.before(before) {
            // Old, but what it reports may be new.
            if d.bytes > 0 || d.dsack.is_some() {
                self.on_acknowledged(cx, &d, false, None);
            }
            return true;
        }
        if s.has(Flags::ECE) && self.ecn.on && !s.has(Flags::SYN) {
            self.enter_reduced();
        }
        if advanced {
            self.snd.una = ack;
            self.board.acknowledge(ack, &mut d);
            self.free_sent(cx);
        }
        let plain = s.payload.is_empty() && !window_changed && !s.has(Flags::FIN);
        if !advanced && plain && !self.board.is_empty() && !self.sack_on {
            self.recovery.dup_acks = self.recovery.dup_acks.saturating_add(1);
        }
        self.delivered += u64::from(d.bytes);
        self.bytes_acked += u64::from(ack.since(before));
        let echo = s.header.options.timestamps.filter(|_| self.stamps.on).map(|(_, echo)| echo);
        self.sample_rtt(cx, &d, echo.filter(|_| advanced));
        if advanced {
            self.answered(cx);
        }
        if self.snd.wnd > 0 {
            self.at.persist = None;
        }
        if s.payload.is_empty() && self.board.is_empty() {
            // The answer to a probe.
            self.probes = 0;
            self.unanswered_since = None;
        }
        self.on_acknowledged(cx, &d, advanced, echo);
        if advanced {
            self.arm_tlp(cx.now);
            self.grow_send_buffer(cx);
            if self.writable() {
                cx.events |= Readiness::OUT;
            }
        }
        true
    }

    /// The window of a segment newer than the last that set it (RFC 9293, section 3.10.7.4).
    pub(crate) fn take_window(&mut self, s: &Segment<'_>) -> bool {
        let h = &s.header;
        let newer =
            self.snd.wl1.before(h.seq) || (self.snd.wl1 == h.seq && !h.ack.before(self.snd.wl2));
        if !newer && !h.ack.after(self.snd.una) {
            return false;
        }
        let shift = if s.has(Flags::SYN) { 0 } else { self.snd.shift };
        let window = u32::from(h.window) << shift;
        let changed = window != self.snd.wnd;
        self.snd.wnd = window;
        self.snd.max_wnd = self.snd.max_wnd.max(window);
        self.snd.wl1 = h.seq;
        self.snd.wl2 = h.ack;
        changed
    }

    /// Drops what has been acknowledged from the send buffer.
    fn free_sent(&mut self, cx: &mut Cx<'_>) {
        if self.snd.una.after(self.snd.base) {
            let n = (self.snd.una.since(self.snd.base) as usize).min(self.snd.tx.len());
            self.snd.tx.consume(n);
            self.snd.base += n as u32;
        }
        if self.snd.up.is_some_and(|up| !up.after(self.snd.una)) {
            self.snd.up = None;
        }
        if let Some((route, _)) = &self.route
            && let crate::ip::output::NextHop::Host(hop) = route.next
            && route.iface.mac().is_some()
        {
            // The peer answers, so the neighbour is there (RFC 4861, section 7.3.1).
            route.iface.neighbors.lock().confirm(hop, cx.now);
        }
    }

    /// Something new was acknowledged: time-outs start anew.
    fn answered(&mut self, cx: &Cx<'_>) {
        self.rtt.backoff = 0;
        self.probes = 0;
        self.soft_error = None;
        self.unanswered_since = (!self.board.is_empty()).then_some(cx.now);
        self.arm_rto(cx.now, true);
    }

    fn sample_rtt(&mut self, cx: &Cx<'_>, d: &Delivered, echo: Option<u32>) {
        // Karn's rule: only what was sent once. The one sent last is the freshest.
        let once = d.segments.iter().filter(|s| s.transmissions == 1).max_by_key(|s| s.at);
        let sample = match (once, echo) {
            (Some(s), _) => Some(cx.now.since(s.at)),
            (None, Some(echo)) if echo != 0 && !d.segments.is_empty() => {
                let ms = self.ts_now(cx.now).wrapping_sub(echo);
                (ms < 120_000).then(|| Duration::from_millis(ms.max(1).into()))
            }
            _ => None,
        };
        if let Some(rtt) = sample {
            self.rtt.sample(rtt);
            self.cc.on_rtt(rtt, self.delivered, self.board.flight().into());
        }
    }

    /// The send buffer holds two congestion windows, within the limits.
    fn grow_send_buffer(&mut self, cx: &Cx<'_>) {
        if self.options.sndbuf.is_none() && !cx.stack.budget.pressure() {
            let want = self.cc.cwnd.saturating_mul(2) as usize;
            let max = cx.stack.config.tcp.wmem.1;
            self.snd.buffer = self.snd.buffer.max(want.min(max));
        }
    }

    /// What an acknowledgement of the FIN changes.
    pub(crate) fn after_ack(&mut self, cx: &mut Cx<'_>) {
        if !self.fin_sent() || self.snd.una != self.snd.nxt {
            return;
        }
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                if self.detached {
                    self.at.fin_wait = Some(cx.now + self.options.fin_timeout);
                }
                cx.events |= Readiness::OUT;
            }
            State::Closing => self.enter_time_wait(cx),
            State::LastAck => self.closed(cx),
            _ => {}
        }
    }
}
