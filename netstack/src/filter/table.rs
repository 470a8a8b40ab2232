//! Tables, chains, rules and verdicts, and how a chain is walked.

use super::op::{Op, Registers, Step};
use super::packet::Packet;
use super::{Filter, Hook, Refusal, Surroundings};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How deep jumps may nest.
pub const MAX_DEPTH: usize = 16;

/// How much work a packet may be for one chain, in operations and members of sets that are looked at. Chains that
/// jump to each other several times can ask for any amount, while nobody can interrupt the walk: a packet that
/// comes to this is dropped. It is some ten times what the largest ruleset without such jumps asks for.
pub const MAX_WORK: usize = 4 << 20;

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to the next hook's chain.
    Accept,
    /// The packet is gone.
    Drop,
    /// And its sender is told.
    Reject(Refusal),
    /// On with the next rule.
    Continue,
    /// Back to where the chain was jumped from.
    Return,
    /// To another chain of the table, and back afterwards.
    Jump(usize),
    /// To another chain of the table.
    Goto(usize),
}

/// Packets and bytes.
#[derive(Debug, Default)]
pub struct Counter {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    /// One that has counted already.
    pub fn new(packets: u64, bytes: u64) -> Counter {
        Counter { packets: packets.into(), bytes: bytes.into() }
    }

    /// Counts a packet.
    pub fn count(&self, bytes: u32) {
        self.add(1, bytes.into());
    }

    /// Adds what was counted elsewhere.
    pub fn add(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Packets and bytes.
    pub fn read(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Packets and bytes, which are 0 from now on.
    pub fn take(&self) -> (u64, u64) {
        (self.packets.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

/// A rule: operations, until one does not fit or says what is to happen.
#[derive(Debug, Default)]
pub struct Rule {
    /// The operations.
    pub ops: Vec<Op>,
}

/// What a chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// All packets.
    Filter,
    /// The first packet of each connection.
    Nat,
}

/// Where a base chain is attached.
#[derive(Debug)]
pub struct Base {
    /// The hook.
    pub hook: Hook,
    /// Its place among the hook's chains, the lowest first.
    pub priority: i32,
    /// What it is for.
    pub kind: ChainKind,
    /// What becomes of packets that no rule decided: accepted, or dropped.
    pub accept: bool,
    /// Counts these packets.
    pub counter: Option<Arc<Counter>>,
}

/// A chain.
#[derive(Debug)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where it is attached, if it is.
    pub base: Option<Base>,
    /// Its rules.
    pub rules: Vec<Arc<Rule>>,
}

/// A table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// It sees packets of IPv4.
    pub v4: bool,
    /// It sees packets of IPv6.
    pub v6: bool,
    /// Its chains; verdicts name them by their place.
    pub chains: Vec<Chain>,
}

impl Table {
    /// Its base chains, with their places.
    pub fn bases(&self) -> impl Iterator<Item = (usize, &Base)> {
        self.chains.iter().enumerate().filter_map(|(n, chain)| Some((n, chain.base.as_ref()?)))
    }

    /// True if its rules look at connections.
    pub fn tracks(&self) -> bool {
        let nat = self.bases().any(|(_, base)| base.kind == ChainKind::Nat);
        let ops = || self.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.ops);
        nat || ops().any(Op::tracks)
    }

    /// True if, from the base chains on, no jumps lead back to where they came from, and none nest too deep.
    pub fn is_sound(&self) -> bool {
        // Depth of the walk that starts at a chain, once it is known.
        let mut depth: Vec<Option<usize>> = vec![None; self.chains.len()];
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        for (start, _) in self.bases() {
            if depth.get(start).is_some_and(Option::is_some) {
                continue;
            }
            path.push((start, self.targets(start)));
            while let Some((chain, rest)) = path.last_mut() {
                let chain = *chain;
                match rest.pop() {
                    Some(next) if path.iter().any(|(c, _)| *c == next) => return false,
                    Some(next) => match depth.get(next) {
                        None => return false,
                        Some(Some(_)) => {}
                        Some(None) => path.push((next, self.targets(next))),
                    },
                    None => {
                        path.pop();
                        let below = self.targets(chain).into_iter();
                        let below = below.filter_map(|c| depth.get(c).copied().flatten()).max();
                        let own = below.map_or(0, |d| d + 1);
                        if own > MAX_DEPTH {
                            return false;
                        }
                        if let Some(place) = depth.get_mut(chain) {
                            *place = Some(own);
                        }
                    }
                }
            }
        }
        true
    }

    fn targets(&self, chain: usize) -> Vec<usize> {
        let rules = self.chains.get(chain).map(|c| c.rules.as_slice()).unwrap_or_default();
        let mut out: Vec<_> =
            rules.iter().flat_map(|r| &r.ops).flat_map(Op::verdicts).filter_map(target).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Leads a packet through a chain. The end is `Accept`, `Drop` or `Reject`.
    pub fn walk(
        &self,
        start: usize,
        packet: &mut Packet,
        around: &dyn Surroundings,
        filter: &Filter,
    ) -> Verdict {
        let mut stack: Vec<(usize, usize)> = Vec::new();
        let mut at = (start, 0);
        let mut work = MAX_WORK;
        loop {
            let (chain, next) = at;
            let rule = self.chains.get(chain).and_then(|c| c.rules.get(next));
            let verdict = match rule {
                Some(rule) => {
                    at.1 += 1;
                    match work.checked_sub(rule.work()) {
                        Some(left) => work = left,
                        None => return Verdict::Drop,
                    }
                    rule.run(packet, around, filter)
                }
                None => Verdict::Return,
            };
            match verdict {
                Verdict::Continue => {}
                Verdict::Accept | Verdict::Drop | Verdict::Reject(_) => return verdict,
                Verdict::Return => match stack.pop() {
                    Some(back) => at = back,
                    None => return self.policy(start, packet),
                },
                Verdict::Jump(to) => {
                    if stack.len() >= MAX_DEPTH {
                        return Verdict::Drop;
                    }
                    stack.push(at);
                    at = (to, 0);
                }
                Verdict::Goto(to) => at = (to, 0),
            }
        }
    }

    fn policy(&self, chain: usize, packet: &Packet) -> Verdict {
        let Some(base) = self.chains.get(chain).and_then(|c| c.base.as_ref()) else {
            return Verdict::Accept;
        };
        if let Some(counter) = &base.counter {
            counter.count(packet.len());
        }
        if base.accept { Verdict::Accept } else { Verdict::Drop }
    }
}

fn target(verdict: Verdict) -> Option<usize> {
    match verdict {
        Verdict::Jump(to) | Verdict::Goto(to) => Some(to),
        _ => None,
    }
}

impl Rule {
    /// The most work that it is.
    fn work(&self) -> usize {
        1 + self.ops.iter().map(Op::work).sum::<usize>()
    }

    fn run(&self, packet: &mut Packet, around: &dyn Surroundings, filter: &Filter) -> Verdict {
        let mut registers = Registers::default();
        for op in &self.ops {
            match op.run(&mut registers, packet, around, filter) {
                Step::Next => {}
                Step::Break => return Verdict::Continue,
                Step::Verdict(Verdict::Continue) => {}
                Step::Verdict(verdict) => return verdict,
            }
        }
        Verdict::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::AddressType;
    use crate::filter::packet::Ends;
    use std::net::IpAddr;

    struct Nowhere;

    impl Surroundings for Nowhere {
        fn address_type(&self, _: IpAddr) -> AddressType {
            AddressType::Local
        }
        fn device_address(&self, _: u32, _: IpAddr) -> Option<IpAddr> {
            None
        }
        fn random(&self) -> u32 {
            0
        }
        fn log(&self, _: &str) {}
    }

    /// Chains, each of which jumps so many times to the next; the last accepts.
    fn chains(count: usize, jumps: usize) -> Table {
        let rule = |verdict| Arc::new(Rule { ops: vec![Op::Verdict(verdict)] });
        let base = Base {
            hook: Hook::Output,
            priority: 0,
            kind: ChainKind::Filter,
            accept: true,
            counter: None,
        };
        let mut base = Some(base);
        let chains = (1..=count).map(|next| {
            let rules = if next == count {
                vec![rule(Verdict::Return)]
            } else {
                vec![rule(Verdict::Jump(next)); jumps]
            };
            Chain { name: format!("c{next}"), base: base.take(), rules }
        });
        Table { name: "t".into(), v4: true, v6: true, chains: chains.collect() }
    }

    fn walk(table: &Table) -> Verdict {
        let ends = Ends {
            from: ([127, 0, 0, 1], 1).into(),
            to: ([127, 0, 0, 1], 2).into(),
            protocol: 17,
            detail: 0,
        };
        let mut packet = Packet::build(&ends, 64, 0, b"x", 0).unwrap();
        table.walk(0, &mut packet, &Nowhere, &Filter::default())
    }

    #[test]
    fn a_walk_without_end_is_a_packet_dropped() {
        let endless = chains(MAX_DEPTH, 8);
        assert!(endless.is_sound());
        assert_eq!(walk(&endless), Verdict::Drop);
        assert_eq!(walk(&chains(MAX_DEPTH, 2)), Verdict::Accept);
    }
}
