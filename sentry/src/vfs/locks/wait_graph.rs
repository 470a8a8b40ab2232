//! Who waits for whose record lock: processes that wait for each other in a ring are told so.
//!
//! The graph only ever holds waits that are true: a wait goes the moment its lock is taken and the
//! moment its blocker gives a lock of that file up, both under the lock of the file's state. One that
//! outlived either would show rings that are none.

use super::range::Owner;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Longest chain that is followed (as Linux: a longer one is taken to have no ring).
const MAX_CHAIN: usize = 10;

static WAITING: Mutex<Option<HashMap<Owner, Vec<Wait>>>, { rank::LEAF }> = Mutex::new(None);

/// How many owners wait: nearly always none, and then nobody needs the lock. Who changes a file's locks has that
/// file's state locked, and so sees those for the file.
static WAITS: AtomicUsize = AtomicUsize::new(0);

/// One thread's wait; threads of one owner wait each for their own lock.
#[derive(Debug)]
struct Wait {
    ticket: u64,
    blocker: Owner,
    file: u64,
}

/// A thread that may have to wait for a record lock. Dropped, it waits no more.
#[derive(Debug)]
pub struct Waiter {
    owner: Owner,
    ticket: u64,
    /// It may be in the graph.
    noted: Cell<bool>,
}

impl Waiter {
    /// A thread of `owner` that does not wait yet.
    pub fn new(owner: Owner) -> Waiter {
        static TICKETS: AtomicU64 = AtomicU64::new(0);
        let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
        Waiter { owner, ticket, noted: Cell::new(false) }
    }

    /// Notes that the thread waits for a lock that `blocker` holds on `file`. `EDEADLK` if `blocker`
    /// waits for its owner, directly or not. Open file descriptions are shared by processes and thus
    /// take no part.
    pub fn wait(&self, blocker: Owner, file: u64) -> Result<()> {
        if matches!(self.owner, Owner::File(_)) {
            return Ok(());
        }
        let mut waiting = WAITING.lock();
        let waiting = waiting.get_or_insert_default();
        let mut at = blocker;
        for _ in 0..MAX_CHAIN {
            if at == self.owner {
                return Err(Errno::EDEADLK);
            }
            match waiting.get(&at).and_then(|waits| waits.first()) {
                Some(wait) => at = wait.blocker,
                None => break,
            }
        }
        let waits = waiting.entry(self.owner).or_default();
        waits.retain(|w| w.ticket != self.ticket);
        waits.push(Wait { ticket: self.ticket, blocker, file });
        WAITS.store(waiting.len(), Ordering::Relaxed);
        self.noted.set(true);
        Ok(())
    }

    /// The thread waits no more.
    pub fn done(&self) {
        if self.noted.take()
            && let Some(waiting) = WAITING.lock().as_mut()
            && let Some(waits) = waiting.get_mut(&self.owner)
        {
            waits.retain(|w| w.ticket != self.ticket);
            if waits.is_empty() {
                waiting.remove(&self.owner);
            }
            WAITS.store(waiting.len(), Ordering::Relaxed);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.done();
    }
}

/// `blocker` has given up a lock on `file`: who waited for it there tries again, and is until then
/// in nobody's ring.
pub fn released(blocker: Owner, file: u64) {
    if WAITS.load(Ordering::Relaxed) == 0 {
        return;
    }
    if let Some(waiting) = WAITING.lock().as_mut() {
        waiting.retain(|_, waits| {
            waits.retain(|w| w.blocker != blocker || w.file != file);
            !waits.is_empty()
        });
        WAITS.store(waiting.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_found() {
        let [a, b, c] = [1001, 1002, 1003].map(|id| Waiter::new(Owner::Process(id)));
        a.wait(b.owner, 1).unwrap();
        b.wait(c.owner, 1).unwrap();
        assert_eq!(c.wait(a.owner, 1), Err(Errno::EDEADLK));
        a.done();
        assert_eq!(c.wait(a.owner, 1), Ok(()));
    }

    #[test]
    fn a_lock_given_up_blocks_nobody() {
        let [a, b] = [1011, 1012].map(|id| Waiter::new(Owner::Process(id)));
        a.wait(b.owner, 1).unwrap();
        released(b.owner, 2);
        assert_eq!(b.wait(a.owner, 2), Err(Errno::EDEADLK));
        released(b.owner, 1);
        assert_eq!(b.wait(a.owner, 2), Ok(()));
    }

    #[test]
    fn threads_of_a_process_wait_each_for_itself() {
        let [a, other] = [1021, 1021].map(|id| Waiter::new(Owner::Process(id)));
        let b = Waiter::new(Owner::Process(1022));
        a.wait(b.owner, 1).unwrap();
        other.wait(Owner::Process(1023), 2).unwrap();
        drop(other);
        assert_eq!(b.wait(a.owner, 1), Err(Errno::EDEADLK));
    }
}
