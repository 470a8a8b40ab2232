//! IPv4 input and output (RFC 791, RFC 1122, section 3.2).

use super::bench::*;
use crate::wire::ipv4::Header;
use crate::wire::{ethernet, protocol};
use crate::*;
use std::net::Ipv4Addr;

const UDP: u8 = protocol::UDP;

fn received(s: &UdpSocket) -> Vec<usize> {
    std::iter::from_fn(|| s.recv().ok().map(|d| d.data.len())).collect()
}

#[test]
fn good_packets_arrive_with_what_is_known_of_them() {
    let b = Bench::new();
    let s = b.udp(9);
    let header = Header { ttl: 17, tos: 0x48, ..header4(UDP) };
    b.input(&frame4(&header, &[], &udp4(7, 9, b"abc")));
    let d = s.recv().unwrap();
    assert_eq!((d.from, d.to, d.ttl, d.tos), ((PEER, 7).into(), OURS.into(), 17, 0x48));
    assert_eq!(d.data, b"abc");
}

#[test]
fn padding_is_cut_off() {
    let b = Bench::new();
    let s = b.udp(9);
    let mut f = frame4(&header4(UDP), &[], &udp4(7, 9, b"abc"));
    f.resize(60, 0xee);
    b.input(&f);
    assert_eq!(received(&s), [3]);
}

#[test]
fn bad_headers_are_dropped() {
    let b = Bench::new();
    let s = b.udp(9);
    let good = frame4(&header4(UDP), &[], &udp4(7, 9, b"abc"));
    // Version, header length, total length, checksum, truncation.
    for (at, value) in [(14, 0x65), (14, 0x44), (16, 0xff), (24, 0xff)] {
        let mut f = good.clone();
        f[at] = value;
        b.input(&f);
    }
    b.input(&good[..30]);
    assert_eq!(received(&s), []);
    assert_eq!(b.stack.stats().ip_in_hdr_errors.get(), 5);
}

#[test]
fn frames_for_other_stations_are_dropped() {
    let b = Bench::new();
    let s = b.udp(9);
    let mut f = frame4(&header4(UDP), &[], &udp4(7, 9, b"abc"));
    f[5] = 99;
    b.input(&f);
    assert_eq!(received(&s), []);
}

#[test]
fn packets_for_other_hosts_are_dropped_and_not_forwarded() {
    let b = Bench::new();
    b.input(&frame4(&Header { dst: Ipv4Addr::new(10, 0, 0, 9), ..header4(UDP) }, &[], &[0; 8]));
    assert!(b.packets().is_empty());
    assert_eq!(b.stack.stats().ip_in_addr_errors.get(), 1);
}

#[test]
fn martians_are_dropped() {
    let b = Bench::new();
    let s = b.udp(9);
    for src in ["127.0.0.1", "224.0.0.1", "255.255.255.255", "10.0.0.1", "0.0.0.0"] {
        let src: Ipv4Addr = src.parse().unwrap();
        let d = udp_between(src.into(), OURS.into(), 7, 9, b"x");
        b.input(&frame4(&Header { src, ..header4(UDP) }, &[], &d));
    }
    let d = udp_between(PEER.into(), Ipv4Addr::LOCALHOST.into(), 7, 9, b"x");
    b.input(&frame4(&Header { dst: Ipv4Addr::LOCALHOST, ..header4(UDP) }, &[], &d));
    assert_eq!(received(&s), []);
}

#[test]
fn unicast_packets_in_group_frames_are_dropped() {
    let b = Bench::new();
    let s = b.udp(9);
    let mut f = frame4(&header4(UDP), &[], &udp4(7, 9, b"abc"));
    f[..6].copy_from_slice(&[0xff; 6]);
    b.input(&f);
    assert_eq!(received(&s), []);
}

#[test]
fn harmless_options_are_accepted() {
    let b = Bench::new();
    let s = b.udp(9);
    for options in [&[1, 1, 1, 0][..], &[7, 7, 4, 0, 0, 0, 0, 0], &[148, 4, 0, 0], &[99, 4, 1, 2]] {
        b.input(&frame4(&header4(UDP), options, &udp4(7, 9, b"abc")));
    }
    assert_eq!(received(&s), [3; 4]);
}

#[test]
fn source_routes_are_refused_silently() {
    let b = Bench::new();
    let s = b.udp(9);
    for kind in [131, 137] {
        b.input(&frame4(&header4(UDP), &[kind, 7, 4, 1, 2, 3, 4, 0], &udp4(7, 9, b"abc")));
    }
    assert_eq!(received(&s), []);
    assert!(b.packets().is_empty());
}

#[test]
fn malformed_options_are_a_parameter_problem() {
    let b = Bench::new();
    for options in [&[7, 1, 0, 0][..], &[7, 99, 0, 0], &[1, 1, 1, 7]] {
        b.input(&frame4(&header4(UDP), options, &udp4(7, 9, b"abc")));
        let p = b.packet();
        assert_eq!((p.protocol, p.payload[0]), (1, 12));
    }
}

#[test]
fn fragments_are_put_together() {
    let b = Bench::new();
    let s = b.udp(9);
    let d = udp4(7, 9, &[7; 3000]);
    for (from, to) in [(2960, 3008), (0, 1480), (1480, 2960)] {
        let header =
            Header { fragment_offset: from as u16, more_fragments: to < 3008, ..header4(UDP) };
        b.input(&frame4(&header, &[], &d[from..to]));
    }
    assert_eq!(received(&s), [3000]);
    assert_eq!(b.stack.stats().ip_reasm_oks.get(), 1);
}

#[test]
fn overlapping_fragments_kill_the_packet() {
    let b = Bench::new();
    let s = b.udp(9);
    let d = udp4(7, 9, &[7; 2000]);
    for (from, to) in [(0, 1480), (1472, 2008)] {
        let header =
            Header { fragment_offset: from as u16, more_fragments: to < 2008, ..header4(UDP) };
        b.input(&frame4(&header, &[], &d[from..to]));
    }
    assert_eq!(received(&s), []);
    assert_eq!(b.stack.stats().ip_reasm_fails.get(), 1);
}

#[test]
fn missing_fragments_time_out_with_a_message() {
    let b = Bench::new();
    let d = udp4(7, 9, &[7; 2000]);
    b.input(&frame4(&Header { more_fragments: true, ..header4(UDP) }, &[], &d[..1480]));
    b.advance(29_000);
    assert!(b.packets().is_empty());
    b.advance(2_000);
    let p = b.packet();
    assert_eq!((p.protocol, p.payload[0], p.payload[1]), (1, 11, 1));
    b.input(&frame4(&Header { fragment_offset: 1480, ..header4(UDP) }, &[], &d[1480..]));
    b.advance(31_000);
    assert!(b.packets().is_empty(), "not without the first fragment");
}

#[test]
fn large_datagrams_are_fragmented() {
    let b = Bench::new();
    let s = b.udp(9);
    s.send(&[5; 4000], Some((PEER, 7).into())).unwrap();
    let p = b.packets();
    assert_eq!(p.len(), 3);
    let parts: Vec<_> =
        p.iter().map(|p| wire::ipv4::Packet::parse(&p.whole, true).unwrap()).collect();
    let total: usize = parts.iter().map(|p| p.payload.len()).sum();
    assert_eq!(total, 4008);
    assert!(parts.iter().all(|q| q.header.id == parts[0].header.id && q.whole.len() <= 1500));
    let data: Vec<u8> = parts.iter().flat_map(|p| p.payload.to_vec()).collect();
    assert!(wire::checksum::verify(OURS.into(), PEER.into(), UDP, &data));
}

#[test]
fn dont_fragment_refuses_large_datagrams() {
    let b = Bench::new();
    let s = b.udp(9);
    s.set_options(DatagramOptions { dont_fragment: true, ..s.options() });
    assert_eq!(s.send(&[5; 1473], Some((PEER, 7).into())), Err(Error::MessageSize));
    assert_eq!(s.send(&[5; 1472], Some((PEER, 7).into())), Ok(1472));
    assert_eq!(b.packet().whole[6] & 0x40, 0x40);
}

#[test]
fn routes_lead_through_gateways() {
    let b = Bench::new();
    let gateway = Ipv4Addr::new(10, 0, 0, 254);
    let mac = MacAddr([2, 0, 0, 0, 0, 254]);
    b.stack.set_neighbor(b.iface, gateway.into(), mac).unwrap();
    let s = b.udp(9);
    let far = (Ipv4Addr::new(8, 8, 8, 8), 53).into();
    assert_eq!(s.send(b"x", Some(far)), Err(Error::NetworkUnreachable));
    let route = RouteEntry {
        dst: Cidr::any(false),
        via: Some(gateway.into()),
        iface: b.iface,
        source: None,
        metric: 0,
        mtu: None,
    };
    b.stack.add_route(route).unwrap();
    s.send(b"x", Some(far)).unwrap();
    let p = b.packet();
    assert_eq!((p.mac, p.dst), (mac, far.ip()));
    assert!(b.stack.remove_route(&route));
    assert_eq!(s.send(b"x", Some(far)), Err(Error::NetworkUnreachable));
}

#[test]
fn several_interfaces() {
    let b = Bench::new();
    let other = TestLink::new(Capabilities { mac: None, ..ETHERNET });
    let id = b.stack.add_interface("tun0", other.clone()).unwrap();
    b.stack.add_address(id, Cidr::new("172.16.0.1".parse().unwrap(), 16).unwrap()).unwrap();
    let s = b.udp(9);
    s.send(b"x", Some("172.16.9.9:5".parse().unwrap())).unwrap();
    assert!(b.packets().is_empty());
    let frames: Vec<_> = other.sent.lock().drain(..).collect();
    let p = parse(frames[0].bytes(), false).unwrap();
    assert_eq!(p.src, "172.16.0.1".parse::<std::net::IpAddr>().unwrap());
    // And what comes in there.
    let src = Ipv4Addr::new(172, 16, 9, 9);
    let dst = Ipv4Addr::new(172, 16, 0, 1);
    let d = udp_between(src.into(), dst.into(), 5, 9, b"answer");
    let packet = packet4(&Header { src, dst, ..header4(UDP) }, &[], &d);
    b.stack.input(id, &[RxFrame::new(&packet)]);
    assert_eq!(s.recv().unwrap().iface, id);
}

#[test]
fn an_interface_that_is_down_neither_sends_nor_receives() {
    let b = Bench::new();
    let s = b.udp(9);
    b.stack.set_up(b.iface, false).unwrap();
    b.ipv4(UDP, &udp4(7, 9, b"abc"));
    s.send(b"x", Some((PEER, 7).into())).unwrap();
    assert!(b.packets().is_empty());
    assert_eq!(received(&s), []);
}

#[test]
fn garbage_frames_do_nothing() {
    let b = Bench::new();
    for len in 0..80 {
        b.input(&vec![0xff; len]);
        b.input(&vec![0; len]);
    }
    let mut f = frame4(&header4(UDP), &[], &udp4(7, 9, b"abc"));
    f[12] = 0x88;
    b.input(&f);
    assert!(b.packets().is_empty());
    let _ = ethernet::HEADER;
}
