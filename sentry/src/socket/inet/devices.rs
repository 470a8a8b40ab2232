//! `ioctl(2)` on interfaces (`netdevice(7)`), which any socket will do for.

use super::Net;
use super::addr::{AF_INET, Endpoint};
use super::interface::{IFF_UP, Interface};
use crate::errno::{Errno, Result};
use crate::kernel::Task;
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::mm::UserAddr;
use std::net::{IpAddr, Ipv4Addr};

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
    pub const SIFFLAGS: u32 = 0x8914;
    /// Others that change an interface or a route.
    pub const SETTERS: [u32; 10] =
        [0x890b, 0x890c, 0x8916, 0x8918, 0x891a, 0x891c, 0x8922, 0x8924, 0x8943, 0x8923];
}

fn sockaddr(ip: Ipv4Addr) -> Vec<u8> {
    Endpoint { ip: ip.into(), port: 0 }.sockaddr(AF_INET)
}

fn first_v4(interface: &Interface) -> Option<super::interface::Address> {
    interface.addresses.iter().find(|a| a.ip.is_ipv4()).copied()
}

/// Runs a command on an interface or on the list of them. `ENOTTY` if it is none of these.
pub fn ioctl(net: &Net, task: &Task, command: u32, arg: u64) -> Result<u64> {
    if cmd::SETTERS.contains(&command) {
        // The interfaces are given from outside.
        let may = Net::capable(task, CAP_NET_ADMIN);
        return Err(if may { Errno::EOPNOTSUPP } else { Errno::EPERM });
    }
    match command {
        cmd::SIFFLAGS => {
            if !Net::capable(task, CAP_NET_ADMIN) {
                return Err(Errno::EPERM);
            }
            let request: [u8; IFREQ] = task.mm()?.read_obj(UserAddr(arg))?;
            let name = request.split(|b| *b == 0).next().unwrap_or_default();
            let flags = request.get(IFNAMSIZ..).and_then(|b| b.first_chunk());
            let flags = u32::from(u16::from_ne_bytes(*flags.ok_or(Errno::EINVAL)?));
            let index = net.device_named(name).ok_or(Errno::ENODEV)?;
            let mut interfaces = net.interfaces.write();
            interfaces.get_mut(index).ok_or(Errno::ENODEV)?.set_up(flags & IFF_UP != 0);
            Ok(0)
        }
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
        cmd::GIFTXQLEN => int(1000),
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
