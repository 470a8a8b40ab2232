//! UDP (RFC 768): endpoints, what they send and what comes in for them.

mod socket;

pub use socket::UdpSocket;

use crate::datagram::{Datagram, DatagramOptions, Inbox, QueuedError};
use crate::demux::{Bound, FourTuple};
use crate::endpoint::{EndpointId, Family, IcmpError, Readiness, WakerCell};
use crate::error::Error;
use crate::iface::IfaceId;
use crate::ip::icmp::Quoted;
use crate::ip::{DstKind, IpInfo};
use crate::random::siphash;
use crate::stack::Stack;
use crate::wire::{checksum, icmp, protocol, udp};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Weak;

/// An endpoint as the stack holds it.
#[derive(Debug)]
pub(crate) struct UdpEndpoint {
    pub id: EndpointId,
    pub family: Family,
    pub stack: Weak<Stack>,
    pub state: Mutex<UdpState>,
    pub waker: WakerCell,
}

/// What the endpoint's lock protects.
#[derive(Debug)]
pub(crate) struct UdpState {
    /// Zero: not bound.
    pub port: u16,
    /// `None`: all addresses.
    pub addr: Option<IpAddr>,
    /// The address was chosen by `connect`, and goes when that is undone.
    pub addr_by_connect: bool,
    pub remote: Option<SocketAddr>,
    /// The tuple under which the endpoint is in the table of connected ones.
    pub tuple: Option<FourTuple>,
    pub options: DatagramOptions,
    pub inbox: Inbox,
    pub groups: HashSet<(IfaceId, IpAddr)>,
    pub closed: bool,
}

impl UdpEndpoint {
    fn bound(&self, state: &UdpState) -> Bound {
        Bound {
            id: self.id,
            family: self.family,
            addr: state.addr,
            v6_only: state.options.v6_only,
            iface: state.options.iface,
            reuse_addr: state.options.reuse_addr,
            reuse_port: state.options.reuse_port,
            exclusive: false,
        }
    }

    /// Queues a datagram; false when the endpoint does not want it or has no room.
    fn receive(&self, stack: &Stack, info: &IpInfo<'_>, from: SocketAddr, data: &[u8]) -> bool {
        {
            let mut state = self.state.lock();
            if state.closed || state.inbox.shut_read {
                return false;
            }
            // A connected endpoint hears its peer only, however it was found.
            if state.remote.is_some_and(|remote| remote != from) {
                return false;
            }
            let datagram = Datagram {
                from,
                to: info.dst,
                iface: info.iface.id,
                ttl: info.ttl,
                tos: info.tos,
                at: stack.now(),
                data: data.to_vec(),
            };
            let rcvbuf = state.options.rcvbuf;
            if !state.inbox.push(datagram, rcvbuf) {
                stack.stats().udp_rcvbuf_errors.inc();
                return true;
            }
        }
        stack.stats().udp_in_datagrams.inc();
        self.waker.wake(Readiness::IN);
        true
    }
}

impl Drop for UdpEndpoint {
    fn drop(&mut self) {
        if let Some(stack) = self.stack.upgrade() {
            stack.endpoint_gone();
        }
    }
}

impl Stack {
    pub(crate) fn input_udp(&self, info: &IpInfo<'_>, bytes: &[u8]) {
        let Some(d) = udp::Datagram::parse(bytes) else {
            self.stats().udp_in_errors.inc();
            return;
        };
        // Zero means none with IPv4, and is not allowed with IPv6 (RFC 8200, section 8.1).
        let unchecked = d.checksum == 0 && info.src.is_ipv4();
        let good = info.checksum_valid
            || unchecked
            || (d.checksum != 0 && checksum::verify(info.src, info.dst, protocol::UDP, d.whole));
        if !good {
            self.stats().udp_in_csum_errors.inc();
            self.stats().udp_in_errors.inc();
            return;
        }
        let from = SocketAddr::new(info.src, d.src_port);
        if info.kind != DstKind::Host {
            for e in self.demux.udp.matching(d.dst_port, info.dst, info.iface.id) {
                let wants = match info.kind {
                    DstKind::Group => {
                        let state = e.state.lock();
                        state.options.multicast_all
                            || state.groups.contains(&(info.iface.id, info.dst))
                    }
                    _ => true,
                };
                if wants {
                    e.receive(self, info, from, d.payload);
                }
            }
            return;
        }
        let tuple = FourTuple::new((info.dst, d.dst_port), (info.src, d.src_port));
        if let Some(e) = self.demux.udp_connected.get(&tuple)
            && e.receive(self, info, from, d.payload)
        {
            return;
        }
        let hash = siphash(self.keys.port, &tuple.words());
        let found = self.demux.udp.best(d.dst_port, info.dst, info.iface.id, hash);
        if found.is_some_and(|e| e.receive(self, info, from, d.payload)) {
            return;
        }
        self.stats().udp_no_ports.inc();
        match info.src {
            IpAddr::V4(_) => self.icmp_error(info, icmp::v4::UNREACHABLE, 3, 0),
            IpAddr::V6(_) => self.icmp_error(info, icmp::v6::UNREACHABLE, 4, 0),
        }
    }

    /// All bound UDP endpoints, for listings: id, local end (unspecified: all addresses), peer.
    pub fn udp_endpoints(&self) -> Vec<(EndpointId, SocketAddr, Option<SocketAddr>)> {
        let row = |e: &std::sync::Arc<UdpEndpoint>| {
            let state = e.state.lock();
            let any = match e.family {
                Family::V4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
                Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            };
            (e.id, SocketAddr::new(state.addr.unwrap_or(any), state.port), state.remote)
        };
        self.demux.udp.all().iter().map(row).collect()
    }

    pub(crate) fn udp_icmp_error(&self, quoted: &Quoted<'_>, error: &IcmpError) {
        let Some((src_port, dst_port)) = icmp::quoted_ports(quoted.transport) else { return };
        let to = SocketAddr::new(quoted.dst, dst_port);
        let tuple = FourTuple::new((quoted.src, src_port), (quoted.dst, dst_port));
        let endpoint = self.demux.udp_connected.get(&tuple).or_else(|| {
            // Errors name no interface; any will do.
            self.ifaces
                .read()
                .iter()
                .find_map(|i| self.demux.udp.best(src_port, quoted.src, i.id, 0))
        });
        let Some(endpoint) = endpoint else { return };
        {
            let mut state = endpoint.state.lock();
            // Without a connection, only who asks for errors gets them (RFC 1122, section 4.1.3.3, and
            // Linux); with one, errors that say that the peer is not there.
            let queue = state.options.receive_errors;
            let connected = state.remote == Some(to);
            let matters = error.fatal || error.error == Error::MessageSize;
            if !(queue || (connected && matters)) {
                return;
            }
            let data = quoted.transport.get(udp::HEADER..).unwrap_or_default().to_vec();
            state.inbox.fail(QueuedError { error: *error, to, data }, queue);
        }
        endpoint.waker.wake(Readiness::ERR | Readiness::IN | Readiness::OUT);
    }
}
