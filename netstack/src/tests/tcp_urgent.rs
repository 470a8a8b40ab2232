//! Urgent data, as Linux delivers it (RFC 6093).

use super::peer::*;
use crate::*;

#[test]
fn the_urgent_byte_is_read_out_of_turn() {
    let t = Peer::accepted();
    t.push("PU. 1:11(10) ack 1 urg 10");
    assert!(t.s().readiness().contains(Readiness::PRI));
    assert_eq!(t.s().recv_urgent(true), Ok(10));
    assert_eq!(t.s().recv_urgent(false), Ok(10));
    assert_eq!(t.s().recv_urgent(false), Err(Error::Invalid));
    assert_eq!(t.read(100), Ok(9));
    assert!(t.s().at_mark());
    assert!(!t.s().readiness().contains(Readiness::PRI));
}

#[test]
fn reading_stops_at_the_mark_and_skips_the_byte() {
    let t = Peer::accepted();
    t.push("PU. 1:21(20) ack 1 urg 10");
    assert_eq!(t.read(100), Ok(9));
    assert!(t.s().at_mark());
    let mut buf = [0; 100];
    assert_eq!(t.s().recv(&mut buf), Ok(10));
    assert_eq!(buf[0], 11);
    assert!(!t.s().at_mark());
}

#[test]
fn inline_it_is_part_of_the_stream() {
    let t = Peer::accepted();
    t.s().set_options(TcpOptions { oob_inline: true, ..t.s().options() });
    t.push("PU. 1:21(20) ack 1 urg 10");
    assert_eq!(t.s().recv_urgent(false), Err(Error::Invalid));
    assert_eq!(t.read(100), Ok(9));
    assert!(t.s().at_mark());
    assert_eq!(t.read(100), Ok(11));
}

#[test]
fn it_is_announced_before_it_comes() {
    let t = Peer::accepted();
    t.push("U. 1:1(0) ack 1 urg 5");
    assert_eq!(t.s().recv_urgent(false), Err(Error::WouldBlock));
    t.push("P. 1:11(10) ack 1");
    assert_eq!(t.s().recv_urgent(false), Ok(5));
}

#[test]
fn without_any_there_is_none() {
    let t = Peer::accepted();
    t.push("P. 1:11(10) ack 1");
    assert_eq!(t.s().recv_urgent(false), Err(Error::Invalid));
    assert!(!t.s().at_mark());
}

#[test]
fn sending_it_sets_the_pointer() {
    let mut t = Peer::accepted();
    assert_eq!(t.s().send_urgent(b"abc"), Ok(3));
    t.expect(&["P.U 1:4(3) ack 1 urg 3"]);
    t.push(". 1:1(0) ack 4");
    t.write(1);
    t.expect(&["P. 4:5(1) ack 1"]);
}

#[test]
fn a_pointer_far_away_is_ignored() {
    let t = Peer::listening(Config::default(), 5);
    let l = t.listener.as_ref().unwrap();
    l.set_options(TcpOptions { rcvbuf: Some(4096), ..l.options() });
    let mut t = t;
    t.handshake("S 0:0(0) win 1000");
    t.push("U. 1:1(0) ack 1 urg 60000");
    assert_eq!(t.s().recv_urgent(false), Err(Error::Invalid));
}

#[test]
fn a_second_announcement_moves_the_mark() {
    let t = Peer::accepted();
    t.push("U. 1:11(10) ack 1 urg 5");
    t.push("U. 11:21(10) ack 1 urg 5");
    assert_eq!(t.s().recv_urgent(false), Ok(15));
    assert_eq!(t.read(100), Ok(14));
}
