//! File descriptor tables (`files_struct`).

use super::File;
use super::file::OpenFlags;
use crate::errno::{Errno, Result};
use crate::sync::{RwLock, rank};
use platform::Descriptors;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Most descriptors of a table (`fs.nr_open`), also the highest `RLIMIT_NOFILE` that can be set.
pub static NR_OPEN: AtomicU32 = AtomicU32::new(NR_OPEN_MAX);
/// What [`NR_OPEN`] can be set to at most: tables are the sentry's memory.
pub const NR_OPEN_MAX: u32 = 1 << 20;

/// `limit`, but no more than [`NR_OPEN`] and never more than [`NR_OPEN_MAX`].
fn bounded(limit: u64) -> u64 {
    limit.min(NR_OPEN.load(Ordering::Relaxed).into())
}

#[derive(Clone)]
struct Slot {
    file: Arc<File>,
    cloexec: bool,
}

#[derive(Clone, Default)]
struct Table {
    slots: Vec<Option<Slot>>,
    /// A bit for each slot in use.
    used: Vec<u64>,
    /// No slot below this one is free.
    first_free: usize,
}

impl Table {
    fn slot(&self, fd: i32) -> Option<&Slot> {
        self.slots.get(usize::try_from(fd).ok()?)?.as_ref()
    }

    fn slot_mut(&mut self, fd: i32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(fd).ok()?)?.as_mut()
    }

    /// Lowest free slot not below `min`.
    fn lowest_free(&self, min: usize) -> usize {
        let from = min.max(self.first_free);
        let mut word = from / 64;
        let mut mask = u64::MAX << (from % 64);
        while let Some(&used) = self.used.get(word) {
            let free = !used & mask;
            if free != 0 {
                return word * 64 + free.trailing_zeros() as usize;
            }
            word += 1;
            mask = u64::MAX;
        }
        from.max(word * 64)
    }

    /// Puts `slot` at `index`, which is below [`NR_OPEN_MAX`]; returns what was there.
    fn put(&mut self, index: usize, slot: Slot) -> Option<Slot> {
        if index >= self.slots.len() {
            self.slots.resize_with((index + 1).next_multiple_of(64), || None);
            self.used.resize(self.slots.len() / 64, 0);
        }
        if let Some(word) = self.used.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
        self.slots.get_mut(index)?.replace(slot)
    }

    fn take(&mut self, index: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(index)?.take()?;
        if let Some(word) = self.used.get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
        self.first_free = self.first_free.min(index);
        Some(slot)
    }
}

static NEXT_TABLE_ID: AtomicU64 = AtomicU64::new(1);

/// A table of file descriptors, shared by tasks cloned with `CLONE_FILES`.
///
/// Files are never dropped while the table is locked: what they release may take any lock.
///
/// Some platforms have a copy of the table, with what they need of the files to answer calls: it changes with the table, under its lock.
pub struct FdTable {
    id: u64,
    table: RwLock<Table, { rank::FD_TABLE }>,
    copy: OnceLock<Arc<dyn Descriptors>>,
}

impl Default for FdTable {
    fn default() -> Self {
        Self::new()
    }
}

impl FdTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::with(Table::default())
    }

    fn with(table: Table) -> Self {
        let id = NEXT_TABLE_ID.fetch_add(1, Ordering::Relaxed);
        Self { id, table: RwLock::new(table), copy: OnceLock::new() }
    }

    /// Gives the platform its copy. To be called before a task uses the table.
    pub fn set_copy(&self, copy: Arc<dyn Descriptors>) {
        let table = self.table.write();
        for (fd, slot) in (0..).zip(&table.slots) {
            if let Some(slot) = slot {
                slot.file.tell(&*copy);
                copy.set(fd, slot.file.name());
            }
        }
        // There is none yet.
        let _ = self.copy.set(copy);
    }

    /// What the platform calls its copy.
    pub fn number(&self) -> Option<u32> {
        self.copy.get().map(|copy| copy.number())
    }

    /// Tells the platform of a file that is to be put into the table.
    fn tell(&self, file: &File) {
        if let Some(copy) = self.copy.get() {
            file.tell(&**copy);
        }
    }

    /// Puts a file at `index`; returns what was there.
    fn put(&self, table: &mut Table, index: usize, slot: Slot) -> Option<Slot> {
        if let Some(copy) = self.copy.get() {
            copy.set(index as u32, slot.file.name());
        }
        table.put(index, slot)
    }

    fn take(&self, index: usize) -> Option<Slot> {
        let mut table = self.table.write();
        let slot = table.take(index)?;
        if let Some(copy) = self.copy.get() {
            copy.set(index as u32, None);
        }
        Some(slot)
    }

    /// Never reused; owner of POSIX record locks taken through this table.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The file behind a descriptor. `EBADF` if there is none, or if it was opened with `O_PATH`
    /// (what most calls want; see [`FdTable::get_raw`]).
    pub fn get(&self, fd: i32) -> Result<Arc<File>> {
        match self.table.read().slot(fd) {
            Some(slot) if !slot.file.flags().contains(OpenFlags::PATH) => Ok(slot.file.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    /// The file behind a descriptor, also if it was opened with `O_PATH`. `EBADF` if there is none.
    pub fn get_raw(&self, fd: i32) -> Result<Arc<File>> {
        self.table.read().slot(fd).map(|slot| slot.file.clone()).ok_or(Errno::EBADF)
    }

    /// Installs a file at the lowest free descriptor not below `min`. `EMFILE` at `limit`
    /// (`RLIMIT_NOFILE`).
    pub fn insert(&self, file: Arc<File>, cloexec: bool, min: i32, limit: u64) -> Result<i32> {
        let min = usize::try_from(min).map_err(|_| Errno::EINVAL)?;
        self.tell(&file);
        let mut table = self.table.write();
        let index = table.lowest_free(min);
        if index as u64 >= bounded(limit) {
            drop(table);
            return Err(Errno::EMFILE);
        }
        self.put(&mut table, index, Slot { file, cloexec });
        if min <= table.first_free {
            table.first_free = index + 1;
        }
        Ok(index as i32)
    }

    /// Installs a file at exactly `fd`, replacing what was there (`dup2(2)`). The caller closes what
    /// is returned with [`FdTable::closed`]. `EBADF` at `limit`.
    pub fn insert_at(
        &self,
        fd: i32,
        file: Arc<File>,
        cloexec: bool,
        limit: u64,
    ) -> Result<Option<Arc<File>>> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if index as u64 >= bounded(limit) {
            return Err(Errno::EBADF);
        }
        self.tell(&file);
        let old = self.put(&mut self.table.write(), index, Slot { file, cloexec });
        Ok(old.map(|slot| slot.file))
    }

    /// Whether the descriptor is closed by `execve(2)`. `EBADF` if there is none.
    pub fn cloexec(&self, fd: i32) -> Result<bool> {
        self.table.read().slot(fd).map(|slot| slot.cloexec).ok_or(Errno::EBADF)
    }

    /// Sets whether the descriptor is closed by `execve(2)`. `EBADF` if there is none.
    pub fn set_cloexec(&self, fd: i32, cloexec: bool) -> Result<()> {
        let mut table = self.table.write();
        table.slot_mut(fd).ok_or(Errno::EBADF)?.cloexec = cloexec;
        Ok(())
    }

    /// Removes a descriptor and closes it (`close(2)`). `EBADF` if there is none; with any other error it is
    /// closed nevertheless.
    pub fn close(&self, fd: i32) -> Result<()> {
        self.closed(self.remove(fd)?)
    }

    /// Removes a descriptor; the caller is to pass its file to [`FdTable::closed`]. `EBADF` if there is none.
    pub fn remove(&self, fd: i32) -> Result<Arc<File>> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let slot = self.take(index).ok_or(Errno::EBADF)?;
        Ok(slot.file)
    }

    /// A descriptor of this table no longer stands for `file`: what is tied to the descriptor rather
    /// than to the open file description goes (POSIX record locks).
    pub fn closed(&self, file: Arc<File>) -> Result<()> {
        let flushed = file.ops().flush(&file);
        super::locks::release_posix(&file, self.id);
        super::dnotify::end(&file, self.id);
        flushed
    }

    /// Calls `f` for every descriptor from `first` to `last` in use, a batch at a time.
    fn select(&self, first: u32, last: u32) -> Vec<i32> {
        let table = self.table.read();
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let last = usize::try_from(last).unwrap_or(usize::MAX);
        table
            .slots
            .iter()
            .enumerate()
            .skip(first)
            .take_while(|(i, _)| *i <= last)
            .filter(|(_, slot)| slot.is_some())
            .map(|(i, _)| i as i32)
            .collect()
    }

    /// Closes the descriptors from `first` to `last` (`close_range(2)`).
    pub fn close_range(&self, first: u32, last: u32) {
        for fd in self.select(first, last) {
            // Another thread may have closed it: just as well.
            let _ = self.close(fd);
        }
    }

    /// Marks the descriptors from `first` to `last` to be closed by `execve(2)`
    /// (`CLOSE_RANGE_CLOEXEC`).
    pub fn set_cloexec_range(&self, first: u32, last: u32) {
        for fd in self.select(first, last) {
            let _ = self.set_cloexec(fd, true);
        }
    }

    /// Closes what `execve(2)` closes.
    pub fn close_on_exec(&self) {
        let doomed: Vec<i32> = {
            let table = self.table.read();
            let marked = |slot: &Option<Slot>| slot.as_ref().is_some_and(|s| s.cloexec);
            (0i32..).zip(&table.slots).filter(|(_, s)| marked(s)).map(|(fd, _)| fd).collect()
        };
        for fd in doomed {
            let _ = self.close(fd);
        }
    }

    /// A copy of the table (`fork(2)`, `unshare(CLONE_FILES)`). `EMFILE` if it has descriptors beyond what
    /// [`NR_OPEN`] has been set to meanwhile.
    pub fn fork(&self) -> Result<Arc<FdTable>> {
        let mut table = self.table.read().clone();
        // A table that was large once should not make every later fork expensive.
        let used = table.used.iter().rposition(|w| *w != 0).map_or(0, |w| w + 1);
        table.used.truncate(used);
        table.slots.truncate(used * 64);
        if used as u64 * 64 > bounded(u64::MAX).next_multiple_of(64) {
            drop(table);
            return Err(Errno::EMFILE);
        }
        let new = Self::with(table);
        if let Some(copy) = self.copy.get().and_then(|copy| copy.another()) {
            new.set_copy(copy);
        }
        Ok(Arc::new(new))
    }

    /// Closes everything (the last task that used the table is gone).
    pub fn close_all(&self) {
        self.close_range(0, u32::MAX);
    }

    /// Descriptors in use, ascending.
    pub fn descriptors(&self) -> Vec<i32> {
        self.select(0, u32::MAX)
    }

    /// Lowest number such that no higher descriptor is in use (`FDSize` of `/proc/PID/status`).
    pub fn size(&self) -> usize {
        self.table.read().slots.len()
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        self.close_all();
    }
}
