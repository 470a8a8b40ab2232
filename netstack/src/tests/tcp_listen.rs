//! Listeners: the two backlogs, SYN cookies, sharing a port (RFC 4987).

use super::bench::*;
use super::peer::*;
use crate::wire::tcp::Segment;
use crate::*;

fn syn_from(t: &mut Peer, port: u16) -> Option<Segment<'static>> {
    t.ports.0 = port;
    t.push("S 0:0(0) win 65535 <mss 1400, ws 5, sackok>");
    let p = t.b.packets().pop()?;
    Segment::parse(Box::leak(p.payload.into_boxed_slice()))
}

#[test]
fn connections_beyond_the_backlog_wait_at_the_peer() {
    let mut t = Peer::listening(Config::default(), 1);
    for port in 0..2 {
        t.ports.0 = 7000 + port;
        t.iss = None;
        t.push("S 0:0(0) win 1000");
        t.take();
        t.push(". 1:1(0) ack 1");
    }
    // Two wait: one more than the backlog, as in Linux.
    t.ports.0 = 7002;
    t.iss = None;
    t.push("S 0:0(0) win 1000");
    t.expect(&[]);
    assert!(t.b.stack.stats().tcp_listen_overflows.get() > 0);
    let _kept = t.listener.as_ref().unwrap().accept().unwrap();
    t.push("S 0:0(0) win 1000");
    t.expect(&["S. 0:0(0) ack 1"]);
}

#[test]
fn the_third_segment_is_not_taken_when_the_queue_is_full() {
    let mut t = Peer::listening(Config::default(), 1);
    let mut iss = Vec::new();
    for port in 0..2 {
        t.ports.0 = 7000 + port;
        t.iss = None;
        t.push("S 0:0(0) win 1000");
        iss.push(t.take().header.seq.0);
        if port == 0 {
            t.push(". 1:1(0) ack 1");
        }
    }
    t.listener.as_ref().unwrap().listen(0).unwrap();
    t.push(". 1:1(0) ack 1");
    t.expect(&[]);
    let _kept = t.listener.as_ref().unwrap().accept().unwrap();
    t.wait(1100);
    t.expect(&["S. 0:0(0) ack 1"]);
    t.push(". 1:1(0) ack 1");
    let _kept = t.listener.as_ref().unwrap().accept().unwrap();
}

#[test]
fn cookies_under_a_flood() {
    let mut t = Peer::listening(Config::default(), 4);
    for n in 0..1000 {
        assert!(syn_from(&mut t, 10_000 + n).is_some(), "every SYN is answered");
    }
    let l = t.listener.as_ref().unwrap();
    assert_eq!(l.info().unacked, 4, "and four are remembered");
    assert_eq!(t.b.stack.stats().tcp_syncookies_sent.get(), 996);
    // A real peer among them.
    let synack = syn_from(&mut t, 20_000).unwrap();
    t.iss = Some(synack.header.seq.0);
    t.push("P. 1:101(100) ack 1");
    let (s, _) = t.listener.as_ref().unwrap().accept().unwrap();
    assert_eq!(s.recv(&mut [0; 200]), Ok(100));
    let info = s.info();
    assert_eq!(info.snd_mss, 1400);
    assert_eq!(info.negotiated, [false; 4], "without time stamps nothing more fits into a cookie");
    assert_eq!(t.b.stack.stats().tcp_syncookies_recv.get(), 1);
}

#[test]
fn cookies_with_time_stamps_keep_the_options() {
    let mut t = Peer::listening(Config::default(), 1);
    syn_from(&mut t, 10_000);
    t.ports.0 = 20_000;
    t.push("SEW 0:0(0) win 65535 <mss 1400, ws 5, sackok, ts 100 0>");
    let synack = t.take();
    t.iss = Some(synack.header.seq.0);
    let (value, echo) = synack.header.options.timestamps.unwrap();
    assert_eq!(echo, 100);
    t.push(&format!(". 1:1(0) ack 1 <ts 101 {value}>"));
    let (s, _) = t.listener.as_ref().unwrap().accept().unwrap();
    assert_eq!(s.info().negotiated, [true, true, true, true]);
    assert_eq!(s.info().shifts.1, 5);
}

#[test]
fn forged_cookies_are_reset() {
    let mut t = Peer::listening(Config::default(), 1);
    syn_from(&mut t, 10_000);
    syn_from(&mut t, 10_001);
    t.ports.0 = 10_002;
    t.iss = Some(12345);
    t.push(". 1:1(0) ack 1");
    t.expect(&["R 1:1(0)"]);
    assert_eq!(t.b.stack.stats().tcp_syncookies_failed.get(), 1);
}

#[test]
fn without_cookies_a_flood_is_dropped() {
    let mut config = Config::default();
    config.tcp.syn_cookies = false;
    let mut t = Peer::listening(config, 2);
    let answered = (0..10).filter(|n| syn_from(&mut t, 10_000 + n).is_some()).count();
    assert_eq!(answered, 2);
    assert_eq!(t.b.stack.stats().tcp_listen_drops.get(), 8);
}

#[test]
fn without_a_flood_acks_are_not_taken_for_cookies() {
    let mut t = Peer::listening(Config::default(), 5);
    t.iss = Some(12345);
    t.push(". 1:1(0) ack 1");
    t.expect(&["R 1:1(0)"]);
    assert_eq!(t.b.stack.stats().tcp_syncookies_failed.get(), 0);
}

#[test]
fn a_listener_on_an_address_hears_only_that() {
    let t = Peer::new(Config::default());
    let l = t.b.stack.tcp(Family::V4).unwrap();
    l.bind(("127.0.0.1".parse::<std::net::IpAddr>().unwrap(), 80).into()).unwrap();
    l.listen(5).unwrap();
    let mut t = t;
    t.push("S 0:0(0) win 1000");
    assert!(t.sent()[0].starts_with("R"));
}

#[test]
fn dual_stack_listeners_hear_both_families() {
    let mut t = Peer::new(Config::default());
    let l = t.b.stack.tcp(Family::V6).unwrap();
    l.bind((std::net::Ipv6Addr::UNSPECIFIED, 80).into()).unwrap();
    l.listen(5).unwrap();
    t.push("S 0:0(0) win 1000");
    t.expect(&["S. 0:0(0) ack 1"]);
    t.v6 = true;
    t.iss = None;
    t.push("S 0:0(0) win 1000");
    assert_eq!(t.take().header.options.mss, Some(1440));
    t.push(". 1:1(0) ack 1");
    let accepted = l.accept().unwrap();
    assert_eq!(accepted.1, (PEER6, PORTS.0).into());
    l.set_options(TcpOptions { v6_only: true, ..l.options() });
    t.v6 = false;
    t.ports.0 += 1;
    t.iss = None;
    t.push("S 0:0(0) win 1000");
    assert!(t.sent()[0].starts_with("R"));
}

#[test]
fn two_cannot_listen_on_one_port_unless_both_share_it() {
    let t = Peer::new(Config::default());
    let make = |share: bool| {
        let l = t.b.stack.tcp(Family::V4).unwrap();
        l.set_options(TcpOptions { reuse_addr: true, reuse_port: share, ..l.options() });
        l.bind((std::net::Ipv4Addr::UNSPECIFIED, 80).into()).map(|()| l)
    };
    let a = make(true).unwrap();
    a.listen(200).unwrap();
    assert!(make(false).is_err());
    let b = make(true).unwrap();
    assert_eq!(b.listen(200), Ok(()));
    let mut t = t;
    for port in 0..100 {
        t.ports.0 = 9000 + port;
        t.iss = None;
        t.push("S 0:0(0) win 1000");
        t.take();
        t.push(". 1:1(0) ack 1");
    }
    let count = |l: &TcpSocket| l.info().backlog.0;
    assert!(count(&a) > 0 && count(&b) > 0);
}

#[test]
fn accepted_connections_inherit_options() {
    let mut t = Peer::listening(Config::default(), 5);
    let l = t.listener.as_ref().unwrap();
    l.set_options(TcpOptions { nodelay: true, ttl: Some(3), ..l.options() });
    t.handshake("S 0:0(0) win 1000 <mss 500>");
    let o = t.s().options();
    assert!(o.nodelay && o.ttl == Some(3));
}

#[test]
fn the_port_stays_taken_by_accepted_connections() {
    let mut t = Peer::accepted();
    t.listener = None;
    let s = t.b.stack.tcp(Family::V4).unwrap();
    assert_eq!(s.bind(t.local()), Err(Error::AddressInUse));
    t.push("R 1:1(0)");
    assert_eq!(s.bind(t.local()), Ok(()));
}

#[test]
fn groups_and_broadcasts_get_no_answer() {
    let t = Peer::listening(Config::default(), 5);
    for dst in [[10, 0, 0, 255], [255, 255, 255, 255], [224, 0, 0, 1]] {
        let bytes = t.bytes("S 0:0(0) win 1000");
        let header = wire::ipv4::Header { dst: dst.into(), ..header4(6) };
        t.b.input(&frame4(&header, &[], &bytes));
    }
    assert!(t.b.packets().is_empty());
}

#[test]
fn wrong_checksums_and_short_headers_are_dropped() {
    let t = Peer::listening(Config::default(), 5);
    let mut bytes = t.bytes("S 0:0(0) win 1000");
    bytes[4] ^= 1;
    t.b.ipv4(6, &bytes);
    assert_eq!(t.b.stack.stats().tcp_in_csum_errors.get(), 1);
    t.b.ipv4(6, &bytes[..10]);
    assert!(t.b.packets().is_empty());
}
