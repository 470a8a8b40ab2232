#![expect(unsafe_code, reason = "options of sockets by number, and two requests of ioctl(2)")]
//! Connected sockets of the host's network, which somebody else has made.
//!
//! Host calls: `getsockopt`, `setsockopt`, `recvmsg`, `sendto`, `shutdown`, `ioctl`.

use super::{Errno, messages::receive};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown as host_shutdown};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `SIOCATMARK`
const SIOCATMARK: libc::Ioctl = 0x8905;

/// Receives with `MSG_PEEK`: the bytes stay.
pub fn peek(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    receive(fd, buffer, MsgFlags::MSG_PEEK)
}

/// Receives the urgent byte (`MSG_OOB`), or looks at it.
pub fn receive_urgent(fd: BorrowedFd<'_>, peek: bool) -> Result<Option<u8>, Errno> {
    let mut byte = [0];
    let mut flags = MsgFlags::MSG_OOB;
    flags.set(MsgFlags::MSG_PEEK, peek);
    let n = receive(fd, &mut byte, flags)?;
    Ok((n > 0).then_some(byte[0]))
}

/// Sends with the last byte urgent (`MSG_OOB`).
pub fn send_urgent(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    send(fd.as_raw_fd(), bytes, MsgFlags::MSG_OOB | MsgFlags::MSG_NOSIGNAL)
}

/// `shutdown(2)` with 0, 1 or 2.
pub fn shutdown(fd: BorrowedFd<'_>, how: i32) -> Result<(), Errno> {
    let how = match how {
        0 => Shutdown::Read,
        1 => Shutdown::Write,
        _ => Shutdown::Both,
    };
    host_shutdown(fd.as_raw_fd(), how)
}

/// Sets an option to a number.
pub fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    set_bytes(fd, level, name, &value.to_ne_bytes())
}

/// The next close of the socket resets its connection, and does not wait (`SO_LINGER` with no time).
pub fn reset_on_close(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let value = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
    set_bytes(fd, libc::SOL_SOCKET, libc::SO_LINGER, &value)
}

/// Sets an option to bytes.
pub fn set_bytes(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the value is readable for the length that is passed along, and nothing is written.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    Errno::result(result).map(drop)
}

/// Reads an option into `value`; how many bytes it has.
pub fn option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize, Errno> {
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: the value is writable for the length that is passed along; the host writes no more, and says in
    // `len` how much that was.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len)
    };
    Errno::result(result).map(|_| len as usize)
}

/// The pending error, which is cleared (`SO_ERROR`).
pub fn take_error(fd: BorrowedFd<'_>) -> Option<Errno> {
    let mut value = [0; 4];
    let known = option(fd, libc::SOL_SOCKET, libc::SO_ERROR, &mut value).is_ok();
    let error = i32::from_ne_bytes(value);
    (known && error != 0).then(|| Errno::from_raw(error))
}

fn number(fd: BorrowedFd<'_>, request: libc::Ioctl) -> Result<i32, Errno> {
    let mut value: libc::c_int = 0;
    // SAFETY: both requests that are made here write an int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut value) };
    Errno::result(result).map(|_| value)
}

/// Bytes that the other side has not acknowledged yet.
pub fn bytes_unsent(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    number(fd, libc::TIOCOUTQ).map(|n| n.max(0) as usize)
}

/// The next byte to be read is the urgent one.
pub fn at_mark(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    number(fd, SIOCATMARK).map(|n| n != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn urgent_data() {
        let (a, mut b) = pair();
        send_urgent(a.as_fd(), b"abc!").unwrap();
        let mut got = [0; 3];
        b.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"abc");
        assert_eq!(at_mark(b.as_fd()), Ok(true));
        assert_eq!(receive_urgent(b.as_fd(), true), Ok(Some(b'!')));
        assert_eq!(receive_urgent(b.as_fd(), false), Ok(Some(b'!')));
    }

    #[test]
    fn ends() {
        let (mut a, mut b) = pair();
        a.write_all(b"x").unwrap();
        shutdown(a.as_fd(), 1).unwrap();
        let mut got = [0; 4];
        assert_eq!(peek(b.as_fd(), &mut got), Ok(1));
        assert_eq!(b.read(&mut got).unwrap(), 1);
        assert_eq!(b.read(&mut got).unwrap(), 0);
        assert_eq!(bytes_unsent(b.as_fd()), Ok(0));
        set_option(b.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1).unwrap();
        let mut value = [0; 4];
        assert_eq!(option(b.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, &mut value), Ok(4));
        assert_eq!(i32::from_ne_bytes(value), 1);
        reset_on_close(b.as_fd()).unwrap();
        drop(b);
        assert_eq!(take_error(a.as_fd()), Some(Errno::ECONNRESET));
        assert_eq!(take_error(a.as_fd()), None);
    }
}
