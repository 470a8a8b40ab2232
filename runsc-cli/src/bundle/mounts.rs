//! `mounts` of a config.json.

use crate::sandbox::Exports;
use anyhow::{Context, bail};
use oci_spec::runtime::Mount;
use sentry::boot::{MountKind, MountSpec};
use std::path::Path;

/// Options that act or are accepted, for `runsc features`.
pub const OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "norelatime",
    "nosuid",
    "private",
    "rbind",
    "relatime",
    "ro",
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// Translates them; bind mounts become exports of the gofer.
pub fn translate(
    mounts: &[Mount],
    bundle: &Path,
    exports: &mut Exports,
) -> anyhow::Result<Vec<MountSpec>> {
    mounts
        .iter()
        .map(|mount| {
            one(mount, bundle, exports)
                .with_context(|| format!("the mount at {}", mount.destination().display()))
        })
        .collect()
}

fn one(mount: &Mount, bundle: &Path, exports: &mut Exports) -> anyhow::Result<MountSpec> {
    // The specification allows relative destinations for old bundles; they start at the root.
    let destination = Path::new("/").join(mount.destination());
    let destination = destination.to_str().context("the destination is not UTF-8")?.to_string();
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = match mount.typ().as_deref().unwrap_or("none") {
        // The kernel of the sandbox has its own; the host's are not for the guest.
        _ if options.bind && destination == "/sys" => MountKind::Sysfs,
        _ if options.bind && destination == "/proc" => MountKind::Proc,
        _ if options.bind => bind(mount, bundle, exports, options.flags & libc::MS_RDONLY != 0)?,
        "bind" => bind(mount, bundle, exports, options.flags & libc::MS_RDONLY != 0)?,
        // An image's empty /dev gets the nodes that the specification promises.
        "tmpfs" if destination == "/dev" => MountKind::Dev { console: false },
        "tmpfs" => MountKind::Tmpfs { options: options.data, copy_up: options.copy_up },
        "proc" => MountKind::Proc,
        "sysfs" => MountKind::Sysfs,
        "devpts" => MountKind::Devpts { options: options.data },
        "devtmpfs" => MountKind::Dev { console: false },
        "mqueue" => MountKind::Mqueue,
        "cgroup" | "cgroup2" => MountKind::Cgroup,
        other => bail!(
            "unknown type {other:?}; known are bind, tmpfs, proc, sysfs, devpts, mqueue and cgroup"
        ),
    };
    Ok(MountSpec { destination, kind, flags: options.flags })
}

/// What is written to volumes that are directories stays in the sandbox, up to `size` bytes for each.
pub fn keep_inside(mounts: &mut [MountSpec], size: u64) {
    for mount in mounts {
        if let MountKind::Gofer { overlay, .. } = &mut mount.kind
            && mount.flags & libc::MS_RDONLY == 0
        {
            *overlay = Some(size);
        }
    }
}

fn bind(
    mount: &Mount,
    bundle: &Path,
    exports: &mut Exports,
    read_only: bool,
) -> anyhow::Result<MountKind> {
    let source = mount.source().as_ref().context("a bind mount needs a \"source\"")?;
    let export = exports.add(&bundle.join(source), read_only, &[])?;
    Ok(MountKind::Gofer { export, overlay: None })
}

/// Options of `mount(8)`, taken apart.
#[derive(Default)]
struct Options {
    flags: u64,
    bind: bool,
    copy_up: bool,
    data: String,
}

impl Options {
    fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            let (set, clear) = match option.as_str() {
                "ro" => (libc::MS_RDONLY, 0),
                "rw" => (0, libc::MS_RDONLY),
                "nosuid" => (libc::MS_NOSUID, 0),
                "suid" => (0, libc::MS_NOSUID),
                "nodev" => (libc::MS_NODEV, 0),
                "dev" => (0, libc::MS_NODEV),
                "noexec" => (libc::MS_NOEXEC, 0),
                "exec" => (0, libc::MS_NOEXEC),
                "noatime" => (libc::MS_NOATIME, 0),
                "atime" => (0, libc::MS_NOATIME),
                "bind" | "rbind" => {
                    parsed.bind = true;
                    continue;
                }
                // They say how the host's mounts propagate; those of the sandbox are its own.
                "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave"
                | "unbindable" | "runbindable" | "relatime" | "strictatime"
                | "sync" | "async" | "dirsync" | "defaults" | "nodiratime" | "diratime" | "norelatime"
                // Labels of the host's.
                | "z" | "Z" | "U" | "copy" | "nocopy" => continue,
                "tmpcopyup" => {
                    parsed.copy_up = true;
                    continue;
                }
                data => {
                    if !parsed.data.is_empty() {
                        parsed.data.push(',');
                    }
                    parsed.data.push_str(data);
                    continue;
                }
            };
            parsed.flags = parsed.flags & !clear | set;
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn options_are_taken_apart() {
        let list = ["nosuid", "ro", "rw", "size=64k", "mode=755", "rbind"].map(String::from);
        let options = Options::parse(&list);
        assert_eq!(options.flags, libc::MS_NOSUID);
        assert_eq!(options.data, "size=64k,mode=755");
        assert!(options.bind);
    }
}
