//! Runs guest code.
//!
//! A [`Platform`] makes [`AddressSpace`]s; each guest thread has one [`Context`] in the address space
//! of its process. The sentry drives a guest thread with
//! `loop { match context.switch(&mut regs)? { … } }` on one host thread per guest thread.
//!
//! This crate knows registers, pages and host calls. It does not know what a Linux task or file is.
//!
//! # The contract every back end keeps
//!
//! * A `Context` is created, used and dropped on one host thread (ptrace binds tracer and tracee).
//!   A [`PendingContext`] is what travels: it is made by the parent thread and attached by the child.
//! * [`AddressSpace`] operations are queued in order and take effect before the next
//!   [`Context::switch`] of *any* context in that address space returns to guest code. Frames handed
//!   to [`AddressSpace::unmap`] and [`AddressSpace::map`] are released only after the queue has been
//!   executed, so that memory is never recycled while a stale mapping can reach it. A back end may put off what only adds
//!   mappings until guest code misses them; such a fault is not an event.
//! * Nothing that lies in guest memory or in the stub is trusted.

pub mod address_space;
pub mod answers;
pub mod context;
pub mod cpu;
pub mod error;
pub mod host;
pub mod kvm;
pub mod memory_file;
pub mod placement;
pub mod ptrace;
pub mod reaper;
pub mod registers;
pub mod safecopy;
mod stub;
pub mod systrap;
pub mod workers;

pub use address_space::{
    AddressSpace, CallSite, CodePage, EXECUTE_ONLY_KEY, GUEST_KEYS, MapSource, Prot,
};
pub use answers::{
    Answers, Descriptors, FileName, FilePosition, FutexWaiters, PipePlace, PureCall, SignalMask,
};
pub use context::{Access, Context, Event, Fault, Interrupter, PendingContext};
pub use error::{AccessError, PlatformError, Result};
pub use memory_file::{Frames, HUGE_PAGE, MemoryFile};
pub use registers::{Registers, XState};

use std::sync::Arc;

/// Size of a page of guest memory, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// A way of running guest code.
pub trait Platform: Send + Sync {
    /// Name as given to `--platform`.
    fn name(&self) -> &'static str;

    /// Lowest and one-past-highest address that guest memory may use.
    ///
    /// Everything outside belongs to the platform (stub text, trampolines) or to the host kernel.
    fn user_addresses(&self) -> std::ops::Range<u64>;

    /// Bytes of room that a program image should have for patched call sites ([`AddressSpace::add_slots`]); 0 for none.
    fn slots_size(&self) -> u64 {
        0
    }

    /// Whether guests can have protection keys (`pkeys(7)`): those of [`GUEST_KEYS`], by [`Prot::with_key`], and
    /// [`EXECUTE_ONLY_KEY`], which mappings get that are only to be executed. The rights of a thread are in its [`XState`].
    fn has_protection_keys(&self) -> bool {
        false
    }

    /// What is to be told of those who wait at futexes, so that [`PureCall::Futex`] can be answered.
    fn futex_waiters(&self) -> Option<Arc<dyn FutexWaiters>> {
        None
    }

    /// A place for the signal mask of a thread, which is held ([`answers::HELD`]), where [`PureCall::Sigprocmask`] can be answered.
    fn signal_mask(&self, _mask: u64) -> Option<Arc<dyn SignalMask>> {
        None
    }

    /// A table without descriptors, where calls on open files can be answered.
    fn descriptors(&self) -> Option<Arc<dyn Descriptors>> {
        None
    }

    /// A new, empty address space and the context of its first thread.
    ///
    /// Used for the first process of a container and by `execve(2)`.
    fn new_address_space(&self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)>;
}
