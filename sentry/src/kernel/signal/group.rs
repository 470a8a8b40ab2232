//! The signal state of a process.

use super::{Pending, SigHandlers, SigSet};
use crate::kernel::Task;
use crate::kernel::coredump::Dump;
use std::sync::Arc;

/// Job-control state of a process.
#[derive(Debug, Default)]
pub struct GroupStop {
    /// Signal of a stop that is under way or complete; 0 while running.
    pub signal: i32,
    /// Tasks that have not stopped yet.
    pub waiting_for: usize,
    /// Every task has stopped.
    pub stopped: bool,
    /// Stop signal that `wait4(2)` has not reported yet; 0 for none.
    pub unreported: i32,
    /// A continuation that `wait4(2)` has not reported yet.
    pub continued: bool,
}

/// What a process's tasks share about signals. Every change of any pending queue of the process is
/// made with the lock around this held.
pub struct GroupSignals {
    /// Dispositions.
    pub handlers: Arc<SigHandlers>,
    /// Living tasks; the leader first if it lives.
    pub tasks: Vec<Arc<Task>>,
    /// Signals for the process as a whole.
    pub shared: Pending,
    /// Wait status of the process, once it has begun to end.
    pub group_exit: Option<i32>,
    /// Thread id of the task that is in `execve(2)` and lets the others die.
    pub exec: Option<i32>,
    /// A core dump that is being written.
    pub dump: Option<Arc<Dump>>,
    /// Job control.
    pub stop: GroupStop,
    /// The first process: signals without a handler do nothing to it.
    pub unkillable: bool,
}

impl GroupSignals {
    pub(in crate::kernel) fn new(handlers: Arc<SigHandlers>) -> GroupSignals {
        GroupSignals {
            handlers,
            tasks: Vec::new(),
            shared: Pending::default(),
            group_exit: None,
            exec: None,
            dump: None,
            stop: GroupStop::default(),
            unkillable: false,
        }
    }

    /// True when the process has begun to end.
    pub fn exiting(&self) -> bool {
        self.group_exit.is_some()
    }

    /// Signals pending for the task or the process (`SigPnd`, `ShdPnd`).
    pub fn pending_for(&self, task: &Task) -> SigSet {
        task.pending.lock().set().or(self.shared.set())
    }
}
