//! Echo requests (`icmp(7)`, RFC 792 and RFC 4443): every address of this machine answers them.

use super::DgramSocket;
use super::send::Outgoing;
use crate::errno::{Errno, Result};
use crate::socket::inet::{AF_INET, Counters};
use std::net::{IpAddr, Ipv6Addr};

/// Type of a request and of the answer, in ICMP and ICMPv6.
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);
const HEADER: usize = 8;

/// The checksum of the Internet protocols (RFC 1071) over several parts, all but the last even.
fn checksum(parts: &[&[u8]]) -> u16 {
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

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED.octets(),
    }
}

/// Gives a message between two addresses its identifier, and then its checksum.
pub(super) fn finish(data: &mut [u8], identifier: u16, (from, to): (IpAddr, IpAddr)) {
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = data.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(2, &[0, 0]);
    put(4, &identifier.to_be_bytes());
    let sum = if from.is_ipv4() {
        checksum(&[data])
    } else {
        let rest = [(data.len() as u32).to_be_bytes(), [0, 0, 0, 58]].concat();
        checksum(&[&octets(from), &octets(to), &rest, data])
    };
    if let Some(place) = data.get_mut(2..4) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

impl DgramSocket {
    /// Sends an echo request, and has it answered.
    pub(super) fn ping(&self, mut data: Vec<u8>, out: &Outgoing) -> Result<()> {
        let v4 = self.common.family == AF_INET;
        let (request, answer) = if v4 { V4 } else { V6 };
        match data.first_chunk::<HEADER>() {
            Some([kind, 0, ..]) if *kind == request => {}
            _ => return Err(Errno::EINVAL),
        }
        if self.common.net.is_filtered() && !self.may_ping(&data, out)? {
            return Ok(());
        }
        if !out.route.local {
            return self.transmit_remote(&data, out);
        }
        if let Some(first) = data.first_mut() {
            *first = answer;
        }
        finish(&mut data, out.from.port, (out.to.ip, out.from.ip));
        Counters::add(&self.common.net.counters.icmp_echoes, 1);
        self.push_answer(data, out.to.ip, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksum_of_rfc_1071() {
        assert_eq!(super::checksum(&[&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        assert_eq!(super::checksum(&[&[0, 1], &[0xf2]]), !0xf201);
    }
}
