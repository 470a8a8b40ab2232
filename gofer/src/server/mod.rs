//! The process that answers.
//!
//! [`Server`] holds the exports and the files opened for the sentry; [`Server::run`] answers on the
//! channels until the other side closes them. Everything a request names is resolved component by
//! component beneath an export ([`resolve`]); what is opened is always the file that was looked at
//! before, through its descriptor, never the name a second time.

pub mod calls;
mod dispatch;
mod export;
mod hidden;
mod list;
mod modify;
mod node;
mod open;
mod resolve;
mod sockets;
mod stat;
mod watch;
mod workers;
mod xattr;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

pub use export::{Export, OpenedExport, Source};
use node::NodeTable;

/// Result of a host call; its error is the errno of the reply.
type Result<T> = std::result::Result<T, rustix::io::Errno>;

/// What all channels of one gofer share.
#[derive(Debug)]
pub struct Server {
    exports: Vec<OpenedExport>,
    nodes: NodeTable,
    watchers: watch::Watchers,
    /// `/proc/self/fd`: the way to a file that is held without access (`O_PATH`).
    fds: OwnedFd,
}

impl Server {
    /// A server of `exports`. `fds` is `/proc/self/fd`, see [`open_fd_directory`].
    pub fn new(exports: Vec<OpenedExport>, fds: OwnedFd) -> Self {
        Self { exports, nodes: NodeTable::default(), watchers: watch::Watchers::default(), fds }
    }

    /// Answers on `channels` until all of them are closed. Channel *i* is answered by a thread bound
    /// to the *i*-th CPU this process may use, started with the channel's first message.
    pub fn run(self: &Arc<Self>, channels: Vec<OwnedFd>) {
        workers::run(self, channels);
    }
}

/// Opens the calling process's `/proc/self/fd` for [`Server::new`].
///
/// Fails where `/proc` is not mounted.
pub fn open_fd_directory() -> Result<OwnedFd> {
    rustix::fs::open(
        "/proc/self/fd",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
