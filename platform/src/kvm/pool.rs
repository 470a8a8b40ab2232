//! Places of one size in pages of the kernel half, handed out by number.
//!
//! The pages are the same in all address spaces and stay where they are; ring 3 cannot use them.

use super::arena::{Arena, Page};
use super::machine::Machine;
use super::tables::bit;
use crate::host::Errno;
use crate::{PAGE_SIZE, PlatformError, Result};
use parking_lot::Mutex;

/// Where places of a kind are.
#[derive(Debug)]
pub struct Pool {
    base: u64,
    /// Bytes of a place: a power of two, no more than a page.
    size: u64,
    /// How many there may be.
    most: u32,
    /// Whether ring 0 changes them.
    writable: bool,
    /// How often a page is mapped, one time behind the other: what is stored round and round in it is in one piece there.
    times: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pages: Vec<Page>,
    /// Numbers that nobody has.
    free: Vec<u32>,
}

/// A place that somebody has.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its number.
    pub number: u32,
    page: Page,
    offset: u64,
}

impl Place {
    /// Reads the word `at` bytes into it.
    pub fn load(self, arena: &Arena, at: u64) -> u64 {
        arena.load(self.page, self.offset + at)
    }

    /// Writes the word `at` bytes into it.
    pub fn store(self, arena: &Arena, at: u64, word: u64) {
        arena.store(self.page, self.offset + at, word);
    }

    /// Its page.
    pub fn page(self) -> Page {
        self.page
    }

    /// Adds to the word `at` bytes into it.
    pub fn add(self, arena: &Arena, at: u64, value: u64) {
        arena.add(self.page, self.offset + at, value);
    }

    /// Sets bits of the word `at` bytes into it, before what follows is read; returns what it was.
    pub fn set_bits(self, arena: &Arena, at: u64, bits: u64) -> u64 {
        arena.set_bits(self.page, self.offset + at, bits)
    }
}

impl Pool {
    /// Places of `size` bytes from an address on, which ring 0 reads or also writes.
    pub fn new(base: u64, size: u64, most: u32, writable: bool) -> Self {
        Self { base, size, most, writable, times: 1, state: Mutex::default() }
    }

    /// Pages that are there twice, one time behind the other, which ring 0 reads and writes.
    pub fn rings(base: u64, most: u32) -> Self {
        Self { times: 2, ..Self::new(base, PAGE_SIZE, most, true) }
    }

    /// A place, as who had it before has left it, or full of zeroes.
    pub fn take(&self, machine: &Machine) -> Result<Place> {
        let per_page = (PAGE_SIZE / self.size).max(1) as u32;
        let mut state = self.state.lock();
        if state.free.is_empty() {
            let first = state.pages.len() as u32 * per_page;
            if first >= self.most {
                return Err(PlatformError::host("find a place in the kernel half", Errno::ENOMEM));
            }
            let address = self.base + state.pages.len() as u64 * PAGE_SIZE * self.times;
            let rights = if self.writable { bit::WRITE } else { 0 } | bit::NO_EXECUTE;
            let page = machine.map_new_page(address, rights)?;
            for time in 1..self.times {
                machine.map_kernel(address + time * PAGE_SIZE, page, rights)?;
            }
            state.pages.push(page);
            state.free.extend((first..first + per_page).rev());
        }
        // There is one now.
        let number = state.free.pop().unwrap_or_default();
        let page = state.pages.get((number / per_page) as usize).copied();
        let offset = u64::from(number % per_page) * self.size;
        Ok(Place { number, page: page.unwrap_or(Page::at(0)), offset })
    }

    /// Gives a place back.
    pub fn put(&self, place: Place) {
        self.state.lock().free.push(place.number);
    }

    /// Address of a place in every address space.
    pub fn address(&self, place: Place) -> u64 {
        self.base + u64::from(place.number) * self.size * self.times
    }

    /// The place that an address is in, if there is one.
    pub fn at(&self, address: u64) -> Option<Place> {
        let number =
            u32::try_from(address.checked_sub(self.base)? / (self.size * self.times)).ok()?;
        let per_page = (PAGE_SIZE / self.size).max(1) as u32;
        let page = self.state.lock().pages.get((number / per_page) as usize).copied()?;
        Some(Place { number, page, offset: u64::from(number % per_page) * self.size })
    }
}
