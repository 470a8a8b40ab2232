//! Which data beyond `RCV.NXT` has come already: ranges of sequence numbers, and which of them to report in
//! SACK blocks first (RFC 2018, section 4).

use super::Seq;
use crate::wire::tcp_options::Block;

/// Ranges kept. Beyond that the furthest one is forgotten, and its data with it (reneging, which RFC 2018,
/// section 8, allows).
pub(crate) const MAX_RANGES: usize = 256;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assembler {
    /// In order, neither overlapping nor touching.
    ranges: Vec<Block>,
    /// Starts of ranges, the latest changed first.
    recent: Vec<Seq>,
}

impl Assembler {
    /// Adds a range; `None`: there were too many and this one is the furthest, so its data is to be dropped.
    /// The second part is what was there already (for D-SACK).
    pub(crate) fn add(&mut self, from: Seq, to: Seq) -> Option<Option<Block>> {
        let known = self
            .ranges
            .iter()
            .find(|(a, b)| from.before(*b) && a.before(to))
            .map(|(a, b)| (from.max(*a), to.min(*b)));
        let first = self.ranges.partition_point(|(_, end)| end.before(from));
        let last = self.ranges.partition_point(|(start, _)| !start.after(to));
        let mut new = (from, to);
        for (a, b) in self.ranges.get(first..last).unwrap_or_default() {
            new = (new.0.min(*a), new.1.max(*b));
        }
        if first == last && self.ranges.len() >= MAX_RANGES {
            if first == self.ranges.len() {
                return None;
            }
            self.ranges.pop();
        }
        self.ranges.splice(first..last, [new]);
        self.recent.retain(|s| s.before(new.0) || !s.before(new.1));
        self.recent.insert(0, new.0);
        self.recent.truncate(4);
        Some(known)
    }

    /// `next` has advanced: what now lies in front goes. Returns up to where data is contiguous from `next`.
    pub(crate) fn advance(&mut self, next: Seq) -> Seq {
        let mut next = next;
        while let Some(&(from, to)) = self.ranges.first() {
            if from.after(next) {
                break;
            }
            next = next.max(to);
            self.ranges.remove(0);
        }
        self.recent.retain(|s| s.after(next));
        next
    }

    /// The blocks to report, at most `max`.
    pub(crate) fn blocks(&self, max: usize) -> impl Iterator<Item = Block> + '_ {
        let find = |s: &Seq| self.ranges.iter().find(|(a, b)| !s.before(*a) && s.before(*b));
        self.recent.iter().filter_map(find).copied().take(max)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
        self.recent.clear();
    }

    /// The number of ranges.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn blocks(a: &Assembler) -> Vec<(u32, u32)> {
        a.blocks(4).map(|(a, b)| (a.0, b.0)).collect()
    }

    #[test]
    fn ranges_merge_and_the_latest_is_reported_first() {
        let mut a = Assembler::default();
        assert_eq!(a.add(Seq(100), Seq(200)), Some(None));
        assert_eq!(a.add(Seq(300), Seq(400)), Some(None));
        assert_eq!(blocks(&a), [(300, 400), (100, 200)]);
        assert_eq!(a.add(Seq(150), Seq(250)), Some(Some((Seq(150), Seq(200)))));
        assert_eq!(blocks(&a), [(100, 250), (300, 400)]);
        let _ = a.add(Seq(250), Seq(300));
        assert_eq!(blocks(&a), [(100, 400)]);
        assert_eq!(a.advance(Seq(100)), Seq(400));
        assert!(a.is_empty());
    }

    #[test]
    fn the_number_of_ranges_is_bounded() {
        let mut a = Assembler::default();
        for n in 0..MAX_RANGES as u32 {
            assert!(a.add(Seq(n * 10 + 5), Seq(n * 10 + 6)).is_some());
        }
        assert_eq!(a.add(Seq(1 << 20), Seq((1 << 20) + 1)), None);
        assert!(a.add(Seq(1), Seq(2)).is_some(), "nearer data replaces the furthest");
        assert_eq!(a.len(), MAX_RANGES);
    }

    proptest! {
        /// The ranges against a set of numbers, around the wrap.
        #[test]
        fn behaves_as_a_set(
            base in prop_oneof![Just(u32::MAX - 300), Just(0u32), any::<u32>()],
            adds in prop::collection::vec((1u32..600, 1u32..60), 1..60),
        ) {
            let mut a = Assembler::default();
            let mut set = BTreeSet::new();
            let mut next = 0u32;
            for (i, (from, len)) in adds.iter().enumerate() {
                let from = (*from).max(next + 1);
                prop_assert!(a.add(Seq(base) + from, Seq(base) + (from + len)).is_some());
                set.extend(from..from + len);
                if i % 7 == 6 {
                    next += 40;
                    let end = a.advance(Seq(base) + next);
                    while set.contains(&next) { next += 1; }
                    prop_assert_eq!(end, Seq(base) + next);
                    set.retain(|n| *n >= next);
                }
                let total: u32 = a.ranges.iter().map(|(f, t)| t.since(*f)).sum();
                prop_assert_eq!(total as usize, set.len());
            }
        }
    }
}
