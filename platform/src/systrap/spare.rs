//! Stubs of processes that have ended, kept for the next copies of the process that made them.
//!
//! A stub is expensive: the host makes and ends a process with two threads, compiles a filter, and every page that the new
//! process touches is a fault. A shell or a server that forks all the time makes the same copy again and again. So when
//! a copy ends, its stub stays, together with its agent, and its guest thread waits in our page as a new one does, with
//! registers of ours. The next copy differs from it only where either side has had its mappings changed
//! since ([`crate::stub::touched`]): the sentry maps that anew ([`crate::AddressSpace::stale`]).
//!
//! Other stubs are emptied when their processes end, for programs that are executed ([`Blanks`]).
//!
//! Nothing of the former process is left to the next one: before a spare stub runs guest code again, everything that was changed in it
//! has been mapped anew; its thread's stack is wiped and its registers, signal mask and signal stack are loaded from
//! a frame of ours. That the thread is where it should be is known from a report that guest code cannot have made: it
//! comes from a thread that has loaded a state of ours and has run no instruction of the guest's since, and without
//! other threads in the stub nobody can have changed that state.
//!
//! While a stub is spare, its mappings may be those of memory that is used for something else again: no code runs in it but the
//! agent's, which touches nothing but its own pages.

use super::agent::{Agent, Space};
use super::listener::Listener;
use super::stack::{SignalStack, SignalStacks};
use crate::host::time::Clock;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most spare stubs of one process: one is being used again while the other's process ends.
pub const MOST_EACH: usize = 2;
/// Most spare stubs of all processes.
const MOST: usize = 32;
/// Most ranges that may have to be mapped anew. With more, making a stub is cheaper.
pub const MOST_STALE: usize = 24;
/// Copies that a process makes before it is expected to make more.
pub const HABIT: usize = 2;

/// How long a stub that was a copy is kept, in nanoseconds: it may still map files.
pub const LIFETIME: u64 = 1_000_000_000;

/// How many there are.
///
/// Host threads and processes are limited, so all sandboxes of this process count.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A right to have one more spare stub.
#[derive(Debug)]
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let more = |count| (count < MOST).then_some(count + 1);
        COUNT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The thread of a stub in which no guest runs: it waits in our page, as a new one.
#[derive(Debug)]
pub struct Parked {
    /// Host thread id.
    pub tid: i32,
    /// To answer its report with.
    pub id: u64,
    /// Receives its calls.
    pub listener: Arc<Listener>,
    /// Its signal stack.
    pub stack: SignalStack,
}

/// A stub without a process.
#[derive(Debug)]
pub struct Spare {
    /// Mapping work. What waits there is never executed.
    pub inner: Arc<Space>,
    /// Its only guest thread.
    pub thread: Parked,
    /// The stacks of the others that it has had.
    pub stacks: SignalStacks,
    _place: Place,
}

impl Spare {
    /// Keeps a stub; `None` when there are too many.
    fn new(inner: Arc<Space>, thread: Parked, stacks: SignalStacks) -> Option<Self> {
        thread.stack.wipe().and_then(|()| stacks.wipe()).ok()?;
        Some(Self { inner, thread, stacks, _place: Place::take()? })
    }
}

/// A spare stub that was a copy of another process's.
#[derive(Debug)]
pub struct SpareCopy {
    /// The stub.
    pub spare: Spare,
    /// Where its mappings have been changed since it was a copy of its original.
    touched: Vec<Range<u64>>,
    /// When that was, on the original's clock.
    born: u64,
    /// Since when it is spare (`CLOCK_MONOTONIC`).
    since: u64,
}

impl SpareCopy {
    /// Keeps a stub; `None` when there are too many. `touched`: where it was changed since it became a copy of its
    /// original, which was at the time `born` on that one's clock.
    pub fn new(
        inner: Arc<Space>,
        thread: Parked,
        stacks: SignalStacks,
        touched: Vec<Range<u64>>,
        born: u64,
    ) -> Option<Self> {
        let since = Clock::Monotonic.now();
        Some(Self { spare: Spare::new(inner, thread, stacks)?, touched, born, since })
    }

    /// Whether it has been spare for too long.
    pub fn is_old(&self) -> bool {
        Clock::Monotonic.now().saturating_sub(self.since) >= LIFETIME
    }

    /// The ranges in which it differs from its original; `None` when there are too many.
    pub fn stale(&self, original: &Space) -> Option<Vec<Range<u64>>> {
        let mut stale = original.touched_since(self.born)?;
        stale.extend(self.touched.iter().cloned());
        stale.sort_by_key(|range| range.start);
        stale.dedup_by(|next, last| {
            let overlap = next.start <= last.end;
            if overlap {
                last.end = last.end.max(next.end);
            }
            overlap
        });
        (stale.len() <= MOST_STALE).then_some(stale)
    }
}

/// Spare stubs in which nothing is mapped, for programs that are executed.
#[derive(Debug, Default)]
pub struct Blanks {
    stubs: Mutex<Vec<Spare>>,
    /// Address spaces made so far.
    made: AtomicUsize,
}

impl Blanks {
    /// Address spaces that are made before more are expected.
    const HABIT: usize = 4;
    /// Most stubs kept.
    const MOST: usize = 2;

    /// For a new address space.
    pub fn take(&self) -> Option<Spare> {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.stubs.lock().pop()
    }

    /// Whether more are wanted.
    pub fn has_room(&self) -> bool {
        self.made.load(Ordering::Relaxed) >= Self::HABIT && self.stubs.lock().len() < Self::MOST
    }

    /// Keeps the stub of a process that has ended, if it is wanted.
    pub fn give(&self, inner: &Arc<Space>, thread: Parked, stacks: SignalStacks) {
        if !self.has_room() || !inner.is_sound() || inner.clear_by(Agent::clear).is_err() {
            return;
        }
        if let Some(spare) = Spare::new(inner.clone(), thread, stacks) {
            self.stubs.lock().push(spare);
        }
    }
}
