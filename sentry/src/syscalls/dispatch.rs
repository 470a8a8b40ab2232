//! From a number in a register to a handler.

use super::{SysResult, strace, table};
use crate::errno::Errno;
use crate::kernel::CurrentTask;

/// Makes a system call.
pub fn call(t: &mut CurrentTask, nr: u64, args: [u64; 6]) -> SysResult {
    if t.kernel().call_logs.is_on() && t.kernel().call_logs.wants(nr) {
        return strace::call(t, nr, args);
    }
    match table::lookup(nr) {
        Some(entry) => (entry.handler)(t, args),
        None => Err(Errno::ENOSYS),
    }
}
