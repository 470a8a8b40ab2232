//! Questions to a name server of the host's on the loopback interface ([`crate::socket::inet::uplink::names`]).

use super::errors::QueuedError;
use super::proxied::Proxied;
use super::send::Outgoing;
use super::{DgramSocket, Protocol};
use crate::errno::{Errno, Result};
use crate::socket::inet::addr::Endpoint;
use crate::socket::inet::inbox::Datagram;
use crate::socket::inet::interface::LOOPBACK;
use netproxy::policy::guard::Asked;
use netproxy::protocol::{self as wire, Packet};

impl DgramSocket {
    /// Puts a question to the name server of the host's, if that is where `out` goes. False if it is not.
    pub(super) fn ask_name_server(&self, data: &[u8], out: &Outgoing) -> Result<bool> {
        let net = &self.common.net;
        let Some(names) = net.name_server(out.to).filter(|_| self.protocol == Protocol::Udp) else {
            return Ok(false);
        };
        if let Some(egress) = net.egress.get()
            && let Asked::Refuse(answer) = egress.question(wire::Protocol::Udp, out.to, data)
        {
            self.named(out.to, answer);
            return Ok(true);
        }
        let own = || Proxied::new(names.proxy(), &self.this, out.from.port);
        self.names.get_or_init(own).pass(names.at_proxy(), data, out)?;
        Ok(true)
    }

    /// True for packets that come from there.
    pub(super) fn is_named(&self, packet: &Packet<'_>) -> bool {
        let (Packet::Data { id, .. } | Packet::Error { id, .. }) = packet;
        self.names.get().is_some_and(|names| names.is(*id))
    }

    /// The name server has answered, or is not there.
    pub(super) fn take_named(&self, packet: &Packet<'_>) {
        let Some(names) = self.common.net.names.get() else { return };
        let at = names.address();
        match *packet {
            Packet::Data { data, .. } => {
                if let Some(egress) = self.common.net.egress.get() {
                    egress.answered(data);
                }
                self.named(at, data.to_vec());
            }
            Packet::Error { errno, origin: (origin, kind, code), data, .. } => {
                self.returned(QueuedError {
                    errno: Errno::from_raw(errno),
                    to: at,
                    origin,
                    icmp: (kind, code),
                    offender: Some(at.ip),
                    info: 0,
                    data: data.to_vec(),
                });
            }
        }
    }

    /// An answer of the name server `from`.
    fn named(&self, from: Endpoint, data: Vec<u8>) {
        let Ok(route) = self.common.net.route(from.ip, 0) else { return };
        let port = self.endpoints().0.map_or(0, |local| local.port);
        let to = Endpoint { ip: route.source, port };
        let ttl = self.common.ip.ttl(&self.common, false, false);
        let at = crate::fs::anon::now();
        self.take(Datagram { data, from, to, device: LOOPBACK, ttl, tos: 0, segment: 0, at });
    }
}
