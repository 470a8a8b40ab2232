//! Scheduling attributes (`sched(7)`). They are kept and reported; the host's scheduler decides.

use super::cpus::all_cpus;

/// `SCHED_OTHER`.
pub const SCHED_OTHER: u32 = 0;
/// `SCHED_FIFO`.
pub const SCHED_FIFO: u32 = 1;
/// `SCHED_RR`.
pub const SCHED_RR: u32 = 2;
/// `SCHED_BATCH`.
pub const SCHED_BATCH: u32 = 3;
/// `SCHED_IDLE`.
pub const SCHED_IDLE: u32 = 5;
/// `SCHED_DEADLINE`.
pub const SCHED_DEADLINE: u32 = 6;

/// Scheduling attributes of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sched {
    /// `SCHED_*`.
    pub policy: u32,
    /// Real-time priority, 0 for the others.
    pub priority: u32,
    /// Niceness, -20 to 19.
    pub nice: i32,
    /// `SCHED_RESET_ON_FORK`.
    pub reset_on_fork: bool,
    /// CPUs it has asked for ([`Task::affinity`](super::Task::affinity)), a bit each; 64 to a word.
    pub affinity: Vec<u64>,
    /// `ioprio_set(2)`.
    pub ioprio: u32,
    /// Runtime, deadline and period of `SCHED_DEADLINE`, nanoseconds.
    pub deadline: [u64; 3],
}

impl Sched {
    /// Attributes of the first task, on a machine with so many CPUs.
    pub fn new(cpus: u32) -> Sched {
        Sched {
            policy: SCHED_OTHER,
            priority: 0,
            nice: 0,
            reset_on_fork: false,
            affinity: all_cpus(cpus),
            ioprio: 0,
            deadline: [0; 3],
        }
    }

    /// Attributes of a child.
    pub fn forked(&self) -> Sched {
        let mut child = self.clone();
        if child.reset_on_fork {
            child.reset_on_fork = false;
            if matches!(child.policy, SCHED_FIFO | SCHED_RR | SCHED_DEADLINE) {
                child.policy = SCHED_OTHER;
                child.priority = 0;
                child.nice = 0;
            }
            child.nice = child.nice.max(0);
        }
        child
    }
}
