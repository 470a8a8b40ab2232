//! Signal masks of threads, which the shim changes while no signal waits ([`crate::answers::SignalMask`]).
//!
//! Ring 0 changes a word ([`super::pool`]) by one atomic operation, from a value that is not held to another one. Each has a line
//! of the cache to itself, for threads of a process change theirs at the same time.

use super::machine::Machine;
use super::pool::{Place, Pool};
use super::shim::{MASK_SIZE, MASKS_BASE};
use crate::Result;
use crate::answers::{HELD, SignalMask};
use std::sync::Arc;

/// Most masks.
const MOST: u32 = 1 << 22;

/// Where masks are.
pub fn pool() -> Pool {
    Pool::new(MASKS_BASE, MASK_SIZE, MOST, true)
}

/// A mask, its thread's alone.
#[derive(Debug)]
pub struct Mask {
    machine: Arc<Machine>,
    place: Place,
}

impl Mask {
    /// A mask that is held.
    pub fn new(machine: &Arc<Machine>, mask: u64) -> Result<Arc<Self>> {
        let place = machine.masks().take(machine)?;
        let new = Self { machine: machine.clone(), place };
        new.store(mask | HELD);
        Ok(Arc::new(new))
    }
}

impl SignalMask for Mask {
    fn number(&self) -> u32 {
        self.place.number
    }

    fn load(&self) -> u64 {
        self.place.load(self.machine.slots().arena(), 0)
    }

    fn store(&self, word: u64) {
        self.place.store(self.machine.slots().arena(), 0, word);
    }

    fn hold(&self) {
        self.place.set_bits(self.machine.slots().arena(), 0, HELD);
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        // Who has a board with this number does not run guest code any more.
        self.machine.masks().put(self.place);
    }
}
