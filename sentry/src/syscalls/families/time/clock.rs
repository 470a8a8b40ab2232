//! Reading clocks (`clock_gettime(2)`) and setting the sandbox's wall clock. The host's is out of reach.

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_SYS_TIME;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::time::ntp::Timex;
use crate::time::process_timers::cpu_clock;
use crate::time::{ClockId, NANOS, Timespec, Timeval};
use crate::wait::{EventMask, Waker};

/// Any clock's time for the calling task, in nanoseconds.
pub(super) fn read(t: &CurrentTask, clock: ClockId) -> Result<u64> {
    match clock {
        ClockId::ThreadCpu(0, kind) => {
            cpu_clock(t.kernel(), t.group(), ClockId::ThreadCpu(t.tid(), kind))
        }
        clock if clock.is_cpu() => cpu_clock(t.kernel(), t.group(), clock),
        clock => {
            let now = t.kernel().time.now(clock)?;
            Ok(t.namespaces().time.shown(clock, now))
        }
    }
}

/// `clock_gettime(2)`
pub fn clock_gettime(t: &mut CurrentTask, clock: i32, at: UserAddr) -> SysResult {
    let now = read(t, ClockId::decode(clock)?)?;
    t.mm().write_obj(at, &Timespec::from_nanos(now))?;
    Ok(0)
}

/// `clock_getres(2)`
pub fn clock_getres(t: &mut CurrentTask, clock: i32, at: UserAddr) -> SysResult {
    let id = ClockId::decode(clock)?;
    if id.is_cpu() {
        read(t, id)?;
    }
    // The coarse clocks advance with the tick of a kernel at 250 Hz.
    let nanos = if matches!(clock, 5 | 6) { 4_000_000 } else { 1 };
    if !at.is_null() {
        t.mm().write_obj(at, &Timespec::from_nanos(nanos))?;
    }
    Ok(0)
}

/// `gettimeofday(2)`
pub fn gettimeofday(t: &mut CurrentTask, tv: UserAddr, tz: UserAddr) -> SysResult {
    if !tv.is_null() {
        let now = t.kernel().time.realtime();
        t.mm().write_obj(tv, &Timeval::from_nanos(now))?;
    }
    if !tz.is_null() {
        t.mm().write_obj(tz, &[0_i32; 2])?;
    }
    Ok(0)
}

/// `time(2)`
pub fn time(t: &mut CurrentTask, at: UserAddr) -> SysResult {
    let now = t.kernel().time.realtime() / NANOS;
    if !at.is_null() {
        t.mm().write_obj(at, &now)?;
    }
    Ok(now)
}

/// Moves the wall clock by `by` nanoseconds, and everything that waits for it.
fn shift_realtime(t: &CurrentTask, by: i64) {
    let kernel = t.kernel();
    kernel.time.shift_realtime(by);
    kernel.timers.wall_clock_set(&kernel.time);
    // Sleeps until a time of day look at the clock again.
    for group in kernel.thread_groups() {
        for task in group.tasks() {
            task.wake(EventMask::empty());
        }
    }
}

/// Sets the wall clock. `EPERM` without `CAP_SYS_TIME`, `EINVAL` for a time before the sandbox's boot.
fn set_realtime(t: &CurrentTask, to: u64) -> SysResult {
    if !t.creds().has(CAP_SYS_TIME) {
        return Err(Errno::EPERM);
    }
    let time = &t.kernel().time;
    // The monotonic clock would have started before the epoch.
    if to > i64::MAX as u64 || to < time.monotonic() {
        return Err(Errno::EINVAL);
    }
    let by = (to as i64).wrapping_sub(time.realtime() as i64);
    time.ntp.lock().clear();
    shift_realtime(t, by);
    Ok(0)
}

/// `settimeofday(2)`
pub fn settimeofday(t: &mut CurrentTask, tv: UserAddr, tz: UserAddr) -> SysResult {
    let mut to = None;
    if !tv.is_null() {
        let tv: Timeval = t.mm().read_obj(tv)?;
        if !(0..=1_000_000).contains(&tv.usec) {
            return Err(Errno::EINVAL);
        }
        to = Some(tv.to_nanos());
    }
    if !tz.is_null() {
        let [west, _]: [i32; 2] = t.mm().read_obj(tz)?;
        if !t.creds().has(CAP_SYS_TIME) {
            return Err(Errno::EPERM);
        }
        if !(-15 * 60..=15 * 60).contains(&west) {
            return Err(Errno::EINVAL);
        }
    }
    match to {
        Some(_) if !t.creds().has(CAP_SYS_TIME) => Err(Errno::EPERM),
        Some(to) => set_realtime(t, to?),
        None => Ok(0),
    }
}

/// `clock_settime(2)`
pub fn clock_settime(t: &mut CurrentTask, clock: i32, at: UserAddr) -> SysResult {
    let id = ClockId::decode(clock)?;
    // CPU clocks refuse later, once the time has been looked at.
    if !(clock == 0 || id.is_cpu() && clock < 0) {
        return Err(Errno::EINVAL);
    }
    let to = t.mm().read_obj::<Timespec>(at)?.to_nanos();
    match id {
        ClockId::Realtime => set_realtime(t, to?),
        _ => Err(Errno::EPERM),
    }
}

/// `adjtimex(2)`
pub fn adjtimex(t: &mut CurrentTask, at: UserAddr) -> SysResult {
    let mut timex: Timex = t.mm().read_obj(at)?;
    let privileged = t.creds().has(CAP_SYS_TIME);
    let kernel = t.kernel().clone();
    let (state, jump, nanoseconds) = {
        let mut ntp = kernel.time.ntp.lock();
        let (state, jump) = ntp.adjust(&mut timex, privileged)?;
        (state, jump, ntp.nanoseconds())
    };
    if jump != 0 {
        let to = kernel.time.realtime().checked_add_signed(jump);
        if to.is_none_or(|to| to > i64::MAX as u64 || to < kernel.time.monotonic()) {
            return Err(Errno::EINVAL);
        }
        shift_realtime(t, jump);
    }
    let now = kernel.time.realtime();
    timex.sec = (now / NANOS) as i64;
    let unit = if nanoseconds { 1 } else { 1000 };
    timex.usec = (now % NANOS / unit) as i64;
    t.mm().write_obj(at, &timex)?;
    Ok(state)
}

/// `clock_adjtime(2)`
pub fn clock_adjtime(t: &mut CurrentTask, clock: i32, at: UserAddr) -> SysResult {
    // Linux looks at the structure first.
    t.mm().read_obj::<Timex>(at)?;
    match ClockId::decode(clock)? {
        ClockId::Realtime if clock == 0 => adjtimex(t, at),
        _ => Err(Errno::EOPNOTSUPP),
    }
}
