//! Large areas that the stub gets in parts, as they come into use.
//!
//! A page that a program touches first costs the host more in the shared memory file than in memory of its own. In a
//! huge page, or where the platform gets many from the host at once, it costs a tenth. But what was given beside the page
//! that was touched is memory nobody asked for. So a large
//! area without a file is mapped in the stub only up to a border. Behind it is a gap, and who touches that faults. If the
//! program has come to the border and has used all that lies before it, the next part may have huge pages, and it is as
//! large as what has been used. If not, it gets the surroundings of what it touches, in ordinary pages; and a program
//! that does this often gets the rest at once.

use super::manager::Edit;
use super::runs::{Owner, Run};
use super::vma::{Vma, VmaFlags, VmaName};
use crate::errno::{Errno, Result};
use platform::{Frames, HUGE_PAGE};

/// Areas from this size on are mapped in parts.
#[cfg(not(test))]
const LEAST: u64 = 4 << 20;
/// Small enough for the tests, so that areas of a few pages are mapped in parts.
#[cfg(test)]
const LEAST: u64 = 12 * super::PAGE_SIZE;
/// Most bytes of a part.
const MOST: u64 = 32 << 20;
/// How many touches elsewhere are answered with their surroundings only.
const JUMPS: u32 = 32;
/// Bytes that a touch elsewhere brings after that.
const WINDOW: u64 = 64 << 20;
/// Areas whose frames are kept together.
const SPARES: usize = 16;

/// What is known of the areas that are mapped in parts.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Frames for what follows a border, so that neighbours in an area are neighbours in the memory file. They hold no
    /// storage, and are of use only where the border is still there.
    spares: Vec<(u64, Frames)>,
    /// Touches that were not at a border.
    jumps: u32,
}

impl Edit<'_> {
    /// Whether a part of an area is to be mapped as it comes into use.
    pub fn in_parts(&self, vma: &Vma, len: u64) -> bool {
        len >= LEAST
            && vma.backing.is_none()
            && vma.name == VmaName::None
            && !vma.flags.intersects(VmaFlags::LOCKED | VmaFlags::STACK)
            && self.mm.space.least_part().is_some()
    }

    /// Parts end at multiples of this.
    fn part(&self) -> u64 {
        self.mm.space.least_part().unwrap_or(HUGE_PAGE)
    }

    /// Maps the first part of `[from, to)`, which has no runs.
    pub fn map_first_part(&mut self, vma: &Vma, from: u64, to: u64) -> Result<()> {
        let part = self.part();
        let border = (from + part / 2).next_multiple_of(part).min(to);
        self.map_part(vma, from, border, to)
    }

    /// Maps something at a page in a gap of an area without a file.
    pub fn map_next_part(&mut self, vma: &Vma, page: u64) -> Result<()> {
        let (low, high) = self.gap_around(vma, page);
        let part = self.part();
        if !self.in_parts(vma, vma.len()) {
            let window = page & !(WINDOW - 1);
            return self.populate(vma, window.max(low), window.saturating_add(WINDOW).min(high));
        }
        if page == low
            && let Some(used) = self.used_before(vma, page)
        {
            // Large ones end where huge pages do.
            let step = if used >= HUGE_PAGE { HUGE_PAGE } else { part };
            let end = page.saturating_add(used.clamp(part, MOST)) & !(step - 1);
            let end =
                if end > page { end.min(high) } else { high.min(page.next_multiple_of(step)) };
            self.map_part(vma, page, end, high)?;
            self.mm.space.huge(page, end - page);
            return Ok(());
        }
        let jumps = &mut self.state.ahead.jumps;
        *jumps = jumps.saturating_add(1);
        let window = if *jumps > JUMPS { WINDOW } else { part };
        let from = (page & !(window - 1)).max(low);
        let to = (page & !(window - 1)).saturating_add(window).min(high);
        self.map_part(vma, from, to, to)
    }

    /// Maps all of an area's part that has no runs, as what is populated needs it.
    pub fn map_all_parts(&mut self, start: u64, end: u64) {
        for part in self.state.vmas.parts(start, end) {
            if part.backing.is_some()
                || part.prot.is_empty()
                || self.misses(&part)
                || !self.in_parts(&part, LEAST)
            {
                continue;
            }
            for (from, to) in self.state.runs.gaps(part.start, part.end) {
                // Without frames for all of it, pages get theirs one after the other.
                if self.map_part(&part, from, to, to).is_err() {
                    return;
                }
            }
        }
    }

    /// The stretch without a run around a page that has none, within its area.
    fn gap_around(&self, vma: &Vma, page: u64) -> (u64, u64) {
        let runs = &self.state.runs;
        let low = runs.below(page).map_or(0, |(at, run)| at.saturating_add(run.len));
        let high = runs.above(page).unwrap_or(u64::MAX);
        (low.max(vma.start), high.min(vma.end))
    }

    /// How many bytes before `border` the program has used, if that is all that was mapped last.
    fn used_before(&self, vma: &Vma, border: u64) -> Option<u64> {
        let (at, run) = self.state.runs.below(border)?;
        if at.saturating_add(run.len) != border || at.max(vma.start) >= border {
            return None;
        }
        let (Owner::Mine | Owner::Cow) = run.owner else { return None };
        let len = (border - at.max(vma.start)).min(MOST);
        let frames = run.frames()?;
        let all = len >= self.part() / 2 && frames.committed(run.len - len..run.len) == len;
        all.then_some(len)
    }

    /// Maps `[from, to)`, with frames that leave room for what follows up to `end`.
    fn map_part(&mut self, vma: &Vma, from: u64, to: u64, end: u64) -> Result<()> {
        let spares = &mut self.state.ahead.spares;
        let kept = spares.iter().position(|(border, _)| *border == from);
        let kept = kept.map(|index| spares.swap_remove(index).1);
        let kept = kept.filter(|kept| kept.len() >= end - from && self.continues(from, kept));
        let frames = match kept {
            Some(kept) => kept,
            None => {
                let allocate = |to: u64| self.mm.memory.allocate_congruent(from, to - from);
                allocate(end).or_else(|_| allocate(to)).map_err(|_| Errno::ENOMEM)?
            }
        };
        let (part, rest) = frames.split_at(to - from);
        if !rest.is_empty() {
            let spares = &mut self.state.ahead.spares;
            if spares.len() >= SPARES {
                spares.remove(0);
            }
            spares.push((to, rest));
        }
        self.map_run(from, Run::private(part), vma, Vec::new());
        Ok(())
    }
}
