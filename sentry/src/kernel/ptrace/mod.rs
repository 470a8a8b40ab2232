//! Tracing of guest threads (`ptrace(2)`).
//!
//! * [`Trace`]: what a task knows of its tracer. While it is stopped, its registers lie in a [`Stopped`],
//!   where the tracer reads and changes them; the task takes them back when it goes on.
//! * [`stop`]: how a task stops and goes on. [`attach`]: how tracing begins and ends.
//! * [`access`]: who may trace whom. [`request`]: what a tracer does with a stopped task. [`user`]: registers as tracers see them.
//!
//! Which task is whose tracee stands in the process tree ([`Tracee`]), for `wait4(2)`.

pub mod access;
pub mod attach;
pub mod request;
pub mod stop;
pub mod user;

pub(super) use stop::{
    event_stop, group_stop, seccomp_stop, signal_stop, step_stop, syscall_entry, syscall_exit,
};

use super::clone::CloneFlags;
use super::exit::Exit;
use super::signal::{SigInfo, SigSet, Signal};
use super::{CurrentTask, Task};
use platform::{Registers, XState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

bitflags::bitflags! {
    /// `PTRACE_O_*`
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Options: u32 {
        /// System-call stops are marked.
        const TRACESYSGOOD = 1;
        /// Stop at fork.
        const TRACEFORK = 1 << 1;
        /// Stop at vfork.
        const TRACEVFORK = 1 << 2;
        /// Stop at other clones.
        const TRACECLONE = 1 << 3;
        /// Stop at exec.
        const TRACEEXEC = 1 << 4;
        /// Stop when a vfork is over.
        const TRACEVFORKDONE = 1 << 5;
        /// Stop at exit.
        const TRACEEXIT = 1 << 6;
        /// Stop where a seccomp filter says so.
        const TRACESECCOMP = 1 << 7;
        /// Tracees die with the tracer.
        const EXITKILL = 1 << 20;
        /// Suspend seccomp; needs privileges.
        const SUSPEND_SECCOMP = 1 << 21;
    }
}

/// `PTRACE_EVENT_*`
#[expect(missing_docs, reason = "the names of the manual page")]
pub mod event {
    pub const FORK: u32 = 1;
    pub const VFORK: u32 = 2;
    pub const CLONE: u32 = 3;
    pub const EXEC: u32 = 4;
    pub const VFORK_DONE: u32 = 5;
    pub const EXIT: u32 = 6;
    pub const SECCOMP: u32 = 7;
    pub const STOP: u32 = 128;
}

/// How a task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// Signal to deliver; 0 for none.
    pub signal: i32,
}

/// Where in a system call a task stopped (`PTRACE_GET_SYSCALL_INFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Not at one.
    None,
    /// Before it.
    Entry,
    /// Behind it.
    Exit,
    /// At a filter, which returned these data.
    Seccomp(u32),
}

/// A stopped task.
pub struct Stopped {
    /// General registers.
    pub regs: Registers,
    /// Vector registers.
    pub xstate: XState,
    /// The tracer changed them.
    pub xstate_changed: bool,
    /// What `wait4(2)` reports, but for the low byte.
    pub code: i32,
    /// `wait4(2)` has reported it.
    pub reported: bool,
    /// What stopped it; `None` in a group stop.
    pub info: Option<SigInfo>,
    /// Where in a system call.
    pub place: Place,
    /// Set by the tracer to let it go on.
    pub resume: Option<Resume>,
    /// `PTRACE_LISTEN`: stopped, but the tracer may not touch it.
    pub listening: bool,
    /// A group stop.
    pub group: bool,
}

/// What a task knows of its tracer.
#[derive(Default)]
pub struct Trace {
    /// The tracing thread.
    pub tracer: Option<Weak<Task>>,
    /// Attached by `PTRACE_SEIZE`.
    pub seized: bool,
    /// What is to be reported.
    pub options: Options,
    /// `PTRACE_GETEVENTMSG`
    pub message: u64,
    /// While it is stopped.
    pub stopped: Option<Box<Stopped>>,
    /// Mask to be put in place when it goes on (`PTRACE_SETSIGMASK`).
    pub mask: Option<SigSet>,
    /// A trap that is to be taken (`PTRACE_INTERRUPT`, a new tracee).
    pub trap: bool,
}

impl Trace {
    /// The tracing thread, if it lives.
    pub fn tracer(&self) -> Option<Arc<Task>> {
        self.tracer.as_ref().and_then(Weak::upgrade)
    }

    /// True while someone traces it.
    pub fn is_traced(&self) -> bool {
        self.tracer.is_some()
    }
}

/// A tracee in the process tree.
pub struct Tracee {
    /// The task.
    pub task: Arc<Task>,
    /// Process of the tracer.
    pub tracer: i32,
    /// Thread of the tracer.
    pub tracer_tid: i32,
    /// How it ended, once it has: until the tracer has seen it.
    pub exit: Option<Exit>,
}

/// The option that asks for an event of `clone(2)`.
fn option_of(event: u32) -> Options {
    match event {
        event::FORK => Options::TRACEFORK,
        event::VFORK => Options::TRACEVFORK,
        _ => Options::TRACECLONE,
    }
}

/// Whether a child of the calling task will have the same tracer.
pub(super) fn wants(t: &CurrentTask, event: u32, flags: CloneFlags) -> bool {
    if !t.task().traced.load(Ordering::Relaxed) {
        return false;
    }
    let asked = t.task().trace.lock().options.contains(option_of(event));
    flags.contains(CloneFlags::PTRACE) || (asked && !flags.contains(CloneFlags::UNTRACED))
}

/// Tells the tracer of a new task.
pub(super) fn clone_stop(t: &mut CurrentTask, event: u32, child: i32) {
    if t.task().traced.load(Ordering::Relaxed) {
        let message = seen_by_tracer(t, child);
        event_stop(t, event, option_of(event), message);
    }
}

/// Tells the tracer that a vfork is over.
pub(super) fn vfork_done_stop(t: &mut CurrentTask, child: i32) {
    if t.task().traced.load(Ordering::Relaxed) {
        let message = seen_by_tracer(t, child);
        event_stop(t, event::VFORK_DONE, Options::TRACEVFORKDONE, message);
    }
}

/// What the tracer calls a kernel id.
fn seen_by_tracer(t: &CurrentTask, id: i32) -> u64 {
    let tracer = t.task().trace.lock().tracer();
    tracer.map_or(0, |tracer| tracer.local_id(id)) as u64
}

/// Tells the tracer of a new program; one that has not asked for the event gets a `SIGTRAP`. `old` is the
/// thread id before.
pub(super) fn exec_stop(t: &mut CurrentTask, old: i32) {
    if !t.task().traced.load(Ordering::Relaxed) {
        return;
    }
    let message = seen_by_tracer(t, old);
    if event_stop(t, event::EXEC, Options::TRACEEXEC, message) {
        return;
    }
    let plain = {
        let trace = t.task().trace.lock();
        trace.is_traced() && !trace.seized
    };
    if plain {
        let (pid, uid) = (t.tgid(), t.creds().uid);
        t.task().send_signal(&SigInfo::user(Signal::SIGTRAP, pid, uid));
    }
}

/// Tells the tracer that the task is about to end.
pub(super) fn exit_stop(t: &mut CurrentTask, status: i32) {
    if t.task().traced.load(Ordering::Relaxed) {
        event_stop(t, event::EXIT, Options::TRACEEXIT, status as u64);
    }
}
