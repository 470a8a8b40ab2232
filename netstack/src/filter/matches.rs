//! Tests of whole packets, as iptables' extensions make them (`iptables-extensions(8)`).

use super::conntrack::{DST_NAT, Relation, SRC_NAT};
use super::limit::Limit;
use super::packet::{Device, Packet};
use super::{AddressType, Surroundings};
use crate::wire::protocol;
use std::net::IpAddr;
use std::sync::Arc;

/// `XT_CONNTRACK_STATE` bits.
pub mod state {
    /// No connection, and none wanted it.
    pub const INVALID: u32 = 1;
    /// Part of a connection that has seen answers.
    pub const ESTABLISHED: u32 = 2;
    /// Belongs to a connection.
    pub const RELATED: u32 = 4;
    /// Begins a connection.
    pub const NEW: u32 = 8;
    /// Nothing is tracked.
    pub const UNTRACKED: u32 = 64;
    /// Its sender was translated.
    pub const SNAT: u32 = 128;
    /// Its receiver was translated.
    pub const DNAT: u32 = 256;
}

/// The state bits of a packet.
pub fn state_of(packet: &Packet) -> u32 {
    match &packet.connection {
        _ if packet.untracked => state::UNTRACKED,
        None => state::INVALID,
        Some(tracked) => match tracked.relation {
            Relation::New => state::NEW,
            Relation::Established => state::ESTABLISHED,
            Relation::Related => state::RELATED,
        },
    }
}

/// A range, and whether it is what is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within<T> {
    /// First and last.
    pub range: (T, T),
    /// Everything else is wanted.
    pub inverted: bool,
}

impl<T: PartialOrd> Within<T> {
    /// True if the value is wanted.
    pub fn holds(&self, value: T) -> bool {
        (self.range.0 <= value && value <= self.range.1) != self.inverted
    }
}

/// An address under a mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// The address, as many bytes as the family has.
    pub address: Vec<u8>,
    /// The bits that count.
    pub mask: Vec<u8>,
    /// Everything else is wanted.
    pub inverted: bool,
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

impl Masked {
    /// True if the address is wanted.
    pub fn holds(&self, ip: IpAddr) -> bool {
        let own = octets(ip);
        let mut bytes = self.address.iter().zip(&self.mask).zip(&own);
        let same = own.len() == self.address.len() && bytes.all(|((a, m), o)| a & m == o & m);
        same != self.inverted
    }
}

/// A device's name under a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceName {
    /// The name.
    pub name: [u8; 16],
    /// The bytes that count.
    pub mask: [u8; 16],
    /// Everything else is wanted.
    pub inverted: bool,
}

impl DeviceName {
    fn holds(&self, device: Option<&Device>) -> bool {
        let own = device.map_or([0; 16], |d| d.name);
        let mut bytes = self.name.iter().zip(&self.mask).zip(&own);
        bytes.all(|((a, m), o)| a & m == o & m) != self.inverted
    }
}

/// The part of every rule of iptables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `-s`
    pub source: Masked,
    /// `-d`
    pub destination: Masked,
    /// `-i`
    pub input: DeviceName,
    /// `-o`
    pub output: DeviceName,
    /// `-p`, and whether another is wanted.
    pub protocol: Option<(u8, bool)>,
    /// `-f`, and whether another is wanted.
    pub fragment: Option<bool>,
}

impl Header {
    fn holds(&self, packet: &Packet) -> bool {
        self.source.holds(packet.source())
            && self.destination.holds(packet.destination())
            && self.input.holds(packet.input.as_ref())
            && self.output.holds(packet.output.as_ref())
            && self.protocol.is_none_or(|(p, inverted)| (p == packet.protocol()) != inverted)
            && self.fragment.is_none_or(|inverted| packet.is_later_fragment() != inverted)
    }
}

/// Which ends `multiport` and others look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The sender's.
    Source,
    /// The receiver's.
    Destination,
    /// Either.
    Either,
}

/// What `conntrack` asks of a connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// State bits, and whether others are wanted.
    pub state: Option<(u32, bool)>,
    /// Status bits (`IPS_*`), and whether others are wanted.
    pub status: Option<(u32, bool)>,
    /// The protocol.
    pub protocol: Option<(u8, bool)>,
    /// Source and destination of the first packet, and of the answers.
    pub addresses: [Option<Masked>; 4],
    /// Their ports.
    pub ports: [Option<Within<u16>>; 4],
    /// The direction: `true` for answers.
    pub reply: Option<bool>,
    /// Seconds left.
    pub expires: Option<Within<u32>>,
}

impl Connection {
    fn holds(&self, packet: &Packet) -> bool {
        let mut bits = state_of(packet);
        let status = packet.connection.as_ref().map_or(0, |c| c.entry.status());
        if status & SRC_NAT != 0 {
            bits |= state::SNAT;
        }
        if status & DST_NAT != 0 {
            bits |= state::DNAT;
        }
        if self.state.is_some_and(|(wanted, inverted)| (bits & wanted != 0) == inverted) {
            return false;
        }
        let Some(tracked) = &packet.connection else {
            let asks = self.status.is_some() || self.protocol.is_some() || self.reply.is_some();
            return !asks && self.addresses.iter().all(Option::is_none);
        };
        let (original, reply) = (tracked.entry.original, tracked.entry.reply());
        let ends = [original.from, original.to, reply.from, reply.to];
        let mut addresses = self.addresses.iter().zip(&ends);
        let mut ports = self.ports.iter().zip(&ends);
        self.reply.is_none_or(|wanted| wanted == tracked.reply)
            && self.status.is_none_or(|(wanted, inverted)| (status & wanted != 0) != inverted)
            && self.protocol.is_none_or(|(p, inverted)| (p == original.protocol) != inverted)
            && addresses.all(|(m, end)| m.as_ref().is_none_or(|m| m.holds(end.ip())))
            && ports.all(|(w, end)| w.is_none_or(|w| w.holds(end.port())))
            && self.expires.is_none_or(|w| {
                let left = tracked.entry.remaining(packet.now) / 1_000_000_000;
                w.holds(u32::try_from(left).unwrap_or(u32::MAX))
            })
    }
}

/// A test.
#[derive(Clone, Debug)]
pub enum Match {
    /// What every rule asks.
    Header(Box<Header>),
    /// `tcp`: ports, an option's number, and flags: mask, wanted, inverted.
    Tcp(Within<u16>, Within<u16>, Option<(u8, bool)>, (u8, u8, bool)),
    /// `udp`: ports.
    Udp(Within<u16>, Within<u16>),
    /// `icmp` and `icmp6`: type and codes. 255 is any type of ICMP.
    Icmp(u8, (u8, u8), bool),
    /// `multiport`
    Multiport(Side, Vec<(u16, u16)>, bool),
    /// `conntrack` and `state`
    Connection(Box<Connection>),
    /// `mark`: mark and mask.
    Mark(u32, u32, bool),
    /// `connmark`: mark and mask.
    Connmark(u32, u32, bool),
    /// `owner`: users, groups, and whether there is a socket at all.
    Owner(Option<Within<u32>>, Option<Within<u32>>, Option<bool>),
    /// `limit`
    Limit(Arc<Limit>),
    /// `iprange`: of source and destination.
    Range(Option<Within<IpAddr>>, Option<Within<IpAddr>>),
    /// `addrtype`: bits of the types of source and destination, and whether others are wanted.
    AddressType([Option<(u16, bool)>; 2]),
    /// `length`
    Length(Within<u16>),
    /// `pkttype`: all packets here are for this machine.
    ForUs(bool),
}

fn has_tcp_option(packet: &Packet, wanted: u8) -> bool {
    let header = packet.transport();
    let end = header.get(12).map_or(20, |b| usize::from(b >> 4) * 4);
    let mut options = header.get(20..end).unwrap_or_default();
    while let [kind, rest @ ..] = options {
        if *kind == wanted {
            return true;
        }
        let skip = match (kind, rest.first()) {
            (0, _) | (_, None) => return false,
            (1, _) => 1,
            (_, Some(len)) => usize::from(*len).max(2),
        };
        options = options.get(skip..).unwrap_or_default();
    }
    false
}

impl Match {
    /// True if it looks at connections.
    pub fn tracks(&self) -> bool {
        matches!(self, Match::Connection(_) | Match::Connmark(..))
    }

    /// True if the packet is wanted.
    pub fn holds(&self, packet: &Packet, around: &dyn Surroundings) -> bool {
        let ports = || packet.ports();
        match self {
            Match::Header(header) => header.holds(packet),
            Match::Tcp(from, to, option, (mask, wanted, inverted)) => {
                let Some((source, destination)) = ports() else { return false };
                let Some(flags) = packet.tcp_flags() else { return false };
                from.holds(source)
                    && to.holds(destination)
                    && (flags & mask == *wanted) != *inverted
                    && option.is_none_or(|(o, not)| has_tcp_option(packet, o) != not)
            }
            Match::Udp(from, to) => ports()
                .is_some_and(|(source, destination)| from.holds(source) && to.holds(destination)),
            Match::Icmp(wanted, (low, high), inverted) => {
                packet.icmp().is_some_and(|(kind, code)| {
                    let any = *wanted == 255 && !packet.is_v6();
                    (any || kind == *wanted && (low..=high).contains(&&code)) != *inverted
                })
            }
            Match::Multiport(side, ranges, inverted) => {
                let Some((source, destination)) = ports() else { return false };
                let has =
                    |port: u16| ranges.iter().any(|(low, high)| (low..=high).contains(&&port));
                let found = match side {
                    Side::Source => has(source),
                    Side::Destination => has(destination),
                    Side::Either => has(source) || has(destination),
                };
                found != *inverted
            }
            Match::Connection(wanted) => wanted.holds(packet),
            Match::Mark(mark, mask, inverted) => (packet.mark & mask == *mark) != *inverted,
            Match::Connmark(mark, mask, inverted) => packet
                .connection
                .as_ref()
                .is_some_and(|c| (c.entry.mark() & mask == *mark) != *inverted),
            Match::Owner(users, groups, socket) => match packet.owner {
                None => users.is_none() && groups.is_none() && socket.is_none_or(|wanted| !wanted),
                Some((user, group)) => {
                    users.is_none_or(|w| w.holds(user))
                        && groups.is_none_or(|w| w.holds(group))
                        && socket.is_none_or(|wanted| wanted)
                }
            },
            Match::Limit(limit) => limit.take(1, packet.now),
            Match::Range(source, destination) => {
                source.is_none_or(|w| w.holds(packet.source()))
                    && destination.is_none_or(|w| w.holds(packet.destination()))
            }
            Match::AddressType([source, destination]) => {
                let holds = |wanted: &Option<(u16, bool)>, ip: IpAddr| {
                    wanted.is_none_or(|(bits, inverted)| {
                        let kind: AddressType = around.address_type(ip);
                        (bits & 1 << kind as u16 != 0) != inverted
                    })
                };
                holds(source, packet.source()) && holds(destination, packet.destination())
            }
            Match::Length(wanted) => {
                let len = if packet.is_v6() { packet.len() - 40 } else { packet.len() };
                wanted.holds(u16::try_from(len).unwrap_or(u16::MAX))
            }
            Match::ForUs(wanted) => *wanted,
        }
    }
}

/// A name for the log: what a packet is, in the form of `LOG`.
pub fn log_line(packet: &Packet, prefix: &str) -> String {
    let name = |device: &Option<Device>| {
        let name = device.map(|d| d.name).unwrap_or_default();
        String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
    };
    let (input, output) = (name(&packet.input), name(&packet.output));
    let (from, to) = (packet.source(), packet.destination());
    let (len, ttl) = (packet.len(), packet.bytes().get(8).copied().unwrap_or(0));
    let mut out =
        format!("{prefix}IN={input} OUT={output} SRC={from} DST={to} LEN={len} TTL={ttl} ");
    let protocol = match packet.protocol() {
        protocol::TCP => "TCP".to_owned(),
        protocol::UDP => "UDP".to_owned(),
        protocol::ICMP => "ICMP".to_owned(),
        protocol::ICMPV6 => "ICMPv6".to_owned(),
        other => other.to_string(),
    };
    out.push_str(&format!("PROTO={protocol} "));
    if let Some((source, destination)) = packet.ports() {
        out.push_str(&format!("SPT={source} DPT={destination} "));
    }
    if let Some((kind, code)) = packet.icmp() {
        out.push_str(&format!("TYPE={kind} CODE={code} "));
    }
    out
}
