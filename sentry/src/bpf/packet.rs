//! What a socket's filter sees of a packet.

use super::{Ancillary, Input, Size};

/// Offsets from here on count from the network header (`SKF_NET_OFF`), from the link's below that (`SKF_LL_OFF`).
const NETWORK: i32 = -0x10_0000;
const LINK: i32 = -0x20_0000;
/// Size of a `struct nlattr`.
const ATTRIBUTE: usize = 4;

/// A packet, and what is known of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct PacketInput<'a> {
    /// From the link header on.
    pub whole: &'a [u8],
    /// Where in it the data of the program begins.
    pub data: usize,
    /// Where in it the network header is.
    pub network: usize,
    /// `ETH_P_*`
    pub protocol: u16,
    /// `PACKET_*`
    pub kind: u8,
    /// Index of the interface.
    pub device: u32,
    /// `ARPHRD_*`
    pub hardware: u16,
}

/// A number of the network's byte order in `bytes`.
pub fn number(bytes: &[u8], size: Size, at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(size.bytes())?)?;
    Some(bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
}

impl PacketInput<'_> {
    fn bytes(&self) -> &[u8] {
        self.whole.get(self.data..).unwrap_or_default()
    }

    /// Where the first attribute of type `kind` is in `from..end` of the data; 0 for nowhere.
    fn attribute(&self, mut from: usize, end: usize, kind: u32) -> u32 {
        let bytes = self.bytes();
        let half = |at: usize| {
            let half = bytes.get(at..at + 2).and_then(|b| b.first_chunk());
            half.map_or(0, |b| u16::from_ne_bytes(*b))
        };
        // The two highest bits of a type are flags.
        while from + ATTRIBUTE <= end.min(bytes.len()) {
            let len = usize::from(half(from));
            if len < ATTRIBUTE || from + len > end {
                return 0;
            }
            if u32::from(half(from + 2) & 0x3fff) == kind {
                return from as u32;
            }
            from += len.next_multiple_of(4);
        }
        0
    }

    fn nested_attribute(&self, at: usize, kind: u32) -> u32 {
        let bytes = self.bytes();
        let len = bytes.get(at..).and_then(|b| b.first_chunk()).map(|b| u16::from_ne_bytes(*b));
        match len.map(usize::from) {
            Some(len) if len >= ATTRIBUTE && at + len <= bytes.len() => {
                self.attribute(at + ATTRIBUTE, at + len, kind)
            }
            _ => 0,
        }
    }

    /// Where the payload of the transport protocol begins, counted from the data.
    fn payload(&self) -> u32 {
        let packet = self.whole.get(self.network..).unwrap_or_default();
        let byte = |at: usize| usize::from(packet.get(at).copied().unwrap_or(0));
        let (header, protocol) = match byte(0) >> 4 {
            4 => ((byte(0) & 15) * 4, byte(9)),
            6 => (40, byte(6)),
            _ => (0, 255),
        };
        let transport = match protocol {
            6 => (byte(header + 12) >> 4) * 4,
            17 | 136 | 1 | 58 => 8,
            _ => 0,
        };
        (self.network + header + transport).saturating_sub(self.data) as u32
    }
}

impl Input for PacketInput<'_> {
    fn len(&self) -> u32 {
        self.bytes().len() as u32
    }

    fn load(&self, size: Size, offset: i32) -> Option<u32> {
        let start = match offset {
            0.. => self.data,
            NETWORK..0 => self.network,
            LINK..NETWORK => 0,
            _ => return None,
        };
        let distance = match offset {
            0.. => offset,
            NETWORK..0 => offset - NETWORK,
            _ => offset - LINK,
        };
        number(self.whole, size, start.checked_add(usize::try_from(distance).ok()?)?)
    }

    fn ancillary(&self, what: Ancillary, a: u32, x: u32) -> u32 {
        match what {
            Ancillary::Protocol => self.protocol.into(),
            Ancillary::PacketType => self.kind.into(),
            Ancillary::Interface => self.device,
            Ancillary::HardwareType => self.hardware.into(),
            Ancillary::PayloadOffset => self.payload(),
            Ancillary::Random => crate::mm::random_u64() as u32,
            Ancillary::Attribute => self.attribute(a as usize, self.bytes().len(), x),
            Ancillary::NestedAttribute => self.nested_attribute(a as usize, x),
            Ancillary::XorX => a ^ x,
            // There is one queue, and no interface takes tags away or counts hashes.
            Ancillary::Mark
            | Ancillary::Queue
            | Ancillary::Hash
            | Ancillary::Cpu
            | Ancillary::VlanTag
            | Ancillary::VlanTagPresent
            | Ancillary::VlanProtocol => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_from_headers() {
        let whole: Vec<u8> = (0..60).collect();
        let input = PacketInput { whole: &whole, data: 20, network: 14, ..Default::default() };
        assert_eq!(input.len(), 40);
        assert_eq!(input.load(Size::Byte, 0), Some(20));
        assert_eq!(input.load(Size::Half, NETWORK + 2), Some(0x1011));
        assert_eq!(input.load(Size::Word, LINK), Some(0x0001_0203));
        assert_eq!(input.load(Size::Byte, LINK - 1), None);
        assert_eq!(input.load(Size::Byte, -1), None);
        assert_eq!(input.load(Size::Word, 37), None);
    }

    #[test]
    fn attributes_are_found() {
        let attr = |kind: u16, data: &[u8]| {
            let mut out = ((4 + data.len()) as u16).to_ne_bytes().to_vec();
            out.extend(kind.to_ne_bytes());
            out.extend(data);
            out.resize(out.len().next_multiple_of(4), 0);
            out
        };
        let nested = [attr(1, b"x"), attr(9, b"yz")].concat();
        let whole = [attr(3, b"abc"), attr(7, &nested)].concat();
        let input = PacketInput { whole: &whole, ..Default::default() };
        let ask = |what, a, x| input.ancillary(what, a, x);
        assert_eq!(ask(Ancillary::Attribute, 0, 7), 8);
        assert_eq!(ask(Ancillary::Attribute, 0, 8), 0);
        assert_eq!(ask(Ancillary::NestedAttribute, 8, 9), 20);
        assert_eq!(ask(Ancillary::NestedAttribute, 8, 5), 0);
        assert_eq!(ask(Ancillary::NestedAttribute, u32::MAX, 5), 0);
        assert_eq!(ask(Ancillary::Attribute, u32::MAX, 5), 0);
    }
}
