//! Ethernet II frames.

use super::{array, be16, put};
use std::fmt;

/// A hardware address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All stations.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True for group addresses, broadcast among them.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The group address of an IPv4 group (RFC 1112, section 6.4).
    pub(crate) const fn from_group4(group: std::net::Ipv4Addr) -> Self {
        let o = group.octets();
        Self([0x01, 0x00, 0x5e, o[1] & 0x7f, o[2], o[3]])
    }

    /// The group address of an IPv6 group (RFC 2464, section 7).
    pub(crate) const fn from_group6(group: std::net::Ipv6Addr) -> Self {
        let o = group.octets();
        Self([0x33, 0x33, o[12], o[13], o[14], o[15]])
    }

    /// The modified EUI-64 interface identifier (RFC 4291, appendix A).
    pub(crate) const fn interface_id(self) -> [u8; 8] {
        let m = self.0;
        [m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Length of the header.
pub(crate) const HEADER: usize = 14;
/// `ETH_P_IP`.
pub(crate) const TYPE_IPV4: u16 = 0x0800;
/// `ETH_P_ARP`.
pub(crate) const TYPE_ARP: u16 = 0x0806;
/// `ETH_P_IPV6`.
pub(crate) const TYPE_IPV6: u16 = 0x86dd;

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub dst: MacAddr,
    pub src: MacAddr,
    pub ethertype: u16,
}

impl Header {
    /// The header and what follows it.
    pub(crate) fn parse(frame: &[u8]) -> Option<(Self, &[u8])> {
        let header = Self {
            dst: MacAddr(array(frame, 0)?),
            src: MacAddr(array(frame, 6)?),
            ethertype: be16(frame, 12)?,
        };
        Some((header, frame.get(HEADER..)?))
    }

    /// Writes the header at the start of `b`.
    pub(crate) fn emit(&self, b: &mut [u8]) {
        put(b, 0, &self.dst.0);
        put(b, 6, &self.src.0);
        put(b, 12, &self.ethertype.to_be_bytes());
    }
}
