//! Frames that wait to be received.

use super::address::LinkAddress;
use super::frame::{Checksum, Frame};
use super::ring::Ring;
use crate::socket::unix::message::datagram_cost;
use std::collections::VecDeque;

/// `TP_STATUS_USER`
pub const STATUS_USER: u32 = 1;
/// `TP_STATUS_CSUMNOTREADY`
const STATUS_CHECKSUM_MISSING: u32 = 8;
/// `TP_STATUS_CSUM_VALID`
const STATUS_CHECKSUM_VALID: u32 = 128;

/// A frame that waits.
pub struct Waiting {
    /// What the filter has left of it.
    pub data: Vec<u8>,
    /// How long it was.
    pub len: usize,
    /// Where the network header is in it.
    pub network: usize,
    /// From where it came.
    pub from: LinkAddress,
    /// `TP_STATUS_*`
    pub status: u32,
    /// When it came: nanoseconds since the epoch.
    pub at: i64,
}

/// What a socket has received.
#[derive(Default)]
pub struct Received {
    frames: VecDeque<Waiting>,
    charged: usize,
    /// Frames that were taken, and that were dropped for want of room, since somebody last asked.
    counts: [u32; 2],
    /// Those that were dropped at all.
    pub dropped: u32,
    /// Where frames go instead, if the program has asked for that.
    pub ring: Option<Ring>,
    closed: bool,
}

/// What is known of a frame's checksum, as programs are told.
pub fn status(frame: &Frame<'_>) -> u32 {
    let checksum = match frame.checksum {
        Checksum::Unknown => 0,
        Checksum::Missing => STATUS_CHECKSUM_MISSING,
        Checksum::Valid => STATUS_CHECKSUM_VALID,
    };
    STATUS_USER | checksum
}

impl Received {
    /// Takes a frame, of which the filter leaves `most` bytes. False if there was no room.
    pub fn take(&mut self, frame: &Frame<'_>, cooked: bool, most: usize, rcvbuf: usize) -> bool {
        let skip = if cooked { frame.header } else { 0 };
        let data = frame.bytes.get(skip..).unwrap_or_default();
        let kept = data.get(..most.min(data.len())).unwrap_or_default();
        let at = crate::fs::anon::now();
        let taken = match &mut self.ring {
            _ if self.closed => false,
            Some(ring) => ring.put(frame, cooked, kept, at),
            // As on Linux the last one may go over the limit.
            None if self.charged >= rcvbuf => false,
            None => {
                self.charged += datagram_cost(kept.len());
                self.frames.push_back(Waiting {
                    data: kept.to_vec(),
                    len: data.len(),
                    network: frame.header - skip,
                    from: LinkAddress::of(frame),
                    status: status(frame),
                    at,
                });
                true
            }
        };
        let [packets, drops] = &mut self.counts;
        *packets = packets.wrapping_add(1);
        if !taken {
            *drops = drops.wrapping_add(1);
            self.dropped = self.dropped.wrapping_add(1);
        }
        taken
    }

    /// The first one, which stays.
    pub fn first(&self) -> Option<&Waiting> {
        self.frames.front()
    }

    /// Takes the first one.
    pub fn pop(&mut self) -> Option<Waiting> {
        let frame = self.frames.pop_front()?;
        self.charged = self.charged.saturating_sub(datagram_cost(frame.data.len()));
        Some(frame)
    }

    /// Bytes that wait, as they are charged.
    pub fn charged(&self) -> usize {
        self.charged
    }

    /// True if there is something to be received.
    pub fn is_readable(&self) -> bool {
        !self.frames.is_empty() || self.ring.as_ref().is_some_and(Ring::is_readable)
    }

    /// Frames, and how many of them were dropped, since the last time.
    pub fn take_counts(&mut self) -> [u32; 2] {
        std::mem::take(&mut self.counts)
    }

    /// Nothing more is taken; what waited is given back.
    pub fn close(&mut self) -> (VecDeque<Waiting>, Option<Ring>) {
        self.closed = true;
        self.charged = 0;
        (std::mem::take(&mut self.frames), self.ring.take())
    }

    /// Drops what waits in the queue: the ring takes over.
    pub fn clear(&mut self) -> VecDeque<Waiting> {
        self.charged = 0;
        std::mem::take(&mut self.frames)
    }
}
