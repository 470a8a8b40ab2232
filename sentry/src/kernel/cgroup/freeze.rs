//! `cgroup.freeze` and `cgroup.kill`.
//!
//! Tasks of a frozen group stop on their way back to guest code, as those of a paused sandbox do; see
//! `kernel/pause.rs`.

use super::{Cgroup, Watched};
use crate::kernel::signal::{SigInfo, Signal};
use crate::kernel::task::{place, work};
use crate::kernel::tree::Tree;
use crate::kernel::{Kernel, Task, ThreadGroup};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
        let before: Vec<_> = self.subtree().into_iter().map(|g| (g.is_frozen(), g)).collect();
        {
            let tree = kernel.tree();
            self.state.lock().frozen = frozen;
            self.hold_members(&tree);
        }
        for (was, group) in before {
            match (was, group.is_frozen()) {
                (false, true) => group.settle(kernel),
                (true, false) if std::mem::take(&mut group.state.lock().settled) => {
                    group.notify_file(Watched::Events);
                }
                _ => {}
            }
        }
    }

    /// True if the group is frozen and every task in it and below has stopped (`frozen` in `cgroup.events`). A task that
    /// sleeps in a system call has: it stops when it would wake up.
    pub fn has_settled(self: &Arc<Self>, kernel: &Kernel) -> bool {
        if !self.is_frozen() {
            return false;
        }
        self.settle(kernel);
        self.state.lock().settled
    }

    /// Notes, and tells who watches, that all tasks have stopped, if that is new.
    fn settle(self: &Arc<Self>, kernel: &Kernel) {
        if self.state.lock().settled || !self.is_frozen() {
            return;
        }
        let rests = |task: &Arc<Task>| {
            !matches!(task.place.load(Ordering::SeqCst), place::GUEST | place::KERNEL)
        };
        let all = self.members_below(kernel).iter().all(|p| p.tasks().iter().all(rests));
        if all && !std::mem::replace(&mut self.state.lock().settled, true) {
            self.notify_file(Watched::Events);
        }
    }

    /// A task of the group, which is to be frozen, has stopped. Called without a lock.
    pub fn task_stopped(self: &Arc<Self>, kernel: &Kernel) {
        for group in self.path_up() {
            group.settle(kernel);
        }
    }

    /// Why tasks of the group are kept from guest code now, bits of [`work::HOLDS`].
    fn holds(self: &Arc<Self>) -> u32 {
        let frozen = if self.is_frozen() { work::FREEZE } else { 0 };
        let throttled = self.path_up().any(|g| g.cpu.is_throttled());
        frozen | if throttled { work::THROTTLE } else { 0 }
    }

    /// Makes the processes in the group and below stop or go on as their groups do now.
    pub(super) fn hold_members(self: &Arc<Self>, tree: &Tree) {
        // The tree's own table: its lock is held.
        for process in tree.nodes.values().map(|n| &n.group) {
            let group = process.cgroup();
            if group.is_within(self) {
                group.hold(process);
            }
        }
    }

    /// Makes a process of the group stop or go on as the group does; also when it comes from one that did not.
    pub(super) fn hold(self: &Arc<Self>, process: &ThreadGroup) {
        let holds = self.holds();
        if holds & work::FREEZE != 0 {
            for group in self.path_up() {
                group.state.lock().settled = false;
            }
        }
        for task in process.tasks() {
            set_holds(&task, holds);
        }
    }

    /// A new task of a frozen or throttled group does not start. Called with the tree locked.
    pub fn stop_new(self: &Arc<Self>, task: &Task) {
        let holds = self.holds();
        if holds != 0 {
            task.add_work(holds);
        }
    }

    /// Kills every process in the group and below.
    pub fn kill(self: &Arc<Self>, kernel: &Kernel) {
        for process in self.members_below(kernel) {
            process.send_signal(kernel, &SigInfo::kernel(Signal::SIGKILL));
        }
    }
}

/// Keeps a task from guest code for these reasons of control groups, and no others.
fn set_holds(task: &Task, holds: u32) {
    let gone = (work::FREEZE | work::THROTTLE) & !holds & task.work();
    if gone != 0 {
        task.clear_work(gone);
        task.parker.unpark();
    }
    if holds != 0 {
        task.add_work(holds);
    }
}
