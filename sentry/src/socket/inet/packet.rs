//! IP packets, as those who look at packets see what sockets of this machine say to each other.

use super::addr::Endpoint;
use super::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Size of an IPv4 header without options.
pub const V4_HEADER: usize = 20;
/// Size of an IPv6 header.
pub const V6_HEADER: usize = 40;
/// Size of a UDP header.
pub const UDP_HEADER: usize = 8;
/// "Do not fragment" in an IPv4 header.
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];

/// What the header of a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Where it comes from.
    pub from: IpAddr,
    /// Where it goes; of the same family.
    pub to: IpAddr,
    /// `IPPROTO_*` of what follows.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
}

impl Header {
    /// A packet with this header.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.v4(from, to, payload),
            (from, to) => self.v6(super::addr::mapped(from), super::addr::mapped(to), payload),
        }
    }

    fn v4(&self, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(V4_HEADER + payload.len()).unwrap_or(u16::MAX);
        let mut out = vec![0x45, self.tos];
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&DONT_FRAGMENT);
        out.extend_from_slice(&[self.ttl, self.protocol, 0, 0]);
        out.extend_from_slice(&from.octets());
        out.extend_from_slice(&to.octets());
        let sum = checksum(&[&out]);
        put(&mut out, 10, &sum.to_be_bytes());
        out.extend_from_slice(payload);
        out
    }

    fn v6(&self, from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let mut out = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&[self.protocol, self.ttl]);
        out.extend_from_slice(&from.octets());
        out.extend_from_slice(&to.octets());
        out.extend_from_slice(payload);
        out
    }

    /// The header the other way round, for an answer.
    pub fn answer(&self, ttl: u8) -> Header {
        Header { from: self.to, to: self.from, ttl, ..*self }
    }
}

/// Takes a packet apart: its header and what follows. `None` for what is no IP packet, or is cut off.
pub fn parse(packet: &[u8]) -> Option<(Header, &[u8])> {
    let first = *packet.first()?;
    let byte = |at: usize| packet.get(at).copied();
    let len = |at: usize| Some(usize::from(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?)));
    match first >> 4 {
        4 => {
            let header = usize::from(first & 15) * 4;
            let end = len(2)?;
            if header < V4_HEADER || end < header {
                return None;
            }
            let ip = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
            let (from, to) = (ip(12)?.into(), ip(16)?.into());
            let header_of = Header { from, to, protocol: byte(9)?, ttl: byte(8)?, tos: byte(1)? };
            Some((header_of, packet.get(header..end)?))
        }
        6 => {
            let end = V6_HEADER + len(4)?;
            let ip = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?));
            let (from, to) = (ip(8)?.into(), ip(24)?.into());
            let tos = first << 4 | byte(1)? >> 4;
            let header_of = Header { from, to, protocol: byte(6)?, ttl: byte(7)?, tos };
            Some((header_of, packet.get(V6_HEADER..end)?))
        }
        _ => None,
    }
}

/// Writes bytes at an offset, if there is that much.
pub fn put(data: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = data.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// The checksum of the Internet protocols (RFC 1071) over several parts, all but the last even.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| match pair {
        [a, b] => u32::from(u16::from_be_bytes([*a, *b])),
        [a] => u32::from(*a) << 8,
        _ => 0,
    };
    let sum: u64 = parts.iter().flat_map(|p| p.chunks(2)).map(|pair| u64::from(word(pair))).sum();
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The checksum of a transport protocol, which covers the addresses, too.
pub fn transport_checksum(from: IpAddr, to: IpAddr, protocol: u8, data: &[u8]) -> u16 {
    covering_checksum(from, to, protocol, data, data.len())
}

/// The same of what is `len` bytes long and begins with `covered`, the rest of which does not count.
fn covering_checksum(from: IpAddr, to: IpAddr, protocol: u8, covered: &[u8], len: usize) -> u16 {
    let rest = [(len as u32).to_be_bytes(), [0, 0, 0, protocol]].concat();
    checksum(&[&octets(from), &octets(to), &rest, covered])
}

/// What a transport checksum holds that is left to the interface: the sum of addresses, protocol and length.
pub fn partial_checksum(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> u16 {
    let rest = [(len as u32).to_be_bytes(), [0, 0, 0, protocol]].concat();
    !checksum(&[&octets(from), &octets(to), &rest])
}

/// What follows the IP header of a UDP datagram. Its checksum is left to the interface, as on Linux: the field holds
/// the sum of the addresses and length.
pub fn udp(from: Endpoint, to: Endpoint, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(UDP_HEADER + data.len()).unwrap_or(u16::MAX);
    let sum = partial_checksum(from.ip, to.ip, IPPROTO_UDP as u8, usize::from(len));
    let words = [from.port, to.port, len, sum];
    let mut out: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    out.extend_from_slice(data);
    out
}

/// The same of a UDP-Lite datagram, whose checksum covers its first `covered` bytes, or all of them.
pub fn udp_lite(from: Endpoint, to: Endpoint, data: &[u8], covered: Option<usize>) -> Vec<u8> {
    let len = UDP_HEADER + data.len();
    let covered = covered.unwrap_or(len).min(len);
    let field = if covered == len { 0 } else { covered as u16 };
    let words = [from.port, to.port, field, 0];
    let mut out: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    out.extend_from_slice(data);
    let part = out.get(..covered).unwrap_or_default();
    let sum = covering_checksum(from.ip, to.ip, IPPROTO_UDPLITE as u8, part, len);
    put(&mut out, 6, &if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    out
}

/// An ICMP or ICMPv6 message between two addresses: type, code, the four bytes after the checksum, and the rest.
pub fn icmp(
    from: IpAddr,
    to: IpAddr,
    (kind, code): (u8, u8),
    word: [u8; 4],
    rest: &[u8],
) -> Vec<u8> {
    let mut out = vec![kind, code, 0, 0];
    out.extend_from_slice(&word);
    out.extend_from_slice(rest);
    let sum = if from.is_ipv4() {
        checksum(&[&out])
    } else {
        transport_checksum(from, to, IPPROTO_ICMPV6 as u8, &out)
    };
    put(&mut out, 2, &sum.to_be_bytes());
    out
}

/// The protocol number of ICMP for the family of `ip`.
pub fn icmp_of(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { IPPROTO_ICMP as u8 } else { IPPROTO_ICMPV6 as u8 }
}

/// The reset that answers a TCP segment for which there is no connection (RFC 9293, section 3.5.2). `None`
/// for resets, which get no answer, and what is cut off.
pub fn tcp_reset(header: &Header, segment: &[u8]) -> Option<Vec<u8>> {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    let fixed = segment.first_chunk::<V4_HEADER>()?;
    let flags = fixed[13];
    if flags & RST != 0 {
        return None;
    }
    let data = segment.len().checked_sub(usize::from(fixed[12] >> 4) * 4)?;
    let word = |at: usize| fixed.get(at..at + 4).and_then(|b| b.first_chunk()).copied();
    let (seq, ack) = (u32::from_be_bytes(word(4)?), word(8)?);
    let mut out = [fixed.get(2..4)?, fixed.get(..2)?].concat();
    if flags & ACK != 0 {
        out.extend_from_slice(&ack);
        out.extend_from_slice(&[0, 0, 0, 0, 0x50, RST]);
    } else {
        let more = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let next = seq.wrapping_add(data as u32).wrapping_add(more);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&next.to_be_bytes());
        out.extend_from_slice(&[0x50, RST | ACK]);
    }
    out.extend_from_slice(&[0; 6]);
    let sum = transport_checksum(header.to, header.from, IPPROTO_TCP as u8, &out);
    put(&mut out, 16, &sum.to_be_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_rfc_1071() {
        assert_eq!(checksum(&[&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        assert_eq!(checksum(&[&[0, 1], &[0xf2]]), !0xf201);
    }

    #[test]
    fn packets_can_be_taken_apart() {
        for (from, to) in [("127.0.0.1", "127.0.0.2"), ("::1", "2001:db8::1")] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let header = Header { from, to, protocol: 17, ttl: 3, tos: 0xb8 };
            let packet = header.packet(b"payload");
            assert_eq!(parse(&packet), Some((header, &b"payload"[..])));
            assert_eq!(parse(&packet[..packet.len() - 1]), None);
            assert_eq!(parse(&packet[..10]), None);
        }
    }

    #[test]
    fn resets_acknowledge_what_came() {
        let (from, to) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        let header = Header { from, to, protocol: 6, ttl: 64, tos: 0 };
        let mut syn = [0u8; 20];
        syn[..8].copy_from_slice(&[0, 1, 0, 2, 0, 0, 0, 9]);
        syn[12..14].copy_from_slice(&[0x50, 2]);
        let reset = tcp_reset(&header, &syn).unwrap();
        assert_eq!(reset[..14], [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 10, 0x50, 0x14]);
        assert_eq!(transport_checksum(to, from, 6, &reset), 0);
        assert_eq!(tcp_reset(&header, &reset), None);
        assert_eq!(tcp_reset(&header, &syn[..19]), None);
    }
}
