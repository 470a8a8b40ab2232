//! What datagram and raw sockets receive: their queue, the error that waits, errors that came back for what was sent,
//! and what has been shut down.

use super::addr::{self, AF_INET, AF_INET6, Endpoint};
use super::common::{Common, TIMESTAMPING_RX};
use super::dgram::errors::{ErrorQueue, QueuedError};
use super::net::Net;
use super::{IPPROTO_UDP, SOL_IP, SOL_IPV6, devices, ip};
use crate::errno::{Errno, Result};
use crate::fs::ioctl::{FIONREAD, TIOCOUTQ, put_int};
use crate::io::Sink;
use crate::kernel::Task;
use crate::mm::UserAddr;
use crate::socket::options::so;
use crate::socket::unix::message::datagram_cost;
use crate::socket::{Control, RecvMsg, SOL_SOCKET, flags};
use crate::sync::{Mutex, rank};
use crate::wait::{EventMask, WaitQueue};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, Ordering};

const UDP_GRO: i32 = 104;
const SIOCGSTAMP: u32 = 0x8906;
const SIOCGSTAMPNS: u32 = 0x8907;
const SIOCGSTAMP_NEW: u32 = 0x8010_8906;
const SIOCGSTAMPNS_NEW: u32 = 0x8010_8907;

/// Nothing more will be received.
pub const RCV: u8 = 1;
/// Nothing more can be sent.
pub const SEND: u8 = 2;

/// A datagram in a receive queue.
pub struct Datagram {
    pub(super) data: Vec<u8>,
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    pub(super) device: u32,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    /// Bytes of each of the datagrams that came together; 0 for one alone.
    pub(super) segment: u16,
    /// When it came: nanoseconds since the epoch.
    pub(super) at: i64,
}

/// A receive queue.
#[derive(Default)]
struct Received {
    queue: VecDeque<Datagram>,
    charged: usize,
    dropped: usize,
    closed: bool,
}

impl Received {
    /// What the datagrams cost.
    fn charged(&self) -> usize {
        self.charged
    }

    /// Datagrams for which there was no room.
    fn dropped(&self) -> usize {
        self.dropped
    }

    /// Length of the first one.
    fn first_len(&self) -> usize {
        self.queue.front().map_or(0, |d| d.data.len())
    }

    /// True when nothing can be received.
    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a datagram, unless there is no room: false.
    fn push(&mut self, datagram: Datagram, rcvbuf: usize) -> bool {
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
    fn first(&self) -> Option<&Datagram> {
        self.queue.front()
    }

    /// Takes the first one.
    fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.queue.pop_front()?;
        self.charged = self.charged.saturating_sub(datagram_cost(datagram.data.len()));
        Some(datagram)
    }

    /// Nothing more is queued; what was is given back.
    fn close(&mut self) -> VecDeque<Datagram> {
        self.closed = true;
        self.charged = 0;
        std::mem::take(&mut self.queue)
    }
}

/// What a socket receives, and who waits for it.
#[derive(Default)]
pub struct Inbox {
    /// Who waits for the socket.
    pub queue: WaitQueue,
    error: AtomicI32,
    shut: AtomicU8,
    received: Mutex<Received, { rank::INODE_NESTED }>,
    errors: ErrorQueue,
    /// When what was received last had come: nanoseconds since the epoch, with [`NEVER`] as 0.
    last: AtomicI64,
}

/// Nothing has been received yet (`SIOCGSTAMP`).
const NEVER: i64 = 0;

impl Inbox {
    /// Bytes that wait to be received, as they are charged, and datagrams that were dropped.
    pub fn queued(&self) -> (usize, usize) {
        let received = self.received.lock();
        (received.charged(), received.dropped())
    }

    /// Whether something of this has been shut down.
    pub fn is_shut(&self, bits: u8) -> bool {
        self.shut.load(Ordering::SeqCst) & bits != 0
    }

    /// The next call fails with this error.
    pub fn fail(&self, error: Errno) {
        self.error.store(error.raw(), Ordering::SeqCst);
        self.queue.notify(EventMask::ERR);
    }

    /// Takes the error that waits.
    pub fn take_pending(&self) -> Option<Errno> {
        match self.error.swap(0, Ordering::SeqCst) {
            0 => None,
            n => Some(Errno::from_raw(n)),
        }
    }

    /// Keeps an error that came back.
    pub(super) fn push_error(&self, error: QueuedError) {
        self.errors.push(error);
    }

    /// A datagram is not queued, for another reason than room.
    pub(super) fn count_drop(&self) {
        self.received.lock().dropped += 1;
    }

    /// Queues a datagram, unless there is no room: false.
    pub fn push(&self, datagram: Datagram, rcvbuf: usize) -> bool {
        let queued = self.received.lock().push(datagram, rcvbuf);
        if queued {
            self.queue.notify(EventMask::READABLE);
        }
        queued
    }

    /// Receives a datagram, which `deliver` copies, or with `MSG_ERRQUEUE` an error that came back.
    pub fn receive(
        &self,
        common: &Common,
        dst: &mut dyn Sink,
        msg: &mut RecvMsg,
        deliver: impl FnOnce(&Datagram, &mut dyn Sink, &mut RecvMsg) -> Result<usize>,
    ) -> Result<usize> {
        if msg.flags & flags::ERRQUEUE != 0 {
            let (n, next) = self.errors.receive(common, dst, msg)?;
            // The pending error is always that of the first in the queue.
            self.error.store(next.map_or(0, Errno::raw), Ordering::SeqCst);
            return Ok(n);
        }
        if let Some(e) = self.take_pending() {
            return Err(e);
        }
        if msg.flags & flags::PEEK != 0 {
            let received = self.received.lock();
            if let Some(datagram) = received.first() {
                return deliver(datagram, dst, msg);
            }
        } else {
            let datagram = self.received.lock().pop();
            if let Some(datagram) = datagram {
                self.last.store(datagram.at, Ordering::Relaxed);
                return deliver(&datagram, dst, msg);
            }
        }
        // As in Linux the end is only seen by those who would wait for it.
        if self.is_shut(RCV) && !msg.nonblocking { Ok(0) } else { Err(Errno::EAGAIN) }
    }

    /// `shutdown(2)`. `EINVAL`; `ENOTCONN`, when it has been done nevertheless.
    pub fn shutdown(&self, how: i32, connected: bool) -> Result<()> {
        let bits = match how {
            0 => RCV,
            1 => SEND,
            2 => RCV | SEND,
            _ => return Err(Errno::EINVAL),
        };
        self.shut.fetch_or(bits, Ordering::SeqCst);
        self.queue
            .notify(EventMask::READABLE | EventMask::WRITABLE | EventMask::RDHUP | EventMask::HUP);
        if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    /// What `poll(2)` sees.
    pub fn poll(&self) -> EventMask {
        let mut events = EventMask::WRITABLE | EventMask::WRBAND;
        if self.error.load(Ordering::SeqCst) != 0 || !self.errors.is_empty() {
            events |= EventMask::ERR;
        }
        let bits = self.shut.load(Ordering::SeqCst);
        if bits & RCV != 0 {
            events |= EventMask::RDHUP | EventMask::READABLE;
        }
        if bits == RCV | SEND {
            events |= EventMask::HUP;
        }
        if !self.received.lock().is_empty() {
            events |= EventMask::READABLE;
        }
        events
    }

    /// `ioctl(2)`.
    pub fn ioctl(&self, net: &Arc<Net>, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        match cmd {
            FIONREAD => {
                let len = self.received.lock().first_len();
                put_int(task, arg, len)
            }
            TIOCOUTQ => put_int(task, arg, 0),
            SIOCGSTAMP | SIOCGSTAMP_NEW | SIOCGSTAMPNS | SIOCGSTAMPNS_NEW => {
                let at = self.last.load(Ordering::Relaxed);
                if at == NEVER {
                    return Err(Errno::ENOENT);
                }
                let unit = if matches!(cmd, SIOCGSTAMP | SIOCGSTAMP_NEW) { 1000 } else { 1 };
                task.mm()?.write(UserAddr(arg), &time(at, unit))?;
                Ok(0)
            }
            _ => devices::ioctl(net, task, cmd, arg),
        }
    }

    /// Nothing more is queued; what was is dropped.
    pub fn close(&self) {
        let unread = self.received.lock().close();
        drop(unread);
    }
}

impl Datagram {
    /// Copies what follows the first `skip` bytes to a receiver and tells from whom it came: the number of bytes that
    /// were copied, and that of the call's result.
    pub(super) fn copy(
        &self,
        common: &Common,
        (from, skip): (Endpoint, usize),
        dst: &mut dyn Sink,
        msg: &mut RecvMsg,
    ) -> Result<(usize, usize)> {
        let bytes = self.data.get(skip..).unwrap_or_default();
        let n = if bytes.is_empty() || dst.remaining() == 0 { 0 } else { dst.put(bytes)? };
        if n < bytes.len() {
            msg.out_flags |= flags::TRUNC;
        }
        msg.from = Some(from.sockaddr(common.family()));
        describe(common, self, msg);
        Ok((n, if msg.flags & flags::TRUNC != 0 { bytes.len() } else { n }))
    }
}

/// A `struct timeval` (`unit` of 1,000 ns) or `timespec` (of 1 ns).
fn time(at: i64, unit: i64) -> Vec<u8> {
    let (sec, rest) = (at / 1_000_000_000, at % 1_000_000_000);
    [sec.to_ne_bytes(), (rest / unit).to_ne_bytes()].concat()
}

/// Tells what the socket's options ask for of a datagram (`cmsg(3)`).
fn describe(common: &Common, d: &Datagram, msg: &mut RecvMsg) {
    let (options, on) = (&common.options, |name| common.ip.is_on(name));
    let control = &mut msg.control;
    let mut put = |level, kind, data: Vec<u8>| control.push(Control { level, kind, data });
    for kind in so::TIMESTAMPS {
        if options.is_on(kind) {
            let unit = if matches!(kind, so::TIMESTAMP | so::TIMESTAMP_NEW) { 1000 } else { 1 };
            put(SOL_SOCKET, kind, time(d.at, unit));
        }
    }
    let stamping = common.timestamping.load(Ordering::Relaxed);
    if stamping & TIMESTAMPING_RX == TIMESTAMPING_RX {
        let mut data = time(d.at, 1);
        data.resize(48, 0);
        put(SOL_SOCKET, 37, data);
    }
    if d.segment != 0 {
        put(IPPROTO_UDP, UDP_GRO, i32::from(d.segment).to_ne_bytes().to_vec());
    }
    let v4 = d.to.ip.is_ipv4();
    let int = |n: u8| i32::from(n).to_ne_bytes().to_vec();
    let v6_socket = common.family() == AF_INET6;
    if v6_socket && on(ip::RECVPKTINFO) {
        put(SOL_IPV6, 50, ip::pktinfo6(d.to.ip, d.device));
    }
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
    if v6_socket && !v4 {
        if on(ip::RECVHOPLIMIT) {
            put(SOL_IPV6, 52, int(d.ttl));
        }
        if on(ip::RECVTCLASS) {
            put(SOL_IPV6, 67, int(d.tos));
        }
        if on(ip::OLD_PKTINFO) {
            put(SOL_IPV6, ip::OLD_PKTINFO.1, ip::pktinfo6(d.to.ip, d.device));
        }
        if on(ip::OLD_HOPLIMIT) {
            put(SOL_IPV6, ip::OLD_HOPLIMIT.1, int(d.ttl));
        }
        if on(ip::RECVORIGDSTADDR6) {
            put(SOL_IPV6, 74, d.to.sockaddr(AF_INET6));
        }
    }
}
