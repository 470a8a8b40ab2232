//! What the addresses of a process are mapped to, right now.
//!
//! A *run* is a stretch of addresses with one source. An address of a VMA without a run is not mapped
//! in the stub: it has never had rights, or lies behind the end of its file; a fault maps it.

use platform::{Frames, MapSource, Prot};
use std::collections::BTreeMap;

/// Whose the pages of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This process's alone: private pages.
    Mine,
    /// Private pages that may be shared with another process since a fork: mapped without
    /// [`Prot::WRITE`], copied at a write unless they turn out not to be shared any more.
    Cow,
    /// The mapped object's. `write`: the source may be written (shared mappings only).
    Object {
        /// Translated for writing.
        write: bool,
    },
}

/// A stretch of mapped addresses.
#[derive(Debug)]
pub struct Run {
    /// Length in bytes, a multiple of the page size.
    pub len: u64,
    /// What is mapped; private pages are always frames.
    pub source: MapSource,
    /// Whose the pages are.
    pub owner: Owner,
    /// For [`Owner::Cow`]: fresh frames of the same length, from which copies of the pages come.
    /// Copies of neighbouring pages are neighbours, so that the host merges their mappings.
    pub shadow: Option<Frames>,
    /// The program is asked before the pages are written (`userfaultfd(2)`).
    pub guarded: bool,
}

impl Run {
    /// Private pages.
    pub fn private(frames: Frames) -> Run {
        Run {
            len: frames.len(),
            source: MapSource::Frames(frames),
            owner: Owner::Mine,
            shadow: None,
            guarded: false,
        }
    }

    /// A part of the mapped object.
    pub fn object(len: u64, source: MapSource, write: bool) -> Run {
        Run { len, source, owner: Owner::Object { write }, shadow: None, guarded: false }
    }

    /// The frames, unless the run is a host file's.
    pub fn frames(&self) -> Option<&Frames> {
        match &self.source {
            MapSource::Frames(frames) => Some(frames),
            MapSource::HostFd(..) => None,
        }
    }

    /// Rights of the run in the stub, in a VMA with rights `prot` that is `private` or not.
    pub fn stub_prot(&self, prot: Prot, private: bool) -> Prot {
        let writable = match self.owner {
            Owner::Mine => true,
            Owner::Cow => false,
            Owner::Object { write } => write && !private,
        };
        if writable && !self.guarded || !prot.contains(Prot::WRITE) {
            prot
        } else {
            // Memory that can be written can be read on x86, whatever the rights say.
            (prot - Prot::WRITE) | Prot::READ
        }
    }

    /// Splits into the first `at` bytes and the rest.
    fn split_at(self, at: u64) -> (Run, Run) {
        let (low, high) = match self.source {
            MapSource::Frames(frames) => {
                let (low, high) = frames.split_at(at);
                (MapSource::Frames(low), MapSource::Frames(high))
            }
            MapSource::HostFd(fd, offset) => {
                let high = MapSource::HostFd(fd.clone(), offset.wrapping_add(at));
                (MapSource::HostFd(fd, offset), high)
            }
        };
        let (low_shadow, high_shadow) = match self.shadow.map(|s| s.split_at(at)) {
            Some((low, high)) => (Some(low), Some(high)),
            None => (None, None),
        };
        let rest = self.len.saturating_sub(at);
        (
            Run { len: at, source: low, shadow: low_shadow, ..self },
            Run { len: rest, source: high, shadow: high_shadow, ..self },
        )
    }

    /// True if `next`, the following run, continues this one in the memory file, too.
    fn continues_in(&self, next: &Run) -> bool {
        match (self.frames(), next.frames()) {
            (Some(a), Some(b)) => {
                self.owner == next.owner
                    && self.guarded == next.guarded
                    && self.shadow.is_none()
                    && next.shadow.is_none()
                    && a.offset().checked_add(a.len()) == Some(b.offset())
            }
            _ => false,
        }
    }

    /// Joins with the run that follows, or gives both back.
    fn join(self, next: Run) -> Result<Run, Box<(Run, Run)>> {
        if self.owner != next.owner
            || self.guarded != next.guarded
            || self.shadow.is_some()
            || next.shadow.is_some()
        {
            return Err(Box::new((self, next)));
        }
        let (owner, guarded, len) = (self.owner, self.guarded, self.len);
        match (self.source, next.source) {
            (MapSource::Frames(a), MapSource::Frames(b)) => match a.join(b) {
                Ok(frames) => Ok(Run {
                    len: len.wrapping_add(next.len),
                    source: MapSource::Frames(frames),
                    owner,
                    shadow: None,
                    guarded,
                }),
                Err((a, b)) => Err(Box::new((
                    Run { len, source: MapSource::Frames(a), owner, shadow: None, guarded },
                    Run {
                        len: next.len,
                        source: MapSource::Frames(b),
                        owner,
                        shadow: None,
                        guarded,
                    },
                ))),
            },
            (a, b) => Err(Box::new((
                Run { len, source: a, owner, shadow: None, guarded },
                Run { len: next.len, source: b, owner, shadow: None, guarded },
            ))),
        }
    }

    /// Gives its frames up, for release once no stale mapping can reach them.
    pub fn into_frames(self, to: &mut Vec<Frames>) {
        if let MapSource::Frames(frames) = self.source {
            to.push(frames);
        }
        // Shadow frames have never been mapped: they can go at once.
    }
}

/// All runs of a process, by start address.
#[derive(Debug, Default)]
pub struct Runs {
    map: BTreeMap<u64, Run>,
}

impl Runs {
    /// The run that contains `addr`, and its start.
    pub fn find(&self, addr: u64) -> Option<(u64, &Run)> {
        let (&start, run) = self.map.range(..=addr).next_back()?;
        (addr - start < run.len).then_some((start, run))
    }

    /// The last run that starts below `addr`, and its start.
    pub fn below(&self, addr: u64) -> Option<(u64, &Run)> {
        self.map.range(..addr).next_back().map(|(&start, run)| (start, run))
    }

    /// Where the first run above `addr` starts.
    pub fn above(&self, addr: u64) -> Option<u64> {
        self.map.range(addr..).next().map(|(&start, _)| start)
    }

    /// As [`Runs::find`], to change it; its length must stay.
    pub fn find_mut(&mut self, addr: u64) -> Option<(u64, &mut Run)> {
        let (&start, run) = self.map.range_mut(..=addr).next_back()?;
        (addr - start < run.len).then_some((start, run))
    }

    /// Runs that overlap `[start, end)`, whole.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, &Run)> {
        let first = self.find(start).map_or(start, |(s, _)| s);
        self.map.range(first..end.max(first)).map(|(&s, run)| (s, run))
    }

    /// Runs in `[start, end)`, split at its borders, to change them; lengths must stay.
    pub fn range_mut(&mut self, start: u64, end: u64) -> impl Iterator<Item = (u64, &mut Run)> {
        self.split(start);
        self.split(end);
        self.map.range_mut(start..end.max(start)).map(|(&s, run)| (s, run))
    }

    /// All runs.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Run)> {
        self.map.iter().map(|(&s, run)| (s, run))
    }

    /// All runs, to change them; lengths must stay.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Run)> {
        self.map.iter_mut().map(|(&s, run)| (s, run))
    }

    /// Adds a run where there is none.
    pub fn insert(&mut self, start: u64, run: Run) {
        if run.len == 0 {
            return;
        }
        let end = start.wrapping_add(run.len);
        self.map.insert(start, run);
        self.join(end);
        self.join(start);
    }

    /// Removes what is in `[start, end)` and returns it.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<(u64, Run)> {
        self.split(start);
        self.split(end);
        let starts: Vec<u64> = self.map.range(start..end.max(start)).map(|(&s, _)| s).collect();
        starts.into_iter().filter_map(|s| Some((s, self.map.remove(&s)?))).collect()
    }

    /// The parts of `[start, end)` that have no run.
    pub fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = start;
        for (from, run) in self.overlapping(start, end) {
            if from > at {
                gaps.push((at, from));
            }
            at = from.wrapping_add(run.len);
        }
        if at < end {
            gaps.push((at, end));
        }
        gaps
    }

    /// The frames of private pages; the rest is released.
    pub fn into_private(self) -> Vec<Frames> {
        let mut frames = Vec::new();
        for (_, run) in self.map {
            if run.owner == Owner::Mine {
                run.into_frames(&mut frames);
            }
        }
        frames
    }

    /// Makes `at` a border between runs.
    pub fn split(&mut self, at: u64) {
        let Some((start, _)) = self.find(at) else { return };
        if start == at {
            return;
        }
        if let Some(run) = self.map.remove(&start) {
            let (low, high) = run.split_at(at - start);
            self.map.insert(start, low);
            self.map.insert(at, high);
        }
    }

    /// Joins the runs on both sides of `at`, if they are one in the memory file, too.
    pub fn join(&mut self, at: u64) {
        let Some((&start, before)) = self.map.range(..at).next_back() else { return };
        let adjacent = start.wrapping_add(before.len) == at;
        if !adjacent || !self.map.get(&at).is_some_and(|next| before.continues_in(next)) {
            return;
        }
        let (Some(low), Some(high)) = (self.map.remove(&start), self.map.remove(&at)) else {
            return;
        };
        match low.join(high) {
            Ok(run) => {
                self.map.insert(start, run);
            }
            Err(both) => {
                self.map.insert(start, both.0);
                self.map.insert(at, both.1);
            }
        }
    }
}
