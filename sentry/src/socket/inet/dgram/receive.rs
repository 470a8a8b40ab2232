//! Receiving datagrams.

use super::send::Outgoing;
use super::{DgramSocket, Protocol};
use crate::bpf::packet::PacketInput;
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::socket::inet::addr::Endpoint;
use crate::socket::inet::inbox::Datagram;
use crate::socket::inet::packet::{self, Header};
use crate::socket::inet::{Counters, ip};
use crate::socket::{RecvMsg, flags};
use std::net::IpAddr;

impl Datagram {
    pub(super) fn new(data: Vec<u8>, out: &Outgoing) -> Datagram {
        let (from, to, device) = (out.from, out.to, out.route.device);
        let at = crate::fs::anon::now();
        Datagram { data, from, to, device, ttl: out.ttl, tos: out.tos, segment: 0, at }
    }
}

impl DgramSocket {
    /// How much of a datagram the socket's filter lets through. As in Linux its program sees the transport header first,
    /// which is never cut off; `None` when the socket gets nothing.
    fn admitted(&self, d: &Datagram) -> Option<usize> {
        let header =
            |protocol| Header { from: d.from.ip, to: d.to.ip, protocol, ttl: d.ttl, tos: d.tos };
        let (packet, above) = match self.protocol {
            Protocol::Udp | Protocol::UdpLite => {
                let datagram = packet::udp(d.from, d.to, &d.data);
                (header(self.number(d.to.ip) as u8).packet(&datagram), packet::UDP_HEADER)
            }
            Protocol::Echo => (header(packet::icmp_of(d.from.ip)).packet(&d.data), 0),
        };
        let input = PacketInput {
            whole: &packet,
            data: packet.len() - above - d.data.len(),
            device: d.device,
            ..PacketInput::default()
        };
        match self.common.filter.admits(&input) {
            0 => None,
            most => Some(most.saturating_sub(above)),
        }
    }

    /// A datagram has come; without room it is dropped.
    pub(super) fn push(&self, mut datagram: Datagram) {
        if self.common.filter.is_attached() {
            let Some(most) = self.admitted(&datagram) else { return };
            datagram.data.truncate(most);
        }
        if i32::from(datagram.ttl) < self.common.ip.value(ip::MINTTL) {
            return;
        }
        let counters = self.datagrams(datagram.to.ip.is_ipv6());
        let queued = self.inbox.push(datagram, self.common.options.rcvbuf());
        Counters::add(if queued { &counters.received } else { &counters.buffer_errors }, 1);
    }

    /// Receives one datagram.
    pub(super) fn do_receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        if msg.flags & flags::OOB != 0 && self.protocol == Protocol::Echo {
            return Err(Errno::EOPNOTSUPP);
        }
        self.inbox.receive(&self.common, dst, msg, |d, dst, msg| self.deliver(d, dst, msg))
    }

    fn deliver(&self, d: &Datagram, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        let options = &self.common.options;
        let peek = msg.flags & flags::PEEK != 0;
        let skip = if peek { options.peek_off().unwrap_or(0) } else { 0 };
        let port = if self.protocol == Protocol::Echo { 0 } else { d.from.port };
        let from = Endpoint { port, ..d.from };
        let (copied, result) = d.copy(&self.common, (from, skip), dst, msg)?;
        options.move_peek_off(if peek { copied as i64 } else { -(d.data.len() as i64) });
        Ok(result)
    }

    /// A datagram that came as a packet, unless the socket hears somebody else only.
    pub fn take(&self, datagram: Datagram) {
        if self.hears(datagram.from) {
            self.push(datagram);
        }
    }

    /// A datagram made by the kernel itself.
    pub(super) fn push_answer(&self, data: Vec<u8>, from: IpAddr, out: &Outgoing) {
        let mut datagram = Datagram::new(data, out);
        datagram.from = Endpoint { ip: from, port: 0 };
        datagram.to = out.from;
        self.push(datagram);
    }
}
