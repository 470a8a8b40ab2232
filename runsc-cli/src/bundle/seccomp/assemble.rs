//! Classic BPF as `seccomp(2)` takes it, written down.

use oci_spec::runtime::LinuxSeccompOperator as Operator;
use sentry::boot::FilterInstruction;
use sentry::bpf::op::{
    AND, IF_EQUAL, IF_GREATER, IF_GREATER_OR_EQUAL, JUMP, LOAD_WORD as LOAD, RETURN,
};

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Index of the argument, 0 to 5.
    pub argument: u8,
    /// How it is compared, without signs.
    pub operator: Operator,
    /// What counts of it; everything, but for `MASKED_EQ`.
    pub mask: u64,
    /// What it is compared with.
    pub value: u64,
}

/// Where a test leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// To the next instruction.
    Next,
    /// The condition holds.
    Holds,
    /// It does not.
    Fails,
}

/// A program that is being written.
#[derive(Default)]
pub struct Assembler(Vec<FilterInstruction>);

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.0.push(FilterInstruction { code, jt, jf, k });
    }

    /// Loads the call's number.
    pub fn load_number(&mut self) {
        self.push(LOAD, 0, 0, 0);
    }

    /// Keeps those bits of what is loaded.
    pub fn and(&mut self, mask: u32) {
        self.push(AND, 0, 0, mask);
    }

    /// Ends with a value if what is loaded is not below `from`.
    pub fn refuse_from(&mut self, from: u32, value: u32) {
        self.push(IF_GREATER_OR_EQUAL, 0, 1, from);
        self.give(value);
    }

    /// Ends with a value.
    pub fn give(&mut self, value: u32) {
        self.push(RETURN, 0, 0, value);
    }

    /// Finds the range that the loaded number lies in by halving, and goes on with what `leaf` writes for it. Each
    /// range reaches to the next one's start; the first one starts at 0.
    pub fn search<T>(&mut self, ranges: &[(u32, T)], leaf: &impl Fn(&mut Self, &T)) {
        let (left, right) = ranges.split_at(ranges.len() / 2);
        match (left, right) {
            (_, []) => {}
            ([], [(_, only), ..]) => leaf(self, only),
            (left, [(start, _), ..]) => {
                // Conditional jumps are short; the way to the right half may be long.
                self.push(IF_GREATER_OR_EQUAL, 0, 1, *start);
                let jump = self.0.len();
                self.push(JUMP, 0, 0, 0);
                self.search(left, leaf);
                let distance = (self.0.len() - jump - 1) as u32;
                if let Some(jump) = self.0.get_mut(jump) {
                    jump.k = distance;
                }
                self.search(right, leaf);
            }
        }
    }

    /// Ends with a value if all conditions hold, at most one for each argument; else goes on behind.
    pub fn when(&mut self, conditions: &[Condition], value: u32) {
        let mut tests: Vec<(FilterInstruction, To, To)> = Vec::new();
        // The last instruction of each condition: the next one's first is behind it.
        let mut ends = Vec::new();
        for condition in conditions {
            let before = tests.len();
            compare(condition, &mut tests);
            ends.extend(std::iter::repeat_n(tests.len(), tests.len() - before));
        }
        // Behind the tests comes the return, and behind that the place for failures.
        let fails = tests.len() + 1;
        for (i, ((instruction, yes, no), holds)) in tests.into_iter().zip(ends).enumerate() {
            // At most six conditions of six instructions: it fits.
            let skip = |to| match to {
                To::Next => 0,
                To::Holds => (holds - i - 1) as u8,
                To::Fails => (fails - i - 1) as u8,
            };
            self.0.push(FilterInstruction { jt: skip(yes), jf: skip(no), ..instruction });
        }
        self.give(value);
    }

    /// The program.
    pub fn finish(self) -> Vec<FilterInstruction> {
        self.0
    }
}

/// The tests of one condition: the high half of the argument, then the low one.
fn compare(condition: &Condition, out: &mut Vec<(FilterInstruction, To, To)>) {
    let Condition { argument, operator, mask, value } = *condition;
    // `struct seccomp_data`: number, architecture, instruction pointer, then the arguments.
    let at = 16 + 8 * u32::from(argument);
    let (high, low) = ((value >> 32) as u32, value as u32);
    let (high_mask, low_mask) = ((mask >> 32) as u32, mask as u32);
    let load = |out: &mut Vec<_>, offset, mask| {
        out.push((instruction(LOAD, offset), To::Next, To::Next));
        if mask != u32::MAX {
            out.push((instruction(AND, mask), To::Next, To::Next));
        }
    };
    load(out, at + 4, high_mask);
    let high = |code| instruction(code, high);
    match operator {
        Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => {
            out.push((high(IF_EQUAL), To::Next, To::Fails));
        }
        Operator::ScmpCmpNe => out.push((high(IF_EQUAL), To::Next, To::Holds)),
        Operator::ScmpCmpGt | Operator::ScmpCmpGe => {
            out.push((high(IF_GREATER), To::Holds, To::Next));
            out.push((high(IF_EQUAL), To::Next, To::Fails));
        }
        Operator::ScmpCmpLt | Operator::ScmpCmpLe => {
            out.push((high(IF_GREATER), To::Fails, To::Next));
            out.push((high(IF_EQUAL), To::Next, To::Holds));
        }
    }
    load(out, at, low_mask);
    let low = |code| instruction(code, low);
    out.push(match operator {
        Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => (low(IF_EQUAL), To::Holds, To::Fails),
        Operator::ScmpCmpNe => (low(IF_EQUAL), To::Fails, To::Holds),
        Operator::ScmpCmpGt => (low(IF_GREATER), To::Holds, To::Fails),
        Operator::ScmpCmpGe => (low(IF_GREATER_OR_EQUAL), To::Holds, To::Fails),
        Operator::ScmpCmpLt => (low(IF_GREATER_OR_EQUAL), To::Fails, To::Holds),
        Operator::ScmpCmpLe => (low(IF_GREATER), To::Fails, To::Holds),
    });
}

fn instruction(code: u16, k: u32) -> FilterInstruction {
    FilterInstruction { code, jt: 0, jf: 0, k }
}
