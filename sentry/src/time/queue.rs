//! The timer queue: one host thread that sleeps until the earliest deadline.
//!
//! Sleeps in system calls do not come here, they use the host's own timeouts. An idle queue sleeps for
//! ever; a sandbox without timers has no such thread.

use super::{ClockId, TimeSource};
use crate::sync::{Mutex, rank};
use platform::host::park::Parker;
use platform::host::time::Clock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Told when its deadline has passed.
pub trait TimerTarget: Send + Sync {
    /// The deadline given with `cookie` has passed. Called without locks, on the timer thread: must not
    /// wait. May set timers.
    fn expired(&self, queue: &Arc<TimerQueue>, cookie: u64);

    /// The wall clock was set, and the timer is one of [`TimerQueue::set_wall`]. Called without locks.
    fn clock_set(&self) {}
}

/// Names a timer that has been set. Dropping it does nothing: see [`TimerQueue::cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerHandle {
    deadline: u64,
    id: u64,
}

struct Entry {
    target: Weak<dyn TimerTarget>,
    cookie: u64,
    /// The wall clock's time that it waits for.
    wall: Option<u64>,
}

/// All timers of a sandbox, by deadline.
pub struct TimerQueue {
    entries: Mutex<BTreeMap<(u64, u64), Entry>, { rank::TIMER }>,
    next_id: AtomicU64,
    /// No timer with a greater id has had its deadline moved. Changes under the lock of the entries.
    last_moved: AtomicU64,
    started: AtomicBool,
    parker: Parker,
    /// What the thread sleeps until.
    sleeping_until: AtomicU64,
}

/// The timer thread calls targets, which call back into everything.
const STACK: usize = 256 << 10;

impl TimerQueue {
    /// An empty queue.
    pub fn new() -> Arc<TimerQueue> {
        Arc::new(TimerQueue {
            entries: Mutex::new(BTreeMap::new()),
            next_id: AtomicU64::new(1),
            last_moved: AtomicU64::new(0),
            started: AtomicBool::new(false),
            parker: Parker::new(),
            sleeping_until: AtomicU64::new(u64::MAX),
        })
    }

    /// Calls `target` once `CLOCK_MONOTONIC` has reached `deadline` nanoseconds.
    pub fn set(
        self: &Arc<Self>,
        deadline: u64,
        target: Weak<dyn TimerTarget>,
        cookie: u64,
    ) -> TimerHandle {
        self.insert(deadline, Entry { target, cookie, wall: None })
    }

    /// As [`TimerQueue::set`], for a time of the wall clock, which will be reached at `deadline` unless the clock is set.
    pub fn set_wall(
        self: &Arc<Self>,
        deadline: u64,
        wall: u64,
        target: Weak<dyn TimerTarget>,
        cookie: u64,
    ) -> TimerHandle {
        self.insert(deadline, Entry { target, cookie, wall: Some(wall) })
    }

    /// The wall clock was set: what waits for a time of it may have to wait longer, or shorter.
    pub fn wall_clock_set(&self, time: &TimeSource) {
        let mut entries = self.entries.lock();
        let moved: Vec<(u64, u64)> =
            entries.iter().filter(|(_, e)| e.wall.is_some()).map(|(key, _)| *key).collect();
        if moved.is_empty() {
            return;
        }
        let mut targets = Vec::new();
        for (old, id) in moved {
            let Some(entry) = entries.remove(&(old, id)) else { continue };
            self.last_moved.fetch_max(id, Ordering::Relaxed);
            targets.push(entry.target.clone());
            let deadline = entry
                .wall
                .and_then(|wall| time.monotonic_deadline(ClockId::Realtime, wall).ok())
                .unwrap_or(old);
            entries.insert((deadline, id), entry);
        }
        drop(entries);
        self.parker.unpark();
        targets.iter().filter_map(Weak::upgrade).for_each(|target| target.clock_set());
    }

    fn insert(self: &Arc<Self>, deadline: u64, entry: Entry) -> TimerHandle {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let first = {
            let mut entries = self.entries.lock();
            entries.insert((deadline, id), entry);
            entries.first_key_value().is_some_and(|(k, _)| k.1 == id)
        };
        if !self.started.swap(true, Ordering::SeqCst) {
            let queue = self.clone();
            let thread = platform::host::thread::spawn("timers", STACK, move || queue.run());
            if let Err(e) = thread {
                // Without the thread no timer fires; the next one that is set tries again.
                tracing::warn!("start the timer thread: {e}; timers are late until it starts");
                self.started.store(false, Ordering::SeqCst);
            }
        } else if first && deadline < self.sleeping_until.load(Ordering::SeqCst) {
            self.parker.unpark();
        }
        TimerHandle { deadline, id }
    }

    /// Forgets a timer. False if it has fired, or is about to.
    pub fn cancel(&self, handle: TimerHandle) -> bool {
        let mut entries = self.entries.lock();
        if entries.remove(&(handle.deadline, handle.id)).is_some() {
            return true;
        }
        if handle.id > self.last_moved.load(Ordering::Relaxed) {
            return false;
        }
        // The wall clock has been set since.
        let moved = entries.iter().find(|(key, e)| key.1 == handle.id && e.wall.is_some());
        let moved = moved.map(|(key, _)| *key);
        moved.is_some_and(|key| entries.remove(&key).is_some())
    }

    fn run(self: Arc<Self>) {
        loop {
            let now = Clock::Monotonic.now();
            let due = {
                let mut entries = self.entries.lock();
                match entries.first_key_value().map(|(k, _)| *k) {
                    Some(key) if key.0 <= now => entries.remove(&key),
                    other => {
                        let until = other.map_or(u64::MAX, |k| k.0);
                        self.sleeping_until.store(until, Ordering::SeqCst);
                        None
                    }
                }
            };
            match due {
                Some(entry) => {
                    if let Some(target) = entry.target.upgrade() {
                        target.expired(&self, entry.cookie);
                    }
                }
                None => {
                    self.parker.park_until(self.sleeping_until.load(Ordering::SeqCst));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Recorder(Mutex<Vec<u64>, { rank::LEAF }>, Parker);
    impl TimerTarget for Recorder {
        fn expired(&self, _: &Arc<TimerQueue>, cookie: u64) {
            self.0.lock().push(cookie);
            self.1.unpark();
        }
    }

    #[test]
    fn fires_in_order_and_cancels() {
        let queue = TimerQueue::new();
        let recorder = Arc::new(Recorder(Mutex::new(vec![]), Parker::new()));
        let target = || Arc::downgrade(&recorder) as Weak<dyn TimerTarget>;
        let now = Clock::Monotonic.now();
        queue.set(now + 30_000_000, target(), 3);
        queue.set(now + 10_000_000, target(), 1);
        let gone = queue.set(now + 20_000_000, target(), 2);
        assert!(queue.cancel(gone));
        assert!(!queue.cancel(gone));
        while recorder.0.lock().len() < 2 {
            recorder.1.park();
        }
        assert_eq!(*recorder.0.lock(), [1, 3]);
        assert!(Clock::Monotonic.now() >= now + 30_000_000);
    }
}
