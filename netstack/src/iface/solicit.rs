//! Sending on an interface: link headers, asking neighbours for their addresses, ARP, and the interface's
//! timers.

use super::groups::Report;
use super::neighbor::{Action, Claim, Resolved};
use super::{Iface, IfaceId};
use crate::ip::output::{IpMeta, NextHop};
use crate::link::Frame;
use crate::stack::Stack;
use crate::time::{Instant, earliest};
use crate::timers::TimerKey;
use crate::wire::arp::{self, Arp};
use crate::wire::ethernet::{self, MacAddr};
use crate::wire::{checksum, icmp, igmp, ipv6, mld, ndp, protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

impl Stack {
    /// Sends an IP packet on an interface; false when it was dropped.
    pub(crate) fn send_on(
        &self,
        iface: &Arc<Iface>,
        next: NextHop,
        v6: bool,
        frame: Frame,
    ) -> bool {
        if !iface.is_up() {
            self.stats().ip_out_discards.inc();
            return false;
        }
        if iface.mac().is_none() {
            return self.enqueue(iface, frame);
        }
        let ethertype = if v6 { ethernet::TYPE_IPV6 } else { ethernet::TYPE_IPV4 };
        let mac = match next {
            NextHop::Broadcast => MacAddr::BROADCAST,
            NextHop::Group(IpAddr::V4(group)) => MacAddr::from_group4(group),
            NextHop::Group(IpAddr::V6(group)) => MacAddr::from_group6(group),
            NextHop::Host(addr) => {
                let resolved = iface.neighbors.lock().resolve(addr, ethertype, frame, self.now());
                return match resolved {
                    Resolved::Send(mac, frame) => self.send_to(iface, mac, ethertype, frame),
                    Resolved::Queued { ask } => {
                        if ask {
                            self.ask(iface, addr, None);
                            self.arm_iface(iface);
                        }
                        true
                    }
                    Resolved::Unreachable => {
                        self.stats().ip_out_discards.inc();
                        false
                    }
                };
            }
        };
        self.send_to(iface, mac, ethertype, frame)
    }

    fn send_to(&self, iface: &Iface, dst: MacAddr, ethertype: u16, mut frame: Frame) -> bool {
        let src = iface.mac().unwrap_or_default();
        ethernet::Header { dst, src, ethertype }.emit(frame.prepend(ethernet::HEADER));
        self.enqueue(iface, frame)
    }

    /// Sends packets that waited for a neighbour.
    pub(crate) fn send_resolved(&self, iface: &Iface, mac: MacAddr, waiting: Vec<(u16, Frame)>) {
        for (ethertype, frame) in waiting {
            self.send_to(iface, mac, ethertype, frame);
        }
    }

    /// Asks for a neighbour's link address, of itself when it is known (a probe), else of all.
    fn ask(&self, iface: &Arc<Iface>, addr: IpAddr, known: Option<MacAddr>) {
        let Some(mac) = iface.mac() else { return };
        let source = iface.addresses.read().source_for(addr, addr, self.now());
        match addr {
            IpAddr::V4(target) => {
                let Some(IpAddr::V4(sender)) = source else { return };
                let arp = Arp {
                    operation: arp::REQUEST,
                    sender_mac: mac,
                    sender,
                    target_mac: MacAddr::default(),
                    target,
                };
                self.send_arp(iface, known.unwrap_or(MacAddr::BROADCAST), arp);
            }
            IpAddr::V6(target) => {
                let Some(IpAddr::V6(src)) = source else { return };
                let message = ndp::emit_solicit(target, Some(mac));
                let group = ipv6::solicited_node(target);
                match known {
                    Some(to) => self.send_icmpv6(iface, src, target, Some(to), message),
                    None => self.send_icmpv6(iface, src, group, None, message),
                }
            }
        }
    }

    /// Asks whether someone else has an address (RFC 4862, section 5.4.2).
    pub(crate) fn solicit_duplicate(&self, iface: &Arc<Iface>, target: Ipv6Addr) {
        let message = ndp::emit_solicit(target, None);
        let group = ipv6::solicited_node(target);
        self.send_icmpv6(iface, Ipv6Addr::UNSPECIFIED, group, None, message);
    }

    fn send_arp(&self, iface: &Iface, dst: MacAddr, arp: Arp) {
        let mut bytes = [0; arp::LEN];
        arp.emit(&mut bytes);
        let mut frame = self.frame(arp::LEN);
        frame.extend(&bytes);
        self.send_to(iface, dst, ethernet::TYPE_ARP, frame);
    }

    /// Sends a message of neighbour discovery: hop limit 255, to a known link address or to a group.
    pub(crate) fn send_icmpv6(
        &self,
        iface: &Arc<Iface>,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        mac: Option<MacAddr>,
        mut message: Vec<u8>,
    ) {
        let sum = checksum::transport(src.into(), dst.into(), protocol::ICMPV6, &message);
        crate::wire::put(&mut message, 2, &sum.to_be_bytes());
        let mut frame = self.frame(message.len());
        frame.extend(&message);
        self.stats().icmp_out_msgs.inc();
        self.stats().ip_out_requests.inc();
        let header = ipv6::Header {
            traffic_class: 0,
            flow_label: 0,
            next_header: protocol::ICMPV6,
            hop_limit: 255,
            src,
            dst,
        };
        header.emit(frame.prepend(ipv6::HEADER), message.len());
        match mac {
            Some(mac) => {
                self.send_to(iface, mac, ethernet::TYPE_IPV6, frame);
            }
            None => {
                let next = if dst.is_multicast() {
                    NextHop::Group(dst.into())
                } else {
                    NextHop::Host(dst.into())
                };
                self.send_on(iface, next, true, frame);
            }
        }
    }

    /// An ARP packet came in (RFC 826, with Linux's care about who may create entries).
    pub(crate) fn input_arp(&self, iface: &Arc<Iface>, payload: &[u8]) {
        let Some(arp) = Arp::parse(payload) else {
            self.stats().link_in_discards.inc();
            return;
        };
        let for_us = {
            let addresses = iface.addresses.read();
            addresses.find(arp.target.into()).is_some()
        };
        let sender_ok = !arp.sender.is_unspecified()
            && !arp.sender.is_multicast()
            && !arp.sender.is_broadcast()
            && !arp.sender.is_loopback()
            && !self.is_local(arp.sender.into());
        if sender_ok {
            let claim = match arp.operation {
                arp::REPLY if for_us => Claim::Answer { override_: true },
                _ => Claim::Heard { override_: true },
            };
            // Only who speaks to us becomes known; others' talk refreshes what we know already.
            let create = for_us && arp.operation == arp::REQUEST;
            let now = self.now();
            let waiting =
                iface.neighbors.lock().learn(arp.sender.into(), arp.sender_mac, claim, create, now);
            self.send_resolved(iface, arp.sender_mac, waiting);
            self.arm_iface(iface);
        }
        if for_us
            && arp.operation == arp::REQUEST
            && (sender_ok || arp.sender.is_unspecified())
            && let Some(mac) = iface.mac()
        {
            let reply = Arp {
                operation: arp::REPLY,
                sender_mac: mac,
                sender: arp.target,
                target_mac: arp.sender_mac,
                target: arp.sender,
            };
            self.send_arp(iface, arp.sender_mac, reply);
        }
    }

    /// Sets the timer of an interface to its earliest deadline.
    pub(crate) fn arm_iface(&self, iface: &Iface) {
        let at = iface.neighbors.lock().deadline();
        let at = earliest(at, iface.groups.lock().deadline());
        let at = earliest(at, iface.addresses.read().deadline());
        self.set_timer(TimerKey::Iface(iface.id), at);
    }

    /// What an interface does when time has passed.
    pub(crate) fn iface_timer(&self, id: IfaceId, now: Instant) {
        let Ok(iface) = self.iface(id) else { return };
        let actions = iface.neighbors.lock().poll(now);
        for action in actions {
            match action {
                Action::Ask(addr, mac) => self.ask(&iface, addr, mac),
                Action::Failed(frames) => {
                    for frame in frames {
                        self.neighbor_failed(frame.bytes());
                    }
                }
            }
        }
        self.poll_addresses(&iface, now);
        let (reports, version2) = {
            let mut groups = iface.groups.lock();
            (groups.poll(now), groups.version2(now))
        };
        for report in reports {
            self.send_report(&iface, report, version2);
        }
        self.arm_iface(&iface);
    }

    fn send_report(&self, iface: &Arc<Iface>, report: Report, version2: bool) {
        let (kind, group) = match report {
            Report::Member(g) => (igmp::MODE_IS_EXCLUDE, g),
            Report::Joined(g) => (igmp::CHANGE_TO_EXCLUDE, g),
            Report::Left(g) => (igmp::CHANGE_TO_INCLUDE, g),
        };
        match group {
            IpAddr::V4(group) => {
                let (dst, message) = match (version2, kind) {
                    (false, _) => (Ipv4Addr::new(224, 0, 0, 22), igmp::emit_v3(&[(kind, group)])),
                    (true, igmp::CHANGE_TO_INCLUDE) => {
                        (Ipv4Addr::new(224, 0, 0, 2), igmp::emit_v2(igmp::LEAVE_V2, group).to_vec())
                    }
                    (true, _) => (group, igmp::emit_v2(igmp::REPORT_V2, group).to_vec()),
                };
                let source = iface.addresses.read().source_for(dst.into(), dst.into(), self.now());
                let src = source.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
                let meta = IpMeta {
                    src,
                    dst: dst.into(),
                    protocol: protocol::IGMP,
                    ttl: 1,
                    tos: 0xc0,
                    dont_fragment: true,
                    router_alert: true,
                };
                let mut frame = self.frame(message.len());
                frame.extend(&message);
                self.send_ip(iface, NextHop::Group(dst.into()), iface.mtu(), &meta, frame);
            }
            IpAddr::V6(group) => {
                let mut message = mld::emit_report(&[(kind, group)]);
                let dst = ipv6::ALL_MLDV2;
                let source = iface.addresses.read().source_for(dst.into(), dst.into(), self.now());
                let link_local =
                    source.filter(|s| matches!(s, IpAddr::V6(a) if a.is_unicast_link_local()));
                let src = link_local.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
                let sum = checksum::transport(src, dst.into(), protocol::ICMPV6, &message);
                crate::wire::put(&mut message, 2, &sum.to_be_bytes());
                let meta = IpMeta {
                    src,
                    dst: dst.into(),
                    protocol: protocol::ICMPV6,
                    ttl: 1,
                    tos: 0,
                    dont_fragment: true,
                    router_alert: true,
                };
                let mut frame = self.frame(message.len());
                frame.extend(&message);
                self.stats().icmp_out_msgs.inc();
                self.send_ip(iface, NextHop::Group(dst.into()), iface.mtu(), &meta, frame);
            }
        }
    }

    /// Asks the routers of a link to announce themselves.
    pub(crate) fn solicit_routers(&self, iface: &Arc<Iface>, src: Ipv6Addr) {
        let message = ndp::emit_router_solicit(iface.mac());
        self.send_icmpv6(iface, src, ipv6::ALL_ROUTERS, None, message);
    }

    /// A packet to a neighbour that did not answer: whoever sent it learns so.
    fn neighbor_failed(&self, packet: &[u8]) {
        let v6 = packet.first().is_some_and(|b| b >> 4 == 6);
        let (kind, code) = if v6 { (icmp::v6::UNREACHABLE, 3) } else { (icmp::v4::UNREACHABLE, 1) };
        self.deliver_icmp_error(v6, None, (kind, code), 0, packet);
    }
}
