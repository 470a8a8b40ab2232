//! TCP with other machines: connections and listeners of the [`uplink`](crate::socket::inet::uplink)'s stack.

use super::core::Core;
use super::{Progress, Setup, State, StreamSocket, TCP_CLOSE, TCP_CLOSE_WAIT};
use super::{TCP_ESTABLISHED, TCP_FIN_WAIT2, TCP_LISTEN, TCP_SYN_SENT};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::socket::inet::addr::{AF_INET, Endpoint};
use crate::socket::inet::port::Claim;
use crate::socket::inet::table::{Registered, Tuple};
use crate::socket::inet::uplink::error::{errno, events};
use crate::socket::inet::{Counters, ip};
use crate::socket::options::so;
use crate::sync::{Mutex, rank};
use crate::wait::EventMask;
use netstack::{Family, IfaceId, Readiness, Shutdown, TcpSocket, TcpStateName, Waker};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// `TCP_FIN_WAIT1`
const TCP_FIN_WAIT1: u8 = 4;
/// `TCP_LAST_ACK`
const TCP_LAST_ACK: u8 = 9;
/// `TCP_CLOSING`
const TCP_CLOSING: u8 = 11;
/// `TCP_SYN_RECV`
const TCP_SYN_RECV: u8 = 3;
/// `TCP_TIME_WAIT`
const TCP_TIME_WAIT: u8 = 6;
/// Most bytes that are copied between guest and stack at a time.
const CHUNK: usize = 64 << 10;

/// One end of a connection with another machine.
pub struct Remote {
    /// The socket's own address.
    pub local: Endpoint,
    /// The other side's.
    pub peer: Endpoint,
    tcp: TcpSocket,
    /// Held while bytes are looked at, copied and taken off: one reader at a time.
    reader: Mutex<(), { rank::INODE }>,
    _entry: Registered<StreamSocket>,
}

/// Tells those who wait on a socket.
struct CoreWaker(Arc<Core>);

impl Waker for CoreWaker {
    fn wake(&self, ready: Readiness) {
        self.0.queue.notify(events(ready));
    }
}

/// As the stack writes it.
pub fn socket_addr(at: Endpoint) -> SocketAddr {
    SocketAddr::new(at.ip, at.port)
}

/// As sockets here write it.
pub fn endpoint(at: SocketAddr) -> Endpoint {
    Endpoint::new(at.ip(), at.port())
}

/// The stack's name for a family.
pub fn family(number: i32) -> Family {
    if number == AF_INET { Family::V4 } else { Family::V6 }
}

impl Remote {
    fn new(tuple: Tuple, tcp: TcpSocket, entry: Registered<StreamSocket>) -> Arc<Remote> {
        let Tuple { local, peer } = tuple;
        Arc::new(Remote { local, peer, tcp, reader: Mutex::default(), _entry: entry })
    }

    /// True until it is known whether the connection comes about.
    pub fn is_connecting(&self) -> bool {
        matches!(self.tcp.state(), TcpStateName::SynSent | TcpStateName::SynReceived)
    }

    /// True when the connection is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.tcp.state(), TcpStateName::Closed | TcpStateName::TimeWait)
    }

    /// Number of its state (`/proc/net/tcp`).
    pub fn state_number(&self) -> u8 {
        match self.tcp.state() {
            TcpStateName::Closed => TCP_CLOSE,
            TcpStateName::Listen => TCP_LISTEN,
            TcpStateName::SynSent => TCP_SYN_SENT,
            TcpStateName::SynReceived => TCP_SYN_RECV,
            TcpStateName::Established => TCP_ESTABLISHED,
            TcpStateName::FinWait1 => TCP_FIN_WAIT1,
            TcpStateName::FinWait2 => TCP_FIN_WAIT2,
            TcpStateName::CloseWait => TCP_CLOSE_WAIT,
            TcpStateName::Closing => TCP_CLOSING,
            TcpStateName::LastAck => TCP_LAST_ACK,
            TcpStateName::TimeWait => TCP_TIME_WAIT,
        }
    }

    /// Bytes to be received, and bytes that were not acknowledged yet.
    pub fn queued(&self) -> (usize, usize) {
        self.tcp.queued()
    }

    /// The next byte to be read is the urgent one.
    pub fn at_mark(&self) -> bool {
        self.tcp.at_mark()
    }

    /// The pending error, which is cleared.
    pub fn take_error(&self) -> Option<Errno> {
        self.tcp.take_error().map(errno)
    }

    /// Readiness; `lowat` as in `SO_RCVLOWAT`.
    pub fn poll(&self, lowat: usize) -> EventMask {
        let ready = self.tcp.readiness();
        let mut events = events(ready);
        let ended = ready.intersects(Readiness::RDHUP | Readiness::HUP | Readiness::ERR);
        if lowat > 1 && !ended && self.queued().0 < lowat {
            events -= EventMask::READABLE;
        }
        events
    }

    /// Sends what fits. `EAGAIN` if nothing does.
    pub fn send(&self, src: &mut dyn Source, urgent: bool) -> Result<usize> {
        let mut buffer = vec![0; src.remaining().min(CHUNK)];
        let mut done = 0;
        loop {
            let sent = self.send_chunk(src, &mut buffer, urgent);
            match sent {
                Ok((n, all)) => {
                    done += n;
                    if !all || src.remaining() == 0 {
                        return Ok(done);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            }
        }
    }

    /// Sends up to a chunk: how much went, and whether that was all of the chunk.
    fn send_chunk(
        &self,
        src: &mut dyn Source,
        buffer: &mut [u8],
        urgent: bool,
    ) -> Result<(usize, bool)> {
        let wanted = src.remaining().min(buffer.len());
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        let taken = if wanted > 0 { src.take(chunk)? } else { 0 };
        let data = chunk.get(..taken).unwrap_or_default();
        let last = src.remaining() == 0;
        let sent = if urgent && last { self.tcp.send_urgent(data) } else { self.tcp.send(data) };
        let n = *sent.as_ref().unwrap_or(&0);
        src.rewind(taken.saturating_sub(n));
        sent.map(|n| (n, n == taken)).map_err(errno)
    }

    /// Receives; with `peek` the data stays, with `discard` nobody gets it.
    pub fn receive(&self, dst: &mut dyn Sink, peek: Option<usize>, discard: bool) -> Result<usize> {
        if let Some(skip) = peek {
            let (ready, _) = self.tcp.queued();
            let mut buffer = vec![0; skip.saturating_add(dst.remaining()).min(ready.max(1))];
            let n = self.tcp.peek(&mut buffer).map_err(errno)?;
            let data = buffer.get(skip..n).unwrap_or_default();
            return match data {
                [] if n > 0 => Err(Errno::EAGAIN),
                [] => Ok(0),
                data => dst.put(data),
            };
        }
        let _reader = self.reader.lock();
        let (ready, _) = self.tcp.queued();
        let mut buffer = vec![0; dst.remaining().min(CHUNK).min(ready.max(1))];
        if discard {
            return self.tcp.recv(&mut buffer).map_err(errno);
        }
        let mut done = 0;
        loop {
            let wanted = dst.remaining().min(buffer.len());
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            // Taken off only once the guest has it.
            let n = match self.tcp.peek(chunk) {
                Ok(n) => n,
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(errno(e)),
            };
            let data = chunk.get(..n).unwrap_or_default();
            if data.is_empty() {
                return Ok(done);
            }
            let put = match dst.put(data) {
                Ok(put) => put,
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            };
            let taken = chunk.get_mut(..put).unwrap_or_default();
            done += self.tcp.recv(taken).map_err(errno)?;
            if dst.remaining() == 0 || put < n {
                return Ok(done);
            }
        }
    }

    /// Receives the urgent byte.
    pub fn receive_urgent(&self, dst: &mut dyn Sink, peek: bool) -> Result<usize> {
        let byte = self.tcp.recv_urgent(peek).map_err(errno)?;
        dst.put(&[byte])
    }

    /// `shutdown(2)` with 0, 1 or 2.
    pub fn shutdown(&self, how: i32) -> Result<()> {
        let how = match how {
            0 => Shutdown::Read,
            1 => Shutdown::Write,
            _ => Shutdown::Both,
        };
        self.tcp.shutdown(how).map_err(errno)
    }

    /// Ends the connection with a reset.
    pub fn abort(&self) {
        self.tcp.abort();
    }
}

impl StreamSocket {
    /// An endpoint of the stack for this socket, bound to `at`.
    fn endpoint_at(&self, at: Endpoint, connects: bool) -> Result<TcpSocket> {
        let uplink = self.common.net.uplink.get().ok_or(Errno::ENETUNREACH)?;
        let tcp = uplink.stack().tcp(family(self.common.family)).map_err(errno)?;
        self.apply_to(&tcp);
        let mut options = tcp.options();
        // The port is this socket's; one that connects may have it from a connection that is ending.
        options.reuse_addr |= connects;
        tcp.set_options(options);
        tcp.bind(socket_addr(at)).map_err(errno)?;
        Ok(tcp)
    }

    /// Gives the stack's endpoint the socket's options.
    fn apply_to(&self, tcp: &TcpSocket) {
        let common = &self.common;
        let mut o = self.tcp.for_stack(&common.net.settings, tcp.options());
        let v6 = common.family != AF_INET;
        o.keepalive = common.options.is_on(so::KEEPALIVE);
        o.oob_inline = common.options.is_on(so::OOBINLINE);
        o.reuse_port = common.options.is_on(so::REUSEPORT);
        o.reuse_addr |= common.options.is_on(so::REUSEADDR);
        o.reset_on_close = common.options.linger() == Some(0);
        o.ttl = Some(common.ip.ttl(common, v6, false));
        let tos = if v6 { ip::TCLASS } else { ip::TOS };
        o.tos = u8::try_from(common.ip.value(tos).max(0)).unwrap_or(0);
        o.v6_only = common.ip.is_on(ip::V6ONLY);
        o.iface = Some(common.device()).filter(|device| *device != 0).map(IfaceId);
        if common.sndbuf_locked() {
            o.sndbuf = Some(self.sndbuf.load(Ordering::Relaxed));
        }
        if common.rcvbuf_locked() {
            o.rcvbuf = Some(common.options.rcvbuf());
        }
        tcp.set_options(o);
    }

    /// Lets changed options act on the endpoints there are.
    pub(super) fn apply_remote(&self) {
        if let Some(remote) = self.remote() {
            self.apply_to(&remote.tcp);
        }
        if let Some(tcp) = self.accepting().and_then(|listener| listener.remote()) {
            self.apply_to(&tcp);
        }
    }

    /// The connection with another machine, if there is one.
    pub fn remote(&self) -> Option<Arc<Remote>> {
        match &self.setup.lock().state {
            State::Remote(remote) => Some(remote.clone()),
            _ => None,
        }
    }

    /// Begins to connect to another machine.
    pub(super) fn connect_remote(
        &self,
        setup: &mut Setup,
        local: Endpoint,
        peer: Endpoint,
    ) -> Result<()> {
        let tcp = self.endpoint_at(local, true)?;
        tcp.set_waker(Some(Arc::new(CoreWaker(self.core.clone()))));
        let tuple = Tuple { local, peer };
        let entry = self.common.net.connections.enter(tuple, self.this.clone());
        let entry = entry.ok_or(Errno::EADDRNOTAVAIL)?;
        match tcp.connect(socket_addr(peer)) {
            Ok(()) | Err(netstack::Error::InProgress) => {}
            Err(e) => return Err(errno(e)),
        }
        setup.state = State::Remote(Remote::new(Tuple { local, peer }, tcp, entry));
        Ok(())
    }

    /// What other machines connect to when this socket listens at `at`; `None` when they cannot.
    pub(super) fn listen_remote(&self, at: Endpoint, backlog: u32) -> Result<Option<TcpSocket>> {
        if self.common.net.uplink.get().is_none() || at.ip.is_loopback() {
            return Ok(None);
        }
        let tcp = self.endpoint_at(at, false)?;
        tcp.set_waker(Some(Arc::new(CoreWaker(self.core.clone()))));
        tcp.listen(backlog as usize).map_err(errno)?;
        Ok(Some(tcp))
    }

    /// A connection that another machine has made.
    pub(super) fn accept_remote(
        &self,
        tcp: &TcpSocket,
        claim: &Arc<Claim<StreamSocket>>,
    ) -> Result<Arc<StreamSocket>> {
        let (tcp, peer) = tcp.accept().map_err(errno)?;
        let (local, peer) = (endpoint(tcp.local_addr()), endpoint(peer));
        let child = self.child();
        tcp.set_waker(Some(Arc::new(CoreWaker(child.core.clone()))));
        let net = &self.common.net;
        let entry = net.connections.enter(Tuple { local, peer }, child.this.clone());
        let entry = entry.ok_or(Errno::ECONNABORTED)?;
        {
            let mut setup = child.setup.lock();
            setup.claim = Some(claim.clone());
            setup.local = Some(local);
            setup.state = State::Remote(Remote::new(Tuple { local, peer }, tcp, entry));
            setup.progress = Progress::Connected;
            (setup.chose_port, setup.chose_ip) = (true, true);
        }
        Counters::add(&net.counters.tcp_passive_opens, 1);
        Ok(child)
    }
}
