//! One direction of a connection: a queue of bytes from one socket to the other.
//!
//! A sender copies into chunks without holding the queue's lock, a receiver takes chunks out and copies
//! from them without holding it: bytes move with one copy in and one copy out, and both sides work at
//! the same time. Chunks that have been read go back to the sender, so that a busy connection
//! allocates nothing.

use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::sync::{Mutex, rank};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Bytes in a chunk of a bulk transfer.
const CHUNK: usize = 64 << 10;
/// Writes up to this size are gathered in one chunk.
const SMALL: usize = 1024;
/// Chunks kept for reuse.
const SPARE: usize = 4;

struct Chunk {
    data: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Appends `bytes` if all of them fit.
    fn append(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.data.get_mut(self.end..self.end + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.end += bytes.len();
        true
    }
}

/// Urgent data (`MSG_OOB`, `tcp(7)`): one byte of the stream.
#[derive(Clone, Copy)]
struct Urgent {
    /// Where in the stream.
    at: u64,
    byte: u8,
    /// Not yet taken by `MSG_OOB`.
    valid: bool,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    spare: Vec<Box<[u8]>>,
    urgent: Option<Urgent>,
    /// Nobody will read any more.
    closed: bool,
}

/// What became of bytes that were sent.
pub struct Sent {
    /// How many were taken.
    pub bytes: usize,
    /// The receiver is gone: they are lost, and the connection is reset.
    pub reset: bool,
}

/// One direction.
pub struct Half {
    writer: Mutex<(), { rank::INODE }>,
    reader: Mutex<(), { rank::INODE }>,
    queue: Mutex<Queue, { rank::INODE_NESTED }>,
    /// Bytes ever queued, and bytes ever read.
    written: AtomicU64,
    consumed: AtomicU64,
    /// Receive buffer and send buffer, which together are the queue's capacity.
    window: AtomicUsize,
    buffer: AtomicUsize,
    /// A sender has found no room and wants to be told.
    starved: AtomicBool,
    /// Somebody waits until the receiver's buffer has taken everything.
    draining: AtomicBool,
    /// There is urgent data that was not read: poll reports it.
    urgent: AtomicBool,
    /// There is an urgent mark, read or not.
    marked: AtomicBool,
}

impl Half {
    /// An empty direction with a receive buffer of `window` and a send buffer of `buffer` bytes.
    pub fn new(window: usize, buffer: usize) -> Half {
        Half {
            writer: Mutex::default(),
            reader: Mutex::default(),
            queue: Mutex::default(),
            written: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            window: AtomicUsize::new(window),
            buffer: AtomicUsize::new(buffer),
            starved: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            marked: AtomicBool::new(false),
        }
    }

    /// Changes the receiver's buffer.
    pub fn set_window(&self, bytes: usize) {
        self.window.store(bytes, Ordering::Relaxed);
    }

    /// Changes the sender's buffer.
    pub fn set_buffer(&self, bytes: usize) {
        self.buffer.store(bytes, Ordering::Relaxed);
    }

    /// Bytes in the queue.
    pub fn len(&self) -> usize {
        // Consumed first: it never runs ahead of what is read after it.
        let consumed = self.consumed.load(Ordering::SeqCst);
        self.written.load(Ordering::SeqCst).saturating_sub(consumed) as usize
    }

    /// Bytes ever sent.
    pub fn total(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Bytes ever read.
    pub fn total_read(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// Bytes that the receiver's buffer has no room for (`SIOCOUTQ`).
    pub fn unsent(&self) -> usize {
        self.len().saturating_sub(self.window.load(Ordering::Relaxed))
    }

    /// Bytes that the receiver's buffer has room for.
    pub fn free_window(&self) -> usize {
        self.window.load(Ordering::Relaxed).saturating_sub(self.len())
    }

    fn room(&self) -> usize {
        let all = self.window.load(Ordering::Relaxed) + self.buffer.load(Ordering::Relaxed);
        all.saturating_sub(self.len())
    }

    fn enough_room(&self) -> bool {
        let (unsent, buffer) = (self.unsent(), self.buffer.load(Ordering::Relaxed));
        buffer.saturating_sub(unsent) >= unsent / 2 && unsent < buffer
    }

    /// True if `poll(2)` calls it writable: no more than two thirds of the send buffer are in use. If
    /// not, the sender is told when it is.
    pub fn is_writable(&self) -> bool {
        if self.enough_room() {
            return true;
        }
        self.starved.store(true, Ordering::SeqCst);
        self.enough_room()
    }

    /// True when the receiver's buffer has taken everything. If not, the sender is told when it has.
    pub fn is_drained(&self) -> bool {
        if self.unsent() == 0 {
            return true;
        }
        self.draining.store(true, Ordering::SeqCst);
        self.unsent() == 0
    }

    /// True once if a sender waits and there is room for it.
    pub fn take_relief(&self) -> bool {
        if self.draining.load(Ordering::SeqCst)
            && self.unsent() == 0
            && self.draining.swap(false, Ordering::SeqCst)
        {
            return true;
        }
        self.starved.load(Ordering::SeqCst)
            && self.enough_room()
            && self.starved.swap(false, Ordering::SeqCst)
    }

    /// Nobody will read any more.
    pub fn close(&self) {
        let unread = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.chunks)
        };
        drop(unread);
    }

    /// Takes what fits from `src`; `told` is called when some of it can be read, and before that `shown` with bytes
    /// and their place in the stream, if somebody looks. `EAGAIN` if nothing fits. With `urgent` the last byte is marked.
    pub fn send(
        &self,
        src: &mut dyn Source,
        urgent: bool,
        shown: Option<&dyn Fn(u64, &[u8])>,
        mut told: impl FnMut(),
    ) -> Result<Sent> {
        let writer = self.writer.lock();
        let mut done = 0;
        let mut result = Ok(false);
        while src.remaining() > 0 {
            let mut room = self.room();
            if room == 0 {
                self.starved.store(true, Ordering::SeqCst);
                room = self.room();
                if room == 0 {
                    break;
                }
            }
            let want = src.remaining().min(room);
            let pushed = match want {
                0..=SMALL => self.send_small(src, want, shown),
                _ => self.send_chunk(src, want, shown),
            };
            match pushed {
                Ok((n, closed)) => {
                    done += n;
                    if closed {
                        result = Ok(true);
                        break;
                    }
                    if n == 0 {
                        break;
                    }
                    if src.remaining() > 0 {
                        told();
                    }
                }
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
        }
        if urgent && done > 0 && matches!(result, Ok(false)) {
            self.mark_urgent();
        }
        drop(writer);
        match result {
            Err(e) if done == 0 => Err(e),
            Ok(reset) if reset || done > 0 || src.remaining() == 0 => {
                if done > 0 && !reset {
                    told();
                }
                Ok(Sent { bytes: done, reset })
            }
            Ok(_) => Err(Errno::EAGAIN),
            Err(_) => {
                told();
                Ok(Sent { bytes: done, reset: false })
            }
        }
    }

    fn send_small(
        &self,
        src: &mut dyn Source,
        want: usize,
        shown: Option<&dyn Fn(u64, &[u8])>,
    ) -> Result<(usize, bool)> {
        let mut buf = [0; SMALL];
        let n = src.take(buf.get_mut(..want).unwrap_or_default())?;
        let bytes = buf.get(..n).unwrap_or_default();
        if let Some(shown) = shown {
            shown(self.total(), bytes);
        }
        let mut queue = self.queue.lock();
        if queue.closed {
            return Ok((n, true));
        }
        let behind = !queue.chunks.is_empty();
        if !queue.chunks.back_mut().is_some_and(|last| last.append(bytes)) {
            // A receiver that lags behind will find several writes in one chunk.
            let size = if behind { 4 * SMALL } else { n.next_power_of_two().max(256) };
            let mut data = vec![0; size].into_boxed_slice();
            if let Some(start) = data.get_mut(..n) {
                start.copy_from_slice(bytes);
            }
            queue.chunks.push_back(Chunk { data, start: 0, end: n });
        }
        self.written.fetch_add(n as u64, Ordering::SeqCst);
        Ok((n, false))
    }

    fn send_chunk(
        &self,
        src: &mut dyn Source,
        want: usize,
        shown: Option<&dyn Fn(u64, &[u8])>,
    ) -> Result<(usize, bool)> {
        let want = want.min(CHUNK);
        let bulk = want > CHUNK / 4;
        let spare = if bulk { self.queue.lock().spare.pop() } else { None };
        let size = if bulk { CHUNK } else { want.next_power_of_two() };
        let mut data = spare.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        let n = src.take(data.get_mut(..want).unwrap_or_default())?;
        if let Some(shown) = shown {
            shown(self.total(), data.get(..n).unwrap_or_default());
        }
        let mut queue = self.queue.lock();
        if queue.closed {
            return Ok((n, true));
        }
        if n > 0 {
            queue.chunks.push_back(Chunk { data, start: 0, end: n });
            self.written.fetch_add(n as u64, Ordering::SeqCst);
        }
        Ok((n, false))
    }

    /// Adds bytes, of which there are few, whether or not there is room. True if nobody will read them.
    pub fn push(&self, bytes: Vec<u8>, shown: Option<&dyn Fn(u64, &[u8])>) -> bool {
        let _writer = self.writer.lock();
        if let Some(shown) = shown {
            shown(self.total(), &bytes);
        }
        let mut queue = self.queue.lock();
        let end = bytes.len();
        if queue.closed {
            return true;
        }
        queue.chunks.push_back(Chunk { data: bytes.into_boxed_slice(), start: 0, end });
        self.written.fetch_add(end as u64, Ordering::SeqCst);
        false
    }

    /// Marks the byte sent last.
    fn mark_urgent(&self) {
        let mut queue = self.queue.lock();
        let at = self.written.load(Ordering::SeqCst).saturating_sub(1);
        let byte = queue.chunks.back().and_then(|c| c.bytes().last().copied());
        let Some(byte) = byte else { return };
        queue.urgent = Some(Urgent { at, byte, valid: true });
        self.marked.store(true, Ordering::SeqCst);
        self.urgent.store(true, Ordering::SeqCst);
    }

    /// True while there is urgent data that was not read (`POLLPRI`).
    pub fn has_urgent(&self) -> bool {
        self.urgent.load(Ordering::SeqCst)
    }

    /// True at the urgent mark (`SIOCATMARK`).
    pub fn at_mark(&self) -> bool {
        if !self.marked.load(Ordering::SeqCst) {
            return false;
        }
        let queue = self.queue.lock();
        queue.urgent.is_some_and(|u| u.at == self.consumed.load(Ordering::SeqCst))
    }

    /// Bytes that can be read before the urgent mark or the end (`SIOCINQ`).
    pub fn readable(&self, inline: bool) -> usize {
        let queue = self.queue.lock();
        let consumed = self.consumed.load(Ordering::SeqCst);
        match queue.urgent {
            Some(u) if !inline && u.at >= consumed => (u.at - consumed) as usize,
            _ => self.len(),
        }
    }

    /// The urgent byte (`MSG_OOB`). `EINVAL` if there is none or it was read.
    pub fn receive_urgent(&self, dst: &mut dyn Sink, peek: bool) -> Result<usize> {
        let byte = {
            let mut queue = self.queue.lock();
            let urgent = queue.urgent.as_mut().filter(|u| u.valid).ok_or(Errno::EINVAL)?;
            if !peek {
                urgent.valid = false;
                self.urgent.store(false, Ordering::SeqCst);
            }
            urgent.byte
        };
        if dst.remaining() > 0 {
            dst.put(&[byte])?;
        }
        Ok(1)
    }

    /// How much may be read in one go at stream position `at`: up to the urgent mark. At the mark
    /// itself: whether the byte is skipped.
    fn stop(&self, queue: &Queue, at: u64, inline: bool) -> (usize, bool) {
        match queue.urgent {
            Some(u) if u.at == at && !inline => (0, true),
            Some(u) if u.at > at => ((u.at - at) as usize, false),
            _ => (usize::MAX, false),
        }
    }

    /// Looks at bytes from `skip` on without taking them.
    pub fn peek(&self, dst: &mut dyn Sink, mut skip: usize, inline: bool) -> Result<usize> {
        let _reader = self.reader.lock();
        let queue = self.queue.lock();
        let mut at = self.consumed.load(Ordering::SeqCst);
        let mut done = 0;
        for chunk in &queue.chunks {
            let mut bytes = chunk.bytes();
            while !bytes.is_empty() && dst.remaining() > 0 {
                let (mut max, skipped) = self.stop(&queue, at, inline);
                if max != usize::MAX && skip > max {
                    max = usize::MAX;
                }
                if (skipped || max == 0) && done > 0 {
                    return Ok(done);
                }
                let mut step = bytes.len().min(max.max(1));
                if skipped {
                    step = 1;
                } else if skip > 0 {
                    step = step.min(skip);
                    skip -= step;
                } else {
                    step = match dst.put(bytes.get(..step).unwrap_or_default()) {
                        Ok(n) => n,
                        Err(e) if done == 0 => return Err(e),
                        Err(_) => return Ok(done),
                    };
                    done += step;
                }
                if step == 0 {
                    return Ok(done);
                }
                at += step as u64;
                bytes = bytes.get(step..).unwrap_or_default();
                if done > 0 && queue.urgent.is_some_and(|u| u.at == at) {
                    return Ok(done);
                }
            }
        }
        Ok(done)
    }

    /// Moves bytes to `dst`; with `discard` they are only dropped, as many as `dst` has room for. 0 if
    /// there are none.
    pub fn receive(&self, dst: &mut dyn Sink, discard: bool, inline: bool) -> Result<usize> {
        let _reader = self.reader.lock();
        let want = dst.remaining();
        let mut done = 0;
        while done < want {
            let at = self.consumed.load(Ordering::SeqCst);
            let (mut chunk, max) = {
                let mut queue = self.queue.lock();
                let (max, skipped) = self.stop(&queue, at, inline);
                if skipped && done > 0 {
                    break;
                }
                let Some(mut chunk) = queue.chunks.pop_front() else { break };
                if skipped {
                    chunk.start += 1;
                    self.forget_mark(&mut queue);
                    self.consumed.fetch_add(1, Ordering::SeqCst);
                } else if queue.urgent.is_some_and(|u| u.at < at) {
                    self.forget_mark(&mut queue);
                }
                (chunk, if skipped { usize::MAX } else { max })
            };
            let len = chunk.len().min(max).min(want - done);
            let part = chunk.bytes().get(..len).unwrap_or_default();
            let moved = if discard || len == 0 { Ok(len) } else { dst.put(part) };
            let n = *moved.as_ref().unwrap_or(&0);
            chunk.start += n;
            done += n;
            self.put_back(chunk);
            self.consumed.fetch_add(n as u64, Ordering::SeqCst);
            match moved {
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
                Ok(n) if n < len => break,
                // The reading stops at the mark, even if it was just reached.
                Ok(n) if n == max => break,
                Ok(_) => {}
            }
        }
        Ok(done)
    }

    fn forget_mark(&self, queue: &mut Queue) {
        queue.urgent = None;
        self.urgent.store(false, Ordering::SeqCst);
        self.marked.store(false, Ordering::SeqCst);
    }

    fn put_back(&self, chunk: Chunk) {
        let mut queue = self.queue.lock();
        if chunk.len() > 0 {
            queue.chunks.push_front(chunk);
        } else if chunk.data.len() == CHUNK && queue.spare.len() < SPARE {
            queue.spare.push(chunk.data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{BufSink, BufSource};

    fn send(half: &Half, data: &[u8], urgent: bool) -> Result<usize> {
        half.send(&mut BufSource::new(data), urgent, None, || {}).map(|s| s.bytes)
    }

    fn read(half: &Half, n: usize, inline: bool) -> Vec<u8> {
        let mut buf = vec![0; n];
        let n = half.receive(&mut BufSink::new(&mut buf), false, inline).unwrap();
        buf.truncate(n);
        buf
    }

    #[test]
    fn keeps_order_and_capacity() {
        let half = Half::new(70_000, 70_000);
        let data: Vec<u8> = (0..200_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let mut seen = Vec::new();
        let mut sent = 0;
        while seen.len() < data.len() {
            match send(&half, &data[sent..], false) {
                Ok(n) => sent += n,
                Err(e) => assert_eq!(e, Errno::EAGAIN),
            }
            assert!(half.len() <= 140_000);
            seen.extend(read(&half, 12_345, false));
        }
        assert!(seen == data);
        assert_eq!(half.len(), 0);
    }

    #[test]
    fn small_writes_share_chunks() {
        let half = Half::new(1 << 20, 0);
        for _ in 0..10_000 {
            send(&half, b"x", false).unwrap();
        }
        assert!(half.queue.lock().chunks.len() < 10);
        assert_eq!(read(&half, 20_000, false).len(), 10_000);
    }

    #[test]
    fn urgent_data_splits_the_stream() {
        let half = Half::new(1000, 1000);
        send(&half, b"abc", false).unwrap();
        send(&half, b"de!", true).unwrap();
        send(&half, b"fg", false).unwrap();
        assert_eq!((half.readable(false), half.readable(true)), (5, 8));
        assert_eq!(read(&half, 100, false), b"abcde");
        assert!(half.at_mark() && half.has_urgent());
        let mut byte = [0];
        assert_eq!(half.receive_urgent(&mut BufSink::new(&mut byte), false), Ok(1));
        assert_eq!(byte, *b"!");
        assert!(!half.has_urgent());
        assert_eq!(read(&half, 100, false), b"fg");
        assert!(!half.at_mark());
        send(&half, b"x!y", true).unwrap();
        assert_eq!(read(&half, 100, true), b"x!");
        assert_eq!(read(&half, 100, true), b"y");
    }

    #[test]
    fn a_closed_reader_resets() {
        let half = Half::new(10, 10);
        half.close();
        let sent = half.send(&mut BufSource::new(b"abc"), false, None, || {}).unwrap();
        assert!(sent.reset);
        assert_eq!(sent.bytes, 3);
    }
}
