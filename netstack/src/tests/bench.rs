//! One stack on one link; the test holds the other end.

use crate::wire::ethernet::{self, MacAddr};
use crate::wire::{checksum, icmp, ipv4, ipv6, protocol, udp};
use crate::*;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock that the test sets.
#[derive(Default)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn set(&self, at: Instant) {
        self.0.store(at.nanos(), Ordering::Relaxed);
    }
}

impl TestClock {
    pub(crate) fn tick(&self, ns: u64) {
        self.0.fetch_add(ns, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Random numbers from a seed (SplitMix64).
pub(crate) struct TestRandom(AtomicU64);

impl TestRandom {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl RandomSource for TestRandom {
    fn next_u64(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A link that keeps what is sent.
pub(crate) struct TestLink {
    pub caps: Capabilities,
    pub sent: Mutex<VecDeque<Frame>>,
    /// Frames taken before the link is stuck.
    pub room: AtomicU64,
}

impl TestLink {
    pub(crate) fn new(caps: Capabilities) -> Arc<Self> {
        Arc::new(Self { caps, sent: Mutex::default(), room: AtomicU64::new(u64::MAX) })
    }
}

impl Link for TestLink {
    fn capabilities(&self) -> Capabilities {
        self.caps
    }

    fn transmit(&self, frames: &[Frame]) -> usize {
        let n = (frames.len() as u64).min(self.room.load(Ordering::Relaxed)) as usize;
        self.room.fetch_sub(n as u64, Ordering::Relaxed);
        self.sent.lock().extend(frames[..n].iter().cloned());
        n
    }
}

pub(crate) const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const OURS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// See the module.
pub(crate) struct Bench {
    pub stack: Arc<Stack>,
    pub clock: Arc<TestClock>,
    pub link: Arc<TestLink>,
    pub iface: IfaceId,
}

/// An Ethernet link with nothing special.
pub(crate) const ETHERNET: Capabilities =
    Capabilities { mac: Some(OUR_MAC), mtu: 1500, tx_checksum: false, gso_max: 0, gather: false };

/// An IP packet that the stack sent.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    pub payload: Vec<u8>,
    pub whole: Vec<u8>,
    pub mac: MacAddr,
}

impl Bench {
    /// Ethernet, both families, the peer's addresses known already.
    pub(crate) fn new() -> Self {
        Self::with(Config::default(), ETHERNET)
    }

    pub(crate) fn with(config: Config, caps: Capabilities) -> Self {
        let b = Self::bare(config, caps);
        let cidr = |a: IpAddr, n| Cidr::new(a, n).unwrap();
        b.stack.add_address(b.iface, cidr(OURS.into(), 24)).unwrap();
        b.stack.add_address(b.iface, cidr(OURS6.into(), 64)).unwrap();
        b.stack.set_neighbor(b.iface, PEER.into(), PEER_MAC).unwrap();
        b.stack.set_neighbor(b.iface, PEER6.into(), PEER_MAC).unwrap();
        b.advance(2000);
        b.link.sent.lock().clear();
        b
    }

    /// No addresses.
    pub(crate) fn bare(config: Config, caps: Capabilities) -> Self {
        let clock = Arc::new(TestClock::default());
        clock.set(Instant::from_millis(1_000_000));
        let stack = Stack::new(config, clock.clone(), Arc::new(TestRandom::new(1)));
        let link = TestLink::new(caps);
        let iface = stack.add_interface("eth0", link.clone()).unwrap();
        Self { stack, clock, link, iface }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Lets `ms` pass, running timers when they are due.
    pub(crate) fn advance(&self, ms: u64) {
        let end = self.now() + Duration::from_millis(ms);
        loop {
            let next = self.stack.poll();
            match next {
                Some(at) if at <= end => self.clock.set(at.max(self.now())),
                _ => break,
            }
        }
        self.clock.set(end);
        self.stack.poll();
    }

    pub(crate) fn input(&self, frame: &[u8]) {
        let buffer = RxBuffer::owned(frame.to_vec());
        let rx = RxFrame { buffer: Some(&buffer), ..RxFrame::new(buffer.bytes()) };
        self.stack.input(self.iface, &[rx]);
    }

    /// The frames sent since the last call.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        self.link.sent.lock().drain(..).collect()
    }

    /// The IP packets among them.
    pub(crate) fn packets(&self) -> Vec<Out> {
        self.frames()
            .iter()
            .filter_map(|f| parse(f.bytes(), self.link.caps.mac.is_some()))
            .collect()
    }

    /// Exactly one packet.
    pub(crate) fn packet(&self) -> Out {
        let mut all = self.packets();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Delivers an IPv4 packet from the peer.
    pub(crate) fn ipv4(&self, protocol: u8, payload: &[u8]) {
        self.input(&frame4(&header4(protocol), &[], payload));
    }

    /// Delivers an IPv6 packet from the peer.
    pub(crate) fn ipv6(&self, next_header: u8, payload: &[u8]) {
        self.input(&frame6(&header6(next_header), payload));
    }

    /// A UDP endpoint on a port.
    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        let s = self.stack.udp(Family::V4).unwrap();
        s.bind((Ipv4Addr::UNSPECIFIED, port).into()).unwrap();
        s
    }
}

pub(crate) fn parse(frame: &[u8], ethernet: bool) -> Option<Out> {
    let (mac, bytes) = match ethernet {
        true => {
            let (h, rest) = ethernet::Header::parse(frame)?;
            if h.ethertype == ethernet::TYPE_ARP {
                return None;
            }
            (h.dst, rest)
        }
        false => (MacAddr::default(), frame),
    };
    if bytes[0] >> 4 == 4 {
        let p = ipv4::Packet::parse(bytes, true).expect("what we send is well-formed");
        return Some(Out {
            src: p.header.src.into(),
            dst: p.header.dst.into(),
            protocol: p.header.protocol,
            ttl: p.header.ttl,
            tos: p.header.tos,
            payload: p.payload.to_vec(),
            whole: p.whole.to_vec(),
            mac,
        });
    }
    let p = ipv6::Packet::parse(bytes).expect("what we send is well-formed");
    Some(Out {
        src: p.header.src.into(),
        dst: p.header.dst.into(),
        protocol: p.header.next_header,
        ttl: p.header.hop_limit,
        tos: p.header.traffic_class,
        payload: p.payload.to_vec(),
        whole: p.whole.to_vec(),
        mac,
    })
}

/// The header of a packet from the peer.
pub(crate) fn header4(protocol: u8) -> ipv4::Header {
    ipv4::Header {
        tos: 0,
        id: 1,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol,
        src: PEER,
        dst: OURS,
    }
}

pub(crate) fn header6(next_header: u8) -> ipv6::Header {
    ipv6::Header {
        traffic_class: 0,
        flow_label: 0,
        next_header,
        hop_limit: 64,
        src: PEER6,
        dst: OURS6,
    }
}

fn ether(ethertype: u16, dst: MacAddr, packet: &[u8]) -> Vec<u8> {
    let mut f = vec![0; 14];
    ethernet::Header { dst, src: PEER_MAC, ethertype }.emit(&mut f);
    f.extend_from_slice(packet);
    f
}

pub(crate) fn packet4(header: &ipv4::Header, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0; 20 + options.len()];
    header.emit(&mut p, options, payload.len());
    p.extend_from_slice(payload);
    p
}

pub(crate) fn packet6(header: &ipv6::Header, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0; 40];
    header.emit(&mut p, payload.len());
    p.extend_from_slice(payload);
    p
}

pub(crate) fn frame4(header: &ipv4::Header, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let dst = match header.dst {
        a if a.is_multicast() => MacAddr::from_group4(a),
        a if a.is_broadcast() || a.octets()[3] == 255 => MacAddr::BROADCAST,
        _ => OUR_MAC,
    };
    ether(0x800, dst, &packet4(header, options, payload))
}

pub(crate) fn frame6(header: &ipv6::Header, payload: &[u8]) -> Vec<u8> {
    let group = header.dst.is_multicast();
    let dst = if group { MacAddr::from_group6(header.dst) } else { OUR_MAC };
    ether(0x86dd, dst, &packet6(header, payload))
}

pub(crate) fn udp4(src_port: u16, dst_port: u16, data: &[u8]) -> Vec<u8> {
    udp_between(PEER.into(), OURS.into(), src_port, dst_port, data)
}

pub(crate) fn udp_between(
    src: IpAddr,
    dst: IpAddr,
    src_port: u16,
    dst_port: u16,
    data: &[u8],
) -> Vec<u8> {
    let mut d = vec![0; 8];
    udp::emit(&mut d, src_port, dst_port, data.len());
    d.extend_from_slice(data);
    let sum = checksum::transport(src, dst, protocol::UDP, &d);
    d[6..8].copy_from_slice(&sum.to_be_bytes());
    d
}

pub(crate) fn icmp4(kind: u8, code: u8, rest: u32, payload: &[u8]) -> Vec<u8> {
    let mut m = vec![0; 8];
    icmp::emit(&mut m, kind, code, rest);
    m.extend_from_slice(payload);
    let sum = checksum::checksum(&m);
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    m
}

pub(crate) fn icmp6(
    src: Ipv6Addr,
    dst: Ipv6Addr,
    kind: u8,
    code: u8,
    rest: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut m = vec![0; 8];
    icmp::emit(&mut m, kind, code, rest);
    m.extend_from_slice(payload);
    let sum = checksum::transport(src.into(), dst.into(), protocol::ICMPV6, &m);
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    m
}
