//! `mount(2)`, `umount2(2)` and `pivot_root(2)`.

use super::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, find_path};
use crate::errno::{Errno, Result};
use crate::fs::filesystems;
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Flags, PathPtr};
use crate::vfs::mount::Propagation;
use crate::vfs::permission::CAP_SYS_ADMIN;
use crate::vfs::{Mount, MountFlags, Path};
use std::sync::Arc;

const MS_REMOUNT: u64 = 32;
const MS_BIND: u64 = 4096;
const MS_MOVE: u64 = 8192;
const MS_REC: u64 = 16384;
const MS_UNBINDABLE: u64 = 1 << 17;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;
const MS_MAGIC: u64 = 0xc0ed_0000;
const MS_MAGIC_MASK: u64 = 0xffff_0000;

const PROPAGATIONS: [(u64, Propagation); 4] = [
    (MS_UNBINDABLE, Propagation::Unbindable),
    (MS_PRIVATE, Propagation::Private),
    (MS_SLAVE, Propagation::Slave),
    (MS_SHARED, Propagation::Shared),
];

fn require_admin(t: &CurrentTask) -> Result<()> {
    if t.creds().has(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
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
    require_admin(t)?;
    let flags = if flags & MS_MAGIC_MASK == MS_MAGIC { flags & !MS_MAGIC_MASK } else { flags };
    let mount_flags = MountFlags::from_bits_truncate(flags as u32);
    let namespace = t.fs().namespace();
    if flags & MS_REMOUNT != 0 {
        return remount(&at, mount_flags);
    }
    if flags & MS_BIND != 0 {
        let from = find_path(t, AT_FDCWD, PathPtr(source), 0)?;
        let copy = namespace.copy_tree(&from, flags & MS_REC != 0)?;
        namespace.attach(copy, &at)?;
        return Ok(0);
    }
    let wanted: Vec<_> = PROPAGATIONS.iter().filter(|(bit, _)| flags & bit != 0).collect();
    match wanted.as_slice() {
        [] => {}
        [(_, propagation)] => return propagate(&at, *propagation, flags & MS_REC != 0),
        _ => return Err(Errno::EINVAL),
    }
    if flags & MS_MOVE != 0 {
        let from = find_path(t, AT_FDCWD, PathPtr(source), 0)?;
        if !is_root(&from) {
            return Err(Errno::EINVAL);
        }
        namespace.move_mount(&from.mount, &at)?;
        return Ok(0);
    }
    let root = filesystems::make(t.kernel(), &type_name, &options)?;
    let source_name = if source_name.is_empty() { b"none".to_vec() } else { source_name };
    let relatime = if mount_flags
        .intersects(MountFlags::NOATIME | MountFlags::STRICTATIME | MountFlags::RELATIME)
    {
        MountFlags::empty()
    } else {
        MountFlags::RELATIME
    };
    let mount = Mount::new(root.fs(), root, &source_name, mount_flags | relatime);
    namespace.attach(mount, &at)?;
    Ok(0)
}

fn is_root(path: &Path) -> bool {
    Arc::ptr_eq(&path.dentry, path.mount.root())
}

/// Changes the flags of a mount. A remount without flags about access times keeps them.
fn remount(at: &Path, flags: MountFlags) -> SysResult {
    if !is_root(at) {
        return Err(Errno::EINVAL);
    }
    let times = MountFlags::NOATIME
        | MountFlags::NODIRATIME
        | MountFlags::RELATIME
        | MountFlags::STRICTATIME;
    let kept = if flags.intersects(times) { MountFlags::empty() } else { at.mount.flags() & times };
    at.mount.set_flags(flags | kept);
    Ok(0)
}

fn propagate(at: &Path, propagation: Propagation, recursive: bool) -> SysResult {
    if !is_root(at) {
        return Err(Errno::EINVAL);
    }
    let mounts = if recursive { at.mount.tree() } else { vec![at.mount.clone()] };
    for mount in mounts {
        mount.set_propagation(propagation);
    }
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
    let at = find_path(t, AT_FDCWD, target, nofollow)?;
    if !is_root(&at) {
        return Err(Errno::EINVAL);
    }
    require_admin(t)?;
    if flags.0 & MNT_EXPIRE != 0 {
        // The first call only marks a mount; nothing here counts how long it was idle.
        return Err(Errno::EAGAIN);
    }
    let namespace = t.fs().namespace();
    let mount = at.mount.clone();
    drop(at);
    if mount.mountpoint().is_none() {
        return Err(Errno::EINVAL);
    }
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
