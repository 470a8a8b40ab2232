//! Signals: dispositions, masks, sending, waiting.

pub mod action;
pub mod queue;
pub mod sending;
pub mod signalfd;

pub use action::*;
pub use queue::*;
pub use sending::*;
pub use signalfd::*;

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::signal::SigSet;
use crate::mm::UserAddr;

/// Size of the kernel's `sigset_t` in bytes.
pub const SIGSET_SIZE: u64 = 8;

/// Copies a signal set in. `EINVAL` for a size other than the kernel's.
pub(crate) fn read_set(t: &CurrentTask, addr: UserAddr, size: u64) -> Result<SigSet> {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    Ok(SigSet(t.mm().read_obj(addr)?))
}
