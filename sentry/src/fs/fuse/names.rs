//! What is known of a directory's names, and until when.

use super::FuseInode;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// Names remembered for one directory.
const KEPT: usize = 512;
/// Inodes kept in memory although nobody uses them.
const RECENT: usize = 512;

/// What a name stands for.
pub enum Known {
    /// An inode.
    Inode(Arc<FuseInode>),
    /// Nothing.
    Nothing,
}

/// Names, each with the moment until which it may be believed.
#[derive(Default)]
pub struct Names {
    names: FxHashMap<Box<[u8]>, (Option<Weak<FuseInode>>, u64)>,
}

impl Names {
    /// What `name` stands for, if that is still known at `now`.
    pub fn get(&self, name: &[u8], now: u64) -> Option<Known> {
        match self.names.get(name)? {
            (_, until) if *until <= now => None,
            (None, _) => Some(Known::Nothing),
            (Some(inode), _) => inode.upgrade().map(Known::Inode),
        }
    }

    /// Notes what `name` stands for until a moment; one that is 0 notes nothing.
    pub fn set(&mut self, name: &[u8], inode: Option<&Arc<FuseInode>>, until: u64) {
        if until == 0 {
            self.names.remove(name);
            return;
        }
        if self.names.len() >= KEPT {
            self.names.clear();
        }
        self.names.insert(name.into(), (inode.map(Arc::downgrade), until));
    }

    /// Forgets a name. False if it was not known.
    pub fn forget(&mut self, name: &[u8]) -> bool {
        self.names.remove(name).is_some()
    }
}

/// Inodes that were looked up last: what is known of them would go with them.
#[derive(Default)]
pub struct Recent {
    ring: VecDeque<Arc<FuseInode>>,
}

impl Recent {
    /// Keeps an inode. Returns one that is kept no longer, to be dropped without locks.
    pub fn keep(&mut self, inode: &Arc<FuseInode>) -> Option<Arc<FuseInode>> {
        if self.ring.iter().rev().take(8).any(|kept| Arc::ptr_eq(kept, inode)) {
            return None;
        }
        self.ring.push_back(inode.clone());
        if self.ring.len() > RECENT { self.ring.pop_front() } else { None }
    }

    /// Keeps an inode no longer. What is returned is to be dropped without locks.
    pub fn release(&mut self, inode: &FuseInode) -> Vec<Arc<FuseInode>> {
        let (gone, kept) =
            self.ring.drain(..).partition(|other| std::ptr::eq(Arc::as_ptr(other), inode));
        self.ring = kept;
        let gone: VecDeque<_> = gone;
        gone.into()
    }
}
