//! Errors that come back for what was sent, and the queue of them (`IP_RECVERR`).

use super::send::Outgoing;
use super::{DgramSocket, Protocol};
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::socket::inet::addr::{AF_INET, AF_INET6, Endpoint};
use crate::socket::inet::common::Common;
use crate::socket::inet::{Counters, SOL_IP, SOL_IPV6, ip, packet};
use crate::socket::{Control, RecvMsg, flags};
use crate::sync::{Mutex, rank};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Most errors that are kept for a socket.
const MAX_ERRORS: usize = 64;
const IP_RECVERR: i32 = 11;
const IPV6_RECVERR: i32 = 25;
/// `SO_EE_ORIGIN_ICMP` and `SO_EE_ORIGIN_ICMP6`
const ORIGIN: [u8; 2] = [2, 3];
/// `SO_EE_ORIGIN_LOCAL`
const LOCAL: u8 = 1;
/// "Port unreachable": type and code in ICMP and in ICMPv6.
const PORT_UNREACHABLE: [(u8, u8); 2] = [(3, 3), (1, 4)];

/// What came back for a message.
pub(in crate::socket::inet) struct QueuedError {
    pub(in crate::socket::inet) errno: Errno,
    /// To whom the message was sent.
    pub(in crate::socket::inet) to: Endpoint,
    /// `SO_EE_ORIGIN_*`
    pub(in crate::socket::inet) origin: u8,
    /// Type and code of the ICMP message.
    pub(in crate::socket::inet) icmp: (u8, u8),
    /// Who refused; nobody, if it was this machine.
    pub(in crate::socket::inet) offender: Option<IpAddr>,
    /// `ee_info`: the largest packet, where that is what is wrong.
    pub(in crate::socket::inet) info: u32,
    pub(in crate::socket::inet) data: Vec<u8>,
}

/// `SO_EE_ORIGIN_ICMP` or `SO_EE_ORIGIN_ICMP6`, for what went to `to`.
pub(in crate::socket::inet) fn origin(to: IpAddr) -> u8 {
    let [v4, v6] = ORIGIN;
    if to.is_ipv4() { v4 } else { v6 }
}

/// The errors of one socket.
#[derive(Default)]
pub struct ErrorQueue(Mutex<VecDeque<QueuedError>, { rank::INODE_NESTED }>);

impl ErrorQueue {
    /// True without errors.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Adds one, as long as there is room.
    pub(in crate::socket::inet) fn push(&self, error: QueuedError) {
        let mut queue = self.0.lock();
        if queue.len() < MAX_ERRORS {
            queue.push_back(error);
        }
    }

    /// Takes the oldest one (`MSG_ERRQUEUE`): its length, and the error that is the first then.
    /// `EAGAIN`.
    pub fn receive(
        &self,
        common: &Common,
        dst: &mut dyn Sink,
        msg: &mut RecvMsg,
    ) -> Result<(usize, Option<Errno>)> {
        let (error, next) = {
            let mut queue = self.0.lock();
            let error = queue.pop_front().ok_or(Errno::EAGAIN)?;
            (error, queue.front().map(|e| e.errno))
        };
        let n = if error.data.is_empty() { 0 } else { dst.put(&error.data)? };
        if n < error.data.len() {
            msg.out_flags |= flags::TRUNC;
        }
        msg.out_flags |= flags::ERRQUEUE;
        msg.from = Some(error.to.sockaddr(common.family()));
        let (kind, code) = error.icmp;
        // `struct sock_extended_err`, and the address of whoever refused.
        let mut data = (error.errno.raw() as u32).to_ne_bytes().to_vec();
        data.extend_from_slice(&[error.origin, kind, code, 0]);
        data.extend_from_slice(&error.info.to_ne_bytes());
        data.extend_from_slice(&[0; 4]);
        let six = common.family() == AF_INET6;
        let family = if six { AF_INET6 } else { AF_INET };
        data.extend_from_slice(&match error.offender {
            Some(ip) => Endpoint { ip, port: 0 }.sockaddr(family),
            None => vec![0; if six { 28 } else { 16 }],
        });
        let (level, kind) = if six { (SOL_IPV6, IPV6_RECVERR) } else { (SOL_IP, IP_RECVERR) };
        msg.control.push(Control { level, kind, data });
        Ok((n, next))
    }
}

impl DgramSocket {
    /// An ICMP message came back for a datagram to another machine.
    pub(super) fn queue_error(&self, errno: Errno, error: &netstack::QueuedError) {
        let to = Endpoint::new(error.to.ip(), error.to.port());
        let icmp = (error.error.kind, error.error.code);
        let (origin, offender) = (origin(to.ip), Some(error.error.from));
        let (info, data) = (error.error.mtu.unwrap_or(0), error.data.clone());
        self.inbox.push_error(QueuedError { errno, to, origin, icmp, offender, info, data });
        self.inbox.fail(errno);
    }

    /// Nobody is bound to where the datagram went.
    pub(super) fn unreachable(&self, data: &[u8], out: &Outgoing) {
        if self.protocol != Protocol::Echo {
            Counters::add(&self.common.net.counters.icmp_unreachable, 1);
        }
        let icmp = PORT_UNREACHABLE.get(usize::from(out.to.ip.is_ipv6()));
        self.refused(Errno::ECONNREFUSED, icmp.copied().unwrap_or_default(), data, out);
    }

    /// An ICMP message says that a datagram did not arrive.
    pub(super) fn refused(&self, errno: Errno, icmp: (u8, u8), data: &[u8], out: &Outgoing) {
        let net = &self.common.net;
        if self.protocol != Protocol::Echo && net.wire.is_watched() {
            let header = out.header(self.number(out.to.ip) as u8);
            let datagram = header.packet(&packet::udp(out.from, out.to, data));
            net.show_refusal(&header, &datagram, icmp);
        }
        let queued = self.queues_errors(out.to);
        let lasting = errno == Errno::ECONNREFUSED || errno == Errno::ENOPROTOOPT;
        let connected = lasting && self.setup.lock().peer.is_some_and(|p| p == out.to);
        if queued {
            let to = out.to;
            let (origin, offender, data) = (origin(to.ip), Some(to.ip), data.to_vec());
            self.inbox.push_error(QueuedError { errno, to, origin, icmp, offender, info: 0, data });
        }
        if queued || connected {
            self.inbox.fail(errno);
        }
    }

    /// True if errors of what is sent to `to` are queued: which option counts is the destination's to say.
    fn queues_errors(&self, to: Endpoint) -> bool {
        self.common.ip.is_on(if to.ip.is_ipv6() { ip::RECVERR6 } else { ip::RECVERR })
    }

    /// A message to `to` is larger than any datagram.
    pub(super) fn too_large(&self, to: Endpoint) {
        if !self.queues_errors(to) {
            return;
        }
        let common = &self.common;
        let device = common.net.route(to.ip, common.device()).map_or(0, |r| r.device);
        let mtu = common.net.with_device(device, |i| i.mtu).unwrap_or(0);
        let (errno, icmp, data) = (Errno::EMSGSIZE, (0, 0), Vec::new());
        // An IPv4 packet's length has 16 bits.
        let info = if to.ip.is_ipv4() { mtu.min(0xffff) } else { mtu };
        let (origin, offender) = (LOCAL, None);
        self.inbox.push_error(QueuedError { errno, to, origin, icmp, offender, info, data });
    }

    /// The network has refused what was sent. Without `IP_RECVERR` only a connected socket is told, and only of
    /// what will not pass by itself.
    pub(super) fn returned(&self, error: QueuedError) {
        let queued = self.queues_errors(error.to);
        let connected = *self.hears_only.lock() == Some(error.to);
        let lasting = error.origin == LOCAL
            || matches!(error.errno, Errno::ECONNREFUSED | Errno::ENOPROTOOPT);
        let errno = error.errno;
        if queued {
            self.inbox.push_error(error);
        }
        if queued || (connected && lasting) {
            self.inbox.fail(errno);
        }
    }
}
