//! Ports: who is bound to which, and which sockets of one port get along.
//!
//! A table for each protocol, hashed by port. A socket holds its place through a [`Claim`], which the
//! connections that a listener accepted share: the port is free when the last of them is gone.

use super::addr::Endpoint;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use rustc_hash::FxHashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

const SHARDS: usize = 64;

/// What a socket is bound to, and with whom it shares that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Address; unspecified for all of them.
    pub ip: IpAddr,
    /// An IPv6 wildcard that leaves IPv4 alone (`IPV6_V6ONLY`).
    pub only_v6: bool,
    /// The socket's family is IPv4.
    pub v4_socket: bool,
    /// Index of the interface (`SO_BINDTODEVICE`); 0 for all.
    pub device: u32,
    /// `SO_REUSEADDR`.
    pub reuse_addr: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// Who bound it: only the same user shares it with `SO_REUSEPORT`.
    pub uid: u32,
    /// Accepts connections.
    pub listening: bool,
    /// Receives from this peer only (connected datagram sockets).
    pub peer: Option<Endpoint>,
    /// The ports it may be given (`IP_LOCAL_PORT_RANGE`): first and last, in the low and high half; where one is 0, the
    /// network's.
    pub range: u32,
    /// Taken by `connect(2)` on its own: others may connect from the same port elsewhere.
    pub by_connect: bool,
}

impl Binding {
    /// True if traffic to `ip` reaches it.
    pub fn covers(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V6(own), IpAddr::V4(_)) => own.is_unspecified() && !self.only_v6,
            (own, ip) => own == ip || (own.is_unspecified() && own.is_ipv4() == ip.is_ipv4()),
        }
    }

    fn overlaps(&self, other: &Binding) -> bool {
        if self.device != 0 && other.device != 0 && self.device != other.device {
            return false;
        }
        self.covers(other.ip) || other.covers(self.ip)
    }

    /// True if it cannot be bound beside `other`. `streams`: with a listener nothing is shared
    /// through `SO_REUSEADDR`.
    fn conflicts(&self, other: &Binding, streams: bool) -> bool {
        if !self.overlaps(other) {
            return false;
        }
        let listening = streams && other.listening;
        let by_addr = self.reuse_addr && other.reuse_addr && !listening;
        let by_port = self.reuse_port && other.reuse_port && self.uid == other.uid;
        !by_addr && !by_port
    }

    /// How well it fits traffic to `ip` from `from` on interface `device`; `None` if not at all.
    pub fn score(&self, ip: IpAddr, from: Endpoint, device: u32) -> Option<u32> {
        if !self.covers(ip) || (self.device != 0 && self.device != device) {
            return None;
        }
        if self.peer.is_some_and(|p| p != from) {
            return None;
        }
        let points = [
            (self.peer.is_some(), 8),
            (!self.ip.is_unspecified(), 4),
            (self.device != 0, 2),
            (self.v4_socket, 1),
        ];
        Some(points.iter().filter(|(yes, _)| *yes).map(|(_, n)| n).sum())
    }
}

struct Entry<S> {
    id: u64,
    binding: Binding,
    socket: Weak<S>,
    /// Who it is about to connect with: not among the connections yet.
    connecting: Option<Endpoint>,
}

type Shard<S> = Mutex<FxHashMap<u16, Vec<Entry<S>>>, { rank::LEAF }>;

/// The ports of one protocol.
pub struct Ports<S> {
    shards: [Shard<S>; SHARDS],
    next_id: AtomicU64,
    random: AtomicU32,
    streams: bool,
    /// First and last ephemeral port (`ip_local_port_range`), in the low and high half.
    range: Arc<AtomicU32>,
}

/// A place in the table; it is given back with the last reference.
pub struct Claim<S> {
    table: Arc<Ports<S>>,
    id: u64,
    port: u16,
}

impl<S> Claim<S> {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The connection that the port was taken for is among the connections, or has failed.
    pub fn has_connected(&self) {
        let mut shard = self.table.shard(self.port).lock();
        let mut entries = shard.get_mut(&self.port).into_iter().flatten();
        if let Some(entry) = entries.find(|entry| entry.id == self.id) {
            entry.connecting = None;
        }
    }

    /// Changes what is bound. With `check` the change must not collide with others (`EADDRINUSE`).
    pub fn update(&self, check: bool, change: impl FnOnce(&mut Binding)) -> Result<()> {
        let mut shard = self.table.shard(self.port).lock();
        let Some(entries) = shard.get_mut(&self.port) else { return Ok(()) };
        let Some(at) = entries.iter().position(|e| e.id == self.id) else { return Ok(()) };
        let Some(mut new) = entries.get(at).map(|e| e.binding) else { return Ok(()) };
        change(&mut new);
        let streams = self.table.streams;
        let collides = |e: &Entry<S>| e.id != self.id && new.conflicts(&e.binding, streams);
        if check && entries.iter().any(collides) {
            return Err(Errno::EADDRINUSE);
        }
        if let Some(entry) = entries.get_mut(at) {
            entry.binding = new;
        }
        Ok(())
    }
}

impl<S> Drop for Claim<S> {
    fn drop(&mut self) {
        let mut shard = self.table.shard(self.port).lock();
        let Some(entries) = shard.get_mut(&self.port) else { return };
        entries.retain(|e| e.id != self.id);
        if entries.is_empty() {
            shard.remove(&self.port);
        }
    }
}

impl<S> Ports<S> {
    /// An empty table. `streams`: listeners are exclusive; `range`: the ephemeral ports.
    pub fn new(streams: bool, range: Arc<AtomicU32>) -> Arc<Ports<S>> {
        let mut seed = [0; 4];
        // Without randomness the ports are predictable, which harms nobody inside one sandbox.
        let _ = platform::host::random::fill(&mut seed);
        Arc::new(Ports {
            shards: std::array::from_fn(|_| Mutex::new(FxHashMap::default())),
            next_id: AtomicU64::new(1),
            random: AtomicU32::new(u32::from_ne_bytes(seed)),
            streams,
            range,
        })
    }

    fn shard(&self, port: u16) -> &Shard<S> {
        let [first, ..] = &self.shards;
        self.shards.get(usize::from(port) % SHARDS).unwrap_or(first)
    }

    /// A number to begin a search with.
    fn next_random(&self) -> u32 {
        // A Weyl sequence through a mixer: cheap, and not the order of the ports.
        let n = self.random.fetch_add(0x9e37_79b9, Ordering::Relaxed);
        let n = (n ^ n >> 16).wrapping_mul(0x85eb_ca6b);
        (n ^ n >> 13).wrapping_mul(0xc2b2_ae35) ^ n >> 16
    }

    fn insert(
        self: &Arc<Self>,
        port: u16,
        binding: Binding,
        socket: &Weak<S>,
        connecting: Option<Endpoint>,
        free: impl FnOnce(&[Entry<S>]) -> bool,
    ) -> Option<Arc<Claim<S>>> {
        let mut shard = self.shard(port).lock();
        let entries = shard.entry(port).or_default();
        if !free(entries) {
            return None;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        entries.push(Entry { id, binding, socket: socket.clone(), connecting });
        Some(Arc::new(Claim { table: self.clone(), id, port }))
    }

    /// Takes a port; 0 is any free one. `EADDRINUSE`.
    pub fn bind(
        self: &Arc<Self>,
        port: u16,
        binding: Binding,
        socket: &Weak<S>,
    ) -> Result<Arc<Claim<S>>> {
        let free = |entries: &[Entry<S>]| {
            !entries.iter().any(|e| binding.conflicts(&e.binding, self.streams))
        };
        if port != 0 {
            return self.insert(port, binding, socket, None, free).ok_or(Errno::EADDRINUSE);
        }
        self.ephemeral(binding.range)
            .find_map(|port| self.insert(port, binding, socket, None, <[_]>::is_empty))
            .or_else(|| {
                let mut ports = self.ephemeral(binding.range);
                ports.find_map(|p| self.insert(p, binding, socket, None, free))
            })
            .ok_or(Errno::EADDRINUSE)
    }

    /// Takes a port to connect to `peer` from, until [`Claim::has_connected`] for this connection alone. `unused` says whether
    /// a port that others have connected from is still free towards the peer. `EADDRNOTAVAIL`.
    pub fn bind_to_connect(
        self: &Arc<Self>,
        binding: Binding,
        peer: Endpoint,
        socket: &Weak<S>,
        unused: impl Fn(u16) -> bool,
    ) -> Result<Arc<Claim<S>>> {
        let binding = Binding { by_connect: true, ..binding };
        // An empty list is shared by all who are in it.
        let shared = |entries: &[Entry<S>]| {
            let other = |e: &Entry<S>| e.binding.ip != binding.ip || e.connecting != Some(peer);
            entries.iter().all(|e| e.binding.by_connect && other(e))
        };
        self.ephemeral(binding.range)
            .filter(|port| unused(*port))
            // Another may have connected from there since.
            .find_map(|port| {
                let claim = self.insert(port, binding, socket, Some(peer), shared)?;
                unused(port).then_some(claim)
            })
            .ok_or(Errno::EADDRNOTAVAIL)
    }

    /// The ephemeral ports, from a random one on. `own`: the range that a socket has asked for, which counts within the
    /// network's.
    fn ephemeral(&self, own: u32) -> impl Iterator<Item = u16> + use<S> {
        let range = self.range.load(Ordering::Relaxed);
        let (mut low, mut high) = (range & 0xffff, range >> 16);
        let (first, last) = (own & 0xffff, own >> 16);
        if (low..=high).contains(&first) {
            low = first;
        }
        if (low..=high).contains(&last) {
            high = last;
        }
        let count = high.saturating_sub(low) + 1;
        let start = self.next_random() % count;
        (0..count).filter_map(move |i| u16::try_from(low + (start + i) % count).ok())
    }

    /// The socket that traffic to `to` from `from` reaches. Among the members of a `SO_REUSEPORT`
    /// group the peer's address decides, otherwise the latest.
    pub fn find(
        &self,
        to: Endpoint,
        from: Endpoint,
        device: u32,
        fits: impl Fn(&Binding) -> bool,
    ) -> Option<Arc<S>> {
        // What is found must be let go without the lock: the last reference cleans up.
        let mut gone = Vec::new();
        let shard = self.shard(to.port).lock();
        let entries = shard.get(&to.port)?;
        let score = |e: &Entry<S>| {
            if fits(&e.binding) { e.binding.score(to.ip, from, device) } else { None }
        };
        let best = entries.iter().filter_map(score).max()?;
        let equal = || entries.iter().filter(|e| score(e) == Some(best));
        let group = equal().filter(|e| e.binding.reuse_port).count();
        let found = if group > 1 {
            let hash = super::table::hash(&(to, from)) as usize;
            let mut members = equal().filter(|e| e.binding.reuse_port);
            members.nth(hash % group).and_then(|e| e.socket.upgrade())
        } else {
            None
        };
        let found = found.or_else(|| {
            let mut living = None;
            for entry in equal() {
                gone.extend(living.take());
                living = entry.socket.upgrade();
            }
            living
        });
        drop(shard);
        drop(gone);
        found
    }

    /// Every socket that traffic to `to` from `from` reaches (multicast, broadcast).
    pub fn find_all(
        &self,
        to: Endpoint,
        from: Endpoint,
        device: u32,
        fits: impl Fn(&Binding) -> bool,
    ) -> Vec<Arc<S>> {
        let shard = self.shard(to.port).lock();
        let Some(entries) = shard.get(&to.port) else { return Vec::new() };
        entries
            .iter()
            .filter(|e| fits(&e.binding) && e.binding.score(to.ip, from, device).is_some())
            .filter_map(|e| e.socket.upgrade())
            .collect()
    }

    /// Every bound socket, in no order.
    pub fn all(&self) -> Vec<Arc<S>> {
        let mut out = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            out.extend(shard.values().flatten().filter_map(|e| e.socket.upgrade()));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(ip: &str) -> Binding {
        let ip: IpAddr = ip.parse().unwrap();
        Binding {
            ip,
            only_v6: false,
            v4_socket: ip.is_ipv4(),
            device: 0,
            reuse_addr: false,
            reuse_port: false,
            uid: 0,
            listening: false,
            peer: None,
            range: 0,
            by_connect: false,
        }
    }

    fn table(streams: bool) -> Arc<Ports<u8>> {
        Ports::new(streams, Arc::new(AtomicU32::new(32768 | 32770 << 16)))
    }

    #[test]
    fn wildcards_collide_across_families() {
        let (t, s) = (table(true), Arc::new(1));
        let weak = Arc::downgrade(&s);
        let six = t.bind(80, binding("::"), &weak).unwrap();
        assert!(t.bind(80, binding("127.0.0.1"), &weak).is_err());
        drop(six);
        let only = t.bind(80, Binding { only_v6: true, ..binding("::") }, &weak).unwrap();
        let four = t.bind(80, binding("127.0.0.1"), &weak).unwrap();
        assert!(t.bind(80, binding("127.0.0.1"), &weak).is_err());
        assert!(t.bind(80, binding("127.0.0.2"), &weak).is_ok());
        drop((only, four));
        assert!(t.shard(80).lock().is_empty());
    }

    #[test]
    fn sharing() {
        let (t, s) = (table(true), Arc::new(1));
        let weak = Arc::downgrade(&s);
        let reuse = Binding { reuse_addr: true, ..binding("0.0.0.0") };
        let a = t.bind(80, reuse, &weak).unwrap();
        let b = t.bind(80, reuse, &weak).unwrap();
        a.update(true, |b| b.listening = true).unwrap();
        b.update(true, |b| b.listening = true).unwrap_err();
        drop(b);
        assert!(t.bind(80, reuse, &weak).is_err());
        let port = Binding { reuse_port: true, ..binding("0.0.0.0") };
        let _c = t.bind(81, port, &weak).unwrap();
        assert!(t.bind(81, Binding { uid: 5, ..port }, &weak).is_err());
        assert!(t.bind(81, port, &weak).is_ok());
    }

    #[test]
    fn ephemeral_ports_run_out() {
        let (t, s) = (table(false), Arc::new(1));
        let weak = Arc::downgrade(&s);
        let held: Vec<_> = (0..3).map(|_| t.bind(0, binding("0.0.0.0"), &weak).unwrap()).collect();
        assert_eq!(t.bind(0, binding("0.0.0.0"), &weak).err(), Some(Errno::EADDRINUSE));
        assert!(t.bind(0, binding("::1"), &weak).is_ok());
        drop(held);
        assert!(t.bind(0, binding("0.0.0.0"), &weak).is_ok());
    }

    #[test]
    fn two_that_connect_at_once_have_ports_of_their_own() {
        let (t, s) = (table(true), Arc::new(1));
        let weak = Arc::downgrade(&s);
        let peer = |port| Endpoint::new("127.0.0.1".parse().unwrap(), port);
        let connect = |to| t.bind_to_connect(binding("127.0.0.1"), peer(to), &weak, |_| true);
        let held: Vec<_> = (0..3).map(|_| connect(80).unwrap()).collect();
        assert_eq!(connect(80).err(), Some(Errno::EADDRNOTAVAIL));
        assert!(connect(81).is_ok());
        // From now on the table of connections says what is used.
        held[1].has_connected();
        assert_eq!(connect(80).unwrap().port(), held[1].port());
        let none = t.bind_to_connect(binding("127.0.0.1"), peer(80), &weak, |_| false);
        assert_eq!(none.err(), Some(Errno::EADDRNOTAVAIL));
        drop(held);
        assert!((0..3).all(|_| connect(80).is_ok()));
    }

    #[test]
    fn the_best_fit_wins() {
        let t = table(false);
        let (wild, exact, dual) = (Arc::new(1), Arc::new(2), Arc::new(3));
        let _a = t.bind(9, binding("0.0.0.0"), &Arc::downgrade(&wild));
        let exact_ip = Binding { reuse_addr: true, ..binding("127.0.0.1") };
        assert!(t.bind(9, exact_ip, &Arc::downgrade(&exact)).is_err());
        let from = Endpoint::new("127.0.0.1".parse().unwrap(), 1);
        let to = |ip: &str, port| Endpoint::new(ip.parse().unwrap(), port);
        assert_eq!(t.find(to("127.0.0.9", 9), from, 1, |_| true).as_deref(), Some(&1));
        let _b = t.bind(10, binding("::"), &Arc::downgrade(&dual));
        assert_eq!(t.find(to("127.0.0.1", 10), from, 1, |_| true).as_deref(), Some(&3));
        assert_eq!(t.find(to("127.0.0.1", 11), from, 1, |_| true), None);
    }
}
