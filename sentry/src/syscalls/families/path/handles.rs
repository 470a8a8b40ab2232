//! File handles (`name_to_handle_at(2)`, `open_by_handle_at(2)`).

use super::open::check;
use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, find_path};
use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_DAC_READ_SEARCH;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, PathPtr};
use crate::syscalls::families::file::install;
use crate::vfs::handles::{Handle, TYPE_INODE, TYPE_KERNFS};
use crate::vfs::walk::WalkContext;
use crate::vfs::{OpenFlags, Path, open};
use std::sync::Arc;

const AT_SYMLINK_FOLLOW: u32 = 0x400;
const AT_HANDLE_FID: u32 = 0x200;
const AT_HANDLE_MNT_ID_UNIQUE: u32 = 1;
const AT_HANDLE_CONNECTABLE: u32 = 2;
/// Largest handle (`MAX_HANDLE_SZ`), in bytes.
const MAX_BYTES: u32 = 128;
/// Length and type stand before the handle.
const HEADER: u64 = 8;
/// `name_to_handle_at(2)`
pub fn name_to_handle_at(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    handle: UserAddr,
    mount_id: UserAddr,
    flags: Flags,
) -> SysResult {
    let flags = flags.0;
    let known = AT_SYMLINK_FOLLOW
        | AT_EMPTY_PATH
        | AT_HANDLE_FID
        | AT_HANDLE_MNT_ID_UNIQUE
        | AT_HANDLE_CONNECTABLE;
    let connectable = flags & AT_HANDLE_CONNECTABLE != 0;
    if flags & !known != 0 || connectable && flags & (AT_HANDLE_FID | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = if flags & AT_SYMLINK_FOLLOW != 0 { 0 } else { AT_SYMLINK_NOFOLLOW };
    let place = find_path(t, dirfd, path, flags & AT_EMPTY_PATH | follow)?;
    let Handle { kind, bytes, identity } = Handle::of(&place.dentry, flags & AT_HANDLE_FID != 0)?;
    let room: u32 = t.mm().read_obj(handle)?;
    if room > MAX_BYTES {
        return Err(Errno::EINVAL);
    }
    let len = bytes.len() as u32;
    if flags & AT_HANDLE_MNT_ID_UNIQUE != 0 {
        t.mm().write_obj(mount_id, &place.mount.unique_id())?;
    } else {
        t.mm().write_obj(mount_id, &(place.mount.id() as i32))?;
    }
    if room < len {
        t.mm().write_obj(handle, &[len as i32, kind])?;
        return Err(Errno::EOVERFLOW);
    }
    if flags & AT_HANDLE_FID == 0 {
        let kernel = t.kernel().clone();
        let displaced = kernel.handles.lock().give(identity, &place.dentry);
        drop(displaced);
    }
    t.mm().write_obj(handle, &[len as i32, kind])?;
    t.mm().write(handle.offset(HEADER), &bytes)?;
    Ok(0)
}

/// `open_by_handle_at(2)`
pub fn open_by_handle_at(
    t: &mut CurrentTask,
    mount_fd: Fd,
    handle: UserAddr,
    flags: Flags,
) -> SysResult {
    let [len, kind]: [i32; 2] = t.mm().read_obj(handle)?;
    let len = u32::try_from(len).ok().filter(|len| (1..=MAX_BYTES).contains(len));
    let len = len.ok_or(Errno::EINVAL)?;
    let mount = if mount_fd == AT_FDCWD {
        Some(t.fs().cwd().mount)
    } else {
        t.files().get_raw(mount_fd.0)?.path().map(|at| at.mount.clone())
    };
    if !t.creds().has(CAP_DAC_READ_SEARCH) {
        return Err(Errno::EPERM);
    }
    let mut bytes = vec![0; len as usize];
    t.mm().read(handle.offset(HEADER), &mut bytes)?;
    let mount = mount.ok_or(Errno::ESTALE)?;
    let word = |at: usize| {
        bytes.get(at..at + 8)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
    };
    let identity = match (kind & 0xffff, len) {
        (TYPE_INODE, 16) => word(0).zip(word(8)),
        (TYPE_KERNFS, 8) => word(0).map(|ino| (mount.fs().dev(), ino)),
        _ => None,
    };
    let identity = identity.ok_or(Errno::ESTALE)?;
    let dentry = t.kernel().handles.lock().find(identity).ok_or(Errno::ESTALE)?;
    let gone = dentry.is_unlinked() && dentry.inode().attr()?.nlink == 0;
    if gone || !Arc::ptr_eq(dentry.fs(), mount.fs()) {
        return Err(Errno::ESTALE);
    }
    let flags = check(OpenFlags::from_bits_truncate(flags.0) | OpenFlags::LARGEFILE)?;
    if flags.contains(OpenFlags::DIRECTORY) && !dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let place = Path { mount, dentry };
    let cloexec = flags.contains(OpenFlags::CLOEXEC);
    let file = if flags.contains(OpenFlags::PATH) {
        open::path_only(place)
    } else {
        let ctx = WalkContext::of(t);
        open::open_path(Some(t), &ctx, place, flags)?
    };
    install(t, file, cloexec)
}
