//! Reference-counted ranges of the memory file.

use super::MemoryFile;
use crate::{AccessError, PAGE_SIZE, PlatformError, Result};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How often [`Frames::fetch_update32`] retries against a guest that keeps changing the word.
const MAX_RETRIES: u32 = 1 << 16;

/// A range of the memory file, a multiple of the page size long. May be empty.
///
/// Cloning adds a reference to each page, dropping removes it; pages nobody refers to are returned
/// to the host. The guest may change the contents at any time: all accesses are volatile copies.
/// Offsets in the methods are relative to the start of these frames; an access beyond their end, or
/// one for which the host has no memory, is an [`AccessError`] (a part of it may have been done).
pub struct Frames {
    file: Arc<MemoryFile>,
    start: u64,
    len: u64,
}

/// A read-modify-write operation, in the terms of `FUTEX_WAKE_OP` of `futex(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomicOp {
    /// `new = argument`.
    Set,
    /// `new = old + argument`, wrapping.
    Add,
    /// `new = old | argument`.
    Or,
    /// `new = old & !argument`.
    AndNot,
    /// `new = old ^ argument`.
    Xor,
}

impl AtomicOp {
    fn apply(self, old: u32, argument: u32) -> u32 {
        match self {
            Self::Set => argument,
            Self::Add => old.wrapping_add(argument),
            Self::Or => old | argument,
            Self::AndNot => old & !argument,
            Self::Xor => old ^ argument,
        }
    }
}

impl Frames {
    /// Wraps a range whose reference has been counted already.
    pub(super) fn new(file: Arc<MemoryFile>, start: u64, len: u64) -> Self {
        Self { file, start, len }
    }

    /// Offset of the first byte in the memory file.
    pub fn offset(&self) -> u64 {
        self.start
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory file these frames belong to.
    pub fn file(&self) -> &Arc<MemoryFile> {
        &self.file
    }

    /// A new reference to a part. `None` when the range is not inside, or not page-aligned.
    pub fn slice(&self, range: Range<u64>) -> Option<Self> {
        let aligned = range.start.is_multiple_of(PAGE_SIZE) && range.end.is_multiple_of(PAGE_SIZE);
        if !aligned || range.start > range.end || range.end > self.len {
            return None;
        }
        let (start, len) = (self.start + range.start, range.end - range.start);
        if len > 0 {
            self.file.retain(start..start + len);
        }
        Some(Self { file: self.file.clone(), start, len })
    }

    /// Splits into the part before `at` and the rest; no reference count changes.
    ///
    /// `at` is rounded down to a page and limited to the length.
    pub fn split_at(mut self, at: u64) -> (Self, Self) {
        let at = (at & !(PAGE_SIZE - 1)).min(self.len);
        let rest = Self { file: self.file.clone(), start: self.start + at, len: self.len - at };
        self.len = at;
        (self, rest)
    }

    /// Joins two ranges of which `next` directly follows this one; gives both back otherwise.
    pub fn join(mut self, mut next: Self) -> Result<Self, (Self, Self)> {
        if !Arc::ptr_eq(&self.file, &next.file) || self.start + self.len != next.start {
            return Err((self, next));
        }
        self.len += next.len;
        next.len = 0;
        Ok(self)
    }

    /// Takes over `next`, which must directly follow; otherwise it is just released.
    pub(crate) fn append(&mut self, mut next: Self) {
        if Arc::ptr_eq(&self.file, &next.file) && self.start + self.len == next.start {
            self.len += std::mem::take(&mut next.len);
        }
    }

    /// Whether any page of the range has more than one reference.
    pub fn is_shared(&self, range: Range<u64>) -> bool {
        self.part(range).is_some_and(|part| self.file.is_shared(part))
    }

    /// Copies `buffer.len()` bytes out.
    pub fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), AccessError> {
        self.file.mapping().read(self.locate(at, buffer.len() as u64)?, buffer)
    }

    /// Copies `bytes` in.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.file.mapping().write(self.locate(at, bytes.len() as u64)?, bytes)
    }

    /// Writes zeroes. For whole pages that should hold no memory use [`Frames::decommit`].
    pub fn zero(&self, at: u64, len: u64) -> Result<(), AccessError> {
        self.file.mapping().zero(self.locate(at, len)?, len)
    }

    /// Copies `len` bytes from `source` at `from` to `at`. The ranges must not overlap.
    pub fn copy_from(
        &self,
        at: u64,
        source: &Self,
        from: u64,
        len: u64,
    ) -> Result<(), AccessError> {
        let (to, from) = (self.locate(at, len)?, source.locate(from, len)?);
        self.file.mapping().copy_from(to, source.file.mapping(), from, len)
    }

    /// Atomic load of an aligned word.
    pub fn load32(&self, at: u64) -> Result<u32, AccessError> {
        self.file.mapping().load32(self.locate(at, 4)?)
    }

    /// Atomic load of an aligned word.
    pub fn load64(&self, at: u64) -> Result<u64, AccessError> {
        self.file.mapping().load64(self.locate(at, 8)?)
    }

    /// Atomic store of an aligned word.
    pub fn store32(&self, at: u64, value: u32) -> Result<(), AccessError> {
        self.file.mapping().store32(self.locate(at, 4)?, value)
    }

    /// Atomic store of an aligned word.
    pub fn store64(&self, at: u64, value: u64) -> Result<(), AccessError> {
        self.file.mapping().store64(self.locate(at, 8)?, value)
    }

    /// Atomic compare-and-exchange of an aligned word; returns what was there, so it succeeded when
    /// that equals `old`.
    pub fn compare_exchange32(&self, at: u64, old: u32, new: u32) -> Result<u32, AccessError> {
        self.file.mapping().cmpxchg32(self.locate(at, 4)?, old, new)
    }

    /// Atomic compare-and-exchange of an aligned word; returns what was there.
    pub fn compare_exchange64(&self, at: u64, old: u64, new: u64) -> Result<u64, AccessError> {
        self.file.mapping().cmpxchg64(self.locate(at, 8)?, old, new)
    }

    /// Atomic read-modify-write of an aligned word; returns what was there.
    pub fn fetch_update32(&self, at: u64, op: AtomicOp, argument: u32) -> Result<u32, AccessError> {
        let mut old = self.load32(at)?;
        for _ in 0..MAX_RETRIES {
            let found = self.compare_exchange32(at, old, op.apply(old, argument))?;
            if found == old {
                return Ok(old);
            }
            old = found;
        }
        Err(AccessError)
    }

    /// Returns the pages' storage to the host; they read as zeroes afterwards.
    ///
    /// Mappings of them see that too (`MADV_REMOVE`), so the caller makes sure nobody else refers to
    /// these pages ([`Frames::is_shared`]).
    pub fn decommit(&self, range: Range<u64>) -> Result<()> {
        let range = self.page_part(range)?;
        self.file.punch(range).map_err(|e| PlatformError::host("return guest memory", e))
    }

    /// Allocates the pages' storage ahead of use, cheaper than by a fault on each.
    ///
    /// Fails with `ENOMEM` or `ENOSPC` when the host has no memory.
    pub fn commit(&self, range: Range<u64>) -> Result<()> {
        let range = self.page_part(range)?;
        self.file.commit(range).map_err(|e| PlatformError::host("allocate guest memory", e))
    }

    /// Bytes of the range that hold storage; 0 for a range that lies outside.
    pub fn committed(&self, range: Range<u64>) -> u64 {
        self.part(range).map_or(0, |part| self.file.committed_in(part))
    }

    /// The parts of a range that hold storage, ascending; the others read as zeroes. Empty for a range
    /// that lies outside.
    pub fn data(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let Some(part) = self.part(range) else { return Vec::new() };
        let parts = self.file.data_in(part).into_iter();
        parts.map(|part| part.start - self.start..part.end - self.start).collect()
    }

    /// Bytes in memory in many parts together, each counted as often as it is named. Parts that are near
    /// each other in the file are asked for at once: a process can have thousands of pages that were
    /// made one by one.
    pub fn committed_in_all<'a>(parts: impl Iterator<Item = (&'a Self, Range<u64>)>) -> u64 {
        let mut file = None;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (frames, range) in parts {
            ranges.extend(frames.part(range));
            file.get_or_insert(&frames.file);
        }
        let Some(file) = file else { return 0 };
        ranges.sort_unstable_by_key(|range| range.start);
        let mut bytes = 0;
        let mut rest = ranges.as_slice();
        while let Some(first) = rest.first() {
            let (mut count, mut end) = (1, first.end);
            while let Some(next) = rest.get(count)
                && is_near(first, end, next)
            {
                end = end.max(next.end);
                count += 1;
            }
            let (group, others) = rest.split_at(count);
            bytes += file.committed_in_group(group);
            rest = others;
        }
        bytes
    }

    fn let_go(frames: Vec<Self>, keep: bool) {
        let mut frames = frames;
        let Some(file) = frames.first().map(|first| first.file.clone()) else { return };
        let ranges = frames.iter_mut().filter(|f| Arc::ptr_eq(&f.file, &file)).map(|f| {
            let len = std::mem::take(&mut f.len);
            f.start..f.start + len
        });
        file.release(ranges.filter(|range| !range.is_empty()), keep);
    }

    /// Drops many frames at once: one lock, and one host call for neighbours.
    pub fn release_all(frames: Vec<Self>) {
        Self::let_go(frames, false);
    }

    /// As [`Frames::release_all`], for pages that were written by one guest process alone: some are used
    /// again for [`MemoryFile::allocate_to_overwrite`], without the host.
    pub fn recycle_all(frames: Vec<Self>) {
        Self::let_go(frames, true);
    }

    /// Position in the file of `len` bytes at `at`, which must lie inside.
    fn locate(&self, at: u64, len: u64) -> Result<u64, AccessError> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(self.start + at),
            _ => Err(AccessError),
        }
    }

    /// Position in the file of a range that must lie inside.
    pub(super) fn part(&self, range: Range<u64>) -> Option<Range<u64>> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        Some(self.start + range.start..self.start + range.end)
    }

    fn page_part(&self, range: Range<u64>) -> Result<Range<u64>> {
        let aligned = range.start.is_multiple_of(PAGE_SIZE) && range.end.is_multiple_of(PAGE_SIZE);
        let part = self.part(range).filter(|part| aligned && !part.is_empty());
        Ok(part.ok_or(AccessError)?)
    }
}

/// Whether a range is asked for together with those before it, which start with `first` and go up to `end`.
fn is_near(first: &Range<u64>, end: u64, next: &Range<u64>) -> bool {
    /// Bytes: an answer is small.
    const SPAN: u64 = 1024 * PAGE_SIZE;
    /// Bytes between them: the host looks at each page, which takes a twentieth of a call.
    const GAP: u64 = 16 * PAGE_SIZE;
    next.end.saturating_sub(first.start) <= SPAN && next.start.saturating_sub(end) <= GAP
}

impl Clone for Frames {
    fn clone(&self) -> Self {
        if self.len > 0 {
            self.file.retain(self.start..self.start + self.len);
        }
        Self { file: self.file.clone(), start: self.start, len: self.len }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if self.len > 0 {
            self.file.release(std::iter::once(self.start..self.start + self.len), false);
        }
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames({:#x}..{:#x})", self.start, self.start + self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u64 = PAGE_SIZE;

    #[test]
    fn bounds() {
        let file = MemoryFile::new().unwrap();
        let frames = file.allocate(2 * P).unwrap();
        let mut buffer = [0; 8];
        assert!(frames.read(2 * P - 8, &mut buffer).is_ok());
        assert_eq!(frames.read(2 * P - 7, &mut buffer), Err(AccessError));
        assert_eq!(frames.read(u64::MAX, &mut buffer), Err(AccessError));
        assert_eq!(frames.write(u64::MAX - 3, &buffer), Err(AccessError));
        assert_eq!(frames.zero(0, 2 * P + 1), Err(AccessError));
        assert_eq!(frames.load32(2), Err(AccessError));
        assert_eq!(frames.load32(2 * P), Err(AccessError));
        assert!(frames.slice(0..3 * P).is_none());
        assert!(frames.slice(1..P).is_none());
        assert!(frames.slice(P..P).unwrap().is_empty());
        assert!(frames.decommit(0..3 * P).is_err());
        assert!(frames.decommit(0..1).is_err());
    }

    #[test]
    fn split_join_and_copy() {
        let file = MemoryFile::new().unwrap();
        let (a, b) = file.allocate(3 * P).unwrap().split_at(P);
        assert_eq!((a.len(), b.len()), (P, 2 * P));
        b.write(P, b"abc").unwrap();
        a.copy_from(16, &b, P, 3).unwrap();
        let joined = a.join(b).unwrap();
        let mut buffer = [0; 3];
        joined.read(16, &mut buffer).unwrap();
        assert_eq!(&buffer, b"abc");
        assert!(!joined.is_shared(0..3 * P));
        let other = file.allocate(P).unwrap();
        assert!(joined.join(other).is_err());
        assert_eq!(file.committed_bytes().unwrap(), 0);
    }

    #[test]
    fn atomics() {
        let file = MemoryFile::new().unwrap();
        let frames = file.allocate(P).unwrap();
        frames.store32(4, 5).unwrap();
        assert_eq!(frames.compare_exchange32(4, 5, 9), Ok(5));
        assert_eq!(frames.compare_exchange32(4, 5, 1), Ok(9));
        for (op, argument, result) in [
            (AtomicOp::Add, u32::MAX, 8),
            (AtomicOp::Or, 3, 11),
            (AtomicOp::AndNot, 1, 10),
            (AtomicOp::Xor, 15, 5),
            (AtomicOp::Set, 77, 77),
        ] {
            frames.fetch_update32(4, op, argument).unwrap();
            assert_eq!(frames.load32(4), Ok(result), "{op:?}");
        }
        frames.store64(8, 1 << 40).unwrap();
        assert_eq!(frames.compare_exchange64(8, 1 << 40, 2), Ok(1 << 40));
        assert_eq!(frames.load64(8), Ok(2));
    }

    #[test]
    fn commit_and_decommit() {
        let file = MemoryFile::new().unwrap();
        let frames = file.allocate(8 * P).unwrap();
        frames.commit(0..4 * P).unwrap();
        assert_eq!(file.committed_bytes().unwrap(), 4 * P);
        frames.write(P, b"x").unwrap();
        frames.write(6 * P, b"x").unwrap();
        // What was only set aside counts as a hole.
        assert_eq!(frames.data(0..8 * P), [P..2 * P, 6 * P..7 * P]);
        assert_eq!(frames.data(2 * P..6 * P), []);
        assert_eq!(frames.data(0..9 * P), []);
        frames.decommit(6 * P..7 * P).unwrap();
        frames.decommit(0..2 * P).unwrap();
        assert_eq!(file.committed_bytes().unwrap(), 2 * P);
        assert_eq!(frames.load32(P), Ok(0));
    }

    #[test]
    fn committed_in_all_counts_each_part() {
        let file = MemoryFile::new().unwrap();
        let frames = file.allocate(16 * P).unwrap();
        (2..6).for_each(|page| frames.write(page * P, b"x").unwrap());
        let count = |parts: &[Range<u64>]| {
            Frames::committed_in_all(parts.iter().map(|part| (&frames, part.clone())))
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[4 * P..5 * P, 3 * P..4 * P, P..3 * P]), 3 * P);
        assert_eq!(count(&[5 * P..9 * P, 2 * P..3 * P, 2 * P..3 * P]), 3 * P);
    }

    #[test]
    fn some_pages_are_used_again() {
        let file = MemoryFile::new().unwrap();
        let frames = file.allocate(4 * P).unwrap();
        let kept = frames.slice(0..P).unwrap();
        frames.write(0, &[7; 4 * P as usize]).unwrap();
        Frames::recycle_all(vec![frames]);
        // They are nobody's, but still there; what is somebody's is not among them.
        assert_eq!(file.committed_bytes().unwrap(), 4 * P);
        let (first, used) = file.allocate_to_overwrite(2 * P).unwrap();
        let (second, fresh) = file.allocate_to_overwrite(2 * P).unwrap();
        assert!(used && !fresh && kept.offset() != first.offset());
        let mut byte = [0];
        first.read(P, &mut byte).unwrap();
        assert_eq!(byte, [7]);
        second.read(P, &mut byte).unwrap();
        assert_eq!(byte, [0]);
        // What is allocated in the ordinary way is always zeroes.
        drop(first);
        let zeroes = file.allocate(2 * P).unwrap();
        zeroes.read(0, &mut byte).unwrap();
        assert_eq!(byte, [0]);
    }

    #[test]
    fn release_all_frees_everything() {
        let file = MemoryFile::new().unwrap();
        let mut parts = Vec::new();
        for _ in 0..10 {
            let frames = file.allocate(P).unwrap();
            frames.write(0, b"x").unwrap();
            parts.push(frames.clone());
            parts.push(frames);
        }
        let kept = parts[0].clone();
        Frames::release_all(parts);
        assert_eq!(file.committed_bytes().unwrap(), P);
        drop(kept);
        assert_eq!(file.committed_bytes().unwrap(), 0);
    }
}
