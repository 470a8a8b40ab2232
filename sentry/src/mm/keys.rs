//! Memory protection keys (`pkeys(7)`): which are allocated, which area has which, and what of it the stub is told.
//!
//! The keys are the host's: the platform's stubs own all of them, a thread's rights are a register that the CPU looks at. The sentry's own
//! accesses ask for these rights only where they are known: of a thread whose system call has an address in an area with a
//! key, see [`with_rights`].

use super::manager::{Edit, MemoryManager};
use super::runs::Run;
use super::vma::Vma;
use crate::errno::{Errno, Result};
use platform::{EXECUTE_ONLY_KEY, GUEST_KEYS, Prot};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Forbids reading and writing (`PKEY_DISABLE_ACCESS`).
pub const PKEY_DISABLE_ACCESS: u64 = 1;
/// Forbids writing (`PKEY_DISABLE_WRITE`).
pub const PKEY_DISABLE_WRITE: u64 = 2;

/// Keys of a program that has allocated none.
const FIRST: u32 = 1;

/// The keys of an address space.
#[derive(Debug)]
pub struct Keys {
    /// There are keys.
    pub(super) supported: bool,
    /// A bit for each that is allocated.
    allocated: AtomicU32,
}

impl Keys {
    /// Those of a new program.
    pub fn new(supported: bool) -> Self {
        Self { supported, allocated: AtomicU32::new(FIRST) }
    }

    /// Those of a child.
    pub fn copy(&self) -> Self {
        let allocated = AtomicU32::new(self.allocated.load(Ordering::Relaxed));
        Self { supported: self.supported, allocated }
    }

    /// Whether this host thread may access an area with a key, as far as that is known.
    pub fn permit(&self, key: u8, write: bool) -> bool {
        let rights = RIGHTS.get().filter(|rights| std::ptr::eq(rights.keys, self));
        let denied = rights.map_or(0, |rights| u64::from(rights.pkru) >> (2 * u32::from(key)));
        denied & PKEY_DISABLE_ACCESS == 0 && !(write && denied & PKEY_DISABLE_WRITE != 0)
    }

    /// Whether a program may give areas this key. The one for memory that is only to be executed is nobody's.
    fn has(&self, key: i32) -> bool {
        let allocated = self.allocated.load(Ordering::Relaxed);
        self.supported && u32::try_from(key).is_ok_and(|key| key < 16 && allocated >> key & 1 != 0)
    }
}

impl MemoryManager {
    /// The protection keys.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Whether there are protection keys.
    pub fn has_protection_keys(&self) -> bool {
        self.keys.supported
    }

    /// Whether the program has allocated some.
    pub fn uses_protection_keys(&self) -> bool {
        self.keys.allocated.load(Ordering::Relaxed) > FIRST
    }

    /// `pkey_alloc(2)`: `ENOSPC` if there is none left, or none at all.
    pub fn allocate_key(&self) -> Result<u8> {
        if !self.keys.supported {
            return Err(Errno::ENOSPC);
        }
        let free = |allocated: u32| (0..GUEST_KEYS.end).find(|key| allocated >> key & 1 == 0);
        let take = |allocated: u32| free(allocated).map(|key| allocated | 1 << key);
        let before = self.keys.allocated.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.ok().and_then(free).ok_or(Errno::ENOSPC)
    }

    /// `pkey_free(2)`: areas keep the key.
    pub fn free_key(&self, key: i32) -> Result<()> {
        self.check_key(key)?;
        self.keys.allocated.fetch_and(!(1 << key), Ordering::Relaxed);
        Ok(())
    }

    /// `EINVAL` for a key that is not allocated.
    pub(super) fn check_key(&self, key: i32) -> Result<()> {
        if self.keys.has(key) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// The key of an area that is to have these rights, without a word about its key (`arch_override_mprotect_pkey`).
    pub(super) fn implied_key(&self, before: u8, prot: Prot) -> u8 {
        match before {
            _ if prot == Prot::EXEC && self.keys.supported => EXECUTE_ONLY_KEY,
            EXECUTE_ONLY_KEY => 0,
            key => key,
        }
    }

    /// The key of the area at an address.
    pub fn key_at(&self, addr: u64) -> u8 {
        self.read_state().vmas.find(addr).map_or(0, |vma| vma.key)
    }

    /// Whether an area with a key overlaps a range.
    pub fn has_keys_in(&self, range: Range<u64>) -> bool {
        let state = self.read_state();
        state.vmas.overlapping(range.start, range.end).any(|vma| vma.key != 0)
    }
}

impl Edit<'_> {
    /// The rights that the stub is to have for a run of an area.
    pub fn stub_prot(&self, vma: &Vma, run: &Run) -> Prot {
        self.keyed(vma, run.stub_prot(vma.prot, vma.private()))
    }

    /// Rights in the stub, with the area's key.
    pub fn keyed(&self, vma: &Vma, prot: Prot) -> Prot {
        match vma.key {
            // Not to be taken for one that is only to be executed.
            0 if prot == Prot::EXEC && self.mm.keys.supported => prot.with_key(0),
            // The host gives its key itself.
            0 | EXECUTE_ONLY_KEY => prot,
            key => prot.with_key(key),
        }
    }
}

/// What a thread may do with which keys (`PKRU`).
#[derive(Debug, Clone, Copy)]
struct Rights {
    /// In the memory that has these keys.
    keys: *const Keys,
    pkru: u32,
}

thread_local! {
    static RIGHTS: Cell<Option<Rights>> = const { Cell::new(None) };
}

/// This host thread's accesses to the memory that has these keys are those of a program whose thread has these rights, as long as `body` runs.
pub fn with_rights<T>(keys: &Arc<Keys>, pkru: u32, body: impl FnOnce() -> T) -> T {
    struct Back(Option<Rights>);
    impl Drop for Back {
        fn drop(&mut self) {
            RIGHTS.set(self.0);
        }
    }
    let _back = Back(RIGHTS.replace(Some(Rights { keys: Arc::as_ptr(keys), pkru })));
    body()
}
