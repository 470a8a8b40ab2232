//! Interval timers and POSIX timers of a process (`setitimer(2)`, `timer_create(2)`).
//!
//! A periodic POSIX timer does not run on while its signal is pending: when the signal is taken, the
//! periods that have passed are its overrun, and the next one starts (as in Linux). Timers on CPU time are
//! looked at when they could have expired at the earliest; see [`CpuCheck`].

use super::source::{ClockId, CpuClock};
use super::{TimerHandle, TimerQueue, TimerTarget};
use crate::errno::{Errno, Result};
use crate::kernel::signal::info::SI_TIMER;
use crate::kernel::signal::{SigFields, send};
use crate::kernel::{Kernel, Rlimit, SigInfo, Signal, Task, ThreadGroup};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

const COOKIE_REAL: u64 = 0;
const COOKIE_CPU: u64 = 1;
const COOKIE_POSIX: u64 = 2;
/// CPU-time timers are looked at no more often than this, in nanoseconds.
const CPU_CHECK_MIN: u64 = 1_000_000;
/// Nor less often than this while the process uses no CPU.
const CPU_CHECK_MAX: u64 = 200_000_000;

/// `ITIMER_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Itimer {
    /// Wall-clock time: `SIGALRM`.
    Real,
    /// User CPU time: `SIGVTALRM`.
    Virtual,
    /// CPU time: `SIGPROF`.
    Prof,
}

/// A deadline on some clock and what follows it; a deadline of 0 is a stopped timer.
#[derive(Debug, Clone, Copy, Default)]
struct Period {
    deadline: u64,
    interval: u64,
}

impl Period {
    /// Time to the next expiration as seen at `now`; a running timer never has 0 left.
    fn remaining(&self, now: u64) -> u64 {
        if self.deadline == 0 {
            return 0;
        }
        if self.deadline > now || self.interval == 0 {
            return self.deadline.saturating_sub(now).max(1);
        }
        self.interval - (now - self.deadline) % self.interval
    }

    /// Moves the deadline behind `now`; the number of whole periods skipped. A timer without a period
    /// stops.
    fn advance(&mut self, now: u64) -> u64 {
        if self.interval == 0 {
            self.deadline = 0;
            return 0;
        }
        let missed = now.saturating_sub(self.deadline) / self.interval;
        let step = self.interval.saturating_mul(missed.saturating_add(1));
        self.deadline = self.deadline.saturating_add(step);
        missed
    }
}

/// What a POSIX timer does when it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// Nothing (`SIGEV_NONE`).
    None,
    /// A signal to the process (`SIGEV_SIGNAL`, and what the C library makes of `SIGEV_THREAD`).
    Process(Signal),
    /// A signal to one thread (`SIGEV_THREAD_ID`).
    Thread(Signal, i32),
}

#[derive(Debug)]
struct PosixTimer {
    clock: ClockId,
    /// Whose CPU time it counts, if that is another process's.
    whose: Option<Weak<ThreadGroup>>,
    notify: Notify,
    value: u64,
    period: Period,
    /// Overruns of the expiration whose signal was taken last.
    overrun: u64,
    /// Counts settings: the signal of an earlier one means nothing.
    sequence: u32,
    /// Its signal is pending.
    queued: bool,
    handle: Option<TimerHandle>,
}

impl PosixTimer {
    /// What its clock shows. `EINVAL` once what it counts has ended.
    fn now(&self, kernel: &Kernel, group: &Arc<ThreadGroup>) -> Result<u64> {
        match (&self.whose, self.clock) {
            (Some(other), ClockId::ProcessCpu(_, kind)) => {
                let other = other.upgrade().ok_or(Errno::EINVAL)?;
                cpu_clock(kernel, &other, ClockId::ProcessCpu(0, kind))
            }
            (_, clock) => now_on(kernel, group, clock),
        }
    }

    /// How many threads make its clock run.
    fn runners(&self, own: u64) -> u64 {
        let others = self.whose.as_ref().and_then(Weak::upgrade);
        others.map_or(own, |other| other.tasks().len().max(1) as u64)
    }
}

/// When CPU-time timers are looked at next.
#[derive(Debug, Default)]
struct CpuCheck {
    handle: Option<TimerHandle>,
    /// CPU time at the latest look, and how long the next one waits if nothing has changed.
    seen: u64,
    delay: u64,
    /// Next CPU time at which `RLIMIT_CPU` is complained about.
    limit_at: u64,
}

/// Timers of a process.
#[derive(Default)]
pub struct ProcessTimers {
    target: Option<Arc<Target>>,
    real: Period,
    real_handle: Option<TimerHandle>,
    virt: Period,
    prof: Period,
    posix: BTreeMap<i32, PosixTimer>,
    next_id: i32,
    cpu: CpuCheck,
}

struct Target {
    kernel: Weak<Kernel>,
    group: Weak<ThreadGroup>,
}

impl TimerTarget for Target {
    fn expired(&self, _queue: &Arc<TimerQueue>, cookie: u64) {
        let (Some(kernel), Some(group)) = (self.kernel.upgrade(), self.group.upgrade()) else {
            return;
        };
        match cookie {
            COOKIE_REAL => real_expired(&kernel, &group),
            COOKIE_CPU => check_cpu(&kernel, &group),
            id => posix_expired(&kernel, &group, (id - COOKIE_POSIX) as i32),
        }
    }
}

impl ProcessTimers {
    fn target(&mut self, kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>) -> Weak<dyn TimerTarget> {
        let target = self.target.get_or_insert_with(|| {
            Arc::new(Target { kernel: Arc::downgrade(kernel), group: Arc::downgrade(group) })
        });
        let weak: Weak<Target> = Arc::downgrade(target);
        weak
    }

    fn set_real(&mut self, kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>) {
        if let Some(handle) = self.real_handle.take() {
            kernel.timers.cancel(handle);
        }
        if self.real.deadline != 0 {
            let target = self.target(kernel, group);
            self.real_handle = Some(kernel.timers.set(self.real.deadline, target, COOKIE_REAL));
        }
    }

    fn arm_posix(&mut self, kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, id: i32) {
        let target = self.target(kernel, group);
        let Some(timer) = self.posix.get_mut(&id) else { return };
        if let Some(handle) = timer.handle.take() {
            kernel.timers.cancel(handle);
        }
        let runs = timer.period.deadline != 0 && !timer.queued && timer.notify != Notify::None;
        if !runs || timer.clock.is_cpu() {
            return;
        }
        if let Ok(at) = kernel.time.monotonic_deadline(timer.clock, timer.period.deadline) {
            let (wall, cookie) = (timer.period.deadline, COOKIE_POSIX + id as u64);
            timer.handle = Some(match timer.clock {
                ClockId::Realtime => kernel.timers.set_wall(at, wall, target, cookie),
                _ => kernel.timers.set(at, target, cookie),
            });
        }
    }

    /// Sets the next look at the CPU-time timers.
    fn arm_cpu(&mut self, kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>) {
        if let Some(handle) = self.cpu.handle.take() {
            kernel.timers.cancel(handle);
        }
        let (user, system) = group.cpu_times();
        let mut total = user.saturating_add(system);
        let tasks = group.tasks().len().max(1) as u64;
        let mut least = u64::MAX;
        let mut consider = |deadline: u64, now: u64, tasks: u64| {
            if deadline != 0 {
                least = least.min(deadline.saturating_sub(now) / tasks);
            }
        };
        consider(self.virt.deadline, user, tasks);
        consider(self.prof.deadline, total, tasks);
        consider(self.cpu.limit_at, total, tasks);
        for timer in self.posix.values().filter(|t| t.clock.is_cpu() && !t.queued) {
            if let Ok(now) = timer.now(kernel, group) {
                consider(timer.period.deadline, now, timer.runners(tasks));
                if timer.whose.is_some() {
                    total = total.saturating_add(now);
                }
            }
        }
        if least == u64::MAX {
            return;
        }
        let mut delay = least.max(CPU_CHECK_MIN);
        if total == self.cpu.seen {
            // No progress: the process sleeps, and so can we for a while.
            delay = delay.max(self.cpu.delay.saturating_mul(2)).min(CPU_CHECK_MAX);
        }
        self.cpu.seen = total;
        self.cpu.delay = delay;
        let at = kernel.time.monotonic().saturating_add(delay);
        let target = self.target(kernel, group);
        self.cpu.handle = Some(kernel.timers.set(at, target, COOKIE_CPU));
    }
}

/// A CPU clock of the process or of one of its threads, in nanoseconds. `EINVAL` for another clock or a
/// thread that is not there.
pub fn cpu_clock(kernel: &Kernel, group: &Arc<ThreadGroup>, clock: ClockId) -> Result<u64> {
    let pick = |(user, system): (u64, u64), kind| match kind {
        CpuClock::Virt => user,
        CpuClock::Prof | CpuClock::Sched => user.saturating_add(system),
    };
    match clock {
        ClockId::ProcessCpu(0, kind) => Ok(pick(group.cpu_times(), kind)),
        ClockId::ProcessCpu(pid, kind) => {
            let other = kernel.thread_group(pid).ok_or(Errno::EINVAL)?;
            Ok(pick(other.cpu_times(), kind))
        }
        ClockId::ThreadCpu(tid, kind) => {
            let task = group.tasks().into_iter().find(|t| t.tid() == tid);
            Ok(pick(task.ok_or(Errno::EINVAL)?.cpu_times(), kind))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn now_on(kernel: &Kernel, group: &Arc<ThreadGroup>, clock: ClockId) -> Result<u64> {
    if clock.is_cpu() { cpu_clock(kernel, group, clock) } else { kernel.time.now(clock) }
}

fn real_expired(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>) {
    {
        let mut timers = group.timers.lock();
        let now = kernel.time.monotonic();
        if timers.real.deadline == 0 || timers.real.deadline > now {
            return;
        }
        timers.real.advance(now);
        timers.set_real(kernel, group);
    }
    group.send_signal(kernel, &SigInfo::kernel(Signal::SIGALRM));
}

fn timer_info(id: i32, timer: &PosixTimer, signal: Signal) -> SigInfo {
    let (value, sequence) = (timer.value, timer.sequence);
    let fields = SigFields::Timer { id, sequence, overrun: 0, value };
    SigInfo { signal, errno: 0, code: SI_TIMER, fields }
}

/// Marks a timer as expired; the signal to send. `None` if it has not, or has nothing to send.
fn expire(id: i32, timer: &mut PosixTimer, now: u64) -> Option<(SigInfo, Option<i32>)> {
    if timer.period.deadline == 0 || timer.period.deadline > now || timer.queued {
        return None;
    }
    let (signal, tid) = match timer.notify {
        Notify::None => return None,
        Notify::Process(signal) => (signal, None),
        Notify::Thread(signal, tid) => (signal, Some(tid)),
    };
    timer.queued = true;
    Some((timer_info(id, timer, signal), tid))
}

fn posix_expired(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, id: i32) {
    let message = {
        let mut timers = group.timers.lock();
        let Some(timer) = timers.posix.get_mut(&id) else { return };
        let Ok(now) = timer.now(kernel, group) else { return };
        match expire(id, timer, now) {
            Some(message) => message,
            None => {
                // The clock was set back, or the timer was set anew.
                timers.arm_posix(kernel, group, id);
                return;
            }
        }
    };
    notify(kernel, group, id, message);
}

fn notify(
    kernel: &Arc<Kernel>,
    group: &Arc<ThreadGroup>,
    id: i32,
    (info, tid): (SigInfo, Option<i32>),
) {
    let task = tid.and_then(|tid| group.tasks().into_iter().find(|t| t.tid() == tid));
    if tid.is_some() && task.is_none() {
        return;
    }
    let queued = send::send(kernel, group, task.as_ref(), &info, false) == Ok(true);
    if !queued {
        // An ignored signal is never taken: the timer runs on by itself.
        next_period(kernel, group, id);
    }
}

/// Starts the next period of a timer whose signal has been taken; the overruns.
fn next_period(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, id: i32) -> u64 {
    let mut timers = group.timers.lock();
    let Some(timer) = timers.posix.get_mut(&id) else { return 0 };
    if !timer.queued {
        return 0;
    }
    timer.queued = false;
    let now = timer.now(kernel, group).unwrap_or(0);
    timer.overrun = timer.period.advance(now);
    let overrun = timer.overrun;
    if timer.clock.is_cpu() {
        timers.arm_cpu(kernel, group);
    } else {
        timers.arm_posix(kernel, group, id);
    }
    overrun
}

/// A timer's signal has been taken from its queue: fills in the overruns and starts the next period.
/// `None` if the timer was set anew or deleted since: then the signal is none.
pub fn dequeued(task: &Arc<Task>, mut info: SigInfo) -> Option<SigInfo> {
    if info.code == SI_TIMER
        && let SigFields::Timer { id, sequence, overrun, .. } = &mut info.fields
    {
        let current = task.group().timers.lock().posix.get(id).map(|t| t.sequence);
        if current != Some(*sequence) {
            return None;
        }
        let missed = next_period(task.kernel(), task.group(), *id);
        *overrun = i32::try_from(missed).unwrap_or(i32::MAX);
    }
    Some(info)
}

/// Looks at everything that runs on CPU time.
fn check_cpu(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>) {
    let mut signals = Vec::new();
    let mut messages = Vec::new();
    {
        let (user, system) = group.cpu_times();
        let total = user.saturating_add(system);
        let mut timers = group.timers.lock();
        let timers = &mut *timers;
        timers.cpu.handle = None;
        for (period, now, signal) in [
            (&mut timers.virt, user, Signal::SIGVTALRM),
            (&mut timers.prof, total, Signal::SIGPROF),
        ] {
            if period.deadline != 0 && period.deadline <= now {
                period.advance(now);
                signals.push(signal);
            }
        }
        if timers.cpu.limit_at != 0 && timers.cpu.limit_at <= total {
            let limit = group.limit(Rlimit::Cpu);
            let hard = limit.hard.saturating_mul(super::NANOS);
            if total >= hard {
                signals.push(Signal::SIGKILL);
                timers.cpu.limit_at = 0;
            } else {
                signals.push(Signal::SIGXCPU);
                timers.cpu.limit_at = timers.cpu.limit_at.saturating_add(super::NANOS);
            }
        }
        for (id, timer) in timers.posix.iter_mut().filter(|(_, t)| t.clock.is_cpu()) {
            if let Ok(now) = timer.now(kernel, group)
                && let Some(message) = expire(*id, timer, now)
            {
                messages.push((*id, message));
            }
        }
        timers.arm_cpu(kernel, group);
    }
    for signal in signals {
        group.send_signal(kernel, &SigInfo::kernel(signal));
    }
    for (id, message) in messages {
        notify(kernel, group, id, message);
    }
}

/// `RLIMIT_CPU` was changed.
pub fn cpu_limit_changed(kernel: &Kernel, group: &ThreadGroup) {
    let Some(kernel) = kernel.arc() else { return };
    let Some(group) = kernel.thread_group(group.tgid()) else { return };
    let soft = group.limit(Rlimit::Cpu).soft;
    let mut timers = group.timers.lock();
    timers.cpu.limit_at = match soft {
        u64::MAX => 0,
        seconds => seconds.saturating_mul(super::NANOS).max(1),
    };
    timers.arm_cpu(&kernel, &group);
}

/// Reads an interval timer: time left and period, in nanoseconds.
pub fn get_itimer(kernel: &Kernel, group: &Arc<ThreadGroup>, which: Itimer) -> (u64, u64) {
    let (user, system) = group.cpu_times();
    let timers = group.timers.lock();
    let (period, now) = match which {
        Itimer::Real => (&timers.real, kernel.time.monotonic()),
        Itimer::Virtual => (&timers.virt, user),
        Itimer::Prof => (&timers.prof, user.saturating_add(system)),
    };
    (period.remaining(now), period.interval)
}

/// Sets an interval timer to expire in `value` nanoseconds (0 stops it); what it had before.
pub fn set_itimer(
    kernel: &Arc<Kernel>,
    group: &Arc<ThreadGroup>,
    which: Itimer,
    value: u64,
    interval: u64,
) -> (u64, u64) {
    let old = get_itimer(kernel, group, which);
    let (user, system) = group.cpu_times();
    let mut timers = group.timers.lock();
    let set = |now: u64| match value {
        0 => Period::default(),
        value => Period { deadline: now.saturating_add(value), interval },
    };
    match which {
        Itimer::Real => {
            timers.real = set(kernel.time.monotonic());
            timers.set_real(kernel, group);
        }
        Itimer::Virtual => {
            timers.virt = set(user);
            timers.arm_cpu(kernel, group);
        }
        Itimer::Prof => {
            timers.prof = set(user.saturating_add(system));
            timers.arm_cpu(kernel, group);
        }
    }
    old
}

/// Makes a POSIX timer; its id. `whose` is the other process whose CPU time it counts. `EAGAIN` when the
/// process has too many.
pub fn create(
    group: &Arc<ThreadGroup>,
    clock: ClockId,
    whose: Option<Weak<ThreadGroup>>,
    notify: impl FnOnce(i32) -> (Notify, u64),
) -> Result<i32> {
    let mut timers = group.timers.lock();
    if timers.posix.len() as u64 >= group.limit(Rlimit::Sigpending).soft {
        return Err(Errno::EAGAIN);
    }
    while timers.posix.contains_key(&timers.next_id) {
        timers.next_id = timers.next_id.wrapping_add(1) & i32::MAX;
    }
    let id = timers.next_id;
    timers.next_id = id.wrapping_add(1) & i32::MAX;
    let (notify, value) = notify(id);
    let timer = PosixTimer {
        clock,
        whose,
        notify,
        value,
        period: Period::default(),
        overrun: 0,
        sequence: 0,
        queued: false,
        handle: None,
    };
    timers.posix.insert(id, timer);
    Ok(id)
}

/// Reads a POSIX timer: time left and period, in nanoseconds. `EINVAL` if there is none.
pub fn get(kernel: &Kernel, group: &Arc<ThreadGroup>, id: i32) -> Result<(u64, u64)> {
    let timers = group.timers.lock();
    let timer = timers.posix.get(&id).ok_or(Errno::EINVAL)?;
    let now = timer.now(kernel, group)?;
    let one_shot_over =
        timer.period.interval == 0 && timer.period.deadline != 0 && timer.period.deadline <= now;
    let remaining = if one_shot_over { 0 } else { timer.period.remaining(now) };
    Ok((remaining, timer.period.interval))
}

/// Sets a POSIX timer; what it had before. `shift` makes of an absolute time on a clock, as the guest knows
/// it, that of the sandbox. `EINVAL` if there is none.
pub fn set(
    kernel: &Arc<Kernel>,
    group: &Arc<ThreadGroup>,
    id: i32,
    (value, interval): (u64, u64),
    absolute: bool,
    shift: impl FnOnce(ClockId, u64) -> u64,
) -> Result<(u64, u64)> {
    let old = get(kernel, group, id)?;
    let mut timers = group.timers.lock();
    let timer = timers.posix.get_mut(&id).ok_or(Errno::EINVAL)?;
    let now = timer.now(kernel, group)?;
    timer.queued = false;
    timer.overrun = 0;
    timer.sequence = timer.sequence.wrapping_add(1);
    timer.period = match value {
        0 => Period::default(),
        value if absolute => Period { deadline: shift(timer.clock, value).max(1), interval },
        value => Period { deadline: now.saturating_add(value), interval },
    };
    if timer.clock.is_cpu() {
        timers.arm_cpu(kernel, group);
    } else {
        timers.arm_posix(kernel, group, id);
    }
    Ok(old)
}

/// Overruns of the expiration whose signal was taken last. `EINVAL` if there is no such timer.
pub fn overrun(group: &Arc<ThreadGroup>, id: i32) -> Result<u64> {
    let timers = group.timers.lock();
    let timer = timers.posix.get(&id).ok_or(Errno::EINVAL)?;
    Ok(timer.overrun.min(i32::MAX as u64))
}

/// Deletes a POSIX timer. `EINVAL` if there is none.
pub fn delete(kernel: &Kernel, group: &Arc<ThreadGroup>, id: i32) -> Result<()> {
    let timer = group.timers.lock().posix.remove(&id).ok_or(Errno::EINVAL)?;
    if let Some(handle) = timer.handle {
        kernel.timers.cancel(handle);
    }
    Ok(())
}

/// Deletes every POSIX timer and its pending signals (`execve(2)`).
pub fn delete_posix(kernel: &Kernel, group: &Arc<ThreadGroup>) {
    let gone = std::mem::take(&mut group.timers.lock().posix);
    for handle in gone.values().filter_map(|t| t.handle) {
        kernel.timers.cancel(handle);
    }
    let mut signals = group.signals();
    for id in gone.keys() {
        signals.shared.flush_timer(*id);
        for task in &signals.tasks {
            task.flush_timer(*id);
        }
    }
}

/// Stops everything at the end of the process.
pub fn delete_all(kernel: &Kernel, group: &Arc<ThreadGroup>) {
    let timers = std::mem::take(&mut *group.timers.lock());
    let handles = timers.posix.values().filter_map(|t| t.handle);
    for handle in handles.chain(timers.real_handle).chain(timers.cpu.handle) {
        kernel.timers.cancel(handle);
    }
}

#[cfg(test)]
mod tests {
    use super::Period;

    #[test]
    fn periods() {
        let mut p = Period { deadline: 100, interval: 10 };
        assert_eq!(p.remaining(95), 5);
        assert_eq!(p.remaining(103), 7);
        assert_eq!(p.advance(125), 2);
        assert_eq!(p.deadline, 130);
        let mut once = Period { deadline: 5, interval: 0 };
        assert_eq!(once.advance(9), 0);
        assert_eq!(once.deadline, 0);
    }
}
