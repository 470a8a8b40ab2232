//! What is in pipes, which the shim reads and writes while nobody waits ([`crate::answers::PipePlace`]).
//!
//! A pipe has a record ([`super::pool`]) and a page, a ring of bytes. The record counts bytes that were ever taken out of the page ([`HEAD`]) and
//! put in ([`TAIL`]); a count never comes again. Each has a bit, [`HELD`], while only the sentry may change it.
//!
//! Ring 0 takes bytes by copying them, then seeing that the head is still the one that it began with, and in the end moving
//! that on in one atomic operation, if it is still the same: so nothing is locked while the program's memory is written, and what has been
//! copied was this pipe's. It puts bytes in with the bit [`WRITING`] of the tail set, from a copy of its own: while it
//! has that, it touches no memory of a program, nor does anything else that may take time, and it is run on until it has let go
//! whatever becomes of the thread. The sentry waits for the bit to go.
//!
//! As on Linux, the bytes of one page of a pipe begin where it was empty ([`BASE`]), and the page is full at its end.

use super::arena::Arena;
use super::machine::Machine;
use super::pool::{Place, Pool};
use super::shim::{PIPE_SIZE, PIPES_BASE, POSITION_BITS, RINGS_BASE};
use crate::answers::{FileName, PIPE_PAGE, PipePlace};
use std::ops::Range;
use std::sync::Arc;

/// Bytes taken out. The assembly has these numbers.
pub const HEAD: u64 = 0;
/// Bytes put in.
pub const TAIL: u64 = 8;
/// Where the page begins, in these counts.
pub const BASE: u64 = 16;
/// The generation of the record, as in a descriptor's word, in which it is compared with.
pub const GENERATION: u64 = 24;
/// Address of the page.
pub const RING: u64 = 32;

/// Only the sentry may change the count.
pub const HELD: u64 = 1 << 63;
/// Ring 0 puts bytes in.
pub const WRITING: u64 = 1 << 62;
/// Set in a descriptor's word that can be read from.
pub const IS_READER: u64 = 1 << 33;
/// Set in a descriptor's word that can be written to.
pub const IS_WRITER: u64 = 1 << 34;

/// Most pipes: more are those that go without.
const MOST: u32 = 1 << 14;
/// One generation.
const STEP: u64 = 1 << POSITION_BITS;
/// Turns of a loop before the CPU is given up.
const SPINS: u32 = 64;

/// Where records are.
pub fn pool() -> Pool {
    Pool::new(PIPES_BASE, PIPE_SIZE, MOST, true)
}

/// Where pages are.
pub fn rings() -> Pool {
    Pool::rings(RINGS_BASE, MOST)
}

/// A record and its page, a pipe's alone.
#[derive(Debug)]
pub struct Pipe {
    machine: Arc<Machine>,
    record: Place,
    ring: Place,
    generation: u64,
}

impl Pipe {
    /// An empty pipe that is held.
    pub fn new(machine: &Arc<Machine>) -> Option<Self> {
        let record = machine.pipes().take(machine);
        let record = record.inspect_err(|error| tracing::debug!("no place for a pipe: {error}"));
        let (record, arena) = (record.ok()?, machine.slots().arena());
        // A record keeps its page.
        let ring = match machine.rings().at(record.load(arena, RING)) {
            Some(ring) => ring,
            None => {
                let Ok(ring) = machine.rings().take(machine) else {
                    machine.pipes().put(record);
                    return None;
                };
                record.store(arena, RING, machine.rings().address(ring));
                ring
            }
        };
        record.set_bits(arena, HEAD, HELD);
        record.set_bits(arena, TAIL, HELD);
        let generation = record.load(arena, GENERATION);
        Some(Self { machine: machine.clone(), record, ring, generation })
    }

    fn arena(&self) -> &Arena {
        self.machine.slots().arena()
    }

    /// Makes `f` of each piece of the ring that bytes from a count on are in, and of where in those bytes it begins.
    fn pieces(at: u64, len: usize, mut f: impl FnMut(usize, Range<usize>)) {
        let inside = at as usize % PIPE_PAGE;
        let first = len.min(PIPE_PAGE - inside);
        f(inside, 0..first);
        f(0, first..len);
    }

    /// Makes ring 0's bit go that a vCPU which cannot run any more has set in the record at an address.
    pub fn abandon(machine: &Machine, address: u64) {
        if let Some(record) = machine.pipes().at(address) {
            record.add(machine.slots().arena(), TAIL, WRITING.wrapping_neg());
        }
    }
}

/// The count in a word.
fn count(word: u64) -> u64 {
    word & !(HELD | WRITING)
}

impl PipePlace for Pipe {
    fn name(&self, reads: bool, writes: bool) -> FileName {
        let reader = if reads { IS_READER } else { 0 };
        let writer = if writes { IS_WRITER } else { 0 };
        FileName(self.generation | reader | writer | u64::from(self.record.number))
    }

    fn hold(&self, page: &mut [u8; PIPE_PAGE]) -> Option<Range<usize>> {
        let arena = self.arena();
        let head = self.record.set_bits(arena, HEAD, HELD);
        let mut tail = self.record.set_bits(arena, TAIL, HELD);
        if tail & HELD != 0 {
            return None;
        }
        let mut turns = 0;
        while tail & WRITING != 0 {
            turns += 1;
            if turns % SPINS == 0 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
            tail = self.record.load(arena, TAIL);
        }
        let (head, tail) = (count(head), count(tail));
        let base = self.record.load(arena, BASE);
        let at = |count: u64| usize::try_from(count.checked_sub(base)?).ok();
        let bytes = at(head).zip(at(tail)).map(|(from, to)| from..to);
        let Some(bytes) = bytes.filter(|bytes| head != tail && bytes.end <= PIPE_PAGE) else {
            return Some(0..0);
        };
        let into = page.get_mut(bytes.clone()).unwrap_or_default();
        Self::pieces(head, into.len(), |inside, piece| {
            let piece = into.get_mut(piece).unwrap_or_default();
            arena.read_bytes(self.ring.page(), inside, piece);
        });
        Some(bytes)
    }

    fn let_go(&self, page: &[u8; PIPE_PAGE], bytes: Range<usize>) {
        let arena = self.arena();
        // Counts that have not been before: who has begun to read what was there comes too late.
        let base = count(self.record.load(arena, TAIL)) + 1;
        let from = page.get(bytes.clone()).unwrap_or_default();
        let (head, tail) = (base + bytes.start as u64, base + (bytes.start + from.len()) as u64);
        Self::pieces(head, from.len(), |inside, piece| {
            let piece = from.get(piece).unwrap_or_default();
            arena.write_bytes(self.ring.page(), inside, piece);
        });
        self.record.store(arena, BASE, base);
        self.record.store(arena, HEAD, head);
        self.record.store(arena, TAIL, tail);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Nobody has the pipe any more, but ring 0 may still have read the word of a descriptor.
        self.hold(&mut [0; PIPE_PAGE]);
        let next = self.generation.wrapping_add(STEP);
        self.record.store(self.arena(), GENERATION, next);
        if next & HELD == 0 {
            self.machine.pipes().put(self.record);
        }
    }
}
