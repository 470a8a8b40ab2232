//! Calls that take a path, and those on descriptors that do the same.

mod access;
mod attributes;
mod directories;
mod fscontext;
mod handles;
mod mount_tree;
mod mounts;
mod names;
mod obsolete;
mod open;
mod stat;
mod statfs;
mod statmount;
mod times;
mod xattr;

pub use access::{access, faccessat, faccessat2};
pub use attributes::{
    chmod, chown, fchmod, fchmodat, fchmodat2, fchown, fchownat, lchown, truncate,
};
pub use directories::{chdir, chroot, fchdir, getcwd, umask};
pub use fscontext::{fsconfig, fsmount, fsopen, fspick};
pub use handles::{name_to_handle_at, open_by_handle_at};
pub use mount_tree::{mount_setattr, move_mount, open_tree, open_tree_attr};
pub use mounts::{mount, pivot_root, umount2};
pub use names::{
    link, linkat, mkdir, mkdirat, mknod, mknodat, readlink, readlinkat, rename, renameat,
    renameat2, rmdir, symlink, symlinkat, unlink, unlinkat,
};
pub use obsolete::{sysfs, ustat};
pub use open::{creat, open, openat, openat2};
pub use stat::{fstat, lstat, newfstatat, stat, statx};
pub use statfs::{fstatfs, statfs};
pub use statmount::{listmount, statmount};
pub use times::{futimesat, utime, utimensat, utimes};
pub use xattr::{
    fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, getxattrat, lgetxattr, listxattr,
    listxattrat, llistxattr, lremovexattr, lsetxattr, removexattr, removexattrat, setxattr,
    setxattrat,
};

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::syscalls::arg::{Fd, PathPtr};
use crate::vfs::notify::{self, Happened};
use crate::vfs::{Attr, File, Path, SetAttr, WalkFlags, own_attr, walk};
use std::sync::Arc;

const AT_FDCWD: Fd = Fd(crate::syscalls::arg::AT_FDCWD);
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EMPTY_PATH: u32 = 0x1000;

/// What a descriptor and a path name: a place in the tree, or a file that has none.
enum Target {
    Path(Path),
    File(Arc<File>),
}

impl Target {
    /// The place. `error` for a file that has none.
    fn path(self, error: Errno) -> Result<Path> {
        match self {
            Target::Path(path) => Ok(path),
            Target::File(file) => file.path().cloned().ok_or(error),
        }
    }

    /// Of a file: the place it was opened at, if it has one.
    fn of(file: Arc<File>) -> Target {
        match file.path().cloned() {
            Some(path) => Target::Path(path),
            None => Target::File(file),
        }
    }

    /// `EROFS` in a mount that is not writable.
    fn check_writable(&self) -> Result<()> {
        match self {
            Target::Path(path) => path.mount.check_writable(),
            Target::File(_) => Ok(()),
        }
    }

    fn attr(&self) -> Result<Attr> {
        match self {
            Target::Path(path) => path.inode().attr(),
            Target::File(file) => file.attr(),
        }
    }

    /// Changes attributes, and tells who watches. Permission has been checked by the caller.
    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        match self {
            Target::Path(path) => {
                path.inode().set_attr(change)?;
                notify::happened(path, Happened::ATTRIB);
                Ok(())
            }
            Target::File(file) => own_attr::set(file, change),
        }
    }
}

/// Resolves a path argument. `at_flags` may have `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH`.
fn find(t: &CurrentTask, dirfd: Fd, path: PathPtr, at_flags: u32) -> Result<Target> {
    let empty = at_flags & AT_EMPTY_PATH != 0;
    let path = if empty && path.0.is_null() { Vec::new() } else { path.read(t.mm())? };
    if empty && path.is_empty() && dirfd != AT_FDCWD {
        return Ok(Target::File(t.files().get_raw(dirfd.0)?));
    }
    // Before anybody looks at the descriptor.
    if !empty && path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut flags = WalkFlags::empty();
    flags.set(WalkFlags::FOLLOW, at_flags & AT_SYMLINK_NOFOLLOW == 0);
    flags.set(WalkFlags::EMPTY_PATH, empty);
    walk::lookup(t, dirfd.0, &path, flags).map(Target::Path)
}

/// Resolves a path argument to a place.
fn find_path(t: &CurrentTask, dirfd: Fd, path: PathPtr, at_flags: u32) -> Result<Path> {
    find(t, dirfd, path, at_flags)?.path(Errno::EBADF)
}

/// Resolves a path argument to what has attributes.
fn find_inode(t: &CurrentTask, dirfd: Fd, path: PathPtr, at_flags: u32) -> Result<Target> {
    Ok(match find(t, dirfd, path, at_flags)? {
        Target::File(file) => Target::of(file),
        path => path,
    })
}
