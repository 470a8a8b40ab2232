//! Internet sockets: `AF_INET` and `AF_INET6`.
//!
//! * [`net`]: a network, with its [`interface`]s, [`port`] tables and connection [`table`].
//! * [`stream`]: TCP. [`dgram`]: UDP and ICMP echo sockets. [`addr`]: their addresses.
//! * [`inbox`]: what datagram and raw sockets receive. [`raw`]: raw sockets. [`wire`]: who looks at [`packet`]s.
//! * [`common`], [`ip`], [`multicast`]: options. [`devices`]: `ioctl(2)` on interfaces.
//! * [`admin`]: changes of the configuration. [`links`]: interfaces that the guest makes.
//! * [`filter`]: the packet filter, as the traffic of sockets meets it.
//! * [`uplink`]: where traffic for other machines goes. [`host`]: sockets of the host's instead of all that.
//!
//! Sockets of one sandbox that talk to each other are connected by queues, not by packets.

pub mod addr;
pub mod admin;
pub mod common;
pub mod devices;
pub mod dgram;
pub mod filter;
pub mod host;
pub mod inbox;
pub mod interface;
pub mod ip;
pub mod links;
pub mod listing;
pub mod multicast;
pub mod net;
pub mod packet;
pub mod port;
pub mod raw;
pub mod stream;
pub mod table;
pub mod uplink;
pub mod wire;

pub use addr::{AF_INET, AF_INET6};
pub use net::{Counters, Net};

use super::Socket;
use super::family::{Family, Pair};
use super::options::Options;
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_NET_RAW;
use dgram::{DgramSocket, Protocol};
use host::socket::HostSocket;
use netproxy::protocol::Protocol as Wire;
use raw::RawSocket;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use stream::StreamSocket;
use uplink::Uplink;

/// `SOL_IP`
pub const SOL_IP: i32 = 0;
/// `SOL_IPV6`
pub const SOL_IPV6: i32 = 41;
/// `IPPROTO_TCP`
pub const IPPROTO_TCP: i32 = 6;
/// `IPPROTO_UDP`
pub const IPPROTO_UDP: i32 = 17;
/// `IPPROTO_UDPLITE`
pub const IPPROTO_UDPLITE: i32 = 136;
/// `IPPROTO_ICMP`
pub const IPPROTO_ICMP: i32 = 1;
/// `IPPROTO_ICMPV6`
pub const IPPROTO_ICMPV6: i32 = 58;

const SOCK_STREAM: i32 = 1;
const SOCK_DGRAM: i32 = 2;
const SOCK_RAW: i32 = 3;
/// First protocol number that no header has room for.
const IPPROTO_MAX: i32 = 263;

/// `AF_INET` or `AF_INET6`.
pub struct InetFamily(pub i32);

impl Family for InetFamily {
    fn number(&self) -> i32 {
        self.0
    }

    fn create(&self, t: &CurrentTask, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>> {
        let InetFamily(family) = *self;
        let net = &Net::of(t);
        if !(0..IPPROTO_MAX).contains(&protocol) {
            return Err(Errno::EINVAL);
        }
        let echo = if family == AF_INET { IPPROTO_ICMP } else { IPPROTO_ICMPV6 };
        if let Some(Uplink::Host(host)) = net.uplink.get() {
            let wanted = match (kind, protocol) {
                (SOCK_STREAM, 0 | IPPROTO_TCP) => Some(Wire::Tcp),
                (SOCK_DGRAM, 0 | IPPROTO_UDP) => Some(Wire::Udp),
                (SOCK_DGRAM, p) if p == echo => Some(Wire::Echo),
                _ => None,
            };
            if let Some(wanted) = wanted {
                let v6 = family == AF_INET6;
                return Ok(HostSocket::new(host, net, v6, wanted, Options::new(t))?);
            }
        }
        match (kind, protocol) {
            (SOCK_STREAM, 0 | IPPROTO_TCP) => Ok(StreamSocket::new(family, net, Options::new(t))),
            (SOCK_DGRAM, 0 | IPPROTO_UDP) => {
                Ok(DgramSocket::new(family, Protocol::Udp, net, Options::new(t)))
            }
            // No host has to have it.
            (SOCK_DGRAM, IPPROTO_UDPLITE) if !matches!(net.uplink.get(), Some(Uplink::Host(_))) => {
                Ok(DgramSocket::new(family, Protocol::UdpLite, net, Options::new(t)))
            }
            (SOCK_DGRAM, p) if p == echo => {
                if !may_ping(t, net) {
                    return Err(Errno::EACCES);
                }
                Ok(DgramSocket::new(family, Protocol::Echo, net, Options::new(t)))
            }
            (SOCK_STREAM | SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT),
            (SOCK_RAW, 0) => Err(Errno::EPROTONOSUPPORT),
            (SOCK_RAW, _) if !Net::capable(t, CAP_NET_RAW) => Err(Errno::EPERM),
            (SOCK_RAW, _) => Ok(RawSocket::new(family, protocol, net, Options::new(t))),
            _ => Err(Errno::ESOCKTNOSUPPORT),
        }
    }

    fn pair(&self, t: &CurrentTask, kind: i32, protocol: i32) -> Result<Pair> {
        // What is wrong with the sockets themselves is found first.
        self.create(t, kind, protocol)?;
        Err(Errno::EOPNOTSUPP)
    }
}

/// True if a task may open echo sockets (`net.ipv4.ping_group_range`).
fn may_ping(t: &CurrentTask, net: &Net) -> bool {
    let [low, high] = net.settings.ping_groups.each_ref().map(|g| g.load(Ordering::Relaxed));
    let creds = t.creds();
    let mut groups = creds.groups.iter().copied().chain([creds.egid]);
    groups.any(|g| (low..=high).contains(&g))
}
