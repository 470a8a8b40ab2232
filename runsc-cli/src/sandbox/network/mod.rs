//! What a sandbox is given of a network.
//!
//! [`user`] is `--network=user`: sockets of the host, through a process of its own, with [`publish`]ed ports, the
//! host's [`resolver`], and an [`egress`] policy.
//!
//! [`host`] is `--network=host`: the sandbox's sockets are the host's. Both processes are [`helper`]s.
//!
//! Here is `--network=sandbox`: the sandbox takes over the interfaces of the network namespace that it is given.
//!
//! Before the sentry gives up its privileges, this process reads each Ethernet interface's addresses and routes by
//! [`netlink`], opens [`packet`] sockets on it for the sentry, and takes the addresses away from the host's
//! kernel, which from then on answers nothing there. A [`Takeover`] gives them back unless the sandbox has come to run.
//! If the container manager runs a name server there, [`names`] leads to it; [`loopback`] lets who enters the namespace on the
//! host reach the sandbox at 127.0.0.1.

pub mod egress;
pub mod helper;
pub mod host;
mod loopback;
mod names;
mod netlink;
mod packet;
pub mod publish;
pub mod resolver;
mod sorting;
pub mod user;

use crate::cli::{Global, HostSeccomp, NetworkName};
use crate::log;
use anyhow::{Context, bail};
use helper::Helper;
use netlink::{Address, Netlink, Route};
use nix::errno::Errno;
use nix::unistd::Pid;
use sentry::boot::{InterfaceSpec, NetworkSpec, RouteSpec};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

/// Interfaces that have several sockets each, at most: all travel in one message.
const MAX_SORTED: usize = 12;

/// What was taken from the host's kernel. It gets it back when this is dropped, unless [`Takeover::keep`] was called.
pub struct Takeover {
    /// It stays in the network namespace in which it was opened.
    netlink: Netlink,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    /// The proxy for name questions.
    names: Option<Helper>,
}

impl Takeover {
    /// The process that puts name questions.
    pub fn names(&self) -> Option<Pid> {
        self.names.as_ref().map(Helper::pid)
    }

    /// The sandbox runs: it keeps what it has.
    pub fn keep(mut self) {
        self.addresses.clear();
        self.routes.clear();
        if let Some(names) = self.names.take() {
            names.keep();
        }
    }
}

impl Drop for Takeover {
    fn drop(&mut self) {
        for address in &self.addresses {
            let added = self.netlink.add_address(address);
            warn(added, || format!("cannot give {} back to its interface", address.ip));
        }
        // Gateways are reached by routes that have none.
        let (direct, through): (Vec<_>, Vec<_>) =
            self.routes.iter().partition(|route| route.via.is_none());
        for route in direct.into_iter().chain(through) {
            let added = self.netlink.add_route(route);
            warn(added, || format!("cannot put back the route to {}/{}", route.to, route.prefix));
        }
    }
}

/// Says what could not be put back; that it is there already is fine, and so is that its interface has gone.
fn warn(result: Result<(), Errno>, what: impl FnOnce() -> String) {
    match result {
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => {}
        Err(e) => log::warn(&format!("{}: {e}", what())),
    }
}

/// Opens the file that the flags want the sandbox's packets in.
pub fn open_pcap(global: &Global, id: &str) -> anyhow::Result<Option<OwnedFd>> {
    let Some(path) = &global.pcap else { return Ok(None) };
    if global.network != NetworkName::Sandbox {
        bail!("--pcap needs --network=sandbox: with another network there are no packets");
    }
    let path = &log::file_name(path, id);
    let mut options = File::options();
    // For nobody else to read. What is there already goes.
    let file = options.create(true).append(true).mode(0o600).open(path).and_then(|file| {
        file.set_len(0)?;
        Ok(file)
    });
    let opened = file.with_context(|| {
        let path = path.display();
        format!("cannot open the file for packets {path}: is its directory there and writable?")
    })?;
    Ok(Some(opened.into()))
}

/// Takes over the network namespace that this process is in. `attached`: what is started for it dies with this process.
pub fn take_over(attached: bool, mode: HostSeccomp) -> anyhow::Result<(NetworkSpec, Takeover)> {
    let mut netlink =
        Netlink::open().context("cannot ask for the interfaces of the network namespace")?;
    let links = netlink.links().context("cannot list the interfaces of the network namespace")?;
    let addresses = netlink.addresses().context("cannot list the addresses of the interfaces")?;
    let routes = netlink.routes().context("cannot list the routes of the network namespace")?;
    let mut spec = NetworkSpec::default();
    let mut taken: Vec<u32> = Vec::new();
    for link in links.into_iter().filter(|link| link.is_ethernet() && link.is_up()) {
        let name = String::from_utf8_lossy(&link.name).into_owned();
        let sockets = packet::open(link.index, spec.interfaces.len() < MAX_SORTED)
            .with_context(|| format!("cannot open a packet socket on the interface {name}"))?;
        let own = addresses.iter().filter(|a| a.index == link.index);
        spec.interfaces.push(InterfaceSpec {
            name: link.name,
            mac: link.mac,
            mtu: link.mtu,
            addresses: own.map(|a| (a.ip, a.prefix)).collect(),
            sockets,
        });
        taken.push(link.index);
    }
    let (names, network) = names::start(attached, mode)?.unzip();
    spec.names = network;
    if !spec.interfaces.is_empty() {
        // Hosts without it lose connections to their own loopback interface only.
        spec.loopback = loopback::open()
            .inspect_err(|e| tracing::debug!("cannot redirect the loopback interface: {e}"))
            .ok();
    }
    let mut takeover = Takeover { netlink, addresses: Vec::new(), routes: Vec::new(), names };
    for route in routes {
        let Some(interface) = taken.iter().position(|index| *index == route.index) else {
            continue;
        };
        let Route { to, prefix, via, source, metric, .. } = route;
        spec.routes.push(RouteSpec { to, prefix, via, interface, source, metric });
        takeover.routes.push(route);
    }
    // Last, when nothing can fail any more but this.
    for address in addresses.into_iter().filter(|a| taken.contains(&a.index)) {
        remove(&mut takeover.netlink, &address)?;
        takeover.addresses.push(address);
    }
    Ok((spec, takeover))
}

fn remove(netlink: &mut Netlink, address: &Address) -> anyhow::Result<()> {
    match netlink.remove_address(address) {
        // A secondary address goes with its primary one.
        Ok(()) | Err(Errno::EADDRNOTAVAIL) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot take {} from its interface", address.ip)),
    }
}
