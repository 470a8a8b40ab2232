//! Who may do what with an inode (`path_resolution(7)`, `capabilities(7)`).

use super::{Attr, FileType, Inode, InodeFlags, Owner};
use crate::errno::{Errno, Result};
use crate::kernel::Credentials;

bitflags::bitflags! {
    /// Kinds of access, with the values of `access(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Access: u32 {
        /// Execute a file, search a directory.
        const EXEC = 1;
        /// Write.
        const WRITE = 2;
        /// Read.
        const READ = 4;
    }
}

/// `CAP_CHOWN`
pub const CAP_CHOWN: u32 = 0;
/// `CAP_DAC_OVERRIDE`
pub const CAP_DAC_OVERRIDE: u32 = 1;
/// `CAP_DAC_READ_SEARCH`
pub const CAP_DAC_READ_SEARCH: u32 = 2;
/// `CAP_FOWNER`
pub const CAP_FOWNER: u32 = 3;
/// `CAP_FSETID`
pub const CAP_FSETID: u32 = 4;
/// `CAP_LINUX_IMMUTABLE`
pub const CAP_LINUX_IMMUTABLE: u32 = 9;
/// `CAP_SYS_CHROOT`
pub const CAP_SYS_CHROOT: u32 = 18;
/// `CAP_SYS_ADMIN`
pub const CAP_SYS_ADMIN: u32 = 21;
/// `CAP_SYS_RESOURCE`
pub const CAP_SYS_RESOURCE: u32 = 24;
/// `CAP_MKNOD`
pub const CAP_MKNOD: u32 = 27;
/// `CAP_LEASE`
pub const CAP_LEASE: u32 = 28;
/// `CAP_SETFCAP`
pub const CAP_SETFCAP: u32 = 31;

const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_ISVTX: u32 = 0o1000;

/// True if `gid` is the file-system group or a supplementary one.
pub fn in_group(creds: &Credentials, gid: u32) -> bool {
    creds.fsgid == gid || creds.groups.contains(&gid)
}

/// Linux's `generic_permission`: `EACCES` unless every kind of access in `want` is allowed.
pub fn check_attr(attr: &Attr, creds: &Credentials, want: Access) -> Result<()> {
    let shift = if attr.uid == creds.fsuid {
        6
    } else if in_group(creds, attr.gid) {
        3
    } else {
        0
    };
    let granted = Access::from_bits_truncate(attr.mode >> shift);
    if granted.contains(want) {
        return Ok(());
    }
    if attr.is_dir() {
        if !want.contains(Access::WRITE) && creds.has_over(attr, CAP_DAC_READ_SEARCH) {
            return Ok(());
        }
        if creds.has_over(attr, CAP_DAC_OVERRIDE) {
            return Ok(());
        }
    } else {
        if want == Access::READ && creds.has_over(attr, CAP_DAC_READ_SEARCH) {
            return Ok(());
        }
        let executable = !want.contains(Access::EXEC) || attr.mode & 0o111 != 0;
        if executable && creds.has_over(attr, CAP_DAC_OVERRIDE) {
            return Ok(());
        }
    }
    Err(Errno::EACCES)
}

/// As [`check_attr`], for an inode, unless that decides by itself.
pub fn check(inode: &dyn Inode, creds: &Credentials, want: Access) -> Result<()> {
    if want.is_empty() {
        return Ok(());
    }
    check_immutable(inode, want)?;
    match inode.permission(creds, want) {
        Some(decided) => decided,
        None => check_attr(&inode.attr()?, creds, want),
    }
}

/// `EPERM` for a change of what cannot be changed.
pub fn check_immutable(inode: &dyn Inode, want: Access) -> Result<()> {
    let immutable = |flags: InodeFlags| flags.contains(InodeFlags::IMMUTABLE);
    match want.contains(Access::WRITE) && inode.flags().is_some_and(immutable) {
        true => Err(Errno::EPERM),
        false => Ok(()),
    }
}

/// As [`check`], for an inode whose attributes are at hand.
pub fn check_known(
    inode: &dyn Inode,
    attr: &Attr,
    creds: &Credentials,
    want: Access,
) -> Result<()> {
    check_immutable(inode, want)?;
    inode.permission(creds, want).unwrap_or_else(|| check_attr(attr, creds, want))
}

/// Whether a directory may be searched; does not ask for attributes when a capability decides.
pub fn check_search(dir: &dyn Inode, creds: &Credentials) -> Result<()> {
    if let Some(decided) = dir.permission(creds, Access::EXEC) {
        return decided;
    }
    if creds.has(CAP_DAC_OVERRIDE) || creds.has(CAP_DAC_READ_SEARCH) {
        return Ok(());
    }
    check_attr(&dir.attr()?, creds, Access::EXEC)
}

/// True if the caller owns the inode or may act as its owner.
pub fn is_owner_or_capable(attr: &Attr, creds: &Credentials) -> bool {
    attr.uid == creds.fsuid
        || (creds.has_own(CAP_FOWNER) && creds.user_ns.uid_from_kernel(attr.uid).is_some())
}

/// Whether a name may be removed from `dir` (`may_delete`): `EACCES` without write permission,
/// `EPERM` if the flags of a directory, or of what is to be removed from it, forbid that.
pub fn check_flags_of_removal(dir: &dyn Inode, victim: &dyn Inode) -> Result<()> {
    let has = |inode: &dyn Inode, some| inode.flags().is_some_and(|flags| flags.intersects(some));
    if has(dir, InodeFlags::APPEND) || has(victim, InodeFlags::LOCKS) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// `EPERM` for someone else's file in a sticky directory.
pub fn check_delete(
    inode: &dyn Inode,
    dir: &Attr,
    victim: &Attr,
    creds: &Credentials,
) -> Result<()> {
    check_known(inode, dir, creds, Access::WRITE | Access::EXEC)?;
    check_sticky(dir, victim, creds)
}

/// `EPERM` for someone else's file in a sticky directory.
fn check_sticky(dir: &Attr, victim: &Attr, creds: &Credentials) -> Result<()> {
    let sticky = dir.mode & S_ISVTX != 0;
    if sticky
        && victim.uid != creds.fsuid
        && dir.uid != creds.fsuid
        && !creds.has_over(victim, CAP_FOWNER)
    {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Owner and mode of a new inode in `dir` (`inode_init_owner`): a set-group-id directory hands down
/// its group, and to directories the bit itself. `mode` has the type and is already masked.
pub fn new_inode(dir: &Attr, creds: &Credentials, mut mode: u32) -> (Owner, u32) {
    let mut gid = creds.fsgid;
    let is_dir = FileType::from_mode(mode) == Some(FileType::Directory);
    if dir.mode & S_ISGID != 0 {
        gid = dir.gid;
        if is_dir {
            mode |= S_ISGID;
        } else if mode & (S_ISGID | 0o010) == S_ISGID | 0o010
            && !in_group(creds, gid)
            && !creds.has_over(dir, CAP_FSETID)
        {
            mode &= !S_ISGID;
        }
    }
    (Owner { uid: creds.fsuid, gid }, mode)
}

/// The mode a regular file has after it was written or truncated by `creds`, when that takes set-id
/// bits away (`file_remove_privs`).
pub fn without_privileges(attr: &Attr, creds: &Credentials) -> Option<u32> {
    if attr.mode & (S_ISUID | S_ISGID) == 0
        || attr.file_type() != FileType::Regular
        || creds.has_over(attr, CAP_FSETID)
    {
        return None;
    }
    let mut mode = attr.mode & 0o7777 & !S_ISUID;
    if mode & 0o010 != 0 {
        mode &= !S_ISGID;
    }
    (mode != attr.mode & 0o7777).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(mode: u32, uid: u32, gid: u32) -> Attr {
        Attr {
            dev: 1,
            ino: 1,
            mode,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: 0,
            mtime: 0,
            ctime: 0,
            btime: None,
        }
    }

    fn user(uid: u32) -> Credentials {
        Credentials { fsuid: uid, fsgid: uid, ..Credentials::default() }
    }

    #[test]
    fn classes_do_not_fall_through() {
        // The owner's class decides even if others may do more.
        let file = attr(0o100077, 1, 1);
        assert_eq!(check_attr(&file, &user(1), Access::READ), Err(Errno::EACCES));
        assert_eq!(check_attr(&file, &user(2), Access::READ), Ok(()));
    }

    #[test]
    fn override_needs_an_execute_bit() {
        let mut root = user(0);
        root.effective = 1 << CAP_DAC_OVERRIDE;
        assert_eq!(check_attr(&attr(0o100600, 5, 5), &root, Access::EXEC), Err(Errno::EACCES));
        assert_eq!(check_attr(&attr(0o100610, 5, 5), &root, Access::EXEC), Ok(()));
        assert_eq!(check_attr(&attr(0o040000, 5, 5), &root, Access::EXEC), Ok(()));
    }

    #[test]
    fn sticky_and_setgid() {
        let dir = attr(0o041777, 0, 7);
        assert_eq!(check_sticky(&dir, &attr(0o100644, 3, 3), &user(2)), Err(Errno::EPERM));
        assert_eq!(check_sticky(&dir, &attr(0o100644, 2, 2), &user(2)), Ok(()));
        let (owner, mode) = new_inode(&attr(0o042777, 0, 7), &user(2), 0o040755);
        assert_eq!((owner.gid, mode), (7, 0o042755));
    }
}
