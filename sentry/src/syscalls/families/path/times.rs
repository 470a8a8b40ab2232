//! `utimensat(2)` and its older kin.

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Target, find_inode};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, PathPtr};
use crate::vfs::permission::{self, Access};
use crate::vfs::{SetAttr, TimeSet};

const UTIME_NOW: i64 = (1 << 30) - 1;
const UTIME_OMIT: i64 = (1 << 30) - 2;
const SECOND: i64 = 1_000_000_000;

/// Access and modification time to set; `None` leaves one.
type Times = [Option<TimeSet>; 2];

const NOW: Times = [Some(TimeSet::Now); 2];

/// Nanoseconds since the epoch, as far as they go.
fn at(sec: i64, nsec: i64) -> TimeSet {
    TimeSet::At(sec.saturating_mul(SECOND).saturating_add(nsec))
}

fn from_timespecs(t: &CurrentTask, addr: UserAddr) -> Result<Times> {
    if addr.is_null() {
        return Ok(NOW);
    }
    let [a_sec, a_nsec, m_sec, m_nsec]: [i64; 4] = t.mm().read_obj(addr)?;
    let one = |sec, nsec| match nsec {
        UTIME_NOW => Ok(Some(TimeSet::Now)),
        UTIME_OMIT => Ok(None),
        0..SECOND => Ok(Some(at(sec, nsec))),
        _ => Err(Errno::EINVAL),
    };
    Ok([one(a_sec, a_nsec)?, one(m_sec, m_nsec)?])
}

fn from_timevals(t: &CurrentTask, addr: UserAddr) -> Result<Times> {
    if addr.is_null() {
        return Ok(NOW);
    }
    let [a_sec, a_usec, m_sec, m_usec]: [i64; 4] = t.mm().read_obj(addr)?;
    let one = |sec, usec| match usec {
        0..1_000_000 => Ok(Some(at(sec, usec * 1000))),
        _ => Err(Errno::EINVAL),
    };
    Ok([one(a_sec, a_usec)?, one(m_sec, m_usec)?])
}

fn set(t: &CurrentTask, target: Target, times: Times) -> SysResult {
    target.check_writable()?;
    let attr = target.attr()?;
    let creds = t.creds();
    if !permission::is_owner_or_capable(&attr, creds) {
        // Whoever may write may set the present time, but no other.
        if times != NOW {
            return Err(Errno::EPERM);
        }
        match &target {
            Target::Path(path) => {
                permission::check_known(&**path.inode(), &attr, creds, Access::WRITE)?;
            }
            Target::File(_) => permission::check_attr(&attr, creds, Access::WRITE)?,
        }
    }
    let [atime, mtime] = times;
    target.set_attr(&SetAttr { atime, mtime, ..SetAttr::default() })?;
    Ok(0)
}

/// `utimensat(2)`.
pub fn utimensat(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    times: UserAddr,
    flags: Flags,
) -> SysResult {
    let times = from_timespecs(t, times)?;
    if times == [None; 2] {
        return Ok(0);
    }
    if flags.0 & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let target = if path.0.is_null() && dirfd != AT_FDCWD {
        if flags.0 != 0 {
            return Err(Errno::EINVAL);
        }
        Target::of(t.file(dirfd.0)?)
    } else {
        find_inode(t, dirfd, path, flags.0)?
    };
    set(t, target, times)
}

/// `futimesat(2)`.
pub fn futimesat(t: &mut CurrentTask, dirfd: Fd, path: PathPtr, times: UserAddr) -> SysResult {
    let times = from_timevals(t, times)?;
    let target = if path.0.is_null() && dirfd != AT_FDCWD {
        Target::of(t.file(dirfd.0)?)
    } else {
        find_inode(t, dirfd, path, 0)?
    };
    set(t, target, times)
}

/// `utimes(2)`.
pub fn utimes(t: &mut CurrentTask, path: PathPtr, times: UserAddr) -> SysResult {
    futimesat(t, AT_FDCWD, path, times)
}

/// `utime(2)`.
pub fn utime(t: &mut CurrentTask, path: PathPtr, times: UserAddr) -> SysResult {
    let times = if times.is_null() {
        NOW
    } else {
        let [a, m]: [i64; 2] = t.mm().read_obj(times)?;
        [Some(at(a, 0)), Some(at(m, 0))]
    };
    let target = find_inode(t, AT_FDCWD, path, 0)?;
    set(t, target, times)
}
