//! The queue of frames between the stack and a link: bounded, newest dropped first (as `pfifo`).

use crate::link::Frame;
use std::collections::VecDeque;

/// Frames in a queue. Twice Linux's `txqueuelen`, because a link takes whole batches.
const MAX_FRAMES: usize = 2048;
/// Bytes in a queue.
const MAX_BYTES: usize = 16 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct TxQueue {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl TxQueue {
    /// Appends a frame; false when the queue is full and the frame was dropped.
    pub(crate) fn push(&mut self, frame: Frame) -> bool {
        if self.frames.len() >= MAX_FRAMES || self.bytes + frame.len() > MAX_BYTES {
            return false;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        true
    }

    /// True when at least half of the queue is free. What paces itself stops there.
    pub(crate) fn has_room(&self) -> bool {
        self.frames.len() < MAX_FRAMES / 2 && self.bytes < MAX_BYTES / 2
    }

    /// Takes everything.
    pub(crate) fn take(&mut self) -> VecDeque<Frame> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }

    /// Puts back, in front, what the link did not take.
    pub(crate) fn put_back(&mut self, rest: impl DoubleEndedIterator<Item = Frame>) {
        for frame in rest.rev() {
            self.bytes += frame.len();
            self.frames.push_front(frame);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}
