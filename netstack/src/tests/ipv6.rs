//! IPv6, its extension headers, neighbour discovery and address configuration (RFC 8200, RFC 4861, RFC
//! 4862, RFC 4443).

use super::bench::*;
use crate::wire::{ipv6, ndp};
use crate::*;
use std::net::{IpAddr, Ipv6Addr};

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);

fn udp6(b: &Bench) -> UdpSocket {
    let s = b.stack.udp(Family::V6).unwrap();
    s.bind((Ipv6Addr::UNSPECIFIED, 9).into()).unwrap();
    s
}

fn datagram() -> Vec<u8> {
    udp_between(PEER6.into(), OURS6.into(), 7, 9, b"abc")
}

fn nd(src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8, mut message: Vec<u8>) -> Vec<u8> {
    let sum = wire::checksum::transport(src.into(), dst.into(), 58, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame6(&ipv6::Header { src, dst, hop_limit, ..header6(58) }, &message)
}

fn advert(lifetime: u16, options: &[u8]) -> Vec<u8> {
    let mut m = vec![134, 0, 0, 0, 64, 0];
    m.extend_from_slice(&lifetime.to_be_bytes());
    m.extend_from_slice(&[0; 8]);
    m.extend_from_slice(options);
    m
}

fn prefix_option(valid: u32, preferred: u32) -> Vec<u8> {
    let mut o = vec![3, 4, 64, 0xc0];
    o.extend_from_slice(&valid.to_be_bytes());
    o.extend_from_slice(&preferred.to_be_bytes());
    o.extend_from_slice(&[0; 4]);
    o.extend_from_slice(&"2001:db8:5::".parse::<Ipv6Addr>().unwrap().octets());
    o
}

#[test]
fn echo() {
    let b = Bench::new();
    b.ipv6(58, &icmp6(PEER6, OURS6, 128, 0, 0x10001, b"six"));
    let p = b.packet();
    assert_eq!((p.payload[0], &p.payload[8..]), (129, &b"six"[..]));
    assert!(wire::checksum::verify(p.src, p.dst, 58, &p.payload));
}

#[test]
fn closed_ports_are_unreachable() {
    let b = Bench::new();
    b.ipv6(17, &datagram());
    let p = b.packet();
    assert_eq!((p.payload[0], p.payload[1]), (1, 4));
}

#[test]
fn unknown_next_headers_are_a_parameter_problem() {
    let b = Bench::new();
    b.ipv6(200, b"what");
    let p = b.packet();
    assert_eq!((p.payload[0], p.payload[1], p.payload[7]), (4, 1, 6));
}

#[test]
fn extension_headers_are_walked() {
    let b = Bench::new();
    let s = udp6(&b);
    // Hop-by-hop with padding, destination options, an exhausted routing header.
    let mut payload = vec![60, 0, 1, 4, 0, 0, 0, 0];
    payload.extend_from_slice(&[43, 0, 1, 4, 0, 0, 0, 0]);
    payload.extend_from_slice(&[17, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend_from_slice(&datagram());
    b.ipv6(0, &payload);
    assert_eq!(s.recv().unwrap().data, b"abc");
}

#[test]
fn unknown_options_do_as_their_bits_say() {
    let b = Bench::new();
    let s = udp6(&b);
    for (kind, delivered, answered) in
        [(0x1e, true, false), (0x5e, false, false), (0x9e, false, true), (0xde, false, true)]
    {
        let mut payload = vec![17, 0, kind, 4, 0, 0, 0, 0];
        payload.extend_from_slice(&datagram());
        b.ipv6(60, &payload);
        assert_eq!(s.recv().is_ok(), delivered, "{kind:x}");
        let p = b.packets();
        assert_eq!(p.len(), usize::from(answered), "{kind:x}");
        if let Some(p) = p.first() {
            assert_eq!((p.payload[0], p.payload[1], p.payload[7]), (4, 2, 42));
        }
    }
}

#[test]
fn routing_headers_are_refused() {
    let b = Bench::new();
    let s = udp6(&b);
    let mut payload = vec![17, 2, 0, 1];
    payload.extend_from_slice(&[0; 20]);
    payload.extend_from_slice(&datagram());
    b.ipv6(43, &payload);
    assert_eq!(s.recv(), Err(Error::WouldBlock));
    let p = b.packet();
    assert_eq!((p.payload[0], p.payload[1], p.payload[7]), (4, 0, 42));
}

#[test]
fn hop_by_hop_belongs_in_front() {
    let b = Bench::new();
    let mut payload = vec![0, 0, 1, 4, 0, 0, 0, 0];
    payload.extend_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
    payload.extend_from_slice(&datagram());
    b.ipv6(60, &payload);
    let p = b.packet();
    assert_eq!((p.payload[0], p.payload[1], p.payload[7]), (4, 1, 40));
}

#[test]
fn no_next_header_is_the_end() {
    let b = Bench::new();
    b.ipv6(59, b"whatever");
    assert!(b.packets().is_empty());
}

#[test]
fn endless_chains_end() {
    let b = Bench::new();
    let payload: Vec<u8> = [60, 0, 1, 4, 0, 0, 0, 0].repeat(100);
    b.ipv6(60, &payload);
    assert!(b.packets().is_empty());
    assert_eq!(b.stack.stats().ip_in_hdr_errors.get(), 1);
}

fn fragment(offset: u16, more: bool, id: u32, data: &[u8]) -> Vec<u8> {
    let mut f = vec![0; 8];
    ipv6::Fragment { next_header: 17, offset, more, id }.emit(&mut f);
    f.extend_from_slice(data);
    f
}

#[test]
fn fragments_are_put_together() {
    let b = Bench::new();
    let s = udp6(&b);
    let d = udp_between(PEER6.into(), OURS6.into(), 7, 9, &[4; 2000]);
    b.ipv6(44, &fragment(1024, false, 5, &d[1024..]));
    b.ipv6(44, &fragment(0, true, 5, &d[..1024]));
    assert_eq!(s.recv().unwrap().data.len(), 2000);
    b.ipv6(44, &fragment(0, false, 6, &datagram()));
    assert_eq!(s.recv().unwrap().data, b"abc", "an atomic fragment");
}

#[test]
fn overlaps_kill_the_packet() {
    let b = Bench::new();
    let s = udp6(&b);
    let d = udp_between(PEER6.into(), OURS6.into(), 7, 9, &[4; 2000]);
    b.ipv6(44, &fragment(0, true, 5, &d[..1024]));
    b.ipv6(44, &fragment(1016, false, 5, &d[1016..]));
    assert_eq!(s.recv(), Err(Error::WouldBlock));
    assert!(b.packets().is_empty());
}

#[test]
fn odd_fragment_lengths_are_a_parameter_problem() {
    let b = Bench::new();
    b.ipv6(44, &fragment(0, true, 5, &[0; 13]));
    let p = b.packet();
    assert_eq!((p.payload[0], p.payload[1], p.payload[7]), (4, 0, 4));
}

#[test]
fn fragments_time_out_with_a_message() {
    let b = Bench::new();
    b.ipv6(44, &fragment(0, true, 5, &[0; 1024]));
    b.advance(61_000);
    let p = b.packet();
    assert_eq!((p.payload[0], p.payload[1]), (3, 1));
}

#[test]
fn large_datagrams_are_fragmented_at_the_source() {
    let b = Bench::new();
    let s = udp6(&b);
    s.send(&[1; 3000], Some((PEER6, 7).into())).unwrap();
    let p = b.packets();
    assert_eq!(p.len(), 3);
    assert!(p.iter().all(|p| p.protocol == 44 && p.whole.len() <= 1500));
}

#[test]
fn too_big_reduces_the_path() {
    let b = Bench::new();
    let s = udp6(&b);
    s.send(&[1; 1400], Some((PEER6, 7).into())).unwrap();
    let quote = b.packet().whole;
    b.ipv6(58, &icmp6(PEER6, OURS6, 2, 0, 1280, &quote[..200]));
    s.take_error();
    s.send(&[1; 1400], Some((PEER6, 7).into())).unwrap();
    assert_eq!(b.packets().len(), 2);
}

#[test]
fn solicitations_are_answered() {
    let b = Bench::new();
    let group = ipv6::solicited_node(OURS6);
    b.input(&nd(PEER6, group, 255, ndp::emit_solicit(OURS6, Some(PEER_MAC))));
    let p = b.packet();
    assert_eq!((p.payload[0], p.dst, p.ttl, p.payload[4] & 0x60), (136, PEER6.into(), 255, 0x60));
    assert_eq!(&p.payload[26..32], &OUR_MAC.0);
}

#[test]
fn forged_discovery_is_ignored() {
    let b = Bench::new();
    let group = ipv6::solicited_node(OURS6);
    b.input(&nd(PEER6, group, 64, ndp::emit_solicit(OURS6, Some(PEER_MAC))));
    let mut truncated = ndp::emit_solicit(OURS6, Some(PEER_MAC));
    truncated[25] = 0;
    b.input(&nd(PEER6, group, 255, truncated));
    assert!(b.packets().is_empty());
}

#[test]
fn neighbours_are_asked_and_answer() {
    let b = Bench::new();
    let s = udp6(&b);
    let other: Ipv6Addr = "2001:db8::77".parse().unwrap();
    s.send(b"hi", Some((other, 7).into())).unwrap();
    let p = b.packet();
    assert_eq!((p.payload[0], p.dst), (135, ipv6::solicited_node(other).into()));
    let mac = MacAddr([2, 0, 0, 0, 0, 0x77]);
    b.input(&nd(other, OURS6, 255, ndp::emit_advert(other, mac, true)));
    let p = b.packet();
    assert_eq!((p.mac, p.protocol), (mac, 17));
}

#[test]
fn duplicate_address_detection() {
    let b = Bench::bare(Config::default(), ETHERNET);
    b.stack.enable_ipv6(b.iface, false).unwrap();
    let p = b.packets();
    let probe = p.iter().find(|p| p.payload[0] == 135).unwrap();
    assert_eq!(probe.src, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let own = b.stack.addresses(b.iface).unwrap()[0];
    assert!(own.tentative_until.is_some());
    b.advance(1100);
    assert!(b.stack.addresses(b.iface).unwrap()[0].tentative_until.is_none());
}

#[test]
fn a_duplicate_address_is_given_up() {
    for theirs in [true, false] {
        let b = Bench::bare(Config::default(), ETHERNET);
        b.stack.enable_ipv6(b.iface, false).unwrap();
        let IpAddr::V6(own) = b.stack.addresses(b.iface).unwrap()[0].cidr.addr() else { panic!() };
        if theirs {
            b.input(&nd(own, ipv6::ALL_NODES, 255, ndp::emit_advert(own, PEER_MAC, false)));
        } else {
            let group = ipv6::solicited_node(own);
            b.input(&nd(Ipv6Addr::UNSPECIFIED, group, 255, ndp::emit_solicit(own, None)));
        }
        assert!(b.stack.addresses(b.iface).unwrap().is_empty());
    }
}

#[test]
fn routers_configure_addresses_and_routes() {
    let b = Bench::bare(Config::default(), ETHERNET);
    b.stack.enable_ipv6(b.iface, true).unwrap();
    b.advance(1100);
    assert!(b.packets().iter().any(|p| p.payload[0] == 133), "routers are asked");
    let mut options = vec![1, 1];
    options.extend_from_slice(&PEER_MAC.0);
    options.extend_from_slice(&prefix_option(7200, 3600));
    b.input(&nd(ROUTER, ipv6::ALL_NODES, 255, advert(1800, &options)));
    let want: Ipv6Addr = "2001:db8:5::ff:fe00:1".parse().unwrap();
    assert!(b.stack.is_local(want.into()));
    b.advance(1100);
    let via = b.stack.routes().iter().find(|r| r.dst.prefix_len() == 0).unwrap().via;
    assert_eq!(via, Some(ROUTER.into()));
    let s = udp6(&b);
    b.frames();
    s.send(b"x", Some("[2001:db8:9::1]:7".parse().unwrap())).unwrap();
    let p = b.packet();
    assert_eq!((p.mac, p.src), (PEER_MAC, want.into()));
    b.advance(7_300_000);
    assert!(!b.stack.is_local(want.into()), "lifetimes end");
    b.input(&nd(ROUTER, ipv6::ALL_NODES, 255, advert(0, &[])));
    assert!(b.stack.routes().iter().all(|r| r.dst.prefix_len() != 0));
}

#[test]
fn advertisements_from_elsewhere_are_ignored() {
    let b = Bench::bare(Config::default(), ETHERNET);
    b.stack.enable_ipv6(b.iface, true).unwrap();
    b.advance(1100);
    b.input(&nd(PEER6, ipv6::ALL_NODES, 255, advert(1800, &prefix_option(7200, 3600))));
    b.input(&nd(ROUTER, ipv6::ALL_NODES, 254, advert(1800, &prefix_option(7200, 3600))));
    assert_eq!(b.stack.addresses(b.iface).unwrap().len(), 1);
    let b = Bench::new();
    b.input(&nd(ROUTER, ipv6::ALL_NODES, 255, advert(1800, &prefix_option(7200, 3600))));
    assert!(b.stack.routes().iter().all(|r| r.dst.prefix_len() != 0), "nor when nobody wants them");
}

#[test]
fn a_flood_of_prefixes_is_bounded() {
    let b = Bench::bare(Config::default(), ETHERNET);
    b.stack.enable_ipv6(b.iface, true).unwrap();
    b.advance(1100);
    for n in 0..2000u16 {
        let mut o = prefix_option(7200, 3600);
        o[20..22].copy_from_slice(&n.to_be_bytes());
        let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 9, n);
        b.input(&nd(from, ipv6::ALL_NODES, 255, advert(1800, &o)));
    }
    assert!(b.stack.addresses(b.iface).unwrap().len() <= 129);
    assert!(b.stack.routes().len() <= 200, "{}", b.stack.routes().len());
}

#[test]
fn a_short_lifetime_cannot_take_an_address_away() {
    let b = Bench::bare(Config::default(), ETHERNET);
    b.stack.enable_ipv6(b.iface, true).unwrap();
    b.advance(1100);
    b.input(&nd(ROUTER, ipv6::ALL_NODES, 255, advert(1800, &prefix_option(72_000, 3600))));
    b.input(&nd(ROUTER, ipv6::ALL_NODES, 255, advert(1800, &prefix_option(1, 1))));
    b.advance(7_000_000);
    assert_eq!(b.stack.addresses(b.iface).unwrap().len(), 2);
    b.advance(300_000);
    assert_eq!(b.stack.addresses(b.iface).unwrap().len(), 1, "but to two hours");
}
