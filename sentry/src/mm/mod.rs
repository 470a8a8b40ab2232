//! Memory of a guest process: its map, its faults, and access to it from the kernel.
//!
//! * [`MemoryManager`] (`mm_struct`): VMAs, private pages, `brk`, the platform's address space.
//! * [`UserAddr`], `UserSink`, `UserSource`: how system calls reach guest memory.

pub mod addr;
pub mod manager;

pub use addr::UserAddr;
pub use manager::MemoryManager;

/// Size of a page in bytes.
pub const PAGE_SIZE: u64 = 4096;
