//! Sleeping (`nanosleep(2)`, `clock_nanosleep(2)`).

use super::clock::read;
use crate::errno::Errno;
use crate::kernel::{CurrentTask, Wake};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::time::restart::RestartBlock;
use crate::time::{ClockId, Timespec};

const TIMER_ABSTIME: i32 = 1;

/// `nanosleep(2)`
pub fn nanosleep(t: &mut CurrentTask, duration: UserAddr, remaining: UserAddr) -> SysResult {
    let nanos = t.mm().read_obj::<Timespec>(duration)?.to_nanos()?;
    let until = read(t, ClockId::Monotonic)?.saturating_add(nanos);
    sleep_until(t, ClockId::Monotonic, until, Some(remaining))
}

/// `clock_nanosleep(2)`
pub fn clock_nanosleep(
    t: &mut CurrentTask,
    clock: i32,
    flags: i32,
    duration: UserAddr,
    remaining: UserAddr,
) -> SysResult {
    let id = ClockId::decode(clock)?;
    match id {
        ClockId::MonotonicRaw | ClockId::ThreadCpu(..) => return Err(Errno::EOPNOTSUPP),
        // The coarse clocks have no timers.
        _ if matches!(clock, 5 | 6) => return Err(Errno::EOPNOTSUPP),
        _ => {}
    }
    let nanos = t.mm().read_obj::<Timespec>(duration)?.to_nanos()?;
    if flags & TIMER_ABSTIME != 0 {
        return sleep_until(t, id, nanos, None);
    }
    // A length does not depend on the wall clock being set.
    let id = if id == ClockId::Realtime { ClockId::Monotonic } else { id };
    let until = read(t, id)?.saturating_add(nanos);
    sleep_until(t, id, until, Some(remaining))
}

/// Sleeps until a clock shows `until`. With `remaining` the sleep was given as a length: what is left of it
/// is written there when a signal interrupts it.
pub fn sleep_until(
    t: &mut CurrentTask,
    clock: ClockId,
    until: u64,
    remaining: Option<UserAddr>,
) -> SysResult {
    loop {
        let now = read(t, clock)?;
        if now >= until {
            return Ok(0);
        }
        let deadline = t.kernel().time.monotonic().saturating_add(until - now);
        if t.block(Some(deadline)) == Wake::Interrupted {
            break;
        }
    }
    let Some(remaining) = remaining else { return Err(Errno::ERESTARTNOHAND) };
    if !remaining.is_null() {
        let left = until.saturating_sub(read(t, clock)?);
        t.mm().write_obj(remaining, &Timespec::from_nanos(left))?;
    }
    t.restart = Some(RestartBlock::Sleep { clock, until, remaining });
    Err(Errno::ERESTART_RESTARTBLOCK)
}
