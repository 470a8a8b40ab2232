//! What a cgroup has used, and the statistics that `runsc events` prints.

use super::Cgroup;
use sentry::boot::protocol::Stats;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn number(dir: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

/// The value of a key in a file of `key value` lines.
fn keyed(dir: &Path, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(dir.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

/// Statistics in the form of `runc events`. Processes are the guest's own; memory and CPU time are those
/// of the cgroup, with the sentry's share. Without a cgroup, and in a sandbox of several containers, they are what the
/// sandbox itself counts: the cgroup's figures are not those of one container then.
pub fn stats(group: Option<&Cgroup>, inside: &Stats) -> Value {
    let group = group.filter(|_| !inside.shared);
    let at = |controller| group.and_then(|g| g.dir(controller));
    let total = at("cpuacct").and_then(|(dir, v2)| match v2 {
        true => keyed(dir, "cpu.stat", "usage_usec ").map(|us| us * 1000),
        false => number(dir, "cpuacct.usage"),
    });
    let memory = at("memory").and_then(|(dir, v2)| {
        number(dir, if v2 { "memory.current" } else { "memory.usage_in_bytes" })
    });
    let limit = at("memory")
        .and_then(|(dir, v2)| number(dir, if v2 { "memory.max" } else { "memory.limit_in_bytes" }));
    let peak = at("memory").and_then(|(dir, v2)| {
        number(dir, if v2 { "memory.peak" } else { "memory.max_usage_in_bytes" })
    });
    let usage = memory.unwrap_or(inside.memory);
    let peak = peak.or(group.is_none().then_some(inside.memory_peak));
    json!({
        "cpu": { "usage": {
            "total": total.unwrap_or(inside.user.saturating_add(inside.system)),
            "user": inside.user,
            "kernel": inside.system,
        }, "throttling": {
            "periods": inside.periods,
            "throttledPeriods": inside.throttled_periods,
            "throttledTime": inside.throttled_time,
        }},
        "memory": {
            "usage": { "usage": usage, "limit": limit.unwrap_or(inside.memory_limit), "max": peak.unwrap_or(usage) },
            "raw": { "guest": inside.memory, "oom_kill": inside.oom_kills },
        },
        "pids": { "current": inside.threads, "limit": pids_limit(inside) },
    })
}

/// The most threads; 0, as runc has it, for no limit.
fn pids_limit(inside: &Stats) -> u64 {
    if inside.tasks_limit == u64::MAX { 0 } else { inside.tasks_limit }
}
