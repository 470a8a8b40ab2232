//! `struct sockaddr_ll`.

use super::AF_PACKET;
use super::frame::Frame;
use crate::errno::{Errno, Result};

/// Its size.
pub const SIZE: usize = 20;
/// What is in front of the link address.
const FIXED: usize = 12;
/// Most bytes of a link address.
const MAX_ADDRESS: usize = 8;

/// An address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkAddress {
    /// `sll_protocol`, in this machine's byte order.
    pub protocol: u16,
    /// Index of the interface.
    pub device: u32,
    /// `ARPHRD_*`
    pub hardware: u16,
    /// `PACKET_*`
    pub kind: u8,
    /// Length of the link address, as it was given.
    pub len: u8,
    /// The link address, padded.
    pub address: [u8; MAX_ADDRESS],
}

impl LinkAddress {
    /// Reads one; the family is not looked at. `EINVAL`.
    pub fn parse(bytes: &[u8]) -> Result<LinkAddress> {
        let fixed: &[u8; SIZE] = bytes.first_chunk().ok_or(Errno::EINVAL)?;
        let [_, _, p0, p1, d0, d1, d2, d3, h0, h1, kind, len, address @ ..] = *fixed;
        Ok(LinkAddress {
            protocol: u16::from_be_bytes([p0, p1]),
            device: u32::from_ne_bytes([d0, d1, d2, d3]),
            hardware: u16::from_ne_bytes([h0, h1]),
            kind,
            len,
            address,
        })
    }

    /// From where a frame came, over which interface.
    pub fn of(frame: &Frame<'_>) -> LinkAddress {
        let source = frame.source();
        let mut address = [0; MAX_ADDRESS];
        for (to, from) in address.iter_mut().zip(source) {
            *to = *from;
        }
        LinkAddress {
            protocol: frame.protocol,
            device: frame.device,
            hardware: frame.hardware,
            kind: frame.kind,
            len: source.len().min(MAX_ADDRESS) as u8,
            address,
        }
    }

    /// As it lies in memory.
    pub fn bytes(&self) -> [u8; SIZE] {
        let mut out = [0; SIZE];
        let fixed = [
            &(AF_PACKET as u16).to_ne_bytes()[..],
            &self.protocol.to_be_bytes(),
            &self.device.to_ne_bytes(),
            &self.hardware.to_ne_bytes(),
            &[self.kind, self.len],
            &self.address,
        ];
        for (to, from) in out.iter_mut().zip(fixed.into_iter().flatten()) {
            *to = *from;
        }
        out
    }

    /// What of it names an interface (`getsockname(2)`): without the rest of a short link address.
    pub fn name(&self) -> Vec<u8> {
        let len = FIXED + usize::from(self.len);
        self.bytes().get(..len).unwrap_or_default().to_vec()
    }
}

/// True if an address of `given` bytes has room for the link address that it says it has.
pub fn has_whole_address(address: &LinkAddress, given: usize) -> bool {
    given >= FIXED + usize::from(address.len)
}
