//! Virtual memory areas: which addresses a process has, and with what rights (`vm_area_struct`).

use super::userfault::Registration;
use crate::kernel::mempolicy::MemPolicy;
use crate::vfs::{File, Mappable};
use platform::Prot;
use std::collections::BTreeMap;
use std::sync::Arc;

bitflags::bitflags! {
    /// Properties of a VMA other than its rights (`VM_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct VmaFlags: u32 {
        /// Changes are seen by everyone who maps the object (`MAP_SHARED`).
        const SHARED = 1 << 0;
        /// Grows towards lower addresses on a fault below it (`MAP_GROWSDOWN`).
        const GROWSDOWN = 1 << 1;
        /// Reserves no swap space (`MAP_NORESERVE`); kept for `/proc/PID/smaps`.
        const NORESERVE = 1 << 2;
        /// Locked in memory (`mlock(2)`); counted, for host memory is not ours to lock.
        const LOCKED = 1 << 3;
        /// Left out of a child (`MADV_DONTFORK`).
        const DONTFORK = 1 << 4;
        /// Empty in a child (`MADV_WIPEONFORK`).
        const WIPEONFORK = 1 << 5;
        /// May not be changed any more (`mseal(2)`).
        const SEALED = 1 << 6;
        /// Left out of core dumps (`MADV_DONTDUMP`).
        const DONTDUMP = 1 << 7;
        /// Made by the kernel; cannot be expanded (vDSO).
        const SPECIAL = 1 << 8;
        /// For a thread's stack (`MAP_STACK`), which is not used from its start on; Linux gives it no huge pages (`VM_NOHUGEPAGE`).
        const STACK = 1 << 9;
        /// Read here and there (`MADV_RANDOM`); without effect, but areas differ.
        const RANDOM = 1 << 10;
        /// Read from its start to its end (`MADV_SEQUENTIAL`); as the above.
        const SEQUENTIAL = 1 << 11;
    }
}

/// What `/proc/PID/maps` shows for a VMA without a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VmaName {
    /// Nothing.
    #[default]
    None,
    /// `[heap]`
    Heap,
    /// `[stack]`
    Stack,
    /// `[vdso]`
    Vdso,
    /// `[vvar]`
    Vvar,
    /// What patched call sites jump to. It has no name in `maps`, as Linux has no such area: who looks for the program there takes the
    /// first executable one with a name (Go's profiler).
    Trampolines,
}

impl VmaName {
    /// The text in `/proc/PID/maps`.
    pub fn text(self) -> &'static str {
        match self {
            VmaName::None | VmaName::Trampolines => "",
            VmaName::Heap => "[heap]",
            VmaName::Stack => "[stack]",
            VmaName::Vdso => "[vdso]",
            VmaName::Vvar => "[vvar]",
        }
    }
}

/// The object that a VMA maps.
#[derive(Clone)]
pub struct Backing {
    /// Where its memory comes from.
    pub mappable: Arc<dyn Mappable>,
    /// The open file; `None` for shared anonymous memory.
    pub file: Option<Arc<File>>,
    /// Offset in bytes of the VMA's first byte; a multiple of the page size.
    pub offset: u64,
}

impl Backing {
    fn same_object(&self, other: &Backing) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.mappable), Arc::as_ptr(&other.mappable))
            && match (&self.file, &other.file) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (None, None) => true,
                _ => false,
            }
    }
}

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backing")
            .field("file", &self.file)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// A range of addresses with one set of properties. Start and end are multiples of the page size.
#[derive(Debug, Clone)]
pub struct Vma {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Rights.
    pub prot: Prot,
    /// Rights that `mprotect(2)` may give (`VM_MAYREAD` and so on).
    pub max_prot: Prot,
    /// Other properties.
    pub flags: VmaFlags,
    /// The object behind it; `None` for private anonymous memory.
    pub backing: Option<Backing>,
    /// Name shown when there is no file.
    pub name: VmaName,
    /// The program that answers its faults (`userfaultfd(2)`).
    pub userfault: Option<Registration>,
    /// Where its pages are to come from (`mbind(2)`).
    pub policy: MemPolicy,
    /// Its protection key (`pkeys(7)`).
    pub key: u8,
}

impl Vma {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// True if changes are private to the process.
    pub fn private(&self) -> bool {
        !self.flags.contains(VmaFlags::SHARED)
    }

    /// True if it may be written.
    pub fn writable(&self) -> bool {
        self.prot.contains(Prot::WRITE)
    }

    /// Private writable memory that is not a stack: what `RLIMIT_DATA` counts.
    pub fn is_data(&self) -> bool {
        self.private() && self.writable() && !self.flags.contains(VmaFlags::GROWSDOWN)
    }

    /// Offset in the object of the byte at `addr`, which lies in the area.
    pub fn offset_of(&self, addr: u64) -> u64 {
        let base = self.backing.as_ref().map_or(0, |b| b.offset);
        base.wrapping_add(addr.wrapping_sub(self.start))
    }

    /// The part `[start, end)` of the area, which must lie in it.
    pub fn part(&self, start: u64, end: u64) -> Vma {
        let mut part = self.clone();
        if let Some(backing) = &mut part.backing {
            backing.offset = backing.offset.wrapping_add(start.wrapping_sub(self.start));
        }
        part.start = start;
        part.end = end;
        part
    }

    /// True if `next`, which starts where this area ends, can be part of it.
    fn continues_in(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.flags == next.flags
            && self.name == next.name
            && self.userfault == next.userfault
            && self.policy == next.policy
            && self.key == next.key
            && match (&self.backing, &next.backing) {
                (None, None) => true,
                (Some(a), Some(b)) => {
                    a.same_object(b) && a.offset.checked_add(self.len()) == Some(b.offset)
                }
                _ => false,
            }
    }
}

/// Sums over all areas, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VmaTotals {
    /// Everything (`VmSize`).
    pub total: u64,
    /// The most that it has been (`VmPeak`).
    pub peak: u64,
    /// Private writable memory (`VmData`).
    pub data: u64,
    /// Stacks (`VmStk`).
    pub stack: u64,
    /// Executable file mappings (`VmExe` + `VmLib`).
    pub exec: u64,
    /// Locked memory (`VmLck`).
    pub locked: u64,
}

impl VmaTotals {
    fn add(&mut self, vma: &Vma, sign: i64) {
        let len = vma.len() as i64 * sign;
        let count = |field: &mut u64, when: bool| {
            if when {
                *field = field.wrapping_add_signed(len);
            }
        };
        count(&mut self.total, true);
        self.peak = self.peak.max(self.total);
        count(&mut self.data, vma.is_data());
        count(&mut self.stack, vma.flags.contains(VmaFlags::GROWSDOWN));
        count(
            &mut self.exec,
            vma.backing.is_some() && vma.prot.contains(Prot::EXEC) && !vma.writable(),
        );
        count(&mut self.locked, vma.flags.contains(VmaFlags::LOCKED));
    }
}

/// All areas of a process, by start address; they do not overlap. Neighbours that can be one are.
#[derive(Debug, Clone, Default)]
pub struct VmaTree {
    map: BTreeMap<u64, Vma>,
    totals: VmaTotals,
}

impl VmaTree {
    /// Sums over all areas.
    pub fn totals(&self) -> VmaTotals {
        self.totals
    }

    /// Number of areas.
    pub fn count(&self) -> usize {
        self.map.len()
    }

    /// The area that contains `addr`.
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..=addr).next_back().map(|(_, vma)| vma).filter(|vma| addr < vma.end)
    }

    /// The first area that ends above `addr` (`find_vma`).
    pub fn find_or_above(&self, addr: u64) -> Option<&Vma> {
        self.iter_from(addr).next()
    }

    /// The last area that ends at or below `addr`.
    pub fn below(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..addr).next_back().map(|(_, vma)| vma).filter(|vma| vma.end <= addr)
    }

    /// All areas, by address.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.map.values()
    }

    /// Areas that end above `addr`, by address.
    pub fn iter_from(&self, addr: u64) -> impl DoubleEndedIterator<Item = &Vma> {
        let first = self.find(addr).map_or(addr, |vma| vma.start);
        self.map.range(first..).map(|(_, vma)| vma)
    }

    /// Areas that overlap `[start, end)`, by address, whole.
    pub fn overlapping(&self, start: u64, end: u64) -> impl DoubleEndedIterator<Item = &Vma> {
        let first = self.find(start).map_or(start, |vma| vma.start);
        // An empty or inverted range has no areas; BTreeMap::range would not take it.
        self.map.range(first..end.max(first)).map(|(_, vma)| vma)
    }

    /// The parts of areas that lie in `[start, end)`.
    pub fn parts(&self, start: u64, end: u64) -> Vec<Vma> {
        self.overlapping(start, end)
            .map(|vma| vma.part(vma.start.max(start), vma.end.min(end)))
            .collect()
    }

    /// True if areas cover every byte of `[start, end)`.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        self.covered_to(start, end) == end.max(start)
    }

    /// Where the first byte from `start` on is that no area covers, or `end`.
    pub fn covered_to(&self, start: u64, end: u64) -> u64 {
        let mut at = start;
        for vma in self.overlapping(start, end) {
            if vma.start > at {
                break;
            }
            at = vma.end;
        }
        at.min(end)
    }

    /// Bytes of `[start, end)` that areas cover.
    pub fn covered(&self, start: u64, end: u64) -> u64 {
        self.overlapping(start, end).map(|vma| vma.end.min(end) - vma.start.max(start)).sum()
    }

    /// Adds an area where there is none, joined with its neighbours if they are alike.
    pub fn insert(&mut self, vma: Vma) {
        debug_assert!(vma.start < vma.end && self.covered(vma.start, vma.end) == 0);
        let (start, end) = (vma.start, vma.end);
        self.totals.add(&vma, 1);
        self.map.insert(start, vma);
        self.join(end);
        self.join(start);
    }

    /// Removes `[start, end)` and returns the parts that were there.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<Vma> {
        self.split(start);
        self.split(end);
        let starts: Vec<u64> = self.map.range(start..end.max(start)).map(|(&s, _)| s).collect();
        let removed: Vec<Vma> = starts.iter().filter_map(|s| self.map.remove(s)).collect();
        for vma in &removed {
            self.totals.add(vma, -1);
        }
        removed
    }

    /// Changes the parts of areas in `[start, end)`. `change` must not move them.
    pub fn update(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Vma)) {
        self.split(start);
        self.split(end);
        let mut bounds = Vec::new();
        for (&at, vma) in self.map.range_mut(start..end.max(start)) {
            self.totals.add(vma, -1);
            change(vma);
            self.totals.add(vma, 1);
            bounds.push(at);
        }
        for at in bounds {
            self.join(at);
        }
        self.join(end);
    }

    /// Moves the start of the area that starts at `start` down to `new_start`; the addresses between
    /// are free.
    pub fn grow_down(&mut self, start: u64, new_start: u64) {
        if let Some(mut vma) = self.map.remove(&start) {
            self.totals.add(&vma, -1);
            vma.start = new_start.min(start);
            self.totals.add(&vma, 1);
            self.map.insert(vma.start, vma);
        }
    }

    /// Makes `at` a border between areas.
    fn split(&mut self, at: u64) {
        let Some(vma) = self.find(at) else { return };
        if vma.start == at {
            return;
        }
        let (low, high) = (vma.part(vma.start, at), vma.part(at, vma.end));
        self.map.insert(low.start, low);
        self.map.insert(at, high);
    }

    /// Joins the areas on both sides of `at`, if they are alike.
    fn join(&mut self, at: u64) {
        let Some(next) = self.map.get(&at) else { return };
        let Some((_, before)) = self.map.range(..at).next_back() else { return };
        if !before.continues_in(next) {
            return;
        }
        let (start, end) = (before.start, next.end);
        self.map.remove(&at);
        if let Some(before) = self.map.get_mut(&start) {
            before.end = end;
        }
    }
}
