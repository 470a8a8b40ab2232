//! What UDP and raw endpoints share: options, the bounded receive queue, the error queue.

use crate::endpoint::{IcmpError, Readiness};
use crate::error::{Error, Result};
use crate::iface::IfaceId;
use crate::time::Instant;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// Charged for each queued datagram beyond its bytes (an `sk_buff` and what goes with it).
const OVERHEAD: usize = 512;
/// Errors kept for `recv_error`.
const MAX_ERRORS: usize = 64;

/// Options of datagram endpoints; see ip(7), ipv6(7), udp(7), socket(7).
#[derive(Clone, Debug)]
pub struct DatagramOptions {
    /// `IP_TTL`, `IPV6_UNICAST_HOPS`; `None`: the stack's default.
    pub ttl: Option<u8>,
    /// `IP_MULTICAST_TTL`.
    pub multicast_ttl: u8,
    /// `IP_MULTICAST_LOOP`: members on this host receive what is sent to a group.
    pub multicast_loop: bool,
    /// `IP_MULTICAST_ALL`: hears also groups that others have joined.
    pub multicast_all: bool,
    /// `IP_MULTICAST_IF`.
    pub multicast_iface: Option<IfaceId>,
    /// `IP_TOS`, `IPV6_TCLASS`.
    pub tos: u8,
    /// `SO_BROADCAST`.
    pub broadcast: bool,
    /// `SO_REUSEADDR`.
    pub reuse_addr: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY`.
    pub v6_only: bool,
    /// `SO_BINDTODEVICE`.
    pub iface: Option<IfaceId>,
    /// `SO_RCVBUF`, in bytes as charged: contents and a fixed overhead each.
    pub rcvbuf: usize,
    /// `IP_MTU_DISCOVER` with `IP_PMTUDISC_DO`: never fragment, refuse what is too large.
    pub dont_fragment: bool,
    /// `IP_RECVERR`: errors are queued, and unconnected endpoints get them too.
    pub receive_errors: bool,
    /// `SO_NO_CHECK`: no UDP checksum over IPv4.
    pub no_checksum: bool,
}

impl DatagramOptions {
    pub(crate) fn new(rcvbuf: usize) -> Self {
        Self {
            ttl: None,
            multicast_ttl: 1,
            multicast_loop: true,
            multicast_all: false,
            multicast_iface: None,
            tos: 0,
            broadcast: false,
            reuse_addr: false,
            reuse_port: false,
            v6_only: false,
            iface: None,
            rcvbuf,
            dont_fragment: false,
            receive_errors: false,
            no_checksum: false,
        }
    }
}

/// A datagram that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub from: SocketAddr,
    /// The address it was sent to (`IP_PKTINFO`).
    pub to: IpAddr,
    /// Where it came in.
    pub iface: IfaceId,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// When it came in.
    pub at: Instant,
    /// Its contents.
    pub data: Vec<u8>,
}

/// A queued error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedError {
    /// The error.
    pub error: IcmpError,
    /// The destination of the datagram that caused it.
    pub to: SocketAddr,
    /// The start of that datagram's contents.
    pub data: Vec<u8>,
}

/// The receiving side of a datagram endpoint.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: VecDeque<Datagram>,
    charged: usize,
    pub error: Option<Error>,
    errors: VecDeque<QueuedError>,
    pub shut_read: bool,
    pub shut_write: bool,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            charged: 0,
            error: None,
            errors: VecDeque::new(),
            shut_read: false,
            shut_write: false,
        }
    }

    /// Queues a datagram; false when there is no room.
    pub(crate) fn push(&mut self, datagram: Datagram, rcvbuf: usize) -> bool {
        let cost = datagram.data.len() + OVERHEAD;
        // As Linux: one datagram fits whatever its size, if nothing else is there.
        if self.charged > 0 && self.charged + cost > rcvbuf {
            return false;
        }
        self.charged += cost;
        self.queue.push_back(datagram);
        true
    }

    /// The next datagram; with `peek` it stays.
    pub(crate) fn pop(&mut self, peek: bool) -> Result<Datagram> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let next = if peek { self.queue.front().cloned() } else { self.queue.pop_front() };
        let Some(next) = next else {
            return Err(if self.shut_read { Error::NotConnected } else { Error::WouldBlock });
        };
        if !peek {
            self.charged -= next.data.len() + OVERHEAD;
        }
        Ok(next)
    }

    /// The size of the next datagram's contents (`FIONREAD`).
    pub(crate) fn next_len(&self) -> Option<usize> {
        self.queue.front().map(|d| d.data.len())
    }

    /// Notes an error.
    pub(crate) fn fail(&mut self, error: QueuedError, queue: bool) {
        self.error = Some(error.error.error);
        if queue {
            if self.errors.len() >= MAX_ERRORS {
                self.errors.pop_front();
            }
            self.errors.push_back(error);
        }
    }

    /// The oldest queued error (`MSG_ERRQUEUE`).
    pub(crate) fn pop_error(&mut self) -> Option<QueuedError> {
        let out = self.errors.pop_front();
        // With the last one that was queued goes the pending error; one that never was queued stays.
        if out.is_some() && self.errors.is_empty() {
            self.error = None;
        }
        out
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let mut r = Readiness::OUT;
        r.set(Readiness::IN, !self.queue.is_empty() || self.shut_read);
        r.set(Readiness::RDHUP, self.shut_read);
        r.set(Readiness::HUP, self.shut_read && self.shut_write);
        r.set(Readiness::ERR, self.error.is_some() || !self.errors.is_empty());
        r
    }
}
