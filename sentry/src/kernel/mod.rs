//! Tasks and everything they share: the part of Linux's `kernel/`.
//!
//! * [`Kernel`]: one sandbox. [`Task`]: one guest thread, seen from everywhere.
//! * [`CurrentTask`]: the same thread, seen from its own host thread, with registers and context.

pub mod credentials;
pub mod current;
pub mod task;

pub use credentials::Credentials;
pub use current::{CurrentTask, Wake};
pub use task::Task;

use platform::{MemoryFile, Platform};
use std::sync::Arc;

/// One sandbox: everything that its tasks share.
pub struct Kernel {
    /// Guest memory.
    pub memory: Arc<MemoryFile>,
    /// Runs guest code.
    pub platform: Arc<dyn Platform>,
}
