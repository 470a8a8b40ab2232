//! ICMP and ICMPv6: echo, errors about others' packets, and errors about ours.

use super::output::IpMeta;
use super::{DstKind, IpInfo};
use crate::endpoint::IcmpError;
use crate::error::Error;
use crate::iface::groups::Groups;
use crate::stack::Stack;
use crate::wire::icmp::{self, Message, v4, v6};
use crate::wire::{checksum, ipv4, ipv6, mld, protocol};
use std::net::IpAddr;
use std::time::Duration;

/// Bytes of an ICMP error in all (RFC 1812, section 4.3.2.3).
const MAX_ERROR4: usize = 576;

/// The addresses and ports of a packet of ours that an error quotes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'a> {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    /// What is quoted of the transport header and beyond.
    pub transport: &'a [u8],
    /// The quoted packet's length, as its header says.
    pub len: usize,
}

impl<'a> Quoted<'a> {
    fn parse(v6: bool, b: &'a [u8]) -> Option<Self> {
        if v6 {
            let p = ipv6::Packet::parse_quoted(b)?;
            let len = ipv6::HEADER + usize::from(crate::wire::be16(b, 4)?);
            let (protocol, transport) = match ipv6::walk(p.header.next_header, p.payload) {
                ipv6::Chain::Upper { protocol, at } => (protocol, p.payload.get(at..)?),
                ipv6::Chain::Fragment { at, header } if header.offset == 0 => {
                    (header.next_header, p.payload.get(at + ipv6::FRAGMENT_HEADER..)?)
                }
                _ => return None,
            };
            let (src, dst) = (p.header.src.into(), p.header.dst.into());
            return Some(Self { src, dst, protocol, transport, len });
        }
        let p = ipv4::Packet::parse_quoted(b)?;
        if p.header.fragment_offset != 0 {
            return None;
        }
        Some(Self {
            src: p.header.src.into(),
            dst: p.header.dst.into(),
            protocol: p.header.protocol,
            transport: p.payload,
            len: crate::wire::be16(b, 2)?.into(),
        })
    }
}

impl Stack {
    pub(crate) fn input_icmp(&self, info: &IpInfo<'_>, bytes: &[u8]) {
        self.stats().icmp_in_msgs.inc();
        let message = Message::parse(bytes);
        let Some(m) = message.filter(|_| checksum::checksum(bytes) == 0) else {
            self.stats().icmp_in_errors.inc();
            return;
        };
        match m.kind {
            v4::ECHO if info.kind == DstKind::Host && !info.link_group => {
                self.echo_reply(info, v4::ECHO_REPLY, &m);
            }
            v4::ECHO_REPLY => self.input_ping(info, &m, bytes),
            v4::UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER => {
                self.deliver_icmp_error(false, Some(info.src), (m.kind, m.code), m.rest, m.payload);
            }
            // Source quench is obsolete (RFC 6633), redirects are ignored (see `iface::ndp`), nobody needs
            // the time of day.
            v4::SOURCE_QUENCH | v4::REDIRECT | v4::TIMESTAMP | v4::TIMESTAMP_REPLY => {}
            _ => {}
        }
    }

    pub(crate) fn input_icmpv6(&self, info: &IpInfo<'_>, bytes: &[u8]) {
        self.stats().icmp_in_msgs.inc();
        let ok = checksum::verify(info.src, info.dst, protocol::ICMPV6, bytes);
        let Some(m) = Message::parse(bytes).filter(|_| ok) else {
            self.stats().icmp_in_errors.inc();
            return;
        };
        match m.kind {
            v6::ECHO if !info.src.is_unspecified() => self.echo_reply(info, v6::ECHO_REPLY, &m),
            v6::ECHO_REPLY => self.input_ping(info, &m, bytes),
            v6::UNREACHABLE | v6::TOO_BIG | v6::TIME_EXCEEDED | v6::PARAMETER => {
                self.deliver_icmp_error(true, Some(info.src), (m.kind, m.code), m.rest, m.payload);
            }
            v6::MLD_QUERY => {
                let link_local = matches!(info.src, IpAddr::V6(a) if a.is_unicast_link_local());
                let query = bytes.get(4..).and_then(mld::parse_query);
                if let Some((group, ms)) = query.filter(|_| link_local) {
                    let within = Duration::from_millis(ms.into());
                    let (now, dice) = (self.now(), self.random.next_u64());
                    let mut groups = info.iface.groups.lock();
                    Groups::query(&mut groups, group.into(), 3, within, now, dice);
                    drop(groups);
                    self.arm_iface(info.iface);
                }
            }
            v6::ROUTER_SOLICIT
            | v6::ROUTER_ADVERT
            | v6::NEIGHBOR_SOLICIT
            | v6::NEIGHBOR_ADVERT
            | v6::REDIRECT => {
                if let Some(Ok(header)) = info
                    .packet
                    .get(..ipv6::HEADER)
                    .map(|_| ipv6::Packet::parse_quoted(info.packet).map(|p| p.header).ok_or(()))
                {
                    let body = bytes.get(4..).unwrap_or_default();
                    self.input_ndp(info.iface, m.kind, m.code, &header, body);
                }
            }
            _ => {}
        }
    }

    fn echo_reply(&self, info: &IpInfo<'_>, kind: u8, m: &Message<'_>) {
        if !self.icmp_allowed(info.iface.is_loopback()) {
            return;
        }
        let mut frame = self.frame(icmp::HEADER + m.payload.len());
        frame.extend(m.payload);
        icmp::emit(frame.prepend(icmp::HEADER), kind, 0, m.rest);
        self.send_icmp(info, frame, info.tos);
    }

    /// Answers the sender of a packet with a finished ICMP message, its checksum aside.
    fn send_icmp(&self, info: &IpInfo<'_>, mut frame: crate::link::Frame, tos: u8) {
        let src = (info.kind == DstKind::Host).then_some(info.dst);
        let oif = match info.src {
            IpAddr::V6(a) if a.is_unicast_link_local() => Some(info.iface.id),
            _ => None,
        };
        let Ok(route) = self.find_route(info.src, src, oif) else { return };
        let v6 = info.src.is_ipv6();
        let meta = IpMeta {
            src: route.src,
            dst: info.src,
            protocol: if v6 { protocol::ICMPV6 } else { protocol::ICMP },
            ttl: self.config.ttl,
            tos,
            dont_fragment: false,
            router_alert: false,
        };
        let sum = match v6 {
            true => checksum::transport(meta.src, meta.dst, protocol::ICMPV6, frame.bytes()),
            false => checksum::checksum(frame.bytes()),
        };
        crate::wire::put(frame.bytes_mut(), 2, &sum.to_be_bytes());
        self.stats().icmp_out_msgs.inc();
        self.send_ip(&route.iface, route.next, route.mtu, &meta, frame);
    }

    fn icmp_allowed(&self, loopback: bool) -> bool {
        let ok = loopback || self.icmp_limit.lock().take(self.now());
        if !ok {
            self.stats().icmp_out_rate_limited.inc();
        }
        ok
    }

    /// Sends an error about a packet, if the rules allow one (RFC 1122, section 3.2.2; RFC 4443, section
    /// 2.4).
    pub(crate) fn icmp_error(&self, info: &IpInfo<'_>, kind: u8, code: u8, rest: u32) {
        if info.may_answer() {
            self.icmp_error_unchecked(info, kind, code, rest);
        }
    }

    pub(crate) fn icmp_error_unchecked(&self, info: &IpInfo<'_>, kind: u8, code: u8, rest: u32) {
        // Never about an error, nor about a fragment other than the first.
        let allowed = match info.src {
            IpAddr::V4(_) => ipv4::Packet::parse_quoted(info.packet).is_some_and(|p| {
                p.header.fragment_offset == 0
                    && (p.header.protocol != protocol::ICMP
                        || matches!(p.payload.first(), Some(&(v4::ECHO | v4::ECHO_REPLY))))
            }),
            IpAddr::V6(_) => match Quoted::parse(true, info.packet) {
                Some(q) if q.protocol == protocol::ICMPV6 => {
                    q.transport.first().is_some_and(|kind| *kind >= 128)
                }
                _ => true,
            },
        };
        if !allowed || !self.icmp_allowed(info.iface.is_loopback()) {
            return;
        }
        let max = match info.src {
            IpAddr::V4(_) => MAX_ERROR4 - ipv4::HEADER - icmp::HEADER,
            IpAddr::V6(_) => ipv6::MIN_MTU - ipv6::HEADER - icmp::HEADER,
        };
        let quote = info.packet.get(..max).unwrap_or(info.packet);
        let mut frame = self.frame(quote.len() + icmp::HEADER);
        frame.extend(quote);
        icmp::emit(frame.prepend(icmp::HEADER), kind, code, rest);
        self.send_icmp(info, frame, if info.src.is_ipv4() { 0xc0 } else { 0 });
    }

    /// An error about a packet of ours: `quote` is what the message quotes of it, `from` who has sent it, if that is not this host.
    pub(crate) fn deliver_icmp_error(
        &self,
        v6: bool,
        from: Option<IpAddr>,
        what: (u8, u8),
        rest: u32,
        quote: &[u8],
    ) {
        let Some(quoted) = Quoted::parse(v6, quote) else {
            self.stats().icmp_in_errors.inc();
            return;
        };
        if !self.is_local(quoted.src) {
            return;
        }
        let from = from.unwrap_or(quoted.src);
        let Some(mut error) = classify(v6, from, what, rest) else { return };
        if let Some(mtu) = error.mtu {
            // A protocol that can check whether the quoted packet was really sent does so first.
            if quoted.protocol == protocol::TCP {
                self.tcp_icmp_error(&quoted, &error);
                return;
            }
            let now = self.now();
            let known = self.pmtu.lock().reduce(quoted.dst, mtu as usize, quoted.len, now);
            error.mtu = known.map(|mtu| mtu as u32).or(error.mtu);
        }
        match quoted.protocol {
            protocol::TCP => self.tcp_icmp_error(&quoted, &error),
            protocol::UDP => self.udp_icmp_error(&quoted, &error),
            _ => self.raw_icmp_error(&quoted, &error),
        }
    }
}

/// What an error message means to a socket (RFC 1122, section 4.2.3.9; Linux's `icmp_err_convert`).
fn classify(v6: bool, from: IpAddr, (kind, code): (u8, u8), rest: u32) -> Option<IcmpError> {
    use Error::{ConnectionRefused, HostUnreachable, MessageSize, NetworkUnreachable, NoProtocol};
    let mut mtu = None;
    let (error, fatal) = if v6 {
        match (kind, code) {
            (v6::UNREACHABLE, 0 | 5 | 6) => (NetworkUnreachable, code != 0),
            (v6::UNREACHABLE, 1) => (Error::AccessDenied, true),
            (v6::UNREACHABLE, 4) => (ConnectionRefused, true),
            (v6::UNREACHABLE, _) => (HostUnreachable, false),
            (v6::TOO_BIG, _) => {
                mtu = Some(rest);
                (MessageSize, false)
            }
            (v6::TIME_EXCEEDED, _) => (HostUnreachable, false),
            (v6::PARAMETER, _) => (Error::Protocol, code == 1),
            _ => return None,
        }
    } else {
        match (kind, code) {
            (v4::UNREACHABLE, 4) => {
                mtu = Some(rest & 0xffff);
                (MessageSize, false)
            }
            (v4::UNREACHABLE, 0 | 6 | 9 | 11) => (NetworkUnreachable, matches!(code, 6 | 9)),
            (v4::UNREACHABLE, 2) => (NoProtocol, true),
            (v4::UNREACHABLE, 3) => (ConnectionRefused, true),
            (v4::UNREACHABLE, 7 | 8 | 10 | 13..=15) => (HostUnreachable, true),
            (v4::UNREACHABLE, _) => (HostUnreachable, false),
            (v4::TIME_EXCEEDED, _) => (HostUnreachable, false),
            (v4::PARAMETER, _) => (Error::Protocol, true),
            _ => return None,
        }
    };
    Some(IcmpError { error, kind, code, v6, fatal, mtu, from })
}
