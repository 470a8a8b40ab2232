//! Targets of iptables: their data, and what they do (`iptables-extensions(8)`, `linux/netfilter/xt_*.h`).

use super::blob::{Bytes, Extension, Place};
use super::matches::address;
use crate::errno::{Errno, Result};
use netstack::filter::Refusal;
use netstack::filter::nat::{Manip, Range};
use netstack::filter::op::{Nat, NatRange, Op};

/// All hooks, as bits.
const ANY: u32 = 0b11111;
/// Before routing and for what is this machine's own.
const BEFORE: u32 = 0b01001;
/// After routing and for what is for this machine.
const AFTER: u32 = 0b10010;

struct Known {
    name: &'static str,
    /// Revision and length of data, for IPv4 and IPv6.
    v4: &'static [(u8, usize)],
    v6: &'static [(u8, usize)],
    /// The only table it may be in.
    table: Option<&'static str>,
    hooks: u32,
}

const fn both(
    name: &'static str,
    revisions: &'static [(u8, usize)],
    table: Option<&'static str>,
) -> Known {
    Known { name, v4: revisions, v6: revisions, table, hooks: ANY }
}

/// `struct nf_nat_ipv4_multi_range_compat`, `struct nf_nat_range`, `struct nf_nat_range2`
const MULTI: usize = 20;
const RANGE: usize = 40;
const RANGE2: usize = 44;

const KNOWN: &[Known] = &[
    both("CONNMARK", &[(1, 16)], None),
    both("CT", &[(0, 40), (1, 72), (2, 72)], Some("raw")),
    Known {
        name: "DNAT",
        v4: &[(0, MULTI), (1, RANGE), (2, RANGE2)],
        v6: &[(1, RANGE), (2, RANGE2)],
        table: Some("nat"),
        hooks: BEFORE,
    },
    both("LOG", &[(0, 32)], None),
    both("MARK", &[(2, 8)], None),
    Known {
        name: "MASQUERADE",
        v4: &[(0, MULTI)],
        v6: &[(0, RANGE)],
        table: Some("nat"),
        hooks: 0b10000,
    },
    both("NOTRACK", &[(0, 0)], Some("raw")),
    Known {
        name: "REDIRECT",
        v4: &[(0, MULTI)],
        v6: &[(0, RANGE)],
        table: Some("nat"),
        hooks: BEFORE,
    },
    Known { name: "REJECT", v4: &[(0, 4)], v6: &[(0, 4)], table: Some("filter"), hooks: 0b01110 },
    Known {
        name: "SNAT",
        v4: &[(0, MULTI), (1, RANGE)],
        v6: &[(1, RANGE)],
        table: Some("nat"),
        hooks: AFTER,
    },
    Known { name: "TCPMSS", v4: &[(0, 2)], v6: &[(0, 2)], table: None, hooks: 0b11100 },
];

fn known(v6: bool, name: &str) -> Option<(&'static Known, &'static [(u8, usize)])> {
    let known = KNOWN.iter().find(|known| known.name == name)?;
    Some((known, if v6 { known.v6 } else { known.v4 }))
}

/// The revisions that there are of a target.
pub fn revisions(v6: bool, name: &str) -> Vec<u8> {
    if name.is_empty() || name == "ERROR" {
        return vec![0];
    }
    let revisions = known(v6, name).map_or(&[][..], |(_, revisions)| revisions);
    revisions.iter().map(|(revision, _)| *revision).collect()
}

/// The names of all that are not in every table.
pub fn names(v6: bool) -> Vec<&'static str> {
    let all = KNOWN.iter().map(|known| known.name);
    all.filter(|name| !revisions(v6, name).is_empty()).collect()
}

/// What a target does, and at which hooks it may be. `ENOENT`, `EINVAL`.
pub fn parse(place: &Place<'_>, extension: &Extension<'_>) -> Result<(Op, u32)> {
    let (known, revisions) = known(place.v6, &extension.name).ok_or(Errno::ENOENT)?;
    let found = revisions.iter().find(|(revision, _)| *revision == extension.revision);
    let (_, len) = found.ok_or(Errno::EPROTONOSUPPORT)?;
    if extension.data.0.len() != len.next_multiple_of(8)
        || known.table.is_some_and(|table| table != place.table)
    {
        return Err(Errno::EINVAL);
    }
    let op = op(place, extension, *len).ok_or(Errno::EINVAL)?;
    Ok((op, known.hooks))
}

fn op(place: &Place<'_>, extension: &Extension<'_>, len: usize) -> Option<Op> {
    let data = extension.data;
    let nat = |kind| Some(Op::Nat(kind, NatRange::Fixed(range(data, len, place.v6)?)));
    Some(match extension.name.as_str() {
        "DNAT" => return nat(Nat::To(Manip::Destination)),
        "SNAT" => return nat(Nat::To(Manip::Source)),
        "MASQUERADE" => return nat(Nat::Masquerade),
        "REDIRECT" => return nat(Nat::Redirect),
        "REJECT" => {
            let refusal = refusal(data.u32(0)?, place.v6)?;
            if refusal == Refusal::Reset && place.protocol != Some(6) {
                return None;
            }
            Op::Reject(Some(refusal))
        }
        "LOG" => Op::Log(data.name(2, 30)?),
        "MARK" => {
            let (mark, mask) = (data.u32(0)?, data.u32(4)?);
            Op::Mark(!mask, mark)
        }
        "CONNMARK" => match data.u8(12)? {
            1 => Op::CopyMark(true),
            2 => Op::CopyMark(false),
            _ => return None,
        },
        "CT" if data.u16(0)? & 1 != 0 => Op::NoTrack,
        "NOTRACK" => Op::NoTrack,
        "TCPMSS" => Op::Nothing,
        _ => return None,
    })
}

fn range(data: Bytes<'_>, len: usize, v6: bool) -> Option<Range> {
    let multi = len == MULTI;
    if multi && data.u32(0)? != 1 {
        return None;
    }
    let flags = data.u32(if multi { 4 } else { 0 })?;
    let (addresses, ports) = if multi { ((8, 12), 16) } else { ((4, 20), 36) };
    let ip = |at| address(data, at, v6);
    let addresses = (ip(addresses.0)?, ip(addresses.1)?);
    let ports = (data.be16(ports)?, data.be16(ports + 2)?);
    Some(Range {
        addresses: (flags & 1 != 0).then_some(addresses),
        ports: (flags & 2 != 0).then_some(ports),
        random: flags & (4 | 16) != 0,
    })
}

/// `enum ipt_reject_with` and `enum ip6t_reject_with`
fn refusal(with: u32, v6: bool) -> Option<Refusal> {
    let icmp = |code| {
        let unreachable = if v6 { 1 } else { 3 };
        Some(Refusal::Icmp(unreachable, code))
    };
    match (v6, with) {
        (false, 7) | (true, 6) => Some(Refusal::Reset),
        (false, 0..=3) => icmp(with as u8),
        (false, 5) => icmp(9),
        (false, 6) => icmp(10),
        (false, 8) => icmp(13),
        (true, 0..=4) => icmp(with as u8),
        (true, 7) => icmp(5),
        (true, 8) => icmp(6),
        _ => None,
    }
}
