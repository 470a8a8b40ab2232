//! Packet sockets (`packet(7)`).
#![expect(unsafe_code, reason = "sockaddr_ll and the options of packet sockets are not in nix")]

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use std::os::fd::{AsRawFd, OwnedFd};

/// `PACKET_VNET_HDR`
const VNET_HDR: i32 = 15;
/// `PACKET_IGNORE_OUTGOING`
const IGNORE_OUTGOING: i32 = 23;
/// Buffer for packets that the sandbox has not read yet, and for those the host has not sent, in bytes.
const BUFFER: usize = 4 << 20;

/// A raw socket for all packets that come in over an interface; it does not block, and each packet has a
/// `struct virtio_net_hdr` in front.
pub fn open(index: u32) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Without a protocol it receives nothing until it is bound.
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    set(&fd, VNET_HDR)?;
    set(&fd, IGNORE_OUTGOING)?;
    // Smaller buffers do, where these are more than the host allows.
    let _ = setsockopt(&fd, sockopt::RcvBufForce, &BUFFER);
    let _ = setsockopt(&fd, sockopt::SndBuf, &BUFFER);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as u32;
    // SAFETY: the address is a sockaddr_ll of that length and lives through the call.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    Errno::result(result)?;
    Ok(fd)
}

/// Turns an option on.
fn set(fd: &OwnedFd, option: i32) -> Result<(), Errno> {
    let on = 1i32;
    let len = size_of_val(&on) as u32;
    // SAFETY: the value is an int of that length and lives through the call.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, (&raw const on).cast(), len)
    };
    Errno::result(result).map(drop)
}
