//! Numbers of the `ioctl(2)` commands that files of several kinds know.

use crate::errno::Result;
use crate::kernel::Task;
use crate::mm::UserAddr;

/// Bytes that can be read (`TIOCINQ`, `SIOCINQ`).
pub const FIONREAD: u32 = 0x541b;
/// Bytes not sent yet (`SIOCOUTQ`).
pub const TIOCOUTQ: u32 = 0x5411;

/// Stores the `int` that a command returns through its pointer.
pub fn put_int(task: &Task, arg: u64, value: usize) -> Result<u64> {
    let value = i32::try_from(value).unwrap_or(i32::MAX);
    task.mm()?.write_obj(UserAddr(arg), &value)?;
    Ok(0)
}
