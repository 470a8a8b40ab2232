//! Shared mounts, remembered without being wrong.
//!
//! The host may change a shared mount at any time, and tells by `inotify(7)`: a directory in which several names were
//! looked up is watched, and what is known of its names is believed once all events that there are have been read. The
//! host queues an event before the call that makes the change returns, so that nothing old is seen by who looks after a
//! change was made. Exceptions, which no event tells of in time, are asked for each time: attributes of directories and of
//! files with several names, and, for files that get a second name and are changed by it, what was seen more than
//! [`BELIEVED`] ago. What the host cannot watch is asked for each time, too.

use super::children::Known;
use super::{GoferFs, GoferInode};
use crate::errno::Errno;
use crate::kernel::calls::Call;
use crate::sync::{Mutex, rank};
use crate::vfs::{FileType, Inode};
use gofer::{Attr as HostAttr, Watcher};
use platform::host::time::Clock;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Most directories watched; the oldest go.
const MAX_WATCHED: usize = 512;

/// Most names in all directories watched that were listed; the oldest go.
const MAX_NAMES: usize = 64 * 1024;

/// How long attributes are believed, in nanoseconds.
const BELIEVED: u64 = 1_000_000_000;

/// Most reads of events at once; who makes more of them has everything forgotten, and we go on.
const MAX_READS: usize = 64;

/// Bytes of events read at once.
const BUFFER: usize = 8192;

/// Whether a directory is watched.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    No,
    /// By this number.
    By(i32),
    /// It cannot be.
    Refused,
}

/// The directories of one mount that are watched.
#[derive(Default)]
pub(super) struct Watches {
    watcher: OnceLock<Option<Watcher>>,
    /// The call by which all events were read last, see [`Call::number`].
    settled: AtomicU64,
    table: Mutex<Table, { rank::GOFER_WATCHES }>,
}

#[derive(Default)]
struct Table {
    by_number: FxHashMap<i32, Watched>,
    /// Numbers, oldest first. Some are of watches that have ended.
    order: VecDeque<i32>,
    /// Names in all of them.
    names: usize,
    buffer: Vec<u8>,
}

struct Watched {
    dir: Weak<GoferInode>,
    /// How many names it had when it was listed.
    names: usize,
}

impl Table {
    fn remove(&mut self, number: i32) -> Option<Watched> {
        let watched = self.by_number.remove(&number)?;
        self.names = self.names.saturating_sub(watched.names);
        Some(watched)
    }
}

/// One event: `struct inotify_event` and the name behind it.
struct Event<'a> {
    number: i32,
    mask: u32,
    name: &'a [u8],
}

/// Takes the first event off `bytes`.
fn next_event<'a>(bytes: &mut &'a [u8]) -> Option<Event<'a>> {
    let (head, rest) = bytes.split_first_chunk::<16>()?;
    let word = |at: usize| -> Option<[u8; 4]> { head.get(at..at + 4)?.try_into().ok() };
    let len = u32::from_ne_bytes(word(12)?) as usize;
    let (name, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    Some(Event { number: i32::from_ne_bytes(word(0)?), mask: u32::from_ne_bytes(word(4)?), name })
}

impl GoferFs {
    /// When something is seen that is being asked for now, in nanoseconds; 0 where that does not matter.
    pub(super) fn now(&self) -> u64 {
        if self.exclusive() { 0 } else { Clock::Monotonic.now() }
    }

    fn watcher(&self) -> Option<&Watcher> {
        let watcher = self.watches.watcher.get_or_init(|| self.client.new_watcher().ok());
        watcher.as_ref()
    }

    /// Reads all events that there are, unless this call has.
    fn settle(&self) {
        let call = Call::current().map_or(0, Call::number);
        if call != 0 && self.watches.settled.load(Ordering::Acquire) == call {
            return;
        }
        let Some(Some(watcher)) = self.watches.watcher.get() else { return };
        // The last reference to a directory ends its watch, for which the table is locked: they go later.
        let mut dirs = Vec::new();
        let mut table = self.watches.table.lock();
        let mut buffer = std::mem::take(&mut table.buffer);
        buffer.resize(BUFFER, 0);
        let mut all_read = false;
        for _ in 0..MAX_READS {
            match platform::host::io::read(watcher.fd.as_fd(), &mut buffer, None) {
                Ok(n) if n > 0 => {
                    let mut events = buffer.get(..n).unwrap_or_default();
                    while let Some(event) = next_event(&mut events) {
                        table.apply(&event, &mut dirs);
                    }
                }
                Err(platform::host::Errno::EAGAIN) => {
                    all_read = true;
                    break;
                }
                Err(platform::host::Errno::EINTR) => {}
                _ => break,
            }
        }
        if !all_read {
            table.forget_all(&mut dirs);
        }
        table.buffer = buffer;
        self.watches.settled.store(call, Ordering::Release);
        drop(table);
        drop(dirs);
    }

    /// What was read before is no longer all there is.
    pub(super) fn unsettle(&self) {
        if !self.exclusive() {
            self.watches.settled.store(0, Ordering::Release);
        }
    }
}

impl Table {
    fn apply(&mut self, event: &Event<'_>, dirs: &mut Vec<Arc<GoferInode>>) {
        if event.mask & libc::IN_Q_OVERFLOW != 0 {
            self.forget_all(dirs);
            return;
        }
        let Some(watched) = self.by_number.get(&event.number) else { return };
        let Some(dir) = watched.dir.upgrade() else { return };
        const GONE: u32 =
            libc::IN_IGNORED | libc::IN_UNMOUNT | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF;
        if event.mask & GONE != 0 {
            if event.mask & libc::IN_IGNORED != 0 {
                self.remove(event.number);
                dir.children.lock().watch = State::No;
            }
            dir.children.lock().forget_all();
        } else if !event.name.is_empty() {
            dir.children.lock().forget(event.name);
        }
        dirs.push(dir);
    }

    fn forget_all(&mut self, dirs: &mut Vec<Arc<GoferInode>>) {
        for watched in self.by_number.values() {
            if let Some(dir) = watched.dir.upgrade() {
                dir.children.lock().forget_all();
                dirs.push(dir);
            }
        }
    }
}

impl GoferInode {
    /// Whether what is known of the names in this directory is true now.
    pub(super) fn knows_names(&self) -> bool {
        if self.fs.exclusive() {
            return true;
        }
        if !matches!(self.children.lock().watch, State::By(_)) {
            return false;
        }
        self.fs.settle();
        matches!(self.children.lock().watch, State::By(_))
    }

    /// Has this directory watched, if that can be done and is not.
    pub(super) fn watch(&self) {
        if self.fs.exclusive() || self.children.lock().watch != State::No {
            return;
        }
        let number = match self.fs.watcher() {
            Some(watcher) => self.at(|dir, names| self.fs.client.watch(watcher, dir, names)),
            None => Err(Errno::EMFILE),
        };
        let Ok(number) = number else {
            self.children.lock().watch = State::Refused;
            return;
        };
        let watched = Watched { dir: self.myself.clone(), names: 0 };
        {
            let mut table = self.fs.watches.table.lock();
            match table.by_number.insert(number, watched) {
                Some(old) => table.names = table.names.saturating_sub(old.names),
                None => table.order.push_back(number),
            }
            // What was asked for before may be old, and no event tells of it.
            let mut children = self.children.lock();
            children.watch = State::By(number);
            children.forget_all();
        }
        self.fs.trim_watches();
    }

    /// Notes that this directory, which is watched, was listed and has so many names.
    pub(super) fn count_names(&self, names: usize) {
        let State::By(number) = self.children.lock().watch else { return };
        {
            let mut table = self.fs.watches.table.lock();
            let Some(watched) = table.by_number.get_mut(&number) else { return };
            let before = std::mem::replace(&mut watched.names, names);
            table.names = (table.names + names).saturating_sub(before);
        }
        self.fs.trim_watches();
    }

    /// Ends the watch: nobody uses this directory any more.
    pub(super) fn end_watch(&mut self) {
        let State::By(number) = self.children.get_mut().watch else { return };
        let removed = {
            let mut table = self.fs.watches.table.lock();
            // The directory may have been found again and be watched by the same number.
            let ours =
                table.by_number.get(&number).is_some_and(|w| Weak::ptr_eq(&w.dir, &self.myself));
            if ours { table.remove(number) } else { None }
        };
        if removed.is_some()
            && let Some(watcher) = self.fs.watcher()
        {
            // It may have ended by itself.
            let _ = self.fs.client.unwatch(watcher, number);
        }
    }

    /// Attributes as the directory above knows them, if they are true now.
    pub(super) fn attr_above(&self) -> Option<HostAttr> {
        if self.file_type() == FileType::Directory {
            return None;
        }
        let (dir, name) = self.place()?;
        if !dir.knows_names() {
            return None;
        }
        let since = self.fs.now().saturating_sub(BELIEVED);
        let children = dir.children.lock();
        let attr = children.attr(&name, since)?;
        (attr.nlink == 1 && self.has_key(attr)).then_some(*attr)
    }

    /// Asks for attributes, and notes them in the directory above if that is watched.
    pub(super) fn ask_attr(&self) -> crate::errno::Result<HostAttr> {
        let place = match self.file_type() {
            FileType::Directory => None,
            _ => self.place(),
        };
        let before = place.as_ref().map(|(dir, _)| dir.children.lock().generation);
        let now = self.fs.now();
        let fresh = self.at(|dir, names| self.fs.client.stat(dir, names))?;
        if let (Some((dir, name)), Some(before)) = (place, before)
            && self.has_key(&fresh)
        {
            let target = self.known_target();
            if fresh.kind() != gofer::FileKind::Symlink || target.is_some() {
                dir.note_since(before, &name, Known::File(fresh, target), now);
            }
        }
        Ok(fresh)
    }
}

impl GoferFs {
    /// Ends the oldest watches, if there are too many.
    fn trim_watches(&self) {
        loop {
            let (number, dir) = {
                let mut table = self.watches.table.lock();
                if table.by_number.len() <= MAX_WATCHED && table.names <= MAX_NAMES {
                    return;
                }
                let Some(number) = table.order.pop_front() else { return };
                let Some(watched) = table.remove(number) else { continue };
                let dir = watched.dir.upgrade();
                if let Some(dir) = &dir {
                    let mut children = dir.children.lock();
                    children.forget_all();
                    children.watch = State::No;
                }
                (number, dir)
            };
            if let Some(watcher) = self.watcher() {
                let _ = self.client.unwatch(watcher, number);
            }
            drop(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_apart_and_broken_ones_end_it() {
        let mut bytes = Vec::new();
        for (number, mask, name) in
            [(1i32, libc::IN_CREATE, &b"a\0\0\0"[..]), (2, libc::IN_ATTRIB, b"")]
        {
            bytes.extend(number.to_ne_bytes());
            bytes.extend(mask.to_ne_bytes());
            bytes.extend(0u32.to_ne_bytes());
            bytes.extend((name.len() as u32).to_ne_bytes());
            bytes.extend(name);
        }
        bytes.extend([0; 12]);
        bytes.extend(u32::MAX.to_ne_bytes());
        let mut rest = &bytes[..];
        let mut found = Vec::new();
        while let Some(event) = next_event(&mut rest) {
            found.push((event.number, event.mask, event.name.to_vec()));
        }
        let a = (1, libc::IN_CREATE, b"a".to_vec());
        assert_eq!(found, [a, (2, libc::IN_ATTRIB, Vec::new())]);
    }
}
