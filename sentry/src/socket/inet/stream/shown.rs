//! The segments of connections within the sandbox, made for those who look at packets.
//!
//! A connection is two queues, so that there are no segments: while somebody looks, each write, end and reset shows
//! those that Linux would have sent over the loopback interface, with sequence numbers that follow from how much has
//! gone through the queues. Acknowledgements come at once, and nothing is lost. Checksums are left to the interface,
//! as there.

use super::connected::Connected;
use super::core::{DONE, SEND};
use super::half::Half;
use crate::socket::inet::addr::Endpoint;
use crate::socket::inet::packet::{self, Header};
use crate::socket::inet::{IPPROTO_TCP, Net};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Flags of TCP.
pub const FIN: u8 = 1;
/// See [`FIN`].
pub const SYN: u8 = 2;
/// See [`FIN`].
pub const RST: u8 = 4;
/// See [`FIN`].
pub const PSH: u8 = 8;
/// See [`FIN`].
pub const ACK: u8 = 16;
/// See [`FIN`].
const URG: u8 = 32;

/// Bits by which windows are shifted.
const WINDOW_SCALE: u8 = 7;
/// Most data in a segment: what fits in the largest packet, with the headers of IPv4 or IPv6 and of TCP.
const LARGEST: [usize; 2] = [65_495, 65_476];

/// A segment.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Sender and receiver.
    pub ends: (Endpoint, Endpoint),
    /// Its number, and that of what is expected from the other side.
    pub numbers: (u32, u32),
    /// `FIN` and so on.
    pub flags: u8,
    /// The window, as it is in the header.
    pub window: u16,
    /// How far behind the number urgent data ends.
    pub urgent: u16,
    /// The data.
    pub data: &'a [u8],
}

impl Segment<'_> {
    /// What follows the IP header.
    pub fn bytes(&self) -> Vec<u8> {
        let (from, to) = self.ends;
        let options =
            if self.flags & SYN != 0 { syn_options(from.ip.is_ipv6()) } else { Vec::new() };
        let words = ((20 + options.len()) / 4) as u8;
        let mut out = [
            &from.port.to_be_bytes()[..],
            &to.port.to_be_bytes(),
            &self.numbers.0.to_be_bytes(),
            &self.numbers.1.to_be_bytes(),
            &[words << 4, self.flags],
            &self.window.to_be_bytes(),
            &[0; 2],
            &self.urgent.to_be_bytes(),
            &options,
            self.data,
        ]
        .concat();
        let sum = packet::partial_checksum(from.ip, to.ip, IPPROTO_TCP as u8, out.len());
        packet::put(&mut out, 16, &sum.to_be_bytes());
        out
    }
}

/// The largest segment, selective acknowledgements, and how windows are scaled.
fn syn_options(v6: bool) -> Vec<u8> {
    let largest = LARGEST.get(usize::from(v6)).copied().unwrap_or(0) as u16;
    let [a, b] = largest.to_be_bytes();
    vec![2, 4, a, b, 1, 1, 4, 2, 1, 3, 3, WINDOW_SCALE]
}

impl Net {
    /// True if segments are worth making.
    pub(super) fn shows_segments(&self) -> bool {
        self.wire.shows_segments()
    }

    fn show_segment(&self, segment: &Segment<'_>) {
        let (from, to) = (segment.ends.0.ip, segment.ends.1.ip);
        let ttl = self.settings.ttl.load(Ordering::Relaxed) as u8;
        let header = Header { from, to, protocol: IPPROTO_TCP as u8, ttl, tos: 0 };
        self.wire.show_unfinished(&header.packet(&segment.bytes()));
    }

    /// Number of the first byte that goes through a queue.
    fn first_number(&self, half: &Half) -> u32 {
        self.wire.secret_of(std::ptr::from_ref(half).addr()).wrapping_add(1)
    }

    /// Shows a `SYN` that nobody answers, or that a reset answers.
    pub(super) fn show_attempt(&self, from: Endpoint, to: Endpoint, refused: bool) {
        if !self.shows_segments() {
            return;
        }
        let number = crate::mm::random_u64() as u32;
        let syn = Segment {
            ends: (from, to),
            numbers: (number, 0),
            flags: SYN,
            window: u16::MAX,
            urgent: 0,
            data: &[],
        };
        self.show_segment(&syn);
        if refused {
            let numbers = (0, number.wrapping_add(1));
            self.show_segment(&Segment {
                ends: (to, from),
                numbers,
                flags: RST | ACK,
                window: 0,
                ..syn
            });
        }
    }

    /// Shows the three segments that make a connection. The ends are those that the client and the server see.
    pub(super) fn show_handshake(
        &self,
        client: (Endpoint, Endpoint),
        server: (Endpoint, Endpoint),
        (there, back): (&Arc<Half>, &Arc<Half>),
    ) {
        if !self.shows_segments() {
            return;
        }
        let (first, second) = (self.first_number(there), self.first_number(back));
        let syn = Segment {
            ends: client,
            numbers: (first.wrapping_sub(1), 0),
            flags: SYN,
            window: u16::MAX,
            urgent: 0,
            data: &[],
        };
        self.show_segment(&syn);
        let numbers = (second.wrapping_sub(1), first);
        self.show_segment(&Segment { ends: server, numbers, flags: SYN | ACK, ..syn });
        let window = scaled(back.free_window());
        self.show_segment(&Segment { numbers: (first, second), flags: ACK, window, ..syn });
    }
}

fn scaled(bytes: usize) -> u16 {
    u16::try_from(bytes >> WINDOW_SCALE).unwrap_or(u16::MAX)
}

impl Connected {
    /// The number of the byte at a place of what this end sends.
    fn number(&self, at: u64) -> u32 {
        self.net().first_number(&self.tx).wrapping_add(at as u32)
    }

    /// What this end expects next: all that was sent has arrived.
    fn expected(&self) -> u32 {
        let ended = u32::from(self.core().has(DONE));
        self.net().first_number(&self.rx).wrapping_add(self.rx.total() as u32).wrapping_add(ended)
    }

    fn segment(&self, number: u32, flags: u8) -> Segment<'static> {
        Segment {
            ends: (self.local, self.peer),
            numbers: (number, self.expected()),
            flags,
            window: scaled(self.rx.free_window()),
            urgent: 0,
            data: &[],
        }
    }

    /// A segment without data of the other end, which has received everything before `expected`.
    fn answer(&self, expected: u32, flags: u8) -> Segment<'static> {
        Segment {
            ends: (self.peer, self.local),
            numbers: (self.expected(), expected),
            flags,
            window: scaled(self.tx.free_window()),
            urgent: 0,
            data: &[],
        }
    }

    /// Shows bytes that are sent at a place of the stream, and their acknowledgement.
    pub(super) fn show_data(&self, at: u64, bytes: &[u8], urgent: bool) {
        let largest = LARGEST.get(usize::from(self.local.ip.is_ipv6())).copied().unwrap_or(1);
        let mut at = self.number(at);
        for data in bytes.chunks(largest) {
            let mut segment = Segment { data, ..self.segment(at, PSH | ACK) };
            if urgent {
                segment.flags |= URG;
                segment.urgent = data.len() as u16;
            }
            self.net().show_segment(&segment);
            at = at.wrapping_add(data.len() as u32);
            self.net().show_segment(&self.answer(at, ACK));
        }
    }

    /// Shows that this end will send no more.
    pub(super) fn show_end(&self) {
        if self.net().shows_segments() {
            let number = self.number(self.tx.total());
            self.net().show_segment(&self.segment(number, FIN | ACK));
            self.net().show_segment(&self.answer(number.wrapping_add(1), ACK));
        }
    }

    /// Shows the reset by which this end, or with `other` the other one, breaks the connection.
    pub(super) fn show_reset(&self, other: bool) {
        if self.net().shows_segments() {
            let ended = u64::from(self.core().has(SEND));
            let number = self.number(self.tx.total() + ended);
            let segment = match other {
                false => self.segment(number, RST | ACK),
                true => Segment { window: 0, ..self.answer(number, RST) },
            };
            self.net().show_segment(&segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_whole() {
        let end = |port| Endpoint { ip: "127.0.0.1".parse().unwrap(), port };
        let segment = Segment {
            ends: (end(1), end(2)),
            numbers: (7, 0),
            flags: SYN,
            window: 9,
            urgent: 0,
            data: b"",
        };
        let bytes = segment.bytes();
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[12..14], [0x80, SYN]);
        assert_eq!(bytes[20..24], [2, 4, 0xff, 0xd7]);
        // With the sum of what the interface adds up the checksum is right.
        let data = Segment { flags: ACK, data: b"xyz", ..segment }.bytes();
        let mut done = data.clone();
        let sum = packet::checksum(&[&data]);
        packet::put(&mut done, 16, &sum.to_be_bytes());
        let ip = "127.0.0.1".parse().unwrap();
        assert_eq!(packet::transport_checksum(ip, ip, 6, &done), 0);
    }
}
