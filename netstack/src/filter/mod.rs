//! The packet filter: rules at the five hooks of IPv4 and IPv6, connection tracking and address translation.
//!
//! | module | what |
//! |---|---|
//! | here | [`Filter`]: the rules of a network, and what happens at a hook |
//! | [`packet`] | a packet as rules see it |
//! | [`table`] | tables, chains, rules and verdicts, and how a chain is walked |
//! | [`op`] | the operations of a rule, on registers |
//! | [`matches`], [`set`], [`limit`] | tests: of whole packets, of membership, of rates |
//! | [`conntrack`], [`nat`] | connections and their translation |
//!
//! Two interfaces fill it (iptables' and nf_tables'); each keeps its own form of its rules and installs what
//! this module runs. While nothing is installed, [`Filter::is_active`] is one load.
//!
//! # Bounds
//! The front ends bound tables, chains and rules; a walk ends because jumps nest [`table::MAX_DEPTH`] deep at
//! most and chains do not loop; the table of connections has a limit ([`conntrack`]).
//!
//! # Locks
//! The list of tables, then an entry of the connection table or the table itself; all are leaves for everybody else.

pub mod conntrack;
pub mod limit;
pub mod matches;
pub mod nat;
pub mod op;
pub mod packet;
pub mod set;
pub mod table;

use conntrack::Conntrack;
use packet::Packet;
use parking_lot::RwLock;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use table::{ChainKind, Table, Verdict};

/// Where packets meet rules, with the numbers of `NF_INET_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// All that come in, before it is known whom they are for.
    Prerouting = 0,
    /// Those for this machine.
    Input = 1,
    /// Those for others.
    Forward = 2,
    /// Those of this machine's own.
    Output = 3,
    /// All that go out.
    Postrouting = 4,
}

impl Hook {
    /// The hook with a number.
    pub fn from_number(n: u32) -> Option<Hook> {
        let all = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
        all.get(n as usize).copied()
    }
}

/// What an address is to this machine (`RTN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressType {
    /// "Any address".
    Unspecified = 0,
    /// Another machine's.
    Unicast = 1,
    /// This machine's.
    Local = 2,
    /// A broadcast.
    Broadcast = 3,
    /// A group's.
    Multicast = 5,
    /// There is no way to it.
    Unreachable = 7,
}

/// What rules may ask of the machine.
pub trait Surroundings {
    /// What `ip` is.
    fn address_type(&self, ip: IpAddr) -> AddressType;
    /// The address with which packets to `to` leave by a device (`MASQUERADE`), or that a device answers to
    /// (`REDIRECT`).
    fn device_address(&self, device: u32, to: IpAddr) -> Option<IpAddr>;
    /// A number nobody can guess.
    fn random(&self) -> u32;
    /// A line for the log of the kernel.
    fn log(&self, line: &str);
}

/// How the sender is told of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A TCP reset.
    Reset,
    /// An ICMP or ICMPv6 error: type and code.
    Icmp(u8, u8),
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Accept,
    /// It is gone; perhaps the sender is told.
    Drop(Option<Refusal>),
}

/// Who installed a table: a front end and a number of its own.
pub type Owner = (u8, u32);

/// Priority of connection tracking (`NF_IP_PRI_CONNTRACK`).
const PRIORITY_CONNTRACK: i32 = -200;

struct Attached {
    priority: i32,
    table: Arc<Table>,
    chain: usize,
    kind: ChainKind,
}

#[derive(Default)]
struct Ruleset {
    tables: Vec<(Owner, Arc<Table>)>,
    /// For IPv4 and IPv6, at each hook.
    hooks: [[Vec<Attached>; 5]; 2],
    tracks: bool,
}

impl Ruleset {
    fn new(tables: Vec<(Owner, Arc<Table>)>) -> Ruleset {
        let mut set = Ruleset { tables, ..Ruleset::default() };
        for (_, table) in &set.tables {
            set.tracks |= table.tracks();
            for (chain, base) in table.bases() {
                for (family, wanted) in set.hooks.iter_mut().zip([table.v4, table.v6]) {
                    if let (true, Some(list)) = (wanted, family.get_mut(base.hook as usize)) {
                        let (table, kind) = (table.clone(), base.kind);
                        list.push(Attached { priority: base.priority, table, chain, kind });
                    }
                }
            }
        }
        for list in set.hooks.iter_mut().flatten() {
            list.sort_by_key(|attached| attached.priority);
        }
        set
    }
}

/// The packet filter of a network.
#[derive(Default)]
pub struct Filter {
    active: AtomicBool,
    rules: RwLock<Arc<Ruleset>>,
    /// The connections.
    pub conntrack: Conntrack,
}

impl Filter {
    /// True when there are rules that packets must meet.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// Replaces the tables for which `old` says so by new ones, at once for all packets.
    pub fn replace(&self, old: impl Fn(Owner) -> bool, new: Vec<(Owner, Arc<Table>)>) {
        let mut rules = self.rules.write();
        let kept = rules.tables.iter().filter(|(owner, _)| !old(*owner)).cloned();
        let tables: Vec<_> = kept.chain(new).collect();
        let set = Ruleset::new(tables);
        self.active.store(set.hooks.iter().flatten().any(|l| !l.is_empty()), Ordering::Relaxed);
        *rules = Arc::new(set);
    }

    /// Leads a packet past the rules of a hook.
    pub fn pass(&self, hook: Hook, packet: &mut Packet, around: &dyn Surroundings) -> Fate {
        if !self.is_active() {
            return Fate::Accept;
        }
        let rules = self.rules.read().clone();
        let [v4, v6] = &rules.hooks;
        let family = if packet.is_v6() { v6 } else { v4 };
        let Some(list) = family.get(hook as usize) else { return Fate::Accept };
        packet.hook = hook;
        let mut track = rules.tracks && matches!(hook, Hook::Prerouting | Hook::Output);
        let mut translate = rules.tracks && hook != Hook::Forward;
        for attached in list {
            if track && attached.priority > PRIORITY_CONNTRACK {
                track = false;
                if !self.conntrack.enter(packet) {
                    return Fate::Drop(None);
                }
            }
            if attached.kind == ChainKind::Nat {
                if std::mem::take(&mut translate) {
                    let chains = list.iter().filter(|a| a.kind == ChainKind::Nat);
                    let fate = self.translate(hook, packet, around, chains);
                    if fate != Fate::Accept {
                        return fate;
                    }
                }
                continue;
            }
            match attached.table.walk(attached.chain, packet, around, self) {
                Verdict::Drop => return Fate::Drop(None),
                Verdict::Reject(refusal) => return Fate::Drop(Some(refusal)),
                _ => {}
            }
        }
        if track && !self.conntrack.enter(packet) {
            return Fate::Drop(None);
        }
        if translate {
            let fate = self.translate(hook, packet, around, std::iter::empty());
            if fate != Fate::Accept {
                return fate;
            }
        }
        if matches!(hook, Hook::Postrouting | Hook::Input) && !self.conntrack.confirm(packet) {
            return Fate::Drop(None);
        }
        Fate::Accept
    }

    /// The step of address translation: rules for the first packet of a connection, what they said for all.
    fn translate<'a>(
        &self,
        hook: Hook,
        packet: &mut Packet,
        around: &dyn Surroundings,
        chains: impl Iterator<Item = &'a Attached>,
    ) -> Fate {
        let Some(tracked) = packet.connection.clone() else { return Fate::Accept };
        let manip = nat::Manip::at(hook);
        if tracked.is_first() && !tracked.entry.is_translated(manip) {
            for attached in chains {
                match attached.table.walk(attached.chain, packet, around, self) {
                    Verdict::Drop => return Fate::Drop(None),
                    Verdict::Reject(refusal) => return Fate::Drop(Some(refusal)),
                    _ => {}
                }
                if tracked.entry.is_translated(manip) {
                    break;
                }
            }
            if !tracked.entry.is_translated(manip) {
                nat::set_up(&self.conntrack, &tracked.entry, manip, None, around);
            }
        }
        nat::apply(&tracked, manip, packet);
        Fate::Accept
    }
}
