//! MLDv2, the host's side (RFC 3810).

use super::{addr6, be16, put};
use std::net::Ipv6Addr;

/// What a host needs from a query: the group (unspecified: general) and the time to answer in, in ms.
/// `b` starts behind the ICMPv6 checksum's four bytes.
pub(crate) fn parse_query(b: &[u8]) -> Option<(Ipv6Addr, u32)> {
    let code = be16(b, 0)?;
    let group = addr6(b, 4)?;
    let ms = if code < 0x8000 {
        code.into()
    } else {
        (u32::from(code & 0xfff) | 0x1000) << ((code >> 12 & 7) + 3)
    };
    Some((group, ms))
}

/// The body of a report, from the ICMPv6 type on, checksum left zero.
pub(crate) fn emit_report(records: &[(u8, Ipv6Addr)]) -> Vec<u8> {
    let mut b = vec![0; 8 + records.len() * 20];
    put(&mut b, 0, &[super::icmp::v6::MLDV2_REPORT]);
    put(&mut b, 6, &(records.len() as u16).to_be_bytes());
    for (i, (kind, group)) in records.iter().enumerate() {
        put(&mut b, 8 + i * 20, &[*kind, 0, 0, 0]);
        put(&mut b, 12 + i * 20, &group.octets());
    }
    b
}
