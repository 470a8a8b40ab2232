//! `inotify_init(2)` and its kin.

use crate::errno::Errno;
use crate::fs::inotify::{Inotify, flag};
use crate::kernel::CurrentTask;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{AT_FDCWD, Fd, Flags, PathPtr};
use crate::vfs::OpenFlags;
use crate::vfs::permission::{self, Access};
use crate::vfs::walk::{self, WalkFlags};

/// `inotify_init(2)`.
pub fn inotify_init(t: &mut CurrentTask) -> SysResult {
    inotify_init1(t, Flags(0))
}

/// `inotify_init1(2)`.
pub fn inotify_init1(t: &mut CurrentTask, flags: Flags) -> SysResult {
    let (nonblock, cloexec) = (OpenFlags::NONBLOCK.bits(), OpenFlags::CLOEXEC.bits());
    if flags.0 & !(nonblock | cloexec) != 0 {
        return Err(Errno::EINVAL);
    }
    let user = (t.creds().user_ns.id(), t.creds().euid);
    let instance = Inotify::open(user, flags.0 & nonblock != 0)?;
    super::install(t, instance, flags.0 & cloexec != 0)
}

/// `inotify_add_watch(2)`.
pub fn inotify_add_watch(t: &mut CurrentTask, fd: Fd, pathname: PathPtr, mask: Flags) -> SysResult {
    let mask = mask.0;
    let known = flag::ALL
        | flag::UNMOUNT
        | flag::Q_OVERFLOW
        | flag::IGNORED
        | flag::ONLYDIR
        | flag::DONT_FOLLOW
        | flag::EXCL_UNLINK
        | flag::MASK_CREATE
        | flag::MASK_ADD
        | flag::ISDIR
        | flag::ONESHOT;
    if mask & known == 0 {
        return Err(Errno::EINVAL);
    }
    let file = t.file(fd.0)?;
    if mask & flag::MASK_ADD != 0 && mask & flag::MASK_CREATE != 0 {
        return Err(Errno::EINVAL);
    }
    let inotify: &Inotify = file.ops_as().ok_or(Errno::EINVAL)?;
    let path = pathname.read(t.mm())?;
    let mut flags = WalkFlags::empty();
    flags.set(WalkFlags::FOLLOW, mask & flag::DONT_FOLLOW == 0);
    flags.set(WalkFlags::DIRECTORY, mask & flag::ONLYDIR != 0);
    let path = walk::lookup(t, AT_FDCWD, &path, flags)?;
    permission::check(&**path.inode(), t.creds(), Access::READ)?;
    Ok(inotify.watch(path, mask)? as u64)
}

/// `inotify_rm_watch(2)`.
pub fn inotify_rm_watch(t: &mut CurrentTask, fd: Fd, wd: i32) -> SysResult {
    let file = t.file(fd.0)?;
    let inotify: &Inotify = file.ops_as().ok_or(Errno::EINVAL)?;
    inotify.unwatch(wd)?;
    Ok(0)
}
