//! Processes as files (`pidfd_open(2)`), and comparing what processes share (`kcmp(2)`).

use super::ids::may_inspect;
use crate::errno::Errno;
use crate::fs::epoll::Epoll;
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
    let nonblock = flags & PIDFD_NONBLOCK != 0;
    let file = match flags & PIDFD_THREAD != 0 {
        true => pidfd::thread_file(&t.find_task(pid)?, nonblock),
        false => match t.find_group(pid) {
            Ok(group) => pidfd::file(&group, nonblock),
            // A thread that does not lead its process.
            Err(_) if t.find_task(pid).is_ok() => return Err(Errno::EINVAL),
            Err(error) => return Err(error),
        },
    };
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
    const THREAD: u32 = 1;
    const THREAD_GROUP: u32 = 2;
    const PROCESS_GROUP: u32 = 4;
    if flags & !(THREAD | THREAD_GROUP | PROCESS_GROUP) != 0 || flags.count_ones() > 1 {
        return Err(Errno::EINVAL);
    }
    let (group, mut thread) = pidfd::to_signal(t, fd.0)?;
    match flags {
        THREAD if thread.is_none() => {
            // The thread that leads the process.
            let leader = group.any_task().filter(|task| task.is_leader());
            thread = Some(leader.ok_or(Errno::ESRCH)?);
        }
        THREAD_GROUP | PROCESS_GROUP => thread = None,
        _ => {}
    }
    let signo = Signal::new(signal.0);
    if signo.is_none() && signal.0 != 0 {
        return Err(Errno::EINVAL);
    }
    let info = if info.is_null() {
        let by_tid = thread.is_some();
        signo.map(|s| {
            let mut info = SigInfo::user(s, t.tgid(), t.creds().uid);
            if by_tid {
                info.code = crate::kernel::signal::info::SI_TKILL;
            }
            info
        })
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
        if flags & PROCESS_GROUP != 0 {
            t.kernel().signal_process_group(group.pgid(), &info)?;
        } else {
            send::send(t.kernel(), &group, thread.as_ref(), &info, false)?;
        }
    }
    Ok(0)
}

/// `pidfd_getfd(2)`
pub fn pidfd_getfd(t: &mut CurrentTask, fd: Fd, target: Fd, flags: u32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let task = pidfd::task_of(t, fd.0)?;
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
const KCMP_EPOLL_TFD: i32 = 7;

/// The file that an epoll instance of `task` watches. `at` holds descriptors of the instance and of the file,
/// and how many watches of that descriptor to skip (`struct kcmp_epoll_slot`).
fn epoll_target(t: &CurrentTask, task: &crate::kernel::Task, at: u64) -> Result<u64, Errno> {
    let [instance, fd, skip]: [u32; 3] = t.mm().read_obj(UserAddr(at))?;
    let number = |n: u32| i32::try_from(n).map_err(|_| Errno::EBADF);
    let file = task.files()?.get_raw(number(instance)?)?;
    let epoll = file.ops_as::<Epoll>().ok_or(Errno::EINVAL)?;
    epoll.watched(number(fd).map_err(|_| Errno::ENOENT)?, skip as usize).ok_or(Errno::ENOENT)
}

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
        KCMP_EPOLL_TFD => {
            let fd = i32::try_from(idx1).map_err(|_| Errno::EBADF)?;
            let file = a.files()?.get_raw(fd)?;
            order(file.id(), epoll_target(t, &b, idx2)?)
        }
        _ => return Err(Errno::EINVAL),
    })
}
