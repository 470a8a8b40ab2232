//! Address translation (`nf_nat`): a connection gets other ends, decided with its first packet.

use super::conntrack::{
    Conntrack, DST_NAT, DST_NAT_DONE, Entry, Relation, SRC_NAT, SRC_NAT_DONE, Tracked, Tuple,
};
use super::packet::Packet;
use super::{Hook, Surroundings};
use crate::wire::protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Ports that are tried before a connection is given up.
const ATTEMPTS: u32 = 128;

/// Which end is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manip {
    /// The sender.
    Source,
    /// The receiver.
    Destination,
}

impl Manip {
    /// What is translated at a hook.
    pub fn at(hook: Hook) -> Manip {
        match hook {
            Hook::Prerouting | Hook::Output => Manip::Destination,
            _ => Manip::Source,
        }
    }

    pub(super) fn done(self) -> u32 {
        if self == Manip::Source { SRC_NAT_DONE } else { DST_NAT_DONE }
    }

    pub(super) fn flag(self) -> u32 {
        if self == Manip::Source { SRC_NAT } else { DST_NAT }
    }
}

/// What an end may be translated to (`struct nf_nat_range2`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Addresses, first and last.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Ports, first and last.
    pub ports: Option<(u16, u16)>,
    /// Ports are chosen at random (`--random`).
    pub random: bool,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(like: IpAddr, number: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

/// An address of a range, the same for the same peer.
fn pick((first, last): (IpAddr, IpAddr), own: IpAddr) -> IpAddr {
    let (low, high) = (number(first), number(last));
    if high <= low {
        return first;
    }
    let mut hash = number(own).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    hash ^= hash >> 64;
    match (high - low).checked_add(1) {
        Some(count) => address(first, low + hash % count),
        None => address(first, hash),
    }
}

fn end_of(tuple: &mut Tuple, manip: Manip) -> &mut SocketAddr {
    if manip == Manip::Source { &mut tuple.from } else { &mut tuple.to }
}

/// Decides how an end of a new connection is translated; without a range it stays what it is, unless another
/// connection has that already.
pub fn set_up(
    conntrack: &Conntrack,
    entry: &Arc<Entry>,
    manip: Manip,
    range: Option<Range>,
    around: &dyn Surroundings,
) {
    if entry.is_translated(manip) {
        return;
    }
    let now = 0;
    let current = entry.reply().reversed();
    let range = range.unwrap_or_default();
    let taken = |tuple: &Tuple| conntrack.is_taken(&tuple.reversed(), entry, now);
    let mut wanted = current;
    if let Some(addresses) = range.addresses {
        let own = current.from.ip();
        let end = end_of(&mut wanted, manip);
        if end.is_ipv4() == addresses.0.is_ipv4() {
            end.set_ip(pick(addresses, own));
        }
    }
    let echo = matches!(wanted.protocol, protocol::ICMP | protocol::ICMPV6);
    let has_ports = matches!(wanted.protocol, protocol::TCP | protocol::UDP)
        || (echo && manip == Manip::Source);
    if has_ports {
        wanted = with_port(wanted, manip, range, around, &taken);
    }
    let reply = (wanted != current).then(|| wanted.reversed());
    entry.translate(manip, reply);
}

fn with_port(
    tuple: Tuple,
    manip: Manip,
    range: Range,
    around: &dyn Surroundings,
    taken: &dyn Fn(&Tuple) -> bool,
) -> Tuple {
    let mut tuple = tuple;
    let port = end_of(&mut tuple, manip).port();
    let (low, high) = match range.ports {
        Some((low, high)) => {
            let inside = (low..=high).contains(&port);
            if !range.random && inside && (low == high || !taken(&tuple)) {
                return tuple;
            }
            (low, high.max(low))
        }
        None if manip == Manip::Destination => return tuple,
        None if !range.random && !taken(&tuple) => return tuple,
        // As Linux keeps privileged ports privileged.
        None if port < 512 => (1, 511),
        None if port < 1024 => (600, 1023),
        None => (1024, u16::MAX),
    };
    let count = u32::from(high - low) + 1;
    let start = if range.random || manip == Manip::Source && range.ports.is_none() {
        around.random() % count
    } else {
        0
    };
    for n in 0..count.min(ATTEMPTS) {
        let port = u32::from(low) + (start + n) % count;
        end_of(&mut tuple, manip).set_port(port as u16);
        if !taken(&tuple) {
            break;
        }
    }
    tuple
}

/// Gives a packet of a translated connection the end that it has at a hook.
pub fn apply(tracked: &Tracked, manip: Manip, packet: &mut Packet) {
    let flag = match (manip, tracked.reply) {
        (manip, false) => manip.flag(),
        // What is done to the connection is undone to its answers.
        (Manip::Source, true) => DST_NAT,
        (Manip::Destination, true) => SRC_NAT,
    };
    if tracked.entry.status() & flag == 0 {
        return;
    }
    let reply = tracked.entry.reply();
    let wanted = if tracked.reply { tracked.entry.original.reversed() } else { reply.reversed() };
    if tracked.relation == Relation::Related {
        apply_to_error(manip, wanted, packet);
        return;
    }
    let source = manip == Manip::Source;
    let end = if source { wanted.from } else { wanted.to };
    packet.set_end(source, end);
}

/// An ICMP error about a translated packet: its own end, and that of the packet it quotes.
fn apply_to_error(manip: Manip, wanted: Tuple, packet: &mut Packet) {
    let inner_at = packet.transport_offset() + 8;
    let quoted = packet.bytes().get(inner_at..).unwrap_or_default().to_vec();
    let Some(mut inner) = Packet::parse(quoted, packet.now) else { return };
    // What the error quotes went the other way.
    let source = manip == Manip::Source;
    let inner_end = if source { wanted.from } else { wanted.to };
    inner.set_end(!source, inner_end);
    let bytes = inner.into_bytes();
    packet.write(inner_at, &bytes);
    packet.set_address(source, inner_end.ip());
}
