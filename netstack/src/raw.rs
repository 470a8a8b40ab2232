//! Raw endpoints (raw(7)) and ping endpoints (`IPPROTO_ICMP` datagrams, icmp(7)).

use crate::datagram::{Datagram, DatagramOptions, Inbox, QueuedError};
use crate::demux::check_family;
use crate::endpoint::{EndpointId, Family, IcmpError, Readiness, Waker, WakerCell};
use crate::error::{Error, Result};
use crate::ip::IpInfo;
use crate::ip::icmp::Quoted;
use crate::ip::output::{IpMeta, NextHop};
use crate::stack::Stack;
use crate::wire::icmp::{Message, v4, v6};
use crate::wire::{checksum, ipv4, ipv6, protocol};
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

/// What a raw endpoint takes and sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawKind {
    /// Packets of one IP protocol; the caller writes what follows the IP header.
    Protocol(u8),
    /// Echo requests and their replies; the stack chooses the identifier and the checksum.
    Ping,
}

/// An endpoint as the stack holds it.
#[derive(Debug)]
pub(crate) struct RawEndpoint {
    id: EndpointId,
    family: Family,
    kind: RawKind,
    stack: Weak<Stack>,
    state: Mutex<RawState>,
    waker: WakerCell,
}

#[derive(Debug)]
struct RawState {
    addr: Option<IpAddr>,
    remote: Option<IpAddr>,
    /// Of ping endpoints; zero until the first use.
    ident: u16,
    options: DatagramOptions,
    /// The caller writes the IPv4 header, too (`IP_HDRINCL`).
    header_included: bool,
    inbox: Inbox,
}

/// A raw or ping endpoint. Dropping it closes it.
#[derive(Debug)]
pub struct RawSocket {
    stack: Arc<Stack>,
    endpoint: Arc<RawEndpoint>,
}

impl Drop for RawEndpoint {
    fn drop(&mut self) {
        if let Some(stack) = self.stack.upgrade() {
            stack.endpoint_gone();
        }
    }
}

impl RawEndpoint {
    /// Queues a packet if the endpoint's addresses fit.
    fn receive(&self, stack: &Stack, info: &IpInfo<'_>, ident: u16, data: &[u8]) -> bool {
        {
            let mut state = self.state.lock();
            let fits = state.addr.is_none_or(|a| a == info.dst)
                && state.remote.is_none_or(|a| a == info.src)
                && state.options.iface.is_none_or(|i| i == info.iface.id)
                && (self.kind != RawKind::Ping || state.ident == ident);
            if !fits || state.inbox.shut_read {
                return false;
            }
            let datagram = Datagram {
                from: SocketAddr::new(info.src, 0),
                to: info.dst,
                iface: info.iface.id,
                ttl: info.ttl,
                tos: info.tos,
                at: stack.now(),
                data: data.to_vec(),
            };
            let rcvbuf = state.options.rcvbuf;
            if !state.inbox.push(datagram, rcvbuf) {
                return true;
            }
        }
        self.waker.wake(Readiness::IN);
        true
    }

    fn takes(&self, v6: bool) -> bool {
        (self.family == Family::V6) == v6
    }
}

impl Stack {
    /// A new raw endpoint. Whether the caller may have one is the caller's to check.
    ///
    /// # Errors
    /// [`Error::NoBuffers`] when there are too many endpoints.
    pub fn raw(&self, family: Family, kind: RawKind) -> Result<RawSocket> {
        let stack = self.arc().ok_or(Error::Invalid)?;
        let state = RawState {
            addr: None,
            remote: None,
            ident: 0,
            options: DatagramOptions::new(self.config.datagram_rcvbuf),
            header_included: false,
            inbox: Inbox::new(),
        };
        let endpoint = Arc::new(RawEndpoint {
            id: self.new_endpoint()?,
            family,
            kind,
            stack: Arc::downgrade(&stack),
            state: Mutex::new(state),
            waker: WakerCell::default(),
        });
        self.demux.raw.write().push(endpoint.clone());
        Ok(RawSocket { stack, endpoint })
    }

    fn raw_endpoints(&self, want: impl Fn(&RawEndpoint) -> bool) -> Vec<Arc<RawEndpoint>> {
        let all = self.demux.raw.read();
        if all.is_empty() {
            return Vec::new();
        }
        all.iter().filter(|e| want(e)).cloned().collect()
    }

    /// Copies a packet to the raw endpoints of its protocol; true when there is one. IPv4's get the header,
    /// too.
    pub(crate) fn input_raw(&self, info: &IpInfo<'_>, protocol: u8, payload: &[u8]) -> bool {
        let v6 = info.src.is_ipv6();
        let want = |e: &RawEndpoint| e.kind == RawKind::Protocol(protocol) && e.takes(v6);
        let mut taken = false;
        for e in self.raw_endpoints(want) {
            taken |= e.receive(self, info, 0, if v6 { payload } else { info.packet });
        }
        taken
    }

    /// An echo reply for the ping endpoints.
    pub(crate) fn input_ping(&self, info: &IpInfo<'_>, m: &Message<'_>, bytes: &[u8]) {
        let v6 = info.src.is_ipv6();
        for e in self.raw_endpoints(|e| e.kind == RawKind::Ping && e.takes(v6)) {
            e.receive(self, info, m.ident(), bytes);
        }
    }

    pub(crate) fn raw_icmp_error(&self, quoted: &Quoted<'_>, error: &IcmpError) {
        let v6 = quoted.dst.is_ipv6();
        let ping = [protocol::ICMP, protocol::ICMPV6].contains(&quoted.protocol);
        let ident = Message::parse(quoted.transport).map(|m| m.ident());
        let want = |e: &RawEndpoint| {
            e.takes(v6)
                && match e.kind {
                    RawKind::Protocol(p) => p == quoted.protocol,
                    RawKind::Ping => ping,
                }
        };
        for e in self.raw_endpoints(want) {
            {
                let mut state = e.state.lock();
                let queue = state.options.receive_errors;
                let ours = match e.kind {
                    RawKind::Ping => ident == Some(state.ident),
                    RawKind::Protocol(_) => state.remote.is_none_or(|r| r == quoted.dst),
                };
                if !ours || !(queue || (state.remote.is_some() && error.fatal)) {
                    continue;
                }
                let to = SocketAddr::new(quoted.dst, 0);
                let data = quoted.transport.to_vec();
                state.inbox.fail(QueuedError { error: *error, to, data }, queue);
            }
            e.waker.wake(Readiness::ERR | Readiness::IN | Readiness::OUT);
        }
    }
}

impl RawSocket {
    /// The endpoint's name.
    pub fn id(&self) -> EndpointId {
        self.endpoint.id
    }

    /// Limits the endpoint to a local address; for ping endpoints the port is the identifier.
    ///
    /// # Errors
    /// [`Error::AddressNotAvailable`], [`Error::AddressInUse`] when another ping endpoint has the
    /// identifier, [`Error::Family`].
    pub fn bind(&self, addr: SocketAddr) -> Result<()> {
        let addr = check_family(self.endpoint.family, true, addr)?;
        let any = addr.ip().is_unspecified();
        if !any && !addr.ip().is_multicast() && !self.stack.is_local(addr.ip()) {
            return Err(Error::AddressNotAvailable);
        }
        if self.endpoint.kind == RawKind::Ping && addr.port() != 0 {
            self.take_ident(Some(addr.port()))?;
        }
        self.endpoint.state.lock().addr = (!any).then_some(addr.ip());
        Ok(())
    }

    fn take_ident(&self, want: Option<u16>) -> Result<u16> {
        // The list is locked for writing so that two cannot choose the same.
        let all = self.stack.demux.raw.write();
        let used = |ident: u16| {
            all.iter().any(|e| {
                !Arc::ptr_eq(e, &self.endpoint)
                    && e.kind == RawKind::Ping
                    && e.family == self.endpoint.family
                    && e.state.lock().ident == ident
            })
        };
        let ident = match want {
            Some(ident) if used(ident) => return Err(Error::AddressInUse),
            Some(ident) => ident,
            None => {
                let start = self.stack.random.next_u64() as u16;
                let free = (0..=u16::MAX).map(|n| start.wrapping_add(n));
                free.into_iter().find(|&i| i != 0 && !used(i)).ok_or(Error::AddressInUse)?
            }
        };
        self.endpoint.state.lock().ident = ident;
        Ok(ident)
    }

    /// Sets the peer.
    ///
    /// # Errors
    /// [`Error::Family`] or what a route lacks.
    pub fn connect(&self, remote: SocketAddr) -> Result<()> {
        let remote = check_family(self.endpoint.family, true, remote)?;
        let mut state = self.endpoint.state.lock();
        let route = self.stack.find_route(remote.ip(), state.addr, state.options.iface)?;
        state.addr = Some(route.src);
        state.remote = Some(remote.ip());
        Ok(())
    }

    /// Sends: what follows the IP header, or with `set_header_included` an IPv4 packet, or for ping
    /// endpoints an echo request whose identifier and checksum are replaced.
    ///
    /// # Errors
    /// A pending error first; [`Error::DestinationRequired`], [`Error::MessageSize`], [`Error::Invalid`] for
    /// what is no echo request or no IPv4 packet, or what a route lacks.
    pub fn send(&self, data: &[u8], to: Option<IpAddr>) -> Result<usize> {
        let ident = match self.endpoint.kind {
            RawKind::Ping => {
                let have = self.endpoint.state.lock().ident;
                if have == 0 { self.take_ident(None)? } else { have }
            }
            RawKind::Protocol(_) => 0,
        };
        let (to, addr, options, header_included) = {
            let mut state = self.endpoint.state.lock();
            if let Some(error) = state.inbox.error.take() {
                return Err(error);
            }
            let to = to.or(state.remote).ok_or(Error::DestinationRequired)?;
            (to, state.addr, state.options.clone(), state.header_included)
        };
        let to = check_family(self.endpoint.family, true, SocketAddr::new(to, 0))?.ip();
        let route = self.stack.find_route(to, addr, options.iface)?;
        if route.next == NextHop::Broadcast && !options.broadcast {
            return Err(Error::AccessDenied);
        }
        let v6 = to.is_ipv6();
        let header = if v6 { ipv6::HEADER } else { ipv4::HEADER };
        if data.len() + header > ipv4::MAX {
            return Err(Error::MessageSize);
        }
        let mut frame = self.stack.frame(data.len());
        if header_included && !v6 {
            let packet = ipv4::Packet::parse(data, false).ok_or(Error::Invalid)?;
            if data.len() > route.mtu {
                return Err(Error::MessageSize);
            }
            frame.extend(packet.whole);
            let h = packet.header;
            let src = if h.src.is_unspecified() { route.src } else { h.src.into() };
            let IpAddr::V4(src) = src else { return Err(Error::Family) };
            let options = packet.options.to_vec();
            let payload_len = packet.payload.len();
            ipv4::Header { src, ..h }.emit(frame.bytes_mut(), &options, payload_len);
            self.stack.send_on(&route.iface, route.next, false, frame);
            self.stack.flush();
            return Ok(data.len());
        }
        frame.extend(data);
        let protocol = match self.endpoint.kind {
            RawKind::Protocol(p) => p,
            RawKind::Ping => {
                let echo = if v6 { v6::ECHO } else { v4::ECHO };
                if data.len() < 8 || data.first() != Some(&echo) || data.get(1) != Some(&0) {
                    return Err(Error::Invalid);
                }
                crate::wire::put(frame.bytes_mut(), 4, &ident.to_be_bytes());
                if v6 { protocol::ICMPV6 } else { protocol::ICMP }
            }
        };
        let ping = self.endpoint.kind == RawKind::Ping;
        if v6 && protocol == protocol::ICMPV6 && data.len() >= 4 {
            // Always the kernel's for ICMPv6 (RFC 3542, section 3.1).
            crate::wire::put(frame.bytes_mut(), 2, &[0, 0]);
            let sum = checksum::transport(route.src, to, protocol, frame.bytes());
            crate::wire::put(frame.bytes_mut(), 2, &sum.to_be_bytes());
        } else if ping {
            crate::wire::put(frame.bytes_mut(), 2, &[0, 0]);
            let sum = checksum::checksum(frame.bytes());
            crate::wire::put(frame.bytes_mut(), 2, &sum.to_be_bytes());
        }
        let multicast = matches!(route.next, NextHop::Group(_));
        let ttl = options.ttl.unwrap_or(self.stack.config.ttl);
        let meta = IpMeta {
            src: route.src,
            dst: to,
            protocol,
            ttl: if multicast { options.multicast_ttl } else { ttl },
            tos: options.tos,
            dont_fragment: options.dont_fragment,
            router_alert: false,
        };
        if options.dont_fragment && header + data.len() > route.mtu {
            return Err(Error::MessageSize);
        }
        self.stack.send_ip(&route.iface, route.next, route.mtu, &meta, frame);
        self.stack.flush();
        Ok(data.len())
    }

    /// Takes the next packet: for IPv4 raw endpoints with its IP header.
    ///
    /// # Errors
    /// A pending error first; [`Error::WouldBlock`].
    pub fn recv(&self) -> Result<Datagram> {
        self.endpoint.state.lock().inbox.pop(false)
    }

    /// The oldest queued error (`MSG_ERRQUEUE`).
    pub fn recv_error(&self) -> Option<QueuedError> {
        self.endpoint.state.lock().inbox.pop_error()
    }

    /// Takes the pending error (`SO_ERROR`).
    pub fn take_error(&self) -> Option<Error> {
        self.endpoint.state.lock().inbox.error.take()
    }

    /// The identifier of a ping endpoint; zero before the first use.
    pub fn ident(&self) -> u16 {
        self.endpoint.state.lock().ident
    }

    /// The caller writes the IPv4 header (`IP_HDRINCL`).
    pub fn set_header_included(&self, on: bool) {
        self.endpoint.state.lock().header_included = on;
    }

    /// The options.
    pub fn options(&self) -> DatagramOptions {
        self.endpoint.state.lock().options.clone()
    }

    /// Sets the options.
    pub fn set_options(&self, options: DatagramOptions) {
        self.endpoint.state.lock().options = options;
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

impl Drop for RawSocket {
    fn drop(&mut self) {
        self.stack.demux.raw.write().retain(|e| !Arc::ptr_eq(e, &self.endpoint));
    }
}
