//! Host sockets for datagrams: made, sent by, received from.

use crate::protocol::Protocol;
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
    sockopt::{Ipv4RecvErr, Ipv4RecvTtl, Ipv6RecvErr, Ipv6RecvHopLimit, Ipv6RecvTClass},
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sockopt as options};
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// What was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Bytes in the buffer.
    pub len: usize,
    /// From whom.
    pub from: Option<SocketAddr>,
    /// Time to live or hop limit it came with.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
}

/// An error that came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Returned {
    /// Bytes of what was sent, in the buffer.
    pub len: usize,
    /// To whom.
    pub to: Option<SocketAddr>,
    /// `errno(3)`
    pub errno: i32,
    /// `SO_EE_ORIGIN_*`, type and code.
    pub origin: (u8, u8, u8),
    /// Who said so.
    pub offender: Option<IpAddr>,
}

fn from_nix(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}

/// A socket for `protocol` that tells what it can of what it receives.
pub(super) fn open(protocol: Protocol, v6: bool) -> Result<OwnedFd, Errno> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let proto = match (protocol, v6) {
        (Protocol::Echo, false) => Some(ipproto::ICMP),
        (Protocol::Echo, true) => Some(ipproto::ICMPV6),
        _ => None,
    };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, proto)?;
    if v6 {
        options::set_ipv6_v6only(&socket, true)?;
        setsockopt(&socket, Ipv6RecvErr, &true).map_err(from_nix)?;
        setsockopt(&socket, Ipv6RecvHopLimit, &true).map_err(from_nix)?;
        setsockopt(&socket, Ipv6RecvTClass, &true).map_err(from_nix)?;
    } else {
        setsockopt(&socket, Ipv4RecvErr, &true).map_err(from_nix)?;
        setsockopt(&socket, Ipv4RecvTtl, &true).map_err(from_nix)?;
        options::set_ip_recvtos(&socket, true)?;
    }
    Ok(socket)
}

/// Sends without waiting.
pub(super) fn send(socket: BorrowedFd<'_>, data: &[u8], to: SocketAddr) -> Result<(), Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendto(socket, data, flags, &to).map(drop)
}

fn address(of: Option<SockaddrStorage>) -> Option<SocketAddr> {
    let of = of?;
    let v4 = of.as_sockaddr_in().map(|a| SocketAddr::new(a.ip().into(), a.port()));
    v4.or_else(|| of.as_sockaddr_in6().map(|a| SocketAddr::new(a.ip().into(), a.port())))
}

/// Receives without waiting. `EAGAIN`; errors of what was sent before.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut space = cmsg_space!(i32, i32);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_DONTWAIT,
    )
    .map_err(from_nix)?;
    let (mut ttl, mut tos) = (64, 0);
    if let Ok(all) = message.cmsgs() {
        for control in all {
            match control {
                ControlMessageOwned::Ipv4Ttl(n) | ControlMessageOwned::Ipv6HopLimit(n) => {
                    ttl = u8::try_from(n).unwrap_or(64);
                }
                ControlMessageOwned::Ipv4Tos(n) => tos = n,
                ControlMessageOwned::Ipv6TClass(n) => tos = u8::try_from(n).unwrap_or(0),
                _ => {}
            }
        }
    }
    Ok(Received { len: message.bytes, from: address(message.address), ttl, tos })
}

/// Takes the next error that came back. `EAGAIN`.
pub(super) fn receive_error(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Returned, Errno> {
    let mut space = cmsg_space!(i32, i32, libc::sock_extended_err, libc::sockaddr_in6);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_ERRQUEUE;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)
            .map_err(from_nix)?;
    let mut error = Returned {
        len: message.bytes,
        to: address(message.address),
        errno: 0,
        origin: (0, 0, 0),
        offender: None,
    };
    if let Ok(all) = message.cmsgs() {
        for control in all {
            let (e, offender) = match control {
                ControlMessageOwned::Ipv4RecvErr(e, from) => {
                    (e, from.map(|a| IpAddr::from(a.sin_addr.s_addr.to_ne_bytes())))
                }
                ControlMessageOwned::Ipv6RecvErr(e, from) => {
                    (e, from.map(|a| IpAddr::from(a.sin6_addr.s6_addr)))
                }
                _ => continue,
            };
            error.errno = i32::try_from(e.ee_errno).unwrap_or(libc::EIO);
            error.origin = (e.ee_origin, e.ee_type, e.ee_code);
            error.offender = offender;
        }
    }
    Ok(error)
}

/// Time to live and type of service of what is sent from now on.
pub(super) fn set_header(socket: BorrowedFd<'_>, v6: bool, ttl: u8, tos: u8) -> Result<(), Errno> {
    // No packet goes with a time to live of 0.
    let ttl = ttl.max(1);
    if v6 {
        options::set_ipv6_unicast_hops(socket, Some(ttl))?;
        options::set_ipv6_tclass(socket, tos.into())
    } else {
        options::set_ip_ttl(socket, ttl.into())?;
        options::set_ip_tos(socket, tos)
    }
}
