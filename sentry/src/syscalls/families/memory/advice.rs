//! `madvise(2)`.

use super::CAP_SYS_ADMIN;
use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::kernel::accounting::note_before_release;
use crate::mm::{Advice, PAGE_SIZE, UserAddr, VmaFlags};
use crate::syscalls::SysResult;

/// `madvise(2)`
pub fn madvise(t: &mut CurrentTask, addr: UserAddr, len: u64, advice: i32) -> SysResult {
    let advice = match advice {
        0 => Advice::Pattern(VmaFlags::empty()),
        1 => Advice::Pattern(VmaFlags::RANDOM),
        2 => Advice::Pattern(VmaFlags::SEQUENTIAL),
        // WILLNEED, HUGEPAGE, NOHUGEPAGE, COLD, PAGEOUT: nothing that a
        // program could see.
        3 | 14 | 15 | 20 | 21 => Advice::Hint,
        4 => Advice::DontNeed { locked: false },
        8 => Advice::Free,
        9 => Advice::Remove,
        10 => Advice::DontFork(true),
        11 => Advice::DontFork(false),
        16 => Advice::DontDump(true),
        17 => Advice::DontDump(false),
        18 => Advice::WipeOnFork(true),
        19 => Advice::WipeOnFork(false),
        22 => Advice::Populate(false),
        23 => Advice::Populate(true),
        24 => Advice::DontNeed { locked: true },
        // HWPOISON and SOFT_OFFLINE are for the machine's administrator, which no guest is.
        100 | 101 if !t.creds().has(CAP_SYS_ADMIN) => return Err(Errno::EPERM),
        // MERGEABLE and UNMERGEABLE (no CONFIG_KSM), COLLAPSE and GUARD_INSTALL among them: unknown to
        // this kernel.
        _ => return Err(Errno::EINVAL),
    };
    if !addr.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if matches!(advice, Advice::DontNeed { .. }) {
        note_before_release(t, addr.0, len);
    }
    t.mm().madvise(addr, len, advice).map(|()| 0)
}
