//! TCP segments (RFC 9293, section 3.1).

use super::tcp_options::Options;
use super::{be16, be32, byte, put};
use crate::rxbuf::RxBuffer;
use crate::tcp::Seq;
use std::sync::Arc;

/// Length of a header without options.
pub(crate) const HEADER: usize = 20;

bitflags::bitflags! {
    /// The control bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Flags: u8 {
        const FIN = 1;
        const SYN = 2;
        const RST = 4;
        const PSH = 8;
        const ACK = 16;
        const URG = 32;
        const ECE = 64;
        const CWR = 128;
    }
}

/// The fields of a segment, its options decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: Seq,
    pub ack: Seq,
    pub flags: Flags,
    /// Not scaled.
    pub window: u16,
    pub urgent: u16,
    pub options: Options,
}

/// A parsed segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub header: Header,
    pub payload: &'a [u8],
    /// The IP header's ECN bits say congestion experienced.
    pub ce: bool,
    /// Where the payload is, if it may be kept there.
    pub buffer: Option<&'a Arc<RxBuffer>>,
}

impl<'a> Segment<'a> {
    /// The data offset must lie within the packet. Options that are malformed end the list, as in Linux.
    pub(crate) fn parse(b: &'a [u8]) -> Option<Self> {
        let offset = usize::from(byte(b, 12)? >> 4) * 4;
        if offset < HEADER {
            return None;
        }
        let flags = Flags::from_bits_retain(byte(b, 13)?);
        let header = Header {
            src_port: be16(b, 0)?,
            dst_port: be16(b, 2)?,
            seq: Seq(be32(b, 4)?),
            ack: Seq(be32(b, 8)?),
            flags,
            window: be16(b, 14)?,
            urgent: be16(b, 18)?,
            options: Options::parse(b.get(HEADER..offset)?, flags.contains(Flags::SYN)),
        };
        Some(Self { header, payload: b.get(offset..)?, ce: false, buffer: None })
    }

    /// The sequence space the segment takes: data, SYN and FIN.
    pub(crate) fn len(&self) -> u32 {
        let flags = self.header.flags;
        self.payload.len() as u32
            + u32::from(flags.contains(Flags::SYN))
            + u32::from(flags.contains(Flags::FIN))
    }

    /// The sequence number behind the segment.
    pub(crate) fn end(&self) -> Seq {
        self.header.seq + self.len()
    }

    /// True when a control bit is set.
    pub(crate) fn has(&self, flag: Flags) -> bool {
        self.header.flags.contains(flag)
    }
}

impl Header {
    /// Length of the header with its options.
    pub(crate) fn len(&self) -> usize {
        HEADER + self.options.len()
    }

    /// Writes the header, checksum left zero.
    pub(crate) fn emit(&self, b: &mut [u8]) {
        put(b, 0, &self.src_port.to_be_bytes());
        put(b, 2, &self.dst_port.to_be_bytes());
        put(b, 4, &self.seq.0.to_be_bytes());
        put(b, 8, &self.ack.0.to_be_bytes());
        put(b, 12, &[(self.len() / 4 << 4) as u8, self.flags.bits()]);
        put(b, 14, &self.window.to_be_bytes());
        put(b, 16, &[0, 0]);
        put(b, 18, &self.urgent.to_be_bytes());
        if let Some(options) = b.get_mut(HEADER..) {
            self.options.emit(options);
        }
    }
}
