//! Which addresses of a stub have a mapping.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of addresses, kept as disjoint ranges that do not touch.
#[derive(Debug, Clone, Default)]
pub struct MappedRanges {
    /// Start → end.
    ranges: BTreeMap<u64, u64>,
}

impl MappedRanges {
    /// Adds a range.
    pub fn insert(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        if start >= end {
            return;
        }
        if let Some((&from, &to)) = self.ranges.range(..=start).next_back()
            && to >= start
        {
            if to >= end {
                return;
            }
            start = from;
        }
        while let Some((&from, &to)) = self.ranges.range(start..=end).next() {
            self.ranges.remove(&from);
            end = end.max(to);
        }
        self.ranges.insert(start, end);
    }

    /// Removes a range.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        if let Some((_, to)) = self.ranges.range_mut(..range.start).next_back()
            && *to > range.start
        {
            let end = std::mem::replace(to, range.start);
            if end > range.end {
                self.ranges.insert(range.end, end);
            }
        }
        while let Some((&from, &to)) = self.ranges.range(range.clone()).next() {
            self.ranges.remove(&from);
            if to > range.end {
                self.ranges.insert(range.end, to);
            }
        }
    }

    /// The parts of `range` that are in the set, ascending.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.ranges.range(..range.start).next_back();
        let first = first.filter(|(_, to)| **to > range.start).map(|(from, _)| *from);
        let end = range.end;
        self.ranges
            .range(first.unwrap_or(range.start)..range.end.max(range.start))
            .map(move |(&from, &to)| from.max(range.start)..to.min(end))
            .filter(|part| !part.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn against_a_model() {
        let (mut set, mut model) = (MappedRanges::default(), [false; 48]);
        let mut seed = 99u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..20_000 {
            let start = random(48);
            let end = start + random(49 - start);
            match random(2) {
                0 => {
                    set.insert(start..end);
                    model[start as usize..end as usize].fill(true);
                }
                _ => {
                    set.remove(start..end);
                    model[start as usize..end as usize].fill(false);
                }
            }
            let (from, to) = (random(48), random(49));
            let mut found = [false; 48];
            for part in set.within(from..to) {
                assert!(part.start < part.end);
                found[part.start as usize..part.end as usize].fill(true);
            }
            for unit in 0..48u64 {
                let expected = model[unit as usize] && (from..to).contains(&unit);
                assert_eq!(found[unit as usize], expected);
            }
            let all: Vec<_> = set.ranges.iter().collect();
            assert!(all.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
