//! `linux` of a config.json.

use super::scheduling;
use anyhow::{Context, bail};
use gofer::process::{IdMap, Users};
use oci_spec::runtime::{
    LinuxDeviceType, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, LinuxPersonalityDomain,
    LinuxResources, LinuxSeccomp, MemoryPolicyFlagType, MemoryPolicyModeType, Spec,
};
use sentry::boot::{ClocksSpec, DeviceSpec, LimitSpec, MemPolicySpec};

/// Device nodes beyond the default ones.
pub fn devices(spec: &Spec) -> anyhow::Result<Vec<DeviceSpec>> {
    let devices = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref());
    devices
        .unwrap_or_default()
        .iter()
        .map(|device| {
            let path = device.path().to_str().filter(|path| path.starts_with('/'));
            let path =
                path.with_context(|| format!("device {:?}: not an absolute path", device.path()))?;
            let kind = match device.typ() {
                LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
                LinuxDeviceType::B => libc::S_IFBLK,
                LinuxDeviceType::P => libc::S_IFIFO,
                LinuxDeviceType::A => {
                    bail!("device {path}: the type \"a\" is for cgroup rules only")
                }
            };
            let number =
                |n: i64| u32::try_from(n).with_context(|| format!("device {path}: bad number {n}"));
            Ok(DeviceSpec {
                path: path.into(),
                mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
                major: number(device.major())?,
                minor: number(device.minor())?,
                uid: device.uid().unwrap_or(0),
                gid: device.gid().unwrap_or(0),
            })
        })
        .collect()
}

/// Kernel settings, as paths below `/proc/sys`.
pub fn sysctl(spec: &Spec) -> anyhow::Result<Vec<(String, String)>> {
    let Some(settings) = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref()) else {
        return Ok(Vec::new());
    };
    let mut list = Vec::new();
    for (name, value) in settings {
        // Dots separate, unless slashes do; the other character then stands for itself.
        let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
        if path.split('/').any(|part| part.is_empty() || part == "..") {
            bail!("sysctl {name:?} is not the name of a setting");
        }
        list.push((path, value.clone()));
    }
    list.sort();
    Ok(list)
}

/// The limits that act inside, on one container; the cgroups of the host hold for the sandbox as a whole. Zero means
/// "as before" and a negative number "none".
pub fn limits(resources: Option<&LinuxResources>) -> LimitSpec {
    let limit = |value: Option<i64>| match value {
        None | Some(0) => None,
        Some(value) => Some(u64::try_from(value).unwrap_or(u64::MAX)),
    };
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    let pids = resources.and_then(|resources| resources.pids().as_ref());
    let cpu = resources.and_then(|resources| resources.cpu().as_ref());
    LimitSpec {
        cpu_quota: limit(cpu.and_then(|cpu| cpu.quota())),
        cpu_period: cpu.and_then(|cpu| cpu.period()).filter(|period| *period != 0),
        tasks: limit(pids.map(|pids| pids.limit())),
        memory: limit(memory.and_then(|memory| memory.limit())),
    }
}

/// The users and groups of the host that those of the container are, where it has a user namespace of its own, or
/// joins one.
pub fn users(spec: &Spec) -> anyhow::Result<Option<Users>> {
    let Some(linux) = spec.linux() else { return Ok(None) };
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let path = |n: &LinuxNamespace| n.path().clone().filter(|path| !path.as_os_str().is_empty());
    let user = namespaces.iter().find(|n| n.typ() == LinuxNamespaceType::User);
    if let Some(path) = user.and_then(path) {
        return super::user_namespace::users(&path);
    }
    let map = |mappings: &Option<Vec<LinuxIdMapping>>| -> Vec<IdMap> {
        let one = |m: &LinuxIdMapping| IdMap {
            inside: m.container_id(),
            outside: m.host_id(),
            count: m.size(),
        };
        mappings.iter().flatten().map(one).collect()
    };
    let (uids, gids) = (map(linux.uid_mappings()), map(linux.gid_mappings()));
    if user.is_none() || (uids.is_empty() && gids.is_empty()) {
        return Ok(None);
    }
    for (name, map) in [("uidMappings", &uids), ("gidMappings", &gids)] {
        if map.is_empty() || !map.iter().any(|m| m.inside == 0 && m.count > 0) {
            bail!(
                "\"linux.{name}\" has nothing for number 0: the files of the image need an owner"
            );
        }
        if map.iter().any(|m| m.inside.checked_add(m.count).is_none()) {
            bail!("\"linux.{name}\" has numbers beyond 4294967295");
        }
    }
    Ok(Some(Users { uids, gids }))
}

/// The maps of users and groups, as the container sees them.
pub fn id_maps(users: Option<&Users>) -> [Vec<(u32, u32, u32)>; 2] {
    let maps = users.map(|users| [&users.uids, &users.gids]);
    let one = |map: &IdMap| (map.inside, map.outside, map.count);
    maps.map(|maps| maps.map(|map| map.iter().map(one).collect())).unwrap_or_default()
}

/// The clocks of a time namespace of its own; [`super::checks`] has seen that only such a one has offsets.
pub fn clocks(spec: &Spec) -> anyhow::Result<Option<ClocksSpec>> {
    let Some(linux) = spec.linux() else { return Ok(None) };
    let mut namespaces = linux.namespaces().iter().flatten();
    if !namespaces.any(|n| n.typ() == LinuxNamespaceType::Time && n.path().is_none()) {
        return Ok(None);
    }
    let mut clocks = ClocksSpec::default();
    for (name, offset) in linux.time_offsets().iter().flatten() {
        let clock = match name.as_str() {
            "monotonic" => &mut clocks.monotonic,
            "boottime" => &mut clocks.boottime,
            _ => bail!("\"linux.timeOffsets\": there is no clock {name:?} that could be shifted"),
        };
        let nanos = offset.nanosecs().unwrap_or(0);
        if nanos >= SECOND as u32 {
            bail!(
                "\"linux.timeOffsets\": {name:?} has {nanos} nanoseconds, which is a second or more"
            );
        }
        let seconds = offset.secs().unwrap_or(0).checked_mul(SECOND);
        let total = seconds.and_then(|s| s.checked_add(i64::from(nanos)));
        *clock = total.with_context(|| {
            format!("\"linux.timeOffsets\": {name:?}: numerical result out of range")
        })?;
    }
    Ok(Some(clocks))
}

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// The personality of a 32-bit system.
const PER_LINUX32: u32 = 8;

/// `personality(2)` of the first process.
pub fn personality(spec: &Spec) -> u32 {
    let given = spec.linux().as_ref().and_then(|linux| linux.personality().as_ref());
    match given.map(|personality| personality.domain()) {
        Some(LinuxPersonalityDomain::PerLinux32) => PER_LINUX32,
        Some(LinuxPersonalityDomain::PerLinux) | None => 0,
    }
}

/// Most nodes that a Linux can be built for (`MAX_NUMNODES`).
const NODES_MAX: usize = 1024;

/// `set_mempolicy(2)` of the first process. The machine that it sees has one node.
pub fn memory_policy(spec: &Spec) -> anyhow::Result<MemPolicySpec> {
    use MemoryPolicyFlagType as F;
    use MemoryPolicyModeType as M;
    let given = spec.linux().as_ref().and_then(|linux| linux.memory_policy().as_ref());
    let Some(given) = given else { return Ok(MemPolicySpec::default()) };
    let mode = match given.mode() {
        M::MpolDefault => libc::MPOL_DEFAULT,
        M::MpolPreferred => libc::MPOL_PREFERRED,
        M::MpolBind => libc::MPOL_BIND,
        M::MpolInterleave => libc::MPOL_INTERLEAVE,
        M::MpolLocal => libc::MPOL_LOCAL,
        M::MpolPreferredMany => 5,
        M::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &F| match flag {
        F::MpolFStaticNodes => libc::MPOL_F_STATIC_NODES,
        F::MpolFRelativeNodes => libc::MPOL_F_RELATIVE_NODES,
        F::MpolFNumaBalancing => libc::MPOL_F_NUMA_BALANCING,
    };
    let flags = given.flags().iter().flatten().map(flag).fold(0, |all, one| all | one);
    let list = given.nodes().as_deref().unwrap_or_default();
    let nodes = scheduling::set_of(list, NODES_MAX).context("\"linux.memoryPolicy.nodes\"")?;
    let node0 = nodes.first().is_some_and(|word| word & 1 != 0);
    if !nodes.is_empty() && !node0 {
        bail!("\"linux.memoryPolicy.nodes\": there is no node but 0: invalid argument");
    }
    Ok(MemPolicySpec { mode: mode | flags, node0 })
}

/// The profile of system calls.
pub fn seccomp(spec: &Spec) -> Option<&LinuxSeccomp> {
    spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref())
}

/// Paths that look empty.
pub fn masked_paths(spec: &Spec) -> Vec<String> {
    let paths = spec.linux().as_ref().and_then(|linux| linux.masked_paths().clone());
    paths.unwrap_or_default()
}

/// Paths that cannot be written to.
pub fn read_only_paths(spec: &Spec) -> Vec<String> {
    let paths = spec.linux().as_ref().and_then(|linux| linux.readonly_paths().clone());
    paths.unwrap_or_default()
}
