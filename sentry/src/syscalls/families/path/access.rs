//! `access(2)`.

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use crate::errno::Errno;
use crate::kernel::{Credentials, CurrentTask};
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, Mode, PathPtr};
use crate::vfs::permission::{self, Access};
use crate::vfs::{FileType, MountFlags, WalkContext, WalkFlags, walk};
use std::sync::Arc;

const AT_EACCESS: u32 = 0x200;

/// Credentials with the real ids in the place of the file-system ids, and the capabilities that go
/// with them.
fn real(creds: &Credentials) -> Credentials {
    const SECURE_NO_SETUID_FIXUP: u32 = 1 << 2;
    let mut real = creds.clone();
    real.fsuid = creds.uid;
    real.fsgid = creds.gid;
    if creds.securebits & SECURE_NO_SETUID_FIXUP == 0 {
        real.effective = if creds.uid == 0 { creds.permitted } else { 0 };
    }
    real
}

fn do_access(t: &CurrentTask, dirfd: Fd, path: PathPtr, mode: u32, flags: u32) -> SysResult {
    let want = Access::from_bits(mode).ok_or(Errno::EINVAL)?;
    if flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let creds = t.creds();
    let same = creds.uid == creds.fsuid && creds.gid == creds.fsgid;
    let plain_root = creds.uid != 0 || creds.effective == creds.permitted;
    let creds = if flags & AT_EACCESS != 0 || same && plain_root && creds.uid == 0 {
        creds.clone()
    } else {
        Arc::new(real(creds))
    };
    let path = path.read(t.mm())?;
    let ctx = WalkContext::with_creds(t.fs(), creds);
    let mut walk_flags = WalkFlags::empty();
    walk_flags.set(WalkFlags::FOLLOW, flags & AT_SYMLINK_NOFOLLOW == 0);
    walk_flags.set(WalkFlags::EMPTY_PATH, flags & AT_EMPTY_PATH != 0);
    let start = walk::start(t, &ctx, dirfd.0, &path)?;
    let place = walk::resolve(&ctx, start, &path, walk_flags)?;
    let file_type = place.dentry.file_type();
    let mount = place.mount.flags();
    if want.contains(Access::EXEC)
        && file_type == FileType::Regular
        && mount.contains(MountFlags::NOEXEC)
    {
        return Err(Errno::EACCES);
    }
    let inode = &**place.inode();
    if !want.is_empty() {
        match inode.access(&ctx.creds, want) {
            Some(decided) => decided?,
            None => permission::check(inode, &ctx.creds, want)?,
        }
    }
    let special = matches!(
        file_type,
        FileType::CharDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket
    );
    if want.contains(Access::WRITE) && !special {
        place.mount.check_writable()?;
    }
    Ok(0)
}

/// `access(2)`.
pub fn access(t: &mut CurrentTask, path: PathPtr, mode: Mode) -> SysResult {
    do_access(t, AT_FDCWD, path, mode.0, 0)
}

/// `faccessat(2)`, the system call: it has no flags.
pub fn faccessat(t: &mut CurrentTask, dirfd: Fd, path: PathPtr, mode: Mode) -> SysResult {
    do_access(t, dirfd, path, mode.0, 0)
}

/// `faccessat2(2)`.
pub fn faccessat2(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    mode: Mode,
    flags: Flags,
) -> SysResult {
    do_access(t, dirfd, path, mode.0, flags.0)
}
