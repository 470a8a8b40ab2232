//! Copying an address space: `fork(2)`.

use super::ahead::Ahead;
use super::hot::HotPages;
use super::manager::{Brk, MemoryManager, State};
use super::runs::{Owner, Run, Runs};
use super::vma::{VmaFlags, VmaTree};
use crate::errno::{Errno, Result};
use platform::{Context, Frames, MapSource, PendingContext, Prot};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl MemoryManager {
    /// A copy of the address space, with the context of its first thread. `context` is the calling
    /// thread's. Private pages are shared until one side writes to them.
    pub fn fork(
        &self,
        context: &mut dyn Context,
    ) -> Result<(Arc<MemoryManager>, Box<dyn PendingContext>)> {
        let mut edit = self.edit();
        let mut copies = edit.copy_hot_pages();
        edit.share_private_pages(&copies);
        let mut vmas = VmaTree::default();
        let mut runs = Runs::default();
        let (mut left_out, mut wiped) = (Vec::new(), Vec::new());
        for vma in edit.state.vmas.iter() {
            if vma.flags.contains(VmaFlags::DONTFORK) {
                left_out.push((vma.start, vma.end));
                continue;
            }
            let mut copy = vma.clone();
            // Locks are not inherited.
            copy.flags -= VmaFlags::LOCKED;
            // Nor is who answers faults.
            copy.userfault = None;
            if copy.flags.contains(VmaFlags::WIPEONFORK) {
                wiped.push(copy.clone());
            }
            vmas.insert(copy);
        }
        let mut fresh = Vec::new();
        for (start, run) in edit.state.runs.iter() {
            match copies.remove(&start) {
                // Until the child has mapped its copy, its stub has what the parent has.
                Some(copy) => fresh.push((start, copy, run.frames().cloned())),
                None => runs.insert(start, share(run)),
            }
        }
        // Seen by the child, too: the host copies the stub after the queue has run.
        let (space, pending) = context.fork().map_err(|error| {
            tracing::debug!(%error, "fork of the stub failed");
            Errno::ENOMEM
        })?;
        let keys = Arc::new(self.keys.copy());
        let state = State {
            keys: keys.clone(),
            vmas,
            runs,
            withheld: Runs::default(),
            has_userfaults: false,
            layout: edit.state.layout,
            brk: Brk { spare: None, ..edit.state.brk.bounds() },
            stack_spare: None,
            ahead: Ahead::default(),
            lock_future: false,
            exec: edit.state.exec.clone(),
        };
        drop(edit);
        let child = MemoryManager::assemble(
            space,
            self.memory.clone(),
            self.addresses.clone(),
            self.limits.clone(),
            self.hot.clone(),
            keys,
            state,
        );
        child.read_state().vmas.iter().for_each(|vma| vma.register(&child));
        child.inherit_mdwe(self);
        child.membarrier.store(self.membarrier.load(Ordering::Relaxed), Ordering::Relaxed);
        let copied = fresh.iter().map(|(start, copy, _)| *start..start.wrapping_add(copy.len()));
        let stale = without(child.space.stale(), copied);
        if !fresh.is_empty() || !stale.is_empty() {
            let mut edit = child.edit();
            edit.map_anew(&stale);
            for (start, copy, before) in fresh {
                if let Some(vma) = edit.state.vmas.find(start).cloned() {
                    edit.map_run(start, Run::private(copy), &vma, before.into_iter().collect());
                }
            }
        }
        if !left_out.is_empty() || !wiped.is_empty() {
            let mut edit = child.edit();
            for (start, end) in left_out {
                edit.unmap_runs(start, end);
            }
            for vma in wiped {
                edit.unmap_runs(vma.start, vma.end);
                edit.populate(&vma, vma.start, vma.end)?;
            }
        }
        Ok((child, pending))
    }
}

/// Makes a copy in pages that hold zeroes or, if they are `used`, anything.
fn overwrite(to: &Frames, used: bool, from: &Frames, len: u64) -> Result<()> {
    let mut at = 0;
    for data in from.data(0..len).into_iter().chain(std::iter::once(len..len)) {
        if used {
            to.zero(at, data.start - at).map_err(|_| Errno::ENOMEM)?;
        }
        let bytes = data.end - data.start;
        to.copy_from(data.start, from, data.start, bytes).map_err(|_| Errno::ENOMEM)?;
        at = data.end;
    }
    Ok(())
}

/// What of some ranges, ascending, is not in others, ascending as well.
fn without(
    ranges: Vec<Range<u64>>,
    others: impl Iterator<Item = Range<u64>> + Clone,
) -> Vec<Range<u64>> {
    let mut rest = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut at = range.start;
        for other in others.clone().filter(|other| other.start < range.end) {
            if other.start > at {
                rest.push(at..other.start);
            }
            at = at.max(other.end);
        }
        if at < range.end {
            rest.push(at..range.end);
        }
    }
    rest
}

/// `len` bytes of what stands behind a mapping.
fn part(source: &MapSource, at: u64, len: u64) -> Option<MapSource> {
    Some(match source {
        MapSource::Frames(frames) => MapSource::Frames(frames.slice(at..at.checked_add(len)?)?),
        MapSource::HostFd(fd, offset) => MapSource::HostFd(fd.clone(), offset.checked_add(at)?),
    })
}

/// The child's reference to what a run of the parent maps.
fn share(run: &Run) -> Run {
    Run {
        len: run.len,
        source: match &run.source {
            MapSource::Frames(frames) => MapSource::Frames(frames.clone()),
            MapSource::HostFd(fd, offset) => MapSource::HostFd(fd.clone(), *offset),
        },
        owner: run.owner,
        shadow: None,
        guarded: false,
    }
}

impl Brk {
    /// The same heap, without the spare frames.
    fn bounds(&self) -> Brk {
        Brk { start: self.start, end: self.end, spare: None }
    }
}

impl super::manager::Edit<'_> {
    /// Copies, for the child, of pages that one side would soon copy anyway, by the starts of the runs
    /// that they are copies of.
    fn copy_hot_pages(&mut self) -> BTreeMap<u64, Frames> {
        let not_inherited = VmaFlags::DONTFORK | VmaFlags::WIPEONFORK;
        let mut copies = BTreeMap::new();
        let State { vmas, runs, .. } = &mut *self.state;
        for window in self.mm.hot.take() {
            let end = window.saturating_add(HotPages::WINDOW);
            for vma in vmas.overlapping(window, end) {
                if !vma.private() || !vma.writable() || vma.flags.intersects(not_inherited) {
                    continue;
                }
                let (low, high) = (window.max(vma.start), end.min(vma.end));
                for (at, run) in runs.range_mut(low, high) {
                    let (Owner::Mine | Owner::Cow) = run.owner else { continue };
                    let Some(frames) = run.frames() else { continue };
                    // Without memory for copies the pages are shared, as all others.
                    let Ok((copy, used)) = self.mm.memory.allocate_to_overwrite(run.len) else {
                        return copies;
                    };
                    if overwrite(&copy, used, frames, run.len).is_err() {
                        return copies;
                    }
                    copies.insert(at, copy);
                }
            }
        }
        copies
    }

    /// Makes all private pages copy-on-write, also in the stub, but those that the child has copies of.
    fn share_private_pages(&mut self, copies: &BTreeMap<u64, Frames>) {
        let mut writable: Vec<(u64, u64, Prot)> = Vec::new();
        for vma in self.state.vmas.iter().filter(|vma| vma.private() && vma.writable()) {
            for (at, run) in self.state.runs.overlapping(vma.start, vma.end) {
                if run.owner != Owner::Mine || copies.contains_key(&at) {
                    continue;
                }
                let (from, to) = (at.max(vma.start), at.wrapping_add(run.len).min(vma.end));
                let prot = self.keyed(vma, (vma.prot - Prot::WRITE) | Prot::READ);
                match writable.last_mut() {
                    Some(last) if last.1 == from && last.2 == prot => last.1 = to,
                    _ => writable.push((from, to, prot)),
                }
            }
        }
        for (from, to, prot) in writable {
            self.mm.space.protect(from, to - from, prot);
        }
        for (at, run) in self.state.runs.iter_mut() {
            if run.owner == Owner::Mine && !copies.contains_key(&at) {
                run.owner = Owner::Cow;
            }
        }
    }

    /// Maps again in the stub what should be mapped in some ranges, ascending: there it has something else.
    fn map_anew(&mut self, ranges: &[Range<u64>]) {
        for range in ranges {
            let mut at = range.start;
            for vma in self.state.vmas.overlapping(range.start, range.end) {
                let (low, high) = (vma.start.max(range.start), vma.end.min(range.end));
                for (start, run) in self.state.runs.overlapping(low, high) {
                    let (from, to) = (start.max(low), start.wrapping_add(run.len).min(high));
                    if from >= to {
                        continue;
                    }
                    let Some(source) = part(&run.source, from - start, to - from) else { continue };
                    if at < from {
                        self.mm.space.unmap(at, from - at, Vec::new());
                    }
                    let prot = self.stub_prot(vma, run);
                    self.mm.space.map(from, to - from, prot, source, Vec::new());
                    at = to;
                }
            }
            if at < range.end {
                self.mm.space.unmap(at, range.end - at, Vec::new());
            }
        }
    }

    /// Unmaps a range in the stub, whatever the areas say.
    pub fn unmap_runs(&mut self, start: u64, end: u64) {
        let mut frames = Vec::new();
        for (_, run) in self.state.runs.remove(start, end) {
            run.into_frames(&mut frames);
        }
        self.mm.space.unmap(start, end - start, frames);
    }
}
