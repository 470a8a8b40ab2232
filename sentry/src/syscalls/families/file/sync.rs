//! `fsync(2)` and its kin.

use crate::errno::Errno;
use crate::kernel::CurrentTask;
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
