//! Leaving and entering namespaces: `unshare(2)`, `setns(2)`, the flags of `clone(2)`.

use super::{
    CgroupNamespace, IpcNamespace, Namespace, Namespaces, NetNamespace, TimeNamespace,
    UserNamespace,
};
use crate::errno::{Errno, Result};
use crate::kernel::clone::CloneFlags as F;
use crate::kernel::credentials::{ALL_CAPS, CAP_SYS_ADMIN, CAP_SYS_CHROOT};
use crate::kernel::{Credentials, CurrentTask, Task};
use crate::loader::vdso;
use crate::vfs::FsContext;
use std::sync::Arc;

/// What a task or its child goes on with.
pub struct Change {
    /// Credentials, if the user namespace is another one.
    pub creds: Option<Credentials>,
    /// Namespaces, if any of [`Namespaces`] is another one.
    pub namespaces: Option<Arc<Namespaces>>,
    /// Root and working directory in another mount namespace.
    pub fs: Option<Arc<FsContext>>,
}

/// Credentials of a task that enters a user namespace: every capability there, none elsewhere.
fn enter(creds: &Credentials, user_ns: Arc<UserNamespace>) -> Credentials {
    Credentials {
        user_ns,
        securebits: 0,
        inheritable: 0,
        permitted: ALL_CAPS,
        effective: ALL_CAPS,
        ambient: 0,
        bounding: ALL_CAPS,
        ..creds.clone()
    }
}

/// New namespaces for `flags`, made with the privileges of `t`. `EPERM` without `CAP_SYS_ADMIN`,
/// `ENOSPC` at a limit.
pub fn create(t: &CurrentTask, flags: F) -> Result<Change> {
    let mut change = Change { creds: None, namespaces: None, fs: None };
    if !flags.intersects(F::NAMESPACES) {
        return Ok(change);
    }
    if flags.contains(F::NEWUSER) {
        // Who was confined to a part of the tree must not get out by becoming root of a namespace.
        let fs = t.fs();
        if !fs.root().same(&fs.namespace().root()) {
            return Err(Errno::EPERM);
        }
        change.creds = Some(enter(t.creds(), UserNamespace::create(t.creds())?));
    }
    let creds = change.creds.as_ref().unwrap_or(t.creds());
    let user_ns = &creds.user_ns;
    let others = flags & F::NAMESPACES & !F::NEWUSER;
    if others.is_empty() {
        return Ok(change);
    }
    if !creds.has_own(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if flags.contains(F::NEWNS) {
        change.fs = Some(t.fs().unshare_mounts(user_ns)?);
    }
    if others != F::NEWNS {
        let mut new = (*t.namespaces()).clone();
        if flags.contains(F::NEWUTS) {
            new.uts = new.uts.copy(user_ns)?;
        }
        if flags.contains(F::NEWIPC) {
            new.ipc = IpcNamespace::create(user_ns)?;
        }
        if flags.contains(F::NEWNET) {
            new.net = NetNamespace::create(user_ns)?;
        }
        if flags.contains(F::NEWCGROUP) {
            new.cgroup = CgroupNamespace::create(user_ns, t.group().cgroup())?;
        }
        if flags.contains(F::NEWPID) {
            new.pid_for_children = new.pid_for_children.create(user_ns)?;
        }
        if flags.contains(F::NEWTIME) {
            new.time_for_children = new.time.copy(user_ns)?;
        }
        change.namespaces = Some(Arc::new(new));
    }
    Ok(change)
}

/// `unshare(2)`.
pub fn unshare(t: &mut CurrentTask, flags: F) -> Result<()> {
    let mut flags = flags;
    if flags.contains(F::NEWUSER) {
        flags |= F::THREAD | F::FS;
    }
    if flags.contains(F::VM) {
        flags |= F::SIGHAND;
    }
    if flags.contains(F::SIGHAND) {
        flags |= F::THREAD;
    }
    if flags.contains(F::NEWNS) {
        flags |= F::FS;
    }
    let known = F::THREAD | F::FS | F::SIGHAND | F::VM | F::FILES | F::SYSVSEM | F::NAMESPACES;
    if !known.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let alone = t.group().signals().tasks.len() == 1;
    if flags.intersects(F::THREAD | F::SIGHAND | F::VM) && !alone {
        return Err(Errno::EINVAL);
    }
    let change = create(t, flags)?;
    if flags.intersects(F::NEWIPC | F::SYSVSEM) {
        // Who leaves the semaphores settles first.
        crate::kernel::ipc::sem::exit(t.group());
    }
    if flags.contains(F::FILES) {
        let own = t.files().fork()?;
        t.set_files(own);
    }
    match change.fs {
        Some(fs) => t.set_fs(fs),
        None if flags.contains(F::FS) => {
            let own = t.fs().fork();
            t.set_fs(own);
        }
        None => {}
    }
    if let Some(namespaces) = change.namespaces {
        t.set_namespaces(namespaces);
    }
    if let Some(creds) = change.creds {
        t.set_creds(creds);
    }
    Ok(())
}

/// The namespaces that `flags` name, of another task.
fn of_task(task: &Task, flags: F) -> Result<Vec<Namespace>> {
    let namespaces = task.namespaces();
    let fs = task.fs()?;
    let all = [
        Namespace::User(task.creds().user_ns.clone()),
        Namespace::Mount(fs.namespace()),
        Namespace::Uts(namespaces.uts.clone()),
        Namespace::Ipc(namespaces.ipc.clone()),
        Namespace::Pid(task.group().pid_ns().clone()),
        Namespace::Cgroup(namespaces.cgroup.clone()),
        Namespace::Net(namespaces.net.clone()),
        Namespace::Time(namespaces.time.clone()),
    ];
    Ok(all.into_iter().filter(|ns| flags.contains(ns.kind().flag())).collect())
}

/// `setns(2)` with a pidfd: enters the namespaces of `task` that `flags` name.
pub fn enter_task(t: &mut CurrentTask, task: &Task, flags: F) -> Result<()> {
    enter_all(t, &of_task(task, flags)?)
}

/// `setns(2)`: enters namespaces, a user namespace first. None of them, if one may not be entered.
pub fn enter_all(t: &mut CurrentTask, wanted: &[Namespace]) -> Result<()> {
    let mut creds: Option<Credentials> = None;
    let mut new = (*t.namespaces()).clone();
    let mut mounts = None;
    for ns in wanted {
        let mine = creds.as_ref().unwrap_or(t.creds());
        let capable = |of: &UserNamespace| -> Result<()> {
            let may = mine.has_in(of, CAP_SYS_ADMIN) && mine.has_own(CAP_SYS_ADMIN);
            if may { Ok(()) } else { Err(Errno::EPERM) }
        };
        match ns {
            Namespace::User(ns) => creds = Some(enter_user(t, ns)?),
            Namespace::Mount(ns) => {
                capable(ns.user_ns())?;
                if !mine.has_own(CAP_SYS_CHROOT) {
                    return Err(Errno::EPERM);
                }
                if shares_fs(t) {
                    return Err(Errno::EINVAL);
                }
                mounts = Some(ns.clone());
            }
            Namespace::Uts(ns) => {
                capable(ns.user_ns())?;
                new.uts = ns.clone();
            }
            Namespace::Ipc(ns) => {
                capable(ns.user_ns())?;
                new.ipc = ns.clone();
            }
            Namespace::Net(ns) => {
                capable(ns.user_ns())?;
                new.net = ns.clone();
            }
            Namespace::Cgroup(ns) => {
                capable(ns.user_ns())?;
                new.cgroup = ns.clone();
            }
            Namespace::Pid(ns) => {
                capable(ns.user_ns())?;
                if !t.group().pid_ns().contains(ns) {
                    return Err(Errno::EINVAL);
                }
                new.pid_for_children = ns.clone();
            }
            Namespace::Time(ns) => {
                if t.group().signals().tasks.len() > 1 {
                    return Err(Errno::EUSERS);
                }
                capable(ns.user_ns())?;
                new.time = ns.clone();
                new.time_for_children = ns.clone();
            }
        }
    }
    enter_time(t, &new.time)?;
    if let Some(mounts) = mounts {
        t.fs().enter(mounts);
    }
    t.set_namespaces(Arc::new(new));
    if let Some(creds) = creds {
        t.set_creds(creds);
    }
    Ok(())
}

/// Two references to root and working directory are the task's own; more means that they are shared.
fn shares_fs(t: &CurrentTask) -> bool {
    Arc::strong_count(t.fs()) > 2
}

fn enter_user(t: &CurrentTask, ns: &Arc<UserNamespace>) -> Result<Credentials> {
    let alone = t.group().signals().tasks.len() == 1;
    if *ns == t.creds().user_ns || !alone || shares_fs(t) {
        return Err(Errno::EINVAL);
    }
    if !t.creds().has_in(ns, CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    Ok(enter(t.creds(), ns.clone()))
}

/// The clocks of a time namespace begin to run for the caller's process.
fn enter_time(t: &CurrentTask, time: &Arc<TimeNamespace>) -> Result<()> {
    let own = t.namespaces();
    if Arc::ptr_eq(time, &own.time) {
        return Ok(());
    }
    let (old, new) = (own.time.enter(t.kernel())?, time.enter(t.kernel())?);
    vdso::replace_shifts(t.mm(), &old, &new)
}

/// A program starts in the time namespace that was made for children (`execve(2)`).
pub(in crate::kernel) fn enter_time_for_children(t: &mut CurrentTask) {
    let own = t.namespaces();
    if !Arc::ptr_eq(&own.time, &own.time_for_children) {
        let time = own.time_for_children.clone();
        t.set_namespaces(Arc::new(Namespaces { time, ..(*own).clone() }));
    }
}
