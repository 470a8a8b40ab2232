//! From `linux.resources` to the files of both versions.

use super::{Cgroup, block_io, devices};
use oci_spec::runtime::LinuxResources;
use std::fs;
use std::path::{Path, PathBuf};

/// The host has more processes than the guest: each guest thread is a thread of the sentry and one of a stub.
/// The guest's own limit is kept inside; this one is the net below it.
pub fn host_pids(limit: i64) -> i64 {
    limit.saturating_mul(3).saturating_add(64)
}

/// Files to write, and what.
pub fn files(group: &Cgroup, resources: &LinuxResources) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut put = |controller: &str, v1: &str, v2: &str, value: (String, String)| {
        let Some((dir, is_v2)) = group.dir(controller) else { return };
        let (name, value) = if is_v2 { (v2, value.1) } else { (v1, value.0) };
        if !name.is_empty() && !value.is_empty() {
            files.push((dir.join(name), value));
        }
    };
    let same = |value: String| (value.clone(), value);
    if let Some(memory) = resources.memory() {
        let limit = memory.limit().filter(|l| *l != 0);
        // Linux keeps memory ≤ memory + swap at every step: lowering goes one way, raising the other.
        if let Some(limit) = limit {
            put("memory", "memory.limit_in_bytes", "memory.max", (limit.to_string(), max(limit)));
        }
        if let Some(swap) = memory.swap().filter(|s| *s != 0) {
            let beyond =
                if swap > 0 { max(swap.saturating_sub(limit.unwrap_or(0))) } else { max(-1) };
            // Without swap accounting the file does not exist.
            let v1 = group
                .dir("memory")
                .filter(|(dir, _)| dir.join("memory.memsw.limit_in_bytes").exists())
                .map_or("", |_| "memory.memsw.limit_in_bytes");
            put("memory", v1, "memory.swap.max", (swap.to_string(), beyond));
        }
        if let Some(soft) = memory.reservation().filter(|r| *r != 0) {
            put(
                "memory",
                "memory.soft_limit_in_bytes",
                "memory.low",
                (soft.to_string(), max(soft)),
            );
        }
    }
    if let Some(memory) = resources.memory() {
        // Version 2 has neither: with it they are passed over, as runc does.
        if let Some(swappiness) = memory.swappiness() {
            put("memory", "memory.swappiness", "", same(swappiness.to_string()));
        }
        if memory.disable_oom_killer() == Some(true) {
            put("memory", "memory.oom_control", "", same("1".into()));
        }
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
            put(
                "cpu",
                "cpu.shares",
                "cpu.weight",
                (shares.to_string(), weight(shares).to_string()),
            );
        }
        let period = cpu.period().filter(|p| *p != 0);
        let quota = cpu.quota().filter(|q| *q != 0);
        if let Some(period) = period {
            put("cpu", "cpu.cfs_period_us", "", same(period.to_string()));
        }
        if let Some(quota) = quota {
            put("cpu", "cpu.cfs_quota_us", "", same(quota.to_string()));
        }
        if period.is_some() || quota.is_some() {
            let line = format!("{} {}", max(quota.unwrap_or(-1)), period.unwrap_or(100_000));
            put("cpu", "", "cpu.max", same(line));
        }
        if let Some(cpus) = cpu.cpus() {
            put("cpuset", "cpuset.cpus", "cpuset.cpus", same(cpus.clone()));
        }
        if let Some(mems) = cpu.mems() {
            put("cpuset", "cpuset.mems", "cpuset.mems", same(mems.clone()));
        }
    }
    if let Some(pids) = resources.pids() {
        let limit = pids.limit();
        let value = if limit > 0 { host_pids(limit).to_string() } else { "max".into() };
        put("pids", "pids.max", "pids.max", same(value));
    }
    for ((v1, line1), (v2, line2)) in resources.block_io().iter().flat_map(block_io::lines) {
        let Some((dir, is_v2)) = group.dir(if group.is_v2() { "" } else { "blkio" }) else {
            continue;
        };
        let (name, line) = if is_v2 { (v2, line2) } else { (v1, line1) };
        // Which files there are depends on the host's schedulers.
        if !name.is_empty() && dir.join(&name).exists() {
            files.push((dir.join(name), line));
        }
    }
    if let Some((dir, false)) = group.dir("devices") {
        let rules = devices::lines(resources.devices().as_deref().unwrap_or_default());
        files.extend(rules.into_iter().map(|(name, line)| (dir.join(name), line)));
    }
    if let Some(unified) = resources.unified() {
        for (name, value) in unified {
            let plain = !name.contains('/') && name.contains('.');
            if let Some((dir, true)) = group.dir("").filter(|_| plain) {
                files.push((dir.join(name), value.clone()));
            }
        }
    }
    files
}

/// A limit as version 2 writes it.
fn max(limit: i64) -> String {
    if limit < 0 { "max".into() } else { limit.to_string() }
}

/// `cpu.weight` for `cpu.shares`, by the formula of systemd and runc.
pub fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// A new cpuset of version 1 has no CPUs and takes no process until it has some: those of its parent.
pub fn inherit_cpuset(dir: &Path) {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let empty = fs::read_to_string(dir.join(name)).is_ok_and(|text| text.trim().is_empty());
        let Some(parent) = dir.parent().filter(|_| empty) else { continue };
        if let Ok(text) = fs::read_to_string(parent.join(name)) {
            // Refused in version 2, where empty means inherited.
            let _ = fs::write(dir.join(name), text.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dir;
    use super::*;

    #[test]
    fn both_versions() {
        let resources: LinuxResources = serde_json::from_str(
            r#"{"memory":{"limit":1000,"swap":3000},"cpu":{"shares":1024,"quota":5000},"pids":{"limit":10}}"#,
        )
        .unwrap();
        let group = |controllers: &[&str]| Cgroup {
            dirs: vec![Dir {
                controllers: controllers.iter().map(|c| c.to_string()).collect(),
                path: "/g".into(),
            }],
            scope: None,
        };
        let text = |group| {
            let files = files(&group, &resources);
            files.iter().map(|(f, v)| format!("{}={v}", f.display())).collect::<Vec<_>>()
        };
        assert_eq!(
            text(group(&[])),
            [
                "/g/memory.max=1000",
                "/g/memory.swap.max=2000",
                "/g/cpu.weight=39",
                "/g/cpu.max=5000 100000",
                "/g/pids.max=94"
            ]
        );
        assert_eq!(text(group(&["memory"])), ["/g/memory.limit_in_bytes=1000"]);
        assert_eq!(text(group(&["cpu"])), ["/g/cpu.shares=1024", "/g/cpu.cfs_quota_us=5000"]);
    }
}
