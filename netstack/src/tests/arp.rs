//! ARP on a link (RFC 826).

use super::bench::*;
use crate::wire::arp::{self, Arp};
use crate::wire::ethernet::{self, MacAddr};
use crate::*;
use std::net::Ipv4Addr;

fn bench() -> Bench {
    let b = Bench::bare(Config::default(), ETHERNET);
    b.stack.add_address(b.iface, Cidr::new(OURS.into(), 24).unwrap()).unwrap();
    b.frames();
    b
}

fn packet(operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut f = vec![0; 14 + arp::LEN];
    let dst = if operation == arp::REQUEST { MacAddr::BROADCAST } else { OUR_MAC };
    ethernet::Header { dst, src: PEER_MAC, ethertype: 0x806 }.emit(&mut f);
    let a = Arp { operation, sender_mac: PEER_MAC, sender, target_mac: MacAddr::default(), target };
    a.emit(&mut f[14..]);
    f
}

fn arps(b: &Bench) -> Vec<(MacAddr, Arp)> {
    let frames = b.frames();
    let parse = |f: &Frame| {
        let (h, rest) = ethernet::Header::parse(f.bytes())?;
        (h.ethertype == 0x806).then(|| (h.dst, Arp::parse(rest).unwrap()))
    };
    frames.iter().filter_map(parse).collect()
}

#[test]
fn requests_for_us_are_answered() {
    let b = bench();
    b.input(&packet(arp::REQUEST, PEER, OURS));
    let out = arps(&b);
    assert_eq!(out.len(), 1);
    let (dst, a) = out[0];
    assert_eq!((dst, a.operation, a.sender, a.sender_mac), (PEER_MAC, arp::REPLY, OURS, OUR_MAC));
    assert_eq!(b.stack.neighbors(b.iface).unwrap().len(), 1);
}

#[test]
fn requests_for_others_are_not() {
    let b = bench();
    b.input(&packet(arp::REQUEST, PEER, Ipv4Addr::new(10, 0, 0, 77)));
    assert!(arps(&b).is_empty());
    assert!(b.stack.neighbors(b.iface).unwrap().is_empty(), "nor do they make entries");
}

#[test]
fn probes_for_our_address_are_defended() {
    let b = bench();
    b.input(&packet(arp::REQUEST, Ipv4Addr::UNSPECIFIED, OURS));
    assert_eq!(arps(&b).len(), 1);
    assert!(b.stack.neighbors(b.iface).unwrap().is_empty());
}

#[test]
fn the_first_packet_asks_and_leaves_with_the_answer() {
    let b = bench();
    let s = b.udp(9);
    s.send(b"hello", Some((PEER, 7).into())).unwrap();
    let out = arps(&b);
    assert_eq!((out.len(), out[0].0, out[0].1.target), (1, MacAddr::BROADCAST, PEER));
    b.input(&packet(arp::REPLY, PEER, OURS));
    let p = b.packet();
    assert_eq!((p.mac, &p.payload[8..]), (PEER_MAC, &b"hello"[..]));
}

#[test]
fn who_does_not_answer_is_unreachable() {
    let b = bench();
    let s = b.udp(9);
    s.connect((PEER, 7).into()).unwrap();
    s.set_options(DatagramOptions { receive_errors: true, ..s.options() });
    s.send(b"hello", None).unwrap();
    b.advance(3500);
    assert_eq!(arps(&b).len(), 3);
    assert_eq!(s.take_error(), Some(Error::HostUnreachable));
    let c = b.stack.tcp(Family::V4).unwrap();
    let _ = c.connect((PEER, 7).into());
    b.advance(200_000);
    assert_eq!(c.take_error(), Some(Error::HostUnreachable));
}

#[test]
fn unasked_replies_make_no_entries() {
    let b = bench();
    b.input(&packet(arp::REPLY, PEER, OURS));
    assert!(b.stack.neighbors(b.iface).unwrap().is_empty());
}

#[test]
fn our_own_address_as_sender_is_ignored() {
    let b = bench();
    b.input(&packet(arp::REQUEST, OURS, OURS));
    assert!(b.stack.neighbors(b.iface).unwrap().is_empty());
}

#[test]
fn a_storm_of_requests_is_bounded() {
    let b = bench();
    for n in 0..5000u32 {
        b.input(&packet(arp::REQUEST, Ipv4Addr::from(0x0a00_0100 + n), OURS));
    }
    assert!(b.stack.neighbors(b.iface).unwrap().len() <= 1024);
}
