//! The options that join and leave groups, and say who is heard in them, as they come from programs.

use super::member::{Change, Mode, Which};
use crate::errno::{Errno, Result};
use crate::socket::inet::addr::{Endpoint, parse};
use crate::socket::inet::common::Common;
use crate::socket::inet::{AF_INET, AF_INET6, SOL_IP, SOL_IPV6, ip};
use crate::socket::{Kind, Socket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ADD_MEMBERSHIP: i32 = 35;
const DROP_MEMBERSHIP: i32 = 36;
const UNBLOCK_SOURCE: i32 = 37;
const BLOCK_SOURCE: i32 = 38;
const ADD_SOURCE: i32 = 39;
const DROP_SOURCE: i32 = 40;
const MSFILTER: i32 = 41;
const ADD_MEMBERSHIP6: i32 = 20;
const DROP_MEMBERSHIP6: i32 = 21;
const JOIN_ANYCAST: i32 = 27;
const LEAVE_ANYCAST: i32 = 28;
const JOIN_GROUP: i32 = 42;
const SOURCE_BLOCK: i32 = 43;
const SOURCE_UNBLOCK: i32 = 44;
const LEAVE_GROUP: i32 = 45;
const JOIN_SOURCE: i32 = 46;
const LEAVE_SOURCE: i32 = 47;
const FILTER: i32 = 48;

/// Sizes of `struct group_req`, of `struct sockaddr_storage`, and of the head of `struct group_filter`.
const GROUP_REQ: usize = 136;
const STORAGE: usize = 128;
const FILTER_HEAD: usize = 144;

/// True for the options of this module.
pub fn is_option((level, name): ip::Name) -> bool {
    let own = match level {
        SOL_IP => matches!(name, 32 | ADD_MEMBERSHIP..=MSFILTER),
        _ => matches!(name, ADD_MEMBERSHIP6 | DROP_MEMBERSHIP6 | JOIN_ANYCAST | LEAVE_ANYCAST),
    };
    own || matches!(name, JOIN_GROUP..=FILTER)
}

fn ipv4(value: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*value.get(at..)?.first_chunk::<4>()?))
}

fn word(value: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*value.get(at..)?.first_chunk()?))
}

/// The interface that a request names by index or by address, or that the route to the group leads to. `ENODEV`.
fn device(common: &Common, which: &Which) -> Result<u32> {
    let net = &common.net;
    if which.device != 0 {
        return net.with_device(which.device, |i| i.index).ok_or(Errno::ENODEV);
    }
    if !which.address.is_unspecified() {
        let interfaces = net.interfaces.read();
        let owner = interfaces.owner_of(which.address.into());
        return owner.map(|i| i.index).ok_or(Errno::ENODEV);
    }
    net.route(which.group, 0).map(|route| route.device).map_err(|_| Errno::ENODEV)
}

/// A `struct ip_mreqn`, which may be shorter: group, interface's address, interface's index.
fn mreqn(value: &[u8]) -> Result<Which> {
    let group = ipv4(value, 0).ok_or(Errno::EINVAL)?;
    let address = ipv4(value, 4).ok_or(Errno::EINVAL)?;
    Ok(Which { group: group.into(), address, device: word(value, 8).unwrap_or(0) })
}

/// A `struct ip_mreq_source`: group, interface's address, source.
fn mreq_source(value: &[u8]) -> Result<(Which, IpAddr)> {
    let source = ipv4(value, 8).ok_or(Errno::EINVAL)?;
    let which = mreqn(value.get(..8).unwrap_or_default())?;
    Ok((which, source.into()))
}

/// A `struct ipv6_mreq`: group and interface's index.
fn mreq6(value: &[u8]) -> Result<Which> {
    let group = value.first_chunk::<16>().ok_or(Errno::EINVAL)?;
    let device = word(value, 16).ok_or(Errno::EINVAL)?;
    let address = Ipv4Addr::UNSPECIFIED;
    Ok(Which { group: Ipv6Addr::from(*group).into(), device, address })
}

/// An address in a `struct sockaddr_storage`. `wrong` for one of another family.
fn storage(level: i32, value: Option<&[u8]>, wrong: Errno) -> Result<IpAddr> {
    let family = if level == SOL_IP { AF_INET } else { AF_INET6 };
    let value = value.ok_or(Errno::EINVAL)?;
    let Endpoint { ip, .. } = parse(family, value).map_err(|_| wrong)?;
    Ok(ip)
}

/// The start of a `struct group_req`: interface's index and group.
fn group_req(level: i32, value: &[u8], wrong: Errno) -> Result<Which> {
    let device = word(value, 0).ok_or(Errno::EINVAL)?;
    let group = storage(level, value.get(8..GROUP_REQ), wrong)?;
    Ok(Which { group, device, address: Ipv4Addr::UNSPECIFIED })
}

/// A `struct group_source_req`: and the source.
fn group_source_req(level: i32, value: &[u8]) -> Result<(Which, IpAddr)> {
    let source = value.get(GROUP_REQ..GROUP_REQ + STORAGE).ok_or(Errno::EINVAL)?;
    let which = group_req(level, value, Errno::EADDRNOTAVAIL)?;
    Ok((which, storage(level, Some(source), Errno::EADDRNOTAVAIL)?))
}

fn join(common: &Common, which: &Which, mode: Mode) -> Result<()> {
    if !which.group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let device = device(common, which)?;
    common.groups.join((which.group, device), which.address, mode)
}

fn leave(common: &Common, which: &Which) -> Result<()> {
    if which.group.is_ipv6() && !which.group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    if which.group.is_ipv6() {
        return common.groups.leave(which);
    }
    let named = which.device != 0 || !which.address.is_unspecified();
    match device(common, which) {
        Ok(device) => common.groups.leave(&on(device, which)),
        Err(_) if named => common.groups.leave(which),
        Err(e) => Err(e),
    }
}

/// The same group on that interface, however it was named.
fn on(device: u32, which: &Which) -> Which {
    Which { device, address: Ipv4Addr::UNSPECIFIED, ..*which }
}

/// What one of the four options about a source does.
fn change_source(common: &Common, which: &Which, source: IpAddr, change: Change) -> Result<()> {
    if !which.group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let Change { mode, add } = change;
    if mode == Mode::Include && add {
        match join(common, which, Mode::Include) {
            Ok(()) | Err(Errno::EADDRINUSE) => {}
            Err(e) => return Err(e),
        }
    }
    let device = device(common, which)?;
    common.groups.change_source(&on(device, which), source, change)
}

/// A `struct ip_msfilter`.
fn msfilter(common: &Common, value: &[u8]) -> Result<()> {
    let count = word(value, 12).ok_or(Errno::EINVAL)?;
    let sources = value.get(16..).unwrap_or_default().chunks_exact(4);
    let source = |b: &[u8]| b.first_chunk::<4>().map(|b| IpAddr::from(Ipv4Addr::from(*b)));
    let which = mreqn(value.get(..8).unwrap_or_default())?;
    set_filter(common, &which, word(value, 8), count, sources.filter_map(source).collect())
}

/// A `struct group_filter`.
fn group_filter(common: &Common, level: i32, value: &[u8]) -> Result<()> {
    let head = value.get(..FILTER_HEAD).ok_or(Errno::EINVAL)?;
    let count = word(head, 140).ok_or(Errno::EINVAL)?;
    let which = group_req(level, head, Errno::EINVAL)?;
    let listed = value.get(FILTER_HEAD..).unwrap_or_default().chunks_exact(STORAGE);
    let listed = listed.take(count as usize);
    let sources = listed.map(|s| storage(level, Some(s), Errno::EADDRNOTAVAIL));
    let sources = sources.collect::<Result<Vec<_>>>()?;
    set_filter(common, &which, word(head, 136), count, sources)
}

fn set_filter(
    common: &Common,
    which: &Which,
    mode: Option<u32>,
    count: u32,
    mut sources: Vec<IpAddr>,
) -> Result<()> {
    // More than any filter may have.
    if count > 64 {
        return Err(Errno::ENOBUFS);
    }
    if sources.len() < count as usize {
        return Err(Errno::EINVAL);
    }
    sources.truncate(count as usize);
    let mode = match mode {
        Some(1) => Mode::Include,
        Some(0) => Mode::Exclude,
        _ => return Err(Errno::EINVAL),
    };
    if !which.group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let device = device(common, which)?;
    common.groups.set_filter(&on(device, which), mode, sources)
}

/// Sets one of these options.
pub fn set(common: &Common, socket: &dyn Socket, name: ip::Name, value: &[u8]) -> Result<()> {
    let stream = socket.kind() == Kind::Stream;
    let change = |mode, add| Change { mode, add };
    let (level, number) = name;
    if level == SOL_IP && (ADD_MEMBERSHIP..=MSFILTER).contains(&number) {
        if stream && matches!(number, ADD_MEMBERSHIP | DROP_MEMBERSHIP) {
            return Err(Errno::EPROTO);
        }
        let of_source = |change| {
            let (which, source) = mreq_source(value)?;
            change_source(common, &which, source, change)
        };
        return match number {
            ADD_MEMBERSHIP => join(common, &mreqn(value)?, Mode::Exclude),
            DROP_MEMBERSHIP => leave(common, &mreqn(value)?),
            UNBLOCK_SOURCE => of_source(change(Mode::Exclude, false)),
            BLOCK_SOURCE => of_source(change(Mode::Exclude, true)),
            ADD_SOURCE => of_source(change(Mode::Include, true)),
            DROP_SOURCE => of_source(change(Mode::Include, false)),
            _ => msfilter(common, value),
        };
    }
    if level == SOL_IPV6 && matches!(number, ADD_MEMBERSHIP6 | DROP_MEMBERSHIP6) {
        let which = mreq6(value)?;
        if stream {
            return Err(Errno::EPROTO);
        }
        return if number == ADD_MEMBERSHIP6 {
            join(common, &which, Mode::Exclude)
        } else {
            leave(common, &which)
        };
    }
    let of_source = |change| {
        let (which, source) = group_source_req(level, value)?;
        change_source(common, &which, source, change)
    };
    // An IPv6 socket tells another family from a bad address.
    let wrong = if level == SOL_IP { Errno::EINVAL } else { Errno::EADDRNOTAVAIL };
    match number {
        32 => set_interface(common, stream, value),
        JOIN_GROUP => join(common, &group_req(level, value, wrong)?, Mode::Exclude),
        LEAVE_GROUP => leave(common, &group_req(level, value, wrong)?),
        SOURCE_BLOCK => of_source(change(Mode::Exclude, true)),
        SOURCE_UNBLOCK => of_source(change(Mode::Exclude, false)),
        JOIN_SOURCE => of_source(change(Mode::Include, true)),
        LEAVE_SOURCE => of_source(change(Mode::Include, false)),
        FILTER => group_filter(common, level, value),
        // No address of this machine is anybody else's.
        JOIN_ANYCAST => mreq6(value).and(Err(Errno::EINVAL)),
        LEAVE_ANYCAST => mreq6(value).and(Err(Errno::ENOENT)),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// `IP_MULTICAST_IF`: a `struct ip_mreqn`, a `struct ip_mreq` or an address.
fn set_interface(common: &Common, stream: bool, value: &[u8]) -> Result<()> {
    if stream {
        return Err(Errno::EINVAL);
    }
    let (address, index) = match value.len() {
        12.. => (ipv4(value, 4), word(value, 8)),
        8.. => (ipv4(value, 4), None),
        _ => (ipv4(value, 0), None),
    };
    let (address, index) = (address.ok_or(Errno::EINVAL)?, index.unwrap_or(0));
    if index == 0 && address.is_unspecified() {
        common.ip.put(ip::MULTICAST_IF, 0);
        common.ip.put(ip::MULTICAST_ADDRESS, 0);
        return Ok(());
    }
    let which = Which { group: Ipv4Addr::UNSPECIFIED.into(), device: index, address };
    let device = device(common, &which).map_err(|_| Errno::EADDRNOTAVAIL)?;
    let bound = common.device();
    if bound != 0 && device != bound {
        return Err(Errno::EINVAL);
    }
    common.ip.put(ip::MULTICAST_IF, device as i32);
    common.ip.put(ip::MULTICAST_ADDRESS, i32::from_ne_bytes(address.octets()));
    Ok(())
}

/// What `IP_MULTICAST_IF` reads back: the address that was given.
pub fn interface_address(common: &Common) -> Vec<u8> {
    common.ip.value(ip::MULTICAST_ADDRESS).to_ne_bytes().to_vec()
}
