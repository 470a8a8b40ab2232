//! Hostile traffic: memory stays bounded and others keep working.

use super::bench::*;
use super::peer::*;
use crate::wire::ipv4::Header;
use crate::*;
use std::net::Ipv4Addr;

#[test]
fn a_million_syns() {
    let t = Peer::listening(Config::default(), 128);
    let mut bytes = t.bytes("S 0:0(0) win 1000 <mss 1460>");
    bytes[16] = 0;
    bytes[17] = 0;
    for n in 0..1_000_000u32 {
        let src = Ipv4Addr::from(0x0b00_0000 + n % 65_536);
        bytes[0..2].copy_from_slice(&(n as u16 ^ 0x5555).to_be_bytes());
        let packet = frame4(&Header { src, ..header4(6) }, &[], &bytes);
        t.b.stack.input(t.b.iface, &[RxFrame { checksum_valid: true, ..RxFrame::new(&packet) }]);
        if n % 1024 == 0 {
            t.b.link.sent.lock().clear();
        }
    }
    let l = t.listener.as_ref().unwrap();
    assert!(l.info().unacked <= 128);
    assert_eq!(t.b.stack.endpoint_count(), 1);
    assert_eq!(t.b.stack.memory_used(), 0);
    // The peer gets through.
    let mut t = t;
    t.b.frames();
    t.handshake("S 0:0(0) win 1000 <mss 1000>");
    assert_eq!(t.state(), TcpStateName::Established);
}

#[test]
fn out_of_order_segments_are_bounded_by_the_window() {
    let t = Peer::accepted();
    for n in 0..20_000u32 {
        let at = 100_000_000 + n * 3000;
        t.push(&format!(". {at}:{}(1000) ack 1", at + 1000));
        let at = 2 + (n % 30_000) * 2;
        t.push(&format!(". {at}:{}(1) ack 1", at + 1));
    }
    assert!(t.b.stack.memory_used() <= 2 * 131_072, "{}", t.b.stack.memory_used());
    t.b.frames();
}

#[test]
fn the_memory_limit_holds_for_all_connections_together() {
    let mut t = Peer::listening(Config { memory_limit: 200_000, ..Config::default() }, 100);
    let mut sockets = Vec::new();
    for port in 0..50 {
        t.ports.0 = 3000 + port;
        t.iss = None;
        t.handshake("S 0:0(0) win 1000");
        for n in 0..20 {
            t.push(&format!(". {}:{}(1000) ack 1", 1 + n * 1000, 1001 + n * 1000));
        }
        assert!(t.b.stack.memory_used() <= 200_000);
        sockets.push(t.socket.take());
    }
    assert!(t.b.stack.stats().tcp_rcv_q_drop.get() > 0);
    sockets.clear();
    t.b.advance(1000);
    assert_eq!(t.b.stack.memory_used(), 0);
}

#[test]
fn tiny_fragments_are_bounded() {
    let b = Bench::with(Config { fragment_memory: 100_000, ..Config::default() }, ETHERNET);
    for n in 0..50_000u32 {
        let header =
            Header { id: n as u16, fragment_offset: 8, more_fragments: true, ..header4(17) };
        b.input(&frame4(&header, &[], &[0; 8]));
    }
    assert!(b.stack.reassembly.lock().used() <= 100_000);
    b.advance(31_000);
    assert_eq!(b.stack.reassembly.lock().used(), 0);
    // Room again for honest packets.
    let s = b.udp(9);
    let d = udp4(7, 9, &[1; 2000]);
    for (from, to) in [(0, 1480), (1480, 2008)] {
        let header =
            Header { fragment_offset: from as u16, more_fragments: to < 2008, ..header4(17) };
        b.input(&frame4(&header, &[], &d[from..to]));
    }
    assert!(s.recv().is_ok());
}

#[test]
fn port_scans_cost_nothing() {
    let mut t = Peer::new(Config::default());
    for port in 1..5000 {
        t.ports.1 = port;
        t.push("S 0:0(0) win 1000");
    }
    assert_eq!(t.b.frames().len(), 1000, "as many resets as there may be at once");
    t.wait(50);
    for port in 5000..6000 {
        t.ports.1 = port;
        t.push("S 0:0(0) win 1000");
    }
    assert_eq!(t.b.frames().len(), 500, "and as many more as that time is worth");
    assert_eq!((t.b.stack.endpoint_count(), t.b.stack.memory_used()), (0, 0));
}

#[test]
fn a_link_that_does_not_send_stops_the_queue_not_the_stack() {
    let t = Peer::accepted();
    t.b.link.room.store(0, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..10_000 {
        t.push("P. 1:101(100) ack 1");
    }
    let dropped = t.b.stack.interfaces()[1].counters[4];
    assert!(dropped > 7000, "{dropped}");
    t.b.link.room.store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
    t.b.stack.link_writable(t.b.iface);
    assert!(t.b.frames().len() <= 2048);
}

#[test]
fn a_slow_reader_is_bounded() {
    let t = Peer::accepted();
    let mut at = 1u32;
    for _ in 0..2000 {
        t.push(&format!(". {at}:{}(1000) ack 1", at + 1000));
        at += 1000;
    }
    assert!(t.b.stack.memory_used() <= 2 * 131_072);
    assert!(t.s().info().bytes_received <= 131_072);
}

#[test]
fn what_is_expected() {
    let found = |t: &Peer, protocol, transport: &[u8]| {
        t.b.stack.expects(&RxFrame::new(&frame4(&header4(protocol), &[], transport)))
    };
    let ack = |t: &Peer| found(t, 6, &t.bytes(". 1:2(1) ack 1"));
    let mut t = Peer::listening(Config::default(), 5);
    assert_eq!(ack(&t), Expected::No);
    assert_eq!(found(&t, 6, &t.bytes("S 0:0(0)")), Expected::No);
    t.push("S 0:0(0) win 1000");
    assert_eq!(ack(&t), Expected::Beginning);
    t.b.frames();
    t.ports.0 += 1;
    assert_eq!(ack(&t), Expected::No);
    t.handshake("S 0:0(0) win 1000");
    assert_eq!(ack(&t), Expected::Known);
    let fragment =
        frame4(&Header { more_fragments: true, ..header4(6) }, &[], &t.bytes(". 1:2(1)"));
    assert_eq!(t.b.stack.expects(&RxFrame::new(&fragment)), Expected::No);
    let datagram = udp4(7, 9, b"");
    assert_eq!(found(&t, 17, &datagram), Expected::No);
    let _socket = t.b.udp(9);
    assert_eq!(found(&t, 17, &datagram), Expected::Known);
    assert_eq!(found(&t, 1, &[8, 0, 0, 0, 0, 0, 0, 0]), Expected::No);
}

#[test]
fn a_cookie_is_expected_back() {
    let mut t = Peer::listening(Config::default(), 1);
    for port in 5000..5004 {
        t.ports.0 = port;
        t.b.frames();
        t.push("S 0:0(0) win 1000 <mss 1000>");
    }
    t.iss = Some(t.take().header.seq.0);
    let found = |bytes: &[u8]| t.b.stack.expects(&RxFrame::new(&frame4(&header4(6), &[], bytes)));
    assert_eq!(found(&t.bytes(". 1:1(0) ack 1")), Expected::Beginning);
    assert_eq!(found(&t.bytes(". 1:1(0) ack 2")), Expected::No);
}
