//! What hangs on an inode as long as it lives in memory.

/// Advisory locks, inotify watches, a bound socket, a FIFO's pipe. Every field is made on first use:
/// most inodes have none of it.
#[derive(Default)]
pub struct Attachments {}
