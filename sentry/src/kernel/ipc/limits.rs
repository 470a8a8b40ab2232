//! Limits of System V objects in a namespace, as `/proc/sys/kernel` has them.

use super::{msg::MSGMNI, shm};
use std::sync::atomic::{AtomicU64, Ordering};

/// The limits. Each acts on what is made from then on.
#[derive(Debug)]
pub struct Limits {
    /// `msgmni`: message queues.
    pub msgmni: AtomicU64,
    /// `shmmni`: shared memory segments.
    pub shmmni: AtomicU64,
    /// `shmmax`: bytes of a segment.
    pub shmmax: AtomicU64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            msgmni: AtomicU64::new(MSGMNI as u64),
            shmmni: AtomicU64::new(shm::SHMMNI as u64),
            shmmax: AtomicU64::new(shm::SHMMAX),
        }
    }
}

impl Limits {
    /// One of them as a number of objects.
    pub fn count(limit: &AtomicU64) -> usize {
        usize::try_from(limit.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }
}
