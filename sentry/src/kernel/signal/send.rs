//! Sending signals.

use super::info::CLD_CONTINUED;
use super::{DefaultAction, GroupSignals, SigFields, SigInfo, SigSet, Signal};
use crate::errno::{Errno, Result};
use crate::kernel::task::work;
use crate::kernel::{Kernel, Rlimit, Task, ThreadGroup};
use crate::wait::EventMask;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a signal ends a process: the wait status of `wait(2)`.
pub fn killed_status(signal: Signal, core: bool) -> i32 {
    signal.number() | if core { 0x80 } else { 0 }
}

/// Sends a signal to a process; permission has been checked.
pub fn to_group(kernel: &Kernel, group: &Arc<ThreadGroup>, info: &SigInfo) {
    let _ = send(kernel, group, None, info, false);
}

/// Sends a signal to one task; permission has been checked.
pub fn to_task(task: &Arc<Task>, info: &SigInfo) {
    let _ = send(task.kernel(), task.group(), Some(task), info, false);
}

/// As [`to_group`] and [`to_task`]; false when the signal was dropped because it is ignored or already
/// pending, `EAGAIN` when a queued signal finds the queue full.
/// `force`: the first process is not immune (the signal comes from outside the sandbox).
pub fn send(
    kernel: &Kernel,
    group: &Arc<ThreadGroup>,
    task: Option<&Arc<Task>>,
    info: &SigInfo,
    force: bool,
) -> Result<bool> {
    let info = &seen_by(group, info);
    let force = force || from_above(group);
    let outcome = {
        let mut signals = group.signals();
        let limit = group.limit(Rlimit::Sigpending).soft;
        send_locked(&mut signals, task, info, force, limit)
    };
    if outcome.queued {
        group.signal_queue.notify(EventMask::READABLE);
    }
    if outcome.continued {
        super::stop::notify_parent(kernel, group, CLD_CONTINUED, Signal::SIGCONT.number());
    }
    if outcome.full { Err(Errno::EAGAIN) } else { Ok(outcome.queued) }
}

/// The signal with the sender's ids as the receiver's namespaces have them.
fn seen_by(group: &Arc<ThreadGroup>, info: &SigInfo) -> SigInfo {
    let user_ns = group.any_task().map(|task| task.creds().user_ns.clone());
    let user_ns = user_ns.filter(|ns| !ns.is_root());
    if group.pid_ns().is_root() && user_ns.is_none() {
        return *info;
    }
    let mut info = *info;
    match &mut info.fields {
        SigFields::Kill { pid, uid } | SigFields::Child { pid, uid, .. } => {
            *pid = group.pid_ns().local(*pid);
            if let Some(ns) = &user_ns {
                *uid = ns.show_uid(*uid);
            }
        }
        _ => {}
    }
    info
}

/// True if the sender is in a pid namespace above the receiver's: the first process of that is not immune
/// to `SIGKILL` and `SIGSTOP`.
fn from_above(group: &Arc<ThreadGroup>) -> bool {
    group.is_namespace_init()
        && crate::kernel::current().is_none_or(|sender| group.pid_ns().local(sender.tgid()) == 0)
}

#[derive(Default)]
struct Outcome {
    queued: bool,
    continued: bool,
    full: bool,
}

fn send_locked(
    signals: &mut GroupSignals,
    task: Option<&Arc<Task>>,
    info: &SigInfo,
    force: bool,
    limit: u64,
) -> Outcome {
    let mut outcome = Outcome::default();
    let signal = info.signal;
    if signals.exiting() || signals.tasks.is_empty() {
        return outcome;
    }
    if signal == Signal::SIGCONT {
        outcome.continued = resume(signals);
    } else if SigSet::STOP.contains(signal) {
        flush_all(signals, Signal::SIGCONT.set());
    }
    let Some(representative) = task.or(signals.tasks.first()).cloned() else { return outcome };
    if is_ignored(signals, &representative, signal, info.from_user(), force) {
        return outcome;
    }
    match task {
        Some(t) => t.mask.hold(),
        None => signals.tasks.iter().for_each(|t| t.mask.hold()),
    }
    {
        let room = |len: usize| (len as u64) < limit;
        let mut own;
        let pending = match task {
            Some(t) => {
                own = t.pending.lock();
                &mut *own
            }
            None => &mut signals.shared,
        };
        let of_timer = info.code == super::info::SI_TIMER;
        if !signal.is_realtime() && !of_timer && pending.set().contains(signal) {
            return outcome;
        }
        let has_room = room(pending.len());
        if !pending.push(info, has_room) {
            outcome.full = true;
            return outcome;
        }
    }
    outcome.queued = true;
    complete(signals, task, signal);
    outcome
}

/// A signal that would do nothing is not even queued, unless it is blocked: the program may yet
/// change its mind.
fn is_ignored(
    signals: &GroupSignals,
    task: &Task,
    signal: Signal,
    from_user: bool,
    force: bool,
) -> bool {
    // Tracers want to know of ignored signals, too.
    if task.traced.load(Ordering::Relaxed) && signal != Signal::SIGKILL {
        return false;
    }
    // What comes from the terminal, a timer or from outside acts on the first process, too: a user who
    // presses Ctrl-C means it.
    // A namespace's first process dies of what its parent's kills it with, and of nothing else.
    let forced =
        force && (!task.group().is_namespace_init() || SigSet::UNBLOCKABLE.contains(signal));
    let protected = signals.unkillable && !forced && from_user;
    if protected
        && !task.blocked().contains(signal)
        && signals.handlers.default_set().contains(signal)
    {
        return true;
    }
    !task.blocked().contains(signal) && signals.handlers.ignored().contains(signal)
}

/// Finds the task that is to handle a queued signal and makes it look; a signal that certainly ends
/// the process ends it right away.
fn complete(signals: &mut GroupSignals, task: Option<&Arc<Task>>, signal: Signal) {
    // A stopped task does nothing until it is continued, but die of SIGKILL.
    let stopped = |t: &Task| t.work() & work::STOP != 0;
    let wants =
        |t: &Arc<Task>| signal == Signal::SIGKILL || (!t.blocked().contains(signal) && !stopped(t));
    let chosen = match task {
        Some(t) => wants(t).then(|| t.clone()),
        None => {
            // A task that has nothing to do yet is the better choice.
            let idle = |t: &&Arc<Task>| wants(t) && t.work() & work::SIGNAL == 0;
            let tasks = &signals.tasks;
            tasks.iter().find(idle).or_else(|| tasks.iter().find(|t| wants(t))).cloned()
        }
    };
    let Some(chosen) = chosen else { return };
    let fatal = signal == Signal::SIGKILL
        || (signals.handlers.default_set().contains(signal)
            && signal.default_action() == DefaultAction::Terminate
            && !chosen.traced.load(Ordering::Relaxed));
    if fatal {
        begin_exit(signals, killed_status(signal, false));
    } else {
        chosen.add_work(work::SIGNAL);
    }
}

/// Begins the end of a process: every task dies. A process ends only once: the first status counts.
pub(in crate::kernel) fn begin_exit(signals: &mut GroupSignals, status: i32) {
    if signals.group_exit.is_none() {
        signals.group_exit = Some(status);
    }
    signals.stop.signal = 0;
    signals.stop.stopped = false;
    for task in &signals.tasks {
        task.clear_work(work::STOP);
        task.add_work(work::KILL);
    }
}

/// Drops signals of a set from every queue of the process.
fn flush_all(signals: &mut GroupSignals, set: SigSet) {
    signals.shared.flush(set);
    for task in &signals.tasks {
        task.pending.lock().flush(set);
    }
}

/// Continues a stopped process. True if its parent has to be told.
fn resume(signals: &mut GroupSignals) -> bool {
    flush_all(signals, SigSet::STOP);
    let stop = &mut signals.stop;
    let was_stopped = stop.stopped || stop.signal != 0;
    stop.signal = 0;
    stop.stopped = false;
    stop.waiting_for = 0;
    stop.unreported = 0;
    if was_stopped {
        stop.continued = true;
        let signals: &GroupSignals = signals;
        for task in &signals.tasks {
            task.clear_work(work::STOP);
            // What came while it was stopped is looked at now.
            recalculate(task, signals);
            crate::kernel::ptrace::attach::continued(task);
            task.parker.unpark();
        }
    }
    was_stopped
}

/// Sends a signal that the task's own instruction caused: it cannot be blocked or ignored.
pub fn force(task: &Arc<Task>, info: &SigInfo) {
    let signal = info.signal;
    {
        let mut signals = task.group().signals();
        let mut action = signals.handlers.get(signal);
        let blocked = task.blocked().contains(signal);
        if blocked || action.ignores(signal) {
            action.handler = super::actions::SIG_DFL;
            signals.handlers.set(signal, action);
            if blocked {
                let mask = task.blocked().without(signal.set());
                task.mask.set(mask);
            }
        }
        if action.handler == super::actions::SIG_DFL {
            signals.unkillable = false;
        }
        if !signals.exiting() {
            task.mask.hold();
            let mut pending = task.pending.lock();
            pending.flush(signal.set());
            pending.push(info, true);
            drop(pending);
            task.add_work(work::SIGNAL);
        }
    }
    task.group().signal_queue.notify(EventMask::READABLE);
}

/// Sends `SIGSEGV` for a signal frame that cannot be written or read. When that happens while
/// `SIGSEGV` itself is delivered, its handler is given up.
pub fn force_segv(task: &Arc<Task>, while_delivering: Option<Signal>) {
    if while_delivering == Some(Signal::SIGSEGV) {
        let signals = task.group().signals();
        let mut action = signals.handlers.get(Signal::SIGSEGV);
        action.handler = super::actions::SIG_DFL;
        signals.handlers.set(Signal::SIGSEGV, action);
    }
    force(task, &SigInfo::kernel(Signal::SIGSEGV));
}

/// Makes the task look at its signals again after its mask or the dispositions changed.
pub fn recalculate(task: &Task, signals: &GroupSignals) {
    let ready = signals.pending_for(task).without(task.blocked());
    if ready.is_empty() {
        task.clear_work(work::SIGNAL);
    } else {
        task.add_work(work::SIGNAL);
    }
}

/// Changes the task's own mask. Signals of the process that it now blocks go to another task.
pub fn set_blocked(task: &Task, mask: SigSet) {
    let mask = mask.without(SigSet::UNBLOCKABLE);
    if task.blocked() == mask && !task.mask.is_held() {
        return;
    }
    let signals = task.group().signals();
    let newly = mask.without(task.blocked());
    task.mask.set(mask);
    let mut orphans = signals.shared.set().and(newly);
    if !orphans.is_empty() {
        for other in &signals.tasks {
            let can = orphans.without(other.blocked());
            if other.tid() != task.tid() && !can.is_empty() {
                other.add_work(work::SIGNAL);
                orphans = orphans.without(can);
            }
        }
    }
    recalculate(task, &signals);
    if task.mask.is_held() && signals.pending_for(task).is_empty() {
        task.mask.let_go();
    }
}

/// Takes the next signal of a set, whether blocked or not (`sigtimedwait(2)`, signalfd).
pub fn take_from_set(task: &Arc<Task>, set: SigSet) -> Option<SigInfo> {
    let info = {
        let mut signals = task.group().signals();
        let others = SigSet(!set.0);
        let own = task.pending.lock().take(others);
        let info = own.or_else(|| signals.shared.take(others));
        recalculate(task, &signals);
        info
    }?;
    crate::time::process_timers::dequeued(task, info)
}
