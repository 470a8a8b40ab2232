//! Typed system-call arguments: how a raw register becomes a value, and how `--strace` shows it.

use crate::errno::{Errno, Result};
use crate::kernel::Task;
use crate::mm::{MemoryManager, UserAddr};
use std::fmt::Write;

/// A type that can stand in the table as an argument.
pub trait Arg: Sized {
    /// The value in a register. Most kinds cannot fail; flag sets refuse unknown bits with `EINVAL`.
    fn decode(raw: u64) -> Result<Self>;

    /// Appends the argument as `strace(1)` would show it. May look at the guest's memory.
    fn show(raw: u64, task: &Task, out: &mut String);
}

macro_rules! integer_args {
    ($($t:ty),*) => {$(
        impl Arg for $t {
            fn decode(raw: u64) -> Result<Self> {
                // Linux takes the low bits of the register, too.
                Ok(raw as $t)
            }
            fn show(raw: u64, _: &Task, out: &mut String) {
                let _ = write!(out, "{}", raw as $t);
            }
        }
    )*};
}
integer_args!(i32, u32, i64, u64, usize, u16);

impl Arg for UserAddr {
    fn decode(raw: u64) -> Result<Self> {
        Ok(UserAddr(raw))
    }
    fn show(raw: u64, _: &Task, out: &mut String) {
        let _ = match raw {
            0 => write!(out, "NULL"),
            _ => write!(out, "{raw:#x}"),
        };
    }
}

/// A file descriptor argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fd(pub i32);

/// `AT_FDCWD`.
pub const AT_FDCWD: i32 = -100;

impl Arg for Fd {
    fn decode(raw: u64) -> Result<Self> {
        Ok(Fd(raw as i32))
    }
    fn show(raw: u64, _: &Task, out: &mut String) {
        let _ = match raw as i32 {
            AT_FDCWD => write!(out, "AT_FDCWD"),
            fd => write!(out, "{fd}"),
        };
    }
}

/// A pointer to a NUL-terminated path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathPtr(pub UserAddr);

impl Arg for PathPtr {
    fn decode(raw: u64) -> Result<Self> {
        Ok(PathPtr(UserAddr(raw)))
    }
    fn show(raw: u64, task: &Task, out: &mut String) {
        match task.mm().and_then(|mm| mm.read_cstr(UserAddr(raw), 255)) {
            Ok(s) => {
                let _ = write!(out, "\"{}\"", s.escape_ascii());
            }
            Err(_) => UserAddr::show(raw, task, out),
        }
    }
}

impl PathPtr {
    /// The path. `ENAMETOOLONG` at `PATH_MAX`, `EFAULT` for a bad pointer.
    pub fn read(self, mm: &MemoryManager) -> Result<Vec<u8>> {
        mm.read_cstr(self.0, 4095)
    }
}

macro_rules! numeric_args {
    ($($(#[$doc:meta])* $name:ident as $format:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub u32);
        impl Arg for $name {
            fn decode(raw: u64) -> Result<Self> {
                Ok($name(raw as u32))
            }
            fn show(raw: u64, _: &Task, out: &mut String) {
                let _ = write!(out, $format, raw as u32);
            }
        }
    )*};
}
numeric_args! {
    /// A flag word that the handler itself checks.
    Flags as "{:#x}";
    /// Permission bits.
    Mode as "{:#o}";
}

/// A signal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigNo(pub i32);

impl Arg for SigNo {
    fn decode(raw: u64) -> Result<Self> {
        Ok(SigNo(raw as i32))
    }
    fn show(raw: u64, _: &Task, out: &mut String) {
        let _ = write!(out, "SIG{}", raw as i32);
    }
}

/// Turns a raw flag word into a flag set; bits that the set does not know are `EINVAL`.
pub fn flags<F: bitflags::Flags<Bits = u32>>(raw: u32) -> Result<F> {
    F::from_bits(raw).ok_or(Errno::EINVAL)
}
