//! Page tables of one address space.
//!
//! They are a cache of [`super::areas::Areas`], which is the truth: an entry may be missing at any time
//! and is then filled in by a fault, so clearing more than asked for is always right. An entry that was
//! present may live on in a vCPU's caches until the caller has flushed them; tables that are cut off
//! wait in [`PageTables::take_unlinked`] until then.
//!
//! Entries have the accessed and dirty bits set from the start, so that CPUs never write to tables.

use super::arena::{Arena, Page};
use crate::{PAGE_SIZE, Prot};
use std::ops::Range;
use std::sync::Arc;

/// Bits of an entry.
pub mod bit {
    /// It is valid.
    pub const PRESENT: u64 = 1;
    /// Writes are allowed.
    pub const WRITE: u64 = 1 << 1;
    /// Ring 3 may use it.
    pub const USER: u64 = 1 << 2;
    /// Has been used; has been written to.
    pub const ACCESSED_DIRTY: u64 = 0x60;
    /// A page of 2 MiB instead of a table.
    pub const HUGE: u64 = 1 << 7;
    /// Survives a change of page tables.
    pub const GLOBAL: u64 = 1 << 8;
    /// Instructions cannot be fetched.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// The guest-physical address.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

/// Size of the pages of a table's lowest level but one.
pub const HUGE_SIZE: u64 = 512 * PAGE_SIZE;

/// Levels of tables; the root is the highest.
const LEVELS: u32 = 4;

/// There is no memory left for tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

/// The tables.
#[derive(Debug)]
pub struct PageTables {
    arena: Arc<Arena>,
    root: Page,
    /// Cut off, but perhaps still in a CPU's caches.
    unlinked: Vec<Page>,
}

/// The entry for a page with these rights; `None` when there are none.
pub fn entry(address: u64, prot: Prot) -> Option<u64> {
    if prot.is_empty() {
        return None;
    }
    Some(address & bit::ADDRESS | rights(prot))
}

fn rights(prot: Prot) -> u64 {
    let mut bits = bit::PRESENT | bit::USER | bit::ACCESSED_DIRTY;
    if prot.contains(Prot::WRITE) {
        bits |= bit::WRITE;
    }
    if !prot.contains(Prot::EXEC) {
        bits |= bit::NO_EXECUTE;
    }
    bits
}

/// What an entry allows.
const RIGHTS: u64 = bit::WRITE | bit::NO_EXECUTE;

/// Bytes that an entry of a level covers.
fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

/// Offset in its table of the entry for an address.
fn slot(address: u64, level: u32) -> u64 {
    (address / span(level) % 512) * 8
}

impl PageTables {
    /// Empty tables whose kernel half is that of `kernel`.
    pub fn new(arena: &Arc<Arena>, kernel: Option<Page>) -> Result<Self, Exhausted> {
        let root = arena.allocate_root().ok_or(Exhausted)?;
        if let Some(kernel) = kernel {
            for offset in (PAGE_SIZE / 2..PAGE_SIZE).step_by(8) {
                arena.store(root, offset, arena.load(kernel, offset));
            }
        }
        Ok(Self { arena: arena.clone(), root, unlinked: Vec::new() })
    }

    /// The highest table.
    pub fn root(&self) -> Page {
        self.root
    }

    /// Maps pages of one table, of which `first` is the first one's entry; those that are mapped stay.
    pub fn set_run(&mut self, range: Range<u64>, first: u64) -> Result<(), Exhausted> {
        let table = self.table(range.start, 1)?;
        for at in range.clone().step_by(PAGE_SIZE as usize) {
            let slot = slot(at, 1);
            if self.arena.load(table, slot) & bit::PRESENT == 0 {
                self.arena.store(table, slot, first + (at - range.start));
            }
        }
        Ok(())
    }

    /// Maps 2 MiB at once. `false` when some of its pages are mapped one by one already.
    pub fn set_huge(&mut self, address: u64, entry: u64) -> Result<bool, Exhausted> {
        let table = self.table(address, 2)?;
        let slot = slot(address, 2);
        let found = self.arena.load(table, slot);
        if found & bit::PRESENT != 0 {
            return Ok(found & bit::HUGE != 0);
        }
        self.arena.store(table, slot, entry | bit::HUGE);
        Ok(true)
    }

    /// The entry that an address is translated by, and how many bytes it covers.
    #[cfg(test)]
    pub fn get(&self, address: u64) -> Option<(u64, u64)> {
        let mut table = self.root;
        for level in (1..=LEVELS).rev() {
            let entry = self.arena.load(table, slot(address, level));
            if entry & bit::PRESENT == 0 {
                return None;
            }
            if level == 1 || entry & bit::HUGE != 0 {
                return Some((entry, span(level)));
            }
            table = Page::at(entry & bit::ADDRESS);
        }
        None
    }

    /// The table of a level that has the entry for an address. A huge page in the way is none: the
    /// caller has looked.
    fn table(&mut self, address: u64, level: u32) -> Result<Page, Exhausted> {
        let mut table = self.root;
        for above in (level + 1..=LEVELS).rev() {
            let slot = slot(address, above);
            let entry = self.arena.load(table, slot);
            table = if entry & bit::PRESENT != 0 && entry & bit::HUGE == 0 {
                Page::at(entry & bit::ADDRESS)
            } else {
                let page = self.arena.allocate().ok_or(Exhausted)?;
                let bits = bit::PRESENT | bit::WRITE | bit::USER | bit::ACCESSED_DIRTY;
                self.arena.store(table, slot, page.address() | bits);
                page
            };
        }
        Ok(table)
    }

    /// Unmaps at least the pages of a range of user addresses. Returns whether there were any, so that
    /// caches must be flushed.
    pub fn clear(&mut self, range: Range<u64>) -> bool {
        self.visit(self.root, LEVELS, 0, &range, None)
    }

    /// Changes the rights of the pages that are mapped in a range. Returns whether caches must be
    /// flushed: some page lost a right.
    pub fn protect(&mut self, range: Range<u64>, prot: Prot) -> bool {
        let rights = if prot.is_empty() { None } else { Some(rights(prot)) };
        self.visit(self.root, LEVELS, 0, &range, rights)
    }

    /// Clears (`None`) or changes what lies in a range of the part that `table` translates, which
    /// starts at `base`.
    fn visit(
        &mut self,
        table: Page,
        level: u32,
        base: u64,
        range: &Range<u64>,
        rights: Option<u64>,
    ) -> bool {
        let span = span(level);
        let (start, end) = (range.start.max(base), range.end.min(base + 512 * span));
        if start >= end {
            return false;
        }
        let mut stale = false;
        for index in (start - base) / span..=(end - 1 - base) / span {
            let entry = self.arena.load(table, index * 8);
            if entry & bit::PRESENT == 0 {
                continue;
            }
            let here = base + index * span;
            let whole = range.start <= here && here + span <= range.end;
            if level == 1 || entry & bit::HUGE != 0 {
                let new = match rights {
                    Some(rights) if whole => entry & !RIGHTS | rights & RIGHTS,
                    _ => 0,
                };
                let lost = new & bit::PRESENT == 0
                    || entry & !new & bit::WRITE != 0
                    || new & !entry & bit::NO_EXECUTE != 0;
                stale |= lost;
                self.arena.store(table, index * 8, new);
            } else {
                let below = Page::at(entry & bit::ADDRESS);
                if whole && rights.is_none() {
                    self.arena.store(table, index * 8, 0);
                    self.unlink(below, level - 1);
                    stale = true;
                } else {
                    stale |= self.visit(below, level - 1, here, range, rights);
                }
            }
        }
        stale
    }

    /// Remembers a table and those below it.
    fn unlink(&mut self, table: Page, level: u32) {
        self.unlinked.push(table);
        if level == 1 {
            return;
        }
        for index in 0..512 {
            let entry = self.arena.load(table, index * 8);
            if entry & bit::PRESENT != 0 && entry & bit::HUGE == 0 {
                self.unlink(Page::at(entry & bit::ADDRESS), level - 1);
            }
        }
    }

    /// Tables that were cut off, to be released once no cache refers to them.
    pub fn take_unlinked(&mut self) -> Vec<Page> {
        std::mem::take(&mut self.unlinked)
    }
}

impl Drop for PageTables {
    fn drop(&mut self) {
        // No vCPU runs in this address space any more. One that still has the root loaded is in ring 0,
        // where only the kernel half matters, which is the same in every root; it loads another root
        // before it returns to ring 3, whichever that is. So the root must stay one: its user half is
        // emptied, and it is given to nobody but the next address space.
        self.clear(0..1 << 47);
        let pages = self.take_unlinked();
        self.arena.release(pages);
        self.arena.release_root(self.root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u64 = PAGE_SIZE;
    const RW: Prot = Prot::READ.union(Prot::WRITE);

    fn tables() -> (Arc<Arena>, PageTables) {
        let arena = Arc::new(Arena::new(64 << 20).unwrap());
        let tables = PageTables::new(&arena, None).unwrap();
        (arena, tables)
    }

    /// What the CPU would make of an address.
    fn translate(tables: &PageTables, address: u64) -> Option<(u64, bool, bool)> {
        let (entry, span) = tables.get(address)?;
        let base = entry & bit::ADDRESS & !(span - 1);
        Some((base + address % span, entry & bit::WRITE != 0, entry & bit::NO_EXECUTE == 0))
    }

    #[test]
    fn against_a_model() {
        // Pages of three regions: within a table, at the border of two, and at that of two upper ones.
        let regions = [0x40_0000, 0x7f_ffe0_0000 - 16 * P, (1u64 << 39) - 16 * P];
        let (arena, mut tables) = tables();
        let mut model = std::collections::HashMap::<u64, (u64, Prot)>::new();
        let mut seed = 11u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..20_000 {
            let base = regions[random(3) as usize];
            let start = random(32);
            let end = start + random(33 - start);
            let range = base + start * P..base + end * P;
            let pages = (start..end).map(|page| base + page * P);
            let prot = Prot::from_bits_truncate(random(8) as u32);
            match random(3) {
                0 => {
                    let physical = (1 << 36) + random(1 << 20) * P;
                    let cleared = tables.clear(range.clone());
                    assert_eq!(cleared, pages.clone().any(|page| model.contains_key(&page)));
                    model.retain(|page, _| !range.contains(page));
                    let Some(first) = entry(physical, prot) else { continue };
                    // Runs lie within one table.
                    for page in pages {
                        let at = physical + page - range.start;
                        tables.set_run(page..page + P, first + (page - range.start)).unwrap();
                        model.insert(page, (at, prot));
                    }
                }
                1 => {
                    let cleared = tables.clear(range);
                    let had = pages.filter(|page| model.remove(page).is_some()).count();
                    assert_eq!(cleared, had > 0);
                }
                _ => {
                    let mut lost = false;
                    for page in pages {
                        let Some((_, old)) = model.get_mut(&page) else { continue };
                        lost |= old.contains(Prot::WRITE) && !prot.contains(Prot::WRITE)
                            || old.contains(Prot::EXEC) && !prot.contains(Prot::EXEC)
                            || prot.is_empty();
                        *old = prot;
                        if prot.is_empty() {
                            model.remove(&page);
                        }
                    }
                    assert_eq!(tables.protect(range, prot), lost);
                }
            }
            for _ in 0..8 {
                let address = regions[random(3) as usize] + random(32) * P;
                let expected = model.get(&address).map(|(physical, prot)| {
                    (*physical, prot.contains(Prot::WRITE), prot.contains(Prot::EXEC))
                });
                assert_eq!(translate(&tables, address), expected);
            }
            // Nobody walks these tables, so what was cut off can go at once.
            arena.release(tables.take_unlinked());
        }
        drop(tables);
        assert_eq!(arena.used(), 0, "tables are left");
    }

    #[test]
    fn huge_pages_are_split_by_being_forgotten() {
        let (arena, mut tables) = tables();
        let (at, physical) = (3 * HUGE_SIZE, 5 * HUGE_SIZE);
        assert_eq!(tables.set_huge(at, entry(physical, RW).unwrap()), Ok(true));
        assert_eq!(tables.set_huge(at, entry(physical, RW).unwrap()), Ok(true));
        assert_eq!(translate(&tables, at + 5 * P), Some((physical + 5 * P, true, false)));
        // As a whole it is changed in place.
        assert!(tables.protect(at..at + HUGE_SIZE, Prot::READ));
        assert!(!tables.protect(at..at + HUGE_SIZE, RW));
        assert_eq!(translate(&tables, at), Some((physical, true, false)));
        // In part it is gone.
        assert!(tables.protect(at + P..at + 2 * P, Prot::READ));
        assert_eq!(translate(&tables, at), None);
        tables.set_run(at..at + P, entry(physical, RW).unwrap()).unwrap();
        assert_eq!(tables.set_huge(at, entry(physical, RW).unwrap()), Ok(false));
        drop(tables);
        assert_eq!(arena.used(), 0);
    }

    #[test]
    fn running_out_is_an_error_and_clearing_helps() {
        let arena = Arc::new(Arena::new(8 * P).unwrap());
        let mut tables = PageTables::new(&arena, None).unwrap();
        let first = entry(P, RW).unwrap();
        let mut mapped = 0;
        while tables.set_run(mapped * HUGE_SIZE..mapped * HUGE_SIZE + P, first).is_ok() {
            mapped += 1;
        }
        assert_eq!(mapped, 5);
        assert!(tables.clear(0..1 << 47));
        arena.release(tables.take_unlinked());
        assert_eq!(tables.set_run(0..P, first), Ok(()));
    }

    #[test]
    fn the_kernel_half_is_shared_and_stays() {
        let arena = Arc::new(Arena::new(64 * P).unwrap());
        let kernel = arena.allocate_root().unwrap();
        arena.store(kernel, 256 * 8, 0x1234_5003);
        let mut tables = PageTables::new(&arena, Some(kernel)).unwrap();
        let root = tables.root();
        tables.set_run(P..2 * P, entry(P, RW).unwrap()).unwrap();
        tables.clear(0..1 << 47);
        assert_eq!(arena.load(root, 256 * 8), 0x1234_5003);
        drop(tables);
        // Only ever a root again.
        let page = arena.allocate().unwrap();
        assert_ne!(page, root);
        assert_eq!(PageTables::new(&arena, Some(kernel)).unwrap().root(), root);
    }
}
