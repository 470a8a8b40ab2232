//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

/// The ones' complement sum of `data`, big-endian, not yet folded below 32 bits nor inverted.
pub(crate) fn sum(data: &[u8]) -> u32 {
    // Summed in native order with a wide accumulator; byte order does not matter to the sum except for
    // a final swap (RFC 1071, section 2).
    let mut acc: u64 = 0;
    let (chunks, rest) = data.as_chunks::<4>();
    for c in chunks {
        acc += u64::from(u32::from_ne_bytes(*c));
    }
    let mut tail = [0u8; 4];
    for (to, from) in tail.iter_mut().zip(rest) {
        *to = *from;
    }
    acc += u64::from(u32::from_ne_bytes(tail));
    let mut s = (acc >> 32) + (acc & 0xffff_ffff);
    s = (s >> 16) + (s & 0xffff);
    s = (s >> 16) + (s & 0xffff);
    s = (s >> 16) + (s & 0xffff);
    u32::from(u16::from_be(s as u16))
}

/// Folds a sum to 16 bits.
pub(crate) fn fold(mut s: u32) -> u16 {
    while s > 0xffff {
        s = (s >> 16) + (s & 0xffff);
    }
    s as u16
}

/// The sum of the pseudo-header of TCP, UDP and ICMPv6.
pub(crate) fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u32 {
    let addresses = match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => sum(&s.octets()) + sum(&d.octets()),
        (IpAddr::V6(s), IpAddr::V6(d)) => sum(&s.octets()) + sum(&d.octets()),
        _ => 0,
    };
    let len = len as u32;
    addresses + u32::from(protocol) + (len >> 16) + (len & 0xffff)
}

/// The checksum of a buffer on its own.
pub(crate) fn checksum(data: &[u8]) -> u16 {
    !fold(sum(data))
}

/// The checksum of a buffer with a pseudo-header in front.
pub(crate) fn transport(src: IpAddr, dst: IpAddr, protocol: u8, data: &[u8]) -> u16 {
    !fold(sum(data) + pseudo(src, dst, protocol, data.len()))
}

/// True when a buffer that contains its checksum sums up right.
pub(crate) fn verify(src: IpAddr, dst: IpAddr, protocol: u8, data: &[u8]) -> bool {
    transport(src, dst, protocol, data) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1071_example() {
        assert_eq!(
            fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])),
            0xddf2,
            "RFC 1071, section 3"
        );
    }

    #[test]
    fn odd_lengths_are_padded() {
        assert_eq!(fold(sum(&[0x12])), 0x1200);
        assert_eq!(fold(sum(&[0x12, 0x34, 0x56])), 0x1234 + 0x5600);
    }

    #[test]
    fn many_carries() {
        let data = vec![0xff; 65535];
        let slow = data.chunks(2).fold(0u64, |a, c| {
            a + u64::from(c[0]) * 256 + u64::from(c.get(1).copied().unwrap_or(0))
        });
        let mut slow = slow;
        while slow > 0xffff {
            slow = (slow >> 16) + (slow & 0xffff);
        }
        assert_eq!(u64::from(fold(sum(&data))), slow);
    }
}
