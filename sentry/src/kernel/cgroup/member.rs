//! Which control group a process is in.

use super::{Cgroup, Charge, Watched};
use crate::errno::{Errno, Result};
use crate::kernel::{Kernel, ThreadGroup};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A process's place in the tree.
#[derive(Debug)]
pub struct Member {
    /// Its group.
    pub group: Arc<Cgroup>,
    /// CPU time that it had used when it came, in user code and in all: other groups' account.
    pub before: (u64, u64),
    /// Counted as a living process of the group.
    pub counted: bool,
}

impl Member {
    /// A process that is about to start in `group`.
    pub fn new(group: Arc<Cgroup>) -> Member {
        Member { group, before: (0, 0), counted: false }
    }
}

impl ThreadGroup {
    /// Its control group.
    pub fn cgroup(&self) -> Arc<Cgroup> {
        self.member.lock().group.clone()
    }

    /// It lives: called with the process tree locked. `ENODEV` if the group has been removed.
    pub(in crate::kernel) fn enter_cgroup(&self) -> Result<()> {
        let group = self.cgroup();
        if group.state.lock().removed {
            return Err(Errno::ENODEV);
        }
        self.member.lock().counted = true;
        group.count(1);
        Ok(())
    }

    /// It lives no more: called with the process tree locked. Its place stays readable.
    pub(in crate::kernel) fn leave_cgroup(&self) {
        let group = {
            let mut member = self.member.lock();
            if !std::mem::take(&mut member.counted) {
                return;
            }
            member.group.clone()
        };
        group.cpu.ended(self.cpu_since_joined());
        group.count(-1);
    }

    /// CPU time used in the present group: in user code and in all, in nanoseconds.
    pub(super) fn cpu_since_joined(&self) -> (u64, u64) {
        let (user, system) = self.cpu_times();
        let (user_before, before) = self.member.lock().before;
        (user.saturating_sub(user_before), (user + system).saturating_sub(before))
    }
}

impl Cgroup {
    /// Changes the number of living processes.
    fn count(self: &Arc<Self>, by: isize) {
        self.processes.fetch_add(by as usize, Ordering::SeqCst);
        for group in self.path_up() {
            let before = group.populated.fetch_add(by as usize, Ordering::SeqCst);
            if before == 0 || before.wrapping_add(by as usize) == 0 {
                group.notify_file(Watched::Events);
            }
        }
    }

    /// Living processes in the group itself.
    pub fn members(self: &Arc<Self>, kernel: &Kernel) -> Vec<Arc<ThreadGroup>> {
        let mut all = kernel.thread_groups();
        all.retain(|p| {
            let member = p.member.lock();
            member.counted && Arc::ptr_eq(&member.group, self)
        });
        all.sort_by_key(|p| p.tgid());
        all
    }

    /// Living processes in it and below.
    pub fn members_below(self: &Arc<Self>, kernel: &Kernel) -> Vec<Arc<ThreadGroup>> {
        let mut all = kernel.thread_groups();
        all.retain(|p| {
            let (group, counted) = {
                let member = p.member.lock();
                (member.group.clone(), member.counted)
            };
            counted && group.is_within(self)
        });
        all
    }

    /// Moves a process with all its tasks here. `EBUSY` if the group hands controllers on, `ENODEV` if it
    /// has been removed, `ESRCH` if the process has ended.
    pub fn attach(
        self: &Arc<Self>,
        kernel: &Arc<Kernel>,
        process: &Arc<ThreadGroup>,
    ) -> Result<()> {
        {
            let _tree = kernel.tree();
            {
                let state = self.state.lock();
                if state.removed {
                    return Err(Errno::ENODEV);
                }
                if !state.enabled.is_empty() {
                    return Err(Errno::EBUSY);
                }
            }
            let old = process.cgroup();
            if Arc::ptr_eq(&old, self) {
                return Ok(());
            }
            let spent = process.cpu_since_joined();
            let (user, system) = process.cpu_times();
            {
                let mut member = process.member.lock();
                if !member.counted {
                    return Err(Errno::ESRCH);
                }
                member.group = self.clone();
                member.before = (user, user + system);
            }
            old.cpu.ended(spent);
            for task in process.tasks() {
                let mut charge = task.pid_charge.lock();
                if charge.is_some() {
                    *charge = Some(Charge::moved(self));
                }
            }
            // The new group first: their common ones are never empty in between.
            self.count(1);
            old.count(-1);
            self.hold(process);
        }
        self.watch_limits(kernel);
        Ok(())
    }
}
