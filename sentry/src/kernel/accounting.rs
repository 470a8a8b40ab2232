//! CPU time and other usage (`getrusage(2)`, `times(2)`).

use super::{CurrentTask, Task, ThreadGroup};

/// What ended threads of a process, and its reaped children, have used. Times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Ended threads: in guest code.
    pub user: u64,
    /// Ended threads: in the sentry.
    pub system: u64,
    /// Ended threads: page faults handled by the sentry.
    pub faults: u64,
    /// Ended threads: sleeps.
    pub switches: u64,
    /// Largest resident set of the process, in bytes.
    pub max_rss: u64,
    /// `CLOCK_MONOTONIC` before which the resident set is not measured again.
    pub measure_at: u64,
    /// Reaped children and their children.
    pub children: Rusage,
    /// Name of the thread that ended last, for `/proc/PID` of a zombie.
    pub comm: [u8; 16],
}

/// Totals of some tasks. Times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rusage {
    /// In guest code.
    pub user: u64,
    /// In the sentry.
    pub system: u64,
    /// Page faults.
    pub faults: u64,
    /// Sleeps.
    pub switches: u64,
    /// Largest resident set, in bytes.
    pub max_rss: u64,
}

impl Rusage {
    /// Adds another; of the resident sets the larger counts.
    pub fn add(&mut self, other: &Rusage) {
        self.user = self.user.saturating_add(other.user);
        self.system = self.system.saturating_add(other.system);
        self.faults = self.faults.saturating_add(other.faults);
        self.switches = self.switches.saturating_add(other.switches);
        self.max_rss = self.max_rss.max(other.max_rss);
    }
}

/// Part of a process's time that may go into measuring its resident set, as a divisor.
const MEASURING: u64 = 50;

/// Measures the resident set of the caller's process for `ru_maxrss`, unless that was done lately: it takes
/// longer the more memory there is, and some programs ask for their CPU time all the time.
pub fn note_resident(t: &CurrentTask) {
    if t.group().resident_is_due(t.kernel().time.monotonic()) {
        measure_resident(t);
    }
}

fn measure_resident(t: &CurrentTask) {
    let start = t.kernel().time.monotonic();
    let resident = t.mm().usage(0, u64::MAX).total();
    let end = t.kernel().time.monotonic();
    let next = end.saturating_add(end.saturating_sub(start).saturating_mul(MEASURING));
    t.group().note_resident(resident, next);
}

/// As [`note_resident`], before the memory in `len` bytes from `start` goes, if that is enough to be worth it: what a
/// process has at most is looked for where it gets less. Most areas that go have been used in a small part (stacks), or
/// not at all.
pub fn note_before_release(t: &CurrentTask, start: u64, len: u64) {
    const WORTH: u64 = 1 << 20;
    if len < WORTH {
        return;
    }
    let half = t.group().usage.lock().max_rss / 2;
    if len < half && !t.group().resident_is_due(t.kernel().time.monotonic()) {
        return;
    }
    let released = t.mm().usage(start, start.saturating_add(len)).total();
    if released < WORTH {
        return;
    }
    // Much of it goes at once: that costs more than to measure.
    if released >= half { measure_resident(t) } else { note_resident(t) }
}

/// As [`note_resident`], before a program is replaced, unless it is small: most are, right after a fork.
pub fn note_before_exec(t: &CurrentTask) {
    const SMALL: u64 = 8 << 20;
    if t.mm().totals().data > SMALL {
        note_resident(t);
    }
}

/// Nanoseconds in a clock tick (`USER_HZ` is 100).
pub const TICK: u64 = 10_000_000;

impl Task {
    /// What this thread has used.
    pub fn rusage(&self) -> Rusage {
        let (user, system) = self.cpu_times();
        Rusage {
            user,
            system,
            faults: self.faults.load(std::sync::atomic::Ordering::Relaxed),
            switches: self.switches.load(std::sync::atomic::Ordering::Relaxed),
            max_rss: 0,
        }
    }
}

impl ThreadGroup {
    /// What the process has used, ended threads included.
    pub fn rusage(&self) -> Rusage {
        let tasks = self.tasks();
        let mut total = {
            let usage = self.usage.lock();
            Rusage {
                user: usage.user,
                system: usage.system,
                faults: usage.faults,
                switches: usage.switches,
                max_rss: usage.max_rss,
            }
        };
        for task in &tasks {
            total.add(&task.rusage());
        }
        total
    }

    /// Notes a resident set, of which the largest is kept, and when (`CLOCK_MONOTONIC`) it may be
    /// measured again.
    pub fn note_resident(&self, bytes: u64, next: u64) {
        let mut usage = self.usage.lock();
        usage.max_rss = usage.max_rss.max(bytes);
        usage.measure_at = next;
    }

    /// Whether the resident set may be measured at `now`.
    pub fn resident_is_due(&self, now: u64) -> bool {
        now >= self.usage.lock().measure_at
    }

    /// What reaped children have used.
    pub fn children_rusage(&self) -> Rusage {
        self.usage.lock().children
    }

    /// CPU time of the process in nanoseconds: in guest code and in the sentry.
    pub fn cpu_times(&self) -> (u64, u64) {
        let usage = self.rusage();
        (usage.user, usage.system)
    }

    /// CPU time in clock ticks, as `siginfo_t` carries it.
    pub fn cpu_ticks(&self) -> (i64, i64) {
        let (user, system) = self.cpu_times();
        ((user / TICK) as i64, (system / TICK) as i64)
    }

    /// Takes over the usage of a task that has left the process.
    pub(super) fn absorb(&self, task: &Task) {
        let of_task = task.rusage();
        let comm = task.comm_bytes();
        let mut usage = self.usage.lock();
        usage.user = usage.user.saturating_add(of_task.user);
        usage.system = usage.system.saturating_add(of_task.system);
        usage.faults = usage.faults.saturating_add(of_task.faults);
        usage.switches = usage.switches.saturating_add(of_task.switches);
        usage.comm = comm;
    }
}
