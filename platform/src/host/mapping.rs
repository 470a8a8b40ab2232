#![expect(unsafe_code, reason = "maps donated files and holds the raw pointer")]
//! The sentry's mapping of a donated host file that a guest has mapped shared.
//!
//! With it the sentry reaches guest memory that is not in the memory file (a futex word in a shared
//! file mapping, a buffer passed to a system call) coherently with the guest. The file may be
//! truncated at any time: accesses are fault-tolerant.
//!
//! Host calls: `mmap`, `munmap`.

use super::Errno;
use crate::{AccessError, PAGE_SIZE, safecopy};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A shared mapping of a range of a host file.
#[derive(Debug)]
pub struct FileMapping {
    base: *mut u8,
    len: u64,
}

// SAFETY: the pointer is only dereferenced by `safecopy`'s routines, which tolerate any concurrent
// change, and the mapping lives as long as the value.
unsafe impl Send for FileMapping {}
// SAFETY: as above.
unsafe impl Sync for FileMapping {}

impl FileMapping {
    /// Maps `len` bytes from `offset` (both multiples of the page size) for reading, and for writing
    /// if asked to. Errors are `mmap(2)`'s.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, len: u64, writable: bool) -> Result<Self, Errno> {
        safecopy::install()?;
        if len == 0 || !len.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        let prot = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len as usize,
                prot,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Self { base: base.cast(), len })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: an empty mapping cannot be made.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn at(&self, offset: u64, len: usize) -> Result<*mut u8, AccessError> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(self.base.wrapping_add(offset as usize)),
            _ => Err(AccessError),
        }
    }

    fn word(&self, offset: u64) -> Result<*mut u32, AccessError> {
        let pointer = self.at(offset, 4)?.cast::<u32>();
        if pointer.is_aligned() { Ok(pointer) } else { Err(AccessError) }
    }

    /// Copies out; fails beyond the end of the file.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), AccessError> {
        let from = self.at(offset, buffer.len())?;
        // SAFETY: `buffer` is exclusively ours; `from` lies in the mapping.
        unsafe { safecopy::copy(buffer.as_mut_ptr(), from, buffer.len()) }
    }

    /// Copies in; fails beyond the end of the file and when the mapping is read-only.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let to = self.at(offset, bytes.len())?;
        // SAFETY: `to` lies in the mapping, which no reference covers.
        unsafe { safecopy::copy(to, bytes.as_ptr(), bytes.len()) }
    }

    /// Atomic load of an aligned word.
    pub fn load32(&self, offset: u64) -> Result<u32, AccessError> {
        // SAFETY: the word lies in the mapping.
        unsafe { safecopy::load32(self.word(offset)?) }
    }

    /// Atomic compare-and-exchange of an aligned word; returns what was there.
    pub fn compare_exchange32(&self, offset: u64, old: u32, new: u32) -> Result<u32, AccessError> {
        // SAFETY: the word lies in the mapping, which no reference covers.
        unsafe { safecopy::cmpxchg32(self.word(offset)?, old, new) }
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped.
        let _ = unsafe { libc::munmap(self.base.cast(), self.len as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn truncation_is_an_error_not_a_crash() {
        let file = nix::sys::memfd::memfd_create("t", nix::sys::memfd::MFdFlags::empty()).unwrap();
        nix::unistd::ftruncate(&file, 2 * PAGE_SIZE as i64).unwrap();
        let mapping = FileMapping::new(file.as_fd(), 0, 2 * PAGE_SIZE, true).unwrap();
        mapping.write(PAGE_SIZE - 2, b"abcd").unwrap();
        assert_eq!(mapping.compare_exchange32(8, 0, 3), Ok(0));
        nix::unistd::ftruncate(&file, PAGE_SIZE as i64).unwrap();
        let mut buffer = [0; 2];
        assert_eq!(mapping.read(PAGE_SIZE, &mut buffer), Err(AccessError));
        mapping.read(PAGE_SIZE - 2, &mut buffer).unwrap();
        assert_eq!(&buffer, b"ab");
        let read_only = FileMapping::new(file.as_fd(), 0, PAGE_SIZE, false).unwrap();
        assert_eq!(read_only.write(0, b"x"), Err(AccessError));
        assert_eq!(read_only.load32(8), Ok(3));
    }
}
