//! Frames, as packet sockets are shown them.

use crate::bpf::packet::PacketInput;
use crate::socket::inet::interface::{ARPHRD_LOOPBACK, LOOPBACK};

/// `ETH_P_ALL`
pub const ETH_P_ALL: u16 = 3;
/// `ETH_P_IP`
pub const ETH_P_IP: u16 = 0x800;
/// `ETH_P_IPV6`
pub const ETH_P_IPV6: u16 = 0x86dd;
/// `ETH_P_802_3` and `ETH_P_802_2`: frames with a length in place of a protocol.
const ETH_P_802_3: u16 = 1;
const ETH_P_802_2: u16 = 4;
/// Smallest number that is a protocol (`ETH_P_802_3_MIN`).
const FIRST_PROTOCOL: u16 = 0x600;
/// Size of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;
/// `ARPHRD_ETHER`
pub const ARPHRD_ETHER: u16 = 1;

/// `PACKET_HOST`: to this machine.
pub const HOST: u8 = 0;
/// `PACKET_BROADCAST`
pub const BROADCAST: u8 = 1;
/// `PACKET_MULTICAST`
pub const MULTICAST: u8 = 2;
/// `PACKET_OTHERHOST`
pub const OTHER_HOST: u8 = 3;
/// `PACKET_OUTGOING`
pub const OUTGOING: u8 = 4;

/// What is known of a frame's transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing.
    Unknown,
    /// It is to be filled in by the interface.
    Missing,
    /// It is right.
    Valid,
}

/// A frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Index of the interface.
    pub device: u32,
    /// `ARPHRD_*` of the interface.
    pub hardware: u16,
    /// `PACKET_*`
    pub kind: u8,
    /// `ETH_P_*`
    pub protocol: u16,
    /// All of it, from the link header on.
    pub bytes: &'a [u8],
    /// Length of the link header.
    pub header: usize,
    /// See there.
    pub checksum: Checksum,
}

impl<'a> Frame<'a> {
    /// A frame of an Ethernet interface with the address `mac`. `None` if it is cut off.
    pub fn ethernet(
        device: u32,
        mac: [u8; 6],
        outgoing: bool,
        bytes: &'a [u8],
        checksum: Checksum,
    ) -> Option<Frame<'a>> {
        let header: &[u8; ETHERNET_HEADER] = bytes.first_chunk()?;
        let kind = match header.first_chunk()? {
            _ if outgoing => OUTGOING,
            to if *to == mac => HOST,
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => BROADCAST,
            [first, ..] if first & 1 != 0 => MULTICAST,
            _ => OTHER_HOST,
        };
        let protocol = protocol_of(bytes);
        let hardware = ARPHRD_ETHER;
        Some(Frame { device, hardware, kind, protocol, bytes, header: ETHERNET_HEADER, checksum })
    }

    /// A frame of the loopback interface, whose header says its protocol alone.
    pub fn loopback(bytes: &'a [u8], outgoing: bool, checksum: Checksum) -> Frame<'a> {
        Frame {
            device: LOOPBACK,
            hardware: ARPHRD_LOOPBACK,
            kind: match bytes.first_chunk() {
                _ if outgoing => OUTGOING,
                None | Some([0, 0, 0, 0, 0, 0]) => HOST,
                Some([first, ..]) if first & 1 != 0 => MULTICAST,
                Some(_) => OTHER_HOST,
            },
            protocol: protocol_of(bytes),
            bytes,
            header: ETHERNET_HEADER,
            checksum,
        }
    }

    /// The link address of the sender.
    pub fn source(&self) -> &'a [u8] {
        if self.header == ETHERNET_HEADER { self.bytes.get(6..12).unwrap_or_default() } else { &[] }
    }

    /// What a filter sees of it; `cooked`: without the link header.
    pub fn input(&self, cooked: bool) -> PacketInput<'a> {
        PacketInput {
            whole: self.bytes,
            data: if cooked { self.header } else { 0 },
            network: self.header,
            protocol: self.protocol,
            kind: self.kind,
            device: self.device,
            hardware: self.hardware,
        }
    }
}

/// The protocol that an Ethernet header names.
pub fn protocol_of(bytes: &[u8]) -> u16 {
    let half = |at: usize| bytes.get(at..at + 2).and_then(|b| b.first_chunk()).copied();
    match half(12).map(u16::from_be_bytes) {
        Some(protocol) if protocol >= FIRST_PROTOCOL => protocol,
        // What Novell sent before there was a standard.
        _ if half(ETHERNET_HEADER) == Some([0xff; 2]) => ETH_P_802_3,
        _ => ETH_P_802_2,
    }
}

/// An IP packet with the header that the loopback interface puts in front.
pub fn on_loopback(packet: &[u8]) -> Vec<u8> {
    let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
    let protocol = if v6 { ETH_P_IPV6 } else { ETH_P_IP };
    [&[0; 12][..], &protocol.to_be_bytes(), packet].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_whose_a_frame_is() {
        let mac = [2, 0, 0, 0, 0, 1];
        let frame = |to: [u8; 6], kind: u16| {
            [&to[..], &[2, 0, 0, 0, 0, 9], &kind.to_be_bytes(), &[0xff, 0xff]].concat()
        };
        let parse = |bytes: &[u8]| {
            let frame = Frame::ethernet(2, mac, false, bytes, Checksum::Unknown).unwrap();
            (frame.kind, frame.protocol)
        };
        assert_eq!(parse(&frame(mac, 0x800)), (HOST, ETH_P_IP));
        assert_eq!(parse(&frame([0xff; 6], 0x806)), (BROADCAST, 0x806));
        assert_eq!(parse(&frame([1; 6], 0x86dd)), (MULTICAST, ETH_P_IPV6));
        assert_eq!(parse(&frame([4; 6], 100)), (OTHER_HOST, ETH_P_802_3));
        assert!(Frame::ethernet(2, mac, false, &[0; 13], Checksum::Unknown).is_none());
    }
}
