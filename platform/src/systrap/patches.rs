//! The patched pages of one process: copies of pages of its code that are mapped in their place.
//!
//! The sentry's own view of the memory stays the original. Whatever changes the mappings there takes the patches away.
//! Where the CPU has protection keys, the copies can only be executed: a guest that reads its code faults, gets the original
//! page back, and reads that.
//!
//! Lock order: [`Patches`], then the queue of mapping work.

use super::agent::Space;
use super::site::Site;
use super::slots::Slots;
use crate::{AddressSpace, CodePage, Frames, MapSource, PAGE_SIZE, Prot};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Most pages that are patched in one process: programs that load code again and again do not pile up copies.
const MOST_PAGES: usize = 4096;

/// A page's copy.
#[derive(Debug, Clone)]
struct Page {
    frames: Frames,
    original: MapSource,
    prot: Prot,
    /// Sites and their slots.
    sites: Vec<(Site, u64)>,
}

/// All patched pages by address. Shared with copies of the process until one of them changes something.
#[derive(Debug, Clone, Default)]
pub struct Patches {
    pages: Arc<BTreeMap<u64, Page>>,
    /// Pages that the guest has read, which are not patched again.
    shown: BTreeSet<u64>,
    /// Nothing is patched any more: the guest is watched step by step, or has removed the slots.
    pub ended: bool,
}

impl Patches {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Patches the site of a `syscall` that ends at `rip` and made call `number`. Does nothing where that cannot be done.
    pub fn patch(
        &mut self,
        space: &Space,
        slots: &Slots,
        code: CodePage<'_>,
        rip: u64,
        number: u64,
    ) {
        let _ = self.try_patch(space, slots, code, rip, number);
    }

    fn try_patch(
        &mut self,
        space: &Space,
        slots: &Slots,
        code: CodePage<'_>,
        rip: u64,
        number: u64,
    ) -> Option<()> {
        let known = self.pages.get(&code.start);
        let full = known.is_none() && self.pages.len() >= MOST_PAGES;
        if self.ended || full || self.shown.contains(&code.start) {
            return None;
        }
        let site = Site::find(code.bytes, code.start, rip, number)?;
        let mut sites = known.map_or_else(Vec::new, |page| page.sites.clone());
        if sites.iter().any(|(other, _)| other.at == site.at) {
            return None;
        }
        sites.push((site, slots.take(&site)?));
        let mut bytes = code.bytes.to_vec();
        for (site, slot) in &sites {
            let at = usize::try_from(site.at.checked_sub(code.start)?).ok()?;
            let jump = site.jump(*slot)?;
            bytes.get_mut(at..at + jump.len())?.copy_from_slice(&jump);
        }
        let frames = space.shared().memory.allocate(PAGE_SIZE).ok()?;
        frames.write(0, &bytes).ok()?;
        let source = MapSource::Frames(frames.clone());
        let page = Page { frames, original: code.source, prot: code.prot, sites };
        let before = Arc::make_mut(&mut self.pages).insert(code.start, page);
        let replaced = before.into_iter().map(|page| page.frames).collect();
        space.map(code.start, PAGE_SIZE, Prot::EXEC, source, replaced);
        Some(())
    }

    /// Forgets the pages in a range whose mappings are about to change; returns their copies, to be released
    /// then.
    pub fn remove(&mut self, range: Range<u64>) -> Vec<Frames> {
        self.shown.retain(|start| !range.contains(start));
        let gone: Vec<u64> = self.pages.range(range).map(|(start, _)| *start).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        let pages = Arc::make_mut(&mut self.pages);
        gone.iter().filter_map(|start| pages.remove(start)).map(|page| page.frames).collect()
    }

    /// Puts the original pages of a range back.
    pub fn restore(&mut self, space: &Space, range: Range<u64>) {
        let gone: Vec<u64> = self.pages.range(range).map(|(start, _)| *start).collect();
        for start in gone {
            if let Some(page) = Arc::make_mut(&mut self.pages).remove(&start) {
                space.map(start, PAGE_SIZE, page.prot, page.original, vec![page.frames]);
            }
        }
    }

    /// Puts the page of an address back that the guest reads. False if it is not patched.
    pub fn show(&mut self, space: &Space, address: u64) -> bool {
        let start = address & !(PAGE_SIZE - 1);
        if !self.pages.contains_key(&start) {
            return false;
        }
        if self.shown.len() < MOST_PAGES {
            self.shown.insert(start);
        }
        self.restore(space, start..start + 1);
        true
    }

    /// Puts all original pages back, for ever.
    pub fn end(&mut self, space: &Space) {
        self.ended = true;
        self.restore(space, 0..u64::MAX);
    }

    /// Where a thread that is to go on at `rip` really goes on: in the slot, when a patch has taken the place.
    pub fn resume(&self, rip: u64) -> Option<u64> {
        let page = self.pages.get(&(rip & !(PAGE_SIZE - 1)))?;
        page.sites.iter().find_map(|(site, slot)| Some(slot + site.inside(rip)?))
    }
}
