//! Resource limits and usage (`prlimit(2)`, `getrusage(2)`, `times(2)`).

use super::life::RusageAbi;
use crate::errno::{Errno, Result};
use crate::kernel::accounting::{TICK, note_resident};
use crate::kernel::credentials::CAP_SYS_RESOURCE;
use crate::kernel::{CurrentTask, Limit, Rlimit, ThreadGroup};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::vfs::fd_table::NR_OPEN;
use std::sync::atomic::Ordering;

fn read_limit(t: &CurrentTask, at: UserAddr) -> Result<Limit> {
    let [soft, hard]: [u64; 2] = t.mm().read_obj(at)?;
    Ok(Limit { soft, hard })
}

fn change(t: &CurrentTask, group: &ThreadGroup, resource: u32, new: Limit) -> Result<()> {
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    let nr_open = u64::from(NR_OPEN.load(Ordering::Relaxed));
    if resource == Rlimit::Nofile as u32 && new.hard > nr_open {
        return Err(Errno::EPERM);
    }
    let may_raise = t.creds().has(CAP_SYS_RESOURCE);
    group.update_limits(|limits| {
        let old = limits.by_number(resource)?;
        if new.hard > old.hard && !may_raise {
            return Err(Errno::EPERM);
        }
        limits.set(resource, new)
    })?;
    copy_to_memory(group, resource, new.soft);
    if resource == Rlimit::Cpu as u32 {
        crate::time::process_timers::cpu_limit_changed(t.kernel(), group);
    }
    Ok(())
}

/// The memory manager keeps those it needs.
fn copy_to_memory(group: &ThreadGroup, resource: u32, soft: u64) {
    let Some(mm) = group.any_task().and_then(|task| task.mm().ok()) else { return };
    let limits = mm.limits();
    match resource {
        r if r == Rlimit::As as u32 => limits.set_address_space(soft),
        r if r == Rlimit::Data as u32 => limits.set_data(soft),
        r if r == Rlimit::Stack as u32 => limits.set_stack(soft),
        r if r == Rlimit::Memlock as u32 => limits.set_memlock(soft),
        _ => {}
    }
}

/// `getrlimit(2)`
pub fn getrlimit(t: &mut CurrentTask, resource: u32, at: UserAddr) -> SysResult {
    let limit = t.group().limits().by_number(resource)?;
    t.mm().write_obj(at, &[limit.soft, limit.hard])?;
    Ok(0)
}

/// `setrlimit(2)`
pub fn setrlimit(t: &mut CurrentTask, resource: u32, at: UserAddr) -> SysResult {
    let new = read_limit(t, at)?;
    t.group().limits().by_number(resource)?;
    change(t, t.group(), resource, new)?;
    Ok(0)
}

/// `prlimit64(2)`
pub fn prlimit64(
    t: &mut CurrentTask,
    pid: i32,
    resource: u32,
    new: UserAddr,
    old: UserAddr,
) -> SysResult {
    let new = if new.is_null() { None } else { Some(read_limit(t, new)?) };
    let task = super::task_or_self(t, pid)?;
    if task.tgid() != t.tgid() {
        let (mine, theirs) = (t.creds(), task.creds());
        let same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|u| *u == mine.uid)
            && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|g| *g == mine.gid);
        if !same && !mine.has_in(&theirs.user_ns, CAP_SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
    }
    let group = task.group().clone();
    let before = group.limits().by_number(resource)?;
    if let Some(new) = new {
        change(t, &group, resource, new)?;
    }
    if !old.is_null() {
        t.mm().write_obj(old, &[before.soft, before.hard])?;
    }
    Ok(0)
}

/// `getrusage(2)`
pub fn getrusage(t: &mut CurrentTask, who: i32, at: UserAddr) -> SysResult {
    note_resident(t);
    let usage = match who {
        0 => t.group().rusage(),
        -1 => t.group().children_rusage(),
        1 => t.task().rusage(),
        _ => return Err(Errno::EINVAL),
    };
    t.mm().write_obj(at, &RusageAbi::from(usage))?;
    Ok(0)
}

/// `times(2)`
pub fn times(t: &mut CurrentTask, at: UserAddr) -> SysResult {
    if !at.is_null() {
        let own = t.group().rusage();
        let children = t.group().children_rusage();
        let ticks =
            [own.user, own.system, children.user, children.system].map(|nanos| nanos / TICK);
        t.mm().write_obj(at, &ticks)?;
    }
    Ok(t.kernel().time.boottime() / TICK)
}
