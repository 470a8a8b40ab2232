//! The memory controller: what the processes of a group have in memory, and the limit `memory.max`.
//!
//! Guest code touches memory without our knowledge, so that a limit is enforced by looking: the nearer a group is
//! to its limit, the sooner again. A group beyond it loses the process that has most. What is counted
//! are the pages of the processes' own mappings, anonymous and shared ones; files in memory that no one maps
//! are not.

use super::watch::Watch;
use super::{Cgroup, Controllers, Watched};
use crate::kernel::signal::{SigInfo, Signal};
use crate::kernel::{Kernel, ThreadGroup};
use crate::sync::{Mutex, rank};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Bytes that guest code can touch in a millisecond at the most: how soon a limit can be reached.
const BYTES_PER_MS: u64 = 2 << 20;
/// Between two looks at a group, in milliseconds.
const LOOKS_MS: (u64, u64) = (2, 1000);
/// `oom_score_adj` that exempts a process.
const EXEMPT: i32 = -1000;

/// A control group's memory. All sizes in bytes, [`u64::MAX`] is `max`.
pub struct Memory {
    /// `memory.min`, `memory.low`: kept and shown; nothing is ever reclaimed.
    pub min: AtomicU64,
    /// See [`Memory::min`].
    pub low: AtomicU64,
    /// `memory.high`: kept, shown and counted.
    pub high: AtomicU64,
    /// `memory.max`: beyond it a process is killed.
    pub max: AtomicU64,
    /// `memory.swap.max`: kept and shown; there is no swap.
    pub swap_max: AtomicU64,
    /// `memory.oom.group`: all processes are killed together.
    pub oom_group: AtomicBool,
    /// Most that was seen.
    pub peak: AtomicU64,
    /// `memory.events`.
    pub events: Events,
    /// Who wants to know of the next process that is killed.
    watchers: Mutex<Vec<Weak<dyn Killed>>, { rank::LEAF }>,
    watching: AtomicBool,
}

/// Who is told, once, before a process of the group is killed for want of memory.
pub trait Killed: Send + Sync {
    /// That is about to happen.
    fn killed(&self);
}

impl Memory {
    /// Tells `watcher` of the next process that is killed, unless it has gone by then.
    pub fn watch_kills(&self, watcher: Weak<dyn Killed>) {
        let mut watchers = self.watchers.lock();
        watchers.retain(|known| known.strong_count() > 0);
        watchers.push(watcher);
    }

    fn tell_of_kill(&self) {
        let watchers = std::mem::take(&mut *self.watchers.lock());
        for watcher in watchers.iter().filter_map(Weak::upgrade) {
            watcher.killed();
        }
    }
}

/// Counters of `memory.events`.
#[derive(Debug, Default)]
pub struct Events {
    /// Looks that found the group beyond `memory.high`.
    pub high: AtomicU64,
    /// Looks that found it beyond `memory.max`.
    pub max: AtomicU64,
    /// Times that something had to be killed.
    pub oom: AtomicU64,
    /// Processes killed.
    pub oom_kill: AtomicU64,
    /// Times that the whole group was killed.
    pub oom_group_kill: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        let most = || AtomicU64::new(u64::MAX);
        Self {
            min: AtomicU64::new(0),
            low: AtomicU64::new(0),
            high: most(),
            max: most(),
            swap_max: most(),
            oom_group: AtomicBool::new(false),
            peak: AtomicU64::new(0),
            events: Events::default(),
            watchers: Mutex::new(Vec::new()),
            watching: AtomicBool::new(false),
        }
    }
}

/// What a group has in memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct InMemory {
    /// Anonymous memory and private copies.
    pub anonymous: u64,
    /// Mapped memory files and shared anonymous memory.
    pub shared: u64,
    /// Mapped files of the host: not counted against limits, for the host keeps them.
    pub file: u64,
}

impl InMemory {
    /// What counts against a limit.
    pub fn charged(&self) -> u64 {
        self.anonymous.saturating_add(self.shared)
    }
}

impl Cgroup {
    /// What the group and those below have in memory; a look at every mapping of every process.
    pub fn in_memory(self: &Arc<Self>, kernel: &Kernel) -> InMemory {
        let mut total = InMemory::default();
        for (_, used) in self.by_process(kernel) {
            total.anonymous += used.anonymous;
            total.shared += used.shared;
            total.file += used.file;
        }
        self.memory.peak.fetch_max(total.charged(), Ordering::Relaxed);
        total
    }

    fn by_process(self: &Arc<Self>, kernel: &Kernel) -> Vec<(Arc<ThreadGroup>, InMemory)> {
        let mut seen = Vec::new();
        let mut all = Vec::new();
        for process in self.members_below(kernel) {
            let Some(mm) = process.any_task().and_then(|task| task.mm().ok()) else { continue };
            // After vfork(2) two processes have one memory.
            if seen.iter().any(|other| Arc::ptr_eq(other, &mm)) {
                continue;
            }
            let usage = mm.usage(0, u64::MAX);
            let (anonymous, shared, file) = (usage.anonymous, usage.shared, usage.file);
            all.push((process, InMemory { anonymous, shared, file }));
            seen.push(mm);
        }
        all
    }

    /// Starts to look at the group if it has a limit.
    pub fn watch_memory(self: &Arc<Self>, kernel: &Arc<Kernel>) {
        let m = &self.memory;
        let limit = m.max.load(Ordering::Relaxed).min(m.high.load(Ordering::Relaxed));
        let limited = limit != u64::MAX && self.controllers().contains(Controllers::MEMORY);
        if limited && self.is_populated() && !m.watching.swap(true, Ordering::SeqCst) {
            Watch::start(kernel, kernel.time.monotonic(), self, Cgroup::look_at_memory);
        }
    }

    /// When to look again; `None` when there is nothing more to watch.
    fn look_at_memory(self: &Arc<Self>, kernel: &Kernel) -> Option<u64> {
        let m = &self.memory;
        let (high, max) = (m.high.load(Ordering::Relaxed), m.max.load(Ordering::Relaxed));
        let limited = high.min(max) != u64::MAX && self.controllers().contains(Controllers::MEMORY);
        if !limited || !self.is_populated() {
            m.watching.store(false, Ordering::SeqCst);
            return None;
        }
        let used = self.in_memory(kernel).charged();
        if used > high {
            m.events.high.fetch_add(1, Ordering::Relaxed);
            self.notify_file(Watched::MemoryEvents);
        }
        if used > max {
            m.events.max.fetch_add(1, Ordering::Relaxed);
            self.out_of_memory(kernel, max);
        }
        let ms = (max.saturating_sub(used) / BYTES_PER_MS).clamp(LOOKS_MS.0, LOOKS_MS.1);
        Some(kernel.time.monotonic() + ms * 1_000_000)
    }

    /// Kills the largest process, or all with `memory.oom.group`. Nothing while one is ending, or if that was all that
    /// was needed to have no more than `max` bytes.
    fn out_of_memory(self: &Arc<Self>, kernel: &Kernel, max: u64) {
        let mut victims = self.by_process(kernel);
        victims.retain(|(p, _)| p.oom_score_adj.load(Ordering::Relaxed) > EXEMPT);
        if victims.iter().any(|(p, _)| p.signals().exiting()) {
            return;
        }
        // The last victim may have gone since memory was counted.
        if self.in_memory(kernel).charged() <= max {
            return;
        }
        self.memory.events.oom.fetch_add(1, Ordering::Relaxed);
        let whole = self.memory.oom_group.load(Ordering::Relaxed);
        if whole {
            self.memory.events.oom_group_kill.fetch_add(1, Ordering::Relaxed);
        } else {
            victims.sort_by_key(|(_, used)| std::cmp::Reverse(used.charged()));
            victims.truncate(1);
        }
        for (process, used) in victims {
            tracing::info!(
                pid = process.tgid(),
                bytes = used.charged(),
                "memory control group out of memory: the process is killed"
            );
            for group in process.cgroup().path_up() {
                group.memory.events.oom_kill.fetch_add(1, Ordering::Relaxed);
                group.memory.tell_of_kill();
            }
            process.send_signal(kernel, &SigInfo::kernel(Signal::SIGKILL));
        }
        self.notify_file(Watched::MemoryEvents);
    }

    /// A process has come: the limits of the group and of those above may want watching.
    pub(crate) fn watch_limits(self: &Arc<Self>, kernel: &Arc<Kernel>) {
        for group in self.path_up() {
            group.start_periods(kernel);
            group.watch_memory(kernel);
        }
    }
}
