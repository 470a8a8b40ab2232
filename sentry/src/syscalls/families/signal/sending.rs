//! Sending signals (`kill(2)`, `tgkill(2)`, `rt_sigqueueinfo(2)`).

use crate::errno::{Errno, Result};
use crate::kernel::credentials::CAP_KILL;
use crate::kernel::landlock::scope;
use crate::kernel::signal::info::{SI_TKILL, SIGINFO_SIZE};
use crate::kernel::signal::{SigFields, send};
use crate::kernel::{CurrentTask, SigInfo, Signal, Task, ThreadGroup};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::SigNo;
use std::sync::Arc;

/// The signal of a number; `None` for 0, which only checks. `EINVAL` for an invalid one.
fn signal_of(number: SigNo) -> Result<Option<Signal>> {
    match number.0 {
        0 => Ok(None),
        n => Signal::new(n).map(Some).ok_or(Errno::EINVAL),
    }
}

/// May the caller send that signal to the process? `EPERM` if not, `ESRCH` for a process that is gone.
pub(crate) fn check_permission(
    t: &CurrentTask,
    group: &Arc<ThreadGroup>,
    signal: Option<Signal>,
) -> Result<()> {
    if Arc::ptr_eq(group, t.group()) {
        return Ok(());
    }
    check_ids(t, group, signal)?;
    // One that has ended is of no interest any more.
    let Some(target) = group.any_task() else { return Ok(()) };
    scope::check_signal(t.creds().landlock.as_deref(), &target)
}

/// As [`check_permission`], by ids and capabilities.
fn check_ids(t: &CurrentTask, group: &Arc<ThreadGroup>, signal: Option<Signal>) -> Result<()> {
    let mine = t.creds();
    if mine.has(CAP_KILL) {
        return Ok(());
    }
    let theirs = match group.any_task() {
        Some(task) => task.creds(),
        // A zombie: its ids went with it but for the real user id.
        None => {
            let uid = t.kernel().tree().nodes.get(&group.tgid()).and_then(|n| n.exit);
            let uid = uid.map_or(0, |e| e.uid);
            let same = mine.uid == uid || mine.euid == uid;
            return if same { Ok(()) } else { Err(Errno::EPERM) };
        }
    };
    let same = [mine.euid, mine.uid].iter().any(|m| *m == theirs.uid || *m == theirs.suid);
    if mine.has_in(&theirs.user_ns, CAP_KILL) {
        return Ok(());
    }
    let same_session = signal == Some(Signal::SIGCONT) && group.sid() == t.group().sid();
    if same || same_session { Ok(()) } else { Err(Errno::EPERM) }
}

fn kill_one(t: &CurrentTask, group: &Arc<ThreadGroup>, signal: Option<Signal>) -> Result<()> {
    check_permission(t, group, signal)?;
    if let Some(signal) = signal {
        let info = SigInfo::user(signal, t.tgid(), t.creds().uid);
        group.send_signal(t.kernel(), &info);
    }
    Ok(())
}

/// `kill(2)`
pub fn kill(t: &mut CurrentTask, pid: i32, signal: SigNo) -> SysResult {
    let signal = signal_of(signal)?;
    if pid > 0 {
        let group = find_group(t, pid)?;
        kill_one(t, &group, signal)?;
        return Ok(0);
    }
    let targets: Vec<Arc<ThreadGroup>> = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => {
            let all = t.kernel().thread_groups();
            let other = |g: &Arc<ThreadGroup>| t.local_id(g.tgid()) > 1 && g.tgid() != t.tgid();
            all.into_iter().filter(other).collect()
        }
        0 => t.kernel().tree().members(t.group().pgid()),
        pgid => {
            let pgid = t.global_id(-pgid);
            t.kernel().tree().members(pgid)
        }
    };
    let mut result = Err(Errno::ESRCH);
    for group in &targets {
        match kill_one(t, group, signal) {
            Ok(()) => result = Ok(0),
            // With -1, what may not be signalled is left out.
            Err(_) if pid == -1 => {}
            Err(e) if result.is_err() => result = Err(e),
            Err(_) => {}
        }
    }
    result
}

/// The process of a process or thread id.
fn find_group(t: &CurrentTask, pid: i32) -> Result<Arc<ThreadGroup>> {
    let pid = t.global_id(pid);
    let tree = t.kernel().tree();
    let task = || tree.pids.tasks.get(&pid).map(|task| task.group().clone());
    tree.process(pid).cloned().or_else(task).ok_or(Errno::ESRCH)
}

/// The thread of an id, which must belong to process `tgid` if that is given.
fn find_task(t: &CurrentTask, tgid: Option<i32>, tid: i32) -> Result<Arc<Task>> {
    let task = t.find_task(tid)?;
    if tgid.is_some_and(|g| t.global_id(g) != task.tgid()) {
        return Err(Errno::ESRCH);
    }
    Ok(task)
}

fn kill_task(t: &CurrentTask, tgid: Option<i32>, tid: i32, signal: SigNo) -> SysResult {
    if tid <= 0 || tgid.is_some_and(|g| g <= 0) {
        return Err(Errno::EINVAL);
    }
    let task = find_task(t, tgid, tid);
    let signal = signal_of(signal);
    // A thread that is not there is the more interesting news.
    let task = task?;
    let signal = signal?;
    check_permission(t, task.group(), signal)?;
    if let Some(signal) = signal {
        let fields = SigFields::Kill { pid: t.tgid(), uid: t.creds().uid };
        let info = SigInfo { signal, errno: 0, code: SI_TKILL, fields };
        send::send(t.kernel(), task.group(), Some(&task), &info, false)?;
    }
    Ok(0)
}

/// `tkill(2)`
pub fn tkill(t: &mut CurrentTask, tid: i32, signal: SigNo) -> SysResult {
    kill_task(t, None, tid, signal)
}

/// `tgkill(2)`
pub fn tgkill(t: &mut CurrentTask, tgid: i32, tid: i32, signal: SigNo) -> SysResult {
    kill_task(t, Some(tgid), tid, signal)
}

/// Reads the information a program sends along. `EPERM` if it pretends to be the kernel or `kill(2)`.
fn queued_info(
    t: &CurrentTask,
    at: UserAddr,
    signal: SigNo,
    own_process: bool,
) -> Result<Option<SigInfo>> {
    let bytes: [u8; SIGINFO_SIZE] = t.mm().read_obj(at)?;
    let code = bytes.get(8..12).and_then(|b| b.try_into().ok()).map_or(0, i32::from_le_bytes);
    if (code >= 0 || code == SI_TKILL) && !own_process {
        return Err(Errno::EPERM);
    }
    Ok(signal_of(signal)?.map(|s| SigInfo::from_bytes(s, &bytes)))
}

/// `rt_sigqueueinfo(2)`
pub fn rt_sigqueueinfo(t: &mut CurrentTask, pid: i32, signal: SigNo, info: UserAddr) -> SysResult {
    let info = queued_info(t, info, signal, pid == t.ns_tgid())?;
    let group = find_group(t, pid)?;
    check_permission(t, &group, info.map(|i| i.signal))?;
    if let Some(info) = info {
        send::send(t.kernel(), &group, None, &info, false)?;
    }
    Ok(0)
}

/// `rt_tgsigqueueinfo(2)`
pub fn rt_tgsigqueueinfo(
    t: &mut CurrentTask,
    tgid: i32,
    tid: i32,
    signal: SigNo,
    info: UserAddr,
) -> SysResult {
    if tid <= 0 || tgid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = queued_info(t, info, signal, tid == t.ns_tid())?;
    let task = find_task(t, Some(tgid), tid)?;
    check_permission(t, task.group(), info.map(|i| i.signal))?;
    if let Some(info) = info {
        send::send(t.kernel(), task.group(), Some(&task), &info, false)?;
    }
    Ok(0)
}
