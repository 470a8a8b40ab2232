//! `getdents(2)`.

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Fd;
use crate::vfs::{DirEntry, File, FileType};

/// Most bytes of entries gathered before they are copied out. Larger buffers are filled by further
/// calls, as Linux's file systems do too.
const BATCH: usize = 64 << 10;

/// Appends one entry; `false` if it does not fit into `room`.
type Pack = fn(&mut Vec<u8>, &DirEntry<'_>, usize) -> bool;

/// `struct linux_dirent64`.
fn pack64(out: &mut Vec<u8>, entry: &DirEntry<'_>, room: usize) -> bool {
    let start = out.len();
    let len = (19 + entry.name.len() + 1).next_multiple_of(8);
    if start + len > room {
        return false;
    }
    out.extend_from_slice(&entry.ino.to_ne_bytes());
    out.extend_from_slice(&entry.next.to_ne_bytes());
    out.extend_from_slice(&(len as u16).to_ne_bytes());
    out.push(entry.file_type.dirent_type());
    out.extend_from_slice(entry.name);
    out.resize(start + len, 0);
    true
}

/// `struct linux_dirent`: the type stands in the last byte.
fn pack(out: &mut Vec<u8>, entry: &DirEntry<'_>, room: usize) -> bool {
    let start = out.len();
    let len = (18 + entry.name.len() + 2).next_multiple_of(8);
    if start + len > room {
        return false;
    }
    out.extend_from_slice(&entry.ino.to_ne_bytes());
    out.extend_from_slice(&entry.next.to_ne_bytes());
    out.extend_from_slice(&(len as u16).to_ne_bytes());
    out.extend_from_slice(entry.name);
    out.resize(start + len - 1, 0);
    out.push(entry.file_type.dirent_type());
    true
}

fn read(t: &CurrentTask, fd: Fd, buf: UserAddr, count: u32, pack: Pack) -> SysResult {
    let file = t.file(fd.0)?;
    if file.path().is_none_or(|p| p.dentry.file_type() != FileType::Directory) {
        return Err(Errno::ENOTDIR);
    }
    if file.path().is_some_and(|p| p.dentry.is_unlinked()) {
        return Err(Errno::ENOENT);
    }
    let mut pos = file.pos();
    let (bytes, next) = gather(&file, *pos, (count as usize).min(BATCH), pack)?;
    if !bytes.is_empty() {
        t.mm().write(buf, &bytes)?;
        *pos = next;
    }
    Ok(bytes.len() as u64)
}

fn gather(file: &File, pos: u64, room: usize, pack: Pack) -> Result<(Vec<u8>, u64)> {
    let mut bytes = Vec::with_capacity(room.min(4096));
    let mut next = pos;
    let mut too_small = false;
    file.ops().readdir(file, pos, &mut |entry| {
        if pack(&mut bytes, &entry, room) {
            next = entry.next;
            true
        } else {
            too_small = bytes.is_empty();
            false
        }
    })?;
    if too_small { Err(Errno::EINVAL) } else { Ok((bytes, next)) }
}

/// `getdents64(2)`.
pub fn getdents64(t: &mut CurrentTask, fd: Fd, buf: UserAddr, count: u32) -> SysResult {
    read(t, fd, buf, count, pack64)
}

/// `getdents(2)`.
pub fn getdents(t: &mut CurrentTask, fd: Fd, buf: UserAddr, count: u32) -> SysResult {
    read(t, fd, buf, count, pack)
}
