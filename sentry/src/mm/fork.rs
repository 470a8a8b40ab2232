//! Copying an address space: `fork(2)`.

use super::manager::{Brk, MemoryManager, State};
use super::runs::{Owner, Run, Runs};
use super::vma::{VmaFlags, VmaTree};
use crate::errno::{Errno, Result};
use platform::{Context, MapSource, PendingContext, Prot};
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
        edit.share_private_pages();
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
            if copy.flags.contains(VmaFlags::WIPEONFORK) {
                wiped.push(copy.clone());
            }
            vmas.insert(copy);
        }
        for (start, run) in edit.state.runs.iter() {
            runs.insert(start, share(run));
        }
        // Seen by the child, too: the host copies the stub after the queue has run.
        let (space, pending) = context.fork().map_err(|error| {
            tracing::debug!(%error, "fork of the stub failed");
            Errno::ENOMEM
        })?;
        let state = State {
            vmas,
            runs,
            layout: edit.state.layout,
            brk: Brk { spare: None, ..edit.state.brk.bounds() },
            stack_spare: None,
            lock_future: false,
            exec: edit.state.exec.clone(),
        };
        drop(edit);
        let child = MemoryManager::assemble(
            space,
            self.memory.clone(),
            self.addresses.clone(),
            self.limits.clone(),
            state,
        );
        child.membarrier.store(self.membarrier.load(Ordering::Relaxed), Ordering::Relaxed);
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
    }
}

impl Brk {
    /// The same heap, without the spare frames.
    fn bounds(&self) -> Brk {
        Brk { start: self.start, end: self.end, spare: None }
    }
}

impl super::manager::Edit<'_> {
    /// Makes all private pages copy-on-write, also in the stub.
    fn share_private_pages(&mut self) {
        let mut writable: Vec<(u64, u64, Prot)> = Vec::new();
        for vma in self.state.vmas.iter().filter(|vma| vma.private() && vma.writable()) {
            let prot = (vma.prot - Prot::WRITE) | Prot::READ;
            for (at, run) in self.state.runs.overlapping(vma.start, vma.end) {
                if run.owner != Owner::Mine {
                    continue;
                }
                let (from, to) = (at.max(vma.start), at.wrapping_add(run.len).min(vma.end));
                match writable.last_mut() {
                    Some(last) if last.1 == from && last.2 == prot => last.1 = to,
                    _ => writable.push((from, to, prot)),
                }
            }
        }
        for (from, to, prot) in writable {
            self.mm.space.protect(from, to - from, prot);
        }
        for (_, run) in self.state.runs.iter_mut() {
            if run.owner == Owner::Mine {
                run.owner = Owner::Cow;
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
