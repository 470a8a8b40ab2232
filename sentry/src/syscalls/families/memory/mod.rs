//! Calls that concern memory.

pub mod advice;
pub mod barrier;
pub mod lock;
pub mod map;
pub mod numa;
pub mod process_vm;
pub mod userfault;

/// `CAP_IPC_LOCK`
const CAP_IPC_LOCK: u32 = 14;
/// `CAP_SYS_ADMIN`
const CAP_SYS_ADMIN: u32 = 21;
