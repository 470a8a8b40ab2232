//! `fanotify_init(2)` and `fanotify_mark(2)`.

use super::install;
use crate::errno::{Errno, Result};
use crate::fs::fanotify::marks::{Change, Target};
use crate::fs::fanotify::{Group, event, init};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{AT_FDCWD, Fd};
use crate::vfs::handles::Handle;
use crate::vfs::permission::{self, Access, CAP_SYS_ADMIN};
use crate::vfs::walk::{self, WalkFlags};
use crate::vfs::{OpenFlags, Path};
use std::sync::Arc;

/// `fanotify_init(2)`. Without `CAP_SYS_ADMIN` only groups that report file handles can be had: `EPERM`.
pub fn fanotify_init(t: &mut CurrentTask, flags: u32, event_f_flags: u32) -> SysResult {
    const EVENT_FLAGS: OpenFlags = OpenFlags::WRONLY
        .union(OpenFlags::RDWR)
        .union(OpenFlags::APPEND)
        .union(OpenFlags::NONBLOCK)
        .union(OpenFlags::SYNC)
        .union(OpenFlags::DSYNC)
        .union(OpenFlags::CLOEXEC)
        .union(OpenFlags::LARGEFILE)
        .union(OpenFlags::NOATIME);
    const BOTH_CLASSES: u32 = init::CLASS_CONTENT | init::CLASS_PRE_CONTENT;
    let unprivileged = !t.creds().has(CAP_SYS_ADMIN);
    if unprivileged && (flags & init::PRIVILEGED != 0 || flags & init::HANDLES == 0) {
        return Err(Errno::EPERM);
    }
    if flags & !init::ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let event_flags = OpenFlags::from_bits(event_f_flags).ok_or(Errno::EINVAL)?;
    if !EVENT_FLAGS.contains(event_flags)
        || event_flags.contains(OpenFlags::WRONLY | OpenFlags::RDWR)
        || flags & BOTH_CLASSES == BOTH_CLASSES
    {
        return Err(Errno::EINVAL);
    }
    let handles = flags & init::HANDLES;
    let whole = |of: u32, needs: u32| handles & of == 0 || handles & needs == needs;
    if handles != 0 && flags & BOTH_CLASSES != 0
        || !whole(init::REPORT_NAME, init::REPORT_DIR_FID)
        || !whole(init::REPORT_TARGET_FID, init::REPORT_NAME | init::REPORT_FID)
    {
        return Err(Errno::EINVAL);
    }
    let user = (t.creds().user_ns.id(), t.creds().euid);
    let group = Group::open(user, unprivileged, flags, event_flags)?;
    install(t, group, flags & init::CLOEXEC != 0)
}

/// Flags of `fanotify_mark(2)`.
mod mark {
    pub const ADD: u32 = 0x1;
    pub const REMOVE: u32 = 0x2;
    pub const DONT_FOLLOW: u32 = 0x4;
    pub const ONLYDIR: u32 = 0x8;
    pub const MOUNT: u32 = 0x10;
    pub const IGNORED_MASK: u32 = 0x20;
    pub const IGNORED_SURV_MODIFY: u32 = 0x40;
    pub const FLUSH: u32 = 0x80;
    pub const FILESYSTEM: u32 = 0x100;
    pub const TYPE: u32 = MOUNT | FILESYSTEM;
    pub const COMMAND: u32 = ADD | REMOVE | FLUSH;
    pub const ALL: u32 =
        TYPE | COMMAND | DONT_FOLLOW | ONLYDIR | IGNORED_MASK | IGNORED_SURV_MODIFY;
}

/// The place that a mark is about: the descriptor's without a path.
fn place(t: &CurrentTask, dirfd: Fd, pathname: UserAddr, flags: u32) -> Result<Path> {
    let path = if pathname.is_null() && dirfd.0 != AT_FDCWD {
        let file = t.file(dirfd.0)?;
        let path = file.path().cloned().ok_or(Errno::EINVAL)?;
        if flags & mark::ONLYDIR != 0 && !path.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        path
    } else {
        let text = t.mm().read_cstr(pathname, 4095)?;
        let mut walk_flags = WalkFlags::empty();
        walk_flags.set(WalkFlags::FOLLOW, flags & mark::DONT_FOLLOW == 0);
        walk_flags.set(WalkFlags::DIRECTORY, flags & mark::ONLYDIR != 0);
        walk::lookup(t, dirfd.0, &text, walk_flags)?
    };
    permission::check(&**path.inode(), t.creds(), Access::READ)?;
    Ok(path)
}

fn target(path: &Path, flags: u32) -> Target {
    match flags & mark::TYPE {
        mark::MOUNT => Target::Mount(Arc::downgrade(&path.mount)),
        mark::FILESYSTEM => Target::FileSystem(Arc::downgrade(path.dentry.fs())),
        _ => Target::Inode(path.dentry.clone()),
    }
}

/// `fanotify_mark(2)`.
pub fn fanotify_mark(
    t: &mut CurrentTask,
    fanotify_fd: Fd,
    flags: u32,
    mask: u64,
    dirfd: Fd,
    pathname: UserAddr,
) -> SysResult {
    const EVENT_FLAGS: u64 = event::ON_CHILD | event::ONDIR;
    /// Events and flags that only a directory can have.
    const OF_DIRECTORIES: u64 = event::OF_NAMES | EVENT_FLAGS;
    if mask >> 32 != 0 || flags & !mark::ALL != 0 || flags & mark::TYPE == mark::TYPE {
        return Err(Errno::EINVAL);
    }
    let command = flags & mark::COMMAND;
    match command {
        mark::ADD | mark::REMOVE if mask == 0 => return Err(Errno::EINVAL),
        mark::ADD | mark::REMOVE => {}
        mark::FLUSH if flags & !(mark::TYPE | mark::FLUSH) != 0 => return Err(Errno::EINVAL),
        mark::FLUSH => {}
        _ => return Err(Errno::EINVAL),
    }
    if mask & !(event::PLAIN | event::PERMISSIONS | EVENT_FLAGS | event::OF_HANDLES) != 0 {
        return Err(Errno::EINVAL);
    }
    let ignore = flags & mark::IGNORED_MASK != 0;
    // Which directories and children are meant is said with the other events.
    let mask = if ignore { mask & !EVENT_FLAGS } else { mask };
    let file = t.file(fanotify_fd.0)?;
    let group: &Group = file.ops_as().ok_or(Errno::EINVAL)?;
    let kind = flags & mark::TYPE;
    if kind != 0 && (group.is_unprivileged() || !t.creds().has(CAP_SYS_ADMIN)) {
        return Err(Errno::EPERM);
    }
    let handles = group.handles();
    if mask & event::PERMISSIONS != 0 && !group.may_ask()
        || mask & event::FS_ERROR != 0 && kind != mark::FILESYSTEM
        || mask & event::OF_HANDLES != 0 && (handles == 0 || kind == mark::MOUNT)
        || mask & event::RENAME != 0 && handles & init::REPORT_NAME == 0
    {
        return Err(Errno::EINVAL);
    }
    if command == mark::FLUSH {
        let cwd = t.fs().root_and_cwd().1;
        group.flush_marks(&target(&cwd, flags));
        return Ok(0);
    }
    let path = place(t, dirfd, pathname, flags)?;
    if path.mount.is_internal() && flags & mark::TYPE != 0 {
        return Err(Errno::EINVAL);
    }
    let is_dir = path.dentry.is_dir();
    let strict = handles & init::REPORT_TARGET_FID != 0 || mask & event::RENAME != 0;
    if strict && !is_dir && mask & OF_DIRECTORIES != 0 {
        return Err(Errno::ENOTDIR);
    }
    if handles != 0 {
        Handle::of(&path.dentry, kind == 0)?;
    }
    // Means nothing there.
    let mask = if kind != 0 || !is_dir { mask & !event::ON_CHILD } else { mask };
    let target = target(&path, flags);
    let change = Change { mask, ignore, survives: flags & mark::IGNORED_SURV_MODIFY != 0 };
    match command {
        mark::ADD => group.add_mark(target, change)?,
        _ => group.remove_mark(&target, change)?,
    }
    Ok(0)
}
