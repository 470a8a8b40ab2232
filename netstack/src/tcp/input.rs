//! Segments for a connection whose both sides are known (RFC 9293, section 3.10.7.4).

use super::Cx;
use super::conn::{Conn, State, Urgent};
use crate::endpoint::Readiness;
use crate::error::Error;
use crate::wire::tcp::{Flags, Segment};
use std::time::Duration;

/// How old a time stamp may get before it says nothing (RFC 7323, section 5.5).
const PAWS_IDLE: Duration = Duration::from_secs(24 * 24 * 3600);

impl Conn {
    /// Takes in a segment.
    pub(crate) fn segment(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) {
        match self.state {
            State::Closed => {}
            State::SynSent => self.in_syn_sent(cx, s),
            _ => self.in_synchronized(cx, s),
        }
        self.output(cx);
    }

    fn in_synchronized(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) {
        if !self.passes_paws(cx, s) || !self.acceptable(cx, s) {
            return;
        }
        if s.has(Flags::RST) {
            self.take_reset(cx, s);
            return;
        }
        if s.has(Flags::SYN) {
            if self.state == State::SynReceived && s.header.seq + 1 == self.rcv.nxt {
                // The SYN of a simultaneous open again; the SYN-ACK goes again with it.
                self.send_syn(cx, self.snd.una);
                if !s.has(Flags::ACK) {
                    return;
                }
            } else {
                self.challenge(cx);
                return;
            }
        }
        if !s.has(Flags::ACK) {
            return;
        }
        if self.state == State::SynReceived && !self.finish_simultaneous(cx, s) {
            return;
        }
        self.rcv.last_segment = cx.now;
        self.note_stamp(cx, s);
        if !self.take_ack(cx, s) {
            return;
        }
        self.after_ack(cx);
        if self.state == State::Closed {
            return;
        }
        self.take_ecn(s);
        self.take_urgent_pointer(cx, s);
        self.take_stream(cx, s);
        self.arm_keepalive(cx.now);
    }

    /// Protection against wrapped sequence numbers (RFC 7323, section 5.3).
    fn passes_paws(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) -> bool {
        let Some((value, _)) = s.header.options.timestamps else { return true };
        if !self.stamps.on || s.has(Flags::RST) {
            return true;
        }
        let old = (value.wrapping_sub(self.stamps.recent) as i32) < 0;
        if !old || cx.now.since(self.stamps.recent_at) >= PAWS_IDLE {
            return true;
        }
        cx.stack.stats().tcp_paws_estab.inc();
        self.out_of_window(cx, s);
        false
    }

    /// Whether the segment touches the window (section 3.10.7.4, first check).
    fn acceptable(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) -> bool {
        let (seq, end) = (s.header.seq, s.end());
        if !end.before(self.rcv.nxt) && !seq.after(self.told()) {
            return true;
        }
        if s.has(Flags::RST) {
            return false;
        }
        if s.has(Flags::SYN) {
            self.challenge(cx);
            return false;
        }
        self.out_of_window(cx, s);
        false
    }

    /// An unacceptable segment is answered, but not always, lest two confused peers talk for ever.
    fn out_of_window(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) {
        if s.has(Flags::RST) {
            return;
        }
        let data = !s.payload.is_empty();
        let limit = cx.stack.config.tcp.invalid_ratelimit;
        let recent = self.ack.last_out_of_window.is_some_and(|at| cx.now.since(at) < limit);
        if recent && !data {
            return;
        }
        if !data {
            self.ack.last_out_of_window = Some(cx.now);
        } else if s.header.seq.before(self.rcv.nxt) && self.sack_on {
            self.rcv.dsack = Some((s.header.seq, s.end().min(self.rcv.nxt)));
            self.enter_quickack();
        }
        self.ack.now = true;
    }

    /// Says where we are to someone who may be guessing (RFC 5961); limited for the whole stack.
    pub(crate) fn challenge(&mut self, cx: &mut Cx<'_>) {
        let limit = cx.stack.config.tcp.invalid_ratelimit;
        let recent = self.ack.last_out_of_window.is_some_and(|at| cx.now.since(at) < limit);
        if !recent && cx.stack.challenge_limit.lock().take(cx.now) {
            self.ack.last_out_of_window = Some(cx.now);
            cx.stack.stats().tcp_challenge_ack.inc();
            self.ack.now = true;
        }
    }

    /// A reset counts only at the very next number (RFC 5961, section 3.2).
    fn take_reset(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) {
        if s.header.seq != self.rcv.nxt {
            self.challenge(cx);
            return;
        }
        let error = match self.state {
            State::SynReceived => Some(Error::ConnectionRefused),
            State::CloseWait => Some(Error::BrokenPipe),
            State::Closing | State::LastAck => None,
            _ => Some(Error::ConnectionReset),
        };
        cx.stack.stats().tcp_estab_resets.inc();
        self.fail(cx, error);
    }

    /// Remembers the peer's time stamp (RFC 7323, section 4.3).
    fn note_stamp(&mut self, cx: &Cx<'_>, s: &Segment<'_>) {
        if let Some((value, _)) = s.header.options.timestamps
            && self.stamps.on
            && !s.header.seq.after(self.stamps.last_ack)
            && (value.wrapping_sub(self.stamps.recent) as i32) >= 0
        {
            self.stamps.recent = value;
            self.stamps.recent_at = cx.now;
        }
    }

    fn take_ecn(&mut self, s: &Segment<'_>) {
        if !self.ecn.on {
            return;
        }
        if s.has(Flags::CWR) {
            self.ecn.echo = false;
        }
        if s.ce {
            if !self.ecn.echo {
                self.ack.now = true;
            }
            self.ecn.echo = true;
        }
    }

    fn take_urgent_pointer(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) {
        if !s.has(Flags::URG) || s.header.urgent == 0 {
            return;
        }
        let at = s.header.seq + u32::from(s.header.urgent) - 1;
        let known = match self.rcv.urgent {
            Urgent::None => None,
            Urgent::Expected(a) | Urgent::Ready(a, _) | Urgent::Taken(a) => Some(a),
        };
        // Read already, or no newer than what is known.
        let first = self.rcv.nxt - self.rcv.rx.len() as u32;
        if at.before(first) || known.is_some_and(|known| !at.after(known)) {
            return;
        }
        if at.after(self.rcv.nxt + self.rcv.buffer as u32) {
            return;
        }
        self.rcv.urgent = Urgent::Expected(at);
        self.take_urgent();
        cx.events |= Readiness::PRI;
    }

    /// Data and FIN.
    fn take_stream(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) {
        let open = matches!(self.state, State::Established | State::FinWait1 | State::FinWait2);
        if !open {
            if s.len() > 0 && s.header.seq.before(self.rcv.nxt) {
                // A repeated FIN, or what came before it.
                self.ack.now = true;
            }
            return;
        }
        let data_end = s.header.seq + s.payload.len() as u32;
        if self.rcv.shut && self.detached && data_end.after(self.rcv.nxt) && !s.payload.is_empty() {
            // Nobody will read it (RFC 2525, section 2.17).
            self.send_reset(cx);
            self.fail(cx, Some(Error::ConnectionReset));
            return;
        }
        if self.rcv.shut && !s.payload.is_empty() && data_end.after(self.rcv.nxt) {
            // shutdown(SHUT_RD): taken and thrown away, as in Linux.
            self.take_data(cx, s);
            let n = self.rcv.rx.len();
            self.rcv.rx.consume(n);
        } else {
            self.take_data(cx, s);
        }
        if s.has(Flags::FIN) && !data_end.after(self.told()) && self.rcv.fin.is_none() {
            self.rcv.fin = Some(data_end);
        }
        if self.rcv.fin == Some(self.rcv.nxt) {
            self.take_fin(cx);
        }
    }

    fn take_fin(&mut self, cx: &mut Cx<'_>) {
        self.rcv.nxt += 1;
        self.rcv.edge = self.rcv.edge.max(self.rcv.nxt);
        self.rcv.assembler.clear();
        self.ack.now = true;
        cx.events |= Readiness::IN | Readiness::RDHUP;
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => {
                self.send_ack(cx);
                self.enter_time_wait(cx);
            }
            _ => {}
        }
        if self.snd.fin {
            cx.events |= Readiness::HUP;
        }
    }
}
