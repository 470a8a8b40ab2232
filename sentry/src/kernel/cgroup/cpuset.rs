//! The cpuset controller: which CPUs the tasks of a group are said to run on (`sched_getaffinity(2)`, `/proc/PID/status`).
//! As the affinity itself it is kept and reported; the host schedules. There is one memory node.
//!
//! What a group allows is worked out when it is asked for, so that a change reaches every task below at once.

use super::{Cgroup, Controllers};
use crate::errno::{Errno, Result};
use crate::kernel::cpus::{all_cpus, common_or, is_empty, list, parse};
use crate::kernel::{Kernel, Task};
use crate::sync::{Mutex, rank};
use std::sync::Arc;

/// What a group's files of the controller say.
#[derive(Debug, Default)]
pub struct CpuSet {
    settings: Mutex<Settings, { rank::LEAF }>,
}

#[derive(Debug, Default)]
struct Settings {
    /// `cpuset.cpus`; no CPU: it says nothing.
    cpus: Vec<u64>,
    /// `cpuset.mems` names the node that there is.
    mems: bool,
    partition: Partition,
}

/// `cpuset.cpus.partition`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Partition {
    #[default]
    Member,
    /// Asked for `root` or `isolated`, and not had: no group that a sandbox sees is below a partition root. The
    /// word, and whether the group had no CPUs to take with it.
    Refused(&'static str, bool),
}

impl Cgroup {
    /// Whether a group has the controller's files.
    fn has_cpuset(&self) -> bool {
        self.controllers().contains(Controllers::CPUSET)
    }

    /// CPUs that tasks in the group may have (`cpuset.cpus.effective`): its own of those of the group above, all of
    /// these if that is none.
    pub fn allowed_cpus(self: &Arc<Self>, kernel: &Kernel) -> Vec<u64> {
        let mut path: Vec<&Arc<Cgroup>> = self.path_up().collect();
        path.reverse();
        path.iter().fold(all_cpus(kernel.config.cpus), |allowed, group| {
            if !group.has_cpuset() {
                return allowed;
            }
            common_or(&group.cpuset.settings.lock().cpus, allowed)
        })
    }

    /// `cpuset.cpus`
    pub fn cpuset_cpus(&self) -> String {
        list(&self.cpuset.settings.lock().cpus)
    }

    /// Changes what [`Cgroup::cpuset_cpus`] gives. `EINVAL`, `ERANGE`; `ENOSPC` for none, if there are processes.
    pub fn set_cpuset_cpus(&self, kernel: &Kernel, text: &str) -> Result<()> {
        let cpus = parse(text, kernel.config.cpus)?;
        let mut settings = self.cpuset.settings.lock();
        if is_empty(&cpus) && !is_empty(&settings.cpus) && self.is_populated() {
            return Err(Errno::ENOSPC);
        }
        settings.cpus = cpus;
        Ok(())
    }

    /// `cpuset.mems`
    pub fn cpuset_mems(&self) -> &'static str {
        if self.cpuset.settings.lock().mems { "0" } else { "" }
    }

    /// Changes what [`Cgroup::cpuset_mems`] gives. `EINVAL` for another node than the one that there is; `ENOSPC` for none, if there
    /// are processes.
    pub fn set_cpuset_mems(&self, text: &str) -> Result<()> {
        let mems = parse(text, 1).map_err(|_| Errno::EINVAL)? != [0];
        let mut settings = self.cpuset.settings.lock();
        if !mems && settings.mems && self.is_populated() {
            return Err(Errno::ENOSPC);
        }
        settings.mems = mems;
        Ok(())
    }

    /// `cpuset.cpus.partition`
    pub fn cpuset_partition(&self) -> String {
        match self.cpuset.settings.lock().partition {
            Partition::Member => "member".into(),
            Partition::Refused(word, true) => {
                format!("{word} invalid (cpuset.cpus and cpuset.cpus.exclusive are empty)")
            }
            Partition::Refused(word, false) => {
                format!("{word} invalid (Parent is not a partition root)")
            }
        }
    }

    /// Changes what [`Cgroup::cpuset_partition`] gives. `EINVAL` for an unknown word.
    pub fn set_cpuset_partition(&self, text: &str) -> Result<()> {
        let mut settings = self.cpuset.settings.lock();
        let none = is_empty(&settings.cpus);
        settings.partition = match text {
            "member" => Partition::Member,
            "root" => Partition::Refused("root", none),
            "isolated" => Partition::Refused("isolated", none),
            _ => return Err(Errno::EINVAL),
        };
        Ok(())
    }
}

impl Task {
    /// CPUs that it may run on: those it asked for of those that its control group has, or all of the group's.
    pub fn affinity(&self) -> Vec<u64> {
        let asked = self.sched.lock().affinity.clone();
        common_or(&asked, self.group().cgroup().allowed_cpus(self.kernel()))
    }
}
