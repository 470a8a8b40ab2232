//! Explicit congestion notification (RFC 3168).

use super::peer::*;
use crate::*;

const SYN: &str = "SEW 0:0(0) win 65535 <mss 1000, sackok>";

#[test]
fn it_is_accepted_when_the_peer_asks() {
    let mut t = Peer::listening(Config::default(), 5);
    t.push(SYN);
    t.expect(&["S.E 0:0(0) ack 1"]);
}

#[test]
fn it_is_not_offered_by_default_and_is_when_told() {
    let mut t = Peer::connecting(Config::default());
    t.expect(&["S 0:0(0)"]);
    let mut config = Config::default();
    config.tcp.ecn = Ecn::Active;
    let mut t = Peer::connecting(config);
    t.expect(&["SEW 0:0(0)"]);
    t.push("S.E 0:0(0) ack 1 win 65535 <mss 1000>");
    assert!(t.s().info().negotiated[3]);
}

#[test]
fn it_can_be_refused() {
    let mut config = Config::default();
    config.tcp.ecn = Ecn::Off;
    let mut t = Peer::listening(config, 5);
    t.push(SYN);
    t.expect(&["S. 0:0(0) ack 1"]);
}

#[test]
fn the_offer_is_dropped_after_time_outs() {
    let mut config = Config::default();
    config.tcp.ecn = Ecn::Active;
    let mut t = Peer::connecting(config);
    t.sent();
    t.wait(3500);
    assert_eq!(t.sent().last().map(String::as_str), Some("S 0:0(0)"));
}

#[test]
fn new_data_is_marked_acknowledgements_and_retransmissions_are_not() {
    let mut t = Peer::accepted_with(Config::default(), SYN);
    t.write(100);
    assert_eq!(t.take().tos & 3, 2);
    t.wait(300);
    let p = t.b.packets();
    assert!(!p.is_empty() && p.iter().all(|p| p.tos & 3 == 0));
    t.push("P. 1:101(100) ack 101");
    t.wait(50);
    assert!(t.b.packets().iter().all(|p| p.tos & 3 == 0));
}

#[test]
fn congestion_is_echoed_until_the_peer_reacts() {
    let mut t = Peer::accepted_with(Config::default(), SYN);
    t.tos = 3;
    t.push("P. 1:101(100) ack 1");
    t.expect(&[".E 1:1(0) ack 101"]);
    t.tos = 2;
    t.push("P. 101:201(100) ack 1");
    t.expect(&[".E 1:1(0) ack 201"]);
    t.push("P.W 201:301(100) ack 1");
    t.expect(&[". 1:1(0) ack 301"]);
}

#[test]
fn an_echo_reduces_the_window_once_each_round_trip() {
    let mut t = Peer::accepted_with(Config::default(), SYN);
    t.write(10_000);
    t.sent();
    t.push(".E 1:1(0) ack 1001");
    let after = t.s().info().ssthresh;
    assert_eq!(after, 7000);
    t.push(".E 1:1(0) ack 2001");
    assert_eq!(t.s().info().ssthresh, after);
    t.push(".E 1:1(0) ack 10001");
    t.sent();
    t.write(1000);
    assert!(t.take().text.contains('W'), "and says so with new data");
}
