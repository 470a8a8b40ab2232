//! TIME-WAIT (RFC 9293, section 3.6.1; RFC 1337; RFC 6191).

use super::peer::*;
use crate::*;

fn waiting(syn: &str) -> Peer {
    let mut t = Peer::accepted_with(Config::default(), syn);
    let ts = if syn.contains("ts") { " <ts 500 0>" } else { "" };
    t.s().shutdown(Shutdown::Write).unwrap();
    t.push(&format!("F. 1:1(0) ack 2{ts}"));
    t.sent();
    t.socket = None;
    assert_eq!(t.b.stack.time_wait_count(), 1);
    t
}

const PLAIN: &str = "S 0:0(0) win 1000 <mss 1000>";
const STAMPS: &str = "S 0:0(0) win 1000 <mss 1000, ts 100 0>";

#[test]
fn it_lasts_sixty_seconds() {
    let t = waiting(PLAIN);
    t.wait(59_000);
    assert_eq!(t.b.stack.time_wait_count(), 1);
    t.wait(2_000);
    assert_eq!(t.b.stack.time_wait_count(), 0);
}

#[test]
fn the_connection_itself_is_gone() {
    let t = waiting(PLAIN);
    assert_eq!(t.b.stack.endpoint_count(), 1, "the listener");
    assert_eq!(t.b.stack.memory_used(), 0);
}

#[test]
fn a_repeated_fin_is_acknowledged_and_starts_the_time_anew() {
    let mut t = waiting(PLAIN);
    t.wait(40_000);
    t.push("F. 1:1(0) ack 2");
    t.expect(&[". 2:2(0) ack 2"]);
    t.wait(40_000);
    assert_eq!(t.b.stack.time_wait_count(), 1);
    t.wait(21_000);
    assert_eq!(t.b.stack.time_wait_count(), 0);
}

#[test]
fn old_data_is_acknowledged_at_most_twice_a_second() {
    let mut t = waiting(PLAIN);
    for _ in 0..5 {
        t.push("P. 1:101(100) ack 2");
    }
    t.expect(&[". 2:2(0) ack 2"]);
}

#[test]
fn a_new_connection_may_begin_with_a_higher_number() {
    let mut t = waiting(PLAIN);
    let old = t.iss;
    t.iss = None;
    t.push("S 1000:1000(0) win 1000 <mss 1000>");
    let synack = t.take();
    assert!(synack.text.ends_with("ack 1001"));
    assert!(synack.header.seq.after(tcp::Seq(old.unwrap())));
    assert_eq!(t.b.stack.time_wait_count(), 0);
}

#[test]
fn a_new_connection_may_begin_with_a_higher_time_stamp() {
    let mut t = waiting(STAMPS);
    t.iss = None;
    let low = 0u32.wrapping_sub(5000);
    t.push(&format!("S {low}:{low}(0) win 1000 <mss 1000, ts 600 0>"));
    assert!(t.take().text.starts_with("S."));
}

#[test]
fn an_old_syn_is_not_a_new_connection() {
    let mut t = waiting(PLAIN);
    let low = 0u32.wrapping_sub(5000);
    t.push(&format!("S {low}:{low}(0) win 1000 <mss 1000>"));
    t.expect(&[". 2:2(0) ack 2"]);
    assert_eq!(t.b.stack.time_wait_count(), 1);
}

#[test]
fn resets_assassinate_only_at_the_right_number() {
    let t = waiting(PLAIN);
    t.push("R 500:500(0)");
    assert_eq!(t.b.stack.time_wait_count(), 1);
    t.push("R 2:2(0)");
    assert_eq!(t.b.stack.time_wait_count(), 0);
}

#[test]
fn the_number_of_records_is_bounded() {
    let mut config = Config::default();
    config.tcp.max_time_wait = 2;
    let mut t = Peer::listening(config, 10);
    for port in 0..4 {
        t.ports.0 = 6000 + port;
        t.iss = None;
        t.handshake(PLAIN);
        t.s().shutdown(Shutdown::Write).unwrap();
        t.push("F. 1:1(0) ack 2");
    }
    assert_eq!(t.b.stack.time_wait_count(), 2);
    assert_eq!(t.b.stack.stats().tcp_time_wait_overflow.get(), 2);
}

#[test]
fn binding_to_its_port_needs_reuse() {
    let mut t = waiting(PLAIN);
    t.listener = None;
    let s = t.b.stack.tcp(Family::V4).unwrap();
    assert_eq!(s.bind(t.local()), Err(Error::AddressInUse));
    s.set_options(TcpOptions { reuse_addr: true, ..s.options() });
    assert_eq!(s.bind(t.local()), Ok(()));
}

#[test]
fn the_active_side_can_connect_again_after_a_second_with_time_stamps() {
    let mut t = Peer::connected(Config::default(), "S. 0:0(0) ack 1 win 1000 <mss 1000, ts 100 0>");
    t.s().shutdown(Shutdown::Write).unwrap();
    t.push("F. 1:1(0) ack 2 <ts 101 0>");
    let local = t.s().local_addr();
    t.sent();
    t.socket = None;
    assert_eq!(t.b.stack.time_wait_count(), 1);
    let again = |t: &Peer| {
        let s = t.b.stack.tcp(Family::V4).unwrap();
        s.set_options(TcpOptions { reuse_addr: true, ..s.options() });
        s.bind(local).unwrap();
        s.connect((super::bench::PEER, PORTS.0).into())
    };
    assert_eq!(again(&t), Err(Error::AddressNotAvailable));
    t.wait(1500);
    assert_eq!(again(&t), Err(Error::InProgress));
    assert_eq!(t.b.stack.time_wait_count(), 0);
}
