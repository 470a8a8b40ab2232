//! The handle to a UDP endpoint.

use super::{UdpEndpoint, UdpState};
use crate::datagram::{Datagram, DatagramOptions, Inbox, QueuedError};
use crate::demux::{FourTuple, canonical, check_family};
use crate::endpoint::{EndpointId, Family, Readiness, Shutdown, Waker, WakerCell};
use crate::error::{Error, Result};
use crate::iface::IfaceId;
use crate::ip::output::{IpMeta, NextHop, Route};
use crate::ip::{DstKind, IpInfo};
use crate::stack::Stack;
use crate::wire::{ipv4, ipv6, protocol, udp};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Groups that one endpoint may join (`igmp_max_memberships`).
const MAX_GROUPS: usize = 20;

/// A UDP endpoint. Dropping it closes it.
#[derive(Debug)]
pub struct UdpSocket {
    stack: Arc<Stack>,
    endpoint: Arc<UdpEndpoint>,
}

impl Stack {
    /// A new UDP endpoint, not bound.
    ///
    /// # Errors
    /// [`Error::NoBuffers`] when there are too many endpoints.
    pub fn udp(&self, family: Family) -> Result<UdpSocket> {
        let stack = self.arc().ok_or(Error::Invalid)?;
        let state = UdpState {
            port: 0,
            addr: None,
            addr_by_connect: false,
            remote: None,
            tuple: None,
            options: DatagramOptions::new(self.config.datagram_rcvbuf),
            inbox: Inbox::new(),
            groups: HashSet::new(),
            closed: false,
        };
        let endpoint = Arc::new(UdpEndpoint {
            id: self.new_endpoint()?,
            family,
            stack: Arc::downgrade(&stack),
            state: Mutex::new(state),
            waker: WakerCell::default(),
        });
        Ok(UdpSocket { stack, endpoint })
    }
}

impl UdpSocket {
    /// The endpoint's name.
    pub fn id(&self) -> EndpointId {
        self.endpoint.id
    }

    /// Binds to a local address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`Error::Invalid`] when bound already, [`Error::AddressNotAvailable`], [`Error::AddressInUse`],
    /// [`Error::Family`].
    pub fn bind(&self, addr: SocketAddr) -> Result<()> {
        let mut state = self.endpoint.state.lock();
        if state.port != 0 {
            return Err(Error::Invalid);
        }
        let unspecified = addr.ip().is_unspecified();
        let addr = match unspecified {
            true if self.endpoint.family == Family::V4 && addr.is_ipv6() => {
                return Err(Error::Family);
            }
            true => addr,
            false => check_family(self.endpoint.family, state.options.v6_only, addr)?,
        };
        let groupish =
            addr.ip().is_multicast() || matches!(addr.ip(), IpAddr::V4(a) if a.is_broadcast());
        if !unspecified && !groupish && !self.stack.is_local(addr.ip()) {
            return Err(Error::AddressNotAvailable);
        }
        self.take_port(&mut state, (!unspecified).then_some(addr.ip()), addr.port())
    }

    fn take_port(&self, state: &mut UdpState, addr: Option<IpAddr>, port: u16) -> Result<()> {
        state.addr = addr;
        let bound = self.endpoint.bound(state);
        let mut ports = self.stack.demux.udp_ports.lock();
        let taken = match port {
            0 => {
                let start = self.stack.random.next_u64();
                ports.bind_any(self.stack.config.local_ports, start, bound)
            }
            port => ports.bind(port, bound).map(|()| port),
        };
        drop(ports);
        match taken {
            Ok(port) => {
                state.port = port;
                self.stack.demux.udp.insert(port, bound, self.endpoint.clone());
                Ok(())
            }
            Err(error) => {
                state.addr = None;
                Err(error)
            }
        }
    }

    /// Sets the peer: where `send` goes, and the only one to be heard.
    ///
    /// # Errors
    /// [`Error::NetworkUnreachable`], [`Error::AccessDenied`] for a broadcast address without the option,
    /// [`Error::Family`], or as [`bind`](Self::bind).
    pub fn connect(&self, remote: SocketAddr) -> Result<()> {
        let mut state = self.endpoint.state.lock();
        let remote = check_family(self.endpoint.family, state.options.v6_only, remote)?;
        if remote.port() == 0 {
            return Err(Error::Invalid);
        }
        self.clear_peer(&mut state);
        let route = self.route(&state, remote.ip())?;
        if route.next == NextHop::Broadcast && !state.options.broadcast {
            return Err(Error::AccessDenied);
        }
        if state.port == 0 {
            self.take_port(&mut state, None, 0)?;
        }
        if state.addr.is_none() {
            state.addr = Some(route.src);
            state.addr_by_connect = true;
            let bound = self.endpoint.bound(&state);
            self.stack.demux.udp.insert(state.port, bound, self.endpoint.clone());
        }
        let local = (state.addr.unwrap_or(route.src), state.port);
        let tuple = FourTuple::new(local, (remote.ip(), remote.port()));
        state.remote = Some(remote);
        // Two endpoints may share the tuple (SO_REUSEPORT); the second is found by its port.
        if self.stack.demux.udp_connected.insert(tuple, self.endpoint.clone()) {
            state.tuple = Some(tuple);
        }
        Ok(())
    }

    /// Undoes [`connect`](Self::connect).
    pub fn disconnect(&self) {
        let mut state = self.endpoint.state.lock();
        self.clear_peer(&mut state);
    }

    fn clear_peer(&self, state: &mut UdpState) {
        state.remote = None;
        if let Some(tuple) = state.tuple.take() {
            self.stack.demux.udp_connected.remove(&tuple, Arc::as_ptr(&self.endpoint));
        }
        if std::mem::take(&mut state.addr_by_connect) {
            state.addr = None;
            let bound = self.endpoint.bound(state);
            self.stack.demux.udp.insert(state.port, bound, self.endpoint.clone());
        }
    }

    fn route(&self, state: &UdpState, dst: IpAddr) -> Result<Route> {
        let group = dst.is_multicast().then_some(state.options.multicast_iface).flatten();
        let src = state.addr.filter(|a| !a.is_multicast());
        let src = src.filter(|a| a.is_ipv4() == dst.is_ipv4());
        self.stack.find_route(dst, src, group.or(state.options.iface))
    }

    /// Sends a datagram, to the peer when `to` is `None`.
    ///
    /// # Errors
    /// A pending error first; [`Error::DestinationRequired`], [`Error::MessageSize`], [`Error::BrokenPipe`]
    /// after a shutdown, [`Error::AccessDenied`] for broadcasts without the option, or what a route or a
    /// port lacks. A full link drops the datagram silently.
    pub fn send(&self, data: &[u8], to: Option<SocketAddr>) -> Result<usize> {
        let (route, meta, ports, options) = {
            let mut state = self.endpoint.state.lock();
            if let Some(error) = state.inbox.error.take() {
                return Err(error);
            }
            if state.inbox.shut_write {
                return Err(Error::BrokenPipe);
            }
            let to = match (to, state.remote) {
                (Some(to), _) => check_family(self.endpoint.family, state.options.v6_only, to)?,
                (None, Some(remote)) => remote,
                (None, None) => return Err(Error::DestinationRequired),
            };
            if to.port() == 0 {
                return Err(Error::Invalid);
            }
            if state.port == 0 {
                self.take_port(&mut state, None, 0)?;
            }
            let route = self.route(&state, to.ip())?;
            let options = state.options.clone();
            if route.next == NextHop::Broadcast && !options.broadcast {
                return Err(Error::AccessDenied);
            }
            let ttl = match route.next {
                NextHop::Group(_) => options.multicast_ttl,
                _ => options.ttl.unwrap_or(self.stack.config.ttl),
            };
            let meta = IpMeta {
                src: route.src,
                dst: to.ip(),
                protocol: protocol::UDP,
                ttl,
                tos: options.tos,
                dont_fragment: options.dont_fragment,
                router_alert: false,
            };
            (route, meta, (state.port, to.port()), options)
        };
        let header = if meta.dst.is_ipv4() { ipv4::HEADER } else { ipv6::HEADER };
        let room = if meta.dst.is_ipv4() { ipv4::MAX - header } else { ipv4::MAX };
        let len = udp::HEADER + data.len();
        if len > room || (options.dont_fragment && header + len > route.mtu) {
            return Err(Error::MessageSize);
        }
        let mut frame = self.stack.frame(len);
        frame.extend(data);
        udp::emit(frame.prepend(udp::HEADER), ports.0, ports.1, data.len());
        if !(options.no_checksum && meta.dst.is_ipv4()) {
            let fragmented = header + len > route.mtu;
            self.stack.fill_checksum(&mut frame, &route.iface, &meta, 6, fragmented);
        }
        self.stack.stats().udp_out_datagrams.inc();
        if route.next != NextHop::Host(meta.dst) {
            self.loop_back(&route, &meta, frame.bytes(), &options);
        }
        self.stack.send_ip(&route.iface, route.next, route.mtu, &meta, frame);
        self.stack.flush();
        Ok(data.len())
    }

    /// What is sent to all or to a group reaches the members on this host, too.
    fn loop_back(&self, route: &Route, meta: &IpMeta, bytes: &[u8], options: &DatagramOptions) {
        let kind = match route.next {
            NextHop::Broadcast => DstKind::Broadcast,
            NextHop::Group(group)
                if options.multicast_loop && route.iface.groups.lock().is_member(group) =>
            {
                DstKind::Group
            }
            _ => return,
        };
        let info = IpInfo {
            iface: &route.iface,
            src: meta.src,
            dst: meta.dst,
            kind,
            ttl: meta.ttl,
            tos: meta.tos,
            checksum_valid: true,
            buffer: None,
            link_group: true,
            packet: &[],
        };
        self.stack.input_udp(&info, bytes);
    }

    /// Takes the next datagram.
    ///
    /// # Errors
    /// A pending error first; [`Error::WouldBlock`]; [`Error::NotConnected`] after a shutdown (the end, to
    /// callers that know).
    pub fn recv(&self) -> Result<Datagram> {
        self.endpoint.state.lock().inbox.pop(false)
    }

    /// A copy of the next datagram.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn peek(&self) -> Result<Datagram> {
        self.endpoint.state.lock().inbox.pop(true)
    }

    /// The size of the next datagram (`FIONREAD`).
    pub fn next_len(&self) -> Option<usize> {
        self.endpoint.state.lock().inbox.next_len()
    }

    /// The oldest queued error (`MSG_ERRQUEUE`).
    pub fn recv_error(&self) -> Option<QueuedError> {
        self.endpoint.state.lock().inbox.pop_error()
    }

    /// Takes the pending error (`SO_ERROR`).
    pub fn take_error(&self) -> Option<Error> {
        self.endpoint.state.lock().inbox.error.take()
    }

    /// Shuts down a connected endpoint.
    ///
    /// # Errors
    /// [`Error::NotConnected`].
    pub fn shutdown(&self, how: Shutdown) -> Result<()> {
        {
            let mut state = self.endpoint.state.lock();
            if state.remote.is_none() {
                return Err(Error::NotConnected);
            }
            state.inbox.shut_read |= how != Shutdown::Write;
            state.inbox.shut_write |= how != Shutdown::Read;
        }
        self.endpoint.waker.wake(Readiness::all());
        Ok(())
    }

    /// The local address; the port is 0 when not bound.
    pub fn local_addr(&self) -> SocketAddr {
        let state = self.endpoint.state.lock();
        let any = match self.endpoint.family {
            Family::V4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        canonical(SocketAddr::new(state.addr.unwrap_or(any), state.port))
    }

    /// The peer.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.endpoint.state.lock().remote
    }

    /// The options.
    pub fn options(&self) -> DatagramOptions {
        self.endpoint.state.lock().options.clone()
    }

    /// Sets the options. Those that decide who may share a port count for the next `bind`.
    pub fn set_options(&self, options: DatagramOptions) {
        let mut state = self.endpoint.state.lock();
        state.options = options;
        if state.port != 0 {
            let bound = self.endpoint.bound(&state);
            self.stack.demux.udp.insert(state.port, bound, self.endpoint.clone());
        }
    }

    /// Joins a group.
    ///
    /// # Errors
    /// [`Error::AddressInUse`] when a member already; [`Error::TooManyMemberships`]; as
    /// [`Stack::join_group`].
    pub fn join(&self, iface: IfaceId, group: IpAddr) -> Result<()> {
        let mut state = self.endpoint.state.lock();
        if state.groups.contains(&(iface, group)) {
            return Err(Error::AddressInUse);
        }
        if state.groups.len() >= MAX_GROUPS {
            return Err(Error::TooManyMemberships);
        }
        state.groups.insert((iface, group));
        drop(state);
        let joined = self.stack.join_group(iface, group);
        if joined.is_err() {
            self.endpoint.state.lock().groups.remove(&(iface, group));
        }
        joined
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// [`Error::AddressNotAvailable`] when not a member.
    pub fn leave(&self, iface: IfaceId, group: IpAddr) -> Result<()> {
        if !self.endpoint.state.lock().groups.remove(&(iface, group)) {
            return Err(Error::AddressNotAvailable);
        }
        self.stack.leave_group(iface, group)
    }

    /// What the endpoint is ready for.
    pub fn readiness(&self) -> Readiness {
        self.endpoint.state.lock().inbox.readiness()
    }

    /// Registers who is told about readiness; one at a time.
    pub fn set_waker(&self, waker: Option<Arc<dyn Waker>>) {
        self.endpoint.waker.set(waker);
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let (port, groups) = {
            let mut state = self.endpoint.state.lock();
            state.closed = true;
            if let Some(tuple) = state.tuple.take() {
                self.stack.demux.udp_connected.remove(&tuple, Arc::as_ptr(&self.endpoint));
            }
            (std::mem::take(&mut state.port), std::mem::take(&mut state.groups))
        };
        if port != 0 {
            self.stack.demux.udp.remove(port, self.endpoint.id);
            self.stack.demux.udp_ports.lock().release(port, self.endpoint.id);
        }
        for (iface, group) in groups {
            // The interface's own count cannot be short of ours.
            let _ = self.stack.leave_group(iface, group);
        }
    }
}
