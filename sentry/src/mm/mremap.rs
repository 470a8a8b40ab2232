//! Moving and resizing mappings: `mremap(2)`.

use super::lock::exceeds_limit;
use super::manager::{Edit, MemoryManager};
use super::mmap::{MapFlags, MapRequest, max_map_count};
use super::runs::Run;
use super::vma::{Vma, VmaFlags};
use super::{PAGE_SIZE, UserAddr};
use crate::errno::{Errno, Result};

bitflags::bitflags! {
    /// Flags of `mremap(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RemapFlags: u32 {
        /// May move.
        const MAYMOVE = 1;
        /// Must move to the new address; what is there goes.
        const FIXED = 2;
        /// The old range stays mapped, empty.
        const DONTUNMAP = 4;
    }
}

impl MemoryManager {
    /// Resizes or moves a mapping and returns its address. Errors as `mremap(2)`.
    pub fn mremap(
        &self,
        old: UserAddr,
        old_len: u64,
        new_len: u64,
        flags: RemapFlags,
        new: UserAddr,
    ) -> Result<UserAddr> {
        let fixed = flags.contains(RemapFlags::FIXED);
        let keep = flags.contains(RemapFlags::DONTUNMAP);
        if (fixed || keep) && !flags.contains(RemapFlags::MAYMOVE) {
            return Err(Errno::EINVAL);
        }
        if keep && old_len.next_multiple_of_page() != new_len.next_multiple_of_page() {
            return Err(Errno::EINVAL);
        }
        if !old.0.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let old_len = old_len.next_multiple_of_page().ok_or(Errno::EINVAL)?;
        let new_len = new_len.next_multiple_of_page().ok_or(Errno::EINVAL)?;
        if new_len == 0 {
            return Err(Errno::EINVAL);
        }
        let mut edit = self.edit();
        if new_len > edit.state.layout.high {
            return Err(Errno::EINVAL);
        }
        let vma = edit.state.vmas.find(old.0).ok_or(Errno::EFAULT)?.clone();
        if fixed || keep {
            return edit.move_to(old.0, old_len, new_len, new.0, flags).map(UserAddr);
        }
        let end = old.0.checked_add(old_len).ok_or(Errno::EINVAL)?;
        if old_len >= new_len {
            if old_len > new_len {
                edit.check_sealed(old.0, end)?;
                edit.unmap(old.0 + new_len, end);
            }
            return Ok(old);
        }
        edit.check_sealed(old.0, end)?;
        edit.check_resize(&vma, old.0, old_len, new_len)?;
        if end == vma.end && old_len > 0 {
            let new_end = old.0.checked_add(new_len).ok_or(Errno::ENOMEM)?;
            let free =
                new_end <= edit.state.layout.high && edit.state.vmas.covered(end, new_end) == 0;
            if free {
                edit.extend(&vma, new_end)?;
                return Ok(old);
            }
        }
        if !flags.contains(RemapFlags::MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        let layout = edit.state.layout;
        let target = edit
            .find_gap(new_len, layout.low, layout.mmap_base)
            .or_else(|| edit.find_gap(new_len, layout.mmap_base, layout.high))
            .ok_or(Errno::ENOMEM)?;
        edit.relocate(&vma, old.0, old_len, new_len, target, false).map(UserAddr)
    }
}

impl MemoryManager {
    /// `remap_file_pages(2)`: `EINVAL` unless the range is a shared file mapping.
    pub fn remap_file_pages(&self, addr: UserAddr, size: u64, page: u64) -> Result<()> {
        self.edit().remap_file_pages(addr.0, size, page)
    }
}

trait PageRound {
    /// Rounded up to pages; `None` beyond the end of all addresses.
    fn next_multiple_of_page(self) -> Option<u64>;
}

impl PageRound for u64 {
    fn next_multiple_of_page(self) -> Option<u64> {
        self.checked_next_multiple_of(PAGE_SIZE)
    }
}

impl Edit<'_> {
    /// Whether the area permits that its part from `old` gets `new_len` bytes (`vma_to_resize`).
    fn check_resize(&self, vma: &Vma, old: u64, old_len: u64, new_len: u64) -> Result<()> {
        // A length of zero duplicates a shared mapping.
        if old_len == 0 && vma.private() {
            return Err(Errno::EINVAL);
        }
        if old_len > vma.end - old {
            return Err(Errno::EFAULT);
        }
        if new_len <= old_len {
            return Ok(());
        }
        if vma.flags.contains(VmaFlags::SPECIAL) {
            return Err(Errno::EFAULT);
        }
        if let Some(backing) = &vma.backing {
            let offset = backing.offset.wrapping_add(old - vma.start);
            if offset.checked_add(new_len).is_none_or(|end| end > i64::MAX as u64) {
                return Err(Errno::EINVAL);
            }
        }
        let (limits, totals, more) = (&self.mm.limits, self.state.vmas.totals(), new_len - old_len);
        if vma.flags.contains(VmaFlags::LOCKED)
            && exceeds_limit(totals.locked.saturating_add(more), limits)
        {
            return Err(Errno::EAGAIN);
        }
        if totals.total.saturating_add(more) > limits.address_space()
            || vma.is_data() && totals.data.saturating_add(more) > limits.data()
        {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Grows an area upwards into free addresses.
    fn extend(&mut self, vma: &Vma, new_end: u64) -> Result<()> {
        let mut more = vma.part(vma.start, new_end);
        if let Some(backing) = &mut more.backing {
            backing.offset = backing.offset.wrapping_add(vma.len());
        }
        more.start = vma.end;
        let (start, end) = (more.start, more.end);
        self.state.vmas.insert(more.clone());
        if let Err(error) = self.populate(&more, start, end) {
            self.unmap(start, end);
            return Err(error);
        }
        Ok(())
    }

    /// `MREMAP_FIXED` and `MREMAP_DONTUNMAP`.
    fn move_to(
        &mut self,
        old: u64,
        old_len: u64,
        new_len: u64,
        new: u64,
        flags: RemapFlags,
    ) -> Result<u64> {
        let fixed = flags.contains(RemapFlags::FIXED);
        let keep = flags.contains(RemapFlags::DONTUNMAP);
        let layout = self.state.layout;
        if fixed {
            if !new.is_multiple_of(PAGE_SIZE)
                || new_len > layout.high
                || new > layout.high - new_len
            {
                return Err(Errno::EINVAL);
            }
            let old_end = old.checked_add(old_len).ok_or(Errno::EINVAL)?;
            if old_end > new && new + new_len > old {
                return Err(Errno::EINVAL);
            }
            if new < layout.low {
                return Err(Errno::EPERM);
            }
            self.check_sealed(new, new + new_len)?;
        }
        if self.state.vmas.count() + 2 >= max_map_count() {
            return Err(Errno::ENOMEM);
        }
        let old_end = old.checked_add(old_len).ok_or(Errno::EINVAL)?;
        self.check_sealed(old, old_end.max(old + 1))?;
        let mut old_len = old_len;
        if old_len > new_len {
            // The rest goes first, as on Linux.
            let vma = self.state.vmas.find(old).ok_or(Errno::EFAULT)?;
            if vma.end < old_end {
                return Err(Errno::EFAULT);
            }
            self.unmap(old + new_len, old_end);
            old_len = new_len;
        }
        let vma = self.state.vmas.find(old).ok_or(Errno::EFAULT)?.clone();
        if keep
            && (vma.flags.contains(VmaFlags::SPECIAL) || !vma.private() && vma.backing.is_none())
        {
            return Err(Errno::EINVAL);
        }
        self.check_resize(&vma, old, old_len, new_len)?;
        let target = if fixed {
            self.unmap(new, new + new_len);
            new
        } else {
            self.find_gap(new_len, layout.low, layout.mmap_base).ok_or(Errno::ENOMEM)?
        };
        self.relocate(&vma, old, old_len, new_len, target, keep)
    }

    /// Moves `old_len` bytes of an area from `old` to `target`, where `new_len` bytes are free, and
    /// maps the rest as the area goes on. With `keep` the old range stays, empty.
    fn relocate(
        &mut self,
        vma: &Vma,
        old: u64,
        old_len: u64,
        new_len: u64,
        target: u64,
        keep: bool,
    ) -> Result<u64> {
        if old_len == 0 {
            // A second mapping of the same shared object.
            let mut copy = vma.part(old, vma.end);
            copy.start = target;
            copy.end = target + new_len;
            self.state.vmas.insert(copy.clone());
            if let Err(error) = self.populate(&copy, target, target + new_len) {
                self.unmap(target, target + new_len);
                return Err(error);
            }
            return Ok(target);
        }
        let old_end = old + old_len;
        let mut moved = vma.part(old, old_end);
        moved.start = target;
        moved.end = target + new_len;
        // Who answers faults stays with the addresses.
        moved.userfault = None;
        let mut left = Vec::new();
        if keep {
            // Linux drops the lock of what stays behind.
            self.state.vmas.update(old, old_end, |vma| vma.flags -= VmaFlags::LOCKED);
        } else {
            let removed = self.state.vmas.remove(old, old_end);
            self.removed.extend(removed);
            for (_, run) in self.state.withheld.remove(old, old_end) {
                run.into_frames(&mut left);
            }
        }
        self.state.vmas.insert(moved.clone());
        for (at, run) in self.state.runs.remove(old, old_end) {
            let run = Run { guarded: false, ..run };
            self.map_run(target + (at - old), run, &moved, Vec::new());
        }
        self.mm.space.unmap(old, old_len, left);
        if keep {
            let left = vma.part(old, old_end);
            self.populate(&left, old, old_end)?;
        }
        // What is longer than before, and pages that had not been mapped yet.
        if let Err(error) = self.populate(&moved, target + old_len, target + new_len) {
            // The old contents have moved; they stay, the addition goes.
            self.unmap(target + old_len, target + new_len);
            return Err(error);
        }
        Ok(target)
    }

    /// Linux, too, emulates it by a new mapping of the other part of the file.
    fn remap_file_pages(&mut self, start: u64, size: u64, page: u64) -> Result<()> {
        let start = start & !(PAGE_SIZE - 1);
        let size = size & !(PAGE_SIZE - 1);
        let end = start.checked_add(size).filter(|&end| end > start).ok_or(Errno::EINVAL)?;
        let offset = page.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?;
        if offset.checked_add(size).is_none() {
            return Err(Errno::EINVAL);
        }
        let vma = self.state.vmas.find(start).ok_or(Errno::EINVAL)?.clone();
        let mut backing = vma.backing.clone().ok_or(Errno::EINVAL)?;
        if vma.private() || !self.state.vmas.covers(start, end) {
            return Err(Errno::EINVAL);
        }
        backing.offset = offset;
        self.mmap(MapRequest {
            addr: start,
            len: size,
            prot: vma.prot,
            max_prot: vma.max_prot,
            flags: MapFlags::FIXED,
            shared: true,
            backing: Some(backing),
            name: vma.name,
            vma_flags: vma.flags,
        })
        .map(|_| ())
    }
}
