//! Files in flight (`SCM_RIGHTS`): limits, cycles, and letting go of long chains.
//!
//! A socket can be sent through itself, or two through each other; then nobody can ever receive them
//! and nobody holds them. [`collect_garbage`] finds such sockets as Linux's old collector did: they
//! are those whose every reference is in flight inside others of the same kind.

use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Rlimit};
use crate::socket::SocketFile;
use crate::sync::{Mutex, rank};
use crate::vfs::File;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Most files in one message (`SCM_MAX_FD`).
pub const MAX_FILES: usize = 253;
/// Most files in flight in the whole sandbox, whoever sends them.
const MAX_IN_FLIGHT: usize = 1 << 16;

const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

static IN_FLIGHT: AtomicUsize = AtomicUsize::new(0);
/// Sockets closed since the last search for garbage.
static CLOSED: AtomicUsize = AtomicUsize::new(0);

/// Sockets in flight: how often each one.
static SOCKETS: Mutex<Option<HashMap<u64, InFlight>>, { rank::LEAF }> = Mutex::new(None);

struct InFlight {
    file: Weak<File>,
    count: usize,
}

/// Files that travel with a message.
pub struct Rights(Vec<Arc<File>>);

fn is_unix(file: &File) -> bool {
    file.ops_as::<SocketFile>()
        .is_some_and(|s| s.socket().family() == crate::socket::family::AF_UNIX)
}

impl Rights {
    /// Sends files on their way. `ETOOMANYREFS` when too many are.
    pub fn new(t: &CurrentTask, files: Vec<Arc<File>>) -> Result<Rights> {
        let limit = t.limit(Rlimit::Nofile).soft;
        let now = IN_FLIGHT.load(Ordering::Relaxed);
        let privileged = t.creds().has(CAP_SYS_RESOURCE) || t.creds().has(CAP_SYS_ADMIN);
        if now + files.len() > MAX_IN_FLIGHT || (now as u64 > limit && !privileged) {
            if !COLLECTING.replace(true) {
                collect_garbage();
                COLLECTING.set(false);
            }
            let now = IN_FLIGHT.load(Ordering::Relaxed);
            if now + files.len() > MAX_IN_FLIGHT || (now as u64 > limit && !privileged) {
                return Err(Errno::ETOOMANYREFS);
            }
        }
        Ok(Rights::count(files))
    }

    fn count(files: Vec<Arc<File>>) -> Rights {
        IN_FLIGHT.fetch_add(files.len(), Ordering::Relaxed);
        for file in files.iter().filter(|f| is_unix(f)) {
            let mut sockets = SOCKETS.lock();
            let entry = sockets
                .get_or_insert_default()
                .entry(file.id())
                .or_insert_with(|| InFlight { file: Arc::downgrade(file), count: 0 });
            entry.count += 1;
        }
        Rights(files)
    }

    /// A second set of the same files, for `MSG_PEEK`.
    pub fn duplicate(&self) -> Rights {
        Rights::count(self.0.clone())
    }

    /// The files.
    pub fn files(&self) -> &[Arc<File>] {
        &self.0
    }

    /// Ends the journey of the files: they belong to the caller.
    pub fn into_files(mut self) -> Vec<Arc<File>> {
        self.take()
    }

    fn take(&mut self) -> Vec<Arc<File>> {
        let files = std::mem::take(&mut self.0);
        IN_FLIGHT.fetch_sub(files.len(), Ordering::Relaxed);
        for file in files.iter().filter(|f| is_unix(f)) {
            let mut sockets = SOCKETS.lock();
            let Some(map) = sockets.as_mut() else { continue };
            if let Some(entry) = map.get_mut(&file.id()) {
                entry.count -= 1;
                if entry.count == 0 {
                    map.remove(&file.id());
                }
            }
        }
        files
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let files = self.take();
        if !files.is_empty() {
            discard(files);
            socket_closed();
        }
    }
}

thread_local! {
    /// This thread looks for garbage.
    static COLLECTING: Cell<bool> = const { Cell::new(false) };
    static TRASH: RefCell<Option<Vec<Arc<File>>>> = const { RefCell::new(None) };
}

/// Drops files one after the other. A socket inside a socket inside a socket would otherwise be
/// dropped by as many nested calls, and a guest can nest them as deep as it likes.
fn discard(files: Vec<Arc<File>>) {
    let nested = TRASH.with_borrow_mut(|trash| match trash {
        Some(trash) => {
            trash.extend(files);
            None
        }
        None => {
            *trash = Some(Vec::new());
            Some(files)
        }
    });
    let Some(mut batch) = nested else { return };
    while !batch.is_empty() {
        for file in batch.drain(..) {
            drop(file);
        }
        batch =
            TRASH.with_borrow_mut(|trash| trash.as_mut().map(std::mem::take).unwrap_or_default());
    }
    TRASH.with_borrow_mut(|trash| *trash = None);
}

/// A socket was closed: looks for garbage, if it is time. A search visits every socket in flight, so
/// with many of them it is made only after as many closings that the cost is spread.
pub fn socket_closed() {
    let in_flight = IN_FLIGHT.load(Ordering::Relaxed);
    let busy = COLLECTING.get() || TRASH.with_borrow(Option::is_some);
    if in_flight == 0 || busy {
        return;
    }
    let closed = CLOSED.fetch_add(1, Ordering::Relaxed) + 1;
    if in_flight <= 64 || closed >= in_flight / 16 {
        CLOSED.store(0, Ordering::Relaxed);
        COLLECTING.set(true);
        collect_garbage();
        COLLECTING.set(false);
    }
}

/// Breaks cycles of sockets that only hold each other. [`COLLECTING`] is set.
fn collect_garbage() {
    let snapshot: Vec<(Arc<File>, usize)> = {
        let sockets = SOCKETS.lock();
        let Some(map) = sockets.as_ref().filter(|m| !m.is_empty()) else { return };
        map.values().filter_map(|e| Some((e.file.upgrade()?, e.count))).collect()
    };
    // Those that nobody has open: every reference but ours is in flight.
    let mut suspects: HashMap<u64, (Arc<File>, usize)> = HashMap::new();
    let mut others = Vec::new();
    for (file, count) in snapshot {
        if Arc::strong_count(&file) == count + 1 {
            suspects.insert(file.id(), (file, count));
        } else {
            others.push(file);
        }
    }
    // A suspect that is in the queue of something that is no suspect can still be received, and so
    // can what is in its queue.
    let held: HashMap<u64, Vec<u64>> =
        suspects.iter().map(|(id, (file, _))| (*id, super::held_by(file))).collect();
    let mut inside: HashMap<u64, usize> = HashMap::new();
    for id in held.values().flatten() {
        *inside.entry(*id).or_default() += 1;
    }
    let mut reachable: Vec<u64> = suspects
        .iter()
        .filter(|(id, (_, count))| inside.get(id).copied().unwrap_or(0) < *count)
        .map(|(id, _)| *id)
        .collect();
    let mut live: HashSet<u64> = reachable.iter().copied().collect();
    while let Some(id) = reachable.pop() {
        for next in held.get(&id).into_iter().flatten() {
            if live.insert(*next) {
                reachable.push(*next);
            }
        }
    }
    let mut garbage = Vec::new();
    for (id, (file, _)) in &suspects {
        if !live.contains(id) {
            garbage.extend(super::take_rights(file));
        }
    }
    // Everything is dropped with no lock held; our own references go last.
    drop(garbage);
    discard(suspects.into_values().map(|(file, _)| file).collect());
    drop(others);
}

/// Files in flight now, for tests.
#[cfg(test)]
pub fn in_flight() -> usize {
    IN_FLIGHT.load(Ordering::Relaxed)
}

#[cfg(test)]
impl Rights {
    /// Without limits and task.
    pub fn for_test(files: Vec<Arc<File>>) -> Rights {
        Rights::count(files)
    }
}
