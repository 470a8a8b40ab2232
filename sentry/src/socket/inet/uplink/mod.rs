//! The way out of the sandbox: a TCP/IP stack of our own on the interfaces that the sandbox was given.
//!
//! | module | what |
//! |---|---|
//! | here | [`Uplink`]: the stack, as sockets see it; [`NetworkSpec`] to interfaces, addresses and routes |
//! | [`spec`] | what the starter of the sandbox found in its network namespace |
//! | [`link`](self::link) | an interface of the host, through packet sockets |
//! | [`strangers`] | what is put off in a flood |
//! | [`capture`] | packets, kept in a file |
//! | [`driver`] | the thread that waits for packets and for the stack's timers; its clock and entropy |
//! | [`proxy`] | instead of all that: sockets of the host, which another process makes |
//! | [`egress`] | whom a sandbox with a stack may reach |
//! | [`names`] | a name server on the loopback interface of the host's namespace (Docker's) |
//! | `gate` | the packet filter, for connections that other machines begin |
//! | [`error`] | the stack's errors and readiness as Linux has them |
//! | [`super::stream::remote`] | TCP connections to other machines, and listeners they can reach |
//! | [`super::dgram::remote`] | the same for UDP and echo sockets |
//!
//! The sandbox's own addresses are reached through queues, never through the stack; everything else goes through it.
//! Ports are given out by the tables of [`Net`]; an endpoint of the stack takes the same port under the
//! same address. Networks without an uplink have the loopback interface alone, and every other
//! destination is unreachable. A socket has an endpoint of the stack from when it is bound to an address that
//! others can reach, or first sends to one.
//!
//! Locks: the stack's own come after [`rank::INODE_NESTED`](crate::sync::rank::INODE_NESTED); it calls wakers and
//! links with none of them held, from the driver's thread or from within a call of a task. Wakers take a
//! socket's queue and wait queue only.

mod capture;
pub mod driver;
pub mod egress;
pub mod error;
mod gate;
mod link;
pub mod names;
pub mod proxy;
pub mod spec;
mod strangers;

pub use egress::EgressSpec;
pub use proxy::UserNetwork;
pub use spec::{InterfaceSpec, LoopbackSpec, NetworkSpec, RouteSpec};

use super::Net;
use super::host::{HostNet, HostNetwork};
use super::interface::{Address, IFF_RUNNING, IFF_UP, Interface, Interfaces};
use crate::errno::{Errno, Result};
use crate::io::from_host;
use capture::Capture;
use driver::{Driver, Entropy};
use egress::Egress;
use error::errno;
use gate::InputGate;
use link::PacketLink;
use names::NameServer;
use netstack::{Cidr, Config, IfaceId, RouteEntry, Stack};
use proxy::Proxy;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// `ARPHRD_ETHER`
const ARPHRD_ETHER: u16 = 1;
/// `IFF_BROADCAST | IFF_MULTICAST`
const IFF_ETHERNET: u32 = 0x2 | 0x1000;

/// What is behind the loopback interface.
pub enum Uplink {
    /// Our own stack, on interfaces of the host.
    Stack(Arc<Stack>),
    /// Sockets of the host.
    Proxy(Arc<Proxy>),
    /// Its own sockets, as they are.
    Host(Arc<HostNet>),
}

/// What a network is given.
#[derive(Debug)]
pub enum Network {
    /// Interfaces of the host.
    Interfaces(NetworkSpec),
    /// A process that makes sockets of the host.
    User(UserNetwork),
    /// A process that makes sockets of the host, and gives them away.
    Host(HostNetwork),
}

impl Uplink {
    /// Gives `net` a way to other machines, and starts to serve it. Called once, before the first task.
    /// Packets are kept in the file `pcap`.
    pub fn start(net: &Arc<Net>, network: Network, pcap: Option<OwnedFd>) -> Result<()> {
        let capture = pcap.map(Capture::new).transpose().map_err(from_host)?.map(Arc::new);
        let uplink = match network {
            Network::Interfaces(spec) => {
                let stack = Self::serve(net, spec, capture)?;
                stack.set_gate(Arc::new(InputGate::new(Arc::downgrade(net))));
                Uplink::Stack(stack)
            }
            Network::User(given) => Uplink::Proxy(Proxy::start(net, given)?),
            Network::Host(given) => Uplink::Host(HostNet::start(net, given)?),
        };
        net.uplink.set(uplink).map_err(|_| Errno::EEXIST)
    }

    /// Gives `net` a stack whose interfaces the guest makes. `EEXIST` if it has another uplink.
    pub fn adopt(net: &Arc<Net>, stack: Arc<Stack>) -> Result<()> {
        stack.set_gate(Arc::new(InputGate::new(Arc::downgrade(net))));
        net.uplink.set(Uplink::Stack(stack)).map_err(|_| Errno::EEXIST)
    }

    /// Gives `net` the interfaces of `spec`, and starts to serve them.
    fn serve(
        net: &Arc<Net>,
        spec: NetworkSpec,
        capture: Option<Arc<Capture>>,
    ) -> Result<Arc<Stack>> {
        let driver = Driver::new()?;
        let stack = Stack::new(Config::default(), driver.clock(), Arc::new(Entropy));
        let mut links = Vec::new();
        for given in spec.interfaces {
            let tap = capture
                .as_ref()
                .map(|capture| Ok((capture.clone(), capture.interface(&given.name)?)));
            let tap = tap.transpose().map_err(from_host)?;
            let link = PacketLink::new(given.sockets, given.mac, given.mtu, tap, driver.waker());
            let link = Arc::new(link.ok_or(Errno::EINVAL)?);
            let name = String::from_utf8_lossy(&given.name).into_owned();
            let id = stack.add_interface(&name, link.clone()).map_err(errno)?;
            link.show_to(&net.wire.taps, id);
            for (ip, prefix) in &given.addresses {
                let cidr = Cidr::new(*ip, *prefix).ok_or(Errno::EINVAL)?;
                stack.add_address(id, cidr).map_err(errno)?;
            }
            let addresses = given.addresses.iter();
            net.interfaces.write().push(Interface {
                index: id.0,
                name: given.name,
                flags: IFF_UP | IFF_RUNNING | IFF_ETHERNET,
                mtu: given.mtu,
                kind: ARPHRD_ETHER,
                mac: given.mac,
                addresses: addresses.map(|&(ip, prefix)| Address::new(ip, prefix)).collect(),
                ..Interface::default()
            });
            links.push((id, link));
        }
        if let Some(given) = spec.names {
            net.names.set(NameServer::start(net, given)?).map_err(|_| Errno::EEXIST)?;
        }
        if let Some(egress) = spec.egress {
            net.egress.set(Egress::new(egress, &stack)).map_err(|_| Errno::EEXIST)?;
        }
        for route in spec.routes {
            let Some((iface, _)) = links.get(route.interface) else { continue };
            let entry = RouteEntry {
                dst: Cidr::new(route.to, route.prefix).ok_or(Errno::EINVAL)?,
                via: route.via,
                iface: *iface,
                source: route.source,
                metric: route.metric,
                mtu: None,
            };
            stack.add_route(entry).map_err(errno)?;
        }
        driver.start(stack.clone(), links)?;
        Ok(stack)
    }

    /// The stack, if there is one.
    pub fn stack(&self) -> Option<&Arc<Stack>> {
        match self {
            Uplink::Stack(stack) => Some(stack),
            Uplink::Proxy(_) | Uplink::Host(_) => None,
        }
    }

    /// The routes that do not follow from the addresses of interfaces, best first.
    pub fn given_routes(&self, interfaces: &Interfaces) -> Vec<RouteEntry> {
        let connected = |route: &RouteEntry| {
            let addresses = interfaces.get(route.iface.0).map(|i| i.addresses.as_slice());
            let mut own = addresses.unwrap_or_default().iter();
            let network = route.dst;
            route.via.is_none()
                && own.any(|a| a.prefix == network.prefix_len() && network.contains(a.ip))
        };
        match self {
            Uplink::Stack(stack) => {
                stack.routes().into_iter().filter(|route| !connected(route)).collect()
            }
            Uplink::Proxy(proxy) => proxy.routes(),
            Uplink::Host(host) => host.routes().to_vec(),
        }
    }

    /// Source address and interface for a destination that is not this machine; `device` is the
    /// interface that was asked for, or 0. `ENETUNREACH`, `ENODEV`.
    pub fn route(&self, net: &Net, to: IpAddr, device: u32) -> Result<(IpAddr, u32)> {
        match self {
            Uplink::Stack(stack) => {
                let device = (device != 0).then_some(IfaceId(device));
                let (source, iface) = stack.route_to(to, device).map_err(errno)?;
                Ok((source, iface.0))
            }
            Uplink::Proxy(proxy) => proxy.route(to, device),
            Uplink::Host(host) => host.route(net, to),
        }
    }
}
