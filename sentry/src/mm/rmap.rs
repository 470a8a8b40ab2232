//! From an object to its mappings (`i_mmap`): what a truncation or a hole takes from those who map it.
//!
//! An object whose contents can change has a [`Mappings`]: the address spaces with an area of it. An
//! address space is noted, under its own lock, before it maps anything of the object, and forgotten
//! after its end. What shrinks an object does, in this order:
//!
//! 1. say the new size, so that who asks from now on gets nothing behind it;
//! 2. [`Mappings::discard`], which locks the address spaces one after the other: who asked before has
//!    mapped by then, and loses it;
//! 3. let the storage go. Where stubs still have it mapped, their queues of operations hold it until
//!    they have been executed.
//!
//! Lock order: the object's own locks below [`rank::MM`], the address space, the table of mappings, the
//! object's pages.

use super::manager::MemoryManager;
use super::runs::Owner;
use super::vma::Vma;
use super::{PAGE_SIZE, VmaFlags};
use crate::sync::{Mutex, rank};
use platform::{Interrupter, Prot};
use rustc_hash::FxHashMap;
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// Id of the address space whose guest code the host thread runs; 0 for none.
    static OWN: Cell<u64> = const { Cell::new(0) };
}

/// Entries of a table of mappings, or of an address space's threads, below which it is not worth
/// looking for those that are gone.
const PRUNE_FROM: usize = 16;

/// The address spaces that map an object.
#[derive(Debug)]
pub struct Mappings {
    id: u64,
    spaces: Mutex<Table, { rank::MAPPINGS }>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: FxHashMap<u64, Weak<MemoryManager>>,
    /// At how many entries to look for ended address spaces.
    prune_at: usize,
}

/// Which pages of mappings a change of an object takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// The object's own (a hole).
    Shared,
    /// Private copies as well (a truncation).
    Everything,
}

/// Address spaces that were changed. To be dropped with no lock held: one may be ending, and this be
/// its last reference.
#[must_use = "dropped with no lock held"]
#[derive(Default)]
pub struct Touched(#[expect(dead_code, reason = "held for its end")] Vec<Arc<MemoryManager>>);

impl Default for Mappings {
    fn default() -> Self {
        Mappings { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), spaces: Mutex::default() }
    }
}

impl Mappings {
    /// Never reused; names the object in futex keys.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Notes that an address space, which is locked, has an area of the object.
    pub(super) fn add(&self, mm: &MemoryManager) {
        let mut table = self.spaces.lock();
        table.by_id.entry(mm.id()).or_insert_with(|| mm.this());
        if table.by_id.len() > table.prune_at.max(PRUNE_FROM) {
            table.by_id.retain(|_, space| space.strong_count() > 0);
            table.prune_at = table.by_id.len() * 2;
        }
    }

    fn spaces(&self) -> Vec<Arc<MemoryManager>> {
        self.spaces.lock().by_id.values().filter_map(Weak::upgrade).collect()
    }

    /// Takes the pages in `bytes` (rounded inwards to pages; an end of `u64::MAX` is no end) of the
    /// object from all its mappings. The next access to one asks the object again.
    pub fn discard(&self, bytes: Range<u64>, what: Discard) -> Touched {
        let spaces = self.spaces();
        let start = bytes.start.checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX);
        let end = if bytes.end == u64::MAX { u64::MAX } else { bytes.end & !(PAGE_SIZE - 1) };
        if start < end {
            for mm in &spaces {
                // Its own process executes what waits on the way back to the guest.
                if mm.discard_object(self.id, start..end, what) && mm.id() != OWN.get() {
                    mm.interrupt();
                }
            }
        }
        Touched(spaces)
    }

    /// Takes the patches of call sites from all its mappings.
    pub(super) fn unpatch(&self) -> Touched {
        let spaces = self.spaces();
        for mm in &spaces {
            mm.unpatch_object(self.id);
            if mm.id() != OWN.get() {
                mm.interrupt();
            }
        }
        Touched(spaces)
    }

    /// Whether someone has a shared mapping that may be written, now or after `mprotect(2)`. The
    /// second part is for [`Touched`]'s reason.
    pub fn shared_writable(&self) -> (bool, Touched) {
        let spaces = self.spaces();
        let may_write =
            |vma: &Vma| vma.flags.contains(VmaFlags::SHARED) && vma.max_prot.contains(Prot::WRITE);
        let found = spaces.iter().any(|mm| {
            mm.read_state().vmas.iter().any(|vma| vma.maps_object(self.id) && may_write(vma))
        });
        (found, Touched(spaces))
    }
}

impl Vma {
    /// Notes, with its object, that an address space, which is locked or not yet used, has it.
    pub(super) fn register(&self, mm: &MemoryManager) {
        if let Some(mappings) = self.backing.as_ref().and_then(|b| b.mappable.mappings()) {
            mappings.add(mm);
        }
    }

    /// Whether it is an area of the object with these [`Mappings`].
    fn maps_object(&self, id: u64) -> bool {
        let mappings = self.backing.as_ref().and_then(|b| b.mappable.mappings());
        mappings.is_some_and(|m| m.id == id)
    }

    /// The addresses at which a range of its object's bytes lies.
    fn addresses_of(&self, bytes: &Range<u64>) -> Range<u64> {
        let offset = self.offset_of(self.start);
        let at = |byte: u64| self.start.saturating_add(byte.saturating_sub(offset)).min(self.end);
        at(bytes.start)..at(bytes.end)
    }
}

impl MemoryManager {
    /// See [`Mappings::discard`]. Whether there was anything.
    fn discard_object(&self, id: u64, bytes: Range<u64>, what: Discard) -> bool {
        let mut edit = self.edit();
        let areas: Vec<Range<u64>> = edit
            .state
            .vmas
            .iter()
            .filter(|vma| vma.maps_object(id))
            .map(|vma| vma.addresses_of(&bytes))
            .filter(|range| range.start < range.end)
            .collect();
        let mut parts: Vec<Range<u64>> = Vec::new();
        for area in areas {
            for (at, run) in edit.state.runs.overlapping(area.start, area.end) {
                if what == Discard::Shared && !matches!(run.owner, Owner::Object { .. }) {
                    continue;
                }
                let part = at.max(area.start)..at.wrapping_add(run.len).min(area.end);
                match parts.last_mut() {
                    Some(last) if last.end == part.start => last.end = part.end,
                    _ => parts.push(part),
                }
            }
        }
        for part in &parts {
            edit.unmap_runs(part.start, part.end);
        }
        !parts.is_empty()
    }

    /// See [`Mappings::unpatch`].
    fn unpatch_object(&self, id: u64) {
        let state = self.read_state();
        for vma in state.vmas.iter().filter(|vma| vma.maps_object(id)) {
            self.address_space().unpatch(vma.start, vma.len());
        }
    }

    /// Notes that the calling host thread will run guest code here; `thread` stops it.
    pub fn add_thread(&self, thread: &Arc<dyn Interrupter>) {
        OWN.set(self.id());
        let mut threads = self.threads.lock();
        if threads.len() == threads.capacity() && threads.len() >= PRUNE_FROM {
            threads.retain(|thread| thread.strong_count() > 0);
        }
        threads.push(Arc::downgrade(thread));
    }

    /// Makes its threads leave guest code and, before they go on, execute what waits.
    fn interrupt(&self) {
        let threads = self.threads.lock().clone();
        threads.iter().filter_map(Weak::upgrade).for_each(|thread| thread.interrupt());
    }
}
