//! Locks that the kernel hands from owner to owner (`FUTEX_LOCK_PI` and its kin).
//!
//! The word holds the owner's thread id and [`FUTEX_WAITERS`]. Waiters are served in the order they came:
//! the host's scheduler decides about priorities, so there is nothing to inherit.

use super::FutexTable;
use super::robust::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};
use super::table::{Bucket, PiWaiter, Waiter, wake_all};
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Task};
use crate::mm::{FutexKey, MemoryManager, UserAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// How an attempt to take a lock ended.
enum Attempt {
    Taken,
    /// Owned by the task with this id; the waiters' bit is set.
    Owned(i32),
}

fn has_waiter(bucket: &Bucket, key: &FutexKey) -> bool {
    bucket.iter().any(|w| is_waiter(w, key))
}

fn is_waiter(waiter: &Waiter, key: &FutexKey) -> bool {
    let queued_on_lock =
        waiter.pi.as_ref().is_some_and(|p| !p.waiting_for_requeue.load(Ordering::Relaxed));
    queued_on_lock && waiter.key() == *key
}

/// Tries to take the lock for `tid`, with its bucket locked.
fn attempt(
    bucket: &Bucket,
    key: &FutexKey,
    mm: &MemoryManager,
    addr: UserAddr,
    tid: i32,
) -> Result<Attempt> {
    let waiters = has_waiter(bucket, key);
    let mut value = mm.load_u32(addr)?;
    loop {
        let owner = value & FUTEX_TID_MASK;
        if owner == tid as u32 {
            return Err(Errno::EDEADLK);
        }
        let (new, result) = if owner == 0 && !waiters {
            (value & FUTEX_OWNER_DIED | tid as u32, Attempt::Taken)
        } else {
            (value | FUTEX_WAITERS, Attempt::Owned(owner as i32))
        };
        match mm.cmpxchg_u32(addr, value, new)? {
            found if found == value => return Ok(result),
            found => value = found,
        }
    }
}

/// The kernel's id of the owner that a lock word names; 0 for none, -1 for one that does not exist.
fn owner_id(task: &Task, owner: i32) -> i32 {
    match (owner, task.global_id(owner)) {
        (0, _) => 0,
        (_, 0) => -1,
        (_, id) => id,
    }
}

impl FutexTable {
    /// `FUTEX_LOCK_PI`: takes the lock, waiting for it. `EDEADLK` if the caller has it, `ESRCH` if the
    /// owner does not exist, `ETIMEDOUT`; `EAGAIN` for `try_only` if it is taken.
    pub fn lock_pi(
        &self,
        t: &mut CurrentTask,
        addr: UserAddr,
        private: bool,
        deadline: Option<u64>,
        try_only: bool,
    ) -> Result<()> {
        let mm = t.mm().clone();
        let key = mm.futex_key(addr, private)?;
        let tid = t.ns_tid();
        let waiter = {
            let mut bucket = self.mutex(&key)?.lock();
            match attempt(&bucket, &key, &mm, addr, tid)? {
                Attempt::Taken => return Ok(()),
                Attempt::Owned(owner) if try_only => {
                    drop(bucket);
                    let owner = owner_id(t, owner);
                    let lives = owner == 0 || t.kernel().task(owner).is_some();
                    return Err(if lives { Errno::EAGAIN } else { Errno::ESRCH });
                }
                Attempt::Owned(owner) => {
                    let owner = owner_id(t, owner);
                    let waiter = self.pi_waiter(t, &mm, addr, key, key, owner, false);
                    bucket.push(waiter.clone());
                    waiter
                }
            }
        };
        self.check_owner(t, &waiter)?;
        let result = self.sleep(t, &waiter, deadline);
        self.pi_waiters.fetch_sub(1, Ordering::Relaxed);
        match result {
            // Linux goes on waiting after a handler has run.
            Err(Errno::ERESTARTSYS) => Err(Errno::ERESTARTNOINTR),
            other => other,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a waiter")]
    fn pi_waiter(
        &self,
        t: &CurrentTask,
        mm: &Arc<MemoryManager>,
        addr: UserAddr,
        key: FutexKey,
        target: FutexKey,
        owner: i32,
        waiting_for_requeue: bool,
    ) -> Arc<Waiter> {
        self.pi_waiters.fetch_add(1, Ordering::SeqCst);
        let mut waiter = Waiter::new(t.task().clone(), key, u32::MAX);
        waiter.pi = Some(PiWaiter {
            mm: mm.clone(),
            addr,
            owner: AtomicI32::new(owner),
            waiting_for_requeue: AtomicBool::new(waiting_for_requeue),
            target,
        });
        Arc::new(waiter)
    }

    /// A lock whose owner does not exist would never be released. Looked up after queueing: an owner that
    /// ends later finds the waiter.
    fn check_owner(&self, t: &CurrentTask, waiter: &Arc<Waiter>) -> Result<()> {
        let Some(pi) = &waiter.pi else { return Ok(()) };
        let owner = pi.owner.load(Ordering::SeqCst);
        if owner == 0 || t.kernel().task(owner).is_some() || !self.unqueue(waiter) {
            return Ok(());
        }
        self.pi_waiters.fetch_sub(1, Ordering::Relaxed);
        Err(Errno::ESRCH)
    }

    /// `FUTEX_UNLOCK_PI`: gives the lock to the first waiter. `EPERM` if the caller does not have it.
    pub fn unlock_pi(&self, t: &CurrentTask, addr: UserAddr, private: bool) -> Result<()> {
        let mm = t.mm();
        if mm.load_u32(addr)? & FUTEX_TID_MASK != t.ns_tid() as u32 {
            return Err(Errno::EPERM);
        }
        let key = mm.futex_key(addr, private)?;
        let next = {
            let mut bucket = self.mutex(&key)?.lock();
            hand_over(&mut bucket, &key, mm, addr, 0)?
        };
        wake_all(next.into_iter().collect());
        Ok(())
    }

    /// `FUTEX_WAIT_REQUEUE_PI`: waits for a condition, then for the lock that the waker moves it to.
    pub fn wait_requeue_pi(
        &self,
        t: &mut CurrentTask,
        addr: UserAddr,
        lock: UserAddr,
        private: bool,
        value: u32,
        deadline: Option<u64>,
    ) -> Result<()> {
        let mm = t.mm().clone();
        let key = mm.futex_key(addr, private)?;
        let target = mm.futex_key(lock, private)?;
        if key == target {
            return Err(Errno::EINVAL);
        }
        let waiter = self.pi_waiter(t, &mm, lock, key, target, 0, true);
        {
            let mut bucket = self.mutex(&key)?.lock();
            let current = mm.load_u32(addr);
            if current != Ok(value) {
                self.pi_waiters.fetch_sub(1, Ordering::Relaxed);
                return Err(current.err().unwrap_or(Errno::EAGAIN));
            }
            bucket.push(waiter.clone());
        }
        let result = self.sleep(t, &waiter, deadline);
        self.pi_waiters.fetch_sub(1, Ordering::Relaxed);
        match result {
            // The word may have changed since: the program looks again.
            Err(Errno::ERESTARTSYS) => Err(Errno::EAGAIN),
            other => other,
        }
    }

    /// `FUTEX_CMP_REQUEUE_PI`: gives the lock to the first waiter if it is free, and moves it and the
    /// others to the lock's queue. Returns how many were woken or moved.
    pub fn requeue_pi(
        &self,
        t: &CurrentTask,
        addr: UserAddr,
        lock: UserAddr,
        private: bool,
        requeue: u32,
        compare: u32,
    ) -> Result<u64> {
        let mm = t.mm();
        let key = mm.futex_key(addr, private)?;
        let target = mm.futex_key(lock, private)?;
        if key == target {
            return Err(Errno::EINVAL);
        }
        let mut woken = Vec::new();
        let mut count = 0;
        {
            let (mut first, mut second) = self.lock_two(&key, &target)?;
            if mm.load_u32(addr)? != compare {
                return Err(Errno::EAGAIN);
            }
            let mut i = 0;
            while count <= u64::from(requeue) {
                let Some(waiter) = first.get(i).cloned() else { break };
                let pi = waiter.pi.as_ref().filter(|_| waiter.key() == key);
                let Some(pi) = pi else {
                    if waiter.key() == key {
                        return Err(Errno::EINVAL);
                    }
                    i += 1;
                    continue;
                };
                if pi.target != target {
                    return Err(Errno::EINVAL);
                }
                let tid = waiter.task.ns_tid();
                let taken = {
                    let queue: &Bucket = second.as_deref().unwrap_or(&first);
                    attempt(queue, &target, mm, lock, tid)?
                };
                first.remove(i);
                waiter.set_key(target);
                pi.waiting_for_requeue.store(false, Ordering::Relaxed);
                count += 1;
                match taken {
                    Attempt::Taken => woken.push(waiter),
                    Attempt::Owned(owner) => {
                        pi.owner.store(owner_id(&waiter.task, owner), Ordering::SeqCst);
                        second.as_mut().unwrap_or(&mut first).push(waiter);
                    }
                }
            }
        }
        wake_all(woken);
        Ok(count)
    }
}

/// Makes the first waiter the owner, or frees the lock. `died` is [`FUTEX_OWNER_DIED`] or 0.
fn hand_over(
    bucket: &mut Bucket,
    key: &FutexKey,
    mm: &MemoryManager,
    addr: UserAddr,
    died: u32,
) -> Result<Option<Arc<Waiter>>> {
    let first = bucket.iter().position(|w| is_waiter(w, key));
    let next = first.and_then(|i| bucket.get(i).cloned());
    let more = bucket.iter().filter(|w| is_waiter(w, key)).count() > 1;
    let mut new = next.as_ref().map_or(0, |w| w.task.ns_tid() as u32) | died;
    if more {
        new |= FUTEX_WAITERS;
    }
    let mut value = mm.load_u32(addr)?;
    loop {
        match mm.cmpxchg_u32(addr, value, new)? {
            found if found == value => break,
            found => value = found,
        }
    }
    if let Some(i) = first {
        bucket.remove(i);
    }
    if let Some(next) = &next {
        for other in bucket.iter().filter(|w| is_waiter(w, key)) {
            if let Some(pi) = &other.pi {
                pi.owner.store(next.task.tid(), Ordering::SeqCst);
            }
        }
    }
    Ok(next)
}

/// Gives the locks of the calling task, which ends, to their first waiters.
pub fn exit(t: &mut CurrentTask) {
    let table = &t.kernel().futexes;
    if table.pi_waiters.load(Ordering::SeqCst) == 0 {
        return;
    }
    let tid = t.tid();
    let mut woken = Vec::new();
    for bucket in table.all() {
        let mut bucket = bucket.lock();
        loop {
            let orphan = bucket.iter().find_map(|w| {
                let pi = w.pi.as_ref()?;
                let owned = pi.owner.load(Ordering::SeqCst) == tid;
                (owned && is_waiter(w, &w.key())).then(|| (w.key(), pi.mm.clone(), pi.addr))
            });
            let Some((key, mm, addr)) = orphan else { break };
            match hand_over(&mut bucket, &key, &mm, addr, FUTEX_OWNER_DIED) {
                Ok(next) => woken.extend(next),
                Err(_) => {
                    // The word is gone; its waiters would wait for ever.
                    let gone = |w: &Arc<Waiter>| is_waiter(w, &key);
                    woken.extend(bucket.iter().filter(|w| gone(w)).cloned());
                    bucket.retain(|w| !gone(w));
                }
            }
        }
    }
    wake_all(woken);
}
