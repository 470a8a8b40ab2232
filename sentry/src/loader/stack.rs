//! The first stack of a program: strings, vectors and the auxiliary vector (`getauxval(3)`).

use super::elf::Image;
use crate::errno::{Errno, Result};
use crate::kernel::Credentials;
use crate::mm::{MemoryManager, PAGE_SIZE, UserAddr, random_u64};
use std::arch::x86_64::__cpuid_count;
use std::ops::Range;

/// What goes on the stack.
pub struct Contents<'a> {
    /// `AT_EXECFN`.
    pub filename: &'a [u8],
    /// Arguments.
    pub argv: &'a [Vec<u8>],
    /// Environment.
    pub envp: &'a [Vec<u8>],
    /// The mapped program.
    pub image: &'a Image,
    /// The stack is executable.
    pub executable: bool,
    /// Address of the vDSO, or 0.
    pub vdso: u64,
    /// Whose program it is.
    pub credentials: &'a Credentials,
    /// `AT_SECURE`.
    pub secure: bool,
    /// Move the stack pointer by a random distance.
    pub randomize: bool,
}

/// Where things are.
#[derive(Debug)]
pub struct Stack {
    /// The stack pointer: the address of `argc`.
    pub pointer: u64,
    /// The argument strings.
    pub args: Range<u64>,
    /// The environment strings.
    pub env: Range<u64>,
    /// The auxiliary vector.
    pub auxv: Vec<u8>,
}

/// Bytes that the stack has beyond its contents, at first.
const INITIAL_ROOM: u64 = 128 << 10;

mod at {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const HWCAP2: u64 = 26;
    pub const RSEQ_FEATURE_SIZE: u64 = 27;
    pub const RSEQ_ALIGN: u64 = 28;
    pub const EXECFN: u64 = 31;
    pub const SYSINFO_EHDR: u64 = 33;
    pub const MINSIGSTKSZ: u64 = 51;
}

/// Maps the stack and fills it.
pub fn build(mm: &MemoryManager, contents: &Contents<'_>) -> Result<Stack> {
    let top = mm.layout().stack_top;
    // From the top: a null word, the file name, the environment, the arguments.
    let strings = |list: &[Vec<u8>]| list.iter().map(|s| s.len() as u64 + 1).sum::<u64>();
    let (arg_bytes, env_bytes) = (strings(contents.argv), strings(contents.envp));
    let filename = top - 8 - (contents.filename.len() as u64 + 1);
    let env = filename - env_bytes..filename;
    let args = env.start - arg_bytes..env.start;
    let wobble = if contents.randomize { random_u64() % 8192 } else { 0 };
    let platform = ((args.start - wobble) & !15) - 16;
    let random = platform - 16;
    let auxv = auxv(contents, filename, platform, random);
    let words = 1 + contents.argv.len() + 1 + contents.envp.len() + 1;
    let vectors = words as u64 * 8 + auxv.len() as u64;
    let pointer = (random - vectors) & !15;
    mm.map_stack(top, top - pointer + INITIAL_ROOM, contents.executable)?;

    let mut bytes = Vec::with_capacity((top - pointer) as usize);
    let word = |bytes: &mut Vec<u8>, value: u64| bytes.extend_from_slice(&value.to_le_bytes());
    word(&mut bytes, contents.argv.len() as u64);
    for (list, start) in [(contents.argv, args.start), (contents.envp, env.start)] {
        let mut at = start;
        for string in list {
            word(&mut bytes, at);
            at += string.len() as u64 + 1;
        }
        word(&mut bytes, 0);
    }
    bytes.extend_from_slice(&auxv);
    let fill = |bytes: &mut Vec<u8>, to: u64| bytes.resize((to - pointer) as usize, 0);
    fill(&mut bytes, random);
    word(&mut bytes, random_u64());
    word(&mut bytes, random_u64());
    fill(&mut bytes, platform);
    bytes.extend_from_slice(b"x86_64\0");
    fill(&mut bytes, args.start);
    for string in contents.argv.iter().chain(contents.envp) {
        bytes.extend_from_slice(string);
        bytes.push(0);
    }
    bytes.extend_from_slice(contents.filename);
    bytes.push(0);
    fill(&mut bytes, top);
    mm.write(UserAddr(pointer), &bytes).map_err(|_| Errno::ENOMEM)?;
    Ok(Stack { pointer, args, env, auxv })
}

/// The auxiliary vector, in Linux's order.
fn auxv(contents: &Contents<'_>, filename: u64, platform: u64, random: u64) -> Vec<u8> {
    let (image, creds) = (contents.image, contents.credentials);
    let mut pairs = Vec::with_capacity(24);
    if contents.vdso != 0 {
        pairs.push((at::SYSINFO_EHDR, contents.vdso));
    }
    pairs.extend([
        (at::MINSIGSTKSZ, min_signal_stack()),
        (at::HWCAP, u64::from(__cpuid_count(1, 0).edx)),
        (at::PAGESZ, PAGE_SIZE),
        (at::CLKTCK, 100),
        (at::PHDR, image.headers),
        (at::PHENT, 56),
        (at::PHNUM, image.header_count),
        (at::BASE, image.interpreter_base),
        (at::FLAGS, 0),
        (at::ENTRY, image.entry),
        (at::UID, creds.uid.into()),
        (at::EUID, creds.euid.into()),
        (at::GID, creds.gid.into()),
        (at::EGID, creds.egid.into()),
        (at::SECURE, contents.secure.into()),
        (at::RANDOM, random),
        (at::HWCAP2, hwcap2()),
        (at::EXECFN, filename),
        (at::PLATFORM, platform),
        (at::RSEQ_FEATURE_SIZE, 28),
        (at::RSEQ_ALIGN, 32),
        (at::NULL, 0),
    ]);
    pairs
        .iter()
        .flat_map(|(kind, value)| [kind.to_le_bytes(), value.to_le_bytes()])
        .flatten()
        .collect()
}

/// `HWCAP2_FSGSBASE` if the CPU has the instructions; hosts that run them in kernel mode let user
/// code do so, too (Linux 5.9).
fn hwcap2() -> u64 {
    if __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 != 0 { 2 } else { 0 }
}

/// Size of a signal frame: the extended state, 64-byte aligned, and the fixed part around it.
fn min_signal_stack() -> u64 {
    const FIXED: u64 = 1024;
    u64::from(__cpuid_count(0xd, 0).ebx).next_multiple_of(64) + FIXED
}
