//! Changes: the messages of a batch, applied to a copy of the ruleset.

use super::attr::Attrs;
use super::expr::{self, Context};
use super::model::{Chain, MOST, MOST_BYTES, MOST_ENTRIES, MOST_ITEMS, Place, Rule, State, Table};
use super::set;
use crate::errno::{Errno, Result};
use crate::socket::xtables::blob::are_reachable;
use netstack::filter::Hook;
use netstack::filter::table::{self, Base, ChainKind, Counter};
use std::collections::HashSet;
use std::sync::Arc;

/// `NLM_F_REPLACE`, `NLM_F_EXCL`, `NLM_F_CREATE`, `NLM_F_APPEND`
const REPLACE: u16 = 0x100;
const EXCL: u16 = 0x200;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
/// Longest expressions of a rule.
const MOST_EXPRESSIONS: usize = 32 << 10;

/// A message.
pub struct Message<'a> {
    /// `NFT_MSG_*`
    pub kind: u8,
    /// `NLM_F_*`
    pub flags: u16,
    /// `NFPROTO_*`
    pub family: u8,
    /// Its attributes.
    pub attrs: Attrs<'a>,
}

type Id<'a> = &'a dyn Fn(u32, bool) -> Option<u32>;

/// Applies a message.
pub fn apply(state: &mut State, message: &Message<'_>, id: Id<'_>) -> Result<()> {
    if state.items() > MOST_ITEMS {
        return Err(Errno::ENOMEM);
    }
    // NFT_MSG_DESTROY*: the same as deleting, but what is not there is no error.
    let (kind, forgiving) = match message.kind {
        26 => (2, true),
        27 => (5, true),
        28 => (8, true),
        29 => (11, true),
        30 => (14, true),
        kind => (kind, false),
    };
    let result = match kind {
        0 => new_table(state, message),
        2 => delete_table(state, message),
        3 => new_chain(state, message),
        5 => delete_chain(state, message),
        6 => new_rule(state, message, id),
        8 => delete_rule(state, message),
        9 => new_set(state, message),
        11 => delete_set(state, message),
        12 => members(state, message, false),
        14 => members(state, message, true),
        // Named objects and flow tables.
        18..=25 => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    };
    match result {
        Err(Errno::ENOENT) if forgiving => Ok(()),
        other => other,
    }
}

fn find<'a>(state: &'a mut State, message: &Message<'_>, name: u16) -> Result<&'a mut Table> {
    let name = message.attrs.name(name)?;
    let family = message.family;
    let found = state.tables.iter_mut().find(|t| t.family == family && t.name == name);
    found.ok_or(Errno::ENOENT)
}

fn new_table(state: &mut State, message: &Message<'_>) -> Result<()> {
    if !matches!(message.family, 1 | 2 | 10) {
        return Err(Errno::EOPNOTSUPP);
    }
    let name = message.attrs.name(1)?;
    let flags = message.attrs.u32(2);
    if flags.unwrap_or(0) & !1 != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if let Ok(table) = find(state, message, 1) {
        if message.flags & EXCL != 0 {
            return Err(Errno::EEXIST);
        }
        table.flags = flags.unwrap_or(table.flags);
        return Ok(());
    }
    if state.tables.len() >= MOST {
        return Err(Errno::ENFILE);
    }
    state.handle += 1;
    state.tables.push(Table {
        family: message.family,
        name,
        flags: flags.unwrap_or(0),
        handle: state.handle,
        last: 0,
        userdata: message.attrs.get(6).map(<[u8]>::to_vec),
        chains: Vec::new(),
        sets: Vec::new(),
    });
    Ok(())
}

fn delete_table(state: &mut State, message: &Message<'_>) -> Result<()> {
    let (name, handle) = (message.attrs.text(1)?, message.attrs.u64(4));
    let family = message.family;
    let fits = |t: &Table| family == 0 || t.family == family;
    if name.is_none() && handle.is_none() {
        state.tables.retain(|t| !fits(t));
        return Ok(());
    }
    let wanted = |t: &Table| match &name {
        Some(name) => t.family == family && t.name == *name,
        None => fits(t) && Some(t.handle) == handle,
    };
    let place = state.tables.iter().position(wanted).ok_or(Errno::ENOENT)?;
    state.tables.remove(place);
    Ok(())
}

fn place(attrs: Attrs<'_>, family: u8) -> Result<Option<Place>> {
    let Some(hook) = attrs.nested(4) else { return Ok(None) };
    let kind = attrs.text(7)?.unwrap_or_else(|| "filter".into());
    let place = Place { hook: hook.need(1)?, priority: hook.need(2)? as i32, kind };
    let at = Hook::from_number(place.hook).ok_or(Errno::EOPNOTSUPP)?;
    match place.kind.as_str() {
        "filter" => {}
        "nat" if at != Hook::Forward && place.priority > -200 => {}
        "route" if at == Hook::Output && family != 1 => {}
        "nat" | "route" => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::ENOENT),
    }
    Ok(Some(place))
}

fn counter(attrs: Attrs<'_>) -> Option<Arc<Counter>> {
    let both = attrs.nested(8)?;
    Some(Arc::new(Counter::new(both.u64(2).unwrap_or(0), both.u64(1).unwrap_or(0))))
}

fn policy(attrs: Attrs<'_>, base: bool) -> Result<Option<bool>> {
    match attrs.u32(5) {
        None => Ok(None),
        Some(_) if !base => Err(Errno::EOPNOTSUPP),
        Some(0) => Ok(Some(false)),
        Some(1) => Ok(Some(true)),
        Some(_) => Err(Errno::EINVAL),
    }
}

fn new_chain(state: &mut State, message: &Message<'_>) -> Result<()> {
    let attrs = message.attrs;
    let table = find(state, message, 1)?;
    let (name, handle) = (attrs.text(3)?, attrs.u64(2));
    let base = place(attrs, message.family)?;
    let found = table.chains.iter().position(|c| match handle {
        Some(handle) => c.handle == handle,
        None => Some(&c.name) == name.as_ref(),
    });
    if handle.is_some() && found.is_none() {
        return Err(Errno::ENOENT);
    }
    if let Some(chain) = found.and_then(|n| table.chains.get_mut(n)) {
        if message.flags & EXCL != 0 {
            return Err(Errno::EEXIST);
        }
        if base.is_some() && base != chain.base {
            return Err(Errno::EEXIST);
        }
        chain.accept = policy(attrs, chain.base.is_some())?.unwrap_or(chain.accept);
        if let Some(counter) = counter(attrs) {
            chain.counter = Some(counter);
        }
        if let (Some(_), Some(name)) = (handle, name) {
            chain.name = name;
        }
        return Ok(());
    }
    if table.chains.len() >= MOST {
        return Err(Errno::ENFILE);
    }
    let flags = attrs.u32(10).unwrap_or(0) & !1;
    if flags & !4 != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let handle = table.next_handle();
    // A chain that belongs to one rule gets its name from us.
    let name = name.unwrap_or_else(|| format!("__chain{handle}"));
    table.chains.push(Chain {
        name,
        handle,
        id: attrs.u32(11),
        accept: policy(attrs, base.is_some())?.unwrap_or(true),
        counter: counter(attrs).filter(|_| base.is_some()),
        flags: flags | u32::from(base.is_some()),
        base,
        userdata: attrs.get(12).map(<[u8]>::to_vec),
        rules: Vec::new(),
    });
    Ok(())
}

fn delete_chain(state: &mut State, message: &Message<'_>) -> Result<()> {
    let table = find(state, message, 1)?;
    let (name, handle) = (message.attrs.text(3)?, message.attrs.u64(2));
    let wanted = |c: &Chain| match (&name, handle) {
        (_, Some(handle)) => c.handle == handle,
        (Some(name), None) => c.name == *name,
        (None, None) => false,
    };
    if name.is_none() && handle.is_none() {
        table.chains.clear();
        return Ok(());
    }
    let place = table.chains.iter().position(wanted).ok_or(Errno::ENOENT)?;
    let chain = table.chains.remove(place);
    if table.references().contains_key(&chain.name) {
        return Err(Errno::EBUSY);
    }
    Ok(())
}

fn chain<'a>(table: &'a mut Table, attrs: Attrs<'_>) -> Result<&'a mut Chain> {
    let (name, id) = (attrs.text(2)?, attrs.u32(11));
    let found = table.chains.iter_mut().find(|c| match &name {
        Some(name) => c.name == *name,
        None => id.is_some() && c.id == id,
    });
    found.ok_or(Errno::ENOENT)
}

fn new_rule(state: &mut State, message: &Message<'_>, id: Id<'_>) -> Result<()> {
    let attrs = message.attrs;
    let table = find(state, message, 1)?;
    if attrs.get(4).is_some_and(|e| e.len() > MOST_EXPRESSIONS) {
        return Err(Errno::E2BIG);
    }
    let expressions: Result<Vec<_>> = attrs.list(4).map(|e| expr::take(table, e)).collect();
    let compat = attrs.nested(5);
    let inverted = compat.and_then(|c| c.u32(2)).unwrap_or(0) & 2 != 0;
    let protocol = compat.and_then(|c| c.u32(1)).filter(|_| !inverted);
    let rule = Rule {
        handle: table.next_handle(),
        id: attrs.u32(9),
        expressions: expressions?,
        protocol: protocol.and_then(|p| u8::try_from(p).ok()),
        userdata: attrs.get(7).map(<[u8]>::to_vec),
    };
    let context = Context { table, id };
    let mut hooks = Vec::new();
    for expression in &rule.expressions {
        expr::compile(&context, &rule, expression)?;
        hooks.push(expr::hooks(&context, &rule, expression)?);
    }
    let chain = chain(table, attrs)?;
    if let Some(base) = &chain.base {
        for wanted in hooks {
            wanted.check(1 << base.hook, base.kind == "nat")?;
        }
    }
    let at = |handle: u64| chain.rules.iter().position(|r| r.handle == handle);
    if let (Some(handle), true) = (attrs.u64(3), message.flags & REPLACE != 0) {
        let place = at(handle).ok_or(Errno::ENOENT)?;
        if let Some(old) = chain.rules.get_mut(place) {
            *old = rule;
        }
        return Ok(());
    }
    if message.flags & CREATE == 0 {
        return Err(Errno::ENOENT);
    }
    if chain.rules.len() >= MOST_ENTRIES {
        return Err(Errno::ENFILE);
    }
    let numbered = |id: u32| chain.rules.iter().position(|r| r.id == Some(id));
    let beside = match (attrs.u64(6), attrs.u32(10)) {
        (Some(handle), _) => Some(at(handle).ok_or(Errno::ENOENT)?),
        (None, Some(id)) => Some(numbered(id).ok_or(Errno::ENOENT)?),
        (None, None) => None,
    };
    let append = message.flags & APPEND != 0;
    let place = match beside {
        Some(place) => place + usize::from(append),
        None if append => chain.rules.len(),
        None => 0,
    };
    chain.rules.insert(place.min(chain.rules.len()), rule);
    Ok(())
}

fn delete_rule(state: &mut State, message: &Message<'_>) -> Result<()> {
    let attrs = message.attrs;
    let table = find(state, message, 1)?;
    let (handle, id) = (attrs.u64(3), attrs.u32(9));
    if attrs.get(2).is_none() {
        table.chains.iter_mut().for_each(|c| c.rules.clear());
    } else {
        let chain = chain(table, attrs)?;
        let wanted = |r: &Rule| match (handle, id) {
            (Some(handle), _) => r.handle == handle,
            (None, id) => r.id == id,
        };
        if handle.is_none() && id.is_none() {
            chain.rules.clear();
        } else {
            let place = chain.rules.iter().position(wanted).ok_or(Errno::ENOENT)?;
            chain.rules.remove(place);
        }
    }
    Ok(())
}

/// True if a rule looks something up in the set.
fn looks_up(table: &Table, name: &str) -> bool {
    let mut all = table.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.expressions);
    all.any(|e| {
        let set = || Attrs::new(&e.data).text(1).ok().flatten();
        e.name == "lookup" && set().is_some_and(|set| set == name)
    })
}

/// Sets without a name of their own go with the rule that used them: at the end of a batch.
pub fn settle(state: &mut State) {
    for table in &mut state.tables {
        let rules = table.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.expressions);
        let lookups = rules.filter(|e| e.name == "lookup");
        let used: HashSet<String> =
            lookups.filter_map(|e| Attrs::new(&e.data).text(1).ok().flatten()).collect();
        table.sets.retain(|s| s.flags & set::ANONYMOUS == 0 || used.contains(&s.name));
    }
}

fn new_set(state: &mut State, message: &Message<'_>) -> Result<()> {
    let table = find(state, message, 1)?;
    let name = message.attrs.name(2)?;
    if table.sets.iter().any(|s| s.name == name) {
        return if message.flags & EXCL != 0 { Err(Errno::EEXIST) } else { Ok(()) };
    }
    if message.flags & CREATE == 0 {
        return Err(Errno::ENOENT);
    }
    if table.sets.len() >= MOST {
        return Err(Errno::ENFILE);
    }
    let set = set::take(table, message.attrs)?;
    table.sets.push(set);
    Ok(())
}

fn delete_set(state: &mut State, message: &Message<'_>) -> Result<()> {
    let table = find(state, message, 1)?;
    let (name, handle) = (message.attrs.text(2)?, message.attrs.u64(16));
    let wanted = |s: &super::model::Set| match handle {
        Some(handle) => s.handle == handle,
        None => Some(&s.name) == name.as_ref(),
    };
    let place = table.sets.iter().position(wanted).ok_or(Errno::ENOENT)?;
    let set = table.sets.remove(place);
    if looks_up(table, &set.name) {
        return Err(Errno::EBUSY);
    }
    Ok(())
}

fn members(state: &mut State, message: &Message<'_>, remove: bool) -> Result<()> {
    let attrs = message.attrs;
    let table = find(state, message, 1)?;
    let of = set::find(table, attrs.text(2)?.as_deref(), attrs.u32(4))?;
    let name = of.name.clone();
    let given: Result<Vec<_>> =
        attrs.list(3).map(|m| set::take_member(table, of, m, remove)).collect();
    let given = given?;
    let found = table.sets.iter_mut().find(|s| s.name == name).ok_or(Errno::ENOENT)?;
    if remove && attrs.get(3).is_none() {
        found.members.clear();
    }
    for member in given {
        if remove {
            set::remove(found, &member)?;
        } else {
            set::add(found, member, message.flags & EXCL != 0)?;
        }
    }
    Ok(())
}

/// What the filter runs: all tables that are not dormant. `EMLINK` if chains lead back to themselves; `ENOMEM`.
pub fn compile(state: &State, id: Id<'_>) -> Result<Vec<table::Table>> {
    if state.bytes() > MOST_BYTES {
        return Err(Errno::ENOMEM);
    }
    let mut out = Vec::new();
    for given in state.tables.iter().filter(|t| t.flags & 1 == 0) {
        let context = Context { table: given, id };
        let (mut chains, mut needs) = (Vec::new(), Vec::new());
        for chain in &given.chains {
            let (mut rules, mut needed) = (Vec::new(), 0b11111);
            for rule in &chain.rules {
                let mut ops = Vec::new();
                for expression in &rule.expressions {
                    needed &= expr::hooks(&context, rule, expression)?.hooks;
                    ops.extend(expr::compile(&context, rule, expression)?);
                }
                rules.push(Arc::new(table::Rule { ops }));
            }
            needs.push(needed);
            let base = chain.base.as_ref().and_then(|place| {
                let hook = Hook::from_number(place.hook)?;
                let kind = if place.kind == "nat" { ChainKind::Nat } else { ChainKind::Filter };
                let (priority, accept) = (place.priority, chain.accept);
                Some(Base { hook, priority, kind, accept, counter: chain.counter.clone() })
            });
            chains.push(table::Chain { name: chain.name.clone(), base, rules });
        }
        let (v4, v6) = (given.family != 10, given.family != 2);
        let table = table::Table { name: given.name.clone(), v4, v6, chains };
        if !table.is_sound() {
            return Err(Errno::EMLINK);
        }
        if !are_reachable(&table, &needs) {
            return Err(Errno::EINVAL);
        }
        out.push(table);
    }
    Ok(out)
}
