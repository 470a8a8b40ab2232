//! IPv4 (RFC 791).

use super::{addr4, be16, byte, checksum, put};
use std::net::Ipv4Addr;

/// Length of a header without options.
pub(crate) const HEADER: usize = 20;
/// Largest packet.
pub(crate) const MAX: usize = 65535;

/// The fields of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub tos: u8,
    pub id: u16,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    /// In bytes.
    pub fragment_offset: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
}

/// A parsed packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    pub header: Header,
    /// The whole header with its options, for error messages.
    pub header_bytes: &'a [u8],
    pub options: &'a [u8],
    pub payload: &'a [u8],
    /// The packet without link padding.
    pub whole: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks version, lengths and (when `verify`) the header's checksum. Padding behind the packet is
    /// cut off.
    pub(crate) fn parse(b: &'a [u8], verify: bool) -> Option<Self> {
        let first = byte(b, 0)?;
        let header_len = usize::from(first & 15) * 4;
        let total = usize::from(be16(b, 2)?);
        if first >> 4 != 4 || header_len < HEADER || total < header_len {
            return None;
        }
        let whole = b.get(..total)?;
        let (header_bytes, payload) = whole.split_at_checked(header_len)?;
        if verify && checksum::checksum(header_bytes) != 0 {
            return None;
        }
        let header = Header::read(header_bytes)?;
        // A fragment that would end beyond the largest packet (the "ping of death").
        if usize::from(header.fragment_offset) + header_len + payload.len() > MAX {
            return None;
        }
        Some(Self { header, header_bytes, options: header_bytes.get(HEADER..)?, payload, whole })
    }

    /// As [`parse`](Self::parse), for the packet quoted in an ICMP error, of which only a part may be there.
    pub(crate) fn parse_quoted(b: &'a [u8]) -> Option<Self> {
        let first = byte(b, 0)?;
        let header_len = usize::from(first & 15) * 4;
        if first >> 4 != 4 || header_len < HEADER {
            return None;
        }
        let (header_bytes, payload) = b.split_at_checked(header_len)?;
        let header = Header::read(header_bytes)?;
        Some(Self { header, header_bytes, options: header_bytes.get(HEADER..)?, payload, whole: b })
    }
}

impl Header {
    fn read(b: &[u8]) -> Option<Self> {
        let flags = be16(b, 6)?;
        Some(Self {
            tos: byte(b, 1)?,
            id: be16(b, 4)?,
            dont_fragment: flags & 0x4000 != 0,
            more_fragments: flags & 0x2000 != 0,
            fragment_offset: (flags & 0x1fff).wrapping_mul(8),
            ttl: byte(b, 8)?,
            protocol: byte(b, 9)?,
            src: addr4(b, 12)?,
            dst: addr4(b, 16)?,
        })
    }

    /// True for any fragment of a larger packet.
    pub(crate) const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Writes a header with `options` (a multiple of four bytes) in front of `payload_len` bytes.
    pub(crate) fn emit(&self, b: &mut [u8], options: &[u8], payload_len: usize) {
        let header_len = HEADER + options.len();
        put(b, 0, &[0x40 | (header_len / 4) as u8, self.tos]);
        put(b, 2, &((header_len + payload_len) as u16).to_be_bytes());
        put(b, 4, &self.id.to_be_bytes());
        let flags = (u16::from(self.dont_fragment) << 14)
            | (u16::from(self.more_fragments) << 13)
            | (self.fragment_offset / 8);
        put(b, 6, &flags.to_be_bytes());
        put(b, 8, &[self.ttl, self.protocol, 0, 0]);
        put(b, 12, &self.src.octets());
        put(b, 16, &self.dst.octets());
        put(b, HEADER, options);
        let sum = checksum::checksum(b.get(..header_len).unwrap_or_default());
        put(b, 10, &sum.to_be_bytes());
    }
}

/// An option that a receiving host must look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionsVerdict {
    /// Nothing that concerns us.
    Accept,
    /// Source routing: refused, as Linux does by default (`accept_source_route`).
    SourceRoute,
    /// Malformed at this offset in the header: answered with a parameter problem.
    Malformed(u8),
}

/// Walks the options (RFC 791, section 3.1).
pub(crate) fn check_options(options: &[u8]) -> OptionsVerdict {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        match kind {
            0 => return OptionsVerdict::Accept,
            1 => at += 1,
            _ => {
                let offset = (HEADER + at) as u8;
                let Some(&len) = options.get(at + 1) else {
                    return OptionsVerdict::Malformed(offset);
                };
                let len = usize::from(len);
                if len < 2 || at + len > options.len() {
                    return OptionsVerdict::Malformed(offset);
                }
                match kind {
                    131 | 137 => return OptionsVerdict::SourceRoute,
                    // Record route, time stamp, router alert: the least they need.
                    7 if len < 3 => return OptionsVerdict::Malformed(offset + 1),
                    68 if len < 4 => return OptionsVerdict::Malformed(offset + 1),
                    148 if len < 4 => return OptionsVerdict::Malformed(offset + 1),
                    _ => {}
                }
                at += len;
            }
        }
    }
    OptionsVerdict::Accept
}
