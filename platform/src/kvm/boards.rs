//! What the shim answers system calls with: a few words for each guest thread ([`crate::answers`]).
//!
//! They lie in pages of the kernel half, the same in all address spaces, which ring 3 cannot use and ring 0 only
//! reads. A vCPU's area has the address of those of the thread that runs on it, so that the words need not be copied when
//! a thread is run, and a change is one store that the next call sees.

use super::arena::Page;
use super::machine::Machine;
use super::shim::BOARDS_BASE;
use crate::answers::{Answers, PureCall};
use crate::{PAGE_SIZE, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// Bytes of a board: a word for each call, by its slot. The first word stays 0: it is that of all other calls.
const SIZE: u64 = 128;
/// Boards in a page.
const PER_PAGE: u64 = PAGE_SIZE / SIZE;
/// Set in a word that is an answer, which is in its lower half.
const ANSWER: u64 = 1 << 63;

const _: () = assert!(PureCall::ALL.len() < (SIZE / 8) as usize);

/// Where boards are.
#[derive(Debug, Default)]
pub struct Boards {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pages: Vec<Page>,
    /// Numbers of boards that nobody has. Their words are 0.
    free: Vec<u64>,
}

/// A board, its thread's alone.
#[derive(Debug)]
pub struct Board {
    machine: Arc<Machine>,
    page: Page,
    number: u64,
}

impl Board {
    /// A board without answers.
    pub fn new(machine: &Arc<Machine>) -> Result<Arc<Self>> {
        let mut state = machine.boards().state.lock();
        if state.free.is_empty() {
            let number = state.pages.len() as u64;
            let page = machine.map_board_page(BOARDS_BASE + number * PAGE_SIZE)?;
            state.pages.push(page);
            state.free.extend((number * PER_PAGE..(number + 1) * PER_PAGE).rev());
        }
        // There is one now.
        let number = state.free.pop().unwrap_or_default();
        let page = state.pages.get((number / PER_PAGE) as usize).copied();
        let page = page.unwrap_or(Page::at(0));
        drop(state);
        Ok(Arc::new(Self { machine: machine.clone(), page, number }))
    }

    /// Its address in every address space.
    pub fn address(&self) -> u64 {
        BOARDS_BASE + self.number * SIZE
    }

    fn store(&self, slot: u8, word: u64) {
        let offset = self.number % PER_PAGE * SIZE + 8 * u64::from(slot);
        self.machine.slots().arena().store(self.page, offset, word);
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
        self.machine.boards().state.lock().free.push(self.number);
    }
}
