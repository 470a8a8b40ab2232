//! `stat(2)` and `statx(2)`.

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Target, find};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::namespace::UserNamespace;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, PathPtr};
use crate::vfs::Attr;
use crate::vfs::device::Device;
use std::sync::Arc;
use zerocopy::{Immutable, IntoBytes};

const AT_NO_AUTOMOUNT: u32 = 0x800;
const AT_STATX_SYNC_TYPE: u32 = 0x6000;

/// Seconds and nanoseconds of a time stamp.
pub(super) fn split_time(ns: i64) -> (i64, u32) {
    const SECOND: i64 = 1_000_000_000;
    (ns.div_euclid(SECOND), ns.rem_euclid(SECOND) as u32)
}

/// `struct stat` of x86-64.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Stat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: u64,
    blksize: u64,
    blocks: u64,
    times: [i64; 6],
    unused: [u64; 3],
}

impl Stat {
    /// As someone in `user_ns` sees it.
    fn of(attr: &Attr, user_ns: &UserNamespace) -> Self {
        let mut times = [0; 6];
        for (pair, ns) in times.chunks_exact_mut(2).zip([attr.atime, attr.mtime, attr.ctime]) {
            let (sec, nsec) = split_time(ns);
            pair.copy_from_slice(&[sec, i64::from(nsec)]);
        }
        Stat {
            dev: attr.dev,
            ino: attr.ino,
            nlink: u64::from(attr.nlink),
            mode: attr.mode,
            uid: user_ns.show_uid(attr.uid),
            gid: user_ns.show_gid(attr.gid),
            pad: 0,
            rdev: attr.rdev,
            size: attr.size,
            blksize: u64::from(attr.blksize),
            blocks: attr.blocks,
            times,
            unused: [0; 3],
        }
    }
}

fn store(t: &CurrentTask, addr: UserAddr, attr: &Attr) -> SysResult {
    t.mm().write_obj(addr, &Stat::of(attr, &t.creds().user_ns))?;
    Ok(0)
}

/// `fstat(2)`.
pub fn fstat(t: &mut CurrentTask, fd: Fd, buf: UserAddr) -> SysResult {
    let attr = t.files().get_raw(fd.0)?.attr()?;
    store(t, buf, &attr)
}

/// `stat(2)`.
pub fn stat(t: &mut CurrentTask, path: PathPtr, buf: UserAddr) -> SysResult {
    let attr = find(t, AT_FDCWD, path, 0)?.attr()?;
    store(t, buf, &attr)
}

/// `lstat(2)`.
pub fn lstat(t: &mut CurrentTask, path: PathPtr, buf: UserAddr) -> SysResult {
    let attr = find(t, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)?.attr()?;
    store(t, buf, &attr)
}

/// `fstatat(2)`.
pub fn newfstatat(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    buf: UserAddr,
    flags: Flags,
) -> SysResult {
    check_flags(flags.0)?;
    let attr = find(t, dirfd, path, flags.0)?.attr()?;
    store(t, buf, &attr)
}

fn check_flags(flags: u32) -> Result<()> {
    let known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
    if flags & !known != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct StatxTime {
    sec: i64,
    nsec: u32,
    pad: i32,
}

impl From<i64> for StatxTime {
    fn from(ns: i64) -> Self {
        let (sec, nsec) = split_time(ns);
        StatxTime { sec, nsec, pad: 0 }
    }
}

/// `struct statx`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Statx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    times: [StatxTime; 4],
    rdev: [u32; 2],
    dev: [u32; 2],
    mnt_id: u64,
    spare: [u64; 13],
}

/// `statx(2)`.
pub fn statx(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    flags: Flags,
    mask: u32,
    buf: UserAddr,
) -> SysResult {
    const RESERVED: u32 = 0x8000_0000;
    const BASIC: u32 = 0x7ff;
    const BTIME: u32 = 0x800;
    const MNT_ID: u32 = 0x1000;
    const MNT_ID_UNIQUE: u32 = 0x4000;
    const ATTR_MOUNT_ROOT: u64 = 0x2000;
    if mask & RESERVED != 0 || flags.0 & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    check_flags(flags.0)?;
    let target = find(t, dirfd, path, flags.0)?;
    let attr = target.attr()?;
    let place = match &target {
        Target::Path(path) => Some(path),
        Target::File(file) => file.path(),
    };
    let is_root = place.is_some_and(|p| Arc::ptr_eq(&p.dentry, p.mount.root()));
    // Immutable, append-only and left out of dumps have the same values as flags and as attributes.
    const ATTR_FLAGS: u32 = 0x70;
    let flags = place.and_then(|place| place.inode().flags());
    let attributes = flags.map_or(0, |flags| u64::from(flags.bits() & ATTR_FLAGS));
    let attributes_mask = flags.map_or(0, |_| u64::from(ATTR_FLAGS));
    let (rdev, dev) = (Device::from_rdev(attr.rdev), Device::from_rdev(attr.dev));
    let mut have = BASIC;
    if attr.btime.is_some() {
        have |= BTIME;
    }
    if place.is_some() {
        have |= mask & MNT_ID_UNIQUE | MNT_ID;
    }
    let statx = Statx {
        mask: have,
        blksize: attr.blksize,
        attributes: attributes | if is_root { ATTR_MOUNT_ROOT } else { 0 },
        nlink: attr.nlink,
        uid: t.creds().user_ns.show_uid(attr.uid),
        gid: t.creds().user_ns.show_gid(attr.gid),
        mode: attr.mode as u16,
        pad: 0,
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        attributes_mask: attributes_mask | ATTR_MOUNT_ROOT,
        times: [
            attr.atime.into(),
            attr.btime.unwrap_or(0).into(),
            attr.ctime.into(),
            attr.mtime.into(),
        ],
        rdev: [rdev.major, rdev.minor],
        dev: [dev.major, dev.minor],
        mnt_id: place.map_or(0, |p| match mask & MNT_ID_UNIQUE {
            0 => p.mount.id(),
            _ => p.mount.unique_id(),
        }),
        spare: [0; 13],
    };
    t.mm().write_obj(buf, &statx)?;
    Ok(0)
}
