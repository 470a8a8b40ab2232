//! The patched pages of one process: copies of pages of its code that are mapped in their place.
//!
//! The sentry's own view of the memory stays the original. Whatever changes the mappings there takes the patches away.
//!
//! Lock order: [`Patches`], then the queue of mapping work.

use super::agent::Space;
use super::site::Site;
use super::slots::Slots;
use crate::{AddressSpace, CodePage, Frames, MapSource, PAGE_SIZE, Prot};
use std::collections::BTreeMap;
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
        if self.ended || (known.is_none() && self.pages.len() >= MOST_PAGES) {
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
        space.map(code.start, PAGE_SIZE, code.prot, source, replaced);
        Some(())
    }

    /// Forgets the pages in a range whose mappings are about to change; returns their copies, to be released
    /// then.
    pub fn remove(&mut self, range: Range<u64>) -> Vec<Frames> {
        let gone: Vec<u64> = self.pages.range(range).map(|(start, _)| *start).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        let pages = Arc::make_mut(&mut self.pages);
        gone.iter().filter_map(|start| pages.remove(start)).map(|page| page.frames).collect()
    }

    /// Notes new rights of a range.
    pub fn protect(&mut self, range: Range<u64>, prot: Prot) {
        if self.pages.range(range.clone()).next().is_some() {
            let pages = Arc::make_mut(&mut self.pages).range_mut(range);
            pages.for_each(|(_, page)| page.prot = prot);
        }
    }

    /// Puts all original pages back, for ever.
    pub fn end(&mut self, space: &Space) {
        self.ended = true;
        for (start, page) in std::mem::take(Arc::make_mut(&mut self.pages)) {
            space.map(start, PAGE_SIZE, page.prot, page.original, vec![page.frames]);
        }
    }

    /// Where a thread that is to go on at `rip` really goes on: in the slot, when a patch has taken the place.
    pub fn resume(&self, rip: u64) -> Option<u64> {
        let page = self.pages.get(&(rip & !(PAGE_SIZE - 1)))?;
        page.sites.iter().find_map(|(site, slot)| Some(slot + site.inside(rip)?))
    }
}
