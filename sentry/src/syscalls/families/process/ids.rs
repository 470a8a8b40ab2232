//! Process ids, groups and sessions (`setpgid(2)`, `setsid(2)`).

use super::group_or_self;
use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::kernel::ptrace::access;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use std::sync::atomic::Ordering;

/// `getpid(2)`
pub fn getpid(t: &mut CurrentTask) -> SysResult {
    Ok(t.ns_tgid() as u64)
}

/// `gettid(2)`
pub fn gettid(t: &mut CurrentTask) -> SysResult {
    Ok(t.ns_tid() as u64)
}

/// `getppid(2)`
pub fn getppid(t: &mut CurrentTask) -> SysResult {
    Ok(t.local_id(t.group().ppid()) as u64)
}

/// `getpgrp(2)`
pub fn getpgrp(t: &mut CurrentTask) -> SysResult {
    Ok(t.local_id(t.group().pgid()) as u64)
}

/// `getpgid(2)`
pub fn getpgid(t: &mut CurrentTask, pid: i32) -> SysResult {
    Ok(t.local_id(group_or_self(t, pid)?.pgid()) as u64)
}

/// `getsid(2)`
pub fn getsid(t: &mut CurrentTask, pid: i32) -> SysResult {
    Ok(t.local_id(group_or_self(t, pid)?.sid()) as u64)
}

/// `setpgid(2)`
pub fn setpgid(t: &mut CurrentTask, pid: i32, pgid: i32) -> SysResult {
    if pgid < 0 || (pgid == 0 && pid < 0) {
        return Err(Errno::EINVAL);
    }
    let me = t.tgid();
    let pid = if pid == 0 { me } else { t.global_id(pid) };
    let pgid = if pgid == 0 { pid } else { t.global_id(pgid) };
    let mut tree = t.kernel().tree();
    let node = tree.nodes.get(&pid).ok_or(Errno::ESRCH)?;
    if node.parent == me {
        if node.sid != t.group().sid() {
            return Err(Errno::EPERM);
        }
        if node.group.did_exec.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    } else if pid != me {
        return Err(Errno::ESRCH);
    }
    if node.sid == pid {
        return Err(Errno::EPERM);
    }
    let sid = node.sid;
    if pgid != pid {
        let known = tree.pgroups.get(&pgid).is_some_and(|g| g.sid == sid);
        if !known {
            return Err(Errno::EPERM);
        }
    }
    tree.set_pgroup(pid, pgid, sid);
    Ok(0)
}

/// `setsid(2)`
pub fn setsid(t: &mut CurrentTask) -> SysResult {
    let me = t.tgid();
    let mut tree = t.kernel().tree();
    if tree.pgroups.contains_key(&me) {
        return Err(Errno::EPERM);
    }
    tree.set_pgroup(me, me, me);
    Ok(t.ns_tgid() as u64)
}

/// `set_tid_address(2)`
pub fn set_tid_address(t: &mut CurrentTask, addr: UserAddr) -> SysResult {
    t.clear_child_tid.store(addr.0, Ordering::Relaxed);
    Ok(t.ns_tid() as u64)
}

/// Size of the kernel's `struct robust_list_head`.
const ROBUST_HEAD: u64 = 24;

/// `set_robust_list(2)`
pub fn set_robust_list(t: &mut CurrentTask, head: UserAddr, len: u64) -> SysResult {
    if len != ROBUST_HEAD {
        return Err(Errno::EINVAL);
    }
    t.robust_list.store(head.0, Ordering::Relaxed);
    Ok(0)
}

/// `get_robust_list(2)`
pub fn get_robust_list(t: &mut CurrentTask, pid: i32, head: UserAddr, len: UserAddr) -> SysResult {
    let task = super::task_or_self(t, pid)?;
    if !may_inspect(t, &task) {
        return Err(Errno::EPERM);
    }
    t.mm().write_obj(len, &ROBUST_HEAD)?;
    t.mm().write_obj(head, &task.robust_list.load(Ordering::Relaxed))?;
    Ok(0)
}

/// The check of `ptrace(2)`'s access modes: same ids, or `CAP_SYS_PTRACE`.
pub(crate) fn may_inspect(t: &CurrentTask, other: &crate::kernel::Task) -> bool {
    if other.tgid() == t.tgid() {
        return true;
    }
    access::may_access(t.creds(), other, access::Mode::Real)
}
