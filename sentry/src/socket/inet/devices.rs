//! `ioctl(2)` on interfaces (`netdevice(7)`), which any socket will do for.

use super::Net;
use super::addr::{AF_INET, Endpoint};
use super::admin::Outcome;
use super::admin::address::Given;
use super::admin::route::{Manner, Wanted};
use super::interface::Interface;
use crate::errno::{Errno, Result};
use crate::kernel::Task;
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::mm::UserAddr;
use crate::socket::netlink::notify::Cause;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Size of `struct ifreq`, of the name at its start, and of an entry's address.
const IFREQ: usize = 40;
const IFNAMSIZ: usize = 16;

mod cmd {
    pub const GIFNAME: u32 = 0x8910;
    pub const GIFCONF: u32 = 0x8912;
    pub const GIFFLAGS: u32 = 0x8913;
    pub const GIFADDR: u32 = 0x8915;
    pub const GIFDSTADDR: u32 = 0x8917;
    pub const GIFBRDADDR: u32 = 0x8919;
    pub const GIFNETMASK: u32 = 0x891b;
    pub const GIFMETRIC: u32 = 0x891d;
    pub const GIFMTU: u32 = 0x8921;
    pub const GIFHWADDR: u32 = 0x8927;
    pub const GIFINDEX: u32 = 0x8933;
    pub const GIFTXQLEN: u32 = 0x8942;
    pub const GIFMAP: u32 = 0x8970;
    pub const ETHTOOL: u32 = 0x8946;
    pub const ADDRT: u32 = 0x890b;
    pub const DELRT: u32 = 0x890c;
    pub const SIFFLAGS: u32 = 0x8914;
    pub const SIFADDR: u32 = 0x8916;
    pub const SIFDSTADDR: u32 = 0x8918;
    pub const SIFBRDADDR: u32 = 0x891a;
    pub const SIFNETMASK: u32 = 0x891c;
    pub const SIFMETRIC: u32 = 0x891e;
    pub const SIFMTU: u32 = 0x8922;
    pub const SIFNAME: u32 = 0x8923;
    pub const SIFHWADDR: u32 = 0x8924;
    pub const SIFTXQLEN: u32 = 0x8943;
    /// Those that change an interface or a route.
    pub const SETTERS: [u32; 12] = [
        ADDRT, DELRT, SIFFLAGS, SIFADDR, SIFDSTADDR, SIFBRDADDR, SIFNETMASK, SIFMETRIC, SIFMTU,
        SIFNAME, SIFHWADDR, SIFTXQLEN,
    ];
}

fn sockaddr(ip: Ipv4Addr) -> Vec<u8> {
    Endpoint { ip: ip.into(), port: 0 }.sockaddr(AF_INET)
}

fn first_v4(interface: &Interface) -> Option<super::interface::Address> {
    interface.addresses.iter().find(|a| a.ip.is_ipv4()).copied()
}

/// Runs a command on an interface or on the list of them. `ENOTTY` if it is none of these.
pub fn ioctl(net: &Arc<Net>, task: &Task, command: u32, arg: u64) -> Result<u64> {
    if cmd::SETTERS.contains(&command) {
        if !Net::capable(task, CAP_NET_ADMIN) {
            return Err(Errno::EPERM);
        }
        return match command {
            cmd::ADDRT | cmd::DELRT => route(net, task, command == cmd::ADDRT, arg),
            _ => change(net, task, command, arg),
        };
    }
    match command {
        cmd::GIFCONF => list(net, task, arg),
        cmd::GIFNAME => {
            let mm = task.mm()?;
            let request: [u8; IFREQ] = mm.read_obj(UserAddr(arg))?;
            let index = request.get(IFNAMSIZ..).and_then(|b| b.first_chunk());
            let index = u32::from_ne_bytes(*index.ok_or(Errno::EINVAL)?);
            let name = net.with_device(index, |i| i.name.clone()).ok_or(Errno::ENODEV)?;
            mm.write(UserAddr(arg), &padded(&name))?;
            Ok(0)
        }
        cmd::GIFFLAGS
        | cmd::GIFADDR
        | cmd::GIFDSTADDR
        | cmd::GIFBRDADDR
        | cmd::GIFNETMASK
        | cmd::GIFMETRIC
        | cmd::GIFMTU
        | cmd::GIFHWADDR
        | cmd::GIFINDEX
        | cmd::GIFTXQLEN
        | cmd::GIFMAP
        | cmd::ETHTOOL => {
            let mm = task.mm()?;
            let request: [u8; IFREQ] = mm.read_obj(UserAddr(arg))?;
            let name = request.get(..IFNAMSIZ).unwrap_or_default();
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            // An alias (`lo:1`) is the interface itself.
            let name = name.split(|b| *b == b':').next().unwrap_or_default();
            let value = {
                let interfaces = net.interfaces.read();
                ask(interfaces.named(name).ok_or(Errno::ENODEV)?, command)?
            };
            mm.write(UserAddr(arg).offset(IFNAMSIZ as u64), &value)?;
            Ok(0)
        }
        _ => Err(Errno::ENOTTY),
    }
}

/// Changes an interface (`struct ifreq`).
fn change(net: &Arc<Net>, task: &Task, command: u32, arg: u64) -> Result<u64> {
    let request: [u8; IFREQ] = task.mm()?.read_obj(UserAddr(arg))?;
    let (name, value) = request.split_at(IFNAMSIZ);
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    let word = value.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
    let index = net.device_named(name).ok_or(Errno::ENODEV)?;
    let cause = Cause::default();
    let plain = |outcome: Outcome| outcome.map_err(|failure| failure.errno);
    match command {
        cmd::SIFFLAGS => {
            let flags = word & 0xffff;
            net.set_flags(index, flags, 0xffff, cause)?;
        }
        cmd::SIFMTU => plain(net.set_mtu(index, word, cause))?,
        cmd::SIFTXQLEN if (word as i32) < 0 => return Err(Errno::EINVAL),
        cmd::SIFTXQLEN => net.set_queue_len(index, word, cause)?,
        cmd::SIFNAME => {
            let new = value.get(..IFNAMSIZ).unwrap_or_default();
            net.rename(index, new.split(|b| *b == 0).next().unwrap_or_default(), cause)?;
        }
        cmd::SIFHWADDR => {
            let kind = net.with_device(index, |i| i.kind).ok_or(Errno::ENODEV)?;
            if word as u16 != kind {
                return Err(Errno::EINVAL);
            }
            let mac = value.get(2..).and_then(|b| b.first_chunk()).ok_or(Errno::EINVAL)?;
            net.set_mac(index, *mac, cause)?;
        }
        cmd::SIFADDR => {
            let ip = v4(value)?;
            let old = net.with_device(index, first_v4).flatten();
            if old.is_some_and(|old| old.ip == ip) {
                return Ok(0);
            }
            if let Some(old) = old {
                plain(net.remove_address(index, old.ip, Some(old.prefix), cause))?;
            }
            if !ip.is_unspecified() {
                let given = Given { ip: ip.into(), prefix: class_of(ip), broadcast: true };
                plain(net.add_address(index, given, true, cause))?;
            }
        }
        cmd::SIFNETMASK | cmd::SIFBRDADDR => {
            let old = net.with_device(index, first_v4).flatten().ok_or(Errno::EADDRNOTAVAIL)?;
            let mut given = Given { ip: old.ip, prefix: old.prefix, broadcast: true };
            if command == cmd::SIFNETMASK {
                let mask = u32::from(v4(value)?);
                if mask.leading_ones() + mask.trailing_zeros().min(32) < 32 {
                    return Err(Errno::EINVAL);
                }
                given.prefix = mask.leading_ones() as u8;
            }
            if (given.prefix, true) != (old.prefix, old.has_broadcast) {
                plain(net.remove_address(index, old.ip, Some(old.prefix), cause))?;
                plain(net.add_address(index, given, true, cause))?;
            }
        }
        // Metrics of interfaces have never been used, and no address is of a single other machine.
        _ => return Err(Errno::EOPNOTSUPP),
    }
    Ok(0)
}

/// A `struct sockaddr_in`. `EINVAL`.
fn v4(bytes: &[u8]) -> Result<Ipv4Addr> {
    let family = bytes.first_chunk().map(|f| i32::from(u16::from_ne_bytes(*f)));
    let ip = bytes.get(4..).and_then(|b| b.first_chunk::<4>());
    match (family, ip) {
        (Some(AF_INET), Some(ip)) => Ok(Ipv4Addr::from(*ip)),
        _ => Err(Errno::EINVAL),
    }
}

/// Bits of the network part that addresses had before masks.
fn class_of(ip: Ipv4Addr) -> u8 {
    match ip.octets() {
        [0..128, ..] => 8,
        [128..192, ..] => 16,
        _ => 24,
    }
}

/// Adds or removes a route (`struct rtentry`).
fn route(net: &Arc<Net>, task: &Task, add: bool, arg: u64) -> Result<u64> {
    const SIZE: usize = 120;
    const GATEWAY: u16 = 2;
    const HOST: u16 = 4;
    let request: [u8; SIZE] = task.mm()?.read_obj(UserAddr(arg))?;
    let from = |at: usize| request.get(at..).unwrap_or_default();
    let half = |at: usize| from(at).first_chunk().map_or(0, |b| u16::from_ne_bytes(*b));
    let (flags, metric) = (half(56), half(80));
    let to = v4(from(8))?;
    let mask = match flags & HOST {
        0 => v4(from(40)).map_or(0, u32::from),
        _ => u32::MAX,
    };
    let name = from(88).first_chunk().map_or(0, |b| u64::from_ne_bytes(*b));
    let device = match name {
        0 => 0,
        at => {
            let name: [u8; IFNAMSIZ] = task.mm()?.read_obj(UserAddr(at))?;
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            net.device_named(name).ok_or(Errno::ENODEV)?
        }
    };
    let via = if flags & GATEWAY != 0 { Some(v4(from(24))?.into()) } else { None };
    let wanted = Wanted {
        to: to.into(),
        prefix: mask.leading_ones() as u8,
        via,
        device,
        source: None,
        // What is told here is one more.
        metric: metric.checked_sub(1).map(u32::from).filter(|n| *n != 0),
        direct: None,
    };
    let how = Manner { create: true, exclusive: true, replace: false };
    let cause = Cause::default();
    let done =
        if add { net.add_route(wanted, how, cause) } else { net.remove_route(wanted, cause) };
    done.map(|()| 0).map_err(|failure| failure.errno)
}

fn padded(name: &[u8]) -> Vec<u8> {
    let mut out = name.to_vec();
    out.resize(IFNAMSIZ, 0);
    out
}

fn ask(interface: &Interface, command: u32) -> Result<Vec<u8>> {
    let int = |n: u32| n.to_ne_bytes().to_vec();
    let address = || first_v4(interface).ok_or(Errno::EADDRNOTAVAIL);
    Ok(match command {
        cmd::GIFFLAGS => (interface.flags as u16).to_ne_bytes().to_vec(),
        cmd::GIFADDR | cmd::GIFDSTADDR => match address()?.ip {
            IpAddr::V4(ip) => sockaddr(ip),
            IpAddr::V6(_) => return Err(Errno::EADDRNOTAVAIL),
        },
        cmd::GIFBRDADDR => {
            let address = address()?;
            let broadcast = address.broadcast().filter(|_| !interface.is_loopback());
            sockaddr(broadcast.unwrap_or(Ipv4Addr::UNSPECIFIED))
        }
        cmd::GIFNETMASK => sockaddr(Ipv4Addr::from(address()?.mask())),
        cmd::GIFMETRIC => int(0),
        cmd::GIFMTU => int(interface.mtu),
        cmd::GIFHWADDR => {
            let mut out = interface.kind.to_ne_bytes().to_vec();
            out.extend_from_slice(&interface.mac);
            out.resize(16, 0);
            out
        }
        cmd::GIFINDEX => int(interface.index),
        cmd::GIFTXQLEN => int(interface.queue_len),
        cmd::GIFMAP => vec![0; 24],
        _ => return Err(Errno::EOPNOTSUPP),
    })
}

/// `SIOCGIFCONF`: a `struct ifconf` with the IPv4 addresses.
fn list(net: &Net, task: &Task, arg: u64) -> Result<u64> {
    let mm = task.mm()?;
    let [len, buffer]: [u64; 2] = mm.read_obj(UserAddr(arg))?;
    let mut out = Vec::new();
    for interface in net.interfaces.read().iter() {
        for address in &interface.addresses {
            let IpAddr::V4(ip) = address.ip else { continue };
            out.extend_from_slice(&padded(&interface.name));
            out.extend_from_slice(&sockaddr(ip));
            out.extend_from_slice(&[0; 8]);
        }
    }
    if buffer != 0 {
        let room = usize::try_from(len as u32 as i32).map_err(|_| Errno::EINVAL)?;
        out.truncate(room / IFREQ * IFREQ);
        mm.write(UserAddr(buffer), &out)?;
    }
    mm.write_obj(UserAddr(arg), &(out.len() as u32))?;
    Ok(0)
}
