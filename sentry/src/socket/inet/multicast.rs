//! Multicast groups (`IP_ADD_MEMBERSHIP` and its kin).
//!
//! A network counts how many sockets are in a group on an interface; what is sent to a group that
//! nobody on this machine has joined goes nowhere.

use super::addr::{Endpoint, parse};
use super::common::Common;
use super::interface::LOOPBACK;
use super::{AF_INET, AF_INET6, SOL_IP, SOL_IPV6, ip};
use crate::errno::{Errno, Result};
use crate::socket::{Kind, Socket};
use crate::sync::{Mutex, rank};
use rustc_hash::FxHashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// `net.ipv4.igmp_max_memberships`
const MAX_MEMBERSHIPS: usize = 20;

const ADD_MEMBERSHIP: ip::Name = (SOL_IP, 35);
const DROP_MEMBERSHIP: ip::Name = (SOL_IP, 36);
const ADD_MEMBERSHIP6: ip::Name = (SOL_IPV6, 20);
const DROP_MEMBERSHIP6: ip::Name = (SOL_IPV6, 21);
const JOIN_GROUP: i32 = 42;
const LEAVE_GROUP: i32 = 45;

/// A group on an interface.
pub type Group = (IpAddr, u32);

/// The groups of a network: how many sockets are in each.
#[derive(Default)]
pub struct Groups(Mutex<FxHashMap<Group, usize>, { rank::LEAF }>);

impl Groups {
    /// True if some socket is in the group.
    pub fn has(&self, group: &Group) -> bool {
        self.0.lock().contains_key(group)
    }

    /// Every group.
    pub fn all(&self) -> Vec<Group> {
        self.0.lock().keys().copied().collect()
    }

    fn join(&self, group: Group) {
        *self.0.lock().entry(group).or_default() += 1;
    }

    fn leave(&self, group: &Group) {
        let mut groups = self.0.lock();
        if let Some(count) = groups.get_mut(group) {
            *count -= 1;
            if *count == 0 {
                groups.remove(group);
            }
        }
    }
}

/// The groups that one socket is in; it leaves them when it is gone.
pub struct Memberships {
    net: Arc<super::Net>,
    list: Mutex<Vec<Group>, { rank::LEAF }>,
}

impl Memberships {
    /// In no group.
    pub fn new(net: &Arc<super::Net>) -> Memberships {
        Memberships { net: net.clone(), list: Mutex::default() }
    }

    /// True if the socket is in the group.
    pub fn has(&self, group: &Group) -> bool {
        self.list.lock().contains(group)
    }

    fn join(&self, group: Group) -> Result<()> {
        {
            let mut list = self.list.lock();
            if list.contains(&group) {
                return Err(Errno::EADDRINUSE);
            }
            if list.len() >= MAX_MEMBERSHIPS {
                return Err(Errno::ENOBUFS);
            }
            list.push(group);
        }
        self.net.groups.join(group);
        Ok(())
    }

    fn leave(&self, group: Group) -> Result<()> {
        {
            let mut list = self.list.lock();
            let at = list.iter().position(|g| *g == group).ok_or(Errno::EADDRNOTAVAIL)?;
            list.remove(at);
        }
        self.net.groups.leave(&group);
        Ok(())
    }
}

impl Drop for Memberships {
    fn drop(&mut self) {
        let list = std::mem::take(&mut *self.list.lock());
        list.iter().for_each(|group| self.net.groups.leave(group));
    }
}

/// True for the options of this module.
pub fn is_option(name: ip::Name) -> bool {
    matches!(
        name,
        ip::MULTICAST_IF | ADD_MEMBERSHIP | DROP_MEMBERSHIP | ADD_MEMBERSHIP6 | DROP_MEMBERSHIP6
    ) || matches!(name.1, JOIN_GROUP | LEAVE_GROUP)
}

fn ipv4(value: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*value.get(at..)?.first_chunk::<4>()?))
}

fn word(value: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*value.get(at..)?.first_chunk()?))
}

/// The interface that a request names by index or by address. `ENODEV`.
fn device(common: &Common, index: u32, address: Ipv4Addr) -> Result<u32> {
    if index != 0 {
        return common.net.with_device(index, |i| i.index).ok_or(Errno::ENODEV);
    }
    if !address.is_unspecified() {
        let interfaces = common.net.interfaces.read();
        return interfaces.owner_of(address.into()).map(|i| i.index).ok_or(Errno::ENODEV);
    }
    // The interface of the route to the group; without one there is only the loopback interface,
    // which has no such route.
    Err(Errno::ENODEV)
}

/// A `struct ip_mreqn`, which may be shorter: group, interface's address, interface's index.
fn request(common: &Common, value: &[u8]) -> Result<(Ipv4Addr, u32)> {
    let group = ipv4(value, 0).ok_or(Errno::EINVAL)?;
    let address = ipv4(value, 4).ok_or(Errno::EINVAL)?;
    let index = word(value, 8).unwrap_or(0);
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    Ok((group, device(common, index, address)?))
}

/// A `struct ipv6_mreq`: group and interface's index.
fn request6(common: &Common, value: &[u8]) -> Result<(IpAddr, u32)> {
    let group = value.first_chunk::<16>().ok_or(Errno::EINVAL)?;
    let index = word(value, 16).ok_or(Errno::EINVAL)?;
    let group = Ipv6Addr::from(*group);
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    Ok((group.into(), device(common, index, Ipv4Addr::UNSPECIFIED)?))
}

/// A `struct group_req`: interface's index and group.
fn group_request(common: &Common, level: i32, value: &[u8]) -> Result<Group> {
    let index = word(value, 0).ok_or(Errno::EINVAL)?;
    let family = if level == SOL_IP { AF_INET } else { AF_INET6 };
    let address = value.get(8..).ok_or(Errno::EINVAL)?;
    let Endpoint { ip, .. } = parse(family, address).map_err(|_| Errno::EADDRNOTAVAIL)?;
    if !ip.is_multicast() {
        return Err(Errno::EINVAL);
    }
    Ok((ip, device(common, index, Ipv4Addr::UNSPECIFIED)?))
}

/// Sets one of these options.
pub fn set(common: &Common, socket: &dyn Socket, name: ip::Name, value: &[u8]) -> Result<()> {
    if socket.kind() == Kind::Stream {
        return Err(if name.0 == SOL_IP { Errno::EPROTO } else { Errno::ENOPROTOOPT });
    }
    let groups = &common.groups;
    match name {
        ip::MULTICAST_IF => set_interface(common, value),
        ADD_MEMBERSHIP => {
            let (group, device) = request(common, value)?;
            groups.join((group.into(), device))
        }
        DROP_MEMBERSHIP => {
            let (group, device) = request(common, value)?;
            groups.leave((group.into(), device))
        }
        ADD_MEMBERSHIP6 => groups.join(request6(common, value)?),
        DROP_MEMBERSHIP6 => groups.leave(request6(common, value)?),
        (level, JOIN_GROUP) => groups.join(group_request(common, level, value)?),
        (level, _) => groups.leave(group_request(common, level, value)?),
    }
}

/// `IP_MULTICAST_IF`: a `struct ip_mreqn`, a `struct ip_mreq` or an address.
fn set_interface(common: &Common, value: &[u8]) -> Result<()> {
    let (address, index) = match value.len() {
        12.. => (ipv4(value, 4), word(value, 8)),
        8.. => (ipv4(value, 4), None),
        _ => (ipv4(value, 0), None),
    };
    let (address, index) = (address.ok_or(Errno::EINVAL)?, index.unwrap_or(0));
    if index == 0 && address.is_unspecified() {
        common.ip.put(ip::MULTICAST_IF, 0);
        return Ok(());
    }
    let device = device(common, index, address).map_err(|_| Errno::EADDRNOTAVAIL)?;
    common.ip.put(ip::MULTICAST_IF, device as i32);
    Ok(())
}

/// What `IP_MULTICAST_IF` reads back: an address.
pub fn interface_address(common: &Common) -> Vec<u8> {
    let index = common.ip.value(ip::MULTICAST_IF) as u32;
    let any = Ipv4Addr::UNSPECIFIED;
    let source = |i: &super::interface::Interface| i.source_for(any.into());
    match common.net.with_device(index, source).flatten() {
        Some(IpAddr::V4(ip)) if index != LOOPBACK => ip.octets().to_vec(),
        _ => any.octets().to_vec(),
    }
}
