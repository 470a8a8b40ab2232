//! Blocks that no program would make must be refused or run, but never harm.

use super::blob::{self, Given, Layout, V4, V6};
use super::tables::KINDS;

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

fn copy(given: &Given) -> Given {
    let Given { hooks, count, starts, ends, .. } = *given;
    Given { hooks, count, starts, ends, entries: given.entries.clone() }
}

fn try_all(layout: &'static Layout) {
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for kind in &KINDS {
        let initial = blob::initial(layout, kind.hooks);
        let same = |id, _| Some(id);
        let compiled = blob::compile(layout, kind, copy(&initial), &same).unwrap();
        assert!(compiled.idle);
        for _ in 0..4000 {
            let mut given = copy(&initial);
            for _ in 0..=dice.roll(6) {
                match dice.roll(10) {
                    0 => given.count = dice.roll(9) as u32,
                    1 => given.starts[dice.roll(5)] = dice.roll(900) as u32,
                    2 => given.ends[dice.roll(5)] = dice.roll(900) as u32,
                    3 => given.entries.truncate(dice.roll(900)),
                    _ => {
                        let at = dice.roll(given.entries.len());
                        if let Some(byte) = given.entries.get_mut(at) {
                            *byte = dice.roll(256) as u8;
                        }
                    }
                }
            }
            if let Ok(compiled) = blob::compile(layout, kind, given, &same) {
                assert!(compiled.table.is_sound());
                assert_eq!(compiled.counters.len(), compiled.given.count as usize);
            }
        }
    }
}

#[test]
fn damaged_blocks_are_refused_or_sound() {
    try_all(&V4);
    try_all(&V6);
}
