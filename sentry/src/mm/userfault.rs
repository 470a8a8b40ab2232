//! Areas whose faults a program answers (`userfaultfd(2)`).
//!
//! In an area that is registered for missing pages, what the program has not touched yet is not mapped in the
//! stub, and has no run. Frames that were set aside for such pages are *withheld*: a page goes back to them when
//! it is filled, so that neighbours stay neighbours in the memory file. A page that somebody has touched
//! just before it was taken away is found there, too.

use super::PAGE_SIZE;
use super::manager::{Edit, MemoryManager, State};
use super::runs::{Owner, Run};
use super::vma::{Vma, VmaFlags};
use crate::errno::{Errno, Result};
use crate::fs::userfaultfd::{Answer, Missed, UserFault};
use platform::{Access, Frames, Prot};
use std::sync::Arc;

/// Bytes that are filled while the memory map is locked once.
const CHUNK: u64 = 64 * PAGE_SIZE;

/// Most bytes that are moved at once: the memory map is locked meanwhile. Who has asked for more goes on.
const MOST_MOVED: u64 = 32 << 20;

/// Of which faults in an area a program is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes {
    /// Of those for pages that are not there.
    pub missing: bool,
    /// Of writes to pages that were protected against them.
    pub protect: bool,
}

/// Who answers the faults in an area.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Who is told.
    pub to: Arc<UserFault>,
    /// Of what.
    pub modes: Modes,
}

impl PartialEq for Registration {
    fn eq(&self, other: &Registration) -> bool {
        Arc::ptr_eq(&self.to, &other.to) && self.modes == other.modes
    }
}

impl Registration {
    fn is(&self, to: &UserFault) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.to), to)
    }
}

/// What a fault comes to.
pub(super) enum Outcome {
    /// It is the kernel's affair.
    Ours,
    /// The program has answered.
    Answered(Answer),
}

/// Memory that can be registered.
fn is_eligible(vma: &Vma) -> bool {
    vma.private() && vma.backing.is_none() && !vma.flags.contains(VmaFlags::SPECIAL)
}

impl State {
    /// Whether an access is to be answered by the program: by whom.
    fn missed(&self, addr: u64, access: Option<Access>) -> Option<(Arc<UserFault>, Missed)> {
        if !self.has_userfaults {
            return None;
        }
        let vma = self.vmas.find(addr)?;
        let registration = vma.userfault.as_ref()?;
        let write = access == Some(Access::Write);
        let permitted = match access {
            Some(Access::Write) => vma.writable(),
            Some(Access::Execute) => vma.prot.contains(Prot::EXEC),
            Some(Access::Read) | None => !vma.prot.is_empty(),
        };
        if !permitted {
            return None;
        }
        let page = addr & !(PAGE_SIZE - 1);
        let protected = match self.runs.find(page) {
            None if registration.modes.missing && !self.was_touched(page) => false,
            Some((_, run)) if run.guarded && write => true,
            _ => return None,
        };
        Some((registration.to.clone(), Missed { addr, write, protected }))
    }

    /// True if a page that is withheld holds something: it was touched just before it was taken away.
    fn was_touched(&self, page: u64) -> bool {
        let Some((at, run)) = self.withheld.find(page) else { return false };
        let from = page - at;
        run.frames().is_some_and(|frames| frames.committed(from..from + PAGE_SIZE) != 0)
    }
}

impl MemoryManager {
    /// Lets the program answer an access, if it is to: whoever makes it waits. `kernel`: it is the kernel's own.
    pub(super) fn answer(&self, addr: u64, access: Option<Access>, kernel: bool) -> Outcome {
        let Some((to, missed)) = self.read_state().missed(addr, access) else {
            return Outcome::Ours;
        };
        let still = || self.read_state().missed(addr, access).is_some();
        Outcome::Answered(to.missed(missed, kernel, still))
    }

    /// True if the program is asked before the page at `addr` is written.
    pub(super) fn is_guarded(&self, addr: u64) -> bool {
        let state = self.read_state();
        state.has_userfaults && state.runs.find(addr).is_some_and(|(_, run)| run.guarded)
    }

    /// Registers the areas in `[start, end)`. `EINVAL` where there is none, or memory that is not private and
    /// anonymous; `EPERM` for what can never be written, `EBUSY` for what another one has.
    pub fn register_userfault(
        &self,
        start: u64,
        end: u64,
        to: &Arc<UserFault>,
        modes: Modes,
    ) -> Result<()> {
        let mut edit = self.edit();
        let parts = edit.state.vmas.parts(start, end);
        if parts.is_empty() {
            return Err(Errno::EINVAL);
        }
        for part in &parts {
            if !is_eligible(part) {
                return Err(Errno::EINVAL);
            }
            if !part.max_prot.contains(Prot::WRITE) {
                return Err(Errno::EPERM);
            }
            if part.userfault.as_ref().is_some_and(|r| !r.is(to)) {
                return Err(Errno::EBUSY);
            }
        }
        edit.state.has_userfaults = true;
        let registration = Registration { to: to.clone(), modes };
        edit.state.vmas.update(start, end, |vma| vma.userfault = Some(registration.clone()));
        for part in parts {
            if !modes.protect {
                edit.guard(&part, false);
            }
            match modes.missing {
                true => edit.withhold(part.start, part.end),
                false => edit.give_back(part.start, part.end),
            }
        }
        Ok(())
    }

    /// Ends the registration of the areas in `[start, end)` with `from`. `EINVAL` where there is none, or
    /// memory that cannot be registered.
    pub fn unregister_userfault(&self, start: u64, end: u64, from: &UserFault) -> Result<()> {
        let mut edit = self.edit();
        let parts = edit.state.vmas.parts(start, end);
        if parts.is_empty() || !parts.iter().all(is_eligible) {
            return Err(Errno::EINVAL);
        }
        for part in parts {
            if part.userfault.as_ref().is_some_and(|r| r.is(from)) {
                edit.unregister(&part);
            }
        }
        Ok(())
    }

    /// Ends all registrations with `from`, which is closed.
    pub fn forget_userfault(&self, from: &UserFault) {
        let mut edit = self.edit();
        let is_from = |vma: &&Vma| vma.userfault.as_ref().is_some_and(|r| r.is(from));
        let parts: Vec<Vma> = edit.state.vmas.iter().filter(is_from).cloned().collect();
        for part in parts {
            edit.unregister(&part);
        }
    }

    /// `ENOENT` unless one registered area has all of `[start, end)`.
    pub fn check_userfault(&self, start: u64, end: u64) -> Result<()> {
        registered(&self.read_state(), start, end).map(|_| ())
    }

    /// Gives missing pages contents: what is at `src` in `from`, or zeroes (`UFFDIO_COPY`, `UFFDIO_ZEROPAGE`).
    /// With `guard` they cannot be written. Returns how many bytes were filled, or why not even one page was:
    /// `ENOENT` outside a registered area, `EEXIST`, `EFAULT`, `ENOMEM`, `EINVAL`.
    pub fn userfault_fill(
        &self,
        start: u64,
        end: u64,
        from: Option<(&MemoryManager, u64)>,
        guard: bool,
    ) -> Result<u64> {
        let mut done = 0;
        let mut buffer = Vec::new();
        while start + done < end {
            let at = start + done;
            let mut len = (end - at).min(CHUNK);
            let mut outcome = Ok(());
            if let Some((other, src)) = from {
                // The source may have to be waited for: before anything is locked.
                buffer.resize(len as usize, 0);
                let (n, result) = other.read_part(src.wrapping_add(done), &mut buffer);
                (len, outcome) = (n as u64 & !(PAGE_SIZE - 1), result);
            }
            let filled = match len {
                0 => Ok(0),
                _ => self.edit().fill(at, at + len, from.map(|_| buffer.as_slice()), guard),
            };
            match filled {
                Ok(n) => {
                    done += n;
                    if n < len || outcome.is_err() {
                        let stopped = outcome.err().unwrap_or(Errno::EEXIST);
                        return if done > 0 { Ok(done) } else { Err(stopped) };
                    }
                }
                Err(e) => return if done > 0 { Ok(done) } else { Err(e) },
            }
            if crate::kernel::current().is_some_and(|task| task.is_ending()) {
                return Ok(done);
            }
        }
        Ok(done)
    }

    /// Moves pages to where they are missing (`UFFDIO_MOVE`). Returns how many bytes were moved, or why not
    /// even one page was: `ENOENT` for a page that is not there (unless `holes` are left out), `EEXIST`,
    /// `EBUSY` for a page that another process has, too, `EINVAL`.
    pub fn userfault_move(&self, start: u64, end: u64, src: u64, holes: bool) -> Result<u64> {
        let mut edit = self.edit();
        let len = end - start;
        let to = edit.state.vmas.find(start).filter(|vma| vma.end >= end).cloned();
        let src_end = src.checked_add(len).ok_or(Errno::EINVAL)?;
        let from = edit.state.vmas.find(src).filter(|vma| vma.end >= src_end).cloned();
        let (Some(to), Some(from)) = (to, from) else { return Err(Errno::ENOENT) };
        if to.userfault.is_none() {
            return Err(Errno::EINVAL);
        }
        let overlap = src < end && start < src_end;
        if !is_eligible(&from)
            || !is_eligible(&to)
            || from.prot != to.prot
            || !to.writable()
            || overlap
        {
            return Err(Errno::EINVAL);
        }
        for page in (0..len).step_by(PAGE_SIZE as usize) {
            if page >= MOST_MOVED {
                return Ok(page);
            }
            match edit.move_page(&to, start + page, src + page) {
                Ok(()) => {}
                Err(Errno::ENOENT) if holes => {}
                Err(e) if page == 0 => return Err(e),
                Err(_) => return Ok(page),
            }
        }
        Ok(len)
    }

    /// Protects the pages of `[start, end)` that are there against writing, or no longer
    /// (`UFFDIO_WRITEPROTECT`). `ENOENT` unless areas that are registered for that have all of it.
    pub fn userfault_protect(&self, start: u64, end: u64, on: bool) -> Result<()> {
        let mut edit = self.edit();
        let parts = edit.state.vmas.parts(start, end);
        let ready = |vma: &Vma| vma.userfault.as_ref().is_some_and(|r| r.modes.protect);
        if !edit.state.vmas.covers(start, end) || !parts.iter().all(ready) {
            return Err(Errno::ENOENT);
        }
        for part in parts {
            edit.guard(&part, on);
        }
        Ok(())
    }
}

/// The registered area that has all of `[start, end)`. `ENOENT`.
fn registered(state: &State, start: u64, end: u64) -> Result<Vma> {
    let vma = state.vmas.find(start).filter(|vma| vma.end >= end && vma.userfault.is_some());
    vma.cloned().ok_or(Errno::ENOENT)
}

impl Edit<'_> {
    /// True if what is not mapped in an area is to be missed.
    pub fn misses(&self, vma: &Vma) -> bool {
        vma.userfault.as_ref().is_some_and(|r| r.modes.missing)
    }

    /// Maps a withheld page that holds something. False if there is none.
    pub fn restore_touched(&mut self, vma: &Vma, page: u64) -> bool {
        if !self.state.has_userfaults || !self.state.was_touched(page) {
            return false;
        }
        for (at, run) in self.state.withheld.remove(page, page + PAGE_SIZE) {
            self.map_run(at, run, vma, Vec::new());
        }
        true
    }

    fn unregister(&mut self, part: &Vma) {
        self.state.vmas.update(part.start, part.end, |vma| vma.userfault = None);
        self.guard(part, false);
        self.give_back(part.start, part.end);
    }

    /// Takes the pages of `[start, end)` that hold nothing away from the stub, so that they are missed.
    pub fn withhold(&mut self, start: u64, end: u64) {
        let mut empty: Vec<(u64, u64)> = Vec::new();
        for (at, run) in self.state.runs.overlapping(start, end) {
            let Some(frames) = run.frames() else { continue };
            let (low, high) = (at.max(start), at.wrapping_add(run.len).min(end));
            let mut from = low;
            for data in frames.data(low - at..high - at) {
                let (data_from, data_to) = (at + data.start / PAGE_SIZE * PAGE_SIZE, at + data.end);
                if data_from > from {
                    empty.push((from, data_from));
                }
                from = data_to.next_multiple_of(PAGE_SIZE);
            }
            if from < high {
                empty.push((from, high));
            }
        }
        for (from, to) in empty {
            self.withhold_all(from, to);
        }
    }

    /// Takes all pages of `[from, to)` away from the stub. Those that nobody else has are kept for when the
    /// pages are filled.
    pub fn withhold_all(&mut self, from: u64, to: u64) {
        let mut gone: Vec<Frames> = Vec::new();
        for (at, mut run) in self.state.runs.remove(from, to) {
            let shared = run.frames().is_none_or(|frames| frames.is_shared(0..run.len));
            if shared {
                run.into_frames(&mut gone);
                continue;
            }
            (run.owner, run.shadow, run.guarded) = (Owner::Mine, None, false);
            self.state.withheld.insert(at, run);
        }
        self.mm.space.unmap(from, to - from, gone);
    }

    /// Maps what is withheld in `[start, end)` again.
    fn give_back(&mut self, start: u64, end: u64) {
        for (at, run) in self.state.withheld.remove(start, end) {
            if let Some(vma) = self.state.vmas.find(at).cloned() {
                self.map_run(at, run, &vma, Vec::new());
            }
        }
    }

    /// Sets or clears the protection of the pages of a part that are there.
    pub fn guard(&mut self, part: &Vma, on: bool) {
        let mut pages = Vec::new();
        for (at, run) in self.state.runs.overlapping(part.start, part.end) {
            let (low, high) = (at.max(part.start), at.wrapping_add(run.len).min(part.end));
            if run.guarded == on {
                continue;
            }
            match run.frames() {
                // What has not been touched is not there.
                Some(frames) if on => {
                    let data = frames.data(low - at..high - at).into_iter();
                    let data = data.map(|d| {
                        let from = at + d.start / PAGE_SIZE * PAGE_SIZE;
                        (from, (at + d.end).next_multiple_of(PAGE_SIZE).min(high))
                    });
                    pages.extend(data);
                }
                _ => pages.push((low, high)),
            }
        }
        for (low, high) in pages {
            for (_, run) in self.state.runs.range_mut(low, high) {
                run.guarded = on;
            }
            self.state.runs.join(high);
            self.state.runs.join(low);
            self.protect_runs(part, low, high);
        }
    }

    /// See [`MemoryManager::userfault_fill`]. Stops at the first page that is there.
    fn fill(&mut self, start: u64, end: u64, data: Option<&[u8]>, guard: bool) -> Result<u64> {
        let vma = registered(&self.state, start, end)?;
        if guard && !vma.userfault.as_ref().is_some_and(|r| r.modes.protect) {
            return Err(Errno::EINVAL);
        }
        let free = self.state.runs.gaps(start, end);
        let Some(&(from, to)) = free.first().filter(|(from, _)| *from == start) else {
            return Err(Errno::EEXIST);
        };
        let touched = |page: &u64| self.state.was_touched(*page);
        let to = (from..to).step_by(PAGE_SIZE as usize).find(touched).unwrap_or(to);
        if to == from {
            return Err(Errno::EEXIST);
        }
        let mut pieces: Vec<(u64, Frames)> = Vec::new();
        for (at, run) in self.state.withheld.remove(from, to) {
            let mut frames = Vec::new();
            run.into_frames(&mut frames);
            pieces.extend(frames.into_iter().map(|frames| (at, frames)));
        }
        let mut at = from;
        let mut all = Vec::with_capacity(pieces.len());
        for (piece, frames) in pieces {
            if at < piece {
                all.push((at, self.allocate(at, piece - at)?));
            }
            at = piece.wrapping_add(frames.len());
            all.push((piece, frames));
        }
        if at < to {
            all.push((at, self.allocate(at, to - at)?));
        }
        for (at, frames) in all {
            let skip = (at - start) as usize;
            let len = frames.len();
            let written = match data.and_then(|d| d.get(skip..skip + len as usize)) {
                Some(bytes) => frames.write(0, bytes),
                // Storage is what makes a page one that is there.
                None => frames.zero(0, len),
            };
            written.map_err(|_| Errno::ENOMEM)?;
            self.map_run(at, Run { guarded: guard, ..Run::private(frames) }, &vma, Vec::new());
        }
        Ok(to - from)
    }

    /// Moves the page at `from`, which must be this process's alone, to `to`.
    fn move_page(&mut self, vma: &Vma, to: u64, from: u64) -> Result<()> {
        if self.state.runs.find(to).is_some() || self.state.was_touched(to) {
            return Err(Errno::EEXIST);
        }
        let Some((at, run)) = self.state.runs.find(from) else { return Err(Errno::ENOENT) };
        let range = from - at..from - at + PAGE_SIZE;
        let frames = run.frames().ok_or(Errno::EINVAL)?;
        if frames.committed(range.clone()) == 0 {
            return Err(Errno::ENOENT);
        }
        if frames.is_shared(range) {
            return Err(Errno::EBUSY);
        }
        let mut gone = Vec::new();
        for (_, run) in self.state.withheld.remove(to, to + PAGE_SIZE) {
            run.into_frames(&mut gone);
        }
        for (_, run) in self.state.runs.remove(from, from + PAGE_SIZE) {
            let mut frames = Vec::new();
            run.into_frames(&mut frames);
            // First gone there, then here: no write can be lost between.
            self.mm.space.unmap(from, PAGE_SIZE, std::mem::take(&mut gone));
            for frames in frames {
                self.map_run(to, Run::private(frames), vma, Vec::new());
            }
        }
        Ok(())
    }
}
