//! Datagrams to and from other machines: an endpoint of the [`uplink`](crate::socket::inet::uplink)'s stack,
//! or what stands for one with a proxy ([`super::proxied`]). Its datagrams go to the socket's own queue.

use super::proxied::Proxied;
use super::send::Outgoing;
use super::{DgramSocket, Protocol};
use crate::errno::{Errno, Result};
use crate::socket::inet::addr::{AF_INET, Endpoint};
use crate::socket::inet::inbox::Datagram;
use crate::socket::inet::ip;
use crate::socket::inet::stream::remote::stack::{endpoint, family, socket_addr};
use crate::socket::inet::uplink::Uplink;
use crate::socket::inet::uplink::error::errno;
use crate::socket::options::so;
use netstack::{DatagramOptions, IfaceId, RawKind, RawSocket, Readiness, UdpSocket, Waker};
use std::sync::{Arc, Weak};

/// The endpoint.
pub enum Remote {
    /// UDP.
    Udp(UdpSocket),
    /// Echo requests.
    Echo(RawSocket),
    /// Either, through a proxy.
    Proxied(Proxied),
}

/// Moves what has come to the socket.
struct Delivery {
    socket: Weak<DgramSocket>,
}

impl Waker for Delivery {
    fn wake(&self, ready: Readiness) {
        if let Some(socket) = self.socket.upgrade() {
            socket.collect(ready);
        }
    }
}

impl Remote {
    fn receive(&self) -> netstack::Result<netstack::Datagram> {
        match self {
            Remote::Udp(udp) => udp.recv(),
            Remote::Echo(raw) => raw.recv(),
            // It tells the socket itself.
            Remote::Proxied(_) => Err(netstack::Error::WouldBlock),
        }
    }

    fn change_options(&self, change: impl FnOnce(&mut DatagramOptions)) {
        let mut options = match self {
            Remote::Udp(udp) => udp.options(),
            Remote::Echo(raw) => raw.options(),
            Remote::Proxied(_) => return,
        };
        change(&mut options);
        match self {
            Remote::Udp(udp) => udp.set_options(options),
            Remote::Echo(raw) => raw.set_options(options),
            Remote::Proxied(_) => {}
        }
    }
}

impl DgramSocket {
    pub(super) fn remote(&self) -> Option<Arc<Remote>> {
        self.remote.lock().clone()
    }

    /// Whether there is a way to other machines for its protocol. `ENETUNREACH`.
    pub(super) fn may_leave(&self) -> Result<()> {
        if self.protocol == Protocol::UdpLite { Err(Errno::ENETUNREACH) } else { Ok(()) }
    }

    /// Makes the endpoint of a socket that is bound to an address that other machines can reach.
    pub(super) fn open_remote(&self, at: Endpoint) -> Result<()> {
        let Some(uplink) = self.common.net.uplink.get() else { return Ok(()) };
        if at.ip.is_loopback() || at.ip.is_multicast() || self.may_leave().is_err() {
            return Ok(());
        }
        let waker: Arc<dyn Waker> = Arc::new(Delivery { socket: self.this.clone() });
        let family = family(self.common.family());
        let remote = match (uplink, self.protocol) {
            (Uplink::Stack(stack), Protocol::Udp) => Remote::Udp(stack.udp(family).map_err(errno)?),
            (Uplink::Stack(stack), Protocol::Echo) => {
                Remote::Echo(stack.raw(family, RawKind::Ping).map_err(errno)?)
            }
            // Its sockets are others.
            (Uplink::Host(_), _) | (_, Protocol::UdpLite) => return Ok(()),
            (Uplink::Proxy(proxy), _) => Remote::Proxied(Proxied::new(proxy, &self.this, at.port)),
        };
        self.apply_options(&remote, None);
        match &remote {
            Remote::Udp(udp) => {
                udp.bind(socket_addr(at)).map_err(errno)?;
                udp.set_waker(Some(waker));
            }
            Remote::Echo(raw) => {
                raw.bind(socket_addr(at)).map_err(errno)?;
                raw.set_waker(Some(waker));
            }
            Remote::Proxied(_) => {}
        }
        let old = self.remote.lock().replace(Arc::new(remote));
        drop(old);
        Ok(())
    }

    /// The port is given back.
    pub(super) fn close_remote(&self) {
        let old = self.remote.lock().take();
        drop(old);
    }

    /// Errors that come back for what is sent to `peer` are this socket's.
    pub(super) fn connect_remote(&self, peer: Endpoint) -> Result<()> {
        match self.remote().as_deref() {
            Some(Remote::Udp(udp)) => udp.connect(socket_addr(peer)).map_err(errno),
            Some(Remote::Echo(raw)) => raw.connect(socket_addr(peer)).map_err(errno),
            Some(Remote::Proxied(proxied)) => proxied.check(self.protocol, peer),
            None => Err(Errno::EINVAL),
        }
    }

    /// Undoes that.
    pub(super) fn disconnect_remote(&self) {
        if let Some(Remote::Udp(udp)) = self.remote().as_deref() {
            udp.disconnect();
        }
    }

    /// Gives the endpoint the socket's options, and those of one message.
    fn apply_options(&self, remote: &Remote, message: Option<&Outgoing>) {
        let common = &self.common;
        let v6 = common.family() != AF_INET;
        remote.change_options(|o| {
            o.reuse_addr = common.options.is_on(so::REUSEADDR);
            o.reuse_port = common.options.is_on(so::REUSEPORT);
            o.broadcast = common.options.is_on(so::BROADCAST);
            o.v6_only = common.ip.is_on(ip::V6ONLY);
            o.iface = Some(common.device()).filter(|device| *device != 0).map(IfaceId);
            o.receive_errors = common.ip.is_on(if v6 { ip::RECVERR6 } else { ip::RECVERR });
            // Members on this machine are seen to here, and which groups a socket hears is the socket's to say.
            o.multicast_loop = false;
            o.multicast_all = true;
            if let Some(out) = message {
                o.ttl = Some(out.ttl);
                o.multicast_ttl = out.ttl;
                o.tos = out.tos;
                o.multicast_iface = Some(IfaceId(out.route.device));
            }
        });
    }

    /// Sends a message to another machine.
    pub(super) fn transmit_remote(&self, data: &[u8], out: &Outgoing) -> Result<()> {
        // A socket that is bound to a loopback address reaches nobody else.
        let remote = self.remote().ok_or(Errno::EINVAL)?;
        if self.relay(data, out.to)? {
            return Ok(());
        }
        self.apply_options(&remote, Some(out));
        let sent = match &*remote {
            Remote::Udp(udp) => udp.send(data, Some(socket_addr(out.to))),
            Remote::Echo(raw) => raw.send(data, Some(out.to.ip)),
            Remote::Proxied(proxied) => return proxied.send(self.protocol, data, out),
        };
        sent.map(|_| ()).map_err(errno)
    }

    /// Takes over what the endpoint has: datagrams into the queue, which is bounded, and errors.
    fn collect(&self, ready: Readiness) {
        let Some(remote) = self.remote() else { return };
        if ready.contains(Readiness::ERR) {
            self.collect_errors(&remote);
        }
        loop {
            match remote.receive() {
                Ok(datagram) => {
                    let from = endpoint(datagram.from);
                    self.push_received(received(datagram, from, &remote));
                }
                Err(netstack::Error::WouldBlock | netstack::Error::NotConnected) => return,
                Err(e) => self.inbox.fail(errno(e)),
            }
        }
    }

    /// True unless the datagram went to a group that the socket does not hear there.
    pub(super) fn hears_group(&self, datagram: &Datagram) -> bool {
        let to = datagram.to.ip;
        if !to.is_multicast() {
            return true;
        }
        let all = if to.is_ipv6() { ip::MULTICAST_ALL6 } else { ip::MULTICAST_ALL };
        let all = self.common.ip.is_on(all);
        self.common.groups.hears(&(to, datagram.device), datagram.from.ip, all)
    }

    /// True for those whose datagrams the socket takes: anybody's until it is connected.
    pub(super) fn hears(&self, from: Endpoint) -> bool {
        let peer = *self.hears_only.lock();
        peer.is_none_or(|p| {
            p.ip == from.ip && (p.port == from.port || self.protocol == Protocol::Echo)
        })
    }

    fn collect_errors(&self, remote: &Remote) {
        loop {
            let error = match remote {
                Remote::Udp(udp) => udp.recv_error(),
                Remote::Echo(raw) => raw.recv_error(),
                Remote::Proxied(_) => None,
            };
            let Some(error) = error else { break };
            self.queue_error(errno(error.error.error), &error);
        }
        let pending = match remote {
            Remote::Udp(udp) => udp.take_error(),
            Remote::Echo(raw) => raw.take_error(),
            Remote::Proxied(_) => None,
        };
        if let Some(e) = pending {
            self.inbox.fail(errno(e));
        }
    }
}

fn received(datagram: netstack::Datagram, from: Endpoint, remote: &Remote) -> Datagram {
    let port = match remote {
        Remote::Udp(udp) => udp.local_addr().port(),
        Remote::Echo(raw) => raw.ident(),
        Remote::Proxied(_) => 0,
    };
    Datagram {
        data: datagram.data,
        from,
        to: Endpoint::new(datagram.to, port),
        device: datagram.iface.0,
        ttl: datagram.ttl,
        tos: datagram.tos,
        segment: 0,
        at: crate::fs::anon::now(),
    }
}
