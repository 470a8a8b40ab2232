//! `lseek(2)`.

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Fd;
use crate::vfs::{File, FileType};

const SEEK_SET: u32 = 0;
const SEEK_CUR: u32 = 1;
const SEEK_END: u32 = 2;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

/// `lseek(2)`.
pub fn lseek(t: &mut CurrentTask, fd: Fd, offset: i64, whence: u32) -> SysResult {
    let file = t.file(fd.0)?;
    if whence > SEEK_HOLE {
        return Err(Errno::EINVAL);
    }
    if file.ops().ignores_position() {
        return Ok(0);
    }
    if !file.ops().seekable() {
        return Err(Errno::ESPIPE);
    }
    let mut pos = file.pos();
    let new = target(&file, *pos, offset, whence)?;
    *pos = new;
    Ok(new)
}

fn target(file: &File, pos: u64, offset: i64, whence: u32) -> Result<u64> {
    let ops = file.ops();
    let base = match whence {
        SEEK_SET => 0,
        SEEK_CUR => pos,
        SEEK_END => ops.size()?,
        _ => {
            let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            if file.path().is_some_and(|p| p.dentry.file_type() == FileType::Directory) {
                return Err(Errno::EINVAL);
            }
            return ops.seek_data(from, whence == SEEK_DATA);
        }
    };
    // Positions are `loff_t`: neither negative nor beyond the largest.
    base.checked_add_signed(offset).filter(|n| *n <= i64::MAX as u64).ok_or(Errno::EINVAL)
}
