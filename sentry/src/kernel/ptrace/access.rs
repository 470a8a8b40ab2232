//! Who may look into a process, and trace it (`ptrace(2)`, "Ptrace access mode checking").

use crate::kernel::credentials::CAP_SYS_PTRACE;
use crate::kernel::landlock::scope;
use crate::kernel::{Credentials, Task};

/// Which ids and capabilities of the caller count (`PTRACE_MODE_*CREDS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The real ids, for system calls.
    Real,
    /// Those for file access, for files of `proc`.
    Fs,
}

/// True if `caller` may inspect and change `target`, a task of another process: with the same ids, if it
/// is dumpable, in the same user namespace, and with no capability that the caller lacks; or with
/// `CAP_SYS_PTRACE` over its user namespace. Whoever has restricted himself looks only into those who are
/// under the same restrictions.
pub fn may_access(caller: &Credentials, target: &Task, mode: Mode) -> bool {
    let theirs = target.creds();
    if !scope::may_trace(caller, &theirs) {
        return false;
    }
    if caller.has_in(&theirs.user_ns, CAP_SYS_PTRACE) {
        return true;
    }
    let (uid, gid, capabilities) = match mode {
        Mode::Real => (caller.uid, caller.gid, caller.permitted),
        Mode::Fs => (caller.fsuid, caller.fsgid, caller.effective),
    };
    [theirs.uid, theirs.euid, theirs.suid].iter().all(|id| *id == uid)
        && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|id| *id == gid)
        && target.group().is_dumpable()
        && caller.user_ns == theirs.user_ns
        && theirs.permitted & !capabilities == 0
}
