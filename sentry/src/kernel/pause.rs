//! Pausing a sandbox: no guest code runs until it is resumed (`runsc pause`, the cgroup freezer).
//!
//! Tasks stop on their way back to guest code. A system call that sleeps goes on sleeping, and its task stops
//! when the call ends. Only the end of its process takes a task out of the pause.

use super::task::{place, work};
use super::{CurrentTask, Kernel, Task};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Kernel {
    /// True while it is paused.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Pauses every task. Each leaves guest code within microseconds; false if it was paused already.
    pub fn pause(&self) -> bool {
        if self.paused.swap(true, Ordering::SeqCst) {
            return false;
        }
        for task in self.all_tasks() {
            task.add_work(work::PAUSE);
        }
        true
    }

    /// Lets everything go on; false if it was not paused.
    pub fn resume(&self) -> bool {
        if !self.paused.swap(false, Ordering::SeqCst) {
            return false;
        }
        for task in self.all_tasks() {
            task.clear_work(work::PAUSE);
            task.parker.unpark();
        }
        true
    }

    /// A new task of a paused sandbox does not start. Called with the tree locked, so that either
    /// [`Kernel::pause`] sees the task or this sees the pause.
    pub(super) fn pause_new(&self, task: &Task) {
        if self.is_paused() {
            task.add_work(work::PAUSE);
        }
    }

    fn all_tasks(&self) -> Vec<Arc<Task>> {
        self.tree().pids.tasks.values().cloned().collect()
    }
}

/// Stops the calling task until the sandbox is resumed or the task must die.
pub(super) fn pause_here(t: &mut CurrentTask) {
    t.place.store(place::STOPPED, Ordering::SeqCst);
    t.context.set_blocked(true);
    while t.task().work() & work::PAUSE != 0 && t.task().work() & work::KILL == 0 {
        t.task().parker.park();
    }
    t.context.set_blocked(false);
    t.place.store(place::KERNEL, Ordering::SeqCst);
}
