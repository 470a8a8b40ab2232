//! Advice about memory: `madvise(2)`, `msync(2)` and `mincore(2)`.

use super::manager::{Edit, MemoryManager, State};
use super::runs::{Owner, Run};
use super::vma::{Vma, VmaFlags};
use super::{PAGE_SIZE, UserAddr};
use crate::errno::{Errno, Result};
use platform::MapSource;

/// What `madvise(2)` is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// `MADV_DONTNEED`, `MADV_DONTNEED_LOCKED` (`locked`).
    DontNeed {
        /// Locked areas, too.
        locked: bool,
    },
    /// `MADV_FREE`.
    Free,
    /// `MADV_REMOVE`.
    Remove,
    /// `MADV_DONTFORK`, `MADV_DOFORK`.
    DontFork(bool),
    /// `MADV_WIPEONFORK`, `MADV_KEEPONFORK`.
    WipeOnFork(bool),
    /// `MADV_DONTDUMP`, `MADV_DODUMP`.
    DontDump(bool),
    /// `MADV_POPULATE_READ`, `MADV_POPULATE_WRITE` (true).
    Populate(bool),
    /// `MADV_NORMAL`, `MADV_RANDOM`, `MADV_SEQUENTIAL`: the flag of the pattern, if it has one.
    Pattern(VmaFlags),
    /// Advice that changes nothing here: huge pages, cold pages, read-ahead.
    Hint,
}

/// A page of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageState {
    /// It lies in memory.
    pub present: bool,
    /// It is a file's, or shared anonymous memory.
    pub of_object: bool,
    /// No other process has it.
    pub exclusive: bool,
}

impl State {
    /// Whether the page at `addr` lies in memory; `None` if nothing is mapped there yet.
    fn mapped(&self, addr: u64) -> Option<bool> {
        let page = addr & !(PAGE_SIZE - 1);
        let (at, run) = self.runs.find(page)?;
        Some(match &run.source {
            MapSource::Frames(frames) => frames.committed(page - at..page - at + PAGE_SIZE) > 0,
            MapSource::HostFd(..) => true,
        })
    }
}

impl MemoryManager {
    /// Follows advice about a range. `ENOMEM` if a part is not mapped (the rest is done), `EINVAL`
    /// where the area does not permit it, `EBUSY`, `EFAULT`, `EACCES` as `madvise(2)` says.
    pub fn madvise(&self, addr: UserAddr, len: u64, advice: Advice) -> Result<()> {
        let end = self.page_range(addr.0, len, Errno::EINVAL)?;
        if end == addr.0 {
            return Ok(());
        }
        if let Advice::Populate(write) = advice {
            return self.madvise_populate(addr.0, end, write);
        }
        if let Advice::Remove = advice {
            return self.madvise_remove(addr.0, end);
        }
        let mut edit = self.edit();
        let mut at = addr.0;
        let mut hole = false;
        for part in edit.state.vmas.parts(addr.0, end) {
            hole |= part.start > at;
            at = part.end;
            edit.advise(&part, advice)?;
        }
        if hole || at < end { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// `MADV_REMOVE`: the file frees its pages. The file is not touched while the areas are locked.
    fn madvise_remove(&self, start: u64, end: u64) -> Result<()> {
        let parts = self.read_state().vmas.parts(start, end);
        let mut at = start;
        let mut hole = false;
        for part in &parts {
            hole |= part.start > at;
            at = part.end;
            if part.flags.intersects(VmaFlags::LOCKED | VmaFlags::SPECIAL) {
                return Err(Errno::EINVAL);
            }
            let backing = part.backing.as_ref().ok_or(Errno::EINVAL)?;
            if part.private() || !part.writable() {
                return Err(Errno::EACCES);
            }
            backing.mappable.punch(backing.offset, part.len())?;
        }
        if hole || at < end { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn madvise_populate(&self, start: u64, end: u64, write: bool) -> Result<()> {
        {
            let state = self.read_state();
            if !state.vmas.covers(start, end) {
                return Err(Errno::ENOMEM);
            }
            let denied = state
                .vmas
                .overlapping(start, end)
                .any(|vma| if write { !vma.writable() } else { vma.prot.is_empty() });
            if denied {
                return Err(Errno::EINVAL);
            }
        }
        self.populate_range(start, end - start, write)
    }

    /// Writes shared file mappings of a range back (`MS_SYNC`); with `sync` false only checks it.
    /// `ENOMEM` if a part is not mapped, `EBUSY` with `invalidate` over locked memory.
    pub fn msync(&self, addr: UserAddr, len: u64, sync: bool, invalidate: bool) -> Result<()> {
        let end = self.page_range(addr.0, len, Errno::ENOMEM)?;
        if end == addr.0 {
            return Ok(());
        }
        let (parts, covered) = {
            let state = self.read_state();
            (state.vmas.parts(addr.0, end), state.vmas.covers(addr.0, end))
        };
        for part in parts {
            if invalidate && part.flags.contains(VmaFlags::LOCKED) {
                return Err(Errno::EBUSY);
            }
            if let (true, false, Some(backing)) = (sync, part.private(), &part.backing) {
                backing.mappable.sync(backing.offset, part.len())?;
            }
        }
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// One byte for each page of a range: 1 if it is in memory. `ENOMEM` if a part is not mapped.
    pub fn mincore(&self, start: u64, pages: u64, out: &mut Vec<u8>) -> Result<()> {
        let end = start.saturating_add(pages.saturating_mul(PAGE_SIZE));
        let state = self.read_state();
        if !state.vmas.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        for page in (start..end).step_by(PAGE_SIZE as usize) {
            let present = match state.mapped(page) {
                Some(present) => present,
                // Not mapped yet: what counts is whether the object has it.
                None => state.vmas.find(page).is_some_and(|vma| {
                    let object = vma.backing.as_ref();
                    object.is_some_and(|b| b.mappable.resident(vma.offset_of(page)))
                }),
            };
            out.push(u8::from(present));
        }
        Ok(())
    }

    /// What `/proc/PID/pagemap` shows for the page at `addr`, but for frame numbers.
    pub fn page_state(&self, addr: u64) -> PageState {
        let state = self.read_state();
        let present = state.mapped(addr) == Some(true);
        let private = state.runs.find(addr).is_some_and(|(_, run)| run.owner == Owner::Mine);
        let of_object =
            state.runs.find(addr).is_some_and(|(_, run)| matches!(run.owner, Owner::Object { .. }));
        PageState { present, of_object, exclusive: private }
    }
}

impl Edit<'_> {
    fn advise(&mut self, part: &Vma, advice: Advice) -> Result<()> {
        let special = part.flags.contains(VmaFlags::SPECIAL);
        let locked = part.flags.contains(VmaFlags::LOCKED);
        let anonymous = part.private() && part.backing.is_none();
        match advice {
            Advice::DontNeed { locked: even_locked } => {
                if special || locked && !even_locked {
                    return Err(Errno::EINVAL);
                }
                // Discarding is a write in disguise where writing is forbidden for good.
                if part.flags.contains(VmaFlags::SEALED) && anonymous && !part.writable() {
                    return Err(Errno::EPERM);
                }
                self.discard(part)
            }
            Advice::Free => {
                if !anonymous || special || locked {
                    return Err(Errno::EINVAL);
                }
                self.discard(part)
            }
            Advice::DontFork(on) => {
                if special && !on {
                    return Err(Errno::EINVAL);
                }
                self.set_flag(part, VmaFlags::DONTFORK, on);
                Ok(())
            }
            Advice::WipeOnFork(on) => {
                if !anonymous && on || special && !on {
                    return Err(Errno::EINVAL);
                }
                self.set_flag(part, VmaFlags::WIPEONFORK, on);
                Ok(())
            }
            Advice::DontDump(on) => {
                if special && !on {
                    return Err(Errno::EINVAL);
                }
                self.set_flag(part, VmaFlags::DONTDUMP, on);
                Ok(())
            }
            Advice::Pattern(flag) => {
                for pattern in [VmaFlags::RANDOM, VmaFlags::SEQUENTIAL] {
                    self.set_flag(part, pattern, pattern == flag);
                }
                Ok(())
            }
            Advice::Hint | Advice::Populate(_) | Advice::Remove => Ok(()),
        }
    }

    fn set_flag(&mut self, part: &Vma, flag: VmaFlags, on: bool) {
        self.state.vmas.update(part.start, part.end, |vma| vma.flags.set(flag, on));
    }

    /// Drops private pages: anonymous memory reads as zeroes, file mappings as the file again.
    fn discard(&mut self, part: &Vma) -> Result<()> {
        if !part.private() {
            // The pages are the object's; dropping a mapping of them shows nowhere.
            return Ok(());
        }
        if part.backing.is_some() {
            return self.discard_copies(part);
        }
        if self.state.has_userfaults {
            self.guard(part, false);
        }
        if self.misses(part) {
            return self.discard_missed(part);
        }
        // In place where nobody else has the pages, with new frames where a fork shares them.
        let mut shared = Vec::new();
        for (at, run) in self.state.runs.overlapping(part.start, part.end) {
            let (from, to) = (at.max(part.start), at.wrapping_add(run.len).min(part.end));
            let Some(frames) = run.frames() else { continue };
            let range = from - at..to - at;
            if run.owner != Owner::Mine && frames.is_shared(range.clone()) {
                shared.push((from, to));
            } else {
                frames.decommit(range).map_err(|_| Errno::ENOMEM)?;
            }
        }
        for (from, to) in shared {
            let frames = self.mm.memory.allocate(to - from).map_err(|_| Errno::ENOMEM)?;
            let mut replaced = Vec::new();
            for (_, run) in self.state.runs.remove(from, to) {
                run.into_frames(&mut replaced);
            }
            self.map_run(from, Run::private(frames), part, replaced);
        }
        Ok(())
    }

    /// As [`Edit::discard`], for pages that are to be missed then.
    fn discard_missed(&mut self, part: &Vma) -> Result<()> {
        self.withhold_all(part.start, part.end);
        for (at, run) in self.state.withheld.overlapping(part.start, part.end) {
            let (from, to) = (at.max(part.start), at.wrapping_add(run.len).min(part.end));
            if let Some(frames) = run.frames() {
                frames.decommit(from - at..to - at).map_err(|_| Errno::ENOMEM)?;
            }
        }
        Ok(())
    }

    /// Drops a private file mapping's own copies.
    fn discard_copies(&mut self, part: &Vma) -> Result<()> {
        let copies: Vec<(u64, u64)> = self
            .state
            .runs
            .overlapping(part.start, part.end)
            .filter(|(_, run)| !matches!(run.owner, Owner::Object { .. }))
            .map(|(at, run)| (at.max(part.start), at.wrapping_add(run.len).min(part.end)))
            .collect();
        for (from, to) in copies {
            let mut replaced = Vec::new();
            for (_, run) in self.state.runs.remove(from, to) {
                run.into_frames(&mut replaced);
            }
            let mapped = if part.prot.is_empty() {
                from
            } else {
                self.populate_object(part, from, to, std::mem::take(&mut replaced)).unwrap_or(from)
            };
            if mapped < to {
                self.mm.space.unmap(mapped, to - mapped, replaced);
            }
        }
        Ok(())
    }
}
