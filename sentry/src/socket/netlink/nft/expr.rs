//! Expressions of rules, and the operations that they are (`linux/netfilter/nf_tables.h`).

use super::attr::Attrs;
use super::model::{Expression, Rule, Set, Table};
use super::set;
use crate::errno::{Errno, Result};
use crate::socket::xtables::{self, blob::Bytes, blob::Extension};
use netstack::filter::Refusal;
use netstack::filter::limit::Limit;
use netstack::filter::nat::Manip;
use netstack::filter::op::{BaseHeader, Cmp, Ct, Meta, Nat, NatRange, Op, REGISTERS, Slot};
use netstack::filter::table::{Counter, Verdict};
use std::sync::Arc;

/// Longest value of a register.
const MOST_DATA: usize = 64;

/// What an expression is compiled with.
pub struct Context<'a> {
    /// The table it is in.
    pub table: &'a Table,
    /// A user's or (`true`) group's number, as the kernel has it.
    pub id: &'a dyn Fn(u32, bool) -> Option<u32>,
}

/// An expression as a batch gives it; with `fresh` counters and limits of its own. `ENOENT` for those that
/// there are not.
pub fn take(table: &Table, attrs: Attrs<'_>) -> Result<Expression> {
    let name = attrs.name(1)?;
    let given = attrs.get(2).unwrap_or_default();
    let inner = Attrs::new(given);
    let mut data = given.to_vec();
    let (mut counter, mut limit) = (None, None);
    match name.as_str() {
        "counter" => {
            let start = Counter::new(inner.u64(2).unwrap_or(0), inner.u64(1).unwrap_or(0));
            counter = Some(Arc::new(start));
        }
        "limit" => limit = Some(Arc::new(new_limit(inner)?)),
        "lookup" => {
            // Anonymous sets got their names only now.
            let set = set::find(table, inner.text(1)?.as_deref(), inner.u32(4))?;
            let mut out = super::attr::Out::default();
            out.text(1, &set.name).u32(2, inner.need(2)?);
            if let Some(to) = inner.u32(3) {
                out.u32(3, to);
            }
            out.u32(5, inner.u32(5).unwrap_or(0));
            data = out.0;
        }
        _ => {}
    }
    Ok(Expression { name, data, counter, limit })
}

fn new_limit(attrs: Attrs<'_>) -> Result<Limit> {
    let (rate, unit) = (attrs.u64(1).ok_or(Errno::EINVAL)?, attrs.u64(2).ok_or(Errno::EINVAL)?);
    let per = unit.checked_mul(1_000_000_000).ok_or(Errno::EOVERFLOW)?;
    if rate == 0 || unit == 0 {
        return Err(Errno::EINVAL);
    }
    let burst = u64::from(attrs.u32(3).unwrap_or(0));
    // Packets may come five at once if nothing else is said; bytes add to what one unit lets pass.
    let burst = match attrs.u32(4).unwrap_or(0) {
        0 => burst.max(if burst == 0 { 5 } else { 1 }),
        _ => rate.saturating_add(burst),
    };
    Ok(Limit::new(rate, per, burst))
}

/// The first byte of a register. `ERANGE`
fn register(n: u32, len: usize) -> Result<usize> {
    let at = match n {
        1..=4 => n as usize * 16,
        8..=23 => (n as usize - 8) * 4 + 16,
        _ => return Err(Errno::ERANGE),
    };
    if len == 0 || len.next_multiple_of(4) + at > REGISTERS {
        return Err(Errno::ERANGE);
    }
    Ok(at)
}

fn slot(n: u32, len: usize) -> Result<Slot> {
    Ok(Slot { at: register(n, len)?, len })
}

fn value(attrs: Attrs<'_>, kind: u16) -> Result<Vec<u8>> {
    let data = attrs.nested(kind).ok_or(Errno::EINVAL)?.get(1).ok_or(Errno::EINVAL)?;
    if data.is_empty() || data.len() > MOST_DATA {
        return Err(Errno::EINVAL);
    }
    Ok(data.to_vec())
}

/// A verdict (`NFTA_DATA_VERDICT`).
pub fn verdict(table: &Table, data: Attrs<'_>) -> Result<Verdict> {
    let chain = || -> Result<usize> {
        let (name, id) = (data.text(2)?, data.u32(3));
        let mut chains = table.chains.iter();
        let place = chains.position(|c| match &name {
            Some(name) => c.name == *name,
            None => id.is_some() && c.id == id,
        });
        let place = place.ok_or(Errno::ENOENT)?;
        match table.chains.get(place) {
            Some(chain) if chain.base.is_none() => Ok(place),
            _ => Err(Errno::EOPNOTSUPP),
        }
    };
    Ok(match data.need(1)? as i32 {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -1 => Verdict::Continue,
        // What breaks off a rule goes on with the next.
        -2 => Verdict::Continue,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => return Err(Errno::EINVAL),
    })
}

fn meta_key(key: u32) -> Result<(Meta, usize)> {
    Ok(match key {
        0 => (Meta::Len, 4),
        1 => (Meta::Protocol, 2),
        3 => (Meta::Mark, 4),
        4 => (Meta::Iif, 4),
        5 => (Meta::Oif, 4),
        6 => (Meta::IifName, 16),
        7 => (Meta::OifName, 16),
        8 => (Meta::IifType, 2),
        9 => (Meta::OifType, 2),
        10 => (Meta::SkUid, 4),
        11 => (Meta::SkGid, 4),
        15 => (Meta::NfProto, 1),
        16 => (Meta::L4Proto, 1),
        19 => (Meta::PktType, 1),
        20 => (Meta::Cpu, 4),
        21 => (Meta::IifGroup, 4),
        22 => (Meta::OifGroup, 4),
        24 => (Meta::Random, 4),
        30 => (Meta::Time, 8),
        _ => return Err(Errno::EOPNOTSUPP),
    })
}

fn ct_key(key: u32, reply: bool, v6: bool) -> Result<(Ct, usize)> {
    let address = if v6 { 16 } else { 4 };
    Ok(match key {
        0 => (Ct::State, 4),
        1 => (Ct::Direction, 1),
        2 => (Ct::Status, 4),
        3 => (Ct::Mark, 4),
        5 => (Ct::Expiration, 4),
        7 => (Ct::L3Protocol(reply), 1),
        8 => (Ct::Source(reply), address),
        9 => (Ct::Destination(reply), address),
        10 => (Ct::Protocol(reply), 1),
        11 => (Ct::SourcePort(reply), 2),
        12 => (Ct::DestinationPort(reply), 2),
        19 => (Ct::Source(reply), 4),
        20 => (Ct::Destination(reply), 4),
        21 => (Ct::Source(reply), 16),
        22 => (Ct::Destination(reply), 16),
        23 => (Ct::Id, 4),
        _ => return Err(Errno::EOPNOTSUPP),
    })
}

fn refusal(attrs: Attrs<'_>, family: u8) -> Result<Op> {
    let code = attrs.u8(2).unwrap_or(0);
    let refusal = match (attrs.need(1)?, family) {
        (1, _) => Refusal::Reset,
        (0, 2) => Refusal::Icmp(3, code),
        (0, 10) => Refusal::Icmp(1, code),
        // By the packet's own family: what is sent is the same for those that sockets tell apart.
        (2, 10) => match code {
            0 => Refusal::Icmp(1, 0),
            1 => Refusal::Icmp(1, 4),
            2 => Refusal::Icmp(1, 3),
            3 => Refusal::Icmp(1, 1),
            _ => return Err(Errno::EINVAL),
        },
        (2, _) if code == 1 => return Ok(Op::Reject(None)),
        (2, _) => match code {
            0 => Refusal::Icmp(3, 0),
            2 => Refusal::Icmp(3, 1),
            3 => Refusal::Icmp(3, 13),
            _ => return Err(Errno::EINVAL),
        },
        _ => Refusal::Icmp(3, code),
    };
    Ok(Op::Reject(Some(refusal)))
}

fn translation(attrs: Attrs<'_>, kind: Nat, first: u16, address: Option<usize>) -> Result<Op> {
    let pair = |low: u16, len: usize| -> Result<Option<(Slot, Slot)>> {
        let Some(from) = attrs.u32(low) else { return Ok(None) };
        let to = attrs.u32(low + 1).unwrap_or(from);
        Ok(Some((slot(from, len)?, slot(to, len)?)))
    };
    let addresses = match address {
        Some(len) => pair(3, len)?,
        None => None,
    };
    let flags = match kind {
        Nat::To(_) => attrs.u32(7),
        Nat::Masquerade => attrs.u32(1),
        Nat::Redirect => attrs.u32(3),
    };
    let random = flags.unwrap_or(0) & (4 | 16) != 0;
    Ok(Op::Nat(kind, NatRange::Registers { addresses, ports: pair(first, 2)?, random }))
}

fn payload(attrs: Attrs<'_>) -> Result<Op> {
    let (Some(to), None) = (attrs.u32(1), attrs.u32(5)) else { return Err(Errno::EOPNOTSUPP) };
    let (offset, len) = (attrs.need(3)? as usize, attrs.need(4)? as usize);
    let base = match attrs.need(2)? {
        1 => BaseHeader::Network,
        2 => BaseHeader::Transport,
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if len > MOST_DATA || offset > 0xffff {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Payload(base, offset, slot(to, len)?))
}

fn bitwise(attrs: Attrs<'_>) -> Result<Op> {
    let len = attrs.need(3)? as usize;
    if len > MOST_DATA {
        return Err(Errno::ERANGE);
    }
    let (from, to) = (slot(attrs.need(1)?, len)?, register(attrs.need(2)?, len)?);
    match attrs.u32(6).unwrap_or(0) {
        0 => {
            let (mask, flip) = (value(attrs, 4)?, value(attrs, 5)?);
            if mask.len() != len || flip.len() != len {
                return Err(Errno::EINVAL);
            }
            Ok(Op::Bitwise(from, to, mask, flip))
        }
        op @ (1 | 2) if len == 4 => {
            let by = value(attrs, 7)?.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
            Ok(Op::Shift(from, to, op == 1, by))
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn extension<'a>(attrs: Attrs<'a>) -> Result<Extension<'a>> {
    let revision = u8::try_from(attrs.u32(2).unwrap_or(0)).map_err(|_| Errno::EINVAL)?;
    let data = Bytes(attrs.get(3).ok_or(Errno::EINVAL)?);
    Ok(Extension { name: attrs.name(1)?, revision, data })
}

/// Where an expression may be.
pub struct Wanted {
    /// Hooks, as bits.
    pub hooks: u32,
    /// Chains of translation only.
    nat: bool,
    /// What is wrong elsewhere.
    error: Errno,
}

impl Wanted {
    /// `EOPNOTSUPP`; `EINVAL` for iptables' extensions.
    pub fn check(&self, hook: u32, nat: bool) -> Result<()> {
        if self.hooks & hook == 0 || (self.nat && !nat) { Err(self.error) } else { Ok(()) }
    }
}

/// Where an expression may be.
pub fn hooks(context: &Context<'_>, rule: &Rule, expression: &Expression) -> Result<Wanted> {
    let attrs = Attrs::new(&expression.data);
    let wanted = |hooks, nat| Ok(Wanted { hooks, nat, error: Errno::EOPNOTSUPP });
    let place = place(context, rule);
    match expression.name.as_str() {
        "reject" => wanted(0b01111, false),
        "masq" => wanted(0b10000, true),
        "redir" => wanted(0b01001, true),
        "nat" if attrs.u32(1) == Some(0) => wanted(0b10010, true),
        "nat" => wanted(0b01001, true),
        "match" => {
            let (_, hooks) = xtables::matches::parse(&place, &extension(attrs)?)?;
            Ok(Wanted { hooks, nat: false, error: Errno::EINVAL })
        }
        "target" => {
            let (_, hooks) = xtables::targets::parse(&place, &extension(attrs)?)?;
            Ok(Wanted { hooks, nat: false, error: Errno::EINVAL })
        }
        _ => wanted(0b11111, false),
    }
}

fn place<'a>(context: &Context<'a>, rule: &Rule) -> xtables::blob::Place<'a> {
    xtables::blob::Place {
        v6: context.table.family == 10,
        table: &context.table.name,
        protocol: rule.protocol,
        id: context.id,
    }
}

/// The operations of an expression. Everything a batch gives is checked here.
pub fn compile(context: &Context<'_>, rule: &Rule, expression: &Expression) -> Result<Vec<Op>> {
    let attrs = Attrs::new(&expression.data);
    let table = context.table;
    let place = || place(context, rule);
    let one = |op| Ok(vec![op]);
    match expression.name.as_str() {
        "payload" => one(payload(attrs)?),
        "cmp" => {
            let cmp = match attrs.need(2)? {
                0 => Cmp::Eq,
                1 => Cmp::Neq,
                2 => Cmp::Lt,
                3 => Cmp::Lte,
                4 => Cmp::Gt,
                5 => Cmp::Gte,
                _ => return Err(Errno::EINVAL),
            };
            let data = value(attrs, 3)?;
            one(Op::Cmp(cmp, slot(attrs.need(1)?, data.len())?, data))
        }
        "range" => {
            let (low, high) = (value(attrs, 3)?, value(attrs, 4)?);
            if low.len() != high.len() {
                return Err(Errno::EINVAL);
            }
            let from = slot(attrs.need(1)?, low.len())?;
            one(Op::Range(from, low, high, attrs.need(2)? == 1))
        }
        "bitwise" => one(bitwise(attrs)?),
        "byteorder" => {
            let (len, size) = (attrs.need(4)? as usize, attrs.need(5)? as usize);
            if !matches!(size, 2 | 4 | 8) || len > MOST_DATA {
                return Err(Errno::EINVAL);
            }
            let to = register(attrs.need(2)?, len)?;
            one(Op::Byteorder(slot(attrs.need(1)?, len)?, to, size))
        }
        "immediate" => {
            let data = attrs.nested(2).ok_or(Errno::EINVAL)?;
            match attrs.need(1)? {
                0 => {
                    let given = data.nested(2).ok_or(Errno::EINVAL)?;
                    one(Op::Verdict(verdict(table, given)?))
                }
                to => {
                    let data = value(attrs, 2)?;
                    one(Op::Immediate(register(to, data.len())?, data))
                }
            }
        }
        "meta" => match (attrs.u32(1), attrs.u32(3)) {
            (Some(to), None) => {
                let (key, len) = meta_key(attrs.need(2)?)?;
                one(Op::Meta(key, register(to, len)?))
            }
            (None, Some(from)) => match attrs.need(2)? {
                3 => one(Op::SetMark(slot(from, 4)?)),
                // Nobody is traced, and nothing waits by priority.
                2 | 12 => one(Op::Nothing),
                _ => Err(Errno::EOPNOTSUPP),
            },
            _ => Err(Errno::EINVAL),
        },
        "ct" => match (attrs.u32(1), attrs.u32(4)) {
            (Some(to), None) => {
                let reply = attrs.u8(3).unwrap_or(0) == 1;
                let (key, len) = ct_key(attrs.need(2)?, reply, table.family == 10)?;
                one(Op::Ct(key, register(to, len)?))
            }
            (None, Some(from)) if attrs.need(2)? == 3 => one(Op::SetCtMark(slot(from, 4)?)),
            (None, Some(_)) => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EINVAL),
        },
        "lookup" => lookup(table, attrs),
        "counter" => one(Op::Count(expression.counter.clone().ok_or(Errno::EINVAL)?)),
        "limit" => {
            let limit = expression.limit.clone().ok_or(Errno::EINVAL)?;
            let (bytes, inverted) = (attrs.u32(4) == Some(1), attrs.u32(5).unwrap_or(0) & 1 != 0);
            one(Op::Limit(limit, bytes, inverted))
        }
        "nat" => {
            let manip = match attrs.need(1)? {
                0 => Manip::Source,
                1 => Manip::Destination,
                _ => return Err(Errno::EINVAL),
            };
            let len = match attrs.need(2)? {
                2 => 4,
                10 => 16,
                _ => return Err(Errno::EAFNOSUPPORT),
            };
            one(translation(attrs, Nat::To(manip), 5, Some(len))?)
        }
        "masq" => one(translation(attrs, Nat::Masquerade, 2, None)?),
        "redir" => one(translation(attrs, Nat::Redirect, 1, None)?),
        "reject" => one(refusal(attrs, table.family)?),
        "log" => one(Op::Log(attrs.text(2)?.unwrap_or_default())),
        "notrack" => one(Op::NoTrack),
        "fib" => {
            let flags = attrs.need(3)?;
            if attrs.need(2)? != 3 || flags & !3 != 0 || !matches!(flags & 3, 1 | 2) {
                return Err(Errno::EOPNOTSUPP);
            }
            one(Op::AddressType(flags & 1 != 0, register(attrs.need(1)?, 4)?))
        }
        "match" => {
            let (test, _) = xtables::matches::parse(&place(), &extension(attrs)?)?;
            Ok(test.map(Op::Match).into_iter().collect())
        }
        "target" => one(xtables::targets::parse(&place(), &extension(attrs)?)?.0),
        _ => Err(Errno::ENOENT),
    }
}

fn lookup(table: &Table, attrs: Attrs<'_>) -> Result<Vec<Op>> {
    let found: &Set = set::find(table, attrs.text(1)?.as_deref(), None)?;
    let from = slot(attrs.need(2)?, found.key.1 as usize)?;
    let inverted = attrs.u32(5).unwrap_or(0) & 1 != 0;
    let compiled = Arc::new(set::compile(table, found)?);
    Ok(vec![match (attrs.u32(3), found.data) {
        (Some(0), Some((set::VERDICT, _))) => Op::VerdictMap(compiled, from),
        (Some(to), Some((_, len))) => {
            Op::Lookup(compiled, from, Some(register(to, len as usize)?), inverted)
        }
        (None, _) => Op::Lookup(compiled, from, None, inverted),
        _ => return Err(Errno::EINVAL),
    }])
}
