//! News of `NETLINK_ROUTE`: what has changed, for sockets that are members of the groups (`RTNLGRP_*`).

use super::message::Answer;
use super::route;
use super::socket::NetlinkSocket;
use crate::socket::inet::Net;
use crate::socket::inet::admin::neighbor::Neighbor;
use crate::socket::inet::interface::{Address, Interface};
use crate::sync::{RwLock, rank};
use netstack::RouteEntry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// `RTNLGRP_LINK`
const LINK: u32 = 1;
/// `RTNLGRP_NEIGH`
const NEIGH: u32 = 3;
/// `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR`
const ADDRESS: [u32; 2] = [5, 9];
/// `RTNLGRP_IPV4_ROUTE` and `RTNLGRP_IPV6_ROUTE`
const ROUTE: [u32; 2] = [7, 11];

/// Whose request has changed something: port id and number of the message; zeroes for nobody's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cause {
    /// `nlmsg_pid`
    pub port: u32,
    /// `nlmsg_seq`
    pub seq: u32,
}

/// The sockets of a network that are members of groups.
#[derive(Default)]
pub struct Listeners {
    sockets: RwLock<Vec<Weak<NetlinkSocket>>, { rank::LEAF }>,
    count: AtomicUsize,
}

impl Listeners {
    /// A socket has become a member of something.
    pub fn add(&self, socket: &Weak<NetlinkSocket>) {
        let mut sockets = self.sockets.write();
        if !sockets.iter().any(|s| s.ptr_eq(socket)) {
            sockets.push(socket.clone());
        }
        self.count.store(sockets.len(), Ordering::SeqCst);
    }

    /// A socket is closed.
    pub fn remove(&self, socket: &Weak<NetlinkSocket>) {
        let mut sockets = self.sockets.write();
        sockets.retain(|s| !s.ptr_eq(socket));
        self.count.store(sockets.len(), Ordering::SeqCst);
    }

    fn all(&self) -> Vec<Arc<NetlinkSocket>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        self.sockets.read().iter().filter_map(Weak::upgrade).collect()
    }
}

/// Tells the members of a group what `put` writes.
fn tell(net: &Net, group: u32, cause: Cause, put: impl FnOnce(&mut Answer)) {
    let listeners = net.listeners.all();
    if listeners.is_empty() {
        return;
    }
    let mut answer = Answer::new(cause.seq, cause.port, false);
    put(&mut answer);
    for message in answer.into_datagrams() {
        for socket in &listeners {
            socket.announce(group, &message);
        }
    }
}

/// An interface is new, or has changed in the flags `change`.
pub fn link(net: &Net, index: u32, change: u32, cause: Cause) {
    tell(net, LINK, cause, |out| {
        if let Some(interface) = net.with_device(index, Interface::clone) {
            route::put_link(net, &interface, change, false, out);
        }
    });
}

/// An interface is gone.
pub fn link_gone(net: &Net, interface: &Interface, cause: Cause) {
    tell(net, LINK, cause, |out| route::put_link(net, interface, u32::MAX, true, out));
}

/// Routes that follow from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// To the address, its network and its broadcast address.
    All,
    /// To the address.
    Own,
    /// To the network and the broadcast address.
    Others,
    /// None.
    None,
}

/// An interface was started, and routes of an address that it had with it; `early`: but for the one to the address.
pub fn started(net: &Net, index: u32, address: &Address, early: bool, cause: Cause) {
    let Some(interface) = net.with_device(index, Interface::clone) else { return };
    let [v4, v6] = ROUTE;
    let group = if address.ip.is_ipv4() { v4 } else { v6 };
    let which = if early { Which::Others } else { Which::All };
    tell(net, group, cause, |out| route::put_routes_of(&interface, address, which, true, out));
}

/// An interface has got an address, or lost it; and with it the routes that follow from it.
pub fn address(net: &Net, index: u32, address: &Address, new: bool, cause: Cause) {
    let Some(interface) = net.with_device(index, Interface::clone) else { return };
    let pick = |[v4, v6]: [u32; 2]| if address.ip.is_ipv4() { v4 } else { v6 };
    // On an interface that is down only the address itself leads anywhere.
    let which = match (interface.is_up(), address.ip.is_ipv4()) {
        (true, _) => Which::All,
        (false, true) => Which::Own,
        (false, false) => Which::None,
    };
    let routes = |out: &mut Answer| route::put_routes_of(&interface, address, which, new, out);
    let own = |out: &mut Answer| route::put_address(&interface, address, new, out);
    if new {
        tell(net, pick(ADDRESS), cause, own);
        tell(net, pick(ROUTE), cause, routes);
    } else {
        tell(net, pick(ROUTE), cause, routes);
        tell(net, pick(ADDRESS), cause, own);
    }
}

/// A route is new, or gone.
pub fn route(net: &Net, entry: &RouteEntry, new: bool, cause: Cause) {
    let [v4, v6] = ROUTE;
    let group = if entry.dst.addr().is_ipv4() { v4 } else { v6 };
    tell(net, group, cause, |out| route::put_given(net, *entry, new, out));
}

/// A neighbour was set by hand, or forgotten.
pub fn neighbor(net: &Net, neighbor: &Neighbor, new: bool, cause: Cause) {
    tell(net, NEIGH, cause, |out| route::put_neighbor(neighbor, new, out));
}
