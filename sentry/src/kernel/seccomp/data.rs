//! What a filter sees of a system call, and which programs may be one.

use crate::bpf::{Input, Program, Raw, Size};
use crate::errno::{Errno, Result};

/// Size of `struct seccomp_data`.
const DATA_SIZE: u32 = 64;
/// Where number and architecture are in it.
const NR_OFFSET: i32 = 0;
const ARCH_OFFSET: i32 = 4;

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
}

/// The bytes of a call.
struct Call([u8; DATA_SIZE as usize]);

impl Input for Call {
    fn len(&self) -> u32 {
        DATA_SIZE
    }

    fn load(&self, _: Size, offset: i32) -> Option<u32> {
        let rest = self.0.get(usize::try_from(offset).ok()?..)?;
        rest.first_chunk().map(|word| u32::from_ne_bytes(*word))
    }
}

/// All that is known of the calls of one number.
struct Calls {
    nr: u32,
    arch: u32,
}

impl Input for Calls {
    fn len(&self) -> u32 {
        DATA_SIZE
    }

    fn load(&self, _: Size, offset: i32) -> Option<u32> {
        match offset {
            NR_OFFSET => Some(self.nr),
            ARCH_OFFSET => Some(self.arch),
            _ => None,
        }
    }
}

/// Verifies a program for system calls. `EINVAL` for what `bpf_check_classic` or `seccomp_check_filter` of Linux
/// refuses.
pub fn verify(raw: &[Raw]) -> Result<Program> {
    Program::verify(raw).ok().filter(|p| p.loads_words_of(DATA_SIZE)).ok_or(Errno::EINVAL)
}

/// What a verified program says about a call.
pub fn run(program: &Program, data: &Data) -> u32 {
    program.run(&Call(data.bytes())).unwrap_or(0)
}

/// The value for every call of that number, if nothing else of it decides.
pub fn constant(program: &Program, nr: u32, arch: u32) -> Option<u32> {
    program.run(&Calls { nr, arch })
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
        let program = verify(&[
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
        assert_eq!(run(&program, &data(39, [0; 6])), 0x0005_0001);
        assert_eq!(run(&program, &data(1, [0; 6])), 0x7fff_0000);
        assert_eq!(run(&program, &data(1, [1 << 32, 0, 0, 0, 0, 0])), 7);
        assert_eq!(constant(&program, 39, 0xc000_003e), Some(0x0005_0001));
        assert_eq!(constant(&program, 39, 3), Some(0x8000_0000));
        // Its arguments decide.
        assert_eq!(constant(&program, 1, 0xc000_003e), None);
    }

    #[test]
    fn what_is_refused() {
        let ret = raw(0x06, 0, 0, 0);
        for bad in [
            raw(0x20, 0, 0, 64),
            raw(0x20, 0, 0, 2),
            raw(0x28, 0, 0, 0),
            raw(0x40, 0, 0, 0),
            raw(0xb1, 0, 0, 0),
            raw(0x94, 0, 0, 3),
            raw(0x20, 0, 0, (-0x1000i32) as u32),
            raw(0x34, 0, 0, 0),
        ] {
            assert_eq!(verify(&[bad, ret]), Err(Errno::EINVAL), "{bad:?}");
        }
        assert!(verify(&[raw(0x20, 0, 0, 60), raw(0x80, 0, 0, 0), ret]).is_ok());
    }
}
