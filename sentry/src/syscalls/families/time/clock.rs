//! Reading clocks (`clock_gettime(2)`). They are the host's: no one in a sandbox can set them.

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_SYS_TIME;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::time::process_timers::cpu_clock;
use crate::time::{ClockId, NANOS, Timespec, Timeval};

/// Any clock's time for the calling task, in nanoseconds.
pub(super) fn read(t: &CurrentTask, clock: ClockId) -> Result<u64> {
    match clock {
        ClockId::ThreadCpu(0, kind) => {
            cpu_clock(t.kernel(), t.group(), ClockId::ThreadCpu(t.tid(), kind))
        }
        clock if clock.is_cpu() => cpu_clock(t.kernel(), t.group(), clock),
        clock => t.kernel().time.now(clock),
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

/// `settimeofday(2)`
pub fn settimeofday(t: &mut CurrentTask, tv: UserAddr, tz: UserAddr) -> SysResult {
    if !tv.is_null() {
        t.mm().read_obj::<Timeval>(tv)?.to_nanos()?;
    }
    if !tz.is_null() {
        t.mm().read_obj::<[i32; 2]>(tz)?;
    }
    Err(Errno::EPERM)
}

/// `clock_settime(2)`
pub fn clock_settime(t: &mut CurrentTask, clock: i32, at: UserAddr) -> SysResult {
    let id = ClockId::decode(clock)?;
    if id != ClockId::Realtime || clock != 0 {
        return Err(if id.is_cpu() { Errno::EPERM } else { Errno::EINVAL });
    }
    t.mm().read_obj::<Timespec>(at)?.to_nanos()?;
    Err(Errno::EPERM)
}

/// Size of `struct timex`.
const TIMEX: usize = 208;
/// The clock is not synchronized (`TIME_ERROR`).
const TIME_ERROR: u64 = 5;

/// `adjtimex(2)`: reading only.
pub fn adjtimex(t: &mut CurrentTask, at: UserAddr) -> SysResult {
    let mut timex: [u8; TIMEX] = t.mm().read_obj(at)?;
    let modes = timex.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b));
    // ADJ_OFFSET_SS_READ only reads, too.
    if modes != 0 && modes != 0xa001 {
        return Err(if t.creds().has(CAP_SYS_TIME) || modes != 0 {
            Errno::EPERM
        } else {
            Errno::EINVAL
        });
    }
    timex = [0; TIMEX];
    let mut put = |at: usize, value: i64| {
        if let Some(place) = timex.get_mut(at..at + 8) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    };
    let now = Timeval::from_nanos(t.kernel().time.realtime());
    put(24, 16_000_000);
    put(32, 16_000_000);
    // STA_UNSYNC
    put(40, 64);
    put(48, 2);
    put(56, 1);
    put(64, 32_768_000);
    put(72, now.sec);
    put(80, now.usec);
    put(88, 10_000);
    t.mm().write(at, &timex)?;
    Ok(TIME_ERROR)
}

/// `clock_adjtime(2)`: reading only.
pub fn clock_adjtime(t: &mut CurrentTask, clock: i32, at: UserAddr) -> SysResult {
    match ClockId::decode(clock)? {
        ClockId::Realtime if clock == 0 => adjtimex(t, at),
        _ => Err(Errno::EOPNOTSUPP),
    }
}
