//! The mounts that make a container's root file system.

use anyhow::Context;
use containerd_shim_protos::types::mount::Mount;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::Path;

/// Options that are flags of mount(2).
const FLAGS: [(&str, MsFlags); 10] = [
    ("ro", MsFlags::MS_RDONLY),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("noatime", MsFlags::MS_NOATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("bind", MsFlags::MS_BIND),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("rw", MsFlags::empty()),
];

fn options(list: &[String]) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut rest = Vec::new();
    for option in list {
        match FLAGS.iter().find(|(name, _)| name == option) {
            Some((_, flag)) => flags |= *flag,
            None if option == "defaults" => {}
            None => rest.push(option.as_str()),
        }
    }
    (flags, rest.join(","))
}

/// Mounts them, one over the other, at the bundle's `rootfs`.
pub fn mount_all(bundle: &Path, mounts: &[Mount]) -> anyhow::Result<()> {
    let target = bundle.join("rootfs");
    for part in mounts {
        let (flags, data) = options(&part.options);
        let what =
            || format!("cannot mount {} ({}) at {}", part.source, part.type_, target.display());
        let (source, kind) = (part.source.as_str(), part.type_.as_str());
        mount(Some(source), &target, Some(kind), flags, Some(data.as_str())).with_context(what)?;
        if flags.contains(MsFlags::MS_BIND | MsFlags::MS_RDONLY) {
            // A bind mount takes over nothing else at first.
            let again = flags | MsFlags::MS_REMOUNT;
            mount(None::<&str>, &target, None::<&str>, again, None::<&str>).with_context(what)?;
        }
    }
    Ok(())
}

/// Takes away what is mounted there.
pub fn unmount(bundle: &Path) {
    // The last attempt finds nothing.
    while umount2(&bundle.join("rootfs"), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok()
    {
    }
}

#[cfg(test)]
mod tests {
    use super::options;
    use nix::mount::MsFlags;

    #[test]
    fn mount_options() {
        let of = |text: &str| options(&text.split(' ').map(String::from).collect::<Vec<_>>());
        assert_eq!(
            of("rbind ro"),
            (MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY, String::new())
        );
        assert_eq!(
            of("workdir=/w rw lowerdir=/a:/b"),
            (MsFlags::empty(), "workdir=/w,lowerdir=/a:/b".into())
        );
    }
}
