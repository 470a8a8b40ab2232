//! Loss recovery: time-outs (RFC 6298), SACK and RACK (RFC 8985), tail-loss probes, NewReno (RFC 6582),
//! rate reduction (RFC 6937), undo (RFC 3522, RFC 2883).

use super::peer::*;
use crate::*;

const PLAIN: &str = "S 0:0(0) win 65535 <mss 1000>";

/// `n` segments of 1000 bytes are in flight, sent 100 ms after the handshake measured 100 ms.
fn flying(n: usize) -> Peer {
    flying_with("S 0:0(0) win 65535 <mss 1000, sackok>", n)
}

fn flying_with(syn: &str, n: usize) -> Peer {
    let mut t = Peer::listening(Config::default(), 5);
    t.push(syn);
    t.take();
    t.wait(100);
    t.push(". 1:1(0) ack 1");
    t.socket = Some(t.listener.as_ref().unwrap().accept().unwrap().0);
    t.write(n * 1000);
    t.sent();
    t.wait(100);
    t
}

#[test]
fn three_selective_acknowledgements_show_a_loss() {
    let mut t = flying(6);
    t.push(". 1:1(0) ack 1 <sack 1001-2001>");
    t.expect(&[]);
    t.push(". 1:1(0) ack 1 <sack 1001-3001>");
    t.expect(&[]);
    t.push(". 1:1(0) ack 1 <sack 1001-4001>");
    t.expect(&["P. 1:1001(1000) ack 1"]);
    assert_eq!(t.b.stack.stats().tcp_fast_recoveries.get(), 1);
}

#[test]
fn a_single_selective_acknowledgement_and_time_show_a_loss() {
    let mut t = flying(3);
    t.push(". 1:1(0) ack 1 <sack 1001-2001>");
    t.expect(&[]);
    t.wait(30);
    t.expect(&["P. 1:1001(1000) ack 1"]);
}

#[test]
fn several_losses_in_one_round_trip() {
    let mut t = flying(9);
    t.push(". 1:1(0) ack 1 <sack 1001-2001 3001-4001 5001-9001>");
    // Six have arrived, so the three that are lost may all go at once.
    t.expect(&["P. 1:1001(1000) ack 1", "P. 2001:3001(1000) ack 1", "P. 4001:5001(1000) ack 1"]);
    t.push(". 1:1(0) ack 2001 <sack 3001-4001 5001-9001>");
    t.push(". 1:1(0) ack 4001 <sack 5001-9001>");
    t.expect(&[]);
    t.push(". 1:1(0) ack 9001");
    t.expect(&[]);
    assert_eq!(t.s().info().total_retrans, 3);
}

#[test]
fn the_window_is_reduced_to_seven_tenths() {
    let mut t = flying(10);
    t.push(". 1:1(0) ack 1 <sack 1001-10001>");
    t.push(". 1:1(0) ack 10001");
    t.sent();
    let info = t.s().info();
    assert_eq!((info.cwnd, info.ssthresh), (7000, 7000));
}

#[test]
fn reno_halves() {
    let mut config = Config::default();
    config.tcp.congestion = Congestion::Reno;
    let mut t = Peer::accepted_with(config, "S 0:0(0) win 65535 <mss 1000, sackok>");
    t.write(10_000);
    t.wait(10);
    t.push(". 1:1(0) ack 1 <sack 1001-10001>");
    t.push(". 1:1(0) ack 10001");
    t.sent();
    assert_eq!(t.s().info().cwnd, 5000);
}

#[test]
fn a_lost_retransmission_is_found_by_rack() {
    let mut t = flying(6);
    t.push(". 1:1(0) ack 1 <sack 1001-6001>");
    t.expect(&["P. 1:1001(1000) ack 1"]);
    t.write(3000);
    let sent = t.sent();
    assert!(!sent.is_empty());
    t.wait(100);
    // What was sent after the retransmission arrives; the retransmission did not.
    t.push(". 1:1(0) ack 1 <sack 1001-7001>");
    t.wait(60);
    assert!(t.sent().contains(&"P. 1:1001(1000) ack 1".to_owned()));
}

#[test]
fn tail_losses_are_probed_before_the_time_out() {
    let mut t = flying(4);
    t.push(". 1:1(0) ack 2001");
    t.expect(&[]);
    t.wait(215);
    t.expect(&["P. 3001:4001(1000) ack 1"]);
    assert_eq!(t.b.stack.stats().tcp_loss_probes.get(), 1);
    assert_eq!(t.b.stack.stats().tcp_timeouts.get(), 0);
    t.wait(100);
    t.push(". 1:1(0) ack 2001 <sack 3001-4001>");
    t.wait(50);
    t.expect(&["P. 2001:3001(1000) ack 1"]);
}

#[test]
fn a_probe_prefers_new_data() {
    let mut t = flying_with("S 0:0(0) win 3000 <mss 1000, sackok>", 3);
    t.push(". 1:1(0) ack 1001 win 2000");
    t.write(1000);
    t.expect(&[]);
    t.push(". 1:1(0) ack 1001 win 2500");
    t.sent();
    t.push(". 1:1(0) ack 2001 win 2500");
    t.sent();
    assert_eq!(t.b.stack.stats().tcp_loss_probes.get(), 0);
}

#[test]
fn the_time_out_is_the_round_trip_plus_two_hundred_milliseconds_at_least() {
    let mut t = flying_with(PLAIN, 1);
    // The estimate: 100 ms, variance 50 ms, so 300 ms from the sending.
    t.wait(199);
    t.expect(&[]);
    t.wait(2);
    t.expect(&["P. 1:1001(1000) ack 1"]);
}

#[test]
fn time_outs_double_and_the_window_is_one_segment() {
    let mut t = flying_with(PLAIN, 5);
    t.wait(210);
    t.expect(&["P. 1:1001(1000) ack 1"]);
    assert_eq!(t.s().info().cwnd, 1000);
    t.wait(595);
    t.expect(&["P. 1:1001(1000) ack 1"]);
    t.wait(1195);
    t.expect(&["P. 1:1001(1000) ack 1"]);
    t.push(". 1:1(0) ack 1001");
    t.expect(&["P. 1001:2001(1000) ack 1", "P. 2001:3001(1000) ack 1"]);
    assert_eq!(t.s().info().backoff, 0);
}

#[test]
fn retries_end() {
    let mut config = Config::default();
    config.tcp.retries2 = 3;
    let mut t = Peer::accepted_with(config, PLAIN);
    t.write(100);
    t.wait(200_000);
    assert_eq!(t.sent().len(), 4);
    assert_eq!(t.s().take_error(), Some(Error::TimedOut));
}

#[test]
fn user_timeout_ends_earlier() {
    let mut t = Peer::accepted_with(Config::default(), PLAIN);
    let user_timeout = Some(std::time::Duration::from_millis(2000));
    t.s().set_options(TcpOptions { user_timeout, ..t.s().options() });
    t.write(100);
    t.wait(1500);
    assert_eq!(t.state(), TcpStateName::Established);
    t.wait(3000);
    t.sent();
    assert_eq!(t.s().take_error(), Some(Error::TimedOut));
}

#[test]
fn three_duplicates_without_sack() {
    let mut t = flying_with(PLAIN, 6);
    t.push(". 1:1(0) ack 1");
    t.push(". 1:1(0) ack 1");
    t.expect(&[]);
    t.push(". 1:1(0) ack 1");
    t.expect(&["P. 1:1001(1000) ack 1"]);
}

#[test]
fn partial_acknowledgements_without_sack() {
    let mut t = flying_with(PLAIN, 8);
    for _ in 0..3 {
        t.push(". 1:1(0) ack 1");
    }
    t.expect(&["P. 1:1001(1000) ack 1"]);
    t.push(". 1:1(0) ack 3001");
    assert_eq!(t.sent().first().map(String::as_str), Some("P. 3001:4001(1000) ack 1"));
    t.push(". 1:1(0) ack 8001");
    t.expect(&[]);
}

#[test]
fn window_updates_and_data_are_no_duplicates() {
    let mut t = flying_with(PLAIN, 6);
    t.push(". 1:1(0) ack 1 win 60000");
    t.push(". 1:1(0) ack 1 win 50000");
    t.push("P. 1:2(1) ack 1 win 50000");
    t.push(". 2:2(0) ack 1 win 40000");
    let sent = t.sent();
    assert!(sent.iter().all(|s| !s.contains("1:1001")), "{sent:?}");
}

#[test]
fn eifel_takes_a_spurious_time_out_back() {
    let mut t = flying_with("S 0:0(0) win 65535 <mss 1012, sackok, ts 100 0>", 0);
    t.write(5000);
    let first = t.b.packets();
    let stamp = |p: &super::bench::Out| {
        let s = wire::tcp::Segment::parse(&p.payload).unwrap();
        s.header.options.timestamps.unwrap().0
    };
    let original = stamp(&first[0]);
    let before = t.s().info().cwnd;
    t.wait(3000);
    t.sent();
    assert_eq!(t.s().info().cwnd, 1000);
    // The delayed acknowledgement of the original.
    t.push(&format!(". 1:1(0) ack 1001 <ts 200 {original}>"));
    assert!(t.s().info().cwnd >= before);
    assert_eq!(t.b.stack.stats().tcp_undos.get(), 1);
    assert_eq!(t.s().info().lost, 0);
}

#[test]
fn duplicate_reports_take_a_spurious_recovery_back() {
    let mut t = flying(6);
    let before = t.s().info().cwnd;
    t.push(". 1:1(0) ack 1 <sack 1001-4001>");
    t.expect(&["P. 1:1001(1000) ack 1"]);
    // The original was only late.
    t.push(". 1:1(0) ack 4001");
    t.push(". 1:1(0) ack 4001 <sack 1-1001>");
    t.sent();
    assert!(t.s().info().cwnd >= before, "{} {before}", t.s().info().cwnd);
    assert_eq!(t.b.stack.stats().tcp_undos.get(), 1);
}

#[test]
fn reduction_is_proportional() {
    let mut t = flying(10);
    t.write(10_000);
    t.sent();
    let mut sent = 0;
    for n in 2..=10 {
        t.push(&format!(". 1:1(0) ack 1 <sack 1001-{}>", n * 1000 + 1));
        sent += t.sent().len();
    }
    // Nine segments have arrived; seven tenths of that may go, the retransmission among them.
    assert!((5..=8).contains(&sent), "{sent}");
}

#[test]
fn limits_of_the_peers_imagination() {
    // Blocks for what was never sent, reversed, and huge, change nothing.
    let mut t = flying(3);
    t.push(". 1:1(0) ack 1 <sack 9001-10001 3001-2001 1-4000000>");
    t.expect(&[]);
    let info = t.s().info();
    assert_eq!((info.sacked, info.lost), (0, 0));
}

#[test]
fn reneging_is_survived() {
    let mut t = flying(4);
    t.push(". 1:1(0) ack 1 <sack 1001-4001>");
    t.push(". 1:1(0) ack 1001");
    t.sent();
    // The peer has forgotten all: after time-outs everything is sent again.
    t.wait(400);
    assert!(t.sent().iter().any(|s| s.contains("1001:2001")));
    t.push(". 1:1(0) ack 2001");
    t.push(". 1:1(0) ack 3001");
    t.push(". 1:1(0) ack 4001");
    assert_eq!(t.s().info().unacked, 0);
}

#[test]
fn karn_retransmitted_segments_measure_nothing() {
    let mut t = flying_with(PLAIN, 1);
    t.wait(250);
    t.sent();
    let before = t.s().info().rtt;
    t.push(". 1:1(0) ack 1001");
    assert_eq!(t.s().info().rtt, before);
}

#[test]
fn a_lost_syn_leaves_a_window_of_one() {
    let mut t = Peer::connecting(Config::default());
    t.sent();
    t.wait(1100);
    t.sent();
    t.push("S. 0:0(0) ack 1 win 65535 <mss 1000>");
    t.sent();
    t.write(3000);
    t.expect(&[". 1:1001(1000) ack 1"]);
}
