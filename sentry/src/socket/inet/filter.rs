//! What the packet filter (`netstack::filter`) does to the traffic of sockets.
//!
//! Sockets make no packets among themselves, and few with a proxy, so that the filter is shown one for each event
//! that rules can decide about: the SYN of a connection, its answer and the acknowledgement of that when a
//! connection is made, and every datagram. What the rules say holds for the connection from then on; its data is
//! not looked at again. Without rules all of this is one load.

use super::addr::Endpoint;
use super::interface::LOOPBACK;
use super::net::Route;
use super::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, Net};
use crate::errno::Errno;
use netstack::filter::conntrack::{Tracked, Tuple};
use netstack::filter::packet::{Device, Ends, Packet};
use netstack::filter::{AddressType, Fate, Hook, Refusal, Surroundings};
use std::net::{IpAddr, SocketAddr};

/// Flags of TCP: SYN.
pub const SYN: u16 = 2;
/// RST and ACK.
pub const RST_ACK: u16 = 0x14;
/// SYN and ACK.
pub const SYN_ACK: u16 = 0x12;
/// ACK.
pub const ACK: u16 = 0x10;

/// Something that a socket sends.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    /// From where.
    pub from: Endpoint,
    /// To where.
    pub to: Endpoint,
    /// `IPPROTO_*`
    pub protocol: i32,
    /// Flags of TCP, or type and code of ICMP.
    pub detail: u16,
    /// Time to live and type of service.
    pub header: (u8, u8),
    /// The data.
    pub data: &'a [u8],
    /// User and group of the sender.
    pub owner: Option<(u32, u32)>,
    /// `SO_MARK`
    pub mark: u32,
    /// Where it is going.
    pub route: Route,
}

/// Something that has passed.
#[derive(Clone)]
pub struct Passed {
    /// From where, as the receiver sees it.
    pub from: Endpoint,
    /// To where.
    pub to: Endpoint,
    /// The way there.
    pub route: Route,
    /// Its connection.
    pub connection: Option<Tracked>,
}

/// Something that has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// By rules for what is sent, of which the sender knows at once.
    pub leaving: bool,
    /// What the sender is told.
    pub refusal: Option<Refusal>,
}

impl Stopped {
    /// The error that a socket gets for a refusal.
    pub fn errno(&self, v6: bool) -> Option<Errno> {
        self.refusal.map(|refusal| match (refusal, v6) {
            (Refusal::Reset, _) => Errno::ECONNREFUSED,
            (Refusal::Icmp(3, 0 | 6 | 9 | 11), false) => Errno::ENETUNREACH,
            (Refusal::Icmp(3, 2), false) => Errno::ENOPROTOOPT,
            (Refusal::Icmp(3, 3), false) | (Refusal::Icmp(1, 4), true) => Errno::ECONNREFUSED,
            (Refusal::Icmp(1, 0), true) => Errno::ENETUNREACH,
            (Refusal::Icmp(1, 1 | 5 | 6), true) => Errno::EACCES,
            _ => Errno::EHOSTUNREACH,
        })
    }
}

/// Nanoseconds of the filter's clock.
pub fn now() -> u64 {
    platform::host::time::Clock::Monotonic.now()
}

fn socket_addr(at: Endpoint) -> SocketAddr {
    SocketAddr::new(at.ip, at.port)
}

fn endpoint(at: SocketAddr) -> Endpoint {
    Endpoint::new(at.ip(), at.port())
}

impl Surroundings for Net {
    fn address_type(&self, ip: IpAddr) -> AddressType {
        match ip {
            _ if ip.is_unspecified() => AddressType::Unspecified,
            _ if ip.is_multicast() => AddressType::Multicast,
            _ if self.is_local(ip) => AddressType::Local,
            _ if self.is_broadcast(ip) => AddressType::Broadcast,
            _ => AddressType::Unicast,
        }
    }

    fn device_address(&self, device: u32, to: IpAddr) -> Option<IpAddr> {
        self.with_device(device, |i| i.source_for(to)).flatten()
    }

    fn random(&self) -> u32 {
        crate::mm::random_u64() as u32
    }

    fn log(&self, line: &str) {
        // The rule's prefix is the guest's: no line of its own in the log.
        let line = line.replace(char::is_control, "?");
        tracing::info!(target: "netfilter", "{line}");
    }
}

impl Net {
    /// True if the filter has rules.
    pub fn is_filtered(&self) -> bool {
        self.filter.is_active()
    }

    fn device_of(&self, index: u32) -> Option<Device> {
        self.with_device(index, |i| Device::new(i.index, &i.name, i.kind))
    }

    /// Leads what a socket sends past the rules; if it stays here, up to its receiver.
    pub fn filter_sent(&self, sent: &Sent<'_>) -> Result<Passed, Stopped> {
        let unfiltered =
            || Passed { from: sent.from, to: sent.to, route: sent.route, connection: None };
        let ends = Ends {
            from: socket_addr(sent.from),
            to: socket_addr(sent.to),
            protocol: sent.protocol as u8,
            detail: sent.detail,
        };
        let (ttl, tos) = sent.header;
        let Some(mut packet) = Packet::build(&ends, ttl, tos, sent.data, now()) else {
            return Ok(unfiltered());
        };
        (packet.owner, packet.mark) = (sent.owner, sent.mark);
        packet.output = self.device_of(sent.route.device);
        let pass = |packet: &mut Packet, hook| match self.filter.pass(hook, packet, self) {
            Fate::Accept => Ok(()),
            Fate::Drop(refusal) => {
                let leaving = matches!(hook, Hook::Output | Hook::Postrouting);
                let refusal = refusal.filter(|refusal| self.filter_refusal(packet, *refusal));
                Err(Stopped { leaving, refusal })
            }
        };
        pass(&mut packet, Hook::Output)?;
        let mut route = sent.route;
        let to = packet.destination();
        if to != sent.to.ip {
            let unreachable = Stopped { leaving: true, refusal: None };
            route = self.route(to, 0).map_err(|_| unreachable)?;
            packet.output = self.device_of(route.device);
        }
        pass(&mut packet, Hook::Postrouting)?;
        if route.local {
            (packet.input, packet.output, packet.owner) = (self.device_of(LOOPBACK), None, None);
            pass(&mut packet, Hook::Prerouting)?;
            pass(&mut packet, Hook::Input)?;
        }
        let (from, to) = packet.ends();
        let connection = packet.connection.take();
        let echo = sent.protocol != IPPROTO_TCP && packet.ports().is_none();
        let to = if echo { Endpoint::new(to.ip(), sent.to.port) } else { endpoint(to) };
        Ok(Passed { from: endpoint(from), to, route, connection })
    }

    /// True if the rules let the word of a refusal get back to who sent the packet.
    fn filter_refusal(&self, refused: &Packet, refusal: Refusal) -> bool {
        let (from, to) = refused.ends();
        let (protocol, detail, data) = match refusal {
            Refusal::Reset => (IPPROTO_TCP, RST_ACK, &[][..]),
            Refusal::Icmp(kind, code) => {
                let icmp = if refused.is_v6() { IPPROTO_ICMPV6 } else { IPPROTO_ICMP };
                (icmp, u16::from_be_bytes([kind, code]), refused.bytes())
            }
        };
        let ends = Ends {
            from: SocketAddr::new(to.ip(), if protocol == IPPROTO_TCP { to.port() } else { 0 }),
            to: SocketAddr::new(from.ip(), if protocol == IPPROTO_TCP { from.port() } else { 0 }),
            protocol: protocol as u8,
            detail,
        };
        let Some(mut packet) = Packet::build(&ends, 64, 0, data, now()) else { return false };
        let device = self.device_of(LOOPBACK);
        [Hook::Output, Hook::Postrouting, Hook::Prerouting, Hook::Input].into_iter().all(|hook| {
            let leaves = matches!(hook, Hook::Output | Hook::Postrouting);
            (packet.output, packet.input) = if leaves { (device, None) } else { (None, device) };
            self.filter.pass(hook, &mut packet, self) == Fate::Accept
        })
    }

    /// Leads what came by a device past the rules for what is received. `data` and the ends are the packet's.
    pub fn filter_received(
        &self,
        (from, to): (Endpoint, Endpoint),
        (protocol, detail): (i32, u16),
        device: u32,
        data: &[u8],
    ) -> Result<Passed, Stopped> {
        let ends =
            Ends { from: socket_addr(from), to: socket_addr(to), protocol: protocol as u8, detail };
        let route = Route { source: to.ip, device, local: true };
        let Some(mut packet) = Packet::build(&ends, 64, 0, data, now()) else {
            return Ok(Passed { from, to, route, connection: None });
        };
        packet.input = self.device_of(device);
        for hook in [Hook::Prerouting, Hook::Input] {
            if let Fate::Drop(refusal) = self.filter.pass(hook, &mut packet, self) {
                return Err(Stopped { leaving: false, refusal });
            }
        }
        let (from, to) = packet.ends();
        let connection = packet.connection.take();
        Ok(Passed { from: endpoint(from), to: endpoint(to), route, connection })
    }

    /// Leads the other segments of a handshake whose SYN has passed past the rules. With `refused` it is the
    /// reset of a port that nobody listens at.
    pub fn filter_handshake(&self, syn: &Sent<'_>, passed: &Passed, refused: bool) -> bool {
        let (client, server) = (passed.from, passed.to);
        let detail = if refused { RST_ACK } else { SYN_ACK };
        if !passed.route.local {
            let device = passed.route.device;
            let ends = (server, client);
            return self.filter_received(ends, (IPPROTO_TCP, detail), device, &[]).is_ok()
                && self.filter_sent(&Sent { detail: ACK, ..*syn }).is_ok();
        }
        let Ok(route) = self.route(client.ip, 0) else { return false };
        let answer = Sent { from: server, to: client, detail, owner: None, mark: 0, route, ..*syn };
        self.filter_sent(&answer).is_ok()
            && (refused || self.filter_sent(&Sent { detail: ACK, ..*syn }).is_ok())
    }

    /// Leads the handshake of a connection that another machine makes past the rules: where it goes, or what the other
    /// machine is told, if anything.
    pub fn filter_connection(
        &self,
        peer: Endpoint,
        local: Endpoint,
        device: u32,
    ) -> Result<Endpoint, Option<Refusal>> {
        let received =
            |detail| self.filter_received((peer, local), (IPPROTO_TCP, detail), device, &[]);
        let to = received(SYN).map_err(|stopped| stopped.refusal)?.to;
        let route = Route { source: to.ip, device, local: false };
        let answer = Sent {
            from: to,
            to: peer,
            protocol: IPPROTO_TCP,
            detail: SYN_ACK,
            header: (64, 0),
            data: &[],
            owner: None,
            mark: 0,
            route,
        };
        self.filter_sent(&answer).map_err(|_| None)?;
        received(ACK).map(|_| to).map_err(|_| None)
    }

    /// As [`Net::filter_connection`], for a connection that is made already.
    pub fn filter_accepted(
        &self,
        peer: Endpoint,
        local: Endpoint,
        device: u32,
    ) -> Option<Endpoint> {
        self.filter_connection(peer, local, device).ok()
    }

    /// A TCP connection between two endpoints is over.
    pub fn filter_closed(&self, local: Endpoint, peer: Endpoint, reset: bool) {
        if self.is_filtered() {
            self.filter.conntrack.closed(&tuple(local, peer), reset, now());
        }
    }

    /// Where a connection went before it was translated (`SO_ORIGINAL_DST`), as its sockets see it.
    pub fn original_destination(&self, local: Endpoint, peer: Endpoint) -> Option<Endpoint> {
        let found = self.filter.conntrack.find(&tuple(local, peer), now());
        found.map(|(entry, _)| endpoint(entry.original.to))
    }
}

fn tuple(from: Endpoint, to: Endpoint) -> Tuple {
    Tuple { from: socket_addr(from), to: socket_addr(to), protocol: IPPROTO_TCP as u8 }
}
