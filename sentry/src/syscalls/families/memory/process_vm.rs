//! Another process's memory: `process_vm_readv(2)`, `process_vm_writev(2)`, `process_madvise(2)`.

use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::credentials::CAP_SYS_NICE;
use crate::kernel::ptrace::access;
use crate::kernel::{CurrentTask, pidfd};
use crate::mm::sink::IOV_MAX;
use crate::mm::{Advice, MemoryManager, PAGE_SIZE, UserAddr, UserSink, UserSource};
use crate::syscalls::SysResult;
use crate::syscalls::arg::Fd;
use std::sync::Arc;

/// Memory of a process that the caller may look into (`ptrace_may_access`). 0 is the caller's own.
/// `ESRCH`, `EPERM`.
pub fn may_access(t: &CurrentTask, pid: i32) -> Result<Arc<MemoryManager>> {
    if pid == 0 || pid == t.ns_tid() || pid == t.ns_tgid() {
        return Ok(t.mm().clone());
    }
    let other = t.find_task(pid)?;
    let own = other.tgid() == t.tgid();
    if !own && !access::may_access(t.creds(), &other, access::Mode::Real) {
        return Err(Errno::EPERM);
    }
    other.mm()
}

/// `process_vm_readv(2)`
pub fn process_vm_readv(
    t: &mut CurrentTask,
    pid: i32,
    local: UserAddr,
    local_count: u64,
    remote: UserAddr,
    remote_count: u64,
    flags: u64,
) -> SysResult {
    transfer(t, pid, (local, local_count), (remote, remote_count), flags, false)
}

/// `process_vm_writev(2)`
pub fn process_vm_writev(
    t: &mut CurrentTask,
    pid: i32,
    local: UserAddr,
    local_count: u64,
    remote: UserAddr,
    remote_count: u64,
    flags: u64,
) -> SysResult {
    transfer(t, pid, (local, local_count), (remote, remote_count), flags, true)
}

fn transfer(
    t: &mut CurrentTask,
    pid: i32,
    local: (UserAddr, u64),
    remote: (UserAddr, u64),
    flags: u64,
    write: bool,
) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let local = t.mm().read_iovecs(local.0, local.1)?;
    if remote.1 > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let remote = t.mm().read_iovecs_unchecked(remote.0, remote.1)?;
    if local.iter().all(|v| v.len == 0) || remote.iter().all(|v| v.len == 0) {
        return Ok(0);
    }
    let other = may_access(t, pid)?;
    let mm = t.mm().clone();
    let done = if write {
        copy(UserSource::new(&mm, local), UserSink::new(&other, remote))
    } else {
        copy(UserSource::new(&other, remote), UserSink::new(&mm, local))
    }?;
    Ok(done)
}

/// Copies from one list of buffers to another, through a kernel buffer: never are two memory maps
/// locked at once.
fn copy(mut from: UserSource<'_>, mut to: UserSink<'_>) -> Result<u64> {
    let mut buf = vec![0u8; 64 << 10];
    let mut done = 0u64;
    loop {
        let want = buf.len().min(to.remaining()).min(from.remaining());
        if want == 0 {
            return Ok(done);
        }
        let part = buf.get_mut(..want).unwrap_or_default();
        let got = match from.take(part) {
            Ok(0) => return Ok(done),
            Ok(n) => n,
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok(done),
        };
        match to.put(part.get(..got).unwrap_or_default()) {
            Ok(n) => {
                done += n as u64;
                if n < got {
                    return Ok(done);
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok(done),
        }
        if got < want {
            return Ok(done);
        }
    }
}

/// `process_madvise(2)`: advice for a list of ranges of another process. Returns how many bytes got it.
pub fn process_madvise(
    t: &mut CurrentTask,
    pidfd: Fd,
    ranges: UserAddr,
    count: u64,
    advice: i32,
    flags: u32,
) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let ranges = t.mm().read_iovecs_unchecked(ranges, count)?;
    let group = pidfd::group_of(t, pidfd.0)?;
    let own = group.tgid() == t.tgid();
    // What another process may be advised takes nothing from it: WILLNEED, COLD and PAGEOUT.
    if !matches!(advice, 3 | 20 | 21) {
        return Err(Errno::EINVAL);
    }
    let mm = if own { t.mm().clone() } else { may_access(t, t.local_id(group.tgid()))? };
    if !own && !t.creds().has(CAP_SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let mut done = 0;
    for range in ranges {
        let result = match range.base.0.is_multiple_of(PAGE_SIZE) {
            true => mm.madvise(range.base, range.len, Advice::Hint),
            false => Err(Errno::EINVAL),
        };
        match result {
            Ok(()) => done += range.len,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// `process_mrelease(2)`: memory of a process that is being killed goes by itself here. `EINVAL` for
/// one that is not.
pub fn process_mrelease(t: &mut CurrentTask, pidfd: Fd, flags: u32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let group = pidfd::group_of(t, pidfd.0)?;
    if group.is_dead() {
        return Err(Errno::ESRCH);
    }
    let ending = group.signals().group_exit.is_some();
    if ending { Ok(0) } else { Err(Errno::EINVAL) }
}
