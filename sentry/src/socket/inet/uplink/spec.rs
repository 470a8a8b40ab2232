//! What a sandbox is given of a network: interfaces of the namespace it takes over, with their addresses and routes.

use super::{EgressSpec, UserNetwork};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// A network to take over.
#[derive(Debug, Default)]
pub struct NetworkSpec {
    /// Interfaces other than the loopback interface.
    pub interfaces: Vec<InterfaceSpec>,
    /// Routes, besides those that follow from the addresses.
    pub routes: Vec<RouteSpec>,
    /// Whom it may reach; without it everybody.
    pub egress: Option<EgressSpec>,
    /// The way to the name server on the loopback interface of its namespace, if there is one.
    pub names: Option<UserNetwork>,
    /// Who connects to the loopback interface of its namespace is to reach the sandbox's.
    pub loopback: Option<LoopbackSpec>,
}

/// Connections to ports of the host's loopback interface, in the network namespace that is taken over.
#[derive(Debug)]
pub struct LoopbackSpec {
    /// A TCP socket that listens, and gets those to any port of 127.0.0.1.
    pub listener: OwnedFd,
    /// What brings them there; it acts as long as it is open.
    pub steering: OwnedFd,
}

/// An Ethernet interface of the host.
#[derive(Debug)]
pub struct InterfaceSpec {
    /// Its name.
    pub name: Vec<u8>,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Addresses, with the bits of their network part.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Packet sockets (`packet(7)`) bound to it, at least one: raw, not blocking, with `PACKET_VNET_HDR`. If there are several,
    /// the first gets what may belong to no flow, and each of the others all packets of some flows.
    pub sockets: Vec<OwnedFd>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// The network it leads to.
    pub to: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
    /// The next hop; `None`: on the link.
    pub via: Option<IpAddr>,
    /// Position of the interface in [`NetworkSpec::interfaces`].
    pub interface: usize,
    /// Source address to prefer.
    pub source: Option<IpAddr>,
    /// Lower wins.
    pub metric: u32,
}
