//! The pids controller: how many tasks a control group and those below it may have.

use super::Cgroup;
use crate::errno::{Errno, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A control group's tasks. Ended tasks that nobody has waited for are not counted, which Linux does.
#[derive(Debug)]
pub struct Pids {
    /// Tasks in the group and below.
    pub current: AtomicU64,
    /// Most at any time.
    pub peak: AtomicU64,
    /// `pids.max`; [`u64::MAX`] is `max`.
    pub max: AtomicU64,
    /// Refusals because of this group's limit.
    pub refused: AtomicU64,
}

impl Default for Pids {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self { current: zero(), peak: zero(), max: AtomicU64::new(u64::MAX), refused: zero() }
    }
}

/// One task, counted in a control group and in those above for as long as this lives.
#[derive(Debug)]
pub struct Charge(Arc<Cgroup>);

impl Charge {
    /// Counts a new task. `EAGAIN` if a group's limit does not allow it.
    pub fn new(group: &Arc<Cgroup>) -> Result<Charge> {
        let charge = Charge::moved(group);
        let full = group
            .path_up()
            .find(|g| g.pids.current.load(Ordering::Relaxed) > g.pids.max.load(Ordering::Relaxed));
        let Some(full) = full else { return Ok(charge) };
        full.pids.refused.fetch_add(1, Ordering::Relaxed);
        full.notify_file(super::Watched::PidsEvents);
        Err(Errno::EAGAIN)
    }

    /// Counts a task that comes from another group: no limit keeps it out.
    pub fn moved(group: &Arc<Cgroup>) -> Charge {
        for g in group.path_up() {
            let now = g.pids.current.fetch_add(1, Ordering::Relaxed) + 1;
            g.pids.peak.fetch_max(now, Ordering::Relaxed);
        }
        Charge(group.clone())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        for g in self.0.path_up() {
            g.pids.current.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
