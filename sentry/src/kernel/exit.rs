//! The end of tasks and processes (`exit(2)`, `exit_group(2)`).

use super::accounting::Rusage;
use super::signal::actions::{SA_NOCLDWAIT, SIG_IGN};
use super::signal::info::{CLD_DUMPED, CLD_EXITED, CLD_KILLED, CLD_STOPPED};
use super::signal::send::{self, begin_exit};
use super::signal::{SigFields, SigInfo, Signal, stop};
use super::task::{place, work};
use super::tree::Tree;
use super::{CurrentTask, Kernel, Task, ThreadGroup};
use crate::wait::EventMask;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a process ended: what its zombie keeps for the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Wait status (`wait(2)`).
    pub status: i32,
    /// Real user id at the end.
    pub uid: u32,
    /// What the process and its reaped children have used.
    pub usage: Rusage,
}

impl Exit {
    /// `si_code` and `si_status` of the `SIGCHLD` for it.
    pub fn code(&self) -> (i32, i32) {
        match self.status & 0x7f {
            0 => (CLD_EXITED, self.status >> 8 & 0xff),
            signal if self.status & 0x80 != 0 => (CLD_DUMPED, signal),
            signal => (CLD_KILLED, signal),
        }
    }
}

/// A signal to be sent once the tree is unlocked.
type Outbox = Vec<(Arc<ThreadGroup>, SigInfo)>;

/// Ends the calling task (`exit(2)`): takes effect before it returns to guest code.
pub fn begin_task_exit(t: &mut CurrentTask, code: i32) {
    t.exit_status = (code & 0xff) << 8;
    t.task().work.fetch_or(work::KILL, Ordering::SeqCst);
}

/// Ends the calling task's process (`exit_group(2)`).
pub fn begin_group_exit(t: &CurrentTask, status: i32) {
    begin_exit(&mut t.group().signals(), status);
}

/// Ends a process as if `signal` had killed it, whatever it does about that signal.
pub fn kill(group: &ThreadGroup, signal: Signal) {
    begin_exit(&mut group.signals(), send::killed_status(signal, false));
}

/// Ends the task that the calling host thread runs. All that is left to do is to return.
pub(super) fn exit(mut t: CurrentTask) {
    super::coredump::take_part(&mut t);
    let status = {
        let mut signals = t.group().signals();
        let status = signals.group_exit.unwrap_or(t.exit_status);
        if signals.tasks.len() == 1 {
            // The process is past being killed.
            signals.group_exit = Some(status);
            if t.group().is_namespace_init() {
                // Whoever forks as fast as it can must not go on while its memory is given back.
                t.group().pid_ns().die();
            }
        }
        status
    };
    super::ptrace::exit_stop(&mut t, status);
    super::futex::robust::exit(&mut t);
    super::futex::pi::exit(&mut t);
    clear_child_tid(&t);
    note_resident(&t);
    let status = t.exit_status;
    let (task, shared, context, vfork) = t.into_parts();
    let group = task.group().clone();
    let kernel = task.kernel().clone();
    drop(task.set_shared(None));
    *task.interrupter.lock() = None;
    task.set_answers(None);
    // Guest code of this thread is gone before anyone learns of its end.
    drop(context);
    shared.mm.end();
    drop((shared.files, shared.fs));
    kernel.aio.prune();
    if kernel.async_signals.any() {
        crate::vfs::async_io::send_deferred(&kernel);
    }
    if let Some(vfork) = vfork {
        vfork.complete();
    }
    task.host_thread_ends();
    task.place.store(place::DEAD, Ordering::SeqCst);
    leave(&kernel, &group, &task, status);
    kernel.task_count.fetch_sub(1, Ordering::Relaxed);
    if kernel.async_signals.any() {
        crate::vfs::async_io::send_deferred(&kernel);
    }
    super::inspect::set_current(None);
}

/// The last task of a process measures the memory that it leaves, for `ru_maxrss`.
fn note_resident(t: &CurrentTask) {
    if t.group().signals().tasks.len() == 1 {
        t.group().note_resident(t.mm().usage(0, u64::MAX).total(), 0);
    }
}

/// Clears the word that `pthread_join(3)` waits for (`set_tid_address(2)`).
fn clear_child_tid(t: &CurrentTask) {
    let addr = t.clear_child_tid.load(Ordering::Relaxed);
    // Two references to the memory are the task's own: without more there is no one to tell.
    if addr == 0 || Arc::strong_count(t.mm()) <= 2 {
        return;
    }
    let addr = crate::mm::UserAddr(addr);
    // As in Linux, a bad address is nobody's concern any more.
    if t.mm().write_obj(addr, &0_u32).is_ok() {
        let _ = t.kernel().futexes.wake(t.mm(), addr, false, 1, u32::MAX);
    }
}

/// Takes the task out of its process; the last one ends the process.
fn leave(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, task: &Arc<Task>, status: i32) {
    let (last, status, stopped) = {
        let mut signals = group.signals();
        signals.tasks.retain(|other| !Arc::ptr_eq(other, task));
        let ready = signals.shared.set();
        for other in &signals.tasks {
            // What this task would have handled, another one does.
            if !ready.without(other.blocked()).is_empty() {
                other.add_work(work::SIGNAL);
            }
        }
        let stopped = stop::task_gone(&mut signals);
        let last = signals.tasks.is_empty();
        // As in Linux since 5.19, without exit_group(2) the last task's code counts.
        let status = signals.group_exit.unwrap_or(status);
        if let Some(dump) = &signals.dump {
            dump.thread_gone();
        }
        if signals.exec.is_some() {
            for other in &signals.tasks {
                other.parker.unpark();
            }
        }
        (last, status, stopped)
    };
    group.absorb(task);
    task.exit_code.store(status, Ordering::Relaxed);
    *task.pid_charge.lock() = None;
    super::ptrace::attach::tracer_ends(task);
    thread_ended(kernel, task, status);
    {
        let mut tree = kernel.tree();
        let tid = task.tid();
        if tree.pids.tasks.get(&tid).is_some_and(|other| Arc::ptr_eq(other, task)) {
            tree.remove_task(tid);
        }
    }
    parent_death(kernel, group, task, last);
    if let Some(signal) = stopped {
        stop::notify_parent(kernel, group, CLD_STOPPED, signal);
    }
    if last {
        end_process(kernel, group, task, status);
    } else {
        group.exit_queue.notify(EventMask::READABLE);
    }
}

/// The tracer of a thread that is not the first of its process is told of its end. That of the first one is
/// told when the process ends.
fn thread_ended(kernel: &Kernel, task: &Task, status: i32) {
    if task.is_leader() {
        return;
    }
    let tracer = {
        let mut tree = kernel.tree();
        let Some(tracee) = tree.tracees.get_mut(&task.tid()) else { return };
        let uid = task.creds().uid;
        tracee.exit = Some(Exit { status, uid, usage: Rusage::default() });
        tracee.task.trace.lock().tracer()
    };
    tell_tracer(kernel, tracer, task.tid(), status, task.creds().uid);
}

/// Tells a tracer of the end of a task.
fn tell_tracer(kernel: &Kernel, tracer: Option<Arc<Task>>, id: i32, status: i32, uid: u32) {
    let Some(tracer) = tracer else { return };
    let exit = Exit { status, uid, usage: Rusage::default() };
    let (code, value) = exit.code();
    let fields = SigFields::Child { pid: id, uid, status: value, utime: 0, stime: 0 };
    let info = SigInfo { signal: Signal::SIGCHLD, errno: 0, code, fields };
    tracer.group().send_signal(kernel, &info);
    tracer.group().child_queue.notify(EventMask::IN);
}

/// Tells the parent of a process that has ended, once its tracer has seen it.
pub(super) fn announce_to_parent(kernel: &Arc<Kernel>, id: i32) {
    let mut outbox = Outbox::new();
    let mut notify = Vec::new();
    {
        let mut tree = kernel.tree();
        let Some(parent) = tree.nodes.get(&id).map(|n| n.parent) else { return };
        announce(&mut tree, id, parent, &mut outbox, &mut notify);
    }
    for (to, info) in outbox {
        to.send_signal(kernel, &info);
    }
    for parent in notify {
        parent.child_queue.notify(EventMask::IN);
    }
}

/// `PR_SET_PDEATHSIG`: the children of a task that ends get their signal.
fn parent_death(kernel: &Kernel, group: &Arc<ThreadGroup>, task: &Task, last: bool) {
    let children: Vec<Arc<ThreadGroup>> = {
        let tree = kernel.tree();
        let Some(node) = tree.nodes.get(&group.tgid()) else { return };
        node.children.iter().filter_map(|c| tree.process(*c).cloned()).collect()
    };
    for child in children {
        let by = child.creator.load(Ordering::Relaxed);
        if !last && by != task.tid() {
            continue;
        }
        for t in child.tasks() {
            if let Some(signal) = Signal::new(t.pdeath_signal.load(Ordering::Relaxed)) {
                let info = SigInfo::user(signal, group.tgid(), task.creds().uid);
                child.send_signal(kernel, &info);
            }
        }
    }
}

fn end_process(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, task: &Task, status: i32) {
    crate::time::process_timers::delete_all(kernel, group);
    super::ipc::sem::exit(group);
    let id = group.tgid();
    if group.is_namespace_init() {
        end_of_namespace(kernel, group);
    }
    let mut usage = group.rusage();
    usage.add(&group.children_rusage());
    let exit = Exit { status, uid: task.creds().uid, usage };
    group.exit_code.store(status, Ordering::Relaxed);
    let mut outbox = Outbox::new();
    let mut notify = Vec::new();
    let foreign;
    {
        let mut tree = kernel.tree();
        group.leave_cgroup();
        abandon_children(&mut tree, id, &mut outbox, &mut notify);
        leave_session(&mut tree, group, &mut outbox);
        orphan_pgroup(&mut tree, id, &mut outbox);
        if let Some(node) = tree.nodes.get_mut(&id) {
            node.exit = Some(exit);
        }
        let parent = tree.nodes.get(&id).map_or(0, |n| n.parent);
        if parent == 0 && id != 1 {
            tree.remove_process(id);
            kernel.outsiders.finish(id, status);
            foreign = None;
        } else {
            foreign = foreign_tracer(&mut tree, id, parent, exit);
            if foreign.is_none() {
                announce(&mut tree, id, parent, &mut outbox, &mut notify);
            }
        }
    }
    if foreign.is_some() {
        tell_tracer(kernel, foreign, id, status, task.creds().uid);
    }
    for (to, info) in outbox {
        to.send_signal(kernel, &info);
    }
    for parent in notify {
        parent.child_queue.notify(EventMask::IN);
    }
    group.dead.store(true, Ordering::SeqCst);
    group.exit_queue.notify(EventMask::READABLE);
    group.pid_ns().process_ended();
    if id == 1 {
        end_of_first_process(kernel, status);
    }
}

/// Every process of a pid namespace dies with its first one, and before it: waits for them, and reaps those
/// that are its own (`zap_pid_ns_processes`).
fn end_of_namespace(kernel: &Arc<Kernel>, init: &Arc<ThreadGroup>) {
    let space = init.pid_ns();
    space.die();
    // Numbers are given out with the tree locked: whoever is not in it now will never be.
    let mut living: Vec<Arc<ThreadGroup>> = {
        let tree = kernel.tree();
        let others = space.all().into_iter().filter(|id| *id != init.tgid());
        let alive = |id| tree.nodes.get(&id).filter(|node| node.exit.is_none());
        others.filter_map(|id| alive(id).map(|node| node.group.clone())).collect()
    };
    for group in &living {
        begin_exit(&mut group.signals(), send::killed_status(Signal::SIGKILL, false));
    }
    loop {
        let seen = space.ended();
        while living.last().is_some_and(|group| group.is_dead()) {
            living.pop();
        }
        if living.is_empty() {
            break;
        }
        space.wait_ended(seen);
    }
    let mut tree = kernel.tree();
    let children = tree.nodes.get(&init.tgid()).map(|node| node.children.clone());
    for id in children.unwrap_or_default() {
        if space.local(id) != 0 && tree.nodes.get(&id).is_some_and(|node| node.exit.is_some()) {
            tree.remove_process(id);
        }
    }
}

/// The sandbox ends with its first process; everything else is killed.
fn end_of_first_process(kernel: &Arc<Kernel>, status: i32) {
    for group in kernel.thread_groups() {
        begin_exit(&mut group.signals(), send::killed_status(Signal::SIGKILL, false));
    }
    kernel.finish(status);
}

/// The tracer of a process, unless that is its parent, too: it is told first. Of a parent that traces its
/// child there is nothing more to be said.
fn foreign_tracer(tree: &mut Tree, id: i32, parent: i32, exit: Exit) -> Option<Arc<Task>> {
    let tracee = tree.tracees.get_mut(&id)?;
    if tracee.tracer == parent {
        tree.tracees.remove(&id);
        return None;
    }
    tracee.exit = Some(exit);
    tracee.task.trace.lock().tracer()
}

/// Gives the children to the nearest subreaper, or to the first process.
fn abandon_children(
    tree: &mut Tree,
    id: i32,
    outbox: &mut Outbox,
    notify: &mut Vec<Arc<ThreadGroup>>,
) {
    let Some(node) = tree.nodes.get(&id) else { return };
    let children = node.children.clone();
    if children.is_empty() {
        return;
    }
    let space = node.group.pid_ns().clone();
    let first = space.global(1);
    // A process from outside has no parent; its children still go to the first process.
    let mut reaper = if node.parent == 0 && id != first { first } else { node.parent };
    while let Some(node) = tree.nodes.get(&reaper) {
        if !Arc::ptr_eq(node.group.pid_ns(), &space) {
            reaper = first;
            break;
        }
        if reaper == first
            || (node.exit.is_none()
                && node.group.child_subreaper.load(Ordering::Relaxed)
                && !node.group.signals().exiting())
        {
            break;
        }
        reaper = node.parent;
    }
    if !tree.nodes.contains_key(&reaper) {
        // The first process has not been started: those that a hook leaves belong to nobody.
        reaper = 0;
    }
    let own = tree.nodes.get(&id).map_or((0, 0), |n| (n.pgid, n.sid));
    for child in children {
        let before = tree.nodes.get(&child).map_or((0, 0), |n| (n.pgid, n.sid));
        tree.reparent(child, reaper);
        if let Some(node) = tree.nodes.get(&child) {
            node.group.exit_signal.store(Signal::SIGCHLD.number(), Ordering::Relaxed);
        }
        // Their process group may have had its last parent outside of it in us.
        if before.1 == own.1 && before.0 != own.0 {
            hang_up_if_orphaned(tree, before.0, None, outbox);
        }
        if tree.nodes.get(&child).is_some_and(|n| n.exit.is_some()) {
            announce(tree, child, reaper, outbox, notify);
        }
    }
}

/// A process group that becomes orphaned while it has stopped members gets `SIGHUP` and `SIGCONT`.
fn hang_up_if_orphaned(tree: &Tree, pgid: i32, without: Option<i32>, outbox: &mut Outbox) {
    if !tree.is_orphaned(pgid, without) {
        return;
    }
    let members = tree.members(pgid);
    let stopped = members.iter().any(|g| Some(g.tgid()) != without && g.signals().stop.stopped);
    if stopped {
        for member in members {
            outbox.push((member.clone(), SigInfo::kernel(Signal::SIGHUP)));
            outbox.push((member, SigInfo::kernel(Signal::SIGCONT)));
        }
    }
}

/// The process's own group may have had its last parent outside of it in our parent.
fn orphan_pgroup(tree: &mut Tree, id: i32, outbox: &mut Outbox) {
    let Some(node) = tree.nodes.get(&id) else { return };
    let Some(parent) = tree.nodes.get(&node.parent) else { return };
    if parent.pgid != node.pgid && parent.sid == node.sid {
        hang_up_if_orphaned(tree, node.pgid, Some(id), outbox);
    }
}

/// A session leader takes the controlling terminal with it.
fn leave_session(tree: &mut Tree, group: &Arc<ThreadGroup>, outbox: &mut Outbox) {
    if !group.is_session_leader() {
        return;
    }
    let Some(session) = tree.sessions.get_mut(&group.sid()) else { return };
    let Some(tty) = session.tty.take() else { return };
    let foreground = tty.foreground();
    tty.session_ended(group.sid());
    if foreground > 0 {
        for member in tree.members(foreground) {
            outbox.push((member.clone(), SigInfo::kernel(Signal::SIGHUP)));
            outbox.push((member, SigInfo::kernel(Signal::SIGCONT)));
        }
    }
}

/// Tells the parent of a zombie, or reaps it at once if the parent does not want to know.
fn announce(
    tree: &mut Tree,
    id: i32,
    parent: i32,
    outbox: &mut Outbox,
    notify: &mut Vec<Arc<ThreadGroup>>,
) {
    let Some(node) = tree.nodes.get(&id) else { return };
    let (Some(exit), Some(parent)) = (node.exit, tree.process(parent)) else { return };
    let signal = Signal::new(node.group.exit_signal.load(Ordering::Relaxed));
    let action = parent.signals().handlers.get(Signal::SIGCHLD);
    let is_chld = signal == Some(Signal::SIGCHLD);
    let ignored = is_chld && action.handler == SIG_IGN;
    let unwanted = ignored || (is_chld && action.flags & SA_NOCLDWAIT != 0);
    if let (Some(signal), false) = (signal, ignored) {
        let (code, value) = exit.code();
        let ticks = |n: u64| (n / super::accounting::TICK) as i64;
        let fields = SigFields::Child {
            pid: id,
            uid: exit.uid,
            status: value,
            utime: ticks(exit.usage.user),
            stime: ticks(exit.usage.system),
        };
        outbox.push((parent.clone(), SigInfo { signal, errno: 0, code, fields }));
    }
    notify.push(parent.clone());
    if unwanted {
        tree.remove_process(id);
    }
}

/// Lets every other task of the process die and waits until they have (`execve(2)`). False if the
/// process itself is being ended.
pub(super) fn kill_other_tasks(t: &mut CurrentTask) -> bool {
    let group = t.group().clone();
    {
        let mut signals = group.signals();
        if signals.exiting() || signals.exec.is_some() {
            return false;
        }
        signals.exec = Some(t.tid());
        signals.stop.signal = 0;
        for other in &signals.tasks {
            if !Arc::ptr_eq(other, t.task()) {
                other.clear_work(work::STOP);
                other.add_work(work::KILL);
            }
        }
    }
    t.task().clear_work(work::STOP);
    let alone = t.wait_killable(|| group.signals().tasks.len() == 1);
    let mut signals = group.signals();
    signals.exec = None;
    alone && !signals.exiting()
}

/// Signals that the process has received and not handled stay with it; those of the other tasks went
/// with them. The remaining task becomes the leader.
pub(super) fn become_leader(t: &CurrentTask) {
    let task = t.task();
    if task.is_leader() {
        return;
    }
    let mut tree = t.kernel().tree();
    let old = task.tid();
    super::ptrace::attach::renamed(&mut tree, old, t.tgid());
    tree.remove_task(old);
    task.take_leaders_tid();
    tree.pids.tasks.insert(task.tid(), task.clone());
}

/// Ends a task whose guest thread could not be started: as by `SIGKILL`.
pub(super) fn abort(task: &Arc<Task>) {
    let (kernel, group) = (task.kernel().clone(), task.group().clone());
    let status = send::killed_status(Signal::SIGKILL, false);
    begin_exit(&mut group.signals(), status);
    drop(task.set_shared(None));
    task.host_thread_ends();
    task.place.store(place::DEAD, Ordering::SeqCst);
    leave(&kernel, &group, task, status);
    kernel.task_count.fetch_sub(1, Ordering::Relaxed);
}
