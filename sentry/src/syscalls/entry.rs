//! What a row of the table is, and the macro that makes rows.

use super::SysResult;
use crate::errno::Errno;
use crate::kernel::{CurrentTask, Task};

/// How well a system call is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Behaves as on Linux in everything we know of.
    Full,
    /// Works, but for what the note says.
    Partial(&'static str),
    /// Always fails with this error, on purpose; the text says why.
    Refused(Errno, &'static str),
    /// Not written yet: `ENOSYS`.
    Missing,
}

/// An argument's name and how `--strace` shows it.
pub struct ArgSpec {
    /// Name as in the manual page.
    pub name: &'static str,
    /// Appends the readable value.
    pub show: fn(u64, &Task, &mut String),
}

/// A row of the table.
pub struct Entry {
    /// Number in `rax`.
    pub nr: u32,
    /// Name as in `syscalls(2)`.
    pub name: &'static str,
    /// Arguments, in order.
    pub args: &'static [ArgSpec],
    /// How well it is supported.
    pub support: Support,
    /// Decodes the arguments and does the work.
    pub handler: fn(&mut CurrentTask, [u64; 6]) -> SysResult,
}

/// Makes a constant slice of [`Entry`] from rows of the form
/// `NR NAME(ARG: TYPE, …) [SUPPORT …]`, where the bracket is one of `full HANDLER`,
/// `partial HANDLER, "what is missing"`, `refused ERRNO "why"` and `missing`.
macro_rules! rows {
    ($group:ident: $($nr:literal $name:ident $(($($arg:ident: $ty:ty),* $(,)?))? [$($what:tt)*])*) => {
        #[doc = concat!("Rows of the family ", stringify!($group), ".")]
        pub const $group: &[$crate::syscalls::entry::Entry] = &[
            $($crate::syscalls::entry::row!($nr $name ($($($arg: $ty),*)?) [$($what)*])),*
        ];
    };
}

macro_rules! row {
    ($nr:literal $name:ident $args:tt [full $handler:path]) => {
        $crate::syscalls::entry::row!(@ $nr $name $args $handler, $crate::syscalls::entry::Support::Full)
    };
    ($nr:literal $name:ident $args:tt [partial $handler:path, $note:literal]) => {
        $crate::syscalls::entry::row!(@ $nr $name $args $handler, $crate::syscalls::entry::Support::Partial($note))
    };
    ($nr:literal $name:ident ($($arg:ident: $ty:ty),*) [refused $errno:ident $why:literal]) => {
        $crate::syscalls::entry::Entry {
            nr: $nr,
            name: stringify!($name),
            args: &[$($crate::syscalls::entry::ArgSpec {
                name: stringify!($arg),
                show: <$ty as $crate::syscalls::arg::Arg>::show,
            }),*],
            support: $crate::syscalls::entry::Support::Refused($crate::errno::Errno::$errno, $why),
            handler: |_, _| Err($crate::errno::Errno::$errno),
        }
    };
    ($nr:literal $name:ident () [missing]) => {
        $crate::syscalls::entry::Entry {
            nr: $nr,
            name: stringify!($name),
            args: &[],
            support: $crate::syscalls::entry::Support::Missing,
            handler: |_, _| Err($crate::errno::Errno::ENOSYS),
        }
    };
    (@ $nr:literal $name:ident ($($arg:ident: $ty:ty),*) $handler:path, $support:expr) => {
        $crate::syscalls::entry::Entry {
            nr: $nr,
            name: stringify!($name),
            args: &[$($crate::syscalls::entry::ArgSpec {
                name: stringify!($arg),
                show: <$ty as $crate::syscalls::arg::Arg>::show,
            }),*],
            support: $support,
            handler: |t, raw| {
                let [$($arg,)* ..] = raw;
                $(let $arg = <$ty as $crate::syscalls::arg::Arg>::decode($arg)?;)*
                $handler(t $(, $arg)*)
            },
        }
    };
}

pub(crate) use {row, rows};
