//! Messages of a socket: a part of one, or several in one call.
//!
//! Host calls: `recvmsg`, `recvmmsg`.

use super::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, recvmsg};
use std::fmt;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `recv(2)`, by the call that is made for descriptors anyway: one less that the sentry needs. A descriptor that comes with
/// what is received is closed.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: MsgFlags) -> Result<usize, Errno> {
    let mut buffers = [IoSliceMut::new(buffer)];
    Ok(recvmsg::<()>(fd.as_raw_fd(), &mut buffers, None, flags)?.bytes)
}

/// What a call for up to some number of messages needs.
pub struct Receiver {
    headers: MultiHeaders<()>,
}

impl Receiver {
    /// For up to `count` messages a call.
    pub fn new(count: usize) -> Receiver {
        Receiver { headers: MultiHeaders::preallocate(count, None) }
    }

    /// Receives messages that are there, one into each buffer; never waits. Their lengths, in the same order; a message
    /// that was longer than its buffer is cut off. `EAGAIN` without one; `EINTR` passes through.
    pub fn receive<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        buffers: impl Iterator<Item = &'a mut [u8]>,
        lengths: &mut Vec<usize>,
    ) -> Result<(), Errno> {
        lengths.clear();
        let mut slices: Vec<_> = buffers.map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let got = recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None)?;
        lengths.extend(got.map(|message| message.bytes));
        Ok(())
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn as_many_as_there_are_and_fit() {
        let (a, b) = UnixDatagram::pair().unwrap();
        let mut receiver = Receiver::new(3);
        let mut buffers = [[0; 4]; 3];
        let mut lengths = Vec::new();
        let mut receive = |buffers: &mut [[u8; 4]; 3], lengths: &mut Vec<usize>| {
            receiver.receive(b.as_fd(), buffers.iter_mut().map(|b| &mut b[..]), lengths)
        };
        assert_eq!(receive(&mut buffers, &mut lengths), Err(Errno::EAGAIN));
        for message in ["one", "second", "x", "last"] {
            a.send(message.as_bytes()).unwrap();
        }
        assert_eq!(receive(&mut buffers, &mut lengths), Ok(()));
        assert_eq!((&lengths[..], &buffers[1]), (&[3, 4, 1][..], b"seco"));
        assert_eq!(receive(&mut buffers, &mut lengths), Ok(()));
        assert_eq!((&lengths[..], &buffers[0]), (&[4][..], b"last"));
    }
}
