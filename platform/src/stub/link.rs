//! The channel that brings host descriptors into stubs.
//!
//! All stubs share the receiving end, so sending and the matching receive in the stub happen under one
//! lock, and nothing is left in the channel afterwards. A stub receives only when a back end makes it
//! do so.

use crate::host::{Errno, messages::receive, socket};
use nix::sys::socket::MsgFlags;
use parking_lot::{Mutex, MutexGuard};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Both ends of the channel.
#[derive(Debug)]
pub struct Link {
    to_stubs: OwnedFd,
    from_sentry: OwnedFd,
    lock: Mutex<()>,
}

/// The exclusive right to send; whatever no stub has fetched by its end is discarded.
#[derive(Debug)]
pub struct Transfer<'a> {
    link: &'a Link,
    _lock: MutexGuard<'a, ()>,
}

impl Link {
    /// A new channel.
    pub fn new() -> Result<Self, Errno> {
        let (to_stubs, from_sentry) = socket::seqpacket_pair()?;
        Ok(Self { to_stubs, from_sentry, lock: Mutex::new(()) })
    }

    /// The end that stubs have as [`super::layout::FD_LINK`].
    pub fn stub_end(&self) -> BorrowedFd<'_> {
        self.from_sentry.as_fd()
    }

    /// Waits until nobody else sends.
    pub fn begin(&self) -> Transfer<'_> {
        Transfer { link: self, _lock: self.lock.lock() }
    }
}

impl Transfer<'_> {
    /// Sends one descriptor.
    pub fn send(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        socket::send(self.link.to_stubs.as_fd(), &[0], &[fd]).map(drop)
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        // Receiving without room for a descriptor closes it.
        let fd = self.link.from_sentry.as_fd();
        while receive(fd, &mut [0], MsgFlags::MSG_DONTWAIT).is_ok_and(|n| n > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_fetched_is_discarded() {
        let link = Link::new().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let transfer = link.begin();
        transfer.send(writer.as_fd()).unwrap();
        transfer.send(writer.as_fd()).unwrap();
        drop(writer);
        drop(transfer);
        assert_eq!(nix::unistd::read(&reader, &mut [0]), Ok(0));
    }
}
