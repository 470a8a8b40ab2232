//! Root, working directory and umask.

use super::{AT_FDCWD, find_path};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Mode, PathPtr};
use crate::vfs::Path;
use crate::vfs::permission::{self, CAP_SYS_CHROOT};

/// A directory that the task may search.
fn searchable(t: &CurrentTask, path: Path) -> Result<Path> {
    if !path.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    permission::check_search(&**path.inode(), t.creds())?;
    Ok(path)
}

/// `chdir(2)`.
pub fn chdir(t: &mut CurrentTask, path: PathPtr) -> SysResult {
    let path = searchable(t, find_path(t, AT_FDCWD, path, 0)?)?;
    t.fs().set_cwd(path);
    Ok(0)
}

/// `fchdir(2)`.
pub fn fchdir(t: &mut CurrentTask, fd: Fd) -> SysResult {
    let file = t.files().get_raw(fd.0)?;
    let path = searchable(t, file.path().cloned().ok_or(Errno::ENOTDIR)?)?;
    t.fs().set_cwd(path);
    Ok(0)
}

/// `chroot(2)`.
pub fn chroot(t: &mut CurrentTask, path: PathPtr) -> SysResult {
    let path = searchable(t, find_path(t, AT_FDCWD, path, 0)?)?;
    if !t.creds().has_own(CAP_SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    t.fs().set_root(path);
    Ok(0)
}

/// `getcwd(2)`: the length of the path, with its NUL.
pub fn getcwd(t: &mut CurrentTask, buf: UserAddr, size: u64) -> SysResult {
    let (root, cwd) = t.fs().root_and_cwd();
    let text = cwd.text(&root);
    if text.deleted {
        return Err(Errno::ENOENT);
    }
    let mut bytes = if text.reachable { Vec::new() } else { b"(unreachable)".to_vec() };
    bytes.extend_from_slice(&text.bytes);
    bytes.push(0);
    let len = bytes.len() as u64;
    if len > 4096 {
        return Err(Errno::ENAMETOOLONG);
    }
    if len > size {
        return Err(Errno::ERANGE);
    }
    t.mm().write(buf, &bytes)?;
    Ok(len)
}

/// `umask(2)`.
pub fn umask(t: &mut CurrentTask, mask: Mode) -> SysResult {
    Ok(u64::from(t.fs().set_umask(mask.0)))
}
