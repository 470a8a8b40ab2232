//! What a task does about signals before it returns to guest code.

use super::actions::{SA_NODEFER, SA_RESETHAND, SA_RESTART, SIG_DFL, SIG_IGN};
use super::frame::{self, TrapInfo};
use super::send::{self, begin_exit, killed_status};
use super::{DefaultAction, SigAction, SigInfo, SigSet, Signal, stop};
use crate::errno::Errno;
use crate::kernel::run::SYSCALL_LEN;
use crate::kernel::task::work;
use crate::kernel::{CurrentTask, cgroup, coredump, ptrace};
use std::sync::atomic::Ordering;

/// How a task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Into guest code.
    Guest,
    /// The system call is made again.
    Restart,
    /// The system call goes on where its restart block says.
    RestartBlock,
    /// The task ends.
    Die,
}

/// Handles everything in [`work`] until nothing is left. `restart` is the restart code of the system
/// call that was interrupted, if any.
pub fn run(t: &mut CurrentTask, mut restart: Option<Errno>) -> Next {
    loop {
        let bits = t.task().work();
        if bits & work::KILL != 0 {
            return Next::Die;
        }
        if bits & work::HOLDS != 0 {
            crate::kernel::pause::pause_here(t);
            continue;
        }
        if bits & work::PAY != 0 {
            cgroup::io::pay(t);
            continue;
        }
        if bits & work::STOP != 0 {
            stop::stop_here(t);
            continue;
        }
        if bits & (work::TRACE_TRAP | work::TRACE_CHECK) != 0 {
            trace_trap(t);
            continue;
        }
        if bits & work::SIGNAL != 0 {
            let Some(info) = dequeue(t) else { continue };
            let Some(info) = traced(t, info) else { continue };
            if t.regs.orig_rax == u64::MAX {
                // A tracer has made the task forget the call.
                restart = None;
            }
            let action = disposition(t, info.signal);
            match action.handler {
                SIG_IGN => {}
                SIG_DFL => default_action(t, &info),
                _ => handle(t, &info, &action, restart.take()),
            }
            continue;
        }
        if bits & work::RESTORE_MASK != 0 {
            t.task().clear_work(work::RESTORE_MASK);
            send::set_blocked(t.task(), SigSet(t.saved_mask));
            continue;
        }
        return match restart {
            None => Next::Guest,
            Some(Errno::ERESTART_RESTARTBLOCK) => Next::RestartBlock,
            Some(_) => Next::Restart,
        };
    }
}

/// A trap that the tracer wants, outside of a group stop.
fn trace_trap(t: &mut CurrentTask) {
    t.task().clear_work(work::TRACE_TRAP | work::TRACE_CHECK);
    let wanted = std::mem::take(&mut t.task().trace.lock().trap);
    if wanted {
        let signal = t.group().signals().stop.signal;
        ptrace::group_stop(t, signal);
    }
}

/// Shows a signal to the tracer, if there is one; what is to be delivered.
fn traced(t: &mut CurrentTask, info: SigInfo) -> Option<SigInfo> {
    if t.task().traced.load(Ordering::Relaxed) { ptrace::signal_stop(t, info) } else { Some(info) }
}

/// What is to be done about a signal. A handler that is to run once is given up.
fn disposition(t: &CurrentTask, signal: Signal) -> SigAction {
    let signals = t.task().group().signals();
    let action = signals.handlers.get(signal);
    if action.handler > SIG_IGN && action.flags & SA_RESETHAND != 0 {
        signals.handlers.set(signal, SigAction { handler: SIG_DFL, ..action });
    }
    action
}

/// Takes the next signal to be handled.
fn dequeue(t: &CurrentTask) -> Option<SigInfo> {
    let task = t.task();
    let info = {
        let mut signals = task.group().signals();
        let own = task.pending.lock().take(task.blocked());
        let info = own.or_else(|| signals.shared.take(task.blocked()));
        send::recalculate(task, &signals);
        info?
    };
    // The signal of a timer that was stopped since is none.
    crate::time::process_timers::dequeued(task, info)
}

fn default_action(t: &mut CurrentTask, info: &SigInfo) {
    let signal = info.signal;
    let group = t.group().clone();
    match signal.default_action() {
        DefaultAction::Ignore | DefaultAction::Continue => {}
        DefaultAction::Stop => {
            let terminal = signal != Signal::SIGSTOP;
            if terminal && t.kernel().is_orphaned_pgroup(group.pgid()) {
                return;
            }
            let mut signals = group.signals();
            if (!signals.unkillable || signal == Signal::SIGSTOP) && !signals.exiting() {
                stop::begin(&mut signals, signal);
            }
        }
        action @ (DefaultAction::Terminate | DefaultAction::Core) => {
            {
                let mut signals = group.signals();
                if signals.unkillable && info.from_user() {
                    return;
                }
                if action == DefaultAction::Terminate {
                    begin_exit(&mut signals, killed_status(signal, false));
                    return;
                }
            }
            coredump::end(t, info);
        }
    }
}

fn handle(t: &mut CurrentTask, info: &SigInfo, action: &SigAction, restart: Option<Errno>) {
    match restart {
        Some(Errno::ERESTARTNOINTR) => make_again(t),
        Some(Errno::ERESTARTSYS) if action.flags & SA_RESTART != 0 => make_again(t),
        Some(_) => t.regs.rax = Errno::EINTR.as_return(),
        None => {}
    }
    let blocked = t.task().blocked();
    let saved = if t.task().work() & work::RESTORE_MASK != 0 {
        t.task().clear_work(work::RESTORE_MASK);
        SigSet(t.saved_mask)
    } else {
        blocked
    };
    let trap = std::mem::take(&mut t.trap);
    let trap = if SigSet::SYNCHRONOUS.contains(info.signal) { trap } else { TrapInfo::default() };
    if frame::enter(t, action, info, saved, trap).is_err() {
        send::force_segv(t.task(), Some(info.signal));
        return;
    }
    let mut mask = blocked.or(SigSet(action.mask));
    if action.flags & SA_NODEFER == 0 {
        mask.add(info.signal);
    }
    send::set_blocked(t.task(), mask);
    if t.regs.single_step {
        ptrace::step_stop(t);
    }
}

/// The handler's return executes the system-call instruction again.
fn make_again(t: &mut CurrentTask) {
    t.regs.rax = t.regs.orig_rax;
    t.regs.rip = t.regs.rip.wrapping_sub(SYSCALL_LEN);
}

/// Waits with another signal mask: it is in force until the system call has ended and its signals have
/// been handled (`sigsuspend(2)`, `ppoll(2)`).
pub fn set_temporary_mask(t: &mut CurrentTask, mask: SigSet) {
    t.saved_mask = t.task().blocked().0;
    send::set_blocked(t.task(), mask);
    t.task().work.fetch_or(work::RESTORE_MASK, Ordering::SeqCst);
}

/// Ends [`set_temporary_mask`] at once, when the call was not interrupted.
pub fn end_temporary_mask(t: &mut CurrentTask) {
    if t.task().work() & work::RESTORE_MASK != 0 {
        t.task().clear_work(work::RESTORE_MASK);
        send::set_blocked(t.task(), SigSet(t.saved_mask));
    }
}
