//! What a sandbox is given of a network.
//!
//! [`user`] is `--network=user`: sockets of the host, through a process of its own, with [`publish`]ed ports, the
//! host's [`resolver`], and an [`egress`] policy.
//!
//! Here is `--network=sandbox`: the sandbox takes over the interfaces of the network namespace that it is given.
//!
//! Before the sentry gives up its privileges, this process reads each Ethernet interface's addresses and routes by
//! [`netlink`], opens a [`packet`] socket on it for the sentry, and takes the addresses away from the host's
//! kernel, which from then on answers nothing there.

pub mod egress;
mod netlink;
mod packet;
pub mod publish;
pub mod resolver;
pub mod user;

use anyhow::Context;
use netlink::{Address, Netlink};
use sentry::boot::{InterfaceSpec, NetworkSpec, RouteSpec};

/// Takes over the network namespace that this process is in.
pub fn take_over() -> anyhow::Result<NetworkSpec> {
    let mut netlink =
        Netlink::open().context("cannot ask for the interfaces of the network namespace")?;
    let links = netlink.links().context("cannot list the interfaces of the network namespace")?;
    let addresses = netlink.addresses().context("cannot list the addresses of the interfaces")?;
    let routes = netlink.routes().context("cannot list the routes of the network namespace")?;
    let mut spec = NetworkSpec::default();
    let mut taken: Vec<u32> = Vec::new();
    for link in links.into_iter().filter(|link| link.is_ethernet() && link.is_up()) {
        let name = String::from_utf8_lossy(&link.name).into_owned();
        let socket = packet::open(link.index)
            .with_context(|| format!("cannot open a packet socket on the interface {name}"))?;
        let own = addresses.iter().filter(|a| a.index == link.index);
        spec.interfaces.push(InterfaceSpec {
            name: link.name,
            mac: link.mac,
            mtu: link.mtu,
            addresses: own.map(|a| (a.ip, a.prefix)).collect(),
            socket,
        });
        taken.push(link.index);
    }
    for route in routes {
        let Some(interface) = taken.iter().position(|index| *index == route.index) else {
            continue;
        };
        let netlink::Route { to, prefix, via, source, metric, .. } = route;
        spec.routes.push(RouteSpec { to, prefix, via, interface, source, metric });
    }
    // Last, when nothing can fail any more but this.
    for address in addresses.iter().filter(|a| taken.contains(&a.index)) {
        remove(&mut netlink, address)?;
    }
    Ok(spec)
}

fn remove(netlink: &mut Netlink, address: &Address) -> anyhow::Result<()> {
    match netlink.remove_address(address) {
        // A secondary address goes with its primary one.
        Ok(()) | Err(nix::errno::Errno::EADDRNOTAVAIL) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot take {} from its interface", address.ip)),
    }
}
