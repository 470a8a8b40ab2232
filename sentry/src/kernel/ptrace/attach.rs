//! How tracing begins and ends.

use super::{Options, Resume, Trace, Tracee};
use crate::errno::{Errno, Result};
use crate::kernel::landlock::scope;
use crate::kernel::signal::{SigInfo, Signal, send};
use crate::kernel::task::{place, syscall_work, work};
use crate::kernel::tree::Tree;
use crate::kernel::{CurrentTask, Task};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Makes `tracer` the tracer of `task`. `EPERM` if it has one.
pub(super) fn link(
    tree: &mut Tree,
    tracer: &Arc<Task>,
    task: &Arc<Task>,
    seized: bool,
    options: Options,
) -> Result<()> {
    let mut trace = task.trace.lock();
    if trace.is_traced() || tree.tracees.contains_key(&task.tid()) {
        return Err(Errno::EPERM);
    }
    *trace = Trace { tracer: Some(Arc::downgrade(tracer)), seized, options, ..Trace::default() };
    task.traced.store(true, Ordering::SeqCst);
    let (group, tid) = (tracer.tgid(), tracer.tid());
    let tracee = Tracee { task: task.clone(), tracer: group, tracer_tid: tid, exit: None };
    tree.tracees.insert(task.tid(), tracee);
    Ok(())
}

/// `PTRACE_TRACEME`: the parent becomes the tracer. `EPERM` if there is one, or if the parent may not.
pub fn trace_me(t: &CurrentTask) -> Result<()> {
    let kernel = t.kernel();
    let mut tree = kernel.tree();
    let parent = tree.process(t.group().ppid()).cloned().ok_or(Errno::EPERM)?;
    let creator = t.group().creator.load(Ordering::Relaxed);
    let tasks = parent.tasks();
    let tracer = tasks.iter().find(|task| task.tid() == creator).or(tasks.first());
    let tracer = tracer.cloned().ok_or(Errno::EPERM)?;
    if !scope::may_trace(&tracer.creds(), t.creds()) {
        return Err(Errno::EPERM);
    }
    link(&mut tree, &tracer, t.task(), false, Options::empty())
}

/// `PTRACE_ATTACH` and `PTRACE_SEIZE`; access has been checked. `EPERM` for a thread of the caller's own
/// process, or one that has a tracer or ends.
pub fn attach(t: &CurrentTask, task: &Arc<Task>, seize: bool, options: Options) -> Result<()> {
    if Arc::ptr_eq(task.group(), t.group()) {
        return Err(Errno::EPERM);
    }
    {
        let mut tree = t.kernel().tree();
        if task.place.load(Ordering::SeqCst) == place::DEAD {
            return Err(Errno::EPERM);
        }
        link(&mut tree, t.task(), task, seize, options)?;
    }
    if !seize {
        send::to_task(task, &SigInfo::kernel(Signal::SIGSTOP));
    }
    // A task that is stopped already stops again, where its tracer can see it.
    task.add_work(work::TRACE_CHECK);
    task.parker.unpark();
    Ok(())
}

/// A child of a traced task has the same tracer. Called before it runs.
pub fn inherit(t: &CurrentTask, child: &Arc<Task>) {
    let (tracer, seized, options) = {
        let trace = t.task().trace.lock();
        let Some(tracer) = trace.tracer() else { return };
        (tracer, trace.seized, trace.options)
    };
    if link(&mut t.kernel().tree(), &tracer, child, seized, options).is_err() {
        return;
    }
    if seized {
        child.trace.lock().trap = true;
        child.add_work(work::TRACE_TRAP);
    } else {
        send::to_task(child, &SigInfo::kernel(Signal::SIGSTOP));
    }
}

/// Ends tracing and lets the task go on.
pub(super) fn unlink(task: &Arc<Task>, signal: i32) {
    {
        let mut trace = task.trace.lock();
        trace.tracer = None;
        if let Some(stopped) = &mut trace.stopped {
            stopped.regs.single_step = false;
            stopped.resume = Some(Resume { signal });
        }
    }
    task.traced.store(false, Ordering::SeqCst);
    let bits = syscall_work::TRACE | syscall_work::EMULATE;
    task.change_syscall_work(bits, 0);
    task.clear_work(work::TRACE_TRAP);
    task.parker.unpark();
}

/// `PTRACE_DETACH`.
pub fn detach(t: &CurrentTask, task: &Arc<Task>, signal: i32) {
    t.kernel().tree().tracees.remove(&task.tid());
    unlink(task, signal);
    // Its process may be stopped: then it stops with it.
    if task.group().signals().stop.signal != 0 {
        task.add_work(work::STOP);
    }
}

/// The tracees of a thread that ends are let go, or killed.
pub fn tracer_ends(tracer: &Task) {
    let kernel = tracer.kernel();
    let (gone, zombies): (Vec<Tracee>, Vec<i32>) = {
        let mut tree = kernel.tree();
        let ids: Vec<i32> = tree
            .tracees
            .iter()
            .filter(|(_, tracee)| tracee.tracer_tid == tracer.tid())
            .map(|(id, _)| *id)
            .collect();
        let gone: Vec<Tracee> = ids.iter().filter_map(|id| tree.tracees.remove(id)).collect();
        let zombies = gone.iter().filter(|g| g.exit.is_some()).map(|g| g.task.tgid()).collect();
        (gone, zombies)
    };
    for tracee in gone {
        let kill = tracee.task.trace.lock().options.contains(Options::EXITKILL);
        unlink(&tracee.task, 0);
        if kill {
            send::to_task(&tracee.task, &SigInfo::kernel(Signal::SIGKILL));
        }
    }
    for id in zombies {
        crate::kernel::exit::announce_to_parent(kernel, id);
    }
}

/// A stopped process is continued: tracers of seized tasks are told by a trap. Called with the process's
/// signals locked.
pub(in crate::kernel) fn continued(task: &Task) {
    if !task.traced.load(Ordering::Relaxed) {
        return;
    }
    {
        let mut trace = task.trace.lock();
        if !trace.seized {
            return;
        }
        trace.trap = true;
        if let Some(stopped) = trace.stopped.as_deref_mut().filter(|s| s.listening) {
            stopped.resume = Some(Resume { signal: 0 });
        }
    }
    task.add_work(work::TRACE_TRAP);
}

/// A thread that executes a program goes on under its leader's id.
pub(in crate::kernel) fn renamed(tree: &mut Tree, old: i32, new: i32) {
    tree.tracees.remove(&new);
    if let Some(tracee) = tree.tracees.remove(&old) {
        tree.tracees.insert(new, tracee);
    }
}
