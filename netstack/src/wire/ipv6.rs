//! IPv6 and its extension headers (RFC 8200).

use super::{addr6, be16, be32, byte, protocol, put};
use std::net::Ipv6Addr;

/// Length of the fixed header.
pub(crate) const HEADER: usize = 40;
/// Length of a fragment header.
pub(crate) const FRAGMENT_HEADER: usize = 8;
/// The least MTU of a link.
pub(crate) const MIN_MTU: usize = 1280;
/// Extension headers looked at in one packet. Linux has no such limit; no real packet has more than four.
const MAX_EXTENSIONS: usize = 8;

/// The fields of the fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub traffic_class: u8,
    pub flow_label: u32,
    pub next_header: u8,
    pub hop_limit: u8,
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
}

/// A parsed packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    pub header: Header,
    pub payload: &'a [u8],
    /// The packet without link padding.
    pub whole: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks version and length. Padding behind the packet is cut off; jumbograms are malformed to us.
    pub(crate) fn parse(b: &'a [u8]) -> Option<Self> {
        let len = usize::from(be16(b, 4)?);
        let whole = b.get(..HEADER + len)?;
        let header = Header::read(whole)?;
        Some(Self { header, payload: whole.get(HEADER..)?, whole })
    }

    /// As [`parse`](Self::parse), for the packet quoted in an ICMP error.
    pub(crate) fn parse_quoted(b: &'a [u8]) -> Option<Self> {
        Some(Self { header: Header::read(b)?, payload: b.get(HEADER..)?, whole: b })
    }
}

impl Header {
    fn read(b: &[u8]) -> Option<Self> {
        let first = be32(b, 0)?;
        if first >> 28 != 6 {
            return None;
        }
        Some(Self {
            traffic_class: (first >> 20) as u8,
            flow_label: first & 0xf_ffff,
            next_header: byte(b, 6)?,
            hop_limit: byte(b, 7)?,
            src: addr6(b, 8)?,
            dst: addr6(b, 24)?,
        })
    }

    /// Writes the header in front of `payload_len` bytes.
    pub(crate) fn emit(&self, b: &mut [u8], payload_len: usize) {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | (self.flow_label & 0xf_ffff);
        put(b, 0, &first.to_be_bytes());
        put(b, 4, &(payload_len as u16).to_be_bytes());
        put(b, 6, &[self.next_header, self.hop_limit]);
        put(b, 8, &self.src.octets());
        put(b, 24, &self.dst.octets());
    }
}

/// A fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub next_header: u8,
    /// In bytes.
    pub offset: u16,
    pub more: bool,
    pub id: u32,
}

impl Fragment {
    /// The header at the start of `b`.
    pub(crate) fn parse(b: &[u8]) -> Option<Self> {
        let field = be16(b, 2)?;
        Some(Self {
            next_header: byte(b, 0)?,
            offset: field & 0xfff8,
            more: field & 1 != 0,
            id: be32(b, 4)?,
        })
    }

    /// Writes the header.
    pub(crate) fn emit(&self, b: &mut [u8]) {
        put(b, 0, &[self.next_header, 0]);
        put(b, 2, &((self.offset & 0xfff8) | u16::from(self.more)).to_be_bytes());
        put(b, 4, &self.id.to_be_bytes());
    }
}

/// What the walk along the extension headers came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    /// A transport header of this protocol at this offset of the payload.
    Upper { protocol: u8, at: usize },
    /// A fragment header at this offset of the payload.
    Fragment { at: usize, header: Fragment },
    /// Silently dropped (`NO_NEXT`, or an option said so).
    Discard,
    /// Answered with a parameter problem: code, offset from the start of the packet, and whether it is
    /// sent for multicast destinations too.
    Problem { code: u8, pointer: u32, multicast_too: bool },
    /// Truncated or too many headers.
    Malformed,
}

/// Walks the extension headers of `payload`, which starts with a header of type `next`.
pub(crate) fn walk(mut next: u8, payload: &[u8]) -> Chain {
    let mut at = 0;
    let mut next_at = 6u32;
    for n in 0..MAX_EXTENSIONS {
        match next {
            protocol::HOP_BY_HOP if n > 0 => {
                // Only right behind the fixed header (RFC 8200, section 4.1).
                return Chain::Problem { code: 1, pointer: next_at, multicast_too: false };
            }
            protocol::HOP_BY_HOP | protocol::DESTINATION => {
                let Some(ext) = extension(payload, at) else { return Chain::Malformed };
                if let Some(stop) = check_options(ext, at) {
                    return stop;
                }
                next = ext.first().copied().unwrap_or(protocol::NO_NEXT);
                next_at = (HEADER + at) as u32;
                at += ext.len();
            }
            protocol::ROUTING => {
                let Some(ext) = extension(payload, at) else { return Chain::Malformed };
                // Segments left: a routing header that still wants something of us is refused
                // (RFC 5095 took type 0 out, and this host knows no other).
                if ext.get(3).is_some_and(|&left| left > 0) {
                    let pointer = (HEADER + at + 2) as u32;
                    return Chain::Problem { code: 0, pointer, multicast_too: false };
                }
                next = ext.first().copied().unwrap_or(protocol::NO_NEXT);
                next_at = (HEADER + at) as u32;
                at += ext.len();
            }
            protocol::FRAGMENT => {
                let header = payload.get(at..).and_then(Fragment::parse);
                return header.map_or(Chain::Malformed, |header| Chain::Fragment { at, header });
            }
            protocol::NO_NEXT => return Chain::Discard,
            protocol => return Chain::Upper { protocol, at },
        }
    }
    Chain::Malformed
}

fn extension(payload: &[u8], at: usize) -> Option<&[u8]> {
    let len = (usize::from(byte(payload, at + 1)?) + 1) * 8;
    payload.get(at..at + len)
}

/// Options of hop-by-hop and destination headers: unknown ones are treated as their two high bits say
/// (RFC 8200, section 4.2).
fn check_options(ext: &[u8], ext_at: usize) -> Option<Chain> {
    let mut at = 2;
    while let Some(&kind) = ext.get(at) {
        if kind == 0 {
            at += 1;
            continue;
        }
        let Some(&len) = ext.get(at + 1) else { return Some(Chain::Malformed) };
        let end = at + 2 + usize::from(len);
        if end > ext.len() {
            return Some(Chain::Malformed);
        }
        // PadN and router alert are known and need nothing.
        if kind != 1 && kind != 5 {
            let pointer = (HEADER + ext_at + at) as u32;
            match kind >> 6 {
                0 => {}
                1 => return Some(Chain::Discard),
                action => {
                    let multicast_too = action == 2;
                    return Some(Chain::Problem { code: 2, pointer, multicast_too });
                }
            }
        }
        at = end;
    }
    None
}

/// The solicited-node group of an address (RFC 4291, section 2.7.1).
pub(crate) fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let o = addr.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15]])
}

/// All nodes of the link.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers of the link.
pub(crate) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All MLDv2 routers of the link.
pub(crate) const ALL_MLDV2: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
