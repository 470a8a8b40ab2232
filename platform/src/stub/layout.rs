//! Fixed addresses and descriptors inside a stub.

use crate::PAGE_SIZE;
use std::ops::Range;

/// What guest memory may use. The lower bound is Linux's default `vm.mmap_min_addr`; the upper one
/// leaves the last gigabytes of the user half to us.
pub const GUEST: Range<u64> = 0x1_0000..0x7fff_0000_0000;

/// Where the `systrap` back end's signal stacks are, one for each guest thread.
pub const SIGNAL_STACKS: Range<u64> = GUEST.end..0x7fff_ff00_0000;

/// End of what the host lets a process map (47 bits less one page).
pub const TASK_END: u64 = 0x7fff_ffff_f000;

/// Our code, readable and executable; the same page of the memory file in all stubs.
pub const TEXT: u64 = 0x7fff_ffff_0000;

/// Where in the code page the `systrap` back end's per-thread filter is, in bytes.
pub const LISTENER_FILTER: u64 = 2048;

/// The list of system calls to make, read-only for the stub. See [`super::batch`].
pub const BATCH: u64 = TEXT + PAGE_SIZE;

/// Writable page for system calls that need one, right behind the list.
pub const SCRATCH: u64 = BATCH + PAGE_SIZE;

/// The gate of patched call sites (`systrap`), readable and executable. See [`crate::systrap`].
pub const GATE: u64 = SCRATCH + PAGE_SIZE;

/// The memory file.
pub const FD_MEMORY: u64 = 0;

/// Receiving end of the channel that brings descriptors. See [`super::link`].
pub const FD_LINK: u64 = 1;

/// Under `ptrace`: reading end of a pipe whose other end only the sentry has, so that end-of-file
/// means it has ended.
pub const FD_ALIVE: u64 = 2;

/// Under `systrap`: the agent's end of its control socket.
pub const FD_CONTROL: u64 = 2;

/// Lowest free descriptor: what a received one becomes.
pub const FD_RECEIVED: u64 = 3;

/// Where in the list page, behind the entries, other things are that stubs only read, in bytes.
pub mod control {
    /// Number of entries to execute (`systrap`).
    pub const COUNT: u64 = 3584;
    /// `stack_t` of a new thread (`systrap`).
    pub const STACK: u64 = COUNT + 8;
    /// Offset of a new stub's list page in the memory file (`systrap`).
    pub const PAGES: u64 = STACK + 24;
}

/// Where in the writable page a new thread tells that it has a listener (`systrap`), in bytes.
pub const HELLO: u64 = 3840;
