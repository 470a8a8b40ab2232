//! The system calls to make, read from the sentry's own table: a call that is new there is fuzzed.

/// What an argument is for, by its type and name in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file descriptor.
    Fd,
    /// Pointer to a path.
    Path,
    /// Address of a mapping, rather than of a buffer.
    Mapping,
    /// Pointer to anything.
    Pointer,
    /// Number of bytes or elements.
    Length,
    /// Bits.
    Flags,
    /// A process or thread.
    Pid,
    /// A signal.
    Signal,
    /// Some other number.
    Number,
}

/// A system call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Number.
    pub number: i64,
    /// Name.
    pub name: &'static str,
    /// Its arguments.
    pub args: Vec<Kind>,
}

const TABLE: &str = include_str!("../../../../sentry/src/syscalls/table.rs");

/// All calls, by number.
pub fn all() -> Vec<Call> {
    let mut calls: Vec<Call> = TABLE.lines().filter_map(row).collect();
    calls.sort_by_key(|call| call.number);
    calls
}

/// Reads `    NUMBER name(arg: Type, …) [support …]`.
fn row(line: &'static str) -> Option<Call> {
    let (number, rest) = line.trim_start().split_once(' ')?;
    let number = number.parse().ok()?;
    let (head, _) = rest.split_once(" [")?;
    let (name, args) = head.split_once('(').unwrap_or((head, ""));
    let args = args.trim_end_matches(')').split(',').filter_map(|arg| {
        let (name, of) = arg.trim().split_once(": ")?;
        Some(kind(name, of))
    });
    Some(Call { number, name: name.trim(), args: args.collect() })
}

fn kind(name: &str, of: &str) -> Kind {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    match of {
        "Fd" => Kind::Fd,
        "PathPtr" => Kind::Path,
        "Flags" | "Mode" => Kind::Flags,
        "SigNo" => Kind::Signal,
        "UserAddr" if has(&["old_address", "new_address", "shmaddr"]) => Kind::Mapping,
        "UserAddr" if name == "addr" || name == "start" => Kind::Mapping,
        "UserAddr" if has(&["path", "name", "target", "source", "dir_name"]) => Kind::Path,
        "UserAddr" => Kind::Pointer,
        _ if has(&["pid", "tid", "tgid", "who"]) && name != "pidfd" => Kind::Pid,
        _ if has(&["fd"]) => Kind::Fd,
        _ if name == "sig" || name == "signum" || name == "signo" => Kind::Signal,
        _ if has(&["len", "size", "count", "vcnt", "nr", "max", "nfds"]) => Kind::Length,
        _ if has(&["flags", "mode", "mask", "prot", "options", "events"]) => Kind::Flags,
        _ => Kind::Number,
    }
}
