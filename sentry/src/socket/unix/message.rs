//! Messages in a receive queue, and what they cost their sender.

use super::address::Name;
use crate::errno::Result;
use crate::io::{Sink, Source};
use crate::socket::{Rights, Ucred};
use crate::wait::{EventMask, WaitQueue};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a socket that can send reports.
pub const WRITABLE: EventMask = EventMask::WRITABLE.union(EventMask::WRBAND);

/// How much a sender has under way (`sk_wmem_alloc`), and how much it may have.
pub struct SendBuffer {
    used: AtomicUsize,
    limit: AtomicUsize,
    queue: Arc<WaitQueue>,
}

impl SendBuffer {
    /// An empty one; room is announced on `queue`.
    pub fn new(limit: usize, queue: Arc<WaitQueue>) -> Arc<SendBuffer> {
        Arc::new(SendBuffer { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit), queue })
    }

    /// `SO_SNDBUF`, in bytes.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets `SO_SNDBUF`.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.queue.notify(WRITABLE);
    }

    /// `SIOCOUTQ`.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// True if one more message may be sent.
    pub fn has_room(&self) -> bool {
        self.used() < self.limit()
    }

    /// True if `poll(2)` calls it writable: at most a quarter is used.
    pub fn is_writable(&self) -> bool {
        self.used().saturating_mul(4) <= self.limit()
    }

    fn release(&self, cost: usize) {
        self.used.fetch_sub(cost, Ordering::Relaxed);
        if self.is_writable() {
            self.queue.notify(WRITABLE);
        }
    }
}

/// A message, or a piece of a stream, in a receive queue.
pub struct Message {
    data: Vec<u8>,
    start: usize,
    /// Files that came with it.
    pub rights: Option<Rights>,
    /// Who sent it, if someone wanted to know.
    pub creds: Option<Ucred>,
    /// Name of the sending socket.
    pub from: Option<Arc<Name>>,
    /// It is the out-of-band byte.
    pub urgent: bool,
    cost: usize,
    buffer: Arc<SendBuffer>,
}

impl Message {
    /// Takes `len` bytes from `src`, charged to `buffer`. Fewer come when guest memory ends early.
    pub fn take(
        src: &mut dyn Source,
        len: usize,
        stream: bool,
        buffer: &Arc<SendBuffer>,
    ) -> Result<Message> {
        let mut data = vec![0; len];
        let n = if len == 0 { 0 } else { src.take(&mut data)? };
        data.truncate(n);
        let cost = if stream { stream_cost(n) } else { datagram_cost(n) };
        buffer.used.fetch_add(cost, Ordering::Relaxed);
        Ok(Message {
            data,
            start: 0,
            rights: None,
            creds: None,
            from: None,
            urgent: false,
            cost,
            buffer: buffer.clone(),
        })
    }

    /// The bytes that are left.
    pub fn bytes(&self) -> &[u8] {
        self.data.get(self.start..).unwrap_or_default()
    }

    /// Puts bytes from `skip` on; returns how many.
    pub fn put(&self, dst: &mut dyn Sink, skip: usize) -> Result<usize> {
        match self.bytes().get(skip..) {
            Some(bytes) if !bytes.is_empty() => dst.put(bytes),
            _ => Ok(0),
        }
    }

    /// The first `n` bytes have been read.
    pub fn advance(&mut self, n: usize) {
        self.start = (self.start + n).min(self.data.len());
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.buffer.release(self.cost);
    }
}

const PAGE: usize = 4096;
/// `struct sk_buff` and what ends its data area.
const SKB: usize = 256;
const SHARED_INFO: usize = 320;
/// Most bytes in the linear part of a datagram (`SKB_MAX_ALLOC`).
const MAX_LINEAR: usize = 4 * PAGE - SHARED_INFO;

fn linear_cost(n: usize) -> usize {
    (n + SHARED_INFO).max(512).next_power_of_two() + SKB
}

fn paged_cost(len: usize, max_linear: usize) -> usize {
    let Some(beyond) = len.checked_sub(max_linear).filter(|n| *n > 0) else {
        return linear_cost(len);
    };
    let paged = beyond.next_multiple_of(PAGE);
    linear_cost(len.saturating_sub(paged)) + paged
}

/// What Linux charges for a piece of a stream (`truesize`): programs see it in how much they can send
/// before they would block.
fn stream_cost(len: usize) -> usize {
    paged_cost(len, PAGE - SHARED_INFO)
}

/// What Linux charges for a datagram.
pub fn datagram_cost(len: usize) -> usize {
    paged_cost(len, MAX_LINEAR)
}

/// Most bytes in one piece of a stream.
pub fn stream_piece(limit: usize) -> usize {
    (limit / 2).saturating_sub(64).clamp(1, MAX_LINEAR + (32 << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages that fit into the default buffer, as counted on Linux 6.18.
    fn fill(cost: fn(usize) -> usize, len: usize) -> usize {
        212_992usize.div_ceil(cost(len))
    }

    #[test]
    fn costs_are_those_of_linux() {
        let seen =
            [(1, 278), (192, 278), (193, 167), (704, 167), (1000, 93), (2000, 49), (3776, 49)];
        for (len, count) in seen {
            assert_eq!((fill(stream_cost, len), fill(datagram_cost, len)), (count, count), "{len}");
        }
        for (len, count) in [(4096, 44), (8000, 24), (16000, 13), (32768, 7)] {
            assert_eq!(fill(stream_cost, len), count, "{len}");
        }
        for (len, count) in [(4096, 26), (8000, 13), (16000, 13), (32768, 6), (100_000, 3)] {
            assert_eq!(fill(datagram_cost, len), count, "{len}");
        }
    }
}
