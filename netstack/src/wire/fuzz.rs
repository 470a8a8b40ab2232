//! Arbitrary bytes for every parser, and for a whole stack: no panic, bounded memory.

use super::*;
use crate::tests::bench::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parsers(b in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ethernet::Header::parse(&b);
        let _ = arp::Arp::parse(&b);
        let _ = ipv4::Packet::parse(&b, false);
        let _ = ipv4::Packet::parse_quoted(&b);
        let _ = ipv4::check_options(&b);
        let _ = ipv6::Packet::parse(&b);
        let _ = ipv6::Packet::parse_quoted(&b);
        let _ = ipv6::Fragment::parse(&b);
        let _ = udp::Datagram::parse(&b);
        let _ = tcp::Segment::parse(&b);
        let _ = tcp_options::Options::parse(&b, b.len() % 2 == 0);
        let _ = icmp::Message::parse(&b);
        let _ = icmp::quoted_ports(&b);
        let _ = igmp::parse_query(&b);
        let _ = mld::parse_query(&b);
        let _ = ndp::parse_solicit(&b);
        let _ = ndp::parse_advert(&b);
        let _ = ndp::parse_router_advert(&b);
        for next in [0, 43, 44, 58, 59, 60] {
            let _ = ipv6::walk(next, &b);
        }
    }

    /// What is written is what is read.
    #[test]
    fn tcp_headers_survive(
        seq in any::<u32>(), ack in any::<u32>(), bits in any::<u8>(), window in any::<u16>(),
        mss in prop::option::of(1u16..), shift in prop::option::of(0u8..15), stamps in prop::option::of(any::<(u32, u32)>()),
    ) {
        let syn = tcp::Flags::from_bits_retain(bits).contains(tcp::Flags::SYN);
        let options = tcp_options::Options {
            mss: mss.filter(|_| syn),
            window_shift: shift.filter(|_| syn),
            sack_permitted: syn,
            timestamps: stamps,
            ..Default::default()
        };
        let header = tcp::Header {
            src_port: 1, dst_port: 2, seq: crate::tcp::Seq(seq), ack: crate::tcp::Seq(ack),
            flags: tcp::Flags::from_bits_retain(bits), window, urgent: 3, options,
        };
        let mut b = vec![0; header.len()];
        header.emit(&mut b);
        let parsed = tcp::Segment::parse(&b).unwrap().header;
        prop_assert_eq!(parsed.options, options);
        prop_assert_eq!((parsed.seq.0, parsed.ack.0, parsed.window), (seq, ack, window));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Packets with good outer headers and arbitrary contents, into a stack with endpoints of every kind.
    #[test]
    fn stacks(
        packets in prop::collection::vec(
            (any::<bool>(), prop::sample::select(vec![0u8, 1, 2, 6, 17, 43, 44, 58, 60]), prop::collection::vec(any::<u8>(), 0..120)),
            1..60,
        )
    ) {
        let b = Bench::new();
        b.stack.enable_ipv6(b.iface, true).unwrap();
        let l = b.stack.tcp(crate::Family::V6).unwrap();
        l.bind("[::]:257".parse().unwrap()).unwrap();
        l.listen(5).unwrap();
        let _u = b.udp(257);
        for (v6, protocol, payload) in packets {
            let mut payload = payload;
            // Often the ports of the endpoints, and good checksums.
            if payload.len() > 20 && payload[0] % 2 == 0 {
                payload[2..4].copy_from_slice(&[1, 1]);
                let (src, dst): (std::net::IpAddr, std::net::IpAddr) = match v6 {
                    true => (PEER6.into(), OURS6.into()),
                    false => (PEER.into(), OURS.into()),
                };
                let at = match protocol { 6 => 16, 17 => 6, _ => 2 };
                payload[at..at + 2].fill(0);
                if protocol == 17 {
                    let len = payload.len() as u16;
                    payload[4..6].copy_from_slice(&len.to_be_bytes());
                }
                let sum = match protocol {
                    1 | 2 => checksum::checksum(&payload),
                    p => checksum::transport(src, dst, p, &payload),
                };
                payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
            }
            if v6 {
                b.input(&frame6(&header6(protocol), &payload));
            } else {
                b.input(&frame4(&header4(protocol), &[], &payload));
            }
            b.advance(u64::from(payload.first().copied().unwrap_or(0)));
        }
        b.advance(100_000);
        prop_assert!(b.stack.memory_used() < 1 << 20);
    }

    /// A connection that gets arbitrary segments near its window.
    #[test]
    fn connections(
        segments in prop::collection::vec(
            (any::<u8>(), -2000i64..4000, -3000i64..3000, 0usize..1500, any::<u16>(), any::<bool>()),
            1..80,
        )
    ) {
        use crate::tests::peer::Peer;
        let t = Peer::accepted();
        t.write(5000);
        for (bits, seq, ack, len, window, read) in segments {
            let flags: String = "FSRP.UEW".chars().enumerate()
                .filter(|(n, _)| bits & (1 << n) != 0 || *n == 4).map(|(_, c)| c)
                .filter(|c| *c != 'R' || bits % 3 == 0).collect();
            let (seq, ack) = (seq as u32, ack as u32);
            t.push(&format!("{flags} {seq}:{}({len}) ack {ack} win {window} urg {}", seq.wrapping_add(len as u32), window >> 6));
            if read {
                let _ = t.read(700);
                let _ = t.s().send(&[0; 100]);
            }
            t.wait(u64::from(window % 300));
        }
        t.wait(2_000_000);
        prop_assert!(t.b.stack.memory_used() < 1 << 20);
    }
}
