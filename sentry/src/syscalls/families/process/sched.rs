//! Scheduling attributes (`sched(7)`): stored and reported, the host decides.

use super::{owns, task_or_self};
use crate::errno::{Errno, Result};
use crate::kernel::cpus::{all_cpus, is_empty};
use crate::kernel::credentials::CAP_SYS_NICE;
use crate::kernel::sched::{
    SCHED_BATCH, SCHED_DEADLINE, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RR,
};
use crate::kernel::{CurrentTask, Rlimit, Task};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SCHED_RESET_ON_FORK` as a flag of the policy.
const RESET_ON_FORK: u32 = 0x4000_0000;

/// `sched_yield(2)`
pub fn sched_yield(_t: &mut CurrentTask) -> SysResult {
    std::thread::yield_now();
    Ok(0)
}

fn check_owner(t: &CurrentTask, other: &Task) -> Result<()> {
    let theirs = other.creds();
    let allowed = owns(t.creds(), &theirs) || t.creds().has_in(&theirs.user_ns, CAP_SYS_NICE);
    if allowed { Ok(()) } else { Err(Errno::EPERM) }
}

fn is_realtime(policy: u32) -> bool {
    matches!(policy, SCHED_FIFO | SCHED_RR)
}

/// Changes policy, priority and niceness, if the caller may.
fn set(
    t: &CurrentTask,
    task: &Task,
    policy: u32,
    priority: u32,
    nice: Option<i32>,
    reset: bool,
) -> Result<()> {
    let known = matches!(policy, SCHED_OTHER | SCHED_FIFO | SCHED_RR | SCHED_BATCH | SCHED_IDLE);
    if !known || priority > 99 || is_realtime(policy) != (priority != 0) {
        return Err(Errno::EINVAL);
    }
    let privileged = t.creds().has(CAP_SYS_NICE);
    if !privileged {
        check_owner(t, task)?;
    }
    let rtprio = task.limit(Rlimit::Rtprio).soft;
    let nice_limit = task.limit(Rlimit::Nice).soft;
    let mut sched = task.sched.lock();
    if !privileged {
        let raises = priority > sched.priority && u64::from(priority) > rtprio;
        if is_realtime(policy) && (raises || (policy != sched.policy && rtprio == 0)) {
            return Err(Errno::EPERM);
        }
        if let Some(nice) = nice
            && nice < sched.nice
            && (20 - nice) as u64 > nice_limit
        {
            return Err(Errno::EPERM);
        }
        if sched.reset_on_fork && !reset {
            return Err(Errno::EPERM);
        }
    }
    sched.policy = policy;
    sched.deadline = [0; 3];
    sched.priority = priority;
    sched.reset_on_fork = reset;
    if let Some(nice) = nice {
        sched.nice = nice;
    }
    Ok(())
}

fn target(t: &CurrentTask, pid: i32) -> Result<Arc<Task>> {
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    task_or_self(t, pid)
}

/// `sched_setparam(2)`
pub fn sched_setparam(t: &mut CurrentTask, pid: i32, param: UserAddr) -> SysResult {
    if param.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority: i32 = t.mm().read_obj(param)?;
    let task = target(t, pid)?;
    let (policy, reset) = {
        let s = task.sched.lock();
        (s.policy, s.reset_on_fork)
    };
    let priority = u32::try_from(priority).map_err(|_| Errno::EINVAL)?;
    set(t, &task, policy, priority, None, reset)?;
    Ok(0)
}

/// `sched_getparam(2)`
pub fn sched_getparam(t: &mut CurrentTask, pid: i32, param: UserAddr) -> SysResult {
    if param.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = target(t, pid)?.sched.lock().priority;
    t.mm().write_obj(param, &priority)?;
    Ok(0)
}

/// `sched_setscheduler(2)`
pub fn sched_setscheduler(
    t: &mut CurrentTask,
    pid: i32,
    policy: u32,
    param: UserAddr,
) -> SysResult {
    if param.is_null() || (policy as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let priority: i32 = t.mm().read_obj(param)?;
    let task = target(t, pid)?;
    let priority = u32::try_from(priority).map_err(|_| Errno::EINVAL)?;
    let reset = policy & RESET_ON_FORK != 0;
    set(t, &task, policy & !RESET_ON_FORK, priority, None, reset)?;
    Ok(0)
}

/// `sched_getscheduler(2)`
pub fn sched_getscheduler(t: &mut CurrentTask, pid: i32) -> SysResult {
    let task = target(t, pid)?;
    let s = task.sched.lock();
    let flag = if s.reset_on_fork { RESET_ON_FORK } else { 0 };
    Ok(u64::from(s.policy | flag))
}

/// `sched_get_priority_max(2)`
pub fn sched_get_priority_max(_t: &mut CurrentTask, policy: i32) -> SysResult {
    priority_bound(policy, 99)
}

/// `sched_get_priority_min(2)`
pub fn sched_get_priority_min(_t: &mut CurrentTask, policy: i32) -> SysResult {
    priority_bound(policy, 1)
}

fn priority_bound(policy: i32, realtime: u64) -> SysResult {
    match u32::try_from(policy).map_err(|_| Errno::EINVAL)? {
        SCHED_FIFO | SCHED_RR => Ok(realtime),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// `sched_rr_get_interval(2)`
pub fn sched_rr_get_interval(t: &mut CurrentTask, pid: i32, at: UserAddr) -> SysResult {
    let policy = target(t, pid)?.sched.lock().policy;
    let nanos = match policy {
        SCHED_RR => 100_000_000,
        SCHED_FIFO => 0,
        _ => 3_000_000,
    };
    t.mm().write_obj(at, &crate::time::Timespec::from_nanos(nanos))?;
    Ok(0)
}

#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// Size of the first version of the structure.
const ATTR_VER0: u32 = 48;

/// `SCHED_FLAG_KEEP_POLICY`
const KEEP_POLICY: u64 = 8;
/// `SCHED_FLAG_KEEP_PARAMS`, which keeps the policy, too.
const KEEP_PARAMS: u64 = 16;

/// `sched_setattr(2)`
pub fn sched_setattr(t: &mut CurrentTask, pid: i32, at: UserAddr, flags: u32) -> SysResult {
    if at.is_null() || pid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let size: u32 = t.mm().read_obj(at)?;
    let size = if size == 0 { ATTR_VER0 } else { size };
    let attr: SchedAttr = super::life::read_extensible(t, at, size.into(), ATTR_VER0.into())
        .map_err(|e| if e == Errno::EINVAL { Errno::E2BIG } else { e })?;
    if (attr.policy as i32) < 0 || attr.flags & !0x7f != 0 {
        return Err(Errno::EINVAL);
    }
    let task = target(t, pid)?;
    let (mut policy, mut priority, mut nice) = (attr.policy, attr.priority, attr.nice);
    {
        let s = task.sched.lock();
        if attr.flags & (KEEP_POLICY | KEEP_PARAMS) != 0 {
            (policy, priority) = (s.policy, s.priority);
        }
        // What is idle keeps its own for later.
        if attr.flags & KEEP_PARAMS != 0 || policy == SCHED_IDLE {
            nice = s.nice;
        }
    }
    if policy == SCHED_DEADLINE {
        // As for a task that may not have it.
        return Err(Errno::EPERM);
    }
    let nice = (!is_realtime(policy)).then(|| nice.clamp(-20, 19));
    set(t, &task, policy, priority, nice, attr.flags & 1 != 0)?;
    Ok(0)
}

/// `sched_getattr(2)`
pub fn sched_getattr(
    t: &mut CurrentTask,
    pid: i32,
    at: UserAddr,
    size: u32,
    flags: u32,
) -> SysResult {
    if at.is_null() || pid < 0 || !(ATTR_VER0..=4096).contains(&size) || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let task = target(t, pid)?;
    let own = size_of::<SchedAttr>() as u32;
    let attr = {
        let s = task.sched.lock();
        SchedAttr {
            size: size.min(own),
            policy: s.policy,
            flags: u64::from(s.reset_on_fork),
            nice: if is_realtime(s.policy) { 0 } else { s.nice },
            priority: s.priority,
            runtime: s.deadline[0],
            deadline: s.deadline[1],
            period: s.deadline[2],
            util_max: 1024,
            ..SchedAttr::default()
        }
    };
    let bytes = attr.as_bytes();
    t.mm().write(at, bytes.get(..size as usize).unwrap_or(bytes))?;
    Ok(0)
}

/// `sched_setaffinity(2)`
pub fn sched_setaffinity(t: &mut CurrentTask, pid: i32, len: u32, mask: UserAddr) -> SysResult {
    let all = all_cpus(t.kernel().config.cpus);
    let mut bytes = vec![0; all.len() * 8];
    let len = (len as usize).min(bytes.len());
    t.mm().read(mask, bytes.get_mut(..len).unwrap_or_default())?;
    let task = task_or_self(t, pid)?;
    check_owner(t, &task)?;
    let allowed = task.group().cgroup().allowed_cpus(t.kernel());
    let (words, _) = bytes.as_chunks::<8>();
    let wanted: Vec<u64> =
        words.iter().zip(&allowed).map(|(w, a)| u64::from_le_bytes(*w) & a).collect();
    if is_empty(&wanted) {
        return Err(Errno::EINVAL);
    }
    task.sched.lock().affinity = wanted;
    Ok(0)
}

/// `sched_getaffinity(2)`: returns the bytes written.
pub fn sched_getaffinity(t: &mut CurrentTask, pid: i32, len: u32, mask: UserAddr) -> SysResult {
    let cpus = t.kernel().config.cpus;
    if u64::from(len) * 8 < u64::from(cpus) || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let affinity = task_or_self(t, pid)?.affinity();
    let bytes: Vec<u8> = affinity.iter().flat_map(|w| w.to_le_bytes()).collect();
    let n = bytes.len().min(len as usize);
    t.mm().write(mask, bytes.get(..n).unwrap_or_default())?;
    Ok(n as u64)
}

const PRIO_PROCESS: i32 = 0;
const PRIO_PGRP: i32 = 1;
const PRIO_USER: i32 = 2;

fn priority_targets(t: &CurrentTask, which: i32, who: i32) -> Result<Vec<Arc<Task>>> {
    let tasks = match which {
        PRIO_PROCESS => vec![task_or_self(t, who)?],
        PRIO_PGRP => {
            let pgid = if who == 0 { t.group().pgid() } else { t.global_id(who) };
            let members = t.kernel().tree().members(pgid);
            members.iter().flat_map(|g| g.tasks()).collect()
        }
        PRIO_USER => {
            let creds = t.creds();
            let named = || creds.user_ns.uid_to_kernel(who as u32).ok_or(Errno::ESRCH);
            let uid = if who == 0 { creds.uid } else { named()? };
            let all: Vec<_> = t.kernel().tree().pids.tasks.values().cloned().collect();
            all.into_iter().filter(|task| task.creds().uid == uid).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if tasks.is_empty() { Err(Errno::ESRCH) } else { Ok(tasks) }
}

/// `getpriority(2)`; the raw call returns 20 less the niceness.
pub fn getpriority(t: &mut CurrentTask, which: i32, who: i32) -> SysResult {
    let tasks = priority_targets(t, which, who)?;
    let best = tasks.iter().map(|task| 20 - task.sched.lock().nice).max().unwrap_or(20);
    Ok(best as u64)
}

/// `setpriority(2)`
pub fn setpriority(t: &mut CurrentTask, which: i32, who: i32, prio: i32) -> SysResult {
    let nice = prio.clamp(-20, 19);
    let tasks = priority_targets(t, which, who)?;
    let privileged = t.creds().has(CAP_SYS_NICE);
    let mut error = None;
    for task in tasks {
        if !privileged && check_owner(t, &task).is_err() {
            error = Some(Errno::EPERM);
            continue;
        }
        let limit = task.limit(Rlimit::Nice).soft;
        let mut sched = task.sched.lock();
        if nice < sched.nice && !privileged && (20 - nice) as u64 > limit {
            error = Some(Errno::EACCES);
            continue;
        }
        sched.nice = nice;
    }
    error.map_or(Ok(0), Err)
}

const IOPRIO_WHO_PROCESS: i32 = 1;

/// `ioprio_set(2)`
pub fn ioprio_set(t: &mut CurrentTask, which: i32, who: i32, ioprio: i32) -> SysResult {
    let class = ioprio as u32 >> 13;
    let level = ioprio as u32 & 7;
    match class {
        0 if level != 0 => return Err(Errno::EINVAL),
        0 | 2 | 3 => {}
        1 if t.creds().has(CAP_SYS_NICE) => {}
        1 => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    for task in ioprio_targets(t, which, who)? {
        check_owner(t, &task)?;
        task.sched.lock().ioprio = ioprio as u32;
    }
    Ok(0)
}

/// `ioprio_get(2)`
pub fn ioprio_get(t: &mut CurrentTask, which: i32, who: i32) -> SysResult {
    let tasks = ioprio_targets(t, which, who)?;
    let values = tasks.iter().map(|task| {
        let sched = task.sched.lock();
        match sched.ioprio {
            // Not set: of one process that is told as it is, of many what follows from the niceness.
            0 if which != IOPRIO_WHO_PROCESS => 2 << 13 | (sched.nice + 20) as u32 / 5,
            set => set,
        }
    });
    Ok(u64::from(values.min().unwrap_or(0)))
}

fn ioprio_targets(t: &CurrentTask, which: i32, who: i32) -> Result<Vec<Arc<Task>>> {
    if !(IOPRIO_WHO_PROCESS..=3).contains(&which) {
        return Err(Errno::EINVAL);
    }
    priority_targets(t, which - 1, who)
}
