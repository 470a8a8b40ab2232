//! Sets and maps: taken from a batch, and made into what the filter looks up.

use super::attr::Attrs;
use super::expr;
use super::model::{MOST, MOST_ENTRIES, Member, Set, Table};
use crate::errno::{Errno, Result};
use netstack::filter::set::{self, Data};
use std::collections::BTreeMap;

/// `NFT_DATA_VERDICT`: the type of what a map of verdicts has.
pub const VERDICT: u32 = 0xffff_ff00;
/// `NFT_SET_ANONYMOUS`
pub const ANONYMOUS: u32 = 1;
const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const CONCAT: u32 = 0x80;
/// Flags of sets that there are: those above, and `NFT_SET_CONSTANT`.
const KNOWN: u32 = ANONYMOUS | 2 | INTERVAL | MAP | CONCAT;
/// `NFT_SET_ELEM_INTERVAL_END`
const INTERVAL_END: u32 = 1;
/// Longest key.
const MOST_KEY: u32 = 64;

/// The set with a name, or with a number of the batch. `ENOENT`.
pub fn find<'a>(table: &'a Table, name: Option<&str>, id: Option<u32>) -> Result<&'a Set> {
    let named = table.sets.iter().find(|s| Some(s.name.as_str()) == name);
    let numbered = || table.sets.iter().find(|s| id.is_some() && s.id == id);
    named.or_else(numbered).ok_or(Errno::ENOENT)
}

/// A set as a batch describes it (`NFT_MSG_NEWSET`). `EOPNOTSUPP` for those whose members change by themselves.
pub fn take(table: &mut Table, attrs: Attrs<'_>) -> Result<Set> {
    let flags = attrs.u32(3).unwrap_or(0);
    if flags & !KNOWN != 0 || attrs.u64(11).is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    let length = |kind| attrs.need(kind);
    let key = (attrs.u32(4).unwrap_or(0), length(5)?);
    if key.1 == 0 || key.1 > MOST_KEY {
        return Err(Errno::EINVAL);
    }
    let data = if flags & MAP == 0 {
        None
    } else {
        let kind = length(6)?;
        let len = if kind == VERDICT { 16 } else { length(7)? };
        if len == 0 || len > MOST_KEY {
            return Err(Errno::EINVAL);
        }
        Some((kind, len))
    };
    let description = attrs.nested(9);
    let fields = description.map_or(Vec::new(), |d| {
        d.list(2).filter_map(|field| field.u32(1)).take(16).collect::<Vec<u32>>()
    });
    let padded: u64 = fields.iter().map(|f| u64::from(*f).next_multiple_of(4)).sum();
    if !fields.is_empty() && padded != u64::from(key.1) {
        return Err(Errno::EINVAL);
    }
    let name = free_name(table, &attrs.name(2)?)?;
    Ok(Set {
        name,
        handle: table.next_handle(),
        id: attrs.u32(10),
        flags,
        key,
        data,
        policy: attrs.u32(8).unwrap_or(0),
        size: description.and_then(|d| d.u32(1)),
        fields,
        userdata: attrs.get(13).map(<[u8]>::to_vec),
        members: Vec::new(),
    })
}

/// A name in which `%d` stands for the first free number.
fn free_name(table: &Table, name: &str) -> Result<String> {
    if !name.contains("%d") {
        return Ok(name.to_owned());
    }
    let mut names = (0..=MOST).map(|n| name.replacen("%d", &n.to_string(), 1));
    names.find(|n| table.sets.iter().all(|s| s.name != *n)).ok_or(Errno::ENFILE)
}

/// A member as a batch gives it; one that is to be removed needs no data. `EINVAL`.
pub fn take_member(table: &Table, set: &Set, attrs: Attrs<'_>, remove: bool) -> Result<Member> {
    let value = |kind: u16| -> Result<Option<Vec<u8>>> {
        let Some(nested) = attrs.nested(kind) else { return Ok(None) };
        let bytes = nested.get(1).filter(|b| b.len() == set.key.1 as usize);
        bytes.map(|b| Some(b.to_vec())).ok_or(Errno::EINVAL)
    };
    let flags = attrs.u32(3).unwrap_or(0);
    // Time-outs, expressions, objects, and members that stand for all others.
    if flags & !INTERVAL_END != 0 || [4, 7, 9, 11].iter().any(|kind| attrs.get(*kind).is_some()) {
        return Err(Errno::EOPNOTSUPP);
    }
    if flags & INTERVAL_END != 0 && set.flags & INTERVAL == 0 {
        return Err(Errno::EINVAL);
    }
    let data = attrs.get(2).map(<[u8]>::to_vec);
    let wants = set.data.is_some() && flags & INTERVAL_END == 0;
    if !remove && wants != data.is_some() {
        return Err(Errno::EINVAL);
    }
    let member = Member {
        key: value(1)?.ok_or(Errno::EINVAL)?,
        end: value(10)?,
        data,
        flags,
        userdata: attrs.get(6).map(<[u8]>::to_vec),
    };
    if !remove {
        self::data(table, set, &member)?;
    }
    Ok(member)
}

/// Adds a member. `EEXIST` if it is there with other data, or at all with `exclusive`.
pub fn add(set: &mut Set, member: Member, exclusive: bool) -> Result<()> {
    if set.members.len() >= MOST_ENTRIES {
        return Err(Errno::ENFILE);
    }
    let same = |m: &&Member| {
        m.key == member.key && m.end == member.end && (m.flags ^ member.flags) & INTERVAL_END == 0
    };
    match set.members.iter().find(same) {
        Some(old) if exclusive || old.data != member.data => Err(Errno::EEXIST),
        Some(_) => Ok(()),
        None => {
            set.members.push(member);
            Ok(())
        }
    }
}

/// Removes a member. `ENOENT`.
pub fn remove(set: &mut Set, member: &Member) -> Result<()> {
    let same = |m: &Member| {
        m.key == member.key && m.end == member.end && (m.flags ^ member.flags) & INTERVAL_END == 0
    };
    let place = set.members.iter().position(same).ok_or(Errno::ENOENT)?;
    set.members.remove(place);
    Ok(())
}

fn data(table: &Table, set: &Set, member: &Member) -> Result<Data> {
    let (Some(given), Some((kind, len))) = (&member.data, set.data) else { return Ok(Data::None) };
    let attrs = Attrs::new(given);
    if kind == VERDICT {
        let given = attrs.nested(2).ok_or(Errno::EINVAL)?;
        return Ok(Data::Verdict(expr::verdict(table, given)?));
    }
    let value = attrs.get(1).filter(|v| v.len() == len as usize).ok_or(Errno::EINVAL)?;
    Ok(Data::Value(value.to_vec()))
}

/// The value after a value; `None` after the last.
fn after(value: &[u8]) -> Option<Vec<u8>> {
    let mut out = value.to_vec();
    for byte in out.iter_mut().rev() {
        let (next, over) = byte.overflowing_add(1);
        *byte = next;
        if !over {
            return Some(out);
        }
    }
    None
}

/// What is looked up in.
pub fn compile(table: &Table, set: &Set) -> Result<set::Set> {
    let of = |member: &Member| data(table, set, member);
    if set.flags & INTERVAL == 0 {
        let all = set.members.iter().map(|m| Ok((m.key.clone(), of(m)?)));
        return all.collect::<Result<_>>().map(set::Set::Exact);
    }
    if set.fields.len() > 1 {
        let lengths = set.fields.iter().map(|f| *f as usize).collect();
        let all = set.members.iter().map(|m| {
            let end = m.end.clone().unwrap_or_else(|| m.key.clone());
            Ok((m.key.clone(), end, of(m)?))
        });
        return Ok(set::Set::Fields(lengths, all.collect::<Result<_>>()?));
    }
    let mut starts = BTreeMap::new();
    for member in &set.members {
        if member.flags & INTERVAL_END != 0 {
            // Where one ends another may begin.
            starts.entry(member.key.clone()).or_insert(None);
            continue;
        }
        starts.insert(member.key.clone(), Some(of(member)?));
        if let Some(next) = member.end.as_deref().and_then(after) {
            starts.entry(next).or_insert(None);
        }
    }
    Ok(set::Set::Intervals(starts))
}
