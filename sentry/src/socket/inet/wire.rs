//! Who looks at packets: raw sockets and packet sockets.
//!
//! Sockets of one sandbox are connected by queues, so that there are no packets unless somebody looks. The queues ask
//! [`Wire::is_watched`], and only then make the packet that Linux would have sent over the loopback interface.
//! What raw sockets send to this machine goes the other way, from a packet to the queues:
//! [`Net::loop_back`].

use super::addr::Endpoint;
use super::inbox::Datagram;
use super::interface::LOOPBACK;
use super::net::Net;
use super::packet::{self, Header, UDP_HEADER};
use super::raw::RawSocket;
use super::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use crate::errno::Errno;
use crate::socket::packet::PacketSocket;
use crate::socket::packet::frame::Checksum;
use crate::socket::packet::taps::Taps;
use crate::sync::{RwLock, rank};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Most bytes of a packet that an error quotes (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4).
const QUOTE: [usize; 2] = [548, 1232];

/// The sockets that look at the packets of a network.
#[derive(Default)]
pub struct Wire {
    raw: RwLock<Vec<Weak<RawSocket>>, { rank::LEAF }>,
    /// Packet sockets.
    pub taps: Arc<Taps>,
    watchers: AtomicUsize,
    /// How many of them look at TCP.
    segments: AtomicUsize,
    secret: RandomState,
}

/// A packet that somebody looks at.
pub struct Seen<'a> {
    /// What its header says.
    pub header: Header,
    /// All of it, from the IP header on.
    pub packet: &'a [u8],
    /// What follows the header.
    pub payload: &'a [u8],
    /// Index of the interface.
    pub device: u32,
}

impl Wire {
    /// True if packets are worth making.
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) != 0
    }

    /// True if the segments of TCP are.
    pub fn shows_segments(&self) -> bool {
        self.segments.load(Ordering::Relaxed) != 0
    }

    /// A number that nobody can guess, the same for the same object.
    pub fn secret_of(&self, object: usize) -> u32 {
        self.secret.hash_one(object) as u32
    }

    /// A raw socket looks from now on; `segments`: at TCP.
    pub fn add(&self, socket: &Weak<RawSocket>, segments: bool) {
        self.raw.write().push(socket.clone());
        self.watchers.fetch_add(1, Ordering::Relaxed);
        self.segments.fetch_add(usize::from(segments), Ordering::Relaxed);
    }

    /// It does not any more.
    pub fn remove(&self, socket: &Weak<RawSocket>, segments: bool) {
        let mut raw = self.raw.write();
        let before = raw.len();
        raw.retain(|s| !s.ptr_eq(socket));
        if raw.len() < before {
            self.watchers.fetch_sub(1, Ordering::Relaxed);
            self.segments.fetch_sub(usize::from(segments), Ordering::Relaxed);
        }
    }

    /// A packet socket looks from now on.
    pub fn add_tap(&self, socket: &Weak<PacketSocket>) {
        self.taps.add(socket);
        self.watchers.fetch_add(1, Ordering::Relaxed);
        self.segments.fetch_add(1, Ordering::Relaxed);
    }

    /// It does not any more.
    pub fn remove_tap(&self, socket: &Weak<PacketSocket>) {
        if self.taps.remove(socket) {
            self.watchers.fetch_sub(1, Ordering::Relaxed);
            self.segments.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Every raw socket.
    pub fn raw_sockets(&self) -> Vec<Arc<RawSocket>> {
        self.raw.read().iter().filter_map(Weak::upgrade).collect()
    }

    /// A packet has gone over the loopback interface and come in: who looks at it sees it. True if a raw socket took
    /// it.
    pub fn show(&self, packet: &[u8]) -> bool {
        self.taps.show_packet(packet, Checksum::Unknown);
        self.show_raw(packet, LOOPBACK)
    }

    /// The same of one whose transport checksum is left to the interface.
    pub fn show_unfinished(&self, packet: &[u8]) -> bool {
        self.taps.show_packet(packet, Checksum::Missing);
        self.show_raw(packet, LOOPBACK)
    }

    /// Raw sockets see a packet that has come by an interface. True if one took it.
    fn show_raw(&self, packet: &[u8], device: u32) -> bool {
        let Some((header, payload)) = packet::parse(packet) else { return false };
        let seen = Seen { header, packet, payload, device };
        let mut taken = false;
        for socket in self.raw_sockets() {
            taken |= socket.offer(&seen);
        }
        taken
    }

    /// A packet of some raw socket found nobody.
    fn fail(&self, seen: &Seen<'_>, errno: Errno, icmp: (u8, u8)) {
        for socket in self.raw_sockets() {
            socket.refused(seen, errno, icmp);
        }
    }
}

impl Net {
    /// A packet to this machine, which did not come out of a queue: it is shown, and what it says is done.
    /// TCP is between queues only, so that a segment from here meets no connection.
    pub fn loop_back(&self, packet: &[u8]) {
        self.wire.taps.show_packet(packet, Checksum::Unknown);
        self.take_in(packet);
    }

    /// The same once packet sockets have seen it.
    pub fn take_in(&self, packet: &[u8]) {
        let taken = self.wire.show_raw(packet, LOOPBACK);
        let Some((header, payload)) = packet::parse(packet) else { return };
        let seen = Seen { header, packet, payload, device: LOOPBACK };
        // Groups and broadcasts get no answers.
        let alone = !header.to.is_multicast() && !self.is_broadcast(header.to);
        match i32::from(header.protocol) {
            IPPROTO_ICMP if header.from.is_ipv4() => self.icmp(&seen, 8, 0, alone),
            IPPROTO_ICMPV6 if header.from.is_ipv6() => self.icmp(&seen, 128, 129, alone),
            IPPROTO_UDP => self.datagram(&seen, alone),
            IPPROTO_TCP if alone => {
                let answer = packet::tcp_reset(&header, payload);
                if let Some(segment) = answer.filter(|_| !self.has_connection(&seen)) {
                    let answer = Header { tos: 0, ..header.answer(self.ttl()) };
                    self.wire.show(&answer.packet(&segment));
                }
            }
            _ if alone && !taken => {
                let icmp = if header.from.is_ipv4() { (3, 2) } else { (4, 1) };
                self.refuse(&seen, Errno::ENOPROTOOPT, icmp);
            }
            _ => {}
        }
    }

    fn ttl(&self) -> u8 {
        self.settings.ttl.load(Ordering::Relaxed) as u8
    }

    fn icmp(&self, seen: &Seen<'_>, request: u8, reply: u8, alone: bool) {
        let header = &seen.header;
        let sum = match header.from.is_ipv4() {
            true => packet::checksum(&[seen.payload]),
            false => packet::transport_checksum(
                header.from,
                header.to,
                IPPROTO_ICMPV6 as u8,
                seen.payload,
            ),
        };
        let Some((fixed, data)) = seen.payload.split_first_chunk::<8>() else { return };
        let (kind, word) = (fixed[0], [fixed[4], fixed[5], fixed[6], fixed[7]]);
        if sum != 0 {
            return;
        }
        if kind == request && alone {
            let message = packet::icmp(header.to, header.from, (reply, 0), word, data);
            self.loop_back(&header.answer(self.ttl()).packet(&message));
        } else if kind == reply {
            let [v4, v6] = &self.echo;
            let ports = if header.from.is_ipv4() { v4 } else { v6 };
            let identifier = u16::from_be_bytes([word[0], word[1]]);
            let to = Endpoint { ip: header.to, port: identifier };
            let from = Endpoint { ip: header.from, port: 0 };
            if let Some(socket) = ports.find(to, from, seen.device, |_| true) {
                socket.take(seen.datagram(from, to, seen.payload));
            }
        }
    }

    fn datagram(&self, seen: &Seen<'_>, alone: bool) {
        let Some(fixed) = seen.payload.first_chunk::<UDP_HEADER>() else { return };
        let port = |at: usize| fixed.get(at..at + 2).and_then(|b| b.first_chunk()).copied();
        let port = |at: usize| u16::from_be_bytes(port(at).unwrap_or_default());
        let Header { from, to, .. } = seen.header;
        let (from, to) = (Endpoint::new(from, port(0)), Endpoint::new(to, port(2)));
        let Some(data) = seen.payload.get(UDP_HEADER..usize::from(port(4))) else { return };
        let sum = packet::transport_checksum(from.ip, to.ip, IPPROTO_UDP as u8, seen.payload);
        // Zero means that there is none, but over IPv6 there has to be one.
        if sum != 0 && (port(6) != 0 || from.ip.is_ipv6()) {
            return;
        }
        if !alone {
            for socket in self.udp.find_all(to, from, seen.device, |_| true) {
                socket.take(seen.datagram(from, to, data));
            }
        } else if let Some(socket) = self.udp.find(to, from, seen.device, |_| true) {
            socket.take(seen.datagram(from, to, data));
        } else {
            let icmp = if from.ip.is_ipv4() { (3, 3) } else { (1, 4) };
            self.refuse(seen, Errno::ECONNREFUSED, icmp);
        }
    }

    fn has_connection(&self, seen: &Seen<'_>) -> bool {
        let port = |at: usize| seen.payload.get(at..at + 2).and_then(|b| b.first_chunk()).copied();
        let port = |at: usize| u16::from_be_bytes(port(at).unwrap_or_default());
        let from = Endpoint::new(seen.header.from, port(0));
        let to = Endpoint::new(seen.header.to, port(2));
        let ends = |s: &Arc<super::stream::StreamSocket>| s.endpoints() == (Some(to), Some(from));
        self.tcp.find(to, from, seen.device, |b| b.listening).is_some()
            || self.connections.all().iter().any(ends)
    }

    /// Answers a packet with an error.
    fn refuse(&self, seen: &Seen<'_>, errno: Errno, icmp: (u8, u8)) {
        self.show_refusal(&seen.header, seen.packet, icmp);
        self.wire.fail(seen, errno, icmp);
    }

    /// Shows the error that answers a packet to this machine.
    pub fn show_refusal(&self, header: &Header, packet: &[u8], icmp: (u8, u8)) {
        let [v4, v6] = QUOTE;
        let quote = if header.from.is_ipv4() { v4 } else { v6 };
        let quoted = packet.get(..quote).unwrap_or(packet);
        // An unknown next header is pointed at.
        let word = if icmp == (4, 1) { 6u32.to_be_bytes() } else { [0; 4] };
        let message = packet::icmp(header.to, header.from, icmp, word, quoted);
        let protocol = packet::icmp_of(header.from);
        // Errors of ICMP over IPv4 have the precedence of "internetwork control" (RFC 1812, section 4.3.2.5).
        let tos = if header.from.is_ipv4() { 0xc0 } else { 0 };
        let answer = Header { protocol, tos, ..header.answer(self.ttl()) };
        self.wire.show(&answer.packet(&message));
    }
}

impl Seen<'_> {
    /// What a socket receives of it.
    pub fn datagram(&self, from: Endpoint, to: Endpoint, data: &[u8]) -> Datagram {
        Datagram {
            data: data.to_vec(),
            from,
            to,
            device: self.device,
            ttl: self.header.ttl,
            tos: self.header.tos,
            segment: 0,
            at: crate::fs::anon::now(),
        }
    }
}
