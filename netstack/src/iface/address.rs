//! The addresses of an interface, their lifetimes, and the choice of a source address.

use crate::error::{Error, Result};
use crate::route::Cidr;
use crate::time::{Instant, earliest};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of one interface. More is refused; SLAAC takes at most half.
const MAX: usize = 256;

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfaceAddr {
    /// The address and the network it is in.
    pub cidr: Cidr,
    /// Duplicate address detection runs until then; the address is not used before.
    pub tentative_until: Option<Instant>,
    /// Not to be chosen for new connections from then on.
    pub preferred_until: Option<Instant>,
    /// Removed then.
    pub valid_until: Option<Instant>,
    /// Made from a router's advertisement.
    pub automatic: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    list: Vec<IfaceAddr>,
}

impl Addresses {
    /// Adds an address.
    pub(crate) fn add(&mut self, addr: IfaceAddr) -> Result<()> {
        if self.find(addr.cidr.addr()).is_some() {
            return Err(Error::AddressInUse);
        }
        let max = if addr.automatic { MAX / 2 } else { MAX };
        if self.list.len() >= max {
            return Err(Error::NoBuffers);
        }
        self.list.push(addr);
        Ok(())
    }

    /// Removes an address.
    pub(crate) fn remove(&mut self, addr: IpAddr) -> Option<IfaceAddr> {
        let at = self.list.iter().position(|a| a.cidr.addr() == addr)?;
        Some(self.list.remove(at))
    }

    pub(crate) fn find(&self, addr: IpAddr) -> Option<&IfaceAddr> {
        self.list.iter().find(|a| a.cidr.addr() == addr)
    }

    pub(crate) fn find_mut(&mut self, addr: IpAddr) -> Option<&mut IfaceAddr> {
        self.list.iter_mut().find(|a| a.cidr.addr() == addr)
    }

    pub(crate) fn list(&self) -> &[IfaceAddr] {
        &self.list
    }

    /// True when `addr` is the broadcast address of one of the networks.
    pub(crate) fn is_broadcast(&self, addr: Ipv4Addr) -> bool {
        self.list.iter().any(|a| a.cidr.broadcast() == Some(addr))
    }

    /// The source address for packets to `dst` by way of `next_hop`.
    pub(crate) fn source_for(&self, dst: IpAddr, next_hop: IpAddr, now: Instant) -> Option<IpAddr> {
        let usable = self
            .list
            .iter()
            .filter(|a| a.tentative_until.is_none() && a.cidr.addr().is_ipv4() == dst.is_ipv4());
        match dst {
            IpAddr::V4(_) => {
                let mut usable = usable;
                let first = usable.clone().next();
                usable.find(|a| a.cidr.contains(next_hop)).or(first).map(|a| a.cidr.addr())
            }
            // RFC 6724, section 5, as far as it distinguishes what we have: rules 1, 2, 3 and 8.
            IpAddr::V6(dst) => usable
                .max_by_key(|a| {
                    let IpAddr::V6(addr) = a.cidr.addr() else { return (false, 0, false, 0) };
                    let (have, want) = (scope(addr), scope(dst));
                    let fits = if have >= want { 100 - (have - want) } else { have };
                    let preferred = a.preferred_until.is_none_or(|until| now < until);
                    let common = (u128::from(addr) ^ u128::from(dst)).leading_zeros();
                    (addr == dst, fits, preferred, common.min(a.cidr.prefix_len().into()))
                })
                .map(|a| a.cidr.addr()),
        }
    }

    /// Ends duplicate address detection and lifetimes that are over. Returns the addresses that became
    /// usable and those that were removed.
    pub(crate) fn poll(&mut self, now: Instant) -> (Vec<IfaceAddr>, Vec<IfaceAddr>) {
        let over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut ready = Vec::new();
        for a in &mut self.list {
            if over(a.tentative_until) {
                a.tentative_until = None;
                ready.push(*a);
            }
        }
        let gone: Vec<_> = self.list.extract_if(.., |a| over(a.valid_until)).collect();
        (ready, gone)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.list
            .iter()
            .fold(None, |at, a| earliest(earliest(at, a.tentative_until), a.valid_until))
    }
}

/// The scope of an address as a number (RFC 4291, section 2.7).
fn scope(addr: Ipv6Addr) -> i32 {
    let o = addr.octets();
    match o {
        [0xff, second, ..] => i32::from(second & 15),
        [0xfe, second, ..] if second & 0xc0 == 0x80 => 2,
        _ if addr.is_loopback() => 2,
        _ => 14,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[(&str, u8)]) -> Addresses {
        let mut out = Addresses::default();
        for (addr, len) in list {
            let cidr = Cidr::new(addr.parse().unwrap(), *len).unwrap();
            out.add(fixed(cidr)).unwrap();
        }
        out
    }

    fn fixed(cidr: Cidr) -> IfaceAddr {
        IfaceAddr {
            cidr,
            tentative_until: None,
            preferred_until: None,
            valid_until: None,
            automatic: false,
        }
    }

    fn source(a: &Addresses, dst: &str, next: &str) -> String {
        let addr = a.source_for(dst.parse().unwrap(), next.parse().unwrap(), Instant::ZERO);
        addr.map(|a| a.to_string()).unwrap_or_default()
    }

    #[test]
    fn ipv4_prefers_the_network_of_the_next_hop() {
        let a = addresses(&[("10.0.0.1", 24), ("192.168.0.1", 24)]);
        assert_eq!(source(&a, "8.8.8.8", "192.168.0.254"), "192.168.0.1");
        assert_eq!(source(&a, "8.8.8.8", "172.16.0.1"), "10.0.0.1");
    }

    #[test]
    fn ipv6_prefers_the_scope_then_the_longest_prefix() {
        let a = addresses(&[("fe80::1", 64), ("2001:db8:1::1", 64), ("2001:db8:2::1", 64)]);
        assert_eq!(source(&a, "fe80::9", "fe80::9"), "fe80::1");
        assert_eq!(source(&a, "ff02::1", "ff02::1"), "fe80::1");
        assert_eq!(source(&a, "2001:db8:2::9", "fe80::9"), "2001:db8:2::1");
        assert_eq!(source(&a, "2001:db8:1::9", "fe80::9"), "2001:db8:1::1");
    }

    #[test]
    fn deprecated_addresses_come_last_and_tentative_ones_not_at_all() {
        let mut a = addresses(&[("2001:db8::1", 64), ("2001:db8::2", 64)]);
        a.find_mut("2001:db8::1".parse().unwrap()).unwrap().preferred_until = Some(Instant::ZERO);
        assert_eq!(source(&a, "2001:db8::1:1", "fe80::1"), "2001:db8::2");
        a.find_mut("2001:db8::2".parse().unwrap()).unwrap().tentative_until =
            Some(Instant::from_millis(1));
        assert_eq!(source(&a, "2001:db8::1:1", "fe80::1"), "2001:db8::1");
        let (ready, gone) = a.poll(Instant::from_millis(1));
        assert_eq!((ready.len(), gone.len()), (1, 0));
    }

    #[test]
    fn lifetimes_end() {
        let mut a = addresses(&[("2001:db8::1", 64)]);
        let addr = "2001:db8::1".parse().unwrap();
        a.find_mut(addr).unwrap().valid_until = Some(Instant::from_millis(5));
        assert_eq!(a.deadline(), Some(Instant::from_millis(5)));
        assert_eq!(a.poll(Instant::from_millis(4)).1.len(), 0);
        assert_eq!(a.poll(Instant::from_millis(5)).1.len(), 1);
        assert!(a.find(addr).is_none());
    }
}
