//! The byte ring under TCP's send and receive buffers.
//!
//! Bytes `0..len` are the contents. A receiver may also write beyond `len`, to keep data that came out of
//! order in its place, and later [`commit`](ByteRing::commit) it. Storage grows on demand, so that an idle
//! connection takes none, and is charged to a [`Budget`].

use crate::budget::Budget;
use std::sync::Arc;

/// Smallest storage.
const MIN: usize = 2048;
/// Storage kept whenever the ring runs empty.
const KEEP: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct ByteRing {
    data: Vec<u8>,
    head: usize,
    len: usize,
    /// End of the furthest byte ever written at or behind `len`.
    extent: usize,
    /// The largest `extent` since the ring ran empty.
    peak: usize,
    budget: Arc<Budget>,
}

impl ByteRing {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { data: Vec::new(), head: 0, len: 0, extent: 0, peak: 0, budget }
    }

    /// Bytes of contents.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// True when nothing lies behind the contents.
    pub(crate) fn is_in_order(&self) -> bool {
        self.extent == self.len
    }

    /// Takes the storage, for which the budget stays charged, and where the contents are in it, in order.
    pub(crate) fn take_storage(&mut self) -> (Vec<u8>, [std::ops::Range<usize>; 2]) {
        let (a, b) = self.place(0, self.len);
        (self.head, self.len, self.extent, self.peak) = (0, 0, 0, 0);
        (std::mem::take(&mut self.data), [a, b])
    }

    /// Bytes of storage.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.data.len()
    }

    /// Writes `bytes` at `at`, counted from the first byte of the contents. False, and nothing written, when
    /// the budget is spent.
    #[must_use]
    pub(crate) fn write_at(&mut self, at: usize, bytes: &[u8]) -> bool {
        let end = at + bytes.len();
        if end > self.data.len() && !self.grow(end) {
            return false;
        }
        let (first, second) = self.place(at, bytes.len());
        let (a, b) = bytes.split_at(first.len());
        let (first, second) = ((first.start, first.end), (second.start, second.end));
        if let Some(to) = self.data.get_mut(first.0..first.1) {
            to.copy_from_slice(a);
        }
        if let Some(to) = self.data.get_mut(second.0..second.1) {
            to.copy_from_slice(b);
        }
        self.extent = self.extent.max(end);
        self.peak = self.peak.max(end);
        true
    }

    /// Makes `n` bytes that were written behind the contents part of them.
    pub(crate) fn commit(&mut self, n: usize) {
        self.len += n;
        debug_assert!(self.len <= self.extent);
    }

    /// Appends to the contents. False when the budget is spent.
    #[must_use]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let ok = self.write_at(self.len, bytes);
        if ok {
            self.commit(bytes.len());
        }
        ok
    }

    /// The contents from `at`, at most `len` bytes, in up to two pieces.
    pub(crate) fn slices(&self, at: usize, len: usize) -> (&[u8], &[u8]) {
        let at = at.min(self.len);
        let (a, b) = self.place(at, len.min(self.len - at));
        (self.data.get(a).unwrap_or_default(), self.data.get(b).unwrap_or_default())
    }

    /// Copies contents from `at` to `to`; how much there was.
    pub(crate) fn copy_out(&self, at: usize, to: &mut [u8]) -> usize {
        let (a, b) = self.slices(at, to.len());
        let (to_a, rest) = to.split_at_mut(a.len());
        to_a.copy_from_slice(a);
        if let Some(to_b) = rest.get_mut(..b.len()) {
            to_b.copy_from_slice(b);
        }
        a.len() + b.len()
    }

    /// Drops the first `n` bytes of the contents.
    pub(crate) fn consume(&mut self, n: usize) {
        let n = n.min(self.len);
        self.len -= n;
        self.extent -= n;
        self.head = if self.data.is_empty() { 0 } else { (self.head + n) % self.data.len() };
        if self.extent == 0 {
            self.head = 0;
            // A stream whose reader keeps up would otherwise take and clear storage again and again.
            let used = std::mem::take(&mut self.peak) >= self.data.len() / 4;
            if self.data.len() > KEEP && !(used && self.budget.plenty()) {
                self.release();
            }
        }
    }

    /// Drops everything, storage too.
    pub(crate) fn clear(&mut self) {
        (self.head, self.len, self.extent, self.peak) = (0, 0, 0, 0);
        self.release();
    }

    fn release(&mut self) {
        self.budget.give(self.data.len());
        self.data = Vec::new();
    }

    fn place(&self, at: usize, len: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let cap = self.data.len();
        if cap == 0 {
            return (0..0, 0..0);
        }
        let start = (self.head + at) % cap;
        let first = len.min(cap - start);
        (start..start + first, 0..len - first)
    }

    fn grow(&mut self, need: usize) -> bool {
        // Doubling, while large rings grow by half at most.
        let old = self.data.len();
        let step = if old < 1 << 20 { old } else { old / 2 };
        let cap = need.max(old + step).max(MIN);
        if !self.budget.take(cap) {
            return false;
        }
        let mut data = Vec::with_capacity(cap);
        let (a, b) = self.place(0, self.extent);
        data.extend_from_slice(self.data.get(a).unwrap_or_default());
        data.extend_from_slice(self.data.get(b).unwrap_or_default());
        data.resize(cap, 0);
        self.release();
        self.data = data;
        self.head = 0;
        true
    }
}

impl Drop for ByteRing {
    fn drop(&mut self) {
        self.budget.give(self.data.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Push(Vec<u8>),
        Ahead(usize, Vec<u8>),
        Consume(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..5000).prop_map(Op::Push),
            (0usize..3000, prop::collection::vec(any::<u8>(), 1..2000))
                .prop_map(|(n, v)| Op::Ahead(n, v)),
            (0usize..8000).prop_map(Op::Consume),
        ]
    }

    proptest! {
        /// The ring against a plain vector.
        #[test]
        fn behaves_as_a_vector(ops in prop::collection::vec(op(), 1..60)) {
            let budget = Budget::new(usize::MAX);
            let mut ring = ByteRing::new(budget.clone());
            let mut model: Vec<u8> = Vec::new();
            for op in ops {
                match op {
                    Op::Push(v) => {
                        prop_assert!(ring.push(&v));
                        model.extend(v);
                    }
                    Op::Ahead(n, v) => {
                        // Out of order first, then the hole, then both become contents.
                        let at = model.len() + n;
                        prop_assert!(ring.write_at(at, &v));
                        prop_assert!(ring.write_at(model.len(), &vec![7; n]));
                        ring.commit(n + v.len());
                        model.extend(vec![7; n]);
                        model.extend(v);
                    }
                    Op::Consume(n) => {
                        ring.consume(n);
                        model.drain(..n.min(model.len()));
                    }
                }
                let mut out = vec![0; model.len()];
                prop_assert_eq!(ring.copy_out(0, &mut out), model.len());
                prop_assert_eq!(&out, &model);
                prop_assert_eq!(budget.used(), ring.capacity());
            }
            drop(ring);
            prop_assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn a_spent_budget_refuses_and_keeps_the_contents() {
        let budget = Budget::new(10_000);
        let mut ring = ByteRing::new(budget.clone());
        assert!(ring.push(&[1; 4000]));
        assert!(!ring.push(&[2; 9000]), "growing needs the old storage and the new");
        assert_eq!(ring.len(), 4000);
        ring.clear();
        assert_eq!(budget.used(), 0);
    }
}
