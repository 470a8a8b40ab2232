//! Resource limits that concern memory, and what is recorded of the program.

use crate::vfs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Soft limits of `getrlimit(2)` in bytes; `u64::MAX` is `RLIM_INFINITY`.
#[derive(Debug)]
pub struct Limits {
    address_space: AtomicU64,
    data: AtomicU64,
    stack: AtomicU64,
    memlock: AtomicU64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits::new(u64::MAX, u64::MAX, 8 << 20, 8 << 20)
    }
}

impl Clone for Limits {
    fn clone(&self) -> Self {
        Limits::new(self.address_space(), self.data(), self.stack(), self.memlock())
    }
}

macro_rules! limit {
    ($(#[$doc:meta])* $get:ident, $set:ident) => {
        $(#[$doc])*
        pub fn $get(&self) -> u64 {
            self.$get.load(Ordering::Relaxed)
        }

        /// Changes the limit.
        pub fn $set(&self, bytes: u64) {
            self.$get.store(bytes, Ordering::Relaxed);
        }
    };
}

impl Limits {
    /// A set of limits, in bytes.
    pub fn new(address_space: u64, data: u64, stack: u64, memlock: u64) -> Limits {
        Limits {
            address_space: address_space.into(),
            data: data.into(),
            stack: stack.into(),
            memlock: memlock.into(),
        }
    }

    limit! {
        /// `RLIMIT_AS`.
        address_space, set_address_space
    }
    limit! {
        /// `RLIMIT_DATA`.
        data, set_data
    }
    limit! {
        /// `RLIMIT_STACK`.
        stack, set_stack
    }
    limit! {
        /// `RLIMIT_MEMLOCK`.
        memlock, set_memlock
    }
}

/// What `execve(2)` recorded of the program, for `/proc/PID` and `prctl(PR_SET_MM)`.
#[derive(Debug, Clone, Default)]
pub struct ExecInfo {
    /// The program's file (`/proc/PID/exe`).
    pub exe: Option<Arc<File>>,
    /// The strings of `argv`, as `/proc/PID/cmdline` reads them.
    pub args: Range<u64>,
    /// The strings of `envp`.
    pub env: Range<u64>,
    /// The program's text.
    pub code: Range<u64>,
    /// The program's data.
    pub data: Range<u64>,
    /// Stack pointer at entry.
    pub stack_start: u64,
    /// The auxiliary vector, as on the stack (`/proc/PID/auxv`).
    pub auxv: Vec<u8>,
    /// Address of the vDSO, for signal frames; 0 if there is none.
    pub vdso: u64,
}
