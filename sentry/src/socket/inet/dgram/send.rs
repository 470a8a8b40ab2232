//! Sending datagrams: to one socket, to all of a group, or to nobody.

use super::{DgramSocket, Protocol};
use crate::errno::{Errno, Result};
use crate::io::Source;
use crate::socket::inet::addr::{self, AF_INET, Endpoint};
use crate::socket::inet::inbox::{Datagram, SEND};
use crate::socket::inet::interface::LOOPBACK;
use crate::socket::inet::net::Route;
use crate::socket::inet::packet::{self, Header};
use crate::socket::inet::port::Binding;
use crate::socket::inet::{Counters, IPPROTO_UDP, SOL_IP, SOL_IPV6, ip};
use crate::socket::options::so;
use crate::socket::{Control, SendMsg, flags};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

/// Most data in a UDP datagram, over IPv4 and IPv6.
const MAX_V4: usize = 65_507;
const MAX_V6: usize = 65_527;
const UDP_SEGMENT: i32 = 103;
/// Most datagrams in one call with `UDP_SEGMENT`.
const MAX_SEGMENTS: usize = 128;

/// What control messages say about one datagram.
#[derive(Default)]
pub(in crate::socket::inet) struct Wishes {
    pub(in crate::socket::inet) source: Option<IpAddr>,
    pub(in crate::socket::inet) device: u32,
    pub(in crate::socket::inet) ttl: Option<u8>,
    pub(in crate::socket::inet) tos: Option<u8>,
    /// The same for IPv6.
    pub(in crate::socket::inet) hops: Option<u8>,
    pub(in crate::socket::inet) class: Option<u8>,
    pub(in crate::socket::inet) segment: Option<usize>,
}

impl Wishes {
    /// Time to live and type of service of what goes over IPv6 (`true`) or IPv4.
    pub(in crate::socket::inet) fn header(&self, v6: bool) -> (Option<u8>, Option<u8>) {
        if v6 { (self.hops, self.class) } else { (self.ttl, self.tos) }
    }
}

fn int(data: &[u8]) -> Result<i32> {
    data.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
}

impl Wishes {
    /// Reads them. `EINVAL`.
    pub(in crate::socket::inet) fn read(control: &[Control], v6_socket: bool) -> Result<Wishes> {
        let mut out = Wishes::default();
        let byte = |n: i32, least: i32| -> Result<Option<u8>> {
            if n == -1 && least < 0 {
                return Ok(None);
            }
            u8::try_from(n).map(Some).map_err(|_| Errno::EINVAL)
        };
        for c in control {
            match (c.level, c.kind) {
                // `struct in_pktinfo`
                (SOL_IP, 8) => {
                    let index = c.data.first_chunk().ok_or(Errno::EINVAL)?;
                    let source = c.data.get(4..8).and_then(|b| b.first_chunk::<4>());
                    let source = Ipv4Addr::from(*source.ok_or(Errno::EINVAL)?);
                    out.device = u32::from_ne_bytes(*index);
                    out.source = (!source.is_unspecified()).then_some(source.into());
                }
                // Options of IPv4 are nothing to what goes over IPv6, and the other way round.
                (SOL_IPV6, _) if !v6_socket => {}
                (SOL_IP, 2) => {
                    let n = int(&c.data)?;
                    out.ttl = byte(n, 1)?.filter(|n| *n > 0);
                    if out.ttl.is_none() {
                        return Err(Errno::EINVAL);
                    }
                }
                (SOL_IP, 1) => {
                    let first = c.data.first().copied().ok_or(Errno::EINVAL)?;
                    out.tos = if c.data.len() == 1 { Some(first) } else { byte(int(&c.data)?, 0)? };
                }
                // `struct in6_pktinfo`
                (SOL_IPV6, 50) => {
                    let ip = Ipv6Addr::from(*c.data.first_chunk::<16>().ok_or(Errno::EINVAL)?);
                    let index = c.data.get(16..).and_then(|b| b.first_chunk());
                    out.device = u32::from_ne_bytes(*index.ok_or(Errno::EINVAL)?);
                    out.source = (!ip.is_unspecified()).then_some(IpAddr::V6(ip).to_canonical());
                }
                (SOL_IPV6, 52) => out.hops = byte(int(&c.data)?, -1)?,
                (SOL_IPV6, 67) => out.class = byte(int(&c.data)?, -1)?,
                // Flow labels are not looked at, and nothing is fragmented.
                (SOL_IPV6, 11 | 62) => {
                    int(&c.data)?;
                }
                // `IP_PROTOCOL`, for raw sockets.
                (SOL_IP, 52) => {
                    int(&c.data)?;
                }
                (IPPROTO_UDP, UDP_SEGMENT) => {
                    let size = c.data.first_chunk().ok_or(Errno::EINVAL)?;
                    out.segment = Some(usize::from(u16::from_ne_bytes(*size)));
                }
                (SOL_IP | SOL_IPV6 | IPPROTO_UDP, _) => return Err(Errno::EINVAL),
                _ => {}
            }
        }
        Ok(out)
    }
}

/// One datagram on its way.
pub(in crate::socket::inet) struct Outgoing {
    pub(in crate::socket::inet) from: Endpoint,
    pub(in crate::socket::inet) to: Endpoint,
    pub(in crate::socket::inet) route: Route,
    pub(in crate::socket::inet) ttl: u8,
    pub(in crate::socket::inet) tos: u8,
}

impl Outgoing {
    /// The header of its packet.
    pub(super) fn header(&self, protocol: u8) -> Header {
        let (from, to, ttl, tos) = (self.from.ip, self.to.ip, self.ttl, self.tos);
        Header { from, to, protocol, ttl, tos }
    }
}

impl DgramSocket {
    /// Sends one datagram. Never waits: what finds no room is lost.
    pub(super) fn do_send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        if msg.flags & flags::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let common = &self.common;
        let len = src.remaining();
        let mut to = self.target(msg)?;
        let v6 = to.ip.is_ipv6();
        let max = if v6 { MAX_V6 } else { MAX_V4 };
        let wishes = Wishes::read(&msg.control, common.family() != AF_INET)?;
        let segment = wishes.segment.unwrap_or_else(|| self.segment.load(Ordering::Relaxed));
        if len > max {
            self.too_large(to);
            return Err(Errno::EMSGSIZE);
        }
        if wishes.device != 0 && common.net.with_device(wishes.device, |_| ()).is_none() {
            return Err(Errno::ENODEV);
        }
        let mut route = common.net.route(to.ip, self.device_for(to.ip, wishes.device))?;
        if common.net.is_broadcast(to.ip) && !common.options.is_on(so::BROADCAST) {
            return Err(Errno::EACCES);
        }
        if !route.local {
            self.may_leave()?;
        }
        if wishes.source.is_some_and(|ip| !common.net.is_local(ip)) {
            return Err(if v6 { Errno::EINVAL } else { Errno::ENETUNREACH });
        }
        if let Some(e) = self.inbox.take_pending() {
            return Err(e);
        }
        if self.inbox.is_shut(SEND) {
            return Err(Errno::EPIPE);
        }
        let mut data = vec![0; len];
        if len > 0 && src.take(&mut data)? < len {
            return Err(Errno::EFAULT);
        }
        let local = {
            let mut setup = self.setup.lock();
            let local = self.autobind(&mut setup)?;
            let more = msg.flags & flags::MORE != 0 || self.cork.load(Ordering::Relaxed);
            if let Some((first, mut held)) = setup.corked.take() {
                // Where it goes was settled by its first part.
                if first != to {
                    route = common.net.route(first.ip, self.device_for(first.ip, 0))?;
                    to = first;
                }
                held.extend_from_slice(&data);
                if held.len() > max {
                    return Err(Errno::EMSGSIZE);
                }
                if more {
                    setup.corked = Some((to, held));
                    return Ok(len);
                }
                data = held;
            } else if more {
                setup.corked = Some((to, data));
                return Ok(len);
            }
            local
        };
        let bound = Some(local.ip).filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
        let ip = wishes.source.or(bound).unwrap_or(route.source);
        let group = to.ip.is_multicast();
        let (ttl, class) = wishes.header(v6);
        let tos = if v6 { common.ip.value(ip::TCLASS).max(0) } else { common.ip.value(ip::TOS) };
        let out = Outgoing {
            from: Endpoint { ip, port: local.port },
            to,
            route,
            ttl: ttl.unwrap_or_else(|| common.ip.ttl(common, v6, group)),
            tos: class.unwrap_or(tos as u8),
        };
        if self.protocol == Protocol::Echo {
            self.ping(data, &out)?;
        } else if segment > 0 && self.protocol == Protocol::UdpLite {
            return Err(Errno::EIO);
        } else if segment > 0 && segment < data.len() {
            if data.len().div_ceil(segment) > MAX_SEGMENTS {
                return Err(Errno::EINVAL);
            }
            self.transmit_segments(data, segment, &out)?;
        } else {
            self.transmit(data, &out)?;
        }
        Ok(len)
    }

    /// Sends what `MSG_MORE` or `UDP_CORK` has gathered.
    pub(super) fn uncork(&self) -> Result<()> {
        let (held, local) = {
            let mut setup = self.setup.lock();
            (setup.corked.take(), setup.local)
        };
        let (Some((to, data)), Some(local)) = (held, local) else { return Ok(()) };
        let common = &self.common;
        let route = common.net.route(to.ip, self.device_for(to.ip, 0))?;
        let ip = if local.ip.is_unspecified() { route.source } else { local.ip };
        let ttl = common.ip.ttl(common, to.ip.is_ipv6(), to.ip.is_multicast());
        let from = Endpoint { ip, port: local.port };
        self.transmit(data, &Outgoing { from, to, route, ttl, tos: 0 })
    }

    /// Where a message goes.
    fn target(&self, msg: &SendMsg) -> Result<Endpoint> {
        let given = match &msg.to {
            None => None,
            Some(to) => *to.downcast_ref::<Option<Endpoint>>().ok_or(Errno::EINVAL)?,
        };
        let Some(mut to) = given else {
            return self.setup.lock().peer.ok_or(Errno::EDESTADDRREQ);
        };
        if to.port == 0 && self.protocol != Protocol::Echo {
            return Err(Errno::EINVAL);
        }
        if to.ip.is_unspecified() {
            to.ip = addr::loopback_for(to.ip);
        }
        let common = &self.common;
        let foreign = common.family() != AF_INET && to.ip.is_ipv4();
        if foreign && (common.ip.is_on(ip::V6ONLY) || is_strictly_v6(self.bound_ip())) {
            return Err(Errno::ENETUNREACH);
        }
        Ok(to)
    }

    /// Sends datagrams of `segment` bytes: together to a socket of this machine that takes them so (`UDP_GRO`).
    fn transmit_segments(&self, data: Vec<u8>, segment: usize, out: &Outgoing) -> Result<()> {
        let net = &self.common.net;
        let group = out.to.ip.is_multicast() || net.is_broadcast(out.to.ip);
        if out.route.local && !group && !net.is_filtered() && !net.wire.is_watched() {
            let receiver = net.udp.find(out.to, out.from, out.route.device, |_| true);
            if let Some(receiver) = receiver.filter(|r| r.coalesce.load(Ordering::Relaxed)) {
                let v6 = out.to.ip.is_ipv6();
                Counters::add(&net.counters.udp(v6).sent, data.len().div_ceil(segment));
                net.counters.packet(data.len(), v6);
                let segment = u16::try_from(segment).unwrap_or(0);
                receiver.push(Datagram { segment, ..Datagram::new(data, out) });
                return Ok(());
            }
        }
        for part in data.chunks(segment) {
            self.transmit(part.to_vec(), out)?;
        }
        Ok(())
    }

    fn transmit(&self, data: Vec<u8>, out: &Outgoing) -> Result<()> {
        let net = &self.common.net;
        Counters::add(&self.datagrams(out.to.ip.is_ipv6()).sent, 1);
        if net.is_filtered() {
            return self.transmit_filtered(data, out);
        }
        self.transmit_to(data, out, out)
    }

    /// Sends `data` as it looks behind the packet filter; errors are about what the program sent.
    pub(super) fn transmit_to(&self, data: Vec<u8>, out: &Outgoing, sent: &Outgoing) -> Result<()> {
        let net = &self.common.net;
        if !out.route.local {
            // Members on this machine hear it, too.
            if out.to.ip.is_multicast() {
                self.transmit_to_many(data.clone(), out);
            }
            return self.transmit_remote(&data, out);
        }
        net.counters.packet(data.len(), out.to.ip.is_ipv6());
        if net.wire.is_watched() {
            let header = out.header(self.number(out.to.ip) as u8);
            if self.protocol == Protocol::UdpLite {
                let payload = packet::udp_lite(out.from, out.to, &data, self.covered(data.len()));
                net.wire.show(&header.packet(&payload));
            } else {
                net.wire.show_unfinished(&header.packet(&packet::udp(out.from, out.to, &data)));
            }
        }
        let (to, from, device) = (out.to, out.from, out.route.device);
        if to.ip.is_multicast() || net.is_broadcast(to.ip) {
            self.transmit_to_many(data, out);
            return Ok(());
        }
        match self.receivers(net).find(to, from, device, |_| true) {
            Some(receiver) => {
                if receiver.is_covered(self.covered(data.len()), to.ip.is_ipv6()) {
                    receiver.push(Datagram::new(data, out));
                }
            }
            None if self.ask_name_server(&data, out)? => {}
            None => {
                Counters::add(&self.datagrams(to.ip.is_ipv6()).no_ports, 1);
                self.unreachable(&data, sent);
            }
        }
        Ok(())
    }

    fn transmit_to_many(&self, data: Vec<u8>, out: &Outgoing) {
        let net = &self.common.net;
        let (to, device) = (out.to, out.route.device);
        let group = (to.ip, device);
        let is_group = to.ip.is_multicast();
        let v6 = to.ip.is_ipv6();
        let looped = if v6 { ip::MULTICAST_LOOP6 } else { ip::MULTICAST_LOOP };
        // The loopback interface gives back whatever is sent on it.
        let looped = device == LOOPBACK || self.common.ip.is_on(looped);
        if is_group && (!net.groups.has(&group) || !looped) {
            return;
        }
        let all = if v6 { ip::MULTICAST_ALL6 } else { ip::MULTICAST_ALL };
        let fits = |binding: &Binding| !v6 || !binding.v4_socket;
        let covered = self.covered(data.len());
        for receiver in self.receivers(net).find_all(to, out.from, device, fits) {
            let common = &receiver.common;
            let all = common.ip.is_on(all);
            let hears = !is_group || common.groups.hears(&group, out.from.ip, all);
            if hears && receiver.is_covered(covered, v6) {
                receiver.push(Datagram::new(data.clone(), out));
            }
        }
    }
}

fn is_strictly_v6(ip: IpAddr) -> bool {
    ip.is_ipv6() && !ip.is_unspecified()
}
