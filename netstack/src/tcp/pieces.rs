//! What a connection has received or is to send: large pieces where they are, everything else in a ring.

use crate::budget::Budget;
use crate::ring::ByteRing;
use crate::rxbuf::{Kept, RxBuffer};
use std::collections::VecDeque;
use std::sync::Arc;

/// Less than this is copied: it would hold much more memory than it is worth.
const WORTH: usize = 16 * 1024;
/// Parts of a frame that are not put together first.
const MAX_PARTS: usize = 8;

/// Bytes that stay where they are.
#[derive(Debug)]
struct Piece {
    kept: Kept,
    /// What the budget is charged for it.
    cost: usize,
}

/// A buffer. The contents are those of the frames, then those of the ring.
#[derive(Debug)]
pub(crate) struct Pieces {
    frames: VecDeque<Piece>,
    /// Bytes in frames.
    kept: usize,
    ring: ByteRing,
    budget: Arc<Budget>,
}

impl Pieces {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        let ring = ByteRing::new(budget.clone());
        Self { frames: VecDeque::new(), kept: 0, ring, budget }
    }

    /// Bytes of contents.
    pub(crate) fn len(&self) -> usize {
        self.kept + self.ring.len()
    }

    /// Appends `data` to the contents without a copy, if it is worth it and nothing came out of order. False: it
    /// is still to be written.
    #[must_use]
    pub(crate) fn keep(&mut self, buffer: Option<&Arc<RxBuffer>>, data: &[u8]) -> bool {
        if data.len() < WORTH || !self.ring.is_in_order() {
            return false;
        }
        let Some(kept) = buffer.and_then(|b| Kept::new(b, data)) else { return false };
        let cost = kept.cost();
        if !self.budget.take(cost) {
            return false;
        }
        if !self.spill() {
            self.budget.give(cost);
            return false;
        }
        self.push(kept, cost);
        true
    }

    /// Moves what is in the ring behind the frames. False when the budget is spent.
    fn spill(&mut self) -> bool {
        let len = self.ring.len();
        if len == 0 {
            return true;
        }
        if len < WORTH {
            if !self.budget.take(len) {
                return false;
            }
            let mut bytes = vec![0; len];
            self.ring.copy_out(0, &mut bytes);
            self.ring.consume(len);
            self.push(Kept::part(&RxBuffer::owned(bytes), 0, len), len);
            return true;
        }
        let (storage, parts) = self.ring.take_storage();
        let buffer = RxBuffer::owned(storage);
        let mut cost = buffer.bytes().len();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            self.push(Kept::part(&buffer, part.start, part.len()), std::mem::take(&mut cost));
        }
        true
    }

    fn push(&mut self, kept: Kept, cost: usize) {
        self.kept += kept.len();
        self.frames.push_back(Piece { kept, cost });
    }

    /// As [`ByteRing::write_at`], at or behind the end of the contents.
    #[must_use]
    pub(crate) fn write_at(&mut self, at: usize, bytes: &[u8]) -> bool {
        at.checked_sub(self.kept).is_some_and(|at| self.ring.write_at(at, bytes))
    }

    /// Appends a copy to the contents. False when the budget is spent.
    #[must_use]
    pub(crate) fn append(&mut self, bytes: &[u8]) -> bool {
        self.ring.push(bytes)
    }

    /// As [`ByteRing::commit`].
    pub(crate) fn commit(&mut self, n: usize) {
        self.ring.commit(n);
    }

    /// The first frame's bytes.
    pub(crate) fn first(&self) -> Option<&Kept> {
        self.frames.front().map(|f| &f.kept)
    }

    /// Shows contents from `at`, at most `len` bytes, part by part; how much there was.
    pub(crate) fn show(&self, mut at: usize, len: usize, mut to: impl FnMut(&[u8])) -> usize {
        let mut done = 0;
        for frame in &self.frames {
            if done == len {
                return done;
            }
            let part = frame.kept.bytes().get(at..).unwrap_or_default();
            let part = part.get(..part.len().min(len - done)).unwrap_or_default();
            to(part);
            done += part.len();
            at = at.saturating_sub(frame.kept.len());
        }
        let (a, b) = self.ring.slices(at, len - done);
        to(a);
        to(b);
        done + a.len() + b.len()
    }

    /// Contents from `at`, `len` bytes, where they are. `None` if some of them are in the ring, or it would be too many parts.
    pub(crate) fn gather(&self, mut at: usize, mut len: usize) -> Option<Vec<Kept>> {
        if len < WORTH || at.checked_add(len)? > self.kept {
            return None;
        }
        let mut out = Vec::new();
        for frame in &self.frames {
            let part = frame.kept.len().saturating_sub(at).min(len);
            if part > 0 {
                if out.len() == MAX_PARTS {
                    return None;
                }
                out.push(frame.kept.within(at, part));
                len -= part;
                if len == 0 {
                    break;
                }
            }
            at = at.saturating_sub(frame.kept.len());
        }
        Some(out)
    }

    /// Copies contents from `at` to `to`; how much there was.
    pub(crate) fn copy_out(&self, at: usize, to: &mut [u8]) -> usize {
        let mut done = 0;
        self.show(at, to.len(), |part| {
            if let Some(to) = to.get_mut(done..done + part.len()) {
                to.copy_from_slice(part);
            }
            done += part.len();
        })
    }

    /// Drops the first `n` bytes of the contents.
    pub(crate) fn consume(&mut self, mut n: usize) {
        while n > 0
            && let Some(frame) = self.frames.front_mut()
        {
            let part = n.min(frame.kept.len());
            frame.kept.advance(part);
            self.kept -= part;
            n -= part;
            if frame.kept.len() == 0 {
                self.budget.give(frame.cost);
                self.frames.pop_front();
            }
        }
        if n > 0 {
            self.ring.consume(n);
        }
    }

    /// Drops everything, storage too.
    pub(crate) fn clear(&mut self) {
        self.drop_frames();
        self.ring.clear();
    }

    fn drop_frames(&mut self) {
        self.kept = 0;
        for frame in self.frames.drain(..) {
            self.budget.give(frame.cost);
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.drop_frames();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rxbuf::RxPool;

    #[test]
    fn frames_come_before_the_ring() {
        let budget = Budget::new(1 << 20);
        let mut q = Pieces::new(budget.clone());
        let pool = RxPool::new(40_000);
        let mut buffer = pool.take();
        let bytes = Arc::get_mut(&mut buffer).unwrap().bytes_mut();
        bytes.iter_mut().enumerate().for_each(|(i, b)| *b = (i % 251) as u8);
        assert!(!q.keep(None, &[0; WORTH]) && !q.keep(Some(&buffer), &buffer.bytes()[..100]));
        assert!(q.keep(Some(&buffer), &buffer.bytes()[100..20_100]));
        assert!(q.keep(Some(&buffer), &buffer.bytes()[20_100..40_000]));
        // Out of order first.
        assert!(q.write_at(39_903, b"defg"));
        assert!(!q.keep(Some(&buffer), &buffer.bytes()[100..20_100]));
        assert!(q.write_at(39_900, b"abc"));
        q.commit(7);
        let mut all = buffer.bytes()[100..].to_vec();
        all.extend(b"abcdefg");
        for at in [0, 1, 19_999, 20_000, 39_899, 39_900, 39_905] {
            let mut to = vec![0; 50_000];
            let n = q.copy_out(at, &mut to);
            assert_eq!(&to[..n], &all[at..]);
            let len = 39_900usize.saturating_sub(at);
            let parts = q.gather(at, len).unwrap_or_default();
            let found: Vec<u8> = parts.iter().flat_map(|part| part.bytes().to_vec()).collect();
            assert_eq!(&found[..], if len < WORTH { &[][..] } else { &all[at..39_900] });
            assert!(q.gather(at, len + 1).is_none(), "some of it is in the ring");
        }
        q.consume(20_001);
        assert_eq!((q.len(), q.first().unwrap().bytes()[0]), (all.len() - 20_001, all[20_001]));
        q.consume(19_901);
        let mut to = [0; 9];
        assert_eq!((q.copy_out(0, &mut to), &to[..5]), (5, &b"cdefg"[..]));
        // What is in the ring moves behind the frames.
        assert!(q.keep(Some(&buffer), &buffer.bytes()[100..20_100]));
        for _ in 0..4 {
            assert!(q.write_at(q.len(), &[7; 10_000]));
            q.commit(10_000);
        }
        assert!(q.keep(Some(&buffer), &buffer.bytes()[100..20_100]));
        let mut to = vec![0; 90_000];
        assert_eq!(q.copy_out(0, &mut to), 80_005);
        assert_eq!(
            (&to[..5], to[20_004], to[20_005], to[60_004]),
            (&b"cdefg"[..], all[19_999], 7, 7)
        );
        assert_eq!(&to[60_005..80_005], &all[..20_000]);
        q.consume(80_004);
        assert_eq!((q.len(), q.first().unwrap().bytes()), (1, &all[19_999..20_000]));
        drop(q);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_spent_budget_keeps_no_frames() {
        let mut q = Pieces::new(Budget::new(50_000));
        let pool = RxPool::new(40_000);
        let buffer = pool.take();
        assert!(q.keep(Some(&buffer), buffer.bytes()));
        assert!(!q.keep(Some(&buffer), buffer.bytes()));
        q.clear();
        assert!(q.keep(Some(&buffer), buffer.bytes()));
    }
}
