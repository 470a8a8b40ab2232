//! Between the protocol's types and the VFS's.

use crate::errno::Errno;
use crate::vfs::{FileType, TimeSet};
use gofer::{ClientError, FileKind, TimeUpdate, Timestamp};

/// The guest's error for a failed call.
pub fn errno(e: ClientError) -> Errno {
    Errno::from_raw(e.errno() as i32)
}

/// Nanoseconds since the epoch.
pub fn nanos(t: Timestamp) -> i64 {
    t.sec.saturating_mul(1_000_000_000).saturating_add(i64::from(t.nsec))
}

/// A time stamp to set.
pub fn time_update(t: TimeSet) -> TimeUpdate {
    match t {
        TimeSet::Now => TimeUpdate::Now,
        TimeSet::At(ns) => {
            let (sec, nsec) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
            TimeUpdate::To(Timestamp { sec, nsec: nsec as u32 })
        }
    }
}

/// The VFS's type; a file of unknown type is shown as a regular one, which cannot be opened.
pub fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular | FileKind::Unknown => FileType::Regular,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::Fifo,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}
