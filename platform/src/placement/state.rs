//! What runs where, and what that means for the next decision.

use super::together::{LOOK, Together};
use crate::host::thread::{self, CpuSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often the balancer looks while there is an imbalance, in nanoseconds.
const PERIOD: u64 = 1_000_000;

/// A thread that has run for this long without blocking is worth a CPU of its own, in nanoseconds.
pub const BUSY: u64 = 1_500_000;

/// How long ago the other of two that take turns has blocked at most, in nanoseconds.
pub const JUST: u64 = 200_000;

/// How long a sentry thread counts as one that would take calls from memory after it has found no CPU for that, in
/// nanoseconds.
const WILLING: u64 = 5_000_000;

/// A guest thread's two host threads, and since when they have been running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    pub sentry: i32,
    pub stub: i32,
    pub since: u64,
}

impl Pair {
    pub fn pin(&self, cpus: &CpuSet) {
        self.pin_apart(cpus, cpus);
    }

    /// Puts the stub's thread and the sentry's on CPUs of their own.
    pub fn pin_apart(&self, stub: &CpuSet, sentry: &CpuSet) {
        // Fails only when the thread is gone, or the host has taken the CPU away; then the pair runs
        // anyway, only more slowly.
        let _ = thread::set_affinity(self.stub, stub);
        let _ = thread::set_affinity(self.sentry, sentry);
    }
}

/// What a sentry thread is told to do when it looks next.
#[derive(Debug, Default)]
pub struct Order(AtomicU32);

impl Order {
    const BACK: u32 = 1;
    const JOIN: u32 = 2;

    /// To come back to its guest thread.
    pub fn back(&self) {
        self.0.store(Self::BACK, Ordering::Relaxed);
    }

    /// To take calls from memory where it has been put.
    fn join(&self) {
        self.0.store(Self::JOIN, Ordering::Relaxed);
    }

    pub fn is_back(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::BACK
    }

    pub fn is_join(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::JOIN
    }

    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A sentry thread that has looked for a CPU to take calls from memory, and found none.
#[derive(Debug)]
pub struct Willing {
    pub id: u64,
    pub when: u64,
    /// What its calls take meanwhile, in nanoseconds.
    pub each: u64,
    pub order: Arc<Order>,
}

/// Pairs whose stubs' threads are on one CPU and whose sentry threads are on another.
#[derive(Debug)]
pub struct Group {
    pub guests: usize,
    pub sentries: usize,
    pub members: Vec<(u64, Arc<Order>)>,
    pub together: Arc<Together>,
}

impl Group {
    fn has(&self, cpu: usize) -> bool {
        self.guests == cpu || self.sentries == cpu
    }

    pub fn is_member(&self, id: u64) -> bool {
        self.members.iter().any(|(member, _)| *member == id)
    }
}

/// What runs where.
#[derive(Debug, Default)]
pub struct State {
    /// Per CPU (by index): the running pairs by id. Of a group, on the CPU of its guests.
    pub running: Vec<BTreeMap<u64, Pair>>,
    /// Sentry threads away from their guest threads: id of the pair, CPU, where they are told to come back.
    pub away: Vec<(u64, usize, Arc<Order>)>,
    pub groups: Vec<Group>,
    pub willing: Vec<Willing>,
    /// Where a pair has blocked last, and when.
    pub last_blocked: Option<(usize, u64)>,
    pub next_id: u64,
    /// The balancer is awake, or has been told to wake.
    pub balancing: bool,
    /// Since when it has something to do.
    pub crowded_since: u64,
    /// There is a balancer's thread.
    pub started: bool,
}

impl State {
    /// How much a CPU has to run: a group's other CPU as much as that of its guests.
    fn load(&self, cpu: usize) -> usize {
        let here = self.running.get(cpu).map_or(0, BTreeMap::len);
        let group = self.groups.iter().find(|group| group.sentries == cpu);
        let there = group.and_then(|group| self.running.get(group.guests)).map_or(0, BTreeMap::len);
        here + there
    }

    /// The CPU that does least, if it has at least two pairs less to run than `cpu`.
    pub fn less_busy(&self, cpu: usize) -> Option<usize> {
        let load = self.load(cpu);
        let least = (0..self.running.len()).min_by_key(|cpu| self.load(*cpu))?;
        (self.load(least) + 2 <= load).then_some(least)
    }

    /// For a pair on `cpu` that goes on: the other CPU where the one with which it seems to take turns has just blocked.
    pub fn turn_taken(&self, cpu: usize, now: u64) -> Option<usize> {
        let (at, when) = self.last_blocked?;
        let alone = self.running.iter().all(BTreeMap::is_empty);
        (alone && at != cpu && now.saturating_sub(when) < JUST).then_some(at)
    }

    /// How many CPUs could be used: by pairs that run, sentry threads that are away, and groups.
    fn wanted(&self) -> usize {
        let grouped = |cpu: usize| self.groups.iter().any(|group| group.has(cpu));
        let alone = self.running.iter().enumerate().filter(|(cpu, _)| !grouped(*cpu));
        alone.map(|(_, all)| all.len()).sum::<usize>() + self.away.len() + 2 * self.groups.len()
    }

    fn is_taken(&self, cpu: usize) -> bool {
        self.away.iter().any(|(_, at, _)| *at == cpu)
            || self.groups.iter().any(|group| group.has(cpu))
    }

    /// A CPU where nothing runs, if there are more CPUs than threads that run.
    pub fn idle(&self) -> Option<usize> {
        let mut idle = self.running.iter().enumerate().filter(|(_, all)| all.is_empty());
        let found = idle.find(|(cpu, _)| !self.is_taken(*cpu)).map(|(cpu, _)| cpu);
        found.filter(|_| self.wanted() < self.running.len())
    }

    /// Calls sentry threads back that are away while there are more threads to run than CPUs.
    pub fn call_back(&mut self) {
        if !self.away.is_empty() && self.wanted() > self.running.len() {
            for (_, _, order) in &self.away {
                order.back();
            }
        }
    }

    /// CPU of a running pair.
    pub fn find(&self, id: u64) -> Option<usize> {
        self.running.iter().position(|pairs| pairs.contains_key(&id))
    }

    /// A sentry thread would take calls from memory, but there is no idle CPU. If all pairs of its CPU and of another are like that,
    /// makes them a group, and returns that, with the pairs to be put there.
    pub fn unite(&mut self, willing: Willing) -> Option<(&Group, Vec<Pair>)> {
        let now = willing.when;
        let here = self.find(willing.id)?;
        self.willing.retain(|other| other.id != willing.id && now - other.when < WILLING);
        self.willing.push(willing);
        let all_willing = |cpu: &usize| {
            let is_willing = |id: &u64| self.willing.iter().any(|willing| willing.id == *id);
            let pairs = self.running.get(*cpu);
            !self.is_taken(*cpu)
                && pairs.is_some_and(|all| !all.is_empty() && all.keys().all(is_willing))
        };
        let guests = (0..self.running.len()).filter(all_willing).find(|cpu| *cpu != here)?;
        if !all_willing(&here) {
            return None;
        }
        let theirs = |id: &u64| self.find(*id).is_some_and(|cpu| cpu == here || cpu == guests);
        let each = self.willing.iter().filter(|one| theirs(&one.id)).map(|one| one.each);
        let together = Arc::new(Together::new(each)?);
        let pairs = std::mem::take(self.running.get_mut(here)?);
        let all = self.running.get_mut(guests)?;
        all.extend(pairs);
        let moves = all.values().copied().collect();
        let members: Vec<_> =
            self.willing.extract_if(.., |one| all.contains_key(&one.id)).collect();
        for member in &members {
            member.order.join();
        }
        let members = members.into_iter().map(|member| (member.id, member.order)).collect();
        self.groups.push(Group { guests, sentries: here, members, together });
        self.groups.last().map(|group| (group, moves))
    }

    /// Whether nothing runs on a CPU, of a group, and nothing has for a moment.
    pub fn has_paused(&self, guests: usize, now: u64) -> bool {
        self.running.get(guests).is_some_and(BTreeMap::is_empty)
            && self.last_blocked.is_none_or(|(_, when)| now.saturating_sub(when) > JUST)
    }

    /// Ends the group that a pair belongs to: all are told to come back.
    pub fn part(&mut self, id: u64) {
        let Some(at) = self.groups.iter().position(|group| group.is_member(id)) else { return };
        for (_, order) in self.groups.swap_remove(at).members {
            order.back();
        }
    }

    /// Ends groups that make no calls, that others need the CPUs of, or that could have more CPUs. Returns whether there are
    /// such that may be ended soon, and where pairs are to be put: some may make no call any more.
    fn part_groups(&mut self, now: u64) -> (bool, Vec<(Pair, usize)>) {
        let mut soon = false;
        let mut ended = Vec::new();
        for group in &self.groups {
            let pairs = [group.guests, group.sentries].map(|cpu| self.running.get(cpu));
            let others = pairs.into_iter().flatten().flatten();
            let since = others.filter(|(id, _)| !group.is_member(**id)).map(|(_, pair)| pair.since);
            let more = self.less_busy(group.guests).map(|_| self.crowded_since);
            let since = since.chain(more).min();
            let is_over = since.is_some_and(|since| now.saturating_sub(since) >= BUSY);
            if is_over || !group.together.goes_on(now) {
                ended.extend(group.members.first().map(|(id, _)| (*id, group.guests)));
            } else {
                soon |= since.is_some();
            }
        }
        let mut moves = Vec::new();
        for (id, guests) in ended {
            self.part(id);
            let pairs = self.running.get(guests).into_iter().flatten();
            moves.extend(pairs.map(|(_, pair)| (*pair, guests)));
        }
        (soon, moves)
    }

    /// Whether there is something to do for the balancer on account of a pair that now runs on this CPU.
    pub fn is_crowded(&self, cpu: usize) -> bool {
        self.groups.iter().any(|group| group.has(cpu)) || self.less_busy(cpu).is_some()
    }

    /// Moves pairs from crowded CPUs, one from each; returns after which time there is still something to do, in nanoseconds,
    /// and the moves.
    pub fn balance(&mut self, now: u64) -> (Option<u64>, Vec<(Pair, usize)>) {
        let (soon, mut moves) = self.part_groups(now);
        for from in 0..self.running.len() {
            if self.groups.iter().any(|group| group.has(from)) {
                continue;
            }
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
            self.shift(id, pair, from, to);
            moves.push((pair, to));
        }
        let crowded = (0..self.running.len()).any(|cpu| self.less_busy(cpu).is_some());
        let later = (!self.groups.is_empty()).then_some(LOOK);
        (if crowded || soon { Some(PERIOD) } else { later }, moves)
    }

    /// Notes that a running pair is on another CPU now.
    pub fn shift(&mut self, id: u64, pair: Pair, from: usize, to: usize) {
        if let Some(pairs) = self.running.get_mut(from) {
            pairs.remove(&id);
        }
        if let Some(pairs) = self.running.get_mut(to) {
            pairs.insert(id, pair);
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
        assert_eq!((again, loads(&state)), (None, vec![2, 1]));
        assert_eq!((moves[0].0.stub, moves[0].1), (2, 1));
    }

    #[test]
    fn a_cpu_is_idle_only_while_nobody_needs_it() {
        let mut state = state(&[&[0], &[]]);
        assert_eq!(state.idle(), Some(1));
        let order = Arc::new(Order::default());
        state.away.push((1, 1, order.clone()));
        state.call_back();
        assert_eq!((state.idle(), order.is_back()), (None, false));
        let pair = Pair { sentry: 0, stub: 9, since: 0 };
        state.running[0].insert(9, pair);
        state.call_back();
        assert!(order.is_back());
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
        assert_eq!(balanced.balance(100 * BUSY).0, None);
        assert_eq!(loads(&balanced), [2, 1]);
        let mut fresh = state(&[&[BUSY, BUSY], &[]]);
        let (again, moves) = fresh.balance(BUSY + 1);
        assert!(again == Some(PERIOD) && moves.is_empty());
        let mut one = state(&[&[0]]);
        assert_eq!(one.balance(100 * BUSY).0, None);
    }

    #[test]
    fn many_spread_over_all() {
        let mut state = state(&[&[0; 8], &[], &[], &[]]);
        for round in 1..20 {
            state.balance(round * 2 * BUSY);
        }
        assert_eq!(loads(&state), [2, 2, 2, 2]);
    }

    /// A sentry thread that looks for a CPU at this time.
    fn willing(id: u64, when: u64) -> (Willing, Arc<Order>) {
        let order = Arc::new(Order::default());
        (Willing { id, when, each: 4000, order: order.clone() }, order)
    }

    #[test]
    fn those_that_only_call_make_a_group() {
        let mut state = state(&[&[0], &[0]]);
        let (first, order) = willing(1, 100);
        assert!(state.unite(first).is_none());
        // The other has not asked for long enough.
        assert!(state.unite(willing(2, 200 + WILLING).0).is_none());
        let (again, second) = willing(1, 300 + WILLING);
        let (group, moves) = state.unite(again).unwrap();
        assert_eq!((group.guests, group.sentries, moves.len()), (1, 0, 2));
        assert_eq!((second.is_join(), order.is_join()), (true, false));
        assert_eq!((loads(&state), state.idle()), (vec![0, 2], None));
        // Nobody is moved, and nobody else gets a CPU.
        assert_eq!(state.balance(10 * BUSY), (Some(LOOK), Vec::new()));
        assert!(state.unite(willing(2, 400 + WILLING).0).is_none());
        state.part(2);
        assert!(second.is_back() && state.groups.is_empty());
    }

    #[test]
    fn one_that_computes_prevents_a_group_and_ends_it() {
        let mut state = state(&[&[0], &[0, 0]]);
        assert!(state.unite(willing(1, 0).0).is_none());
        assert!(state.unite(willing(2, 0).0).is_none());
        let pair = state.running[1].remove(&3).unwrap();
        let (first, order) = willing(1, 0);
        assert!(state.unite(first).is_some());
        state.running[1].insert(3, Pair { since: BUSY, ..pair });
        assert!(state.is_crowded(1));
        assert_eq!(state.balance(BUSY + 1).0, Some(PERIOD));
        assert!(!order.is_back());
        // The other has blocked: it was short.
        state.running[1].remove(&3);
        assert_eq!((state.balance(2 * BUSY).0, order.is_back()), (Some(LOOK), false));
        state.running[0].insert(3, pair);
        let (_, moves) = state.balance(2 * BUSY);
        assert!(order.is_back() && state.groups.is_empty());
        // Those of the group are put together again, whether they make calls or not.
        assert_eq!(moves.iter().map(|(_, cpu)| *cpu).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_group_ends_where_there_are_cpus_for_all() {
        let mut state = state(&[&[0], &[0], &[0], &[0]]);
        state.unite(willing(1, 0).0);
        let (second, order) = willing(2, 0);
        let (group, _) = state.unite(second).unwrap();
        assert_eq!((group.guests, group.sentries), (0, 1));
        assert_eq!(state.wanted(), 4);
        assert_eq!(state.balance(BUSY).0, Some(LOOK));
        state.running[2].clear();
        assert_eq!(state.less_busy(0), Some(2));
        state.crowded_since = BUSY;
        assert_eq!((state.balance(BUSY + 1).0, order.is_back()), (Some(PERIOD), false));
        state.balance(2 * BUSY);
        assert!(order.is_back());
    }

    #[test]
    fn a_group_has_paused_when_nobody_has_run_for_a_moment() {
        let mut state = state(&[&[0], &[0]]);
        state.unite(willing(1, 0).0);
        let guests = state.unite(willing(2, 0).0).unwrap().0.guests;
        assert!(!state.has_paused(guests, 0));
        state.running[guests].clear();
        state.last_blocked = Some((guests, 1000));
        assert!(!state.has_paused(guests, 1000 + JUST));
        assert!(state.has_paused(guests, 1001 + JUST));
    }
}
