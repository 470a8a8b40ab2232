//! How System V objects are named: an identifier is a place in a table and a sequence number
//! (`ipc/util.c` in Linux).

use super::limits::Limits;
use super::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, Permissions};
use crate::errno::{Errno, Result};
use crate::kernel::Credentials;
use crate::kernel::namespace::IpcNamespace;
use crate::sync::{Mutex, rank};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

/// Identifiers of one place in the table are this far apart; also the number of places.
pub const SEQ_STEP: i32 = 32768;

/// Over how many places the identifiers go round while `used` of them are taken.
fn places(used: usize) -> i32 {
    i32::try_from(used + used / 2 + 1).unwrap_or(SEQ_STEP).clamp(64, SEQ_STEP)
}

/// An object that a table holds.
pub trait Object {
    /// Who may use it.
    fn permissions(&self) -> Permissions;
}

struct Table<T> {
    objects: BTreeMap<i32, (i32, Arc<T>)>,
    next: i32,
    seq: u16,
}

/// The objects of one kind in one namespace.
pub struct Ids<T> {
    table: Mutex<Table<T>, { rank::IPC }>,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Self { table: Mutex::new(Table { objects: BTreeMap::new(), next: 0, seq: 0 }) }
    }
}

impl<T: Object> Ids<T> {
    /// What `semget(2)` and `msgget(2)` do: finds `key` or makes an object, at most `max` of them.
    /// The new one gets the identifier in `wish`, if there is one and it is free.
    /// `check` says whether an existing object will do; `make` gets the permissions of the new one.
    pub fn get(
        &self,
        by: (&IpcNamespace, &Credentials),
        (key, flags): (i32, u32),
        (max, wish): (usize, &AtomicI32),
        check: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce(Permissions) -> Result<T>,
    ) -> Result<i32> {
        let (ns, creds) = by;
        let mut table = self.table.lock();
        if key != IPC_PRIVATE {
            let found = table.objects.iter().find(|(_, (_, o))| o.permissions().key == key);
            if let Some((_, (id, object))) = found {
                if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
                    return Err(Errno::EEXIST);
                }
                check(object)?;
                let want = (flags >> 6 | flags >> 3 | flags) & 7;
                object.permissions().check(ns, creds, want)?;
                return Ok(*id);
            }
            if flags & IPC_CREAT == 0 {
                return Err(Errno::ENOENT);
            }
        }
        let used = table.objects.len();
        if used >= max {
            return Err(Errno::ENOSPC);
        }
        let free = |i: &i32| !table.objects.contains_key(i);
        let (index, seq) = if let Some(id) = Limits::take_id(wish) {
            let index = (id % SEQ_STEP..SEQ_STEP).find(free).ok_or(Errno::ENOSPC)?;
            (index, (id / SEQ_STEP) as u16)
        } else {
            // Places are used in turn, and with each turn the sequence number changes, so that an
            // identifier does not come back soon.
            let (start, places) = (table.next, places(used));
            let mut turn = (start..places).chain(0..start.min(places));
            let index = turn.find(free).ok_or(Errno::ENOSPC)?;
            if index < start {
                table.seq = (table.seq + 1) % SEQ_STEP as u16;
            }
            table.next = index + 1;
            (index, table.seq)
        };
        let object = make(Permissions::new(key, creds, flags, seq))?;
        let id = i32::from(object.permissions().seq) * SEQ_STEP + index;
        table.objects.insert(index, (id, Arc::new(object)));
        Ok(id)
    }

    /// The object with an identifier. `EIDRM` when another one has its place, else `EINVAL`.
    pub fn find(&self, id: i32) -> Result<Arc<T>> {
        if id < 0 {
            return Err(Errno::EINVAL);
        }
        let table = self.table.lock();
        let (found, object) = table.objects.get(&(id % SEQ_STEP)).ok_or(Errno::EINVAL)?;
        if *found == id { Ok(object.clone()) } else { Err(Errno::EIDRM) }
    }

    /// Identifier and object at a place in the table (`SEM_STAT`, `MSG_STAT`), which an identifier names, too.
    pub fn at(&self, index: i32) -> Result<(i32, Arc<T>)> {
        self.table.lock().objects.get(&(index % SEQ_STEP)).cloned().ok_or(Errno::EINVAL)
    }

    /// Takes an object out of the table.
    pub fn remove(&self, id: i32) {
        let mut table = self.table.lock();
        let index = id % SEQ_STEP;
        if table.objects.get(&index).is_some_and(|(found, _)| *found == id) {
            let gone = table.objects.remove(&index);
            drop(table);
            drop(gone);
        }
    }

    /// Every identifier and object, in order, and the highest place in use (0 if none is).
    pub fn all(&self) -> (Vec<(i32, Arc<T>)>, i32) {
        let table = self.table.lock();
        let highest = table.objects.keys().next_back().copied().unwrap_or(0);
        (table.objects.values().cloned().collect(), highest)
    }
}
