//! Raw packets to and from other machines: an endpoint of the [`uplink`](crate::socket::inet::uplink)'s stack.
//! It takes every packet of the protocol; which of them the socket hears, the socket decides.

use super::super::addr::AF_INET;
use super::super::packet::{Header, V6_HEADER};
use super::super::stream::remote::stack::family;
use super::super::uplink::error::errno;
use super::super::wire::Seen;
use super::RawSocket;
use super::send::Leaving;
use crate::errno::{Errno, Result};
use crate::socket::options::so;
use netstack::{DatagramOptions, IfaceId, RawKind, Readiness, Waker};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

/// Moves what has come to the socket.
struct Delivery {
    socket: Weak<RawSocket>,
}

impl Waker for Delivery {
    fn wake(&self, _ready: Readiness) {
        if let Some(socket) = self.socket.upgrade() {
            socket.collect();
        }
    }
}

impl RawSocket {
    /// Makes the endpoint, if there are other machines and packets to them.
    pub(super) fn open_remote(&self) {
        let Some(stack) = self.common.net.uplink.get().and_then(|u| u.stack()) else { return };
        // Protocols beyond a byte are of no packet.
        let Ok(protocol) = u8::try_from(self.protocol) else { return };
        let kind = RawKind::Protocol(protocol);
        if let Ok(raw) = stack.raw(family(self.common.family()), kind) {
            let options = DatagramOptions { receive_errors: true, ..raw.options() };
            raw.set_options(options);
            raw.set_waker(Some(Arc::new(Delivery { socket: self.this.clone() })));
            let _ = self.remote.set(raw);
        }
    }

    /// Sends to another machine.
    pub(super) fn transmit_remote(&self, leaving: &Leaving) -> Result<()> {
        let stack = self.common.net.uplink.get().and_then(|u| u.stack());
        let stack = stack.ok_or(Errno::ENETUNREACH)?;
        let own = self.remote.get();
        // The next header of an IPv6 packet is whatever the program wrote.
        let v6_included = leaving.included && self.common.family() != AF_INET;
        let protocol = i32::from(leaving.header.protocol);
        let other = (v6_included || (protocol != self.protocol && !leaving.included))
            .then(|| {
                let kind = RawKind::Protocol(leaving.header.protocol);
                stack.raw(family(self.common.family()), kind)
            })
            .transpose()
            .map_err(errno)?;
        let raw = other.as_ref().or(own).ok_or(Errno::ENETUNREACH)?;
        let options = &self.common.options;
        raw.set_options(DatagramOptions {
            ttl: Some(leaving.header.ttl),
            multicast_ttl: leaving.header.ttl,
            tos: leaving.header.tos,
            broadcast: options.is_on(so::BROADCAST),
            iface: Some(IfaceId(leaving.route.device)),
            ..raw.options()
        });
        raw.set_header_included(leaving.included && !v6_included);
        let data =
            if v6_included { leaving.data.get(V6_HEADER..) } else { Some(&leaving.data[..]) };
        if leaving.header.from != leaving.route.source && !leaving.included {
            let _ = raw.bind(SocketAddr::new(leaving.header.from, 0));
        }
        let sent = raw.send(data.unwrap_or_default(), Some(leaving.to));
        raw.set_options(DatagramOptions { iface: None, ..raw.options() });
        sent.map(|_| ()).map_err(errno)
    }

    /// Takes over what the endpoint has.
    fn collect(&self) {
        let Some(raw) = self.remote.get() else { return };
        while let Some(error) = raw.recv_error() {
            let (to, icmp) = (error.to.ip(), (error.error.kind, error.error.code));
            self.returned(errno(error.error.error), icmp, to, error.error.from, &error.data);
        }
        let _ = raw.take_error();
        loop {
            match raw.recv() {
                Ok(datagram) => {
                    let header = Header {
                        from: datagram.from.ip(),
                        to: datagram.to,
                        protocol: self.protocol as u8,
                        ttl: datagram.ttl,
                        tos: datagram.tos,
                    };
                    let packet = &datagram.data;
                    let payload = match self.common.family() {
                        AF_INET => super::packet::parse(packet).map_or(&packet[..], |(_, p)| p),
                        _ => packet,
                    };
                    self.offer(&Seen { header, packet, payload, device: datagram.iface.0 });
                }
                Err(netstack::Error::WouldBlock | netstack::Error::NotConnected) => return,
                // Its errors were taken above.
                Err(_) => {}
            }
        }
    }
}
