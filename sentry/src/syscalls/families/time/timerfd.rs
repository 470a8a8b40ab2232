//! Timers as files (`timerfd_create(2)`).

use crate::errno::Errno;
use crate::kernel::{CurrentTask, Rlimit};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Fd;
use crate::time::timerfd::TimerFd;
use crate::time::{ClockId, Itimerspec};
use crate::vfs::{File, OpenFlags};
use std::sync::Arc;

const TFD_CLOEXEC: u32 = 0o2000000;
const TFD_NONBLOCK: u32 = 0o4000;
const TFD_TIMER_ABSTIME: u32 = 1;
const TFD_TIMER_CANCEL_ON_SET: u32 = 2;

/// `timerfd_create(2)`
pub fn timerfd_create(t: &mut CurrentTask, clock: i32, flags: u32) -> SysResult {
    if flags & !(TFD_CLOEXEC | TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    // CLOCK_REALTIME, _MONOTONIC, _BOOTTIME and the two alarm clocks.
    if !matches!(clock, 0 | 1 | 7 | 8 | 9) {
        return Err(Errno::EINVAL);
    }
    if matches!(clock, 8 | 9) {
        // CAP_WAKE_ALARM is 35.
        if !t.creds().has(35) {
            return Err(Errno::EPERM);
        }
    }
    let timer = TimerFd::new(t.kernel(), ClockId::decode(clock)?);
    let mut open = OpenFlags::RDWR;
    open.set(OpenFlags::NONBLOCK, flags & TFD_NONBLOCK != 0);
    let file = File::new(Arc::new(timer), None, open);
    let limit = t.limit(Rlimit::Nofile).soft;
    Ok(t.files().insert(file, flags & TFD_CLOEXEC != 0, 0, limit)? as u64)
}

/// `timerfd_settime(2)`
pub fn timerfd_settime(
    t: &mut CurrentTask,
    fd: Fd,
    flags: u32,
    new: UserAddr,
    old: UserAddr,
) -> SysResult {
    let new: Itimerspec = t.mm().read_obj(new)?;
    if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let new = new.to_nanos()?;
    let file = t.file(fd.0)?;
    let timer: &TimerFd = file.ops_as().ok_or(Errno::EINVAL)?;
    let (absolute, cancel) = (flags & TFD_TIMER_ABSTIME != 0, flags & TFD_TIMER_CANCEL_ON_SET != 0);
    let new = match new {
        // An absolute time is one in the caller's namespace; 0 stops the timer.
        (at, interval) if absolute && at != 0 => {
            (t.namespaces().time.host(timer.clock(), at).max(1), interval)
        }
        new => new,
    };
    let before = timer.set(t.kernel(), new, absolute, cancel)?;
    if !old.is_null() {
        t.mm().write_obj(old, &Itimerspec::from_nanos(before))?;
    }
    Ok(0)
}

/// `timerfd_gettime(2)`
pub fn timerfd_gettime(t: &mut CurrentTask, fd: Fd, at: UserAddr) -> SysResult {
    let file = t.file(fd.0)?;
    let timer: &TimerFd = file.ops_as().ok_or(Errno::EINVAL)?;
    let current = timer.get(t.kernel());
    t.mm().write_obj(at, &Itimerspec::from_nanos(current))?;
    Ok(0)
}
