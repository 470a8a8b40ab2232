//! `statfs(2)`.

use super::{AT_FDCWD, find_path};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, PathPtr};
use crate::vfs::{File, FileType, MountFlags, Path};

/// `ST_VALID`: the flags field means something.
const ST_VALID: u64 = 0x20;
/// Magic number of the pseudo file system of a file without a path.
fn anonymous_magic(file: &File) -> Result<u64> {
    const PIPEFS: u64 = 0x5049_5045;
    const SOCKFS: u64 = 0x534f_434b;
    const ANON_INODE: u64 = 0x0904_1934;
    Ok(match FileType::from_mode(file.attr()?.mode) {
        Some(FileType::Fifo) => PIPEFS,
        Some(FileType::Socket) => SOCKFS,
        _ => ANON_INODE,
    })
}

/// `ST_*` of a mount.
fn flags_of(path: &Path) -> u64 {
    let pairs = [
        (MountFlags::RDONLY, 1),
        (MountFlags::NOSUID, 2),
        (MountFlags::NODEV, 4),
        (MountFlags::NOEXEC, 8),
        (MountFlags::NOATIME, 0x400),
        (MountFlags::NODIRATIME, 0x800),
        (MountFlags::RELATIME, 0x1000),
        (MountFlags::NOSYMFOLLOW, 0x2000),
    ];
    let flags = path.mount.flags();
    pairs.iter().filter(|(f, _)| flags.contains(*f)).map(|(_, bit)| bit).sum::<u64>() | ST_VALID
}

fn store(t: &CurrentTask, path: &Path, buf: UserAddr) -> SysResult {
    let fs = path.dentry.fs();
    let s = fs.statfs()?;
    let mut words = [0u64; 15];
    let values = [
        s.magic,
        s.block_size,
        s.blocks[0],
        s.blocks[1],
        s.blocks[2],
        s.files[0],
        s.files[1],
        fs.dev(),
        s.name_max,
        if s.fragment_size == 0 { s.block_size } else { s.fragment_size },
        flags_of(path),
    ];
    for (word, value) in words.iter_mut().zip(values) {
        *word = value;
    }
    t.mm().write_obj(buf, &words)?;
    Ok(0)
}

/// `statfs(2)`.
pub fn statfs(t: &mut CurrentTask, path: PathPtr, buf: UserAddr) -> SysResult {
    let path = find_path(t, AT_FDCWD, path, 0)?;
    store(t, &path, buf)
}

/// `fstatfs(2)`.
pub fn fstatfs(t: &mut CurrentTask, fd: Fd, buf: UserAddr) -> SysResult {
    let file = t.files().get_raw(fd.0)?;
    let Some(path) = file.path() else {
        // Pipes, sockets and anonymous inodes.
        let mut words = [0u64; 15];
        for (word, value) in words.iter_mut().zip([anonymous_magic(&file)?, 4096]) {
            *word = value;
        }
        *words.get_mut(8).ok_or(Errno::EIO)? = 255;
        *words.get_mut(9).ok_or(Errno::EIO)? = 4096;
        t.mm().write_obj(buf, &words)?;
        return Ok(0);
    };
    store(t, path, buf)
}
