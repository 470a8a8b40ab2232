//! What all calls that wait for several things share: timeouts, signal masks, `SIGPIPE`.

use crate::errno::{Errno, Result};
use crate::kernel::signal::deliver::{end_temporary_mask, set_temporary_mask};
use crate::kernel::{CurrentTask, Rlimit, SigInfo, SigSet, Signal};
use crate::mm::UserAddr;
use platform::host::time::Clock;
use std::sync::atomic::Ordering;

/// Nanoseconds of the host's `CLOCK_MONOTONIC`.
pub fn now() -> u64 {
    Clock::Monotonic.now()
}

/// How long a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// Not at all.
    Zero,
    /// Until that time of [`now`].
    At(u64),
    /// As long as it takes.
    Never,
}

impl Timeout {
    /// From now on.
    pub fn after(nanos: u64) -> Timeout {
        match nanos {
            0 => Timeout::Zero,
            n => Timeout::At(now().saturating_add(n)),
        }
    }

    /// Milliseconds as `poll(2)` and `epoll_wait(2)` take them: negative is for ever.
    pub fn from_millis(millis: i32) -> Timeout {
        match u64::try_from(millis) {
            Ok(ms) => Timeout::after(ms.saturating_mul(1_000_000)),
            Err(_) => Timeout::Never,
        }
    }

    /// A `struct timespec` in guest memory; null is for ever. `EINVAL` for an invalid one.
    pub fn read_timespec(t: &CurrentTask, addr: UserAddr) -> Result<Timeout> {
        if addr.is_null() {
            return Ok(Timeout::Never);
        }
        let [sec, nsec]: [i64; 2] = t.mm().read_obj(addr)?;
        let (Ok(sec), Ok(nsec)) = (u64::try_from(sec), u64::try_from(nsec)) else {
            return Err(Errno::EINVAL);
        };
        if nsec >= 1_000_000_000 {
            return Err(Errno::EINVAL);
        }
        Ok(Timeout::after(sec.saturating_mul(1_000_000_000).saturating_add(nsec)))
    }

    /// For [`CurrentTask::block`].
    pub fn deadline(self) -> Option<u64> {
        match self {
            Timeout::Zero => Some(0),
            Timeout::At(at) => Some(at),
            Timeout::Never => None,
        }
    }

    /// Nanoseconds that are left.
    pub fn left(self) -> u64 {
        match self {
            Timeout::At(at) => at.saturating_sub(now()),
            _ => 0,
        }
    }

    /// Stores what is left to a `struct timespec`, or, with `micros`, a `struct timeval`. As in
    /// Linux a failure to do so is not the call's failure.
    pub fn write_left(self, t: &CurrentTask, addr: UserAddr, micros: bool) {
        const STICKY_TIMEOUTS: u32 = 0x0400_0000;
        let sticky = t.personality.load(Ordering::Relaxed) & STICKY_TIMEOUTS != 0;
        if addr.is_null() || self == Timeout::Never || sticky {
            return;
        }
        let left = self.left();
        let unit = if micros { 1000 } else { 1 };
        let value = [(left / 1_000_000_000) as i64, (left % 1_000_000_000 / unit) as i64];
        let _ = t.mm().write_obj(addr, &value);
    }
}

/// Size of the kernel's `sigset_t`.
const SIGSET_SIZE: u64 = 8;

/// Runs `call` with another signal mask, if one is given. The old mask comes back when the call
/// returns, or after the handler that interrupted it.
pub fn with_mask<T>(
    t: &mut CurrentTask,
    addr: UserAddr,
    size: u64,
    call: impl FnOnce(&mut CurrentTask) -> Result<T>,
) -> Result<T> {
    if addr.is_null() {
        return call(t);
    }
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let mask = SigSet(t.mm().read_obj(addr)?);
    set_temporary_mask(t, mask.without(SigSet::UNBLOCKABLE));
    let result = call(t);
    if !matches!(result, Err(Errno::ERESTARTNOHAND | Errno::EINTR)) {
        end_temporary_mask(t);
    }
    result
}

/// Sends the caller `SIGPIPE`.
pub fn sigpipe(t: &CurrentTask) {
    let info = SigInfo::user(Signal::SIGPIPE, t.tgid(), t.creds().uid);
    t.task().send_signal(&info);
}

/// The most descriptors that one call may name (`RLIMIT_NOFILE`).
pub fn max_fds(t: &CurrentTask) -> u64 {
    t.limit(Rlimit::Nofile).soft
}

/// How many descriptors the task's table has room for, as far as `select(2)` is concerned.
pub fn table_size(t: &CurrentTask) -> usize {
    t.files().size().next_power_of_two().max(256)
}
