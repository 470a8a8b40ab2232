//! Memory of a guest process: its map, its faults, and access to it from the kernel.
//!
//! * [`MemoryManager`] (`mm_struct`): VMAs, private pages, `brk`, the platform's address space.
//! * [`UserAddr`], [`UserSink`], [`UserSource`]: how system calls reach guest memory.
//!
//! Two trees describe a process: `vma::VmaTree` says what the guest asked for, `runs::Runs` what is
//! mapped in the stub to satisfy it. One lock ([`crate::sync::rank::MM`]) covers both; it is taken for
//! reading by copies from and to guest memory. It may be held across such a copy, because the copy
//! goes through the sentry's own mapping of the memory file and never faults into this module.

pub mod addr;
mod advise;
mod ahead;
mod brk;
mod fault;
mod fork;
pub mod futex;
mod hot;
mod keys;
mod layout;
mod limits;
mod lock;
mod manager;
mod mmap;
mod mremap;
mod numa;
pub mod protect;
mod rmap;
mod runs;
mod shared;
pub mod sink;
mod slots;
pub mod stats;
#[cfg(test)]
pub(crate) mod tests;
mod usercopy;
mod userfault;
mod vma;
mod windows;

pub use addr::UserAddr;
pub use advise::{Advice, PageState};
pub use fault::{FaultSignal, FaultState};
pub use futex::FutexKey;
pub use keys::{PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE, with_rights};
pub use layout::{Layout, random_u64};
pub use limits::{ExecInfo, Limits};
pub use manager::MemoryManager;
pub use mmap::{MAX_MAP_COUNT, MapFlags, MapRequest};
pub use mremap::RemapFlags;
pub use rmap::{Discard, Mappings};
pub use shared::SharedMemory;
pub use sink::{UserSink, UserSource};
pub use slots::PatchedCode;
pub use userfault::Modes;
pub use vma::{Backing, VmaFlags, VmaName};

/// Size of a page in bytes.
pub const PAGE_SIZE: u64 = platform::PAGE_SIZE;

/// Addresses from here on are not a program's on Linux with page tables of four levels. What a program can use here may end
/// before ([`MemoryManager::task_size`]).
pub const TASK_SIZE: u64 = (1 << 47) - PAGE_SIZE;
