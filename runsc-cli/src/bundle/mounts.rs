//! `mounts` of a config.json.

use super::mount_options::Options;
use super::submounts::Below;
use crate::sandbox::Exports;
use anyhow::{Context, bail};
use oci_spec::runtime::Mount;
use sentry::boot::{MountKind, MountSpec};
use std::path::Path;

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

/// Refuses an image that leads `/proc` or `/sys` elsewhere, as runc does: what is written there would not be what it is
/// taken for.
pub fn check_places(mounts: &[Mount], rootfs: &Path) -> anyhow::Result<()> {
    for mount in mounts {
        let kind = mount.typ().as_deref().unwrap_or_default();
        let relative = mount.destination().strip_prefix("/").unwrap_or(mount.destination());
        let place = rootfs.join(relative);
        let known = matches!(kind, "proc" | "sysfs");
        if known && place.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
            bail!(
                "filesystem {kind:?} must be mounted on ordinary directory: {} is none",
                place.display()
            );
        }
    }
    Ok(())
}

/// Translates them; bind mounts become exports of the gofer.
pub fn translate(
    mounts: &[Mount],
    bundle: &Path,
    exports: &mut Exports,
) -> anyhow::Result<Vec<MountSpec>> {
    let mut all = Vec::new();
    for mount in mounts {
        one(mount, bundle, exports, &mut all)
            .with_context(|| format!("the mount at {}", mount.destination().display()))?;
    }
    Ok(all)
}

/// Adds a mount, and what is mounted below its source if that comes along.
fn one(
    mount: &Mount,
    bundle: &Path,
    exports: &mut Exports,
    all: &mut Vec<MountSpec>,
) -> anyhow::Result<()> {
    // The specification allows relative destinations for old bundles; they start at the root.
    let destination = Path::new("/").join(mount.destination());
    let destination = destination.to_str().context("the destination is not UTF-8")?.to_string();
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = match mount.typ().as_deref().unwrap_or("none") {
        // The kernel of the sandbox has its own; the host's are not for the guest.
        _ if options.bind && destination == "/sys" => MountKind::Sysfs,
        _ if options.bind && destination == "/proc" => MountKind::Proc,
        kind if options.bind || kind == "bind" => {
            let source = mount.source().as_ref().context("a bind mount needs a \"source\"")?;
            return bind(&bundle.join(source), destination, &options, exports, all);
        }
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
    let source = mount.source().as_ref().and_then(|source| source.to_str()).map(String::from);
    all.push(MountSpec { destination, kind, source, flags: options.flags | options.propagation });
    Ok(())
}

fn bind(
    source: &Path,
    destination: String,
    options: &Options,
    exports: &mut Exports,
    all: &mut Vec<MountSpec>,
) -> anyhow::Result<()> {
    let read_only = |flags| flags & libc::MS_RDONLY != 0;
    let export = exports.add(source, read_only(options.flags), &[])?;
    let top = MountSpec {
        destination: destination.clone(),
        kind: MountKind::Gofer { export, overlay: None },
        source: None,
        flags: options.flags | options.propagation,
    };
    all.push(top);
    let below = if options.recursive { Below::of(source) } else { Vec::new() };
    for Below { path, relative, flags } in below {
        let Some(relative) = relative.to_str() else { continue };
        let destination = format!("{}/{relative}", destination.trim_end_matches('/'));
        let flags = flags & !options.clear_below | options.set_below;
        // Gone in this moment, or of a kind that is not shared: it looks as it does through the mount above.
        let Ok(export) = exports.add(&path, read_only(flags), &[]) else { continue };
        all.push(MountSpec {
            destination,
            kind: MountKind::Gofer { export, overlay: None },
            source: None,
            flags,
        });
    }
    Ok(())
}
