//! Receive queues of datagram sockets, and what is told with each datagram.

use super::send::Outgoing;
use super::{DgramSocket, Protocol, RCV};
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::socket::inet::addr::{self, AF_INET, AF_INET6, Endpoint};
use crate::socket::inet::common::{Common, TIMESTAMPING_RX};
use crate::socket::inet::{Counters, SOL_IP, SOL_IPV6, ip};
use crate::socket::options::so;
use crate::socket::unix::message::datagram_cost;
use crate::socket::{Control, RecvMsg, SOL_SOCKET, flags};
use crate::wait::EventMask;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

/// A datagram in a receive queue.
pub struct Datagram {
    pub(in crate::socket::inet) data: Vec<u8>,
    pub(in crate::socket::inet) from: Endpoint,
    pub(in crate::socket::inet) to: Endpoint,
    pub(in crate::socket::inet) device: u32,
    pub(in crate::socket::inet) ttl: u8,
    pub(in crate::socket::inet) tos: u8,
    /// When it came: nanoseconds since the epoch.
    pub(in crate::socket::inet) at: i64,
}

impl Datagram {
    pub(super) fn new(data: Vec<u8>, out: &Outgoing) -> Datagram {
        let (from, to, device) = (out.from, out.to, out.route.device);
        let at = crate::fs::anon::now();
        Datagram { data, from, to, device, ttl: out.ttl, tos: out.tos, at }
    }
}

/// A receive queue.
#[derive(Default)]
pub struct Received {
    queue: VecDeque<Datagram>,
    charged: usize,
    dropped: usize,
    closed: bool,
}

impl Received {
    /// What the datagrams cost.
    pub fn charged(&self) -> usize {
        self.charged
    }

    /// Datagrams for which there was no room.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Length of the first one.
    pub fn first_len(&self) -> usize {
        self.queue.front().map_or(0, |d| d.data.len())
    }

    /// True when nothing can be received.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a datagram, unless there is no room: false.
    pub fn push(&mut self, datagram: Datagram, rcvbuf: usize) -> bool {
        // As on Linux the last one may go over the limit.
        if self.closed || self.charged > rcvbuf {
            self.dropped += 1;
            return false;
        }
        self.charged += datagram_cost(datagram.data.len());
        self.queue.push_back(datagram);
        true
    }

    /// The first one, which stays.
    pub fn first(&self) -> Option<&Datagram> {
        self.queue.front()
    }

    /// Takes the first one.
    pub fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.queue.pop_front()?;
        self.charged = self.charged.saturating_sub(datagram_cost(datagram.data.len()));
        Some(datagram)
    }

    /// Nothing more is queued; what was is given back.
    pub fn close(&mut self) -> VecDeque<Datagram> {
        self.closed = true;
        self.charged = 0;
        std::mem::take(&mut self.queue)
    }
}

impl DgramSocket {
    /// A datagram has come; without room it is dropped.
    pub(super) fn push(&self, datagram: Datagram) {
        let counters = &self.common.net.counters;
        if i32::from(datagram.ttl) < self.common.ip.value(ip::MINTTL) {
            return;
        }
        let rcvbuf = self.common.options.rcvbuf();
        if !self.received.lock().push(datagram, rcvbuf) {
            Counters::add(&counters.udp_buffer_errors, 1);
            return;
        }
        Counters::add(&counters.udp_in, 1);
        self.queue.notify(EventMask::READABLE);
    }

    /// Receives one datagram.
    pub(super) fn do_receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        if msg.flags & flags::ERRQUEUE != 0 {
            let (n, next) = self.errors.receive(&self.common, dst, msg)?;
            // The pending error is always that of the first in the queue.
            self.error.store(next.map_or(0, Errno::raw), Ordering::SeqCst);
            return Ok(n);
        }
        if msg.flags & flags::OOB != 0 && self.protocol == Protocol::Echo {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(e) = self.take_pending() {
            return Err(e);
        }
        if msg.flags & flags::PEEK != 0 {
            let received = self.received.lock();
            if let Some(datagram) = received.first() {
                return self.deliver(datagram, dst, msg);
            }
        } else {
            let datagram = self.received.lock().pop();
            if let Some(datagram) = datagram {
                return self.deliver(&datagram, dst, msg);
            }
        }
        // As in Linux the end is only seen by those who would wait for it.
        if self.is_shut(RCV) && !msg.nonblocking { Ok(0) } else { Err(Errno::EAGAIN) }
    }

    fn deliver(&self, d: &Datagram, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        let options = &self.common.options;
        let peek = msg.flags & flags::PEEK != 0;
        let skip = if peek { options.peek_off().unwrap_or(0) } else { 0 };
        let bytes = d.data.get(skip..).unwrap_or_default();
        let n = if bytes.is_empty() || dst.remaining() == 0 { 0 } else { dst.put(bytes)? };
        if n < bytes.len() {
            msg.out_flags |= flags::TRUNC;
        }
        options.move_peek_off(if peek { n as i64 } else { -(d.data.len() as i64) });
        let port = if self.protocol == Protocol::Udp { d.from.port } else { 0 };
        msg.from = Some(Endpoint { port, ..d.from }.sockaddr(self.common.family));
        describe(&self.common, d, msg);
        Ok(if msg.flags & flags::TRUNC != 0 { bytes.len() } else { n })
    }

    /// A datagram that came as a packet, unless the socket hears somebody else only.
    pub fn take(&self, datagram: Datagram) {
        if self.hears(datagram.from) {
            self.push(datagram);
        }
    }

    /// A datagram made by the kernel itself.
    pub(super) fn push_answer(&self, data: Vec<u8>, from: IpAddr, out: &Outgoing) {
        let mut datagram = Datagram::new(data, out);
        datagram.from = Endpoint { ip: from, port: 0 };
        datagram.to = out.from;
        self.push(datagram);
    }
}

/// Tells what the socket's options ask for of a datagram (`cmsg(3)`).
pub(in crate::socket::inet) fn describe(common: &Common, d: &Datagram, msg: &mut RecvMsg) {
    let (options, on) = (&common.options, |name| common.ip.is_on(name));
    let control = &mut msg.control;
    let mut put = |level, kind, data: Vec<u8>| control.push(Control { level, kind, data });
    let time = |unit: i64| {
        let (sec, rest) = (d.at / 1_000_000_000, d.at % 1_000_000_000);
        [sec.to_ne_bytes(), (rest / unit).to_ne_bytes()].concat()
    };
    if options.is_on(so::TIMESTAMP) {
        put(SOL_SOCKET, so::TIMESTAMP, time(1000));
    } else if options.is_on(so::TIMESTAMPNS) {
        put(SOL_SOCKET, so::TIMESTAMPNS, time(1));
    }
    let stamping = common.timestamping.load(Ordering::Relaxed);
    if stamping & TIMESTAMPING_RX == TIMESTAMPING_RX {
        let mut data = time(1);
        data.resize(48, 0);
        put(SOL_SOCKET, 37, data);
    }
    let v4 = d.to.ip.is_ipv4();
    let int = |n: u8| i32::from(n).to_ne_bytes().to_vec();
    if v4 {
        // "Specific destination" is the socket's own address, not a group's.
        let group = d.to.ip.is_multicast();
        let specific = if group { addr::any(AF_INET) } else { d.to.ip };
        if on(ip::PKTINFO) {
            put(SOL_IP, 8, ip::pktinfo(d.to.ip, specific, d.device));
        }
        if on(ip::RECVTTL) {
            put(SOL_IP, 2, int(d.ttl));
        }
        if on(ip::RECVTOS) {
            put(SOL_IP, 1, vec![d.tos]);
        }
        if on(ip::RECVORIGDSTADDR) {
            put(SOL_IP, 20, d.to.sockaddr(AF_INET));
        }
    }
    if common.family == AF_INET6 {
        if on(ip::RECVPKTINFO) {
            put(SOL_IPV6, 50, ip::pktinfo6(d.to.ip, d.device));
        }
        if on(ip::RECVHOPLIMIT) && !v4 {
            put(SOL_IPV6, 52, int(d.ttl));
        }
        if on(ip::RECVTCLASS) && !v4 {
            put(SOL_IPV6, 67, int(d.tos));
        }
        if on(ip::RECVORIGDSTADDR6) {
            put(SOL_IPV6, 74, d.to.sockaddr(AF_INET6));
        }
    }
}
