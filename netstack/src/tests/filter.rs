//! The packet filter: rules, connections and translation on packets.

use crate::filter::conntrack::Tuple;
use crate::filter::matches::{Connection, Match, Within, state};
use crate::filter::nat::{Manip, Range};
use crate::filter::op::{Nat, NatRange, Op};
use crate::filter::packet::{Ends, Packet};
use crate::filter::table::{Base, Chain, ChainKind, Rule, Table, Verdict};
use crate::filter::{AddressType, Fate, Filter, Hook, Surroundings};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

struct Around;

impl Surroundings for Around {
    fn address_type(&self, ip: IpAddr) -> AddressType {
        if ip.is_loopback() { AddressType::Local } else { AddressType::Unicast }
    }

    fn device_address(&self, _device: u32, _to: IpAddr) -> Option<IpAddr> {
        "10.0.0.9".parse().ok()
    }

    fn random(&self) -> u32 {
        7
    }

    fn log(&self, _line: &str) {}
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn packet(from: &str, to: &str, protocol: u8, detail: u16) -> Packet {
    Packet::build(&Ends { from: at(from), to: at(to), protocol, detail }, 64, 0, b"data", 1)
        .unwrap()
}

fn filter(hook: Hook, kind: ChainKind, accept: bool, rules: Vec<Vec<Op>>) -> Filter {
    let rules = rules.into_iter().map(|ops| Arc::new(Rule { ops })).collect();
    let base = Some(Base { hook, priority: 0, kind, accept, counter: None });
    let chains = vec![Chain { name: "c".into(), base, rules }];
    let filter = Filter::default();
    let table = Table { name: "t".into(), v4: true, v6: true, chains };
    filter.replace(|_| true, vec![((0, 0), Arc::new(table))]);
    filter
}

fn connection(bits: u32) -> Op {
    let state = Some((bits, false));
    Op::Match(Match::Connection(Box::new(Connection { state, ..Connection::default() })))
}

#[test]
fn nothing_is_asked_without_rules() {
    let filter = Filter::default();
    assert!(!filter.is_active());
    let mut p = packet("10.0.0.1:1", "10.0.0.2:2", 17, 0);
    assert_eq!(filter.pass(Hook::Input, &mut p, &Around), Fate::Accept);
    assert_eq!(filter.conntrack.count(), 0);
}

#[test]
fn answers_are_established() {
    let accept = vec![connection(state::ESTABLISHED), Op::Verdict(Verdict::Accept)];
    let filter = filter(Hook::Input, ChainKind::Filter, false, vec![accept]);
    let mut out = packet("10.0.0.1:1000", "10.0.0.2:53", 17, 0);
    assert_eq!(filter.pass(Hook::Output, &mut out, &Around), Fate::Accept);
    assert_eq!(filter.pass(Hook::Postrouting, &mut out, &Around), Fate::Accept);
    let mut other = packet("10.0.0.3:53", "10.0.0.1:1000", 17, 0);
    filter.pass(Hook::Prerouting, &mut other, &Around);
    assert_eq!(filter.pass(Hook::Input, &mut other, &Around), Fate::Drop(None));
    let mut answer = packet("10.0.0.2:53", "10.0.0.1:1000", 17, 0);
    filter.pass(Hook::Prerouting, &mut answer, &Around);
    assert_eq!(filter.pass(Hook::Input, &mut answer, &Around), Fate::Accept);
    assert_eq!(filter.conntrack.count(), 1);
}

#[test]
fn a_syn_ack_out_of_nowhere_is_invalid() {
    let drop = vec![connection(state::INVALID), Op::Verdict(Verdict::Drop)];
    let filter = filter(Hook::Input, ChainKind::Filter, true, vec![drop]);
    let mut p = packet("10.0.0.2:80", "10.0.0.1:1000", 6, 0x12);
    filter.pass(Hook::Prerouting, &mut p, &Around);
    assert_eq!(filter.pass(Hook::Input, &mut p, &Around), Fate::Drop(None));
    let mut p = packet("10.0.0.2:80", "10.0.0.1:1000", 6, 0x02);
    filter.pass(Hook::Prerouting, &mut p, &Around);
    assert_eq!(filter.pass(Hook::Input, &mut p, &Around), Fate::Accept);
}

#[test]
fn a_destination_is_translated_and_its_answers_back() {
    let to: IpAddr = "10.0.0.7".parse().unwrap();
    let range = Range { addresses: Some((to, to)), ports: Some((8080, 8080)), random: false };
    let port = |n| Within { range: (n, n), inverted: false };
    let any = Within { range: (0, u16::MAX), inverted: false };
    let rule = vec![
        Op::Match(Match::Udp(any, port(53))),
        Op::Nat(Nat::To(Manip::Destination), NatRange::Fixed(range)),
    ];
    let filter = filter(Hook::Output, ChainKind::Nat, true, vec![rule]);
    for _ in 0..2 {
        let mut out = packet("10.0.0.1:1000", "10.0.0.2:53", 17, 0);
        filter.pass(Hook::Output, &mut out, &Around);
        filter.pass(Hook::Postrouting, &mut out, &Around);
        assert_eq!(out.ends(), (at("10.0.0.1:1000"), at("10.0.0.7:8080")));
    }
    let mut answer = packet("10.0.0.7:8080", "10.0.0.1:1000", 17, 0);
    filter.pass(Hook::Prerouting, &mut answer, &Around);
    filter.pass(Hook::Input, &mut answer, &Around);
    assert_eq!(answer.ends(), (at("10.0.0.2:53"), at("10.0.0.1:1000")));
    let tuple = Tuple { from: at("10.0.0.7:8080"), to: at("10.0.0.1:1000"), protocol: 17 };
    let (entry, reply) = filter.conntrack.find(&tuple, 1).unwrap();
    assert_eq!((entry.original.to, reply), (at("10.0.0.2:53"), true));
}

#[test]
fn two_connections_do_not_share_a_translated_source() {
    let rule = vec![Op::Nat(Nat::Masquerade, NatRange::Fixed(Range::default()))];
    let filter = filter(Hook::Postrouting, ChainKind::Nat, true, vec![rule]);
    let mut ports = Vec::new();
    for from in ["10.0.0.1:1000", "10.0.0.2:1000"] {
        let mut out = packet(from, "10.9.9.9:53", 17, 0);
        filter.pass(Hook::Output, &mut out, &Around);
        assert_eq!(filter.pass(Hook::Postrouting, &mut out, &Around), Fate::Accept);
        assert_eq!(out.source(), "10.0.0.9".parse::<IpAddr>().unwrap());
        ports.push(out.ends().0.port());
    }
    assert_eq!(ports.first(), Some(&1000));
    assert_ne!(ports.first(), ports.last());
}

#[test]
fn an_error_is_related_and_its_quotation_translated() {
    let to: IpAddr = "10.0.0.7".parse().unwrap();
    let range = Range { addresses: Some((to, to)), ..Range::default() };
    let rule = vec![Op::Nat(Nat::To(Manip::Destination), NatRange::Fixed(range))];
    let filter = filter(Hook::Output, ChainKind::Nat, true, vec![rule]);
    let mut out = packet("10.0.0.1:1000", "10.0.0.2:53", 17, 0);
    filter.pass(Hook::Output, &mut out, &Around);
    filter.pass(Hook::Postrouting, &mut out, &Around);
    let error = Ends { from: at("10.0.0.7:0"), to: at("10.0.0.1:0"), protocol: 1, detail: 0x303 };
    let mut error = Packet::build(&error, 64, 0, out.bytes(), 1).unwrap();
    filter.pass(Hook::Prerouting, &mut error, &Around);
    assert_eq!(crate::filter::matches::state_of(&error), state::RELATED);
    filter.pass(Hook::Input, &mut error, &Around);
    let quoted = error.transport().get(8..).unwrap().to_vec();
    let quoted = Packet::parse(quoted, 1).unwrap();
    assert_eq!(quoted.ends(), (at("10.0.0.1:1000"), at("10.0.0.2:53")));
    assert_eq!(error.source(), "10.0.0.2".parse::<IpAddr>().unwrap());
}

#[test]
fn a_full_table_lets_go_of_what_nobody_answered() {
    let drop = vec![connection(state::INVALID), Op::Verdict(Verdict::Drop)];
    let filter = filter(Hook::Input, ChainKind::Filter, true, vec![drop]);
    filter.conntrack.set_max(10);
    for n in 1..100 {
        let mut out = packet(&format!("10.0.0.1:{n}"), "10.0.0.2:53", 17, 0);
        filter.pass(Hook::Output, &mut out, &Around);
        assert_eq!(filter.pass(Hook::Postrouting, &mut out, &Around), Fate::Accept);
        assert!(filter.conntrack.count() <= 10);
    }
}

#[test]
fn chains_that_loop_are_not_sound() {
    let chain = |to| {
        let ops = vec![Op::Verdict(Verdict::Jump(to))];
        let (hook, kind) = (Hook::Input, ChainKind::Filter);
        let base = Some(Base { hook, priority: 0, kind, accept: true, counter: None });
        Chain { name: "c".into(), base, rules: vec![Arc::new(Rule { ops })] }
    };
    let table = |chains| Table { name: "t".into(), v4: true, v6: false, chains };
    let leaf = || Chain { name: "c".into(), base: None, rules: Vec::new() };
    assert!(!table(vec![chain(1), chain(0)]).is_sound());
    assert!(!table(vec![chain(0)]).is_sound());
    assert!(!table(vec![chain(5)]).is_sound());
    assert!(table(vec![chain(1), leaf()]).is_sound());
    let deep = |n: usize| table((1..=n).map(chain).chain([leaf()]).collect());
    assert!(deep(16).is_sound());
    assert!(!deep(17).is_sound());
}

proptest::proptest! {
    #[test]
    fn no_bytes_harm(bytes: Vec<u8>, head in 0u8..4) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = [0x45, 0x60, 0x4f, 0x46][usize::from(head)];
        }
        let Some(mut p) = Packet::parse(bytes, 1) else { return Ok(()) };
        let rule = vec![connection(state::NEW), Op::Nat(Nat::Redirect, NatRange::Fixed(Range::default()))];
        let filter = filter(Hook::Prerouting, ChainKind::Nat, true, vec![rule]);
        filter.pass(Hook::Prerouting, &mut p, &Around);
        filter.pass(Hook::Input, &mut p, &Around);
    }
}
