//! ARP for IPv4 over Ethernet (RFC 826).

use super::ethernet::MacAddr;
use super::{addr4, array, be16, byte, put};
use std::net::Ipv4Addr;

/// Length of a packet.
pub(crate) const LEN: usize = 28;
/// A request.
pub(crate) const REQUEST: u16 = 1;
/// A reply.
pub(crate) const REPLY: u16 = 2;

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arp {
    pub operation: u16,
    pub sender_mac: MacAddr,
    pub sender: Ipv4Addr,
    pub target_mac: MacAddr,
    pub target: Ipv4Addr,
}

impl Arp {
    /// Other hardware or protocol types are malformed to us.
    pub(crate) fn parse(b: &[u8]) -> Option<Self> {
        let kind = (be16(b, 0)?, be16(b, 2)?, byte(b, 4)?, byte(b, 5)?);
        if kind != (1, super::ethernet::TYPE_IPV4, 6, 4) {
            return None;
        }
        Some(Self {
            operation: be16(b, 6)?,
            sender_mac: MacAddr(array(b, 8)?),
            sender: addr4(b, 14)?,
            target_mac: MacAddr(array(b, 18)?),
            target: addr4(b, 24)?,
        })
    }

    /// Writes the packet.
    pub(crate) fn emit(&self, b: &mut [u8]) {
        put(b, 0, &[0, 1, 8, 0, 6, 4]);
        put(b, 6, &self.operation.to_be_bytes());
        put(b, 8, &self.sender_mac.0);
        put(b, 14, &self.sender.octets());
        put(b, 18, &self.target_mac.0);
        put(b, 24, &self.target.octets());
    }
}
