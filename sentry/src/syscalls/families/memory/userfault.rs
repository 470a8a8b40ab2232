//! `userfaultfd(2)`.

use crate::errno::Errno;
use crate::fs::userfaultfd;
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_SYS_PTRACE;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Flags;
use crate::syscalls::families::file::install;
use std::sync::atomic::Ordering;

/// `userfaultfd(2)`. Who may not trace gets faults of its own code only, unless `vm.unprivileged_userfaultfd` is
/// set: `EPERM`.
pub fn userfaultfd(t: &mut CurrentTask, flags: Flags) -> SysResult {
    let all_faults = flags.0 & userfaultfd::USER_MODE_ONLY == 0;
    let anybody = userfaultfd::UNPRIVILEGED.load(Ordering::Relaxed) != 0;
    if all_faults && !anybody && !t.creds().has(CAP_SYS_PTRACE) {
        return Err(Errno::EPERM);
    }
    let (file, cloexec) = userfaultfd::from_flags(t, flags.0)?;
    install(t, file, cloexec)
}
