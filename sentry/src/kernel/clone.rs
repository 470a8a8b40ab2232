//! New tasks and processes (`clone(2)`, `clone3(2)`, `fork(2)`, `vfork(2)`).

use super::cgroup::{Cgroup, Charge};
use super::namespace::change::{self, Change};
use super::namespace::{Namespaces, PidNamespace};
use super::ptrace;
use super::signal::{SigHandlers, SigSet, Signal};
use super::task::{NewTask, Shared, place, work};
use super::tree::Tree;
use super::{CurrentTask, Kernel, Rlimit, Task, ThreadGroup, pidfd, run};
use crate::errno::{Errno, Result};
use crate::loader::vdso;
use crate::mm::{MemoryManager, UserAddr};
use platform::host::thread;
use platform::{PendingContext, Registers};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

bitflags::bitflags! {
    /// `CLONE_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        /// Share memory.
        const VM = 0x100;
        /// Share root, working directory and umask.
        const FS = 0x200;
        /// Share descriptors.
        const FILES = 0x400;
        /// Share signal handlers.
        const SIGHAND = 0x800;
        /// Give a pidfd.
        const PIDFD = 0x1000;
        /// Let a tracer go on tracing the child.
        const PTRACE = 0x2000;
        /// Wait until the child executes a program or ends.
        const VFORK = 0x4000;
        /// The caller's parent becomes the child's.
        const PARENT = 0x8000;
        /// Same process.
        const THREAD = 0x1_0000;
        /// New mount namespace.
        const NEWNS = 0x2_0000;
        /// Share System V semaphore adjustments.
        const SYSVSEM = 0x4_0000;
        /// Set the thread pointer.
        const SETTLS = 0x8_0000;
        /// Write the thread id in the parent's memory.
        const PARENT_SETTID = 0x10_0000;
        /// Clear the thread id in memory when the child ends.
        const CHILD_CLEARTID = 0x20_0000;
        /// Ignored.
        const DETACHED = 0x40_0000;
        /// No tracer may trace the child.
        const UNTRACED = 0x80_0000;
        /// Write the thread id in the child's memory.
        const CHILD_SETTID = 0x100_0000;
        /// New cgroup namespace.
        const NEWCGROUP = 0x200_0000;
        /// New UTS namespace.
        const NEWUTS = 0x400_0000;
        /// New IPC namespace.
        const NEWIPC = 0x800_0000;
        /// New user namespace.
        const NEWUSER = 0x1000_0000;
        /// New pid namespace.
        const NEWPID = 0x2000_0000;
        /// New network namespace.
        const NEWNET = 0x4000_0000;
        /// Share the I/O context.
        const IO = 0x8000_0000;
        /// Reset signal handlers (`clone3` only).
        const CLEAR_SIGHAND = 0x1_0000_0000;
        /// Start in a cgroup (`clone3` only).
        const INTO_CGROUP = 0x2_0000_0000;
        /// New time namespace (`clone3` only, in the bits of the exit signal elsewhere).
        const NEWTIME = 0x80;

        /// All namespaces.
        const NAMESPACES = Self::NEWNS.bits() | Self::NEWCGROUP.bits() | Self::NEWUTS.bits()
            | Self::NEWIPC.bits() | Self::NEWUSER.bits() | Self::NEWPID.bits()
            | Self::NEWNET.bits() | Self::NEWTIME.bits();
    }
}

/// Most thread ids that can be asked for: one for each pid namespace (`MAX_PID_NS_LEVEL`).
pub const SET_TID_MAX: usize = 32;

/// Arguments of the clone family, as `clone3(2)` has them.
#[derive(Debug, Clone, Copy)]
pub struct CloneArgs {
    /// What is shared.
    pub flags: CloneFlags,
    /// Where the pidfd goes.
    pub pidfd: UserAddr,
    /// Thread id in the child's memory.
    pub child_tid: UserAddr,
    /// Thread id in the parent's memory.
    pub parent_tid: UserAddr,
    /// Signal to the parent at the child's end; 0 for none.
    pub exit_signal: i32,
    /// Stack pointer of the child; 0: the caller's.
    pub stack: u64,
    /// Thread pointer, with `SETTLS`.
    pub tls: u64,
    /// Thread ids asked for, from the innermost pid namespace outwards.
    pub set_tid: [i32; SET_TID_MAX],
    /// How many of them.
    pub set_tid_len: usize,
    /// Descriptor of a control group's directory, with `INTO_CGROUP`.
    pub cgroup: i32,
}

/// A parent that waits for its child to execute a program or to end.
pub struct Vfork {
    done: AtomicBool,
    parent: Arc<Task>,
}

impl Vfork {
    /// Lets the parent go on.
    pub(super) fn complete(&self) {
        self.done.store(true, Ordering::SeqCst);
        self.parent.parker.unpark();
    }
}

fn check(t: &CurrentTask, args: &CloneArgs) -> Result<()> {
    use CloneFlags as F;
    let f = args.flags;
    let both = |a: F, b: F| f.intersects(a) && f.intersects(b);
    if both(F::NEWNS, F::FS)
        || both(F::NEWUSER, F::FS)
        || (f.contains(F::THREAD) && !f.contains(F::SIGHAND))
        || (f.contains(F::SIGHAND) && !f.contains(F::VM))
        || (f.contains(F::PARENT) && t.ns_tgid() == 1)
        || both(F::THREAD, F::NEWUSER | F::NEWPID)
        || (f.contains(F::THREAD) && !in_own_pid_ns(t))
        || both(F::PIDFD, F::DETACHED)
        || both(F::SIGHAND, F::CLEAR_SIGHAND)
    {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// False between `unshare(CLONE_NEWPID)` or `setns(2)` and a child: children are in another namespace.
fn in_own_pid_ns(t: &CurrentTask) -> bool {
    Arc::ptr_eq(&t.namespaces().pid_for_children, t.group().pid_ns())
}

fn check_limits(t: &CurrentTask) -> Result<()> {
    let kernel = t.kernel();
    let max = kernel.limits.tasks();
    if kernel.task_count() >= max {
        return Err(Errno::EAGAIN);
    }
    let limit = t.limit(Rlimit::Nproc).soft;
    let creds = t.creds();
    let exempt = (creds.uid == 0 && creds.user_ns.is_root())
        || creds.has(crate::kernel::credentials::CAP_SYS_RESOURCE)
        || creds.has(crate::kernel::credentials::CAP_SYS_ADMIN);
    if exempt || limit >= max as u64 {
        return Ok(());
    }
    let tree = kernel.tree();
    let own = tree.pids.tasks.values().filter(|o| o.creds().uid == creds.uid).count();
    if own as u64 >= limit { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// Makes a task. Returns its thread id in the caller's pid namespace. `EAGAIN` at a limit, `ENOMEM`, `EINVAL` for flags that do not
/// go together.
pub fn clone(t: &mut CurrentTask, args: &CloneArgs) -> Result<i32> {
    check(t, args)?;
    check_limits(t)?;
    // A signal that is sent to a process group while a member forks must not miss the child.
    if t.interrupted() {
        return Err(Errno::ERESTARTNOINTR);
    }
    if t.namespaces().pid_for_children.is_dead() {
        // Said before memory is copied for nothing.
        return Err(Errno::ENOMEM);
    }
    let f = args.flags;
    let cgroup = into_cgroup(t, args)?;
    let mut change = change::create(t, f)?;
    let fs = change.fs.take();
    let (mm, pending) = if f.contains(CloneFlags::VM) {
        let pending = t.context.new_thread().map_err(|e| host_error("start a thread", &e))?;
        (t.mm().clone(), pending)
    } else {
        let mm = t.mm().clone();
        mm.fork(&mut *t.context)?
    };
    let files = if f.contains(CloneFlags::FILES) { t.files().clone() } else { t.files().fork()? };
    let fs = match fs {
        Some(fs) => fs,
        None if f.contains(CloneFlags::FS) => t.fs().clone(),
        None => t.fs().fork(),
    };
    let shared = Shared { mm, files, fs };
    let vfork = f
        .contains(CloneFlags::VFORK)
        .then(|| Arc::new(Vfork { done: AtomicBool::new(false), parent: t.task().clone() }));
    if !f.contains(CloneFlags::VM) {
        enter_time(t, &shared.mm, change.namespaces.as_ref())?;
    }
    let child = insert(t, args, shared.clone(), change, &cgroup)?;
    if f.contains(CloneFlags::INTO_CGROUP) {
        cgroup.watch_limits(t.kernel());
    }
    if let Err(e) = announce_ids(t, args, &child) {
        forget(&child);
        return Err(e);
    }
    let event = trace_event(args);
    let traced = ptrace::wants(t, event, f);
    if traced {
        ptrace::attach::inherit(t, &child);
    }
    let mut start = Start {
        task: child.clone(),
        shared,
        pending,
        regs: child_registers(&t.regs, args),
        set_tid: f.contains(CloneFlags::CHILD_SETTID).then_some(args.child_tid),
        alt_stack: t.alt_stack,
        no_tsc: t.no_tsc,
        vfork: vfork.clone(),
    };
    if f.contains(CloneFlags::VM) && !f.contains(CloneFlags::VFORK) {
        start.alt_stack = Default::default();
    }
    if let Err(e) = start.spawn() {
        forget(&child);
        return Err(e);
    }
    let tid = t.local_id(child.tid());
    let message = child.tid();
    drop(child);
    ptrace::clone_stop(t, event, message);
    if let Some(vfork) = vfork {
        t.wait_killable(|| vfork.done.load(Ordering::SeqCst));
        ptrace::vfork_done_stop(t, message);
    }
    Ok(tid)
}

/// The event that a tracer of the caller may want to be told of.
fn trace_event(args: &CloneArgs) -> u32 {
    if args.flags.contains(CloneFlags::VFORK) {
        ptrace::event::VFORK
    } else if args.exit_signal != Signal::SIGCHLD.number() {
        ptrace::event::CLONE
    } else {
        ptrace::event::FORK
    }
}

fn host_error(what: &str, e: &platform::PlatformError) -> Errno {
    tracing::debug!("{what}: {e}");
    Errno::EAGAIN
}

fn child_registers(parent: &Registers, args: &CloneArgs) -> Registers {
    let mut regs = *parent;
    regs.rax = 0;
    regs.orig_rax = u64::MAX;
    regs.single_step = false;
    if args.stack != 0 {
        regs.rsp = args.stack;
    }
    if args.flags.contains(CloneFlags::SETTLS) {
        regs.fs_base = args.tls;
    }
    regs
}

/// The control group of the new task: the caller's, or the one asked for.
fn into_cgroup(t: &CurrentTask, args: &CloneArgs) -> Result<Arc<Cgroup>> {
    if !args.flags.contains(CloneFlags::INTO_CGROUP) {
        return Ok(t.group().cgroup());
    }
    if args.flags.contains(CloneFlags::THREAD) {
        return Err(Errno::EOPNOTSUPP);
    }
    let file = t.files().get_raw(args.cgroup)?;
    let inode = file.path().ok_or(Errno::EBADF)?.dentry.inode().clone();
    let target = crate::fs::cgroup::group_of(&*inode).ok_or(Errno::EBADF)?;
    crate::fs::cgroup::may_move(t.task(), &t.group().cgroup(), &target)?;
    if !target.enabled().is_empty() {
        return Err(Errno::EBUSY);
    }
    Ok(target)
}

/// Allocates the ids and puts the task where others find it.
fn insert(
    t: &CurrentTask,
    args: &CloneArgs,
    shared: Shared,
    change: Change,
    cgroup: &Arc<Cgroup>,
) -> Result<Arc<Task>> {
    let kernel = t.kernel();
    let namespaces = for_child(t, args.flags, change.namespaces);
    let creds = change.creds.map_or_else(|| t.creds().clone(), Arc::new);
    let mut tree = kernel.tree();
    let tid = allocate_id(&mut tree, &namespaces.pid_for_children, args)?;
    let new = NewTask {
        tid,
        ns_tid: namespaces.pid_for_children.local(tid),
        namespaces,
        shared,
        creds,
        comm: t.comm_bytes(),
        blocked: t.blocked(),
        sched: t.sched.lock().forked(),
        personality: t.personality.load(Ordering::Relaxed),
        mempolicy: t.mempolicy.load(Ordering::Relaxed),
        timer_slack: t.timer_slack.load(Ordering::Relaxed),
    };
    let child = insert_with_id(t, args, &mut tree, new, cgroup);
    if child.is_err() {
        tree.release(tid);
    }
    child
}

/// The vDSO of a child with memory of its own shows the clocks of the child's time namespace.
fn enter_time(t: &CurrentTask, mm: &MemoryManager, new: Option<&Arc<Namespaces>>) -> Result<()> {
    let own = t.namespaces();
    let children = &new.unwrap_or(&own).time_for_children;
    if Arc::ptr_eq(&own.time, children) {
        return Ok(());
    }
    let (old, new) = (own.time.enter(t.kernel())?, children.enter(t.kernel())?);
    vdso::replace_shifts(mm, &old, &new)
}

/// Namespaces of a child. The clocks of a time namespace begin with its first process.
fn for_child(t: &CurrentTask, flags: CloneFlags, new: Option<Arc<Namespaces>>) -> Arc<Namespaces> {
    let namespaces = new.unwrap_or_else(|| t.namespaces());
    let own_clock = Arc::ptr_eq(&namespaces.time, &namespaces.time_for_children);
    if own_clock || flags.contains(CloneFlags::VM) {
        return namespaces;
    }
    let time = namespaces.time_for_children.clone();
    Arc::new(Namespaces { time, ..(*namespaces).clone() })
}

/// A free id with its numbers in the pid namespace, or the ones that were asked for.
fn allocate_id(tree: &mut Tree, space: &Arc<PidNamespace>, args: &CloneArgs) -> Result<i32> {
    let wanted = args.set_tid.get(..args.set_tid_len).unwrap_or_default();
    let inner = space.level() as usize;
    let id = match wanted.get(inner) {
        None => tree.allocate_pid(),
        Some(&id) if tree.is_used(id) => return Err(Errno::EEXIST),
        Some(&id) => id,
    };
    tree.number(id, space, wanted.get(..inner.min(wanted.len())).unwrap_or_default())?;
    Ok(id)
}

/// The rest of [`insert`], once there is an id.
fn insert_with_id(
    t: &CurrentTask,
    args: &CloneArgs,
    tree: &mut Tree,
    new: NewTask,
    cgroup: &Arc<Cgroup>,
) -> Result<Arc<Task>> {
    let kernel = t.kernel();
    let (f, tid) = (args.flags, new.tid);
    // With the tree locked no one moves the caller: this is its group, not where it was before.
    let cgroup = match f.contains(CloneFlags::INTO_CGROUP) {
        true => cgroup.clone(),
        false => t.group().cgroup(),
    };
    let charge = Charge::new(&cgroup)?;
    let group = match f.contains(CloneFlags::THREAD) {
        true => t.group().clone(),
        false => new_group(t, args, tid, new.namespaces.pid_for_children.clone(), cgroup),
    };
    let child = Task::new(kernel.clone(), group.clone(), new);
    *child.pid_charge.lock() = Some(charge);
    kernel.pause_new(&child);
    if f.contains(CloneFlags::CHILD_CLEARTID) {
        child.clear_child_tid.store(args.child_tid.0, Ordering::Relaxed);
    }
    {
        let mut signals = group.signals();
        if signals.exiting() || (f.contains(CloneFlags::THREAD) && signals.exec.is_some()) {
            return Err(Errno::ERESTARTNOINTR);
        }
        if f.contains(CloneFlags::THREAD) && signals.stop.signal != 0 {
            return Err(Errno::ERESTARTNOINTR);
        }
        child.inherit_seccomp(t.task());
        signals.tasks.push(child.clone());
    }
    if !f.contains(CloneFlags::THREAD) {
        if let Err(e) = group.enter_cgroup() {
            group.signals().tasks.clear();
            return Err(e);
        }
        let parent = if f.contains(CloneFlags::PARENT) { t.group().ppid() } else { t.tgid() };
        tree.insert_process(&group, parent, t.group().pgid(), t.group().sid());
        kernel.forks.fetch_add(1, Ordering::Relaxed);
    }
    tree.pids.tasks.insert(tid, child.clone());
    kernel.last_pid.store(tid, Ordering::Relaxed);
    kernel.task_count.fetch_add(1, Ordering::Relaxed);
    Ok(child)
}

fn new_group(
    t: &CurrentTask,
    args: &CloneArgs,
    tgid: i32,
    space: Arc<PidNamespace>,
    cgroup: Arc<Cgroup>,
) -> Arc<ThreadGroup> {
    let parent = t.group();
    let handlers = {
        let signals = parent.signals();
        if args.flags.contains(CloneFlags::SIGHAND) {
            signals.handlers.clone()
        } else if args.flags.contains(CloneFlags::CLEAR_SIGHAND) {
            Arc::new(signals.handlers.cleared())
        } else {
            Arc::new(signals.handlers.copy())
        }
    };
    let exit_signal = if args.flags.contains(CloneFlags::PARENT) {
        parent.exit_signal.load(Ordering::Relaxed)
    } else {
        args.exit_signal
    };
    let now = t.kernel().time.boottime();
    let group = ThreadGroup::new(tgid, space, handlers, parent.limits(), exit_signal, now, cgroup);
    if group.is_namespace_init() {
        group.signals().unkillable = true;
    }
    group.inherit(parent, t.tid());
    group
}

/// Tells the parent, through memory and a pidfd.
fn announce_ids(t: &mut CurrentTask, args: &CloneArgs, child: &Arc<Task>) -> Result<()> {
    if args.flags.contains(CloneFlags::PIDFD) {
        let fd = pidfd::install(t, child)?;
        if let Err(e) = t.mm().write_obj(args.pidfd, &fd) {
            let _ = t.files().close(fd);
            return Err(e);
        }
    }
    if args.flags.contains(CloneFlags::PARENT_SETTID) {
        // As in Linux, a bad address is not an error here.
        let _ = t.mm().write_obj(args.parent_tid, &t.local_id(child.tid()));
    }
    Ok(())
}

/// Takes back [`insert`] for a task that never ran.
fn forget(child: &Arc<Task>) {
    let kernel = child.kernel();
    let group = child.group();
    {
        let mut tree = kernel.tree();
        tree.remove_task(child.tid());
        let alone = {
            let mut signals = group.signals();
            signals.tasks.retain(|other| !Arc::ptr_eq(other, child));
            signals.tasks.is_empty()
        };
        *child.pid_charge.lock() = None;
        if alone {
            group.leave_cgroup();
            tree.remove_process(group.tgid());
        }
    }
    child.set_shared(None);
    kernel.task_count.fetch_sub(1, Ordering::Relaxed);
}

/// Everything a new host thread needs to run a task.
pub(super) struct Start {
    pub task: Arc<Task>,
    pub shared: Shared,
    pub pending: Box<dyn PendingContext>,
    pub regs: Registers,
    pub set_tid: Option<UserAddr>,
    pub alt_stack: super::signal::AltStack,
    pub no_tsc: bool,
    pub vfork: Option<Arc<Vfork>>,
}

impl Start {
    /// Starts the host thread. `EAGAIN` if the host refuses.
    pub(super) fn spawn(self) -> Result<()> {
        platform::workers::spawn(move || self.run()).map_err(|e| {
            tracing::warn!("start a host thread for a task: {e}");
            Errno::EAGAIN
        })
    }

    fn run(self) {
        let task = self.task;
        task.host_tid.store(thread::current_tid(), Ordering::Relaxed);
        let attached = self.pending.attach().and_then(|mut context| {
            if self.no_tsc {
                context.set_tsc(false)?;
            }
            Ok(context)
        });
        let context = match attached {
            Ok(context) => context,
            Err(e) => {
                tracing::warn!(tid = task.tid(), "attach to a new guest thread: {e}; it is killed");
                if let Some(vfork) = self.vfork {
                    vfork.complete();
                }
                drop(self.shared);
                super::exit::abort(&task);
                return;
            }
        };
        task.runs_in(&self.shared.mm, &*context);
        super::inspect::set_current(Some(task.clone()));
        let mut t = CurrentTask::new(task, self.shared, self.regs, context);
        t.alt_stack = self.alt_stack;
        t.no_tsc = self.no_tsc;
        t.vfork = self.vfork;
        if let Some(addr) = self.set_tid {
            // As in Linux, a bad address is not an error.
            let _ = t.mm().write_obj(addr, &t.ns_tid());
        }
        run::run(t);
    }
}

/// What a process inherits from its parent beyond what flags decide.
impl ThreadGroup {
    fn inherit(&self, parent: &ThreadGroup, creator: i32) {
        let copy = |to: &std::sync::atomic::AtomicU32, from: &std::sync::atomic::AtomicU32| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        copy(&self.dumpable, &parent.dumpable);
        copy(&self.coredump_filter, &parent.coredump_filter);
        let flag = |to: &AtomicBool, from: bool| to.store(from, Ordering::Relaxed);
        flag(&self.thp_disable, parent.thp_disable.load(Ordering::Relaxed));
        flag(
            &self.has_subreaper,
            parent.has_subreaper.load(Ordering::Relaxed)
                || parent.child_subreaper.load(Ordering::Relaxed),
        );
        let adj = parent.oom_score_adj.load(Ordering::Relaxed);
        self.oom_score_adj.store(adj, Ordering::Relaxed);
        self.creator.store(creator, Ordering::Relaxed);
    }
}

/// Id of the first process, which nothing else gets.
const FIRST_PID: i32 = 1;

/// What the first task of a process from outside is made from.
pub(super) struct FirstTask {
    pub namespaces: Arc<Namespaces>,
    pub shared: Shared,
    pub creds: Arc<super::Credentials>,
    pub limits: super::Limits,
    pub sched: super::sched::Sched,
    pub cgroup: Arc<Cgroup>,
    /// It gets the number 1 of its pid namespace; others leave that to it.
    pub init: bool,
}

/// The first task of the first process, or of one that is started from outside.
pub(super) fn first_task(kernel: &Arc<Kernel>, first: FirstTask, comm: &[u8]) -> Result<Arc<Task>> {
    let FirstTask { namespaces, shared, creds, limits, sched, cgroup, init } = first;
    let space = namespaces.pid_for_children.clone();
    let mut tree = kernel.tree();
    space.reserve_first();
    let tid = if init && space.is_root() { FIRST_PID } else { tree.allocate_pid() };
    tree.number(tid, &space, if init { &[FIRST_PID] } else { &[] })?;
    let ns_tid = space.local(tid);
    let now = kernel.time.boottime();
    let handlers = Arc::new(SigHandlers::default());
    let exit_signal = Signal::SIGCHLD.number();
    let group = ThreadGroup::new(tid, space, handlers, limits, exit_signal, now, cgroup.clone());
    let new = NewTask {
        tid,
        ns_tid,
        namespaces,
        shared,
        creds,
        comm: super::task::comm_from(comm),
        blocked: SigSet::EMPTY,
        sched,
        personality: 0,
        mempolicy: 0,
        timer_slack: 50_000,
    };
    let task = Task::new(kernel.clone(), group.clone(), new);
    // The limits of a container's group do not keep anyone out from outside.
    *task.pid_charge.lock() = Some(Charge::moved(&cgroup));
    group.enter_cgroup()?;
    kernel.pause_new(&task);
    {
        let mut signals = group.signals();
        signals.tasks.push(task.clone());
        signals.unkillable = ns_tid == 1 && kernel.config.init_immune;
    }
    if tid != 1 {
        kernel.outsiders.register(tid);
    }
    // Whoever comes from outside has no parent in here and leads a session and group of its own.
    tree.insert_process(&group, 0, tid, tid);
    tree.pids.tasks.insert(tid, task.clone());
    kernel.last_pid.store(tid, Ordering::Relaxed);
    kernel.forks.fetch_add(1, Ordering::Relaxed);
    kernel.task_count.fetch_add(1, Ordering::Relaxed);
    debug_assert_eq!(task.place.load(Ordering::Relaxed), place::KERNEL);
    debug_assert_eq!(task.work() & work::KILL, 0);
    drop(tree);
    cgroup.watch_limits(kernel);
    Ok(task)
}
