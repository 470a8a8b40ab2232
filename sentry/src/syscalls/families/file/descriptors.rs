//! Descriptors themselves: closing and duplicating.

use crate::errno::{Errno, Result};
use crate::fs::tmpfs::memfd::{self, MemfdFlags};
use crate::kernel::{CurrentTask, Rlimit};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags};
use crate::vfs::OpenFlags;

const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// `close(2)`.
pub fn close(t: &mut CurrentTask, fd: Fd) -> SysResult {
    let file = t.files().remove(fd.0)?;
    crate::socket::linger(t, &file);
    t.files().closed(file)?;
    Ok(0)
}

/// `dup(2)`.
pub fn dup(t: &mut CurrentTask, fd: Fd) -> SysResult {
    duplicate(t, fd, 0, false)
}

/// `fcntl(2)`'s `F_DUPFD` and `F_DUPFD_CLOEXEC`, and `dup(2)`.
pub(super) fn duplicate(t: &CurrentTask, fd: Fd, min: i32, cloexec: bool) -> SysResult {
    let file = t.files().get_raw(fd.0)?;
    let limit = t.limit(Rlimit::Nofile).soft;
    if u64::try_from(min).map_or(true, |min| min >= limit) {
        return Err(Errno::EINVAL);
    }
    Ok(t.files().insert(file, cloexec, min, limit)? as u64)
}

/// `dup2(2)`.
pub fn dup2(t: &mut CurrentTask, old: Fd, new: Fd) -> SysResult {
    if old == new {
        t.files().get_raw(old.0)?;
        return Ok(new.0 as u64);
    }
    duplicate_to(t, old, new, false)
}

/// `dup3(2)`.
pub fn dup3(t: &mut CurrentTask, old: Fd, new: Fd, flags: Flags) -> SysResult {
    if flags.0 & !OpenFlags::CLOEXEC.bits() != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    duplicate_to(t, old, new, flags.0 != 0)
}

fn duplicate_to(t: &CurrentTask, old: Fd, new: Fd, cloexec: bool) -> SysResult {
    let limit = t.limit(Rlimit::Nofile).soft;
    if u64::try_from(new.0).map_or(true, |new| new >= limit) {
        return Err(Errno::EBADF);
    }
    let file = t.files().get_raw(old.0)?;
    if let Some(replaced) = t.files().insert_at(new.0, file, cloexec, limit)? {
        // As in Linux, what closing says nobody is told.
        let _ = t.files().closed(replaced);
    }
    Ok(new.0 as u64)
}

/// `close_range(2)`.
pub fn close_range(t: &mut CurrentTask, first: u32, last: u32, flags: Flags) -> SysResult {
    if flags.0 & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags.0 & CLOSE_RANGE_UNSHARE != 0 {
        let copy = t.files().fork()?;
        t.set_files(copy);
    }
    if flags.0 & CLOSE_RANGE_CLOEXEC != 0 {
        t.files().set_cloexec_range(first, last);
    } else {
        t.files().close_range(first, last);
    }
    Ok(0)
}

/// Installs a freshly opened file.
pub(in crate::syscalls::families) fn install(
    t: &CurrentTask,
    file: std::sync::Arc<crate::vfs::File>,
    cloexec: bool,
) -> Result<u64> {
    let limit = t.limit(Rlimit::Nofile).soft;
    Ok(t.files().insert(file, cloexec, 0, limit)? as u64)
}

/// `memfd_create(2)`. Huge pages are not to be had.
pub fn memfd_create(t: &mut CurrentTask, name: UserAddr, flags: Flags) -> SysResult {
    const MAX_NAME: usize = 249;
    let flags = MemfdFlags::from_bits(flags.0).ok_or(Errno::EINVAL)?;
    let name = match t.mm().read_cstr(name, MAX_NAME) {
        Err(Errno::ENAMETOOLONG) => return Err(Errno::EINVAL),
        other => other?,
    };
    let file = memfd::create(t.kernel(), t.creds(), &name, flags)?;
    install(t, file, flags.contains(MemfdFlags::CLOEXEC))
}
