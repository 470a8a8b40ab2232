//! Attributes of files that no file system holds: anonymous inodes, pipes and sockets.
//!
//! Linux gives every anonymous file (`eventfd(2)`, `epoll(7)`, …) one shared inode on a pseudo file
//! system, and every pipe and socket an inode of its own on `pipefs` and `sockfs`.

use crate::kernel::Credentials;
use crate::vfs::Attr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Device number of the anonymous inode's file system.
pub const ANON_DEV: u64 = 0x10;
/// Device number of pipes.
pub const PIPE_DEV: u64 = 0x0f;
/// Device number of sockets.
pub const SOCKET_DEV: u64 = 0x09;

/// Number of the inode that all anonymous files share.
const ANON_INO: u64 = 1038;

static NEXT_INO: AtomicU64 = AtomicU64::new(4096);

/// A fresh inode number for a pipe or socket.
pub fn next_ino() -> u64 {
    NEXT_INO.fetch_add(1, Ordering::Relaxed)
}

/// The wall clock, in nanoseconds since the epoch.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Identity of a pipe or socket: its inode number, owner and time of birth.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// Inode number.
    pub ino: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Creation, in nanoseconds since the epoch.
    pub born: i64,
}

impl Identity {
    /// A new identity owned by whoever has `creds`.
    pub fn new(creds: &Credentials) -> Self {
        Self { ino: next_ino(), uid: creds.fsuid, gid: creds.fsgid, born: now() }
    }

    /// Attributes of an object with this identity.
    pub fn attr(&self, dev: u64, mode: u32, born: i64) -> Attr {
        Attr {
            dev,
            ino: self.ino,
            mode,
            nlink: 1,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: born,
            mtime: born,
            ctime: born,
            btime: None,
        }
    }
}

/// Attributes of an anonymous inode (`anon_inode:[…]`): mode 0600 and no type.
pub fn attr() -> Attr {
    Identity { ino: ANON_INO, uid: 0, gid: 0, born: 0 }.attr(ANON_DEV, 0o600, 0)
}
