//! Making, removing, renaming and reading names.

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, find};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, Mode, PathPtr};
use crate::vfs::device::Device;
use crate::vfs::permission::CAP_DAC_READ_SEARCH;
use crate::vfs::{FileType, Path, WalkContext, namei, walk};

const AT_REMOVEDIR: u32 = 0x200;
const AT_SYMLINK_FOLLOW: u32 = 0x400;

/// A path argument, where it starts, and who walks it.
fn place(t: &CurrentTask, dirfd: Fd, path: PathPtr) -> Result<(WalkContext, Path, Vec<u8>)> {
    let path = path.read(t.mm())?;
    let ctx = WalkContext::of(t);
    let start = walk::start(t, &ctx, dirfd.0, &path)?;
    Ok((ctx, start, path))
}

/// `mkdirat(2)`.
pub fn mkdirat(t: &mut CurrentTask, dirfd: Fd, path: PathPtr, mode: Mode) -> SysResult {
    let (ctx, start, path) = place(t, dirfd, path)?;
    namei::mkdir(&ctx, start, &path, mode.0)?;
    Ok(0)
}

/// `mkdir(2)`.
pub fn mkdir(t: &mut CurrentTask, path: PathPtr, mode: Mode) -> SysResult {
    mkdirat(t, AT_FDCWD, path, mode)
}

/// `mknodat(2)`.
pub fn mknodat(t: &mut CurrentTask, dirfd: Fd, path: PathPtr, mode: Mode, dev: u32) -> SysResult {
    let (ctx, start, path) = place(t, dirfd, path)?;
    let regular = FileType::Regular as u32;
    // No type at all is a regular file.
    let mode = if mode.0 & 0o170000 == 0 { mode.0 | regular } else { mode.0 };
    // The argument is the 32-bit encoding, which agrees with `st_rdev` in its low bits.
    let device = Device { major: dev >> 8 & 0xfff, minor: dev & 0xff | dev >> 12 & 0xf_ff00 };
    namei::create_node(&ctx, start, &path, mode & 0o177777, device.rdev())?;
    Ok(0)
}

/// `mknod(2)`.
pub fn mknod(t: &mut CurrentTask, path: PathPtr, mode: Mode, dev: u32) -> SysResult {
    mknodat(t, AT_FDCWD, path, mode, dev)
}

/// `rmdir(2)`.
pub fn rmdir(t: &mut CurrentTask, path: PathPtr) -> SysResult {
    unlinkat(t, AT_FDCWD, path, Flags(AT_REMOVEDIR))
}

/// `unlink(2)`.
pub fn unlink(t: &mut CurrentTask, path: PathPtr) -> SysResult {
    unlinkat(t, AT_FDCWD, path, Flags(0))
}

/// `unlinkat(2)`.
pub fn unlinkat(t: &mut CurrentTask, dirfd: Fd, path: PathPtr, flags: Flags) -> SysResult {
    if flags.0 & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let (ctx, start, path) = place(t, dirfd, path)?;
    if flags.0 & AT_REMOVEDIR != 0 {
        namei::rmdir(&ctx, start, &path)?;
    } else {
        namei::unlink(&ctx, start, &path)?;
    }
    Ok(0)
}

/// `symlinkat(2)`.
pub fn symlinkat(t: &mut CurrentTask, target: PathPtr, dirfd: Fd, path: PathPtr) -> SysResult {
    let target = target.read(t.mm())?;
    let (ctx, start, path) = place(t, dirfd, path)?;
    namei::symlink(&ctx, &target, start, &path)?;
    Ok(0)
}

/// `symlink(2)`.
pub fn symlink(t: &mut CurrentTask, target: PathPtr, path: PathPtr) -> SysResult {
    symlinkat(t, target, AT_FDCWD, path)
}

/// `linkat(2)`.
pub fn linkat(
    t: &mut CurrentTask,
    old_dirfd: Fd,
    old: PathPtr,
    new_dirfd: Fd,
    new: PathPtr,
    flags: Flags,
) -> SysResult {
    if flags.0 & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let nofollow = if flags.0 & AT_SYMLINK_FOLLOW == 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    if flags.0 & AT_EMPTY_PATH != 0 && !t.creds().has(CAP_DAC_READ_SEARCH) {
        return Err(Errno::ENOENT);
    }
    let old = find(t, old_dirfd, old, nofollow | flags.0 & AT_EMPTY_PATH)?.path(Errno::EXDEV)?;
    let (ctx, start, path) = place(t, new_dirfd, new)?;
    namei::link(&ctx, &old, start, &path)?;
    Ok(0)
}

/// `link(2)`.
pub fn link(t: &mut CurrentTask, old: PathPtr, new: PathPtr) -> SysResult {
    linkat(t, AT_FDCWD, old, AT_FDCWD, new, Flags(0))
}

/// `renameat2(2)`.
pub fn renameat2(
    t: &mut CurrentTask,
    old_dirfd: Fd,
    old: PathPtr,
    new_dirfd: Fd,
    new: PathPtr,
    flags: Flags,
) -> SysResult {
    let (ctx, old_start, old) = place(t, old_dirfd, old)?;
    let new = new.read(t.mm())?;
    let new_start = walk::start(t, &ctx, new_dirfd.0, &new)?;
    namei::rename(&ctx, old_start, &old, new_start, &new, flags.0)?;
    Ok(0)
}

/// `renameat(2)`.
pub fn renameat(
    t: &mut CurrentTask,
    old_dirfd: Fd,
    old: PathPtr,
    new_dirfd: Fd,
    new: PathPtr,
) -> SysResult {
    renameat2(t, old_dirfd, old, new_dirfd, new, Flags(0))
}

/// `rename(2)`.
pub fn rename(t: &mut CurrentTask, old: PathPtr, new: PathPtr) -> SysResult {
    renameat2(t, AT_FDCWD, old, AT_FDCWD, new, Flags(0))
}

/// `readlinkat(2)`.
pub fn readlinkat(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    buf: UserAddr,
    size: i32,
) -> SysResult {
    let Ok(size @ 1..) = usize::try_from(size) else { return Err(Errno::EINVAL) };
    let at = find(t, dirfd, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?.path(Errno::ENOENT)?;
    if at.dentry.file_type() != FileType::Symlink {
        // An empty path names what the descriptor stands for, and that should have been a link.
        let empty = t.mm().read_cstr(path.0, 1).is_ok_and(|p| p.is_empty());
        return Err(if empty { Errno::ENOENT } else { Errno::EINVAL });
    }
    let target = at.inode().readlink()?;
    let shown = target.get(..size).unwrap_or(&target);
    t.mm().write(buf, shown)?;
    Ok(shown.len() as u64)
}

/// `readlink(2)`.
pub fn readlink(t: &mut CurrentTask, path: PathPtr, buf: UserAddr, size: i32) -> SysResult {
    readlinkat(t, AT_FDCWD, path, buf, size)
}
