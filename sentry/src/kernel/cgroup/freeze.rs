//! `cgroup.freeze` and `cgroup.kill`.
//!
//! Tasks of a frozen group stop on their way back to guest code, as those of a paused sandbox do; see
//! `kernel/pause.rs`.

use super::{Cgroup, Watched};
use crate::kernel::signal::{SigInfo, Signal};
use crate::kernel::task::work;
use crate::kernel::{Kernel, Task, ThreadGroup};
use std::sync::Arc;

impl Cgroup {
    /// What `cgroup.freeze` was set to.
    pub fn freeze_wanted(&self) -> bool {
        self.state.lock().frozen
    }

    /// True if the group, or one above it, is to be frozen.
    pub fn is_frozen(self: &Arc<Self>) -> bool {
        self.path_up().any(|g| g.freeze_wanted())
    }

    /// Freezes or thaws the group and those below it.
    pub fn set_frozen(self: &Arc<Self>, kernel: &Kernel, frozen: bool) {
        let _tree = kernel.tree();
        let before: Vec<_> = self.subtree().into_iter().map(|g| (g.is_frozen(), g)).collect();
        self.state.lock().frozen = frozen;
        // Of a walk over all processes the tree's own table is used: its lock is held.
        for process in _tree.nodes.values().map(|n| &n.group) {
            let group = process.cgroup();
            if group.is_within(self) {
                group.freeze_arrived(process);
            }
        }
        for (was, group) in before {
            if was != group.is_frozen() {
                group.notify_file(Watched::Events);
            }
        }
    }

    /// Makes a process that has come into the group stop or go on as the group does.
    pub(super) fn freeze_arrived(self: &Arc<Self>, process: &ThreadGroup) {
        let frozen = self.is_frozen();
        for task in process.tasks() {
            set_stop(&task, work::FREEZE, frozen);
        }
    }

    /// A new task of a frozen or throttled group does not start. Called with the tree locked.
    pub fn stop_new(self: &Arc<Self>, task: &Task) {
        if self.is_frozen() {
            task.add_work(work::FREEZE);
        }
        if self.path_up().any(|g| g.cpu.is_throttled()) {
            task.add_work(work::THROTTLE);
        }
    }

    /// Kills every process in the group and below.
    pub fn kill(self: &Arc<Self>, kernel: &Kernel) {
        for process in self.members_below(kernel) {
            process.send_signal(kernel, &SigInfo::kernel(Signal::SIGKILL));
        }
    }
}

/// Sets or clears one of the reasons for which a task is kept from guest code.
pub(super) fn set_stop(task: &Arc<Task>, reason: u32, stop: bool) {
    if stop {
        task.add_work(reason);
    } else if task.work() & reason != 0 {
        task.clear_work(reason);
        task.parker.unpark();
    }
}
