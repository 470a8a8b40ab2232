//! Attributes, from `statx(2)` and `statfs(2)`.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp};

use super::Result;
use super::hidden::STAT_NAME_FLAGS;
use crate::protocol::{Attr, Statfs, Timestamp};

const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

/// Attributes of an open file, also of one opened with `O_PATH`.
pub(super) fn stat_fd(fd: impl AsFd) -> Result<Attr> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, MASK).map(|statx| attr(&statx))
}

/// Attributes of the entry `name` of `dir`, itself if it is a symbolic link. `name` is one checked
/// component.
pub(super) fn stat_name(dir: impl AsFd, name: &[u8]) -> Result<Attr> {
    rustix::fs::statx(dir, name, STAT_NAME_FLAGS, MASK).map(|statx| attr(&statx))
}

fn attr(statx: &Statx) -> Attr {
    let has = |flag: StatxFlags| statx.stx_mask & flag.bits() != 0;
    Attr {
        mode: u32::from(statx.stx_mode),
        nlink: statx.stx_nlink,
        uid: statx.stx_uid,
        gid: statx.stx_gid,
        ino: statx.stx_ino,
        size: statx.stx_size,
        blocks: statx.stx_blocks,
        blksize: statx.stx_blksize,
        dev: rustix::fs::makedev(statx.stx_dev_major, statx.stx_dev_minor),
        rdev: rustix::fs::makedev(statx.stx_rdev_major, statx.stx_rdev_minor),
        mount_id: if has(StatxFlags::MNT_ID) { statx.stx_mnt_id } else { 0 },
        mount_root: statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        atime: time(&statx.stx_atime),
        mtime: time(&statx.stx_mtime),
        ctime: time(&statx.stx_ctime),
        btime: has(StatxFlags::BTIME).then(|| time(&statx.stx_btime)),
    }
}

fn time(time: &StatxTimestamp) -> Timestamp {
    Timestamp { sec: time.tv_sec, nsec: time.tv_nsec }
}

/// State of the file system that an open file lies on.
pub(super) fn statfs_fd(fd: impl AsFd) -> Result<Statfs> {
    let raw = rustix::fs::fstatfs(fd)?;
    // The host's signed fields hold bit patterns and sizes; none is negative in any meaning.
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Statfs {
        kind: unsigned(raw.f_type),
        block_size: unsigned(raw.f_bsize),
        blocks: raw.f_blocks,
        blocks_free: raw.f_bfree,
        blocks_available: raw.f_bavail,
        files: raw.f_files,
        files_free: raw.f_ffree,
        name_length: unsigned(raw.f_namelen),
        fragment_size: unsigned(raw.f_frsize),
        flags: unsigned(raw.f_flags),
    })
}
