//! `fsync(2)` and its kin.

use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags};
use crate::vfs::FileType;

/// `fsync(2)`.
pub fn fsync(t: &mut CurrentTask, fd: Fd) -> SysResult {
    t.file(fd.0)?.ops().sync(false)?;
    Ok(0)
}

/// `fdatasync(2)`.
pub fn fdatasync(t: &mut CurrentTask, fd: Fd) -> SysResult {
    t.file(fd.0)?.ops().sync(true)?;
    Ok(0)
}

/// `sync(2)`: file systems in memory need none, and what was written to host files is in the host's
/// page cache already, where the host's own write-back applies.
pub fn sync(_t: &mut CurrentTask) -> SysResult {
    Ok(0)
}

/// `syncfs(2)`.
pub fn syncfs(t: &mut CurrentTask, fd: Fd) -> SysResult {
    t.file(fd.0)?;
    Ok(0)
}

/// `sync_file_range(2)`.
pub fn sync_file_range(
    t: &mut CurrentTask,
    fd: Fd,
    offset: i64,
    nbytes: i64,
    flags: Flags,
) -> SysResult {
    const WRITE: u32 = 2;
    const ALL: u32 = 7;
    let file = t.file(fd.0)?;
    if flags.0 & !ALL != 0 || offset < 0 || nbytes < 0 || offset.checked_add(nbytes).is_none() {
        return Err(Errno::EINVAL);
    }
    match file.path().map(|p| p.dentry.file_type()) {
        Some(FileType::Regular | FileType::BlockDevice | FileType::Directory) => {}
        _ => return Err(Errno::ESPIPE),
    }
    // Starting write-back is all that is asked for unless it is to be waited for.
    if flags.0 & !WRITE != 0 {
        file.ops().sync(true)?;
    }
    Ok(0)
}

/// `cachestat(2)`. Where a page of a host file is, only the host knows: all of the file counts as
/// cached, nothing as dirty.
pub fn cachestat(
    t: &mut CurrentTask,
    fd: Fd,
    range: UserAddr,
    stat: UserAddr,
    flags: u32,
) -> SysResult {
    let file = t.file(fd.0)?;
    let [start, len]: [u64; 2] = t.mm().read_obj(range)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let attr = file.attr()?;
    let size = if attr.file_type() == FileType::Regular { attr.size } else { 0 };
    let end = if len == 0 { size } else { start.saturating_add(len).min(size) };
    let pages = match start < end {
        true => end.div_ceil(PAGE_SIZE) - start / PAGE_SIZE,
        false => 0,
    };
    t.mm().write_obj(stat, &[pages, 0, 0, 0, 0])?;
    Ok(0)
}
