//! Which ranges of a stub have had their mappings changed, and when.
//!
//! A copy of a stub is as its original except where one of them has been changed since. Knowing where, a copy that is not
//! needed any more can be made one of the original as it is now ([`crate::AddressSpace::stale`]).

use std::collections::VecDeque;
use std::ops::Range;

/// Most changes that are remembered.
const MOST: usize = 64;

/// The latest changes, oldest first.
#[derive(Debug, Default)]
pub struct Touched {
    /// Each: when it was queued, on the queue's clock, and where.
    changes: VecDeque<(u64, Range<u64>)>,
    /// Changes up to this time may have been forgotten.
    forgotten: u64,
}

impl Touched {
    /// Notes a change.
    pub fn record(&mut self, now: u64, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some(known) = self.changes.iter().rposition(|(_, known)| known == range) {
            // It counts from now on; whoever came in between takes it for a change more than there was.
            self.changes.remove(known);
        } else if self.changes.len() >= MOST
            && let Some((then, _)) = self.changes.pop_front()
        {
            self.forgotten = then;
        }
        self.changes.push_back((now, range.clone()));
    }

    /// Where something was changed after `then`; `None` when that has been forgotten.
    pub fn since(&self, then: u64) -> Option<Vec<Range<u64>>> {
        let later = self.changes.iter().filter(|(when, _)| *when > then);
        (self.forgotten <= then).then(|| later.map(|(_, range)| range.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_changes_are_known() {
        let mut touched = Touched::default();
        let starts = |touched: &Touched, then| {
            touched.since(then).map(|all| all.iter().map(|range| range.start).collect::<Vec<_>>())
        };
        assert_eq!(starts(&touched, 0), Some(Vec::new()));
        touched.record(1, &(0..10));
        touched.record(2, &(20..30));
        touched.record(3, &(5..5));
        assert_eq!(starts(&touched, 1), Some(vec![20]));
        touched.record(4, &(0..10));
        assert_eq!(starts(&touched, 2), Some(vec![0]));
        assert_eq!(starts(&touched, 0), Some(vec![20, 0]));
        for n in 0..MOST as u64 {
            touched.record(5 + n, &(100 * n..100 * n + 1));
        }
        assert_eq!(starts(&touched, 3), None);
        assert_eq!(starts(&touched, 4).map(|all| all.len()), Some(MOST));
    }
}
