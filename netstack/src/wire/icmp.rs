//! ICMP and ICMPv6: the common part, echo and errors (RFC 792, RFC 4443).

use super::{be16, be32, byte, put};

/// Length of the header of echo messages and errors.
pub(crate) const HEADER: usize = 8;

/// ICMP types.
pub(crate) mod v4 {
    pub(crate) const ECHO_REPLY: u8 = 0;
    pub(crate) const UNREACHABLE: u8 = 3;
    pub(crate) const SOURCE_QUENCH: u8 = 4;
    pub(crate) const REDIRECT: u8 = 5;
    pub(crate) const ECHO: u8 = 8;
    pub(crate) const TIME_EXCEEDED: u8 = 11;
    pub(crate) const PARAMETER: u8 = 12;
    pub(crate) const TIMESTAMP: u8 = 13;
    pub(crate) const TIMESTAMP_REPLY: u8 = 14;
}

/// ICMPv6 types.
pub(crate) mod v6 {
    pub(crate) const UNREACHABLE: u8 = 1;
    pub(crate) const TOO_BIG: u8 = 2;
    pub(crate) const TIME_EXCEEDED: u8 = 3;
    pub(crate) const PARAMETER: u8 = 4;
    pub(crate) const ECHO: u8 = 128;
    pub(crate) const ECHO_REPLY: u8 = 129;
    pub(crate) const MLD_QUERY: u8 = 130;
    pub(crate) const ROUTER_SOLICIT: u8 = 133;
    pub(crate) const ROUTER_ADVERT: u8 = 134;
    pub(crate) const NEIGHBOR_SOLICIT: u8 = 135;
    pub(crate) const NEIGHBOR_ADVERT: u8 = 136;
    pub(crate) const REDIRECT: u8 = 137;
    pub(crate) const MLDV2_REPORT: u8 = 143;
}

/// A message, its checksum not yet checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub kind: u8,
    pub code: u8,
    /// The four bytes behind the checksum.
    pub rest: u32,
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Needs the whole eight-byte header.
    pub(crate) fn parse(b: &'a [u8]) -> Option<Self> {
        Some(Self {
            kind: byte(b, 0)?,
            code: byte(b, 1)?,
            rest: be32(b, 4)?,
            payload: b.get(HEADER..)?,
        })
    }

    /// The identifier of an echo message.
    pub(crate) const fn ident(&self) -> u16 {
        (self.rest >> 16) as u16
    }
}

/// The ports at the start of the transport header that an error quotes.
pub(crate) fn quoted_ports(b: &[u8]) -> Option<(u16, u16)> {
    Some((be16(b, 0)?, be16(b, 2)?))
}

/// Writes a header with the checksum left zero.
pub(crate) fn emit(b: &mut [u8], kind: u8, code: u8, rest: u32) {
    put(b, 0, &[kind, code, 0, 0]);
    put(b, 4, &rest.to_be_bytes());
}
