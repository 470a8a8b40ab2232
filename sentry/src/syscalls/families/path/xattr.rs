//! Extended attributes (`xattr(7)`).

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, find_path};
use crate::errno::{Errno, Result};
use crate::fs::proc::process::reopen;
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, PathPtr};
use crate::vfs::notify::{self, Happened};
use crate::vfs::permission::{self, Access, CAP_SYS_ADMIN};
use crate::vfs::{FileType, Path};

const XATTR_NAME_MAX: usize = 255;
const XATTR_SIZE_MAX: u64 = 65536;
const XATTR_LIST_MAX: usize = 65536;

fn read_name(t: &CurrentTask, addr: UserAddr) -> Result<Vec<u8>> {
    match t.mm().read_cstr(addr, XATTR_NAME_MAX) {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        // A name space without a name in it.
        Ok(name) if matches!(&*name, b"user." | b"trusted." | b"security.") => Err(Errno::EINVAL),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        other => other,
    }
}

const CAPABILITY: &[u8] = b"security.capability";

/// Whether the bytes are capabilities of a file: 32 bits of revision and flags, then as much as the revision has.
fn is_capability(bytes: &[u8]) -> bool {
    let revision = bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word)) >> 24;
    matches!((revision, bytes.len()), (2, 20) | (3, 24))
}

/// `xattr_permission`: who may do what with the name.
fn check(t: &CurrentTask, path: &Path, name: &[u8], write: bool) -> Result<()> {
    if write {
        path.mount.check_writable()?;
    }
    let creds = t.creds();
    if name.starts_with(b"security.") || name.starts_with(b"system.") {
        if write && name == CAPABILITY {
            let may = creds.has_over(&path.inode().attr()?, permission::CAP_SETFCAP);
            return if may { Ok(()) } else { Err(Errno::EPERM) };
        }
        if write && name.starts_with(b"security.") && !creds.has(CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        return Ok(());
    }
    if name.starts_with(b"trusted.") {
        if !creds.has(CAP_SYS_ADMIN) {
            return Err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
        return Ok(());
    }
    let attr = path.inode().attr()?;
    if name.starts_with(b"user.") {
        match FileType::from_mode(attr.mode) {
            Some(FileType::Regular) => {}
            Some(FileType::Directory) => {
                let sticky = attr.mode & 0o1000 != 0;
                if write && sticky && !permission::is_owner_or_capable(&attr, creds) {
                    return Err(Errno::EPERM);
                }
            }
            _ => return Err(if write { Errno::EPERM } else { Errno::ENODATA }),
        }
    }
    let want = if write { Access::WRITE } else { Access::READ };
    permission::check_known(&**path.inode(), &attr, creds, want)
}

fn get(t: &CurrentTask, path: &Path, name: UserAddr, value: UserAddr, size: u64) -> SysResult {
    let name = read_name(t, name)?;
    check(t, path, &name, false)?;
    let found = path.inode().get_xattr(&name)?;
    copy_out(t, &found, value, size)
}

fn copy_out(t: &CurrentTask, bytes: &[u8], addr: UserAddr, size: u64) -> SysResult {
    let len = bytes.len() as u64;
    if size != 0 {
        if len > size {
            return Err(Errno::ERANGE);
        }
        t.mm().write(addr, bytes)?;
    }
    Ok(len)
}

fn set(
    t: &CurrentTask,
    path: &Path,
    name: UserAddr,
    value: UserAddr,
    size: u64,
    flags: u32,
) -> SysResult {
    const CREATE_OR_REPLACE: u32 = 3;
    if flags & !CREATE_OR_REPLACE != 0 {
        return Err(Errno::EINVAL);
    }
    let name = read_name(t, name)?;
    if size > XATTR_SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0; size as usize];
    t.mm().read(value, &mut bytes)?;
    if name == CAPABILITY && !bytes.is_empty() && !is_capability(&bytes) {
        return Err(Errno::EINVAL);
    }
    check(t, path, &name, true)?;
    path.inode().set_xattr(&name, &bytes, flags)?;
    notify::happened(path, Happened::ATTRIB);
    Ok(0)
}

fn list(t: &CurrentTask, path: &Path, buf: UserAddr, size: u64) -> SysResult {
    let mut bytes = Vec::new();
    let names = match path.inode().list_xattr() {
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        names => names?,
    };
    for name in names {
        if name.starts_with(b"trusted.") && !t.creds().has(CAP_SYS_ADMIN) {
            continue;
        }
        bytes.extend_from_slice(&name);
        bytes.push(0);
    }
    if bytes.len() > XATTR_LIST_MAX {
        return Err(Errno::E2BIG);
    }
    copy_out(t, &bytes, buf, size)
}

fn remove(t: &CurrentTask, path: &Path, name: UserAddr) -> SysResult {
    let name = read_name(t, name)?;
    check(t, path, &name, true)?;
    path.inode().remove_xattr(&name)?;
    notify::happened(path, Happened::ATTRIB);
    Ok(0)
}

/// The place of a descriptor; that of a file without a path is where its link in `/proc/self/fd` leads.
fn of_fd(t: &CurrentTask, fd: Fd) -> Result<Path> {
    let file = t.file(fd.0)?;
    Ok(file.path().cloned().unwrap_or_else(|| reopen::place(&file)))
}

fn of_path(t: &CurrentTask, path: PathPtr, follow: bool) -> Result<Path> {
    find_path(t, AT_FDCWD, path, if follow { 0 } else { AT_SYMLINK_NOFOLLOW })
}

/// The file of the `…xattrat` calls, whose flags may only be the two known ones.
fn of_at(t: &CurrentTask, dirfd: Fd, path: PathPtr, flags: Flags) -> Result<Path> {
    if flags.0 & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    find_path(t, dirfd, path, flags.0)
}

/// `struct xattr_args`: address and size of the value, and flags.
fn read_args(t: &CurrentTask, addr: UserAddr, size: u64) -> Result<(UserAddr, u64, u32)> {
    if size < 16 {
        return Err(Errno::EINVAL);
    }
    if size > crate::mm::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0; size as usize];
    t.mm().read(addr, &mut bytes)?;
    if bytes.iter().skip(16).any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    let [value, rest]: [u64; 2] = t.mm().read_obj(addr)?;
    Ok((UserAddr(value), rest & 0xffff_ffff, (rest >> 32) as u32))
}

/// `getxattr(2)`.
pub fn getxattr(
    t: &mut CurrentTask,
    path: PathPtr,
    name: UserAddr,
    value: UserAddr,
    size: u64,
) -> SysResult {
    get(t, &of_path(t, path, true)?, name, value, size)
}

/// `lgetxattr(2)`.
pub fn lgetxattr(
    t: &mut CurrentTask,
    path: PathPtr,
    name: UserAddr,
    value: UserAddr,
    size: u64,
) -> SysResult {
    get(t, &of_path(t, path, false)?, name, value, size)
}

/// `fgetxattr(2)`.
pub fn fgetxattr(
    t: &mut CurrentTask,
    fd: Fd,
    name: UserAddr,
    value: UserAddr,
    size: u64,
) -> SysResult {
    get(t, &of_fd(t, fd)?, name, value, size)
}

/// `getxattrat(2)`.
pub fn getxattrat(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    flags: Flags,
    name: UserAddr,
    args: UserAddr,
    size: u64,
) -> SysResult {
    let path = of_at(t, dirfd, path, flags)?;
    let (value, len, flags) = read_args(t, args, size)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    get(t, &path, name, value, len)
}

/// `setxattr(2)`.
pub fn setxattr(
    t: &mut CurrentTask,
    path: PathPtr,
    name: UserAddr,
    value: UserAddr,
    size: u64,
    flags: Flags,
) -> SysResult {
    set(t, &of_path(t, path, true)?, name, value, size, flags.0)
}

/// `lsetxattr(2)`.
pub fn lsetxattr(
    t: &mut CurrentTask,
    path: PathPtr,
    name: UserAddr,
    value: UserAddr,
    size: u64,
    flags: Flags,
) -> SysResult {
    set(t, &of_path(t, path, false)?, name, value, size, flags.0)
}

/// `fsetxattr(2)`.
pub fn fsetxattr(
    t: &mut CurrentTask,
    fd: Fd,
    name: UserAddr,
    value: UserAddr,
    size: u64,
    flags: Flags,
) -> SysResult {
    set(t, &of_fd(t, fd)?, name, value, size, flags.0)
}

/// `setxattrat(2)`.
pub fn setxattrat(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    flags: Flags,
    name: UserAddr,
    args: UserAddr,
    size: u64,
) -> SysResult {
    let path = of_at(t, dirfd, path, flags)?;
    let (value, len, flags) = read_args(t, args, size)?;
    set(t, &path, name, value, len, flags)
}

/// `listxattr(2)`.
pub fn listxattr(t: &mut CurrentTask, path: PathPtr, buf: UserAddr, size: u64) -> SysResult {
    list(t, &of_path(t, path, true)?, buf, size)
}

/// `llistxattr(2)`.
pub fn llistxattr(t: &mut CurrentTask, path: PathPtr, buf: UserAddr, size: u64) -> SysResult {
    list(t, &of_path(t, path, false)?, buf, size)
}

/// `flistxattr(2)`.
pub fn flistxattr(t: &mut CurrentTask, fd: Fd, buf: UserAddr, size: u64) -> SysResult {
    list(t, &of_fd(t, fd)?, buf, size)
}

/// `listxattrat(2)`.
pub fn listxattrat(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    flags: Flags,
    buf: UserAddr,
    size: u64,
) -> SysResult {
    list(t, &of_at(t, dirfd, path, flags)?, buf, size)
}

/// `removexattr(2)`.
pub fn removexattr(t: &mut CurrentTask, path: PathPtr, name: UserAddr) -> SysResult {
    remove(t, &of_path(t, path, true)?, name)
}

/// `lremovexattr(2)`.
pub fn lremovexattr(t: &mut CurrentTask, path: PathPtr, name: UserAddr) -> SysResult {
    remove(t, &of_path(t, path, false)?, name)
}

/// `fremovexattr(2)`.
pub fn fremovexattr(t: &mut CurrentTask, fd: Fd, name: UserAddr) -> SysResult {
    remove(t, &of_fd(t, fd)?, name)
}

/// `removexattrat(2)`.
pub fn removexattrat(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    flags: Flags,
    name: UserAddr,
) -> SysResult {
    remove(t, &of_at(t, dirfd, path, flags)?, name)
}
