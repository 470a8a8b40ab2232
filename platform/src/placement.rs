//! Which CPU a guest thread runs on.
//!
//! A guest thread is a pair: the sentry's thread and the stub's. They hand over to each other and
//! never run at the same time, and a hand-over to another CPU costs several times one on the same
//! CPU. So both are pinned to one CPU, and the host's scheduler cannot balance them any more: that is
//! done here.
//!
//! * A new guest thread starts on the CPU of the one that made it: most children are short-lived, or
//!   their parent soon waits for them.
//! * A thread that comes back from a blocking call stays where it is, unless a thread that has
//!   computed for a while has its CPU and another CPU is less busy.
//! * Two that take turns on two CPUs, each waking the other before it blocks, come together on one: a wake-up
//!   across CPUs costs more than what they do in their turns.
//! * A sentry thread whose guest thread makes one call after the other may go to a CPU where nothing runs, to take
//!   the calls from memory there ([`Slot::spread`]). It is told to come back when there are more guest threads
//!   to run than CPUs.
//! * Where all of two CPUs' guest threads are like that, one CPU gets all of the stubs' threads and the other all of the
//!   sentry's ([`together`]), until other guest threads run there for a while, or it does not pay.
//! * When some CPU has two running threads more than another, a balancer looks again after a
//!   millisecond or two and moves one that has been running all that time. It sleeps while there is
//!   nothing to balance, so an idle sandbox causes no wake-ups.
//!
//! Host calls: `sched_getaffinity`, `sched_setaffinity`, `getcpu`, `futex`.

mod state;
mod together;

use crate::host::Parker;
use crate::host::thread::{self, CpuSet};
use crate::host::time::Clock;
use parking_lot::Mutex;
use state::{BUSY, Order, Pair, State, Willing};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
pub use together::Together;

/// How often in a row a thread that is woken finds that nothing runs, and that the last to run has just blocked on another
/// CPU, until it goes there.
const TURNS: u32 = 8;

/// Stack of the balancer's thread, in bytes.
const BALANCER_STACK: usize = 128 << 10;

/// All CPUs this process may use, and what runs there.
#[derive(Debug)]
struct Placement {
    /// Host numbers, by index.
    cpus: Vec<usize>,
    /// All of them: what a thread without a guest may use.
    all: CpuSet,
    state: Mutex<State>,
    /// Wakes the balancer.
    wake: Parker,
}

/// The process's placement; `None` when it has only one CPU, or the host does not tell.
fn placement() -> Option<&'static Placement> {
    static PLACEMENT: OnceLock<Option<Placement>> = OnceLock::new();
    PLACEMENT
        .get_or_init(|| {
            let all = thread::affinity(0).ok()?;
            let cpus: Vec<usize> = all.cpus().collect();
            if cpus.len() < 2 {
                return None;
            }
            let running = cpus.iter().map(|_| BTreeMap::new()).collect();
            let state = Mutex::new(State { running, ..State::default() });
            Some(Placement { cpus, all, state, wake: Parker::new() })
        })
        .as_ref()
}

/// Lets the calling thread, which runs no guest, use every CPU.
pub fn run_anywhere() {
    release(0);
}

/// Lets a thread that will run no guest any more use every CPU.
pub fn release(tid: i32) {
    if let Some(placement) = placement() {
        // Fails only when the thread is gone.
        let _ = thread::set_affinity(tid, &placement.all);
    }
}

impl Placement {
    /// Index of the CPU the caller is on.
    fn here(&self) -> usize {
        let cpu = thread::current_cpu();
        self.cpus.iter().position(|number| *number == cpu).unwrap_or(0)
    }

    /// The CPU of this index, for a thread to be put there.
    fn cpu(&self, index: usize) -> Option<CpuSet> {
        self.cpus.get(index).map(|cpu| CpuSet::single(*cpu))
    }

    fn pin(&self, pair: &Pair, index: usize) {
        if let Some(cpu) = self.cpu(index) {
            pair.pin(&cpu);
        }
    }

    fn pin_apart(&self, pair: &Pair, stub: usize, sentry: usize) {
        if let (Some(stub), Some(sentry)) = (self.cpu(stub), self.cpu(sentry)) {
            pair.pin_apart(&stub, &sentry);
        }
    }

    /// Makes sure the balancer is awake if it has something to do.
    fn watch(&'static self, state: &mut State, cpu: usize) {
        if state.balancing || !state.is_crowded(cpu) {
            return;
        }
        if !state.started {
            // Without it everything works, only less well balanced; the next crowd tries again.
            state.started =
                thread::spawn("balancer", BALANCER_STACK, move || self.balancer()).is_ok();
        }
        state.balancing = state.started;
        state.crowded_since = Clock::Monotonic.now();
        self.wake.unpark();
    }

    fn balancer(&self) {
        // It was started by a pinned thread, and must run where nobody else does.
        let _ = thread::set_affinity(0, &self.all);
        let mut pause = None;
        loop {
            match pause {
                Some(pause) => drop(self.wake.park_until(Clock::Monotonic.now() + pause)),
                None => self.wake.park(),
            }
            let mut state = self.state.lock();
            let (again, moves) = state.balance(Clock::Monotonic.now());
            state.balancing = again.is_some();
            pause = again;
            // Under the lock: the threads cannot end meanwhile, so their ids are theirs.
            for (pair, to) in moves {
                self.pin(&pair, to);
            }
        }
    }
}

/// The place of one guest thread. Belongs to the sentry's thread that made it.
#[derive(Debug)]
pub struct Slot {
    id: u64,
    pair: Pair,
    /// Index of the CPU while blocked, `None` while running (then the balancer knows).
    blocked_on: Option<usize>,
    /// How often in a row it has taken turns with one on another CPU.
    turns: u32,
    /// What others tell the sentry thread.
    order: Arc<Order>,
    /// The sentry thread is away, or in a group.
    away: bool,
    /// Of the group.
    together: Option<Arc<Together>>,
}

impl Slot {
    /// Puts the calling thread and a thread of a stub (by host id) on the caller's CPU.
    pub fn new(stub: i32) -> Self {
        let now = Clock::Monotonic.now();
        let pair = Pair { sentry: thread::current_tid(), stub, since: now };
        let order = Arc::default();
        let mut slot =
            Self { id: 0, pair, blocked_on: None, turns: 0, order, away: false, together: None };
        let Some(placement) = placement() else { return slot };
        count_slots(1);
        let here = placement.here();
        placement.pin(&pair, here);
        let mut state = placement.state.lock();
        slot.id = state.next_id;
        state.next_id += 1;
        if let Some(pairs) = state.running.get_mut(here) {
            pairs.insert(slot.id, pair);
        }
        state.call_back();
        placement.watch(&mut state, here);
        slot
    }

    /// Moves the calling sentry thread to a CPU where nothing runs, away from its guest thread, or makes a group with
    /// others. `each` is what a call takes now, in nanoseconds; without it, no group is made. The guest thread waits for the caller. `false` when there is no
    /// CPU for it.
    pub fn spread(&mut self, each: Option<u64>) -> bool {
        let Some(placement) = placement() else { return false };
        if self.blocked_on.is_some() || self.away {
            return false;
        }
        self.order.clear();
        let mut state = placement.state.lock();
        let order = self.order.clone();
        if let Some(idle) = state.idle() {
            let Some(cpu) = placement.cpu(idle) else { return false };
            if thread::set_affinity(0, &cpu).is_err() {
                return false;
            }
            state.away.push((self.id, idle, order));
            self.away = true;
            return true;
        }
        let Some(each) = each else { return false };
        let willing = Willing { id: self.id, when: Clock::Monotonic.now(), each, order };
        let Some((group, moves)) = state.unite(willing) else { return false };
        // Under the lock: the threads cannot end meanwhile, so their ids are theirs.
        for pair in moves {
            placement.pin_apart(&pair, group.guests, group.sentries);
        }
        let (together, guests) = (group.together.clone(), group.guests);
        placement.watch(&mut state, guests);
        self.join(&together);
        true
    }

    fn join(&mut self, together: &Arc<Together>) {
        self.order.clear();
        (self.away, self.together) = (true, Some(together.clone()));
    }

    /// Whether the sentry thread is in a group that another has made since the last call; it takes calls from memory now.
    pub fn has_joined(&mut self) -> bool {
        if self.away || !self.order.is_join() {
            return false;
        }
        let Some(placement) = placement() else { return false };
        let mut state = placement.state.lock();
        let mut groups = state.groups.iter();
        let Some(group) = groups.find(|group| group.is_member(self.id)) else { return false };
        let (guests, sentries, together) = (group.guests, group.sentries, group.together.clone());
        // It may have been elsewhere since.
        if let Some(from) = state.find(self.id).filter(|from| *from != guests) {
            state.shift(self.id, self.pair, from, guests);
        }
        placement.pin_apart(&self.pair, guests, sentries);
        drop(state);
        self.join(&together);
        true
    }

    /// The calls of the group that the sentry thread is in.
    pub fn together(&self) -> Option<&Together> {
        self.together.as_deref()
    }

    /// Whether a sentry thread that is away is to come back.
    pub fn is_called_back(&self) -> bool {
        self.away && self.order.is_back()
    }

    /// Brings the calling sentry thread back to its guest thread, if it is away. A group ends with that.
    pub fn gather(&mut self) {
        if !std::mem::take(&mut self.away) {
            return;
        }
        self.order.clear();
        let Some(placement) = placement() else { return };
        let grouped = self.together.take().is_some();
        let mut state = placement.state.lock();
        state.away.retain(|(id, _, _)| *id != self.id);
        let home = self.blocked_on.or_else(|| state.find(self.id));
        if !grouped {
            if let Some(cpu) = home.and_then(|cpu| placement.cpu(cpu)) {
                // Under the lock, so that the balancer does not move the pair meanwhile.
                let _ = thread::set_affinity(0, &cpu);
            }
            return;
        }
        state.part(self.id);
        let Some(home) = home else { return };
        // The stub's thread comes to the sentry's, if others stay where it is.
        let here = placement.here();
        let len = |cpu: usize| state.running.get(cpu).map_or(0, BTreeMap::len);
        if self.blocked_on.is_none() && len(here) + 1 < len(home) {
            state.shift(self.id, self.pair, home, here);
            placement.pin(&self.pair, here);
        } else {
            placement.pin(&self.pair, home);
        }
    }

    /// Another thread of the stub runs the guest from now on.
    pub fn retarget(&mut self, stub: i32) {
        self.pair.stub = stub;
        let Some(placement) = placement() else { return };
        let mut state = placement.state.lock();
        let cpu = match self.blocked_on {
            Some(cpu) => Some(cpu),
            None => state.find(self.id),
        };
        let Some(cpu) = cpu else { return };
        if let Some(pair) = state.running.get_mut(cpu).and_then(|pairs| pairs.get_mut(&self.id)) {
            pair.stub = stub;
        }
        match placement.cpu(cpu) {
            Some(cpu) if self.away => drop(thread::set_affinity(stub, &cpu)),
            Some(cpu) => self.pair.pin(&cpu),
            None => {}
        }
    }

    /// See [`crate::Context::set_blocked`]. Repeated calls are harmless.
    pub fn set_blocked(&mut self, blocked: bool) {
        let Some(placement) = placement() else { return };
        match (self.blocked_on, blocked) {
            (None, true) => {
                let mut state = placement.state.lock();
                let cpu = state.find(self.id);
                if let Some(pairs) = cpu.and_then(|cpu| state.running.get_mut(cpu)) {
                    pairs.remove(&self.id);
                }
                self.blocked_on = Some(cpu.unwrap_or(0));
                state.last_blocked = cpu.map(|cpu| (cpu, Clock::Monotonic.now()));
            }
            (Some(cpu), false) => {
                self.blocked_on = None;
                self.pair.since = Clock::Monotonic.now();
                let mut state = placement.state.lock();
                if self.together.is_some() {
                    // Who is woken from outside is answered sooner on its own CPU.
                    if state.has_paused(cpu, self.pair.since) {
                        state.part(self.id);
                    }
                    if let Some(pairs) = state.running.get_mut(cpu) {
                        pairs.insert(self.id, self.pair);
                    }
                    state.call_back();
                } else {
                    self.go_on(placement, &mut state, cpu);
                }
            }
            _ => {}
        }
    }

    /// Runs again, at best where it was blocked.
    fn go_on(&mut self, placement: &'static Placement, state: &mut State, mut cpu: usize) {
        let other = state.turn_taken(cpu, self.pair.since);
        self.turns = if other.is_some() { self.turns + 1 } else { 0 };
        if let Some(other) = other.filter(|_| self.turns >= TURNS) {
            self.turns = 0;
            cpu = other;
            placement.pin(&self.pair, cpu);
        }
        let busy = |pair: &Pair| self.pair.since.saturating_sub(pair.since) > BUSY;
        let hogged = state.running.get(cpu).is_some_and(|pairs| pairs.values().any(busy));
        if let Some(pairs) = state.running.get_mut(cpu) {
            pairs.insert(self.id, self.pair);
        }
        match state.less_busy(cpu) {
            Some(to) if hogged => {
                state.shift(self.id, self.pair, cpu, to);
                placement.pin(&self.pair, to);
            }
            _ => placement.watch(state, cpu),
        }
        state.call_back();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(placement) = placement() else { return };
        if self.together.take().is_some() {
            // Its thread in the stub may be gone.
            self.away = false;
        }
        self.gather();
        {
            let mut state = placement.state.lock();
            // Also one that has not joined yet.
            state.part(self.id);
            if let Some(cpu) = state.find(self.id)
                && let Some(pairs) = state.running.get_mut(cpu)
            {
                pairs.remove(&self.id);
            }
        }
        // The thread may go on to do something else (unless it has replaced its context by another).
        if count_slots(-1) == 0 {
            let _ = thread::set_affinity(0, &placement.all);
        }
    }
}

/// Counts how many slots the calling thread has.
fn count_slots(change: i32) -> i32 {
    thread_local!(static SLOTS: Cell<i32> = const { Cell::new(0) });
    SLOTS.with(|slots| {
        slots.set(slots.get() + change);
        slots.get()
    })
}

/// Notes which CPUs the process may use, before any thread is pinned.
pub fn init() {
    let _ = placement();
}

/// Puts a stub's thread, by host id, on the caller's CPU, where the caller is about to trace it.
pub fn follow(stub: i32) {
    if let Some(placement) = placement()
        && let Some(cpu) = placement.cpus.get(placement.here())
    {
        let _ = thread::set_affinity(stub, &CpuSet::single(*cpu));
    }
}

/// As [`follow`] for a thread that is brought along often; `last` is where it was brought before.
pub fn bring(stub: i32, last: &mut Option<usize>) {
    if let Some(placement) = placement() {
        let here = placement.here();
        if *last != Some(here)
            && let Some(cpu) = placement.cpus.get(here)
        {
            let _ = thread::set_affinity(stub, &CpuSet::single(*cpu));
            *last = Some(here);
        }
    }
}
