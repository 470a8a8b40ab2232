//! Limits of System V objects in a namespace, as `/proc/sys/kernel` has them.

use super::{msg::MSGMNI, shm};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// The limits. Each acts on what is made from then on.
#[derive(Debug)]
pub struct Limits {
    /// `msgmni`: message queues.
    pub msgmni: AtomicU64,
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
            msgmni: AtomicU64::new(MSGMNI as u64),
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

    /// One of them as a number of objects.
    pub fn count(limit: &AtomicU64) -> usize {
        usize::try_from(limit.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }
}
