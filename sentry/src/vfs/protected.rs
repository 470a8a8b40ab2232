//! What users may not do with each other's files in directories that all of them write to (`fs.protected_*`, `proc_sys_fs(5)`).

use super::{Attr, Dentry, FileType};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::Credentials;
use std::sync::atomic::{AtomicU32, Ordering};

/// `fs.protected_symlinks`: links in them are followed only by their owners, or if they are the directory's owner's.
pub static SYMLINKS: AtomicU32 = AtomicU32::new(0);
/// `fs.protected_hardlinks`: only their owners make other names for special, set-id or unreadable files.
pub static HARDLINKS: AtomicU32 = AtomicU32::new(1);
/// `fs.protected_fifos`: `O_CREAT` opens no one else's FIFOs there; with 2 also where only a group may write.
pub static FIFOS: AtomicU32 = AtomicU32::new(0);
/// `fs.protected_regular`: the same for regular files.
pub static REGULAR: AtomicU32 = AtomicU32::new(0);

const S_ISVTX: u32 = 0o1000;
const S_IWOTH: u32 = 0o002;
const S_IWGRP: u32 = 0o020;

/// Whether hard links are restricted.
pub fn restricts_hard_links() -> bool {
    HARDLINKS.load(Ordering::Relaxed) != 0
}

/// `EACCES` for a symbolic link, the last component of a path, that is not to be followed (`may_follow_link`).
pub fn may_follow(
    dir: impl FnOnce() -> Result<Attr>,
    link: impl FnOnce() -> Result<Attr>,
    creds: &Credentials,
) -> Result<()> {
    if SYMLINKS.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let (dir, link) = (dir()?, link()?);
    let everyones = dir.mode & (S_ISVTX | S_IWOTH) == S_ISVTX | S_IWOTH;
    let own = link.uid == creds.fsuid || link.uid == dir.uid;
    if everyones && !own { Err(Errno::EACCES) } else { Ok(()) }
}

/// `EACCES` for a file that `O_CREAT` has found and is not to open (`may_create_in_sticky`).
pub fn may_open_found(dir: &Dentry, found: &Dentry, creds: &Credentials) -> Result<()> {
    let level = match found.file_type() {
        FileType::Regular => REGULAR.load(Ordering::Relaxed),
        FileType::Fifo => FIFOS.load(Ordering::Relaxed),
        // Whatever else there is, at all times.
        _ => 1,
    };
    if level == 0 {
        return Ok(());
    }
    let (dir, found) = (dir.inode().attr()?, found.inode().attr()?);
    let own = found.uid == dir.uid || found.uid == creds.fsuid;
    if dir.mode & S_ISVTX == 0 || own {
        return Ok(());
    }
    match dir.mode & S_IWOTH != 0 || dir.mode & S_IWGRP != 0 && level >= 2 {
        true => Err(Errno::EACCES),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credentials::Credentials;

    #[test]
    fn links_in_everyones_directories_are_their_owners() {
        let user = |uid| Credentials { fsuid: uid, ..Credentials::default() };
        let attr = |mode, uid| Attr { mode, uid, ..crate::fs::anon::attr() };
        let follow = |dir: (u32, u32), link: u32, uid: u32| {
            may_follow(|| Ok(attr(dir.0, dir.1)), || Ok(attr(0o120_777, link)), &user(uid))
        };
        let everyones = (0o041_777, 0);
        assert_eq!(follow(everyones, 2, 1), Ok(()));
        SYMLINKS.store(1, Ordering::Relaxed);
        assert_eq!(follow(everyones, 2, 1), Err(Errno::EACCES));
        assert_eq!([follow(everyones, 1, 1), follow(everyones, 0, 1)], [Ok(()), Ok(())]);
        assert_eq!(follow((0o040_777, 0), 2, 1), Ok(()));
        assert_eq!(follow((0o041_775, 0), 2, 1), Ok(()));
        SYMLINKS.store(0, Ordering::Relaxed);
    }
}
