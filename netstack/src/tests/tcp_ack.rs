//! Acknowledgements: delayed, immediate, selective (RFC 1122, section 4.2.3.2; RFC 5681, section 4.2; RFC
//! 2018; RFC 2883).

use super::peer::*;

/// An established connection that is past the eager acknowledgements of its start.
fn settled() -> Peer {
    let mut t = Peer::accepted();
    // The application answers, so that acknowledgements wait for its data.
    t.push("P. 1:2(1) ack 1");
    assert_eq!(t.read(10), Ok(1));
    t.sent();
    t.write(1);
    t.push(". 2:2(0) ack 2");
    t.sent();
    t
}

#[test]
fn at_the_start_every_segment_is_acknowledged() {
    let mut t = Peer::accepted();
    t.push("P. 1:101(100) ack 1");
    t.expect(&[". 1:1(0) ack 101"]);
    t.push("P. 101:201(100) ack 1");
    t.expect(&[". 1:1(0) ack 201"]);
}

#[test]
fn later_acknowledgements_wait_forty_milliseconds() {
    let mut t = settled();
    t.push("P. 2:102(100) ack 2");
    t.expect(&[]);
    t.wait(39);
    t.expect(&[]);
    t.wait(2);
    t.expect(&[". 2:2(0) ack 102"]);
}

#[test]
fn every_second_full_segment_is_acknowledged_at_once() {
    let mut t = settled();
    t.push(". 2:1002(1000) ack 2");
    t.expect(&[]);
    t.push(". 1002:2002(1000) ack 2");
    t.expect(&[". 2:2(0) ack 2002"]);
}

#[test]
fn data_carries_the_acknowledgement() {
    let mut t = settled();
    t.push("P. 2:102(100) ack 2");
    t.write(5);
    t.expect(&["P. 2:7(5) ack 102"]);
    t.push(". 102:102(0) ack 7");
    t.wait(100);
    t.expect(&[]);
}

#[test]
fn quickack_does_not_wait() {
    let mut t = settled();
    t.s().set_options(crate::TcpOptions { quickack: true, ..t.s().options() });
    t.push("P. 2:102(100) ack 2");
    t.expect(&[". 2:2(0) ack 102"]);
}

#[test]
fn out_of_order_data_is_reported_at_once() {
    let mut t = settled();
    t.push("P. 102:202(100) ack 2");
    t.expect(&[". 2:2(0) ack 2 <sack 102-202>"]);
    t.push("P. 302:402(100) ack 2");
    t.expect(&[". 2:2(0) ack 2 <sack 302-402 102-202>"]);
    t.push("P. 202:302(100) ack 2");
    t.expect(&[". 2:2(0) ack 2 <sack 102-402>"]);
    t.push("P. 2:102(100) ack 2");
    t.expect(&[". 2:2(0) ack 402"]);
    assert_eq!(t.read(1000), Ok(400));
}

#[test]
fn filling_part_of_a_hole_is_acknowledged_at_once() {
    let mut t = settled();
    t.push("P. 202:302(100) ack 2");
    t.sent();
    t.push("P. 2:102(100) ack 2");
    t.expect(&[". 2:2(0) ack 102 <sack 202-302>"]);
}

#[test]
fn four_blocks_without_time_stamps_three_with() {
    for (syn, ts, want) in [
        ("S 0:0(0) win 65535 <mss 1000, sackok>", "", 4),
        ("S 0:0(0) win 65535 <mss 1000, sackok, ts 100 0>", " <ts 102 0>", 3),
    ] {
        let t = Peer::accepted_with(crate::Config::default(), syn);
        for n in 0..6 {
            let at = 101 + n * 200;
            t.push(&format!("P. {at}:{}(100) ack 1{ts}", at + 100));
        }
        let last = t.b.packets().pop().unwrap();
        let s = crate::wire::tcp::Segment::parse(&last.payload).unwrap();
        assert_eq!(s.header.options.sack().len(), want);
    }
}

#[test]
fn without_sack_there_are_no_blocks() {
    let mut t = Peer::accepted_with(crate::Config::default(), "S 0:0(0) win 65535 <mss 1000>");
    t.push("P. 101:201(100) ack 1");
    t.expect(&[". 1:1(0) ack 1"]);
}

#[test]
fn duplicates_are_reported() {
    let mut t = settled();
    t.push("P. 2:102(100) ack 2");
    t.wait(50);
    t.sent();
    t.push("P. 2:102(100) ack 2");
    t.expect(&[". 2:2(0) ack 102 <sack 2-102>"]);
    t.push("P. 102:103(1) ack 2");
    t.expect(&[". 2:2(0) ack 103"]);
}

#[test]
fn duplicates_of_out_of_order_data_are_reported_within_their_block() {
    let mut t = settled();
    t.push("P. 102:302(200) ack 2");
    t.sent();
    t.push("P. 202:302(100) ack 2");
    t.expect(&[". 2:2(0) ack 2 <sack 202-302 102-302>"]);
}

#[test]
fn overlapping_segments_give_the_new_part() {
    let t = settled();
    t.push("P. 2:102(100) ack 2");
    t.push("P. 52:202(150) ack 2");
    let mut buf = [0; 300];
    assert_eq!(t.s().recv(&mut buf), Ok(200));
    let want: Vec<u8> = (2..202u32).map(|n| n as u8).collect();
    assert_eq!(&buf[..200], &want[..]);
}

#[test]
fn pure_acknowledgements_are_not_acknowledged() {
    let mut t = settled();
    t.push(". 2:2(0) ack 2");
    t.push(". 2:2(0) ack 2 win 5000");
    t.wait(500);
    t.expect(&[]);
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_challenged() {
    let mut t = settled();
    t.push(". 2:2(0) ack 5000");
    t.expect(&[". 2:2(0) ack 2"]);
    t.push("P. 2:102(100) ack 5000");
    assert!(t.read(10).is_err(), "and their data is not taken");
}

#[test]
fn very_old_acknowledgements_are_challenged() {
    let mut t = settled();
    t.wait(1000);
    let old = 2u32.wrapping_sub(200_000);
    t.push(&format!("P. 2:102(100) ack {old}"));
    t.expect(&[". 2:2(0) ack 2"]);
    assert!(t.read(10).is_err());
}

#[test]
fn data_outside_the_window_is_answered_and_dropped() {
    let mut t = settled();
    t.push("P. 900002:900102(100) ack 2");
    t.expect(&[". 2:2(0) ack 2"]);
    assert!(t.read(10).is_err());
}

#[test]
fn empty_segments_outside_the_window_are_answered_twice_a_second_at_most() {
    let mut t = settled();
    for _ in 0..10 {
        t.push(". 900002:900002(0) ack 2");
    }
    t.expect(&[". 2:2(0) ack 2"]);
    t.wait(500);
    t.push(". 900002:900002(0) ack 2");
    t.expect(&[". 2:2(0) ack 2"]);
}

#[test]
fn segments_without_ack_are_dropped() {
    let mut t = settled();
    t.push("P 2:102(100)");
    t.expect(&[]);
    assert!(t.read(10).is_err());
}

#[test]
fn sequence_numbers_wrap() {
    // The peer starts sixteen numbers before the wrap.
    let t = settled();
    for n in 0..10 {
        let at = 2 + n * 100;
        t.push(&format!("P. {at}:{}(100) ack 2", at + 100));
    }
    assert_eq!(t.read(5000), Ok(1000));
}
