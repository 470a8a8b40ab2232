//! Positions of open files, which the shim changes while no transfer moves them ([`crate::answers::FilePosition`]).
//!
//! Each is one word ([`super::pool`]): the position, the generation of the record, and the bit [`HELD`] while only the sentry may change it.
//! Ring 0 goes from one word to another by one atomic operation, and only if the generation is that of the descriptor's word
//! and the bit is not set. A generation comes once: a record whose generations are used up is not used again.

use super::machine::Machine;
use super::pool::{Place, Pool};
use super::shim::{POSITION_BITS, POSITIONS_BASE};
use crate::answers::{FileName, FilePosition};
use std::sync::Arc;

/// Only the sentry may change the position. No word of a descriptor has this bit.
pub const HELD: u64 = 1 << 63;
/// Set in a descriptor's word whose record is one of these.
pub const IS_POSITION: u64 = 1 << 32;

/// Most records.
const MOST: u32 = 1 << 24;
/// Positions are below.
const LIMIT: u64 = 1 << POSITION_BITS;

/// Where records are.
pub fn pool() -> Pool {
    Pool::new(POSITIONS_BASE, 8, MOST, true)
}

/// A record, its open file's alone.
#[derive(Debug)]
pub struct Position {
    machine: Arc<Machine>,
    place: Place,
    /// In the place of a word's generation.
    generation: u64,
}

impl Position {
    /// A position that is held.
    pub fn new(machine: &Arc<Machine>) -> Option<Self> {
        let place = machine.positions().take(machine);
        let place = place.inspect_err(|error| tracing::debug!("no place for a position: {error}"));
        let place = place.ok()?;
        let arena = machine.slots().arena();
        let generation = place.load(arena, 0) & !HELD & !(LIMIT - 1);
        place.store(arena, 0, HELD | generation);
        Some(Self { machine: machine.clone(), place, generation })
    }
}

impl FilePosition for Position {
    fn name(&self) -> FileName {
        FileName(self.generation | IS_POSITION | u64::from(self.place.number))
    }

    fn hold(&self) -> Option<u64> {
        let word = self.place.set_bits(self.machine.slots().arena(), 0, HELD);
        (word & HELD == 0).then_some(word & (LIMIT - 1))
    }

    fn let_go(&self, position: u64) {
        if position < LIMIT {
            self.place.store(self.machine.slots().arena(), 0, self.generation | position);
        }
    }
}

impl Drop for Position {
    fn drop(&mut self) {
        // Ring 0 may still have read the word of a descriptor.
        let next = self.generation.wrapping_add(LIMIT);
        self.place.store(self.machine.slots().arena(), 0, HELD | next);
        if next & HELD == 0 {
            self.machine.positions().put(self.place);
        }
    }
}
