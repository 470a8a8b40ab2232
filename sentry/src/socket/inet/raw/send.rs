//! Packets that raw sockets send.

use super::super::addr::{self, AF_INET, AF_INET6, Endpoint};
use super::super::dgram::send::Wishes;
use super::super::filter::Sent;
use super::super::inbox::SEND;
use super::super::interface::LOOPBACK;
use super::super::net::Route;
use super::super::packet::{self, Header, V4_HEADER, V6_HEADER};
use super::super::{IPPROTO_ICMPV6, IPPROTO_TCP, ip};
use super::{IPPROTO_RAW, RawSocket};
use crate::errno::{Errno, Result};
use crate::io::Source;
use crate::socket::family::AF_UNSPEC;
use crate::socket::options::so;
use crate::socket::{SendMsg, flags};
use std::net::IpAddr;
use std::sync::atomic::Ordering;

/// Most bytes that one call sends.
const MAX: usize = 0xffff;

/// A packet on its way.
pub(super) struct Leaving {
    pub(super) header: Header,
    /// The header was the program's, and is in the packet.
    pub(super) included: bool,
    /// What follows the header, or all of it.
    pub(super) data: Vec<u8>,
    /// Where it is sent, whatever its header says.
    pub(super) to: IpAddr,
    pub(super) route: Route,
}

impl RawSocket {
    /// Where a message is to go, and its protocol. `EAFNOSUPPORT`, `EINVAL`.
    pub(super) fn parse_destination(&self, address: &[u8]) -> Result<(Endpoint, i32)> {
        let family = self.common.family();
        let least = if family == AF_INET { addr::V4_LEN } else { addr::V6_MIN_LEN };
        if address.len() < least {
            return Err(Errno::EINVAL);
        }
        let given = addr::family_of(address)?;
        if given != family && given != AF_UNSPEC {
            return Err(Errno::EAFNOSUPPORT);
        }
        let mut typed = address.to_vec();
        packet::put(&mut typed, 0, &(family as u16).to_ne_bytes());
        let mut to = addr::parse(family, &typed)?;
        let mut protocol = self.protocol;
        if family == AF_INET6 {
            // The port of an IPv6 address names the protocol.
            let named = i32::from(to.port);
            if named != 0 && named != protocol && protocol != IPPROTO_RAW {
                return Err(Errno::EINVAL);
            }
            protocol = if named == 0 { protocol } else { named };
            if protocol > 255 {
                return Err(Errno::EINVAL);
            }
        }
        if to.ip.is_unspecified() {
            to.ip = addr::loopback_for(to.ip);
        }
        Ok((to, protocol))
    }

    /// Sends one packet.
    pub(super) fn do_send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        let common = &self.common;
        let len = src.remaining();
        if len > MAX && common.family() == AF_INET {
            return Err(Errno::EMSGSIZE);
        }
        if msg.flags & flags::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let setup = *self.setup.lock();
        let given = match &msg.to {
            None => None,
            Some(to) => Some(*to.downcast_ref::<(Endpoint, i32)>().ok_or(Errno::EINVAL)?),
        };
        let peer = setup.peer.map(|peer| (peer, self.protocol));
        let (to, protocol) = given.or(peer).ok_or(Errno::EDESTADDRREQ)?;
        let wishes = Wishes::read(&msg.control, common.family() != AF_INET)?;
        let included = self.header_included.load(Ordering::Relaxed);
        // The first bytes of ICMP are looked at before the route.
        if !included && len < 2 && protocol == i32::from(packet::icmp_of(to.ip)) {
            return Err(Errno::EFAULT);
        }
        let v6 = common.family() != AF_INET;
        let group = if v6 { ip::MULTICAST_IF6 } else { ip::MULTICAST_IF };
        let chosen = if to.ip.is_multicast() { common.ip.value(group) as u32 } else { 0 };
        if wishes.device != 0 && common.net.with_device(wishes.device, |_| ()).is_none() {
            return Err(Errno::ENODEV);
        }
        let device = [wishes.device, common.device(), chosen].into_iter().find(|d| *d != 0);
        let route = common.net.route(to.ip, device.unwrap_or(0))?;
        if common.net.is_broadcast(to.ip) && !common.options.is_on(so::BROADCAST) {
            return Err(Errno::EACCES);
        }
        if let Some(e) = self.inbox.take_pending() {
            return Err(e);
        }
        if self.inbox.is_shut(SEND) {
            return Err(Errno::EPIPE);
        }
        let mtu = common.net.with_device(route.device, |i| i.mtu).unwrap_or(0) as usize;
        let least = if v6 { V6_HEADER } else { V4_HEADER };
        if included && len > mtu {
            return Err(Errno::EMSGSIZE);
        }
        if included && len < least {
            return Err(Errno::EINVAL);
        }
        if !included && len + least > MAX + least * usize::from(v6) {
            return Err(Errno::EMSGSIZE);
        }
        let mut data = vec![0; len];
        if len > 0 && src.take(&mut data)? < len {
            return Err(Errno::EFAULT);
        }
        let own = setup.local().filter(|ip| !ip.is_multicast());
        let from = wishes.source.or(own).unwrap_or(route.source);
        let tos = if v6 { common.ip.value(ip::TCLASS).max(0) } else { common.ip.value(ip::TOS) };
        let (ttl, class) = wishes.header(v6);
        let header = Header {
            from,
            to: to.ip,
            protocol: protocol as u8,
            ttl: ttl.unwrap_or_else(|| common.ip.ttl(common, v6, to.ip.is_multicast())),
            tos: class.unwrap_or(tos as u8),
        };
        let mut leaving = Leaving { header, included, data, to: to.ip, route };
        if included {
            self.complete(&mut leaving)?;
        } else if v6 {
            self.fill_checksum(&mut leaving)?;
        }
        self.transmit(&leaving)?;
        Ok(len)
    }

    /// Fills in what a program's own header leaves out (`raw(7)`).
    fn complete(&self, leaving: &mut Leaving) -> Result<()> {
        let data = &mut leaving.data;
        if self.common.family() == AF_INET {
            let len = usize::from(data.first().copied().unwrap_or(0) & 15) * 4;
            if len > data.len() {
                return Err(Errno::EINVAL);
            }
            if len >= V4_HEADER {
                let total = (data.len() as u16).to_be_bytes();
                packet::put(data, 2, &total);
                if let (Some([0, 0, 0, 0]), IpAddr::V4(from)) =
                    (data.get(12..16), leaving.header.from)
                {
                    packet::put(data, 12, &from.octets());
                }
                packet::put(data, 10, &[0; 2]);
                let sum = packet::checksum(&[data.get(..len).unwrap_or_default()]);
                packet::put(data, 10, &sum.to_be_bytes());
            }
        }
        if let Some((header, _)) = packet::parse(data) {
            leaving.header = header;
        }
        Ok(())
    }

    /// The checksum of IPv6 that the kernel is asked for. `EINVAL` if it has no place.
    fn fill_checksum(&self, leaving: &mut Leaving) -> Result<()> {
        let header = leaving.header;
        let at = match self.checksum_at.load(Ordering::Relaxed) {
            at if at >= 0 => at as usize,
            _ => return Ok(()),
        };
        if at + 2 > leaving.data.len() {
            return Err(Errno::EINVAL);
        }
        packet::put(&mut leaving.data, at, &[0; 2]);
        let (from, to) = (header.from, header.to);
        let sum = packet::transport_checksum(from, to, header.protocol, &leaving.data);
        let sum =
            if sum == 0 && i32::from(header.protocol) != IPPROTO_ICMPV6 { 0xffff } else { sum };
        packet::put(&mut leaving.data, at, &sum.to_be_bytes());
        Ok(())
    }

    /// True if the rules of the packet filter let it pass. `EPERM` if they stop it before it has left. Addresses
    /// are not translated.
    fn passes(&self, leaving: &Leaving) -> Result<bool> {
        let (net, options) = (&self.common.net, &self.common.options);
        let header = leaving.header;
        let payload = match leaving.included {
            true => packet::parse(&leaving.data).map_or(&[][..], |(_, payload)| payload),
            false => &leaving.data[..],
        };
        let half = |at: usize| payload.get(at..).and_then(|b| b.first_chunk()).copied();
        let half = |at: usize| u16::from_be_bytes(half(at).unwrap_or_default());
        let protocol = i32::from(header.protocol);
        let icmp = header.protocol == packet::icmp_of(header.to);
        let ports = if icmp { (half(4), 0) } else { (half(0), half(2)) };
        let detail = match protocol {
            IPPROTO_TCP => half(12) & 0xff,
            _ if icmp => half(0),
            _ => 0,
        };
        let sent = Sent {
            from: Endpoint::new(header.from, ports.0),
            to: Endpoint::new(header.to, ports.1),
            protocol,
            detail,
            header: (header.ttl, header.tos),
            data: payload.get(8..).unwrap_or_default(),
            owner: Some((options.creator.uid, options.creator.gid)),
            mark: options.mark(),
            route: leaving.route,
        };
        match net.filter_sent(&sent) {
            Ok(_) => Ok(true),
            Err(stopped) if stopped.leaving => Err(Errno::EPERM),
            Err(_) => Ok(false),
        }
    }

    fn transmit(&self, leaving: &Leaving) -> Result<()> {
        if self.common.net.is_filtered() && !self.passes(leaving)? {
            return Ok(());
        }
        if !leaving.route.local {
            return self.transmit_remote(leaving);
        }
        let net = &self.common.net;
        net.counters.packet(leaving.data.len(), leaving.to.is_ipv6());
        let to = leaving.to;
        if to.is_multicast() {
            let v6 = to.is_ipv6();
            let looped = if v6 { ip::MULTICAST_LOOP6 } else { ip::MULTICAST_LOOP };
            let member = net.groups.has(&(to, leaving.route.device));
            let looped = leaving.route.device == LOOPBACK || self.common.ip.is_on(looped);
            if !member || !looped {
                return Ok(());
            }
        }
        if leaving.included {
            net.loop_back(&leaving.data);
        } else {
            net.loop_back(&leaving.header.packet(&leaving.data));
        }
        Ok(())
    }
}
