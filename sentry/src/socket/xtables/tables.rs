//! The tables of a network.

use super::blob::{self, Given, Layout};
use crate::errno::{Errno, Result};
use crate::socket::inet::Net;
use crate::sync::{Mutex, rank};
use netstack::filter::Owner;
use netstack::filter::table::Counter;
use std::sync::Arc;

/// The front end's number among the owners of tables.
const FRONT_END: u8 = 0;

/// What is fixed about a table.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Its hooks, a bit each.
    pub hooks: u32,
    /// Its place at them: for all, and for those after routing where that differs.
    pub priority: (i32, i32),
}

/// All tables there are.
pub const KINDS: [Kind; 5] = [
    Kind { name: "filter", hooks: 0b01110, priority: (0, 0) },
    Kind { name: "nat", hooks: 0b11011, priority: (-100, 100) },
    Kind { name: "mangle", hooks: 0b11111, priority: (-150, -150) },
    Kind { name: "raw", hooks: 0b01001, priority: (-300, -300) },
    Kind { name: "security", hooks: 0b01110, priority: (50, 50) },
];

/// One table, as it was given.
struct Table {
    given: Given,
    counters: Vec<Arc<Counter>>,
}

/// The tables that anybody has asked for, in that order.
#[derive(Default)]
pub struct Tables(Vec<(&'static str, Table)>);

/// Those of a family.
pub fn of<'a>(net: &'a Net, layout: &Layout) -> &'a Mutex<Tables, { rank::LEAF }> {
    let [v4, v6] = &net.xtables;
    if layout.v6 { v6 } else { v4 }
}

fn kind(name: &str) -> Result<(u32, &'static Kind)> {
    let mut all = (0..).zip(&KINDS);
    all.find(|(_, kind)| kind.name == name).ok_or(Errno::ENOENT)
}

impl Tables {
    /// Names of the tables, the latest first.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().rev().map(|(name, _)| *name).collect()
    }

    fn get(&mut self, layout: &Layout, name: &str) -> Result<&mut Table> {
        let (_, kind) = kind(name)?;
        let place = match self.0.iter().position(|(n, _)| *n == kind.name) {
            Some(place) => place,
            None => {
                let given = blob::initial(layout, kind.hooks);
                let counters = (0..given.count).map(|_| Arc::default()).collect();
                self.0.push((kind.name, Table { given, counters }));
                self.0.len() - 1
            }
        };
        self.0.get_mut(place).map(|(_, table)| table).ok_or(Errno::ENOENT)
    }

    /// `struct ipt_getinfo`
    pub fn info(&mut self, layout: &Layout, name: &str) -> Result<Vec<u8>> {
        let given = &self.get(layout, name)?.given;
        let mut out = name.as_bytes().to_vec();
        out.resize(32, 0);
        let all = [given.hooks].into_iter().chain(given.starts).chain(given.ends);
        let all = all.chain([given.count, given.entries.len() as u32]);
        out.extend(all.flat_map(u32::to_ne_bytes));
        Ok(out)
    }

    /// `struct ipt_get_entries`: `EAGAIN` if the table has another size by now.
    pub fn entries(&mut self, layout: &Layout, name: &str, size: usize) -> Result<Vec<u8>> {
        let table = self.get(layout, name)?;
        if table.given.entries.len() != size {
            return Err(Errno::EAGAIN);
        }
        let mut out = name.as_bytes().to_vec();
        out.resize(32, 0);
        out.extend_from_slice(&(size as u32).to_ne_bytes());
        out.resize(40, 0);
        let mut entries = table.given.entries.clone();
        let mut at = 0;
        for counter in &table.counters {
            let (packets, bytes) = counter.read();
            let both = [packets.to_ne_bytes(), bytes.to_ne_bytes()].concat();
            let place = at + layout.counters;
            if let Some(place) = entries.get_mut(place..place + 16) {
                place.copy_from_slice(&both);
            }
            at += blob::next_offset(layout, &entries, at).ok_or(Errno::EINVAL)?;
        }
        out.extend_from_slice(&entries);
        Ok(out)
    }

    /// Replaces a table; the counters of the old one.
    pub fn replace(
        &mut self,
        net: &Net,
        layout: &'static Layout,
        name: &str,
        given: Given,
        old_counters: usize,
        id: &dyn Fn(u32, bool) -> Option<u32>,
    ) -> Result<Vec<(u64, u64)>> {
        let (number, kind) = kind(name)?;
        let compiled = blob::compile(layout, kind, given, id)?;
        let table = self.get(layout, name)?;
        if table.counters.len() != old_counters {
            return Err(Errno::EAGAIN);
        }
        let owner: Owner = (FRONT_END, number * 2 + u32::from(layout.v6));
        let new = if compiled.idle { Vec::new() } else { vec![(owner, Arc::new(compiled.table))] };
        net.filter.replace(|o| o == owner, new);
        let old = std::mem::replace(&mut table.counters, compiled.counters);
        table.given = compiled.given;
        Ok(old.iter().map(|counter| counter.read()).collect())
    }

    /// Adds to the counters of all rules.
    pub fn add_counters(
        &mut self,
        layout: &Layout,
        name: &str,
        counters: &[(u64, u64)],
    ) -> Result<()> {
        let table = self.get(layout, name)?;
        if table.counters.len() != counters.len() {
            return Err(Errno::EINVAL);
        }
        for (counter, (packets, bytes)) in table.counters.iter().zip(counters) {
            counter.add(*packets, *bytes);
        }
        Ok(())
    }
}
