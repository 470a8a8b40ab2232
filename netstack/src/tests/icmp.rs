//! ICMP (RFC 792, RFC 1122, section 3.2.2).

use super::bench::*;
use crate::wire::ipv4::Header;
use crate::*;
use std::net::Ipv4Addr;

#[test]
fn echo_requests_are_answered() {
    let b = Bench::new();
    b.ipv4(1, &icmp4(8, 0, 0x1234_0001, b"payload"));
    let p = b.packet();
    assert_eq!(
        (p.dst, p.payload[0], &p.payload[4..]),
        (PEER.into(), 0, &b"\x12\x34\0\x01payload"[..])
    );
    assert_eq!(wire::checksum::checksum(&p.payload), 0);
}

#[test]
fn large_echo_requests_are_answered_in_fragments() {
    let b = Bench::new();
    let m = icmp4(8, 0, 1, &[9; 2000]);
    for (from, to) in [(0, 1480), (1480, 2008)] {
        let header =
            Header { fragment_offset: from as u16, more_fragments: to < 2008, ..header4(1) };
        b.input(&frame4(&header, &[], &m[from..to]));
    }
    assert_eq!(b.packets().len(), 2);
}

#[test]
fn bad_checksums_and_broadcasts_are_not() {
    let b = Bench::new();
    let mut m = icmp4(8, 0, 1, b"payload");
    m[9] ^= 1;
    b.ipv4(1, &m);
    let dst = Ipv4Addr::new(10, 0, 0, 255);
    b.input(&frame4(&Header { dst, ..header4(1) }, &[], &icmp4(8, 0, 1, b"x")));
    assert!(b.packets().is_empty());
}

#[test]
fn closed_udp_ports_are_unreachable() {
    let b = Bench::new();
    b.ipv4(17, &udp4(7, 9, b"abc"));
    let p = b.packet();
    assert_eq!((p.payload[0], p.payload[1], p.tos), (3, 3, 0xc0));
    assert_eq!(p.payload[8..28], packet4(&header4(17), &[], &udp4(7, 9, b"abc"))[..20]);
    assert_eq!(b.stack.stats().udp_no_ports.get(), 1);
}

#[test]
fn unknown_protocols_are_unreachable() {
    let b = Bench::new();
    b.ipv4(200, b"what");
    let p = b.packet();
    assert_eq!((p.payload[0], p.payload[1]), (3, 2));
}

#[test]
fn errors_are_never_answered_with_errors() {
    let b = Bench::new();
    // About groups, broadcasts, fragments, other errors, and unusable sources.
    let group = Ipv4Addr::new(224, 0, 0, 1);
    b.input(&frame4(&Header { dst: group, ..header4(17) }, &[], &udp4(7, 9, b"x")));
    let broadcast = Ipv4Addr::new(10, 0, 0, 255);
    b.input(&frame4(&Header { dst: broadcast, ..header4(17) }, &[], &udp4(7, 9, b"x")));
    b.input(&frame4(&header4(1), &[7, 1, 0, 0], &icmp4(3, 1, 0, &[0; 28])));
    assert!(b.packets().is_empty());
}

#[test]
fn errors_are_limited_in_rate() {
    let b = Bench::with(Config { icmp_per_second: 100, ..Config::default() }, ETHERNET);
    for _ in 0..1000 {
        b.ipv4(17, &udp4(7, 9, b"abc"));
    }
    assert_eq!(b.packets().len(), 50);
    b.advance(100);
    for _ in 0..1000 {
        b.ipv4(17, &udp4(7, 9, b"abc"));
    }
    assert_eq!(b.packets().len(), 10);
    assert!(b.stack.stats().icmp_out_rate_limited.get() > 1000);
}

#[test]
fn errors_reach_connected_udp_endpoints() {
    let b = Bench::new();
    let s = b.udp(9);
    s.connect((PEER, 7).into()).unwrap();
    s.send(b"x", None).unwrap();
    let quote = b.packet().whole;
    b.ipv4(1, &icmp4(3, 3, 0, &quote));
    assert!(s.readiness().contains(Readiness::ERR));
    assert_eq!(s.send(b"x", None), Err(Error::ConnectionRefused));
    assert_eq!(s.send(b"x", None), Ok(1));
}

#[test]
fn unconnected_endpoints_hear_errors_only_when_they_ask() {
    let b = Bench::new();
    let s = b.udp(9);
    s.send(b"xyz", Some((PEER, 7).into())).unwrap();
    let quote = b.packet().whole;
    b.ipv4(1, &icmp4(3, 3, 0, &quote));
    assert_eq!(s.take_error(), None);
    s.set_options(DatagramOptions { receive_errors: true, ..s.options() });
    b.ipv4(1, &icmp4(3, 3, 0, &quote));
    let e = s.recv_error().unwrap();
    assert_eq!(
        (e.to, e.data.as_slice(), e.error.kind, e.error.code),
        ((PEER, 7).into(), &b"xyz"[..], 3, 3)
    );
    assert_eq!(s.recv_error(), None);
}

#[test]
fn host_unreachable_is_no_error_to_connected_udp() {
    let b = Bench::new();
    let s = b.udp(9);
    s.connect((PEER, 7).into()).unwrap();
    s.send(b"x", None).unwrap();
    let quote = b.packet().whole;
    b.ipv4(1, &icmp4(3, 1, 0, &quote));
    assert_eq!(s.take_error(), None);
}

#[test]
fn the_error_queue_is_bounded() {
    let b = Bench::new();
    let s = b.udp(9);
    s.set_options(DatagramOptions { receive_errors: true, ..s.options() });
    s.send(b"xyz", Some((PEER, 7).into())).unwrap();
    let quote = b.packet().whole;
    for _ in 0..1000 {
        b.ipv4(1, &icmp4(3, 3, 0, &quote));
    }
    let n = std::iter::from_fn(|| s.recv_error()).count();
    assert_eq!(n, 64);
}

#[test]
fn too_large_reduces_the_path_for_udp() {
    let b = Bench::new();
    let s = b.udp(9);
    s.connect((PEER, 7).into()).unwrap();
    s.set_options(DatagramOptions { dont_fragment: true, ..s.options() });
    s.send(&[0; 1400], None).unwrap();
    let quote = b.packet().whole;
    b.ipv4(1, &icmp4(3, 4, 1000, &quote[..28]));
    assert_eq!(s.take_error(), Some(Error::MessageSize));
    assert_eq!(s.send(&[0; 1000], None), Err(Error::MessageSize));
    assert_eq!(s.send(&[0; 972], None), Ok(972));
}

#[test]
fn quoted_garbage_is_ignored() {
    let b = Bench::new();
    for len in 0..60 {
        b.ipv4(1, &icmp4(3, 4, 0, &vec![0x45; len]));
        b.ipv4(1, &icmp4(3, 3, 0, &vec![0; len]));
    }
    assert!(b.packets().is_empty());
}
