//! `mlock(2)` and its kin.

use super::CAP_IPC_LOCK;
use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Flags;

const MLOCK_ONFAULT: u32 = 1;
const MCL_CURRENT: u32 = 1;
const MCL_FUTURE: u32 = 2;
const MCL_ONFAULT: u32 = 4;

/// `mlock(2)`
pub fn mlock(t: &mut CurrentTask, addr: UserAddr, len: u64) -> SysResult {
    mlock2(t, addr, len, Flags(0))
}

/// `mlock2(2)`
pub fn mlock2(t: &mut CurrentTask, addr: UserAddr, len: u64, flags: Flags) -> SysResult {
    if flags.0 & !MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    let privileged = t.creds().has(CAP_IPC_LOCK);
    t.mm().mlock(addr, len, flags.0 & MLOCK_ONFAULT != 0, privileged).map(|()| 0)
}

/// `munlock(2)`
pub fn munlock(t: &mut CurrentTask, addr: UserAddr, len: u64) -> SysResult {
    t.mm().munlock(addr, len).map(|()| 0)
}

/// `mlockall(2)`
pub fn mlockall(t: &mut CurrentTask, flags: Flags) -> SysResult {
    let bits = flags.0;
    if bits == 0 || bits & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || bits == MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let privileged = t.creds().has(CAP_IPC_LOCK);
    t.mm().mlockall(bits & MCL_CURRENT != 0, bits & MCL_FUTURE != 0, privileged).map(|()| 0)
}

/// `munlockall(2)`
pub fn munlockall(t: &mut CurrentTask) -> SysResult {
    t.mm().munlockall();
    Ok(0)
}
