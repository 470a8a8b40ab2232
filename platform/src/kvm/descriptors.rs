//! Tables of descriptors: what the shim knows of the open files behind them ([`crate::answers::Descriptors`]).
//!
//! A table is a page with a word for each of the first descriptors, which ring 0 only reads ([`super::pool`]). A word is 0, or it has the
//! generation and the number of a record of the open file, and says what kind of record that is ([`super::positions`]). The
//! record has its generation, too, so that a word that has been read before the descriptor was closed leads to nothing.

use super::machine::Machine;
use super::pipes::Pipe;
use super::pool::{Place, Pool};
use super::positions::Position;
use super::shim::{DESCRIPTORS, DESCRIPTORS_BASE};
use crate::PAGE_SIZE;
use crate::answers::{Descriptors, FileName, FilePosition, PipePlace};
use std::sync::Arc;

/// Most tables: more are those of programs that go without.
const MOST: u32 = 1 << 16;

/// Where tables are.
pub fn pool() -> Pool {
    Pool::new(DESCRIPTORS_BASE, PAGE_SIZE, MOST, false)
}

/// A table, a process's or those of processes that share it.
#[derive(Debug)]
pub struct Table {
    machine: Arc<Machine>,
    place: Place,
}

impl Table {
    /// A table without descriptors.
    pub fn new(machine: &Arc<Machine>) -> Option<Self> {
        let place = machine.descriptors().take(machine);
        let place = place.inspect_err(|error| tracing::debug!("no place for a table: {error}"));
        Some(Self { machine: machine.clone(), place: place.ok()? })
    }
}

impl Descriptors for Table {
    fn number(&self) -> u32 {
        self.place.number
    }

    fn set(&self, fd: u32, file: Option<FileName>) {
        if u64::from(fd) < DESCRIPTORS {
            let word = file.map_or(0, |name| name.0);
            self.place.store(self.machine.slots().arena(), 8 * u64::from(fd), word);
        }
    }

    fn another(&self) -> Option<Arc<dyn Descriptors>> {
        Some(Arc::new(Self::new(&self.machine)?))
    }

    fn position(&self) -> Option<Box<dyn FilePosition>> {
        Some(Box::new(Position::new(&self.machine)?))
    }

    fn pipe(&self) -> Option<Box<dyn PipePlace>> {
        Some(Box::new(Pipe::new(&self.machine)?))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // No thread has it any more.
        for fd in 0..DESCRIPTORS {
            self.set(fd as u32, None);
        }
        self.machine.descriptors().put(self.place);
    }
}
