//! Sending: what may be sent, in which segments, and their headers.

use super::conn::{Conn, State};
use super::recovery::Phase;
use super::{Cx, Seq};
use crate::ip::output::IpMeta;
use crate::link::Gso;
use crate::time::Instant;
use crate::wire::tcp::{Flags, HEADER, Header};
use crate::wire::tcp_options::Options;
use crate::wire::{ipv4, ipv6, protocol};
use std::time::Duration;

/// A corked segment waits so long.
const CORK: Duration = Duration::from_millis(200);
/// After a full send queue, try again after so long.
const RETRY: Duration = Duration::from_millis(1);

/// What stopped [`Conn::output`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Nothing left, or left for later on purpose.
    Done,
    /// The congestion window.
    Congestion,
    /// The peer's window.
    Window,
    /// The interface's queue.
    Queue,
}

impl Conn {
    /// Sends what may be sent now, and an acknowledgement if one is due and did not ride along.
    pub(crate) fn output(&mut self, cx: &mut Cx<'_>) {
        if matches!(self.state, State::Closed | State::SynSent | State::SynReceived) {
            return;
        }
        let stop = self.retransmit_lost(cx).or_else(|| self.send_new(cx)).unwrap_or(Stop::Done);
        self.cwnd_limited = match stop {
            Stop::Congestion => true,
            _ => self.cc.in_slow_start() && self.pipe().saturating_mul(2) >= self.cc.cwnd,
        };
        if stop == Stop::Queue {
            self.at.reorder = Some(
                crate::time::earliest(self.at.reorder, Some(cx.now + RETRY))
                    .unwrap_or(cx.now + RETRY),
            );
        }
        if self.ack.now {
            self.send_ack(cx);
        }
        self.arm_idle_timers(cx.now);
    }

    /// Sends lost segments again, as the congestion window allows.
    fn retransmit_lost(&mut self, cx: &mut Cx<'_>) -> Option<Stop> {
        while let Some(i) = self.board.next_lost() {
            let len = self.board.get(i)?.len;
            let room = self.cc.cwnd.saturating_sub(self.pipe());
            // The first one of a recovery goes in any case.
            if room < len.min(self.snd.mss) && self.pipe() > 0 && !self.recovery.first {
                return Some(Stop::Congestion);
            }
            if !self.queue_has_room(cx) || !self.resend(cx, i) {
                return Some(Stop::Queue);
            }
            self.recovery.first = false;
        }
        None
    }

    /// Sends segment `i` again, cut to the present segment size.
    pub(crate) fn resend(&mut self, cx: &mut Cx<'_>, i: usize) -> bool {
        let Some(&s) = self.board.get(i) else { return false };
        // Beyond the peer's window (it shrank, or the network is slow): only a probe may go there.
        if s.seq.after(self.snd.una + self.snd.wnd) && i > 0 {
            return false;
        }
        let fin = s.end().after(self.data_end());
        let syn = s.seq.before(self.snd.base);
        if !syn && s.len > self.snd.mss {
            self.board.split(i, self.snd.mss);
            return self.resend(cx, i);
        }
        if syn {
            if !self.send_syn(cx, s.seq) {
                return false;
            }
        } else {
            let data = s.len - u32::from(fin);
            let mut flags = Flags::ACK | Flags::PSH;
            flags.set(Flags::FIN, fin);
            if !self.emit(cx, s.seq, data, flags, false, true) {
                return false;
            }
        }
        self.board.mark_resent(i, cx.now);
        self.recovery.on_retransmit(self.stamps.on.then(|| self.ts_now(cx.now)), s.len);
        self.total_retrans += 1;
        cx.stack.stats().tcp_retrans_segs.inc();
        self.arm_rto(cx.now, false);
        true
    }

    /// Sends new data and the FIN.
    fn send_new(&mut self, cx: &mut Cx<'_>) -> Option<Stop> {
        self.restart_after_idle(cx);
        loop {
            let unsent = self.unsent();
            let fin_due = self.snd.fin && !self.fin_sent();
            if unsent == 0 && !fin_due {
                self.at.cork = None;
                return Some(Stop::Done);
            }
            if self.board.len() >= super::scoreboard::MAX_SEGMENTS {
                return Some(Stop::Congestion);
            }
            if !self.queue_has_room(cx) {
                return Some(Stop::Queue);
            }
            let route = self.route(cx).ok()?;
            let mss = self.snd.mss.saturating_sub(self.sack_room()).max(1);
            let window = (self.snd.una + self.snd.wnd).since(self.snd.nxt);
            let pipe = self.pipe();
            let congestion = match pipe {
                0 => self.cc.cwnd.max(mss),
                _ => self.cc.cwnd.saturating_sub(pipe),
            };
            if unsent == 0 {
                // The FIN alone. It needs no window (as Linux), but must not overtake.
                return self
                    .send_data(cx, 0, mss, true)
                    .then_some(Stop::Done)
                    .or(Some(Stop::Queue));
            }
            if window == 0 {
                return Some(Stop::Window);
            }
            let full = unsent.min(mss);
            if congestion < full {
                return Some(Stop::Congestion);
            }
            let mut len = full.min(window);
            if len < full && len < self.snd.max_wnd / 2 {
                // Silly window: better wait for the peer to open it (RFC 9293, section 3.8.6.2.1).
                return Some(Stop::Window);
            }
            if len < mss && len == unsent && self.holds_back(cx) {
                return Some(Stop::Done);
            }
            let gso = route.iface.caps.gso_max;
            if route.iface.caps.tx_checksum && gso > 0 && len == mss {
                let max = (gso.saturating_sub(120) as u32).min(60_000);
                let many = unsent.min(window).min(congestion).min(max) / mss;
                len = len.max(many * mss);
            }
            let fin = fin_due && len == unsent;
            if !self.send_data(cx, len, mss, fin) {
                return Some(Stop::Queue);
            }
        }
    }

    /// Sends `len` bytes behind `SND.NXT`, as one segment or, with a link that cuts, several.
    fn send_data(&mut self, cx: &mut Cx<'_>, len: u32, mss: u32, fin: bool) -> bool {
        let seq = self.snd.nxt;
        let end = seq + len;
        let mut flags = Flags::ACK;
        flags.set(Flags::FIN, fin);
        // Everything that was written is on its way, or the peer's window is half full: let the peer read.
        let push = fin || end == self.data_end() || end.since(self.snd.push) > self.snd.max_wnd / 2;
        flags.set(Flags::PSH, push && len > 0);
        if !self.emit(cx, seq, len, flags, len > mss, false) {
            return false;
        }
        if push {
            self.snd.push = end;
        }
        if len < mss {
            self.snd.small = end;
        }
        let mut at = seq;
        let mut left = len + u32::from(fin);
        while left > 0 {
            let part = if left <= mss + u32::from(fin) { left } else { mss };
            self.board.push(at, part, cx.now);
            at += part;
            left -= part;
        }
        self.snd.nxt = at;
        self.snd.last_sent = cx.now;
        if self.ack.pending > 0 || self.rcv.last_segment + Duration::from_millis(40) > cx.now {
            self.ack.interactive = true;
        }
        self.unanswered_since.get_or_insert(cx.now);
        self.recovery.prr_out(len);
        self.at.persist = None;
        self.arm_rto(cx.now, false);
        self.arm_tlp(cx.now);
        true
    }

    /// Sends a little new data whatever the congestion window and Nagle say.
    pub(crate) fn send_probe_data(&mut self, cx: &mut Cx<'_>, len: u32) -> bool {
        let fin = self.snd.fin && len == self.unsent();
        self.send_data(cx, len, self.snd.mss, fin)
    }

    /// Nagle's algorithm (RFC 9293, section 3.7.4, in Minshall's variant) and the cork.
    fn holds_back(&mut self, cx: &Cx<'_>) -> bool {
        if self.snd.fin {
            return false;
        }
        if self.options.cork {
            let until = *self.at.cork.get_or_insert(cx.now + CORK);
            if cx.now < until {
                return true;
            }
            self.at.cork = None;
            return false;
        }
        !self.options.nodelay && self.snd.small.after(self.snd.una)
    }

    fn restart_after_idle(&mut self, cx: &Cx<'_>) {
        let idle = cx.now.since(self.snd.last_sent);
        let rto = self.rtt.base_rto();
        if cx.stack.config.tcp.slow_start_after_idle
            && self.board.is_empty()
            && self.recovery.phase == Phase::Open
            && idle > rto
        {
            self.cc.on_idle(self.snd.mss, idle, rto);
            self.snd.last_sent = cx.now;
        }
    }

    fn queue_has_room(&mut self, cx: &Cx<'_>) -> bool {
        self.route(cx).is_ok_and(|r| r.iface.tx.lock().has_room())
    }

    /// Bytes that SACK blocks take of a segment.
    fn sack_room(&self) -> u32 {
        if !self.sack_on || (self.rcv.assembler.is_empty() && self.rcv.dsack.is_none()) {
            return 0;
        }
        self.blocks().len() as u32
    }

    fn blocks(&self) -> Options {
        let mut options = Options::default();
        if !self.sack_on {
            return options;
        }
        let max = if self.stamps.on { 3 } else { 4 };
        let mut left = max;
        if let Some(dsack) = self.rcv.dsack {
            options.push_sack(dsack);
            left -= 1;
        }
        for block in self.rcv.assembler.blocks(left) {
            options.push_sack(block);
        }
        options
    }

    /// Sends an acknowledgement without data.
    pub(crate) fn send_ack(&mut self, cx: &mut Cx<'_>) {
        self.emit(cx, self.snd.nxt, 0, Flags::ACK, false, false);
    }

    /// Sends a segment that makes the peer answer: one sequence number before what it expects.
    pub(crate) fn send_probe(&mut self, cx: &mut Cx<'_>) {
        self.emit(cx, self.snd.una - 1, 0, Flags::ACK, false, true);
    }

    /// Sends a reset that the peer will accept.
    pub(crate) fn send_reset(&mut self, cx: &mut Cx<'_>) {
        if self.state == State::SynSent || self.state == State::Closed {
            return;
        }
        let seq = self.snd.nxt.min(self.snd.una + self.snd.wnd).max(self.snd.una);
        cx.stack.stats().tcp_out_rsts.inc();
        self.emit(cx, seq, 0, Flags::RST | Flags::ACK, false, true);
    }

    /// Sends a SYN, or a SYN-ACK when the peer's SYN has come.
    pub(crate) fn send_syn(&mut self, cx: &mut Cx<'_>, seq: Seq) -> bool {
        let Ok(route) = self.route(cx) else { return false };
        let config = &cx.stack.config.tcp;
        let reply = self.state == State::SynReceived;
        let headers = if self.tuple.remote.is_ipv4() { 40 } else { 60 };
        let own = self.options.max_segment.unwrap_or(u16::MAX);
        let stamp = (self.ts_now(cx.now), self.stamps.recent);
        let stamps = if reply { self.stamps.on } else { config.timestamps };
        let scaling = if reply { self.scaling_on } else { config.window_scaling };
        let mut options = Options {
            mss: Some((route.mtu.saturating_sub(headers).min(65535) as u16).min(own)),
            sack_permitted: if reply { self.sack_on } else { config.sack },
            window_shift: scaling.then_some(self.rcv.shift),
            ..Options::default()
        };
        options.timestamps = stamps.then_some(stamp);
        let mut flags = Flags::SYN;
        flags.set(Flags::ACK, reply);
        // After time-outs, maybe the peer or the path cannot stand ECN (RFC 3168, section 6.1.1.1).
        let ask_ecn = !reply && config.ecn == crate::config::Ecn::Active && self.rtt.backoff < 2;
        flags.set(Flags::ECE, ask_ecn || (reply && self.ecn.on));
        flags.set(Flags::CWR, ask_ecn);
        let window = self.rcv.buffer.min(65535) as u16;
        self.rcv.edge = self.rcv.edge.max(self.rcv.nxt + u32::from(window));
        let header = Header {
            src_port: self.tuple.local.port(),
            dst_port: self.tuple.remote.port(),
            seq,
            ack: if reply { self.rcv.nxt } else { Seq(0) },
            flags,
            window,
            urgent: 0,
            options,
        };
        self.stamps.last_ack = self.rcv.nxt;
        self.send_header(cx, &header, 0, None, 0)
    }

    /// Builds and sends one segment with `len` bytes from `seq` on.
    fn emit(
        &mut self,
        cx: &mut Cx<'_>,
        seq: Seq,
        len: u32,
        flags: Flags,
        cut: bool,
        again: bool,
    ) -> bool {
        let mut flags = flags;
        let mut options = self.blocks();
        if self.stamps.on {
            options.timestamps = Some((self.ts_now(cx.now), self.stamps.recent));
        }
        if flags.contains(Flags::RST) {
            options = Options { timestamps: options.timestamps, ..Options::default() };
        }
        let mut ecn = 0;
        if self.ecn.on && !flags.contains(Flags::RST) {
            flags.set(Flags::ECE, self.ecn.echo);
            if len > 0 && !again {
                // Only new data is marked (RFC 3168, section 6.1.5).
                ecn = 2;
                flags.set(Flags::CWR, self.ecn.cwr);
            }
        }
        let mut urgent = 0;
        if let Some(up) = self.snd.up
            && up.after(seq)
        {
            flags |= Flags::URG;
            urgent = up.since(seq).min(65535) as u16;
        }
        let header = Header {
            src_port: self.tuple.local.port(),
            dst_port: self.tuple.remote.port(),
            seq,
            ack: self.rcv.nxt,
            flags,
            window: if flags.contains(Flags::RST) { 0 } else { self.window_to_send() },
            urgent,
            options,
        };
        let gso = cut.then_some(self.snd.mss.saturating_sub(self.sack_room()) as u16);
        if !self.send_header(cx, &header, len, gso, ecn) {
            return false;
        }
        if flags.contains(Flags::CWR) {
            self.ecn.cwr = false;
        }
        if self.rcv.dsack.take().is_some() {
            cx.stack.stats().tcp_dsack_sent.inc();
        }
        self.ack.now = false;
        self.ack.pending = 0;
        self.at.delack = None;
        self.stamps.last_ack = self.rcv.nxt;
        true
    }

    fn send_header(
        &mut self,
        cx: &mut Cx<'_>,
        header: &Header,
        len: u32,
        gso: Option<u16>,
        ecn: u8,
    ) -> bool {
        let Ok(route) = self.route(cx) else { return false };
        let v6 = self.tuple.remote.is_ipv6();
        let at = header.seq.since(self.snd.base) as usize;
        let gathered = match route.iface.caps.gather && gso.is_some() {
            true => self.snd.tx.gather(at, len as usize),
            false => None,
        };
        let mut frame = cx.stack.frame(if gathered.is_some() { 0 } else { len as usize });
        match gathered {
            Some(tail) => frame.tail = tail,
            None => {
                self.snd.tx.show(at, len as usize, |part| frame.extend(part));
            }
        }
        header.emit(frame.prepend(header.len()));
        frame.gso = gso.map(|size| Gso { size, headers: header.len(), v6 });
        let meta = IpMeta {
            src: self.tuple.local.ip(),
            dst: self.tuple.remote.ip(),
            protocol: protocol::TCP,
            ttl: self.options.ttl.unwrap_or(cx.stack.config.ttl),
            tos: (self.options.tos & !3) | ecn,
            dont_fragment: true,
            router_alert: false,
        };
        cx.stack.fill_checksum(&mut frame, &route.iface, &meta, 16, false);
        cx.stack.stats().tcp_out_segs.inc();
        let ip = if v6 { ipv6::HEADER } else { ipv4::HEADER };
        debug_assert!(gso.is_some() || ip + HEADER + (len as usize) <= route.mtu.max(576) + 64);
        cx.stack.send_ip(&route.iface, route.next, route.mtu, &meta, frame)
    }

    /// Sets the retransmission timer if it is not running, or anew.
    pub(crate) fn arm_rto(&mut self, now: Instant, anew: bool) {
        if self.board.is_empty() {
            self.at.rto = None;
        } else if anew || self.at.rto.is_none() {
            self.at.rto = Some(now + self.rtt.rto());
        }
    }
}
