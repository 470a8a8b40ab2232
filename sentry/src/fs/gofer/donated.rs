//! Descriptors of files that nobody has open any more.
//!
//! A donated descriptor stays with its inode, so that the next `open(2)` of the file needs no message. But
//! the sentry has only so many: of the inodes that have some, the oldest give them back.

use super::GoferInode;
use crate::sync::{Mutex, rank};
use std::collections::VecDeque;
use std::sync::Weak;

/// Most inodes that keep descriptors without need.
const KEPT: usize = 512;

/// How many inodes are looked at when one is to give its descriptors back; those in use go to the end.
const LOOKED_AT: usize = 8;

/// The inodes that have been given descriptors, oldest first.
#[derive(Default)]
pub(super) struct Donated(Mutex<VecDeque<Weak<GoferInode>>, { rank::LEAF }>);

impl Donated {
    /// The inode has got a descriptor.
    pub(super) fn remember(&self, inode: &Weak<GoferInode>) {
        self.0.lock().push_back(inode.clone());
        for _ in 0..LOOKED_AT {
            let oldest = {
                let mut all = self.0.lock();
                // Open files and mappings have no limit of ours; they make the queue longer.
                if all.len() <= KEPT { None } else { all.pop_front() }
            };
            let Some(oldest) = oldest else { return };
            match oldest.upgrade() {
                Some(inode) if !inode.close_unused() => self.0.lock().push_back(oldest),
                _ => {}
            }
        }
    }
}
