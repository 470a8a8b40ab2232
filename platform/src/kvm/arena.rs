#![expect(unsafe_code, reason = "holds the mapping of the pages and its raw pointer")]
//! Pages for page tables and the ring-0 shim: memory of the sentry's own, never mapped for user code.
//!
//! Host calls: `mmap`, `munmap`.

use crate::{PAGE_SIZE, PlatformError, Result};
use nix::errno::Errno;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A page of an arena, by number. Its guest-physical address is the number times the page size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Page(u32);

impl Page {
    /// Guest-physical address.
    pub fn address(self) -> u64 {
        u64::from(self.0) * PAGE_SIZE
    }

    /// The page at a guest-physical address.
    pub fn at(address: u64) -> Self {
        Self((address / PAGE_SIZE) as u32)
    }
}

/// A sparse range of memory, handed out by pages. The guest's CPU reads and writes it, so all accesses
/// are atomic words.
#[derive(Debug)]
pub struct Arena {
    base: *mut AtomicU64,
    pages: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Pages below have been handed out.
    next: u32,
    /// Of those, the ones that came back. They hold zeroes.
    free: Vec<Page>,
    /// Roots of page tables that came back. A vCPU in ring 0 may still use one, so they stay roots.
    free_roots: Vec<Page>,
}

// SAFETY: the pointer is only dereferenced as atomic words, within a mapping that lives as long as the value.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena of `len` bytes, a multiple of the page size. It commits what is used.
    pub fn new(len: u64) -> Result<Self> {
        let pages = u32::try_from(len / PAGE_SIZE)
            .map_err(|_| PlatformError::host("map page-table memory", Errno::EINVAL))?;
        // SAFETY: a new mapping at an address of the kernel's choice; no existing memory is touched.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(PlatformError::host("map page-table memory", Errno::last()));
        }
        Ok(Self { base: base.cast(), pages, state: Mutex::default() })
    }

    /// Where it is in the sentry, and its length in bytes.
    pub fn host_range(&self) -> (u64, u64) {
        (self.base as u64, u64::from(self.pages) * PAGE_SIZE)
    }

    /// A page of zeroes; `None` when all are in use.
    pub fn allocate(&self) -> Option<Page> {
        let mut state = self.state.lock();
        if let Some(page) = state.free.pop() {
            return Some(page);
        }
        let page = state.next;
        if page >= self.pages {
            return None;
        }
        state.next += 1;
        Some(Page(page))
    }

    /// Gives pages back, to which no vCPU's caches refer any more.
    pub fn release(&self, pages: Vec<Page>) {
        for page in &pages {
            for offset in (0..PAGE_SIZE).step_by(8) {
                self.store(*page, offset, 0);
            }
        }
        self.state.lock().free.extend(pages);
    }

    /// A page for the root of page tables. Its kernel half may be filled in already.
    pub fn allocate_root(&self) -> Option<Page> {
        let root = self.state.lock().free_roots.pop();
        root.or_else(|| self.allocate())
    }

    /// Gives a root back, whose user half is empty.
    pub fn release_root(&self, root: Page) {
        self.state.lock().free_roots.push(root);
    }

    /// Pages in use.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        let state = self.state.lock();
        state.next as usize - state.free.len() - state.free_roots.len()
    }

    /// The word `offset` bytes into a page.
    fn word(&self, page: Page, offset: u64) -> Option<&AtomicU64> {
        if page.0 >= self.pages || offset >= PAGE_SIZE {
            return None;
        }
        let index = (page.address() + offset) as usize / 8;
        // SAFETY: the index lies in the mapping, which is aligned and lives as long as `self`; the words
        // are only ever accessed atomically.
        Some(unsafe { &*self.base.add(index) })
    }

    /// Reads the word `offset` bytes into a page.
    pub fn load(&self, page: Page, offset: u64) -> u64 {
        self.word(page, offset).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Writes the word `offset` bytes into a page.
    pub fn store(&self, page: Page, offset: u64, value: u64) {
        if let Some(word) = self.word(page, offset) {
            word.store(value, Ordering::Release);
        }
    }

    /// Adds to the word `offset` bytes into a page, before what follows is read.
    pub fn add(&self, page: Page, offset: u64, value: u64) {
        if let Some(word) = self.word(page, offset) {
            word.fetch_add(value, Ordering::SeqCst);
        }
    }

    /// Sets bits of the word `offset` bytes into a page, before what follows is read; returns what it was.
    pub fn set_bits(&self, page: Page, offset: u64, bits: u64) -> u64 {
        self.word(page, offset).map_or(0, |word| word.fetch_or(bits, Ordering::SeqCst))
    }

    /// Where `len` bytes from `offset` on are, if they lie in a page.
    fn bytes(&self, page: Page, offset: usize, len: usize) -> Option<*mut u8> {
        let inside = offset.checked_add(len)? as u64 <= PAGE_SIZE;
        // SAFETY: the page lies in the mapping, and so does what is in the page.
        (page.0 < self.pages && inside)
            .then(|| unsafe { self.base.cast::<u8>().add(page.address() as usize + offset) })
    }

    /// Reads bytes of a page that nobody changes meanwhile.
    pub fn read_bytes(&self, page: Page, offset: usize, to: &mut [u8]) {
        if let Some(from) = self.bytes(page, offset, to.len()) {
            // SAFETY: so many bytes are there; the caller keeps the guest's ring 0 from writing them, and nobody else does.
            unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        }
    }

    /// Writes bytes into a page where nobody else does meanwhile; ring 0 may read there, and does not use what it reads.
    pub fn write_bytes(&self, page: Page, offset: usize, from: &[u8]) {
        if let Some(to) = self.bytes(page, offset, from.len()) {
            // SAFETY: as above; there are no references to such bytes.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        }
    }

    /// Writes bytes into a page, beginning at a word; the last word is filled up with zeroes.
    pub fn write(&self, page: Page, offset: u64, bytes: &[u8]) {
        for (index, part) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            self.store(page, offset + 8 * index as u64, u64::from_le_bytes(word));
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let (base, len) = self.host_range();
        // SAFETY: unmaps exactly what `new` mapped; whoever refers to it holds the value.
        let _ = unsafe { libc::munmap(base as *mut _, len as usize) };
    }
}
