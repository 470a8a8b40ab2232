//! Matches of iptables: their data, and what they test (`iptables-extensions(8)`, `linux/netfilter/xt_*.h`).

use super::blob::{Bytes, Extension, Place};
use crate::errno::{Errno, Result};
use netstack::filter::limit::Limit;
use netstack::filter::matches::{Connection, Masked, Match, Side, Within};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// All hooks.
const ANY: u32 = 0b11111;
/// Where packets have an owner.
const OUT: u32 = 0b11000;

/// Name, revisions and length of data of each.
const KNOWN: &[(&str, &[(u8, usize)])] = &[
    ("addrtype", &[(0, 12), (1, 8)]),
    ("comment", &[(0, 256)]),
    ("connmark", &[(1, 12)]),
    ("conntrack", &[(1, 152), (2, 156), (3, 164)]),
    ("icmp", &[(0, 4)]),
    ("icmp6", &[(0, 4)]),
    ("iprange", &[(1, 68)]),
    ("length", &[(0, 6)]),
    ("limit", &[(0, 40)]),
    ("mark", &[(1, 12)]),
    ("multiport", &[(1, 48)]),
    ("owner", &[(1, 20)]),
    ("pkttype", &[(0, 8)]),
    ("state", &[(0, 4)]),
    ("tcp", &[(0, 12)]),
    ("udp", &[(0, 10)]),
];

fn known(v6: bool, name: &str) -> &'static [(u8, usize)] {
    let other = if v6 { "icmp" } else { "icmp6" };
    if name == other {
        return &[];
    }
    KNOWN.iter().find(|(n, _)| *n == name).map_or(&[], |(_, revisions)| revisions)
}

/// The revisions that there are of a match.
pub fn revisions(v6: bool, name: &str) -> Vec<u8> {
    known(v6, name).iter().map(|(revision, _)| *revision).collect()
}

/// The names of all.
pub fn names(v6: bool) -> Vec<&'static str> {
    let all = KNOWN.iter().map(|(name, _)| *name);
    all.filter(|name| !revisions(v6, name).is_empty()).collect()
}

fn within<T>(low: T, high: T, inverted: bool) -> Within<T> {
    Within { range: (low, high), inverted }
}

/// An address of `union nf_inet_addr`.
pub fn address(data: Bytes<'_>, at: usize, v6: bool) -> Option<IpAddr> {
    let rest = data.0.get(at..)?;
    Some(if v6 {
        Ipv6Addr::from(*rest.first_chunk::<16>()?).into()
    } else {
        Ipv4Addr::from(*rest.first_chunk::<4>()?).into()
    })
}

/// What a match tests, if it tests anything, and at which hooks it may be. `ENOENT`, `EINVAL`.
pub fn parse(place: &Place<'_>, extension: &Extension<'_>) -> Result<(Option<Match>, u32)> {
    let revisions = known(place.v6, &extension.name);
    if revisions.is_empty() {
        return Err(Errno::ENOENT);
    }
    let found = revisions.iter().find(|(revision, _)| *revision == extension.revision);
    let (_, len) = found.ok_or(Errno::EPROTONOSUPPORT)?;
    if extension.data.0.len() != len.next_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let wanted = match extension.name.as_str() {
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmp" => Some(1),
        "icmp6" => Some(58),
        _ => None,
    };
    if wanted.is_some() && wanted != place.protocol {
        return Err(Errno::EINVAL);
    }
    if extension.name == "multiport" && !matches!(place.protocol, Some(6 | 17 | 33 | 132 | 136)) {
        return Err(Errno::EINVAL);
    }
    if extension.name == "comment" {
        return Ok((None, ANY));
    }
    let hooks = if extension.name == "owner" { OUT } else { ANY };
    let test = test(place, extension).ok_or(Errno::EINVAL)?;
    Ok((Some(test), hooks))
}

fn test(place: &Place<'_>, extension: &Extension<'_>) -> Option<Match> {
    let data = extension.data;
    let (b, h, w) = (|at| data.u8(at), |at| data.u16(at), |at| data.u32(at));
    Some(match extension.name.as_str() {
        "tcp" => {
            let inverted = b(11)?;
            let option = b(8)?;
            Match::Tcp(
                within(h(0)?, h(2)?, inverted & 1 != 0),
                within(h(4)?, h(6)?, inverted & 2 != 0),
                (option != 0).then_some((option, inverted & 8 != 0)),
                (b(9)?, b(10)?, inverted & 4 != 0),
            )
        }
        "udp" => {
            let inverted = b(8)?;
            let (from, to) = ((h(0)?, h(2)?), (h(4)?, h(6)?));
            Match::Udp(
                within(from.0, from.1, inverted & 1 != 0),
                within(to.0, to.1, inverted & 2 != 0),
            )
        }
        "icmp" | "icmp6" => Match::Icmp(b(0)?, (b(1)?, b(2)?), b(3)? & 1 != 0),
        "multiport" => multiport(data)?,
        "state" => {
            let state = Some((w(0)?, false));
            Match::Connection(Box::new(Connection { state, ..Connection::default() }))
        }
        "conntrack" => Match::Connection(Box::new(conntrack(data, extension.revision, place.v6)?)),
        "mark" => Match::Mark(w(0)?, w(4)?, b(8)? != 0),
        "connmark" => Match::Connmark(w(0)?, w(4)?, b(8)? != 0),
        "owner" => {
            let (asked, inverted) = (b(16)?, b(17)?);
            let range = |at: usize, bit: u8| -> Option<Within<u32>> {
                let own = |at| (place.id)(w(at)?, bit == 2);
                Some(within(own(at)?, own(at + 4)?, inverted & bit != 0))
            };
            let users = if asked & 1 != 0 { Some(range(0, 1)?) } else { None };
            let groups = if asked & 2 != 0 { Some(range(8, 2)?) } else { None };
            Match::Owner(users, groups, (asked & 4 != 0).then_some(inverted & 4 == 0))
        }
        "limit" => {
            // In units of 100 µs for each packet.
            let (average, burst) = (u64::from(w(0)?), u64::from(w(4)?));
            if burst == 0 {
                return None;
            }
            Match::Limit(Arc::new(Limit::new(1, average.saturating_mul(100_000), burst)))
        }
        "iprange" => {
            let flags = b(64)?;
            let ip = |at| address(data, at, place.v6);
            let source = within(ip(0)?, ip(16)?, flags & 16 != 0);
            let destination = within(ip(32)?, ip(48)?, flags & 32 != 0);
            Match::Range(
                (flags & 1 != 0).then_some(source),
                (flags & 2 != 0).then_some(destination),
            )
        }
        "addrtype" => {
            let (source, destination) = (h(0)?, h(2)?);
            let inverted = match extension.revision {
                0 => [w(4)? != 0, w(8)? != 0],
                _ if w(4)? & !3 != 0 => return None,
                _ => [w(4)? & 1 != 0, w(4)? & 2 != 0],
            };
            let [not_source, not_destination] = inverted;
            Match::AddressType([
                (source != 0).then_some((source, not_source)),
                (destination != 0).then_some((destination, not_destination)),
            ])
        }
        "length" => Match::Length(within(h(0)?, h(2)?, b(4)? != 0)),
        // PACKET_HOST
        "pkttype" => Match::ForUs((w(0)? == 0) != (w(4)? != 0)),
        _ => return None,
    })
}

/// `struct xt_multiport_v1`
fn multiport(data: Bytes<'_>) -> Option<Match> {
    let side = match data.u8(0)? {
        0 => Side::Source,
        1 => Side::Destination,
        2 => Side::Either,
        _ => return None,
    };
    let count = usize::from(data.u8(1)?);
    if count > 15 {
        return None;
    }
    let mut ranges = Vec::new();
    let mut n = 0;
    while n < count {
        let port = |n: usize| data.u16(2 + 2 * n);
        let first = port(n)?;
        let is_range = data.u8(32 + n)? != 0;
        n += 1;
        if is_range && n < count {
            ranges.push((first, port(n)?));
            n += 1;
        } else {
            ranges.push((first, first));
        }
    }
    Some(Match::Multiport(side, ranges, data.u8(47)? != 0))
}

/// `struct xt_conntrack_mtinfo1` to `3`
fn conntrack(data: Bytes<'_>, revision: u8, v6: bool) -> Option<Connection> {
    let (asked, inverted) = (data.u16(146)?, data.u16(148)?);
    let ask = |bit: u16| (asked & bit != 0).then_some(inverted & bit != 0);
    let (state, status) = match revision {
        1 => (data.u8(150)?.into(), data.u8(151)?.into()),
        _ => (u32::from(data.u16(150)?), u32::from(data.u16(152)?)),
    };
    let len = if v6 { 16 } else { 4 };
    let masked = |n: usize, bit: u16| {
        let field = |at: usize| data.0.get(at..at + len).map(<[u8]>::to_vec);
        let inverted = ask(bit)?;
        Some(Masked { address: field(n * 32)?, mask: field(n * 32 + 16)?, inverted })
    };
    let port = |n: usize, bit: u16| {
        let inverted = ask(bit)?;
        let at = 138 + 2 * n;
        let (low, high) = match revision {
            3 => (data.u16(at)?, data.u16(154 + 2 * n)?),
            _ => (data.be16(at)?, data.be16(at)?),
        };
        Some(within(low, high, inverted))
    };
    Some(Connection {
        state: ask(1).map(|inverted| (state, inverted)),
        protocol: match ask(2) {
            Some(inverted) => Some((u8::try_from(data.u16(136)?).ok()?, inverted)),
            None => None,
        },
        addresses: [masked(0, 4), masked(1, 8), masked(2, 16), masked(3, 32)],
        status: ask(64).map(|inverted| (status, inverted)),
        expires: match ask(128) {
            Some(inverted) => Some(within(data.u32(128)?, data.u32(132)?, inverted)),
            None => None,
        },
        ports: [port(0, 256), port(1, 512), port(2, 1024), port(3, 2048)],
        reply: ask(4096),
    })
}
