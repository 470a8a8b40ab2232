//! Datagrams while the packet filter has rules.

use super::send::Outgoing;
use super::{DgramSocket, Protocol};
use crate::errno::{Errno, Result};
use crate::socket::inet::filter::{Sent, Stopped};
use crate::socket::inet::inbox::Datagram;
use crate::socket::inet::{IPPROTO_ICMP, IPPROTO_ICMPV6};
use netstack::filter::Refusal;

/// Answers to pings: type and code, of ICMP and of ICMPv6.
const ECHO_REPLY: [u16; 2] = [0, 129 << 8];

impl DgramSocket {
    fn sent<'a>(&self, protocol: i32, detail: u16, data: &'a [u8], out: &Outgoing) -> Sent<'a> {
        let options = &self.common.options;
        Sent {
            from: out.from,
            to: out.to,
            protocol,
            detail,
            header: (out.ttl, out.tos),
            data,
            owner: Some((options.creator.uid, options.creator.gid)),
            mark: options.mark(),
            route: out.route,
        }
    }

    /// Sends a datagram past the rules. `EPERM` if they stop it before it has left.
    pub(super) fn transmit_filtered(&self, data: Vec<u8>, out: &Outgoing) -> Result<()> {
        match self.common.net.filter_sent(&self.sent(self.number(out.to.ip), 0, &data, out)) {
            Ok(passed) => {
                let (from, to, route) = (passed.from, passed.to, passed.route);
                self.transmit_to(data, &Outgoing { from, to, route, ..*out }, out)
            }
            Err(stopped) => self.not_sent(&stopped, &data, out),
        }
    }

    fn not_sent(&self, stopped: &Stopped, data: &[u8], out: &Outgoing) -> Result<()> {
        let v6 = out.to.ip.is_ipv6();
        if let (Some(errno), Some(Refusal::Icmp(kind, code))) = (stopped.errno(v6), stopped.refusal)
        {
            self.refused(errno, (kind, code), data, out);
        }
        if stopped.leaving { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// True if the rules let an echo request and its answer pass.
    pub(super) fn may_ping(&self, data: &[u8], out: &Outgoing) -> Result<bool> {
        let net = &self.common.net;
        let v6 = out.to.ip.is_ipv6();
        let protocol = if v6 { IPPROTO_ICMPV6 } else { IPPROTO_ICMP };
        let detail = data.first_chunk().map_or(0, |b| u16::from_be_bytes(*b));
        let body = data.get(8..).unwrap_or_default();
        let request = match net.filter_sent(&self.sent(protocol, detail, body, out)) {
            Ok(passed) => passed,
            Err(stopped) => return self.not_sent(&stopped, data, out).map(|()| false),
        };
        if !request.route.local {
            return Ok(true);
        }
        let [v4_reply, v6_reply] = ECHO_REPLY;
        let reply = Outgoing { from: request.to, to: request.from, route: request.route, ..*out };
        let mut sent = self.sent(protocol, if v6 { v6_reply } else { v4_reply }, body, &reply);
        sent.from.port = out.from.port;
        sent.owner = None;
        Ok(net.filter_sent(&sent).is_ok())
    }

    /// A datagram of another machine has come.
    pub(super) fn push_received(&self, mut datagram: Datagram) {
        let net = &self.common.net;
        if !self.hears_group(&datagram) {
            return;
        }
        let came_from = datagram.from;
        if net.is_filtered() {
            let protocol = self.number(datagram.to.ip);
            let detail = datagram.data.first_chunk().map_or(0, |b| u16::from_be_bytes(*b));
            let (mut from, to) = (datagram.from, datagram.to);
            if self.protocol == Protocol::Echo {
                // The identifier of a ping is in both directions the asker's.
                from.port = to.port;
            }
            let ends = (from, to);
            let kind = (protocol, detail);
            let passed = net.filter_received(ends, kind, datagram.device, &datagram.data);
            let Ok(passed) = passed else { return };
            if self.protocol == Protocol::Udp {
                (datagram.from, datagram.to) = (passed.from, passed.to);
            } else {
                datagram.from.ip = passed.from.ip;
            }
        }
        if self.hears(datagram.from) {
            self.note(came_from);
            self.push(datagram);
        }
    }
}
