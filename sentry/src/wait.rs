//! Wait queues: how objects tell waiters that something has happened.
//!
//! An object that can become ready (a pipe, a socket, a child's exit) owns a [`WaitQueue`]. A waiter
//! is anything that implements [`Waker`]: a task that sleeps in a system call, an epoll instance, a
//! signalfd. Objects never block: an operation that cannot go on returns `EAGAIN`, and the system
//! call layer registers, tries again, sleeps (see `syscalls::blocking`).

use crate::sync::{Mutex, rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

bitflags::bitflags! {
    /// Readiness, with the values of `poll(2)`'s and `epoll(7)`'s events.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct EventMask: u32 {
        /// Data can be read.
        const IN = 0x001;
        /// Urgent data or an exceptional condition.
        const PRI = 0x002;
        /// Data can be written.
        const OUT = 0x004;
        /// Error; always reported.
        const ERR = 0x008;
        /// Hang-up; always reported.
        const HUP = 0x010;
        /// The fd is not open (`poll(2)` only).
        const NVAL = 0x020;
        /// As `IN`.
        const RDNORM = 0x040;
        /// Priority band data can be read.
        const RDBAND = 0x080;
        /// As `OUT`.
        const WRNORM = 0x100;
        /// Priority data may be written.
        const WRBAND = 0x200;
        /// The peer shut down writing.
        const RDHUP = 0x2000;
    }
}

impl EventMask {
    /// What a successful read end reports.
    pub const READABLE: EventMask = EventMask::IN.union(EventMask::RDNORM);
    /// What a writable end reports.
    pub const WRITABLE: EventMask = EventMask::OUT.union(EventMask::WRNORM);
    /// Events that are reported whether they were asked for or not.
    pub const ALWAYS: EventMask = EventMask::ERR.union(EventMask::HUP);
}

/// Something that can be told of an event. Called without the wait queue's lock, so that an epoll
/// instance can pass the news on to its own waiters; it may still be called shortly after its
/// registration was taken back. It must only note the event and wake its owner, and take no lock
/// below [`rank::EPOLL_READY`].
pub trait Waker: Send + Sync {
    /// Some of `events` have happened.
    fn wake(&self, events: EventMask);
}

/// Counts changes of something that files show, for those who poll them: `EPOLLPRI` and `EPOLLERR` say that
/// it has changed since they last looked.
#[derive(Default)]
pub struct Changes {
    count: AtomicUsize,
    queue: WaitQueue,
}

impl Changes {
    /// Something has changed.
    pub fn happened(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.queue.notify(EventMask::PRI | EventMask::ERR);
    }

    /// How many changes there have been.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Told of each change.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }
}

/// Names one registration in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitKey(u64);

struct Entry {
    key: u64,
    mask: EventMask,
    exclusive: bool,
    waker: Arc<dyn Waker>,
}

#[derive(Default)]
struct Entries {
    next: u64,
    list: Vec<Entry>,
}

/// A list of waiters. Notifying an empty queue is one atomic load.
#[derive(Default)]
pub struct WaitQueue {
    len: AtomicUsize,
    entries: Mutex<Entries, { rank::WAIT_QUEUE }>,
}

impl WaitQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `waker` for `mask`; errors and hang-ups are always reported. Register *before*
    /// looking at the object's state, or an event can be missed.
    pub fn add(&self, mask: EventMask, waker: Arc<dyn Waker>) -> WaitKey {
        self.insert(mask, waker, false)
    }

    /// As [`WaitQueue::add`], but one notification wakes at most one exclusive waiter.
    pub fn add_exclusive(&self, mask: EventMask, waker: Arc<dyn Waker>) -> WaitKey {
        self.insert(mask, waker, true)
    }

    fn insert(&self, mask: EventMask, waker: Arc<dyn Waker>, exclusive: bool) -> WaitKey {
        let mut entries = self.entries.lock();
        entries.next += 1;
        let key = entries.next;
        entries.list.push(Entry { key, mask: mask | EventMask::ALWAYS, exclusive, waker });
        // Sequentially consistent, and paired with the load in `notify`: either the notifier sees
        // the registration, or the waiter's later look at the object sees the notifier's change.
        self.len.store(entries.list.len(), Ordering::SeqCst);
        WaitKey(key)
    }

    /// Takes a registration back. A key that is gone is ignored.
    pub fn remove(&self, key: WaitKey) {
        let mut entries = self.entries.lock();
        if let Some(i) = entries.list.iter().position(|e| e.key == key.0) {
            let _ = entries.list.remove(i);
        }
        self.len.store(entries.list.len(), Ordering::SeqCst);
    }

    /// Wakes everyone registered for any of `events`. Call after the change is visible and, for
    /// speed, after the object's own lock is released.
    pub fn notify(&self, events: EventMask) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.len.load(Ordering::SeqCst) == 0 {
            return;
        }
        // Most queues have one or two waiters; only crowds need an allocation.
        let mut few: [Option<Arc<dyn Waker>>; 4] = [const { None }; 4];
        let mut many = Vec::new();
        let mut woke_exclusive = false;
        let mut slots = few.iter_mut();
        let entries = self.entries.lock();
        for entry in &entries.list {
            if !entry.mask.intersects(events) || (entry.exclusive && woke_exclusive) {
                continue;
            }
            woke_exclusive |= entry.exclusive;
            match slots.next() {
                Some(slot) => *slot = Some(entry.waker.clone()),
                None => many.push(entry.waker.clone()),
            }
        }
        drop(entries);
        for waker in few.into_iter().flatten().chain(many) {
            waker.wake(events);
        }
    }

    /// True when no one waits.
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }
}

impl std::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaitQueue").field("waiters", &self.len).finish()
    }
}
