//! How a traced task stops and goes on.

use super::{Options, Place, Resume, Stopped, event};
use crate::kernel::signal::info::{CLD_STOPPED, CLD_TRAPPED, SI_USER};
use crate::kernel::signal::{SigFields, SigInfo, Signal, actions, send};
use crate::kernel::task::{place, syscall_work, work};
use crate::kernel::{CurrentTask, Task};
use crate::wait::EventMask;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SIGTRAP: i32 = libc::SIGTRAP;

/// Tells the tracer of a change.
pub(super) fn notify_tracer(task: &Arc<Task>, tracer: &Arc<Task>, code: i32, status: i32) {
    let kernel = task.kernel();
    let group = tracer.group();
    let quiet = group.signals().handlers.get(Signal::SIGCHLD).flags & actions::SA_NOCLDSTOP != 0;
    if !quiet {
        let (uid, status) = (task.creds().uid, status & 0x7f);
        let fields = SigFields::Child { pid: task.tid(), uid, status, utime: 0, stime: 0 };
        let info = SigInfo { signal: Signal::SIGCHLD, errno: 0, code, fields };
        group.send_signal(kernel, &info);
    }
    group.child_queue.notify(EventMask::IN);
}

/// What a stop is about.
pub(super) struct Why {
    pub code: i32,
    pub info: Option<SigInfo>,
    pub place: Place,
    pub group: bool,
    /// Also when the task is to die (the exit event).
    pub dying: bool,
}

/// Stops until the tracer lets the task go on. `None` if there is no tracer, or if the task must die.
pub(super) fn stop(t: &mut CurrentTask, why: Why) -> Option<(Resume, Option<SigInfo>)> {
    if !why.dying && t.task().work() & work::KILL != 0 {
        return None;
    }
    let mut regs = t.regs;
    regs.single_step = false;
    if let Err(e) = t.context.load_registers(&mut regs) {
        tracing::debug!("registers of a traced thread: {e}");
    }
    let xstate = t.context.xstate().ok()?;
    let task = t.task().clone();
    let in_call = task.last_call.number().is_some();
    if !in_call {
        task.last_call.stop(&regs);
    }
    let ending = !why.dying || t.group().signals().group_exit.is_some();
    let tracer = {
        let mut trace = task.trace.lock();
        let tracer = trace.tracer()?;
        trace.stopped = Some(Box::new(Stopped {
            regs,
            xstate,
            xstate_changed: false,
            code: why.code,
            reported: false,
            info: why.info,
            place: why.place,
            resume: None,
            listening: false,
            group: why.group,
        }));
        task.place.store(place::TRACED, Ordering::SeqCst);
        tracer
    };
    let code = if why.group { CLD_STOPPED } else { CLD_TRAPPED };
    notify_tracer(&task, &tracer, code, why.code);
    drop(tracer);
    t.context.set_blocked(true);
    // A process that is ending is past being killed; a thread that ends alone is not.
    loop {
        let killed = !ending && t.group().signals().group_exit.is_some();
        let done = killed || {
            let trace = task.trace.lock();
            let resumed = trace.stopped.as_ref().is_none_or(|s| s.resume.is_some());
            resumed || !trace.is_traced()
        };
        if done || (!why.dying && task.work() & work::KILL != 0) {
            break;
        }
        task.parker.park();
    }
    t.context.set_blocked(false);
    if !in_call {
        task.last_call.end();
    }
    go_on(t)
}

/// Takes back what the tracer may have changed.
fn go_on(t: &mut CurrentTask) -> Option<(Resume, Option<SigInfo>)> {
    let task = t.task().clone();
    let (stopped, mask) = {
        let mut trace = task.trace.lock();
        task.place.store(place::KERNEL, Ordering::SeqCst);
        (trace.stopped.take(), trace.mask.take())
    };
    if let Some(mask) = mask {
        send::set_blocked(&task, mask);
    }
    let stopped = stopped?;
    t.regs = stopped.regs;
    if stopped.xstate_changed
        && let Err(e) = t.context.set_xstate(&stopped.xstate)
    {
        tracing::debug!("vector registers from a tracer: {e}");
    }
    stopped.resume.map(|resume| (resume, stopped.info))
}

/// Information of a stop that no signal caused.
fn trap_info(t: &CurrentTask, code: i32) -> SigInfo {
    let fields = SigFields::Kill { pid: t.tid(), uid: t.creds().uid };
    SigInfo { signal: Signal::SIGTRAP, errno: 0, code, fields }
}

fn plain_stop(t: &mut CurrentTask, code: i32, place: Place) -> Option<Resume> {
    let info = Some(trap_info(t, code));
    stop(t, Why { code, info, place, group: false, dying: false }).map(|(resume, _)| resume)
}

/// Delivers the signal with which a tracer let a task go on from a stop that is not about a signal.
fn inject(t: &CurrentTask, resume: Option<Resume>) {
    if let Some(signal) = resume.and_then(|r| Signal::new(r.signal)) {
        send::to_task(t.task(), &SigInfo::user(signal, 0, 0));
    }
}

/// A stop for an event that the tracer has asked for, with its message. True if there was one.
pub fn event_stop(t: &mut CurrentTask, event: u32, option: Options, message: u64) -> bool {
    {
        let mut trace = t.task().trace.lock();
        if !trace.is_traced() || !trace.options.contains(option) {
            return false;
        }
        trace.message = message;
    }
    let code = SIGTRAP | (event as i32) << 8;
    let info = Some(trap_info(t, code));
    let dying = event == event::EXIT;
    let resume = stop(t, Why { code, info, place: Place::None, group: false, dying });
    if !dying {
        inject(t, resume.map(|(resume, _)| resume));
    }
    true
}

/// A filter asks the tracer. False if there is none that wants to be asked.
pub fn seccomp_stop(t: &mut CurrentTask, data: u32) -> bool {
    {
        let mut trace = t.task().trace.lock();
        if !trace.is_traced() || !trace.options.contains(Options::TRACESECCOMP) {
            return false;
        }
        trace.message = data.into();
    }
    let code = SIGTRAP | (event::SECCOMP as i32) << 8;
    let resume = plain_stop(t, code, Place::Seccomp(data));
    inject(t, resume);
    true
}

fn syscall_code(t: &CurrentTask) -> i32 {
    let good = t.task().trace.lock().options.contains(Options::TRACESYSGOOD);
    SIGTRAP | if good { 0x80 } else { 0 }
}

/// Stops before a system call, if the tracer wants it. True if the call is to be left out.
pub fn syscall_entry(t: &mut CurrentTask) -> bool {
    let bits = t.task().syscall_work.load(Ordering::Relaxed);
    if bits & (syscall_work::TRACE | syscall_work::EMULATE) == 0 {
        return false;
    }
    let code = syscall_code(t);
    t.task().trace.lock().message = 1;
    let resume = plain_stop(t, code, Place::Entry);
    inject(t, resume);
    bits & syscall_work::EMULATE != 0 || t.task().work() & work::KILL != 0
}

/// Stops behind a system call, if the tracer wants it.
pub fn syscall_exit(t: &mut CurrentTask) {
    if t.task().syscall_work.load(Ordering::Relaxed) & syscall_work::TRACE == 0 {
        return;
    }
    let code = syscall_code(t);
    t.task().trace.lock().message = 2;
    let resume = plain_stop(t, code, Place::Exit);
    inject(t, resume);
}

/// Shows the tracer a signal before it is delivered. What is to be delivered instead; `None` for nothing.
pub fn signal_stop(t: &mut CurrentTask, info: SigInfo) -> Option<SigInfo> {
    if info.signal == Signal::SIGKILL || !t.task().trace.lock().is_traced() {
        return Some(info);
    }
    let code = info.signal.number();
    let why = Why { code, info: Some(info), place: Place::None, group: false, dying: false };
    let task = t.task().clone();
    let (resume, replaced) = stop(t, why)?;
    let signal = Signal::new(resume.signal)?;
    let info = match replaced {
        Some(info) if info.signal == signal => info,
        _ => {
            let tracer = task.trace.lock().tracer().map_or(0, |tracer| tracer.tgid());
            SigInfo { code: SI_USER, ..SigInfo::user(signal, task.local_id(tracer), 0) }
        }
    };
    if task.blocked().contains(signal) {
        send::to_task(&task, &info);
        return None;
    }
    Some(info)
}

/// A stop after a single step that led into a signal handler.
pub fn step_stop(t: &mut CurrentTask) {
    if t.task().trace.lock().is_traced() {
        let resume = plain_stop(t, SIGTRAP, Place::None);
        inject(t, resume);
    }
}

/// The stop of a task whose process is being stopped, or that has to trap. Returns when the task may run
/// again.
pub fn group_stop(t: &mut CurrentTask, signal: i32) {
    let seized = t.task().trace.lock().seized;
    let why = match seized {
        true => {
            let code = (if signal == 0 { SIGTRAP } else { signal }) | (event::STOP as i32) << 8;
            t.task().trace.lock().message = 0;
            let info = SigInfo { code, ..trap_info(t, code) };
            Why { code, info: Some(info), place: Place::None, group: signal != 0, dying: false }
        }
        false => Why {
            code: if signal == 0 { SIGTRAP } else { signal },
            info: None,
            place: Place::None,
            group: true,
            dying: false,
        },
    };
    let resume = stop(t, why);
    inject(t, resume.map(|(resume, _)| resume));
}
