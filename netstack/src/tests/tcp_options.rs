//! Time stamps and PAWS (RFC 7323), and options that are malformed.

use super::peer::*;
use crate::*;

const STAMPS: &str = "S 0:0(0) win 65535 <mss 1000, sackok, ts 100 0>";

#[test]
fn old_time_stamps_are_not_taken() {
    let mut t = Peer::accepted_with(Config::default(), STAMPS);
    t.push("P. 1:101(100) ack 1 <ts 200 0>");
    t.sent();
    t.push("P. 101:201(100) ack 1 <ts 150 0>");
    assert_eq!(t.read(1000), Ok(100));
    t.expect(&[". 1:1(0) ack 101"]);
    assert_eq!(t.b.stack.stats().tcp_paws_estab.get(), 1);
}

#[test]
fn time_stamps_wrap() {
    let near = u32::MAX - 50;
    let syn = format!("S 0:0(0) win 65535 <mss 1000, ts {near} 0>");
    let mut t = Peer::listening(Config::default(), 5);
    t.push(&syn);
    t.take();
    t.push(&format!(". 1:1(0) ack 1 <ts {} 0>", near + 1));
    t.socket = Some(t.listener.as_ref().unwrap().accept().unwrap().0);
    t.push("P. 1:101(100) ack 1 <ts 20 0>");
    assert_eq!(t.read(1000), Ok(100));
}

#[test]
fn after_24_days_any_time_stamp_will_do() {
    let t = Peer::accepted_with(Config::default(), STAMPS);
    t.push("P. 1:101(100) ack 1 <ts 200 0>");
    t.wait(25 * 24 * 3_600_000);
    t.push("P. 101:201(100) ack 1 <ts 150 0>");
    assert_eq!(t.read(1000), Ok(200));
}

#[test]
fn resets_are_taken_whatever_their_time_stamp() {
    let t = Peer::accepted_with(Config::default(), STAMPS);
    t.push("P. 1:101(100) ack 1 <ts 200 0>");
    t.push("R 101:101(0) <ts 1 0>");
    assert_eq!(t.state(), TcpStateName::Closed);
}

#[test]
fn the_echo_is_the_time_stamp_of_the_first_unacknowledged_segment() {
    let mut t = Peer::accepted_with(Config::default(), STAMPS);
    t.push("P. 1:101(100) ack 1 <ts 200 0>");
    assert_eq!(t.take().header.options.timestamps.unwrap().1, 200);
    // Out of order: the old one is echoed.
    t.push("P. 201:301(100) ack 1 <ts 250 0>");
    assert_eq!(t.take().header.options.timestamps.unwrap().1, 200);
    t.push("P. 101:201(100) ack 1 <ts 260 0>");
    assert_eq!(t.take().header.options.timestamps.unwrap().1, 260);
}

#[test]
fn our_time_stamps_advance_by_milliseconds() {
    let mut t = Peer::accepted_with(Config::default(), STAMPS);
    t.push("P. 1:101(100) ack 1 <ts 200 0>");
    let a = t.take().header.options.timestamps.unwrap().0;
    t.wait(25);
    t.push("P. 101:201(100) ack 1 <ts 201 0>");
    let b = t.take().header.options.timestamps.unwrap().0;
    assert_eq!(b.wrapping_sub(a), 25);
}

#[test]
fn malformed_options_end_the_list() {
    use super::bench::*;
    let mut t = Peer::listening(Config::default(), 5);
    // MSS, then an option that claims more than there is.
    let mut bytes = t.bytes("S 0:0(0) win 1000 <mss 700, ts 1 0>");
    bytes[24] = 77;
    bytes[25] = 200;
    bytes[16] = 0;
    bytes[17] = 0;
    let sum = wire::checksum::transport(PEER.into(), OURS.into(), 6, &bytes);
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    t.b.ipv4(6, &bytes);
    let o = t.take().header.options;
    assert_eq!(o.timestamps, None);
}

#[test]
fn an_option_of_length_zero_ends_the_list() {
    let o = wire::tcp_options::Options::parse(&[2, 4, 1, 0, 3, 0, 7, 3, 3, 7], true);
    assert_eq!((o.mss, o.window_shift), (Some(256), None));
}

#[test]
fn an_mss_of_zero_is_none() {
    let o = wire::tcp_options::Options::parse(&[2, 4, 0, 0], true);
    assert_eq!(o.mss, None);
}

#[test]
fn syn_options_count_on_syns_only() {
    let o = wire::tcp_options::Options::parse(&[2, 4, 5, 0, 3, 3, 7, 4, 2], false);
    assert_eq!((o.mss, o.window_shift, o.sack_permitted), (None, None, false));
}
