//! How many wait at private futexes, so that the shim knows that a wake-up has nobody to wake ([`crate::FutexWaiters`]).
//!
//! A page of counters in the kernel half, one for all addresses of a hash, of all processes: who waits elsewhere under the
//! same counter costs the exit that the call would have cost anyway. The shim reads the counter behind a full barrier, as
//! Linux does: the program has changed the futex's word before it, and who begins to wait counts up before looking at
//! the word. So either the shim sees the waiter, or the waiter sees the new word.

use super::arena::Page;
use super::machine::Machine;
use super::shim;
use crate::answers::FutexWaiters;
use std::sync::Arc;

/// The counters.
#[derive(Debug)]
pub struct Waiters {
    machine: Arc<Machine>,
    page: Page,
}

impl Waiters {
    /// Those of a machine.
    pub fn new(machine: &Arc<Machine>) -> Arc<Self> {
        Arc::new(Self { machine: machine.clone(), page: machine.waiters_page() })
    }

    fn change(&self, addr: u64, by: u64) {
        let offset = 8 * shim::waiters_index(addr);
        self.machine.slots().arena().add(self.page, offset, by);
    }
}

impl FutexWaiters for Waiters {
    fn add(&self, addr: u64) {
        self.change(addr, 1);
    }

    fn remove(&self, addr: u64) {
        self.change(addr, u64::MAX);
    }
}
