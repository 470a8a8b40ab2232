//! Listening: half-open connections, SYN cookies, the accept queue.
//!
//! Two bounds, as in Linux: at most `backlog + 1` connections wait to be accepted, beyond which SYNs and the
//! ACKs that would complete one are dropped (the peer tries again); and at most `backlog` (and
//! `max_syn_backlog`) are half-open, beyond which cookies are sent, or, without those, SYNs dropped.

use super::congestion::Control;
use super::conn::{Conn, Start, State, default_mss};
use super::cookie::{self, Extra};
use super::syn_sent::shift_for;
use super::{Cx, Seq, TcpEndpoint};
use crate::config::Ecn;
use crate::demux::FourTuple;
use crate::endpoint::Readiness;
use crate::random::KeyedHash;
use crate::stack::Stack;
use crate::tcp::options::TcpOptions;
use crate::tcp::rtt::RTO_INIT;
use crate::time::{Instant, earliest};
use crate::wire::tcp::{Flags, Header, Segment};
use crate::wire::tcp_options::Options;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long after a flood ACKs are checked for cookies.
const COOKIE_TIME: Duration = Duration::from_secs(120);

/// A half-open connection.
#[derive(Clone, Copy, Debug)]
struct SynRequest {
    irs: Seq,
    iss: Seq,
    mss: u16,
    /// What was agreed on.
    shift: Option<u8>,
    sack: bool,
    stamp: Option<u32>,
    ecn: bool,
    sent: Instant,
    tries: u8,
    deadline: Instant,
}

/// What a segment for a listener led to.
pub(crate) enum Accepted {
    /// Nothing that concerns others.
    Nothing,
    /// A connection is complete.
    Child(Box<Conn>),
    /// Nobody's: answer with a reset.
    Reset,
}

/// A listening endpoint.
#[derive(Debug)]
pub(crate) struct Listener {
    pub backlog: usize,
    pub accept: VecDeque<Arc<TcpEndpoint>>,
    requests: HashMap<FourTuple, SynRequest, KeyedHash>,
    /// No request is due before this; what leaves the table does not move it.
    due: Option<Instant>,
    flooded: Option<Instant>,
}

impl Listener {
    pub(crate) fn new(backlog: usize, hash: KeyedHash) -> Self {
        Self {
            backlog,
            accept: VecDeque::new(),
            requests: HashMap::with_hasher(hash),
            due: None,
            flooded: None,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.accept.len() > self.backlog
    }

    /// The number of half-open connections.
    pub(crate) fn half_open(&self) -> usize {
        self.requests.len()
    }

    /// Whether a segment belongs to a half-open connection, or brings back a cookie.
    pub(crate) fn expects(&self, stack: &Stack, tuple: &FourTuple, s: &Segment<'_>) -> bool {
        let answer = || self.flooded.is_some() && s.has(Flags::ACK) && !s.has(Flags::SYN);
        let cookie = || {
            let (irs, iss) = (s.header.seq - 1, s.header.ack - 1);
            cookie::check(stack.keys.cookie, tuple, irs, iss, stack.now()).is_some()
        };
        self.requests.contains_key(tuple) || (answer() && cookie())
    }

    /// Takes in a segment. `iss`: where a connection that follows one in TIME-WAIT must start.
    pub(crate) fn segment(
        &mut self,
        cx: &mut Cx<'_>,
        options: &TcpOptions,
        tuple: FourTuple,
        s: &Segment<'_>,
        iss: Option<Seq>,
    ) -> Accepted {
        if let Some(request) = self.requests.get(&tuple).copied() {
            return self.known(cx, options, tuple, s, request);
        }
        if s.has(Flags::RST) {
            return Accepted::Nothing;
        }
        if s.has(Flags::ACK) {
            return match self.cookie(cx, options, tuple, s) {
                Some(child) => self.complete(cx, child, s),
                None => Accepted::Reset,
            };
        }
        if s.has(Flags::SYN) && !s.has(Flags::FIN) {
            self.syn(cx, options, tuple, s, iss);
        }
        Accepted::Nothing
    }

    /// A segment for a half-open connection.
    fn known(
        &mut self,
        cx: &mut Cx<'_>,
        options: &TcpOptions,
        tuple: FourTuple,
        s: &Segment<'_>,
        r: SynRequest,
    ) -> Accepted {
        let h = &s.header;
        let old_stamp = match (h.options.timestamps, r.stamp) {
            (Some((value, _)), Some(recent)) => (value.wrapping_sub(recent) as i32) < 0,
            _ => false,
        };
        if s.has(Flags::SYN) && h.seq == r.irs && !s.has(Flags::RST) {
            // The SYN again. Not more often than our own timer would.
            if cx.now.since(r.sent) >= cx.stack.config.tcp.invalid_ratelimit {
                self.send(cx, options, &tuple, &r);
                if let Some(r) = self.requests.get_mut(&tuple) {
                    r.sent = cx.now;
                }
            }
            return Accepted::Nothing;
        }
        let window = options.rcvbuf.unwrap_or(cx.stack.config.tcp.rmem.0).min(65535) as u32;
        let next = r.irs + 1;
        let in_window = !h.seq.before(next) && !h.seq.after(next + window);
        if !in_window || (old_stamp && !s.has(Flags::RST)) {
            if !s.has(Flags::RST) {
                self.send(cx, options, &tuple, &r);
            }
            return Accepted::Nothing;
        }
        if s.has(Flags::RST) {
            if h.seq == next {
                self.requests.remove(&tuple);
                cx.stack.stats().tcp_attempt_fails.inc();
            }
            return Accepted::Nothing;
        }
        if s.has(Flags::SYN) || !s.has(Flags::ACK) {
            return Accepted::Nothing;
        }
        if h.ack != r.iss + 1 {
            return Accepted::Reset;
        }
        if self.is_full() {
            // The peer thinks that it is connected; its data or our timer bring us back here.
            cx.stack.stats().tcp_listen_overflows.inc();
            return Accepted::Nothing;
        }
        self.requests.remove(&tuple);
        let child = child(cx, options, tuple, &r);
        self.complete(cx, child, s)
    }

    fn complete(&mut self, cx: &mut Cx<'_>, mut child: Conn, s: &Segment<'_>) -> Accepted {
        if self.is_full() {
            cx.stack.stats().tcp_listen_overflows.inc();
            return Accepted::Nothing;
        }
        let mut own = Cx::new(cx.stack, cx.now);
        child.segment(&mut own, s);
        if child.state == State::Closed {
            return Accepted::Nothing;
        }
        cx.stack.stats().tcp_passive_opens.inc();
        cx.events |= Readiness::IN;
        Accepted::Child(Box::new(child))
    }

    /// A new SYN.
    fn syn(
        &mut self,
        cx: &mut Cx<'_>,
        options: &TcpOptions,
        tuple: FourTuple,
        s: &Segment<'_>,
        iss: Option<Seq>,
    ) {
        let config = &cx.stack.config.tcp;
        if self.is_full() {
            cx.stack.stats().tcp_listen_overflows.inc();
            cx.stack.stats().tcp_listen_drops.inc();
            return;
        }
        let o = &s.header.options;
        let mut request = SynRequest {
            irs: s.header.seq,
            iss: iss.unwrap_or(Seq(0)),
            mss: o.mss.unwrap_or(default_mss(tuple.remote.is_ipv4()) as u16),
            shift: o.window_shift.filter(|_| config.window_scaling),
            sack: o.sack_permitted && config.sack,
            stamp: o.timestamps.map(|(value, _)| value).filter(|_| config.timestamps),
            ecn: config.ecn != Ecn::Off && s.has(Flags::ECE) && s.has(Flags::CWR),
            sent: cx.now,
            tries: 0,
            deadline: cx.now + RTO_INIT,
        };
        let max = self.backlog.max(1).min(config.max_syn_backlog);
        if self.requests.len() >= max {
            self.flooded = Some(cx.now);
            if !config.syn_cookies {
                cx.stack.stats().tcp_listen_drops.inc();
                return;
            }
            request.iss =
                cookie::make(cx.stack.keys.cookie, &tuple, request.irs, request.mss, cx.now);
            if request.stamp.is_none() {
                (request.shift, request.sack, request.ecn) = (None, false, false);
            }
            cx.stack.stats().tcp_syncookies_sent.inc();
            self.send_with(cx, options, &tuple, &request, true);
            return;
        }
        if iss.is_none() {
            request.iss = cx.stack.new_iss(&tuple);
        }
        self.send(cx, options, &tuple, &request);
        self.due = earliest(self.due, Some(request.deadline));
        self.requests.insert(tuple, request);
    }

    /// A connection from a cookie, if the segment acknowledges one.
    fn cookie(
        &mut self,
        cx: &Cx<'_>,
        options: &TcpOptions,
        tuple: FourTuple,
        s: &Segment<'_>,
    ) -> Option<Conn> {
        if self.flooded.is_none_or(|at| cx.now.since(at) > COOKIE_TIME) || s.has(Flags::SYN) {
            return None;
        }
        let (irs, iss) = (s.header.seq - 1, s.header.ack - 1);
        let Some(mss) = cookie::check(cx.stack.keys.cookie, &tuple, irs, iss, cx.now) else {
            cx.stack.stats().tcp_syncookies_failed.inc();
            return None;
        };
        cx.stack.stats().tcp_syncookies_recv.inc();
        let stamps = s.header.options.timestamps;
        let offset = cx.stack.ts_offset(&tuple);
        let extra = stamps.map(|(_, echo)| Extra::from_stamp(echo.wrapping_sub(offset)));
        let request = SynRequest {
            irs,
            iss,
            mss,
            shift: extra.and_then(|e| e.shift),
            sack: extra.is_some_and(|e| e.sack),
            stamp: stamps.map(|(value, _)| value),
            ecn: extra.is_some_and(|e| e.ecn),
            sent: cx.now,
            // The time of sending is not known: no round-trip sample.
            tries: 1,
            deadline: cx.now,
        };
        Some(child(cx, options, tuple, &request))
    }

    fn send(&self, cx: &Cx<'_>, options: &TcpOptions, tuple: &FourTuple, r: &SynRequest) {
        self.send_with(cx, options, tuple, r, false);
    }

    fn send_with(
        &self,
        cx: &Cx<'_>,
        options: &TcpOptions,
        tuple: &FourTuple,
        r: &SynRequest,
        cookie: bool,
    ) {
        let stack = cx.stack;
        let Ok(route) = stack.find_route(tuple.remote.ip(), Some(tuple.local.ip()), options.iface)
        else {
            return;
        };
        let headers = if tuple.remote.is_ipv4() { 40 } else { 60 };
        let mss = (route.mtu.saturating_sub(headers)).min(65535) as u16;
        let offset = stack.ts_offset(tuple);
        let mut clock = cx.now.millis() as u32;
        if cookie {
            let extra = Extra { shift: r.shift, sack: r.sack, ecn: r.ecn };
            clock = extra.into_stamp(clock);
        }
        let max = options.rcvbuf.unwrap_or(stack.config.tcp.rmem.1);
        let window = options.rcvbuf.unwrap_or(stack.config.tcp.rmem.0).min(65535) as u16;
        let mut flags = Flags::SYN | Flags::ACK;
        flags.set(Flags::ECE, r.ecn);
        let header = Header {
            src_port: tuple.local.port(),
            dst_port: tuple.remote.port(),
            seq: r.iss,
            ack: r.irs + 1,
            flags,
            window,
            urgent: 0,
            options: Options {
                mss: Some(mss.min(options.max_segment.unwrap_or(u16::MAX))),
                window_shift: r.shift.map(|_| shift_for(max)),
                sack_permitted: r.sack,
                timestamps: r.stamp.map(|recent| (clock.wrapping_add(offset), recent)),
                ..Options::default()
            },
        };
        stack.send_bare(tuple, &route, &header, options);
    }

    /// Sends SYN-ACKs again, and gives up on peers that do not answer.
    pub(crate) fn on_timer(&mut self, cx: &mut Cx<'_>, options: &TcpOptions) {
        let now = cx.now;
        let due: Vec<_> =
            self.requests.iter().filter(|(_, r)| r.deadline <= now).map(|(t, _)| *t).collect();
        for tuple in due {
            let Some(r) = self.requests.get_mut(&tuple) else { continue };
            if r.tries >= cx.stack.config.tcp.synack_retries {
                self.requests.remove(&tuple);
                cx.stack.stats().tcp_attempt_fails.inc();
                continue;
            }
            r.tries += 1;
            r.sent = now;
            r.deadline = now + RTO_INIT * (1 << r.tries.min(6));
            let r = *r;
            cx.stack.stats().tcp_retrans_segs.inc();
            self.send(cx, options, &tuple, &r);
        }
        self.due = self.requests.values().map(|r| r.deadline).min();
    }

    /// When [`on_timer`](Self::on_timer) is to be called. Asked for every segment: nothing is searched.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

/// The connection that a half-open one becomes, in SYN-RECEIVED.
fn child(cx: &Cx<'_>, options: &TcpOptions, tuple: FourTuple, r: &SynRequest) -> Conn {
    let start = Start {
        tuple,
        state: State::SynReceived,
        options: options.clone(),
        iss: r.iss,
        ts_offset: cx.stack.ts_offset(&tuple),
    };
    let mut c = Conn::new(cx.stack, start, cx.now);
    c.rcv.nxt = r.irs + 1;
    c.rcv.edge = c.rcv.nxt + c.rcv.buffer.min(65535) as u32;
    c.rcv.told = c.rcv.edge;
    let max = options.rcvbuf.unwrap_or(cx.stack.config.tcp.rmem.1);
    c.rcv.shift = if r.shift.is_some() { shift_for(max) } else { 0 };
    c.snd.shift = r.shift.unwrap_or(0);
    c.scaling_on = r.shift.is_some();
    c.snd.peer_mss = r.mss.into();
    c.sack_on = r.sack;
    c.stamps.on = r.stamp.is_some();
    c.stamps.recent = r.stamp.unwrap_or(0);
    c.stamps.recent_at = cx.now;
    c.stamps.last_ack = c.rcv.nxt;
    c.ecn.on = r.ecn;
    c.snd.nxt = r.iss + 1;
    c.board.push(r.iss, 1, r.sent);
    if r.tries > 0 {
        // Sent more than once, so its acknowledgement measures nothing.
        c.board.mark_resent(0, r.sent);
    }
    // A failure shows when the first segment is sent.
    let _ = c.route(cx);
    c.cc = Control::new(options.congestion, c.snd.mss);
    c
}
