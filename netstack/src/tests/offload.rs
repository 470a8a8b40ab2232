//! Links that checksum and cut (GSO), and that deliver what they put together (GRO).

use super::bench::*;
use super::peer::*;
use crate::wire::tcp::Segment;
use crate::*;
use std::sync::Arc;

fn accepted(caps: Capabilities) -> Peer {
    let mut t = Peer::listening(Config::default(), 5);
    t.b = Bench::with(Config::default(), caps);
    let l = t.b.stack.tcp(Family::V4).unwrap();
    l.bind((OURS, PORTS.1).into()).unwrap();
    l.listen(5).unwrap();
    t.listener = Some(l);
    t.push("S 0:0(0) win 65535 <mss 1000, sackok>");
    let p = t.b.packets().remove(0);
    t.iss = Some(Segment::parse(&p.payload).unwrap().header.seq.0);
    t.push(". 1:1(0) ack 1");
    t.socket = Some(t.listener.as_ref().unwrap().accept().unwrap().0);
    t
}

#[test]
fn checksums_are_left_to_the_link() {
    let t = accepted(Capabilities { tx_checksum: true, ..ETHERNET });
    t.write(100);
    let f = t.b.frames().remove(0);
    let c = f.checksum().unwrap();
    assert_eq!((c.start, c.offset), (34, 16));
    // The link's part.
    let mut bytes = f.bytes().to_vec();
    let sum = wire::checksum::checksum(&bytes[c.start..]);
    bytes[c.start + c.offset..c.start + c.offset + 2].copy_from_slice(&sum.to_be_bytes());
    assert!(wire::checksum::verify(OURS.into(), PEER.into(), 6, &bytes[34..]));
}

#[test]
fn large_segments_are_left_to_the_link() {
    let t = accepted(Capabilities { tx_checksum: true, gso_max: 65_536, ..ETHERNET });
    t.write(9500);
    let frames = t.b.frames();
    assert_eq!(frames.len(), 2);
    let g = frames[0].gso().unwrap();
    assert_eq!((g.size, g.headers, g.v6), (1000, 54, false));
    assert_eq!(frames[0].bytes().len(), 54 + 9000);
    assert_eq!(frames[1].gso(), None);
    // Each segment is still accounted for.
    t.push(". 1:1(0) ack 1 <sack 1001-4001>");
    let again = t.b.frames();
    assert_eq!(again[0].bytes().len(), 54 + 1000);
}

#[test]
fn what_is_kept_is_sent_from_where_it_is() {
    for gather in [true, false] {
        let t = accepted(Capabilities { tx_checksum: true, gso_max: 65_536, gather, ..ETHERNET });
        let data: Vec<u8> = (0..40_000u32).map(|n| (n % 251) as u8).collect();
        let mut buffer = RxPool::new(data.len()).take();
        Arc::get_mut(&mut buffer).unwrap().bytes_mut().copy_from_slice(&data);
        assert_eq!(t.s().send_kept(&buffer, data.len()), Ok(data.len()));
        // Ten segments at first: not worth it. Then twice as many.
        let first = t.b.frames();
        assert!(first.iter().all(|frame| frame.tail().is_empty()));
        t.push(". 1:1(0) ack 10001 win 65535");
        let frames = t.b.frames();
        assert_eq!(frames.iter().any(|frame| !frame.tail().is_empty()), gather);
        let seen: Vec<u8> = frames.iter().flat_map(|frame| frame.whole()[54..].to_vec()).collect();
        assert_eq!(seen, data[10_000..10_000 + seen.len()], "gather: {gather}");
    }
}

#[test]
fn without_checksum_offload_nothing_is_cut() {
    let t = accepted(Capabilities { gso_max: 65_536, ..ETHERNET });
    t.write(5000);
    assert_eq!(t.b.frames().len(), 5);
}

#[test]
fn what_the_link_put_together_is_one_segment() {
    let mut t = Peer::accepted();
    t.push("P. 1:30001(30000) ack 1");
    t.expect(&[". 1:1(0) ack 30001"]);
    assert_eq!(t.read(50_000), Ok(30_000));
}

#[test]
fn large_segments_are_lent_where_they_are() {
    let t = Peer::accepted();
    assert!(t.s().lend().is_none());
    t.push("P. 1:30001(30000) ack 1");
    t.push("P. 30001:30101(100) ack 1");
    t.push("P. 30101:50101(20000) ack 1");
    assert_eq!(t.s().lend().unwrap().bytes().len(), 30_000);
    assert_eq!(t.s().discard(29_999), Ok(29_999));
    assert_eq!(t.s().lend().unwrap().bytes().len(), 1);
    let mut to = [0; 101];
    assert_eq!(t.s().peek(&mut to), Ok(101));
    assert_eq!(t.s().discard(1), Ok(1));
    assert_eq!(t.s().lend().unwrap().bytes(), &to[1..]);
    assert_eq!(t.read(50_000), Ok(20_100));
    assert!(t.s().lend().is_none());
    // Towards an urgent byte nothing is lent: reading stops there.
    t.push("PU. 50101:70101(20000) ack 1 urg 100");
    assert!(t.s().lend().is_none());
    assert_eq!(t.read(50_000), Ok(99));
}

#[test]
fn checksums_that_the_link_checked_are_not_checked_again() {
    let b = Bench::new();
    let s = b.udp(9);
    let mut d = udp4(7, 9, b"abc");
    d[6] ^= 0x55;
    let f = frame4(&header4(17), &[], &d);
    b.stack.input(b.iface, &[RxFrame { checksum_valid: true, ..RxFrame::new(&f) }]);
    assert!(s.recv().is_ok());
}

#[test]
fn batches_are_flushed_once() {
    struct Batches(parking_lot::Mutex<Vec<usize>>);
    impl Link for Batches {
        fn capabilities(&self) -> Capabilities {
            Capabilities { mac: None, mtu: 1500, tx_checksum: false, gso_max: 0, gather: false }
        }
        fn transmit(&self, frames: &[Frame]) -> usize {
            self.0.lock().push(frames.len());
            frames.len()
        }
    }
    let b = Bench::bare(Config::default(), ETHERNET);
    let link = Arc::new(Batches(parking_lot::Mutex::default()));
    let id = b.stack.add_interface("tun0", link.clone()).unwrap();
    b.stack.add_address(id, Cidr::new(OURS.into(), 24).unwrap()).unwrap();
    let ping = packet4(&header4(1), &[], &icmp4(8, 0, 1, b"x"));
    b.stack.input(id, &[RxFrame::new(&ping); 10]);
    assert_eq!(*link.0.lock(), [10]);
}
