//! Bookkeeping of file ranges: which are free, and how often each page in use is referenced.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Free ranges, coalesced, found by address and by length.
#[derive(Debug)]
pub(crate) struct FreeRanges {
    /// Start → length.
    by_start: BTreeMap<u64, u64>,
    /// (length, start), for best fit.
    by_len: BTreeSet<(u64, u64)>,
}

impl FreeRanges {
    /// Everything from 0 to `size` is free.
    pub fn new(size: u64) -> Self {
        let mut free = Self { by_start: BTreeMap::new(), by_len: BTreeSet::new() };
        free.add(0, size);
        free
    }

    fn add(&mut self, start: u64, len: u64) {
        if len > 0 {
            self.by_start.insert(start, len);
            self.by_len.insert((len, start));
        }
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
    }

    /// Takes `len` bytes out of the smallest range that has them; returns where they start.
    ///
    /// They come from its end: guests map from high addresses to low ones, and descending offsets
    /// let the host merge such mappings.
    pub fn take(&mut self, len: u64) -> Option<u64> {
        let (have, start) = *self.by_len.range((len, 0)..).next()?;
        self.remove(start, have);
        self.add(start, have - len);
        Some(start + (have - len))
    }

    /// Takes exactly the given range, if all of it is free.
    pub fn take_at(&mut self, start: u64, len: u64) -> bool {
        let Some(end) = start.checked_add(len) else { return false };
        let Some((&from, &have)) = self.by_start.range(..=start).next_back() else { return false };
        if from + have < end {
            return false;
        }
        self.remove(from, have);
        self.add(from, start - from);
        self.add(end, from + have - end);
        true
    }

    /// Gives a range back.
    pub fn put(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&from, &have)) = self.by_start.range(..start).next_back()
            && from + have == start
        {
            self.remove(from, have);
            start = from;
        }
        if let Some(&have) = self.by_start.get(&end) {
            self.remove(end, have);
            end += have;
        }
        self.add(start, end - start);
    }
}

/// Reference counts of the ranges in use. Neighbours with equal counts share one entry.
#[derive(Debug)]
pub(super) struct RefCounts {
    /// Start → (end, count); the ranges are disjoint and the counts at least 1.
    map: BTreeMap<u64, (u64, u64)>,
}

impl RefCounts {
    /// Nothing is in use.
    pub fn new() -> Self {
        Self { map: BTreeMap::new() }
    }

    /// Starts counting a range that was free, at one.
    pub fn insert(&mut self, range: Range<u64>) {
        self.map.insert(range.start, (range.end, 1));
        self.join(range.start);
        self.join(range.end);
    }

    /// Counts one more for every page of the range.
    pub fn increment(&mut self, range: Range<u64>) {
        self.split(range.start);
        self.split(range.end);
        for (_, (_, count)) in self.map.range_mut(range.clone()) {
            *count = count.saturating_add(1);
        }
        self.join(range.start);
        self.join(range.end);
    }

    /// Counts one less for every page of the range; ranges that reached zero go to `unused`.
    pub fn decrement(&mut self, range: Range<u64>, unused: &mut Vec<Range<u64>>) {
        self.split(range.start);
        self.split(range.end);
        let before = unused.len();
        for (&start, (end, count)) in self.map.range_mut(range.clone()) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                unused.push(start..*end);
            }
        }
        for gone in unused.iter().skip(before) {
            self.map.remove(&gone.start);
        }
        self.join(range.start);
        self.join(range.end);
    }

    /// Whether a page of the range is counted more than once.
    pub fn any_shared(&self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return false;
        }
        let first = self.map.range(..=range.start).next_back();
        first.is_some_and(|(_, &(end, count))| end > range.start && count > 1)
            || self.map.range(range).any(|(_, &(_, count))| count > 1)
    }

    /// Makes `at` a boundary between entries.
    fn split(&mut self, at: u64) {
        if let Some((_, entry)) = self.map.range_mut(..at).next_back()
            && entry.0 > at
        {
            let (end, count) = *entry;
            entry.0 = at;
            self.map.insert(at, (end, count));
        }
    }

    /// Joins the entries on both sides of `at` when their counts are equal.
    fn join(&mut self, at: u64) {
        let Some(&(end, count)) = self.map.get(&at) else { return };
        if let Some((_, before)) = self.map.range_mut(..at).next_back()
            && *before == (at, count)
        {
            before.0 = end;
            self.map.remove(&at);
        }
    }
}

/// Sorts ranges and joins neighbours.
pub(super) fn merge(ranges: &mut Vec<Range<u64>>) {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, kept| {
        let adjacent = kept.end == next.start;
        if adjacent {
            kept.end = next.end;
        }
        adjacent
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ranges_coalesce() {
        let mut free = FreeRanges::new(100);
        let a = free.take(10).unwrap();
        let b = free.take(10).unwrap();
        let c = free.take(10).unwrap();
        assert_eq!((a, b, c), (90, 80, 70));
        free.put(a..a + 10);
        free.put(c..c + 10);
        assert_eq!(free.take(11), Some(69));
        free.put(69..80);
        free.put(b..b + 10);
        assert_eq!(free.by_start.len(), 1);
        assert_eq!(free.take(100), Some(0));
        assert_eq!(free.take(1), None);
    }

    #[test]
    fn best_fit() {
        let mut free = FreeRanges::new(100);
        assert!(free.take_at(10, 10));
        assert!(free.take_at(25, 5));
        assert!(!free.take_at(19, 2));
        assert_eq!(free.take(5), Some(20));
        assert_eq!(free.take(6), Some(4));
    }

    #[test]
    fn counts_against_a_model() {
        // Random operations, compared with one counter per unit.
        let (mut counts, mut model) = (RefCounts::new(), [0u64; 64]);
        let mut seed = 12345u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..20_000 {
            let start = random(64);
            let end = start + 1 + random(64 - start);
            let units = start as usize..end as usize;
            match random(3) {
                0 if model[units.clone()].iter().all(|n| *n == 0) => {
                    counts.insert(start..end);
                    model[units].fill(1);
                }
                1 if model[units.clone()].iter().all(|n| (1..5).contains(n)) => {
                    counts.increment(start..end);
                    model[units].iter_mut().for_each(|n| *n += 1);
                }
                2 if model[units.clone()].iter().all(|n| *n > 0) => {
                    let mut unused = Vec::new();
                    counts.decrement(start..end, &mut unused);
                    let expected: u64 =
                        model[units.clone()].iter().filter(|n| **n == 1).count() as u64;
                    assert_eq!(unused.iter().map(|r| r.end - r.start).sum::<u64>(), expected);
                    model[units].iter_mut().for_each(|n| *n -= 1);
                }
                _ => {}
            }
            let shared = model[start as usize..end as usize].iter().any(|n| *n > 1);
            assert_eq!(counts.any_shared(start..end), shared);
            let mut previous = (0, 0);
            for (&from, &(to, count)) in &counts.map {
                assert!(from >= previous.0 && from < to);
                assert!(from > previous.0 || count != previous.1, "unmerged neighbours");
                assert!((from..to).all(|unit| model[unit as usize] == count));
                previous = (to, count);
            }
            let covered: u64 = counts.map.iter().map(|(from, (to, _))| to - from).sum();
            assert_eq!(covered, model.iter().filter(|n| **n > 0).count() as u64);
        }
    }
}
