//! What is mapped where in an address space: the truth behind its page tables.

use super::window::Window;
use crate::Prot;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What stands behind an area.
#[derive(Debug, Clone)]
pub enum Source {
    /// The memory file, from this offset on. The caller of the platform keeps the frames.
    Memory(u64),
    /// A host file's window, from this offset in it on.
    File(Arc<Window>, u64),
}

impl Source {
    /// The same, `bytes` further on.
    pub fn skip(&self, bytes: u64) -> Self {
        match self {
            Self::Memory(offset) => Self::Memory(offset.wrapping_add(bytes)),
            Self::File(window, offset) => Self::File(window.clone(), offset.wrapping_add(bytes)),
        }
    }

    /// Whether `next` is what follows after `bytes`.
    fn continues(&self, bytes: u64, next: &Self) -> bool {
        match (self, next) {
            (Self::Memory(offset), Self::Memory(next)) => offset.wrapping_add(bytes) == *next,
            (Self::File(window, offset), Self::File(other, next)) => {
                Arc::ptr_eq(window, other) && offset.wrapping_add(bytes) == *next
            }
            _ => false,
        }
    }
}

/// A range with one kind of access and a contiguous source.
#[derive(Debug, Clone)]
pub struct Area {
    /// One past its last byte.
    pub end: u64,
    /// Access.
    pub prot: Prot,
    /// What its first byte is.
    pub source: Source,
}

/// Disjoint areas by their starts.
#[derive(Debug, Clone, Default)]
pub struct Areas {
    map: BTreeMap<u64, Area>,
}

impl Areas {
    /// Maps a range, replacing what was there.
    pub fn insert(&mut self, range: Range<u64>, prot: Prot, source: Source) {
        if range.is_empty() {
            return;
        }
        self.remove(range.clone());
        self.map.insert(range.start, Area { end: range.end, prot, source });
        self.join(range.start);
        self.join(range.end);
    }

    /// Unmaps a range.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.split(range.start);
        self.split(range.end);
        while let Some((&start, _)) = self.map.range(range.clone()).next() {
            self.map.remove(&start);
        }
    }

    /// Changes the access of what is mapped in a range.
    pub fn protect(&mut self, range: Range<u64>, prot: Prot) {
        if range.is_empty() {
            return;
        }
        self.split(range.start);
        self.split(range.end);
        let mut starts = Vec::new();
        for (&start, area) in self.map.range_mut(range.clone()) {
            area.prot = prot;
            starts.push(start);
        }
        starts.into_iter().for_each(|start| self.join(start));
        self.join(range.end);
    }

    /// The area at an address, with its start.
    pub fn find(&self, address: u64) -> Option<(u64, &Area)> {
        let (&start, area) = self.map.range(..=address).next_back()?;
        (address < area.end).then_some((start, area))
    }

    /// The parts of areas that lie in a range, ascending.
    pub fn within(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = (Range<u64>, Prot, Source)> + '_ {
        let first = self.find(range.start).map_or(range.start, |(start, _)| start);
        let parts = self.map.range(first..range.end.max(first));
        let parts = parts.map(move |(&start, area)| {
            let (from, to) = (start.max(range.start), area.end.min(range.end));
            (from..to, area.prot, area.source.skip(from - start))
        });
        parts.filter(|(part, ..)| !part.is_empty())
    }

    /// Makes an area begin at an address that lies in one.
    fn split(&mut self, at: u64) {
        let Some((&start, area)) = self.map.range_mut(..at).next_back() else { return };
        if area.end <= at {
            return;
        }
        let upper = Area { end: area.end, prot: area.prot, source: area.source.skip(at - start) };
        area.end = at;
        self.map.insert(at, upper);
    }

    /// Makes one area of the one that starts at an address and the one before, if they are alike.
    fn join(&mut self, at: u64) {
        let Some(upper) = self.map.get(&at) else { return };
        let Some((&start, lower)) = self.map.range(..at).next_back() else { return };
        let alike = lower.end == at
            && lower.prot == upper.prot
            && lower.source.continues(at - start, &upper.source);
        if alike
            && let Some(upper) = self.map.remove(&at)
            && let Some(lower) = self.map.get_mut(&start)
        {
            lower.end = upper.end;
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A model: what each page of a small address space is, as (access, offset).
    #[test]
    fn against_a_model() {
        const PAGES: u64 = 48;
        let (mut areas, mut model) = (Areas::default(), [None::<(Prot, u64)>; PAGES as usize]);
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..20_000 {
            let start = random(PAGES);
            let end = start + random(PAGES + 1 - start);
            let prot = Prot::from_bits_truncate(random(4) as u32);
            let pages = start as usize..end as usize;
            match random(3) {
                0 => {
                    let offset = 0x10_0000 + random(4) * PAGES + start;
                    areas.insert(start..end, prot, Source::Memory(offset));
                    for page in pages {
                        model[page] = Some((prot, offset + page as u64 - start));
                    }
                }
                1 => {
                    areas.remove(start..end);
                    model[pages].fill(None);
                }
                _ => {
                    areas.protect(start..end, prot);
                    model[pages].iter_mut().flatten().for_each(|page| page.0 = prot);
                }
            }
            let from = random(PAGES);
            let to = from + random(PAGES + 1 - from);
            let mut found = [None; PAGES as usize];
            for (part, prot, source) in areas.within(from..to) {
                assert!(part.start < part.end && from <= part.start && part.end <= to);
                let Source::Memory(offset) = source else { panic!() };
                for page in part.clone() {
                    assert!(found[page as usize].is_none());
                    found[page as usize] = Some((prot, offset + page - part.start));
                }
            }
            for page in 0..PAGES {
                let expected = model[page as usize].filter(|_| (from..to).contains(&page));
                assert_eq!(found[page as usize], expected);
                let one = areas.find(page).map(|(start, area)| {
                    let Source::Memory(offset) = area.source else { panic!() };
                    (area.prot, offset + page - start)
                });
                assert_eq!(one, model[page as usize]);
            }
            // Neighbours that are alike are one area.
            let all: Vec<_> = areas.map.iter().collect();
            for pair in all.windows(2) {
                let ((start, lower), (next, upper)) = (pair[0], pair[1]);
                assert!(lower.end <= *next);
                let joined = lower.end == *next
                    && lower.prot == upper.prot
                    && lower.source.continues(next - start, &upper.source);
                assert!(!joined);
            }
        }
    }
}
