//! Receiving by shared memory (`PACKET_RX_RING`, version `TPACKET_V2`).
//!
//! The memory is an array of slots. Each begins with a `struct tpacket2_hdr`, whose first word says whose the slot is: the
//! kernel's when it is 0. Everything in it but that word is only written; what the program writes there is its own harm.

use super::address::LinkAddress;
use super::frame::{ETHERNET_HEADER, Frame};
use super::queue::status;
use crate::errno::{Errno, Result};
use crate::mm::{PAGE_SIZE, SharedMemory};
use platform::MemoryFile;
use std::sync::Arc;

/// `TPACKET_V1` and `TPACKET_V2`
pub const V1: i32 = 0;
/// See [`V1`].
pub const V2: i32 = 1;
/// `TPACKET_V3`
pub const V3: i32 = 2;
/// `TPACKET_ALIGNMENT`
const ALIGNMENT: u32 = 16;
/// Size of a `struct tpacket2_hdr`.
const HEADER: u32 = 32;
/// The same with the address behind it (`TPACKET2_HDRLEN`).
const WITH_ADDRESS: u32 = HEADER + super::address::SIZE as u32;
/// `TP_STATUS_LOSING`: frames were dropped since somebody last asked for the counts.
const STATUS_LOSING: u32 = 4;
/// `TP_STATUS_TS_SOFTWARE`
const STATUS_STAMPED: u32 = 1 << 29;

/// Length of the header of a slot (`PACKET_HDRLEN`). `EINVAL` for versions that there are not.
pub fn header_len(version: i32) -> Result<i32> {
    if version == V2 { Ok(HEADER as i32) } else { Err(Errno::EINVAL) }
}

/// A `struct tpacket_req`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Bytes of a block.
    pub block_size: u32,
    /// Number of blocks.
    pub blocks: u32,
    /// Bytes of a slot.
    pub slot_size: u32,
    /// Number of slots.
    pub slots: u32,
}

impl Request {
    /// Reads one. `EINVAL`.
    pub fn parse(value: &[u8]) -> Result<Request> {
        let words: &[u8; 16] = value.first_chunk().ok_or(Errno::EINVAL)?;
        let [a, b, c, d] = *words.as_chunks().0 else { return Err(Errno::EINVAL) };
        let [block_size, blocks, slot_size, slots] = [a, b, c, d].map(u32::from_ne_bytes);
        Ok(Request { block_size, blocks, slot_size, slots })
    }

    /// True if it takes a ring away.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Bytes of the ring, if the request makes sense. `EINVAL`.
    pub fn check(&self, reserve: u32) -> Result<u64> {
        let block_is_odd = i32::try_from(self.block_size).map_or(true, |n| n <= 0)
            || !u64::from(self.block_size).is_multiple_of(PAGE_SIZE);
        let least = u64::from(WITH_ADDRESS) + u64::from(reserve);
        if block_is_odd
            || u64::from(self.slot_size) < least
            || !self.slot_size.is_multiple_of(ALIGNMENT)
        {
            return Err(Errno::EINVAL);
        }
        let in_block = self.block_size.checked_div(self.slot_size).unwrap_or(0);
        let slots = u64::from(in_block) * u64::from(self.blocks);
        if in_block == 0 || slots != u64::from(self.slots) {
            return Err(Errno::EINVAL);
        }
        Ok(u64::from(self.block_size) * u64::from(self.blocks))
    }
}

/// A ring.
pub struct Ring {
    memory: Arc<SharedMemory>,
    request: Request,
    /// Bytes that the program wants free in front of each frame (`PACKET_RESERVE`).
    reserve: u32,
    /// The next slot.
    head: u32,
    losing: bool,
}

impl Ring {
    /// A ring in `memory`. `EINVAL`, `ENOMEM`.
    pub fn new(memory: &Arc<MemoryFile>, request: Request, reserve: u32) -> Result<Ring> {
        let memory = Arc::new(SharedMemory::new(memory, request.check(reserve)?)?);
        Ok(Ring { memory, request, reserve, head: 0, losing: false })
    }

    /// The memory, which the program maps.
    pub fn memory(&self) -> &Arc<SharedMemory> {
        &self.memory
    }

    /// True while somebody maps it.
    pub fn is_mapped(&self) -> bool {
        Arc::strong_count(&self.memory) > 1
    }

    /// Somebody was told how many frames were lost.
    pub fn forget_losses(&mut self) {
        self.losing = false;
    }

    /// Where a slot is. Slots do not go over the borders of blocks.
    fn place(&self, slot: u32) -> u64 {
        let Request { block_size, slot_size, .. } = self.request;
        let in_block = block_size.checked_div(slot_size).unwrap_or(1).max(1);
        u64::from(slot / in_block) * u64::from(block_size)
            + u64::from(slot % in_block) * u64::from(slot_size)
    }

    fn is_kernels(&self, slot: u32) -> bool {
        self.memory.frames().load32(self.place(slot)).is_ok_and(|status| status == 0)
    }

    /// True while the program has not given back the slot that was filled last.
    pub fn is_readable(&self) -> bool {
        let last = self.head.checked_sub(1).unwrap_or(self.request.slots.saturating_sub(1));
        !self.is_kernels(last)
    }

    /// Fills a slot with what is `kept` of a frame that came `at` so many nanoseconds. False if the next one is still
    /// the program's.
    pub fn put(&mut self, frame: &Frame<'_>, cooked: bool, kept: &[u8], at: i64) -> bool {
        if !self.is_kernels(self.head) {
            self.losing = true;
            return false;
        }
        let room = (frame.header as u32).max(16);
        let (network, start) = if cooked {
            let network = WITH_ADDRESS.next_multiple_of(ALIGNMENT) + 16 + self.reserve;
            (network, network)
        } else {
            let network = (WITH_ADDRESS + room).next_multiple_of(ALIGNMENT) + self.reserve;
            (network, network - frame.header as u32)
        };
        let len = frame.bytes.len() - if cooked { frame.header } else { 0 };
        let kept =
            kept.get(..self.request.slot_size.saturating_sub(start) as usize).unwrap_or(kept);
        let (seconds, nanos) = (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000));
        let halves = |a: u32, b: u32| (a as u16, b as u16);
        let (start16, network16) = halves(start, network);
        let header = [
            &(len as u32).to_ne_bytes()[..],
            &(kept.len() as u32).to_ne_bytes(),
            &start16.to_ne_bytes(),
            &network16.to_ne_bytes(),
            &(seconds as u32).to_ne_bytes(),
            &(nanos as u32).to_ne_bytes(),
            // No tags are taken off frames.
            &[0; 8],
            &LinkAddress::of(frame).bytes(),
        ]
        .concat();
        let (place, frames) = (self.place(self.head), self.memory.frames());
        let losing = if self.losing { STATUS_LOSING } else { 0 };
        let written = frames
            .write(place + u64::from(start), kept)
            .and_then(|()| frames.write(place + 4, &header))
            .and_then(|()| frames.store32(place, status(frame) | STATUS_STAMPED | losing));
        if written.is_err() {
            // The machine is out of memory.
            return false;
        }
        self.head = if self.head + 1 >= self.request.slots { 0 } else { self.head + 1 };
        true
    }
}

/// Most of what a program may want free in front of frames: offsets have 16 bits.
pub fn max_reserve() -> u32 {
    u32::from(u16::MAX) - WITH_ADDRESS - 64 - ETHERNET_HEADER as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::packet::frame::Checksum;

    fn request(block_size: u32, blocks: u32, slot_size: u32, slots: u32) -> Request {
        Request { block_size, blocks, slot_size, slots }
    }

    #[test]
    fn what_makes_a_ring() {
        assert_eq!(request(8192, 2, 1024, 16).check(0), Ok(16384));
        // A block may have a rest.
        assert_eq!(request(8192, 2, 3008, 4).check(0), Ok(16384));
        for bad in [
            request(8191, 2, 1024, 16),
            request(8192, 2, 1024, 15),
            request(8192, 2, 1000, 16),
            request(8192, 2, 48, 340),
            request(8192, 2, 16384, 0),
            request(0x8000_0000, 1, 1024, 0x20_0000),
            request(0, 1, 1024, 0),
        ] {
            assert_eq!(bad.check(0), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(request(8192, 2, 64, 256).check(16), Err(Errno::EINVAL));
    }

    #[test]
    fn slots_are_filled_in_turn() {
        let memory = MemoryFile::new().unwrap();
        let mut ring = Ring::new(&memory, request(4096, 1, 1024, 4), 0).unwrap();
        let bytes = [7; 100];
        let frame = Frame::loopback(&bytes, false, Checksum::Missing);
        assert!(!ring.is_readable());
        for n in 0..4 {
            assert!(ring.put(&frame, false, &bytes, 5_000_000_007), "{n}");
            assert!(ring.is_readable());
        }
        assert!(!ring.put(&frame, false, &bytes, 0), "the program has taken none");
        let mut slot = [0; 200];
        ring.memory().frames().read(1024, &mut slot).unwrap();
        let word = |at: usize| u32::from_ne_bytes(*slot[at..].first_chunk().unwrap());
        assert_eq!([word(0), word(4), word(8)], [1 | 8 | STATUS_STAMPED, 100, 100]);
        assert_eq!(u16::from_ne_bytes([slot[12], slot[13]]), 66);
        assert_eq!([word(16), word(20)], [5, 7]);
        assert_eq!(slot[66..166], bytes);
        ring.memory().frames().store32(0, 0).unwrap();
        assert!(ring.put(&frame, false, &bytes[..10], 0));
        ring.memory().frames().read(0, &mut slot).unwrap();
        let word = |at: usize| u32::from_ne_bytes(*slot[at..].first_chunk().unwrap());
        assert_eq!([word(0) & STATUS_LOSING, word(4), word(8)], [STATUS_LOSING, 100, 10]);
    }
}
