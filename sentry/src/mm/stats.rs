//! What `/proc/PID` shows of a process's memory.

use super::manager::MemoryManager;
use super::runs::Owner;
use super::vma::{Vma, VmaFlags, VmaName, VmaTotals};
use crate::kernel::mempolicy::MemPolicy;
use crate::vfs::{File, Mappable};
use platform::{Frames, MapSource, Prot};
use std::sync::Arc;

/// One line of `/proc/PID/maps`.
#[derive(Debug, Clone)]
pub struct MapsEntry {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Rights.
    pub prot: Prot,
    /// Rights that it may be given.
    pub max_prot: Prot,
    /// Shared or private.
    pub shared: bool,
    /// Properties.
    pub flags: VmaFlags,
    /// Offset in the file in bytes.
    pub offset: u64,
    /// The mapped file.
    pub file: Option<Arc<File>>,
    /// Shared anonymous memory: shown as `/dev/zero (deleted)`.
    pub shared_anonymous: bool,
    /// Text when there is no file.
    pub name: VmaName,
    /// NUMA policy.
    pub policy: MemPolicy,
    /// Protection key.
    pub key: u8,
}

/// Memory use in bytes, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Private anonymous pages, and private copies of file pages (`RssAnon`).
    pub anonymous: u64,
    /// Pages of mapped files (`RssFile`).
    pub file: u64,
    /// Shared anonymous memory and tmpfs (`RssShmem`).
    pub shared: u64,
}

impl Usage {
    /// Everything (`VmRSS`).
    pub fn total(&self) -> u64 {
        self.anonymous + self.file + self.shared
    }
}

impl MemoryManager {
    /// All areas, by address.
    pub fn maps(&self) -> Vec<MapsEntry> {
        self.read_state().vmas.iter().map(entry).collect()
    }

    /// The first area that ends above `addr`: the next line of `/proc/PID/maps`.
    pub fn maps_from(&self, addr: u64) -> Option<MapsEntry> {
        self.read_state().vmas.find_or_above(addr).map(entry)
    }

    /// True if `[start, end)` has pages in memory that are the process's own.
    pub fn has_private_pages(&self, start: u64, end: u64) -> bool {
        let state = self.read_state();
        state.runs.overlapping(start, end).any(|(at, run)| match (run.owner, &run.source) {
            (Owner::Mine | Owner::Cow, MapSource::Frames(frames)) => {
                let part = at.max(start) - at..at.wrapping_add(run.len).min(end) - at;
                frames.committed(part) > 0
            }
            _ => false,
        })
    }

    /// Where the first area of that name begins that maps `object`.
    pub fn find_object(&self, name: VmaName, object: &Arc<dyn Mappable>) -> Option<u64> {
        let state = self.read_state();
        let maps = |vma: &Vma| {
            let backing = vma.backing.as_ref();
            backing
                .is_some_and(|b| std::ptr::addr_eq(Arc::as_ptr(&b.mappable), Arc::as_ptr(object)))
        };
        state.vmas.iter().find(|vma| vma.name == name && maps(vma)).map(|vma| vma.start)
    }

    /// Sizes of all areas together.
    pub fn totals(&self) -> VmaTotals {
        self.read_state().vmas.totals()
    }

    /// Number of areas.
    pub fn map_count(&self) -> usize {
        self.read_state().vmas.count()
    }

    /// Memory in use in `[start, end)`; the whole process is `0..u64::MAX`.
    ///
    /// Frames count where the memory file holds storage; pages of a mapped host file all count, for
    /// which of them the host has in memory is not known.
    pub fn usage(&self, start: u64, end: u64) -> Usage {
        let state = self.read_state();
        let mut file = 0;
        let (mut anonymous, mut shared) = (Vec::new(), Vec::new());
        for (at, run) in state.runs.overlapping(start, end) {
            let (from, to) = (at.max(start) - at, at.wrapping_add(run.len).min(end) - at);
            match (run.owner, &run.source) {
                (_, MapSource::HostFd(..)) => file += to - from,
                (Owner::Mine | Owner::Cow, MapSource::Frames(f)) => anonymous.push((f, from..to)),
                (_, MapSource::Frames(f)) => shared.push((f, from..to)),
            }
        }
        Usage {
            anonymous: Frames::committed_in_all(anonymous.into_iter()),
            file,
            shared: Frames::committed_in_all(shared.into_iter()),
        }
    }
}

fn entry(vma: &Vma) -> MapsEntry {
    MapsEntry {
        start: vma.start,
        end: vma.end,
        prot: vma.prot,
        max_prot: vma.max_prot,
        shared: !vma.private(),
        flags: vma.flags,
        offset: vma.backing.as_ref().map_or(0, |b| b.offset),
        file: vma.backing.as_ref().and_then(|b| b.file.clone()),
        shared_anonymous: !vma.private() && vma.backing.as_ref().is_some_and(|b| b.file.is_none()),
        name: vma.name,
        policy: vma.policy,
        key: vma.key,
    }
}
