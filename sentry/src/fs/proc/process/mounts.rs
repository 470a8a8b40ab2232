//! `mounts`, `mountinfo`, `mountstats`.

use super::Subject;
use crate::errno::Result;
use crate::vfs::mount::{Mount, MountFlags};
use crate::vfs::{FileSystem, Path};
use std::sync::Arc;

/// Mounts that the process can reach, with the path of each from its root.
fn visible(subject: &Subject) -> Result<Vec<(Arc<Mount>, Vec<u8>)>> {
    let fs = subject.task()?.fs()?;
    let root = fs.root();
    let mut visible = Vec::new();
    for mount in fs.namespace().mounts() {
        let text = mount.root_path().text(&root);
        if text.reachable {
            visible.push((mount, text.bytes));
        }
    }
    // As Linux since 6.8: in the order in which they were made.
    visible.sort_by_key(|(mount, _)| mount.id());
    Ok(visible)
}

/// Blanks and backslashes as octal escapes, as in `fstab(5)`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &b in bytes {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' => out.extend(format!("\\{b:03o}").bytes()),
            _ => out.push(b),
        }
    }
}

fn mount_options(flags: MountFlags) -> String {
    let mut text = String::from(if flags.contains(MountFlags::RDONLY) { "ro" } else { "rw" });
    for (flag, name) in [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
        (MountFlags::RELATIME, ",relatime"),
        (MountFlags::NOSYMFOLLOW, ",nosymfollow"),
    ] {
        if flags.contains(flag) {
            text.push_str(name);
        }
    }
    text
}

fn fs_options(fs: &Arc<dyn FileSystem>) -> String {
    match fs.options() {
        options if options.is_empty() => String::new(),
        options => format!(",{options}"),
    }
}

/// `mounts`
pub fn mounts(subject: &Subject) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for (mount, at) in visible(subject)? {
        escape(mount.source(), &mut text);
        text.push(b' ');
        escape(&at, &mut text);
        let (fs, flags) = (mount.fs(), mount_options(mount.flags()));
        text.extend(format!(" {} {flags}{} 0 0\n", fs.full_type(), fs_options(fs)).bytes());
    }
    Ok(text)
}

/// `mountinfo`
pub fn mountinfo(subject: &Subject) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for (mount, at) in visible(subject)? {
        let parent = mount.mountpoint().map_or(mount.id(), |at: Path| at.mount.id());
        let (fs, dev) = (mount.fs(), mount.fs().dev());
        let (major, minor) = (libc::major(dev), libc::minor(dev));
        text.extend(format!("{} {parent} {major}:{minor} ", mount.id()).bytes());
        escape(&root_within_fs(&mount), &mut text);
        text.push(b' ');
        escape(&at, &mut text);
        let mut tag = String::new();
        if let Some(group) = mount.peer_group() {
            tag.push_str(&format!(" shared:{}", group.id()));
        }
        if let Some(group) = mount.master() {
            tag.push_str(&format!(" master:{}", group.id()));
        }
        if mount.is_unbindable() {
            tag.push_str(" unbindable");
        }
        let options = mount_options(mount.flags());
        text.extend(format!(" {options}{tag} - {} ", fs.full_type()).bytes());
        escape(mount.source(), &mut text);
        text.extend(format!(" rw{}\n", fs_options(fs)).bytes());
    }
    Ok(text)
}

/// Which directory of its file system a mount shows.
pub(crate) fn root_within_fs(mount: &Arc<Mount>) -> Vec<u8> {
    if let Some(ns) = crate::fs::nsfs::namespace_at(&mount.root_path()) {
        return ns.text().into_bytes();
    }
    let mut names = Vec::new();
    let mut at = mount.root().clone();
    while let Some(parent) = at.parent() {
        names.push(at.name());
        at = parent;
    }
    if names.is_empty() {
        return b"/".to_vec();
    }
    names.iter().rev().flat_map(|name| [&b"/"[..], name].concat()).collect()
}

/// `mountstats`
pub fn mountstats(subject: &Subject) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for (mount, at) in visible(subject)? {
        text.extend_from_slice(b"device ");
        escape(mount.source(), &mut text);
        text.extend_from_slice(b" mounted on ");
        escape(&at, &mut text);
        text.extend(format!(" with fstype {}\n", mount.fs().full_type()).bytes());
    }
    Ok(text)
}
