//! File handles (`name_to_handle_at(2)`).
//!
//! A handle is the device and inode number of a file. Whoever may open files by handles could reach every file with one, so
//! only handles that have been given out are good for that: the table keeps where they lead.

use super::Dentry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Most handles that are kept; the oldest become stale.
const MOST: usize = 4096;

/// What a handle holds: device and inode number.
pub type Identity = (u64, u64);

/// The handles that have been given out.
#[derive(Default)]
pub struct Handles {
    places: BTreeMap<Identity, Arc<Dentry>>,
    order: VecDeque<Identity>,
}

impl Handles {
    /// Notes where a handle leads. What is returned is to be dropped without a lock.
    pub fn give(&mut self, identity: Identity, place: &Arc<Dentry>) -> Vec<Arc<Dentry>> {
        let old = self.places.insert(identity, place.clone());
        let mut displaced: Vec<_> = old.into_iter().collect();
        if displaced.is_empty() {
            self.order.push_back(identity);
        }
        while self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            displaced.extend(self.places.remove(&oldest));
        }
        displaced
    }

    /// Where a handle leads, if that is known.
    pub fn find(&self, identity: Identity) -> Option<Arc<Dentry>> {
        self.places.get(&identity).cloned()
    }
}
