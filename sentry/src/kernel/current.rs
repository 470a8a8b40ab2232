//! One guest thread, seen from its own host thread.

use super::Task;
use crate::wait::Waker;
use platform::{Context, Registers};
use std::ops::Deref;
use std::sync::Arc;

/// Why a task that blocked goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// A waker was told of something (perhaps spuriously).
    Event,
    /// The deadline has passed.
    Timeout,
    /// A signal is pending, or the task must die.
    Interrupted,
}

/// The guest thread that the calling host thread runs. Handlers of system calls get it.
pub struct CurrentTask {
    task: Arc<Task>,
    /// Registers at the system call or fault; what handlers change here the guest sees.
    pub regs: Registers,
    /// Execution state in the platform.
    pub context: Box<dyn Context>,
}

impl CurrentTask {
    /// The shared part.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// To be registered in wait queues before [`CurrentTask::block`].
    pub fn waker(&self) -> Arc<dyn Waker> {
        self.task.clone()
    }

    /// True when a signal is pending or the task must stop or die: a sleep would end at once.
    pub fn interrupted(&self) -> bool {
        false
    }

    /// Sleeps until the waker is told of something, a signal is pending, or `deadline` (nanoseconds
    /// of the host's `CLOCK_MONOTONIC`) has passed. An event that came since the last `block`
    /// returns at once.
    pub fn block(&mut self, _deadline: Option<u64>) -> Wake {
        Wake::Interrupted
    }
}

impl Deref for CurrentTask {
    type Target = Task;
    fn deref(&self) -> &Task {
        &self.task
    }
}

impl Waker for Task {
    fn wake(&self, _events: crate::wait::EventMask) {}
}
