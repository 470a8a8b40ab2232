//! A guest process's view of memory.

use crate::{Frames, Result};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

bitflags::bitflags! {
    /// Access rights of a mapping; the values are Linux's `PROT_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Prot: u32 {
        /// Pages may be read.
        const READ = 1;
        /// Pages may be written.
        const WRITE = 2;
        /// Pages may be executed.
        const EXEC = 4;
    }
}

impl Prot {
    /// Set when the protection key is given, too.
    const KEYED: u32 = 1 << 8;
    /// Where the key is.
    const KEY_SHIFT: u32 = 9;
    const KEY_MASK: u32 = 15;

    /// These rights with a protection key (`pkeys(7)`), one of [`GUEST_KEYS`] or 0. Without one, mappings keep
    /// the key that they have, and new ones get what `mmap(2)` gives them.
    #[must_use]
    pub fn with_key(self, key: u8) -> Self {
        let key = (u32::from(key) & Self::KEY_MASK) << Self::KEY_SHIFT;
        Self::from_bits_retain(self.rights() | Self::KEYED | key)
    }

    /// The protection key, if one is given.
    pub fn key(self) -> Option<u8> {
        let key = (self.bits() >> Self::KEY_SHIFT & Self::KEY_MASK) as u8;
        (self.bits() & Self::KEYED != 0).then_some(key)
    }

    /// The rights, as `mmap(2)` takes them.
    pub fn rights(self) -> u32 {
        self.bits() & Self::all().bits()
    }
}

/// Protection keys that guests may use besides key 0, where [`crate::Platform::has_protection_keys`] says that there are some.
pub const GUEST_KEYS: Range<u8> = 1..15;

/// The key of memory that can only be executed.
pub const EXECUTE_ONLY_KEY: u8 = 15;

/// What stands behind a mapping.
#[derive(Debug, Clone)]
pub enum MapSource {
    /// A range of the memory file, starting at its first byte.
    Frames(Frames),
    /// A host file the gofer donated, from the given offset in bytes (a multiple of the page size),
    /// mapped shared. With [`Prot::WRITE`] the descriptor must be writable.
    HostFd(Arc<OwnedFd>, u64),
}

/// A place in guest code that makes many system calls, see [`crate::Context::hot_site`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallSite {
    /// Behind the instruction.
    pub rip: u64,
    /// Number of the call.
    pub number: u64,
}

/// A page of code that can be read and executed, but neither written nor shared with others.
#[derive(Debug)]
pub struct CodePage<'a> {
    /// Its address.
    pub start: u64,
    /// Its contents.
    pub bytes: &'a [u8],
    /// What is mapped there.
    pub source: MapSource,
    /// With these rights.
    pub prot: Prot,
}

/// A guest process's view of memory. See the crate's contract for when operations take effect.
///
/// Addresses and lengths are multiples of the page size and lie inside
/// [`crate::Platform::user_addresses`]; the caller has checked that, and others are ignored. Dropping
/// the last reference ends the stub process and waits for its end; only then may the caller let go of
/// frames that are still mapped.
pub trait AddressSpace: Send + Sync {
    /// Maps `len` bytes of `source` at `addr`, replacing what was mapped there.
    ///
    /// The caller keeps its own reference to the frames for as long as they are mapped.
    /// `replaced` are the frames the range held before; they are released after the queue ran.
    fn map(&self, addr: u64, len: u64, prot: Prot, source: MapSource, replaced: Vec<Frames>);

    /// Unmaps a range. `frames` are released once no stale mapping can reach them.
    fn unmap(&self, addr: u64, len: u64, frames: Vec<Frames>);

    /// Changes the access rights of whatever is mapped in the range. Holes are skipped.
    fn protect(&self, addr: u64, len: u64, prot: Prot);

    /// Allocates the pages of whatever is mapped writable in the range ahead of their first use, as
    /// `MAP_POPULATE` does. A hint: failure is no error.
    fn populate(&self, addr: u64, len: u64);

    /// Lets first touches of whatever is mapped in the range bring huge pages, where addresses and offsets in the memory
    /// file are congruent modulo their size, or as many pages as these have. A hint.
    fn huge(&self, _addr: u64, _len: u64) {}

    /// The least part, a power of two of bytes, if it pays to map large areas in parts as they come into use: a page is
    /// cheaper among those that [`AddressSpace::huge`] has allowed.
    fn least_part(&self) -> Option<u64> {
        None
    }

    /// Gives the platform room for what call sites are patched to jump to, within 2 GiB of the sites: `frames` are
    /// mapped readable and executable at `addr`, and the guest cannot write them. Copies of the address space have it, too.
    fn add_slots(&self, _addr: u64, _frames: Frames) {}

    /// Lets the platform patch a call site in a page, that is map a changed copy in its place. Called with
    /// whatever keeps the page's mapping from being changed meanwhile.
    fn patch(&self, _site: CallSite, _page: CodePage<'_>) {}

    /// Puts the original pages of a range back (bytes, page multiples): their contents are about to change.
    fn unpatch(&self, _addr: u64, _len: u64) {}

    /// Ranges in which a copy that [`crate::Context::fork`] has made may have other mappings than its original. Whoever has
    /// had it made maps what should be there anew, or unmaps it, before the context is attached. Told once.
    fn stale(&self) -> Vec<Range<u64>> {
        Vec::new()
    }

    /// Called when the process has ended, after its last context is gone. Whether the platform keeps its stub for another
    /// process: then this is not used any more, and what was mapped may be let go of. Who calls this also heeds
    /// [`AddressSpace::stale`].
    fn keep(&self) -> bool {
        false
    }

    /// Fails when an earlier queued operation was refused by the host (for example `ENOMEM` at the
    /// host's `vm.max_map_count`). The process must then be ended as by the OOM killer.
    fn check(&self) -> Result<()>;
}
