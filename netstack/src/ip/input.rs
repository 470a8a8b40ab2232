//! Packets that come in: checks, reassembly, and which protocol they are for.

use super::reassembly::{FragmentKey, Outcome, Piece};
use super::{DstKind, IpInfo};
use crate::iface::Iface;
use crate::iface::address::IfaceAddr;
use crate::link::{Expected, RxFrame};
use crate::stack::Stack;
use crate::time::Instant;
use crate::timers::TimerKey;
use crate::wire::ethernet::{self, MacAddr};
use crate::wire::ipv4::{self, OptionsVerdict};
use crate::wire::ipv6::{self, Chain};
use crate::wire::{icmp, igmp, protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

impl Stack {
    pub(crate) fn input_frame(&self, iface: &Arc<Iface>, rx: RxFrame<'_>) {
        if !iface.is_up() {
            return;
        }
        iface.stats.rx_packets.inc();
        iface.stats.rx_bytes.add(rx.data.len() as u64);
        let Some(mac) = iface.mac() else {
            match rx.data.first().map(|b| b >> 4) {
                Some(4) => self.input_ipv4(iface, rx, false),
                Some(6) => self.input_ipv6(iface, rx, false),
                _ => self.stats().link_in_discards.inc(),
            }
            return;
        };
        let Some((header, payload)) = ethernet::Header::parse(rx.data) else {
            self.stats().link_in_discards.inc();
            return;
        };
        let group = header.dst.is_multicast();
        if (!group && header.dst != mac) || header.src.is_multicast() || header.src == mac {
            self.stats().link_in_discards.inc();
            return;
        }
        match header.ethertype {
            ethernet::TYPE_IPV4 => self.input_ipv4(iface, RxFrame { data: payload, ..rx }, group),
            ethernet::TYPE_IPV6 => self.input_ipv6(iface, RxFrame { data: payload, ..rx }, group),
            ethernet::TYPE_ARP if group || header.dst != MacAddr::BROADCAST => {
                self.input_arp(iface, payload);
            }
            _ => self.stats().link_in_discards.inc(),
        }
    }

    /// Whether a frame belongs to something that is known. For who has more frames than it can hand over in time.
    pub fn expects(&self, rx: &RxFrame<'_>) -> Expected {
        use Expected::{Known, No};
        let Some((header, payload)) = ethernet::Header::parse(rx.data) else { return No };
        let (src, dst, protocol, transport): (IpAddr, IpAddr, _, _) = match header.ethertype {
            ethernet::TYPE_ARP => return Known,
            ethernet::TYPE_IPV4 => match ipv4::Packet::parse(payload, true) {
                Some(p) if !p.header.is_fragment() => {
                    (p.header.src.into(), p.header.dst.into(), p.header.protocol, p.payload)
                }
                _ => return No,
            },
            ethernet::TYPE_IPV6 => match ipv6::Packet::parse(payload) {
                Some(p) => {
                    (p.header.src.into(), p.header.dst.into(), p.header.next_header, p.payload)
                }
                None => return No,
            },
            _ => return No,
        };
        let known = match protocol {
            protocol::TCP => return self.expects_tcp(src, dst, transport),
            protocol::UDP => {
                icmp::quoted_ports(transport).is_some_and(|(_, to)| self.demux.udp.is_bound(to))
            }
            protocol::ICMPV6 => {
                use icmp::v6::{REDIRECT, ROUTER_SOLICIT};
                matches!(transport.first(), Some(ROUTER_SOLICIT..=REDIRECT))
            }
            _ => false,
        };
        if known { Known } else { No }
    }

    fn input_ipv4(&self, iface: &Arc<Iface>, rx: RxFrame<'_>, link_group: bool) {
        self.stats().ip_in_receives.inc();
        let Some(packet) = ipv4::Packet::parse(rx.data, true) else {
            self.stats().ip_in_hdr_errors.inc();
            return;
        };
        let header = packet.header;
        let Some(kind) = self.classify4(iface, header.src, header.dst) else {
            self.stats().ip_in_addr_errors.inc();
            return;
        };
        // Unicast in a group frame (RFC 1122, section 3.3.6): a trick to reach a host behind a filter.
        if kind == DstKind::Host && link_group {
            self.stats().ip_in_addr_errors.inc();
            return;
        }
        let info = IpInfo {
            iface,
            src: header.src.into(),
            dst: header.dst.into(),
            kind,
            ttl: header.ttl,
            tos: header.tos,
            checksum_valid: rx.checksum_valid,
            buffer: rx.buffer,
            link_group,
            packet: packet.whole,
        };
        match ipv4::check_options(packet.options) {
            OptionsVerdict::Accept => {}
            OptionsVerdict::SourceRoute => {
                self.stats().ip_in_hdr_errors.inc();
                return;
            }
            OptionsVerdict::Malformed(at) => {
                self.stats().ip_in_hdr_errors.inc();
                self.icmp_error(&info, icmp::v4::PARAMETER, 0, u32::from(at) << 24);
                return;
            }
        }
        if header.is_fragment() {
            let key = FragmentKey {
                src: info.src,
                dst: info.dst,
                id: header.id.into(),
                protocol: header.protocol,
                iface: iface.id,
            };
            let piece = Piece {
                offset: header.fragment_offset.into(),
                more: header.more_fragments,
                data: packet.payload,
                ecn: header.tos & 3,
                // The headers that the whole packet gets are those of its first fragment.
                head: packet.header_bytes,
                quote: packet.whole,
            };
            let Some(whole) = self.reassemble(&info, key, piece, Duration::from_secs(30)) else {
                return;
            };
            let header_len = whole.head_len;
            let mut bytes = whole.bytes;
            let Some(mut header) = ipv4::Packet::parse_quoted(&bytes).map(|p| p.header) else {
                return;
            };
            header.more_fragments = false;
            header.fragment_offset = 0;
            header.tos |= whole.ecn;
            let options = bytes.get(ipv4::HEADER..header_len).unwrap_or_default().to_vec();
            let payload_len = bytes.len() - header_len;
            header.emit(&mut bytes, &options, payload_len);
            let info = IpInfo { tos: header.tos, packet: &bytes, checksum_valid: false, ..info };
            let payload = bytes.get(header_len..).unwrap_or_default();
            self.deliver(&info, header.protocol, payload, 0);
            return;
        }
        self.deliver(&info, header.protocol, packet.payload, 0);
    }

    /// `None`: not for us, or from an address that no packet can come from.
    fn classify4(&self, iface: &Iface, src: Ipv4Addr, dst: Ipv4Addr) -> Option<DstKind> {
        let from_outside = !iface.is_loopback();
        let src_bad = src.is_multicast()
            || src.is_broadcast()
            || (from_outside && (src.is_loopback() || self.is_local(src.into())));
        if src_bad || (from_outside && dst.is_loopback()) {
            return None;
        }
        if dst.is_multicast() {
            return iface.groups.lock().is_member(dst.into()).then_some(DstKind::Group);
        }
        let broadcast = dst.is_broadcast() || iface.addresses.read().is_broadcast(dst);
        if broadcast {
            return Some(DstKind::Broadcast);
        }
        if src.is_unspecified() {
            return None;
        }
        self.is_local(dst.into()).then_some(DstKind::Host)
    }

    fn input_ipv6(&self, iface: &Arc<Iface>, rx: RxFrame<'_>, link_group: bool) {
        self.stats().ip_in_receives.inc();
        let Some(packet) = ipv6::Packet::parse(rx.data) else {
            self.stats().ip_in_hdr_errors.inc();
            return;
        };
        let header = packet.header;
        let Some(kind) = self.classify6(iface, header.src, header.dst) else {
            self.stats().ip_in_addr_errors.inc();
            return;
        };
        let info = IpInfo {
            iface,
            src: header.src.into(),
            dst: header.dst.into(),
            kind,
            ttl: header.hop_limit,
            tos: header.traffic_class,
            checksum_valid: rx.checksum_valid,
            buffer: rx.buffer,
            link_group,
            packet: packet.whole,
        };
        self.walk6(&info, header.next_header, packet.payload, true);
    }

    fn walk6(&self, info: &IpInfo<'_>, next: u8, payload: &[u8], may_fragment: bool) {
        match ipv6::walk(next, payload) {
            Chain::Upper { protocol, at } => {
                // Where the protocol is named, for the error when nobody takes it.
                let named = if at == 0 { 6 } else { ipv6::HEADER as u32 };
                self.deliver(info, protocol, payload.get(at..).unwrap_or_default(), named);
            }
            Chain::Fragment { at, header } if may_fragment => {
                self.fragment6(info, payload, at, header)
            }
            Chain::Discard => {}
            Chain::Problem { code, pointer, multicast_too } => {
                self.stats().ip_in_hdr_errors.inc();
                let allowed = info.may_answer() || (multicast_too && info.kind == DstKind::Group);
                if allowed && !info.src.is_unspecified() {
                    self.icmp_error_unchecked(info, icmp::v6::PARAMETER, code, pointer);
                }
            }
            Chain::Fragment { .. } | Chain::Malformed => self.stats().ip_in_hdr_errors.inc(),
        }
    }

    fn fragment6(&self, info: &IpInfo<'_>, payload: &[u8], at: usize, header: ipv6::Fragment) {
        let data_at = at + ipv6::FRAGMENT_HEADER;
        let data = payload.get(data_at..).unwrap_or_default();
        if header.offset == 0 && !header.more {
            // An atomic fragment: a whole packet (RFC 6946).
            self.walk6(info, header.next_header, data, false);
            return;
        }
        let problem = if header.more && !data.len().is_multiple_of(8) {
            Some(4)
        } else if usize::from(header.offset) + data.len() > ipv4::MAX {
            Some((ipv6::HEADER + at + 2) as u32)
        } else {
            None
        };
        if let Some(pointer) = problem {
            self.stats().ip_in_hdr_errors.inc();
            self.icmp_error(info, icmp::v6::PARAMETER, 0, pointer);
            return;
        }
        let key = FragmentKey {
            src: info.src,
            dst: info.dst,
            id: header.id,
            protocol: 0,
            iface: info.iface.id,
        };
        // The unfragmentable part would only matter to errors that quote the packet; the type of the first
        // header behind it is kept as the "head".
        let head = [header.next_header];
        let piece = Piece {
            offset: header.offset.into(),
            more: header.more,
            data,
            ecn: info.tos & 3,
            head: &head,
            quote: info.packet,
        };
        let Some(whole) = self.reassemble(info, key, piece, Duration::from_secs(60)) else {
            return;
        };
        let Some((&next, data)) = whole.bytes.split_first() else { return };
        let mut bytes = vec![0; ipv6::HEADER + data.len()];
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (info.src, info.dst) else { return };
        let fixed = ipv6::Header {
            traffic_class: info.tos | whole.ecn,
            flow_label: 0,
            next_header: next,
            hop_limit: info.ttl,
            src,
            dst,
        };
        fixed.emit(&mut bytes, data.len());
        crate::wire::put(&mut bytes, ipv6::HEADER, data);
        let info =
            IpInfo { packet: &bytes, checksum_valid: false, tos: info.tos | whole.ecn, ..*info };
        self.walk6(&info, next, data, false);
    }

    fn classify6(&self, iface: &Iface, src: Ipv6Addr, dst: Ipv6Addr) -> Option<DstKind> {
        let from_outside = !iface.is_loopback();
        let loopback = src.is_loopback() || dst.is_loopback();
        if src.is_multicast() || dst.is_unspecified() || (from_outside && loopback) {
            return None;
        }
        if from_outside && self.is_local(src.into()) {
            // But who has the address that we only try to get must be heard.
            let addresses = iface.addresses.read();
            let tentative = |a: &IfaceAddr| a.tentative_until.is_some();
            if !addresses.find(src.into()).is_some_and(tentative) {
                return None;
            }
        }
        if dst.is_multicast() {
            return iface.groups.lock().is_member(dst.into()).then_some(DstKind::Group);
        }
        // A link-local address belongs to its link.
        let local = match dst.is_unicast_link_local() && from_outside {
            true => iface.addresses.read().find(dst.into()).is_some(),
            false => self.is_local(dst.into()),
        };
        local.then_some(DstKind::Host)
    }

    fn reassemble(
        &self,
        info: &IpInfo<'_>,
        key: FragmentKey,
        piece: Piece<'_>,
        timeout: Duration,
    ) -> Option<super::reassembly::Whole> {
        self.stats().ip_reasm_reqds.inc();
        let now = self.now();
        let (outcome, deadline) = {
            let mut reassembly = self.reassembly.lock();
            let outcome = reassembly.add(key, piece, now + timeout);
            (outcome, reassembly.deadline())
        };
        self.set_timer(TimerKey::Reassembly, deadline);
        match outcome {
            Outcome::Waiting => None,
            Outcome::Dropped => {
                self.stats().ip_reasm_fails.inc();
                None
            }
            Outcome::TooLong => {
                self.stats().ip_reasm_fails.inc();
                if info.src.is_ipv6() {
                    self.icmp_error(info, icmp::v6::PARAMETER, 0, 42);
                }
                None
            }
            Outcome::Whole(whole) => {
                self.stats().ip_reasm_oks.inc();
                Some(whole)
            }
        }
    }

    /// Packets whose fragments did not all come in time (RFC 1122, section 3.3.2; RFC 8200, section 4.5).
    pub(crate) fn reassembly_timer(&self, now: Instant) {
        let (expired, deadline) = {
            let mut reassembly = self.reassembly.lock();
            (reassembly.expire(now), reassembly.deadline())
        };
        self.set_timer(TimerKey::Reassembly, deadline);
        for (key, first) in expired {
            self.stats().ip_reasm_fails.inc();
            // Only when the first fragment is there: it says whose packet it was.
            if let (Some(packet), Ok(iface)) = (first, self.iface(key.iface)) {
                let kind = if self.is_local(key.dst) { DstKind::Host } else { DstKind::Broadcast };
                let info = IpInfo {
                    iface: &iface,
                    src: key.src,
                    dst: key.dst,
                    kind,
                    ttl: 0,
                    tos: 0,
                    checksum_valid: false,
                    buffer: None,
                    link_group: false,
                    packet: &packet,
                };
                let kind = match key.src {
                    IpAddr::V4(_) => icmp::v4::TIME_EXCEEDED,
                    IpAddr::V6(_) => icmp::v6::TIME_EXCEEDED,
                };
                self.icmp_error(&info, kind, 1, 0);
            }
        }
    }

    fn deliver(&self, info: &IpInfo<'_>, protocol: u8, payload: &[u8], named_at: u32) {
        let raw = self.input_raw(info, protocol, payload);
        let delivered = match (protocol, info.src) {
            (protocol::TCP, _) => {
                self.input_tcp(info, payload);
                true
            }
            (protocol::UDP, _) => {
                self.input_udp(info, payload);
                true
            }
            (protocol::ICMP, IpAddr::V4(_)) => {
                self.input_icmp(info, payload);
                true
            }
            (protocol::ICMPV6, IpAddr::V6(_)) => {
                self.input_icmpv6(info, payload);
                true
            }
            (protocol::IGMP, IpAddr::V4(_)) => {
                self.input_igmp(info, payload);
                true
            }
            _ => raw,
        };
        if delivered {
            self.stats().ip_in_delivers.inc();
            return;
        }
        self.stats().ip_in_unknown_protos.inc();
        match info.src {
            IpAddr::V4(_) => self.icmp_error(info, icmp::v4::UNREACHABLE, 2, 0),
            IpAddr::V6(_) => self.icmp_error(info, icmp::v6::PARAMETER, 1, named_at),
        }
    }

    fn input_igmp(&self, info: &IpInfo<'_>, payload: &[u8]) {
        if let Some(query) = igmp::parse_query(payload) {
            let within = Duration::from_millis(u64::from(query.max_response) * 100);
            let (now, dice) = (self.now(), self.random.next_u64());
            let mut groups = info.iface.groups.lock();
            groups.query(query.group.into(), query.version, within, now, dice);
            drop(groups);
            self.arm_iface(info.iface);
        }
    }
}
