//! Watched directories: how the sentry learns of what others change in them.
//!
//! A watch is `inotify(7)`'s. The host queues an event before the call that makes the change returns, so a sentry that has
//! read all events knows everything that was done before it began to read. That holds where all changes are made through
//! this host's kernel; directories of other file systems cannot be watched.

use std::os::fd::{AsFd, OwnedFd};

use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::open::{Answer, descriptor_name};
use super::{Result, Server};
use crate::protocol::{At, FileKind, Reply};

/// Most watchers of one gofer. A host allows each user so many, 128 by default.
const MAX_WATCHERS: usize = 4;

/// Magic numbers, `statfs(2)`, of file systems that no other machine and no program changes behind the kernel's back.
const LOCAL_FILESYSTEMS: &[u32] = &[
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x794c_7630, // overlay
];

/// What changes names and attributes in a directory; reading does not.
const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// The watchers, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Vec<OwnedFd>>);

impl Watchers {
    fn with<T>(
        &self,
        watcher: u32,
        call: impl FnOnce(&OwnedFd) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let watchers = self.0.lock();
        call(watchers.get(watcher as usize).ok_or(Errno::BADF)?)
    }
}

impl Server {
    /// A new watcher, whose events the sentry reads.
    pub(super) fn new_watcher(&self) -> Result<Answer<'static>> {
        let mut watchers = self.watchers.0.lock();
        if watchers.len() >= MAX_WATCHERS {
            return Err(Errno::MFILE);
        }
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let donated = rustix::io::fcntl_dupfd_cloexec(&fd, 0)?;
        let watcher = u32::try_from(watchers.len()).map_err(|_| Errno::MFILE)?;
        watchers.push(fd);
        Ok((Reply::Watcher(watcher), Some(donated)))
    }

    /// Watches a directory.
    pub(super) fn watch(&self, watcher: u32, at: &At<'_>) -> Result<Reply<'static>> {
        let found = self.find(at)?;
        if found.attr.kind() != FileKind::Directory {
            return Err(Errno::NOTDIR);
        }
        let fd = found.fd()?;
        let kind = rustix::fs::fstatfs(fd)?.f_type & 0xffff_ffff;
        if !LOCAL_FILESYSTEMS.iter().any(|&magic| i64::from(magic) == kind) {
            return Err(Errno::OPNOTSUPP);
        }
        // The working directory is /proc/self/fd.
        let name = descriptor_name(fd.as_fd());
        let number =
            self.watchers.with(watcher, |fd| inotify::add_watch(fd, name.as_str(), EVENTS))?;
        Ok(Reply::Watching(number))
    }

    /// Ends a watch.
    pub(super) fn unwatch(&self, watcher: u32, number: i32) -> Result<Reply<'static>> {
        self.watchers.with(watcher, |fd| inotify::remove_watch(fd, number))?;
        Ok(Reply::Done)
    }
}
