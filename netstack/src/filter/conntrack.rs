//! Connection tracking: which connection a packet belongs to, and what state that is in
//! (`nf_conntrack`, <https://docs.kernel.org/networking/nf_conntrack-sysctl.html>).
//!
//! An entry is found by the tuple of either direction. It is entered into the table when its first packet has
//! passed all rules, and leaves it when nothing has come for its time-out.

use super::nat::Manip;
use super::packet::Packet;
use crate::wire::protocol;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// `nf_conntrack_max` at first.
pub const DEFAULT_MAX: u32 = 65_536;
/// Entries that are looked at for one that may go when the table is full.
const EVICTION: usize = 64;
const SECOND: u64 = 1_000_000_000;

/// `IPS_EXPECTED`
pub const EXPECTED: u32 = 1;
/// `IPS_SEEN_REPLY`
pub const SEEN_REPLY: u32 = 2;
/// `IPS_ASSURED`
pub const ASSURED: u32 = 4;
/// `IPS_CONFIRMED`
pub const CONFIRMED: u32 = 8;
/// `IPS_SRC_NAT`
pub const SRC_NAT: u32 = 16;
/// `IPS_DST_NAT`
pub const DST_NAT: u32 = 32;
/// `IPS_SRC_NAT_DONE`
pub const SRC_NAT_DONE: u32 = 128;
/// `IPS_DST_NAT_DONE`
pub const DST_NAT_DONE: u32 = 256;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Sender; the port of echo messages is their identifier.
    pub from: SocketAddr,
    /// Receiver; the port of ICMP is type and code.
    pub to: SocketAddr,
    /// Protocol.
    pub protocol: u8,
}

/// Types of ICMP and ICMPv6 that are questions, and their answers.
const QUESTIONS: [(u8, u8, u8); 5] =
    [(1, 8, 0), (1, 13, 14), (1, 15, 16), (1, 17, 18), (58, 128, 129)];

impl Tuple {
    /// A packet's own.
    pub fn of(packet: &Packet) -> Tuple {
        let (from, mut to) = packet.ends();
        if let Some((kind, code)) = packet.icmp() {
            to.set_port(u16::from_be_bytes([kind, code]));
        }
        Tuple { from, to, protocol: packet.protocol() }
    }

    /// The other direction.
    pub fn reversed(self) -> Tuple {
        let Tuple { mut from, mut to, protocol } = self;
        std::mem::swap(&mut from, &mut to);
        if matches!(protocol, protocol::ICMP | protocol::ICMPV6) {
            let [kind, code] = from.port().to_be_bytes();
            let id = to.port();
            let other = QUESTIONS.iter().find_map(|&(p, question, answer)| match kind {
                _ if p != protocol => None,
                _ if kind == question => Some(answer),
                _ if kind == answer => Some(question),
                _ => None,
            });
            from.set_port(id);
            to.set_port(u16::from_be_bytes([other.unwrap_or(kind), code]));
        }
        Tuple { from, to, protocol }
    }
}

/// What a packet is to its connection (`enum ip_conntrack_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The first one.
    New,
    /// One of a connection that has seen packets in both directions.
    Established,
    /// It belongs to a connection without being part of it (ICMP errors).
    Related,
}

/// A packet's connection.
#[derive(Clone)]
pub struct Tracked {
    /// The connection.
    pub entry: Arc<Entry>,
    /// It goes in the direction of the answers.
    pub reply: bool,
    /// What it is to the connection.
    pub relation: Relation,
}

impl Tracked {
    /// The packet that made the entry, or another before any answer.
    pub fn is_first(&self) -> bool {
        self.relation == Relation::New
    }
}

/// States of TCP connections, as the table is read by people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TcpState {
    /// No segment yet.
    #[default]
    None,
    /// A SYN has been seen.
    SynSent,
    /// And its answer.
    SynRecv,
    /// Connected.
    Established,
    /// One side has finished.
    FinWait,
    /// That was acknowledged.
    CloseWait,
    /// The other side has finished, too.
    LastAck,
    /// All is over.
    TimeWait,
    /// It was reset.
    Close,
}

impl TcpState {
    /// As `/proc/net/nf_conntrack` names it.
    pub fn name(self) -> &'static str {
        match self {
            TcpState::None => "NONE",
            TcpState::SynSent => "SYN_SENT",
            TcpState::SynRecv => "SYN_RECV",
            TcpState::Established => "ESTABLISHED",
            TcpState::FinWait => "FIN_WAIT",
            TcpState::CloseWait => "CLOSE_WAIT",
            TcpState::LastAck => "LAST_ACK",
            TcpState::TimeWait => "TIME_WAIT",
            TcpState::Close => "CLOSE",
        }
    }

    fn timeout(self) -> u64 {
        match self {
            TcpState::None | TcpState::SynSent | TcpState::FinWait | TcpState::TimeWait => 120,
            TcpState::SynRecv | TcpState::CloseWait => 60,
            TcpState::Established => 432_000,
            TcpState::LastAck => 30,
            TcpState::Close => 10,
        }
    }

    /// The state after a segment; `None` if the segment is out of place.
    fn after(self, flags: u8, reply: bool) -> Option<TcpState> {
        let (fin, syn, rst, ack) =
            (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0, flags & 16 != 0);
        Some(match self {
            TcpState::None if syn && !ack && !reply => TcpState::SynSent,
            // Picked up in the middle (nf_conntrack_tcp_loose).
            TcpState::None if ack && !syn && !fin && !rst => TcpState::Established,
            TcpState::None => return None,
            _ if rst => TcpState::Close,
            TcpState::TimeWait | TcpState::Close if syn && !ack && !reply => TcpState::SynSent,
            TcpState::SynSent if syn && ack && reply => TcpState::SynRecv,
            TcpState::SynRecv if ack && !syn && !reply => {
                if fin {
                    TcpState::FinWait
                } else {
                    TcpState::Established
                }
            }
            TcpState::Established | TcpState::SynRecv if fin => TcpState::FinWait,
            TcpState::FinWait | TcpState::CloseWait if fin => TcpState::LastAck,
            TcpState::FinWait if ack && !syn => TcpState::CloseWait,
            TcpState::LastAck if ack && !syn => TcpState::TimeWait,
            same => same,
        })
    }
}

#[derive(Debug, Clone)]
struct State {
    reply: Tuple,
    tcp: TcpState,
    deadline: u64,
    status: u32,
    mark: u32,
}

/// A connection.
pub struct Entry {
    /// The tuple of the packet that began it.
    pub original: Tuple,
    /// A number of its own.
    pub id: u32,
    state: Mutex<State>,
}

impl Entry {
    /// The tuple of its answers.
    pub fn reply(&self) -> Tuple {
        self.state.lock().reply
    }

    /// `IPS_*`
    pub fn status(&self) -> u32 {
        self.state.lock().status
    }

    /// `ct mark`
    pub fn mark(&self) -> u32 {
        self.state.lock().mark
    }

    /// Sets `ct mark`.
    pub fn set_mark(&self, mark: u32) {
        self.state.lock().mark = mark;
    }

    /// Nanoseconds that it has left.
    pub fn remaining(&self, now: u64) -> u64 {
        self.state.lock().deadline.saturating_sub(now)
    }

    /// The state of a TCP connection.
    pub fn tcp(&self) -> TcpState {
        self.state.lock().tcp
    }

    /// True once it was decided how this end is translated.
    pub fn is_translated(&self, manip: Manip) -> bool {
        self.status() & manip.done() != 0
    }

    /// Notes how an end is translated: `reply` when it is.
    pub(super) fn translate(&self, manip: Manip, reply: Option<Tuple>) {
        let mut state = self.state.lock();
        state.status |= manip.done();
        if let Some(reply) = reply {
            state.reply = reply;
            state.status |= manip.flag();
        }
    }

    fn refresh(&self, packet: &Packet, reply: bool) -> bool {
        let mut state = self.state.lock();
        if reply {
            state.status |= SEEN_REPLY;
        }
        let seen = state.status & SEEN_REPLY != 0;
        let seconds = match self.original.protocol {
            protocol::TCP => {
                let Some(flags) = packet.tcp_flags() else { return false };
                let Some(next) = state.tcp.after(flags, reply) else { return false };
                if next == TcpState::Established && seen {
                    state.status |= ASSURED;
                }
                state.tcp = next;
                if next == TcpState::Established && !seen { 300 } else { next.timeout() }
            }
            protocol::UDP if seen && !reply => {
                state.status |= ASSURED;
                120
            }
            protocol::UDP if state.status & ASSURED != 0 => 120,
            protocol::UDP | protocol::ICMP | protocol::ICMPV6 => 30,
            _ => 600,
        };
        state.deadline = packet.now.saturating_add(seconds * SECOND);
        true
    }
}

/// The table.
pub struct Conntrack {
    table: Mutex<HashMap<Tuple, (Arc<Entry>, bool)>>,
    max: AtomicU32,
    ids: AtomicU32,
}

impl Default for Conntrack {
    fn default() -> Self {
        let (max, ids) = (AtomicU32::new(DEFAULT_MAX), AtomicU32::new(1));
        Conntrack { table: Mutex::default(), max, ids }
    }
}

impl Conntrack {
    /// `nf_conntrack_max`
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// Sets `nf_conntrack_max`.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// `nf_conntrack_count`
    pub fn count(&self) -> usize {
        self.table.lock().len() / 2
    }

    /// All connections that live at `now`, the oldest first.
    pub fn all(&self, now: u64) -> Vec<Arc<Entry>> {
        self.expire(now);
        let table = self.table.lock();
        let mut out: Vec<_> =
            table.values().filter(|(_, reply)| !reply).map(|(entry, _)| entry.clone()).collect();
        drop(table);
        out.sort_by_key(|entry| entry.id);
        out
    }

    /// Forgets a connection.
    pub fn remove(&self, entry: &Arc<Entry>) {
        let mut table = self.table.lock();
        for tuple in [entry.original, entry.reply()] {
            if table.get(&tuple).is_some_and(|(found, _)| Arc::ptr_eq(found, entry)) {
                table.remove(&tuple);
            }
        }
    }

    fn expire(&self, now: u64) {
        self.table.lock().retain(|_, (entry, _)| entry.remaining(now) > 0);
    }

    /// The connection with a tuple, and whether the tuple is that of its answers.
    pub fn find(&self, tuple: &Tuple, now: u64) -> Option<(Arc<Entry>, bool)> {
        let found = self.table.lock().get(tuple).cloned()?;
        if found.0.remaining(now) > 0 {
            return Some(found);
        }
        self.remove(&found.0);
        None
    }

    /// The connection that a packet quoted in an ICMP error belongs to.
    fn related(&self, packet: &Packet) -> Option<Tracked> {
        let (kind, _) = packet.icmp()?;
        let is_error =
            if packet.is_v6() { kind < 128 } else { matches!(kind, 3 | 4 | 5 | 11 | 12) };
        if !is_error {
            return None;
        }
        let quoted = Packet::parse(packet.transport().get(8..)?.to_vec(), packet.now)?;
        let (entry, reply) = self.find(&Tuple::of(&quoted).reversed(), packet.now)?;
        Some(Tracked { entry, reply, relation: Relation::Related })
    }

    /// Finds or makes a packet's connection. False if the packet must be dropped: the table is full.
    pub fn enter(&self, packet: &mut Packet) -> bool {
        // Over the loopback interface a packet brings its connection along.
        if packet.connection.is_some() || packet.untracked || packet.is_later_fragment() {
            return true;
        }
        let tuple = Tuple::of(packet);
        if let Some(tracked) = self.related(packet) {
            packet.connection = Some(tracked);
            return true;
        }
        if let Some((entry, reply)) = self.find(&tuple, packet.now) {
            let again = entry.tcp() == TcpState::TimeWait || entry.tcp() == TcpState::Close;
            let syn = packet.tcp_flags().is_some_and(|f| f & 0x12 == 2);
            if again && syn && !reply {
                self.remove(&entry);
            } else {
                if entry.refresh(packet, reply) {
                    let seen = entry.status() & SEEN_REPLY != 0;
                    let relation = if seen { Relation::Established } else { Relation::New };
                    packet.connection = Some(Tracked { entry, reply, relation });
                }
                return true;
            }
        }
        if packet.icmp().is_some_and(|(kind, _)| {
            !QUESTIONS.iter().any(|q| (q.0, q.1) == (packet.protocol(), kind))
        }) {
            return true;
        }
        let state = State {
            reply: tuple.reversed(),
            tcp: TcpState::None,
            deadline: u64::MAX,
            status: 0,
            mark: 0,
        };
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry { original: tuple, id, state: Mutex::new(state) });
        if !entry.refresh(packet, false) {
            return true;
        }
        packet.connection = Some(Tracked { entry, reply: false, relation: Relation::New });
        true
    }

    /// Enters a packet's connection into the table, if it is not there. False if that cannot be done.
    pub fn confirm(&self, packet: &Packet) -> bool {
        let Some(tracked) = &packet.connection else { return true };
        let entry = &tracked.entry;
        if entry.status() & CONFIRMED != 0 {
            return true;
        }
        let mut table = self.table.lock();
        if table.len() / 2 >= self.max() as usize {
            let may_go =
                |entry: &Entry| entry.remaining(packet.now) == 0 || entry.status() & ASSURED == 0;
            let victim = table.values().take(EVICTION).find(|(entry, _)| may_go(entry)).cloned();
            let Some((victim, _)) = victim else { return false };
            table.remove(&victim.original);
            table.remove(&victim.reply());
        }
        let reply = entry.reply();
        let taken = |tuple: &Tuple| {
            table.get(tuple).is_some_and(|(found, _)| found.remaining(packet.now) > 0)
        };
        if taken(&entry.original) || taken(&reply) {
            return false;
        }
        entry.state.lock().status |= CONFIRMED;
        table.insert(entry.original, (entry.clone(), false));
        table.insert(reply, (entry.clone(), true));
        true
    }

    /// The endpoints of a connection are gone: nothing more will come that says so.
    pub fn closed(&self, tuple: &Tuple, reset: bool, now: u64) {
        if let Some((entry, _)) = self.find(tuple, now) {
            let mut state = entry.state.lock();
            state.tcp = if reset { TcpState::Close } else { TcpState::TimeWait };
            state.deadline = now.saturating_add(state.tcp.timeout() * SECOND);
        }
    }

    /// True if `tuple`, or the connection it answers, is somebody else's.
    pub(super) fn is_taken(&self, tuple: &Tuple, by_other_than: &Arc<Entry>, now: u64) -> bool {
        self.find(tuple, now).is_some_and(|(entry, _)| !Arc::ptr_eq(&entry, by_other_than))
    }
}

fn ends(out: &mut String, tuple: &Tuple) {
    let full = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let words: Vec<_> = ip.segments().iter().map(|w| format!("{w:04x}")).collect();
            words.join(":")
        }
    };
    let _ = write!(out, "src={} dst={} ", full(tuple.from.ip()), full(tuple.to.ip()));
    let _ = match tuple.protocol {
        protocol::ICMP | protocol::ICMPV6 => {
            let [kind, code] = tuple.to.port().to_be_bytes();
            write!(out, "type={kind} code={code} id={} ", tuple.from.port())
        }
        protocol::TCP | protocol::UDP => {
            write!(out, "sport={} dport={} ", tuple.from.port(), tuple.to.port())
        }
        _ => Ok(()),
    };
}

/// A line of `/proc/net/nf_conntrack`.
pub fn line(entry: &Entry, now: u64) -> String {
    let state = entry.state.lock().clone();
    let tuple = &entry.original;
    let (layer3, number3) = if tuple.from.is_ipv4() { ("ipv4", 2) } else { ("ipv6", 10) };
    let layer4 = match tuple.protocol {
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::ICMP => "icmp",
        protocol::ICMPV6 => "icmpv6",
        _ => "unknown",
    };
    let left = state.deadline.saturating_sub(now) / SECOND;
    let mut out = format!("{layer3:<8} {number3} {layer4:<8} {} {left} ", tuple.protocol);
    if tuple.protocol == protocol::TCP {
        let _ = write!(out, "{} ", state.tcp.name());
    }
    ends(&mut out, tuple);
    if state.status & SEEN_REPLY == 0 {
        out.push_str("[UNREPLIED] ");
    }
    ends(&mut out, &state.reply);
    if state.status & ASSURED != 0 {
        out.push_str("[ASSURED] ");
    }
    let _ = write!(out, "mark={} zone=0 use=2", state.mark);
    out
}
