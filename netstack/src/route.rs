//! The routing table: longest prefix first, then lowest metric.

use crate::error::{Error, Result};
use crate::iface::IfaceId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Routes in a table. More is refused.
const MAX_ROUTES: usize = 4096;

/// A network: an address and the number of its leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    addr: IpAddr,
    len: u8,
}

impl Cidr {
    /// `None` when `len` is longer than the address.
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        let max = if addr.is_ipv4() { 32 } else { 128 };
        (len <= max).then_some(Self { addr, len })
    }

    /// The address as given, host part too.
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// The length of the prefix.
    pub fn prefix_len(self) -> u8 {
        self.len
    }

    /// True when `other` lies in the network.
    pub fn contains(self, other: IpAddr) -> bool {
        match (self.addr, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0);
                (u32::from(a) ^ u32::from(b)) & mask == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.len)).unwrap_or(0);
                (u128::from(a) ^ u128::from(b)) & mask == 0
            }
            _ => false,
        }
    }

    /// The network alone: the host part is zero.
    pub fn network(self) -> Self {
        let addr = match self.addr {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0);
                Ipv4Addr::from(u32::from(a) & mask).into()
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.len)).unwrap_or(0);
                Ipv6Addr::from(u128::from(a) & mask).into()
            }
        };
        Self { addr, len: self.len }
    }

    /// The network's broadcast address; networks of one or two addresses have none (RFC 3021).
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        match self.addr {
            IpAddr::V4(a) if self.len < 31 => {
                let host = u32::MAX.checked_shr(self.len.into()).unwrap_or(0);
                Some(Ipv4Addr::from(u32::from(a) | host))
            }
            _ => None,
        }
    }

    /// All of a family.
    pub fn any(v6: bool) -> Self {
        let addr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        Self { addr, len: 0 }
    }
}

/// An entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Destinations it is for.
    pub dst: Cidr,
    /// The next hop; `None`: the destinations are on the link.
    pub via: Option<IpAddr>,
    /// Where packets leave.
    pub iface: IfaceId,
    /// The source address to prefer.
    pub source: Option<IpAddr>,
    /// Lower wins among equally long prefixes.
    pub metric: u32,
    /// The path's MTU, when it is smaller than the link's.
    pub mtu: Option<usize>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    entries: Vec<RouteEntry>,
}

impl RouteTable {
    /// Adds a route; one with the same destination, interface, next hop and metric is replaced.
    pub(crate) fn add(&mut self, entry: RouteEntry) -> Result<()> {
        let entry = RouteEntry { dst: entry.dst.network(), ..entry };
        self.remove(&entry);
        if self.entries.len() >= MAX_ROUTES {
            return Err(Error::NoBuffers);
        }
        let order = |e: &RouteEntry| (std::cmp::Reverse(e.dst.len), e.metric);
        let at = self.entries.partition_point(|e| order(e) <= order(&entry));
        self.entries.insert(at, entry);
        Ok(())
    }

    /// Removes the route with the same destination, interface, next hop and metric.
    pub(crate) fn remove(&mut self, entry: &RouteEntry) -> bool {
        let key = |e: &RouteEntry| (e.dst.network(), e.iface, e.via, e.metric);
        let before = self.entries.len();
        self.entries.retain(|e| key(e) != key(entry));
        self.entries.len() != before
    }

    /// The best route, through `iface` when one is given.
    pub(crate) fn lookup(&self, dst: IpAddr, iface: Option<IfaceId>) -> Option<&RouteEntry> {
        self.entries
            .iter()
            .find(|e| e.dst.contains(dst) && iface.is_none_or(|iface| iface == e.iface))
    }

    /// All routes, best first.
    pub(crate) fn entries(&self) -> &[RouteEntry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dst: &str, len: u8, iface: u32, metric: u32) -> RouteEntry {
        RouteEntry {
            dst: Cidr::new(dst.parse().unwrap(), len).unwrap(),
            via: None,
            iface: IfaceId(iface),
            source: None,
            metric,
            mtu: None,
        }
    }

    fn table(entries: &[RouteEntry]) -> RouteTable {
        let mut t = RouteTable::default();
        for e in entries {
            t.add(*e).unwrap();
        }
        t
    }

    fn lookup(t: &RouteTable, dst: &str) -> Option<u32> {
        t.lookup(dst.parse().unwrap(), None).map(|e| e.iface.0)
    }

    #[test]
    fn the_longest_prefix_wins_in_any_order_of_insertion() {
        let e = [
            entry("0.0.0.0", 0, 1, 0),
            entry("10.0.0.0", 8, 2, 0),
            entry("10.1.0.0", 16, 3, 0),
            entry("10.1.2.3", 32, 4, 0),
        ];
        for e in [e, [e[3], e[1], e[0], e[2]]] {
            let t = table(&e);
            assert_eq!(lookup(&t, "10.1.2.3"), Some(4));
            assert_eq!(lookup(&t, "10.1.2.4"), Some(3));
            assert_eq!(lookup(&t, "10.2.0.1"), Some(2));
            assert_eq!(lookup(&t, "9.9.9.9"), Some(1));
            assert_eq!(lookup(&t, "::1"), None, "the default route is for its family");
        }
    }

    #[test]
    fn the_lowest_metric_wins_among_equals() {
        let t = table(&[entry("10.0.0.0", 8, 1, 20), entry("10.0.0.0", 8, 2, 10)]);
        assert_eq!(lookup(&t, "10.0.0.1"), Some(2));
        assert_eq!(t.lookup("10.0.0.1".parse().unwrap(), Some(IfaceId(1))).unwrap().metric, 20);
    }

    #[test]
    fn adding_again_replaces_and_removal_is_exact() {
        let mut t = table(&[entry("10.0.0.0", 8, 1, 1)]);
        t.add(RouteEntry { mtu: Some(1400), ..entry("10.0.0.0", 8, 1, 1) }).unwrap();
        assert_eq!(t.entries().len(), 1);
        assert!(!t.remove(&entry("10.0.0.0", 9, 1, 1)));
        assert!(t.remove(&entry("10.0.0.0", 8, 1, 1)));
        assert_eq!(lookup(&t, "10.0.0.1"), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut t = RouteTable::default();
        for i in 0..MAX_ROUTES as u32 {
            t.add(entry("10.0.0.0", 8, 1, i)).unwrap();
        }
        assert_eq!(t.add(entry("10.0.0.0", 8, 1, u32::MAX)), Err(Error::NoBuffers));
    }

    #[test]
    fn networks_know_their_members_and_broadcast() {
        let net = Cidr::new("192.168.3.7".parse().unwrap(), 24).unwrap();
        assert!(net.contains("192.168.3.255".parse().unwrap()));
        assert!(!net.contains("192.168.4.0".parse().unwrap()));
        assert_eq!(net.broadcast(), Some("192.168.3.255".parse().unwrap()));
        assert_eq!(Cidr::new("10.0.0.0".parse().unwrap(), 31).unwrap().broadcast(), None);
        assert!(Cidr::any(true).contains("2001:db8::1".parse().unwrap()));
        assert_eq!(Cidr::new("10.0.0.0".parse().unwrap(), 33), None);
    }
}
