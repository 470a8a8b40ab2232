//! Changes through `NETLINK_ROUTE`: interfaces ([`link`]), their addresses, routes and neighbours.

pub mod link;

use super::message::{EXCL, Request, attribute, u32_at};
use super::notify::Cause;
use crate::errno::{Errno, Result};
use crate::kernel::Task;
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::socket::inet::admin::address::Given;
use crate::socket::inet::admin::route::{Manner, Wanted};
use crate::socket::inet::admin::{Failure, Outcome};
use crate::socket::inet::{AF_INET, AF_INET6, Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Types of requests.
mod kind {
    pub const NEWLINK: u16 = 16;
    pub const DELLINK: u16 = 17;
    pub const SETLINK: u16 = 19;
    pub const NEWADDR: u16 = 20;
    pub const DELADDR: u16 = 21;
    pub const NEWROUTE: u16 = 24;
    pub const DELROUTE: u16 = 25;
    pub const NEWNEIGH: u16 = 28;
    pub const DELNEIGH: u16 = 29;
}

/// `NLM_F_REPLACE` and `NLM_F_CREATE`
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
/// `RT_SCOPE_NOWHERE`
const SCOPE_NOWHERE: u8 = 255;
/// Sizes of `struct ifaddrmsg`, `rtmsg` and `ndmsg`.
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;
const NDMSG: usize = 12;
/// `RT_TABLE_UNSPEC` and `RT_TABLE_MAIN`
const TABLES: [u32; 2] = [0, 254];
/// `RTN_UNSPEC` and `RTN_UNICAST`
const KINDS: [u8; 2] = [0, 1];

/// Does what a message says. `EPERM` without the capability, `EOPNOTSUPP` for what cannot be changed.
pub fn apply(net: &Arc<Net>, task: &Task, request: &Request<'_>, cause: Cause) -> Outcome {
    if !Net::capable(task, CAP_NET_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    match request.kind {
        kind::NEWLINK => link::new(net, task, request, cause),
        kind::SETLINK => link::set(net, task, request, cause),
        kind::DELLINK => link::delete(net, request, cause),
        kind::NEWADDR | kind::DELADDR => address(net, request, cause),
        kind::NEWROUTE | kind::DELROUTE => route(net, request, cause),
        kind::NEWNEIGH | kind::DELNEIGH => neighbor(net, request, cause),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// An address of a family. `EINVAL`.
fn ip(family: i32, bytes: &[u8]) -> Result<IpAddr> {
    match (family, bytes.first_chunk::<16>(), bytes.first_chunk::<4>()) {
        (AF_INET6, Some(v6), _) => Ok(Ipv6Addr::from(*v6).into()),
        (AF_INET, _, Some(v4)) => Ok(Ipv4Addr::from(*v4).into()),
        _ => Err(Errno::EINVAL),
    }
}

fn longest(family: i32) -> u8 {
    if family == AF_INET { 32 } else { 128 }
}

fn address(net: &Arc<Net>, request: &Request<'_>, cause: Cause) -> Outcome {
    let body = request.body;
    let [family, prefix] = *body.first_chunk::<2>().ok_or(Errno::EINVAL)?;
    let family = i32::from(family);
    if !matches!(family, AF_INET | AF_INET6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let index = u32_at(body, 4).ok_or(Errno::EINVAL)?;
    let attr = |kind| attribute(body, IFADDRMSG, kind);
    let (local, far) = (attr(2), attr(1));
    let own = ip(family, local.or(far).ok_or(Errno::EINVAL)?)?;
    let far = far.map(|far| ip(family, far)).transpose()?;
    if prefix > longest(family) {
        return Err(Errno::EINVAL.into());
    }
    if request.kind == kind::DELADDR {
        return net.remove_address(index, own, Some(prefix), cause);
    }
    if far.is_some_and(|far| far != own) {
        // A single machine at the other end is reached by a route.
        return Err(Errno::EOPNOTSUPP.into());
    }
    if own.is_unspecified() || own.is_multicast() {
        return Err(Errno::EADDRNOTAVAIL.into());
    }
    let given = Given { ip: own, prefix, broadcast: attr(4).is_some() };
    net.add_address(index, given, request.flags & EXCL != 0, cause)
}

fn route(net: &Arc<Net>, request: &Request<'_>, cause: Cause) -> Outcome {
    let body = request.body;
    let fixed: &[u8; RTMSG] = body.first_chunk().ok_or(Errno::EINVAL)?;
    let [family, prefix, source_prefix, _, table, _, scope, kind, ..] = *fixed;
    let family = i32::from(family);
    if !matches!(family, AF_INET | AF_INET6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let attr = |kind| attribute(body, RTMSG, kind);
    let word = |kind| attr(kind).and_then(|bytes| u32_at(bytes, 0));
    let table = word(15).unwrap_or(table.into());
    // Routes by source, of other tables, over several next hops, and those that lead nowhere.
    let foreign =
        source_prefix != 0 || attr(9).is_some() || attr(18).is_some() || attr(30).is_some();
    if foreign || !TABLES.contains(&table) || !KINDS.contains(&kind) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if prefix > longest(family) {
        return Err(Failure::new(Errno::EINVAL, "Invalid prefix length"));
    }
    let any = if family == AF_INET {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let address = |kind| attr(kind).map(|bytes| ip(family, bytes)).transpose();
    let wanted = Wanted {
        to: address(1)?.unwrap_or(any),
        prefix,
        via: address(5)?.filter(|via| !via.is_unspecified()),
        device: word(4).unwrap_or(0),
        source: address(7)?,
        metric: word(6).filter(|metric| *metric != 0),
        direct: (family == AF_INET && scope != SCOPE_NOWHERE).then_some(scope != 0),
    };
    if request.kind == kind::DELROUTE {
        return net.remove_route(wanted, cause);
    }
    let set = |flag| request.flags & flag != 0;
    let how = Manner { exclusive: set(EXCL), replace: set(REPLACE), create: set(CREATE) };
    net.add_route(wanted, how, cause)
}

fn neighbor(net: &Arc<Net>, request: &Request<'_>, cause: Cause) -> Outcome {
    let body = request.body;
    let family = i32::from(*body.first().ok_or(Errno::EINVAL)?);
    if !matches!(family, AF_INET | AF_INET6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let device = u32_at(body, 4).ok_or(Errno::EINVAL)?;
    let attr = |kind| attribute(body, NDMSG, kind);
    let to = attr(1).ok_or(Failure::new(Errno::EINVAL, "Network address not specified"))?;
    let to = ip(family, to)?;
    if request.kind == kind::DELNEIGH {
        return Ok(net.remove_neighbor(device, to, cause)?);
    }
    let mac = attr(2).and_then(|bytes| bytes.first_chunk::<6>());
    let mac = *mac.ok_or(Errno::EINVAL)?;
    if request.flags & CREATE == 0
        && !net.neighbors().iter().any(|n| (n.device, n.ip) == (device, to))
    {
        return Err(Errno::ENOENT.into());
    }
    let exclusive = request.flags & EXCL != 0;
    Ok(net.set_neighbor(device, to, mac, exclusive, cause)?)
}
