//! Memory barriers on the threads of other tasks, for `membarrier(2)`.

use super::task::place;
use super::{CurrentTask, Task};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// Nanoseconds between two looks at a thread that has been interrupted.
const LOOK_AGAIN: u64 = 50_000;

impl CurrentTask {
    /// Returns once every one of `tasks` has passed a full memory barrier since the call.
    ///
    /// A thread that runs guest code is interrupted; entering the sentry is such a barrier. One that
    /// is in the sentry has passed one on its way in, and passes another on its way out.
    pub fn pass_barrier(&self, tasks: &[Arc<Task>]) {
        fence(Ordering::SeqCst);
        for task in tasks.iter().filter(|task| !Arc::ptr_eq(task, self.task())) {
            while task.place.load(Ordering::SeqCst) == place::GUEST {
                let interrupter = task.interrupter.lock().clone();
                let Some(interrupter) = interrupter else { break };
                interrupter.interrupt();
                self.parker.park_until(self.kernel().time.monotonic() + LOOK_AGAIN);
            }
        }
        fence(Ordering::SeqCst);
    }
}
