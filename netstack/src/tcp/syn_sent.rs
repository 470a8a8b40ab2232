//! Opening a connection: SYN-SENT, and SYN-RECEIVED after a simultaneous open (RFC 9293, section 3.10.7.3).

use super::conn::{Conn, Start, State, default_mss};
use super::{Cx, Seq};
use crate::config::Ecn;
use crate::endpoint::Readiness;
use crate::error::{Error, Result};
use crate::wire::tcp::{Flags, Segment};

/// The window shift for buffers of up to `max` bytes.
pub(crate) fn shift_for(max: usize) -> u8 {
    let mut shift = 0;
    while shift < crate::wire::tcp_options::MAX_SHIFT && (65535usize << shift) < max {
        shift += 1;
    }
    shift
}

impl Conn {
    /// Begins to open: sends the SYN.
    pub(crate) fn open(cx: &mut Cx<'_>, start: Start) -> Result<Self> {
        let mut c = Self::new(cx.stack, start, cx.now);
        c.route(cx)?;
        let max = c.options.rcvbuf.unwrap_or(cx.stack.config.tcp.rmem.1);
        c.rcv.shift = shift_for(max);
        let iss = c.snd.una;
        c.send_syn(cx, iss);
        c.board.push(iss, 1, cx.now);
        c.snd.nxt = iss + 1;
        c.unanswered_since = Some(cx.now);
        c.arm_rto(cx.now, true);
        cx.stack.stats().tcp_active_opens.inc();
        Ok(c)
    }

    pub(crate) fn in_syn_sent(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) {
        let acks = s.has(Flags::ACK);
        let good_ack = s.header.ack == self.snd.nxt;
        if acks && !good_ack {
            // An old connection's (RFC 9293: a reset, unless it is one).
            if !s.has(Flags::RST) {
                cx.stack.reset_for(&self.tuple, s);
            }
            return;
        }
        if s.has(Flags::RST) {
            if acks {
                cx.stack.stats().tcp_attempt_fails.inc();
                self.fail(cx, Some(Error::ConnectionRefused));
            }
            return;
        }
        if !s.has(Flags::SYN) {
            return;
        }
        let o = &s.header.options;
        let config = &cx.stack.config.tcp;
        self.negotiate(cx, s);
        if self.stamps.on
            && acks
            && let Some((_, echo)) = o.timestamps
            && echo.wrapping_sub(self.ts_now(cx.now)) as i32 > 0
        {
            // Echoes what we never sent.
            cx.stack.reset_for(&self.tuple, s);
            return;
        }
        self.rcv.nxt = s.header.seq + 1;
        self.rcv.edge = self.rcv.nxt + self.rcv.buffer.min(65535) as u32;
        self.rcv.told = self.rcv.edge;
        self.rcv.tune = super::receive::Tuning::default();
        if !acks {
            // Both sides open at once.
            self.ecn.on = s.has(Flags::ECE | Flags::CWR) && config.ecn != Ecn::Off;
            self.state = State::SynReceived;
            self.send_syn(cx, self.snd.una);
            return;
        }
        // A SYN-ACK says ECE without CWR (RFC 3168, section 6.1.1).
        self.ecn.on = config.ecn == Ecn::Active && s.has(Flags::ECE) && !s.has(Flags::CWR);
        self.state = State::Established;
        self.established(cx, s);
        self.ack.now = true;
        self.take_stream_of_syn(cx, s);
    }

    /// Data with the SYN-ACK is allowed, and rare.
    fn take_stream_of_syn(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) {
        if !s.payload.is_empty() {
            let mut data = *s;
            data.header.seq = s.header.seq + 1;
            data.header.flags.remove(Flags::SYN);
            self.take_data(cx, &data);
        }
    }

    /// Takes over what the peer's SYN offers and we asked for or allow.
    pub(crate) fn negotiate(&mut self, cx: &Cx<'_>, s: &Segment<'_>) {
        let o = &s.header.options;
        let config = &cx.stack.config.tcp;
        self.snd.peer_mss = o.mss.map_or(default_mss(self.tuple.remote.is_ipv4()), u32::from);
        self.sack_on = config.sack && o.sack_permitted;
        self.scaling_on = config.window_scaling && o.window_shift.is_some();
        self.snd.shift = o.window_shift.filter(|_| self.scaling_on).unwrap_or(0);
        if !self.scaling_on {
            self.rcv.shift = 0;
        }
        self.stamps.on = config.timestamps && o.timestamps.is_some();
        if let Some((value, _)) = o.timestamps.filter(|_| self.stamps.on) {
            self.stamps.recent = value;
            self.stamps.recent_at = cx.now;
        }
        self.route = None;
        // Looked up again by the next segment; the new segment size comes with it.
        let _ = self.route(cx);
    }

    /// The handshake is complete.
    pub(crate) fn established(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) {
        let tries = self.board.first().map_or(1, |s| s.transmissions);
        let mut d = super::scoreboard::Delivered::default();
        self.board.acknowledge(s.header.ack, &mut d);
        self.snd.una = s.header.ack;
        self.snd.wl1 = s.header.seq;
        self.snd.wl2 = s.header.ack;
        let shift = if s.has(Flags::SYN) { 0 } else { self.snd.shift };
        self.snd.wnd = u32::from(s.header.window) << shift;
        self.snd.max_wnd = self.snd.wnd;
        if let Some(sent) = d.segments.first().filter(|s| s.transmissions == 1) {
            self.rtt.sample(cx.now.since(sent.at));
        }
        let mss = self.snd.mss;
        self.cc = super::congestion::Control::new(self.options.congestion, mss);
        if tries > 1 {
            // The SYN was lost (RFC 5681, section 3.1).
            self.cc.cwnd = mss;
            self.cc.ssthresh = self.cc.reduced(mss);
        }
        self.rtt.backoff = 0;
        self.at.rto = None;
        self.unanswered_since = None;
        self.rcv.last_segment = cx.now;
        self.snd.last_sent = cx.now;
        self.arm_keepalive(cx.now);
        cx.events |= Readiness::OUT;
    }

    /// The acknowledgement of our SYN after a simultaneous open. False: the segment is dropped.
    pub(crate) fn finish_simultaneous(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) -> bool {
        if s.header.ack != self.snd.nxt {
            cx.stack.reset_for(&self.tuple, s);
            return false;
        }
        self.state = State::Established;
        self.established(cx, s);
        if self.snd.fin {
            self.state = State::FinWait1;
        }
        true
    }

    /// A number that the SYN of a new connection may start from.
    pub(crate) fn next_iss(&self) -> Seq {
        self.snd.nxt + 65_535
    }
}
