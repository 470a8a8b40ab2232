#![expect(unsafe_code, reason = "nix's poll loses the events of a descriptor that has POLLRDHUP")]
//! Readiness of host descriptors.
//!
//! Host calls: `ppoll`, `eventfd2`, `read`, `write`.

use super::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

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
    let mut fds: Vec<libc::pollfd> = entries
        .iter()
        .map(|(fd, events)| libc::pollfd { fd: fd.as_raw_fd(), events: *events, revents: 0 })
        .collect();
    let timeout = timeout.map(|ns| libc::timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    });
    let time = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the array has as many entries as are named and lives through the call, which writes their `revents`;
    // the timeout is null or valid; a null mask changes none.
    let ready =
        unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, time, std::ptr::null()) };
    let ready = Errno::result(ready)?;
    for (entry, fd) in entries.iter_mut().zip(&fds) {
        entry.1 = fd.revents;
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
    fn the_end_of_a_stream_hides_nothing() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(b);
        let wanted = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
        assert_eq!(poll_now(a.as_fd(), wanted), Ok(wanted | libc::POLLHUP));
    }

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
