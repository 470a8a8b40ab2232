//! Capabilities by name and number (`capabilities(7)`).

use anyhow::bail;
use oci_spec::runtime::Capability;
use sentry::boot::CapabilitySets;

/// Highest capability that Linux 6 knows: `CAP_CHECKPOINT_RESTORE`.
const LAST: u32 = 40;

/// Every capability, as root has them.
pub fn all() -> CapabilitySets {
    let all = (1u64 << (LAST + 1)) - 1;
    CapabilitySets { bounding: all, effective: all, permitted: all, inheritable: 0, ambient: 0 }
}

/// `CAP_NET_RAW`
const NET_RAW: u64 = 1 << 13;

/// Takes from a program what `--net-raw=false` takes.
pub fn heed_net_raw(net_raw: bool, sets: &mut CapabilitySets) {
    if !net_raw {
        remove(sets, NET_RAW);
    }
}

/// Takes capabilities, as bits, out of all sets.
fn remove(sets: &mut CapabilitySets, bits: u64) {
    let CapabilitySets { bounding, effective, permitted, inheritable, ambient } = sets;
    for set in [bounding, effective, permitted, inheritable, ambient] {
        *set &= !bits;
    }
}

/// The bits of a set from a config.json.
pub fn bits<'a>(set: impl IntoIterator<Item = &'a Capability>) -> anyhow::Result<u64> {
    let mut bits = 0;
    for capability in set {
        bits |= 1u64 << number(capability)?;
    }
    Ok(bits)
}

fn number(capability: &Capability) -> anyhow::Result<u32> {
    match NAMES.iter().position(|c| c == capability) {
        Some(n) => Ok(n as u32),
        None => bail!("config.json names the capability {capability:?}, which Linux does not have"),
    }
}

/// Every capability's name, in the form of config.json.
pub fn names() -> Vec<String> {
    NAMES.iter().map(|c| format!("CAP_{}", c.to_string().trim_start_matches("CAP_"))).collect()
}

/// The bit of a capability by its name, with or without `CAP_`.
pub fn by_name(name: &str) -> anyhow::Result<u64> {
    let wanted = format!("CAP_{}", name.to_ascii_uppercase().trim_start_matches("CAP_"));
    match names().iter().position(|known| *known == wanted) {
        Some(n) => Ok(1 << n),
        None => bail!("there is no capability {name:?}"),
    }
}

/// In the order of their numbers.
const NAMES: [Capability; LAST as usize + 1] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];
