//! POSIX timers (`timer_create(2)`).

use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Signal};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::time::process_timers::{self as timers, Notify};
use crate::time::{ClockId, Itimerspec};
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;
const SIGEV_THREAD_ID: i32 = 4;
const TIMER_ABSTIME: i32 = 1;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Sigevent {
    value: u64,
    signo: i32,
    notify: i32,
    tid: i32,
    pad: [i32; 11],
}

fn notification(t: &CurrentTask, event: &Sigevent) -> Result<Notify> {
    let signal = || Signal::new(event.signo).ok_or(Errno::EINVAL);
    match event.notify {
        SIGEV_NONE => Ok(Notify::None),
        SIGEV_SIGNAL | SIGEV_THREAD => Ok(Notify::Process(signal()?)),
        SIGEV_THREAD_ID => {
            let task = t.find_task(event.tid).ok().filter(|task| task.tgid() == t.tgid());
            task.ok_or(Errno::EINVAL)?;
            Ok(Notify::Thread(signal()?, event.tid))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `timer_create(2)`
pub fn timer_create(
    t: &mut CurrentTask,
    clock: i32,
    event: UserAddr,
    id_at: UserAddr,
) -> SysResult {
    let mut id = ClockId::decode(clock)?;
    let mut whose = None;
    match (id, clock) {
        (ClockId::MonotonicRaw, _) | (_, 5 | 6) => return Err(Errno::EOPNOTSUPP),
        (ClockId::ThreadCpu(0, kind), _) => id = ClockId::ThreadCpu(t.tid(), kind),
        (ClockId::ProcessCpu(pid, kind), _) if pid == t.ns_tgid() => {
            id = ClockId::ProcessCpu(0, kind);
        }
        (ClockId::ProcessCpu(pid, _), _) if pid != 0 => {
            whose = Some(Arc::downgrade(&t.find_group(pid).map_err(|_| Errno::EINVAL)?));
        }
        _ => {}
    }
    if id.is_cpu() && whose.is_none() {
        timers::cpu_clock(t.kernel(), t.group(), id)?;
    }
    let event = if event.is_null() { None } else { Some(t.mm().read_obj::<Sigevent>(event)?) };
    let given = match &event {
        Some(event) => Some((notification(t, event)?, event.value)),
        None => None,
    };
    // Without an event: SIGALRM that carries the timer's id.
    let default = |id: i32| (Notify::Process(Signal::SIGALRM), id as u64);
    let timer = timers::create(t.group(), id, whose, |id| given.unwrap_or_else(|| default(id)))?;
    if let Err(e) = t.mm().write_obj(id_at, &timer) {
        timers::delete(t.kernel(), t.group(), timer)?;
        return Err(e);
    }
    Ok(0)
}

/// `timer_settime(2)`
pub fn timer_settime(
    t: &mut CurrentTask,
    id: i32,
    flags: i32,
    new: UserAddr,
    old: UserAddr,
) -> SysResult {
    if new.is_null() {
        return Err(Errno::EINVAL);
    }
    let new = t.mm().read_obj::<Itimerspec>(new)?.to_nanos()?;
    let absolute = flags & TIMER_ABSTIME != 0;
    let shift = |clock, at| t.namespaces().time.host(clock, at);
    let before = timers::set(t.kernel(), t.group(), id, new, absolute, shift)?;
    if !old.is_null() {
        t.mm().write_obj(old, &Itimerspec::from_nanos(before))?;
    }
    Ok(0)
}

/// `timer_gettime(2)`
pub fn timer_gettime(t: &mut CurrentTask, id: i32, at: UserAddr) -> SysResult {
    let current = timers::get(t.kernel(), t.group(), id)?;
    t.mm().write_obj(at, &Itimerspec::from_nanos(current))?;
    Ok(0)
}

/// `timer_getoverrun(2)`
pub fn timer_getoverrun(t: &mut CurrentTask, id: i32) -> SysResult {
    timers::overrun(t.group(), id)
}

/// `timer_delete(2)`
pub fn timer_delete(t: &mut CurrentTask, id: i32) -> SysResult {
    timers::delete(t.kernel(), t.group(), id)?;
    Ok(0)
}
