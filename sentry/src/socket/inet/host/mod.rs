//! `--network=host`: internet sockets are sockets of the host's, which a process outside makes ([`netproxy::host`])
//! and [`socket`] uses as they are. [`options`] says which options go through.
//!
//! The guest sees the host's interfaces, addresses and routes as they were when the sandbox was started. What leaves is
//! the host's own traffic: there is no isolation of the network in this mode.
//!
//! Locks: leaves.

pub mod options;
pub mod socket;

use super::Net;
use super::interface::{Address, Interface};
use super::uplink::RouteSpec;
use super::uplink::proxy::events_of;
use crate::errno::{Errno, Result};
use crate::io::from_host;
use crate::sync::{Mutex, rank};
use netproxy::host::{Maker, Wanted};
use netproxy::protocol::Protocol;
use netstack::{Cidr, IfaceId, RouteEntry};
use platform::host::thread;
use platform::host::watch::Watch;
use rustc_hash::FxHashMap;
use socket::HostSocket;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Stack of the thread that watches, in bytes.
const STACK: usize = 256 << 10;

/// An interface of the host.
#[derive(Debug)]
pub struct HostInterface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: Vec<u8>,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// `IFF_*`
    pub flags: u32,
    /// `ARPHRD_*`
    pub kind: u16,
    /// Addresses, with the bits of their network part.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// What a sandbox with `--network=host` is given.
#[derive(Debug)]
pub struct HostNetwork {
    /// Where sockets are asked for.
    pub control: OwnedFd,
    /// Interfaces other than the loopback interface.
    pub interfaces: Vec<HostInterface>,
    /// Routes that do not follow from the addresses; positions are those of `interfaces`.
    pub routes: Vec<RouteSpec>,
}

/// The host's network.
pub struct HostNet {
    maker: Maker,
    watch: Watch,
    next: AtomicU64,
    sockets: Mutex<FxHashMap<u64, Weak<HostSocket>>, { rank::LEAF }>,
    routes: Vec<RouteEntry>,
}

impl HostNet {
    /// Shows `net` the host's interfaces, and starts to watch its sockets.
    pub fn start(net: &Net, given: HostNetwork) -> Result<Arc<HostNet>> {
        let HostNetwork { control, interfaces, routes } = given;
        let route = |route: &RouteSpec| {
            Some(RouteEntry {
                dst: Cidr::new(route.to, route.prefix)?,
                via: route.via,
                iface: IfaceId(interfaces.get(route.interface)?.index),
                source: route.source,
                metric: route.metric,
                mtu: None,
            })
        };
        let routes = routes.iter().filter_map(route).collect();
        for HostInterface { index, name, mac, mtu, flags, kind, addresses } in interfaces {
            let addresses = addresses.into_iter().map(|(ip, prefix)| Address::new(ip, prefix));
            let addresses = addresses.collect();
            let interface =
                Interface { index, name, flags, mtu, kind, mac, addresses, ..Interface::default() };
            net.interfaces.write().push(interface);
        }
        let host = Arc::new(HostNet {
            maker: Maker::new(control),
            watch: Watch::new().map_err(from_host)?,
            next: AtomicU64::new(1),
            sockets: Mutex::default(),
            routes,
        });
        let watcher = host.clone();
        thread::spawn("net-watch", STACK, move || watcher.watch_sockets()).map_err(from_host)?;
        Ok(host)
    }

    /// A new socket of the host's.
    fn make(&self, v6: bool, protocol: Protocol) -> Result<OwnedFd> {
        self.maker.socket(Wanted { v6, protocol }).map_err(from_host)
    }

    /// The routes, besides those that follow from the addresses.
    pub fn routes(&self) -> &[RouteEntry] {
        &self.routes
    }

    /// Source address and interface for a destination, as far as the guest is shown. `ENETUNREACH`.
    pub fn route(&self, net: &Net, to: IpAddr) -> Result<(IpAddr, u32)> {
        let matches = |route: &&RouteEntry| route.dst.contains(to);
        let best = self.routes.iter().filter(matches).max_by_key(|route| route.dst.prefix_len());
        let device = best.ok_or(Errno::ENETUNREACH)?.iface.0;
        let interfaces = net.interfaces.read();
        let source = interfaces.get(device).and_then(|interface| interface.source_for(to));
        Ok((source.ok_or(Errno::ENETUNREACH)?, device))
    }

    fn watch_sockets(&self) {
        loop {
            let waited = self.watch.wait(|id, events| {
                let socket = self.sockets.lock().get(&id).and_then(Weak::upgrade);
                if let Some(socket) = socket {
                    socket.changed(events_of(events));
                }
            });
            match waited {
                Ok(()) | Err(platform::host::Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}
