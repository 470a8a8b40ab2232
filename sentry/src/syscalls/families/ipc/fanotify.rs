//! `fanotify_init(2)` and `fanotify_mark(2)`.

use super::install;
use crate::errno::{Errno, Result};
use crate::fs::fanotify::marks::{Change, Target};
use crate::fs::fanotify::{Group, event, init};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{AT_FDCWD, Fd};
use crate::vfs::permission::{self, Access, CAP_SYS_ADMIN};
use crate::vfs::walk::{self, WalkFlags};
use crate::vfs::{OpenFlags, Path};
use std::sync::Arc;

/// `fanotify_init(2)`. Without `CAP_SYS_ADMIN` only groups that report file handles could be had: `EPERM`.
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
    if !t.creds().has(CAP_SYS_ADMIN) {
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
    let user = (t.creds().user_ns.id(), t.creds().euid);
    let group = Group::open(user, flags, event_flags)?;
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
    /// Events that only file handles could tell (`FAN_ATTRIB`, `FAN_CREATE`, `FAN_RENAME` and so on).
    const OF_HANDLES: u64 = 0x4 | 0xfc0 | 0x8000 | 0x1000_0000;
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
    if mask & !(event::PLAIN | event::PERMISSIONS | EVENT_FLAGS | OF_HANDLES) != 0 {
        return Err(Errno::EINVAL);
    }
    let ignore = flags & mark::IGNORED_MASK != 0;
    // Which directories and children are meant is said with the other events.
    let mask = if ignore { mask & !EVENT_FLAGS } else { mask };
    let file = t.file(fanotify_fd.0)?;
    let group: &Group = file.ops_as().ok_or(Errno::EINVAL)?;
    if mask & event::PERMISSIONS != 0 && !group.may_ask() || mask & OF_HANDLES != 0 {
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
    let target = target(&path, flags);
    let change = Change { mask, ignore, survives: flags & mark::IGNORED_SURV_MODIFY != 0 };
    match command {
        mark::ADD => group.add_mark(target, change)?,
        _ => group.remove_mark(&target, change)?,
    }
    Ok(0)
}
