//! Segmenting: Nagle, cork, push, the initial window (RFC 9293, section 3.7; RFC 6928).

use super::peer::*;
use crate::*;

#[test]
fn small_writes_wait_for_the_acknowledgement() {
    let mut t = Peer::accepted();
    t.write(10);
    t.expect(&["P. 1:11(10) ack 1"]);
    t.write(10);
    t.write(10);
    t.expect(&[]);
    t.push(". 1:1(0) ack 11");
    t.expect(&["P. 11:31(20) ack 1"]);
}

#[test]
fn full_segments_do_not_wait() {
    let mut t = Peer::accepted();
    t.write(10);
    t.sent();
    t.write(1500);
    t.expect(&[". 11:1011(1000) ack 1"]);
}

#[test]
fn a_small_segment_behind_full_ones_does_not_wait() {
    // Minshall's variant: only a small segment in flight holds back another.
    let mut t = Peer::accepted();
    t.write(2500);
    t.expect(&[". 1:1001(1000) ack 1", ". 1001:2001(1000) ack 1", "P. 2001:2501(500) ack 1"]);
}

#[test]
fn nodelay_does_not_wait() {
    let mut t = Peer::accepted();
    t.s().set_options(TcpOptions { nodelay: true, ..t.s().options() });
    t.write(10);
    t.write(10);
    t.expect(&["P. 1:11(10) ack 1", "P. 11:21(10) ack 1"]);
}

#[test]
fn turning_nagle_off_sends_what_waited() {
    let mut t = Peer::accepted();
    t.write(10);
    t.write(10);
    t.sent();
    t.s().set_options(TcpOptions { nodelay: true, ..t.s().options() });
    t.expect(&["P. 11:21(10) ack 1"]);
}

#[test]
fn a_cork_holds_partial_segments() {
    let mut t = Peer::accepted();
    t.s().set_options(TcpOptions { cork: true, ..t.s().options() });
    t.write(300);
    t.write(300);
    t.expect(&[]);
    t.write(500);
    t.expect(&[". 1:1001(1000) ack 1"]);
    t.s().set_options(TcpOptions { cork: false, ..t.s().options() });
    t.push(". 1:1(0) ack 1001");
    t.expect(&["P. 1001:1101(100) ack 1"]);
}

#[test]
fn a_cork_holds_for_200_ms_at_most() {
    let mut t = Peer::accepted();
    t.s().set_options(TcpOptions { cork: true, ..t.s().options() });
    t.write(300);
    t.wait(199);
    t.expect(&[]);
    t.wait(2);
    t.expect(&["P. 1:301(300) ack 1"]);
}

#[test]
fn closing_lifts_the_cork() {
    let mut t = Peer::accepted();
    t.s().set_options(TcpOptions { cork: true, ..t.s().options() });
    t.write(300);
    t.s().shutdown(Shutdown::Write).unwrap();
    t.expect(&["FP. 1:301(300) ack 1"]);
}

#[test]
fn the_initial_window_is_ten_segments() {
    let mut t = Peer::accepted();
    t.write(20_000);
    assert_eq!(t.sent().len(), 10);
    t.push(". 1:1(0) ack 2001");
    assert_eq!(t.sent().len(), 4, "slow start: two for each");
}

#[test]
fn the_last_segment_of_a_write_is_pushed() {
    let mut t = Peer::accepted();
    t.write(3000);
    t.expect(&[". 1:1001(1000) ack 1", ". 1001:2001(1000) ack 1", "P. 2001:3001(1000) ack 1"]);
}

#[test]
fn maxseg_limits_both_directions() {
    let mut t = Peer::listening(Config::default(), 5);
    let l = t.listener.as_ref().unwrap();
    l.set_options(TcpOptions { max_segment: Some(500), ..l.options() });
    t.push("S 0:0(0) win 65535 <mss 1000>");
    let synack = t.take();
    assert_eq!(synack.header.options.mss, Some(500));
    t.push(". 1:1(0) ack 1");
    t.socket = Some(t.listener.as_ref().unwrap().accept().unwrap().0);
    t.write(600);
    t.expect(&[". 1:501(500) ack 1", "P. 501:601(100) ack 1"]);
}

#[test]
fn time_stamps_take_their_room() {
    let t = Peer::accepted_with(Config::default(), "S 0:0(0) win 65535 <mss 1000, ts 100 0>");
    assert_eq!(t.s().info().snd_mss, 988);
}

#[test]
fn ttl_and_tos_are_the_sockets() {
    let t = Peer::accepted();
    t.s().set_options(TcpOptions { ttl: Some(9), tos: 0x1c, ..t.s().options() });
    t.write(10);
    let p = t.b.packet();
    assert_eq!((p.ttl, p.tos), (9, 0x1c));
}

#[test]
fn after_idling_the_window_starts_small_again() {
    let mut t = Peer::accepted();
    let mut at = 1;
    for _ in 0..3 {
        let n = t.s().info().cwnd as usize;
        t.write(n);
        at += n as u32;
        t.sent();
        t.push(&format!(". 1:1(0) ack {at}"));
    }
    let grown = t.s().info().cwnd;
    assert!(grown >= 40_000, "{grown}");
    t.wait(60_000);
    t.write(20_000);
    assert_eq!(t.sent().len(), 10);
}

#[test]
fn what_a_full_link_does_not_take_is_sent_later() {
    let mut t = Peer::accepted();
    t.b.link.room.store(2, std::sync::atomic::Ordering::Relaxed);
    t.write(5000);
    assert_eq!(t.sent().len(), 2);
    t.b.link.room.store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
    t.b.stack.link_writable(t.b.iface);
    assert_eq!(t.sent().len(), 3);
}
