//! Limits of System V objects in a namespace, as `/proc/sys/kernel` has them.

use super::{msg, sem, shm};
use crate::errno::{Errno, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// The limits. Each acts on what is made from then on.
#[derive(Debug)]
pub struct Limits {
    /// `msgmni`: message queues.
    pub msgmni: AtomicU64,
    /// `msgmax`: bytes of a message.
    pub msgmax: AtomicU64,
    /// `msgmnb`: bytes of a queue.
    pub msgmnb: AtomicU64,
    /// `sem`: semaphores of a set (`SEMMSL`), of the namespace (`SEMMNS`), operations of a call (`SEMOPM`), sets (`SEMMNI`).
    pub sem: [AtomicU64; 4],
    /// Semaphores that there are.
    semaphores: Arc<AtomicU64>,
    /// `shm_rmid_forced`: segments that nobody has attached any more go.
    pub shm_rmid_forced: AtomicU64,
    /// `shmall`: pages of all segments.
    pub shmall: AtomicU64,
    /// `shmmni`: shared memory segments.
    pub shmmni: AtomicU64,
    /// `shmmax`: bytes of a segment.
    pub shmmax: AtomicU64,
    /// `msg_next_id`: the identifier that the next queue is to have, if that is free; -1 for any.
    pub msg_next_id: AtomicI32,
    /// `sem_next_id`: that of the next semaphore set.
    pub sem_next_id: AtomicI32,
    /// `shm_next_id`: that of the next segment.
    pub shm_next_id: AtomicI32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            msgmni: AtomicU64::new(msg::MSGMNI as u64),
            msgmax: AtomicU64::new(msg::MSGMAX),
            msgmnb: AtomicU64::new(msg::MSGMNB),
            sem: sem::LIMITS.map(AtomicU64::new),
            semaphores: Arc::default(),
            shm_rmid_forced: AtomicU64::new(0),
            shmall: AtomicU64::new(shm::SHMMAX),
            shmmni: AtomicU64::new(shm::SHMMNI as u64),
            shmmax: AtomicU64::new(shm::SHMMAX),
            msg_next_id: AtomicI32::new(-1),
            sem_next_id: AtomicI32::new(-1),
            shm_next_id: AtomicI32::new(-1),
        }
    }
}

impl Limits {
    /// The identifier that an object is to have; it is wished for only once.
    pub fn take_id(wish: &AtomicI32) -> Option<i32> {
        let id = wish.swap(-1, Ordering::Relaxed);
        (id >= 0).then_some(id)
    }

    /// Counts the semaphores of a new set. `ENOSPC` when they would be more than `SEMMNS`.
    pub fn count_semaphores(&self, count: usize) -> Result<Semaphores> {
        let count = count as u64;
        let most = self.sem[1].load(Ordering::Relaxed);
        let room = |n: u64| n.checked_add(count).filter(|n| *n <= most);
        let got = self.semaphores.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        let all = self.semaphores.clone();
        got.map(|_| Semaphores { all, count }).map_err(|_| Errno::ENOSPC)
    }

    /// One of them as a number of objects.
    pub fn count(limit: &AtomicU64) -> usize {
        usize::try_from(limit.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }
}

/// Semaphores of a set, counted while it is there.
pub struct Semaphores {
    all: Arc<AtomicU64>,
    count: u64,
}

impl Drop for Semaphores {
    fn drop(&mut self) {
        self.all.fetch_sub(self.count, Ordering::Relaxed);
    }
}
