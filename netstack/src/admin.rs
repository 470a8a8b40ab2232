//! Configuration of a stack: interfaces, addresses, routes, neighbours. What netlink's `route` family asks
//! for.

use crate::error::{Error, Result};
use crate::iface::address::IfaceAddr;
use crate::iface::neighbor::NeighborState;
use crate::iface::{Iface, IfaceId};
use crate::link::Capabilities;
use crate::route::{Cidr, RouteEntry};
use crate::stack::Stack;
use crate::timers::TimerKey;
use crate::wire::ethernet::MacAddr;
use crate::wire::ipv6::solicited_node;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is known of an interface.
#[derive(Clone, Debug)]
pub struct IfaceInfo {
    /// Its number.
    pub id: IfaceId,
    /// Its name.
    pub name: String,
    /// What its link can do.
    pub capabilities: Capabilities,
    /// Sends and receives.
    pub up: bool,
    /// Packets received, bytes received, packets sent, bytes sent, packets dropped at the send queue.
    pub counters: [u64; 5],
}

impl Stack {
    /// All interfaces.
    pub fn interfaces(&self) -> Vec<IfaceInfo> {
        let info = |i: &std::sync::Arc<Iface>| IfaceInfo {
            id: i.id,
            name: i.name.clone(),
            capabilities: Capabilities { mac: i.mac(), mtu: i.mtu(), ..i.caps },
            up: i.is_up(),
            counters: [
                i.stats.rx_packets.get(),
                i.stats.rx_bytes.get(),
                i.stats.tx_packets.get(),
                i.stats.tx_bytes.get(),
                i.stats.tx_dropped.get(),
            ],
        };
        self.ifaces.read().iter().map(info).collect()
    }

    /// Turns an interface on or off. Off, it neither sends nor receives; addresses and routes stay.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn set_up(&self, iface: IfaceId, up: bool) -> Result<()> {
        self.iface(iface)?.up.store(up, Ordering::Relaxed);
        Ok(())
    }

    /// Changes the largest packet of an interface, in bytes.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn set_mtu(&self, iface: IfaceId, mtu: usize) -> Result<()> {
        self.iface(iface)?.set_mtu(mtu);
        Ok(())
    }

    /// Changes the hardware address of an interface that has one. Neighbours learn of it when they ask again.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn set_mac(&self, iface: IfaceId, mac: MacAddr) -> Result<()> {
        self.iface(iface)?.set_mac(mac);
        Ok(())
    }

    /// Takes away all routes through an interface.
    pub fn remove_routes_of(&self, iface: IfaceId) {
        let mut routes = self.routes.write();
        let gone: Vec<RouteEntry> =
            routes.entries().iter().filter(|e| e.iface == iface).copied().collect();
        for route in gone {
            routes.remove(&route);
        }
    }

    /// Gives the routes back that follow from an interface's addresses.
    ///
    /// # Errors
    /// [`Error::NoDevice`]; [`Error::NoBuffers`] when the table is full.
    pub fn restore_routes_of(&self, iface: IfaceId) -> Result<()> {
        let own: Vec<Cidr> =
            self.iface(iface)?.addresses.read().list().iter().map(|a| a.cidr).collect();
        let mut routes = self.routes.write();
        for cidr in own {
            let max = if cidr.addr().is_ipv4() { 32 } else { 128 };
            let route = connected_route(iface, cidr);
            let known = |e: &RouteEntry| (e.dst, e.iface, e.via) == (route.dst, iface, None);
            if cidr.prefix_len() < max && !routes.entries().iter().any(known) {
                routes.add(route)?;
            }
        }
        Ok(())
    }

    /// Gives an interface an address, with the route to its network. An IPv6 address can be used at once.
    ///
    /// # Errors
    /// [`Error::AddressInUse`] when there is one already, [`Error::NoBuffers`] at the limits.
    pub fn add_address(&self, iface: IfaceId, cidr: Cidr) -> Result<()> {
        self.insert_address(
            iface,
            IfaceAddr {
                cidr,
                tentative_until: None,
                preferred_until: None,
                valid_until: None,
                automatic: false,
            },
        )
    }

    /// As [`add_address`](Self::add_address), after duplicate address detection (RFC 4862, section 5.4): the
    /// address can be used a second later, unless someone else has it.
    ///
    /// # Errors
    /// As [`add_address`](Self::add_address); [`Error::Invalid`] for IPv4.
    pub fn add_address_with_dad(&self, iface: IfaceId, addr: Ipv6Addr, len: u8) -> Result<()> {
        let cidr = Cidr::new(addr.into(), len).ok_or(Error::Invalid)?;
        let until = Some(self.now() + Duration::from_secs(1));
        let addr = IfaceAddr {
            cidr,
            tentative_until: until,
            preferred_until: None,
            valid_until: None,
            automatic: false,
        };
        self.insert_address(iface, addr)
    }

    pub(crate) fn insert_address(&self, id: IfaceId, addr: IfaceAddr) -> Result<()> {
        let iface = self.iface(id)?;
        let ip = addr.cidr.addr();
        {
            let mut locals = self.locals.write();
            if locals.contains_key(&ip) && !iface.is_loopback() {
                return Err(Error::AddressInUse);
            }
            iface.addresses.write().add(addr)?;
            locals.insert(ip, id);
        }
        if !iface.is_loopback() {
            let max = if ip.is_ipv4() { 32 } else { 128 };
            if addr.cidr.prefix_len() < max {
                let route = connected_route(id, addr.cidr);
                let mut routes = self.routes.write();
                // The first address of a network is its source.
                let known = |e: &RouteEntry| {
                    (e.dst, e.iface, e.via, e.metric) == (route.dst, id, None, route.metric)
                };
                if !routes.entries().iter().any(known) {
                    routes.add(route)?;
                }
            }
            if let IpAddr::V6(v6) = ip {
                let joined = iface.groups.lock().join(solicited_node(v6).into(), self.now());
                if addr.tentative_until.is_some() {
                    self.solicit_duplicate(&iface, v6);
                }
                joined?;
            }
        }
        self.iface_timer(id, self.now());
        self.flush();
        Ok(())
    }

    /// Takes an address away, with the route to its network unless another address needs that.
    ///
    /// # Errors
    /// [`Error::AddressNotAvailable`] when the interface does not have it.
    pub fn remove_address(&self, id: IfaceId, addr: IpAddr) -> Result<()> {
        let iface = self.iface(id)?;
        let old = {
            let mut locals = self.locals.write();
            let old = iface.addresses.write().remove(addr).ok_or(Error::AddressNotAvailable)?;
            locals.remove(&addr);
            old
        };
        self.address_gone(&iface, old);
        self.flush();
        Ok(())
    }

    pub(crate) fn address_gone(&self, iface: &Iface, old: IfaceAddr) {
        let other = iface
            .addresses
            .read()
            .list()
            .iter()
            .map(|a| a.cidr)
            .find(|a| a.prefix_len() == old.cidr.prefix_len() && a.contains(old.cidr.addr()));
        let mut routes = self.routes.write();
        routes.remove(&connected_route(iface.id, old.cidr));
        if let Some(other) = other {
            // There is room: one was just removed.
            let _ = routes.add(connected_route(iface.id, other));
        }
        drop(routes);
        if let IpAddr::V6(v6) = old.cidr.addr() {
            // Not a member when the interface is the loopback's; nothing to undo then.
            let _ = iface.groups.lock().leave(solicited_node(v6).into(), self.now());
        }
    }

    /// Adds a route, or replaces the one with the same destination, interface, next hop and metric.
    ///
    /// # Errors
    /// [`Error::NoDevice`]; [`Error::Family`] when the next hop is of another family; [`Error::NoBuffers`]
    /// when the table is full.
    pub fn add_route(&self, route: RouteEntry) -> Result<()> {
        self.iface(route.iface)?;
        if route.via.is_some_and(|via| via.is_ipv4() != route.dst.addr().is_ipv4()) {
            return Err(Error::Family);
        }
        self.routes.write().add(route)
    }

    /// Removes a route; false when there was none.
    pub fn remove_route(&self, route: &RouteEntry) -> bool {
        self.routes.write().remove(route)
    }

    /// All routes, best first. Local and broadcast addresses are not among them.
    pub fn routes(&self) -> Vec<RouteEntry> {
        self.routes.read().entries().to_vec()
    }

    /// How packets to `dst` leave, through `iface` when one is given: the source address and the interface.
    ///
    /// # Errors
    /// [`Error::NetworkUnreachable`] without a route, [`Error::NoDevice`].
    pub fn route_to(&self, dst: IpAddr, iface: Option<IfaceId>) -> Result<(IpAddr, IfaceId)> {
        let route = self.find_route(dst, None, iface)?;
        Ok((route.src, route.iface.id))
    }

    /// The neighbours of an interface.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn neighbors(
        &self,
        iface: IfaceId,
    ) -> Result<Vec<(IpAddr, Option<MacAddr>, NeighborState)>> {
        Ok(self.iface(iface)?.neighbors.lock().list())
    }

    /// Sets a neighbour's link address by hand.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn set_neighbor(&self, iface: IfaceId, addr: IpAddr, mac: MacAddr) -> Result<()> {
        let iface = self.iface(iface)?;
        let waiting = iface.neighbors.lock().set(addr, mac, self.now());
        self.send_resolved(&iface, mac, waiting);
        self.flush();
        Ok(())
    }

    /// Forgets a neighbour; false when it was not known.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn remove_neighbor(&self, iface: IfaceId, addr: IpAddr) -> Result<bool> {
        Ok(self.iface(iface)?.neighbors.lock().remove(addr))
    }

    /// Makes an interface take part in IPv6: a link-local address from its hardware address, and, with
    /// `accept_ra`, addresses and routes from the routers it hears (RFC 4862).
    ///
    /// # Errors
    /// [`Error::Invalid`] when the link has no hardware address.
    pub fn enable_ipv6(&self, iface: IfaceId, accept_ra: bool) -> Result<()> {
        let i = self.iface(iface)?;
        let mac = i.mac().ok_or(Error::Invalid)?;
        i.accept_ra.store(accept_ra, Ordering::Relaxed);
        let addr = crate::iface::ndp::address_in(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), mac);
        self.add_address_with_dad(iface, addr, 64)
    }

    /// Joins a multicast group on an interface, on behalf of an endpoint or the caller.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no group; [`Error::TooManyMemberships`].
    pub fn join_group(&self, iface: IfaceId, group: IpAddr) -> Result<()> {
        if !group.is_multicast() {
            return Err(Error::Invalid);
        }
        let first = self.iface(iface)?.groups.lock().join(group, self.now())?;
        self.after_group_change(iface, first);
        Ok(())
    }

    /// Undoes one [`join_group`](Self::join_group).
    ///
    /// # Errors
    /// [`Error::AddressNotAvailable`] when not a member.
    pub fn leave_group(&self, iface: IfaceId, group: IpAddr) -> Result<()> {
        let last = self.iface(iface)?.groups.lock().leave(group, self.now())?;
        self.after_group_change(iface, last);
        Ok(())
    }

    /// The groups that an interface is a member of.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn groups(&self, iface: IfaceId) -> Result<Vec<IpAddr>> {
        Ok(self.iface(iface)?.groups.lock().list())
    }

    fn after_group_change(&self, iface: IfaceId, report: bool) {
        if report {
            self.set_timer(TimerKey::Iface(iface), Some(self.now()));
            self.iface_timer(iface, self.now());
            self.flush();
        }
    }
}

fn connected_route(iface: IfaceId, cidr: Cidr) -> RouteEntry {
    RouteEntry {
        dst: cidr.network(),
        via: None,
        iface,
        source: Some(cidr.addr()),
        metric: 0,
        mtu: None,
    }
}
