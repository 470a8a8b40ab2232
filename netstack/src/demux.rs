//! Which endpoint a packet is for.
//!
//! Connected endpoints are found by their four-tuple in a sharded hash table; listeners and bound endpoints
//! by port, the best match winning. The table of ports decides who may bind; it is not on the data path.
//! All tables are keyed with a secret, because remote parties choose the keys.

use crate::endpoint::{EndpointId, Family};
use crate::error::{Error, Result};
use crate::iface::IfaceId;
use crate::random::{KeyedHash, addr_words, siphash};
use crate::raw::RawEndpoint;
use crate::tcp::TcpEndpoint;
use crate::tcp::time_wait::TimeWaitTable;
use crate::udp::UdpEndpoint;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

const SHARDS: usize = 64;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FourTuple {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

impl FourTuple {
    pub(crate) fn new(local: (IpAddr, u16), remote: (IpAddr, u16)) -> Self {
        Self { local: SocketAddr::from(local), remote: SocketAddr::from(remote) }
    }

    /// As words for a keyed hash.
    pub(crate) fn words(&self) -> [u64; 5] {
        let l = addr_words(self.local.ip());
        let r = addr_words(self.remote.ip());
        let ports = u64::from(self.local.port()) << 16 | u64::from(self.remote.port());
        [l[0], l[1], r[0], r[1], ports]
    }
}

/// A hash table in pieces with a lock each.
#[derive(Debug)]
pub(crate) struct Tuples<E> {
    shards: Vec<RwLock<HashMap<FourTuple, Arc<E>, KeyedHash>>>,
    key: KeyedHash,
}

impl<E> Tuples<E> {
    fn new(hash: KeyedHash) -> Self {
        let shard = || RwLock::new(HashMap::with_hasher(hash));
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), key: hash }
    }

    fn shard(&self, tuple: &FourTuple) -> Option<&RwLock<HashMap<FourTuple, Arc<E>, KeyedHash>>> {
        let hash = siphash(self.key.0, &tuple.words());
        self.shards.get(hash as usize % SHARDS)
    }

    /// Adds an endpoint; false when the tuple is taken.
    pub(crate) fn insert(&self, tuple: FourTuple, endpoint: Arc<E>) -> bool {
        let Some(shard) = self.shard(&tuple) else { return false };
        match shard.write().entry(tuple) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(endpoint);
                true
            }
        }
    }

    pub(crate) fn get(&self, tuple: &FourTuple) -> Option<Arc<E>> {
        self.shard(tuple)?.read().get(tuple).cloned()
    }

    /// Removes the endpoint, if it is the one that has the tuple.
    pub(crate) fn remove(&self, tuple: &FourTuple, endpoint: *const E) {
        let Some(shard) = self.shard(tuple) else { return };
        let mut shard = shard.write();
        if shard.get(tuple).is_some_and(|e| Arc::as_ptr(e) == endpoint) {
            // Dropped behind the lock: the last reference may do work of its own.
            let gone = shard.remove(tuple);
            drop(shard);
            drop(gone);
        }
    }

    /// All endpoints.
    pub(crate) fn all(&self) -> Vec<Arc<E>> {
        self.shards.iter().flat_map(|s| s.read().values().cloned().collect::<Vec<_>>()).collect()
    }
}

/// Where an endpoint wants packets from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub id: EndpointId,
    pub family: Family,
    /// `None`: all addresses.
    pub addr: Option<IpAddr>,
    pub v6_only: bool,
    pub iface: Option<IfaceId>,
    pub reuse_addr: bool,
    pub reuse_port: bool,
    /// Does not share an address with those that only set `reuse_addr`.
    pub exclusive: bool,
}

impl Bound {
    /// How well the endpoint fits a packet; `None`: not at all.
    fn score(&self, dst: IpAddr, iface: IfaceId) -> Option<u32> {
        let family_ok = match (self.family, dst) {
            (Family::V4, IpAddr::V4(_)) | (Family::V6, IpAddr::V6(_)) => true,
            (Family::V6, IpAddr::V4(_)) => !self.v6_only && self.addr.is_none_or(|a| a.is_ipv4()),
            (Family::V4, IpAddr::V6(_)) => false,
        };
        if !family_ok || self.iface.is_some_and(|i| i != iface) {
            return None;
        }
        let mut score = 1;
        if let Some(addr) = self.addr {
            if addr != dst {
                return None;
            }
            score += 4;
        }
        score += if self.iface.is_some() { 2 } else { 0 };
        score += u32::from((self.family == Family::V4) == dst.is_ipv4());
        Some(score)
    }

    /// True when both would get some packet (Linux's `inet_rcv_saddr_equal`).
    fn overlaps(&self, other: &Self) -> bool {
        if self.iface.is_some() && other.iface.is_some() && self.iface != other.iface {
            return false;
        }
        match (self.addr, other.addr) {
            (Some(a), Some(b)) => a == b,
            (Some(a), None) => other.score(a, other.iface.unwrap_or(IfaceId(0))).is_some(),
            (None, Some(b)) => self.score(b, self.iface.unwrap_or(IfaceId(0))).is_some(),
            (None, None) => {
                self.family == other.family || {
                    let v6 = if self.family == Family::V6 { self } else { other };
                    !v6.v6_only
                }
            }
        }
    }

    fn conflicts(&self, other: &Self) -> bool {
        if !self.overlaps(other) {
            return false;
        }
        let share_addr = self.reuse_addr && other.reuse_addr && !self.exclusive && !other.exclusive;
        let share_port = self.reuse_port && other.reuse_port;
        !(share_addr || share_port)
    }
}

/// Who holds which port of one protocol.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    ports: HashMap<u16, Vec<Bound>>,
    /// Connections whose own socket did not bind (accepted ones): how many, and how many of them keep the
    /// port from those that set `reuse_addr`.
    connections: HashMap<u16, (usize, usize)>,
}

impl Ports {
    /// Takes a port.
    pub(crate) fn bind(&mut self, port: u16, bound: Bound) -> Result<()> {
        let holders = self.ports.entry(port).or_default();
        let (connections, strict) = self.connections.get(&port).copied().unwrap_or_default();
        let busy = strict > 0 || (connections > 0 && !bound.reuse_addr && !bound.reuse_port);
        let rebinding = holders.iter().any(|h| h.id == bound.id);
        if (busy && !rebinding) || holders.iter().any(|h| h.id != bound.id && h.conflicts(&bound)) {
            return Err(Error::AddressInUse);
        }
        holders.retain(|h| h.id != bound.id);
        holders.push(bound);
        Ok(())
    }

    /// Takes a free port of a range, looking from `start` on.
    pub(crate) fn bind_any(&mut self, range: (u16, u16), start: u64, bound: Bound) -> Result<u16> {
        let (low, high) = range;
        let count = u64::from(high.saturating_sub(low)) + 1;
        for n in 0..count {
            let port = low + ((start.wrapping_add(n)) % count) as u16;
            if self.ports.get(&port).is_none_or(Vec::is_empty) {
                self.bind(port, bound)?;
                return Ok(port);
            }
        }
        Err(Error::AddressInUse)
    }

    /// True when nobody holds the port.
    pub(crate) fn is_free(&self, port: u16) -> bool {
        self.ports.get(&port).is_none_or(Vec::is_empty)
    }

    /// Notes a connection on a port that its own socket did not bind.
    pub(crate) fn hold(&mut self, port: u16, reusable: bool) {
        let (all, strict) = self.connections.entry(port).or_default();
        *all += 1;
        *strict += usize::from(!reusable);
    }

    /// Undoes [`hold`](Self::hold).
    pub(crate) fn unhold(&mut self, port: u16, reusable: bool) {
        if let Some((all, strict)) = self.connections.get_mut(&port) {
            *all -= 1;
            *strict -= usize::from(!reusable);
            if *all == 0 {
                self.connections.remove(&port);
            }
        }
    }

    /// Gives a port back.
    pub(crate) fn release(&mut self, port: u16, id: EndpointId) {
        if let Some(holders) = self.ports.get_mut(&port) {
            holders.retain(|h| h.id != id);
            if holders.is_empty() {
                self.ports.remove(&port);
            }
        }
    }
}

/// Endpoints by port.
#[derive(Debug)]
pub(crate) struct PortMap<E> {
    shards: Vec<RwLock<HashMap<u16, Vec<(Bound, Arc<E>)>>>>,
}

impl<E> PortMap<E> {
    fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    pub(crate) fn insert(&self, port: u16, bound: Bound, endpoint: Arc<E>) {
        if let Some(shard) = self.shards.get(usize::from(port) % SHARDS) {
            let mut shard = shard.write();
            let list = shard.entry(port).or_default();
            list.retain(|(b, _)| b.id != bound.id);
            list.push((bound, endpoint));
        }
    }

    pub(crate) fn remove(&self, port: u16, id: EndpointId) {
        let Some(shard) = self.shards.get(usize::from(port) % SHARDS) else { return };
        let mut shard = shard.write();
        let Some(list) = shard.get_mut(&port) else { return };
        let gone: Vec<_> = list.extract_if(.., |(b, _)| b.id == id).collect();
        if list.is_empty() {
            shard.remove(&port);
        }
        drop(shard);
        drop(gone);
    }

    /// The endpoint that fits best; among equals that share the port, `hash` decides (`SO_REUSEPORT`).
    pub(crate) fn best(&self, port: u16, dst: IpAddr, iface: IfaceId, hash: u64) -> Option<Arc<E>> {
        let shard = self.shards.get(usize::from(port) % SHARDS)?.read();
        let list = shard.get(&port)?;
        let best = list.iter().filter_map(|(b, _)| b.score(dst, iface)).max()?;
        let fits = |(b, _): &&(Bound, Arc<E>)| b.score(dst, iface) == Some(best);
        let sharing = list.iter().filter(fits).filter(|(b, _)| b.reuse_port).count();
        if sharing > 1 {
            let nth = (hash % sharing as u64) as usize;
            let mut sharers = list.iter().filter(fits).filter(|(b, _)| b.reuse_port);
            return sharers.nth(nth).map(|(_, e)| e.clone());
        }
        // The one bound last wins, as in Linux for datagrams.
        list.iter().rev().find(fits).map(|(_, e)| e.clone())
    }

    /// True when somebody has bound the port, whatever the address.
    pub(crate) fn is_bound(&self, port: u16) -> bool {
        let shard = self.shards.get(usize::from(port) % SHARDS);
        shard.is_some_and(|shard| shard.read().contains_key(&port))
    }

    /// All on a port.
    pub(crate) fn on(&self, port: u16) -> Vec<Arc<E>> {
        let Some(shard) = self.shards.get(usize::from(port) % SHARDS) else { return Vec::new() };
        let shard = shard.read();
        let list = shard.get(&port).map(Vec::as_slice).unwrap_or_default();
        list.iter().map(|(_, e)| e.clone()).collect()
    }

    /// All that fit, for groups and broadcasts.
    pub(crate) fn matching(&self, port: u16, dst: IpAddr, iface: IfaceId) -> Vec<Arc<E>> {
        let Some(shard) = self.shards.get(usize::from(port) % SHARDS) else { return Vec::new() };
        let shard = shard.read();
        let list = shard.get(&port).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter(|(b, _)| b.score(dst, iface).is_some()).map(|(_, e)| e.clone()).collect()
    }

    /// All endpoints.
    pub(crate) fn all(&self) -> Vec<Arc<E>> {
        let list = |s: &RwLock<HashMap<u16, Vec<(Bound, Arc<E>)>>>| {
            s.read().values().flatten().map(|(_, e)| e.clone()).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(list).collect()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Demux {
    pub tcp: Tuples<TcpEndpoint>,
    pub listeners: PortMap<TcpEndpoint>,
    pub time_wait: Mutex<TimeWaitTable>,
    pub tcp_ports: Mutex<Ports>,
    /// For timers, which name endpoints.
    pub tcp_ids: Mutex<HashMap<EndpointId, Weak<TcpEndpoint>>>,
    pub udp_connected: Tuples<UdpEndpoint>,
    pub udp: PortMap<UdpEndpoint>,
    pub udp_ports: Mutex<Ports>,
    pub raw: RwLock<Vec<Arc<RawEndpoint>>>,
}

impl Demux {
    pub(crate) fn new(hash: KeyedHash) -> Self {
        Self {
            tcp: Tuples::new(hash),
            listeners: PortMap::new(),
            time_wait: Mutex::new(TimeWaitTable::new(hash)),
            tcp_ports: Mutex::default(),
            tcp_ids: Mutex::default(),
            udp_connected: Tuples::new(hash),
            udp: PortMap::new(),
            udp_ports: Mutex::default(),
            raw: RwLock::default(),
        }
    }
}

/// An IPv4 address that came as a mapped IPv6 one, as IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Checks an address against the family of an endpoint.
pub(crate) fn check_family(family: Family, v6_only: bool, addr: SocketAddr) -> Result<SocketAddr> {
    match (family, addr) {
        (Family::V4, SocketAddr::V6(_)) => Err(Error::Family),
        // A mapped address, or IPv4 plainly given.
        (Family::V6, _) if v6_only && addr.ip().to_canonical().is_ipv4() => {
            Err(Error::NetworkUnreachable)
        }
        _ => Ok(canonical(addr)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(id: u64, family: Family, addr: Option<&str>) -> Bound {
        Bound {
            id: EndpointId(id),
            family,
            addr: addr.map(|a| a.parse().unwrap()),
            v6_only: false,
            iface: None,
            reuse_addr: false,
            reuse_port: false,
            exclusive: true,
        }
    }

    #[test]
    fn conflicts_are_linuxs() {
        use Family::{V4, V6};
        let any4 = bound(1, V4, None);
        let any6 = bound(2, V6, None);
        let one4 = bound(3, V4, Some("10.0.0.1"));
        let two4 = bound(4, V4, Some("10.0.0.2"));
        assert!(any4.conflicts(&one4) && one4.conflicts(&any4));
        assert!(!one4.conflicts(&two4));
        assert!(any6.conflicts(&any4) && any6.conflicts(&one4), "dual stack");
        let only6 = Bound { v6_only: true, ..any6 };
        assert!(!only6.conflicts(&any4) && !any4.conflicts(&only6));
        let reuse = |b: Bound| Bound { reuse_addr: true, exclusive: false, ..b };
        assert!(!reuse(any4).conflicts(&reuse(one4)));
        assert!(reuse(any4).conflicts(&one4));
        let listening = Bound { exclusive: true, ..reuse(any4) };
        assert!(listening.conflicts(&reuse(one4)), "a listener shares only by reuse_port");
        let share = |b: Bound| Bound { reuse_port: true, ..b };
        assert!(!share(any4).conflicts(&share(one4)));
        let on = |b: Bound, i| Bound { iface: Some(IfaceId(i)), ..b };
        assert!(!on(any4, 1).conflicts(&on(any4, 2)));
        assert!(on(any4, 1).conflicts(&any4));
    }

    #[test]
    fn ports_are_taken_and_given_back() {
        let mut p = Ports::default();
        let a = bound(1, Family::V4, None);
        let b = bound(2, Family::V4, None);
        p.bind(80, a).unwrap();
        assert_eq!(p.bind(80, b), Err(Error::AddressInUse));
        p.release(80, EndpointId(1));
        p.bind(80, b).unwrap();
        assert_eq!(p.bind_any((80, 81), 0, a), Ok(81));
        assert_eq!(p.bind_any((80, 81), 5, bound(3, Family::V4, None)), Err(Error::AddressInUse));
    }

    #[test]
    fn the_most_specific_endpoint_wins() {
        let m = PortMap::new();
        m.insert(80, bound(1, Family::V4, None), Arc::new(1));
        m.insert(80, bound(2, Family::V4, Some("10.0.0.1")), Arc::new(2));
        m.insert(80, bound(3, Family::V6, None), Arc::new(3));
        let best = |dst: &str| m.best(80, dst.parse().unwrap(), IfaceId(1), 0).map(|e| *e);
        assert_eq!(best("10.0.0.1"), Some(2));
        assert_eq!(best("10.0.0.9"), Some(1), "IPv4 before dual stack");
        assert_eq!(best("2001:db8::1"), Some(3));
        m.remove(80, EndpointId(1));
        assert_eq!(best("10.0.0.9"), Some(3));
        assert_eq!(m.best(81, "10.0.0.1".parse().unwrap(), IfaceId(1), 0), None);
    }

    #[test]
    fn sharers_of_a_port_are_balanced() {
        let m = PortMap::new();
        for id in 0..4 {
            let b = Bound { reuse_port: true, ..bound(id, Family::V4, None) };
            m.insert(80, b, Arc::new(id));
        }
        let dst = "10.0.0.1".parse().unwrap();
        let mut seen = [0; 4];
        for hash in 0..400 {
            seen[*m.best(80, dst, IfaceId(1), hash).unwrap() as usize] += 1;
        }
        assert_eq!(seen, [100; 4]);
    }
}
