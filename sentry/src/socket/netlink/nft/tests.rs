//! Messages that no program would send must be refused or applied, but never harm.

use super::attr::{Attrs, Out};
use super::change::{self, Message};
use super::model::State;
use crate::errno::Errno;

/// A generator of numbers (xorshift), so that failures repeat.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

fn expression(name: &str, fill: impl FnOnce(&mut Out)) -> Out {
    let (mut data, mut out) = (Out::default(), Out::default());
    fill(&mut data);
    out.text(1, name).nest(2, &data);
    out
}

fn value(bytes: &[u8]) -> Out {
    let mut out = Out::default();
    out.put(1, bytes);
    out
}

/// A table with a base chain, another chain, a map of verdicts, and rules that use all of them.
fn messages() -> Vec<(u8, Out)> {
    let mut out = Vec::new();
    let mut add = |kind: u8, fill: &dyn Fn(&mut Out)| {
        let mut attrs = Out::default();
        attrs.text(1, "t");
        fill(&mut attrs);
        out.push((kind, attrs));
    };
    add(0, &|_| {});
    add(3, &|o| {
        o.text(3, "other");
    });
    add(3, &|o| {
        let mut hook = Out::default();
        hook.u32(1, 1).u32(2, 0);
        o.text(3, "input").nest(4, &hook).u32(5, 0).text(7, "filter");
    });
    add(9, &|o| {
        o.text(2, "map").u32(3, 8 | 4).u32(5, 2).u32(6, 0xffff_ff00).u32(7, 16);
    });
    add(12, &|o| {
        let (mut verdict, mut data, mut member) = (Out::default(), Out::default(), Out::default());
        verdict.u32(1, -3i32 as u32).text(2, "other");
        data.nest(2, &verdict);
        member.nest(1, &value(&[0, 22])).nest(2, &data);
        let (mut end, mut list) = (Out::default(), Out::default());
        end.nest(1, &value(&[0, 23])).u32(3, 1);
        list.nest(1, &member).nest(2, &end);
        o.text(2, "map").nest(3, &list);
    });
    add(6, &|o| {
        let mut list = Out::default();
        list.nest(
            1,
            &expression("payload", |d| {
                d.u32(1, 1).u32(2, 2).u32(3, 2).u32(4, 2);
            }),
        );
        list.nest(
            1,
            &expression("bitwise", |d| {
                d.u32(1, 1).u32(2, 1).u32(3, 2);
                d.nest(4, &value(&[255, 255])).nest(5, &value(&[0, 0]));
            }),
        );
        list.nest(
            1,
            &expression("cmp", |d| {
                d.u32(1, 1).u32(2, 1).nest(3, &value(&[0, 9]));
            }),
        );
        list.nest(1, &expression("counter", |_| {}));
        list.nest(
            1,
            &expression("lookup", |d| {
                d.text(1, "map").u32(2, 1).u32(3, 0);
            }),
        );
        o.text(2, "input").nest(4, &list);
    });
    out
}

fn apply(state: &mut State, kind: u8, attrs: &[u8]) -> Result<(), Errno> {
    let (flags, attrs) = (0x400 | 0x800, Attrs::new(attrs));
    change::apply(state, &Message { kind, flags, family: 2, attrs }, &|id, _| Some(id))
}

#[test]
fn what_is_loaded_is_run() {
    let mut state = State::default();
    for (kind, attrs) in messages() {
        apply(&mut state, kind, &attrs.0).unwrap();
    }
    let tables = change::compile(&state, &|id, _| Some(id)).unwrap();
    let [table] = &tables[..] else { panic!("one table") };
    assert_eq!(table.chains.iter().map(|c| c.rules.len()).collect::<Vec<_>>(), [0, 1]);
    let table = &state.tables[0];
    assert_eq!(table.references().get("other"), Some(&1));
}

#[test]
fn a_rule_that_jumps_back_is_refused() {
    let mut state = State::default();
    for (kind, attrs) in messages() {
        apply(&mut state, kind, &attrs.0).unwrap();
    }
    let (mut verdict, mut data) = (Out::default(), Out::default());
    verdict.u32(1, -3i32 as u32).text(2, "other");
    data.nest(2, &verdict);
    let (mut list, mut rule) = (Out::default(), Out::default());
    list.nest(
        1,
        &expression("immediate", |d| {
            d.u32(1, 0).nest(2, &data);
        }),
    );
    rule.text(1, "t").text(2, "other").nest(4, &list);
    apply(&mut state, 6, &rule.0).unwrap();
    assert_eq!(change::compile(&state, &|id, _| Some(id)).err(), Some(Errno::EMLINK));
}

#[test]
fn damaged_messages_do_no_harm() {
    let mut dice = Dice(0x9876_5432_1fed_cba9);
    for _ in 0..3000 {
        let mut state = State::default();
        for (kind, mut attrs) in messages() {
            if dice.roll(3) == 0 {
                for _ in 0..=dice.roll(3) {
                    let at = dice.roll(attrs.0.len());
                    if let Some(byte) = attrs.0.get_mut(at) {
                        *byte = dice.roll(256) as u8;
                    }
                }
            }
            let kind = if dice.roll(20) == 0 { dice.roll(32) as u8 } else { kind };
            let _ = apply(&mut state, kind, &attrs.0);
        }
        change::settle(&mut state);
        if let Ok(tables) = change::compile(&state, &|id, _| Some(id)) {
            assert!(tables.iter().all(|t| t.is_sound()));
        }
    }
}
