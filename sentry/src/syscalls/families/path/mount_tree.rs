//! `open_tree(2)`, `move_mount(2)`, `mount_setattr(2)`: mounts by descriptor.

use super::fscontext::{ATIME, ATTRIBUTES, flags_of, install};
use super::mounts::{copy_for_bind, is_root, require_admin};
use super::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, find_path};
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, landlock};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, PathPtr};
use crate::vfs::mount::{Propagation, detached, follow_mounts};
use crate::vfs::{File, Mount, MountFlags, OpenFlags, Path, open};
use std::sync::Arc;

const AT_NO_AUTOMOUNT: u32 = 0x800;
const AT_RECURSIVE: u32 = 0x8000;
const OPEN_TREE_CLONE: u32 = 1;
const CLOEXEC: u32 = OpenFlags::CLOEXEC.bits();

/// `open_tree(2)`.
pub fn open_tree(t: &mut CurrentTask, dirfd: Fd, path: PathPtr, flags: u32) -> SysResult {
    let file = tree(t, dirfd, path, flags)?;
    install(t, file, flags & CLOEXEC != 0)
}

fn tree(t: &CurrentTask, dirfd: Fd, path: PathPtr, flags: u32) -> Result<Arc<File>> {
    const KNOWN: u32 = AT_EMPTY_PATH
        | AT_NO_AUTOMOUNT
        | AT_RECURSIVE
        | AT_SYMLINK_NOFOLLOW
        | OPEN_TREE_CLONE
        | CLOEXEC;
    if flags & !KNOWN != 0 || flags & (AT_RECURSIVE | OPEN_TREE_CLONE) == AT_RECURSIVE {
        return Err(Errno::EINVAL);
    }
    let clone = flags & OPEN_TREE_CLONE != 0;
    if clone {
        require_admin(t)?;
    }
    let at = find_path(t, dirfd, path, flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))?;
    if !clone {
        return Ok(open::path_only(at));
    }
    let mount = copy_for_bind(t, &at, flags & AT_RECURSIVE != 0)?;
    Ok(detached::open(mount))
}

/// `open_tree_attr(2)`.
pub fn open_tree_attr(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    flags: u32,
    attr: UserAddr,
    size: u64,
) -> SysResult {
    if attr.is_null() && size != 0 {
        return Err(Errno::EINVAL);
    }
    let file = tree(t, dirfd, path, flags)?;
    if !attr.is_null() {
        let Some(change) = Change::read(t, attr, size)? else {
            return install(t, file, flags & CLOEXEC != 0);
        };
        let at = file.path().ok_or(Errno::EINVAL)?;
        change.apply(t, at, flags & AT_RECURSIVE != 0)?;
    }
    install(t, file, flags & CLOEXEC != 0)
}

/// `move_mount(2)`.
pub fn move_mount(
    t: &mut CurrentTask,
    from_dirfd: Fd,
    from_path: PathPtr,
    to_dirfd: Fd,
    to_path: PathPtr,
    flags: u32,
) -> SysResult {
    const SET_GROUP: u32 = 0x100;
    const BENEATH: u32 = 0x200;
    require_admin(t)?;
    if flags & !0x377 != 0 || flags & (SET_GROUP | BENEATH) == SET_GROUP | BENEATH {
        return Err(Errno::EINVAL);
    }
    // Three bits for either side: follow links, automount, empty path.
    let at_flags = |bits: u32| {
        let link = if bits & 1 == 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
        link | if bits & 4 != 0 { AT_EMPTY_PATH } else { 0 }
    };
    let to = find_path(t, to_dirfd, to_path, at_flags(flags >> 4))?;
    let from = find_path(t, from_dirfd, from_path, at_flags(flags))?;
    if flags & SET_GROUP != 0 {
        return Err(Errno::EINVAL);
    }
    landlock::fs::check_mounts(t.creds())?;
    if !is_root(&from) {
        return Err(Errno::EINVAL);
    }
    let namespace = t.fs().namespace();
    if flags & BENEATH != 0 {
        // A mount that is somewhere already would have to leave that place first.
        if from.mount.namespace().is_some() || from.mount.mountpoint().is_some() {
            return Err(Errno::EINVAL);
        }
        let mut to = to;
        follow_mounts(&mut to);
        namespace.attach_beneath(&from.mount, &to)?;
        return Ok(0);
    }
    if from.mount.namespace().is_some() {
        namespace.move_mount(&from.mount, &to)?;
        return Ok(0);
    }
    if from.mount.mountpoint().is_some() || !to.mount.is_in(&namespace) {
        return Err(Errno::EINVAL);
    }
    if from.mount.root().is_dir() != to.dentry.is_dir() {
        return Err(Errno::EINVAL);
    }
    namespace.attach(from.mount.clone(), &to)?;
    Ok(0)
}

/// What `mount_setattr(2)` is to do.
struct Change {
    set: u64,
    clear: u64,
    propagation: Option<Propagation>,
}

impl Change {
    /// Reads a `struct mount_attr`. `None` if it asks for nothing.
    fn read(t: &CurrentTask, attr: UserAddr, size: u64) -> Result<Option<Change>> {
        const SIZE: u64 = 32;
        if size > crate::mm::PAGE_SIZE {
            return Err(Errno::E2BIG);
        }
        let more = size.checked_sub(SIZE).ok_or(Errno::EINVAL)?;
        let mut rest = vec![0; more as usize];
        t.mm().read(attr.offset(SIZE), &mut rest)?;
        if rest.iter().any(|b| *b != 0) {
            return Err(Errno::E2BIG);
        }
        let [set, clear, propagation, _userns]: [u64; 4] = t.mm().read_obj(attr)?;
        if set == 0 && clear == 0 && propagation == 0 {
            return Ok(None);
        }
        let propagation = match propagation {
            0 => None,
            0x2_0000 => Some(Propagation::Unbindable),
            0x4_0000 => Some(Propagation::Private),
            0x8_0000 => Some(Propagation::Slave),
            0x10_0000 => Some(Propagation::Shared),
            _ => return Err(Errno::EINVAL),
        };
        // Whoever sets a choice about access times clears all of them first.
        if !matches!(clear & ATIME, 0 | ATIME) {
            return Err(Errno::EINVAL);
        }
        if clear & ATIME == 0 && set & ATIME != 0 {
            return Err(Errno::EINVAL);
        }
        flags_of(set)?;
        flags_of(clear & !ATIME)?;
        Ok(Some(Change { set, clear, propagation }))
    }

    fn flags(&self, mount: &Mount) -> Result<MountFlags> {
        let mut flags = mount.flags();
        for (bit, flag) in ATTRIBUTES {
            if self.clear & bit != 0 {
                flags.remove(flag);
            }
            if self.set & bit != 0 {
                flags.insert(flag);
            }
        }
        if self.clear & ATIME != 0 {
            let times = MountFlags::RELATIME | MountFlags::NOATIME;
            flags = (flags - times) | (flags_of(self.set & ATIME)? & times);
        }
        Ok(flags)
    }

    /// Changes the mount at `at`, and with `recursive` those below it: all or none.
    fn apply(&self, t: &CurrentTask, at: &Path, recursive: bool) -> Result<()> {
        let namespace = t.fs().namespace();
        let attached = at.mount.namespace().is_some();
        if !is_root(at) || (attached && !at.mount.is_in(&namespace)) {
            return Err(Errno::EINVAL);
        }
        let mounts = if recursive { at.mount.tree() } else { vec![at.mount.clone()] };
        for mount in &mounts {
            mount.check_flags(self.flags(mount)?)?;
        }
        for mount in &mounts {
            mount.set_flags(self.flags(mount)?)?;
        }
        if let Some(to) = self.propagation {
            namespace.change_propagation(&mounts, to);
        }
        Ok(())
    }
}

/// `mount_setattr(2)`.
pub fn mount_setattr(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    flags: u32,
    attr: UserAddr,
    size: u64,
) -> SysResult {
    if flags & !(AT_EMPTY_PATH | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL);
    }
    require_admin_after_size(t, size)?;
    let Some(change) = Change::read(t, attr, size)? else { return Ok(0) };
    let at = find_path(t, dirfd, path, flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))?;
    change.apply(t, &at, flags & AT_RECURSIVE != 0)?;
    Ok(0)
}

/// The size is looked at before privileges are.
fn require_admin_after_size(t: &CurrentTask, size: u64) -> Result<()> {
    match size {
        n if n > crate::mm::PAGE_SIZE => Err(Errno::E2BIG),
        n if n < 32 => Err(Errno::EINVAL),
        _ => require_admin(t),
    }
}
