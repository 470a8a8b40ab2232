//! Making and removing mappings: `mmap(2)` and `munmap(2)`.

use super::layout::{LOW_END, Layout, STACK_GUARD_GAP};
use super::lock::exceeds_limit;
use super::manager::{Edit, MemoryManager};
use super::vma::{Backing, Vma, VmaFlags, VmaName};
use super::{PAGE_SIZE, TASK_SIZE, UserAddr};
use crate::errno::{Errno, Result};
use crate::kernel::mempolicy::MemPolicy;
use platform::Prot;
use std::sync::atomic::{AtomicU32, Ordering};

/// Most areas of a process (`vm.max_map_count`).
pub static MAX_MAP_COUNT: AtomicU32 = AtomicU32::new(65530);

/// [`MAX_MAP_COUNT`] as it is now.
pub(super) fn max_map_count() -> usize {
    MAX_MAP_COUNT.load(Ordering::Relaxed) as usize
}

bitflags::bitflags! {
    /// Flags of `mmap(2)`, without the mapping type.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct MapFlags: u32 {
        /// Exactly at the address; what is there goes.
        const FIXED = 0x10;
        /// No file.
        const ANONYMOUS = 0x20;
        /// Below 2 GiB.
        const LOW_32BIT = 0x40;
        /// Grows downwards.
        const GROWSDOWN = 0x100;
        /// Ignored.
        const DENYWRITE = 0x800;
        /// Ignored.
        const EXECUTABLE = 0x1000;
        /// Lock the pages.
        const LOCKED = 0x2000;
        /// Reserve no swap space.
        const NORESERVE = 0x4000;
        /// Fault the pages in.
        const POPULATE = 0x8000;
        /// With `POPULATE`: only what needs no I/O.
        const NONBLOCK = 0x1_0000;
        /// Suitable for a stack.
        const STACK = 0x2_0000;
        /// Huge pages.
        const HUGETLB = 0x4_0000;
        /// Synchronous page faults (DAX).
        const SYNC = 0x8_0000;
        /// Exactly at the address, which must be free.
        const FIXED_NOREPLACE = 0x10_0000;
    }
}

/// A mapping to make.
#[derive(Debug, Clone)]
pub struct MapRequest {
    /// Where: a hint, or the address with [`MapFlags::FIXED`].
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// Rights.
    pub prot: Prot,
    /// Rights that `mprotect(2)` may give later.
    pub max_prot: Prot,
    /// Flags of the call.
    pub flags: MapFlags,
    /// Shared with whoever maps the same object.
    pub shared: bool,
    /// The object; `None` for private anonymous memory.
    pub backing: Option<Backing>,
    /// Name without a file.
    pub name: VmaName,
    /// Further properties of the area.
    pub vma_flags: VmaFlags,
}

impl MapRequest {
    /// Private anonymous memory with all rights obtainable.
    pub fn anonymous(addr: u64, len: u64, prot: Prot, flags: MapFlags) -> MapRequest {
        MapRequest {
            addr,
            len,
            prot,
            max_prot: Prot::all(),
            flags,
            shared: false,
            backing: None,
            name: VmaName::None,
            vma_flags: VmaFlags::default(),
        }
    }

    /// A private mapping of a file.
    pub fn file(addr: u64, len: u64, prot: Prot, flags: MapFlags, backing: Backing) -> MapRequest {
        MapRequest { backing: Some(backing), ..Self::anonymous(addr, len, prot, flags) }
    }
}

impl MemoryManager {
    /// Makes a mapping and returns its address. `EINVAL` for a bad length or address, `ENOMEM` when
    /// there is no room or a limit is hit, `EEXIST` with `FIXED_NOREPLACE`, `EPERM` below
    /// `vm.mmap_min_addr` or over sealed memory, `EAGAIN` at `RLIMIT_MEMLOCK`.
    pub fn mmap(&self, request: MapRequest) -> Result<UserAddr> {
        let (flags, len) = (request.flags, request.len);
        let mut edit = self.edit();
        let addr = edit.mmap(request)?;
        drop(edit);
        if flags.intersects(MapFlags::POPULATE) && !flags.contains(MapFlags::NONBLOCK) {
            // As on Linux, failing to populate is not an error of mmap.
            let _ = self.populate_range(addr, len, false);
        }
        Ok(UserAddr(addr))
    }

    /// Removes all mappings in a range. `EINVAL` for an empty or misaligned range.
    pub fn munmap(&self, addr: UserAddr, len: u64) -> Result<()> {
        if len == 0 || !addr.0.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let end = len.checked_next_multiple_of(PAGE_SIZE).and_then(|len| addr.0.checked_add(len));
        let end = end.filter(|end| *end <= TASK_SIZE).ok_or(Errno::EINVAL)?;
        // A program may name more than the platform leaves it; nothing is mapped there.
        let end = end.min(self.task_size());
        if addr.0 >= end {
            return Ok(());
        }
        let mut edit = self.edit();
        edit.check_sealed(addr.0, end)?;
        // A hole makes two areas of one.
        let splits = edit.state.vmas.find(addr.0).is_some_and(|v| v.start < addr.0 && end < v.end);
        if splits && edit.state.vmas.count() >= max_map_count() {
            return Err(Errno::ENOMEM);
        }
        edit.unmap(addr.0, end);
        Ok(())
    }
}

impl Edit<'_> {
    /// `EPERM` if a sealed area lies in the range.
    pub fn check_sealed(&self, start: u64, end: u64) -> Result<()> {
        let sealed =
            self.state.vmas.overlapping(start, end).any(|v| v.flags.contains(VmaFlags::SEALED));
        if sealed { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// See [`MemoryManager::mmap`].
    pub fn mmap(&mut self, request: MapRequest) -> Result<u64> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = request.len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        if let Some(backing) = &request.backing
            && backing.offset.checked_add(len).is_none_or(|end| end > i64::MAX as u64)
        {
            return Err(Errno::EOVERFLOW);
        }
        if self.state.vmas.count() >= max_map_count() {
            return Err(Errno::ENOMEM);
        }
        let start = self.choose_address(&request, len)?;
        let end = start + len;
        let mut flags = request.vma_flags;
        flags.set(VmaFlags::SHARED, request.shared);
        flags.set(VmaFlags::GROWSDOWN, request.flags.contains(MapFlags::GROWSDOWN));
        flags.set(VmaFlags::STACK, request.flags.contains(MapFlags::STACK));
        flags.set(VmaFlags::NORESERVE, request.flags.contains(MapFlags::NORESERVE));
        flags.set(
            VmaFlags::LOCKED,
            request.flags.contains(MapFlags::LOCKED) || self.state.lock_future,
        );
        let vma = Vma {
            start,
            end,
            prot: request.prot,
            max_prot: request.max_prot,
            flags,
            backing: request.backing,
            name: request.name,
            userfault: None,
            policy: MemPolicy::default(),
            key: self.mm.implied_key(0, request.prot),
        };
        self.check_limits(&vma)?;
        self.mm.check_gain(request.prot, request.prot)?;
        self.check_sealed(start, end)?;
        self.unmap(start, end);
        vma.register(self.mm);
        self.state.vmas.insert(vma.clone());
        if let Err(error) = self.populate(&vma, start, end) {
            self.unmap(start, end);
            return Err(error);
        }
        Ok(start)
    }

    /// Limits on the sum of mappings, for an area that will replace what is at its addresses.
    pub fn check_limits(&self, vma: &Vma) -> Result<()> {
        let limits = &self.mm.limits;
        let totals = self.state.vmas.totals();
        let replaced = self.state.vmas.covered(vma.start, vma.end);
        let more = vma.len() - replaced;
        if totals.total.saturating_add(more) > limits.address_space() {
            return Err(Errno::ENOMEM);
        }
        if vma.is_data() && totals.data.saturating_add(more) > limits.data() {
            return Err(Errno::ENOMEM);
        }
        if vma.flags.contains(VmaFlags::LOCKED)
            && exceeds_limit(totals.locked.saturating_add(more), limits)
        {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    /// Where a mapping of `len` bytes goes (`get_unmapped_area`).
    fn choose_address(&self, request: &MapRequest, len: u64) -> Result<u64> {
        let layout = self.state.layout;
        if len > layout.high {
            return Err(Errno::ENOMEM);
        }
        let addr = request.addr;
        if request.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
            if addr > layout.high - len {
                return Err(Errno::ENOMEM);
            }
            if !addr.is_multiple_of(PAGE_SIZE) {
                return Err(Errno::EINVAL);
            }
            if addr < layout.low {
                return Err(Errno::EPERM);
            }
            if request.flags.contains(MapFlags::FIXED_NOREPLACE)
                && self.state.vmas.covered(addr, addr + len) > 0
            {
                return Err(Errno::EEXIST);
            }
            return Ok(addr);
        }
        if addr != 0 {
            let hint = (addr & !(PAGE_SIZE - 1)).max(layout.low);
            let low = request.flags.contains(MapFlags::LOW_32BIT);
            if let Some(end) = hint.checked_add(len)
                && end <= if low { LOW_END.min(layout.high) } else { layout.high }
                && self.is_free(hint, end)
            {
                return Ok(hint);
            }
        }
        if request.flags.contains(MapFlags::LOW_32BIT) {
            let (low, high) = (0x4000_0000u64.max(layout.low), LOW_END.min(layout.high));
            return self.find_gap(len, low, high).ok_or(Errno::ENOMEM);
        }
        self.find_gap(len, layout.low, layout.mmap_base)
            .or_else(|| self.find_gap(len, layout.mmap_base, layout.high))
            .ok_or(Errno::ENOMEM)
    }

    /// True if nothing is mapped in the range, nor a stack so near that it would grow into it.
    fn is_free(&self, start: u64, end: u64) -> bool {
        match self.state.vmas.find_or_above(start) {
            None => true,
            Some(vma) if vma.flags.contains(VmaFlags::GROWSDOWN) => {
                end.saturating_add(STACK_GUARD_GAP) <= vma.start
            }
            Some(vma) => end <= vma.start,
        }
    }

    /// The highest free `len` bytes in `[low, high)`.
    pub fn find_gap(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut top = high;
        // The first area above bounds the range from above if it is a stack.
        if let Some(vma) = self.state.vmas.find_or_above(high)
            && vma.flags.contains(VmaFlags::GROWSDOWN)
        {
            top = top.min(vma.start.saturating_sub(STACK_GUARD_GAP));
        }
        for vma in self.state.vmas.overlapping(low, high).rev() {
            if top.checked_sub(vma.end).is_some_and(|gap| gap >= len) {
                return Some(top - len);
            }
            let guard = if vma.flags.contains(VmaFlags::GROWSDOWN) { STACK_GUARD_GAP } else { 0 };
            top = top.min(vma.start.saturating_sub(guard));
        }
        top.checked_sub(low).is_some_and(|gap| gap >= len).then(|| top - len)
    }
}

impl MemoryManager {
    /// Where the parts of the process lie.
    pub fn layout(&self) -> Layout {
        self.read_state().layout
    }

    /// Maps the main stack: `len` bytes below `top`, growing on demand. `ENOMEM` over the limit.
    pub fn map_stack(&self, top: u64, len: u64, executable: bool) -> Result<()> {
        let limit = self.limits.stack() & !(PAGE_SIZE - 1);
        let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        let len = len.min(limit.max(STACK_LEAST));
        // Frames for all of it, so that the host sees one mapping; they cost nothing until touched.
        let spare = self.memory.allocate(limit.clamp(len, STACK_SPARE_MOST)).ok();
        let mut prot = Prot::READ | Prot::WRITE;
        prot.set(Prot::EXEC, executable);
        let request = MapRequest {
            name: VmaName::Stack,
            ..MapRequest::anonymous(
                top - len,
                len,
                prot,
                MapFlags::FIXED | MapFlags::GROWSDOWN | MapFlags::STACK,
            )
        };
        let mut edit = self.edit();
        edit.state.stack_spare = spare;
        edit.mmap(request).map(|_| ())
    }
}

/// A stack smaller than this cannot hold what a program starts with.
const STACK_LEAST: u64 = 32 * PAGE_SIZE;
/// Frames that a stack without a limit gets ahead.
const STACK_SPARE_MOST: u64 = 256 << 20;
