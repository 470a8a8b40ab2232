//! Resets and blind attacks (RFC 9293, section 3.10.7; RFC 5961).

use super::peer::*;
use crate::*;

#[test]
fn a_reset_at_the_next_number_ends_the_connection() {
    let t = Peer::accepted();
    t.push("R 1:1(0)");
    assert_eq!(t.state(), TcpStateName::Closed);
    assert_eq!(t.read(10), Err(Error::ConnectionReset));
    assert_eq!(t.read(10), Ok(0), "the error is told once");
    assert_eq!(t.s().send(&[1]), Err(Error::BrokenPipe));
}

#[test]
fn a_reset_elsewhere_in_the_window_is_challenged() {
    let mut t = Peer::accepted();
    t.push("R 100:100(0)");
    t.expect(&[". 1:1(0) ack 1"]);
    assert_eq!(t.state(), TcpStateName::Established);
}

#[test]
fn a_reset_outside_the_window_is_ignored() {
    let mut t = Peer::accepted();
    t.push("R 1000000:1000000(0)");
    t.push("R 4294967000:4294967000(0)");
    t.expect(&[]);
    assert_eq!(t.state(), TcpStateName::Established);
}

#[test]
fn a_syn_in_the_window_is_challenged() {
    let mut t = Peer::accepted();
    t.push("S 100:100(0)");
    t.expect(&[". 1:1(0) ack 1"]);
    t.wait(600);
    t.push("S. 100:100(0) ack 1");
    t.expect(&[". 1:1(0) ack 1"]);
    t.wait(600);
    t.push("S 900000:900000(0)");
    t.expect(&[". 1:1(0) ack 1"]);
    assert_eq!(t.state(), TcpStateName::Established);
}

#[test]
fn challenges_are_limited() {
    let mut t = Peer::accepted();
    for n in 0..100 {
        t.push(&format!("R {0}:{0}(0)", 100 + n));
    }
    assert_eq!(t.sent().len(), 1);
    assert_eq!(t.b.stack.stats().tcp_challenge_ack.get(), 1);
}

#[test]
fn the_whole_stack_has_a_limit_of_challenges() {
    let mut config = Config::default();
    config.tcp.challenge_acks = 3;
    let mut t = Peer::listening(config, 100);
    let mut sockets = Vec::new();
    for port in 0..10 {
        t.ports.0 = 5000 + port;
        t.iss = None;
        t.handshake("S 0:0(0) win 1000");
        sockets.push(t.socket.take());
        t.push("R 100:100(0)");
    }
    assert_eq!(t.b.stack.stats().tcp_challenge_ack.get(), 3);
}

#[test]
fn a_reset_in_close_wait_is_a_broken_pipe() {
    let t = Peer::accepted();
    t.push("F. 1:1(0) ack 1");
    t.push("R 2:2(0)");
    assert_eq!(t.s().take_error(), Some(Error::BrokenPipe));
}

#[test]
fn received_data_is_readable_before_the_error() {
    let t = Peer::accepted();
    t.push("P. 1:101(100) ack 1");
    t.push("R 101:101(0)");
    assert_eq!(t.read(1000), Ok(100));
    assert_eq!(t.read(1000), Err(Error::ConnectionReset));
}

#[test]
fn abort_resets() {
    let mut t = Peer::accepted();
    t.s().abort();
    t.expect(&["R. 1:1(0) ack 1"]);
    assert_eq!(t.s().take_error(), Some(Error::ConnectionAborted));
}

#[test]
fn the_waker_hears_of_a_reset() {
    struct W(parking_lot::Mutex<Readiness>);
    impl Waker for W {
        fn wake(&self, events: Readiness) {
            *self.0.lock() |= events;
        }
    }
    let t = Peer::accepted();
    let w = std::sync::Arc::new(W(parking_lot::Mutex::default()));
    t.s().set_waker(Some(w.clone()));
    t.push("P. 1:2(1) ack 1");
    assert_eq!(*w.0.lock(), Readiness::IN);
    t.push("R 2:2(0)");
    assert!(w.0.lock().contains(Readiness::ERR | Readiness::HUP));
}

#[test]
fn unreachable_messages_do_not_end_established_connections() {
    use super::bench::*;
    let mut t = Peer::accepted();
    t.write(100);
    let p = t.b.packet();
    t.b.ipv4(1, &icmp4(3, 1, 0, &p.whole[..28]));
    assert_eq!(t.state(), TcpStateName::Established);
    assert!(t.s().take_error().is_none());
    t.wait(2_000_000);
    t.sent();
    assert_eq!(t.s().take_error(), Some(Error::HostUnreachable), "but explain the end");
}

#[test]
fn unreachable_messages_end_attempts() {
    use super::bench::*;
    let t = Peer::connecting(Config::default());
    let p = t.b.packet();
    t.b.ipv4(1, &icmp4(3, 3, 0, &p.whole[..28]));
    assert_eq!(t.s().take_error(), Some(Error::ConnectionRefused));
}

#[test]
fn messages_about_numbers_that_were_not_sent_are_ignored() {
    use super::bench::*;
    let t = Peer::connecting(Config::default());
    let mut quote = t.b.packet().whole[..28].to_vec();
    quote[24] ^= 0x40;
    t.b.ipv4(1, &icmp4(3, 3, 0, &quote));
    assert_eq!(t.state(), TcpStateName::SynSent);
}
