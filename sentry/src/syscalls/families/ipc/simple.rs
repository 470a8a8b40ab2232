//! Calls that make a file: pipes and event counters.

use crate::errno::{Errno, Result};
use crate::fs::eventfd::EventFd;
use crate::fs::pipe;
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Flags;
use crate::vfs::{File, OpenFlags};
use std::sync::Arc;

/// Gives the task a descriptor for `file`: the lowest free one.
pub fn install(t: &CurrentTask, file: Arc<File>, cloexec: bool) -> SysResult {
    let limit = super::wait::max_fds(t);
    Ok(t.files().insert(file, cloexec, 0, limit)? as u64)
}

/// Gives the task two descriptors and stores their numbers at `addr`. If that fails, it has none.
pub fn install_pair(
    t: &CurrentTask,
    pair: (Arc<File>, Arc<File>),
    cloexec: bool,
    addr: UserAddr,
) -> Result<()> {
    let first = install(t, pair.0, cloexec)? as i32;
    let second = match install(t, pair.1, cloexec) {
        Ok(fd) => fd as i32,
        Err(e) => {
            let _ = t.files().close(first);
            return Err(e);
        }
    };
    t.mm().write_obj(addr, &[first, second]).inspect_err(|_| {
        let _ = t.files().close(first);
        let _ = t.files().close(second);
    })
}

/// `pipe(2)`.
pub fn pipe(t: &mut CurrentTask, fds: UserAddr) -> SysResult {
    pipe2(t, fds, Flags(0))
}

/// `pipe2(2)`.
pub fn pipe2(t: &mut CurrentTask, fds: UserAddr, flags: Flags) -> SysResult {
    let known = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK | OpenFlags::DIRECT;
    let flags = OpenFlags::from_bits(flags.0).filter(|f| known.contains(*f));
    let flags = flags.ok_or(Errno::EINVAL)?;
    let pair = pipe::pair(t.creds(), flags);
    install_pair(t, pair, flags.contains(OpenFlags::CLOEXEC), fds)?;
    Ok(0)
}

const EFD_SEMAPHORE: u32 = 1;

/// `eventfd(2)` as the old call.
pub fn eventfd(t: &mut CurrentTask, count: u32) -> SysResult {
    eventfd2(t, count, Flags(0))
}

/// `eventfd2(2)`.
pub fn eventfd2(t: &mut CurrentTask, count: u32, flags: Flags) -> SysResult {
    let (nonblock, cloexec) = (OpenFlags::NONBLOCK.bits(), OpenFlags::CLOEXEC.bits());
    if flags.0 & !(EFD_SEMAPHORE | nonblock | cloexec) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = EventFd::open(count, flags.0 & EFD_SEMAPHORE != 0, flags.0 & nonblock != 0);
    install(t, file, flags.0 & cloexec != 0)
}
