//! Signal masks of threads, which the shim changes while no signal waits ([`crate::answers::SignalMask`]).
//!
//! They lie in pages of the kernel half, the same in all address spaces, which ring 3 cannot use. Ring 0 changes a
//! word by one atomic operation, from a value that is not held to another one. Each has a line of the cache to itself,
//! for threads of a process change theirs at the same time.

use super::arena::Page;
use super::machine::Machine;
use super::shim::{MASK_SIZE, MASKS_BASE};
use crate::answers::{HELD, SignalMask};
use crate::{PAGE_SIZE, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// Masks in a page.
const PER_PAGE: u64 = PAGE_SIZE / MASK_SIZE;

/// Where masks are.
#[derive(Debug, Default)]
pub struct Masks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pages: Vec<Page>,
    /// Numbers of masks that nobody has.
    free: Vec<u32>,
}

/// A mask, its thread's alone.
#[derive(Debug)]
pub struct Mask {
    machine: Arc<Machine>,
    page: Page,
    number: u32,
}

impl Mask {
    /// A mask that is held.
    pub fn new(machine: &Arc<Machine>, mask: u64) -> Result<Arc<Self>> {
        let mut state = machine.masks().state.lock();
        if state.free.is_empty() {
            let index = state.pages.len() as u64;
            let page = machine.map_masks_page(MASKS_BASE + index * PAGE_SIZE)?;
            state.pages.push(page);
            let numbers = (index * PER_PAGE..(index + 1) * PER_PAGE).rev();
            state.free.extend(numbers.map(|number| number as u32));
        }
        // There is one now.
        let number = state.free.pop().unwrap_or_default();
        let page = state.pages.get((u64::from(number) / PER_PAGE) as usize).copied();
        let page = page.unwrap_or(Page::at(0));
        drop(state);
        let new = Self { machine: machine.clone(), page, number };
        new.store(mask | HELD);
        Ok(Arc::new(new))
    }

    fn offset(&self) -> u64 {
        u64::from(self.number) % PER_PAGE * MASK_SIZE
    }
}

impl SignalMask for Mask {
    fn number(&self) -> u32 {
        self.number
    }

    fn load(&self) -> u64 {
        self.machine.slots().arena().load(self.page, self.offset())
    }

    fn store(&self, word: u64) {
        self.machine.slots().arena().store(self.page, self.offset(), word);
    }

    fn hold(&self) {
        self.machine.slots().arena().set_bits(self.page, self.offset(), HELD);
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        // Who has a board with this number does not run guest code any more.
        self.machine.masks().state.lock().free.push(self.number);
    }
}
