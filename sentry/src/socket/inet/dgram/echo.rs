//! Echo requests (`icmp(7)`, RFC 792 and RFC 4443): every address of this machine answers them.

use super::DgramSocket;
use super::send::Outgoing;
use crate::errno::{Errno, Result};
use crate::socket::inet::packet::{Header, checksum, icmp_of, put, transport_checksum};
use crate::socket::inet::{AF_INET, Counters, IPPROTO_ICMPV6};
use std::net::IpAddr;
use std::sync::atomic::Ordering;

/// Type of a request and of the answer, in ICMP and ICMPv6.
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);
const HEADER: usize = 8;

/// Gives a message between two addresses its identifier, and then its checksum.
pub(in crate::socket::inet) fn finish(
    data: &mut [u8],
    identifier: u16,
    (from, to): (IpAddr, IpAddr),
) {
    put(data, 2, &[0, 0]);
    put(data, 4, &identifier.to_be_bytes());
    let sum = if from.is_ipv4() {
        checksum(&[data])
    } else {
        transport_checksum(from, to, IPPROTO_ICMPV6 as u8, data)
    };
    put(data, 2, &sum.to_be_bytes());
}

impl DgramSocket {
    /// Sends an echo request, and has it answered.
    pub(super) fn ping(&self, mut data: Vec<u8>, out: &Outgoing) -> Result<()> {
        let v4 = self.common.family() == AF_INET;
        let (request, answer) = if v4 { V4 } else { V6 };
        match data.first_chunk::<HEADER>() {
            Some([kind, 0, ..]) if *kind == request => {}
            _ => return Err(Errno::EINVAL),
        }
        if self.common.net.is_filtered() && !self.may_ping(&data, out)? {
            return Ok(());
        }
        if !out.route.local {
            return self.transmit_remote(&data, out);
        }
        let watched = self.common.net.wire.is_watched();
        if watched {
            finish(&mut data, out.from.port, (out.from.ip, out.to.ip));
            self.show(&data, out.header(icmp_of(out.to.ip)));
        }
        put(&mut data, 0, &[answer]);
        finish(&mut data, out.from.port, (out.to.ip, out.from.ip));
        Counters::add(&self.common.net.counters.icmp_echoes, 1);
        if watched {
            let ttl = self.common.net.settings.ttl.load(Ordering::Relaxed) as u8;
            self.show(&data, out.header(icmp_of(out.to.ip)).answer(ttl));
        }
        self.push_answer(data, out.to.ip, out);
        Ok(())
    }

    /// Lets those who look at packets see one.
    fn show(&self, payload: &[u8], header: Header) {
        self.common.net.wire.show(&header.packet(payload));
    }
}
