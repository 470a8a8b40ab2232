//! Path MTU discovery (RFC 1191, RFC 8201, RFC 5927).

use super::bench::*;
use super::peer::*;
use crate::*;

#[test]
fn segments_are_cut_to_the_path_and_sent_again() {
    let mut t = Peer::accepted_with(Config::default(), "S 0:0(0) win 65535 <mss 1460, sackok>");
    t.write(2920);
    let p = t.b.packets();
    assert_eq!(p.len(), 2);
    t.b.ipv4(1, &icmp4(3, 4, 1000, &p[0].whole[..28]));
    assert_eq!(t.s().info().snd_mss, 960);
    let sent = t.sent();
    assert_eq!(sent[0], "P. 1:961(960) ack 1");
    assert!(sent.iter().all(|s| s.contains("(960)") || s.contains("(500)")), "{sent:?}");
}

#[test]
fn other_connections_learn_of_it() {
    let mut t = Peer::accepted_with(Config::default(), "S 0:0(0) win 65535 <mss 1460>");
    t.write(1460);
    let p = t.b.packet();
    t.b.ipv4(1, &icmp4(3, 4, 1000, &p.whole[..28]));
    t.b.frames();
    t.ports.0 += 1;
    t.iss = None;
    t.handshake("S 0:0(0) win 65535 <mss 1460>");
    assert_eq!(t.s().info().snd_mss, 960);
}

#[test]
fn forged_messages_are_ignored() {
    let t = Peer::accepted_with(Config::default(), "S 0:0(0) win 65535 <mss 1460>");
    t.write(1460);
    let mut quote = t.b.packet().whole[..28].to_vec();
    quote[24] ^= 0x40;
    t.b.ipv4(1, &icmp4(3, 4, 600, &quote));
    assert_eq!(t.s().info().snd_mss, 1460);
}

#[test]
fn the_floor_is_552() {
    let t = Peer::accepted_with(Config::default(), "S 0:0(0) win 65535 <mss 1460>");
    t.write(1460);
    let p = t.b.packet();
    t.b.ipv4(1, &icmp4(3, 4, 68, &p.whole[..28]));
    assert_eq!(t.s().info().snd_mss, 512);
}

#[test]
fn segments_are_not_to_be_fragmented() {
    let t = Peer::accepted();
    t.write(100);
    assert_eq!(t.b.packet().whole[6] & 0x40, 0x40);
}

#[test]
fn it_is_forgotten_after_ten_minutes() {
    let mut t = Peer::accepted_with(Config::default(), "S 0:0(0) win 65535 <mss 1460>");
    t.write(1460);
    let p = t.b.packet();
    t.b.ipv4(1, &icmp4(3, 4, 1000, &p.whole[..28]));
    t.push(". 1:1(0) ack 1461");
    t.wait(601_000);
    t.sent();
    t.write(10);
    assert_eq!(t.s().info().snd_mss, 1460);
}
