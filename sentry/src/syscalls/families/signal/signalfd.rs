//! `signalfd(2)`

use super::{SIGSET_SIZE, read_set};
use crate::errno::Errno;
use crate::kernel::signal::SigSet;
use crate::kernel::signal::signalfd::SignalFd;
use crate::kernel::{CurrentTask, Rlimit};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::vfs::{File, OpenFlags};
use std::sync::Arc;

const SFD_CLOEXEC: u32 = 0o2000000;
const SFD_NONBLOCK: u32 = 0o4000;

/// `signalfd(2)`, the call without flags.
pub fn signalfd(t: &mut CurrentTask, fd: i32, mask: UserAddr, size: u64) -> SysResult {
    signalfd4(t, fd, mask, size, 0)
}

/// `signalfd4(2)`
pub fn signalfd4(t: &mut CurrentTask, fd: i32, mask: UserAddr, size: u64, flags: u32) -> SysResult {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let mask = read_set(t, mask, size)?.without(SigSet::UNBLOCKABLE);
    if flags & !(SFD_CLOEXEC | SFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if fd != -1 {
        let file = t.file(fd)?;
        let signals: &SignalFd = file.ops_as().ok_or(Errno::EINVAL)?;
        signals.set_mask(mask);
        return Ok(fd as u64);
    }
    let mut open = OpenFlags::RDWR;
    open.set(OpenFlags::NONBLOCK, flags & SFD_NONBLOCK != 0);
    let file = File::new(Arc::new(SignalFd::new(t.group(), mask)), None, open);
    let limit = t.limit(Rlimit::Nofile).soft;
    Ok(t.files().insert(file, flags & SFD_CLOEXEC != 0, 0, limit)? as u64)
}
