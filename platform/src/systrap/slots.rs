//! The slots of one program image: all processes that descend from it by `fork(2)` share them, as they share the
//! addresses of their code.
//!
//! Lock order: [`Slots::areas`], alone.

use super::site::{SLOT, Site};
use crate::Frames;
use crate::stub::layout;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// After how many calls from one place it is patched.
const HOT: u64 = 64;
/// And again after so many more: it may be patched in another process of the same program.
const AGAIN: u64 = 4096;
/// Entries of the table of places; a power of two.
const PLACES: usize = 256;
/// Bits of an entry that count.
const COUNT: u64 = 0xffff;

/// An area of slots, mapped readable and executable in all processes of the image. The first slot leads to the gate.
#[derive(Debug)]
struct Area {
    base: u64,
    frames: Frames,
    /// Site and slot, in bytes from the area's start.
    used: HashMap<u64, Site>,
    slots: HashMap<u64, u64>,
}

impl Area {
    fn len(&self) -> u64 {
        self.frames.len()
    }

    /// The slot for a site: the one it has already, or a new one.
    fn slot(&mut self, site: &Site) -> Option<u64> {
        if let Some(slot) = self.slots.get(&site.at)
            && self.used.get(slot) == Some(site)
        {
            return Some(self.base + slot);
        }
        let free = |slot: &u64| site.can_use(self.base + slot) && !self.used.contains_key(slot);
        let slot = (SLOT..self.len()).step_by(SLOT as usize).find(free)?;
        let code = site.slot(self.base + slot, self.base)?;
        if self.used.is_empty() {
            self.frames.write(0, &entry()).ok()?;
        }
        self.frames.write(slot, &code).ok()?;
        self.used.insert(slot, *site);
        self.slots.insert(site.at, slot);
        Some(self.base + slot)
    }
}

/// A jump to the gate: `jmp *0(%rip)` and the address.
fn entry() -> [u8; 14] {
    let mut code = [0xff, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if let Some(address) = code.last_chunk_mut() {
        *address = layout::GATE.to_le_bytes();
    }
    code
}

/// The slots of a program image, and which places it makes many calls from.
#[derive(Debug)]
pub struct Slots {
    areas: RwLock<Vec<Area>>,
    /// There are areas.
    enabled: AtomicBool,
    /// Address and number of calls of a place; others may take its entry.
    places: [AtomicU64; PLACES],
}

impl Default for Slots {
    fn default() -> Self {
        let places = std::array::from_fn(|_| AtomicU64::new(0));
        Self { areas: RwLock::default(), enabled: AtomicBool::new(false), places }
    }
}

impl Slots {
    /// Adds an area: `frames` are mapped at `base`.
    pub fn add(&self, base: u64, frames: Frames) {
        let area = Area { base, frames, used: HashMap::new(), slots: HashMap::new() };
        self.areas.write().push(area);
        self.enabled.store(true, Ordering::Release);
    }

    /// Whether there is room for slots.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Counts a call that was made at `rip`; returns whether its site should be patched now.
    pub fn is_hot(&self, rip: u64) -> bool {
        if !self.is_enabled() {
            return false;
        }
        let index = (rip ^ rip >> 8 ^ rip >> 16) as usize % PLACES;
        let Some(place) = self.places.get(index) else { return false };
        let key = rip << 16;
        let found = place.load(Ordering::Relaxed);
        // A count that is lost to another thread does not matter.
        let count = if found & !COUNT == key { (found & COUNT) + 1 } else { 1 };
        place.store(key | if count < COUNT { count } else { HOT }, Ordering::Relaxed);
        count == HOT || count.is_multiple_of(AGAIN)
    }

    /// The slot for a site, made if need be; `None` when there is none within reach.
    pub fn take(&self, site: &Site) -> Option<u64> {
        self.areas.write().iter_mut().find_map(|area| area.slot(site))
    }

    /// The site whose slot this address lies in, and the offset there.
    pub fn find(&self, address: u64) -> Option<(Site, u64)> {
        if !self.is_enabled() {
            return None;
        }
        let areas = self.areas.read();
        let inside = |area: &&Area| address >= area.base && address - area.base < area.len();
        let area = areas.iter().find(inside)?;
        let at = address - area.base;
        let site = area.used.get(&(at / SLOT * SLOT))?;
        Some((*site, at % SLOT))
    }

    /// Whether a thread at this address is on its way from a slot to the gate, with the slot in `rcx`.
    pub fn is_entry(&self, address: u64) -> bool {
        self.is_enabled() && self.areas.read().iter().any(|area| area.base == address)
    }

    /// Whether part of an area lies in a range.
    pub fn overlap(&self, start: u64, end: u64) -> bool {
        self.is_enabled()
            && self
                .areas
                .read()
                .iter()
                .any(|area| area.base < end && start < area.base + area.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::site::Form;
    use super::*;
    use crate::MemoryFile;

    #[test]
    fn slots_are_found_again() {
        let memory = MemoryFile::new().unwrap();
        let slots = Slots::default();
        assert!(!slots.is_hot(0x40_1000) && slots.find(0x30_0000).is_none());
        slots.add(0x30_0000, memory.allocate(1 << 20).unwrap());
        assert_eq!([0x30_0000, 0x30_0020].map(|at| slots.is_entry(at)), [true, false]);
        assert_eq!((1..200).filter(|_| slots.is_hot(0x40_1000)).count(), 1);
        let mut last = 0;
        for index in 0..1500 {
            let form = Form::Tail(3, [0x48, 0x89, 0xc3, 0, 0, 0]);
            let site = Site { at: 0x40_1000 + 48 * index, form };
            let slot = slots.take(&site).unwrap();
            assert!(slot != last && site.can_use(slot));
            assert_eq!(slots.take(&site), Some(slot));
            assert_eq!(slots.find(slot + 7), Some((site, 7)));
            last = slot;
        }
        let far = Site { at: 0x7f00_0000_0000, form: Form::Load([1, 0, 0, 0]) };
        assert_eq!(slots.take(&far), None);
        assert!(slots.overlap(0x2f_f000, 0x30_1000) && !slots.overlap(0x40_0000, 0x50_0000));
    }
}
