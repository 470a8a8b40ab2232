//! Time namespaces (`time_namespaces(7)`): offsets of `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`.

use super::{Counted, Kind, UserNamespace, next_id};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::mm::SharedMemory;
use crate::sync::{Mutex, rank};
use crate::time::ClockId;
use std::sync::{Arc, OnceLock};

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
    /// The page by which the vDSO knows the offsets, once a process runs in it.
    page: OnceLock<Arc<SharedMemory>>,
    _counted: Option<Counted>,
}

impl TimeNamespace {
    pub(super) fn initial(user_ns: &Arc<UserNamespace>) -> Arc<Self> {
        Arc::new(Self {
            id: Kind::Time.initial_id(),
            user_ns: user_ns.clone(),
            offsets: Mutex::new(Offsets { frozen: true, ..Offsets::default() }),
            page: OnceLock::new(),
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
            page: OnceLock::new(),
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

    /// Nanoseconds added to a clock.
    pub fn offset(&self, clock: ClockId) -> i64 {
        let (monotonic, boottime) = self.offsets();
        match clock {
            ClockId::Monotonic | ClockId::MonotonicRaw => monotonic,
            ClockId::Boottime => boottime,
            _ => 0,
        }
    }

    /// What a clock shows here when it shows `host` outside.
    pub fn shown(&self, clock: ClockId, host: u64) -> u64 {
        host.saturating_add_signed(self.offset(clock))
    }

    /// The time outside at which a clock shows `shown` here (`timens_ktime_to_host`).
    pub fn host(&self, clock: ClockId, shown: u64) -> u64 {
        shown.saturating_add_signed(self.offset(clock).saturating_neg())
    }

    /// A process starts to run in it: the page that it has to have mapped. `ENOMEM` if there is no memory for it.
    pub fn enter(&self, kernel: &Kernel) -> Result<Arc<SharedMemory>> {
        let offsets = {
            let mut offsets = self.offsets.lock();
            offsets.frozen = true;
            (offsets.monotonic, offsets.boottime)
        };
        if let Some(page) = self.page.get() {
            return Ok(page.clone());
        }
        let page = kernel.vdso.shifts(&kernel.memory, offsets)?;
        Ok(self.page.get_or_init(|| page).clone())
    }

    /// Sets the offsets that are given, in nanoseconds. `ERANGE` if a clock would be negative or overflow within the
    /// lifetime of a machine, `EACCES` once a process runs in it.
    pub fn set(
        &self,
        kernel: &Kernel,
        monotonic: Option<i64>,
        boottime: Option<i64>,
    ) -> Result<()> {
        for (offset, now) in
            [(monotonic, kernel.time.monotonic()), (boottime, kernel.time.boottime())]
        {
            let now = i64::try_from(now).unwrap_or(i64::MAX);
            let shown = offset.map_or(Some(now), |offset| now.checked_add(offset));
            if shown.is_none_or(|shown| !(0..=i64::MAX / 2).contains(&shown)) {
                return Err(Errno::ERANGE);
            }
        }
        let mut offsets = self.offsets.lock();
        if offsets.frozen {
            return Err(Errno::EACCES);
        }
        offsets.monotonic = monotonic.unwrap_or(offsets.monotonic);
        offsets.boottime = boottime.unwrap_or(offsets.boottime);
        Ok(())
    }
}
