//! Established connections by their two endpoints.

use super::addr::Endpoint;
use crate::sync::{Mutex, rank};
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Weak};

const SHARDS: usize = 64;

/// A hash for choosing among shards or members of a group.
pub fn hash(of: &impl Hash) -> u64 {
    FxBuildHasher.hash_one(of).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

/// Both ends of a connection, the own one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The socket's own address.
    pub local: Endpoint,
    /// The other side's.
    pub peer: Endpoint,
}

type Shard<S> = Mutex<FxHashMap<Tuple, Weak<S>>, { rank::LEAF }>;

/// The table.
pub struct Connections<S> {
    shards: [Shard<S>; SHARDS],
}

/// A place in the table, given back when it is dropped.
pub struct Registered<S> {
    table: Arc<Connections<S>>,
    tuple: Tuple,
}

impl<S> Registered<S> {
    /// The connection's ends.
    pub fn tuple(&self) -> Tuple {
        self.tuple
    }
}

impl<S> Drop for Registered<S> {
    fn drop(&mut self) {
        self.table.shard(&self.tuple).lock().remove(&self.tuple);
    }
}

impl<S> Connections<S> {
    /// An empty table.
    pub fn new() -> Arc<Connections<S>> {
        let shards = std::array::from_fn(|_| Mutex::new(FxHashMap::default()));
        Arc::new(Connections { shards })
    }

    fn shard(&self, tuple: &Tuple) -> &Shard<S> {
        let [first, ..] = &self.shards;
        self.shards.get(hash(tuple) as usize % SHARDS).unwrap_or(first)
    }

    /// True if there is such a connection.
    pub fn contains(&self, tuple: &Tuple) -> bool {
        self.shard(tuple).lock().contains_key(tuple)
    }

    /// Enters a connection. `None` if there is one with the same endpoints.
    pub fn enter(self: &Arc<Self>, tuple: Tuple, socket: Weak<S>) -> Option<Registered<S>> {
        let mut shard = self.shard(&tuple).lock();
        if shard.contains_key(&tuple) {
            return None;
        }
        shard.insert(tuple, socket);
        Some(Registered { table: self.clone(), tuple })
    }

    /// Every connection, in no order.
    pub fn all(&self) -> Vec<Arc<S>> {
        let mut out = Vec::new();
        for shard in &self.shards {
            out.extend(shard.lock().values().filter_map(Weak::upgrade));
        }
        out
    }
}
