//! The neighbour table: link addresses of the hosts on a link, for IPv4 (ARP) and IPv6 (NDP) alike.
//!
//! The states are those of RFC 4861, section 7.3, which Linux uses for both families. The table is plain
//! data: it says whom to ask and what to send; `solicit` does it. Bounded: [`MAX`] entries, of which the
//! least recently used that is not being resolved makes room, no more than half of which have not answered, and
//! [`MAX_QUEUED`] packets waiting for each.

use crate::link::Frame;
use crate::time::{Instant, earliest};
use crate::wire::ethernet::MacAddr;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Entries (`gc_thresh3`).
pub(crate) const MAX: usize = 1024;
/// Entries that have not answered.
const MAX_ASKED: usize = MAX / 2;
/// Packets waiting for one neighbour's address; the oldest is dropped.
pub(crate) const MAX_QUEUED: usize = 64;
/// Between two solicitations (`retrans_time_ms`).
const RETRANS: Duration = Duration::from_secs(1);
/// Solicitations before giving up (`mcast_solicit`, `ucast_solicit`).
const TRIES: u8 = 3;
/// How long a confirmation holds (`base_reachable_time_ms`).
const REACHABLE: Duration = Duration::from_secs(30);
/// How long to wait for a confirmation from above before probing (`delay_first_probe_time`).
const DELAY: Duration = Duration::from_secs(5);
/// How long a failure is remembered.
const FAILED: Duration = Duration::from_secs(3);

/// Where an entry is in its life (`NUD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborState {
    /// Asked for the first time, no answer yet.
    Incomplete,
    /// Confirmed a short while ago.
    Reachable,
    /// Known, not confirmed lately.
    Stale,
    /// Used while stale: waiting for a confirmation from above.
    Delay,
    /// Being asked again.
    Probe,
    /// Did not answer.
    Failed,
    /// Set by hand.
    Permanent,
}

#[derive(Debug)]
struct Entry {
    mac: Option<MacAddr>,
    state: NeighborState,
    tries: u8,
    /// When the state ends by itself.
    until: Option<Instant>,
    used: Instant,
    queue: VecDeque<(u16, Frame)>,
}

/// What became of a packet for a neighbour.
#[derive(Debug)]
pub(crate) enum Resolved {
    /// Send it there.
    Send(MacAddr, Frame),
    /// It waits. When `ask`, the neighbour is to be solicited now.
    Queued { ask: bool },
    /// The neighbour does not answer, or the table is full.
    Unreachable,
}

/// What is to be done when time has passed.
#[derive(Debug)]
pub(crate) enum Action {
    /// Ask again; at this link address, or all.
    Ask(IpAddr, Option<MacAddr>),
    /// The neighbour did not answer; these packets die.
    Failed(Vec<Frame>),
}

/// How much an announcement of a link address counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// An answer to a question of ours: confirms.
    Answer { override_: bool },
    /// The neighbour spoke of itself (a request, an advertisement nobody asked for).
    Heard { override_: bool },
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct NeighborTable {
    entries: HashMap<IpAddr, Entry>,
    /// Nothing is due before this; what is confirmed or goes does not move it.
    due: Option<Instant>,
    /// A search for room to ask for one more has failed, and nothing has changed since.
    crowded: bool,
}

impl NeighborTable {
    /// The link address for a packet, or what happens to it.
    pub(crate) fn resolve(
        &mut self,
        addr: IpAddr,
        ethertype: u16,
        frame: Frame,
        now: Instant,
    ) -> Resolved {
        let many = self.entries.len() >= MAX_ASKED;
        if many && !self.entries.contains_key(&addr) && !self.room_to_ask() {
            return Resolved::Unreachable;
        }
        let entry = self.entries.entry(addr).or_insert_with(|| Entry {
            mac: None,
            state: NeighborState::Failed,
            tries: 0,
            until: None,
            used: now,
            queue: VecDeque::new(),
        });
        entry.used = now;
        match (entry.state, entry.mac) {
            (NeighborState::Failed, _) if entry.until.is_some_and(|until| now < until) => {
                Resolved::Unreachable
            }
            (NeighborState::Failed, _) | (_, None) => {
                let ask = entry.state != NeighborState::Incomplete;
                if ask {
                    entry.state = NeighborState::Incomplete;
                    entry.tries = 1;
                    entry.until = Some(now + RETRANS);
                    self.due = earliest(self.due, entry.until);
                }
                if entry.queue.len() >= MAX_QUEUED {
                    entry.queue.pop_front();
                }
                entry.queue.push_back((ethertype, frame));
                Resolved::Queued { ask }
            }
            (NeighborState::Stale, Some(mac)) => {
                entry.state = NeighborState::Delay;
                entry.until = Some(now + DELAY);
                self.due = earliest(self.due, entry.until);
                Resolved::Send(mac, frame)
            }
            (_, Some(mac)) => Resolved::Send(mac, frame),
        }
    }

    /// Takes in an announcement. Packets that were waiting come back. `create`: an entry is made when there
    /// is none.
    pub(crate) fn learn(
        &mut self,
        addr: IpAddr,
        mac: MacAddr,
        claim: Claim,
        create: bool,
        now: Instant,
    ) -> Vec<(u16, Frame)> {
        if mac.is_multicast() {
            return Vec::new();
        }
        if !self.entries.contains_key(&addr) {
            if !create || (self.entries.len() >= MAX && !self.make_room()) {
                return Vec::new();
            }
            let entry = Entry {
                mac: Some(mac),
                state: NeighborState::Stale,
                tries: 0,
                until: None,
                used: now,
                queue: VecDeque::new(),
            };
            self.entries.insert(addr, entry);
            self.crowded = false;
            return Vec::new();
        }
        let Some(entry) = self.entries.get_mut(&addr) else { return Vec::new() };
        if entry.state == NeighborState::Permanent {
            return Vec::new();
        }
        let changed = entry.mac.is_some_and(|old| old != mac);
        let (confirms, override_) = match claim {
            Claim::Answer { override_ } => (true, override_),
            Claim::Heard { override_ } => (false, override_),
        };
        if changed && !override_ && entry.state != NeighborState::Failed {
            // Someone else claims the address without saying that it replaces the old one: only doubt it
            // (RFC 4861, section 7.2.5).
            if entry.state == NeighborState::Reachable {
                entry.state = NeighborState::Stale;
                entry.until = None;
            }
            return Vec::new();
        }
        let waiting = entry.state == NeighborState::Incomplete;
        entry.mac = Some(mac);
        self.crowded = false;
        if confirms {
            entry.state = NeighborState::Reachable;
            entry.until = Some(now + REACHABLE);
            self.due = earliest(self.due, entry.until);
        } else if changed || waiting || entry.state == NeighborState::Failed {
            entry.state = NeighborState::Stale;
            entry.until = None;
        }
        entry.queue.drain(..).collect()
    }

    /// A connection has heard from the neighbour: it is reachable in both directions.
    pub(crate) fn confirm(&mut self, addr: IpAddr, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&addr)
            && entry.mac.is_some()
            && !matches!(entry.state, NeighborState::Permanent | NeighborState::Failed)
        {
            entry.state = NeighborState::Reachable;
            entry.until = Some(now + REACHABLE);
            self.due = earliest(self.due, entry.until);
        }
    }

    /// Sets an entry by hand.
    pub(crate) fn set(&mut self, addr: IpAddr, mac: MacAddr, now: Instant) -> Vec<(u16, Frame)> {
        if self.entries.len() >= MAX && !self.entries.contains_key(&addr) && !self.make_room() {
            return Vec::new();
        }
        let old = self.entries.insert(
            addr,
            Entry {
                mac: Some(mac),
                state: NeighborState::Permanent,
                tries: 0,
                until: None,
                used: now,
                queue: VecDeque::new(),
            },
        );
        old.map_or_else(Vec::new, |old| old.queue.into())
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, addr: IpAddr) -> bool {
        self.crowded = false;
        self.entries.remove(&addr).is_some()
    }

    /// Does what is due.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.due.is_none_or(|due| due > now) {
            return actions;
        }
        self.crowded = false;
        for (addr, entry) in &mut self.entries {
            if entry.until.is_none_or(|until| until > now) {
                continue;
            }
            match entry.state {
                NeighborState::Incomplete | NeighborState::Probe if entry.tries >= TRIES => {
                    entry.state = NeighborState::Failed;
                    entry.mac = None;
                    entry.until = Some(now + FAILED);
                    let dead = entry.queue.drain(..).map(|(_, frame)| frame).collect();
                    actions.push(Action::Failed(dead));
                }
                NeighborState::Incomplete | NeighborState::Probe => {
                    entry.tries += 1;
                    entry.until = Some(now + RETRANS);
                    actions.push(Action::Ask(*addr, entry.mac));
                }
                NeighborState::Delay => {
                    entry.state = NeighborState::Probe;
                    entry.tries = 1;
                    entry.until = Some(now + RETRANS);
                    actions.push(Action::Ask(*addr, entry.mac));
                }
                NeighborState::Reachable => {
                    entry.state = NeighborState::Stale;
                    entry.until = None;
                }
                NeighborState::Stale | NeighborState::Permanent | NeighborState::Failed => {
                    entry.until = None;
                }
            }
        }
        self.due = self.entries.values().fold(None, |at, e| earliest(at, e.until));
        actions
    }

    /// When [`poll`](Self::poll) is to be called next. Asked for every packet that waits: nothing is searched.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The table's contents.
    pub(crate) fn list(&self) -> Vec<(IpAddr, Option<MacAddr>, NeighborState)> {
        self.entries.iter().map(|(addr, e)| (*addr, e.mac, e.state)).collect()
    }

    /// Makes room for a neighbour that is to be asked for. Those who answered stay: who sends packets in the name of
    /// hosts that do not exist must not take the place of those that do.
    fn room_to_ask(&mut self) -> bool {
        if self.crowded {
            return false;
        }
        let asked = |e: &&Entry| e.mac.is_none();
        if self.entries.values().filter(asked).count() < MAX_ASKED {
            return self.entries.len() < MAX || self.make_room();
        }
        let failed = |e: &Entry| e.state == NeighborState::Failed;
        let victim = self.entries.iter().filter(|(_, e)| failed(e)).min_by_key(|(_, e)| e.used);
        let victim = victim.map(|(addr, _)| *addr);
        self.crowded = victim.is_none();
        victim.is_some_and(|addr| self.entries.remove(&addr).is_some())
    }

    /// Makes room for one that is known.
    fn make_room(&mut self) -> bool {
        let idle =
            |e: &Entry| !matches!(e.state, NeighborState::Permanent | NeighborState::Incomplete);
        let victim = self.entries.iter().filter(|(_, e)| idle(e)).min_by_key(|(_, e)| e.used);
        let Some(addr) = victim.map(|(addr, _)| *addr) else { return false };
        self.entries.remove(&addr).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 8]);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    fn resolve(t: &mut NeighborTable, n: u32, ms: u64) -> Resolved {
        t.resolve(ip(n), 0x800, Frame::from_payload(b"x"), at(ms))
    }

    fn state(t: &NeighborTable, n: u32) -> NeighborState {
        t.entries[&ip(n)].state
    }

    #[test]
    fn the_first_packet_waits_and_leaves_with_the_answer() {
        let mut t = NeighborTable::default();
        assert!(matches!(resolve(&mut t, 1, 0), Resolved::Queued { ask: true }));
        assert!(matches!(resolve(&mut t, 1, 1), Resolved::Queued { ask: false }));
        let sent = t.learn(ip(1), MAC, Claim::Answer { override_: true }, false, at(2));
        assert_eq!(sent.len(), 2);
        assert!(matches!(resolve(&mut t, 1, 3), Resolved::Send(MAC, _)));
        assert_eq!(state(&t, 1), NeighborState::Reachable);
    }

    #[test]
    fn three_questions_then_failure_then_a_new_try() {
        let mut t = NeighborTable::default();
        let _ = resolve(&mut t, 1, 0);
        assert!(matches!(t.poll(at(1000))[..], [Action::Ask(_, None)]));
        assert!(matches!(t.poll(at(2000))[..], [Action::Ask(_, None)]));
        match &t.poll(at(3000))[..] {
            [Action::Failed(frames)] => assert_eq!(frames.len(), 1),
            other => panic!("{other:?}"),
        }
        assert!(matches!(resolve(&mut t, 1, 3001), Resolved::Unreachable));
        assert!(matches!(resolve(&mut t, 1, 6001), Resolved::Queued { ask: true }));
    }

    #[test]
    fn stale_entries_are_used_and_probed_after_a_delay() {
        let mut t = NeighborTable::default();
        let _ = t.learn(ip(1), MAC, Claim::Heard { override_: true }, true, at(0));
        assert_eq!(state(&t, 1), NeighborState::Stale);
        assert!(matches!(resolve(&mut t, 1, 10), Resolved::Send(MAC, _)));
        assert_eq!(state(&t, 1), NeighborState::Delay);
        assert!(matches!(t.poll(at(5010))[..], [Action::Ask(_, Some(MAC))]));
        assert_eq!(state(&t, 1), NeighborState::Probe);
        t.confirm(ip(1), at(5500));
        assert_eq!(state(&t, 1), NeighborState::Reachable);
        assert!(t.poll(at(35_500)).is_empty());
        assert_eq!(state(&t, 1), NeighborState::Stale);
    }

    #[test]
    fn another_claim_without_override_only_raises_doubt() {
        let mut t = NeighborTable::default();
        let _ = resolve(&mut t, 1, 0);
        let _ = t.learn(ip(1), MAC, Claim::Answer { override_: true }, false, at(1));
        let _ = t.learn(ip(1), OTHER, Claim::Heard { override_: false }, false, at(2));
        assert_eq!((state(&t, 1), t.entries[&ip(1)].mac), (NeighborState::Stale, Some(MAC)));
        let _ = t.learn(ip(1), OTHER, Claim::Heard { override_: true }, false, at(3));
        assert_eq!(t.entries[&ip(1)].mac, Some(OTHER));
    }

    #[test]
    fn permanent_entries_stay() {
        let mut t = NeighborTable::default();
        let _ = t.set(ip(1), MAC, at(0));
        let _ = t.learn(ip(1), OTHER, Claim::Answer { override_: true }, true, at(1));
        assert!(matches!(resolve(&mut t, 1, 99_999), Resolved::Send(MAC, _)));
        assert_eq!(t.deadline(), None);
    }

    #[test]
    fn the_table_and_its_queues_are_bounded() {
        let mut t = NeighborTable::default();
        for _ in 0..MAX_QUEUED * 2 {
            let _ = resolve(&mut t, 0, 0);
        }
        assert_eq!(t.entries[&ip(0)].queue.len(), MAX_QUEUED);
        for n in 1..MAX as u32 {
            let _ = t.learn(ip(n), MAC, Claim::Heard { override_: true }, true, at(n.into()));
        }
        assert_eq!(t.entries.len(), MAX);
        let _ = t.learn(ip(5000), MAC, Claim::Heard { override_: true }, true, at(9999));
        assert_eq!(t.entries.len(), MAX);
        assert!(!t.entries.contains_key(&ip(1)), "the least recently used made room");
        assert!(t.entries.contains_key(&ip(0)), "one that is being resolved does not");
    }

    #[test]
    fn those_who_do_not_answer_leave_room_for_those_who_do() {
        let mut t = NeighborTable::default();
        let _ = t.learn(ip(1), MAC, Claim::Heard { override_: true }, true, at(0));
        for n in 2..3000 {
            let asked = matches!(resolve(&mut t, n, 1), Resolved::Queued { ask: true });
            assert_eq!(asked, n < 2 + MAX_ASKED as u32, "{n}");
        }
        assert!(matches!(resolve(&mut t, 1, 2), Resolved::Send(MAC, _)));
        let _ = t.learn(ip(5000), MAC, Claim::Heard { override_: true }, true, at(3));
        assert!(matches!(resolve(&mut t, 5000, 4), Resolved::Send(MAC, _)));
        for ms in [1001, 2001, 3001] {
            let _ = t.poll(at(ms));
        }
        assert!(matches!(resolve(&mut t, 6000, 3002), Resolved::Queued { ask: true }));
        assert!(matches!(resolve(&mut t, 1, 3003), Resolved::Send(MAC, _)));
    }

    #[test]
    fn group_addresses_are_no_neighbours() {
        let mut t = NeighborTable::default();
        let group = MacAddr([1, 0, 0, 0, 0, 1]);
        let _ = t.learn(ip(1), group, Claim::Heard { override_: true }, true, at(0));
        assert!(t.entries.is_empty());
    }
}
