//! What keeps recently used dentries alive, and how many.
//!
//! A ring of a fixed number of slots, in shards, with a second chance for what was used since the
//! hand last passed. Evicting an entry only drops the ring's reference: what is open, mounted on or
//! a working directory stays.

use super::dentry::Dentry;
use crate::sync::{Mutex, rank};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

const SHARDS: usize = 8;
/// Slots of one shard. A dentry and its inode take about half a KiB, so all take 16 MiB.
const SLOTS: usize = 4096;
/// How far the hand goes to find an unused slot before it takes the next one regardless.
const PATIENCE: usize = 16;

enum Slot {
    Dentry(Arc<Dentry>),
    Negative(Weak<Dentry>, Arc<[u8]>),
}

struct Ring {
    slots: Vec<Slot>,
    hand: usize,
}

static RINGS: [Mutex<Ring, { rank::LEAF }>; SHARDS] =
    [const { Mutex::new(Ring { slots: Vec::new(), hand: 0 }) }; SHARDS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Keeps a dentry for a while.
pub(super) fn keep(dentry: Arc<Dentry>) {
    insert(Slot::Dentry(dentry));
}

/// Bounds how long `parent` remembers that `name` does not exist.
pub(super) fn keep_negative(parent: Weak<Dentry>, name: Arc<[u8]>) {
    insert(Slot::Negative(parent, name));
}

fn insert(slot: Slot) {
    let shard = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    let Some(ring) = RINGS.get(shard) else { return };
    let evicted = ring.lock().insert(slot);
    // Outside the lock: the last reference to a dentry takes its whole branch with it.
    match evicted {
        Some(Slot::Negative(parent, name)) => {
            if let Some(parent) = parent.upgrade() {
                parent.forget_negative(&name);
            }
        }
        Some(Slot::Dentry(_)) | None => {}
    }
}

impl Ring {
    fn insert(&mut self, slot: Slot) -> Option<Slot> {
        if self.slots.len() < SLOTS {
            self.slots.push(slot);
            return None;
        }
        for _ in 0..PATIENCE {
            match self.slots.get(self.hand) {
                Some(Slot::Dentry(dentry)) if dentry.take_referenced() => self.advance(),
                _ => break,
            }
        }
        let victim = self.slots.get_mut(self.hand)?;
        let old = std::mem::replace(victim, slot);
        self.advance();
        Some(old)
    }

    fn advance(&mut self) {
        self.hand = (self.hand + 1) % SLOTS;
    }
}

/// Drops every reference the cache holds (a file system is being unmounted, or a test ends).
pub fn drop_all() {
    for ring in &RINGS {
        let slots = {
            let mut ring = ring.lock();
            ring.hand = 0;
            std::mem::take(&mut ring.slots)
        };
        drop(slots);
    }
}

/// Drops the references to dentries of one file system, so that it can go after its unmounting.
pub(super) fn drop_fs(fs: &Arc<dyn super::FileSystem>) {
    for ring in &RINGS {
        let mut gone = Vec::new();
        {
            let mut ring = ring.lock();
            ring.hand = 0;
            let (keep, drop) = std::mem::take(&mut ring.slots).into_iter().partition(
                |slot| !matches!(slot, Slot::Dentry(dentry) if Arc::ptr_eq(dentry.fs(), fs)),
            );
            ring.slots = keep;
            gone.extend::<Vec<_>>(drop);
        }
        drop(gone);
    }
}
