//! Datagrams under an egress policy ([`crate::socket::inet::uplink::egress`]).

use super::remote::Remote;
use super::{DgramSocket, Protocol};
use crate::errno::{Errno, Result};
use crate::socket::inet::addr::Endpoint;
use crate::socket::inet::inbox::Datagram;
use crate::socket::inet::uplink::egress::Admitted;
use netproxy::policy::guard::Asked;
use netproxy::protocol as wire;

/// Time to live of what is passed on.
const TTL: u8 = 64;

impl DgramSocket {
    /// Whether the policy lets this socket name `to` as its peer. `EACCES`.
    pub(super) fn may_name(&self, to: Endpoint) -> Result<()> {
        let Some(egress) = self.common.net.egress.get() else { return Ok(()) };
        match self.protocol {
            Protocol::Udp | Protocol::UdpLite => {
                egress.admit_datagram(self.own_port(), to).map(drop)
            }
            Protocol::Echo => egress.admit(wire::Protocol::Echo, to).map(drop),
        }
    }

    /// Whether the policy lets `data` go to `to`; true when it has gone there already, in another way. `EACCES`.
    pub(super) fn relay(&self, data: &[u8], to: Endpoint) -> Result<bool> {
        let Some(egress) = self.common.net.egress.get() else { return Ok(false) };
        let admitted = match self.protocol {
            Protocol::Udp | Protocol::UdpLite => egress.admit_datagram(self.own_port(), to)?,
            Protocol::Echo => egress.admit(wire::Protocol::Echo, to)?,
        };
        if admitted != Admitted::NameServer {
            return Ok(false);
        }
        match egress.question(wire::Protocol::Udp, to, data) {
            Asked::Pass => egress.relay().ask(&self.this, to, data)?,
            Asked::Refuse(answer) => self.relayed(to, answer),
        }
        Ok(true)
    }

    /// `from` has sent this socket something.
    pub(super) fn note(&self, from: Endpoint) {
        if let (Some(egress), Protocol::Udp) = (self.common.net.egress.get(), self.protocol) {
            egress.heard(self.own_port(), from);
        }
    }

    /// A name server has answered.
    pub fn relayed(&self, from: Endpoint, data: Vec<u8>) {
        if !self.hears(from) {
            return;
        }
        let Ok((ip, device)) = self.common.net.route(from.ip, 0).map(|r| (r.source, r.device))
        else {
            return;
        };
        let to = Endpoint { ip, port: self.own_port() };
        let at = crate::fs::anon::now();
        self.push(Datagram { data, from, to, device, ttl: TTL, tos: 0, segment: 0, at });
    }

    /// A question to the name server `to` has failed: as after an ICMP error, connected sockets are told.
    pub fn refused_by(&self, to: Endpoint, error: Errno) {
        if self.hears_only.lock().is_some_and(|peer| peer == to) {
            self.inbox.fail(error);
        }
    }

    fn own_port(&self) -> u16 {
        // Not from the socket's own state, which callers have locked.
        match self.remote().as_deref() {
            Some(Remote::Udp(udp)) => udp.local_addr().port(),
            _ => 0,
        }
    }
}
