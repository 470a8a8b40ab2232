//! Groups (RFC 1112, RFC 3376, RFC 2236, RFC 3810).

use super::bench::*;
use crate::wire::ipv4::Header;
use crate::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

fn to_group(data: &[u8]) -> Vec<u8> {
    let d = udp_between(PEER.into(), GROUP.into(), 7, 9, data);
    frame4(&Header { dst: GROUP, ttl: 1, ..header4(17) }, &[], &d)
}

fn query(version: u8) -> Vec<u8> {
    let mut q = vec![0x11, 10, 0, 0, 0, 0, 0, 0];
    if version == 3 {
        q.extend_from_slice(&[2, 125, 0, 0]);
    }
    let sum = wire::checksum::checksum(&q);
    q[2..4].copy_from_slice(&sum.to_be_bytes());
    let dst = Ipv4Addr::new(224, 0, 0, 1);
    frame4(&Header { dst, ttl: 1, ..header4(2) }, &[148, 4, 0, 0], &q)
}

#[test]
fn members_receive_and_others_do_not() {
    let b = Bench::new();
    let s = b.udp(9);
    b.input(&to_group(b"early"));
    s.join(b.iface, GROUP.into()).unwrap();
    b.input(&to_group(b"now"));
    s.leave(b.iface, GROUP.into()).unwrap();
    b.input(&to_group(b"late"));
    assert_eq!(s.recv().unwrap().data, b"now");
    assert_eq!(s.recv(), Err(Error::WouldBlock));
}

#[test]
fn joining_is_reported_twice_with_version_3() {
    let b = Bench::new();
    let s = b.udp(9);
    s.join(b.iface, GROUP.into()).unwrap();
    let p = b.packet();
    assert_eq!((p.dst, p.ttl, p.protocol), ("224.0.0.22".parse().unwrap(), 1, 2));
    assert_eq!((p.payload[0], p.payload[8]), (0x22, 4));
    assert_eq!(&p.payload[12..16], &GROUP.octets());
    assert_eq!(p.whole[20..24], [148, 4, 0, 0], "with the router alert");
    assert_eq!(p.mac, MacAddr([1, 0, 0x5e, 0, 0, 22]));
    b.advance(1000);
    assert_eq!(b.packets().len(), 1);
    b.advance(10_000);
    assert!(b.packets().is_empty());
    drop(s);
    assert_eq!(b.packet().payload[8], 3, "leaving, too");
}

#[test]
fn queries_are_answered_in_their_version() {
    let b = Bench::new();
    let s = b.udp(9);
    s.join(b.iface, GROUP.into()).unwrap();
    b.advance(5000);
    b.frames();
    b.input(&query(3));
    b.advance(1100);
    assert_eq!(b.packet().payload[8], 2);
    b.input(&query(2));
    b.advance(1100);
    let p = b.packet();
    assert_eq!((p.payload[0], p.dst), (0x16, IpAddr::V4(GROUP)));
    drop(s);
    let p = b.packet();
    assert_eq!((p.payload[0], p.dst), (0x17, "224.0.0.2".parse().unwrap()));
}

#[test]
fn sending_to_a_group() {
    let b = Bench::new();
    let s = b.udp(9);
    s.send(b"x", Some((GROUP, 7).into())).unwrap();
    let p = b.packet();
    assert_eq!((p.mac, p.ttl), (MacAddr([1, 0, 0x5e, 1, 2, 3]), 1));
    assert_eq!(s.recv(), Err(Error::WouldBlock));
}

#[test]
fn members_on_this_host_hear_it() {
    let b = Bench::new();
    let s = b.udp(9);
    s.join(b.iface, GROUP.into()).unwrap();
    s.send(b"x", Some((GROUP, 9).into())).unwrap();
    assert_eq!(s.recv().unwrap().data, b"x");
    s.set_options(DatagramOptions { multicast_loop: false, ..s.options() });
    s.send(b"x", Some((GROUP, 9).into())).unwrap();
    assert_eq!(s.recv(), Err(Error::WouldBlock));
}

#[test]
fn memberships_are_counted_by_endpoint() {
    let b = Bench::new();
    let (s, t) = (b.udp(9), b.udp(10));
    s.join(b.iface, GROUP.into()).unwrap();
    t.join(b.iface, GROUP.into()).unwrap();
    assert_eq!(s.join(b.iface, GROUP.into()), Err(Error::AddressInUse));
    drop(t);
    assert!(b.stack.groups(b.iface).unwrap().contains(&GROUP.into()));
    drop(s);
    assert!(!b.stack.groups(b.iface).unwrap().contains(&GROUP.into()));
}

#[test]
fn memberships_of_an_endpoint_are_bounded() {
    let b = Bench::new();
    let s = b.udp(9);
    let results: Vec<_> =
        (0..30).map(|n| s.join(b.iface, Ipv4Addr::new(239, 0, 0, n).into())).collect();
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 20);
    assert_eq!(s.join(b.iface, PEER.into()), Err(Error::TooManyMemberships));
}

#[test]
fn mld_reports_joins_and_answers_queries() {
    let b = Bench::new();
    b.stack.enable_ipv6(b.iface, false).unwrap();
    b.advance(5000);
    b.frames();
    let group: Ipv6Addr = "ff02::1234".parse().unwrap();
    b.stack.join_group(b.iface, group.into()).unwrap();
    let p = b.packet();
    assert_eq!((p.protocol, p.dst, p.ttl), (0, "ff02::16".parse().unwrap(), 1));
    assert_eq!((p.payload[0], p.payload[8], p.payload[16]), (58, 143, 4));
    assert!(wire::checksum::verify(p.src, p.dst, 58, &p.payload[8..]));
    b.advance(5000);
    b.frames();
    let router: Ipv6Addr = "fe80::99".parse().unwrap();
    let all = wire::ipv6::ALL_NODES;
    let mut body = [0; 20];
    body[0..2].copy_from_slice(&[0, 0]);
    let q = icmp6(router, all, 130, 0, 1000 << 16, &body[..16]);
    let header = wire::ipv6::Header { src: router, dst: all, hop_limit: 1, ..header6(58) };
    b.input(&frame6(&header, &q));
    b.advance(1100);
    assert!(!b.packets().is_empty());
}
