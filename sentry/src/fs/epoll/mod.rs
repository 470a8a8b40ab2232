//! `epoll(7)`: waiting for many files at the cost of those that are ready.
//!
//! Each watched file has an [`Item`] in its wait queue. When the file announces something, the item
//! puts itself on the instance's ready list and wakes whoever waits; `epoll_wait` only ever looks at
//! the items on that list. Level-triggered items go back on the list as long as they are ready.

mod item;
mod links;
mod nesting;

pub use links::Links;

use super::anon;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, File, FileOps, OpenFlags};
use crate::wait::{EventMask, WaitQueue};
use item::{Item, Key};
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Edge-triggered.
pub const EPOLLET: u32 = 1 << 31;
/// Disabled after one report.
pub const EPOLLONESHOT: u32 = 1 << 30;
/// Keeps the system awake (needs a capability that sandboxes do not have: ignored).
pub const EPOLLWAKEUP: u32 = 1 << 29;
/// At most one of several instances is woken.
pub const EPOLLEXCLUSIVE: u32 = 1 << 28;

const PRIVATE: u32 = EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE;
const EXCLUSIVE_OK: u32 = 0x1 | 0x4 | 0x8 | 0x10 | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;

/// `fs.epoll.max_user_watches`: watches in the whole sandbox.
pub const MAX_WATCHES: u64 = 1 << 20;
static WATCHES: AtomicU64 = AtomicU64::new(0);

/// What `epoll_wait(2)` reports for one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Ready events.
    pub events: u32,
    /// The data given to `epoll_ctl(2)`.
    pub data: u64,
}

/// An epoll instance.
pub struct Epoll {
    this: Weak<Epoll>,
    interest: Mutex<HashMap<Key, Arc<Item>>, { rank::EPOLL }>,
    ready: Mutex<VecDeque<Arc<Item>>, { rank::EPOLL_READY }>,
    /// Tasks in `epoll_wait(2)`.
    waiters: WaitQueue,
    /// Those who poll the instance itself, among them other instances.
    pollers: WaitQueue,
}

impl Epoll {
    /// An open, empty instance.
    pub fn open() -> Arc<File> {
        let ops: Arc<Epoll> = Arc::new_cyclic(|this| Epoll {
            this: this.clone(),
            interest: Mutex::new(HashMap::new()),
            ready: Mutex::new(VecDeque::new()),
            waiters: WaitQueue::new(),
            pollers: WaitQueue::new(),
        });
        File::new(ops, None, OpenFlags::RDWR)
    }

    /// Where tasks in `epoll_wait(2)` wait.
    pub fn waiters(&self) -> &WaitQueue {
        &self.waiters
    }

    /// `EPOLL_CTL_ADD`. `epfile` is the instance's own open file. `EEXIST`, `EPERM` (the file cannot
    /// be waited for), `ELOOP`, `ENOSPC` (too many watches), `EINVAL`.
    pub fn add(&self, epfile: &Arc<File>, fd: i32, file: &Arc<File>, event: Event) -> Result<()> {
        let Some(queue) = file.ops().wait_queue() else { return Err(Errno::EPERM) };
        let nested = file.ops_as::<Epoll>();
        let exclusive = event.events & EPOLLEXCLUSIVE != 0;
        if exclusive && (nested.is_some() || event.events & !EXCLUSIVE_OK != 0) {
            return Err(Errno::EINVAL);
        }
        // Held until the new edge is in place, so that two additions cannot close a loop together.
        let _tree = nested.map(|_| nesting::lock());
        if let Some(nested) = nested {
            nesting::check(epfile, nested)?;
        }
        let key = (fd, file.id());
        let item = Item::new(self.this.clone(), key, file, event);
        {
            let mut interest = self.interest.lock();
            if interest.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            if WATCHES.fetch_add(1, Ordering::Relaxed) >= MAX_WATCHES {
                WATCHES.fetch_sub(1, Ordering::Relaxed);
                return Err(Errno::ENOSPC);
            }
            interest.insert(key, item.clone());
        }
        file.epoll_links.add(epfile, key);
        item.register(queue, exclusive);
        self.check(&item, file);
        Ok(())
    }

    /// `EPOLL_CTL_MOD`. `ENOENT` if the file is not watched, `EINVAL` for an exclusive watch.
    pub fn modify(&self, fd: i32, file: &Arc<File>, event: Event) -> Result<()> {
        let item = self.interest.lock().get(&(fd, file.id())).cloned().ok_or(Errno::ENOENT)?;
        if (item.events() | event.events) & EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        item.set(event);
        self.check(&item, file);
        Ok(())
    }

    /// `EPOLL_CTL_DEL`. `ENOENT` if the file is not watched.
    pub fn delete(&self, epfile: &File, fd: i32, file: &File) -> Result<()> {
        let key = (fd, file.id());
        self.forget(key, file).then_some(()).ok_or(Errno::ENOENT)?;
        file.epoll_links.remove(epfile, key);
        Ok(())
    }

    /// The id of the file that the watch of descriptor `fd` is on, after skipping `skip` of them.
    pub fn watched(&self, fd: i32, skip: usize) -> Option<u64> {
        let interest = self.interest.lock();
        let mut files: Vec<u64> =
            interest.keys().filter(|(of, _)| *of == fd).map(|(_, file)| *file).collect();
        files.sort_unstable();
        files.get(skip).copied()
    }

    /// Takes a watch away; `file` is the watched file, perhaps in its last moments.
    fn forget(&self, key: Key, file: &File) -> bool {
        let Some(item) = self.interest.lock().remove(&key) else { return false };
        WATCHES.fetch_sub(1, Ordering::Relaxed);
        item.disable();
        if let Some(queue) = file.ops().wait_queue() {
            item.unregister(queue);
        }
        let taken = {
            let mut ready = self.ready.lock();
            match ready.iter().position(|other| Arc::ptr_eq(other, &item)) {
                Some(i) if item.queued() => ready.remove(i),
                _ => None,
            }
        };
        drop(taken);
        true
    }

    /// Puts an item that is ready now on the list.
    fn check(&self, item: &Arc<Item>, file: &File) {
        if item.wants(file.poll()) != 0 {
            self.enlist(item);
        }
    }

    /// Puts an item on the ready list and wakes the waiters.
    fn enlist(&self, item: &Arc<Item>) {
        {
            let mut ready = self.ready.lock();
            if !item.queue_once() {
                return self.wake();
            }
            ready.push_back(item.clone());
        }
        self.wake();
    }

    fn wake(&self) {
        self.waiters.notify(EventMask::READABLE);
        self.pollers.notify(EventMask::READABLE);
    }

    fn pop(&self) -> Option<Arc<Item>> {
        let mut ready = self.ready.lock();
        let item = ready.pop_front()?;
        item.unqueue();
        Some(item)
    }

    /// Takes up to `max` events off the ready list. Empty when nothing is ready.
    ///
    /// `deliver` gets each event; when it fails the item stays ready and the collection ends (with
    /// the error if it was the first).
    pub fn collect(
        &self,
        max: usize,
        mut deliver: impl FnMut(usize, Event) -> Result<()>,
    ) -> Result<usize> {
        let mut budget = self.ready.lock().len();
        let mut again = Vec::new();
        let mut count = 0;
        let mut result = Ok(());
        while count < max && budget > 0 {
            budget -= 1;
            let Some(item) = self.pop() else { break };
            let Some(file) = item.file() else { continue };
            let events = item.wants(file.poll());
            if events == 0 {
                continue;
            }
            if let Err(e) = deliver(count, Event { events, data: item.data() }) {
                result = Err(e);
                again.push(item);
                break;
            }
            count += 1;
            if item.events() & EPOLLONESHOT != 0 {
                item.disable();
            } else if item.events() & EPOLLET == 0 {
                again.push(item);
            }
        }
        if !again.is_empty() {
            let mut ready = self.ready.lock();
            for item in again {
                // A concurrent deletion has disabled the item: it must not come back.
                if item.events() & !PRIVATE != 0 && item.queue_once() {
                    ready.push_back(item);
                }
            }
            drop(ready);
            // What is still on the list may be for another waiter that found it empty meanwhile.
            self.waiters.notify(EventMask::READABLE);
        }
        match result {
            Err(e) if count == 0 => Err(e),
            _ => Ok(count),
        }
    }

    /// True if a file on the ready list is ready indeed. Items that are not are taken off.
    fn any_ready(&self) -> bool {
        let budget = self.ready.lock().len();
        for _ in 0..budget {
            let Some(item) = self.pop() else { return false };
            let Some(file) = item.file() else { continue };
            if item.wants(file.poll()) == 0 {
                continue;
            }
            let mut ready = self.ready.lock();
            if item.queue_once() {
                ready.push_front(item);
            }
            return true;
        }
        false
    }

    /// True if something may be ready: one look at the length of the list.
    pub fn maybe_ready(&self) -> bool {
        !self.ready.lock().is_empty()
    }
}

impl FileOps for Epoll {
    fn poll(&self, _file: &File) -> EventMask {
        if self.any_ready() { EventMask::READABLE } else { EventMask::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pollers)
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[eventpoll]".into())
    }

    fn fdinfo(&self) -> String {
        let items: Vec<_> = self.interest.lock().values().cloned().collect();
        items.iter().map(|item| item.describe()).collect()
    }

    fn release(&self, epfile: &File) {
        let items = std::mem::take(&mut *self.interest.lock());
        for (key, item) in items {
            WATCHES.fetch_sub(1, Ordering::Relaxed);
            item.disable();
            if let Some(file) = item.file() {
                if let Some(queue) = file.ops().wait_queue() {
                    item.unregister(queue);
                }
                file.epoll_links.remove(epfile, key);
            }
        }
        let ready = std::mem::take(&mut *self.ready.lock());
        drop(ready);
    }

    fn ignores_position(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
