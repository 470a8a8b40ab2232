//! Raw and ping endpoints.

use super::bench::*;
use crate::wire::ipv4::Header;
use crate::*;
use std::net::Ipv4Addr;

#[test]
fn raw_endpoints_get_whole_ipv4_packets() {
    let b = Bench::new();
    let s = b.stack.raw(Family::V4, RawKind::Protocol(200)).unwrap();
    b.ipv4(200, b"what");
    let d = s.recv().unwrap();
    assert_eq!(d.data, packet4(&header4(200), &[], b"what"));
    assert!(b.packets().is_empty(), "the protocol is known then");
}

#[test]
fn raw_endpoints_send_what_they_are_given() {
    let b = Bench::new();
    let s = b.stack.raw(Family::V4, RawKind::Protocol(200)).unwrap();
    s.send(b"what", Some(PEER.into())).unwrap();
    let p = b.packet();
    assert_eq!((p.protocol, p.payload.as_slice(), p.src), (200, &b"what"[..], OURS.into()));
    assert_eq!(s.send(b"x", None), Err(Error::DestinationRequired));
}

#[test]
fn raw_endpoints_may_write_the_header() {
    let b = Bench::new();
    let s = b.stack.raw(Family::V4, RawKind::Protocol(255)).unwrap();
    s.set_header_included(true);
    let header = Header { src: OURS, dst: PEER, ttl: 3, ..header4(77) };
    s.send(&packet4(&header, &[], b"data"), Some(PEER.into())).unwrap();
    let p = b.packet();
    assert_eq!((p.protocol, p.ttl), (77, 3));
    assert_eq!(s.send(b"no packet", Some(PEER.into())), Err(Error::Invalid));
}

#[test]
fn raw_endpoints_can_be_limited() {
    let b = Bench::new();
    let s = b.stack.raw(Family::V4, RawKind::Protocol(200)).unwrap();
    s.connect((PEER, 0).into()).unwrap();
    b.ipv4(200, b"yes");
    let other = Header { src: Ipv4Addr::new(10, 0, 0, 9), ..header4(200) };
    b.input(&frame4(&other, &[], b"no"));
    assert!(s.recv().is_ok());
    assert_eq!(s.recv(), Err(Error::WouldBlock));
}

#[test]
fn ping() {
    let b = Bench::new();
    let s = b.stack.raw(Family::V4, RawKind::Ping).unwrap();
    s.send(&icmp4(8, 0, 0xffff_0001, b"data"), Some(PEER.into())).unwrap();
    let p = b.packet();
    assert_eq!((p.payload[0], wire::checksum::checksum(&p.payload)), (8, 0));
    let ident = u32::from(s.ident());
    assert_eq!(u32::from(u16::from_be_bytes([p.payload[4], p.payload[5]])), ident);
    b.ipv4(1, &icmp4(0, 0, (ident ^ 1) << 16 | 1, b"data"));
    assert_eq!(s.recv(), Err(Error::WouldBlock), "another's reply");
    b.ipv4(1, &icmp4(0, 0, ident << 16 | 1, b"data"));
    assert_eq!(s.recv().unwrap().data[8..], *b"data");
    assert_eq!(s.send(&icmp4(3, 0, 0, b""), Some(PEER.into())), Err(Error::Invalid));
}

#[test]
fn ping_identifiers_are_distinct() {
    let b = Bench::new();
    let make = || b.stack.raw(Family::V4, RawKind::Ping).unwrap();
    let (s, t) = (make(), make());
    s.bind((OURS, 5).into()).unwrap();
    assert_eq!(t.bind((OURS, 5).into()), Err(Error::AddressInUse));
    assert_eq!(t.bind((OURS, 6).into()), Ok(()));
}

#[test]
fn ping_to_ourselves() {
    let b = Bench::new();
    let s = b.stack.raw(Family::V4, RawKind::Ping).unwrap();
    s.send(&icmp4(8, 0, 1, b"data"), Some(Ipv4Addr::LOCALHOST.into())).unwrap();
    assert_eq!(s.recv().unwrap().data[0], 0);
    let s = b.stack.raw(Family::V6, RawKind::Ping).unwrap();
    let loopback = std::net::Ipv6Addr::LOCALHOST;
    s.send(&icmp6(loopback, loopback, 128, 0, 1, b"six"), Some(loopback.into())).unwrap();
    assert_eq!(s.recv().unwrap().data[0], 129);
}

#[test]
fn ping_hears_errors() {
    let b = Bench::new();
    let s = b.stack.raw(Family::V4, RawKind::Ping).unwrap();
    s.set_options(DatagramOptions { receive_errors: true, ttl: Some(1), ..s.options() });
    s.send(&icmp4(8, 0, 1, b"data"), Some(PEER.into())).unwrap();
    let quote = b.packet();
    assert_eq!(quote.ttl, 1);
    b.ipv4(1, &icmp4(11, 0, 0, &quote.whole));
    assert_eq!(s.recv_error().unwrap().error.kind, 11);
    // Who says so is no more than that.
    let router = Ipv4Addr::new(10, 0, 0, 77);
    let message = icmp4(11, 0, 0, &quote.whole);
    b.input(&frame4(&Header { src: router, ..header4(1) }, &[], &message));
    let e = s.recv_error().unwrap();
    assert_eq!((e.to.ip(), e.error.from), (PEER.into(), router.into()));
}

#[test]
fn the_queue_is_bounded() {
    let b = Bench::new();
    let s = b.stack.raw(Family::V4, RawKind::Protocol(200)).unwrap();
    for _ in 0..10_000 {
        b.ipv4(200, &[0; 1000]);
    }
    let n = std::iter::from_fn(|| s.recv().ok()).count();
    assert!(n < 150, "{n}");
}
