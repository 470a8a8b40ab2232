//! Which CPU a channel belongs to: both sides compute the same list.

use rustix::thread::{CpuSet, sched_getaffinity};

/// Most channels one connection has. Beyond it CPUs share channels.
pub const MAX_CHANNELS: usize = 64;

/// The CPUs this process may run on, ascending. Channel *i* belongs to the *i*-th of them (modulo
/// the number of channels). One CPU, number 0, when the host does not say.
pub fn channel_cpus() -> Vec<usize> {
    let cpus: Vec<usize> = sched_getaffinity(None).map_or_else(
        |_| Vec::new(),
        |set| (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
    );
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// How many channels a connection on this host should have: one per CPU it may use.
pub fn channel_count() -> usize {
    channel_cpus().len().min(MAX_CHANNELS)
}
