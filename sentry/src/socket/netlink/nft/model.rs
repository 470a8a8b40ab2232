//! What has been loaded: tables with chains, rules and sets, as they are listed.

use super::attr::{Attrs, Out};
use netstack::filter::limit::Limit;
use netstack::filter::table::Counter;
use std::collections::HashMap;
use std::sync::Arc;

/// Most tables, chains of a table, sets of a table.
pub const MOST: usize = 4096;
/// Most rules of a chain, members of a set.
pub const MOST_ENTRIES: usize = 16_384;
/// Most of all of them together.
pub const MOST_ITEMS: usize = 65_536;
/// Most bytes of what they consist of. A batch may be longer by itself for as long as it is looked at.
pub const MOST_BYTES: usize = 16 << 20;

/// The ruleset of a network. A batch works on a copy.
#[derive(Clone, Default)]
pub struct State {
    /// Number of the last change.
    pub generation: u32,
    /// The last table's handle.
    pub handle: u64,
    /// The tables.
    pub tables: Vec<Table>,
}

/// A table.
#[derive(Clone)]
pub struct Table {
    /// `NFPROTO_*`
    pub family: u8,
    /// Its name.
    pub name: String,
    /// `NFT_TABLE_F_*`
    pub flags: u32,
    /// Its handle.
    pub handle: u64,
    /// The last handle in it.
    pub last: u64,
    /// What its maker noted.
    pub userdata: Option<Vec<u8>>,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// Its sets.
    pub sets: Vec<Set>,
}

/// Where a base chain is.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The hook's number.
    pub hook: u32,
    /// Its priority.
    pub priority: i32,
    /// `filter`, `nat` or `route`.
    pub kind: String,
}

/// A chain.
#[derive(Clone)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Its handle.
    pub handle: u64,
    /// Its number within the batch that made it.
    pub id: Option<u32>,
    /// Where it is, if it is a base chain.
    pub base: Option<Place>,
    /// It accepts what its rules do not decide.
    pub accept: bool,
    /// Counts what its rules did not decide.
    pub counter: Option<Arc<Counter>>,
    /// `NFT_CHAIN_*`
    pub flags: u32,
    /// What its maker noted.
    pub userdata: Option<Vec<u8>>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone)]
pub struct Rule {
    /// Its handle.
    pub handle: u64,
    /// Its number within the batch that made it.
    pub id: Option<u32>,
    /// What it does.
    pub expressions: Vec<Expression>,
    /// The protocol that iptables' extensions in it are told of.
    pub protocol: Option<u8>,
    /// What its maker noted.
    pub userdata: Option<Vec<u8>>,
}

/// A part of a rule.
#[derive(Clone)]
pub struct Expression {
    /// What it is.
    pub name: String,
    /// Its attributes.
    pub data: Vec<u8>,
    /// What it counts.
    pub counter: Option<Arc<Counter>>,
    /// What it limits.
    pub limit: Option<Arc<Limit>>,
}

/// A set or a map.
#[derive(Clone)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Its handle.
    pub handle: u64,
    /// Its number within the batch that made it.
    pub id: Option<u32>,
    /// `NFT_SET_*`
    pub flags: u32,
    /// Type and length of what it has.
    pub key: (u32, u32),
    /// Type and length of what that stands for.
    pub data: Option<(u32, u32)>,
    /// `NFT_SET_POL_*`
    pub policy: u32,
    /// Size, and lengths of the fields of a concatenation.
    pub size: Option<u32>,
    /// See `size`.
    pub fields: Vec<u32>,
    /// What its maker noted.
    pub userdata: Option<Vec<u8>>,
    /// What it has.
    pub members: Vec<Member>,
}

/// A member of a set.
#[derive(Clone)]
pub struct Member {
    /// The value, or the first.
    pub key: Vec<u8>,
    /// The last value.
    pub end: Option<Vec<u8>>,
    /// What it stands for: attributes of `NFTA_SET_ELEM_DATA`.
    pub data: Option<Vec<u8>>,
    /// `NFT_SET_ELEM_*`
    pub flags: u32,
    /// What its maker noted.
    pub userdata: Option<Vec<u8>>,
}

impl State {
    /// Rules and members of sets together.
    pub fn items(&self) -> usize {
        let rules = |t: &Table| t.chains.iter().map(|c| c.rules.len() + 1).sum::<usize>();
        let members = |t: &Table| t.sets.iter().map(|s| s.members.len() + 1).sum::<usize>();
        self.tables.iter().map(|t| rules(t) + members(t) + 1).sum()
    }

    /// Bytes of expressions, members and what their makers noted.
    pub fn bytes(&self) -> usize {
        let note = |data: &Option<Vec<u8>>| data.as_ref().map_or(0, Vec::len);
        let rules = self.tables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules);
        let expressions = |r: &Rule| r.expressions.iter().map(|e| e.data.len() + 64).sum::<usize>();
        let rules: usize = rules.map(|r| expressions(r) + note(&r.userdata)).sum();
        let members = self.tables.iter().flat_map(|t| &t.sets).flat_map(|s| &s.members);
        let member = |m: &Member| m.key.len() + note(&m.end) + note(&m.data) + note(&m.userdata);
        let tables: usize = self.tables.iter().map(|t| note(&t.userdata)).sum();
        let chains = self.tables.iter().flat_map(|t| &t.chains).map(|c| note(&c.userdata));
        let sets = self.tables.iter().flat_map(|t| &t.sets).map(|s| note(&s.userdata));
        rules + members.map(member).sum::<usize>() + tables + chains.chain(sets).sum::<usize>()
    }
}

fn optional(out: &mut Out, kind: u16, data: &Option<Vec<u8>>) {
    if let Some(data) = data {
        out.put(kind, data);
    }
}

impl Table {
    /// The next handle in it.
    pub fn next_handle(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Its attributes.
    pub fn show(&self) -> Out {
        let mut out = Out::default();
        out.text(1, &self.name).u32(2, self.flags).u32(3, self.chains.len() as u32);
        out.u64(4, self.handle);
        optional(&mut out, 6, &self.userdata);
        out
    }

    /// How often each chain is named by a verdict.
    pub fn references(&self) -> HashMap<String, usize> {
        let mut out = HashMap::new();
        let mut note = |data: Attrs<'_>| {
            let name = data.nested(2).and_then(|v| v.text(2).ok()).flatten();
            if let Some(name) = name {
                *out.entry(name).or_insert(0) += 1;
            }
        };
        let rules = self.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.expressions);
        for expression in rules.filter(|e| e.name == "immediate") {
            if let Some(data) = Attrs::new(&expression.data).nested(2) {
                note(data);
            }
        }
        let members = self.sets.iter().flat_map(|s| &s.members);
        members.filter_map(|m| m.data.as_deref()).for_each(|data| note(Attrs::new(data)));
        out
    }

    /// The attributes of a chain that so many verdicts name.
    pub fn show_chain(&self, chain: &Chain, references: usize) -> Out {
        let mut out = Out::default();
        out.text(1, &self.name).u64(2, chain.handle).text(3, &chain.name);
        if let Some(base) = &chain.base {
            let mut hook = Out::default();
            hook.u32(1, base.hook).u32(2, base.priority as u32);
            out.nest(4, &hook).u32(5, u32::from(chain.accept)).text(7, &base.kind);
            if let Some(counter) = &chain.counter {
                let ((packets, bytes), mut both) = (counter.read(), Out::default());
                both.u64(1, bytes).u64(2, packets);
                out.nest(8, &both);
            }
        }
        if chain.flags != 0 {
            out.u32(10, chain.flags);
        }
        out.u32(6, (chain.rules.len() + references) as u32);
        optional(&mut out, 12, &chain.userdata);
        out
    }

    /// The attributes of the rule at a place of a chain.
    pub fn show_rule(&self, chain: &Chain, place: usize) -> Option<Out> {
        let rule = chain.rules.get(place)?;
        let mut out = Out::default();
        out.text(1, &self.name).text(2, &chain.name).u64(3, rule.handle);
        if let Some(before) = place.checked_sub(1).and_then(|n| chain.rules.get(n)) {
            out.u64(6, before.handle);
        }
        let mut list = Out::default();
        for expression in &rule.expressions {
            let mut one = Out::default();
            one.text(1, &expression.name);
            match &expression.counter {
                Some(counter) if expression.name == "counter" => {
                    let ((packets, bytes), mut both) = (counter.read(), Out::default());
                    both.u64(1, bytes).u64(2, packets);
                    one.nest(2, &both);
                }
                _ => {
                    one.put(2, &expression.data);
                }
            }
            list.nest(1, &one);
        }
        out.nest(4, &list);
        optional(&mut out, 7, &rule.userdata);
        Some(out)
    }

    /// The attributes of a set.
    pub fn show_set(&self, set: &Set) -> Out {
        let mut out = Out::default();
        out.text(1, &self.name).text(2, &set.name).u64(16, set.handle);
        if set.flags != 0 {
            out.u32(3, set.flags);
        }
        out.u32(4, set.key.0).u32(5, set.key.1);
        if let Some((kind, len)) = set.data {
            out.u32(6, kind).u32(7, len);
        }
        if set.policy != 0 {
            out.u32(8, set.policy);
        }
        optional(&mut out, 13, &set.userdata);
        let mut description = Out::default();
        if let Some(size) = set.size {
            description.u32(1, size);
        }
        if !set.fields.is_empty() {
            let mut fields = Out::default();
            for len in &set.fields {
                let mut field = Out::default();
                field.u32(1, *len);
                fields.nest(1, &field);
            }
            description.nest(2, &fields);
        }
        out.nest(9, &description);
        out
    }

    /// The attributes of some members of a set.
    pub fn show_members(&self, set: &Set, members: &[Member]) -> Out {
        let mut list = Out::default();
        for member in members {
            let (mut one, value) = (Out::default(), |bytes: &[u8]| {
                let mut value = Out::default();
                value.put(1, bytes);
                value
            });
            one.nest(1, &value(&member.key));
            if let Some(end) = &member.end {
                one.nest(10, &value(end));
            }
            optional(&mut one, 2, &member.data);
            if member.flags != 0 {
                one.u32(3, member.flags);
            }
            optional(&mut one, 6, &member.userdata);
            list.nest(1, &one);
        }
        let mut out = Out::default();
        out.text(1, &self.name).text(2, &set.name).nest(3, &list);
        out
    }
}
