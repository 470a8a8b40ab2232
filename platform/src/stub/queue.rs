//! Mapping operations that wait to be executed in a stub.

use super::lazy::Lazy;
use super::mapped::MappedRanges;
use super::operation::Operation;
use super::touched::Touched;
use crate::{Frames, MapSource, Prot};
use std::ops::Range;

/// Operations or frames that wait at most.
const MOST_WAITING: usize = 24;

/// Operations in the order in which they take effect, and what they make the stub look like.
#[derive(Debug, Default)]
pub struct Queue {
    operations: Vec<Operation>,
    /// To be released once the operations are done.
    frames: Vec<Frames>,
    /// What is mapped after all operations.
    mapped: MappedRanges,
    /// Whether the operations can wait.
    lazy: Lazy,
    /// Where mappings have been changed.
    touched: Touched,
    /// Counts changes.
    clock: u64,
}

/// What [`Queue::take`] returns.
#[derive(Debug, Default)]
pub struct Work {
    /// To be done, in this order.
    pub operations: Vec<Operation>,
    /// To be released afterwards.
    pub frames: Vec<Frames>,
}

impl Queue {
    /// The queue of a copy of this stub: nothing waits, the same is mapped.
    ///
    /// Waiting operations of the original must have been executed before the copy was made. Of `stale` ranges
    /// nothing is known: what comes there is to replace something.
    pub fn for_copy(&self, stale: &[Range<u64>]) -> Self {
        let mut mapped = self.mapped.clone();
        stale.iter().for_each(|range| mapped.insert(range.clone()));
        Self { mapped, lazy: self.lazy.for_copy(), ..Self::default() }
    }

    /// Sets the clock of a queue in which nothing has been changed.
    pub fn set_clock(&mut self, now: u64) {
        self.clock = now;
    }

    /// Begins the next change; counts them.
    pub fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Where mappings have been changed after a time on the clock, as [`Touched::since`].
    pub fn touched_since(&self, then: u64) -> Option<Vec<Range<u64>>> {
        self.touched.since(then)
    }

    /// Queues a mapping.
    pub fn map(&mut self, range: Range<u64>, prot: Prot, source: MapSource, replaced: Vec<Frames>) {
        self.frames.extend(replaced);
        if range.is_empty() {
            return;
        }
        self.touched.record(self.clock, &range);
        self.edit(&range, None);
        self.lazy.map(&self.mapped, &range);
        self.mapped.insert(range.clone());
        let Some(Operation::Map {
            range: last,
            prot: last_prot,
            source: MapSource::Frames(before),
        }) = self.operations.last_mut()
        else {
            self.operations.push(Operation::Map { range, prot, source });
            return;
        };
        // A mapping that continues the one before, in the stub and in the memory file, is one call.
        match source {
            MapSource::Frames(frames)
                if last.end == range.start
                    && *last_prot == prot
                    && before.offset() + before.len() == frames.offset()
                    && before.len() == last.end - last.start =>
            {
                last.end = range.end;
                before.append(frames);
            }
            source => self.operations.push(Operation::Map { range, prot, source }),
        }
    }

    /// Queues the removal of all mappings in a range. Returns what can be released at once. `idle`: nothing that was taken
    /// is still being executed; until then the stub may have these frames mapped, whatever the list says.
    pub fn unmap(&mut self, range: Range<u64>, frames: Vec<Frames>, idle: bool) -> Vec<Frames> {
        self.frames.extend(frames);
        self.touched.record(self.clock, &range);
        if self.edit(&range, None) {
            self.lazy.spare();
        }
        let first = self.mapped.within(range.clone()).next();
        if let Some(first) = first {
            let end = self.mapped.within(range.clone()).last().map_or(first.end, |part| part.end);
            self.lazy.change(&self.mapped, &range);
            self.mapped.remove(range);
            let range = first.start..end;
            match self.operations.last_mut() {
                Some(Operation::Unmap(last)) if last.end == range.start => last.end = range.end,
                Some(Operation::Unmap(last)) if last.start == range.end => last.start = range.start,
                _ => self.operations.push(Operation::Unmap(range)),
            }
        }
        // Nothing waits: no mapping of these was ever made, or it is gone.
        match idle && self.operations.is_empty() {
            true => std::mem::take(&mut self.frames),
            false => Vec::new(),
        }
    }

    /// Where all that is mapped in a range waits to be so, changes the list instead of adding to it: what waits there is
    /// taken back, or gets other access. So each page has one operation, and no thread ever sees another state of it than the
    /// last.
    fn edit(&mut self, range: &Range<u64>, prot: Option<Prot>) -> bool {
        if !self.lazy.is_waiting(&self.mapped, range) {
            return false;
        }
        for operation in std::mem::take(&mut self.operations) {
            if !matches!(operation, Operation::Map { .. }) || !operation.touches(range) {
                self.operations.push(operation);
                continue;
            }
            let (before, rest) = operation.split_at(range.start);
            let (inside, behind) = rest.map_or((None, None), |rest| rest.split_at(range.end));
            self.operations.extend(before);
            match prot {
                Some(prot) => self.operations.extend(inside.map(|inside| inside.with_prot(prot))),
                None => self.frames.extend(inside.and_then(Operation::frames)),
            }
            self.operations.extend(behind);
        }
        if prot.is_none() {
            self.mapped.remove(range.clone());
            self.lazy.forget(range.clone());
        }
        true
    }

    /// Whether the operations are to be executed before guest code runs again.
    pub fn is_due(&mut self) -> bool {
        self.operations.len() >= MOST_WAITING
            || self.frames.len() >= MOST_WAITING
            || self.lazy.is_due()
    }

    /// Whether guest code has faulted at an address because an operation waits.
    pub fn is_missed(&mut self, address: u64) -> bool {
        !self.operations.is_empty() && self.lazy.is_missed(address)
    }

    /// Queues a change of access to what is mapped in a range.
    pub fn protect(&mut self, range: Range<u64>, prot: Prot) {
        // mprotect(2) stops at a hole, so it gets each part on its own.
        self.touched.record(self.clock, &range);
        if self.edit(&range, Some(prot)) {
            return;
        }
        self.lazy.change(&self.mapped, &range);
        for part in self.mapped.within(range) {
            match self.operations.last_mut() {
                Some(Operation::Protect(last, last_prot))
                    if last.end == part.start && *last_prot == prot =>
                {
                    last.end = part.end;
                }
                _ => self.operations.push(Operation::Protect(part, prot)),
            }
        }
    }

    /// Queues populating of what is mapped in a range.
    pub fn populate(&mut self, range: Range<u64>) {
        self.lazy.urge();
        self.operations.extend(self.mapped.within(range).map(Operation::Populate));
    }

    /// Queues that first touches of what is mapped in a range may bring huge pages.
    pub fn huge(&mut self, range: Range<u64>) {
        self.operations.extend(self.mapped.within(range).map(Operation::Huge));
    }

    /// Takes everything out, to be executed.
    pub fn take(&mut self) -> Work {
        self.lazy.reset();
        Work {
            operations: std::mem::take(&mut self.operations),
            frames: std::mem::take(&mut self.frames),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryFile;
    use std::fs::File;
    use std::sync::Arc;

    const P: u64 = crate::PAGE_SIZE;

    fn shape(queue: &mut Queue) -> Vec<String> {
        let describe = |operation| match operation {
            Operation::Map { range, prot, source: MapSource::Frames(f) } => {
                assert!(range.end - range.start <= f.len());
                format!("map {}..{} {}", range.start / P, range.end / P, prot.bits())
            }
            Operation::Map { range, .. } => format!("fd {}..{}", range.start / P, range.end / P),
            Operation::Unmap(r) => format!("unmap {}..{}", r.start / P, r.end / P),
            Operation::Protect(r, p) => {
                format!("protect {}..{} {}", r.start / P, r.end / P, p.bits())
            }
            Operation::Populate(r) => format!("populate {}..{}", r.start / P, r.end / P),
            Operation::Huge(r) => format!("huge {}..{}", r.start / P, r.end / P),
        };
        queue.take().operations.into_iter().map(describe).collect()
    }

    #[test]
    fn neighbours_become_one_call() {
        let file = MemoryFile::new().unwrap();
        let (mut queue, frames) = (Queue::default(), file.allocate(8 * P).unwrap());
        let map = |queue: &mut Queue, page: u64, frame: u64, prot| {
            let source = frames.slice(frame * P..(frame + 1) * P).unwrap();
            queue.map(page * P..(page + 1) * P, prot, MapSource::Frames(source), Vec::new());
        };
        let (r, rw) = (Prot::READ, Prot::READ | Prot::WRITE);
        map(&mut queue, 10, 0, rw);
        map(&mut queue, 11, 1, rw);
        map(&mut queue, 12, 3, rw);
        map(&mut queue, 13, 4, r);
        map(&mut queue, 20, 5, r);
        let made = ["map 10..12 3", "map 12..13 3", "map 13..14 1", "map 20..21 1"];
        assert_eq!(shape(&mut queue), made);
        queue.unmap(11 * P..12 * P, Vec::new(), true);
        queue.unmap(12 * P..14 * P, Vec::new(), true);
        queue.unmap(14 * P..20 * P, Vec::new(), true);
        queue.protect(0..30 * P, r);
        queue.populate(0..15 * P);
        queue.huge(10 * P..30 * P);
        assert_eq!(
            shape(&mut queue),
            [
                "unmap 11..14",
                "protect 10..11 1",
                "protect 20..21 1",
                "populate 10..11",
                "huge 10..11",
                "huge 20..21",
            ]
        );
        assert!(shape(&mut queue.for_copy(&[])).is_empty());
        queue.unmap(0..100 * P, Vec::new(), true);
        assert_eq!(shape(&mut queue), ["unmap 10..21"]);
        queue.unmap(0..100 * P, Vec::new(), true);
        assert!(shape(&mut queue).is_empty());
    }

    #[test]
    fn what_was_not_made_is_taken_back() {
        let file = MemoryFile::new().unwrap();
        let (mut queue, frames) = (Queue::default(), file.allocate(8 * P).unwrap());
        let map = |queue: &mut Queue, pages: Range<u64>| {
            let source = MapSource::Frames(frames.slice(0..(pages.end - pages.start) * P).unwrap());
            queue.map(pages.start * P..pages.end * P, Prot::READ, source, Vec::new());
        };
        map(&mut queue, 10..12);
        assert!(!queue.is_due() && queue.is_missed(11 * P) && !queue.is_missed(12 * P));
        let unused = queue.unmap(0..20 * P, vec![file.allocate(P).unwrap()], true);
        assert_eq!(unused.len(), 2);
        assert!(shape(&mut queue).is_empty());
        // While a list is executed its mappings are there, and so are those that it removes.
        assert!(queue.unmap(0..P, vec![file.allocate(P).unwrap()], false).is_empty());
        assert_eq!(queue.take().frames.len(), 1);
        // What waits may be changed, and still waits; not what the stub has.
        map(&mut queue, 10..14);
        map(&mut queue, 11..12);
        queue.protect(13 * P..14 * P, Prot::empty());
        assert!(!queue.is_due() && queue.unmap(10 * P..11 * P, Vec::new(), true).is_empty());
        assert_eq!(shape(&mut queue), ["map 12..13 1", "map 13..14 0", "map 11..12 1"]);
        map(&mut queue, 14..16);
        assert!(!queue.is_due() && !queue.is_missed(13 * P));
        queue.protect(13 * P..15 * P, Prot::empty());
        assert!(queue.is_due() && queue.unmap(14 * P..16 * P, Vec::new(), true).is_empty());
        assert_eq!(shape(&mut queue), ["map 14..16 1", "protect 13..15 0", "unmap 14..16"]);
        map(&mut queue, 19..21);
        map(&mut queue, 13..20);
        assert!(queue.is_due());
        assert_eq!(shape(&mut queue), ["map 19..21 1", "map 13..20 1"]);
    }

    #[test]
    fn a_file_is_mapped_in_parts() {
        let (mut queue, file) =
            (Queue::default(), Arc::new(File::open("/dev/null").unwrap().into()));
        let source = |page: u64| MapSource::HostFd(Arc::clone(&file), page * P);
        queue.map(10 * P..20 * P, Prot::READ, source(0), Vec::new());
        queue.map(12 * P..14 * P, Prot::empty(), source(1), Vec::new());
        queue.unmap(16 * P..17 * P, Vec::new(), true);
        assert!(!queue.is_due());
        let part = |operation| match operation {
            Operation::Map { range, prot, source: MapSource::HostFd(_, offset) } => {
                (range.start / P, range.end / P, prot, offset / P)
            }
            other => panic!("{other:?}"),
        };
        let parts: Vec<_> = queue.take().operations.into_iter().map(part).collect();
        let (read, none) = (Prot::READ, Prot::empty());
        assert_eq!(
            parts,
            [(10, 12, read, 0), (14, 16, read, 4), (17, 20, read, 7), (12, 14, none, 1)]
        );
    }
}
