//! A network on its way to a sandbox whose process exists already.

use super::{InterfaceSpec, NetworkSpec, RouteSpec, UserNetwork};
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
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Interface {
    name: Vec<u8>,
    mac: [u8; 6],
    mtu: u32,
    addresses: Vec<(IpAddr, u8)>,
}

impl NetworkMessage {
    /// The message, and the sockets that go with it: one for each interface, and those to the name server.
    pub fn split(spec: NetworkSpec) -> (Self, Vec<OwnedFd>) {
        let mut sockets = Vec::new();
        let mut interfaces = Vec::new();
        for InterfaceSpec { name, mac, mtu, addresses, socket } in spec.interfaces {
            interfaces.push(Interface { name, mac, mtu, addresses });
            sockets.push(socket);
        }
        let names = spec.names.is_some();
        sockets.extend(spec.names.into_iter().flat_map(|n| [n.control, n.packets]));
        (Self { interfaces, routes: spec.routes, names }, sockets)
    }

    /// What was split.
    pub fn join(self, mut sockets: Vec<OwnedFd>) -> NetworkSpec {
        let mut last = sockets.split_off(self.interfaces.len().min(sockets.len())).into_iter();
        let names = match (self.names, last.next(), last.next()) {
            (true, Some(control), Some(packets)) => {
                Some(UserNetwork { control, packets, v6: false })
            }
            _ => None,
        };
        let interfaces = self.interfaces.into_iter().zip(sockets);
        let whole = |(Interface { name, mac, mtu, addresses }, socket)| InterfaceSpec {
            name,
            mac,
            mtu,
            addresses,
            socket,
        };
        let interfaces = interfaces.map(whole).collect();
        NetworkSpec { interfaces, routes: self.routes, egress: None, names }
    }
}
