//! Pausing a container, which is a pid namespace: no guest code runs until it is resumed (`runsc pause`, the cgroup
//! freezer).
//!
//! Tasks stop on their way back to guest code. A system call that sleeps goes on sleeping, and its task stops
//! when it would wake up. Only the end of its process takes a task out of the pause.

use super::namespace::PidNamespace;
use super::task::{place, work};
use super::{CurrentTask, Kernel, Task};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Kernel {
    /// Pauses every task of a pid namespace and those below. Each leaves guest code within microseconds; false if
    /// it was paused already.
    pub fn pause(&self, space: &PidNamespace) -> bool {
        if space.set_paused(true) {
            return false;
        }
        for task in self.tasks_of(space) {
            task.add_work(work::PAUSE);
        }
        true
    }

    /// Lets everything go on; false if it was not paused.
    pub fn resume(&self, space: &PidNamespace) -> bool {
        if !space.set_paused(false) {
            return false;
        }
        for task in self.tasks_of(space) {
            if !task.group().pid_ns().is_paused() {
                task.clear_work(work::PAUSE);
                task.parker.unpark();
            }
        }
        true
    }

    /// A new task of a paused container does not start. Called with the tree locked, so that either
    /// [`Kernel::pause`] sees the task or this sees the pause.
    pub(super) fn pause_new(&self, task: &Task) {
        if task.group().pid_ns().is_paused() {
            task.add_work(work::PAUSE);
        }
        task.group().cgroup().stop_new(task);
    }

    fn tasks_of(&self, space: &PidNamespace) -> Vec<Arc<Task>> {
        let tree = self.tree();
        let tasks = tree.pids.tasks.values();
        tasks.filter(|task| space.contains(task.group().pid_ns())).cloned().collect()
    }
}

/// Stops the calling task until nothing holds it any more ([`work::HOLDS`]) or the task must die.
pub(super) fn pause_here(t: &mut CurrentTask) {
    t.place.store(place::STOPPED, Ordering::SeqCst);
    stopped(t.task());
    t.context.set_blocked(true);
    while t.task().work() & work::HOLDS != 0 && t.task().work() & work::KILL == 0 {
        t.task().parker.park();
    }
    t.context.set_blocked(false);
    t.place.store(place::KERNEL, Ordering::SeqCst);
}

/// Tells the control group that wants the task to stop that it has, or sleeps.
pub(super) fn stopped(task: &Task) {
    if task.work() & work::FREEZE != 0 {
        task.group().cgroup().task_stopped(task.kernel());
    }
}
