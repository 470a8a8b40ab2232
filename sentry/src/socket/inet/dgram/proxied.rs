//! Datagrams and echo requests that go through a proxy, one by one.

use super::errors::QueuedError;
use super::remote::Remote;
use super::send::Outgoing;
use super::{DgramSocket, Protocol, echo};
use crate::errno::{Errno, Result};
use crate::socket::inet::addr::Endpoint;
use crate::socket::inet::inbox::Datagram;
use crate::socket::inet::uplink::proxy::{Proxy, device, own_address, socket_addr};
use crate::sync::{Mutex, rank};
use netproxy::protocol::{self as wire, Packet};
use rustc_hash::FxHashSet;
use std::sync::{Arc, Weak};

/// Most destinations that are remembered as allowed, for each socket.
const MAX_CHECKED: usize = 256;

/// What stands for a socket at the proxy.
pub struct Proxied {
    id: u64,
    port: u16,
    proxy: Arc<Proxy>,
    checked: Mutex<FxHashSet<Endpoint>, { rank::LEAF }>,
}

fn protocol(of: Protocol) -> wire::Protocol {
    match of {
        // UDP-Lite does not come so far.
        Protocol::Udp | Protocol::UdpLite => wire::Protocol::Udp,
        Protocol::Echo => wire::Protocol::Echo,
    }
}

impl Proxied {
    /// Packets for it go to `socket`, which is bound to `port` or has that identifier.
    pub(super) fn new(proxy: &Arc<Proxy>, socket: &Weak<DgramSocket>, port: u16) -> Proxied {
        let id = proxy.next_id();
        proxy.enter_datagrams(id, socket);
        Proxied { id, port, proxy: proxy.clone(), checked: Mutex::default() }
    }

    /// Asks whether `to` may be reached, unless that is known.
    pub(super) fn check(&self, of: Protocol, to: Endpoint) -> Result<()> {
        if self.checked.lock().contains(&to) {
            return Ok(());
        }
        self.proxy.check(protocol(of), self.port, to)?;
        let mut checked = self.checked.lock();
        if checked.len() >= MAX_CHECKED {
            checked.clear();
        }
        checked.insert(to);
        Ok(())
    }

    /// True for the name of this one at the proxy.
    pub(super) fn is(&self, id: u64) -> bool {
        self.id == id
    }

    /// Sends a message.
    pub(super) fn send(&self, of: Protocol, data: &[u8], out: &Outgoing) -> Result<()> {
        self.check(of, out.to)?;
        self.transmit(of, out.to, data, out)
    }

    /// Sends a datagram to `peer` as the proxy knows it, which may be reached.
    pub(super) fn pass(&self, peer: Endpoint, data: &[u8], out: &Outgoing) -> Result<()> {
        self.transmit(Protocol::Udp, peer, data, out)
    }

    fn transmit(&self, of: Protocol, peer: Endpoint, data: &[u8], out: &Outgoing) -> Result<()> {
        self.proxy.send(&Packet::Data {
            id: self.id,
            protocol: protocol(of),
            port: out.from.port,
            peer: socket_addr(peer),
            ttl: out.ttl,
            tos: out.tos,
            data,
        })
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        self.proxy.forget_datagrams(self.id);
    }
}

impl DgramSocket {
    /// The proxy has something for this socket.
    pub fn take_packet(&self, packet: &Packet<'_>) {
        if self.is_named(packet) {
            return self.take_named(packet);
        }
        match *packet {
            Packet::Data { peer, ttl, tos, data, .. } => {
                let from = Endpoint::new(peer.ip(), peer.port());
                let remote = self.remote();
                let Some(Remote::Proxied(Proxied { port, .. })) = remote.as_deref() else { return };
                let port = *port;
                let to = Endpoint { ip: own_address(from.ip), port };
                let mut data = data.to_vec();
                if self.protocol == Protocol::Echo {
                    // The host has put its own socket's identifier there.
                    echo::finish(&mut data, port, (from.ip, to.ip));
                }
                let at = crate::fs::anon::now();
                let (device, segment) = (device(), 0);
                self.push_received(Datagram { data, from, to, device, ttl, tos, segment, at });
            }
            Packet::Error { peer, errno, origin: (origin, kind, code), offender, data, .. } => {
                let to = Endpoint::new(peer.ip(), peer.port());
                self.returned(QueuedError {
                    errno: Errno::from_raw(errno),
                    to,
                    origin,
                    icmp: (kind, code),
                    offender: Some(offender.unwrap_or(to.ip)),
                    info: 0,
                    data: data.to_vec(),
                });
            }
        }
    }
}
