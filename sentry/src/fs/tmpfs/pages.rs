//! Contents of a regular file: extents of the memory file, in the order of the file.

use super::Tmpfs;
use crate::errno::{Errno, Result};
use crate::mm::PAGE_SIZE;
use platform::Frames;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Most pages set aside beyond what a write needs, so that files written piece by piece lie in one
/// piece.
const MAX_RESERVE: u64 = 256;

/// What backs a file. Positions are pages, extents do not overlap. Pages between them are holes.
#[derive(Default)]
pub(super) struct Pages {
    /// Extents by their first page. Behind an `Arc`, so that a reader can hold one without counting
    /// references page by page.
    extents: BTreeMap<u64, Arc<Frames>>,
    /// Frames set aside for the page at which the file will probably grow. Not accounted, and no
    /// memory until touched.
    reserve: Option<(u64, Frames)>,
    /// Pages in extents.
    allocated: u64,
}

fn pages_of(frames: &Frames) -> u64 {
    frames.len() / PAGE_SIZE
}

/// A run of a file's pages.
pub(super) enum Run {
    /// Backed: the extent, and where in it (bytes) the run starts.
    Data(Arc<Frames>, u64),
    /// A hole.
    Hole,
}

impl Pages {
    /// Pages that are allocated.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// What backs the file at `offset` (bytes), and for how many bytes, at most `len`.
    pub(super) fn run(&self, offset: u64, len: u64) -> (Run, u64) {
        let page = offset / PAGE_SIZE;
        if let Some((&first, frames)) = self.extents.range(..=page).next_back()
            && page < first + pages_of(frames)
        {
            let at = offset - first * PAGE_SIZE;
            return (Run::Data(frames.clone(), at), len.min(frames.len() - at));
        }
        let next = self.extents.range(page..).next().map_or(u64::MAX, |(&p, _)| p);
        (Run::Hole, len.min(next.saturating_mul(PAGE_SIZE).saturating_sub(offset)))
    }

    /// Backs the first hole of `pages`, if there is one, with as much as fits in one piece. Accounts
    /// for it. Returns false when there is no hole.
    fn fill_one(&mut self, fs: &Tmpfs, pages: &Range<u64>) -> Result<bool> {
        let mut at = pages.start;
        while at < pages.end {
            match self.run(at * PAGE_SIZE, (pages.end - at).saturating_mul(PAGE_SIZE)) {
                (Run::Data(..), len) => at += len / PAGE_SIZE,
                (Run::Hole, len) => {
                    self.allocate(fs, at, len / PAGE_SIZE)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Backs every hole in `pages`. `ENOSPC` when the file system is full; what was backed before
    /// stays.
    pub(super) fn fill(&mut self, fs: &Tmpfs, pages: Range<u64>) -> Result<()> {
        while self.fill_one(fs, &pages)? {}
        Ok(())
    }

    /// Backs the hole of `count` pages at `page`, or its beginning when the file system is nearly
    /// full. `ENOSPC` when it is full.
    fn allocate(&mut self, fs: &Tmpfs, page: u64, count: u64) -> Result<()> {
        let count = fs.take_pages(count)?;
        let frames = match self.take_frames(fs, page, count) {
            Ok(frames) => frames,
            Err(e) => {
                fs.return_pages(count);
                return Err(e);
            }
        };
        self.allocated += count;
        // Join with the extent before, if it is the same piece of the memory file and nobody reads it.
        let before = self.extents.range(..page).next_back().map(|(&first, _)| first);
        if let Some(first) = before
            && let Some(old) = self.extents.remove(&first)
        {
            if first + pages_of(&old) == page {
                match Arc::try_unwrap(old) {
                    Ok(old) => match old.join(frames) {
                        Ok(joined) => {
                            self.extents.insert(first, Arc::new(joined));
                        }
                        Err((old, frames)) => {
                            self.extents.insert(first, Arc::new(old));
                            self.extents.insert(page, Arc::new(frames));
                        }
                    },
                    Err(old) => {
                        self.extents.insert(first, old);
                        self.extents.insert(page, Arc::new(frames));
                    }
                }
                return Ok(());
            }
            self.extents.insert(first, old);
        }
        self.extents.insert(page, Arc::new(frames));
        Ok(())
    }

    fn take_frames(&mut self, fs: &Tmpfs, page: u64, count: u64) -> Result<Frames> {
        if let Some((at, reserve)) = self.reserve.take()
            && at == page
            && pages_of(&reserve) >= count
        {
            let (frames, rest) = reserve.split_at(count * PAGE_SIZE);
            if !rest.is_empty() {
                self.reserve = Some((page + count, rest));
            }
            return Ok(frames);
        }
        let spare = self.allocated.min(MAX_RESERVE);
        let bytes = count.saturating_add(spare).saturating_mul(PAGE_SIZE);
        let frames = fs.memory().allocate(bytes).map_err(|_| Errno::ENOSPC)?;
        let (frames, rest) = frames.split_at(count * PAGE_SIZE);
        if !rest.is_empty() {
            self.reserve = Some((page + count, rest));
        }
        Ok(frames)
    }

    /// Makes `bytes` read as zeroes; whole pages become holes. With `keep`, they stay allocated.
    /// Mappings of what becomes a hole have been told before ([`crate::mm::Mappings`]).
    pub(super) fn clear(&mut self, fs: &Tmpfs, bytes: Range<u64>, keep: bool) -> Result<()> {
        let first = bytes.start.div_ceil(PAGE_SIZE);
        let end = bytes.end / PAGE_SIZE;
        if first >= end {
            self.zero(bytes.start, bytes.end)?;
            return Ok(());
        }
        self.zero(bytes.start, first * PAGE_SIZE)?;
        self.zero(end * PAGE_SIZE, bytes.end)?;
        self.split(first);
        self.split(end);
        let inside: Vec<u64> = self.extents.range(first..end).map(|(&p, _)| p).collect();
        let mut gone = Vec::new();
        for page in inside {
            let Some(frames) = self.extents.remove(&page) else { continue };
            let whole = 0..frames.len();
            if keep {
                if frames.decommit(whole).is_err() {
                    let _ = frames.zero(0, frames.len());
                }
                self.extents.insert(page, frames);
                continue;
            }
            let count = pages_of(&frames);
            self.allocated = self.allocated.saturating_sub(count);
            fs.return_pages(count);
            if let Ok(frames) = Arc::try_unwrap(frames) {
                gone.push(frames);
            }
        }
        if self.reserve.as_ref().is_some_and(|(at, _)| *at > first) {
            self.reserve = None;
        }
        Frames::release_all(gone);
        Ok(())
    }

    /// Zeroes the bytes from `from` to `to` as far as they are backed.
    fn zero(&self, from: u64, to: u64) -> Result<()> {
        let mut at = from;
        while at < to {
            let (run, len) = self.run(at, to - at);
            if let Run::Data(frames, inside) = run {
                frames.zero(inside, len).map_err(|_| Errno::EIO)?;
            }
            at += len;
        }
        Ok(())
    }

    /// Splits the extent that contains `page` in its middle.
    fn split(&mut self, page: u64) {
        let Some((&first, frames)) = self.extents.range(..page).next_back() else { return };
        let count = pages_of(frames);
        if page >= first + count {
            return;
        }
        let at = (page - first) * PAGE_SIZE;
        let Some(frames) = self.extents.remove(&first) else { return };
        let (head, tail) = match Arc::try_unwrap(frames) {
            Ok(frames) => frames.split_at(at),
            // Someone is reading it: both parts are new references.
            Err(frames) => (*frames).clone().split_at(at),
        };
        self.extents.insert(first, Arc::new(head));
        self.extents.insert(page, Arc::new(tail));
    }

    /// First offset from `offset` on that is data (or, without `data`, a hole), below `size`; a hole
    /// is also at `size`.
    pub(super) fn seek(&self, offset: u64, size: u64, data: bool) -> Result<u64> {
        let mut at = offset;
        while at < size {
            let (run, len) = self.run(at, size - at);
            if matches!(run, Run::Data(..)) == data {
                return Ok(at);
            }
            at += len;
        }
        if data { Err(Errno::ENXIO) } else { Ok(size) }
    }

    /// Gives everything back.
    pub(super) fn release(&mut self, fs: &Tmpfs) {
        fs.return_pages(std::mem::take(&mut self.allocated));
        let extents = std::mem::take(&mut self.extents);
        let mut gone: Vec<Frames> =
            extents.into_values().filter_map(|frames| Arc::try_unwrap(frames).ok()).collect();
        gone.extend(self.reserve.take().map(|(_, frames)| frames));
        Frames::release_all(gone);
    }
}
