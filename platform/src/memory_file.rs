//! The memory file: one memfd, or file of a tmpfs, that holds all guest memory.
//!
//! The file is sparse and practically endless; a range costs nothing until its pages are touched.
//! The sentry maps all of it once, so reading guest memory is a copy, not a host call.
//!
//! Ranges are handed out as [`Frames`], which count references page by page. When the last reference
//! to a page goes, its storage is returned to the host before the range can be handed out again, so
//! fresh frames always read as zeroes.
//!
//! Host calls: `memfd_create`, `ftruncate`, `mmap`, `munmap`, `fallocate`, `fstat`, `lseek`, `mincore`,
//! `preadv2`, `pwritev2`.

mod frames;
mod io;
mod mapping;
pub(crate) mod ranges;
mod used;

pub use frames::{AtomicOp, Frames};
pub use io::{read_from_fd, write_to_fd};

use crate::{PAGE_SIZE, PlatformError, Result};
use mapping::Mapping;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use parking_lot::Mutex;
use ranges::{FreeRanges, RefCounts};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use used::UsedRanges;

/// Sizes to try, in bytes. The first is more than any guest can use; a host with a small
/// `RLIMIT_AS` or `RLIMIT_FSIZE` may refuse it.
const SIZES: [u64; 4] = [16 << 40, 1 << 40, 64 << 30, 4 << 30];

/// A range longer than this, in bytes, is asked for its holes, not for each page.
const RESIDENCY_MOST: u64 = 4096 * PAGE_SIZE;

/// And so is one longer than this that turns out to have few parts in use, as stacks do.
const SPARSE_LEAST: u64 = 64 * PAGE_SIZE;

/// How many are few: asking for each page takes as long as asking for the holes between some dozen parts.
const SPARSE_PARTS: usize = 8;

/// Size of a huge page of the host in bytes.
pub const HUGE_PAGE: u64 = 2 << 20;

/// The file that holds all guest memory, and its bookkeeping.
#[derive(Debug)]
pub struct MemoryFile {
    fd: OwnedFd,
    mapping: Mapping,
    /// Huge pages are given where they are asked for.
    huge: bool,
    state: Mutex<State>,
}

/// Which parts of the file are in use.
#[derive(Debug)]
struct State {
    free: FreeRanges,
    refs: RefCounts,
    /// Belong to nobody and hold what their last owner left there.
    used: UsedRanges,
}

impl MemoryFile {
    /// Creates the file, a memfd, maps it, and installs the fault handlers of [`crate::safecopy`].
    pub fn new() -> Result<Arc<Self>> {
        Self::with(create()?, false)
    }

    /// As [`MemoryFile::new`], with an empty file of a tmpfs that gives huge pages on advice (`huge=advise`).
    pub fn in_tmpfs(file: OwnedFd) -> Result<Arc<Self>> {
        Self::with(file, true)
    }

    fn with(fd: OwnedFd, huge: bool) -> Result<Arc<Self>> {
        crate::safecopy::install()
            .map_err(|e| PlatformError::host("install the memory fault handlers", e))?;
        let mut refused = Errno::ENOMEM;
        for size in SIZES {
            match Mapping::new(&fd, size) {
                Ok(mapping) => {
                    let state = Mutex::new(State {
                        free: FreeRanges::new(size),
                        refs: RefCounts::new(),
                        used: UsedRanges::default(),
                    });
                    return Ok(Arc::new(Self { fd, mapping, huge, state }));
                }
                Err(error) => refused = error,
            }
        }
        Err(PlatformError::host("map the memory file (at least 4 GiB of address space)", refused))
    }

    /// Allocates `len` bytes, a non-zero multiple of the page size. The pages read as zeroes and
    /// commit nothing until touched.
    ///
    /// Fails with `ENOMEM` when the file has no such range left, `EINVAL` for a bad length.
    pub fn allocate(self: &Arc<Self>, len: u64) -> Result<Frames> {
        check_len(len)?;
        let start = {
            let mut state = self.state.lock();
            let start = state.free.take(len).ok_or_else(out_of_frames)?;
            state.refs.insert(start..start + len);
            start
        };
        Ok(Frames::new(self.clone(), start, len))
    }

    /// As [`MemoryFile::allocate`], for pages that the caller overwrites, every byte, before any guest can
    /// see them. Also says whether they may hold bytes of someone else's (`true`) or zeroes.
    pub fn allocate_to_overwrite(self: &Arc<Self>, len: u64) -> Result<(Frames, bool)> {
        let start = {
            let mut state = self.state.lock();
            let start = state.used.take(len);
            if let Some(start) = start {
                state.refs.insert(start..start + len);
            }
            start
        };
        match start {
            Some(start) => Ok((Frames::new(self.clone(), start, len), true)),
            None => Ok((self.allocate(len)?, false)),
        }
    }

    /// Allocates `len` bytes that directly follow `frames` in the file, if they are free.
    ///
    /// Neighbouring guest mappings of neighbouring frames become one mapping in the host.
    pub fn allocate_after(self: &Arc<Self>, frames: &Frames, len: u64) -> Option<Frames> {
        self.allocate_at(frames.offset().checked_add(frames.len())?, len)
    }

    /// Allocates `len` bytes that directly precede `frames` in the file, if they are free.
    pub fn allocate_before(self: &Arc<Self>, frames: &Frames, len: u64) -> Option<Frames> {
        self.allocate_at(frames.offset().checked_sub(len)?, len)
    }

    /// As [`MemoryFile::allocate`], at an offset that is congruent to `addr` modulo [`HUGE_PAGE`], so that huge pages can be
    /// mapped there.
    pub fn allocate_congruent(self: &Arc<Self>, addr: u64, len: u64) -> Result<Frames> {
        check_len(len)?;
        let start = {
            let mut state = self.state.lock();
            let more = len.checked_add(HUGE_PAGE).ok_or_else(out_of_frames)?;
            let from = state.free.take(more).ok_or_else(out_of_frames)?;
            // The last one: what is below stays together with the other free ranges.
            let end = from + more;
            let start = end - len - (end - len).wrapping_sub(addr) % HUGE_PAGE;
            state.free.put(from..start);
            state.free.put(start + len..end);
            state.refs.insert(start..start + len);
            start
        };
        Ok(Frames::new(self.clone(), start, len))
    }

    /// Whether [`crate::AddressSpace::huge`] does anything.
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    fn allocate_at(self: &Arc<Self>, start: u64, len: u64) -> Option<Frames> {
        check_len(len).ok()?;
        {
            let mut state = self.state.lock();
            if !state.free.take_at(start, len) {
                return None;
            }
            state.refs.insert(start..start + len);
        }
        Some(Frames::new(self.clone(), start, len))
    }

    /// Bytes of host memory the file holds now.
    pub fn committed_bytes(&self) -> Result<u64> {
        let stat = nix::sys::stat::fstat(&self.fd)
            .map_err(|e| PlatformError::host("fstat of the memory file", e))?;
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
    }

    /// Bytes of a range of the file that hold storage.
    fn committed_in(&self, range: Range<u64>) -> u64 {
        self.data_in(range).into_iter().map(|part| part.end - part.start).sum()
    }

    /// Bytes in memory in some ranges, ascending by their start and near each other unless there is one.
    fn committed_in_group(&self, group: &[Range<u64>]) -> u64 {
        let (Some(first), Some(end)) = (group.first(), group.iter().map(|range| range.end).max())
        else {
            return 0;
        };
        let each = || group.iter().map(|range| self.committed_in(range.clone())).sum();
        if group.len() == 1 && end - first.start > RESIDENCY_MOST {
            return each();
        }
        if group.len() == 1
            && end - first.start > SPARSE_LEAST
            && let Some(parts) = self.some_data_in(first.clone(), SPARSE_PARTS)
        {
            return parts.into_iter().map(|part| part.end - part.start).sum();
        }
        let Ok(pages) = self.mapping.residency(first.start..end) else { return each() };
        let in_memory = |range: &Range<u64>| {
            let page = |at: u64| ((at - first.start) / PAGE_SIZE) as usize;
            let part = pages.get(page(range.start)..page(range.end)).unwrap_or_default();
            part.iter().filter(|page| *page & 1 != 0).count() as u64 * PAGE_SIZE
        };
        group.iter().map(in_memory).sum()
    }

    /// The parts of a range that hold storage, ascending.
    fn data_in(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.some_data_in(range, usize::MAX).unwrap_or_default()
    }

    /// As [`MemoryFile::data_in`]; `None` if there are more than `most`.
    fn some_data_in(&self, range: Range<u64>, most: usize) -> Option<Vec<Range<u64>>> {
        use nix::unistd::{Whence, lseek};
        let seek = |at: u64, whence| {
            lseek(&self.fd, i64::try_from(at).unwrap_or(i64::MAX), whence)
                .ok()
                .and_then(|at| u64::try_from(at).ok())
        };
        let (mut at, mut parts) = (range.start, Vec::new());
        // The file's position is used by nothing else, so seekers do not disturb each other.
        while let Some(data) = seek(at, Whence::SeekData).filter(|&data| data < range.end) {
            let hole = seek(data, Whence::SeekHole).unwrap_or(range.end).min(range.end);
            if hole <= data {
                break;
            }
            if parts.len() == most {
                return None;
            }
            parts.push(data..hole);
            if hole >= range.end {
                break;
            }
            at = hole;
        }
        Some(parts)
    }

    /// Size of the file: the most guest memory there can be, in bytes.
    pub fn size(&self) -> u64 {
        self.mapping.len()
    }

    /// The descriptor, for back ends that map the file in a stub.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The sentry's mapping of the file.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// A reference of its own to a range that somebody has frames of, and keeps them meanwhile.
    pub(crate) fn hold(self: &Arc<Self>, range: Range<u64>) -> Frames {
        self.retain(range.clone());
        Frames::new(self.clone(), range.start, range.end.saturating_sub(range.start))
    }

    /// Counts one more reference to every page of the range.
    fn retain(&self, range: Range<u64>) {
        self.state.lock().refs.increment(range);
    }

    /// Counts one reference less to every page of each range, and frees what nobody refers to. With
    /// `keep`, some of that stays as it is, for [`MemoryFile::allocate_to_overwrite`].
    fn release(&self, ranges: impl Iterator<Item = Range<u64>>, keep: bool) {
        let mut unused = Vec::new();
        {
            let mut state = self.state.lock();
            let State { refs, used, .. } = &mut *state;
            for range in ranges {
                refs.decrement(range, &mut unused);
            }
            if keep {
                unused.retain(|range| !used.put(range.clone()));
            }
        }
        if unused.is_empty() {
            return;
        }
        // Neighbours are punched in one call. The ranges belong to nobody now, so the host call
        // needs no lock; a range that could not be emptied is never handed out again.
        ranges::merge(&mut unused);
        unused.retain(|range| self.punch(range.clone()).is_ok());
        let mut state = self.state.lock();
        for range in unused {
            state.free.put(range);
        }
    }

    /// Whether any page of the range has more than one reference.
    fn is_shared(&self, range: Range<u64>) -> bool {
        self.state.lock().refs.any_shared(range)
    }

    /// Returns the storage of a range to the host; it reads as zeroes afterwards.
    fn punch(&self, range: Range<u64>) -> Result<(), Errno> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.fallocate(flags, range)
    }

    /// Allocates storage for a range ahead of its first use.
    fn commit(&self, range: Range<u64>) -> Result<(), Errno> {
        self.fallocate(FallocateFlags::FALLOC_FL_KEEP_SIZE, range)
    }

    fn fallocate(&self, flags: FallocateFlags, range: Range<u64>) -> Result<(), Errno> {
        let len = range.end.saturating_sub(range.start);
        // Offsets are below the file's size and thus fit.
        loop {
            match fallocate(&self.fd, flags, range.start as i64, len as i64) {
                Err(Errno::EINTR) => {}
                result => return result,
            }
        }
    }
}

fn create() -> Result<OwnedFd> {
    // Hosts may make memfds non-executable unless told otherwise; older ones do not know the flag.
    let base = MFdFlags::MFD_CLOEXEC;
    match memfd_create("runsc-memory", base | MFdFlags::from_bits_retain(libc::MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create("runsc-memory", base),
        result => result,
    }
    .map_err(|e| PlatformError::host("create the memory file (memfd_create)", e))
}

fn check_len(len: u64) -> Result<()> {
    if len == 0 || !len.is_multiple_of(PAGE_SIZE) {
        return Err(PlatformError::host("allocate guest memory", Errno::EINVAL));
    }
    Ok(())
}

fn out_of_frames() -> PlatformError {
    PlatformError::host("allocate guest memory", Errno::ENOMEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u64 = PAGE_SIZE;

    #[test]
    fn fresh_frames_are_zero_and_free() {
        let file = MemoryFile::new().unwrap();
        let frames = file.allocate(1 << 30).unwrap();
        assert_eq!(file.committed_bytes().unwrap(), 0);
        frames.write(P, b"hello").unwrap();
        assert_eq!(file.committed_bytes().unwrap(), P);
        let offset = frames.offset();
        drop(frames);
        assert_eq!(file.committed_bytes().unwrap(), 0);
        let again = file.allocate(1 << 30).unwrap();
        assert_eq!(again.offset(), offset);
        let mut buffer = [1u8; 5];
        again.read(P, &mut buffer).unwrap();
        assert_eq!(buffer, [0; 5]);
    }

    #[test]
    fn references_are_counted_by_page() {
        let file = MemoryFile::new().unwrap();
        let frames = file.allocate(4 * P).unwrap();
        frames.write(0, &[7; 4 * P as usize]).unwrap();
        let middle = frames.slice(P..2 * P).unwrap();
        assert!(frames.is_shared(0..4 * P));
        assert!(!frames.is_shared(2 * P..4 * P));
        drop(frames);
        assert_eq!(file.committed_bytes().unwrap(), P);
        assert!(!middle.is_shared(0..P));
        let mut byte = [0];
        middle.read(0, &mut byte).unwrap();
        assert_eq!(byte, [7]);
    }

    #[test]
    fn neighbours() {
        let file = MemoryFile::new().unwrap();
        let first = file.allocate(P).unwrap();
        let before = file.allocate_before(&first, 2 * P).unwrap();
        assert_eq!(before.offset() + 2 * P, first.offset());
        assert!(file.allocate_before(&first, P).is_none());
        drop(before);
        let again = file.allocate_before(&first, P).unwrap();
        assert!(file.allocate_after(&again, P).is_none());
        drop(first);
        assert!(file.allocate_after(&again, P).is_some());
    }

    #[test]
    fn congruent_offsets() {
        let file = MemoryFile::new().unwrap();
        let mut kept = Vec::new();
        for (addr, len) in [(0, P), (5 * P, HUGE_PAGE), (HUGE_PAGE - P, 7 * P), (!(P - 1), P)] {
            let frames = file.allocate_congruent(addr, len).unwrap();
            assert_eq!(frames.offset() % HUGE_PAGE, addr % HUGE_PAGE);
            assert_eq!(frames.len(), len);
            kept.push(frames);
        }
        drop(kept);
        // Nothing is lost between them.
        assert_eq!(file.allocate(file.size()).unwrap().len(), file.size());
        assert!(file.allocate_congruent(0, !(P - 1)).is_err());
    }

    #[test]
    fn bad_lengths() {
        let file = MemoryFile::new().unwrap();
        assert!(file.allocate(0).is_err());
        assert!(file.allocate(1).is_err());
        assert!(file.allocate(!(P - 1)).is_err());
        let frames = file.allocate(P).unwrap();
        assert!(file.allocate_after(&frames, !(P - 1)).is_none());
    }
}
