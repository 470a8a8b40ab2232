#![expect(unsafe_code, reason = "addresses and control messages of any kind are not in nix")]
//! Sockets of the host's network that are the guest's own: made by somebody else, used here as they are.
//!
//! Addresses, options and control messages are bytes, as the guest wrote them or is to read them.
//!
//! Host calls: `bind`, `connect`, `listen`, `accept4`, `getsockname`, `getpeername`, `sendmsg`, `recvmsg`.

use super::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Room for any address of the internet's families.
const ADDRESS: usize = 128;
/// Room for control messages that are received.
const CONTROL: usize = 1024;
/// Size of `struct cmsghdr`.
const HEADER: usize = size_of::<libc::cmsghdr>();

/// A control message: level, type, data.
pub type Control = (i32, i32, Vec<u8>);

/// What was received.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the message; with `MSG_TRUNC` more than the buffer may have.
    pub len: usize,
    /// `MSG_*`
    pub flags: i32,
    /// From whom.
    pub from: Vec<u8>,
    /// What else is told of it.
    pub control: Vec<Control>,
}

/// `bind(2)`.
pub fn bind(fd: BorrowedFd<'_>, address: &[u8]) -> Result<(), Errno> {
    let (at, len) = (address.as_ptr().cast(), address.len() as libc::socklen_t);
    // SAFETY: the address is readable for the length that is passed along.
    Errno::result(unsafe { libc::bind(fd.as_raw_fd(), at, len) }).map(drop)
}

/// `connect(2)`.
pub fn connect(fd: BorrowedFd<'_>, address: &[u8]) -> Result<(), Errno> {
    let (at, len) = (address.as_ptr().cast(), address.len() as libc::socklen_t);
    // SAFETY: the address is readable for the length that is passed along.
    Errno::result(unsafe { libc::connect(fd.as_raw_fd(), at, len) }).map(drop)
}

/// `listen(2)`.
pub fn listen(fd: BorrowedFd<'_>, backlog: i32) -> Result<(), Errno> {
    // SAFETY: only integers are passed.
    Errno::result(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// A call that fills an address in.
fn name(
    call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> i32,
) -> Result<(i32, Vec<u8>), Errno> {
    let mut address = vec![0u8; ADDRESS];
    let mut len = ADDRESS as libc::socklen_t;
    let result = Errno::result(call(address.as_mut_ptr().cast(), &raw mut len))?;
    address.truncate(len as usize);
    Ok((result, address))
}

/// `accept4(2)`: the connection, which does not block, and who made it.
pub fn accept(fd: BorrowedFd<'_>) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: both pointers are writable for the length that the second one states.
    let call = |at, len| unsafe { libc::accept4(fd.as_raw_fd(), at, len, flags) };
    let (new, address) = name(call)?;
    // SAFETY: accept4 has just made it; nobody else knows it.
    Ok((unsafe { OwnedFd::from_raw_fd(new) }, address))
}

/// `getsockname(2)`.
pub fn local_name(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    // SAFETY: both pointers are writable for the length that the second one states.
    name(|at, len| unsafe { libc::getsockname(fd.as_raw_fd(), at, len) }).map(|(_, name)| name)
}

/// `getpeername(2)`.
pub fn peer_name(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    // SAFETY: both pointers are writable for the length that the second one states.
    name(|at, len| unsafe { libc::getpeername(fd.as_raw_fd(), at, len) }).map(|(_, name)| name)
}

/// Storage that is aligned for `struct cmsghdr`, of so many bytes.
fn aligned(bytes: usize) -> Vec<u64> {
    vec![0; bytes.div_ceil(size_of::<u64>())]
}

fn header(control: &mut [u64], len: usize) -> libc::msghdr {
    // SAFETY: all-zero is a valid value of this plain structure: nothing is pointed to.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if len > 0 {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = len;
    }
    message
}

/// Sends a message without waiting; never raises `SIGPIPE`.
pub fn send(
    fd: BorrowedFd<'_>,
    data: &[u8],
    to: Option<&[u8]>,
    control: &[Control],
    flags: i32,
) -> Result<usize, Errno> {
    let mut bytes = Vec::new();
    for (level, kind, data) in control {
        bytes.extend((HEADER + data.len()).to_ne_bytes());
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(size_of::<u64>()), 0);
    }
    let mut words: Vec<u64> = bytes
        .chunks_exact(size_of::<u64>())
        .map(|chunk| chunk.try_into().map_or(0, u64::from_ne_bytes))
        .collect();
    let mut message = header(&mut words, bytes.len());
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(to) = to {
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len() as libc::socklen_t;
    }
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: data, address and control messages are readable for the lengths that the header states, and
    // sendmsg(2) writes to none of them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
    Errno::result(sent).map(|n| n as usize)
}

/// Receives a message into `buffer` without waiting.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> Result<Received, Errno> {
    let mut control = aligned(CONTROL);
    let mut from = vec![0u8; ADDRESS];
    let mut message = header(&mut control, CONTROL);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_name = from.as_mut_ptr().cast();
    message.msg_namelen = ADDRESS as libc::socklen_t;
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: buffer, address and control messages are writable for the lengths that the header states.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
    let len = Errno::result(len)? as usize;
    from.truncate(message.msg_namelen as usize);
    let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let told = bytes.get(..message.msg_controllen.min(bytes.len())).unwrap_or_default();
    Ok(Received { len, flags: message.msg_flags, from, control: controls(told) })
}

/// Receives a message into `buffer` without waiting, and nothing that goes with it: the host drops descriptors. Returns its
/// length and `MSG_*`.
pub fn receive_data(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: i32,
) -> Result<(usize, i32), Errno> {
    let mut message = header(&mut [], 0);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the buffer is writable for the length that the header states; there is no room for anything else.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
    Ok((Errno::result(len)? as usize, message.msg_flags))
}

fn controls(mut bytes: &[u8]) -> Vec<Control> {
    let mut all = Vec::new();
    let number = |bytes: &[u8], at: usize| bytes.get(at..)?.first_chunk().copied();
    while let Some(len) = bytes.first_chunk().map(|len| usize::from_ne_bytes(*len)) {
        let Some(data) = bytes.get(HEADER..len) else { break };
        let Some((level, kind)) = number(bytes, 8).zip(number(bytes, 12)) else { break };
        all.push((i32::from_ne_bytes(level), i32::from_ne_bytes(kind), data.to_vec()));
        let Some(rest) = bytes.get(len.next_multiple_of(size_of::<u64>())..) else { break };
        bytes = rest;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::inet;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    #[test]
    fn datagrams_with_addresses_and_control_messages() {
        let (a, b) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        inet::set_option(b.as_fd(), libc::IPPROTO_IP, libc::IP_RECVTTL, 1).unwrap();
        let to = local_name(b.as_fd()).unwrap();
        let ttl = (libc::IPPROTO_IP, libc::IP_TTL, 9i32.to_ne_bytes().to_vec());
        assert_eq!(send(a.as_fd(), b"abcd", Some(&to), std::slice::from_ref(&ttl), 0), Ok(4));
        let mut buffer = [0; 2];
        let got = receive(b.as_fd(), &mut buffer, libc::MSG_TRUNC).unwrap();
        assert_eq!((got.len, got.flags & libc::MSG_TRUNC, &buffer), (4, libc::MSG_TRUNC, b"ab"));
        assert_eq!(got.from, local_name(a.as_fd()).unwrap());
        assert_eq!(got.control, [ttl]);
        assert_eq!(receive(b.as_fd(), &mut buffer, 0), Err(Errno::EAGAIN));
    }

    #[test]
    fn connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, from) = accept(listener.as_fd()).unwrap();
        assert_eq!(from, local_name(client.as_fd()).unwrap());
        assert_eq!(peer_name(server.as_fd()).unwrap(), from);
        drop(client);
        let mut buffer = [0; 2];
        let mut end = receive(server.as_fd(), &mut buffer, 0);
        while end == Err(Errno::EAGAIN) {
            std::thread::yield_now();
            end = receive(server.as_fd(), &mut buffer, 0);
        }
        assert_eq!(end.unwrap().len, 0);
    }
}
