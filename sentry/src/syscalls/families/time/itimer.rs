//! Interval timers (`setitimer(2)`, `alarm(2)`).

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::time::process_timers::{Itimer, get_itimer, set_itimer};
use crate::time::{Itimerval, NANOS, Timeval};

fn which(number: i32) -> Result<Itimer> {
    Ok(match number {
        0 => Itimer::Real,
        1 => Itimer::Virtual,
        2 => Itimer::Prof,
        _ => return Err(Errno::EINVAL),
    })
}

fn to_abi((value, interval): (u64, u64)) -> Itimerval {
    // What is left is at least a microsecond.
    let value = if value == 0 { 0 } else { value.max(1000) };
    Itimerval { interval: Timeval::from_nanos(interval), value: Timeval::from_nanos(value) }
}

/// `getitimer(2)`
pub fn getitimer(t: &mut CurrentTask, number: i32, at: UserAddr) -> SysResult {
    let current = get_itimer(t.kernel(), t.group(), which(number)?);
    t.mm().write_obj(at, &to_abi(current))?;
    Ok(0)
}

/// `setitimer(2)`
pub fn setitimer(t: &mut CurrentTask, number: i32, new: UserAddr, old: UserAddr) -> SysResult {
    let new = if new.is_null() { Itimerval::default() } else { t.mm().read_obj(new)? };
    let (value, interval) = (new.value.to_nanos()?, new.interval.to_nanos()?);
    let before = set_itimer(t.kernel(), t.group(), which(number)?, value, interval);
    if !old.is_null() {
        t.mm().write_obj(old, &to_abi(before))?;
    }
    Ok(0)
}

/// `alarm(2)`: seconds that were left, rounded, but never down to none.
pub fn alarm(t: &mut CurrentTask, seconds: u32) -> SysResult {
    let value = u64::from(seconds) * NANOS;
    let (left, _) = set_itimer(t.kernel(), t.group(), Itimer::Real, value, 0);
    Ok(match left {
        0 => 0,
        left => ((left + NANOS / 2) / NANOS).max(1),
    })
}
