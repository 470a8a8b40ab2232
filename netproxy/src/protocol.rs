//! The messages between sentry and proxy.
//!
//! Two connected `SOCK_SEQPACKET` sockets, a message in each datagram, encoded with postcard: one for
//! [`Request`]s and [`Event`]s, where nothing is lost and an event may carry a descriptor (`SCM_RIGHTS`), and
//! one for [`Packet`]s, which the proxy drops when the sentry does not keep up.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Most data in a packet, in bytes.
pub const MAX_DATA: usize = 65_535;
/// Room for an encoded packet, in bytes.
pub const MAX_MESSAGE: usize = MAX_DATA + 256;
/// Most bytes of one [`Request::First`].
pub const MAX_FIRST: usize = 16 << 10;
/// Room for an encoded request or event, in bytes.
pub const MAX_CONTROL: usize = MAX_FIRST + 512;
/// Longest name of a program, in bytes (`TASK_COMM_LEN`).
pub const MAX_NAME: usize = 16;

/// What a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Echo requests of ICMP and ICMPv6.
    Echo,
}

/// Who in the sandbox wants something.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Program {
    /// Process id in the sandbox.
    pub pid: i32,
    /// Name of the program.
    pub name: String,
}

/// From the sentry. An `id` is the sentry's name for one of its sockets, and is not used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Make a TCP connection: [`Event::Connected`] or [`Event::Failed`] follows.
    Connect {
        /// The socket.
        id: u64,
        /// Where to, as the guest sees it.
        to: SocketAddr,
        /// Who wants it.
        program: Program,
    },
    /// Say whether `to` may be reached: [`Event::Checked`] follows.
    Check {
        /// Name of the question.
        id: u64,
        /// For packets of what.
        protocol: Protocol,
        /// Port in the sandbox.
        port: u16,
        /// Where to, as the guest sees it.
        to: SocketAddr,
        /// Who wants it.
        program: Program,
    },
    /// The first bytes that the guest sends over a connection that was [`Event::Gated`]. [`Event::More`],
    /// [`Event::Connected`] or [`Event::Failed`] follows.
    First {
        /// The socket.
        id: u64,
        /// The bytes, at most [`MAX_FIRST`]; none: it will send nothing.
        data: Vec<u8>,
    },
    /// The socket is gone; a connection that is being made is given up.
    Close {
        /// The socket.
        id: u64,
    },
}

/// From the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The connection is established; comes with its descriptor, which does not block.
    Connected {
        /// The socket.
        id: u64,
        /// How many bytes of [`Request::First`] have been sent over it.
        sent: usize,
    },
    /// The connection is established, and is given out once what the guest sends first has been looked at.
    Gated {
        /// The socket.
        id: u64,
    },
    /// More of what the guest sends first is needed.
    More {
        /// The socket.
        id: u64,
    },
    /// There will be no connection.
    Failed {
        /// The socket.
        id: u64,
        /// `errno(3)`
        errno: i32,
    },
    /// Whether an address may be reached.
    Checked {
        /// Name of the question.
        id: u64,
        /// `errno(3)`, or 0 when it may be.
        errno: i32,
    },
    /// Somebody has connected to a published port; comes with the descriptor of the connection.
    Incoming {
        /// Port in the sandbox.
        port: u16,
        /// Who, as the guest sees it.
        from: SocketAddr,
    },
}

/// A datagram or echo request on its way, in either direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packet<'a> {
    /// Data.
    Data {
        /// The socket; to the guest also 0: whichever is bound to `port`.
        id: u64,
        /// Of what.
        protocol: Protocol,
        /// Port in the sandbox.
        port: u16,
        /// The other side, as the guest sees it.
        peer: SocketAddr,
        /// Time to live or hop limit.
        ttl: u8,
        /// Type of service or traffic class.
        tos: u8,
        /// The payload; an echo request with its header.
        data: &'a [u8],
    },
    /// Data was not delivered. Only to the guest.
    Error {
        /// The socket.
        id: u64,
        /// To whom it went.
        peer: SocketAddr,
        /// `errno(3)`
        errno: i32,
        /// `SO_EE_ORIGIN_*`, and type and code of the ICMP message.
        origin: (u8, u8, u8),
        /// Who said so.
        offender: Option<IpAddr>,
        /// The data.
        data: &'a [u8],
    },
}

/// Encodes a message into `buffer`; `None` when it does not fit.
pub fn encode<'b, T: Serialize>(message: &T, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    postcard::to_slice(message, buffer).ok().map(|bytes| &*bytes)
}

/// Decodes a message; `None` when it does not decode, or has bytes left over.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive() {
        let mut buffer = vec![0; MAX_MESSAGE];
        let data = vec![7; MAX_DATA];
        let packet = Packet::Data {
            id: u64::MAX,
            protocol: Protocol::Udp,
            port: 65535,
            peer: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(),
            ttl: 255,
            tos: 255,
            data: &data,
        };
        let bytes = encode(&packet, &mut buffer).unwrap().to_vec();
        assert_eq!(decode::<Packet<'_>>(&bytes), Some(packet));
        for len in 0..64 {
            assert_eq!(decode::<Packet<'_>>(&bytes[..len]), None);
        }
        let more = [&bytes[..], &[0]].concat();
        assert_eq!(decode::<Packet<'_>>(&more), None);
        assert_eq!(decode::<Event>(&[9, 9, 9]), None);
    }
}
