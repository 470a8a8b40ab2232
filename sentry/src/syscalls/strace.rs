//! `--strace`: one line for every system call.

use super::entry::Entry;
use super::{SysResult, dispatch, table};
use crate::kernel::CurrentTask;
use std::fmt::Write;

/// Makes a system call and logs it: `[pid comm] name(arguments) = result <seconds>`.
#[cold]
pub fn call(t: &mut CurrentTask, nr: u64, args: [u64; 6]) -> SysResult {
    let mut line = String::with_capacity(160);
    let comm = t.comm();
    let _ = write!(line, "[{} {}] ", t.tid(), comm.escape_ascii());
    let entry = table::lookup(nr);
    // Before the call: paths and buffers are shown as they are given, and exec replaces the memory.
    match entry {
        Some(entry) => show(t, entry, args, &mut line),
        None => {
            let _ = write!(line, "syscall_{}({:#x?})", nr as i64, args);
        }
    }
    if ends_the_caller(nr) {
        t.kernel().call_logs.line(nr, &line);
    }
    let start = t.kernel().time.monotonic();
    let result = dispatch::make(t, nr, args);
    let micros = t.kernel().time.monotonic().saturating_sub(start) / 1000;
    let _ = match result {
        Ok(value) if value >= 1 << 32 => write!(line, " = {value:#x}"),
        Ok(value) => write!(line, " = {value}"),
        Err(e) if e.is_restart() => write!(line, " = ? ({e}, to be restarted)"),
        Err(e) => write!(line, " = -1 {e}"),
    };
    let _ = write!(line, " <{}.{:06}>", micros / 1_000_000, micros % 1_000_000);
    if !ends_the_caller(nr) {
        t.kernel().call_logs.line(nr, &line);
    }
    result
}

/// `exit` and `exit_group`: the line is written before.
fn ends_the_caller(nr: u64) -> bool {
    matches!(nr, 60 | 231)
}

fn show(t: &CurrentTask, entry: &Entry, args: [u64; 6], line: &mut String) {
    line.push_str(entry.name);
    line.push('(');
    for (i, (spec, raw)) in entry.args.iter().zip(args).enumerate() {
        if i > 0 {
            line.push_str(", ");
        }
        (spec.show)(raw, t.task(), line);
    }
    line.push(')');
}
