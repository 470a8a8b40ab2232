//! Packets that go out: the route, the source address, headers, fragments.

use crate::error::{Error, Result};
use crate::iface::{Iface, IfaceId, LOOPBACK};
use crate::link::{Frame, PartialChecksum};
use crate::stack::Stack;
use crate::wire::{checksum, ipv4, ipv6, protocol};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The router alert option of IPv4 (RFC 2113).
const ROUTER_ALERT4: [u8; 4] = [148, 4, 0, 0];
/// A hop-by-hop header with the router alert for MLD (RFC 2711).
const ROUTER_ALERT6: [u8; 8] = [protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0];

/// Whom a frame goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextHop {
    Host(IpAddr),
    Group(IpAddr),
    Broadcast,
}

/// How to reach a destination.
#[derive(Clone)]
pub(crate) struct Route {
    pub iface: Arc<Iface>,
    pub next: NextHop,
    pub src: IpAddr,
    /// Of the path.
    pub mtu: usize,
}

/// The fields of an IP header that senders choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IpMeta {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    pub dont_fragment: bool,
    pub router_alert: bool,
}

impl Stack {
    /// Finds the route to `dst`, from `src` when that is chosen already, through `oif` when the endpoint is
    /// bound to an interface.
    pub(crate) fn find_route(
        &self,
        dst: IpAddr,
        src: Option<IpAddr>,
        oif: Option<IfaceId>,
    ) -> Result<Route> {
        let src = src.filter(|s| !s.is_unspecified());
        if self.is_local(dst) {
            let iface = self.iface(LOOPBACK)?;
            // The loopback's MTU is one more than an IPv4 packet can have.
            let mtu = iface.mtu().min(ipv4::MAX);
            return Ok(Route { iface, next: NextHop::Host(dst), src: src.unwrap_or(dst), mtu });
        }
        if let IpAddr::V4(v4) = dst {
            if v4.is_unspecified() {
                return Err(Error::NetworkUnreachable);
            }
            if let Some(iface) = self.broadcast_iface(v4, oif)? {
                return self.route_on(iface, dst, NextHop::Broadcast, src, None);
            }
        }
        let entry = self.routes.read().lookup(dst, oif).copied();
        if dst.is_multicast() {
            let iface = match (oif, entry) {
                (Some(oif), _) => self.iface(oif)?,
                (None, Some(entry)) => self.iface(entry.iface)?,
                (None, None) => self.first_iface().ok_or(Error::NetworkUnreachable)?,
            };
            return self.route_on(iface, dst, NextHop::Group(dst), src, None);
        }
        let Some(entry) = entry else {
            self.stats().ip_out_no_routes.inc();
            return Err(Error::NetworkUnreachable);
        };
        let iface = self.iface(entry.iface)?;
        let next = NextHop::Host(entry.via.unwrap_or(dst));
        let mut route = self.route_on(iface, dst, next, src.or(entry.source), entry.mtu)?;
        if let Some(mtu) = self.pmtu.lock().get(dst, self.now()) {
            route.mtu = route.mtu.min(mtu);
        }
        Ok(route)
    }

    fn route_on(
        &self,
        iface: Arc<Iface>,
        dst: IpAddr,
        next: NextHop,
        src: Option<IpAddr>,
        mtu: Option<usize>,
    ) -> Result<Route> {
        let hop = match next {
            NextHop::Host(hop) => hop,
            NextHop::Group(_) | NextHop::Broadcast => dst,
        };
        let src = match src {
            Some(src) => src,
            None => {
                let own = iface.addresses.read().source_for(dst, hop, self.now());
                own.or_else(|| self.any_source(dst, hop)).ok_or(Error::AddressNotAvailable)?
            }
        };
        let mtu = mtu.unwrap_or(usize::MAX).min(iface.mtu()).min(ipv4::MAX);
        Ok(Route { iface, next, src, mtu })
    }

    fn any_source(&self, dst: IpAddr, hop: IpAddr) -> Option<IpAddr> {
        let now = self.now();
        let ifaces = self.ifaces.read();
        let others = ifaces.iter().filter(|i| !i.is_loopback());
        others.filter_map(|i| i.addresses.read().source_for(dst, hop, now)).next()
    }

    fn first_iface(&self) -> Option<Arc<Iface>> {
        self.ifaces.read().iter().find(|i| !i.is_loopback() && i.is_up()).cloned()
    }

    /// The interface that a broadcast leaves by, when `dst` is one.
    fn broadcast_iface(&self, dst: Ipv4Addr, oif: Option<IfaceId>) -> Result<Option<Arc<Iface>>> {
        if dst.is_broadcast() {
            if let Some(oif) = oif {
                return self.iface(oif).map(Some);
            }
            let entry = self.routes.read().lookup(dst.into(), None).copied();
            let iface = match entry {
                Some(entry) => Some(self.iface(entry.iface)?),
                None => self.first_iface(),
            };
            return iface.ok_or(Error::NetworkUnreachable).map(Some);
        }
        let ifaces = self.ifaces.read();
        let mut candidates = ifaces.iter().filter(|i| oif.is_none_or(|oif| oif == i.id));
        Ok(candidates.find(|i| i.addresses.read().is_broadcast(dst)).cloned())
    }

    /// Finishes the transport checksum of a packet, or leaves it to the link. `at`: where it is in the
    /// transport header, which starts the frame.
    pub(crate) fn fill_checksum(
        &self,
        frame: &mut Frame,
        iface: &Iface,
        meta: &IpMeta,
        at: usize,
        fragmented: bool,
    ) {
        if iface.caps.tx_checksum && !fragmented {
            let sum =
                checksum::fold(checksum::pseudo(meta.src, meta.dst, meta.protocol, frame.len()));
            crate::wire::put(frame.bytes_mut(), at, &sum.to_be_bytes());
            frame.checksum = Some(PartialChecksum { start: 0, offset: at });
            return;
        }
        let sum = checksum::transport(meta.src, meta.dst, meta.protocol, frame.bytes());
        // UDP's way to say that there is no checksum must not be said by chance.
        let sum = if sum == 0 && meta.protocol == protocol::UDP { 0xffff } else { sum };
        crate::wire::put(frame.bytes_mut(), at, &sum.to_be_bytes());
    }

    /// Puts an IP header in front of a transport packet and sends it, in fragments when it must be and may
    /// be. False when it was dropped.
    pub(crate) fn send_ip(
        &self,
        iface: &Arc<Iface>,
        next: NextHop,
        mtu: usize,
        meta: &IpMeta,
        frame: Frame,
    ) -> bool {
        self.stats().ip_out_requests.inc();
        match (meta.src, meta.dst) {
            (IpAddr::V4(_), IpAddr::V4(_)) => self.send_ipv4(iface, next, mtu, meta, frame),
            (IpAddr::V6(_), IpAddr::V6(_)) => self.send_ipv6(iface, next, mtu, meta, frame),
            _ => false,
        }
    }

    fn send_ipv4(
        &self,
        iface: &Arc<Iface>,
        next: NextHop,
        mtu: usize,
        meta: &IpMeta,
        mut frame: Frame,
    ) -> bool {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (meta.src, meta.dst) else { return false };
        let options: &[u8] = if meta.router_alert { &ROUTER_ALERT4 } else { &[] };
        let header_len = ipv4::HEADER + options.len();
        let len = frame.len();
        let mut header = ipv4::Header {
            tos: meta.tos,
            id: self.ip_id.fetch_add(1, Ordering::Relaxed),
            dont_fragment: meta.dont_fragment,
            more_fragments: false,
            fragment_offset: 0,
            ttl: meta.ttl,
            protocol: meta.protocol,
            src,
            dst,
        };
        if header_len + len <= mtu || frame.gso.is_some() {
            header.emit(frame.prepend(header_len), options, len);
            return self.send_on(iface, next, false, frame);
        }
        if meta.dont_fragment {
            self.stats().ip_frag_fails.inc();
            return false;
        }
        // Identifiers of packets that are cut must not be guessed (RFC 7739 has the reasons).
        header.id = self.random.next_u64() as u16;
        let step = mtu.saturating_sub(header_len) & !7;
        if step == 0 {
            return false;
        }
        let mut ok = true;
        for (n, part) in frame.bytes().chunks(step).enumerate() {
            header.fragment_offset = (n * step) as u16;
            header.more_fragments = n * step + part.len() < len;
            let mut fragment = self.frame(part.len());
            fragment.extend(part);
            header.emit(fragment.prepend(header_len), options, part.len());
            ok &= self.send_on(iface, next, false, fragment);
        }
        self.stats().ip_frag_oks.inc();
        ok
    }

    fn send_ipv6(
        &self,
        iface: &Arc<Iface>,
        next: NextHop,
        mtu: usize,
        meta: &IpMeta,
        mut frame: Frame,
    ) -> bool {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (meta.src, meta.dst) else { return false };
        let mut header = ipv6::Header {
            traffic_class: meta.tos,
            flow_label: 0,
            next_header: meta.protocol,
            hop_limit: meta.ttl,
            src,
            dst,
        };
        if meta.router_alert {
            crate::wire::put(frame.prepend(ROUTER_ALERT6.len()), 0, &ROUTER_ALERT6);
            header.next_header = protocol::HOP_BY_HOP;
        }
        let len = frame.len();
        if ipv6::HEADER + len <= mtu || frame.gso.is_some() {
            header.emit(frame.prepend(ipv6::HEADER), len);
            return self.send_on(iface, next, true, frame);
        }
        if meta.dont_fragment {
            self.stats().ip_frag_fails.inc();
            return false;
        }
        let step = mtu.saturating_sub(ipv6::HEADER + ipv6::FRAGMENT_HEADER) & !7;
        if step == 0 {
            return false;
        }
        let id = self.random.next_u64() as u32;
        let upper = std::mem::replace(&mut header.next_header, protocol::FRAGMENT);
        let mut ok = true;
        for (n, part) in frame.bytes().chunks(step).enumerate() {
            let more = n * step + part.len() < len;
            let ext = ipv6::Fragment { next_header: upper, offset: (n * step) as u16, more, id };
            let mut fragment = self.frame(part.len());
            fragment.extend(part);
            ext.emit(fragment.prepend(ipv6::FRAGMENT_HEADER));
            let len = fragment.len();
            header.emit(fragment.prepend(ipv6::HEADER), len);
            ok &= self.send_on(iface, next, true, fragment);
        }
        self.stats().ip_frag_oks.inc();
        ok
    }
}
