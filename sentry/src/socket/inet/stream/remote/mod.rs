//! TCP with other machines: connections and listeners of the [`uplink`](crate::socket::inet::uplink).

pub mod guarded;
mod scratch;
pub mod stack;

use super::{Progress, Setup, State, StreamSocket, TCP_CLOSE, TCP_SYN_SENT};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::socket::inet::addr::{AF_INET, Endpoint};
use crate::socket::inet::port::Claim;
use crate::socket::inet::table::{Registered, Tuple};
use crate::socket::inet::uplink::Uplink;
use crate::socket::inet::uplink::egress::Admitted;
use crate::socket::inet::uplink::error::errno;
use crate::socket::inet::uplink::names::NameServer;
use crate::socket::inet::uplink::proxy::stream::ProxiedStream;
use crate::socket::inet::uplink::proxy::{device, own_address};
use crate::socket::inet::{Counters, Net, ip};
use crate::socket::options::so;
use crate::wait::EventMask;
use guarded::Guarded;
use netproxy::protocol as wire;
use netstack::{IfaceId, TcpSocket};
use platform::host::inet;
use stack::{CoreWaker, StackStream, endpoint, family, socket_addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// `TCP_SYN_RECV`
pub(super) const TCP_SYN_RECV: u8 = 3;
/// `TCP_TIME_WAIT`
pub(super) const TCP_TIME_WAIT: u8 = 6;

/// What carries a connection with another machine.
pub trait Transport: Send + Sync {
    /// True until it is known whether the connection comes about.
    fn is_connecting(&self) -> bool {
        matches!(self.state_number(), TCP_SYN_SENT | TCP_SYN_RECV)
    }

    /// True when the connection is over.
    fn is_closed(&self) -> bool {
        matches!(self.state_number(), TCP_CLOSE | TCP_TIME_WAIT)
    }

    /// Number of its state (`/proc/net/tcp`).
    fn state_number(&self) -> u8;

    /// Bytes to be received, and bytes that were not acknowledged yet.
    fn queued(&self) -> (usize, usize);

    /// The next byte to be read is the urgent one.
    fn at_mark(&self) -> bool;

    /// The pending error, which is cleared.
    fn take_error(&self) -> Option<Errno>;

    /// Readiness.
    fn poll(&self) -> EventMask;

    /// Sends what fits. `EAGAIN` if nothing does.
    fn send(&self, src: &mut dyn Source, urgent: bool) -> Result<usize>;

    /// Receives; with `peek` the data stays (what comes before that offset is left out), with `discard` nobody
    /// gets it.
    fn receive(&self, dst: &mut dyn Sink, peek: Option<usize>, discard: bool) -> Result<usize>;

    /// Receives the urgent byte.
    fn receive_urgent(&self, dst: &mut dyn Sink, peek: bool) -> Result<usize>;

    /// `shutdown(2)` with 0, 1 or 2.
    fn shutdown(&self, how: i32) -> Result<()>;

    /// Ends the connection with a reset.
    fn abort(&self);

    /// Takes over the socket's options.
    fn apply(&self, socket: &StreamSocket);

    /// `struct tcp_info`.
    fn info(&self) -> Option<Vec<u8>>;

    /// Payload of a full segment.
    fn segment_size(&self) -> Option<i32>;
}

/// One end of a connection with another machine.
pub struct Remote {
    /// The socket's own address.
    pub local: Endpoint,
    /// The other side's.
    pub peer: Endpoint,
    transport: Arc<dyn Transport>,
    _entry: Registered<StreamSocket>,
}

impl std::ops::Deref for Remote {
    type Target = dyn Transport;

    fn deref(&self) -> &Self::Target {
        &*self.transport
    }
}

impl Remote {
    fn new(
        tuple: Tuple,
        transport: Arc<dyn Transport>,
        entry: Registered<StreamSocket>,
    ) -> Arc<Remote> {
        let Tuple { local, peer } = tuple;
        Arc::new(Remote { local, peer, transport, _entry: entry })
    }

    /// Readiness for a socket with `lowat` as in `SO_RCVLOWAT`.
    pub fn poll_with(&self, lowat: usize) -> EventMask {
        let mut events = self.poll();
        let ended = events.intersects(EventMask::RDHUP | EventMask::HUP | EventMask::ERR);
        if lowat > 1 && !ended && self.queued().0 < lowat {
            events -= EventMask::READABLE;
        }
        events
    }
}

impl StreamSocket {
    /// An endpoint of the stack for this socket, bound to `at`.
    fn endpoint_at(&self, at: Endpoint, connects: bool) -> Result<TcpSocket> {
        let uplink = self.common.net.uplink.get();
        let stack = uplink.and_then(|uplink| uplink.stack()).ok_or(Errno::ENETUNREACH)?;
        let tcp = stack.tcp(family(self.common.family())).map_err(errno)?;
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
        let v6 = common.family() != AF_INET;
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

    /// The socket's options as a socket of the host takes them: level, name, value.
    pub fn host_options(&self) -> Vec<(i32, i32, i32)> {
        let common = &self.common;
        let mut out = self.tcp.for_host(&common.net.settings);
        let switch = |name| i32::from(common.options.is_on(name));
        out.push((libc::SOL_SOCKET, libc::SO_KEEPALIVE, switch(so::KEEPALIVE)));
        out.push((libc::SOL_SOCKET, libc::SO_OOBINLINE, switch(so::OOBINLINE)));
        // The host doubles what it is told, as this kernel has done.
        let half = |n: usize| i32::try_from(n / 2).unwrap_or(i32::MAX);
        if common.sndbuf_locked() {
            let size = half(self.sndbuf.load(Ordering::Relaxed));
            out.push((libc::SOL_SOCKET, libc::SO_SNDBUF, size));
        }
        if common.rcvbuf_locked() {
            out.push((libc::SOL_SOCKET, libc::SO_RCVBUF, half(common.options.rcvbuf())));
        }
        out
    }

    /// Lets changed options act on the endpoints there are.
    pub(super) fn apply_remote(&self) {
        if let Some(remote) = self.remote() {
            remote.apply(self);
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

    /// Begins to connect to another machine: to `peer` as the program sees it, to `to` in fact.
    pub(super) fn connect_remote(
        &self,
        setup: &mut Setup,
        local: Endpoint,
        (peer, to): (Endpoint, Endpoint),
    ) -> Result<()> {
        let tuple = Tuple { local, peer };
        let egress = self.common.net.egress.get();
        let admitted = egress.map(|egress| egress.admit(wire::Protocol::Tcp, to)).transpose()?;
        let entry = self.common.net.connections.enter(tuple, self.this.clone());
        let entry = entry.ok_or(Errno::EADDRNOTAVAIL)?;
        let transport: Arc<dyn Transport> = match self.common.net.uplink.get() {
            Some(Uplink::Proxy(proxy)) => {
                let stream = ProxiedStream::connect(proxy, &self.core, to)?;
                stream.apply(self);
                stream
            }
            _ => {
                let tcp = self.endpoint_at(local, true)?;
                tcp.set_waker(Some(Arc::new(CoreWaker(self.core.clone()))));
                match tcp.connect(socket_addr(to)) {
                    Ok(()) | Err(netstack::Error::InProgress) => {}
                    Err(e) => return Err(errno(e)),
                }
                let stream = StackStream::new(tcp);
                match (egress, admitted) {
                    (Some(egress), Some(how)) if how != Admitted::Freely => {
                        Guarded::new(stream, &self.core, egress, to, how)
                    }
                    _ => stream,
                }
            }
        };
        setup.state = State::Remote(Remote::new(tuple, transport, entry));
        Ok(())
    }

    /// Begins to connect to the name server of the host's. Under an egress policy its questions would have to be
    /// looked at: there it takes datagrams only.
    pub(super) fn connect_name_server(
        &self,
        setup: &mut Setup,
        tuple: Tuple,
        names: &NameServer,
    ) -> Result<()> {
        if self.common.net.egress.get().is_some() {
            return Err(Errno::ECONNREFUSED);
        }
        let entry = self.common.net.connections.enter(tuple, self.this.clone());
        let entry = entry.ok_or(Errno::EADDRNOTAVAIL)?;
        let stream = ProxiedStream::connect(names.proxy(), &self.core, names.at_proxy())?;
        stream.apply(self);
        setup.state = State::Remote(Remote::new(tuple, stream, entry));
        Ok(())
    }

    /// What other machines connect to when this socket listens at `at`; `None` when they cannot.
    pub(super) fn listen_remote(&self, at: Endpoint, backlog: u32) -> Result<Option<TcpSocket>> {
        let stack = self.common.net.uplink.get().and_then(Uplink::stack);
        if stack.is_none() || at.ip.is_loopback() {
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
        let (mut local, peer) = (endpoint(tcp.local_addr()), endpoint(peer));
        // Rules of the packet filter may have turned it here from another port.
        local.port = claim.port();
        let child = self.child();
        tcp.set_waker(Some(Arc::new(CoreWaker(child.core.clone()))));
        let transport = StackStream::new(tcp);
        child.take_over(Tuple { local, peer }, transport, claim)?;
        Counters::add(&self.common.net.counters.tcp_passive_opens, 1);
        Ok(child)
    }

    /// Makes a new socket the end of a connection that another machine has made.
    fn take_over(
        &self,
        tuple: Tuple,
        transport: Arc<dyn Transport>,
        claim: &Arc<Claim<StreamSocket>>,
    ) -> Result<()> {
        let entry = self.common.net.connections.enter(tuple, self.this.clone());
        let entry = entry.ok_or(Errno::ECONNABORTED)?;
        transport.apply(self);
        let mut setup = self.setup.lock();
        setup.claim = Some(claim.clone());
        setup.local = Some(tuple.local);
        setup.state = State::Remote(Remote::new(tuple, transport, entry));
        setup.progress = Progress::Connected;
        (setup.chose_port, setup.chose_ip) = (true, true);
        Ok(())
    }

    /// Somebody has connected to a published port: the connection goes to who listens, or is reset.
    pub fn deliver(net: &Arc<Net>, port: u16, peer: Endpoint, fd: OwnedFd) {
        let Some(Uplink::Proxy(proxy)) = net.uplink.get() else { return };
        let given = Endpoint { ip: own_address(peer.ip), port };
        let mut local = given;
        if net.is_filtered() {
            let Some(to) = net.filter_accepted(peer, given, device()) else {
                let _ = inet::reset_on_close(fd.as_fd());
                return;
            };
            local = to;
        }
        let host = net.tcp.find(local, peer, device(), |b| b.listening);
        let listener = host.as_ref().and_then(|host| Some((host, host.accepting()?)));
        let Some((host, listener)) = listener.filter(|(_, listener)| listener.has_room()) else {
            Counters::add(&net.counters.listen_overflows, 1);
            // Failing it ends in the ordinary way.
            let _ = inet::reset_on_close(fd.as_fd());
            return;
        };
        let child = host.child();
        let Ok(stream) = ProxiedStream::open(proxy, &child.core, fd) else { return };
        if child.take_over(Tuple { local, peer }, stream, listener.claim()).is_ok() {
            Counters::add(&net.counters.tcp_passive_opens, 1);
            listener.push(child);
        }
    }
}
