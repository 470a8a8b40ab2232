//! Sockets.

pub mod connect;
pub mod control;
pub mod message;
pub mod option;

pub use connect::*;
pub use message::*;
pub use option::*;

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::vfs::File;
use std::sync::Arc;

/// Size of `struct sockaddr_storage`: no address is longer.
const MAX_ADDRESS: usize = 128;

/// Copies an address in. `EINVAL` for a bad length.
fn read_address(t: &CurrentTask, addr: UserAddr, len: i32) -> Result<Vec<u8>> {
    let len = usize::try_from(len).ok().filter(|n| *n <= MAX_ADDRESS).ok_or(Errno::EINVAL)?;
    let mut bytes = vec![0; len];
    t.mm().read(addr, &mut bytes)?;
    Ok(bytes)
}

/// Copies an address out, cut to the length stored at `len`, where its real length goes.
fn write_address(t: &CurrentTask, bytes: &[u8], addr: UserAddr, len: UserAddr) -> Result<()> {
    let room: i32 = t.mm().read_obj(len)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    t.mm().write(addr, bytes.get(..room).unwrap_or(bytes))?;
    t.mm().write_obj(len, &(bytes.len() as u32))
}

/// The file behind a descriptor, which must be a socket's. `EBADF`, `ENOTSOCK`.
fn socket_file(t: &CurrentTask, fd: i32) -> Result<Arc<File>> {
    let file = t.file(fd)?;
    crate::socket::of(&file)?;
    Ok(file)
}

/// When a call that may wait for so long must end.
fn deadline(t: &CurrentTask, timeout: Option<u64>) -> Option<u64> {
    timeout.map(|n| t.kernel().time.monotonic().saturating_add(n))
}

/// A call with a time limit is not restarted after a signal.
fn interrupted<T>(result: Result<T>, timeout: Option<u64>) -> Result<T> {
    result.map_err(|e| match e {
        Errno::ERESTARTSYS if timeout.is_some() => Errno::EINTR,
        e => e,
    })
}
