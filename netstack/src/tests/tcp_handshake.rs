//! Opening connections (RFC 9293, section 3.5; RFC 7323, section 2; RFC 2018, section 2).

use super::peer::*;
use crate::*;

#[test]
fn passive_open() {
    let mut t = Peer::listening(Config::default(), 5);
    t.push("S 0:0(0) win 1000 <mss 1460>");
    t.expect(&["S. 0:0(0) ack 1"]);
    assert!(t.listener.as_ref().unwrap().accept().is_err(), "not before the third segment");
    t.push(". 1:1(0) ack 1");
    t.expect(&[]);
    let (s, peer) = t.listener.as_ref().unwrap().accept().unwrap();
    assert_eq!(s.state(), TcpStateName::Established);
    assert_eq!(peer.port(), t.ports.0);
}

#[test]
fn the_syn_ack_answers_what_was_offered_and_no_more() {
    let mut t = Peer::listening(Config::default(), 5);
    t.push("S 0:0(0) win 1000 <mss 1460>");
    let o = t.take().header.options;
    assert_eq!(
        (o.mss, o.window_shift, o.sack_permitted, o.timestamps),
        (Some(1460), None, false, None)
    );
    t.ports.0 += 1;
    t.push("S 0:0(0) win 1000 <mss 1460, ws 3, sackok, ts 77 0>");
    let o = t.take().header.options;
    assert!(o.window_shift.is_some() && o.sack_permitted);
    assert_eq!(o.timestamps.unwrap().1, 77);
}

#[test]
fn options_can_be_turned_off() {
    let mut config = Config::default();
    (config.tcp.sack, config.tcp.timestamps, config.tcp.window_scaling) = (false, false, false);
    let mut t = Peer::listening(config, 5);
    t.push("S 0:0(0) win 1000 <mss 1460, ws 3, sackok, ts 77 0>");
    let o = t.take().header.options;
    assert_eq!((o.window_shift, o.sack_permitted, o.timestamps), (None, false, None));
}

#[test]
fn active_open_offers_everything() {
    let mut t = Peer::connecting(Config::default());
    let syn = t.take();
    assert_eq!(syn.text, "S 0:0(0)");
    let o = syn.header.options;
    assert_eq!((o.mss, o.sack_permitted), (Some(1460), true));
    assert!(o.window_shift.is_some() && o.timestamps.is_some());
    t.push("S. 0:0(0) ack 1 win 1000 <mss 1000>");
    t.expect(&[". 1:1(0) ack 1"]);
    assert_eq!(t.state(), TcpStateName::Established);
    assert!(t.s().readiness().contains(Readiness::OUT));
    assert_eq!(t.s().connect((super::bench::PEER, 1).into()), Err(Error::IsConnected));
}

#[test]
fn the_syn_is_sent_again_with_backoff_and_given_up() {
    let mut config = Config::default();
    config.tcp.syn_retries = 2;
    let mut t = Peer::connecting(config);
    t.expect(&["S 0:0(0)"]);
    t.wait(999);
    t.expect(&[]);
    t.wait(2);
    t.expect(&["S 0:0(0)"]);
    t.wait(1990);
    t.expect(&[]);
    t.wait(20);
    t.expect(&["S 0:0(0)"]);
    t.wait(4100);
    t.expect(&[]);
    assert_eq!(t.s().take_error(), Some(Error::TimedOut));
    assert_eq!(t.state(), TcpStateName::Closed);
}

#[test]
fn a_reset_refuses() {
    let mut t = Peer::connecting(Config::default());
    t.expect(&["S 0:0(0)"]);
    t.push("R. 0:0(0) ack 1");
    assert_eq!(t.s().take_error(), Some(Error::ConnectionRefused));
    let r = t.s().readiness();
    assert!(r.contains(Readiness::HUP | Readiness::OUT | Readiness::IN));
}

#[test]
fn a_reset_that_acknowledges_nothing_of_ours_is_ignored() {
    let mut t = Peer::connecting(Config::default());
    t.expect(&["S 0:0(0)"]);
    t.push("R. 0:0(0) ack 2");
    t.push("R 0:0(0)");
    assert_eq!(t.state(), TcpStateName::SynSent);
}

#[test]
fn a_wrong_acknowledgement_of_the_syn_is_reset() {
    let mut t = Peer::connecting(Config::default());
    t.expect(&["S 0:0(0)"]);
    t.push("S. 0:0(0) ack 500");
    t.expect(&["R 500:500(0)"]);
    assert_eq!(t.state(), TcpStateName::SynSent);
}

#[test]
fn simultaneous_open() {
    let mut t = Peer::connecting(Config::default());
    t.expect(&["S 0:0(0)"]);
    t.push("S 0:0(0) win 5000 <mss 1000>");
    t.expect(&["S. 0:0(0) ack 1"]);
    assert_eq!(t.state(), TcpStateName::SynReceived);
    t.push(". 1:1(0) ack 1");
    assert_eq!(t.state(), TcpStateName::Established);
    t.write(10);
    t.expect(&["P. 1:11(10) ack 1"]);
}

#[test]
fn simultaneous_open_with_crossing_syn_acks() {
    let mut t = Peer::connecting(Config::default());
    t.expect(&["S 0:0(0)"]);
    t.push("S 0:0(0) win 5000 <mss 1000>");
    t.expect(&["S. 0:0(0) ack 1"]);
    t.push("S. 0:0(0) ack 1 win 5000 <mss 1000>");
    assert_eq!(t.state(), TcpStateName::Established);
}

#[test]
fn the_syn_ack_is_sent_again() {
    let mut t = Peer::listening(Config::default(), 5);
    t.push("S 0:0(0) win 1000 <mss 1460>");
    t.expect(&["S. 0:0(0) ack 1"]);
    t.wait(1001);
    t.expect(&["S. 0:0(0) ack 1"]);
    t.push("S 0:0(0) win 1000 <mss 1460>");
    t.wait(600);
    t.sent();
    t.push("S 0:0(0) win 1000 <mss 1460>");
    t.expect(&["S. 0:0(0) ack 1"]);
}

#[test]
fn half_open_connections_are_given_up() {
    let mut config = Config::default();
    config.tcp.synack_retries = 2;
    let mut t = Peer::listening(config, 5);
    t.push("S 0:0(0) win 1000 <mss 1460>");
    t.wait(60_000);
    assert_eq!(t.sent().len(), 3);
    assert_eq!(t.listener.as_ref().unwrap().info().unacked, 0);
    t.push(". 1:1(0) ack 1");
    t.expect(&["R 1:1(0)"]);
}

#[test]
fn data_with_the_third_segment() {
    let mut t = Peer::listening(Config::default(), 5);
    t.push("S 0:0(0) win 1000 <mss 1460>");
    t.expect(&["S. 0:0(0) ack 1"]);
    t.push("P. 1:101(100) ack 1");
    t.socket = Some(t.listener.as_ref().unwrap().accept().unwrap().0);
    assert_eq!(t.read(1000), Ok(100));
}

#[test]
fn a_wrong_third_segment_is_reset_and_the_handshake_goes_on() {
    let mut t = Peer::listening(Config::default(), 5);
    t.push("S 0:0(0) win 1000 <mss 1460>");
    t.expect(&["S. 0:0(0) ack 1"]);
    t.push(". 1:1(0) ack 7");
    t.expect(&["R 7:7(0)"]);
    t.push(". 1:1(0) ack 1");
    assert!(t.listener.as_ref().unwrap().accept().is_ok());
}

#[test]
fn a_reset_ends_a_half_open_connection() {
    let mut t = Peer::listening(Config::default(), 5);
    t.push("S 0:0(0) win 1000 <mss 1460>");
    t.expect(&["S. 0:0(0) ack 1"]);
    t.push("R 5:5(0)");
    assert_eq!(t.listener.as_ref().unwrap().info().unacked, 1, "not at any number");
    t.push("R 1:1(0)");
    assert_eq!(t.listener.as_ref().unwrap().info().unacked, 0);
}

#[test]
fn closed_ports_are_reset() {
    let mut t = Peer::new(Config::default());
    t.push("S 0:0(0) win 1000");
    t.expect(&["R. 0:0(0) ack 1"]);
    t.push(". 5:5(0) ack 9");
    t.expect(&["R 9:9(0)"]);
    t.push("R 5:5(0)");
    t.expect(&[]);
}

#[test]
fn the_default_mss_is_536() {
    let mut t = Peer::accepted_with(Config::default(), "S 0:0(0) win 65535");
    t.write(600);
    t.expect(&[". 1:537(536) ack 1", "P. 537:601(64) ack 1"]);
}

#[test]
fn initial_sequence_numbers_differ_by_connection_and_grow_with_time() {
    let mut t = Peer::listening(Config::default(), 5);
    let iss = |t: &mut Peer, port| {
        t.ports.0 = port;
        t.iss = None;
        t.push("S 0:0(0) win 1000");
        t.take().header.seq
    };
    let a = iss(&mut t, 1000);
    let b = iss(&mut t, 1001);
    assert!(a.0.abs_diff(b.0) > 1000);
    t.push("R 1:1(0)");
    t.wait(100);
    let c = iss(&mut t, 1001);
    assert!(c.after(b));
}

#[test]
fn window_scaling_counts_behind_the_handshake() {
    let t = Peer::accepted_with(Config::default(), "S 0:0(0) win 100 <mss 1000, ws 4>");
    assert_eq!(t.s().info().snd_wnd, 1600);
    assert_eq!(t.s().info().shifts.1, 4);
}

#[test]
fn a_window_shift_above_fourteen_counts_as_fourteen() {
    let t = Peer::accepted_with(Config::default(), "S 0:0(0) win 1 <mss 1000, ws 20>");
    assert_eq!(t.s().info().shifts.1, 14);
}

#[test]
fn a_syn_with_fin_is_dropped() {
    let mut t = Peer::listening(Config::default(), 5);
    t.push("SF 0:0(0) win 1000");
    t.expect(&[]);
}
