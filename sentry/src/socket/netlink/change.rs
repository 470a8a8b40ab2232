//! Changes through `NETLINK_ROUTE`: starting and stopping an interface, its addresses and MTU.

use super::message::{EXCL, Request, attribute, u32_at};
use crate::errno::{Errno, Result};
use crate::kernel::Task;
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::socket::inet::Net;
use crate::socket::inet::interface::{Address, IFF_UP};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NEWLINK: u16 = 16;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
/// Most addresses of one interface.
const MAX_ADDRESSES: usize = 256;

/// Does what a message says. `EPERM` without the capability, `EOPNOTSUPP` for what cannot be changed.
pub fn apply(net: &Net, task: &Task, request: &Request<'_>) -> Result<()> {
    if !Net::capable(task, CAP_NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    match request.kind {
        NEWLINK | SETLINK => link(net, request),
        NEWADDR | DELADDR => address(net, request),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn link(net: &Net, request: &Request<'_>) -> Result<()> {
    let word = |at| u32_at(request.body, at).ok_or(Errno::EINVAL);
    let (index, flags, change) = (word(4)?, word(8)?, word(12)?);
    let name = attribute(request.body, IFINFOMSG, IFLA_IFNAME);
    let name = name.map(|n| n.split(|b| *b == 0).next().unwrap_or_default());
    let mut interfaces = net.interfaces.write();
    let index = match name {
        _ if index != 0 => index,
        // A name that nobody has would be a new interface.
        Some(name) => interfaces.named(name).map(|i| i.index).ok_or(Errno::EOPNOTSUPP)?,
        None => return Err(Errno::EINVAL),
    };
    let interface = interfaces.get_mut(index).ok_or(Errno::ENODEV)?;
    if let Some(mtu) = attribute(request.body, IFINFOMSG, IFLA_MTU) {
        interface.mtu = u32_at(mtu, 0).ok_or(Errno::EINVAL)?;
    }
    // Old programs change flags without saying which.
    if change & IFF_UP != 0 || (change == 0 && flags & IFF_UP != interface.flags & IFF_UP) {
        interface.set_up(flags & IFF_UP != 0);
    }
    Ok(())
}

fn address(net: &Net, request: &Request<'_>) -> Result<()> {
    let prefix = *request.body.get(1).ok_or(Errno::EINVAL)?;
    let index = u32_at(request.body, 4).ok_or(Errno::EINVAL)?;
    let attr = |kind| attribute(request.body, IFADDRMSG, kind);
    let bytes = attr(2).or_else(|| attr(1)).ok_or(Errno::EINVAL)?;
    let (ip, longest): (IpAddr, u8) = match (bytes.first_chunk::<16>(), bytes.first_chunk::<4>()) {
        (Some(v6), _) => (Ipv6Addr::from(*v6).into(), 128),
        (None, Some(v4)) => (Ipv4Addr::from(*v4).into(), 32),
        _ => return Err(Errno::EINVAL),
    };
    if prefix > longest {
        return Err(Errno::EINVAL);
    }
    let mut interfaces = net.interfaces.write();
    let addresses = &mut interfaces.get_mut(index).ok_or(Errno::ENODEV)?.addresses;
    let at = addresses.iter().position(|a| a.ip == ip && a.prefix == prefix);
    match (request.kind, at) {
        (NEWADDR, Some(_)) if request.flags & EXCL != 0 || ip.is_ipv4() => Err(Errno::EEXIST),
        (NEWADDR, Some(_)) => Ok(()),
        (NEWADDR, None) if addresses.len() >= MAX_ADDRESSES => Err(Errno::ENOBUFS),
        (NEWADDR, None) => {
            addresses.push(Address { ip, prefix });
            Ok(())
        }
        (_, Some(at)) => {
            addresses.remove(at);
            Ok(())
        }
        (_, None) => Err(Errno::EADDRNOTAVAIL),
    }
}
