//! Which CPU a guest thread runs on.
//!
//! Host calls: `sched_getaffinity`, `sched_setaffinity`.

use crate::host::thread::{self, CpuSet};

/// A guest thread's place: its sentry thread (the caller) and its stub thread share a CPU.
#[derive(Debug)]
pub struct Slot {}

impl Slot {
    /// Puts the caller and the stub thread `tid` on one CPU.
    pub fn new(tid: i32) -> Self {
        follow(tid);
        Self {}
    }

    /// The stub thread is another one from now on.
    pub fn retarget(&mut self, tid: i32) {
        follow(tid);
    }

    /// See [`crate::Context::set_blocked`].
    pub fn set_blocked(&mut self, _blocked: bool) {}
}

/// Puts the caller and the stub thread `tid` on one CPU.
pub fn follow(tid: i32) {
    let cpu = nix::sched::sched_getcpu().unwrap_or(0);
    let set = CpuSet::single(cpu);
    let _ = thread::set_affinity(0, &set);
    let _ = thread::set_affinity(tid, &set);
}
