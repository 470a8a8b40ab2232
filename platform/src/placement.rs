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
//! * When some CPU has two running threads more than another, a balancer looks again after a
//!   millisecond or two and moves one that has been running all that time. It sleeps while there is
//!   nothing to balance, so an idle sandbox causes no wake-ups.
//!
//! Host calls: `sched_getaffinity`, `sched_setaffinity`, `getcpu`, `futex`.

use crate::host::Parker;
use crate::host::thread::{self, CpuSet};
use crate::host::time::Clock;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// How often the balancer looks while there is an imbalance, in nanoseconds.
const PERIOD: u64 = 1_000_000;

/// A thread that has run for this long without blocking is worth a CPU of its own, in nanoseconds.
const BUSY: u64 = 1_500_000;

/// How often in a row a thread that is woken finds that nothing runs, and that the last to run has just blocked on another
/// CPU, until it goes there.
const TURNS: u32 = 8;

/// How long ago that is at most, in nanoseconds.
const JUST: u64 = 200_000;

/// Stack of the balancer's thread, in bytes.
const BALANCER_STACK: usize = 128 << 10;

/// A guest thread's two host threads, and since when they have been running.
#[derive(Debug, Clone, Copy)]
struct Pair {
    sentry: i32,
    stub: i32,
    since: u64,
}

impl Pair {
    fn pin(&self, cpus: &CpuSet) {
        // Fails only when the thread is gone, or the host has taken the CPU away; then the pair runs
        // anyway, only more slowly.
        let _ = thread::set_affinity(self.stub, cpus);
        let _ = thread::set_affinity(self.sentry, cpus);
    }
}

/// What runs where.
#[derive(Debug, Default)]
struct State {
    /// Per CPU (by index): the running pairs by id.
    running: Vec<BTreeMap<u64, Pair>>,
    /// Sentry threads away from their guest threads: id of the pair, CPU, where they are told to come back.
    away: Vec<(u64, usize, Arc<AtomicBool>)>,
    /// Where a pair has blocked last, and when.
    last_blocked: Option<(usize, u64)>,
    next_id: u64,
    /// The balancer is awake, or has been told to wake.
    balancing: bool,
    /// Since when it has something to do.
    crowded_since: u64,
    /// There is a balancer's thread.
    started: bool,
}

impl State {
    /// The CPU that does least, if it has at least two pairs less to run than `cpu`.
    fn less_busy(&self, cpu: usize) -> Option<usize> {
        let load = self.running.get(cpu)?.len();
        let (index, least) = self.running.iter().enumerate().min_by_key(|(_, all)| all.len())?;
        (least.len() + 2 <= load).then_some(index)
    }

    /// For a pair on `cpu` that goes on: the other CPU where the one with which it seems to take turns has just blocked.
    fn turn_taken(&self, cpu: usize, now: u64) -> Option<usize> {
        let (at, when) = self.last_blocked?;
        let alone = self.running.iter().all(BTreeMap::is_empty);
        (alone && at != cpu && now.saturating_sub(when) < JUST).then_some(at)
    }

    /// A CPU where nothing runs, if there are more CPUs than threads that run.
    fn idle(&self) -> Option<usize> {
        let total: usize = self.running.iter().map(BTreeMap::len).sum();
        let taken = |cpu: usize| self.away.iter().any(|(_, at, _)| *at == cpu);
        let mut idle = self.running.iter().enumerate().filter(|(_, all)| all.is_empty());
        let found = idle.find(|(cpu, _)| !taken(*cpu)).map(|(cpu, _)| cpu);
        found.filter(|_| total + self.away.len() < self.running.len())
    }

    /// Calls sentry threads back that are away while there are more threads to run than CPUs.
    fn call_back(&mut self) {
        let total: usize = self.running.iter().map(BTreeMap::len).sum();
        if !self.away.is_empty() && total + self.away.len() > self.running.len() {
            for (_, _, back) in &self.away {
                back.store(true, Ordering::Relaxed);
            }
        }
    }

    /// CPU of a running pair.
    fn find(&self, id: u64) -> Option<usize> {
        self.running.iter().position(|pairs| pairs.contains_key(&id))
    }

    /// Moves pairs from crowded CPUs, one from each; returns whether there is still something to do,
    /// and the moves.
    fn balance(&mut self, now: u64) -> (bool, Vec<(Pair, usize)>) {
        let mut moves = Vec::new();
        for from in 0..self.running.len() {
            let Some(to) = self.less_busy(from) else { continue };
            // The one that has run longest moves: what it loses (a warm cache) it regains.
            let oldest = self.running.get(from).and_then(|pairs| {
                pairs.iter().min_by_key(|(_, pair)| pair.since).map(|(id, pair)| (*id, *pair))
            });
            let Some((id, mut pair)) = oldest else { continue };
            if now.saturating_sub(pair.since.max(self.crowded_since)) < BUSY {
                continue;
            }
            // It counts as fresh, so that a third pair is not moved along at once.
            pair.since = now;
            if let Some(pairs) = self.running.get_mut(from) {
                pairs.remove(&id);
            }
            if let Some(pairs) = self.running.get_mut(to) {
                pairs.insert(id, pair);
            }
            moves.push((pair, to));
        }
        let crowded = (0..self.running.len()).any(|cpu| self.less_busy(cpu).is_some());
        (crowded, moves)
    }
}

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

    fn pin(&self, pair: &Pair, index: usize) {
        if let Some(cpu) = self.cpus.get(index) {
            pair.pin(&CpuSet::single(*cpu));
        }
    }

    /// Makes sure the balancer is awake if it has something to do.
    fn watch(&'static self, state: &mut State, cpu: usize) {
        if state.balancing || state.less_busy(cpu).is_none() {
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
        let mut crowded = false;
        loop {
            if crowded {
                self.wake.park_until(Clock::Monotonic.now() + PERIOD);
            } else {
                self.wake.park();
            }
            let mut state = self.state.lock();
            let (again, moves) = state.balance(Clock::Monotonic.now());
            state.balancing = again;
            crowded = again;
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
    /// Set when a sentry thread that is away is to come back.
    back: Option<Arc<AtomicBool>>,
}

impl Slot {
    /// Puts the calling thread and a thread of a stub (by host id) on the caller's CPU.
    pub fn new(stub: i32) -> Self {
        let now = Clock::Monotonic.now();
        let pair = Pair { sentry: thread::current_tid(), stub, since: now };
        let Some(placement) = placement() else {
            return Self { id: 0, pair, blocked_on: None, turns: 0, back: None };
        };
        count_slots(1);
        let here = placement.here();
        placement.pin(&pair, here);
        let mut state = placement.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        if let Some(pairs) = state.running.get_mut(here) {
            pairs.insert(id, pair);
        }
        state.call_back();
        placement.watch(&mut state, here);
        Self { id, pair, blocked_on: None, turns: 0, back: None }
    }

    /// Moves the calling sentry thread to a CPU where nothing runs, away from its guest thread. `false` when there
    /// is none.
    pub fn spread(&mut self) -> bool {
        let Some(placement) = placement() else { return false };
        if self.blocked_on.is_some() || self.back.is_some() {
            return false;
        }
        let mut state = placement.state.lock();
        let Some(idle) = state.idle() else { return false };
        let Some(cpu) = placement.cpus.get(idle) else { return false };
        if thread::set_affinity(0, &CpuSet::single(*cpu)).is_err() {
            return false;
        }
        let back = Arc::new(AtomicBool::new(false));
        state.away.push((self.id, idle, back.clone()));
        self.back = Some(back);
        true
    }

    /// Whether a sentry thread that is away is to come back.
    pub fn is_called_back(&self) -> bool {
        self.back.as_ref().is_some_and(|back| back.load(Ordering::Relaxed))
    }

    /// Brings the calling sentry thread back to its guest thread, if it is away.
    pub fn gather(&mut self) {
        if self.back.take().is_none() {
            return;
        }
        let Some(placement) = placement() else { return };
        let mut state = placement.state.lock();
        state.away.retain(|(id, _, _)| *id != self.id);
        let home = self.blocked_on.or_else(|| state.find(self.id));
        if let Some(cpu) = home.and_then(|cpu| placement.cpus.get(cpu)) {
            // Under the lock, so that the balancer does not move the pair meanwhile.
            let _ = thread::set_affinity(0, &CpuSet::single(*cpu));
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
        placement.pin(&self.pair, cpu);
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
            (Some(mut cpu), false) => {
                self.blocked_on = None;
                self.pair.since = Clock::Monotonic.now();
                let mut state = placement.state.lock();
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
                        if let Some(pairs) = state.running.get_mut(cpu) {
                            pairs.remove(&self.id);
                        }
                        if let Some(pairs) = state.running.get_mut(to) {
                            pairs.insert(self.id, self.pair);
                        }
                        placement.pin(&self.pair, to);
                    }
                    Some(_) => placement.watch(&mut state, cpu),
                    None => {}
                }
                state.call_back();
            }
            _ => {}
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(placement) = placement() else { return };
        self.gather();
        {
            let mut state = placement.state.lock();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state(loads: &[&[u64]]) -> State {
        let mut id = 0;
        let running = loads
            .iter()
            .map(|since| {
                since
                    .iter()
                    .map(|since| {
                        id += 1;
                        (id, Pair { sentry: 0, stub: id as i32, since: *since })
                    })
                    .collect()
            })
            .collect();
        State { running, ..State::default() }
    }

    fn loads(state: &State) -> Vec<usize> {
        state.running.iter().map(BTreeMap::len).collect()
    }

    #[test]
    fn one_that_has_run_long_moves_to_an_idle_cpu() {
        let mut state = state(&[&[10 * BUSY, 9 * BUSY, 11 * BUSY], &[]]);
        let (again, moves) = state.balance(11 * BUSY);
        assert_eq!((again, loads(&state)), (false, vec![2, 1]));
        assert_eq!((moves[0].0.stub, moves[0].1), (2, 1));
    }

    #[test]
    fn a_cpu_is_idle_only_while_nobody_needs_it() {
        let mut state = state(&[&[0], &[]]);
        assert_eq!(state.idle(), Some(1));
        let back = Arc::new(AtomicBool::new(false));
        state.away.push((1, 1, back.clone()));
        state.call_back();
        assert_eq!((state.idle(), back.load(Ordering::Relaxed)), (None, false));
        let pair = Pair { sentry: 0, stub: 9, since: 0 };
        state.running[0].insert(9, pair);
        state.call_back();
        assert!(back.load(Ordering::Relaxed));
        state.away.clear();
        assert_eq!(state.idle(), None);
    }

    #[test]
    fn turns_are_taken_by_one_at_a_time() {
        let mut state = state(&[&[], &[]]);
        assert_eq!(state.turn_taken(0, JUST), None);
        state.last_blocked = Some((1, 1000));
        assert_eq!(state.turn_taken(0, 2000), Some(1));
        assert_eq!(state.turn_taken(1, 2000), None);
        assert_eq!(state.turn_taken(0, 1000 + JUST), None);
        state.running[1].insert(9, Pair { sentry: 0, stub: 9, since: 0 });
        assert_eq!(state.turn_taken(0, 2000), None);
    }

    #[test]
    fn balanced_or_fresh_ones_stay() {
        let mut balanced = state(&[&[0, 0], &[0]]);
        assert!(!balanced.balance(100 * BUSY).0);
        assert_eq!(loads(&balanced), [2, 1]);
        let mut fresh = state(&[&[BUSY, BUSY], &[]]);
        let (again, moves) = fresh.balance(BUSY + 1);
        assert!(again && moves.is_empty());
        let mut one = state(&[&[0]]);
        assert!(!one.balance(100 * BUSY).0);
    }

    #[test]
    fn many_spread_over_all() {
        let mut state = state(&[&[0; 8], &[], &[], &[]]);
        for round in 1..20 {
            state.balance(round * 2 * BUSY);
        }
        assert_eq!(loads(&state), [2, 2, 2, 2]);
    }
}
