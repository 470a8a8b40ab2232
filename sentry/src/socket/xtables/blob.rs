//! The block of bytes that a table is: entries one after the other, each with matches and a target
//! (`struct ipt_entry`, `struct ip6t_entry`, `linux/netfilter/x_tables.h`). All of it is the guest's, and checked:
//! nothing is looked at that is not inside, and what is run was taken apart first.

use super::tables::Kind;
use super::{matches, targets};
use crate::errno::{Errno, Result};
use netstack::filter::Hook;
use netstack::filter::matches::{DeviceName, Header, Masked, Match};
use netstack::filter::op::Op;
use netstack::filter::table::{Base, Chain, ChainKind, Counter, Rule, Table, Verdict};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Where things are in an entry.
pub struct Layout {
    /// It is IPv6's.
    pub v6: bool,
    /// Bytes of an address.
    address: usize,
    /// Where the devices' names are.
    devices: usize,
    /// Where the protocol, the flags and the inverted flags are.
    protocol: usize,
    flags: usize,
    /// Where the offset of the target is; the entry's length follows.
    offsets: usize,
    /// Where the counters are.
    pub counters: usize,
    /// Where matches begin.
    head: usize,
}

/// `struct ipt_entry`
pub static V4: Layout = Layout {
    v6: false,
    address: 4,
    devices: 16,
    protocol: 80,
    flags: 82,
    offsets: 88,
    counters: 96,
    head: 112,
};

/// `struct ip6t_entry`
pub static V6: Layout = Layout {
    v6: true,
    address: 16,
    devices: 64,
    protocol: 128,
    flags: 131,
    offsets: 140,
    counters: 152,
    head: 168,
};

/// `struct xt_entry_match` and `struct xt_entry_target` without their data.
const EXTENSION: usize = 32;
/// `IPT_F_FRAG`, `IPT_F_GOTO`; `IP6T_F_PROTO` and `IP6T_F_GOTO` have the same values or lie in the mask.
const F_FRAG: u8 = 1;
const F_GOTO_V4: u8 = 2;
const F_GOTO_V6: u8 = 4;
/// Most entries of a table.
const MAX_ENTRIES: usize = 65_536;

/// Bytes that may not be there.
#[derive(Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    fn chunk<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    /// A byte.
    pub fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    /// A number of 16 bits.
    pub fn u16(&self, at: usize) -> Option<u16> {
        self.chunk(at).map(u16::from_ne_bytes)
    }

    /// A number of 16 bits in network order.
    pub fn be16(&self, at: usize) -> Option<u16> {
        self.chunk(at).map(u16::from_be_bytes)
    }

    /// A number of 32 bits.
    pub fn u32(&self, at: usize) -> Option<u32> {
        self.chunk(at).map(u32::from_ne_bytes)
    }

    /// A number of 64 bits.
    pub fn u64(&self, at: usize) -> Option<u64> {
        self.chunk(at).map(u64::from_ne_bytes)
    }

    /// Text that ends within `len` bytes.
    pub fn name(&self, at: usize, len: usize) -> Option<String> {
        let field = self.0.get(at..at + len)?;
        let end = field.iter().position(|b| *b == 0)?;
        field.get(..end).map(|b| String::from_utf8_lossy(b).into_owned())
    }
}

/// A table as it was given.
pub struct Given {
    /// Its hooks, a bit each.
    pub hooks: u32,
    /// Number of entries.
    pub count: u32,
    /// Where each hook's chain begins.
    pub starts: [u32; 5],
    /// Where its policy is.
    pub ends: [u32; 5],
    /// The entries.
    pub entries: Vec<u8>,
}

/// A table that can be run.
pub struct Compiled {
    /// As it was given.
    pub given: Given,
    /// What is run.
    pub table: Table,
    /// A counter for each entry.
    pub counters: Vec<Arc<Counter>>,
    /// It lets everything pass: nothing needs to be run.
    pub idle: bool,
}

/// The table with which a network begins: chains that are empty and accept.
pub fn initial(layout: &Layout, hooks: u32) -> Given {
    let (mut starts, mut entries, mut count) = ([u32::MAX; 5], Vec::new(), 0);
    let mut entry = |target: &[u8], entries: &mut Vec<u8>| {
        let mut out = vec![0; layout.head];
        let next = (layout.head + target.len()) as u16;
        for (at, value) in [(0, layout.head as u16), (2, next)] {
            if let Some(place) = out.get_mut(layout.offsets + at..layout.offsets + at + 2) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
        }
        entries.extend(out);
        entries.extend_from_slice(target);
        count += 1;
    };
    // `struct xt_standard_target` with -NF_ACCEPT - 1, and `struct xt_error_target`.
    let mut standard = 40u16.to_ne_bytes().to_vec();
    standard.resize(EXTENSION, 0);
    standard.extend_from_slice(&(-2i32).to_ne_bytes());
    standard.resize(40, 0);
    let mut error = 64u16.to_ne_bytes().to_vec();
    error.extend_from_slice(b"ERROR");
    error.resize(EXTENSION, 0);
    error.extend_from_slice(b"ERROR");
    error.resize(64, 0);
    for (n, start) in starts.iter_mut().enumerate() {
        if hooks & 1 << n != 0 {
            *start = entries.len() as u32;
            entry(&standard, &mut entries);
        }
    }
    entry(&error, &mut entries);
    Given { hooks, count, starts, ends: starts, entries }
}

/// Length of the entry at an offset.
pub fn next_offset(layout: &Layout, entries: &[u8], at: usize) -> Option<usize> {
    Bytes(entries).u16(at + layout.offsets + 2).map(usize::from)
}

enum Target {
    Standard(i32),
    Error(String),
    Other(Op),
}

struct Entry {
    at: usize,
    next: usize,
    ops: Vec<Op>,
    conditional: bool,
    target: Target,
    goto: bool,
    needs: u32,
}

/// An extension: its name, its revision, its data.
pub struct Extension<'a> {
    /// Name.
    pub name: String,
    /// Revision.
    pub revision: u8,
    /// Data.
    pub data: Bytes<'a>,
}

fn extension(bytes: &[u8]) -> Result<(usize, Extension<'_>)> {
    let head = Bytes(bytes);
    let size = usize::from(head.u16(0).ok_or(Errno::EINVAL)?);
    if size < EXTENSION || size % 8 != 0 {
        return Err(Errno::EINVAL);
    }
    let data = Bytes(bytes.get(EXTENSION..size).ok_or(Errno::EINVAL)?);
    let name = head.name(2, 29).ok_or(Errno::EINVAL)?;
    Ok((size, Extension { name, revision: head.u8(31).ok_or(Errno::EINVAL)?, data }))
}

/// What the extensions of an entry are told of where they are.
pub struct Place<'a> {
    /// IPv6.
    pub v6: bool,
    /// The table's name.
    pub table: &'a str,
    /// The rule's protocol, unless it is inverted.
    pub protocol: Option<u8>,
    /// A user's or (`true`) group's number, as the kernel has it.
    pub id: &'a dyn Fn(u32, bool) -> Option<u32>,
}

fn header(layout: &Layout, entry: Bytes<'_>) -> Option<Header> {
    let n = layout.address;
    let flags = entry.u8(layout.flags)?;
    let inverted = entry.u8(layout.flags + 1)?;
    let field = |at: usize, len: usize| entry.0.get(at..at + len);
    let masked = |at: usize, mask: usize, bit: u8| {
        let (address, mask) = (field(at, n)?.to_vec(), field(mask, n)?.to_vec());
        Some(Masked { address, mask, inverted: inverted & bit != 0 })
    };
    let device = |at: usize, bit: u8| {
        let (name, mask) = (field(at, 16)?, field(at + 32, 16)?);
        let (name, mask) = (*name.first_chunk()?, *mask.first_chunk()?);
        Some(DeviceName { name, mask, inverted: inverted & bit != 0 })
    };
    let protocol = entry.u16(layout.protocol)?;
    let any = protocol == 0 && (!layout.v6 || flags & 1 == 0);
    let protocol = (!any).then_some((u8::try_from(protocol).ok()?, inverted & 0x40 != 0));
    Some(Header {
        source: masked(0, 2 * n, 0x08)?,
        destination: masked(n, 3 * n, 0x10)?,
        input: device(layout.devices, 0x01)?,
        output: device(layout.devices + 16, 0x02)?,
        protocol,
        fragment: (!layout.v6 && flags & F_FRAG != 0).then_some(inverted & 0x20 != 0),
    })
}

fn parse(
    layout: &Layout,
    entries: &[u8],
    at: usize,
    (table, id): (&str, &dyn Fn(u32, bool) -> Option<u32>),
) -> Result<Entry> {
    let rest = entries.get(at..).ok_or(Errno::EINVAL)?;
    let offset = |n: usize| Bytes(rest).u16(layout.offsets + n).map(usize::from);
    let (target_at, next) = (offset(0).ok_or(Errno::EINVAL)?, offset(2).ok_or(Errno::EINVAL)?);
    if next % 8 != 0 || target_at < layout.head || target_at + EXTENSION > next {
        return Err(Errno::EINVAL);
    }
    let whole = rest.get(..next).ok_or(Errno::EINVAL)?;
    let head = header(layout, Bytes(whole)).ok_or(Errno::EINVAL)?;
    let plain = whole.get(..layout.offsets - 4).unwrap_or_default();
    let flags = Bytes(whole).u8(layout.flags).unwrap_or(0);
    let goto = flags & if layout.v6 { F_GOTO_V6 } else { F_GOTO_V4 } != 0;
    let mut conditional = plain.iter().enumerate().any(|(n, b)| n != layout.flags && *b != 0);
    let protocol = head.protocol.filter(|p| !p.1).map(|p| p.0);
    let place = Place { v6: layout.v6, table, protocol, id };
    let mut ops = vec![Op::Match(Match::Header(Box::new(head)))];
    let mut needs = 0b11111;
    let mut rest = whole.get(layout.head..target_at).ok_or(Errno::EINVAL)?;
    while !rest.is_empty() {
        conditional = true;
        let (size, extension) = extension(rest)?;
        let (test, hooks) = matches::parse(&place, &extension)?;
        ops.extend(test.map(Op::Match));
        needs &= hooks;
        rest = rest.get(size..).ok_or(Errno::EINVAL)?;
    }
    let (size, extension) = extension(whole.get(target_at..).ok_or(Errno::EINVAL)?)?;
    if target_at + size > next {
        return Err(Errno::EINVAL);
    }
    let target = match extension.name.as_str() {
        "" if size == 40 => Target::Standard(extension.data.u32(0).ok_or(Errno::EINVAL)? as i32),
        "ERROR" if size == 64 => Target::Error(extension.data.name(0, 30).ok_or(Errno::EINVAL)?),
        "" | "ERROR" => return Err(Errno::EINVAL),
        _ => {
            let (op, hooks) = targets::parse(&place, &extension)?;
            needs &= hooks;
            Target::Other(op)
        }
    };
    Ok(Entry { at, next: at + next, ops, conditional, target, goto, needs })
}

/// Checks a table, and makes of it what is run. `EINVAL`; `ENOENT` for extensions that there are not; `ELOOP`.
pub fn compile(
    layout: &'static Layout,
    kind: &Kind,
    given: Given,
    id: &dyn Fn(u32, bool) -> Option<u32>,
) -> Result<Compiled> {
    if given.hooks != kind.hooks || given.count as usize > MAX_ENTRIES {
        return Err(Errno::EINVAL);
    }
    let mut entries = Vec::new();
    let mut at = 0;
    while at < given.entries.len() {
        let entry = parse(layout, &given.entries, at, (kind.name, id))?;
        at = entry.next;
        entries.push(entry);
        if entries.len() > given.count as usize {
            return Err(Errno::EINVAL);
        }
    }
    if entries.len() != given.count as usize {
        return Err(Errno::EINVAL);
    }
    let counters: Vec<Arc<Counter>> = entries.iter().map(|_| Arc::default()).collect();
    let chains = chains(kind, &given, &entries)?;
    let names: HashMap<usize, usize> = chains.iter().enumerate().map(|(n, c)| (c.at, n)).collect();
    let mut table =
        Table { name: kind.name.into(), v4: !layout.v6, v6: layout.v6, chains: Vec::new() };
    let mut idle = true;
    let mut needs = Vec::new();
    for chain in &chains {
        let (mut rules, mut needed) = (Vec::new(), 0b11111);
        // Entries are in the order of their places.
        let place = |at: usize| entries.partition_point(|entry| entry.at < at);
        let (first, end) = (place(chain.at), place(chain.end));
        let own = entries.iter().zip(&counters).take(end).skip(first);
        for (entry, counter) in own {
            rules.push(Arc::new(rule(entry, counter, &names)?));
            needed &= entry.needs;
        }
        needs.push(needed);
        let base = chain.hook.map(|(hook, accept, policy)| {
            idle &= accept && rules.is_empty();
            let after = matches!(hook, Hook::Input | Hook::Postrouting);
            let priority = if after { kind.priority.1 } else { kind.priority.0 };
            let nat = kind.name == "nat";
            let kind = if nat { ChainKind::Nat } else { ChainKind::Filter };
            Base { hook, priority, kind, accept, counter: counters.get(policy).cloned() }
        });
        table.chains.push(Chain { name: chain.name.clone(), base, rules });
    }
    if !table.is_sound() {
        return Err(Errno::ELOOP);
    }
    if !are_reachable(&table, &needs) {
        return Err(Errno::EINVAL);
    }
    Ok(Compiled { given, table, counters, idle })
}

/// True if no hook's packets come to a rule that may not see them.
pub fn are_reachable(table: &Table, needs: &[u32]) -> bool {
    let mut seen = vec![0u32; table.chains.len()];
    let mut work: Vec<(usize, u32)> =
        table.bases().map(|(n, base)| (n, 1 << base.hook as u32)).collect();
    while let Some((chain, hooks)) = work.pop() {
        let Some(place) = seen.get_mut(chain) else { return false };
        if *place | hooks == *place {
            continue;
        }
        *place |= hooks;
        let hooks = *place;
        let Some(chain) = table.chains.get(chain) else { return false };
        let verdicts = chain.rules.iter().flat_map(|r| &r.ops).flat_map(Op::verdicts);
        for verdict in verdicts {
            if let Verdict::Jump(to) | Verdict::Goto(to) = verdict {
                work.push((to, hooks));
            }
        }
    }
    seen.iter().zip(needs).all(|(hooks, needed)| hooks & !needed == 0)
}

struct Span {
    name: String,
    at: usize,
    end: usize,
    hook: Option<(Hook, bool, usize)>,
}

/// The chains of a table: those of its hooks, and those that begin with their name.
fn chains(kind: &Kind, given: &Given, entries: &[Entry]) -> Result<Vec<Span>> {
    let places: BTreeMap<usize, usize> = entries.iter().zip(0..).map(|(e, n)| (e.at, n)).collect();
    let mut out = Vec::new();
    for (n, (start, end)) in (0..).zip(given.starts.iter().zip(&given.ends)) {
        if kind.hooks & 1 << n == 0 {
            continue;
        }
        let (start, end) = (*start as usize, *end as usize);
        let policy = *places.get(&end).ok_or(Errno::EINVAL)?;
        let last = entries.get(policy).ok_or(Errno::EINVAL)?;
        if !places.contains_key(&start) || start > end || last.conditional {
            return Err(Errno::EINVAL);
        }
        let accept = match last.target {
            Target::Standard(-2) => true,
            Target::Standard(-1) => false,
            _ => return Err(Errno::EINVAL),
        };
        let hook = Hook::from_number(n).ok_or(Errno::EINVAL)?;
        let hook = Some((hook, accept, policy));
        out.push(Span { name: format!("{n}"), at: start, end, hook });
    }
    for (n, entry) in entries.iter().enumerate() {
        let Target::Error(name) = &entry.target else { continue };
        let end = entries.iter().skip(n + 1).find(|e| matches!(e.target, Target::Error(_)));
        let Some(end) = end else { continue };
        if end.at > entry.next {
            out.push(Span { name: name.clone(), at: entry.next, end: end.at, hook: None });
        }
    }
    // The last one says where the table ends.
    match entries.last().map(|e| &e.target) {
        Some(Target::Error(_)) => Ok(out),
        _ => Err(Errno::EINVAL),
    }
}

fn rule(entry: &Entry, counter: &Arc<Counter>, names: &HashMap<usize, usize>) -> Result<Rule> {
    let mut ops = entry.ops.clone();
    ops.push(Op::Count(counter.clone()));
    ops.push(match &entry.target {
        Target::Standard(-1) => Op::Verdict(Verdict::Drop),
        Target::Standard(-2) => Op::Verdict(Verdict::Accept),
        Target::Standard(-5) => Op::Verdict(Verdict::Return),
        // A jump to the next rule is none.
        Target::Standard(to) if *to as usize == entry.next => Op::Nothing,
        Target::Standard(to) => {
            let to = usize::try_from(*to).map_err(|_| Errno::EINVAL)?;
            let chain = *names.get(&to).ok_or(Errno::EINVAL)?;
            Op::Verdict(if entry.goto { Verdict::Goto(chain) } else { Verdict::Jump(chain) })
        }
        Target::Error(_) => Op::Verdict(Verdict::Drop),
        Target::Other(op) => op.clone(),
    });
    Ok(Rule { ops })
}
