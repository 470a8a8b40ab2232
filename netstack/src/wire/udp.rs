//! UDP (RFC 768).

use super::{be16, put};

/// Length of the header.
pub(crate) const HEADER: usize = 8;

/// A parsed datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub src_port: u16,
    pub dst_port: u16,
    /// Zero: the sender computed none (IPv4 only).
    pub checksum: u16,
    pub payload: &'a [u8],
    /// Header and payload, without padding.
    pub whole: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// The length field must lie within the packet; bytes behind it are ignored.
    pub(crate) fn parse(b: &'a [u8]) -> Option<Self> {
        let len = usize::from(be16(b, 4)?);
        let whole = b.get(..len)?;
        Some(Self {
            src_port: be16(b, 0)?,
            dst_port: be16(b, 2)?,
            checksum: be16(b, 6)?,
            payload: whole.get(HEADER..)?,
            whole,
        })
    }
}

/// Writes a header without checksum.
pub(crate) fn emit(b: &mut [u8], src_port: u16, dst_port: u16, payload_len: usize) {
    put(b, 0, &src_port.to_be_bytes());
    put(b, 2, &dst_port.to_be_bytes());
    put(b, 4, &((HEADER + payload_len) as u16).to_be_bytes());
    put(b, 6, &[0, 0]);
}
