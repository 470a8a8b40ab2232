//! A capture of the packets that go over the sandbox's interfaces (`--pcap`), in the format pcapng
//! (draft-ietf-opsawg-pcapng) with times in nanoseconds, as `tcpdump -r` and Wireshark read it.
//!
//! Each block is one write to a file that was opened for appending, so that no lock is held meanwhile and a reader sees
//! whole blocks. Packets are as the stack and the host exchange them: large TCP packets that are not cut yet, and
//! checksums that are left to the other side.

use platform::host::{Errno, io, time};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Most bytes that are kept of a packet: all of the largest one.
const SNAP: usize = 65_549;
/// `LINKTYPE_ETHERNET`
const ETHERNET: u16 = 1;
/// Types of blocks: section header, interface description, enhanced packet.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
/// Options: the end of them, an interface's name, and the resolution of its times.
const END: u16 = 0;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
/// Option of a packet: its direction, in the lowest two bits.
const FLAGS: u16 = 2;

/// The way of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the sandbox.
    In = 1,
    /// From it.
    Out = 2,
}

/// An open capture.
#[derive(Debug)]
pub struct Capture {
    file: OwnedFd,
    interfaces: AtomicU32,
    /// It could not be written any more.
    broken: AtomicBool,
}

/// An interface of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceNumber(u32);

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend(code.to_ne_bytes());
    out.extend((value.len() as u16).to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// A block without its data: what comes before `data`, and what comes after it.
fn block(kind: u32, before: &[u8], data: usize, after: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let padding = data.next_multiple_of(4) - data;
    let len = (12 + before.len() + data + padding + after.len()) as u32;
    let head = [&kind.to_ne_bytes()[..], &len.to_ne_bytes(), before].concat();
    let tail = [&[0; 3][..padding.min(3)], after, &len.to_ne_bytes()].concat();
    (head, tail)
}

impl Capture {
    /// A capture into `file`, which is empty, and open for appending.
    pub fn new(file: OwnedFd) -> Result<Capture, Errno> {
        // Byte order, version 1.0, and a length that is not known.
        let mut body = 0x1a2b_3c4d_u32.to_ne_bytes().to_vec();
        body.extend([1u16, 0].iter().flat_map(|n| n.to_ne_bytes()));
        body.extend([0xff; 8]);
        let (head, tail) = block(SECTION, &body, 0, &[]);
        io::write_vectored(file.as_fd(), &[&head, &tail])?;
        Ok(Capture { file, interfaces: AtomicU32::new(0), broken: AtomicBool::new(false) })
    }

    /// Adds an interface. Called before anything is captured.
    pub fn interface(&self, name: &[u8]) -> Result<InterfaceNumber, Errno> {
        let mut body = ETHERNET.to_ne_bytes().to_vec();
        body.extend([0; 2]);
        body.extend((SNAP as u32).to_ne_bytes());
        option(&mut body, NAME, name);
        option(&mut body, RESOLUTION, &[9]);
        option(&mut body, END, &[]);
        let (head, tail) = block(INTERFACE, &body, 0, &[]);
        io::write_vectored(self.file.as_fd(), &[&head, &tail])?;
        Ok(InterfaceNumber(self.interfaces.fetch_add(1, Ordering::SeqCst)))
    }

    /// Keeps a packet, from its link header on.
    pub fn packet(&self, interface: InterfaceNumber, direction: Direction, frame: &[u8]) {
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        let (head, tail) = packet_block(interface, direction, frame, time::Clock::Realtime.now());
        let kept = frame.get(..frame.len().min(SNAP)).unwrap_or_default();
        let written = io::write_vectored(self.file.as_fd(), &[&head, kept, &tail]);
        let whole = head.len() + kept.len() + tail.len();
        if written != Ok(whole) && !self.broken.swap(true, Ordering::Relaxed) {
            let why = written.err().map_or("the disk is full".into(), |e| e.to_string());
            eprintln!("runsc: the capture of packets ends: it cannot be written: {why}");
        }
    }
}

fn packet_block(
    InterfaceNumber(number): InterfaceNumber,
    direction: Direction,
    frame: &[u8],
    now: u64,
) -> (Vec<u8>, Vec<u8>) {
    let kept = frame.len().min(SNAP);
    let words = [number, (now >> 32) as u32, now as u32, kept as u32, frame.len() as u32];
    let body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut options = Vec::new();
    option(&mut options, FLAGS, &(direction as u32).to_ne_bytes());
    option(&mut options, END, &[]);
    block(PACKET, &body, kept, &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_know_their_length() {
        for len in [0, 1, 59, 60, 61, 1514, SNAP, SNAP + 1, SNAP + 7] {
            let frame = vec![7; len];
            let (head, tail) = packet_block(InterfaceNumber(0), Direction::In, &frame, 1 << 60);
            let whole = head.len() + len.min(SNAP) + tail.len();
            assert_eq!(whole % 4, 0, "{len}");
            let stated = u32::from_ne_bytes(*head[4..].first_chunk().unwrap());
            assert_eq!(stated as usize, whole, "{len}");
            assert_eq!(tail[tail.len() - 4..], head[4..8]);
        }
    }
}
