//! Registers as tracers see them (`sys/user.h`).

use crate::errno::{Errno, Result};
use crate::mm::TASK_SIZE;
use platform::Registers;
use platform::registers::EFLAGS_USER;

/// Words in `struct user_regs_struct`.
pub const WORDS: usize = 27;
/// Size of `struct user` in bytes.
pub const USER_SIZE: u64 = 912;
/// Offset of the debug registers in `struct user`.
pub const DEBUG_OFFSET: u64 = 848;

/// In the order of `struct user_regs_struct`.
pub fn words(r: &Registers) -> [u64; WORDS] {
    [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx,
        r.rsi, r.rdi, r.orig_rax, r.rip, r.cs, r.eflags, r.rsp, r.ss, r.fs_base, r.gs_base, r.ds,
        r.es, r.fs, r.gs,
    ]
}

/// Replaces a register, by its place in `struct user_regs_struct`. `EIO` for a value that no program can
/// have.
pub fn set_word(r: &mut Registers, index: usize, value: u64) -> Result<()> {
    let selector = |value: u64| {
        let invalid = value & 0xffff != 0 && value & 3 != 3;
        if invalid { Err(Errno::EIO) } else { Ok(()) }
    };
    let place = match index {
        0 => &mut r.r15,
        1 => &mut r.r14,
        2 => &mut r.r13,
        3 => &mut r.r12,
        4 => &mut r.rbp,
        5 => &mut r.rbx,
        6 => &mut r.r11,
        7 => &mut r.r10,
        8 => &mut r.r9,
        9 => &mut r.r8,
        10 => &mut r.rax,
        11 => &mut r.rcx,
        12 => &mut r.rdx,
        13 => &mut r.rsi,
        14 => &mut r.rdi,
        15 => &mut r.orig_rax,
        16 => &mut r.rip,
        // Code and stack segment stay those of 64-bit programs.
        17 | 20 => return if value == 0 { Err(Errno::EIO) } else { selector(value) },
        18 => {
            r.eflags = (r.eflags & !EFLAGS_USER) | (value & EFLAGS_USER);
            return Ok(());
        }
        19 => &mut r.rsp,
        21 | 22 if value >= TASK_SIZE => return Err(Errno::EIO),
        21 => &mut r.fs_base,
        22 => &mut r.gs_base,
        // Data segments mean nothing to 64-bit programs.
        23..=26 => return selector(value),
        _ => return Err(Errno::EIO),
    };
    *place = value;
    Ok(())
}

/// Replaces all registers. Those before a bad one are changed, as in Linux.
pub fn set_words(r: &mut Registers, words: &[u64]) -> Result<()> {
    for (i, value) in words.iter().enumerate().take(WORDS) {
        set_word(r, i, *value)?;
    }
    Ok(())
}
