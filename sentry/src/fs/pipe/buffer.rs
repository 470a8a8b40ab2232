//! The ring of pages inside a pipe.
//!
//! As in Linux, a pipe's capacity counts pages, not bytes: each slot holds at most one page, a write
//! first fills the last slot if all of the odd bytes fit there, and a packet (`O_DIRECT`) always has
//! a slot of its own. Pages exist only while they hold bytes.

use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::mm::PAGE_SIZE;
use platform::PipePlace;
use std::collections::VecDeque;

const PAGE: usize = PAGE_SIZE as usize;

/// One page with bytes `start..end` in it.
pub struct Slot {
    page: Box<[u8; PAGE]>,
    start: usize,
    end: usize,
    /// Bytes may be appended.
    merge: bool,
    /// One read takes at most this slot, and drops what it does not take.
    packet: bool,
}

impl Slot {
    fn new(merge: bool, packet: bool) -> Slot {
        Slot { page: Box::new([0; PAGE]), start: 0, end: 0, merge, packet }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.page.get(self.start..self.end).unwrap_or_default()
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Drops the first `n` bytes.
    pub fn advance(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    /// A copy of the first `n` bytes, that nothing may be merged into.
    pub fn copy(&self, n: usize) -> Slot {
        let mut slot = Slot::new(false, self.packet);
        let bytes = self.bytes();
        let bytes = bytes.get(..n).unwrap_or(bytes);
        if let Some(dst) = slot.page.get_mut(..bytes.len()) {
            dst.copy_from_slice(bytes);
            slot.end = bytes.len();
        }
        slot
    }

    fn fill(&mut self, src: &mut dyn Source, max: usize) -> Result<usize> {
        let to = self.end.saturating_add(max).min(PAGE);
        let n = src.take(self.page.get_mut(self.end..to).unwrap_or_default())?;
        self.end = (self.end + n).min(PAGE);
        Ok(n)
    }
}

/// A pipe's pages, oldest first.
pub struct Buffer {
    slots: VecDeque<Slot>,
    /// Capacity in pages.
    pub max_slots: usize,
    /// A page for when the platform gives bytes back ([`Buffer::park`]).
    spare: Option<Box<[u8; PAGE]>>,
}

impl Buffer {
    /// An empty ring of `max_slots` pages.
    pub fn new(max_slots: usize) -> Buffer {
        Buffer { slots: VecDeque::new(), max_slots, spare: None }
    }

    /// Whether all of it can be in the platform's place: at most one page, to which bytes may be added.
    pub fn can_park(&self) -> bool {
        self.slots.len() <= 1 && self.slots.iter().all(|slot| slot.merge && !slot.packet)
    }

    /// Gives the only page to the platform, which may change it until [`Buffer::fetch`].
    pub fn park(&mut self, place: &dyn PipePlace) {
        match self.slots.pop_front() {
            Some(slot) => {
                place.let_go(&slot.page, slot.start..slot.end);
                self.spare = Some(slot.page);
            }
            None => place.let_go(self.spare.get_or_insert_with(|| Box::new([0; PAGE])), 0..0),
        }
    }

    /// Takes back what the platform has, if it has anything.
    pub fn fetch(&mut self, place: &dyn PipePlace) {
        let page = self.spare.get_or_insert_with(|| Box::new([0; PAGE]));
        if let Some(bytes) = place.hold(page)
            && !bytes.is_empty()
            && let Some(page) = self.spare.take()
        {
            let (start, end) = (bytes.start, bytes.end);
            self.slots.push_front(Slot { page, start, end, merge: true, packet: false });
        }
    }

    /// True when nothing can be read.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// True when no page can be added.
    pub fn is_full(&self) -> bool {
        self.slots.len() >= self.max_slots
    }

    /// Pages in use.
    pub fn used(&self) -> usize {
        self.slots.len()
    }

    /// Pages that can be added.
    pub fn free(&self) -> usize {
        self.max_slots.saturating_sub(self.slots.len())
    }

    /// Bytes in the oldest slot.
    pub fn front_len(&self) -> usize {
        self.slots.front().map_or(0, Slot::len)
    }

    /// Bytes that can be read.
    pub fn len(&self) -> usize {
        self.slots.iter().map(Slot::len).sum()
    }

    /// Moves bytes to `dst`. Returns how many; the ring may be empty afterwards.
    pub fn read(&mut self, dst: &mut dyn Sink) -> Result<usize> {
        let mut done = 0;
        while dst.remaining() > 0 {
            let Some(slot) = self.slots.front_mut() else { break };
            let n = match dst.put(slot.bytes()) {
                Ok(n) => n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            done += n;
            slot.advance(n);
            let packet = slot.packet;
            if packet || slot.len() == 0 {
                // What a reader of packets has no room for is lost.
                self.slots.pop_front();
            } else if n == 0 {
                break;
            }
            if packet {
                break;
            }
        }
        Ok(done)
    }

    /// Takes bytes from `src` until it is exhausted or the ring is full. Returns how many.
    pub fn write(&mut self, src: &mut dyn Source, packet: bool) -> Result<usize> {
        let mut done = 0;
        let odd = src.remaining() % PAGE;
        if odd != 0
            && !packet
            && let Some(last) = self.slots.back_mut()
            && last.merge
            && last.end + odd <= PAGE
        {
            done = last.fill(src, odd)?;
            if done < odd {
                return Err(Errno::EFAULT);
            }
        }
        while src.remaining() > 0 && !self.is_full() {
            let mut slot = Slot::new(!packet, packet);
            let n = match slot.fill(src, PAGE) {
                Ok(n) => n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            if n == 0 {
                break;
            }
            self.slots.push_back(slot);
            done += n;
        }
        Ok(done)
    }

    /// True if a write of `len` bytes would go in whole.
    pub fn fits(&self, len: usize) -> bool {
        let odd = len % PAGE;
        let merged =
            odd != 0 && self.slots.back().is_some_and(|last| last.merge && last.end + odd <= PAGE);
        let pages = if merged { len / PAGE } else { len.div_ceil(PAGE) };
        pages <= self.free()
    }

    /// Takes the oldest slots out, up to `max` bytes; the last one may be split.
    pub fn take(&mut self, max: usize) -> VecDeque<Slot> {
        let mut out = VecDeque::new();
        let mut left = max;
        while left > 0
            && let Some(first) = self.slots.front_mut()
        {
            if first.len() <= left {
                left -= first.len();
                out.extend(self.slots.pop_front());
            } else {
                out.push_back(first.copy(left));
                first.advance(left);
                left = 0;
            }
        }
        out
    }

    /// Puts slots back that [`Buffer::take`] gave out.
    pub fn untake(&mut self, mut slots: VecDeque<Slot>) {
        slots.append(&mut self.slots);
        self.slots = slots;
    }

    /// Adds slots as they are; the caller has looked at [`Buffer::free`].
    pub fn push(&mut self, slots: VecDeque<Slot>) {
        self.slots.extend(slots.into_iter().filter(|s| s.len() > 0));
    }

    /// Copies of the oldest slots, up to `max` bytes and `pages` slots.
    pub fn peek(&self, max: usize, pages: usize) -> VecDeque<Slot> {
        let mut left = max;
        let mut out = VecDeque::new();
        for slot in self.slots.iter().take(pages) {
            if left == 0 {
                break;
            }
            let copy = slot.copy(left);
            left -= copy.len();
            out.push_back(copy);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{BufSink, BufSource};

    fn write(b: &mut Buffer, n: usize) -> usize {
        b.write(&mut BufSource::new(&vec![7; n]), false).unwrap()
    }

    fn read(b: &mut Buffer, n: usize) -> usize {
        b.read(&mut BufSink::new(&mut vec![0; n])).unwrap()
    }

    #[test]
    fn capacity_counts_pages() {
        let mut b = Buffer::new(2);
        assert_eq!(write(&mut b, 1), 1);
        assert!(b.fits(4095 + 4096) && !b.fits(2 * 4096));
        assert_eq!(write(&mut b, 4096), 4096);
        assert!(b.is_full());
        assert_eq!(write(&mut b, 4096), 0);
        assert_eq!(b.len(), 4097);
        assert_eq!(read(&mut b, 10), 10);
        assert!(b.is_full() || b.used() == 1);
        assert_eq!(read(&mut b, 10000), 4087);
        assert!(b.is_empty());
    }

    #[test]
    fn packets_keep_their_bounds() {
        let mut b = Buffer::new(4);
        for n in [3usize, 5000] {
            b.write(&mut BufSource::new(&vec![1; n]), true).unwrap();
        }
        assert_eq!(read(&mut b, 100), 3);
        assert_eq!(read(&mut b, 100), 100);
        assert_eq!(read(&mut b, 9000), 904);
        assert!(b.is_empty());
    }

    #[test]
    fn slots_move() {
        let mut b = Buffer::new(4);
        write(&mut b, 6000);
        let taken = b.take(5000);
        assert_eq!(taken.iter().map(Slot::len).sum::<usize>(), 5000);
        assert_eq!(b.len(), 1000);
        b.untake(taken);
        assert_eq!(b.len(), 6000);
        assert_eq!(b.peek(10, 4).len(), 1);
        assert_eq!(read(&mut b, 9000), 6000);
    }
}
