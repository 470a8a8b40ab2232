//! Modes, owners and sizes.

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Target, find_inode, find_path};
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, landlock};
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, Mode, PathPtr};
use crate::syscalls::families::file::set_size;
use crate::vfs::locks::lease;
use crate::vfs::permission::{self, Access, CAP_CHOWN, CAP_FSETID};
use crate::vfs::{FileType, SetAttr};

const S_ISGID: u32 = 0o2000;
const S_ISUID: u32 = 0o4000;

fn change_mode(t: &CurrentTask, target: &Target, mode: u32) -> SysResult {
    target.check_writable()?;
    let attr = target.attr()?;
    if attr.file_type() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let creds = t.creds();
    if !permission::is_owner_or_capable(&attr, creds) {
        return Err(Errno::EPERM);
    }
    let mut mode = mode & 0o7777;
    if !permission::in_group(creds, attr.gid) && !creds.has_over(&attr, CAP_FSETID) {
        mode &= !S_ISGID;
    }
    target.set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })?;
    Ok(0)
}

/// `chmod(2)`.
pub fn chmod(t: &mut CurrentTask, path: PathPtr, mode: Mode) -> SysResult {
    change_mode(t, &find_inode(t, AT_FDCWD, path, 0)?, mode.0)
}

/// `fchmod(2)`.
pub fn fchmod(t: &mut CurrentTask, fd: Fd, mode: Mode) -> SysResult {
    change_mode(t, &Target::of(t.file(fd.0)?), mode.0)
}

/// `fchmodat(2)`, the system call: it has no flags.
pub fn fchmodat(t: &mut CurrentTask, dirfd: Fd, path: PathPtr, mode: Mode) -> SysResult {
    change_mode(t, &find_inode(t, dirfd, path, 0)?, mode.0)
}

/// `fchmodat2(2)`.
pub fn fchmodat2(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    mode: Mode,
    flags: Flags,
) -> SysResult {
    check_flags(flags.0)?;
    change_mode(t, &find_inode(t, dirfd, path, flags.0)?, mode.0)
}

fn check_flags(flags: u32) -> Result<()> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Changes owner and group; -1 leaves one as it is.
fn change_owner(t: &CurrentTask, target: &Target, uid: u32, gid: u32) -> SysResult {
    target.check_writable()?;
    let creds = t.creds();
    let map = |id: u32, to_kernel: &dyn Fn(u32) -> Option<u32>| match id {
        u32::MAX => Ok(None),
        id => to_kernel(id).map(Some).ok_or(Errno::EINVAL),
    };
    let uid = map(uid, &|id| creds.user_ns.uid_to_kernel(id))?;
    let gid = map(gid, &|id| creds.user_ns.gid_to_kernel(id))?;
    let attr = target.attr()?;
    if !creds.has_over(&attr, CAP_CHOWN) {
        let owns = attr.uid == creds.fsuid;
        if uid.is_some_and(|uid| !owns || uid != attr.uid) {
            return Err(Errno::EPERM);
        }
        let allowed = |gid: u32| owns && (permission::in_group(creds, gid) || gid == attr.gid);
        if gid.is_some_and(|gid| !allowed(gid)) {
            return Err(Errno::EPERM);
        }
    }
    // A change of owner takes set-id bits away, whoever makes it.
    let mut mode = None;
    if attr.file_type() != FileType::Directory && attr.mode & (S_ISUID | S_ISGID) != 0 {
        let mut bits = attr.mode & 0o7777 & !S_ISUID;
        let drops_group = attr.mode & 0o010 != 0
            || !permission::in_group(creds, attr.gid) && !creds.has_over(&attr, CAP_FSETID);
        if drops_group {
            bits &= !S_ISGID;
        }
        mode = (bits != attr.mode & 0o7777).then_some(bits);
    }
    target.set_attr(&SetAttr { uid, gid, mode, ..SetAttr::default() })?;
    Ok(0)
}

/// `chown(2)`.
pub fn chown(t: &mut CurrentTask, path: PathPtr, uid: u32, gid: u32) -> SysResult {
    change_owner(t, &find_inode(t, AT_FDCWD, path, 0)?, uid, gid)
}

/// `lchown(2)`.
pub fn lchown(t: &mut CurrentTask, path: PathPtr, uid: u32, gid: u32) -> SysResult {
    change_owner(t, &find_inode(t, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)?, uid, gid)
}

/// `fchown(2)`.
pub fn fchown(t: &mut CurrentTask, fd: Fd, uid: u32, gid: u32) -> SysResult {
    change_owner(t, &Target::of(t.file(fd.0)?), uid, gid)
}

/// `fchownat(2)`.
pub fn fchownat(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    uid: u32,
    gid: u32,
    flags: Flags,
) -> SysResult {
    check_flags(flags.0)?;
    change_owner(t, &find_inode(t, dirfd, path, flags.0)?, uid, gid)
}

/// `truncate(2)`.
pub fn truncate(t: &mut CurrentTask, path: PathPtr, length: i64) -> SysResult {
    let size = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let path = find_path(t, AT_FDCWD, path, 0)?;
    match path.dentry.file_type() {
        FileType::Regular => {}
        FileType::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    path.mount.check_writable()?;
    permission::check(&**path.inode(), t.creds(), Access::WRITE)?;
    let attachments = path.inode().attachments();
    // Who waits for a lease to go writes already: the lease cannot become one for reading.
    attachments.allow_write()?;
    let result = lease::break_leases(t, attachments, true, false)
        .and_then(|()| landlock::fs::check(t.creds(), &path, landlock::access::TRUNCATE))
        .and_then(|()| set_size(t, &path, size));
    attachments.end_write();
    result?;
    Ok(0)
}
