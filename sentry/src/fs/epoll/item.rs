//! One watched file of an epoll instance.

use super::{Epoll, Event, PRIVATE};
use crate::sync::{Mutex, rank};
use crate::vfs::File;
use crate::wait::{EventMask, WaitKey, WaitQueue, Waker};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// What names a watch: the descriptor it was made with and the open file description.
pub type Key = (i32, u64);

/// A watched file.
pub struct Item {
    this: Weak<Item>,
    epoll: Weak<Epoll>,
    key: Key,
    file: Weak<File>,
    /// Wanted events and the private flags; only the flags are left when it is disabled.
    events: AtomicU32,
    data: AtomicU64,
    /// It is on the ready list. Changed under that list's lock.
    queued: AtomicBool,
    registration: Mutex<Option<WaitKey>, { rank::LEAF }>,
}

impl Item {
    /// A watch that is not registered yet.
    pub fn new(epoll: Weak<Epoll>, key: Key, file: &Arc<File>, event: Event) -> Arc<Item> {
        let item = Arc::new_cyclic(|this| Item {
            this: this.clone(),
            epoll,
            key,
            file: Arc::downgrade(file),
            events: AtomicU32::new(0),
            data: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            registration: Mutex::new(None),
        });
        item.set(event);
        item
    }

    /// The file, if it is still open.
    pub fn file(&self) -> Option<Arc<File>> {
        self.file.upgrade()
    }

    /// Wanted events and flags.
    pub fn events(&self) -> u32 {
        self.events.load(Ordering::SeqCst)
    }

    /// The user's data.
    pub fn data(&self) -> u64 {
        self.data.load(Ordering::Relaxed)
    }

    /// New events and data. Errors and hang-ups are always wanted.
    pub fn set(&self, event: Event) {
        self.data.store(event.data, Ordering::Relaxed);
        self.events.store(event.events | EventMask::ALWAYS.bits(), Ordering::SeqCst);
    }

    /// Wants nothing any more, until it is set again.
    pub fn disable(&self) {
        self.events.fetch_and(PRIVATE, Ordering::SeqCst);
    }

    /// Those of `ready` that are wanted.
    pub fn wants(&self, ready: EventMask) -> u32 {
        ready.bits() & self.events() & !PRIVATE
    }

    /// Marks it as queued; false if it was already.
    pub fn queue_once(&self) -> bool {
        !self.queued.swap(true, Ordering::Relaxed)
    }

    /// True while on the ready list.
    pub fn queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }

    /// It was taken off the ready list.
    pub fn unqueue(&self) {
        self.queued.store(false, Ordering::Relaxed);
    }

    /// Registers with the file's wait queue.
    pub fn register(self: &Arc<Self>, queue: &WaitQueue, exclusive: bool) {
        // Every event is let through: `EPOLL_CTL_MOD` may ask for others later.
        let waker: Arc<dyn Waker> = self.clone();
        let key = match exclusive {
            true => queue.add_exclusive(EventMask::all(), waker),
            false => queue.add(EventMask::all(), waker),
        };
        *self.registration.lock() = Some(key);
    }

    /// Leaves the file's wait queue.
    pub fn unregister(&self, queue: &WaitQueue) {
        let key = self.registration.lock().take();
        if let Some(key) = key {
            queue.remove(key);
        }
    }

    /// The line in `/proc/PID/fdinfo/N`.
    pub fn describe(&self) -> String {
        let Some(file) = self.file() else { return String::new() };
        let attr = file.attr().ok();
        let (ino, dev) = attr.map_or((0, 0), |a| (a.ino, a.dev));
        format!(
            "tfd: {:8} events: {:8x} data: {:16x}  pos:{} ino:{ino:x} sdev:{dev:x}\n",
            self.key.0,
            self.events(),
            self.data(),
            *file.pos(),
        )
    }
}

impl Waker for Item {
    fn wake(&self, events: EventMask) {
        if self.wants(events) == 0 {
            return;
        }
        if let (Some(epoll), Some(item)) = (self.epoll.upgrade(), self.this.upgrade()) {
            epoll.enlist(&item);
        }
    }
}
