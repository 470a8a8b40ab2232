//! Flow control (RFC 9293, section 3.8.6; RFC 1122, section 4.2.3.4; RFC 7323, section 2).

use super::peer::*;
use crate::*;

fn buffered(rcvbuf: usize) -> Peer {
    let mut t = Peer::listening(Config::default(), 5);
    let l = t.listener.as_ref().unwrap();
    l.set_options(TcpOptions { rcvbuf: Some(rcvbuf), ..l.options() });
    t.handshake("S 0:0(0) win 65535 <mss 1000, sackok>");
    t
}

#[test]
fn the_window_shrinks_with_unread_data() {
    let mut t = buffered(10_000);
    t.push("P. 1:1001(1000) ack 1");
    assert_eq!(t.take().header.window, 9000);
    t.push("P. 1001:2001(1000) ack 1");
    assert_eq!(t.take().header.window, 8000);
}

#[test]
fn the_window_closes_and_opens_when_read() {
    let mut t = buffered(4000);
    for n in 0..4 {
        t.push(&format!("P. {}:{}(1000) ack 1", 1 + n * 1000, 1001 + n * 1000));
    }
    let last = t.b.packets().pop().unwrap();
    let s = wire::tcp::Segment::parse(&last.payload).unwrap();
    assert_eq!(s.header.window, 0);
    assert_eq!(t.read(500), Ok(500));
    t.expect(&[]);
    assert_eq!(t.read(1600), Ok(1600));
    let update = t.take();
    assert_eq!((update.text.as_str(), update.header.window), (". 1:1(0) ack 4001", 2100));
}

#[test]
fn data_beyond_the_window_is_cut_off() {
    let t = buffered(2048);
    t.push("P. 1:2001(2000) ack 1");
    t.push("P. 2001:3001(1000) ack 1");
    assert_eq!(t.read(9000), Ok(2048));
}

/// A connection with windows in units of 4 bytes and a buffer of 200,001, of which all but 200 were used.
fn nearly_full() -> Peer {
    let mut t = Peer::listening(Config::default(), 5);
    let l = t.listener.as_ref().unwrap();
    l.set_options(TcpOptions { rcvbuf: Some(200_001), ..l.options() });
    t.handshake("S 0:0(0) win 65535 <mss 1000, sackok, ws 2>");
    for n in 0..199 {
        t.push(&format!("P. {}:{}(1000) ack 1", 1 + n * 1000, 1001 + n * 1000));
    }
    t.push("P. 199001:199801(800) ack 1");
    t
}

#[test]
fn a_window_that_was_rounded_up_holds() {
    let mut t = nearly_full();
    let said = t.b.packets().pop().unwrap();
    let said = wire::tcp::Segment::parse(&said.payload).unwrap();
    assert_eq!(said.header.window, 51, "201 bytes in units of 4");
    t.push("P. 199801:200005(204) ack 1");
    t.wait(50);
    let a = t.take();
    assert_eq!((a.text.as_str(), a.header.window), (". 1:1(0) ack 200005", 0));
    assert_eq!(t.read(300_000), Ok(200_004));
}

#[test]
fn rounding_up_does_not_move_the_edge() {
    let t = nearly_full();
    for n in 199_801..200_401 {
        t.push(&format!("P. {n}:{}(1) ack 1", n + 1));
    }
    assert_eq!(t.read(300_000), Ok(200_004));
}

#[test]
fn probes_of_a_closed_window_are_answered() {
    let mut t = buffered(2048);
    t.push("P. 1:2049(2048) ack 1");
    t.sent();
    t.push("P. 2049:2050(1) ack 1");
    let a = t.take();
    assert_eq!((a.text.as_str(), a.header.window), (". 1:1(0) ack 2049", 0));
}

#[test]
fn the_right_edge_never_moves_back() {
    let mut t = buffered(20_000);
    t.push("P. 1:101(100) ack 1");
    let edge = |t: &mut Peer| {
        let h = t.take().header;
        h.ack + u32::from(h.window)
    };
    let before = edge(&mut t);
    t.s().set_options(TcpOptions { rcvbuf: Some(4096), ..t.s().options() });
    t.push("P. 101:201(100) ack 1");
    assert!(!edge(&mut t).before(before));
}

#[test]
fn the_senders_window_is_respected() {
    let mut t = Peer::accepted_with(Config::default(), "S 0:0(0) win 2500 <mss 1000>");
    t.write(5000);
    // Half of the largest window ever seen: pushed, so that the reader makes room.
    t.expect(&[". 1:1001(1000) ack 1", "P. 1001:2001(1000) ack 1"]);
    t.push(". 1:1(0) ack 2001 win 2500");
    t.expect(&[". 2001:3001(1000) ack 1", "P. 3001:4001(1000) ack 1"]);
}

#[test]
fn a_closed_window_is_probed_with_backoff() {
    let mut t = Peer::accepted();
    t.write(1000);
    t.expect(&["P. 1:1001(1000) ack 1"]);
    t.push(". 1:1(0) ack 1001 win 0");
    t.write(500);
    t.expect(&[]);
    t.wait(205);
    t.expect(&[". 1000:1000(0) ack 1"]);
    t.push(". 1:1(0) ack 1001 win 0");
    t.wait(395);
    t.expect(&[]);
    t.wait(10);
    t.expect(&[". 1000:1000(0) ack 1"]);
    t.push(". 1:1(0) ack 1001 win 5000");
    t.expect(&["P. 1001:1501(500) ack 1"]);
}

#[test]
fn answered_probes_go_on_for_ever() {
    let mut t = Peer::accepted();
    t.write(1000);
    t.push(". 1:1(0) ack 1001 win 0");
    t.write(500);
    for _ in 0..30 {
        t.wait(130_000);
        assert!(!t.sent().is_empty());
        t.push(". 1:1(0) ack 1001 win 0");
    }
    assert_eq!(t.state(), TcpStateName::Established);
}

#[test]
fn unanswered_probes_end_the_connection() {
    let t = Peer::accepted();
    t.write(1000);
    t.push(". 1:1(0) ack 1001 win 0");
    t.write(500);
    t.wait(3_600_000);
    assert_eq!(t.state(), TcpStateName::Closed);
    assert_eq!(t.s().take_error(), Some(Error::TimedOut));
}

#[test]
fn small_openings_are_not_used() {
    let mut t = Peer::accepted();
    t.write(1000);
    t.push(". 1:1(0) ack 1001 win 0");
    t.sent();
    t.write(1000);
    t.push(". 1:1(0) ack 1001 win 100");
    t.expect(&[]);
    t.push(". 1:1(0) ack 1001 win 1000");
    t.expect(&["P. 1001:2001(1000) ack 1"]);
}

#[test]
fn a_small_opening_is_used_when_nothing_better_comes() {
    let mut t = Peer::accepted();
    t.write(1000);
    t.push(". 1:1(0) ack 1001 win 0");
    t.sent();
    t.write(1000);
    t.push(". 1:1(0) ack 1001 win 100");
    t.wait(2000);
    assert_eq!(t.sent()[0], ". 1001:1101(100) ack 1");
}

#[test]
fn old_segments_do_not_change_the_window() {
    let t = Peer::accepted();
    t.push("P. 1:101(100) ack 1 win 3000");
    t.push(". 1:1(0) ack 1 win 7");
    assert_eq!(t.s().info().snd_wnd, 3000);
}

#[test]
fn the_receive_buffer_grows_with_the_reader() {
    let t = Peer::accepted_with(
        Config::default(),
        "S 0:0(0) win 65535 <mss 1000, sackok, ws 7, ts 100 0>",
    );
    let before = t.s().info().buffers.0;
    let mut at = 1u32;
    for round in 0..30u32 {
        t.wait(20);
        let n = (10 + round * 6).min(120);
        for _ in 0..n {
            // The peer echoes a time stamp of 20 ms ago.
            let echo = ((t.b.now().millis() as u32) - 20).wrapping_add(0);
            let _ = echo;
            t.push(&format!(". {at}:{}(1000) ack 1 <ts {} 0>", at + 1000, 102 + round));
            at += 1000;
        }
        while t.read(1 << 20).is_ok() {}
        t.b.frames();
    }
    let after = t.s().info().buffers.0;
    assert!(after > before, "{before} {after}");
    assert!(after <= Config::default().tcp.rmem.1);
}

#[test]
fn a_fixed_buffer_does_not_grow() {
    let t = buffered(30_000);
    let mut at = 1u32;
    for _ in 0..50 {
        t.wait(20);
        for _ in 0..20 {
            t.push(&format!(". {at}:{}(1000) ack 1", at + 1000));
            at += 1000;
        }
        while t.read(1 << 20).is_ok() {}
    }
    assert_eq!(t.s().info().buffers.0, 30_000);
}

#[test]
fn writing_stops_at_the_send_buffer_and_goes_on_when_it_drains() {
    let t = Peer::accepted();
    t.s().set_options(TcpOptions { sndbuf: Some(20_000), ..t.s().options() });
    assert_eq!(t.s().send(&[0; 50_000]), Ok(20_000));
    assert_eq!(t.s().send(&[0; 1]), Err(Error::WouldBlock));
    assert!(!t.s().readiness().contains(Readiness::OUT));
    t.push(". 1:1(0) ack 10001");
    assert!(t.s().readiness().contains(Readiness::OUT));
    assert_eq!(t.s().send(&[0; 50_000]), Ok(10_000));
}
