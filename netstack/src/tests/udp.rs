//! UDP endpoints (RFC 768, RFC 1122, section 4.1).

use super::bench::*;
use crate::wire::ipv4::Header;
use crate::*;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

#[test]
fn wrong_checksums_and_lengths_are_dropped() {
    let b = Bench::new();
    let s = b.udp(9);
    let mut d = udp4(7, 9, b"abc");
    d[9] ^= 1;
    b.ipv4(17, &d);
    let mut d = udp4(7, 9, b"abc");
    d[5] = 200;
    b.ipv4(17, &d);
    d[5] = 3;
    b.ipv4(17, &d);
    assert_eq!(s.recv(), Err(Error::WouldBlock));
    assert_eq!(b.stack.stats().udp_in_errors.get(), 3);
}

#[test]
fn ipv4_may_leave_the_checksum_out() {
    let b = Bench::new();
    let s = b.udp(9);
    let mut d = udp4(7, 9, b"abc");
    d[6..8].fill(0);
    b.ipv4(17, &d);
    assert_eq!(s.recv().unwrap().data, b"abc");
    s.set_options(DatagramOptions { no_checksum: true, ..s.options() });
    s.send(b"x", Some((PEER, 7).into())).unwrap();
    assert_eq!(b.packet().payload[6..8], [0, 0]);
}

#[test]
fn ipv6_may_not() {
    let b = Bench::new();
    let s = b.stack.udp(Family::V6).unwrap();
    s.bind((Ipv6Addr::UNSPECIFIED, 9).into()).unwrap();
    let mut d = udp_between(PEER6.into(), OURS6.into(), 7, 9, b"abc");
    b.ipv6(17, &d);
    assert_eq!(s.recv().unwrap().from, (PEER6, 7).into());
    d[6..8].fill(0);
    b.ipv6(17, &d);
    assert_eq!(s.recv(), Err(Error::WouldBlock));
}

#[test]
fn the_receive_buffer_is_bounded() {
    let b = Bench::new();
    let s = b.udp(9);
    s.set_options(DatagramOptions { rcvbuf: 10_000, ..s.options() });
    for _ in 0..100 {
        b.ipv4(17, &udp4(7, 9, &[0; 500]));
    }
    let n = std::iter::from_fn(|| s.recv().ok()).count();
    assert_eq!(n, 9);
    assert_eq!(b.stack.stats().udp_rcvbuf_errors.get(), 91);
}

#[test]
fn connected_endpoints_hear_only_their_peer() {
    let b = Bench::new();
    let s = b.udp(9);
    s.connect((PEER, 7).into()).unwrap();
    b.ipv4(17, &udp4(8, 9, b"other"));
    assert_eq!(s.recv(), Err(Error::WouldBlock));
    b.ipv4(17, &udp4(7, 9, b"peer"));
    assert_eq!(s.recv().unwrap().data, b"peer");
    s.disconnect();
    b.ipv4(17, &udp4(8, 9, b"other"));
    assert_eq!(s.recv().unwrap().data, b"other");
    assert_eq!(s.local_addr(), (Ipv4Addr::UNSPECIFIED, 9).into());
}

#[test]
fn connected_before_bound_before_any() {
    let b = Bench::new();
    let make = |addr: Ipv4Addr| {
        let s = b.stack.udp(Family::V4).unwrap();
        s.set_options(DatagramOptions { reuse_addr: true, ..s.options() });
        s.bind((addr, 9).into()).unwrap();
        s
    };
    let (any, bound, connected) = (make(Ipv4Addr::UNSPECIFIED), make(OURS), make(OURS));
    connected.connect((PEER, 7).into()).unwrap();
    b.ipv4(17, &udp4(7, 9, b"1"));
    b.ipv4(17, &udp4(8, 9, b"2"));
    assert_eq!(connected.recv().unwrap().data, b"1");
    drop(connected);
    b.ipv4(17, &udp4(8, 9, b"3"));
    assert_eq!(bound.recv().unwrap().data, b"3");
    drop(bound);
    b.ipv4(17, &udp4(8, 9, b"4"));
    assert_eq!(any.recv().unwrap().data, b"4");
}

#[test]
fn binding_conflicts() {
    let b = Bench::new();
    let _s = b.udp(9);
    let t = b.stack.udp(Family::V4).unwrap();
    assert_eq!(t.bind((OURS, 9).into()), Err(Error::AddressInUse));
    assert_eq!(t.bind((PEER, 10).into()), Err(Error::AddressNotAvailable));
    assert_eq!(t.bind((Ipv6Addr::UNSPECIFIED, 10).into()), Err(Error::Family));
    assert_eq!(t.bind((OURS, 10).into()), Ok(()));
    assert_eq!(t.bind((OURS, 11).into()), Err(Error::Invalid));
}

#[test]
fn ephemeral_ports_are_in_range_and_distinct() {
    let b = Bench::new();
    let sockets: Vec<_> = (0..100)
        .map(|_| {
            let s = b.stack.udp(Family::V4).unwrap();
            s.send(b"x", Some((PEER, 7).into())).unwrap();
            s
        })
        .collect();
    let mut ports: Vec<_> = sockets.iter().map(|s| s.local_addr().port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 100);
    assert!(ports.iter().all(|p| (32768..=60999).contains(p)));
}

#[test]
fn errors_of_sending() {
    let b = Bench::new();
    let s = b.udp(9);
    assert_eq!(s.send(b"x", None), Err(Error::DestinationRequired));
    assert_eq!(s.send(b"x", Some((PEER, 0).into())), Err(Error::Invalid));
    assert_eq!(s.send(&[0; 65_508], Some((PEER, 7).into())), Err(Error::MessageSize));
    assert_eq!(s.send(b"x", Some((PEER6, 7).into())), Err(Error::Family));
    let broadcast: SocketAddr = "10.0.0.255:7".parse().unwrap();
    assert_eq!(s.send(b"x", Some(broadcast)), Err(Error::AccessDenied));
    s.set_options(DatagramOptions { broadcast: true, ..s.options() });
    assert_eq!(s.send(b"x", Some(broadcast)), Ok(1));
    let p = b.packet();
    assert_eq!((p.mac, p.dst), (MacAddr::BROADCAST, broadcast.ip()));
}

#[test]
fn broadcasts_reach_all_endpoints() {
    let b = Bench::new();
    let make = || {
        let s = b.stack.udp(Family::V4).unwrap();
        s.set_options(DatagramOptions { reuse_addr: true, ..s.options() });
        s.bind((Ipv4Addr::UNSPECIFIED, 9).into()).unwrap();
        s
    };
    let (a, c) = (make(), make());
    for dst in [[10, 0, 0, 255], [255; 4]] {
        let d = udp_between(PEER.into(), Ipv4Addr::from(dst).into(), 7, 9, b"all");
        b.input(&frame4(&Header { dst: dst.into(), ..header4(17) }, &[], &d));
        assert_eq!(
            (a.recv().unwrap().data, c.recv().unwrap().data),
            (b"all".to_vec(), b"all".to_vec())
        );
    }
}

#[test]
fn reuse_port_balances() {
    let b = Bench::new();
    let sockets: Vec<_> = (0..4)
        .map(|_| {
            let s = b.stack.udp(Family::V4).unwrap();
            s.set_options(DatagramOptions { reuse_port: true, ..s.options() });
            s.bind((Ipv4Addr::UNSPECIFIED, 9).into()).unwrap();
            s
        })
        .collect();
    for port in 1000..1200 {
        b.ipv4(17, &udp4(port, 9, b"x"));
        b.ipv4(17, &udp4(port, 9, b"x"));
    }
    for s in &sockets {
        let n = std::iter::from_fn(|| s.recv().ok()).count();
        assert!((40..200).contains(&n) && n % 2 == 0, "{n}: a flow stays with one");
    }
}

#[test]
fn loopback() {
    let b = Bench::new();
    let s = b.udp(9);
    let c = b.stack.udp(Family::V4).unwrap();
    for addr in ["127.0.0.1:9", "127.9.9.9:9", "10.0.0.1:9"] {
        let addr: SocketAddr = addr.parse().unwrap();
        c.send(b"me", Some(addr)).unwrap();
        let d = s.recv().unwrap();
        assert_eq!((d.to, d.from.ip()), (addr.ip(), addr.ip()));
    }
    assert!(b.packets().is_empty(), "nothing leaves");
    c.connect("127.0.0.1:10".parse().unwrap()).unwrap();
    c.send(b"nobody", None).unwrap();
    assert_eq!(c.recv(), Err(Error::ConnectionRefused));
}

#[test]
fn dual_stack_endpoints_speak_both() {
    let b = Bench::new();
    let s = b.stack.udp(Family::V6).unwrap();
    s.bind((Ipv6Addr::UNSPECIFIED, 9).into()).unwrap();
    b.ipv4(17, &udp4(7, 9, b"four"));
    assert_eq!(s.recv().unwrap().from, (PEER, 7).into());
    s.send(b"x", Some("[::ffff:10.0.0.2]:7".parse().unwrap())).unwrap();
    assert_eq!(b.packet().dst, std::net::IpAddr::V4(PEER));
}

#[test]
fn peek_and_lengths() {
    let b = Bench::new();
    let s = b.udp(9);
    assert_eq!(s.next_len(), None);
    b.ipv4(17, &udp4(7, 9, b"abc"));
    assert_eq!(s.peek().unwrap().data, b"abc");
    assert_eq!(s.next_len(), Some(3));
    assert!(s.readiness().contains(Readiness::IN));
    assert_eq!(s.recv().unwrap().data, b"abc");
    assert!(!s.readiness().contains(Readiness::IN));
}

#[test]
fn shutdown_needs_a_peer() {
    let b = Bench::new();
    let s = b.udp(9);
    assert_eq!(s.shutdown(Shutdown::Both), Err(Error::NotConnected));
    s.connect((PEER, 7).into()).unwrap();
    s.shutdown(Shutdown::Write).unwrap();
    assert_eq!(s.send(b"x", None), Err(Error::BrokenPipe));
}

#[test]
fn endpoints_are_bounded_and_given_back() {
    let b = Bench::with(Config { max_endpoints: 3, ..Config::default() }, ETHERNET);
    let a: Vec<_> = (0..3).map(|_| b.stack.udp(Family::V4).unwrap()).collect();
    assert!(b.stack.udp(Family::V4).is_err());
    drop(a);
    assert!(b.stack.tcp(Family::V4).is_ok());
    assert_eq!(b.stack.endpoint_count(), 0);
}
