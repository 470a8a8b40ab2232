//! UDP-Lite (RFC 3828): UDP whose checksum may cover the beginning of a datagram only.
//!
//! Nothing is damaged on its way between sockets of one sandbox, so that no checksum is made or looked at; what remains is
//! that a receiver can refuse datagrams of which too little is covered. Other machines are not reached.

use super::{DgramSocket, Protocol};
use crate::errno::{Errno, Result};
use crate::socket::inet::net::{Net, UdpCounters};
use crate::socket::inet::packet::UDP_HEADER;
use crate::socket::inet::port::Ports;
use crate::socket::inet::{Counters, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_UDP, IPPROTO_UDPLITE};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Options of the level `SOL_UDPLITE`.
const SEND_CSCOV: i32 = 10;
const RECV_CSCOV: i32 = 11;
/// A coverage that was set, and not only is zero.
const SET: u32 = 1 << 16;

/// How much of datagrams the checksum covers, header included; zero: all of them.
#[derive(Default)]
pub(super) struct Coverage {
    sent: AtomicU32,
    /// Least of what is received.
    received: AtomicU32,
}

impl DgramSocket {
    fn coverage(&self, name: i32) -> Option<&AtomicU32> {
        match name {
            SEND_CSCOV => Some(&self.coverage.sent),
            RECV_CSCOV => Some(&self.coverage.received),
            _ => None,
        }
    }

    /// The value of an option of UDP-Lite. UDP sockets have them, too: always zero. `ENOPROTOOPT`.
    pub(super) fn get_coverage(&self, name: i32) -> Result<i32> {
        let coverage = self.coverage(name).ok_or(Errno::ENOPROTOOPT)?;
        Ok((coverage.load(Ordering::Relaxed) & !SET) as i32)
    }

    /// Sets one. `ENOPROTOOPT`.
    pub(super) fn set_coverage(&self, name: i32, value: i32) -> Result<()> {
        let coverage = self.coverage(name).filter(|_| self.protocol == Protocol::UdpLite);
        let value = match value {
            0 => 0,
            // The header is covered in any case.
            n => n.clamp(UDP_HEADER as i32, 0xffff) as u32,
        };
        coverage.ok_or(Errno::ENOPROTOOPT)?.store(value | SET, Ordering::Relaxed);
        Ok(())
    }

    /// How much of a datagram with `len` bytes of data is covered: `None` for all of it.
    pub(super) fn covered(&self, len: usize) -> Option<usize> {
        let sent = (self.coverage.sent.load(Ordering::Relaxed) & !SET) as usize;
        (sent != 0 && sent < UDP_HEADER + len).then_some(sent)
    }

    /// True if enough of a datagram is covered for this socket, which otherwise counts it.
    pub(super) fn is_covered(&self, covered: Option<usize>, v6: bool) -> bool {
        let least = self.coverage.received.load(Ordering::Relaxed);
        let Some(covered) = covered.filter(|_| least & SET != 0) else { return true };
        let least = (least & !SET) as usize;
        let enough = least != 0 && covered >= least;
        if !enough {
            Counters::add(&self.datagrams(v6).uncovered, 1);
            self.inbox.count_drop();
        }
        enough
    }

    /// The counters that its datagrams are in.
    pub(super) fn datagrams(&self, v6: bool) -> &UdpCounters {
        match self.protocol {
            Protocol::UdpLite => self.common.net.counters.udp_lite(v6),
            Protocol::Udp | Protocol::Echo => self.common.net.counters.udp(v6),
        }
    }

    /// The number of its protocol in headers of packets to or from `ip`.
    pub(super) fn number(&self, ip: IpAddr) -> i32 {
        match self.protocol {
            Protocol::Udp => IPPROTO_UDP,
            Protocol::UdpLite => IPPROTO_UDPLITE,
            Protocol::Echo if ip.is_ipv6() => IPPROTO_ICMPV6,
            Protocol::Echo => IPPROTO_ICMP,
        }
    }

    /// Where receivers of its datagrams are found.
    pub(super) fn receivers<'a>(&self, net: &'a Net) -> &'a Arc<Ports<DgramSocket>> {
        if self.protocol == Protocol::UdpLite { &net.udp_lite } else { &net.udp }
    }
}
