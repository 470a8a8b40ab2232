//! Headers, parsed from untrusted bytes and written to packets.
//!
//! Parsers return `None` for anything malformed, never panic, and never look beyond the lengths that the
//! packet itself and the slice allow. Emitters write into exactly sized slices.

pub(crate) mod arp;
pub(crate) mod checksum;
pub(crate) mod ethernet;
pub(crate) mod icmp;
pub(crate) mod igmp;
pub(crate) mod ipv4;
pub(crate) mod ipv6;
pub(crate) mod mld;
pub(crate) mod ndp;
pub(crate) mod tcp;
pub(crate) mod tcp_options;
pub(crate) mod udp;

#[cfg(test)]
mod fuzz;

use std::net::{Ipv4Addr, Ipv6Addr};

/// IP protocol numbers (<https://www.iana.org/assignments/protocol-numbers>).
pub(crate) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IGMP: u8 = 2;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const NO_NEXT: u8 = 59;
    pub(crate) const DESTINATION: u8 = 60;
}

/// The byte at `at`.
pub(crate) fn byte(b: &[u8], at: usize) -> Option<u8> {
    b.get(at).copied()
}

/// The `N` bytes at `at`.
pub(crate) fn array<const N: usize>(b: &[u8], at: usize) -> Option<[u8; N]> {
    b.get(at..)?.first_chunk::<N>().copied()
}

/// The big-endian 16-bit number at `at`.
pub(crate) fn be16(b: &[u8], at: usize) -> Option<u16> {
    array(b, at).map(u16::from_be_bytes)
}

/// The big-endian 32-bit number at `at`.
pub(crate) fn be32(b: &[u8], at: usize) -> Option<u32> {
    array(b, at).map(u32::from_be_bytes)
}

/// The IPv4 address at `at`.
pub(crate) fn addr4(b: &[u8], at: usize) -> Option<Ipv4Addr> {
    array::<4>(b, at).map(Ipv4Addr::from)
}

/// The IPv6 address at `at`.
pub(crate) fn addr6(b: &[u8], at: usize) -> Option<Ipv6Addr> {
    array::<16>(b, at).map(Ipv6Addr::from)
}

/// Writes `bytes` at `at`; nothing when they do not fit, which a caller's fixed sizes exclude.
pub(crate) fn put(b: &mut [u8], at: usize, bytes: &[u8]) {
    let to = b.get_mut(at..).and_then(|b| b.get_mut(..bytes.len()));
    debug_assert!(to.is_some(), "emitting {} bytes at {at}", bytes.len());
    if let Some(to) = to {
        to.copy_from_slice(bytes);
    }
}
