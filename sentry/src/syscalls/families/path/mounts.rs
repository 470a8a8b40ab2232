//! `mount(2)`, `umount2(2)` and `pivot_root(2)`.

use super::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, find_path};
use crate::errno::{Errno, Result};
use crate::fs::filesystems::{self, Mounter};
use crate::fs::nsfs;
use crate::kernel::namespace::Namespace;
use crate::kernel::{CurrentTask, landlock};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Flags, PathPtr};
use crate::vfs::mount::{Propagation, follow_mounts};
use crate::vfs::permission::CAP_SYS_ADMIN;
use crate::vfs::{Mount, MountFlags, Path};
use std::sync::Arc;

const MS_REMOUNT: u64 = 32;
const MS_SILENT: u64 = 32768;
const MS_BIND: u64 = 4096;
const MS_MOVE: u64 = 8192;
const MS_REC: u64 = 16384;
const MS_MAGIC: u64 = 0xc0ed_0000;
const MS_MAGIC_MASK: u64 = 0xffff_0000;

/// Whether the caller may change its mount namespace (`may_mount`).
pub(super) fn require_admin(t: &CurrentTask) -> Result<()> {
    let namespace = t.fs().namespace();
    if t.creds().has_in(namespace.user_ns(), CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

/// An optional string argument.
fn text(t: &CurrentTask, addr: UserAddr) -> Result<Vec<u8>> {
    if addr.is_null() { Ok(Vec::new()) } else { t.mm().read_cstr(addr, 4095) }
}

/// `mount(2)`.
pub fn mount(
    t: &mut CurrentTask,
    source: UserAddr,
    target: PathPtr,
    type_name: UserAddr,
    flags: u64,
    data: UserAddr,
) -> SysResult {
    let (source_name, type_name) = (text(t, source)?, text(t, type_name)?);
    let options = text(t, data)?;
    let at = find_path(t, AT_FDCWD, target, 0)?;
    landlock::fs::check_mounts(t.creds())?;
    require_admin(t)?;
    let flags = if flags & MS_MAGIC_MASK == MS_MAGIC { flags & !MS_MAGIC_MASK } else { flags };
    let mount_flags = MountFlags::from_bits_truncate(flags as u32);
    let namespace = t.fs().namespace();
    if flags & MS_REMOUNT != 0 {
        return remount(t, &at, mount_flags, flags & MS_BIND != 0);
    }
    if flags & MS_BIND != 0 {
        let from = find_path(t, AT_FDCWD, PathPtr(source), 0)?;
        bind(t, &from, &at, flags & MS_REC != 0)?;
        return Ok(0);
    }
    if let Some(to) = Propagation::wanted(flags)? {
        if flags & !(MS_REC | MS_SILENT | Propagation::FLAGS) != 0 || !is_root(&at) {
            return Err(Errno::EINVAL);
        }
        namespace.set_propagation(&at.mount, to, flags & MS_REC != 0)?;
        return Ok(0);
    }
    if flags & MS_MOVE != 0 {
        let from = find_path(t, AT_FDCWD, PathPtr(source), 0)?;
        if !is_root(&from) {
            return Err(Errno::EINVAL);
        }
        namespace.move_mount(&from.mount, &at)?;
        return Ok(0);
    }
    let source_name = if source_name.is_empty() { b"none".to_vec() } else { source_name };
    let mount = new_mount(t, &type_name, &options, &source_name, mount_flags)?;
    namespace.attach(mount, &at)?;
    Ok(0)
}

/// A detached mount of a new file system. `ENODEV` for an unknown type, `EPERM` if the caller may not mount
/// it, or if it would show what the caller's namespace hides.
pub(super) fn new_mount(
    t: &CurrentTask,
    type_name: &[u8],
    options: &[u8],
    source: &[u8],
    flags: MountFlags,
) -> Result<Arc<Mount>> {
    let namespaces = t.namespaces();
    let mounter = Mounter {
        kernel: t.kernel(),
        creds: t.creds(),
        namespaces: &namespaces,
        pid_ns: t.group().pid_ns(),
    };
    if !filesystems::is_known(type_name) {
        return Err(Errno::ENODEV);
    }
    let owner = filesystems::owner(&mounter, type_name);
    if !t.creds().has_in(&owner, CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let root = filesystems::make(&mounter, type_name, options)?;
    if matches!(type_name, b"proc" | b"sysfs") && reveals(t, type_name, flags) {
        return Err(Errno::EPERM);
    }
    let times = MountFlags::NOATIME | MountFlags::STRICTATIME | MountFlags::RELATIME;
    let mut flags = flags;
    if !flags.intersects(times) {
        flags |= MountFlags::RELATIME;
    }
    let mount = Mount::new(root.fs(), root, source, flags - MountFlags::STRICTATIME);
    mount.set_fs_owner(&owner);
    Ok(mount)
}

/// True if a new instance of `proc` or `sysfs` would show more than the mounts of its type that a less
/// privileged mount namespace has (`mount_too_revealing`).
fn reveals(t: &CurrentTask, type_name: &[u8], flags: MountFlags) -> bool {
    let namespace = t.fs().namespace();
    if namespace.user_ns().is_root() {
        return false;
    }
    let hides = |mount: &Arc<Mount>| mount.children().iter().any(|child| child.is_locked());
    !namespace.mounts().iter().any(|mount| {
        mount.fs().type_name().as_bytes() == type_name
            && mount.root().parent().is_none()
            && (!mount.flags().contains(MountFlags::RDONLY) || flags.contains(MountFlags::RDONLY))
            && !hides(mount)
    })
}

/// Binds what is at `from` to `at`.
fn bind(t: &CurrentTask, from: &Path, at: &Path, recursive: bool) -> Result<()> {
    let namespace = t.fs().namespace();
    let copy = copy_for_bind(t, from, recursive)?;
    namespace.attach(copy, at)
}

/// A detached copy of what is at `from`. `EINVAL` if that is not in the caller's mount namespace, or if it
/// is a mount namespace that would then contain itself.
pub(super) fn copy_for_bind(t: &CurrentTask, from: &Path, recursive: bool) -> Result<Arc<Mount>> {
    let namespace = t.fs().namespace();
    match nsfs::namespace_at(from) {
        Some(Namespace::Mount(other)) if other.id() <= namespace.id() => return Err(Errno::EINVAL),
        Some(_) => {}
        None if !from.mount.is_in(&namespace) => return Err(Errno::EINVAL),
        None => {}
    }
    namespace.copy_tree(from, recursive)
}

/// True if something is mounted right there.
pub(super) fn is_root(path: &Path) -> bool {
    Arc::ptr_eq(&path.dentry, path.mount.root())
}

/// Changes the flags of a mount; without `mount_only` also those of its file system, which takes privileges
/// where that was mounted. A remount without flags about access times keeps them.
fn remount(t: &CurrentTask, at: &Path, flags: MountFlags, mount_only: bool) -> SysResult {
    if !is_root(at) || !at.mount.is_in(&t.fs().namespace()) {
        return Err(Errno::EINVAL);
    }
    if !mount_only && !t.creds().has_in(&at.mount.fs_owner(), CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let times = MountFlags::ATIME | MountFlags::STRICTATIME;
    let kept = match flags.intersects(times) {
        true => MountFlags::empty(),
        false => at.mount.flags() & MountFlags::ATIME,
    };
    let mut new = (flags | kept) - MountFlags::STRICTATIME;
    if !flags.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) && kept.is_empty() {
        new |= MountFlags::RELATIME;
    }
    at.mount.set_flags(new)?;
    Ok(0)
}

/// `umount2(2)`.
pub fn umount2(t: &mut CurrentTask, target: PathPtr, flags: Flags) -> SysResult {
    const MNT_FORCE: u32 = 1;
    const MNT_DETACH: u32 = 2;
    const MNT_EXPIRE: u32 = 4;
    const UMOUNT_NOFOLLOW: u32 = 8;
    if flags.0 & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags.0 & MNT_EXPIRE != 0 && flags.0 & (MNT_FORCE | MNT_DETACH) != 0 {
        return Err(Errno::EINVAL);
    }
    let nofollow = if flags.0 & UMOUNT_NOFOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    let mut at = find_path(t, AT_FDCWD, target, nofollow)?;
    follow_mounts(&mut at);
    require_admin(t)?;
    if !is_root(&at) {
        return Err(Errno::EINVAL);
    }
    if flags.0 & MNT_EXPIRE != 0 {
        landlock::fs::check_mounts(t.creds())?;
        // The first call only marks a mount; nothing here counts how long it was idle.
        return Err(Errno::EAGAIN);
    }
    let namespace = t.fs().namespace();
    let mount = at.mount.clone();
    drop(at);
    if mount.mountpoint().is_none() || !mount.is_in(&namespace) || mount.is_locked() {
        return Err(Errno::EINVAL);
    }
    if flags.0 & MNT_FORCE != 0 && !t.creds().has(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    landlock::fs::check_mounts(t.creds())?;
    if flags.0 & MNT_DETACH == 0 && mount.is_busy() {
        return Err(Errno::EBUSY);
    }
    namespace.detach(&mount, flags.0 & MNT_DETACH != 0)?;
    Ok(0)
}

/// `pivot_root(2)`.
pub fn pivot_root(t: &mut CurrentTask, new_root: PathPtr, put_old: PathPtr) -> SysResult {
    require_admin(t)?;
    let new = find_path(t, AT_FDCWD, new_root, 0)?;
    let put = find_path(t, AT_FDCWD, put_old, 0)?;
    if !new.dentry.is_dir() || !put.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    landlock::fs::check_mounts(t.creds())?;
    let old = t.fs().root();
    t.fs().namespace().pivot_root(&new, &put, &old)?;
    // As in Linux, every process whose root or working directory was the old root moves along.
    for group in t.kernel().thread_groups() {
        for task in group.tasks() {
            if let Ok(fs) = task.fs() {
                fs.replace(&old, &new);
            }
        }
    }
    Ok(0)
}
