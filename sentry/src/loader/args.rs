//! Arguments and environment: copying them in, and how much of them there may be.

use crate::errno::{Errno, Result};
use crate::mm::{MemoryManager, UserAddr};

/// Longest string, with its NUL (`MAX_ARG_STRLEN`).
const MAX_STRING: usize = 32 * 4096;
/// What all strings may always have (`ARG_MAX`).
const MIN_TOTAL: u64 = 32 * 4096;
/// What all strings may have at most: three quarters of the default stack.
const MAX_TOTAL: u64 = 6 << 20;

/// Most bytes of all strings and of the pointers to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArgumentLimit(u64);

impl ArgumentLimit {
    /// The limit for a process whose stack may have `stack` bytes.
    pub fn new(stack: u64) -> ArgumentLimit {
        ArgumentLimit((stack / 4).clamp(MIN_TOTAL, MAX_TOTAL))
    }

    /// `E2BIG` if it is too much.
    pub fn check(self, filename: &[u8], argv: &[Vec<u8>], envp: &[Vec<u8>]) -> Result<()> {
        let mut total = filename.len() as u64 + 1;
        for string in argv.iter().chain(envp) {
            if string.len() >= MAX_STRING {
                return Err(Errno::E2BIG);
            }
            total += string.len() as u64 + 1 + 8;
        }
        if total > self.0 { Err(Errno::E2BIG) } else { Ok(()) }
    }
}

/// Copies a NULL-terminated array of strings in (`argv` or `envp`); a null pointer is an empty array.
/// `E2BIG` when one string or all together are too long for `limit`, `EFAULT`.
pub fn read_strings(
    mm: &MemoryManager,
    addr: UserAddr,
    limit: ArgumentLimit,
) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    if addr.is_null() {
        return Ok(strings);
    }
    let mut total = 0u64;
    let mut at = addr;
    loop {
        let pointer: u64 = mm.read_obj(at)?;
        if pointer == 0 {
            return Ok(strings);
        }
        let string = match mm.read_cstr(UserAddr(pointer), MAX_STRING - 1) {
            Err(Errno::ENAMETOOLONG) => return Err(Errno::E2BIG),
            other => other?,
        };
        total += string.len() as u64 + 1 + 8;
        if total > limit.0 {
            return Err(Errno::E2BIG);
        }
        strings.push(string);
        at = UserAddr(at.0.checked_add(8).ok_or(Errno::EFAULT)?);
    }
}
