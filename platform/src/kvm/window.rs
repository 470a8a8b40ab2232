#![expect(unsafe_code, reason = "maps host files")]
//! Host files in guest-physical memory.
//!
//! Guest-physical memory is memory of the sentry, so a host file that a guest maps is mapped in the
//! sentry, too, and that mapping is given to the VM as a region of its own when it is first used.
//!
//! Host calls: `mmap`, `munmap`.

use super::slots::Slots;
use crate::{PAGE_SIZE, safecopy};
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

/// A range of a host file, mapped shared in the sentry.
#[derive(Debug)]
pub struct Window {
    /// Kept open: what makes `Arc` pointers of descriptors comparable.
    fd: Arc<OwnedFd>,
    /// Bytes of the file.
    file: Range<u64>,
    writable: bool,
    base: *mut u8,
    slots: Weak<Slots>,
    /// Number and guest-physical address of its region, once there is one.
    region: OnceLock<Result<(u32, u64), Errno>>,
}

// SAFETY: the pointer is only dereferenced by `safecopy`, which tolerates concurrent change, and the
// mapping lives as long as the value.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Maps a range of a file, page-aligned. Fails as `mmap(2)` does.
    pub fn new(
        slots: &Arc<Slots>,
        fd: Arc<OwnedFd>,
        file: Range<u64>,
        writable: bool,
    ) -> Result<Self, Errno> {
        let offset = i64::try_from(file.start).map_err(|_| Errno::EOVERFLOW)?;
        let len = file.end.checked_sub(file.start).ok_or(Errno::EINVAL)? as usize;
        let prot = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice; no existing memory is touched.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let slots = Arc::downgrade(slots);
        Ok(Self { fd, file, writable, base: base.cast(), slots, region: OnceLock::new() })
    }

    /// Whether it shows this range of this file, with at least these rights and no more than needed.
    pub fn shows(&self, fd: &Arc<OwnedFd>, range: &Range<u64>, writable: bool) -> bool {
        Arc::ptr_eq(&self.fd, fd)
            && self.writable == writable
            && self.file.start <= range.start
            && range.end <= self.file.end
    }

    /// Offset in the window of a byte of the file.
    pub fn offset_of(&self, file: u64) -> u64 {
        file - self.file.start
    }

    /// The file.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Whether the file can be written through it.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Offset in the file of a byte of the window.
    pub fn file_offset(&self, offset: u64) -> u64 {
        self.file.start + offset
    }

    /// Where it is in the sentry, its length, and whether it may be written.
    pub fn host_range(&self) -> (u64, u64, bool) {
        (self.base as u64, self.file.end - self.file.start, self.writable)
    }

    /// Guest-physical address of a byte.
    pub fn physical(self: &Arc<Self>, offset: u64) -> Result<u64, Errno> {
        let slots = self.slots.upgrade().ok_or(Errno::ENODEV)?;
        let region = self.region.get_or_init(|| slots.add_window(self));
        region.map(|(_, address)| address + offset)
    }

    /// Whether the host has the page at an offset: the file may have become shorter.
    pub fn has_page(&self, offset: u64) -> bool {
        let len = self.file.end - self.file.start;
        if offset & !(PAGE_SIZE - 1) >= len {
            return false;
        }
        let page = self.base.wrapping_add((offset & !(PAGE_SIZE - 1)) as usize);
        // SAFETY: the word lies in the mapping, and the routine tolerates a missing page.
        unsafe { safecopy::load64(page.cast()).is_ok() }
    }

    /// Reads a word; for what the kernel would read on the guest's behalf.
    pub fn word(&self, offset: u64) -> Option<u64> {
        let end = offset.checked_add(8)?;
        if end > self.file.end - self.file.start || !offset.is_multiple_of(8) {
            return None;
        }
        // SAFETY: the word lies in the mapping and is aligned; a missing page is an error.
        unsafe { safecopy::load64(self.base.wrapping_add(offset as usize).cast()) }.ok()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if let (Some(Ok((number, address))), Some(slots)) =
            (self.region.get(), self.slots.upgrade())
        {
            slots.remove_window(*number, *address, self.host_range().1);
        }
        let len = (self.file.end - self.file.start) as usize;
        // SAFETY: unmaps exactly what `new` mapped; the VM's region for it is gone.
        let _ = unsafe { libc::munmap(self.base.cast(), len) };
    }
}
