#![expect(unsafe_code, reason = "holds the sentry's mapping of guest memory and its raw pointer")]
//! The sentry's own mapping of the whole memory file, and every access through it.

use crate::{AccessError, safecopy};
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

/// A shared, writable mapping of the whole file.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: *mut u8,
    len: u64,
}

// SAFETY: the pointer is only dereferenced by `safecopy`'s routines, which tolerate any concurrent
// change, and the mapping lives as long as the value.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Gives the file its size and maps it.
    pub fn new(fd: &OwnedFd, len: u64) -> Result<Self, Errno> {
        let size = i64::try_from(len).map_err(|_| Errno::EFBIG)?;
        nix::unistd::ftruncate(fd, size)?;
        let base = aligned_room(len as usize)?;
        // SAFETY: replaces what was just mapped, and nothing else.
        let mapped = unsafe {
            libc::mmap(
                base,
                len as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE | libc::MAP_FIXED,
                fd.as_raw_fd(),
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            let error = Errno::last();
            // SAFETY: unmaps exactly the room.
            let _ = unsafe { libc::munmap(base, len as usize) };
            return Err(error);
        }
        // SAFETY: the range was just mapped. Guest memory belongs in no core dump; failure is
        // harmless.
        let _ = unsafe { libc::madvise(base, len as usize, libc::MADV_DONTDUMP) };
        Ok(Self { base: base.cast(), len })
    }

    /// For each page of a range, which must lie inside, whether it is in memory: its lowest bit
    /// (`mincore(2)`). A page that was only set aside is not, nor one that the host has swapped out.
    pub fn residency(&self, range: Range<u64>) -> Result<Vec<u8>, Errno> {
        let len = range.end.saturating_sub(range.start);
        if range.end > self.len {
            return Err(Errno::ENOMEM);
        }
        let mut pages = vec![0; len.div_ceil(crate::PAGE_SIZE) as usize];
        let start = self.base.wrapping_add(range.start as usize);
        // SAFETY: the vector has a byte for each page of the range; the memory itself is not touched.
        let result = unsafe { libc::mincore(start.cast(), len as usize, pages.as_mut_ptr()) };
        Errno::result(result).map(|_| pages)
    }

    /// Bytes mapped.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Where the file's first byte is mapped.
    pub fn address(&self) -> u64 {
        self.base as u64
    }

    /// Where the file's byte `offset` is mapped, if `len` bytes from there are.
    fn at(&self, offset: u64, len: usize) -> Result<*mut u8, AccessError> {
        let end = offset.checked_add(len as u64).ok_or(AccessError)?;
        if end > self.len {
            return Err(AccessError);
        }
        Ok(self.base.wrapping_add(offset as usize))
    }

    /// Allocates the pages of a range ahead of their first use. A hint: failure is no error.
    pub fn populate(&self, range: Range<u64>) {
        let len = range.end.saturating_sub(range.start) as usize;
        if let Ok(start) = self.at(range.start, len) {
            // SAFETY: the range lies in the mapping, and its contents stay as they are.
            let _ = unsafe { libc::madvise(start.cast(), len, libc::MADV_POPULATE_WRITE) };
        }
    }

    /// Copies out of the file.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), AccessError> {
        let from = self.at(offset, to.len())?;
        // SAFETY: `to` is exclusively ours; `from` lies in the mapping.
        unsafe { safecopy::copy(to.as_mut_ptr(), from, to.len()) }
    }

    /// Copies into the file.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), AccessError> {
        let to = self.at(offset, from.len())?;
        // SAFETY: `from` is readable; `to` lies in the mapping, which no reference covers.
        unsafe { safecopy::copy(to, from.as_ptr(), from.len()) }
    }

    /// Writes zeroes.
    pub fn zero(&self, offset: u64, len: u64) -> Result<(), AccessError> {
        let len = usize::try_from(len).map_err(|_| AccessError)?;
        let to = self.at(offset, len)?;
        // SAFETY: `to` lies in the mapping, which no reference covers.
        unsafe { safecopy::zero(to, len) }
    }

    /// Copies from one place in `source` to another in this file.
    pub fn copy_from(
        &self,
        offset: u64,
        source: &Self,
        from: u64,
        len: u64,
    ) -> Result<(), AccessError> {
        let len = usize::try_from(len).map_err(|_| AccessError)?;
        let (to, from) = (self.at(offset, len)?, source.at(from, len)?);
        // SAFETY: both lie in mappings that no reference covers.
        unsafe { safecopy::copy(to, from, len) }
    }

    fn word<T>(&self, offset: u64) -> Result<*mut T, AccessError> {
        let pointer = self.at(offset, size_of::<T>())?.cast::<T>();
        if pointer.is_aligned() { Ok(pointer) } else { Err(AccessError) }
    }

    /// Atomic load.
    pub fn load32(&self, offset: u64) -> Result<u32, AccessError> {
        // SAFETY: the word lies in the mapping.
        unsafe { safecopy::load32(self.word(offset)?) }
    }

    /// Atomic load.
    pub fn load64(&self, offset: u64) -> Result<u64, AccessError> {
        // SAFETY: the word lies in the mapping.
        unsafe { safecopy::load64(self.word(offset)?) }
    }

    /// Atomic store.
    pub fn store32(&self, offset: u64, value: u32) -> Result<(), AccessError> {
        // SAFETY: the word lies in the mapping, which no reference covers.
        unsafe { safecopy::store32(self.word(offset)?, value) }
    }

    /// Atomic store.
    pub fn store64(&self, offset: u64, value: u64) -> Result<(), AccessError> {
        // SAFETY: the word lies in the mapping, which no reference covers.
        unsafe { safecopy::store64(self.word(offset)?, value) }
    }

    /// Atomic compare-and-exchange; returns what was there.
    pub fn cmpxchg32(&self, offset: u64, old: u32, new: u32) -> Result<u32, AccessError> {
        // SAFETY: the word lies in the mapping, which no reference covers.
        unsafe { safecopy::cmpxchg32(self.word(offset)?, old, new) }
    }

    /// Atomic compare-and-exchange; returns what was there.
    pub fn cmpxchg64(&self, offset: u64, old: u64, new: u64) -> Result<u64, AccessError> {
        // SAFETY: the word lies in the mapping, which no reference covers.
        unsafe { safecopy::cmpxchg64(self.word(offset)?, old, new) }
    }

    /// `preadv2(2)` (`write` false) or `pwritev2(2)` between a host file and ranges of this file.
    ///
    /// `offset` `None` uses the file's own position. The kernel does the copying and reports a page
    /// it cannot get as `EFAULT`.
    pub fn transfer(
        &self,
        fd: std::os::fd::BorrowedFd<'_>,
        ranges: &[Range<u64>],
        offset: Option<u64>,
        write: bool,
    ) -> Result<usize, Errno> {
        let entry = |range: &Range<u64>| {
            let len = range.end.checked_sub(range.start).ok_or(Errno::EINVAL)? as usize;
            let base = self.at(range.start, len).map_err(|_| Errno::EFAULT)?;
            Ok(libc::iovec { iov_base: base.cast(), iov_len: len })
        };
        let (single, many);
        let vector: &[libc::iovec] = match ranges {
            // Mostly: without an allocation.
            [range] => {
                single = [entry(range)?];
                &single
            }
            _ => {
                many = ranges.iter().map(entry).collect::<Result<Vec<_>, Errno>>()?;
                &many
            }
        };
        let count = i32::try_from(vector.len()).map_err(|_| Errno::EINVAL)?;
        let offset = match offset {
            Some(offset) => i64::try_from(offset).map_err(|_| Errno::EINVAL)?,
            None => -1,
        };
        // SAFETY: every vector entry lies in the mapping, which no reference covers; the kernel
        // accesses nothing else.
        let done = unsafe {
            if write {
                libc::pwritev2(fd.as_raw_fd(), vector.as_ptr(), count, offset, 0)
            } else {
                libc::preadv2(fd.as_raw_fd(), vector.as_ptr(), count, offset, 0)
            }
        };
        Errno::result(done).map(|n| n as usize)
    }
}

/// Reserves `len` bytes of address space at a multiple of the size of a huge page, so that the host can map such.
fn aligned_room(len: usize) -> Result<*mut libc::c_void, Errno> {
    const HUGE: usize = super::HUGE_PAGE as usize;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice; no existing memory is touched.
    let room =
        unsafe { libc::mmap(std::ptr::null_mut(), len + HUGE, libc::PROT_NONE, flags, -1, 0) };
    if room == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let before = (room as usize).wrapping_neg() % HUGE;
    let base = room.wrapping_byte_add(before);
    // SAFETY: both parts lie in the room that was just mapped, outside what is returned.
    unsafe {
        if before > 0 {
            libc::munmap(room, before);
        }
        libc::munmap(base.wrapping_byte_add(len), HUGE - before);
    }
    Ok(base)
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped; all frames are gone, as they hold the file.
        let _ = unsafe { libc::munmap(self.base.cast(), self.len as usize) };
    }
}
