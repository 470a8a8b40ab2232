//! Calls about watched directories.

use std::os::fd::OwnedFd;

use super::{Client, Path, Result, UNEXPECTED};
use crate::protocol::{NodeId, Reply, Request};

/// A watcher of the gofer's: what its events are read from (`inotify(7)`, never waits), and its number.
#[derive(Debug)]
pub struct Watcher {
    /// Where the events come from.
    pub fd: OwnedFd,
    number: u32,
}

impl Client {
    /// A new watcher. It is the gofer's until that ends. `EMFILE` if there are too many, here or on the host.
    pub fn new_watcher(&self) -> Result<Watcher> {
        self.call(Request::NewWatcher, |reply, fd| match (reply, fd) {
            (Reply::Watcher(number), Some(fd)) => Ok(Watcher { fd, number }),
            _ => Err(UNEXPECTED),
        })
    }

    /// Watches the directory at `names` beneath `dir`, and returns the number by which events name it. The same
    /// directory has the same number. `EOPNOTSUPP` where not every change is one by this host, `ENOSPC` beyond the host's limit.
    pub fn watch(&self, watcher: &Watcher, dir: NodeId, names: &[&[u8]]) -> Result<i32> {
        let path = Path::new(dir, names)?;
        let request = Request::Watch { watcher: watcher.number, at: path.at() };
        self.call(request, |reply, _| match reply {
            Reply::Watching(number) => Ok(number),
            _ => Err(UNEXPECTED),
        })
    }

    /// Ends a watch; `EINVAL` if it has ended.
    pub fn unwatch(&self, watcher: &Watcher, number: i32) -> Result<()> {
        self.done(Request::Unwatch { watcher: watcher.number, number })
    }
}
