//! Raw sockets (`raw(7)`, RFC 3542): packets of one IP protocol.
//!
//! * [`RawSocket`]: the socket and what it is offered. [`send`]: packets it sends. [`options`]: its own options.
//! * [`remote`]: packets to and from other machines. [`socket`]: the socket as system calls see it.
//!
//! A raw socket sees every packet of its protocol besides whoever else gets it ([`super::wire`]).

mod options;
mod remote;
mod send;
mod socket;

use super::addr::Endpoint;
use super::common::Common;
use super::dgram::errors::{QueuedError, origin};
use super::inbox::Inbox;
use super::wire::Seen;
use super::{AF_INET, IPPROTO_ICMPV6, IPPROTO_TCP, Net, ip, packet};
use crate::bpf::packet::PacketInput;
use crate::errno::Errno;
use crate::socket::Options;
use crate::socket::options::DEFAULT_BUFFER;
use crate::sync::{Mutex, rank};
use options::IcmpFilter;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// `IPPROTO_RAW`: the program writes the IP header itself.
pub const IPPROTO_RAW: i32 = 255;

/// A raw socket.
pub struct RawSocket {
    this: Weak<RawSocket>,
    protocol: i32,
    common: Common,
    inbox: Inbox,
    sndbuf: AtomicUsize,
    /// `IP_HDRINCL`, `IPV6_HDRINCL`
    header_included: AtomicBool,
    /// `IPV6_CHECKSUM`: where in a packet its checksum is; negative for nowhere.
    checksum_at: AtomicI32,
    icmp_filter: IcmpFilter,
    setup: Mutex<Setup, { rank::LEAF }>,
    /// The endpoint with which other machines speak, if there are any.
    remote: OnceLock<netstack::RawSocket>,
}

/// Addresses.
#[derive(Debug, Clone, Copy, Default)]
struct Setup {
    /// What `bind(2)` was told.
    bound: Option<IpAddr>,
    /// The source address that `connect(2)` has chosen.
    source: Option<IpAddr>,
    peer: Option<Endpoint>,
    /// It was disconnected.
    deaf: bool,
}

impl Setup {
    fn local(&self) -> Option<IpAddr> {
        self.bound.or(self.source)
    }

    /// True if a packet between these addresses is for the socket.
    fn fits(&self, from: IpAddr, to: IpAddr) -> bool {
        let group = |ip: &IpAddr| ip.is_multicast();
        self.peer.is_none_or(|p| p.ip == from)
            && self.local().filter(|ip| !group(ip)).is_none_or(|ip| ip == to || group(&to))
    }
}

impl RawSocket {
    /// A socket of `family` for packets of `protocol`.
    pub fn new(family: i32, protocol: i32, net: &Arc<Net>, options: Options) -> Arc<RawSocket> {
        let icmp6 = family != AF_INET && protocol == IPPROTO_ICMPV6;
        let socket = Arc::new_cyclic(|this| RawSocket {
            this: this.clone(),
            protocol,
            common: Common::new(family, net, options),
            inbox: Inbox::default(),
            sndbuf: AtomicUsize::new(DEFAULT_BUFFER),
            header_included: AtomicBool::new(protocol == IPPROTO_RAW),
            // RFC 3542, section 3.1
            checksum_at: AtomicI32::new(if icmp6 { 2 } else { -1 }),
            icmp_filter: IcmpFilter::default(),
            setup: Mutex::default(),
            remote: OnceLock::new(),
        });
        net.wire.add(&socket.this, protocol == IPPROTO_TCP);
        socket.open_remote();
        socket
    }

    /// What all Internet sockets have.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// Its own address and the peer's; the port of its own is the protocol.
    pub fn endpoints(&self) -> (Endpoint, Option<Endpoint>) {
        let setup = *self.setup.lock();
        let ip = setup.local().unwrap_or(super::addr::any(self.common.family()));
        (Endpoint { ip, port: if setup.deaf { 0 } else { self.protocol as u16 } }, setup.peer)
    }

    /// Bytes that wait to be received, as they are charged, and packets that were dropped.
    pub fn queued(&self) -> (usize, usize) {
        self.inbox.queued()
    }

    fn takes(&self, header: &packet::Header) -> bool {
        i32::from(header.protocol) == self.protocol
            && header.from.is_ipv4() == (self.common.family() == AF_INET)
    }

    /// A packet has come: takes it if it is for this socket.
    pub fn offer(&self, seen: &Seen<'_>) -> bool {
        if !self.takes(&seen.header) {
            return false;
        }
        let (from, to) = (seen.header.from, seen.header.to);
        let (device, setup) = (self.common.device(), *self.setup.lock());
        if (device != 0 && device != seen.device) || !setup.fits(from, to) || setup.deaf {
            return false;
        }
        if to.is_multicast() {
            let v6 = to.is_ipv6();
            let all = if v6 { ip::MULTICAST_ALL6 } else { ip::MULTICAST_ALL };
            let all = self.common.ip.is_on(all);
            if !self.common.groups.hears(&(to, seen.device), from, all) {
                return false;
            }
        }
        let wanted = self.icmp_filter.passes(self.protocol, seen.payload);
        if wanted && self.checksum_fits(seen) {
            let data = if to.is_ipv4() { seen.packet } else { seen.payload };
            let input = PacketInput {
                whole: seen.packet,
                data: if to.is_ipv4() { 0 } else { seen.packet.len() - seen.payload.len() },
                device: seen.device,
                ..PacketInput::default()
            };
            let most = self.common.filter.admits(&input);
            if most == 0 {
                return true;
            }
            let data = data.get(..most).unwrap_or(data);
            // Whatever it is, what lies where ports would be is told as the port (`IP_RECVORIGDSTADDR`).
            let port = seen.payload.get(2..4).and_then(|b| b.first_chunk()).copied();
            let port = port.map_or(0, u16::from_be_bytes);
            let (from, to) = (Endpoint { ip: from, port: 0 }, Endpoint { ip: to, port });
            self.inbox.push(seen.datagram(from, to, data), self.common.options.rcvbuf());
        }
        true
    }

    fn checksum_fits(&self, seen: &Seen<'_>) -> bool {
        if self.common.family() == AF_INET || self.checksum_at.load(Ordering::Relaxed) < 0 {
            return true;
        }
        let header = &seen.header;
        packet::transport_checksum(header.from, header.to, header.protocol, seen.payload) == 0
    }

    /// A packet that may be this socket's was answered with an error.
    pub fn refused(&self, seen: &Seen<'_>, errno: Errno, icmp: (u8, u8)) {
        // What the socket has sent comes from its address and goes to its peer.
        if self.takes(&seen.header) && self.setup.lock().fits(seen.header.to, seen.header.from) {
            let whole = self.header_included.load(Ordering::Relaxed);
            let data = if whole { seen.packet } else { seen.payload };
            let to = seen.header.to;
            self.returned(errno, icmp, to, to, data);
        }
    }

    /// An error came back for a packet to `to`. Unless the socket asked for all of them (`IP_RECVERR`) it is
    /// told when it is connected, of what will not pass.
    fn returned(&self, errno: Errno, icmp: (u8, u8), to: IpAddr, offender: IpAddr, data: &[u8]) {
        let v6 = self.common.family() != AF_INET;
        let queued = self.common.ip.is_on(if v6 { ip::RECVERR6 } else { ip::RECVERR });
        let connected = self.setup.lock().peer.is_some();
        let lasting = matches!(errno, Errno::ECONNREFUSED | Errno::ENOPROTOOPT | Errno::EPROTO);
        if queued {
            let (to, origin) = (Endpoint { ip: to, port: 0 }, origin(to));
            let (data, offender) = (data.to_vec(), Some(offender));
            self.inbox.push_error(QueuedError { errno, to, origin, icmp, offender, info: 0, data });
        }
        if queued || (connected && lasting) {
            self.inbox.fail(errno);
        }
    }
}
