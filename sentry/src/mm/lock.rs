//! Locked memory: `mlock(2)` and its kin.
//!
//! Host memory is not ours to lock; the areas are marked and counted, limits are enforced, and pages
//! are committed, so that a guest sees what it would see on Linux.

use super::manager::MemoryManager;
use super::vma::VmaFlags;
use super::{Limits, PAGE_SIZE, UserAddr};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::CAP_IPC_LOCK;

impl MemoryManager {
    /// Locks the pages of a range. `privileged`: `CAP_IPC_LOCK`. `on_fault` leaves them untouched.
    /// `ENOMEM` over the limit or if a part is not mapped, `EPERM` with a limit of zero.
    pub fn mlock(&self, addr: UserAddr, len: u64, on_fault: bool, privileged: bool) -> Result<()> {
        let (start, end) = lock_range(addr, len)?;
        if self.limits.memlock() == 0 && !privileged {
            return Err(Errno::EPERM);
        }
        if end > self.addresses.end {
            return Err(Errno::ENOMEM);
        }
        let mut edit = self.edit();
        let already: u64 = edit
            .state
            .vmas
            .parts(start, end)
            .iter()
            .filter(|vma| vma.flags.contains(VmaFlags::LOCKED))
            .map(|vma| vma.len())
            .sum();
        let locked = edit.state.vmas.totals().locked - already;
        if locked.saturating_add(end - start) > self.limits.memlock() && !privileged {
            return Err(Errno::ENOMEM);
        }
        // Up to the first hole, as Linux, which goes from area to area.
        let covered = edit.state.vmas.covered_to(start, end);
        edit.state.vmas.update(start, covered, |vma| vma.flags |= VmaFlags::LOCKED);
        drop(edit);
        if covered < end {
            return Err(Errno::ENOMEM);
        }
        if !on_fault {
            // Pages without rights cannot be touched; Linux reports ENOMEM for them.
            self.populate_range(start, end - start, false).map_err(|_| Errno::ENOMEM)?;
        }
        Ok(())
    }

    /// Unlocks the pages of a range. `ENOMEM` if a part is not mapped.
    pub fn munlock(&self, addr: UserAddr, len: u64) -> Result<()> {
        let (start, end) = lock_range(addr, len)?;
        let mut edit = self.edit();
        let covered = edit.state.vmas.covers(start, end);
        edit.state.vmas.update(start, end, |vma| vma.flags -= VmaFlags::LOCKED);
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Locks everything there is (`current`) and everything to come (`future`). `ENOMEM` over the
    /// limit, `EPERM` with a limit of zero.
    pub fn mlockall(&self, current: bool, future: bool, privileged: bool) -> Result<()> {
        if self.limits.memlock() == 0 && !privileged {
            return Err(Errno::EPERM);
        }
        let mut edit = self.edit();
        let total = edit.state.vmas.totals().total;
        if current && total > self.limits.memlock() && !privileged {
            return Err(Errno::ENOMEM);
        }
        edit.state.lock_future = future;
        if current {
            edit.state.vmas.update(0, u64::MAX, |vma| vma.flags |= VmaFlags::LOCKED);
        }
        Ok(())
    }

    /// Undoes all locks.
    pub fn munlockall(&self) {
        let mut edit = self.edit();
        edit.state.lock_future = false;
        edit.state.vmas.update(0, u64::MAX, |vma| vma.flags -= VmaFlags::LOCKED);
    }
}

/// Whether a mapping may not be made because with it `locked` bytes would be locked (`mlock_future_ok`). Whoever has
/// `CAP_IPC_LOCK` has no limit.
pub(super) fn exceeds_limit(locked: u64, limits: &Limits) -> bool {
    let exempt = || crate::kernel::current().is_some_and(|task| task.creds().has(CAP_IPC_LOCK));
    locked > limits.memlock() && !exempt()
}

/// The pages that contain a range, as `mlock(2)` takes it: any address will do.
fn lock_range(addr: UserAddr, len: u64) -> Result<(u64, u64)> {
    let start = addr.0 & !(PAGE_SIZE - 1);
    let len = len
        .checked_add(addr.0 - start)
        .and_then(|len| len.checked_next_multiple_of(PAGE_SIZE))
        .ok_or(Errno::EINVAL)?;
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    Ok((start, end))
}
