//! Neighbour discovery for IPv6 (RFC 4861) and stateless address configuration (RFC 4862): what comes in.
//!
//! Redirects are ignored: a host behind one router gains nothing by them, and anyone on the link can send
//! them.

use super::Iface;
use super::address::IfaceAddr;
use super::neighbor::Claim;
use crate::iface::IfaceId;
use crate::route::{Cidr, RouteEntry};
use crate::stack::Stack;
use crate::time::Instant;
use crate::wire::ethernet::MacAddr;
use crate::wire::icmp::v6;
use crate::wire::{ipv6, ndp};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The metric of routes that routers announce (`IP6_RT_PRIO_USER`).
const METRIC: u32 = 1024;
/// The least lifetime that an unauthenticated advertisement can cut an address to (RFC 4862, section 5.5.3).
const TWO_HOURS: Duration = Duration::from_secs(7200);
/// Default routers remembered for each interface.
const MAX_ROUTERS: usize = 16;

/// The address with a prefix of 64 bits and the interface identifier of a hardware address.
pub(crate) fn address_in(prefix: Ipv6Addr, mac: MacAddr) -> Ipv6Addr {
    let high = u128::from(prefix) >> 64 << 64;
    Ipv6Addr::from(high | u128::from(u64::from_be_bytes(mac.interface_id())))
}

impl Stack {
    /// A message of neighbour discovery, its checksum right. `body` starts behind the checksum.
    pub(crate) fn input_ndp(
        &self,
        iface: &Arc<Iface>,
        kind: u8,
        code: u8,
        header: &ipv6::Header,
        body: &[u8],
    ) {
        // What has passed a router is forged (RFC 4861, section 6.1 and 7.1).
        if header.hop_limit != 255 || code != 0 {
            self.stats().icmp_in_errors.inc();
            return;
        }
        let ok = match kind {
            v6::NEIGHBOR_SOLICIT => self.neighbor_solicit(iface, header, body),
            v6::NEIGHBOR_ADVERT => self.neighbor_advert(iface, header, body),
            v6::ROUTER_ADVERT => self.router_advert(iface, header, body),
            _ => Some(()),
        };
        if ok.is_none() {
            self.stats().icmp_in_errors.inc();
        }
        self.arm_iface(iface);
    }

    fn neighbor_solicit(
        &self,
        iface: &Arc<Iface>,
        header: &ipv6::Header,
        body: &[u8],
    ) -> Option<()> {
        let (target, options) = ndp::parse_solicit(body)?;
        if target.is_multicast() {
            return None;
        }
        let detection = header.src.is_unspecified();
        if detection && (options.source.is_some() || header.dst != ipv6::solicited_node(target)) {
            return None;
        }
        let addr = iface.addresses.read().find(target.into()).copied();
        let Some(addr) = addr else { return Some(()) };
        if addr.tentative_until.is_some() {
            // Two hosts detect at the same time: neither may have the address. Questions that are not part
            // of a detection are not answered yet.
            if detection {
                self.duplicate(iface, target);
            }
            return Some(());
        }
        let mac = iface.mac()?;
        if detection {
            let message = ndp::emit_advert(target, mac, false);
            self.send_icmpv6(iface, target, ipv6::ALL_NODES, None, message);
            return Some(());
        }
        let message = ndp::emit_advert(target, mac, true);
        if let Some(from) = options.source {
            let claim = Claim::Heard { override_: true };
            let now = self.now();
            let waiting = iface.neighbors.lock().learn(header.src.into(), from, claim, true, now);
            self.send_resolved(iface, from, waiting);
        }
        self.send_icmpv6(iface, target, header.src, options.source, message);
        Some(())
    }

    fn neighbor_advert(
        &self,
        iface: &Arc<Iface>,
        header: &ipv6::Header,
        body: &[u8],
    ) -> Option<()> {
        let advert = ndp::parse_advert(body)?;
        if advert.target.is_multicast() || (header.dst.is_multicast() && advert.solicited) {
            return None;
        }
        let ours = iface.addresses.read().find(advert.target.into()).copied();
        if let Some(ours) = ours {
            if ours.tentative_until.is_some() {
                self.duplicate(iface, advert.target);
            }
            return Some(());
        }
        if let Some(mac) = advert.options.target {
            let override_ = advert.override_;
            let claim = match advert.solicited {
                true => Claim::Answer { override_ },
                false => Claim::Heard { override_ },
            };
            let now = self.now();
            let waiting =
                iface.neighbors.lock().learn(advert.target.into(), mac, claim, false, now);
            self.send_resolved(iface, mac, waiting);
        } else if advert.solicited {
            iface.neighbors.lock().confirm(advert.target.into(), self.now());
        }
        Some(())
    }

    fn duplicate(&self, iface: &Arc<Iface>, addr: Ipv6Addr) {
        // Cannot fail but for a race with a removal by hand, which has the same end.
        let _ = self.remove_address(iface.id, addr.into());
    }

    fn router_advert(&self, iface: &Arc<Iface>, header: &ipv6::Header, body: &[u8]) -> Option<()> {
        let advert = ndp::parse_router_advert(body)?;
        if !header.src.is_unicast_link_local() {
            return None;
        }
        if !iface.accept_ra.load(Ordering::Relaxed) {
            return Some(());
        }
        let now = self.now();
        if let Some(mac) = advert.options.source {
            let claim = Claim::Heard { override_: true };
            let waiting = iface.neighbors.lock().learn(header.src.into(), mac, claim, true, now);
            self.send_resolved(iface, mac, waiting);
        }
        let mtu = advert.options.mtu.map(|mtu| mtu as usize);
        let mtu = mtu.filter(|&mtu| mtu >= ipv6::MIN_MTU && mtu <= iface.mtu());
        self.default_router(iface, header.src, advert.lifetime, mtu);
        for prefix in &advert.options.prefixes {
            let link_local = prefix.prefix.is_unicast_link_local();
            if prefix.autonomous
                && prefix.len == 64
                && !link_local
                && prefix.preferred <= prefix.valid
            {
                self.autonomous(iface, prefix, now);
            }
        }
        Some(())
    }

    fn default_router(&self, iface: &Iface, router: Ipv6Addr, lifetime: u16, mtu: Option<usize>) {
        let route = RouteEntry {
            dst: Cidr::any(true),
            via: Some(router.into()),
            iface: iface.id,
            source: None,
            metric: METRIC,
            mtu,
        };
        let mut routes = self.routes.write();
        let known = |r: &&RouteEntry| r.iface == iface.id && r.metric == METRIC && r.via.is_some();
        if lifetime == 0 {
            routes.remove(&route);
        } else if routes.entries().iter().filter(known).count() < MAX_ROUTERS {
            // Only a full table refuses, and then there is nobody to tell.
            let _ = routes.add(route);
        }
    }

    fn autonomous(&self, iface: &Arc<Iface>, prefix: &ndp::Prefix, now: Instant) {
        let Some(mac) = iface.mac() else { return };
        let addr = address_in(prefix.prefix, mac);
        let until = |secs: u32| (secs != u32::MAX).then(|| now + Duration::from_secs(secs.into()));
        {
            let mut addresses = iface.addresses.write();
            if let Some(old) = addresses.find_mut(addr.into()) {
                old.preferred_until = until(prefix.preferred);
                // A short lifetime from who knows whom does not take the address away at once.
                let left = old.valid_until.map_or(Duration::MAX, |at| at.since(now));
                let offered = Duration::from_secs(prefix.valid.into());
                if offered > TWO_HOURS || offered > left {
                    old.valid_until = until(prefix.valid);
                } else if left > TWO_HOURS {
                    old.valid_until = Some(now + TWO_HOURS);
                }
                return;
            }
        }
        if prefix.valid == 0 {
            return;
        }
        let Some(cidr) = Cidr::new(addr.into(), 64) else { return };
        let new = IfaceAddr {
            cidr,
            tentative_until: Some(now + Duration::from_secs(1)),
            preferred_until: until(prefix.preferred),
            valid_until: until(prefix.valid),
            automatic: true,
        };
        // Only the limit on addresses refuses.
        let _ = self.insert_address(iface.id, new);
    }

    /// Addresses whose detection or lifetime has ended.
    pub(crate) fn poll_addresses(&self, iface: &Arc<Iface>, now: Instant) {
        let (ready, gone) = iface.addresses.write().poll(now);
        for addr in ready {
            if let IpAddr::V6(addr) = addr.cidr.addr()
                && addr.is_unicast_link_local()
                && iface.accept_ra.load(Ordering::Relaxed)
            {
                self.solicit_routers(iface, addr);
            }
        }
        for addr in gone {
            self.locals.write().remove(&addr.cidr.addr());
            self.address_gone(iface, addr);
        }
    }

    /// The interface of a zone index.
    pub(crate) fn zone(&self, scope_id: u32) -> Option<IfaceId> {
        (scope_id != 0).then_some(IfaceId(scope_id))
    }
}
