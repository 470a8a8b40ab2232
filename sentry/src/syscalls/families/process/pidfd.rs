//! Processes as files (`pidfd_open(2)`), and comparing what processes share (`kcmp(2)`).

use super::ids::may_inspect;
use crate::errno::Errno;
use crate::kernel::signal::info::SIGINFO_SIZE;
use crate::kernel::signal::send;
use crate::kernel::{CurrentTask, Rlimit, SigInfo, Signal, pidfd};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, SigNo};
use crate::syscalls::families::signal::check_permission;
use std::sync::Arc;

const PIDFD_NONBLOCK: u32 = 0o4000;
const PIDFD_THREAD: u32 = 0o200;

/// `pidfd_open(2)`
pub fn pidfd_open(t: &mut CurrentTask, pid: i32, flags: u32) -> SysResult {
    if flags & !(PIDFD_NONBLOCK | PIDFD_THREAD) != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let Ok(group) = t.find_group(pid) else {
        // A thread that does not lead its process.
        let known = t.find_task(pid).is_ok();
        return Err(if known { Errno::EINVAL } else { Errno::ESRCH });
    };
    let file = pidfd::file(&group, flags & PIDFD_NONBLOCK != 0);
    let fd = t.files().insert(file, true, 0, t.limit(Rlimit::Nofile).soft)?;
    Ok(fd as u64)
}

/// `pidfd_send_signal(2)`
pub fn pidfd_send_signal(
    t: &mut CurrentTask,
    fd: Fd,
    signal: SigNo,
    info: UserAddr,
    flags: u32,
) -> SysResult {
    if flags & !7 != 0 || flags.count_ones() > 1 {
        return Err(Errno::EINVAL);
    }
    let group = pidfd::group_to_signal(t, fd.0)?;
    let signo = Signal::new(signal.0);
    if signo.is_none() && signal.0 != 0 {
        return Err(Errno::EINVAL);
    }
    let info = if info.is_null() {
        signo.map(|s| SigInfo::user(s, t.tgid(), t.creds().uid))
    } else {
        let bytes: [u8; SIGINFO_SIZE] = t.mm().read_obj(info)?;
        let parsed = signo.map(|s| SigInfo::from_bytes(s, &bytes));
        if bytes.first_chunk::<4>().map(|b| i32::from_le_bytes(*b)) != Some(signal.0) {
            return Err(Errno::EINVAL);
        }
        let forged =
            parsed.is_some_and(|i| i.code >= 0 || i.code == crate::kernel::signal::info::SI_TKILL);
        if forged && group.tgid() != t.tgid() {
            return Err(Errno::EPERM);
        }
        parsed
    };
    if group.signals().tasks.is_empty() {
        return Err(Errno::ESRCH);
    }
    check_permission(t, &group, signo)?;
    if let Some(info) = info {
        if flags & 4 != 0 {
            t.kernel().signal_process_group(group.pgid(), &info)?;
        } else {
            send::send(t.kernel(), &group, None, &info, false)?;
        }
    }
    Ok(0)
}

/// `pidfd_getfd(2)`
pub fn pidfd_getfd(t: &mut CurrentTask, fd: Fd, target: Fd, flags: u32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let group = pidfd::group_of(t, fd.0)?;
    let task = group.any_task().ok_or(Errno::ESRCH)?;
    if !may_inspect(t, &task) {
        return Err(Errno::EPERM);
    }
    let file = task.files()?.get_raw(target.0)?;
    let fd = t.files().insert(file, true, 0, t.limit(Rlimit::Nofile).soft)?;
    Ok(fd as u64)
}

const KCMP_FILE: i32 = 0;
const KCMP_VM: i32 = 1;
const KCMP_FILES: i32 = 2;
const KCMP_FS: i32 = 3;
const KCMP_SIGHAND: i32 = 4;
const KCMP_IO: i32 = 5;
const KCMP_SYSVSEM: i32 = 6;

/// Orders two objects: 0 same, 1 less, 2 greater.
fn order(a: u64, b: u64) -> u64 {
    match a.cmp(&b) {
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Less => 1,
        std::cmp::Ordering::Greater => 2,
    }
}

fn address<T: ?Sized>(object: &Arc<T>) -> u64 {
    // Only compared; scrambled so that a guest does not learn the sentry's addresses' order.
    (Arc::as_ptr(object).cast::<u8>() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// `kcmp(2)`
pub fn kcmp(
    t: &mut CurrentTask,
    pid1: i32,
    pid2: i32,
    kind: i32,
    idx1: u64,
    idx2: u64,
) -> SysResult {
    let a = t.find_task(pid1)?;
    let b = t.find_task(pid2)?;
    if !may_inspect(t, &a) || !may_inspect(t, &b) {
        return Err(Errno::EPERM);
    }
    Ok(match kind {
        KCMP_FILE => {
            let file = |task: &crate::kernel::Task, idx: u64| {
                let fd = i32::try_from(idx).map_err(|_| Errno::EBADF)?;
                task.files()?.get_raw(fd)
            };
            order(file(&a, idx1)?.id(), file(&b, idx2)?.id())
        }
        KCMP_VM => order(a.mm()?.id(), b.mm()?.id()),
        KCMP_FILES => order(a.files()?.id(), b.files()?.id()),
        KCMP_FS => order(address(&a.fs()?), address(&b.fs()?)),
        KCMP_SIGHAND => {
            let handlers = |task: &crate::kernel::Task| task.group().signals().handlers.clone();
            order(address(&handlers(&a)), address(&handlers(&b)))
        }
        // Tasks have no I/O context of their own.
        KCMP_IO => 0,
        KCMP_SYSVSEM => {
            // Tasks without adjustments to undo share the list that is not there.
            let list = |task: &crate::kernel::Task| {
                let undoes = crate::kernel::ipc::sem::has_undo(&task.namespaces().ipc, task.tgid());
                if undoes { task.tgid() as u64 } else { 0 }
            };
            order(list(&a), list(&b))
        }
        _ => return Err(Errno::EINVAL),
    })
}
