//! Closing (RFC 9293, section 3.6; RFC 1122, section 4.2.2.13; RFC 2525, section 2.17).

use super::peer::*;
use crate::*;

#[test]
fn we_close_first() {
    let mut t = Peer::accepted();
    t.s().shutdown(Shutdown::Write).unwrap();
    t.expect(&["F. 1:1(0) ack 1"]);
    assert_eq!(t.state(), TcpStateName::FinWait1);
    t.push(". 1:1(0) ack 2");
    assert_eq!(t.state(), TcpStateName::FinWait2);
    t.push("F. 1:1(0) ack 2");
    t.expect(&[". 2:2(0) ack 2"]);
    assert_eq!(t.state(), TcpStateName::Closed);
    assert_eq!(t.b.stack.time_wait_count(), 1);
    assert_eq!(t.read(10), Ok(0));
}

#[test]
fn the_peer_closes_first() {
    let mut t = Peer::accepted();
    t.push("FP. 1:11(10) ack 1");
    t.expect(&[". 1:1(0) ack 12"]);
    assert_eq!(t.state(), TcpStateName::CloseWait);
    assert_eq!(t.read(100), Ok(10));
    assert_eq!(t.read(100), Ok(0));
    t.write(5);
    t.expect(&["P. 1:6(5) ack 12"]);
    t.push(". 12:12(0) ack 6");
    t.s().shutdown(Shutdown::Write).unwrap();
    t.expect(&["F. 6:6(0) ack 12"]);
    assert_eq!(t.state(), TcpStateName::LastAck);
    t.push(". 12:12(0) ack 7");
    assert_eq!(t.state(), TcpStateName::Closed);
    assert_eq!(t.b.stack.time_wait_count(), 0);
}

#[test]
fn both_close_at_once() {
    let mut t = Peer::accepted();
    t.s().shutdown(Shutdown::Write).unwrap();
    t.expect(&["F. 1:1(0) ack 1"]);
    t.push("F. 1:1(0) ack 1");
    t.expect(&[". 2:2(0) ack 2"]);
    assert_eq!(t.state(), TcpStateName::Closing);
    t.push(". 2:2(0) ack 2");
    assert_eq!(t.state(), TcpStateName::Closed);
    assert_eq!(t.b.stack.time_wait_count(), 1);
}

#[test]
fn fin_and_its_acknowledgement_in_one() {
    let mut t = Peer::accepted();
    t.s().shutdown(Shutdown::Write).unwrap();
    t.expect(&["F. 1:1(0) ack 1"]);
    t.push("F. 1:1(0) ack 2");
    t.expect(&[". 2:2(0) ack 2"]);
    assert_eq!(t.b.stack.time_wait_count(), 1);
}

#[test]
fn the_fin_follows_the_data() {
    let mut t = Peer::accepted_with(Config::default(), "S 0:0(0) win 1000 <mss 1000>");
    t.write(1500);
    t.sent();
    t.s().shutdown(Shutdown::Write).unwrap();
    t.expect(&[]);
    t.push(". 1:1(0) ack 1001 win 1000");
    t.expect(&["FP. 1001:1501(500) ack 1"]);
    assert_eq!(t.s().send(&[1]), Err(Error::BrokenPipe));
}

#[test]
fn a_lost_fin_is_sent_again() {
    let mut t = Peer::accepted();
    t.s().shutdown(Shutdown::Write).unwrap();
    t.sent();
    t.wait(500);
    assert!(t.sent().iter().any(|s| s == "FP. 1:1(0) ack 1" || s == "F. 1:1(0) ack 1"));
}

#[test]
fn data_after_our_fin_is_still_received() {
    let mut t = Peer::accepted();
    t.s().shutdown(Shutdown::Write).unwrap();
    t.push(". 1:1(0) ack 2");
    t.sent();
    t.push("P. 1:101(100) ack 2");
    t.wait(50);
    t.expect(&[". 2:2(0) ack 101"]);
    assert_eq!(t.read(1000), Ok(100));
}

#[test]
fn a_fin_out_of_order_waits_for_the_data() {
    let mut t = Peer::accepted();
    t.push("F. 101:101(0) ack 1");
    assert_eq!(t.state(), TcpStateName::Established);
    t.sent();
    t.push("P. 1:101(100) ack 1");
    assert_eq!(t.state(), TcpStateName::CloseWait);
    assert!(t.sent().contains(&". 1:1(0) ack 102".to_owned()));
}

#[test]
fn closing_with_unread_data_resets() {
    let mut t = Peer::accepted();
    t.push("P. 1:101(100) ack 1");
    t.sent();
    t.socket = None;
    t.expect(&["R. 1:1(0) ack 101"]);
    assert!(t.b.stack.tcp_connections().iter().all(|c| c.3 == TcpStateName::Listen));
}

#[test]
fn closing_without_lingering_resets() {
    let mut t = Peer::accepted();
    t.s().set_options(TcpOptions { reset_on_close: true, ..t.s().options() });
    t.socket = None;
    t.expect(&["R. 1:1(0) ack 1"]);
}

#[test]
fn closing_sends_what_was_written() {
    let mut t = Peer::accepted_with(Config::default(), "S 0:0(0) win 1000 <mss 1000>");
    t.write(1500);
    t.sent();
    t.socket = None;
    t.push(". 1:1(0) ack 1001 win 1000");
    t.expect(&["FP. 1001:1501(500) ack 1"]);
    t.push("F. 1:1(0) ack 1502");
    t.expect(&[". 1502:1502(0) ack 2"]);
    assert_eq!(t.b.stack.time_wait_count(), 1);
}

#[test]
fn data_for_a_closed_socket_is_reset() {
    let mut t = Peer::accepted();
    t.socket = None;
    t.expect(&["F. 1:1(0) ack 1"]);
    t.push("P. 1:101(100) ack 2");
    assert!(t.sent()[0].starts_with("R"));
}

#[test]
fn orphans_in_fin_wait_2_are_given_up() {
    let mut t = Peer::accepted();
    t.socket = None;
    t.push(". 1:1(0) ack 2");
    t.sent();
    t.wait(61_000);
    assert_eq!(t.b.stack.endpoint_count(), 1, "the listener");
    t.push("F. 1:1(0) ack 2");
    t.expect(&["R 2:2(0)"]);
}

#[test]
fn a_socket_may_stay_in_fin_wait_2() {
    let t = Peer::accepted();
    t.s().shutdown(Shutdown::Write).unwrap();
    t.push(". 1:1(0) ack 2");
    t.wait(600_000);
    assert_eq!(t.state(), TcpStateName::FinWait2);
}

#[test]
fn orphans_that_hear_nothing_are_given_up() {
    let mut t = Peer::accepted();
    t.write(100);
    t.socket = None;
    t.wait(400_000);
    assert_eq!(t.b.stack.endpoint_count(), 1);
}

#[test]
fn shutting_down_reading_discards_what_comes() {
    let mut t = Peer::accepted();
    t.s().shutdown(Shutdown::Read).unwrap();
    t.push("P. 1:101(100) ack 1");
    t.expect(&[". 1:1(0) ack 101"]);
    assert_eq!(t.read(10), Ok(0));
    assert_eq!(t.state(), TcpStateName::Established);
}

#[test]
fn a_repeated_fin_is_acknowledged_again() {
    let mut t = Peer::accepted();
    t.push("F. 1:1(0) ack 1");
    t.sent();
    t.push("F. 1:1(0) ack 1");
    t.expect(&[". 1:1(0) ack 2"]);
}

#[test]
fn closing_while_connecting_is_silent() {
    let mut t = Peer::connecting(Config::default());
    t.sent();
    t.socket = None;
    t.expect(&[]);
    assert_eq!(t.b.stack.endpoint_count(), 0);
}

#[test]
fn closing_a_listener_resets_what_waits() {
    let mut t = Peer::listening(Config::default(), 5);
    t.push("S 0:0(0) win 1000");
    t.sent();
    t.push(". 1:1(0) ack 1");
    t.listener = None;
    t.expect(&["R. 1:1(0) ack 1"]);
    assert_eq!(t.b.stack.endpoint_count(), 0);
}

#[test]
fn shutdown_of_an_idle_endpoint_fails() {
    let t = Peer::new(Config::default());
    let s = t.b.stack.tcp(Family::V4).unwrap();
    assert_eq!(s.shutdown(Shutdown::Both), Err(Error::NotConnected));
    assert_eq!(s.send(&[1]), Err(Error::BrokenPipe), "as in Linux");
    assert_eq!(s.recv(&mut [0]), Err(Error::NotConnected));
}

#[test]
fn readiness_follows_the_close() {
    let t = Peer::accepted();
    t.push("F. 1:1(0) ack 1");
    let r = t.s().readiness();
    assert!(
        r.contains(Readiness::IN | Readiness::RDHUP | Readiness::OUT)
            && !r.contains(Readiness::HUP)
    );
    t.s().shutdown(Shutdown::Write).unwrap();
    assert!(t.s().readiness().contains(Readiness::HUP));
}
