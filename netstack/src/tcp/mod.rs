//! TCP (RFC 9293): endpoints, and which of them a segment is for.
//!
//! An endpoint is idle, listens, or has a connection; each has a type of its own. What is left of a
//! connection in TIME-WAIT is a record in a table. Everything a connection does happens under its
//! endpoint's lock, with a [`Cx`] that carries the time in and the readiness events out; those are told
//! after the lock is released.

mod ack;
mod assembler;
mod close;
mod congestion;
mod conn;
mod cookie;
mod input;
mod listen;
mod options;
mod output;
mod pieces;
mod rack;
mod receive;
mod recovery;
mod rtt;
mod scoreboard;
mod seq;
mod socket;
mod syn_sent;
pub(crate) mod time_wait;
mod timer;

pub use options::{TcpInfo, TcpOptions, TcpStateName};
pub use socket::TcpSocket;

pub(crate) use seq::Seq;

use crate::demux::{Bound, FourTuple};
use crate::endpoint::{EndpointId, Family, IcmpError, Readiness, WakerCell};
use crate::gate::Admission;
use crate::ip::icmp::Quoted;
use crate::ip::output::{IpMeta, Route};
use crate::ip::{DstKind, IpInfo};
use crate::link::Expected;
use crate::random::siphash;
use crate::stack::Stack;
use crate::time::Instant;
use crate::timers::TimerKey;
use crate::wire::tcp::{Flags, Header, Segment};
use crate::wire::tcp_options::Options;
use crate::wire::{checksum, icmp, protocol};
use conn::Conn;
use listen::{Accepted, Listener};
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use time_wait::Verdict;

/// What code under an endpoint's lock works with.
pub(crate) struct Cx<'a> {
    pub stack: &'a Stack,
    pub now: Instant,
    /// To be told to the waker.
    pub events: Readiness,
    /// The connection has ended: out of the tables.
    pub gone: bool,
}

impl<'a> Cx<'a> {
    pub(crate) fn new(stack: &'a Stack, now: Instant) -> Self {
        Self { stack, now, events: Readiness::empty(), gone: false }
    }
}

/// An endpoint as the stack holds it.
#[derive(Debug)]
pub(crate) struct TcpEndpoint {
    pub id: EndpointId,
    pub family: Family,
    stack: Weak<Stack>,
    state: Mutex<TcpState>,
    waker: WakerCell,
}

/// What the endpoint's lock protects.
#[derive(Debug)]
struct TcpState {
    role: Role,
    options: TcpOptions,
    /// The address it is bound to.
    addr: Option<IpAddr>,
    /// Zero: not bound.
    port: u16,
    /// The port is held as a connection's, with this reusability.
    held: Option<bool>,
    /// No socket any more, and the connection goes on.
    orphan: bool,
    /// What the timer is set to.
    armed: Option<Instant>,
}

#[derive(Debug)]
enum Role {
    Idle,
    Listen(Box<Listener>),
    Conn(Box<Conn>),
}

impl TcpState {
    fn new(options: TcpOptions) -> Self {
        Self {
            role: Role::Idle,
            options,
            addr: None,
            port: 0,
            held: None,
            orphan: false,
            armed: None,
        }
    }

    fn conn(&mut self) -> Option<&mut Conn> {
        match &mut self.role {
            Role::Conn(conn) => Some(conn),
            _ => None,
        }
    }
}

impl TcpEndpoint {
    fn new(stack: &Arc<Stack>, id: EndpointId, family: Family, state: TcpState) -> Arc<Self> {
        let endpoint = Arc::new(Self {
            id,
            family,
            stack: Arc::downgrade(stack),
            state: Mutex::new(state),
            waker: WakerCell::default(),
        });
        stack.demux.tcp_ids.lock().insert(id, Arc::downgrade(&endpoint));
        endpoint
    }

    /// Runs `f` under the lock; then tables, timer and waker follow.
    fn run<R>(&self, stack: &Stack, f: impl FnOnce(&mut TcpState, &mut Cx<'_>) -> R) -> R {
        let mut cx = Cx::new(stack, stack.now());
        let mut state = self.state.lock();
        let out = f(&mut state, &mut cx);
        let mut left = None;
        if cx.gone {
            self.leave(stack, &mut state);
            left = state.conn().map(|c| c.tuple);
        }
        self.arm(stack, &mut state, cx.now);
        let events = cx.events;
        drop(state);
        // Behind the lock: the table's reference may be the last but the caller's.
        if let Some(tuple) = left {
            stack.demux.tcp.remove(&tuple, self);
        }
        self.waker.wake(events);
        out
    }

    /// A connection has ended.
    fn leave(&self, stack: &Stack, state: &mut TcpState) {
        if let Some(reusable) = state.held.take() {
            stack.demux.tcp_ports.lock().unhold(state.port, reusable);
        }
        if std::mem::take(&mut state.orphan) {
            stack.orphans.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn arm(&self, stack: &Stack, state: &mut TcpState, now: Instant) {
        let next = match &state.role {
            Role::Idle => None,
            Role::Listen(l) => l.deadline(),
            Role::Conn(c) => c.deadline(),
        };
        // A timer that runs out too early does no harm; setting it for each segment would cost.
        let Some(next) = next else { return };
        if state.armed.is_none_or(|armed| next < armed || armed < now) {
            state.armed = Some(next);
            stack.set_timer(TimerKey::Tcp(self.id), Some(next));
        }
    }

    fn bound(&self, state: &TcpState) -> Bound {
        Bound {
            id: self.id,
            family: self.family,
            addr: state.addr,
            v6_only: state.options.v6_only,
            iface: state.options.iface,
            reuse_addr: state.options.reuse_addr,
            reuse_port: state.options.reuse_port,
            exclusive: matches!(state.role, Role::Listen(_)),
        }
    }
}

impl Drop for TcpEndpoint {
    fn drop(&mut self) {
        if let Some(stack) = self.stack.upgrade() {
            stack.demux.tcp_ids.lock().remove(&self.id);
            stack.timers.lock().set(TimerKey::Tcp(self.id), None);
            stack.endpoint_gone();
        }
    }
}

impl Stack {
    /// The initial sequence number of a connection (RFC 6528): a clock of 64 ns, and a keyed hash.
    pub(crate) fn new_iss(&self, tuple: &FourTuple) -> Seq {
        let hash = siphash(self.keys.isn, &tuple.words()) as u32;
        Seq(hash.wrapping_add((self.now().nanos() >> 6) as u32))
    }

    /// Where a connection's time stamps start: not the same for all peers.
    pub(crate) fn ts_offset(&self, tuple: &FourTuple) -> u32 {
        let [a, b, c, d, _] = tuple.words();
        siphash(self.keys.timestamp, &[a, b, c, d]) as u32
    }

    pub(crate) fn input_tcp(&self, info: &IpInfo<'_>, bytes: &[u8]) {
        self.stats().tcp_in_segs.inc();
        let good =
            info.checksum_valid || checksum::verify(info.src, info.dst, protocol::TCP, bytes);
        if !good {
            self.stats().tcp_in_csum_errors.inc();
            self.stats().tcp_in_errs.inc();
            return;
        }
        let Some(mut s) = Segment::parse(bytes) else {
            self.stats().tcp_in_errs.inc();
            return;
        };
        if info.kind != DstKind::Host || info.link_group {
            return;
        }
        s.ce = info.tos & 3 == 3;
        s.buffer = info.buffer;
        let h = &s.header;
        let tuple = FourTuple::new((info.dst, h.dst_port), (info.src, h.src_port));
        if let Some(e) = self.demux.tcp.get(&tuple) {
            e.run(self, |state, cx| {
                if let Some(conn) = state.conn() {
                    conn.segment(cx, &s);
                }
            });
            return;
        }
        let mut iss = None;
        let limit = self.config.tcp.invalid_ratelimit;
        let verdict = {
            let mut table = self.demux.time_wait.lock();
            let verdict = table.segment(&tuple, &s, limit, self.now());
            drop(table);
            verdict
        };
        match verdict {
            Some(Verdict::Drop) => return,
            Some(Verdict::Ack(record)) => {
                self.time_wait_ack(&record);
                return;
            }
            Some(Verdict::Reopen(record)) => {
                self.stats().tcp_tw_recycled.inc();
                iss = Some(record.next_iss);
            }
            None => {}
        }
        let mut port = tuple.local.port();
        if let Some(gate) = self.gate.get() {
            let syn = s.has(Flags::SYN) && !s.has(Flags::ACK);
            match gate.admit(syn, tuple.remote, tuple.local, info.iface.id) {
                Admission::Pass(to) => port = to,
                Admission::Drop => return,
                Admission::Reset => return self.reset_for(&tuple, &s),
                Admission::Unreachable(kind, code) => return self.icmp_error(info, kind, code, 0),
            }
        }
        let hash = siphash(self.keys.port, &tuple.words());
        let listener = self.demux.listeners.best(port, info.dst, info.iface.id, hash);
        let answered = listener.is_some_and(|l| self.listener_segment(&l, tuple, &s, iss));
        if !answered {
            self.reset_for(&tuple, &s);
        }
    }

    /// False: nobody's segment.
    fn listener_segment(
        &self,
        listener: &Arc<TcpEndpoint>,
        tuple: FourTuple,
        s: &Segment<'_>,
        iss: Option<Seq>,
    ) -> bool {
        let mut other = None;
        let answered = listener.run(self, |state, cx| {
            // The connection may have been completed while we waited for the lock.
            if let Some(e) = self.demux.tcp.get(&tuple) {
                other = Some(e);
                return true;
            }
            let options = state.options.clone();
            let Role::Listen(l) = &mut state.role else { return false };
            match l.segment(cx, &options, tuple, s, iss) {
                Accepted::Nothing => true,
                Accepted::Reset => false,
                Accepted::Child(child) => {
                    if let Some(child) = self.adopt(listener.family, *child, options) {
                        l.accept.push_back(child);
                    }
                    true
                }
            }
        });
        if let Some(e) = other {
            e.run(self, |state, cx| {
                if let Some(conn) = state.conn() {
                    conn.segment(cx, s);
                }
            });
        }
        answered
    }

    /// Whether a segment belongs to a connection, complete or not. (Not if that is half open, and the packet filter has turned it
    /// to another port.)
    pub(crate) fn expects_tcp(&self, src: IpAddr, dst: IpAddr, bytes: &[u8]) -> Expected {
        let Some(s) = Segment::parse(bytes) else { return Expected::No };
        let tuple = FourTuple::new((dst, s.header.dst_port), (src, s.header.src_port));
        let half_open = |listener: &Arc<TcpEndpoint>| match &listener.state.lock().role {
            Role::Listen(l) => l.expects(self, &tuple, &s),
            _ => false,
        };
        if self.demux.tcp.get(&tuple).is_some() {
            Expected::Known
        } else if self.demux.listeners.on(s.header.dst_port).iter().any(half_open) {
            Expected::Beginning
        } else {
            Expected::No
        }
    }

    /// Makes an endpoint of a connection that a listener completed.
    fn adopt(&self, family: Family, conn: Conn, options: TcpOptions) -> Option<Arc<TcpEndpoint>> {
        let stack = self.arc()?;
        let id = self.new_endpoint().ok()?;
        let tuple = conn.tuple;
        let reusable = options.reuse_addr;
        let mut state = TcpState::new(options);
        state.addr = Some(tuple.local.ip());
        state.port = tuple.local.port();
        state.held = Some(reusable);
        state.role = Role::Conn(Box::new(conn));
        let endpoint = TcpEndpoint::new(&stack, id, family, state);
        self.demux.tcp_ports.lock().hold(tuple.local.port(), reusable);
        if !self.demux.tcp.insert(tuple, endpoint.clone()) {
            endpoint.run(self, |_, cx| cx.gone = true);
            return None;
        }
        // The timer; nothing else is to be done.
        endpoint.run(self, |_, _| ());
        Some(endpoint)
    }

    /// Answers a segment that belongs to nothing with a reset (RFC 9293, section 3.10.7.1).
    pub(crate) fn reset_for(&self, tuple: &FourTuple, s: &Segment<'_>) {
        if s.has(Flags::RST) || !self.reset_limit.lock().take(self.now()) {
            return;
        }
        let Ok(route) = self.find_route(tuple.remote.ip(), Some(tuple.local.ip()), None) else {
            return;
        };
        let (seq, ack, flags) = if s.has(Flags::ACK) {
            (s.header.ack, Seq(0), Flags::RST)
        } else {
            (Seq(0), s.end(), Flags::RST | Flags::ACK)
        };
        self.stats().tcp_out_rsts.inc();
        let options = TcpOptions::new(&self.config);
        self.send_bare(tuple, &route, &bare(tuple, seq, ack, flags, 0), &options);
    }

    fn time_wait_ack(&self, r: &time_wait::Record) {
        let Ok(route) = self.find_route(r.tuple.remote.ip(), Some(r.tuple.local.ip()), None) else {
            return;
        };
        let mut header = bare(&r.tuple, r.snd_nxt, r.rcv_nxt, Flags::ACK, r.window);
        if r.stamps_on {
            let now = (self.now().millis() as u32).wrapping_add(r.offset);
            header.options.timestamps = Some((now, r.recent));
        }
        self.send_bare(&r.tuple, &route, &header, &TcpOptions::new(&self.config));
    }

    /// Sends a segment without data outside of any connection.
    pub(crate) fn send_bare(
        &self,
        tuple: &FourTuple,
        route: &Route,
        header: &Header,
        options: &TcpOptions,
    ) {
        let mut frame = self.frame(0);
        header.emit(frame.prepend(header.len()));
        let meta = IpMeta {
            src: tuple.local.ip(),
            dst: tuple.remote.ip(),
            protocol: protocol::TCP,
            ttl: options.ttl.unwrap_or(self.config.ttl),
            tos: options.tos & !3,
            dont_fragment: true,
            router_alert: false,
        };
        self.fill_checksum(&mut frame, &route.iface, &meta, 16, false);
        self.stats().tcp_out_segs.inc();
        self.send_ip(&route.iface, route.next, route.mtu, &meta, frame);
    }

    /// An endpoint's timer has run out.
    pub(crate) fn tcp_timer(&self, id: EndpointId, _now: Instant) {
        let endpoint = self.demux.tcp_ids.lock().get(&id).and_then(Weak::upgrade);
        let Some(endpoint) = endpoint else { return };
        endpoint.run(self, |state, cx| {
            state.armed = None;
            match &mut state.role {
                Role::Idle => {}
                Role::Listen(l) => l.on_timer(cx, &state.options),
                Role::Conn(c) => c.on_timer(cx),
            }
        });
    }

    /// Records in TIME-WAIT that are old enough.
    pub(crate) fn time_wait_timer(&self, now: Instant) {
        let deadline = {
            let mut table = self.demux.time_wait.lock();
            table.expire(now);
            table.deadline()
        };
        self.set_timer(TimerKey::TimeWait, deadline);
    }

    pub(crate) fn tcp_icmp_error(&self, quoted: &Quoted<'_>, error: &IcmpError) {
        let ports = icmp::quoted_ports(quoted.transport);
        let seq = crate::wire::be32(quoted.transport, 4);
        let (Some((local, remote)), Some(seq)) = (ports, seq) else { return };
        let tuple = FourTuple::new((quoted.src, local), (quoted.dst, remote));
        if let Some(e) = self.demux.tcp.get(&tuple) {
            e.run(self, |state, cx| {
                if let Some(conn) = state.conn() {
                    conn.icmp_error(cx, Seq(seq), error);
                }
            });
        }
    }

    /// All TCP connections and listeners, for listings: id, ends, state.
    pub fn tcp_connections(
        &self,
    ) -> Vec<(Option<EndpointId>, SocketAddr, SocketAddr, TcpStateName)> {
        let mut out = Vec::new();
        for e in self.demux.tcp.all() {
            let mut state = e.state.lock();
            if let Some(c) = state.conn() {
                out.push((Some(e.id), c.tuple.local, c.tuple.remote, socket::name(c.state)));
            }
        }
        for e in self.demux.listeners.all() {
            let state = e.state.lock();
            let any = match e.family {
                Family::V4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
                Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            };
            let local = SocketAddr::new(state.addr.unwrap_or(any), state.port);
            out.push((Some(e.id), local, SocketAddr::new(any, 0), TcpStateName::Listen));
        }
        for tuple in self.demux.time_wait.lock().all() {
            out.push((None, tuple.local, tuple.remote, TcpStateName::TimeWait));
        }
        out
    }

    /// Connections in TIME-WAIT.
    pub fn time_wait_count(&self) -> usize {
        self.demux.time_wait.lock().len()
    }
}

/// A header without options.
fn bare(tuple: &FourTuple, seq: Seq, ack: Seq, flags: Flags, window: u16) -> Header {
    Header {
        src_port: tuple.local.port(),
        dst_port: tuple.remote.port(),
        seq,
        ack,
        flags,
        window,
        urgent: 0,
        options: Options::default(),
    }
}
