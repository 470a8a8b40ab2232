//! Questions of `NETLINK_ROUTE` (`rtnetlink(7)`): links, addresses, routes, neighbours, rules.

use super::message::{Answer, Body, Request, attribute, u32_at};
use super::notify::Which;
use crate::errno::{Errno, Result};
use crate::socket::inet::admin::MTU;
use crate::socket::inet::admin::neighbor::Neighbor;
use crate::socket::inet::interface::{
    Address, IFF_LOWER_UP, IFF_RUNNING, IFF_UP, Interface, Interfaces, LOOPBACK,
};
use crate::socket::inet::links::tun::ARPHRD_NONE;
use crate::socket::inet::{AF_INET, AF_INET6, Net};
use netstack::RouteEntry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

/// Types of requests.
mod kind {
    pub const NEWLINK: u16 = 16;
    pub const DELLINK: u16 = 17;
    pub const GETLINK: u16 = 18;
    pub const NEWADDR: u16 = 20;
    pub const DELADDR: u16 = 21;
    pub const GETADDR: u16 = 22;
    pub const NEWROUTE: u16 = 24;
    pub const DELROUTE: u16 = 25;
    pub const GETROUTE: u16 = 26;
    pub const NEWNEIGH: u16 = 28;
    pub const DELNEIGH: u16 = 29;
    pub const GETNEIGH: u16 = 30;
    pub const NEWRULE: u16 = 32;
    pub const GETRULE: u16 = 34;
    pub const GETQDISC: u16 = 38;
    pub const GETTCLASS: u16 = 42;
    pub const GETMULTICAST: u16 = 58;
    pub const GETANYCAST: u16 = 62;
    pub const GETNEIGHTBL: u16 = 66;
    pub const GETADDRLABEL: u16 = 74;
    pub const GETNETCONF: u16 = 82;
}

const IFLA_IFNAME: u16 = 3;
const IFLA_ALT_IFNAME: u16 = 53;
/// Size of `struct ifinfomsg` and `struct rtmsg`.
const IFINFOMSG: usize = 16;
const RTMSG: usize = 12;

const TABLE_LOCAL: u8 = 255;
const TABLE_MAIN: u8 = 254;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const PROTO_KERNEL: u8 = 2;
const PROTO_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;

/// Answers a question. `EOPNOTSUPP` for one that nobody here can answer.
pub fn answer(net: &Net, request: &Request<'_>, dump: bool, out: &mut Answer) -> Result<()> {
    let family = i32::from(request.body.first().copied().unwrap_or(0));
    match request.kind {
        kind::GETLINK => links(net, request, dump, out),
        kind::GETADDR if dump => {
            addresses(net, family, out);
            Ok(())
        }
        kind::GETROUTE if dump => {
            for route in routes(net).iter().filter(|r| family == 0 || r.family() == family) {
                route.put(true, out);
            }
            Ok(())
        }
        kind::GETROUTE => one_route(net, request, out),
        kind::GETRULE if dump => {
            rules(family, out);
            Ok(())
        }
        kind::GETNEIGH if dump => {
            let all = net.neighbors();
            let wanted = |n: &&Neighbor| family == 0 || family_of(n.ip) == family;
            all.iter().filter(wanted).for_each(|n| put_neighbor(n, true, out));
            Ok(())
        }
        // There are none of these.
        kind::GETQDISC
        | kind::GETTCLASS
        | kind::GETMULTICAST
        | kind::GETANYCAST
        | kind::GETNEIGHTBL
        | kind::GETADDRLABEL
        | kind::GETNETCONF
            if dump =>
        {
            Ok(())
        }
        kind::GETNEIGH => Err(Errno::ENOENT),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn links(net: &Net, request: &Request<'_>, dump: bool, out: &mut Answer) -> Result<()> {
    if dump {
        // Looking at the other end of a pair takes the lock of its network's list.
        let all: Vec<Interface> = net.interfaces.read().iter().cloned().collect();
        all.iter().for_each(|i| put_link(net, i, 0, false, out));
        return Ok(());
    }
    let interfaces = net.interfaces.read();
    let index = u32_at(request.body, 4).ok_or(Errno::EINVAL)?;
    let name = |kind| attribute(request.body, IFINFOMSG, kind);
    let found = match name(IFLA_IFNAME).or_else(|| name(IFLA_ALT_IFNAME)) {
        _ if index != 0 => interfaces.get(index),
        Some(name) => interfaces.named(name.split(|b| *b == 0).next().unwrap_or_default()),
        None => return Err(Errno::EINVAL),
    };
    let found = found.ok_or(Errno::ENODEV)?.clone();
    drop(interfaces);
    put_link(net, &found, 0, false, out);
    Ok(())
}

/// Packets and bytes that an interface has received, and those that it has sent.
fn traffic(net: &Net, interface: &Interface) -> [u64; 4] {
    let counters = &net.counters;
    if interface.is_loopback() {
        // What is received over the loopback interface is what was sent.
        let [packets, bytes] =
            [&counters.lo_packets, &counters.lo_bytes].map(|c| c.load(Ordering::Relaxed));
        return [packets, packets, bytes, bytes];
    }
    let all = net.stack().map(|stack| stack.interfaces()).unwrap_or_default();
    let own = all.iter().find(|i| i.id.0 == interface.index).map(|i| i.counters);
    own.map_or([0; 4], |[rx, rx_bytes, tx, tx_bytes, _]| [rx, tx, rx_bytes, tx_bytes])
}

/// An interface; `change`: the flags that have changed, `gone`: it was removed.
pub(super) fn put_link(
    net: &Net,
    interface: &Interface,
    change: u32,
    gone: bool,
    out: &mut Answer,
) {
    let up = interface.flags & IFF_UP != 0;
    let carrier = interface.made.as_ref().is_none_or(|made| made.has_carrier());
    let flags = match up {
        true if carrier => interface.flags | IFF_LOWER_UP,
        _ => interface.flags & !IFF_RUNNING,
    };
    let peer = interface.made.as_ref().and_then(|made| made.peer());
    let traffic = traffic(net, interface);
    let fixed = [
        &[0u8, 0][..],
        &interface.kind.to_ne_bytes(),
        &interface.index.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &change.to_ne_bytes(),
    ]
    .concat();
    out.put(if gone { kind::DELLINK } else { kind::NEWLINK }, &fixed, |b| {
        b.text(IFLA_IFNAME, &interface.name);
        b.number(13, interface.queue_len);
        // Operational state: up, unknown as always for the loopback interface, or down; link mode: default.
        b.attr(
            16,
            &[if !up {
                2
            } else if interface.is_loopback() {
                0
            } else if !carrier {
                // The other end of a pair is not there: `IF_OPER_LOWERLAYERDOWN`.
                if peer.is_some() { 3 } else { 2 }
            } else {
                6
            }],
        );
        b.attr(17, &[0]);
        b.number(4, interface.mtu);
        // What the MTU can be.
        let [least, most] = if interface.is_loopback() { [0; 2] } else { MTU };
        b.number(50, least);
        b.number(51, most);
        b.number(27, 0);
        b.number(30, interface.promiscuity);
        b.number(31, 1);
        b.number(32, 1);
        b.attr(33, &[u8::from(up && carrier)]);
        b.text(6, if up { b"noqueue" } else { b"noop" });
        if interface.kind != ARPHRD_NONE {
            b.attr(1, &interface.mac);
            b.attr(2, if interface.is_loopback() { &[0; 6] } else { &[0xff; 6] });
        }
        let mut stats = [0u64; 24];
        for (place, value) in stats.iter_mut().zip(traffic) {
            *place = value;
        }
        let wide: Vec<u8> = stats.iter().flat_map(|n| n.to_ne_bytes()).collect();
        let narrow: Vec<u8> = stats.iter().flat_map(|n| (*n as u32).to_ne_bytes()).collect();
        b.attr(23, &wide);
        b.attr(7, &narrow);
        if let Some(made) = &interface.made {
            b.nested(18, |b| b.attr(1, made.kind().as_bytes()));
        }
        if let Some((there, index)) = &peer {
            b.number(5, *index);
            if !std::ptr::eq(net, &**there) {
                b.attr(37, &net.numbers.give(there).to_ne_bytes());
            }
        }
    });
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn family_of(ip: IpAddr) -> i32 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn scope(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => SCOPE_LINK,
        ip if ip.is_loopback() => SCOPE_HOST,
        _ => 0,
    }
}

fn addresses(net: &Net, family: i32, out: &mut Answer) {
    let interfaces = net.interfaces.read();
    for wanted in [AF_INET, AF_INET6].into_iter().filter(|f| family == 0 || *f == family) {
        for interface in interfaces.iter() {
            let own = interface.addresses.iter().filter(|a| family_of(a.ip) == wanted);
            own.for_each(|a| put_address(interface, a, true, out));
        }
    }
}

/// An address of an interface, that it has or (not `new`) has lost.
pub(super) fn put_address(interface: &Interface, a: &Address, new: bool, out: &mut Answer) {
    // `IFA_F_PERMANENT`
    const PERMANENT: u8 = 0x80;
    let mut fixed = vec![family_of(a.ip) as u8, a.prefix, PERMANENT, scope(a.ip)];
    fixed.extend_from_slice(&interface.index.to_ne_bytes());
    out.put(if new { kind::NEWADDR } else { kind::DELADDR }, &fixed, |b| {
        b.attr(1, &octets(a.ip));
        if a.ip.is_ipv4() {
            b.attr(2, &octets(a.ip));
            if let Some(broadcast) =
                a.broadcast().filter(|_| a.has_broadcast && !interface.is_loopback())
            {
                b.attr(4, &broadcast.octets());
            }
            b.text(3, &interface.name);
        }
        b.number(8, u32::from(PERMANENT));
        let mut cache = [0xff; 16];
        if let Some(stamps) = cache.get_mut(8..) {
            stamps.fill(0);
        }
        b.attr(6, &cache);
    });
}

/// One route.
#[derive(Clone, Copy)]
struct Route {
    to: IpAddr,
    prefix: u8,
    table: u8,
    scope: u8,
    kind: u8,
    device: u32,
    via: Option<IpAddr>,
    source: Option<IpAddr>,
    metric: Option<u32>,
    /// It follows from an address.
    kernel: bool,
}

impl Route {
    fn family(&self) -> i32 {
        family_of(self.to)
    }

    /// A route of the stack; of the interfaces those follow by themselves that lead to their networks.
    fn given(route: RouteEntry, interfaces: &Interfaces) -> Self {
        let own = interfaces.get(route.iface.0).map(|i| i.addresses.as_slice()).unwrap_or_default();
        let connected = route.via.is_none()
            && own.iter().any(|a| {
                a.prefix == route.dst.prefix_len()
                    && route.dst.contains(a.ip)
                    && route.source == Some(a.ip)
            });
        let v6 = route.dst.addr().is_ipv6();
        Self {
            kernel: connected,
            to: route.dst.addr(),
            prefix: route.dst.prefix_len(),
            table: TABLE_MAIN,
            scope: if v6 || route.via.is_some() { 0 } else { SCOPE_LINK },
            kind: RTN_UNICAST,
            device: route.iface.0,
            via: route.via,
            source: route.source.filter(|_| !(v6 && connected)),
            metric: match route.metric {
                0 if v6 && connected => Some(256),
                metric => (metric != 0).then_some(metric),
            },
        }
    }

    fn put(&self, new: bool, out: &mut Answer) {
        let mut fixed = vec![self.family() as u8, self.prefix, 0, 0, self.table];
        fixed.extend_from_slice(&[if self.kernel { PROTO_KERNEL } else { PROTO_BOOT }]);
        fixed.extend_from_slice(&[self.scope, self.kind]);
        fixed.extend_from_slice(&0u32.to_ne_bytes());
        out.put(if new { kind::NEWROUTE } else { kind::DELROUTE }, &fixed, |b: &mut Body| {
            b.number(15, u32::from(self.table));
            if self.prefix > 0 {
                b.attr(1, &octets(self.to));
            }
            if let Some(via) = self.via {
                b.attr(5, &octets(via));
            }
            if let Some(metric) = self.metric {
                b.number(6, metric);
            }
            if let Some(source) = self.source {
                b.attr(7, &octets(source));
            }
            b.number(4, self.device);
            if self.family() == AF_INET6 {
                // `RTA_PREF`: medium.
                b.attr(20, &[0]);
            }
        });
    }
}

/// The routes that the sandbox was given, and those that follow from the addresses: the machine's own, and
/// its networks.
fn routes(net: &Net) -> Vec<Route> {
    let interfaces = net.interfaces.read();
    // A stack knows the routes that follow from addresses, and which of them were taken away.
    let given = match net.stack() {
        Some(stack) => stack.routes(),
        None => net.uplink.get().map(|up| up.given_routes(&interfaces)).unwrap_or_default(),
    };
    let mut out: Vec<Route> = given.into_iter().map(|r| Route::given(r, &interfaces)).collect();
    for i in interfaces.iter().filter(|i| i.flags & IFF_UP != 0) {
        for a in &i.addresses {
            let of_stack =
                |r: &Route| net.stack().is_some() && r.table == TABLE_MAIN && !i.is_loopback();
            out.extend(routes_of(i, a).into_iter().filter(|r| !of_stack(r)));
        }
    }
    out
}

/// The routes that follow from an address.
fn routes_of(i: &Interface, a: &Address) -> Vec<Route> {
    let mut out = Vec::new();
    let device = i.index;
    let source = a.ip.is_ipv4().then_some(a.ip);
    let metric = (!a.ip.is_ipv4()).then_some(0);
    let own = Route {
        to: a.ip,
        prefix: if a.ip.is_ipv4() { 32 } else { 128 },
        table: TABLE_LOCAL,
        scope: if a.ip.is_ipv4() { SCOPE_HOST } else { 0 },
        kind: RTN_LOCAL,
        device,
        via: None,
        source,
        metric,
        kernel: true,
    };
    match a.ip {
        IpAddr::V4(ip) => {
            let network = Ipv4Addr::from(u32::from(ip) & a.mask());
            let local = i.is_loopback();
            out.push(Route {
                to: network.into(),
                prefix: a.prefix,
                table: if local { TABLE_LOCAL } else { TABLE_MAIN },
                scope: if local { SCOPE_HOST } else { SCOPE_LINK },
                kind: if local { RTN_LOCAL } else { RTN_UNICAST },
                ..own
            });
            out.push(own);
            if let Some(broadcast) = a.broadcast() {
                out.push(Route {
                    to: broadcast.into(),
                    prefix: 32,
                    table: TABLE_LOCAL,
                    scope: SCOPE_LINK,
                    kind: RTN_BROADCAST,
                    ..own
                });
            }
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(a.prefix)).unwrap_or(0);
            let network = Ipv6Addr::from(u128::from(ip) & mask);
            out.push(Route {
                to: network.into(),
                prefix: a.prefix,
                table: TABLE_MAIN,
                kind: RTN_UNICAST,
                metric: Some(256),
                ..own
            });
            out.push(own);
        }
    }
    out
}

/// The routes that follow from an address, which are new or gone.
pub(super) fn put_routes_of(
    interface: &Interface,
    a: &Address,
    which: Which,
    new: bool,
    out: &mut Answer,
) {
    let mut routes = routes_of(interface, a);
    // The address itself comes first.
    routes.sort_by_key(|route| route.to != a.ip);
    let wanted = |route: &&Route| match which {
        Which::All => true,
        Which::Own => route.to == a.ip,
        Which::Others => route.to != a.ip,
        Which::None => false,
    };
    routes.iter().filter(wanted).for_each(|route| route.put(new, out));
}

/// A route of the stack.
pub(super) fn put_given(net: &Net, route: RouteEntry, new: bool, out: &mut Answer) {
    let route = Route::given(route, &net.interfaces.read());
    route.put(new, out);
}

/// A neighbour.
pub(super) fn put_neighbor(n: &Neighbor, new: bool, out: &mut Answer) {
    const UNICAST: u8 = 1;
    let fixed = [
        &[family_of(n.ip) as u8, 0, 0, 0][..],
        &n.device.to_ne_bytes(),
        &n.state_number().to_ne_bytes(),
        &[0, UNICAST],
    ]
    .concat();
    out.put(if new { kind::NEWNEIGH } else { kind::DELNEIGH }, &fixed, |b| {
        b.attr(1, &octets(n.ip));
        if let Some(mac) = n.mac {
            b.attr(2, &mac);
        }
    });
}

/// `ip route get`: the route to one address.
fn one_route(net: &Net, request: &Request<'_>, out: &mut Answer) -> Result<()> {
    let to = attribute(request.body, RTMSG, 1).ok_or(Errno::EINVAL)?;
    let to: IpAddr = match (to.first_chunk::<16>(), to.first_chunk::<4>()) {
        (Some(v6), _) => Ipv6Addr::from(*v6).into(),
        (None, Some(v4)) => Ipv4Addr::from(*v4).into(),
        _ => return Err(Errno::EINVAL),
    };
    let found = net.route(to, 0)?;
    let local = found.device == LOOPBACK;
    let route = Route {
        to,
        prefix: if to.is_ipv4() { 32 } else { 128 },
        table: if local { TABLE_LOCAL } else { TABLE_MAIN },
        scope: 0,
        kind: if local { RTN_LOCAL } else { RTN_UNICAST },
        device: found.device,
        via: None,
        source: Some(found.source),
        metric: None,
        kernel: local,
    };
    route.put(true, out);
    Ok(())
}

/// The rules that every network has: local, main and default table.
fn rules(family: i32, out: &mut Answer) {
    const TO_TABLE: u8 = 1;
    let all = [(AF_INET, 0u32, TABLE_LOCAL), (AF_INET, 32766, TABLE_MAIN), (AF_INET, 32767, 253)];
    let six = [(AF_INET6, 0, TABLE_LOCAL), (AF_INET6, 32766, TABLE_MAIN)];
    for (of, priority, table) in all.into_iter().chain(six) {
        if family != 0 && family != of {
            continue;
        }
        let fixed = [of as u8, 0, 0, 0, table, 0, 0, TO_TABLE, 0, 0, 0, 0];
        out.put(kind::NEWRULE, &fixed, |b| {
            b.number(15, u32::from(table));
            b.number(14, u32::MAX);
            if priority != 0 {
                b.number(6, priority);
            }
        });
    }
}
