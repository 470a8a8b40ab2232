//! Time namespaces (`time_namespaces(7)`): offsets of `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`.

use super::{Counted, Kind, UserNamespace, next_id};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use std::sync::Arc;

#[derive(Debug, Clone, Copy, Default)]
struct Offsets {
    /// Nanoseconds added to `CLOCK_MONOTONIC`.
    monotonic: i64,
    /// Nanoseconds added to `CLOCK_BOOTTIME`.
    boottime: i64,
    /// A process runs in it: they can no longer be changed.
    frozen: bool,
}

/// A time namespace.
pub struct TimeNamespace {
    id: u64,
    user_ns: Arc<UserNamespace>,
    offsets: Mutex<Offsets, { rank::LEAF }>,
    _counted: Option<Counted>,
}

impl TimeNamespace {
    pub(super) fn initial(user_ns: &Arc<UserNamespace>) -> Arc<Self> {
        Arc::new(Self {
            id: Kind::Time.initial_id(),
            user_ns: user_ns.clone(),
            offsets: Mutex::new(Offsets { frozen: true, ..Offsets::default() }),
            _counted: None,
        })
    }

    /// A copy that belongs to `user_ns`, with the same offsets.
    pub fn copy(&self, user_ns: &Arc<UserNamespace>) -> Result<Arc<Self>> {
        let counted = Some(Counted::new(Kind::Time)?);
        let offsets = Offsets { frozen: false, ..*self.offsets.lock() };
        Ok(Arc::new(Self {
            id: next_id(),
            user_ns: user_ns.clone(),
            offsets: Mutex::new(offsets),
            _counted: counted,
        }))
    }

    /// Inode number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The user namespace it belongs to.
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
    }

    /// Nanoseconds added to `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`.
    pub fn offsets(&self) -> (i64, i64) {
        let offsets = self.offsets.lock();
        (offsets.monotonic, offsets.boottime)
    }

    /// A process starts to run in it.
    pub fn freeze(&self) {
        self.offsets.lock().frozen = true;
    }

    /// Sets the offsets that are given, in nanoseconds. `EACCES` once a process runs in it.
    pub fn set(&self, monotonic: Option<i64>, boottime: Option<i64>) -> Result<()> {
        let mut offsets = self.offsets.lock();
        if offsets.frozen {
            return Err(Errno::EACCES);
        }
        offsets.monotonic = monotonic.unwrap_or(offsets.monotonic);
        offsets.boottime = boottime.unwrap_or(offsets.boottime);
        Ok(())
    }
}
