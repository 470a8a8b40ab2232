//! The cpu controller: CPU time used, and the bandwidth of `cpu.max`.
//!
//! There is no scheduler of ours to ask for time slices. A timer adds up what a limited group's threads have used,
//! comes back when they could have used up their quota, and keeps them from guest code for the rest of
//! the period once they have. What a group uses beyond its quota, because the timer was late, its next
//! period lacks. No timer runs for a group without a limit or without processes.

use super::watch::Watch;
use super::{Cgroup, Controllers};
use crate::kernel::Kernel;
use crate::sync::{Mutex, rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shortest time between two looks at a group, in nanoseconds.
const SHORTEST: u64 = 500_000;

/// A control group's CPU time.
#[derive(Debug)]
pub struct Cpu {
    /// `cpu.weight`, 1 to 10000. Kept and shown: threads of the host have one weight.
    pub weight: AtomicU64,
    /// Of ended processes, of such as have moved on, and of removed groups: in user code and in all,
    /// nanoseconds.
    gone: [AtomicU64; 2],
    /// Tasks of the group are kept from guest code.
    throttled: AtomicBool,
    bandwidth: Mutex<Bandwidth, { rank::LEAF }>,
}

/// Quota and periods, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Bandwidth {
    /// `cpu.max`: time in a period; [`u64::MAX`] is `max`.
    pub quota: u64,
    /// Length of a period.
    pub period: u64,
    /// `cpu.max.burst`: unused quota that may be kept.
    pub burst: u64,
    /// Periods that have passed.
    pub periods: u64,
    /// Periods in which the group was throttled.
    pub throttled_periods: u64,
    /// How long it was throttled.
    pub throttled_time: u64,
    started: u64,
    used_before: u64,
    budget: u64,
    throttled_at: u64,
    running: bool,
}

impl Default for Cpu {
    fn default() -> Self {
        let bandwidth = Bandwidth {
            quota: u64::MAX,
            period: 100_000_000,
            burst: 0,
            periods: 0,
            throttled_periods: 0,
            throttled_time: 0,
            started: 0,
            used_before: 0,
            budget: 0,
            throttled_at: 0,
            running: false,
        };
        Self {
            weight: AtomicU64::new(100),
            gone: [AtomicU64::new(0), AtomicU64::new(0)],
            throttled: AtomicBool::new(false),
            bandwidth: Mutex::new(bandwidth),
        }
    }
}

impl Cpu {
    /// Adds what a process has used that is no longer in the group.
    pub(super) fn ended(&self, (user, all): (u64, u64)) {
        for (total, more) in self.gone.iter().zip([user, all]) {
            total.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Adds what a group below that is being removed has used.
    pub(super) fn take_over(&self, other: &Cpu) {
        let [user, all] = other.gone.each_ref().map(|n| n.load(Ordering::Relaxed));
        self.ended((user, all));
    }

    /// Tasks are kept from guest code until the period ends.
    pub fn is_throttled(&self) -> bool {
        self.throttled.load(Ordering::SeqCst)
    }

    /// Quota, period and what became of them.
    pub fn bandwidth(&self) -> Bandwidth {
        *self.bandwidth.lock()
    }
}

/// What the timer does next.
enum Next {
    Look(u64),
    Throttle(u64),
    Release(u64),
}

impl Bandwidth {
    /// One look at the clock and at what has been used so far.
    fn step(&mut self, now: u64, used: u64, threads: u64, throttled: bool) -> Next {
        let end = self.started.saturating_add(self.period);
        if now >= end {
            let spent = used.saturating_sub(self.used_before);
            let left = self.budget.saturating_sub(spent).min(self.burst);
            let over = spent.saturating_sub(self.budget);
            self.budget = self.quota.saturating_add(left).saturating_sub(over);
            self.used_before = used;
            self.started = now;
            self.periods += 1;
            if self.budget > 0 {
                let next = now + self.until_used_up(0, threads);
                if throttled {
                    self.throttled_time += now.saturating_sub(self.throttled_at);
                    return Next::Release(next);
                }
                return Next::Look(next);
            }
        }
        let end = self.started.saturating_add(self.period);
        if throttled {
            return Next::Look(end);
        }
        let spent = used.saturating_sub(self.used_before);
        if spent >= self.budget {
            self.throttled_periods += 1;
            self.throttled_at = now;
            return Next::Throttle(end);
        }
        Next::Look((now + self.until_used_up(spent, threads)).min(end))
    }

    /// The soonest at which so many threads can have used the rest of the budget.
    fn until_used_up(&self, spent: u64, threads: u64) -> u64 {
        (self.budget.saturating_sub(spent) / threads.max(1)).clamp(SHORTEST, self.period)
    }
}

impl Cgroup {
    /// CPU time of the group and those below it since they exist: in user code and in all, nanoseconds.
    pub fn cpu_used(self: &Arc<Self>, kernel: &Kernel) -> (u64, u64) {
        let groups = self.subtree();
        let gone = |i: usize| -> u64 {
            groups.iter().filter_map(|g| g.cpu.gone.get(i)).map(|n| n.load(Ordering::Relaxed)).sum()
        };
        let mut total = (gone(0), gone(1));
        for process in self.members_below(kernel) {
            let (user, all) = process.cpu_since_joined();
            total = (total.0 + user, total.1 + all);
        }
        total
    }

    /// `cpu.max`: `quota` ([`u64::MAX`] for none) of every `period`, in nanoseconds.
    pub fn set_bandwidth(
        self: &Arc<Self>,
        kernel: &Arc<Kernel>,
        change: impl FnOnce(&mut Bandwidth),
    ) {
        change(&mut self.cpu.bandwidth.lock());
        if self.is_populated() {
            self.start_periods(kernel);
        }
    }

    /// Starts the timer of the group's bandwidth if it has a limit and no timer yet.
    pub(super) fn start_periods(self: &Arc<Self>, kernel: &Arc<Kernel>) {
        let limited = self.cpu.bandwidth.lock().quota != u64::MAX;
        if !limited || !self.controllers().contains(Controllers::CPU) {
            return;
        }
        let used = self.cpu_used(kernel).1;
        let now = kernel.time.monotonic();
        {
            let mut bandwidth = self.cpu.bandwidth.lock();
            if std::mem::replace(&mut bandwidth.running, true) {
                return;
            }
            bandwidth.started = now;
            bandwidth.used_before = used;
            bandwidth.budget = bandwidth.quota;
        }
        Watch::start(kernel, now + SHORTEST, self, Cgroup::look_at_bandwidth);
    }

    fn set_throttled(self: &Arc<Self>, kernel: &Kernel, throttled: bool) {
        let tree = kernel.tree();
        self.cpu.throttled.store(throttled, Ordering::SeqCst);
        self.hold_members(&tree);
    }

    /// When to look again; `None` when there is nothing more to watch.
    fn look_at_bandwidth(self: &Arc<Self>, kernel: &Kernel) -> Option<u64> {
        let throttled = self.cpu.is_throttled();
        let gone = !self.is_populated() || !self.controllers().contains(Controllers::CPU);
        if gone || self.cpu.bandwidth.lock().quota == u64::MAX {
            self.cpu.bandwidth.lock().running = false;
            if throttled {
                self.set_throttled(kernel, false);
            }
            return None;
        }
        let used = self.cpu_used(kernel).1;
        let threads = self.pids.current.load(Ordering::Relaxed).min(u64::from(kernel.config.cpus));
        let now = kernel.time.monotonic();
        let next = self.cpu.bandwidth.lock().step(now, used, threads, throttled);
        match next {
            Next::Look(at) => Some(at),
            Next::Throttle(at) => {
                self.set_throttled(kernel, true);
                Some(at)
            }
            Next::Release(at) => {
                self.set_throttled(kernel, false);
                Some(at)
            }
        }
    }
}
