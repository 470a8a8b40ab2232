//! Options that go to the host's socket, and those that can only be read there. Everything else is refused with
//! `ENOPROTOOPT`, as by a kernel that does not know it.

use crate::errno::Errno;
use crate::socket::SOL_SOCKET;
use crate::socket::inet::{IPPROTO_TCP, IPPROTO_UDP, SOL_IP, SOL_IPV6};

/// Options that are set and read, by level.
const SET: &[(i32, &[i32])] = &[
    // SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_OOBINLINE, SO_NO_CHECK,
    // SO_PRIORITY, SO_LINGER, SO_REUSEPORT, SO_RCVLOWAT, SO_BINDTODEVICE, SO_TIMESTAMP, SO_TIMESTAMPNS,
    // SO_PEEK_OFF.
    (SOL_SOCKET, &[2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 18, 25, 29, 35, 42]),
    // TCP_NODELAY, _MAXSEG, _CORK, _KEEPIDLE, _KEEPINTVL, _KEEPCNT, _SYNCNT, _LINGER2, _DEFER_ACCEPT, _WINDOW_CLAMP,
    // _QUICKACK, _CONGESTION, _USER_TIMEOUT, _FASTOPEN, _NOTSENT_LOWAT, _FASTOPEN_CONNECT.
    (IPPROTO_TCP, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 18, 23, 25, 30]),
    // UDP_CORK, UDP_SEGMENT, UDP_GRO.
    (IPPROTO_UDP, &[1, 103, 104]),
    // IP_TOS, _TTL, _PKTINFO, _MTU_DISCOVER, _RECVERR, _RECVTTL, _RECVTOS, _FREEBIND, _RECVORIGDSTADDR, _MINTTL,
    // _BIND_ADDRESS_NO_PORT, _MULTICAST_IF, _TTL, _LOOP, _ADD_MEMBERSHIP, _DROP_MEMBERSHIP, _MULTICAST_ALL.
    (SOL_IP, &[1, 2, 8, 10, 11, 12, 13, 15, 20, 21, 24, 32, 33, 34, 35, 36, 49]),
    // IPV6_UNICAST_HOPS, _MULTICAST_IF, _HOPS, _LOOP, _ADD_MEMBERSHIP, _DROP_MEMBERSHIP, _MTU_DISCOVER, _MTU, _RECVERR,
    // _V6ONLY, _RECVPKTINFO, _RECVHOPLIMIT, _RECVTCLASS, _TCLASS.
    (SOL_IPV6, &[16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 49, 51, 66, 67]),
];

/// Options that are only read: SO_DEBUG, SO_TYPE, SO_ERROR, SO_PASSCRED, SO_PEERCRED, SO_SNDLOWAT, SO_ACCEPTCONN,
/// SO_PROTOCOL, SO_DOMAIN, SO_BUSY_POLL, SO_COOKIE; TCP_INFO; IP_MTU.
const READ: &[(i32, &[i32])] = &[
    (SOL_SOCKET, &[1, 3, 4, 16, 17, 19, 30, 38, 39, 46, 57]),
    (IPPROTO_TCP, &[11]),
    (SOL_IP, &[14]),
];

fn has(list: &[(i32, &[i32])], level: i32, name: i32) -> bool {
    list.iter().any(|(l, names)| *l == level && names.contains(&name))
}

/// What it means that an option of a socket that speaks `protocol` is not read.
pub fn unknown(protocol: i32, level: i32) -> Errno {
    let known = [SOL_SOCKET, SOL_IP, SOL_IPV6, protocol].contains(&level);
    if known { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP }
}

/// True for options that are set at the host's socket.
pub fn is_set(level: i32, name: i32) -> bool {
    has(SET, level, name)
}

/// True for options that are read there.
pub fn is_read(level: i32, name: i32) -> bool {
    is_set(level, name) || has(READ, level, name)
}
