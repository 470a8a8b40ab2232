//! Pages that nobody refers to, kept with their storage: whoever overwrites them needs neither a host
//! call nor the faults of fresh pages.

use crate::PAGE_SIZE;
use std::ops::Range;

/// Most pages kept: what a few processes have written between a fork and their end.
const MOST: u64 = 64 * PAGE_SIZE;
/// Longest range kept, in bytes.
const LONGEST: u64 = 16 * PAGE_SIZE;

/// Such ranges. There are few.
#[derive(Debug, Default)]
pub(super) struct UsedRanges {
    ranges: Vec<Range<u64>>,
    bytes: u64,
}

impl UsedRanges {
    /// Keeps a range, if there is room.
    pub fn put(&mut self, range: Range<u64>) -> bool {
        let len = range.end.saturating_sub(range.start);
        if len > LONGEST || self.bytes + len > MOST {
            return false;
        }
        self.bytes += len;
        self.ranges.push(range);
        true
    }

    /// Takes `len` bytes out of the shortest range that has them; returns where they start.
    pub fn take(&mut self, len: u64) -> Option<u64> {
        let long_enough = |range: &&mut Range<u64>| range.end - range.start >= len;
        let range = self.ranges.iter_mut().filter(long_enough).min_by_key(|r| r.end - r.start)?;
        range.end -= len;
        let start = range.end;
        self.bytes -= len;
        self.ranges.retain(|range| !range.is_empty());
        Some(start)
    }
}
