//! Watches many host descriptors for changes of readiness, without using CPU while nothing changes.
//!
//! Host calls: `epoll_create1`, `epoll_ctl`, `epoll_wait`.

use super::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::BorrowedFd;

/// A set of watched descriptors, each under a key of the caller's.
#[derive(Debug)]
pub struct Watch(Epoll);

impl Watch {
    /// An empty set.
    pub fn new() -> Result<Self, Errno> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self)
    }

    /// Watches a descriptor until it is closed or removed. `EPERM` for one that is always ready
    /// (a regular file).
    pub fn add(&self, fd: BorrowedFd<'_>, key: u64) -> Result<(), Errno> {
        // Edge-triggered: an event that no one consumes is reported once and then costs nothing.
        let events = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLPRI
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.0.add(fd, EpollEvent::new(events, key))
    }

    /// Stops watching a descriptor.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        self.0.delete(fd)
    }

    /// Waits until something changes; calls `changed` with the key and the `POLL*` bits of each
    /// descriptor. Returns `EINTR` when a signal came first.
    pub fn wait(&self, mut changed: impl FnMut(u64, u32)) -> Result<(), Errno> {
        let mut events = [EpollEvent::empty(); 16];
        let n = self.0.wait(&mut events, EpollTimeout::NONE)?;
        for event in events.iter().take(n) {
            changed(event.data(), event.events().bits() as u32);
        }
        Ok(())
    }
}
