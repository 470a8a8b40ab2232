//! Packet sockets (`packet(7)`), several for each interface: packets are sorted by flow before they wait
//! (`PACKET_FANOUT`), so that a flood fills the queues it comes to, and not those of connections.
#![expect(unsafe_code, reason = "sockaddr_ll and the options of packet sockets are not in nix")]

use super::sorting;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use platform::host::random;
use std::os::fd::{AsRawFd, OwnedFd};

/// `PACKET_VNET_HDR`, `PACKET_FANOUT`, `PACKET_FANOUT_DATA` and `PACKET_IGNORE_OUTGOING`
const VNET_HDR: i32 = 15;
const FANOUT: i32 = 18;
const FANOUT_DATA: i32 = 22;
const IGNORE_OUTGOING: i32 = 23;
/// `PACKET_FANOUT_CBPF`, `PACKET_FANOUT_FLAG_UNIQUEID` and `PACKET_FANOUT_FLAG_IGNORE_OUTGOING`
const FANOUT_CBPF: u32 = 6;
const FLAG_UNIQUE: u32 = 0x2000;
const FLAG_IGNORE_OUTGOING: u32 = 0x4000;
/// Buffer of one socket for packets that the sandbox has not read yet, and for those the host has not sent, in bytes.
const BUFFER: usize = 4 << 20;

/// Raw sockets for all packets that come in over an interface; they do not block, and each packet has a
/// `struct virtio_net_hdr` in front. The first gets what may be no flow's: what begins one, fragments, and other protocols than
/// TCP and UDP. The others get a part of the flows each. Just one socket where that is not `wanted` or the host does not
/// sort packets.
pub fn open(index: u32, wanted: bool) -> Result<Vec<OwnedFd>, Errno> {
    let mut sockets = vec![open_one(index)?];
    if wanted && let Err(e) = sort(index, &mut sockets) {
        tracing::debug!("packets of the interface {index} are not sorted by the host: {e}");
        // A socket that has been in a group is none that receives for itself.
        sockets = vec![open_one(index)?];
    }
    Ok(sockets)
}

/// Adds sockets to the first, and has the host sort packets among them.
fn sort(index: u32, sockets: &mut Vec<OwnedFd>) -> Result<(), Errno> {
    for _ in 0..sorting::FLOWS {
        sockets.push(open_one(index)?);
    }
    // The group's number, which the first one to join asks for.
    let (mut group, mut unique) = (0u32, FLAG_UNIQUE);
    for socket in &*sockets {
        let kind = FANOUT_CBPF | FLAG_IGNORE_OUTGOING | unique;
        set(socket, FANOUT, &(group | kind << 16))?;
        if unique != 0 {
            (group, unique) = (number(socket)?, 0);
        }
    }
    let mut secret = [0; 8];
    random::fill(&mut secret)?;
    let mut program = sorting::program(secret);
    let filter = program.as_mut_ptr();
    let program = libc::sock_fprog { len: program.len() as u16, filter };
    sockets.first().map_or(Ok(()), |first| set(first, FANOUT_DATA, &program))
}

/// The number of the group that a socket has joined.
fn number(socket: &OwnedFd) -> Result<u32, Errno> {
    let mut value = 0u32;
    let mut len = size_of_val(&value) as u32;
    // SAFETY: the value is an int, its length is right, and both live through the call.
    let result = unsafe {
        let (value, len) = ((&raw mut value).cast(), &raw mut len);
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, FANOUT, value, len)
    };
    Errno::result(result)?;
    Ok(value & 0xffff)
}

fn open_one(index: u32) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Without a protocol it receives nothing until it is bound.
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    set(&fd, VNET_HDR, &1i32)?;
    set(&fd, IGNORE_OUTGOING, &1i32)?;
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

/// Sets an option of packet sockets, whose value is a `T`: an int, or a program whose instructions the caller has.
fn set<T>(fd: &OwnedFd, option: i32, value: &T) -> Result<(), Errno> {
    let len = size_of::<T>() as u32;
    // SAFETY: the value has that length and lives through the call, and so does what it points to.
    let result = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, value, len)
    };
    Errno::result(result).map(drop)
}
