//! What a connection does when time has passed.

use super::Cx;
use super::conn::{Conn, State};
use super::recovery::Phase;
use crate::error::Error;
use crate::time::Instant;

impl Conn {
    /// Does what is due.
    pub(crate) fn on_timer(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if due(&mut self.at.fin_wait) {
            // The peer had its time to close.
            self.closed(cx);
            return;
        }
        if due(&mut self.at.delack) {
            self.ack.now = true;
            // Waiting did not pay.
            self.ack.interactive = false;
        }
        if due(&mut self.at.reorder) {
            self.rack_detect(now);
            if self.board.lost() > 0 && matches!(self.recovery.phase, Phase::Open | Phase::Reduced)
            {
                self.enter_recovery(cx);
            }
        }
        if due(&mut self.at.rto) {
            self.retransmission_timeout(cx);
        } else if due(&mut self.at.tlp) {
            self.send_tail_probe(cx);
        }
        if due(&mut self.at.persist) {
            self.persist(cx);
        }
        if due(&mut self.at.keepalive) {
            self.keepalive(cx);
        }
        self.output(cx);
    }

    fn retransmission_timeout(&mut self, cx: &mut Cx<'_>) {
        if self.board.is_empty() {
            return;
        }
        cx.stack.stats().tcp_timeouts.inc();
        if self.gives_up(cx) {
            return;
        }
        if self.state == State::SynSent || self.state == State::SynReceived {
            self.rtt.backoff += 1;
            self.resend(cx, 0);
            self.arm_rto(cx.now, true);
            return;
        }
        self.enter_loss();
        self.rtt.backoff += 1;
        // Maybe the path is gone, and there is another.
        self.route = None;
        if let Some(i) = self.board.next_lost()
            && self.resend(cx, i)
        {
            self.recovery.first = false;
        }
        self.arm_rto(cx.now, true);
    }

    /// Ends the connection when the peer has not answered for long enough (RFC 1122, section 4.2.3.5; RFC
    /// 5482).
    fn gives_up(&mut self, cx: &mut Cx<'_>) -> bool {
        let config = &cx.stack.config.tcp;
        let silent = self.unanswered_since.map_or(std::time::Duration::ZERO, |at| cx.now.since(at));
        let tries = match self.state {
            State::SynSent => self.options.syn_retries,
            State::SynReceived => config.synack_retries,
            _ if self.detached => config.orphan_retries,
            _ => config.retries2,
        };
        let over = match self.options.user_timeout {
            Some(limit) if !matches!(self.state, State::SynReceived) => silent >= limit,
            _ => self.rtt.backoff >= tries.into(),
        };
        if !over {
            return false;
        }
        cx.stack.stats().tcp_abort_on_timeout.inc();
        if !self.is_synchronized() {
            cx.stack.stats().tcp_attempt_fails.inc();
        }
        let error = self.soft_error.unwrap_or(Error::TimedOut);
        self.fail(cx, Some(error));
        true
    }

    /// The peer's window is closed and its opening may have been lost (RFC 9293, section 3.8.6.1).
    fn persist(&mut self, cx: &mut Cx<'_>) {
        if !self.board.is_empty() || (self.unsent() == 0 && !self.snd.fin) {
            return;
        }
        self.unanswered_since.get_or_insert(cx.now);
        if (self.detached || self.options.user_timeout.is_some()) && self.gives_up(cx) {
            return;
        }
        // Probes that are answered go on for ever; unanswered ones end it.
        if self.probes >= cx.stack.config.tcp.retries2 {
            cx.stack.stats().tcp_abort_on_timeout.inc();
            self.fail(cx, Some(self.soft_error.unwrap_or(Error::TimedOut)));
            return;
        }
        self.probes += 1;
        self.rtt.backoff += 1;
        if self.snd.wnd > 0 {
            // A window too small for the silly-window rule: use it.
            let window = (self.snd.una + self.snd.wnd).since(self.snd.nxt);
            let len = self.unsent().min(window).min(self.snd.mss);
            if len > 0 && self.send_probe_data(cx, len) {
                return;
            }
        }
        self.send_probe(cx);
    }

    fn keepalive(&mut self, cx: &mut Cx<'_>) {
        let (idle, interval, count) = self.options.keep;
        if !self.options.keepalive || !self.is_synchronized() || !self.board.is_empty() {
            return;
        }
        let silent = cx.now.since(self.rcv.last_segment);
        if silent < idle {
            self.at.keepalive = Some(self.rcv.last_segment + idle);
            return;
        }
        let over = match self.options.user_timeout {
            Some(limit) => silent >= limit && self.probes > 0,
            None => self.probes >= count,
        };
        if over {
            cx.stack.stats().tcp_abort_on_timeout.inc();
            self.send_reset(cx);
            self.fail(cx, Some(self.soft_error.unwrap_or(Error::TimedOut)));
            return;
        }
        self.probes += 1;
        cx.stack.stats().tcp_keepalive.inc();
        self.send_probe(cx);
        self.at.keepalive = Some(cx.now + interval);
    }

    /// The peer was heard: the next keep-alive probe is far away.
    pub(crate) fn arm_keepalive(&mut self, now: Instant) {
        self.at.keepalive = None;
        if self.options.keepalive && self.is_synchronized() {
            if self.board.is_empty() {
                self.probes = 0;
            }
            self.at.keepalive = Some(now + self.options.keep.0);
        }
    }

    /// Timers for when nothing is outstanding.
    pub(crate) fn arm_idle_timers(&mut self, now: Instant) {
        if self.board.is_empty() {
            self.at.rto = None;
            self.at.tlp = None;
        }
        let blocked = self.board.is_empty() && self.unsent() > 0 && self.at.cork.is_none();
        if blocked && self.at.persist.is_none() && self.state != State::Closed {
            self.at.persist = Some(now + self.rtt.rto());
        }
    }
}
