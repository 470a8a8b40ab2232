//! The buckets, and waiting, waking and requeueing.

use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Task, Wake};
use crate::mm::{FutexKey, MemoryManager, UserAddr};
use crate::sync::{Mutex, MutexGuard, rank};
use crate::wait::{EventMask, Waker};
use platform::FutexWaiters;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// Number of buckets.
const BUCKETS: usize = 256;

/// A task that waits on a word.
pub struct Waiter {
    pub(super) task: Arc<Task>,
    /// Where it is queued; changes with both buckets locked when it is requeued.
    key: Mutex<FutexKey, { rank::LEAF }>,
    /// Bits that it waits for.
    pub(super) bitset: u32,
    /// It has been taken off the queue by a waker.
    pub(super) woken: AtomicBool,
    /// What a priority-inheriting waiter needs.
    pub(super) pi: Option<PiWaiter>,
}

/// What a waiter for a priority-inheriting lock needs.
pub(super) struct PiWaiter {
    /// The lock's word, as the waiter sees it.
    pub mm: Arc<MemoryManager>,
    /// Its address there.
    pub addr: UserAddr,
    /// Thread id of the owner.
    pub owner: AtomicI32,
    /// It waits for a condition first and is to be requeued to the lock.
    pub waiting_for_requeue: AtomicBool,
    /// Key of the lock that it is to be requeued to.
    pub target: FutexKey,
}

pub(super) type Bucket = Vec<Arc<Waiter>>;

/// Everyone who waits on a futex.
pub struct FutexTable {
    buckets: Box<[Mutex<Bucket, { rank::FUTEX }>]>,
    /// Number of waiters for priority-inheriting locks.
    pub(super) pi_waiters: AtomicUsize,
    /// The platform's, which answers wake-ups for nobody.
    counts: Option<Arc<dyn FutexWaiters>>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.task.kernel().futexes.count(*self.key.get_mut(), false);
    }
}

impl Waiter {
    /// It counts from now on, which is before the word is looked at.
    pub(super) fn new(task: Arc<Task>, key: FutexKey, bitset: u32) -> Waiter {
        task.kernel().futexes.count(key, true);
        Waiter { task, key: Mutex::new(key), bitset, woken: AtomicBool::new(false), pi: None }
    }

    pub(super) fn key(&self) -> FutexKey {
        *self.key.lock()
    }

    pub(super) fn set_key(&self, key: FutexKey) {
        let futexes = &self.task.kernel().futexes;
        futexes.count(key, true);
        let old = std::mem::replace(&mut *self.key.lock(), key);
        futexes.count(old, false);
    }

    /// True once a waker has taken it off its queue.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    /// A plain waiter, which `FUTEX_WAKE` may wake.
    pub(super) fn is_plain(&self) -> bool {
        self.pi.is_none()
    }
}

impl FutexTable {
    /// No one waits. Who does is counted at `counts`.
    pub fn new(counts: Option<Arc<dyn FutexWaiters>>) -> FutexTable {
        FutexTable {
            counts,
            buckets: (0..BUCKETS).map(|_| Mutex::new(Vec::new())).collect(),
            pi_waiters: AtomicUsize::new(0),
        }
    }

    /// Whether the platform knows where somebody may be waiting.
    pub fn are_counted(&self) -> bool {
        self.counts.is_some()
    }

    /// Counts who waits where `FUTEX_PRIVATE_FLAG` can meet them.
    fn count(&self, key: FutexKey, more: bool) {
        let (Some(counts), FutexKey::Private { addr, .. }) = (&self.counts, key) else { return };
        if more { counts.add(addr) } else { counts.remove(addr) }
    }

    fn index(&self, key: &FutexKey) -> usize {
        let hash = BuildHasherDefault::<rustc_hash::FxHasher>::default().hash_one(key);
        // The high bits of this hash are the good ones.
        (hash >> 56) as usize % self.buckets.len().max(1)
    }

    /// The bucket of a key.
    pub(super) fn mutex(&self, key: &FutexKey) -> Result<&Mutex<Bucket, { rank::FUTEX }>> {
        // `index` is always in range: the error never happens.
        self.buckets.get(self.index(key)).ok_or(Errno::EFAULT)
    }

    /// Every bucket.
    pub(super) fn all(&self) -> &[Mutex<Bucket, { rank::FUTEX }>] {
        &self.buckets
    }

    /// The buckets of two keys, locked; one guard if it is the same bucket.
    pub(super) fn lock_two(
        &self,
        a: &FutexKey,
        b: &FutexKey,
    ) -> Result<(MutexGuard<'_, Bucket>, Option<MutexGuard<'_, Bucket>>)> {
        let (first, second) = (self.mutex(a)?, self.mutex(b)?);
        if std::ptr::eq(first, second) {
            return Ok((first.lock(), None));
        }
        let (first, second) = Mutex::lock_pair(first, second);
        Ok((first, Some(second)))
    }

    /// Takes a waiter back. False if a waker has been faster.
    pub(super) fn unqueue(&self, waiter: &Arc<Waiter>) -> bool {
        loop {
            let key = waiter.key();
            let Ok(mutex) = self.mutex(&key) else { return false };
            let mut bucket = mutex.lock();
            // It may have been requeued before we had the lock.
            if waiter.key() != key {
                continue;
            }
            let found = bucket.iter().position(|w| Arc::ptr_eq(w, waiter));
            if let Some(i) = found {
                bucket.remove(i);
            }
            return found.is_some();
        }
    }

    /// Waits until the word at `addr` is woken, if it still has `value`. `EAGAIN` if not, `ETIMEDOUT`
    /// at the deadline (`CLOCK_MONOTONIC`), `EINTR` (as `ERESTARTSYS`) for a signal.
    pub fn wait(
        &self,
        t: &mut CurrentTask,
        addr: UserAddr,
        private: bool,
        value: u32,
        bitset: u32,
        deadline: Option<u64>,
    ) -> Result<()> {
        let key = t.mm().futex_key(addr, private)?;
        let waiter = Arc::new(Waiter::new(t.task().clone(), key, bitset));
        {
            let mut bucket = self.mutex(&key)?.lock();
            if t.mm().load_u32(addr)? != value {
                return Err(Errno::EAGAIN);
            }
            bucket.push(waiter.clone());
        }
        self.sleep(t, &waiter, deadline)
    }

    /// Sleeps until a queued waiter is woken.
    pub(super) fn sleep(
        &self,
        t: &mut CurrentTask,
        waiter: &Arc<Waiter>,
        deadline: Option<u64>,
    ) -> Result<()> {
        loop {
            if waiter.is_woken() {
                return Ok(());
            }
            let error = match t.block(deadline) {
                Wake::Event => continue,
                Wake::Timeout => Errno::ETIMEDOUT,
                Wake::Interrupted => Errno::ERESTARTSYS,
            };
            // A wake-up that has been sent is never lost.
            return if self.unqueue(waiter) { Err(error) } else { Ok(()) };
        }
    }

    /// Wakes at most `count` waiters whose bits meet `bitset`. Returns how many.
    pub fn wake(
        &self,
        mm: &MemoryManager,
        addr: UserAddr,
        private: bool,
        count: u32,
        bitset: u32,
    ) -> Result<u64> {
        let key = mm.futex_key(addr, private)?;
        let woken = {
            let mut bucket = self.mutex(&key)?.lock();
            take(&mut bucket, &key, count, bitset)?
        };
        Ok(wake_all(woken))
    }

    /// Wakes `wake` waiters of one word and moves `requeue` others to another word. With `compare`, the
    /// first word must have that value (`EAGAIN`). Returns how many were woken or moved.
    pub fn requeue(
        &self,
        mm: &MemoryManager,
        from: (UserAddr, bool),
        to: (UserAddr, bool),
        wake: u32,
        requeue: u32,
        compare: Option<u32>,
    ) -> Result<(u64, u64)> {
        let from_key = mm.futex_key(from.0, from.1)?;
        let to_key = mm.futex_key(to.0, to.1)?;
        let (woken, moved) = {
            let (mut first, mut second) = self.lock_two(&from_key, &to_key)?;
            if let Some(value) = compare
                && mm.load_u32(from.0)? != value
            {
                return Err(Errno::EAGAIN);
            }
            let woken = take(&mut first, &from_key, wake, u32::MAX)?;
            let mut moved = 0;
            if from_key != to_key {
                let mut i = 0;
                while moved < u64::from(requeue) {
                    let Some(waiter) = first.get(i) else { break };
                    if waiter.key() != from_key || !waiter.is_plain() {
                        i += 1;
                        continue;
                    }
                    let waiter = first.remove(i);
                    waiter.set_key(to_key);
                    second.as_mut().unwrap_or(&mut first).push(waiter);
                    moved += 1;
                }
            } else {
                let same = first.iter().filter(|w| w.key() == from_key).count() as u64;
                moved = same.min(u64::from(requeue));
            }
            (woken, moved)
        };
        Ok((wake_all(woken), moved))
    }
}

/// Takes matching waiters off a bucket, oldest first. `EINVAL` if the word is a lock that is handed from
/// owner to owner.
pub(super) fn take(
    bucket: &mut Bucket,
    key: &FutexKey,
    count: u32,
    bitset: u32,
) -> Result<Vec<Arc<Waiter>>> {
    let mut taken = Vec::new();
    let mut i = 0;
    while (taken.len() as u64) < u64::from(count) {
        let Some(waiter) = bucket.get(i) else { break };
        if waiter.key() != *key {
            i += 1;
            continue;
        }
        if !waiter.is_plain() {
            return Err(Errno::EINVAL);
        }
        if waiter.bitset & bitset == 0 {
            i += 1;
            continue;
        }
        taken.push(bucket.remove(i));
    }
    Ok(taken)
}

/// Wakes tasks that have been taken off their queues, without any lock held.
pub(super) fn wake_all(waiters: Vec<Arc<Waiter>>) -> u64 {
    let count = waiters.len() as u64;
    for waiter in waiters {
        waiter.woken.store(true, Ordering::SeqCst);
        waiter.task.wake(EventMask::IN);
    }
    count
}
