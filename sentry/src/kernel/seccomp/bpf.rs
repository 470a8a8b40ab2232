//! Classic BPF as seccomp uses it: the verifier and the interpreter.
//!
//! A program is verified once: every jump goes forward and stays inside, every load is of a word of
//! [`Data`] or of memory that was stored before, and the last instruction returns. So it ends after at
//! most as many steps as it has instructions.

use crate::errno::{Errno, Result};

/// Longest program (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Words of scratch memory (`BPF_MEMWORDS`).
const MEMORY_WORDS: usize = 16;
/// Size of `struct seccomp_data`.
const DATA_SIZE: u32 = 64;
/// Where number and architecture are in it.
const NR_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;

/// What a filter sees of a system call (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// Number.
    pub nr: i32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Address behind the instruction.
    pub instruction_pointer: u64,
    /// Arguments.
    pub args: [u64; 6],
}

impl Data {
    /// As it lies in memory.
    pub fn bytes(&self) -> [u8; DATA_SIZE as usize] {
        let mut out = [0; DATA_SIZE as usize];
        let words = [self.nr as u32, self.arch].map(u32::to_ne_bytes).concat();
        let longs = std::iter::once(self.instruction_pointer).chain(self.args);
        let rest: Vec<u8> = longs.flat_map(u64::to_ne_bytes).collect();
        for (to, from) in out.iter_mut().zip(words.iter().chain(&rest)) {
            *to = *from;
        }
        out
    }

    fn word(bytes: &[u8; DATA_SIZE as usize], offset: u32) -> u32 {
        let at = bytes.get(offset as usize..).and_then(|rest| rest.first_chunk());
        at.map_or(0, |word| u32::from_ne_bytes(*word))
    }
}

/// An instruction as the guest gives it (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if true.
    pub jt: u8,
    /// Instructions to skip if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    K(u32),
    X,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    And,
    Or,
    Xor,
    Lsh,
    Rsh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instruction {
    LoadData(u32),
    LoadA(u32),
    LoadX(u32),
    LoadMemoryA(usize),
    LoadMemoryX(usize),
    StoreA(usize),
    StoreX(usize),
    Alu(Alu, Operand),
    Negate,
    Jump(usize),
    Branch(Test, Operand, usize, usize),
    Return(u32),
    ReturnA,
    AToX,
    XToA,
}

impl Instruction {
    fn cost(&self) -> usize {
        match *self {
            Instruction::Return(_) => 2,
            Instruction::Alu(Alu::Div, Operand::X) => 5,
            Instruction::Branch(test, operand, yes, no) => {
                let wide = matches!(operand, Operand::K(k) if (k as i32) < 0);
                let single = no == 0 || (yes == 0 && test != Test::Set);
                usize::from(wide) + if single { 1 } else { 2 }
            }
            _ => 1,
        }
    }
}

/// A verified program.
#[derive(Debug, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

impl Program {
    /// Verifies a program. `EINVAL` for anything that Linux's `bpf_check_classic` and
    /// `seccomp_check_filter` refuse.
    pub fn verify(raw: &[Raw]) -> Result<Program> {
        if raw.is_empty() || raw.len() > MAX_INSTRUCTIONS {
            return Err(Errno::EINVAL);
        }
        let program: Vec<Instruction> = raw
            .iter()
            .enumerate()
            .map(|(pc, insn)| decode(insn, raw.len() - pc - 1))
            .collect::<Result<_>>()?;
        if !matches!(program.last(), Some(Instruction::Return(_) | Instruction::ReturnA)) {
            return Err(Errno::EINVAL);
        }
        check_memory(&program)?;
        Ok(Program(program))
    }

    /// What it counts for against the limit of all filters: Linux counts the instructions of its own
    /// machine, to which it translates a program (`bpf_convert_filter`).
    pub fn cost(&self) -> usize {
        const PROLOGUE: usize = 3;
        PROLOGUE + self.0.iter().map(Instruction::cost).sum::<usize>()
    }

    /// Runs it; the value it returns.
    pub fn run(&self, data: &Data) -> u32 {
        let bytes = data.bytes();
        self.execute(|offset| Some(Data::word(&bytes, offset))).unwrap_or(0)
    }

    /// The value for every call of that number, if nothing else of it decides.
    pub fn constant(&self, nr: u32, arch: u32) -> Option<u32> {
        self.execute(|offset| match offset {
            NR_OFFSET => Some(nr),
            ARCH_OFFSET => Some(arch),
            _ => None,
        })
    }

    /// Runs it on the words that `load` gives; `None` once that does.
    fn execute(&self, load: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        let (mut a, mut x) = (0_u32, 0_u32);
        let mut memory = [0_u32; MEMORY_WORDS];
        let mut pc = 0;
        while let Some(instruction) = self.0.get(pc) {
            pc += 1;
            let value = |operand: Operand| match operand {
                Operand::K(k) => k,
                Operand::X => x,
            };
            match *instruction {
                Instruction::LoadData(offset) => a = load(offset)?,
                Instruction::LoadA(k) => a = k,
                Instruction::LoadX(k) => x = k,
                Instruction::LoadMemoryA(i) => a = memory.get(i).copied().unwrap_or(0),
                Instruction::LoadMemoryX(i) => x = memory.get(i).copied().unwrap_or(0),
                Instruction::StoreA(i) => store(&mut memory, i, a),
                Instruction::StoreX(i) => store(&mut memory, i, x),
                Instruction::Alu(Alu::Div, operand) if value(operand) == 0 => return Some(0),
                Instruction::Alu(op, operand) => a = calculate(op, a, value(operand)),
                Instruction::Negate => a = a.wrapping_neg(),
                Instruction::Jump(skip) => pc += skip,
                Instruction::Branch(test, operand, yes, no) => {
                    pc += if holds(test, a, value(operand)) { yes } else { no };
                }
                Instruction::Return(k) => return Some(k),
                Instruction::ReturnA => return Some(a),
                Instruction::AToX => x = a,
                Instruction::XToA => a = x,
            }
        }
        // A verified program never runs off its end.
        Some(0)
    }
}

fn store(memory: &mut [u32; MEMORY_WORDS], i: usize, value: u32) {
    if let Some(place) = memory.get_mut(i) {
        *place = value;
    }
}

fn calculate(op: Alu, a: u32, b: u32) -> u32 {
    match op {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::Div => a.checked_div(b).unwrap_or(0),
        Alu::And => a & b,
        Alu::Or => a | b,
        Alu::Xor => a ^ b,
        Alu::Lsh => a.wrapping_shl(b),
        Alu::Rsh => a.wrapping_shr(b),
    }
}

fn holds(test: Test, a: u32, b: u32) -> bool {
    match test {
        Test::Equal => a == b,
        Test::Greater => a > b,
        Test::GreaterOrEqual => a >= b,
        Test::Set => a & b != 0,
    }
}

/// `rest`: instructions behind this one.
fn decode(raw: &Raw, rest: usize) -> Result<Instruction> {
    let k = raw.k;
    let memory = || usize::try_from(k).ok().filter(|i| *i < MEMORY_WORDS).ok_or(Errno::EINVAL);
    let operand = || if raw.code & 8 != 0 { Operand::X } else { Operand::K(k) };
    Ok(match raw.code {
        // BPF_LD | BPF_W | BPF_ABS
        0x20 if k < DATA_SIZE && k.is_multiple_of(4) => Instruction::LoadData(k),
        // BPF_LD | BPF_W | BPF_LEN, BPF_LDX | BPF_W | BPF_LEN
        0x80 => Instruction::LoadA(DATA_SIZE),
        0x81 => Instruction::LoadX(DATA_SIZE),
        0x00 => Instruction::LoadA(k),
        0x01 => Instruction::LoadX(k),
        0x60 => Instruction::LoadMemoryA(memory()?),
        0x61 => Instruction::LoadMemoryX(memory()?),
        0x02 => Instruction::StoreA(memory()?),
        0x03 => Instruction::StoreX(memory()?),
        0x04 | 0x0c => Instruction::Alu(Alu::Add, operand()),
        0x14 | 0x1c => Instruction::Alu(Alu::Sub, operand()),
        0x24 | 0x2c => Instruction::Alu(Alu::Mul, operand()),
        0x34 if k == 0 => return Err(Errno::EINVAL),
        0x34 | 0x3c => Instruction::Alu(Alu::Div, operand()),
        0x44 | 0x4c => Instruction::Alu(Alu::Or, operand()),
        0x54 | 0x5c => Instruction::Alu(Alu::And, operand()),
        0x64 | 0x74 if k >= 32 => return Err(Errno::EINVAL),
        0x64 | 0x6c => Instruction::Alu(Alu::Lsh, operand()),
        0x74 | 0x7c => Instruction::Alu(Alu::Rsh, operand()),
        0x84 => Instruction::Negate,
        0xa4 | 0xac => Instruction::Alu(Alu::Xor, operand()),
        0x05 => {
            let skip = usize::try_from(k).map_err(|_| Errno::EINVAL)?;
            if skip >= rest {
                return Err(Errno::EINVAL);
            }
            Instruction::Jump(skip)
        }
        0x15 | 0x1d => branch(Test::Equal, operand(), raw, rest)?,
        0x25 | 0x2d => branch(Test::Greater, operand(), raw, rest)?,
        0x35 | 0x3d => branch(Test::GreaterOrEqual, operand(), raw, rest)?,
        0x45 | 0x4d => branch(Test::Set, operand(), raw, rest)?,
        0x06 => Instruction::Return(k),
        0x16 => Instruction::ReturnA,
        0x07 => Instruction::AToX,
        0x87 => Instruction::XToA,
        _ => return Err(Errno::EINVAL),
    })
}

fn branch(test: Test, operand: Operand, raw: &Raw, rest: usize) -> Result<Instruction> {
    let (yes, no) = (usize::from(raw.jt), usize::from(raw.jf));
    if yes >= rest || no >= rest {
        return Err(Errno::EINVAL);
    }
    Ok(Instruction::Branch(test, operand, yes, no))
}

/// `EINVAL` if a word of memory may be loaded before it was stored (`check_load_and_stores`).
fn check_memory(program: &[Instruction]) -> Result<()> {
    // Words that are certainly stored when an instruction is reached, over all ways that lead there.
    let mut stored = vec![u16::MAX; program.len()];
    let mut valid = 0_u16;
    for (pc, instruction) in program.iter().enumerate() {
        valid &= stored.get(pc).copied().unwrap_or(0);
        let mut reach = |target: usize, valid: u16| {
            if let Some(place) = stored.get_mut(target) {
                *place &= valid;
            }
        };
        match *instruction {
            Instruction::StoreA(i) | Instruction::StoreX(i) => valid |= 1 << i,
            Instruction::LoadMemoryA(i) | Instruction::LoadMemoryX(i) if valid & (1 << i) == 0 => {
                return Err(Errno::EINVAL);
            }
            Instruction::Jump(skip) => {
                reach(pc + 1 + skip, valid);
                valid = u16::MAX;
            }
            Instruction::Branch(_, _, yes, no) => {
                reach(pc + 1 + yes, valid);
                reach(pc + 1 + no, valid);
                valid = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(code: u16, jt: u8, jf: u8, k: u32) -> Raw {
        Raw { code, jt, jf, k }
    }

    fn data(nr: i32, args: [u64; 6]) -> Data {
        Data { nr, arch: 0xc000_003e, instruction_pointer: 0x1234_5678_9abc, args }
    }

    #[test]
    fn a_typical_filter() {
        let program = Program::verify(&[
            raw(0x20, 0, 0, 4),
            raw(0x15, 1, 0, 0xc000_003e),
            raw(0x06, 0, 0, 0x8000_0000),
            raw(0x20, 0, 0, 0),
            raw(0x15, 0, 1, 39),
            raw(0x06, 0, 0, 0x0005_0001),
            raw(0x20, 0, 0, 20),
            raw(0x45, 0, 1, 1),
            raw(0x06, 0, 0, 7),
            raw(0x06, 0, 0, 0x7fff_0000),
        ])
        .unwrap();
        assert_eq!(program.run(&data(39, [0; 6])), 0x0005_0001);
        assert_eq!(program.run(&data(1, [0; 6])), 0x7fff_0000);
        assert_eq!(program.run(&data(1, [1 << 32, 0, 0, 0, 0, 0])), 7);
        assert_eq!(program.constant(39, 0xc000_003e), Some(0x0005_0001));
        assert_eq!(program.constant(39, 3), Some(0x8000_0000));
        // Its arguments decide.
        assert_eq!(program.constant(1, 0xc000_003e), None);
    }

    #[test]
    fn what_is_refused() {
        let ret = raw(0x06, 0, 0, 0);
        for bad in [
            vec![],
            vec![raw(0x00, 0, 0, 1)],
            vec![raw(0x20, 0, 0, 64), ret],
            vec![raw(0x20, 0, 0, 2), ret],
            vec![raw(0x28, 0, 0, 0), ret],
            vec![raw(0x34, 0, 0, 0), ret],
            vec![raw(0x64, 0, 0, 32), ret],
            vec![raw(0x94, 0, 0, 3), ret],
            vec![raw(0x60, 0, 0, 0), ret],
            vec![raw(0x02, 0, 0, 16), ret],
            vec![raw(0x05, 0, 0, 1), ret],
            vec![raw(0x15, 1, 0, 1), ret],
            vec![raw(0x05, 0, 0, u32::MAX), ret],
            // Stored on one of two ways only.
            vec![raw(0x15, 0, 1, 1), raw(0x02, 0, 0, 3), raw(0x60, 0, 0, 3), ret],
            vec![ret; MAX_INSTRUCTIONS + 1],
        ] {
            assert_eq!(Program::verify(&bad), Err(Errno::EINVAL), "{bad:?}");
        }
        assert!(Program::verify(&vec![ret; MAX_INSTRUCTIONS]).is_ok());
    }

    #[test]
    fn arithmetic_and_memory() {
        let run = |program: &[Raw]| Program::verify(program).unwrap().run(&data(5, [6; 6]));
        let ret_a = raw(0x16, 0, 0, 0);
        assert_eq!(run(&[raw(0x80, 0, 0, 0), ret_a]), 64);
        // A division by zero in X ends the program with 0.
        assert_eq!(run(&[raw(0x00, 0, 0, 9), raw(0x3c, 0, 0, 0), ret_a]), 0);
        let program = [
            raw(0x00, 0, 0, 3),
            raw(0x02, 0, 0, 15),
            raw(0x61, 0, 0, 15),
            raw(0x00, 0, 0, 5),
            raw(0x1c, 0, 0, 0),
            raw(0x84, 0, 0, 0),
            ret_a,
        ];
        assert_eq!(run(&program), (-2_i32) as u32);
    }
}
