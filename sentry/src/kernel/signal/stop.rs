//! Stopping and continuing of processes (job control).

use super::info::{CLD_STOPPED, SigFields};
use super::{GroupSignals, SigInfo, Signal};
use crate::kernel::task::{place, work};
use crate::kernel::{CurrentTask, Kernel, ThreadGroup};
use crate::wait::EventMask;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Begins a stop of the whole process; the caller then stops itself by [`stop_here`].
pub(super) fn begin(signals: &mut GroupSignals, signal: Signal) {
    if signals.stop.signal == 0 {
        signals.stop.signal = signal.number();
        signals.stop.waiting_for = signals.tasks.len();
        for task in &signals.tasks {
            task.add_work(work::STOP);
        }
    }
}

/// Stops the calling task until the process is continued or killed.
pub(super) fn stop_here(t: &mut CurrentTask) {
    let group = t.group().clone();
    let mut last = None;
    {
        let mut signals = group.signals();
        if signals.stop.signal == 0 || signals.exiting() {
            t.clear_work(work::STOP);
            return;
        }
        t.last_call.stop(&t.regs);
        t.place.store(place::STOPPED, Ordering::SeqCst);
        let stop = &mut signals.stop;
        stop.waiting_for = stop.waiting_for.saturating_sub(1);
        if stop.waiting_for == 0 && !stop.stopped {
            stop.stopped = true;
            stop.unreported = stop.signal;
            stop.continued = false;
            last = Some(stop.signal);
        }
    }
    if let Some(signal) = last {
        notify_parent(t.kernel(), &group, CLD_STOPPED, signal);
    }
    if t.task().traced.load(Ordering::Relaxed) {
        return stop_for_tracer(t);
    }
    t.context.set_blocked(true);
    while t.task().work() & work::STOP != 0 && t.task().work() & work::KILL == 0 {
        if t.task().traced.load(Ordering::Relaxed) {
            t.context.set_blocked(false);
            return stop_for_tracer(t);
        }
        t.task().parker.park();
    }
    t.context.set_blocked(false);
    t.last_call.end();
    t.place.store(place::KERNEL, Ordering::SeqCst);
}

/// Stops where the tracer sees it. The tracer, not `SIGCONT`, lets the task go on.
fn stop_for_tracer(t: &mut CurrentTask) {
    let signal = t.group().signals().stop.signal;
    t.clear_work(work::STOP | work::TRACE_CHECK);
    t.last_call.end();
    t.place.store(place::KERNEL, Ordering::SeqCst);
    if signal != 0 {
        crate::kernel::ptrace::group_stop(t, signal);
    }
}

/// A task that ends no longer keeps its process from being stopped. Called with the task already
/// removed; returns the stop signal if the process is stopped now.
pub(in crate::kernel) fn task_gone(signals: &mut GroupSignals) -> Option<i32> {
    let stop = &mut signals.stop;
    if stop.signal == 0 || stop.stopped {
        return None;
    }
    stop.waiting_for = stop.waiting_for.saturating_sub(1);
    if stop.waiting_for > 0 || signals.tasks.is_empty() {
        return None;
    }
    stop.stopped = true;
    stop.unreported = stop.signal;
    Some(stop.signal)
}

/// Tells the parent that a child has stopped or continued.
pub(in crate::kernel) fn notify_parent(
    kernel: &Kernel,
    group: &Arc<ThreadGroup>,
    code: i32,
    signal: i32,
) {
    let Some(parent) = kernel.thread_group(group.ppid()) else { return };
    let uid = group.any_task().map_or(0, |t| t.creds().uid);
    let quiet =
        parent.signals().handlers.get(Signal::SIGCHLD).flags & super::actions::SA_NOCLDSTOP != 0;
    if !quiet {
        let (utime, stime) = group.cpu_ticks();
        let fields = SigFields::Child { pid: group.tgid(), uid, status: signal, utime, stime };
        parent.send_signal(kernel, &SigInfo { signal: Signal::SIGCHLD, errno: 0, code, fields });
    }
    parent.child_queue.notify(EventMask::IN);
}
