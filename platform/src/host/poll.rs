//! Readiness of host descriptors.
//!
//! Host calls: `ppoll`, `eventfd2`, `read`, `write`.

use super::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};

/// Events to wait for, or found; Linux's `POLL*` bits.
pub type Events = i16;

/// Waits until one of the descriptors has one of its events, as `ppoll(2)`.
///
/// Each entry is a descriptor and the events wanted; they are replaced by the events found.
/// `timeout` in nanoseconds, `None` for ever. Returns how many have events; `EINTR` passes through.
pub fn poll(
    entries: &mut [(BorrowedFd<'_>, Events)],
    timeout: Option<u64>,
) -> Result<usize, Errno> {
    let mut fds: Vec<PollFd<'_>> = entries
        .iter()
        .map(|(fd, events)| PollFd::new(*fd, PollFlags::from_bits_retain(*events)))
        .collect();
    let timeout = timeout.map(|ns| std::time::Duration::from_nanos(ns).into());
    let ready = nix::poll::ppoll(&mut fds, timeout, None)?;
    for (entry, fd) in entries.iter_mut().zip(&fds) {
        entry.1 = fd.revents().map_or(0, |events| events.bits());
    }
    Ok(ready.max(0) as usize)
}

/// The events a descriptor has now, without waiting.
pub fn poll_now(fd: BorrowedFd<'_>, wanted: Events) -> Result<Events, Errno> {
    let mut entry = [(fd, wanted)];
    poll(&mut entry, Some(0))?;
    Ok(entry[0].1)
}

/// An eventfd with which any thread ends another thread's [`poll`].
#[derive(Debug)]
pub struct Waker(EventFd);

impl Waker {
    /// A waker that is not raised.
    pub fn new() -> Result<Self, Errno> {
        EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Self)
    }

    /// Makes the descriptor readable until [`Waker::clear`].
    pub fn wake(&self) {
        // The only failure is a full counter, and then it is readable already.
        let _ = self.0.write(1);
    }

    /// Consumes all wake-ups so far.
    pub fn clear(&self) {
        // The only failure is that there was none.
        let _ = self.0.read();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waker_ends_a_poll() {
        let waker = Waker::new().unwrap();
        assert_eq!(poll_now(waker.as_fd(), libc::POLLIN), Ok(0));
        waker.wake();
        waker.wake();
        assert_eq!(poll_now(waker.as_fd(), libc::POLLIN), Ok(libc::POLLIN));
        waker.clear();
        waker.clear();
        assert_eq!(poll_now(waker.as_fd(), libc::POLLIN), Ok(0));
        let mut entries = [(waker.as_fd(), libc::POLLIN)];
        assert_eq!(poll(&mut entries, Some(1_000_000)), Ok(0));
    }
}
