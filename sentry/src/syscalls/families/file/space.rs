//! The size of files, and advice about their use.

use crate::errno::{Errno, Result};
use crate::fs::pipe;
use crate::kernel::landlock::access;
use crate::kernel::signal::{SigInfo, Signal};
use crate::kernel::{CurrentTask, Rlimit};
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags};
use crate::vfs::notify::{self, Happened};
use crate::vfs::{FileType, Path, SetAttr, permission};

/// Largest file size and offset.
const MAX_OFFSET: u64 = i64::MAX as u64;

/// `RLIMIT_FSIZE` for a file that is to have `size` bytes: `EFBIG` and `SIGXFSZ` beyond it.
fn check_limit(t: &CurrentTask, size: u64) -> Result<()> {
    if size > t.limit(Rlimit::Fsize).soft {
        t.task().send_signal(&SigInfo::user(Signal::SIGXFSZ, t.tgid(), t.creds().uid));
        return Err(Errno::EFBIG);
    }
    Ok(())
}

/// Sets the size of the regular file at `path`, and takes set-id bits away as a write would.
pub(in crate::syscalls::families) fn set_size(
    t: &CurrentTask,
    path: &Path,
    size: u64,
) -> Result<()> {
    check_limit(t, size)?;
    let mut change = SetAttr { size: Some(size), ..SetAttr::default() };
    if !t.creds().has(permission::CAP_FSETID) {
        change.mode = permission::without_privileges(&path.inode().attr()?, t.creds());
    }
    path.inode().set_attr(&change)?;
    notify::happened(path, Happened::MODIFY);
    Ok(())
}

/// `ftruncate(2)`.
pub fn ftruncate(t: &mut CurrentTask, fd: Fd, length: i64) -> SysResult {
    let size = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let file = t.file(fd.0)?;
    let path = file.path().ok_or(Errno::EINVAL)?;
    if path.dentry.file_type() != FileType::Regular || !file.flags().writable() {
        return Err(Errno::EINVAL);
    }
    if file.refuses(access::TRUNCATE) {
        return Err(Errno::EACCES);
    }
    set_size(t, path, size)?;
    Ok(0)
}

/// `fallocate(2)`.
pub fn fallocate(t: &mut CurrentTask, fd: Fd, mode: Flags, offset: i64, len: i64) -> SysResult {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    const KNOWN: u32 = 0x7f;
    let file = t.file(fd.0)?;
    let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else {
        return Err(Errno::EINVAL);
    };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let mode = mode.0;
    // One operation at a time, and a hole only where the size stays.
    if mode & !KNOWN != 0
        || (mode & !(KEEP_SIZE)).count_ones() > 1
        || mode & PUNCH_HOLE != 0 && mode & KEEP_SIZE == 0
    {
        return Err(Errno::EOPNOTSUPP);
    }
    if !file.flags().writable() {
        return Err(Errno::EBADF);
    }
    match file.path().map(|p| p.dentry.file_type()) {
        Some(FileType::Regular) => {}
        Some(FileType::Directory) => return Err(Errno::EISDIR),
        _ if pipe::of(&file).is_some() => return Err(Errno::ESPIPE),
        _ => return Err(Errno::ENODEV),
    }
    let end = offset.checked_add(len).filter(|end| *end <= MAX_OFFSET).ok_or(Errno::EFBIG)?;
    if mode & KEEP_SIZE == 0 && end > file.ops().size()? {
        check_limit(t, end)?;
    }
    file.ops().allocate(mode, offset, len)?;
    if let Some(path) = file.path() {
        notify::happened(path, Happened::MODIFY);
    }
    Ok(0)
}

/// `posix_fadvise(2)`: checked; the host's page cache needs no advice.
pub fn fadvise64(t: &mut CurrentTask, fd: Fd, _offset: i64, len: i64, advice: u32) -> SysResult {
    const POSIX_FADV_NOREUSE: u32 = 5;
    let file = t.file(fd.0)?;
    if pipe::of(&file).is_some() {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || advice > POSIX_FADV_NOREUSE {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

/// `readahead(2)`: checked; the host reads ahead by itself.
pub fn readahead(t: &mut CurrentTask, fd: Fd, _offset: i64, _count: u64) -> SysResult {
    let file = t.file(fd.0)?;
    if !file.flags().readable() {
        return Err(Errno::EBADF);
    }
    match file.path().map(|p| p.dentry.file_type()) {
        Some(FileType::Regular | FileType::BlockDevice) => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
