//! Locked byte ranges of one file: splitting, merging, conflicts.

use crate::errno::{Errno, Result};

/// The most ranges that can be locked in one file: a guest must not exhaust the sentry. `ENOLCK`.
const MAX_RANGES: usize = 1 << 14;

/// Who holds a record lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A process, named by its descriptor table's id.
    Process(u64),
    /// An open file description, named by its id.
    File(u64),
}

/// A locked range, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLock {
    /// Holder.
    pub owner: Owner,
    /// Process id of the holder; -1 for an open file description.
    pub pid: i32,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
    /// Exclusive, for writing.
    pub write: bool,
}

impl RecordLock {
    fn overlaps(&self, other: &RecordLock) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// True if both cannot be held at once.
    pub fn conflicts(&self, other: &RecordLock) -> bool {
        self.owner != other.owner && (self.write || other.write) && self.overlaps(other)
    }
}

/// All record locks of a file.
#[derive(Debug, Default)]
pub struct RecordLocks(Vec<RecordLock>);

impl RecordLocks {
    /// The locks, by owner in no order, of one owner in the order of their positions.
    pub fn iter(&self) -> impl Iterator<Item = &RecordLock> {
        self.0.iter()
    }

    /// The first lock that stands in the way of `want`.
    pub fn conflict(&self, want: &RecordLock) -> Option<RecordLock> {
        self.0.iter().filter(|l| l.conflicts(want)).min_by_key(|l| l.start).copied()
    }

    /// Takes the owner's locks off a range.
    pub fn unlock(&mut self, owner: Owner, start: u64, end: u64) -> Result<()> {
        let hole = RecordLock { owner, pid: 0, start, end, write: false };
        let mut tails = Vec::new();
        for lock in self.0.iter().filter(|l| l.owner == owner && l.overlaps(&hole)) {
            if lock.start < start && lock.end > end {
                tails.push(RecordLock { start: end + 1, ..*lock });
            }
        }
        if self.0.len() + tails.len() > MAX_RANGES {
            return Err(Errno::ENOLCK);
        }
        self.0.retain_mut(|lock| {
            if lock.owner != owner || !lock.overlaps(&hole) {
                return true;
            }
            if lock.start < start {
                lock.end = start - 1;
                true
            } else if lock.end > end {
                lock.start = end + 1;
                true
            } else {
                false
            }
        });
        self.0.extend(tails);
        Ok(())
    }

    /// Locks a range for `new.owner`, replacing what it held there. The caller has looked for
    /// conflicts.
    pub fn lock(&mut self, new: RecordLock) -> Result<()> {
        if self.0.len() + 2 > MAX_RANGES {
            return Err(Errno::ENOLCK);
        }
        self.unlock(new.owner, new.start, new.end)?;
        // Neighbours of the same kind become one.
        let mut merged = new;
        self.0.retain(|lock| {
            let same = lock.owner == merged.owner && lock.write == merged.write;
            let before = lock.end.checked_add(1) == Some(merged.start);
            let after = merged.end.checked_add(1) == Some(lock.start);
            if same && before {
                merged.start = lock.start;
            } else if same && after {
                merged.end = lock.end;
            } else {
                return true;
            }
            false
        });
        self.0.push(merged);
        Ok(())
    }

    /// Drops everything an owner holds. True if there was something.
    pub fn release(&mut self, owner: Owner) -> bool {
        let before = self.0.len();
        self.0.retain(|lock| lock.owner != owner);
        self.0.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(owner: u64, start: u64, end: u64, write: bool) -> RecordLock {
        RecordLock { owner: Owner::Process(owner), pid: owner as i32, start, end, write }
    }

    fn ranges(locks: &RecordLocks) -> Vec<(u64, u64, bool)> {
        let mut all: Vec<_> = locks.iter().map(|l| (l.start, l.end, l.write)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn split_and_merge() {
        let mut l = RecordLocks::default();
        l.lock(lock(1, 0, 99, true)).unwrap();
        l.lock(lock(1, 10, 19, false)).unwrap();
        assert_eq!(ranges(&l), [(0, 9, true), (10, 19, false), (20, 99, true)]);
        l.lock(lock(1, 10, 19, true)).unwrap();
        assert_eq!(ranges(&l), [(0, 99, true)]);
        l.unlock(Owner::Process(1), 50, u64::MAX).unwrap();
        l.unlock(Owner::Process(1), 0, 0).unwrap();
        assert_eq!(ranges(&l), [(1, 49, true)]);
        l.lock(lock(1, 50, i64::MAX as u64, true)).unwrap();
        assert_eq!(ranges(&l), [(1, i64::MAX as u64, true)]);
        assert!(l.release(Owner::Process(1)) && l.iter().next().is_none());
    }

    #[test]
    fn conflicts() {
        let mut l = RecordLocks::default();
        l.lock(lock(1, 10, 19, false)).unwrap();
        assert_eq!(l.conflict(&lock(2, 0, 99, false)), None);
        assert_eq!(l.conflict(&lock(2, 0, 9, true)), None);
        assert_eq!(l.conflict(&lock(1, 0, 99, true)), None);
        assert_eq!(l.conflict(&lock(2, 19, 99, true)).map(|l| l.pid), Some(1));
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut l = RecordLocks::default();
        let failed =
            (0..20_000u64).map(|i| l.lock(lock(1, i * 2, i * 2, true))).find(Result::is_err);
        assert_eq!(failed, Some(Err(Errno::ENOLCK)));
    }
}
