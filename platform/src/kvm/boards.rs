//! What the shim answers system calls with: a few words for each guest thread ([`crate::answers`]).
//!
//! Ring 0 only reads them ([`super::pool`]). A vCPU's area has the address of those of the thread that runs on it, so that the
//! words need not be copied when a thread is run, and a change is one store that the next call sees.

use super::machine::Machine;
use super::pool::{Place, Pool};
use super::shim::BOARDS_BASE;
use crate::Result;
use crate::answers::{Answers, PureCall};
use std::sync::Arc;

/// Bytes of a board: a word for each call, by its slot. The first word stays 0: it is that of all other calls.
const SIZE: u64 = 128;
/// Most boards.
const MOST: u32 = 1 << 22;
/// Set in a word that is an answer, which is in its lower half.
const ANSWER: u64 = 1 << 63;

const _: () = assert!(PureCall::ALL.len() < (SIZE / 8) as usize);

/// Where boards are.
pub fn pool() -> Pool {
    Pool::new(BOARDS_BASE, SIZE, MOST, false)
}

/// A board, its thread's alone.
#[derive(Debug)]
pub struct Board {
    machine: Arc<Machine>,
    place: Place,
}

impl Board {
    /// A board without answers.
    pub fn new(machine: &Arc<Machine>) -> Result<Arc<Self>> {
        let place = machine.boards().take(machine)?;
        Ok(Arc::new(Self { machine: machine.clone(), place }))
    }

    /// Its address in every address space.
    pub fn address(&self) -> u64 {
        self.machine.boards().address(self.place)
    }

    fn store(&self, slot: u8, word: u64) {
        self.place.store(self.machine.slots().arena(), 8 * u64::from(slot), word);
    }
}

impl Answers for Board {
    fn set(&self, call: PureCall, value: Option<u32>) {
        self.store(call.slot(), value.map_or(0, |value| ANSWER | u64::from(value)));
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // A vCPU that ran the thread is in ring 0 and gets another board before it leaves that.
        PureCall::ALL.iter().for_each(|call| self.store(call.slot(), 0));
        self.machine.boards().put(self.place);
    }
}
