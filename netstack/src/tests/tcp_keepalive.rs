//! Keep-alive (RFC 9293, section 3.8.4).

use super::peer::*;
use crate::*;
use std::time::Duration;

fn kept() -> Peer {
    let t = Peer::accepted();
    let secs = Duration::from_secs;
    t.s().set_options(TcpOptions {
        keepalive: true,
        keep: (secs(10), secs(2), 3),
        ..t.s().options()
    });
    t
}

#[test]
fn idle_connections_are_probed_and_given_up() {
    let mut t = kept();
    t.wait(9_900);
    t.expect(&[]);
    t.wait(200);
    t.expect(&[". 0:0(0) ack 1"]);
    t.wait(2_000);
    t.expect(&[". 0:0(0) ack 1"]);
    t.wait(2_000);
    t.expect(&[". 0:0(0) ack 1"]);
    t.wait(2_000);
    t.expect(&["R. 1:1(0) ack 1"]);
    assert_eq!(t.s().take_error(), Some(Error::TimedOut));
}

#[test]
fn an_answer_starts_the_time_anew() {
    let mut t = kept();
    t.wait(10_100);
    t.expect(&[". 0:0(0) ack 1"]);
    t.push(". 1:1(0) ack 1");
    t.wait(9_900);
    t.expect(&[]);
    t.wait(200);
    t.expect(&[". 0:0(0) ack 1"]);
    assert_eq!(t.state(), TcpStateName::Established);
}

#[test]
fn traffic_keeps_it_quiet() {
    let mut t = kept();
    for n in 0..5u32 {
        t.wait(8_000);
        t.push(&format!("P. {}:{}(1) ack 1", n + 1, n + 2));
        t.sent();
    }
    assert_eq!(t.b.stack.stats().tcp_keepalive.get(), 0);
}

#[test]
fn without_the_option_nothing_is_probed() {
    let mut t = Peer::accepted();
    t.wait(100_000_000);
    t.expect(&[]);
}

#[test]
fn a_peer_that_forgot_resets() {
    let mut t = kept();
    t.wait(10_100);
    t.sent();
    t.push("R 1:1(0)");
    assert_eq!(t.s().take_error(), Some(Error::ConnectionReset));
}

#[test]
fn our_side_answers_probes() {
    let mut t = Peer::accepted();
    t.push(". 0:0(0) ack 1");
    t.expect(&[". 1:1(0) ack 1"]);
}
