//! IGMPv2 and IGMPv3, the host's side (RFC 2236, RFC 3376).

use super::{addr4, byte, checksum, put};
use std::net::Ipv4Addr;

/// A query, of any version.
pub(crate) const QUERY: u8 = 0x11;
/// A version 2 report.
pub(crate) const REPORT_V2: u8 = 0x16;
/// A version 2 leave.
pub(crate) const LEAVE_V2: u8 = 0x17;
/// A version 3 report.
pub(crate) const REPORT_V3: u8 = 0x22;

/// What a host needs from a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// Unspecified for a general query.
    pub group: Ipv4Addr,
    /// Time within which to answer, in tenths of a second.
    pub max_response: u16,
    /// 1, 2 or 3.
    pub version: u8,
}

/// A query; other types and bad checksums are `None`.
pub(crate) fn parse_query(b: &[u8]) -> Option<Query> {
    if byte(b, 0)? != QUERY || checksum::checksum(b) != 0 {
        return None;
    }
    let code = byte(b, 1)?;
    let group = addr4(b, 4)?;
    let (version, max_response) = match (b.len(), code) {
        (8, 0) => (1, 100),
        (8, code) => (2, code.into()),
        (12.., code) => (3, decode_time(code)),
        _ => return None,
    };
    Some(Query { group, max_response, version })
}

/// The floating-point form of RFC 3376, section 4.1.1.
pub(crate) fn decode_time(code: u8) -> u16 {
    if code < 128 {
        return code.into();
    }
    (u16::from(code & 15) | 16) << ((code >> 4 & 7) + 3)
}

/// A version 2 report or leave.
pub(crate) fn emit_v2(kind: u8, group: Ipv4Addr) -> [u8; 8] {
    let mut b = [0; 8];
    b[0] = kind;
    put(&mut b, 4, &group.octets());
    let sum = checksum::checksum(&b);
    put(&mut b, 2, &sum.to_be_bytes());
    b
}

/// Records of a version 3 report: mode is include, exclude, change to include, change to exclude: any source.
pub(crate) fn emit_v3(records: &[(u8, Ipv4Addr)]) -> Vec<u8> {
    let mut b = vec![0; 8 + records.len() * 8];
    b[0] = REPORT_V3;
    put(&mut b, 6, &(records.len() as u16).to_be_bytes());
    for (i, (kind, group)) in records.iter().enumerate() {
        put(&mut b, 8 + i * 8, &[*kind, 0, 0, 0]);
        put(&mut b, 12 + i * 8, &group.octets());
    }
    let sum = checksum::checksum(&b);
    put(&mut b, 2, &sum.to_be_bytes());
    b
}

/// Record: this host takes everything from the group (a join), as current state.
pub(crate) const MODE_IS_EXCLUDE: u8 = 2;
/// Record: the host left the group.
pub(crate) const CHANGE_TO_INCLUDE: u8 = 3;
/// Record: the host joined the group.
pub(crate) const CHANGE_TO_EXCLUDE: u8 = 4;
