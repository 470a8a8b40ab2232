//! `proc`: the kernel and its processes as files (`proc(5)`).
//!
//! `system` has the files of the top directory, [`process`] those of `/proc/PID`, [`sysctl`] the tree
//! under `/proc/sys`. All text is made when it is read; nothing here keeps state.

mod config_gz;
mod keys;
mod net_settings;
pub(crate) mod process;
mod root;
pub mod starting;
mod sysctl;
pub(crate) mod system;

use super::pseudo::{PseudoFs, PseudoInode};
use crate::kernel::Kernel;
use crate::kernel::namespace::PidNamespace;
use std::sync::Arc;

/// `PROC_SUPER_MAGIC`.
const MAGIC: u64 = 0x9fa0;

pub(super) use system::memory::meminfo;

/// A new instance, which shows the processes of a pid namespace; `dev` is its device number.
pub fn mount(kernel: &Arc<Kernel>, pids: &Arc<PidNamespace>, dev: u64) -> Arc<PseudoInode> {
    PseudoFs::mount("proc", MAGIC, dev, true, Arc::new(root::Root::new(kernel, pids)))
}
