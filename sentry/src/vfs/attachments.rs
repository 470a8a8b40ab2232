//! What hangs on an inode as long as it lives in memory.
//!
//! Advisory locks, inotify watches, a FIFO's pipe, a bound socket: most inodes have none of it. Each
//! kind is a type of its own module and is kept in a slot by its type, so that a new kind needs no
//! change here or in a file system.

use super::File;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

type Slot = Arc<dyn Any + Send + Sync>;

/// The slots of one inode. See the module's head.
#[derive(Default)]
pub struct Attachments {
    slots: OnceLock<Box<Mutex<Vec<Slot>, { rank::LEAF }>>>,
    /// Open files that may write (positive), or programs that run the file (negative): `ETXTBSY`.
    writers: AtomicI32,
    /// Open files that only read.
    readers: AtomicU32,
}

impl Attachments {
    /// The attachment of type `T`, if there is one. A single load when the inode has none at all.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        find(&self.slots.get()?.lock())
    }

    /// The attachment of type `T`, made with `init` if there is none. `init` must take no lock.
    pub fn get_or_insert_with<T: Any + Send + Sync>(&self, init: impl FnOnce() -> T) -> Arc<T> {
        let mut slots = self.slots.get_or_init(Default::default).lock();
        if let Some(existing) = find(&slots) {
            return existing;
        }
        let new = Arc::new(init());
        slots.push(new.clone());
        new
    }

    /// Attaches `value`, replacing what was attached of its type.
    pub fn set<T: Any + Send + Sync>(&self, value: Arc<T>) {
        let old = {
            let mut slots = self.slots.get_or_init(Default::default).lock();
            let old = take::<T>(&mut slots);
            slots.push(value);
            old
        };
        drop(old);
    }

    /// Detaches and returns the attachment of type `T`.
    pub fn remove<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let slot = take::<T>(&mut self.slots.get()?.lock())?;
        slot.downcast().ok()
    }

    /// Counts an open file that may write. `ETXTBSY` while the file is being executed.
    pub fn allow_write(&self) -> Result<()> {
        self.change(|n| (n >= 0).then(|| n.saturating_add(1)))
    }

    /// The file counted by [`Attachments::allow_write`] is closed.
    pub fn end_write(&self) {
        self.writers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a program that runs this file. `ETXTBSY` while someone has it open for writing.
    pub fn deny_write(&self) -> Result<()> {
        self.change(|n| (n <= 0).then(|| n.saturating_sub(1)))
    }

    /// The program counted by [`Attachments::deny_write`] no longer runs.
    pub fn end_deny_write(&self) {
        self.writers.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts an open file that only reads (`i_readcount`).
    pub fn begin_read(&self) {
        self.readers.fetch_add(1, Ordering::AcqRel);
    }

    /// The file counted by [`Attachments::begin_read`] is closed.
    pub fn end_read(&self) {
        self.readers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Open files that only read, and those that may write.
    pub fn open_counts(&self) -> (u32, u32) {
        let writers = self.writers.load(Ordering::Acquire).max(0);
        (self.readers.load(Ordering::Acquire), writers as u32)
    }

    fn change(&self, f: impl FnMut(i32) -> Option<i32>) -> Result<()> {
        self.writers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, f)
            .map(|_| ())
            .map_err(|_| Errno::ETXTBSY)
    }
}

/// As in Linux one inode is behind all event counters, timers and their kind.
static ANONYMOUS: LazyLock<Attachments> = LazyLock::new(Attachments::default);

/// What hangs on the inode of an open file.
pub fn of(file: &File) -> &Attachments {
    match file.path() {
        Some(path) => path.inode().attachments(),
        None => file.ops().attachments().unwrap_or(&ANONYMOUS),
    }
}

fn find<T: Any + Send + Sync>(slots: &[Slot]) -> Option<Arc<T>> {
    slots.iter().find_map(|slot| slot.clone().downcast().ok())
}

fn take<T: Any + Send + Sync>(slots: &mut Vec<Slot>) -> Option<Slot> {
    let i = slots.iter().position(|slot| slot.is::<T>())?;
    Some(slots.swap_remove(i))
}

impl fmt::Debug for Attachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachments").field("writers", &self.writers).finish_non_exhaustive()
    }
}
