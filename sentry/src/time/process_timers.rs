//! Interval timers and POSIX timers of a process.

use crate::kernel::{SigInfo, Task};
use std::sync::Arc;

/// Timers of a process.
#[derive(Debug, Default)]
pub struct ProcessTimers {}

/// A timer's signal has been taken from its queue: fills in the overruns and starts the next period.
pub fn dequeued(_task: &Arc<Task>, info: SigInfo) -> SigInfo {
    info
}
