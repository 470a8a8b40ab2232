#![expect(unsafe_code, reason = "takes ownership of received descriptors")]
//! Messages with descriptors over Unix sockets that the sentry inherited or made itself.
//!
//! Host calls: `socketpair`, `sendmsg`, `recvmsg`, `setsockopt`, `accept4`, `getsockname`.

use super::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn,
    UnixCredentials, accept4, getsockname, recvmsg, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Most descriptors one message carries (`SCM_MAX_FD`).
pub const MAX_FDS: usize = 253;

/// A connected pair of sockets that keep message boundaries (`SOCK_SEQPACKET`).
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends one message with descriptors. `EINTR` is retried.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        let vector = [IoSlice::new(bytes)];
        match sendmsg::<()>(fd.as_raw_fd(), &vector, control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Takes the next connection of a listening socket (close-on-exec). `EINTR` passes through.
pub fn accept(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let fd = accept4(fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: accept4 has just made it; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The port of the host's that a socket of IPv4 is bound to.
pub fn port(fd: BorrowedFd<'_>) -> Result<u16, Errno> {
    Ok(getsockname::<SockaddrIn>(fd.as_raw_fd())?.port())
}

/// Takes ownership of a descriptor that a message carried.
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: `recvmsg` has just installed it for this message; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Receives one message of at most `buffer.len()` bytes with the descriptors it carries
/// (close-on-exec). 0 bytes: the peer has closed. `EINTR` is retried; `EMSGSIZE` when the message or
/// its descriptors were cut off.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    loop {
        let mut vector = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(fd.as_raw_fd(), &mut vector, Some(&mut space), flags) {
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        let mut fds = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                fds.extend(raw.into_iter().map(own));
            }
        }
        if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(Errno::EMSGSIZE);
        }
        return Ok((message.bytes, fds));
    }
}

/// From now on messages on this socket come with the sender's process id.
pub fn pass_credentials(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    setsockopt(&fd, sockopt::PassCred, &true)
}

/// Makes [`receive_length`] fail with `EAGAIN` after some milliseconds; 0 for never.
pub fn set_timeout(fd: BorrowedFd<'_>, milliseconds: i32) -> Result<(), Errno> {
    let time = TimeVal::milliseconds(milliseconds.into());
    setsockopt(&fd, sockopt::ReceiveTimeout, &time)
}

/// Receives one message whose contents do not matter: the sender's process id, as the host knows it,
/// and the message's length. A length of 0: the peer has closed. `EINTR` is retried.
pub fn receive_length(fd: BorrowedFd<'_>) -> Result<(i32, usize), Errno> {
    let mut space = nix::cmsg_space!(UnixCredentials);
    loop {
        let mut nothing = [0; 1];
        let mut vector = [IoSliceMut::new(&mut nothing)];
        // The result is then the message's real length.
        let flags = MsgFlags::MSG_TRUNC;
        let message = match recvmsg::<()>(fd.as_raw_fd(), &mut vector, Some(&mut space), flags) {
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        let mut pid = 0;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmCredentials(sender) = control {
                pid = sender.pid();
            }
        }
        return Ok((pid, message.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn descriptors_travel() {
        let (a, b) = seqpacket_pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        send(a.as_fd(), b"hi", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let (len, mut fds) = receive(b.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..len], fds.len()), (&b"hi"[..], 1));
        nix::unistd::write(fds.remove(0), b"x").unwrap();
        assert_eq!(nix::unistd::read(&reader, &mut buffer), Ok(1));
        send(a.as_fd(), &[1; 17], &[]).unwrap();
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap_err(), Errno::EMSGSIZE);
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn lengths_come_with_their_sender() {
        let (a, b) = seqpacket_pair().unwrap();
        pass_credentials(b.as_fd()).unwrap();
        send(a.as_fd(), &[0; 17], &[]).unwrap();
        let me = std::process::id() as i32;
        assert_eq!(receive_length(b.as_fd()), Ok((me, 17)));
        set_timeout(b.as_fd(), 1).unwrap();
        assert_eq!(receive_length(b.as_fd()), Err(Errno::EAGAIN));
        drop(a);
        assert_eq!(receive_length(b.as_fd()).unwrap().1, 0);
    }
}
