//! The life of a process: clone, exec, exit, wait.

use crate::errno::{Errno, Result};
use crate::kernel::accounting::Rusage;
use crate::kernel::clone::{self, CloneArgs, CloneFlags, SET_TID_MAX};
use crate::kernel::credentials::{CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN};
use crate::kernel::exec::{self, Program};
use crate::kernel::namespace::{self, Namespace};
use crate::kernel::wait::{WaitFor, WaitOptions, WaitResult, wait};
use crate::kernel::{CurrentTask, Rlimit, Signal, exit as ending};
use crate::loader::{ArgumentLimit, read_strings};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, PathPtr};
use crate::time::Timeval;
use crate::vfs::open::open_exec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of the flags of `clone(2)` that hold the exit signal.
const CSIGNAL: u64 = 0xff;

fn do_clone(t: &mut CurrentTask, args: &CloneArgs) -> SysResult {
    let tid = clone::clone(t, args)?;
    Ok(tid as u64)
}

fn plain(flags: CloneFlags, exit_signal: i32) -> CloneArgs {
    CloneArgs {
        flags,
        pidfd: UserAddr::NULL,
        child_tid: UserAddr::NULL,
        parent_tid: UserAddr::NULL,
        exit_signal,
        stack: 0,
        tls: 0,
        set_tid: [0; SET_TID_MAX],
        set_tid_len: 0,
        cgroup: -1,
    }
}

/// `fork(2)`
pub fn fork(t: &mut CurrentTask) -> SysResult {
    do_clone(t, &plain(CloneFlags::empty(), Signal::SIGCHLD.number()))
}

/// `vfork(2)`
pub fn vfork(t: &mut CurrentTask) -> SysResult {
    do_clone(t, &plain(CloneFlags::VFORK | CloneFlags::VM, Signal::SIGCHLD.number()))
}

/// `clone(2)`
pub fn clone_legacy(
    t: &mut CurrentTask,
    flags: u64,
    stack: u64,
    parent_tid: UserAddr,
    child_tid: UserAddr,
    tls: u64,
) -> SysResult {
    // Linux looks at the low half only; unknown bits do not exist there.
    let flags_word = flags & 0xffff_ffff;
    let flags = CloneFlags::from_bits_retain(flags_word & !CSIGNAL);
    if flags.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) {
        return Err(Errno::EINVAL);
    }
    let args = CloneArgs {
        pidfd: parent_tid,
        child_tid,
        parent_tid,
        stack,
        tls,
        ..plain(flags, (flags_word & CSIGNAL) as i32)
    };
    do_clone(t, &args)
}

#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Clone3 {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Copies an extensible structure in: `E2BIG` if what we do not know is not zero.
pub(crate) fn read_extensible<T: FromBytes + IntoBytes + Default>(
    t: &CurrentTask,
    addr: UserAddr,
    size: u64,
    least: u64,
) -> Result<T> {
    if size > crate::mm::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < least {
        return Err(Errno::EINVAL);
    }
    let mut value = T::default();
    let own = size_of::<T>();
    let size = size as usize;
    let mut rest = vec![0; size.saturating_sub(own)];
    t.mm().read(addr, value.as_mut_bytes().get_mut(..size.min(own)).unwrap_or_default())?;
    t.mm().read(addr.offset(own as u64), &mut rest)?;
    if rest.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    Ok(value)
}

/// `clone3(2)`
pub fn clone3(t: &mut CurrentTask, args: UserAddr, size: u64) -> SysResult {
    let a: Clone3 = read_extensible(t, args, size, 64)?;
    if a.set_tid_size > SET_TID_MAX as u64 || (a.set_tid == 0) != (a.set_tid_size == 0) {
        return Err(Errno::EINVAL);
    }
    let valid_signal = a.exit_signal & !CSIGNAL == 0 && a.exit_signal <= 64;
    if !valid_signal {
        return Err(Errno::EINVAL);
    }
    let flags = CloneFlags::from_bits(a.flags).ok_or(Errno::EINVAL)?;
    let one_process = flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT);
    if flags.intersects(CloneFlags::DETACHED)
        || (one_process && a.exit_signal != 0)
        || (a.stack == 0) != (a.stack_size == 0)
    {
        return Err(Errno::EINVAL);
    }
    let set_tid_len = a.set_tid_size as usize;
    let set_tid = set_tids(t, UserAddr(a.set_tid), set_tid_len, flags)?;
    let args = CloneArgs {
        flags,
        pidfd: UserAddr(a.pidfd),
        child_tid: UserAddr(a.child_tid),
        parent_tid: UserAddr(a.parent_tid),
        exit_signal: a.exit_signal as i32,
        stack: if a.stack == 0 { 0 } else { a.stack.wrapping_add(a.stack_size) },
        tls: a.tls,
        set_tid,
        set_tid_len,
        cgroup: i32::try_from(a.cgroup).unwrap_or(-1),
    };
    do_clone(t, &args)
}

/// Reads the thread ids that `clone3(2)` asks for. `EINVAL` for impossible ones or more than there are
/// pid namespaces, `EPERM` without the capability.
fn set_tids(
    t: &CurrentTask,
    at: UserAddr,
    len: usize,
    flags: CloneFlags,
) -> Result<[i32; SET_TID_MAX]> {
    let mut tids = [0; SET_TID_MAX];
    if len == 0 {
        return Ok(tids);
    }
    let space = t.namespaces().pid_for_children.clone();
    let levels = space.level() as usize + 1 + usize::from(flags.contains(CloneFlags::NEWPID));
    if len > levels {
        return Err(Errno::EINVAL);
    }
    for (i, place) in tids.iter_mut().enumerate().take(len) {
        *place = t.mm().read_obj::<i32>(at.offset(4 * i as u64))?;
        if *place < 1 || *place >= crate::kernel::tree::PID_MAX {
            return Err(Errno::EINVAL);
        }
    }
    let may = [CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN]
        .iter()
        .any(|cap| t.creds().has_in(space.user_ns(), *cap));
    if may { Ok(tids) } else { Err(Errno::EPERM) }
}

/// `execve(2)`
pub fn execve(t: &mut CurrentTask, path: PathPtr, argv: UserAddr, envp: UserAddr) -> SysResult {
    execveat(t, Fd(crate::syscalls::arg::AT_FDCWD), path, argv, envp, 0)
}

/// `execveat(2)`
pub fn execveat(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    argv: UserAddr,
    envp: UserAddr,
    flags: u32,
) -> SysResult {
    let name = path.read(t.mm())?;
    let file = open_exec(t, dirfd.0, &name, flags)?;
    let limit = || ArgumentLimit::new(t.limit(Rlimit::Stack).soft);
    let argv = read_strings(t.mm(), argv, limit())?;
    let envp = read_strings(t.mm(), envp, limit())?;
    let mut filename = name;
    let mut inaccessible = false;
    let relative = filename.first() != Some(&b'/');
    if dirfd.0 != crate::syscalls::arg::AT_FDCWD && relative {
        // The name by which the program can find itself.
        inaccessible = t.files().cloexec(dirfd.0).unwrap_or(false);
        let mut through = format!("/dev/fd/{}", dirfd.0).into_bytes();
        if !filename.is_empty() {
            through.push(b'/');
            through.append(&mut filename);
        }
        filename = through;
    }
    exec::execve(t, Program { file, filename, inaccessible, argv, envp })
}

/// `exit(2)`
pub fn exit(t: &mut CurrentTask, status: i32) -> SysResult {
    ending::begin_task_exit(t, status);
    Ok(0)
}

/// `exit_group(2)`
pub fn exit_group(t: &mut CurrentTask, status: i32) -> SysResult {
    ending::begin_group_exit(t, (status & 0xff) << 8);
    Ok(0)
}

/// The kernel's `struct rusage`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RusageAbi {
    utime: Timeval,
    stime: Timeval,
    maxrss: i64,
    unused: [i64; 3],
    minflt: i64,
    majflt: i64,
    nswap: i64,
    inblock: i64,
    oublock: i64,
    msgsnd: i64,
    msgrcv: i64,
    nsignals: i64,
    nvcsw: i64,
    nivcsw: i64,
}

impl From<Rusage> for RusageAbi {
    fn from(usage: Rusage) -> RusageAbi {
        RusageAbi {
            utime: Timeval::from_nanos(usage.user),
            stime: Timeval::from_nanos(usage.system),
            maxrss: (usage.max_rss / 1024) as i64,
            minflt: usage.faults as i64,
            nvcsw: usage.switches as i64,
            ..RusageAbi::default()
        }
    }
}

/// `wait4(2)`
pub fn wait4(
    t: &mut CurrentTask,
    pid: i32,
    status: UserAddr,
    options: u32,
    rusage: UserAddr,
) -> SysResult {
    let options = WaitOptions::from_bits(options).ok_or(Errno::EINVAL)?;
    let allowed = WaitOptions::NOHANG
        | WaitOptions::STOPPED
        | WaitOptions::CONTINUED
        | WaitOptions::NOTHREAD
        | WaitOptions::ALL
        | WaitOptions::CLONE;
    if !allowed.contains(options) {
        return Err(Errno::EINVAL);
    }
    let which = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => WaitFor::Any,
        0 => WaitFor::Group(t.group().pgid()),
        pid if pid < 0 => WaitFor::Group(t.global_id(-pid)),
        pid => WaitFor::Process(t.global_id(pid)),
    };
    let Some(result) = wait(t, which, options | WaitOptions::EXITED)? else { return Ok(0) };
    if !status.is_null() {
        t.mm().write_obj(status, &result.status)?;
    }
    if !rusage.is_null() {
        t.mm().write_obj(rusage, &RusageAbi::from(result.usage))?;
    }
    Ok(result.ns_pid as u64)
}

const P_ALL: i32 = 0;
const P_PID: i32 = 1;
const P_PGID: i32 = 2;
const P_PIDFD: i32 = 3;

/// `waitid(2)`; the raw call also reports what the child used.
pub fn waitid(
    t: &mut CurrentTask,
    idtype: i32,
    id: i32,
    infop: UserAddr,
    options: u32,
    rusage: UserAddr,
) -> SysResult {
    let result = wait_for_id(t, idtype, id, options);
    // The fields are stored in any case, zeroes after an error, too.
    if !infop.is_null() {
        write_wait_info(t, infop, result.as_ref().ok().and_then(Option::as_ref))?;
    }
    if let (Some(result), false) = (result?, rusage.is_null()) {
        t.mm().write_obj(rusage, &RusageAbi::from(result.usage))?;
    }
    Ok(0)
}

/// The child that `waitid(2)` finds; `None` when there is none yet and it does not wait.
fn wait_for_id(
    t: &mut CurrentTask,
    idtype: i32,
    id: i32,
    options: u32,
) -> Result<Option<WaitResult>> {
    let mut options = WaitOptions::from_bits(options).ok_or(Errno::EINVAL)?;
    let events = WaitOptions::EXITED | WaitOptions::STOPPED | WaitOptions::CONTINUED;
    if !options.intersects(events) {
        return Err(Errno::EINVAL);
    }
    let mut nonblocking_fd = false;
    let which = match idtype {
        P_ALL => WaitFor::Any,
        P_PID if id > 0 => WaitFor::Process(t.global_id(id)),
        P_PGID if id > 0 => WaitFor::Group(t.global_id(id)),
        P_PGID if id == 0 => WaitFor::Group(t.group().pgid()),
        P_PIDFD if id >= 0 => {
            // A thread that does not lead its process is nobody's child.
            let group = crate::kernel::pidfd::group_of(t, id).map_err(|e| match e {
                Errno::ESRCH => Errno::ECHILD,
                e => e,
            })?;
            nonblocking_fd = t.files().get(id)?.nonblocking();
            WaitFor::Process(group.tgid())
        }
        _ => return Err(Errno::EINVAL),
    };
    let nohang = options.contains(WaitOptions::NOHANG);
    if nonblocking_fd {
        options |= WaitOptions::NOHANG;
    }
    let result = wait(t, which, options)?;
    if result.is_none() && nonblocking_fd && !nohang {
        return Err(Errno::EAGAIN);
    }
    Ok(result)
}

/// Writes only the fields that `waitid(2)` sets.
fn write_wait_info(t: &CurrentTask, at: UserAddr, result: Option<&WaitResult>) -> Result<()> {
    let sigchld = result.map_or(0, |_| Signal::SIGCHLD.number());
    let shown = |r: &WaitResult| (r.code, r.ns_pid, t.creds().user_ns.show_uid(r.uid), r.value);
    let (code, pid, uid, value) = result.map_or((0, 0, 0, 0), shown);
    t.mm().write_obj(at, &[sigchld, 0, code])?;
    t.mm().write_obj(at.offset(16), &[pid, uid as i32, value])
}

/// `unshare(2)`
pub fn unshare(t: &mut CurrentTask, flags: u64) -> SysResult {
    let flags = CloneFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    namespace::change::unshare(t, flags)?;
    Ok(0)
}

/// `setns(2)`
pub fn setns(t: &mut CurrentTask, fd: Fd, flags: u32) -> SysResult {
    let flags = CloneFlags::from_bits_retain(flags.into());
    let file = t.files().get(fd.0)?;
    if let Some(pidfd) = file.ops_as::<crate::kernel::pidfd::PidFd>() {
        if flags.is_empty() || !CloneFlags::NAMESPACES.contains(flags) {
            return Err(Errno::EINVAL);
        }
        let task = pidfd.task()?;
        if !super::may_inspect(t, &task) {
            return Err(Errno::EPERM);
        }
        namespace::change::enter_task(t, &task, flags)?;
        return Ok(0);
    }
    let ns: Namespace = crate::fs::nsfs::namespace_of(&file).ok_or(Errno::EINVAL)?;
    if !flags.is_empty() && ns.kind().flag() != flags {
        return Err(Errno::EINVAL);
    }
    namespace::change::enter_all(t, &[ns])?;
    Ok(0)
}
