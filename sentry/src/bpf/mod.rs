//! Classic BPF, the one language of `seccomp(2)`'s and sockets' filters (`SO_ATTACH_FILTER`).
//!
//! * [`Program`]: verifier and interpreter. [`op`]: the opcodes. [`packet`]: what programs see of a packet.
//!
//! A program is verified once: every jump goes forward and stays inside, every load is of the data or of memory that
//! was stored before, and the last instruction returns. So it ends after at most as many steps as it has
//! instructions.

pub mod op;
pub mod packet;

use crate::errno::{Errno, Result};

/// Longest program (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Size of a `struct sock_filter`.
pub const INSTRUCTION_SIZE: usize = 8;
/// Words of scratch memory (`BPF_MEMWORDS`).
const MEMORY_WORDS: usize = 16;
/// From here on offsets name what the kernel knows of a packet (`SKF_AD_OFF`).
const ANCILLARY: u32 = -0x1000_i32 as u32;

/// How much a load takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Four bytes.
    Word,
    /// Two.
    Half,
    /// One.
    Byte,
}

impl Size {
    /// Bytes.
    pub fn bytes(self) -> usize {
        match self {
            Size::Word => 4,
            Size::Half => 2,
            Size::Byte => 1,
        }
    }
}

/// What the kernel knows of a packet besides its bytes (`SKF_AD_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of linux/filter.h")]
pub enum Ancillary {
    Protocol,
    PacketType,
    Interface,
    Attribute,
    NestedAttribute,
    Mark,
    Queue,
    HardwareType,
    Hash,
    Cpu,
    XorX,
    VlanTag,
    VlanTagPresent,
    PayloadOffset,
    Random,
    VlanProtocol,
}

/// Every one, with its offset from [`ANCILLARY`].
const ALL_ANCILLARY: [(u32, Ancillary); 16] = [
    (0, Ancillary::Protocol),
    (4, Ancillary::PacketType),
    (8, Ancillary::Interface),
    (12, Ancillary::Attribute),
    (16, Ancillary::NestedAttribute),
    (20, Ancillary::Mark),
    (24, Ancillary::Queue),
    (28, Ancillary::HardwareType),
    (32, Ancillary::Hash),
    (36, Ancillary::Cpu),
    (40, Ancillary::XorX),
    (44, Ancillary::VlanTag),
    (48, Ancillary::VlanTagPresent),
    (52, Ancillary::PayloadOffset),
    (56, Ancillary::Random),
    (60, Ancillary::VlanProtocol),
];

/// What a program runs on.
pub trait Input {
    /// Length of the data, bytes.
    fn len(&self) -> u32;

    /// A number at an offset, which may be negative. `None` ends the program.
    fn load(&self, size: Size, offset: i32) -> Option<u32>;

    /// Something else that is known; the registers are its arguments.
    fn ancillary(&self, _what: Ancillary, _a: u32, _x: u32) -> u32 {
        0
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
    Mod,
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
    Load(Size, i32),
    LoadIndexed(Size, i32),
    LoadAncillary(Ancillary),
    LoadHeaderLength(i32),
    LoadLengthA,
    LoadLengthX,
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
    /// Reads a program that a guest has written to its memory: [`MAX_INSTRUCTIONS`] at most.
    pub fn parse(bytes: &[u8]) -> Vec<Raw> {
        let raw = |&[a, b, jt, jf, k0, k1, k2, k3]: &[u8; INSTRUCTION_SIZE]| Raw {
            code: u16::from_le_bytes([a, b]),
            jt,
            jf,
            k: u32::from_le_bytes([k0, k1, k2, k3]),
        };
        bytes.as_chunks().0.iter().map(raw).collect()
    }

    /// Verifies a program. `EINVAL` for anything that Linux's `bpf_check_classic` refuses.
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

    /// True if all it loads are words that lie whole in the first `len` bytes of the data, and it does nothing that
    /// `seccomp_check_filter` of Linux refuses besides.
    pub fn loads_words_of(&self, len: u32) -> bool {
        self.0.iter().all(|instruction| match *instruction {
            Instruction::Load(Size::Word, at) => {
                u32::try_from(at).is_ok_and(|at| at < len && at.is_multiple_of(4))
            }
            Instruction::Load(..)
            | Instruction::LoadIndexed(..)
            | Instruction::LoadAncillary(_)
            | Instruction::LoadHeaderLength(_)
            | Instruction::Alu(Alu::Mod, _) => false,
            _ => true,
        })
    }

    /// Runs it; the value it returns, `None` once it loads what is not there.
    pub fn run(&self, input: &impl Input) -> Option<u32> {
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
                Instruction::Load(size, at) => a = input.load(size, at)?,
                Instruction::LoadIndexed(size, at) => {
                    a = input.load(size, (x as i32).wrapping_add(at))?;
                }
                Instruction::LoadAncillary(Ancillary::XorX) => a ^= x,
                Instruction::LoadAncillary(what) => a = input.ancillary(what, a, x),
                Instruction::LoadHeaderLength(at) => x = (input.load(Size::Byte, at)? & 15) * 4,
                Instruction::LoadLengthA => a = input.len(),
                Instruction::LoadLengthX => x = input.len(),
                Instruction::LoadA(k) => a = k,
                Instruction::LoadX(k) => x = k,
                Instruction::LoadMemoryA(i) => a = memory.get(i).copied().unwrap_or(0),
                Instruction::LoadMemoryX(i) => x = memory.get(i).copied().unwrap_or(0),
                Instruction::StoreA(i) => store(&mut memory, i, a),
                Instruction::StoreX(i) => store(&mut memory, i, x),
                Instruction::Alu(Alu::Div | Alu::Mod, operand) if value(operand) == 0 => {
                    return Some(0);
                }
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
        Alu::Mod => a.checked_rem(b).unwrap_or(0),
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
    let operand = || if raw.code & op::WITH_X != 0 { Operand::X } else { Operand::K(k) };
    let jump = |test| branch(test, operand(), raw, rest);
    Ok(match raw.code {
        op::LOAD_WORD => load(Size::Word, k)?,
        op::LOAD_HALF => load(Size::Half, k)?,
        op::LOAD_BYTE => load(Size::Byte, k)?,
        op::LOAD_WORD_INDEXED => Instruction::LoadIndexed(Size::Word, k as i32),
        op::LOAD_HALF_INDEXED => Instruction::LoadIndexed(Size::Half, k as i32),
        op::LOAD_BYTE_INDEXED => Instruction::LoadIndexed(Size::Byte, k as i32),
        op::LOAD_HEADER_LENGTH_X => Instruction::LoadHeaderLength(k as i32),
        op::LOAD_LENGTH => Instruction::LoadLengthA,
        op::LOAD_LENGTH_X => Instruction::LoadLengthX,
        op::LOAD_IMMEDIATE => Instruction::LoadA(k),
        op::LOAD_IMMEDIATE_X => Instruction::LoadX(k),
        op::LOAD_MEMORY => Instruction::LoadMemoryA(memory()?),
        op::LOAD_MEMORY_X => Instruction::LoadMemoryX(memory()?),
        op::STORE => Instruction::StoreA(memory()?),
        op::STORE_X => Instruction::StoreX(memory()?),
        op::DIVIDE | op::MODULO if k == 0 => return Err(Errno::EINVAL),
        op::SHIFT_LEFT | op::SHIFT_RIGHT if k >= 32 => return Err(Errno::EINVAL),
        op::NEGATE => Instruction::Negate,
        op::JUMP => {
            let skip = usize::try_from(k).map_err(|_| Errno::EINVAL)?;
            if skip >= rest {
                return Err(Errno::EINVAL);
            }
            Instruction::Jump(skip)
        }
        op::RETURN => Instruction::Return(k),
        op::RETURN_A => Instruction::ReturnA,
        op::TO_X => Instruction::AToX,
        op::FROM_X => Instruction::XToA,
        other => match other & !op::WITH_X {
            op::ADD => Instruction::Alu(Alu::Add, operand()),
            op::SUBTRACT => Instruction::Alu(Alu::Sub, operand()),
            op::MULTIPLY => Instruction::Alu(Alu::Mul, operand()),
            op::DIVIDE => Instruction::Alu(Alu::Div, operand()),
            op::MODULO => Instruction::Alu(Alu::Mod, operand()),
            op::OR => Instruction::Alu(Alu::Or, operand()),
            op::AND => Instruction::Alu(Alu::And, operand()),
            op::XOR => Instruction::Alu(Alu::Xor, operand()),
            op::SHIFT_LEFT => Instruction::Alu(Alu::Lsh, operand()),
            op::SHIFT_RIGHT => Instruction::Alu(Alu::Rsh, operand()),
            op::IF_EQUAL => jump(Test::Equal)?,
            op::IF_GREATER => jump(Test::Greater)?,
            op::IF_GREATER_OR_EQUAL => jump(Test::GreaterOrEqual)?,
            op::IF_SET => jump(Test::Set)?,
            _ => return Err(Errno::EINVAL),
        },
    })
}

/// A load from a fixed offset. `EINVAL` for something besides the bytes that nobody knows.
fn load(size: Size, k: u32) -> Result<Instruction> {
    let Some(what) = k.checked_sub(ANCILLARY) else { return Ok(Instruction::Load(size, k as i32)) };
    let known = ALL_ANCILLARY.iter().find(|(offset, _)| *offset == what);
    known.map(|(_, what)| Instruction::LoadAncillary(*what)).ok_or(Errno::EINVAL)
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

    struct Bytes<'a>(&'a [u8]);

    impl Input for Bytes<'_> {
        fn len(&self) -> u32 {
            self.0.len() as u32
        }

        fn load(&self, size: Size, offset: i32) -> Option<u32> {
            packet::number(self.0, size, usize::try_from(offset).ok()?)
        }
    }

    #[test]
    fn what_is_refused() {
        let ret = raw(0x06, 0, 0, 0);
        for bad in [
            vec![],
            vec![raw(0x00, 0, 0, 1)],
            vec![raw(0x34, 0, 0, 0), ret],
            vec![raw(0x94, 0, 0, 0), ret],
            vec![raw(0x64, 0, 0, 32), ret],
            vec![raw(0x60, 0, 0, 0), ret],
            vec![raw(0x02, 0, 0, 16), ret],
            vec![raw(0x05, 0, 0, 1), ret],
            vec![raw(0x15, 1, 0, 1), ret],
            vec![raw(0x05, 0, 0, u32::MAX), ret],
            vec![raw(0x20, 0, 0, u32::MAX), ret],
            vec![raw(0x0d, 0, 0, 0), ret],
            vec![raw(0x8c, 0, 0, 0), ret],
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
        let run = |program: &[Raw]| Program::verify(program).unwrap().run(&Bytes(&[0; 64]));
        let ret_a = raw(0x16, 0, 0, 0);
        assert_eq!(run(&[raw(0x80, 0, 0, 0), ret_a]), Some(64));
        // A division by zero in X ends the program with 0.
        assert_eq!(run(&[raw(0x00, 0, 0, 9), raw(0x3c, 0, 0, 0), ret_a]), Some(0));
        assert_eq!(run(&[raw(0x00, 0, 0, 9), raw(0x94, 0, 0, 5), ret_a]), Some(4));
        let program = [
            raw(0x00, 0, 0, 3),
            raw(0x02, 0, 0, 15),
            raw(0x61, 0, 0, 15),
            raw(0x00, 0, 0, 5),
            raw(0x1c, 0, 0, 0),
            raw(0x84, 0, 0, 0),
            ret_a,
        ];
        assert_eq!(run(&program), Some((-2_i32) as u32));
    }

    #[test]
    fn loads_of_a_packet() {
        let data: Vec<u8> = [0x45, 1, 2, 3].into_iter().chain(4..40).collect();
        let run = |program: &[Raw]| Program::verify(program).unwrap().run(&Bytes(&data));
        let ret_a = raw(0x16, 0, 0, 0);
        assert_eq!(run(&[raw(0x28, 0, 0, 2), ret_a]), Some(0x203));
        assert_eq!(run(&[raw(0x30, 0, 0, 39), ret_a]), Some(39));
        assert_eq!(run(&[raw(0x30, 0, 0, 40), ret_a]), None);
        assert_eq!(run(&[raw(0x20, 0, 0, 37), ret_a]), None);
        // The first bytes behind an IPv4 header.
        assert_eq!(run(&[raw(0xb1, 0, 0, 0), raw(0x40, 0, 0, 0), ret_a]), Some(0x1415_1617));
        assert_eq!(run(&[raw(0x01, 0, 0, 9), raw(0x50, 0, 0, (-5i32) as u32), ret_a]), Some(4));
        let xor = raw(0x20, 0, 0, (-0x1000i32 + 40) as u32);
        assert_eq!(run(&[raw(0x00, 0, 0, 6), raw(0x01, 0, 0, 3), xor, ret_a]), Some(5));
    }
}
