//! Options of IP and IPv6 (`ip(7)`, `ipv6(7)`), kept as numbers in one table each.

use super::Net;
use super::addr::{AF_INET, AF_INET6, mapped, parse};
use super::common::Common;
use super::interface::LOOPBACK;
use super::multicast;
use super::{IPPROTO_TCP, IPPROTO_UDP, SOL_IP, SOL_IPV6};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::socket::{Kind, OptionValue, Socket};
use std::sync::atomic::{AtomicI32, Ordering};

/// An option: level and number.
pub type Name = (i32, i32);

/// `IPV6_ADDRFORM`
pub const ADDRFORM: Name = (SOL_IPV6, 1);
/// `IPV6_2292PKTINFO`
pub const OLD_PKTINFO: Name = (SOL_IPV6, 2);
/// `IPV6_2292HOPLIMIT`
pub const OLD_HOPLIMIT: Name = (SOL_IPV6, 8);
/// `IPV6_FREEBIND`, which is the same switch as [`FREEBIND`]
const FREEBIND6: Name = (SOL_IPV6, 78);
/// `IP_LOCAL_PORT_RANGE`: first and last, in the low and high half; 0 for the network's
pub const PORT_RANGE: Name = (SOL_IP, 51);
/// `IPV6_V6ONLY`
pub const V6ONLY: Name = (SOL_IPV6, 26);
/// `IP_FREEBIND`
pub const FREEBIND: Name = (SOL_IP, 15);
/// `IP_BIND_ADDRESS_NO_PORT`
pub const BIND_NO_PORT: Name = (SOL_IP, 24);
/// `IP_TOS`
pub const TOS: Name = (SOL_IP, 1);
/// `IP_TTL`
pub const TTL: Name = (SOL_IP, 2);
/// `IP_PKTINFO`
pub const PKTINFO: Name = (SOL_IP, 8);
/// `IP_RECVERR`
pub const RECVERR: Name = (SOL_IP, 11);
/// `IP_RECVTTL`
pub const RECVTTL: Name = (SOL_IP, 12);
/// `IP_RECVTOS`
pub const RECVTOS: Name = (SOL_IP, 13);
/// `IP_RECVORIGDSTADDR`
pub const RECVORIGDSTADDR: Name = (SOL_IP, 20);
/// `IP_MINTTL`
pub const MINTTL: Name = (SOL_IP, 21);
/// `IP_MULTICAST_IF`, as an index
pub const MULTICAST_IF: Name = (SOL_IP, 32);
/// `IP_MULTICAST_TTL`
pub const MULTICAST_TTL: Name = (SOL_IP, 33);
/// `IP_MULTICAST_LOOP`
pub const MULTICAST_LOOP: Name = (SOL_IP, 34);
/// `IP_MULTICAST_ALL`
pub const MULTICAST_ALL: Name = (SOL_IP, 49);
/// `IPV6_UNICAST_HOPS`
pub const UNICAST_HOPS: Name = (SOL_IPV6, 16);
/// `IPV6_MULTICAST_IF`
pub const MULTICAST_IF6: Name = (SOL_IPV6, 17);
/// `IPV6_MULTICAST_HOPS`
pub const MULTICAST_HOPS: Name = (SOL_IPV6, 18);
/// `IPV6_MULTICAST_LOOP`
pub const MULTICAST_LOOP6: Name = (SOL_IPV6, 19);
/// `IPV6_RECVERR`
pub const RECVERR6: Name = (SOL_IPV6, 25);
/// `IPV6_MULTICAST_ALL`
pub const MULTICAST_ALL6: Name = (SOL_IPV6, 29);
/// `IPV6_RECVPKTINFO`
pub const RECVPKTINFO: Name = (SOL_IPV6, 49);
/// `IPV6_RECVHOPLIMIT`
pub const RECVHOPLIMIT: Name = (SOL_IPV6, 51);
/// `IPV6_RECVTCLASS`
pub const RECVTCLASS: Name = (SOL_IPV6, 66);
/// `IPV6_TCLASS`
pub const TCLASS: Name = (SOL_IPV6, 67);
/// `IPV6_RECVORIGDSTADDR`
pub const RECVORIGDSTADDR6: Name = (SOL_IPV6, 74);

/// The address given with `IP_MULTICAST_IF`, which no program can name: in network order.
pub const MULTICAST_ADDRESS: Name = (SOL_IP, -1);

const IP_MTU: Name = (SOL_IP, 14);
const IPV6_MTU: Name = (SOL_IPV6, 24);
const IP_TRANSPARENT: Name = (SOL_IP, 19);
const IPV6_TRANSPARENT: Name = (SOL_IPV6, 75);
const IP_PROTOCOL: Name = (SOL_IP, 52);

struct Knob {
    name: Name,
    default: i32,
    min: i32,
    max: i32,
    switch: bool,
}

const fn switch(name: Name, default: i32) -> Knob {
    Knob { name, default, min: i32::MIN, max: i32::MAX, switch: true }
}

const fn knob(name: Name, default: i32, min: i32, max: i32) -> Knob {
    Knob { name, default, min, max, switch: false }
}

const KNOBS: &[Knob] = &[
    knob(TOS, 0, i32::MIN, i32::MAX),
    knob(TTL, -1, -1, 255),
    switch((SOL_IP, 6), 0),
    switch((SOL_IP, 7), 0),
    switch(PKTINFO, 0),
    knob((SOL_IP, 10), 1, 0, 5),
    switch(RECVERR, 0),
    switch(RECVTTL, 0),
    switch(RECVTOS, 0),
    switch(FREEBIND, 0),
    switch((SOL_IP, 18), 0),
    switch(RECVORIGDSTADDR, 0),
    knob(MINTTL, 0, 0, 255),
    switch((SOL_IP, 23), 0),
    switch(BIND_NO_PORT, 0),
    switch((SOL_IP, 25), 0),
    knob((SOL_IP, 26), 0, 0, 1),
    knob(PORT_RANGE, 0, i32::MIN, i32::MAX),
    knob(MULTICAST_IF, 0, 0, i32::MAX),
    knob(MULTICAST_ADDRESS, 0, i32::MIN, i32::MAX),
    knob(MULTICAST_TTL, 1, -1, 255),
    switch(MULTICAST_LOOP, 1),
    knob(MULTICAST_ALL, 1, 0, 1),
    switch(OLD_PKTINFO, 0),
    // Headers with options and routes, and flow labels: none come.
    switch((SOL_IPV6, 3), 0),
    switch((SOL_IPV6, 4), 0),
    switch((SOL_IPV6, 5), 0),
    switch(OLD_HOPLIMIT, 0),
    switch((SOL_IPV6, 11), 0),
    knob(UNICAST_HOPS, -1, -1, 255),
    knob(MULTICAST_IF6, 0, i32::MIN, i32::MAX),
    knob(MULTICAST_HOPS, -1, -1, 255),
    knob(MULTICAST_LOOP6, 1, 0, 1),
    knob((SOL_IPV6, 23), 1, 0, 5),
    switch(RECVERR6, 0),
    switch(V6ONLY, 0),
    switch(MULTICAST_ALL6, 1),
    switch((SOL_IPV6, 30), 0),
    knob((SOL_IPV6, 31), 0, 0, 1),
    switch((SOL_IPV6, 33), 0),
    switch(RECVPKTINFO, 0),
    switch(RECVHOPLIMIT, 0),
    switch((SOL_IPV6, 53), 0),
    switch((SOL_IPV6, 56), 0),
    switch((SOL_IPV6, 58), 0),
    switch((SOL_IPV6, 60), 0),
    switch((SOL_IPV6, 62), 0),
    switch(RECVTCLASS, 0),
    knob(TCLASS, 0, -1, 255),
    switch((SOL_IPV6, 70), 1),
    // Fragments are put together before anybody could count them.
    switch((SOL_IPV6, 77), 0),
    knob((SOL_IPV6, 73), 0, 0, 255),
    switch(RECVORIGDSTADDR6, 0),
];

/// The options of one socket.
pub struct IpOptions([AtomicI32; KNOBS.len()]);

impl Default for IpOptions {
    fn default() -> IpOptions {
        let value = |i: usize| AtomicI32::new(KNOBS.get(i).map_or(0, |k| k.default));
        IpOptions(std::array::from_fn(value))
    }
}

impl Clone for IpOptions {
    fn clone(&self) -> IpOptions {
        IpOptions(self.0.each_ref().map(|a| AtomicI32::new(a.load(Ordering::Relaxed))))
    }
}

/// The value of an integer option: also a single byte will do for IPv4.
fn number(level: i32, value: &[u8]) -> Result<i32> {
    match (value.first_chunk::<4>(), value.first()) {
        (Some(bytes), _) => Ok(i32::from_ne_bytes(*bytes)),
        (None, Some(byte)) if level == SOL_IP => Ok(i32::from(*byte)),
        _ => Err(Errno::EINVAL),
    }
}

impl IpOptions {
    fn place(&self, name: Name) -> Option<(&Knob, &AtomicI32)> {
        KNOBS.iter().zip(&self.0).find(|(knob, _)| knob.name == name)
    }

    /// The value of an option of the table.
    pub fn value(&self, name: Name) -> i32 {
        self.place(name).map_or(0, |(_, value)| value.load(Ordering::Relaxed))
    }

    /// Stores a value that was checked already.
    pub fn put(&self, name: Name, value: i32) {
        if let Some((_, place)) = self.place(name) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// True if a switch is on.
    pub fn is_on(&self, name: Name) -> bool {
        self.value(name) != 0
    }

    /// Time to live of what the socket sends to one address (`false`) or to a group.
    pub fn ttl(&self, common: &Common, v6: bool, group: bool) -> u8 {
        let name = match (v6, group) {
            (false, false) => TTL,
            (false, true) => MULTICAST_TTL,
            (true, false) => UNICAST_HOPS,
            (true, true) => MULTICAST_HOPS,
        };
        let value = self.value(name);
        let default = if group { 1 } else { common.net.settings.ttl.load(Ordering::Relaxed) };
        u8::try_from(if value < 0 { default } else { value }).unwrap_or(64)
    }

    /// Reads an option. `ENOPROTOOPT`.
    pub fn get(
        &self,
        common: &Common,
        socket: &dyn Socket,
        level: i32,
        name: i32,
    ) -> Result<OptionValue> {
        if level == SOL_IPV6 && common.family() == AF_INET {
            return Err(Errno::EOPNOTSUPP);
        }
        let int = OptionValue::Int;
        let (level, name) = canonical((level, name));
        Ok(match (level, name) {
            TTL => int(i32::from(self.ttl(common, false, false))),
            UNICAST_HOPS => int(i32::from(self.ttl(common, true, false))),
            MULTICAST_HOPS => int(i32::from(self.ttl(common, true, true))),
            TCLASS => int(self.value(TCLASS).max(0)),
            IP_PROTOCOL => int(socket.protocol()),
            IP_MTU | IPV6_MTU => {
                socket.peer_address()?;
                let device = Some(common.device()).filter(|d| *d != 0).unwrap_or(LOOPBACK);
                let mtu = common.net.with_device(device, |i| i.mtu).unwrap_or(0);
                // An IPv4 packet's length has 16 bits.
                int(if level == SOL_IP { mtu.min(0xffff) } else { mtu } as i32)
            }
            IP_TRANSPARENT | IPV6_TRANSPARENT => int(0),
            ADDRFORM if socket.kind() == Kind::Raw => return Err(Errno::ENOPROTOOPT),
            ADDRFORM => {
                socket.peer_address()?;
                int(common.family())
            }
            MULTICAST_IF => OptionValue::Bytes(multicast::interface_address(common)),
            // Options in packets: none come.
            (SOL_IP, 4) => OptionValue::Bytes(Vec::new()),
            _ => {
                let place = self.place((level, name)).filter(|_| name > 0);
                let (_, value) = place.ok_or(Errno::ENOPROTOOPT)?;
                int(value.load(Ordering::Relaxed))
            }
        })
    }

    /// Sets an option. `ENOPROTOOPT`, `EINVAL`; `EPERM` for what this kernel refuses.
    pub fn set(
        &self,
        common: &Common,
        t: &CurrentTask,
        socket: &dyn Socket,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Result<()> {
        if level == SOL_IPV6 && common.family() == AF_INET {
            return Err(Errno::ENOPROTOOPT);
        }
        let (level, name) = canonical((level, name));
        if (level, name) == ADDRFORM {
            return self.change_family(common, socket, number(level, value)?);
        }
        if multicast::is_option((level, name)) {
            return multicast::set(common, socket, (level, name), value);
        }
        if matches!((level, name), IP_TRANSPARENT | IPV6_TRANSPARENT) {
            // Traffic for other machines never comes here.
            let on = number(level, value)? != 0;
            return if on { Err(Errno::EPERM) } else { Ok(()) };
        }
        if (level, name) == (SOL_IP, 4) && value.is_empty() {
            return Ok(());
        }
        if name < 0 {
            return Err(Errno::ENOPROTOOPT);
        }
        let (knob, place) = self.place((level, name)).ok_or(Errno::ENOPROTOOPT)?;
        let is_tcp = socket.kind() == Kind::Stream;
        if is_tcp && matches!((level, name), MULTICAST_HOPS | MULTICAST_IF6) {
            return Err(Errno::ENOPROTOOPT);
        }
        let mut n = match value {
            [] if level == SOL_IP && MAY_BE_EMPTY.contains(&name) => 0,
            value => number(level, value)?,
        };
        // A stream is not made of fragments.
        if (level, name) == (SOL_IP, 25) && is_tcp {
            return Err(Errno::EINVAL);
        }
        if !(knob.min..=knob.max).contains(&n) {
            return Err(Errno::EINVAL);
        }
        match (level, name) {
            _ if knob.switch => n = i32::from(n != 0),
            // The lowest bits are congestion notifications, which are TCP's.
            TOS => n = if is_tcp { n & 0xfc } else { n & 0xff },
            TTL if n == 0 => return Err(Errno::EINVAL),
            MULTICAST_TTL if is_tcp => return Err(Errno::EINVAL),
            MULTICAST_TTL if n < 0 => n = 1,
            PORT_RANGE if value.len() < 4 => return Err(Errno::EINVAL),
            PORT_RANGE => {
                let (low, high) = (n & 0xffff, n >> 16 & 0xffff);
                if low != 0 && high != 0 && low > high {
                    return Err(Errno::EINVAL);
                }
            }
            MULTICAST_IF6 if n != 0 && common.net.with_device(n as u32, |_| ()).is_none() => {
                return Err(Errno::ENODEV);
            }
            _ => {}
        }
        if (level, name) == V6ONLY && (value.len() < 4 || is_bound(socket)) {
            return Err(Errno::EINVAL);
        }
        if (level, name) == (SOL_IP, 18) && n != 0 && !Net::capable(t, CAP_NET_ADMIN) {
            return Err(Errno::EPERM);
        }
        place.store(n, Ordering::Relaxed);
        Ok(())
    }
}

/// Options of IPv4 for which no value at all is 0.
const MAY_BE_EMPTY: &[i32] = &[1, 6, 7, 8, 10, 11, 12, 13, 18, 20, 23, 24, 26];

/// The name under which an option is kept.
fn canonical(name: Name) -> Name {
    if name == FREEBIND6 { FREEBIND } else { name }
}

impl IpOptions {
    /// `IPV6_ADDRFORM`: a connected IPv6 socket becomes one of IPv4. `EINVAL` for another family, `ENOTCONN`;
    /// `EADDRNOTAVAIL` if it speaks IPv6 with its peer.
    fn change_family(&self, common: &Common, socket: &dyn Socket, family: i32) -> Result<()> {
        if family != AF_INET {
            return Err(Errno::EINVAL);
        }
        if !matches!(socket.protocol(), IPPROTO_TCP | IPPROTO_UDP) || socket.kind() == Kind::Raw {
            return Err(Errno::ENOPROTOOPT);
        }
        let peer = socket.peer_address()?;
        let v4 = parse(AF_INET6, &peer).is_ok_and(|peer| peer.ip.is_ipv4());
        if self.is_on(V6ONLY) || !v4 {
            return Err(Errno::EADDRNOTAVAIL);
        }
        common.become_v4();
        Ok(())
    }
}

/// True if the socket has a port.
fn is_bound(socket: &dyn Socket) -> bool {
    let address = socket.local_address().unwrap_or_default();
    address.get(2..4).is_some_and(|port| port != [0, 0])
}

/// A `struct in_pktinfo` of a packet that came to `to` over `device`.
pub fn pktinfo(to: std::net::IpAddr, specific: std::net::IpAddr, device: u32) -> Vec<u8> {
    let v4 = |ip| match ip {
        std::net::IpAddr::V4(ip) => ip.octets(),
        std::net::IpAddr::V6(_) => [0; 4],
    };
    [device.to_ne_bytes(), v4(specific), v4(to)].concat()
}

/// A `struct in6_pktinfo`.
pub fn pktinfo6(to: std::net::IpAddr, device: u32) -> Vec<u8> {
    let mut out = mapped(to).octets().to_vec();
    out.extend_from_slice(&device.to_ne_bytes());
    out
}
