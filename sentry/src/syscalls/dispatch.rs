//! From a number in a register to a handler.

use super::{SysResult, events, strace, table};
use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::kernel::trace::watched;

/// Makes a system call.
pub fn call(t: &mut CurrentTask, nr: u64, args: [u64; 6]) -> SysResult {
    match t.kernel().call_logs.watched() {
        0 => make(t, nr, args),
        who => watched_call(t, nr, args, who),
    }
}

/// Makes it, and tells nobody.
pub(super) fn make(t: &mut CurrentTask, nr: u64, args: [u64; 6]) -> SysResult {
    match table::lookup(nr) {
        Some(entry) => (entry.handler)(t, args),
        None => Err(Errno::ENOSYS),
    }
}

#[cold]
fn watched_call(t: &mut CurrentTask, nr: u64, args: [u64; 6], who: u32) -> SysResult {
    let before = match who & watched::EVENTS {
        0 => None,
        _ => events::before(t, nr, args),
    };
    let logged = who & watched::CALLS != 0 && t.kernel().call_logs.wants(nr);
    let result = if logged { strace::call(t, nr, args) } else { make(t, nr, args) };
    if let Some(before) = before {
        events::after(t, nr, before, &result);
    }
    result
}
