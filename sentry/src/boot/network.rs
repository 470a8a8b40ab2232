//! A network on its way to a sandbox whose process exists already.

use super::{InterfaceSpec, LoopbackSpec, NetworkSpec, RouteSpec, UserNetwork};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// A [`NetworkSpec`] without its sockets, which travel beside it, and without a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkMessage {
    interfaces: Vec<Interface>,
    routes: Vec<RouteSpec>,
    /// Two more sockets lead to a name server.
    names: bool,
    /// Two more are for connections to the host's loopback interface.
    loopback: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Interface {
    name: Vec<u8>,
    mac: [u8; 6],
    mtu: u32,
    addresses: Vec<(IpAddr, u8)>,
    /// How many sockets it has.
    sockets: usize,
}

impl NetworkMessage {
    /// The message, and the sockets that go with it: those of the interfaces, those to the name server, and those for
    /// connections from the host.
    pub fn split(spec: NetworkSpec) -> (Self, Vec<OwnedFd>) {
        let mut sockets = Vec::new();
        let mut interfaces = Vec::new();
        for InterfaceSpec { name, mac, mtu, addresses, sockets: own } in spec.interfaces {
            interfaces.push(Interface { name, mac, mtu, addresses, sockets: own.len() });
            sockets.extend(own);
        }
        let names = spec.names.is_some();
        sockets.extend(spec.names.into_iter().flat_map(|n| [n.control, n.packets]));
        let loopback = spec.loopback.is_some();
        sockets.extend(spec.loopback.into_iter().flat_map(|l| [l.listener, l.steering]));
        (Self { interfaces, routes: spec.routes, names, loopback }, sockets)
    }

    /// What was split.
    pub fn join(self, sockets: Vec<OwnedFd>) -> NetworkSpec {
        let mut rest = sockets.into_iter();
        let whole = |Interface { name, mac, mtu, addresses, sockets }| {
            let sockets = rest.by_ref().take(sockets).collect();
            InterfaceSpec { name, mac, mtu, addresses, sockets }
        };
        let interfaces = self.interfaces.into_iter().map(whole).collect();
        let mut two = |wanted: bool| wanted.then(|| Some((rest.next()?, rest.next()?))).flatten();
        let names = two(self.names);
        let names = names.map(|(control, packets)| UserNetwork { control, packets, v6: false });
        let loopback = two(self.loopback);
        let loopback = loopback.map(|(listener, steering)| LoopbackSpec { listener, steering });
        NetworkSpec { interfaces, routes: self.routes, egress: None, names, loopback }
    }
}
