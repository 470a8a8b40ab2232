//! Timers as files (`timerfd_create(2)`).

use super::{ClockId, TimerHandle, TimerQueue, TimerTarget};
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::kernel::Kernel;
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, File, FileOps};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

#[derive(Debug, Default)]
struct State {
    /// Time of the next expiration on the clock; 0 while stopped.
    deadline: u64,
    interval: u64,
    /// How it was set last (`TFD_TIMER_ABSTIME`, `TFD_TIMER_CANCEL_ON_SET`).
    flags: u32,
    handle: Option<TimerHandle>,
    /// With `TFD_TIMER_CANCEL_ON_SET`: how often the wall clock had been set when it was looked at last.
    sets_seen: Option<u64>,
}

/// What is shared between the file and the timer queue.
struct Timer {
    kernel: Weak<Kernel>,
    clock: ClockId,
    state: Mutex<State, { rank::INODE }>,
    expired: AtomicBool,
    queue: WaitQueue,
}

/// A timer that is read. After an expiration it rests until it is read; then the periods that have
/// passed are counted.
pub struct TimerFd {
    timer: Arc<Timer>,
}

impl TimerTarget for Timer {
    fn expired(&self, _queue: &Arc<TimerQueue>, _cookie: u64) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        {
            let state = self.state.lock();
            let now = kernel.time.now(self.clock).unwrap_or(0);
            // Stopped, or set anew since.
            if state.deadline == 0 || state.deadline > now {
                return;
            }
            self.expired.store(true, Ordering::SeqCst);
        }
        self.queue.notify(EventMask::READABLE);
    }

    fn clock_set(&self) {
        if self.state.lock().sets_seen.is_some() {
            self.queue.notify(EventMask::READABLE);
        }
    }
}

impl Timer {
    /// Whether the wall clock has been set since it was last looked at, and that cancels a read.
    fn is_cancelled(&self, state: &State) -> bool {
        let Some(kernel) = self.kernel.upgrade() else { return false };
        state.sets_seen.is_some_and(|seen| seen != kernel.time.sets())
    }

    fn arm(self: &Arc<Self>, kernel: &Kernel, state: &mut State) {
        if let Some(handle) = state.handle.take() {
            kernel.timers.cancel(handle);
        }
        if state.deadline == 0 {
            return;
        }
        if let Ok(at) = kernel.time.monotonic_deadline(self.clock, state.deadline) {
            let target: Weak<Timer> = Arc::downgrade(self);
            state.handle = Some(match self.clock {
                ClockId::Realtime => kernel.timers.set_wall(at, state.deadline, target, 0),
                _ => kernel.timers.set(at, target, 0),
            });
        }
    }
}

impl TimerFd {
    /// A stopped timer.
    pub fn new(kernel: &Arc<Kernel>, clock: ClockId) -> TimerFd {
        TimerFd {
            timer: Arc::new(Timer {
                kernel: Arc::downgrade(kernel),
                clock,
                state: Mutex::new(State::default()),
                expired: AtomicBool::new(false),
                queue: WaitQueue::new(),
            }),
        }
    }

    /// The clock that it runs on.
    pub fn clock(&self) -> ClockId {
        self.timer.clock
    }

    /// Time left and period, in nanoseconds.
    pub fn get(&self, kernel: &Kernel) -> (u64, u64) {
        let state = self.timer.state.lock();
        (remaining(&state, kernel.time.now(self.timer.clock).unwrap_or(0)), state.interval)
    }

    /// Sets it; what it had before. With `cancel_on_set` reads fail with `ECANCELED` once the wall clock is set.
    pub fn set(
        &self,
        kernel: &Kernel,
        (value, interval): (u64, u64),
        absolute: bool,
        cancel_on_set: bool,
    ) -> Result<(u64, u64)> {
        let timer = &self.timer;
        let mut state = timer.state.lock();
        let now = kernel.time.now(timer.clock)?;
        let old = (remaining(&state, now), state.interval);
        timer.expired.store(false, Ordering::SeqCst);
        let by_wall = absolute && timer.clock == ClockId::Realtime;
        state.sets_seen = (cancel_on_set && by_wall).then(|| kernel.time.sets());
        state.interval = interval;
        state.flags = u32::from(absolute) | u32::from(cancel_on_set) << 1;
        state.deadline = match value {
            0 => 0,
            value if absolute => value,
            value => now.saturating_add(value),
        };
        timer.arm(kernel, &mut state);
        Ok(old)
    }

    /// Expirations since the last read; 0 if there was none.
    fn take(&self) -> Result<u64> {
        let timer = &self.timer;
        let Some(kernel) = timer.kernel.upgrade() else { return Ok(0) };
        let mut state = timer.state.lock();
        if timer.is_cancelled(&state) {
            state.sets_seen = Some(kernel.time.sets());
            return Err(Errno::ECANCELED);
        }
        let now = kernel.time.now(timer.clock).unwrap_or(0);
        if !timer.expired.swap(false, Ordering::SeqCst) && !is_due(&state, now) {
            return Ok(0);
        }
        if state.interval == 0 {
            state.deadline = 0;
            return Ok(1);
        }
        let ticks = now.saturating_sub(state.deadline) / state.interval + 1;
        state.deadline = state.deadline.saturating_add(state.interval.saturating_mul(ticks));
        timer.arm(&kernel, &mut state);
        Ok(ticks)
    }
}

/// Whether the time has come, though the timer queue may not have said so yet.
fn is_due(state: &State, now: u64) -> bool {
    state.deadline != 0 && state.deadline <= now
}

fn remaining(state: &State, now: u64) -> u64 {
    if state.deadline == 0 {
        0
    } else if state.deadline > now {
        state.deadline - now
    } else if state.interval == 0 {
        0
    } else {
        state.interval - (now - state.deadline) % state.interval
    }
}

impl FileOps for TimerFd {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        match self.take()? {
            0 => Err(Errno::EAGAIN),
            ticks => dst.put(&ticks.to_le_bytes()),
        }
    }

    fn poll(&self, _file: &File) -> EventMask {
        let ready = || {
            let state = self.timer.state.lock();
            let now = self.timer.kernel.upgrade().and_then(|k| k.time.now(self.timer.clock).ok());
            is_due(&state, now.unwrap_or(0)) || self.timer.is_cancelled(&state)
        };
        // As Linux: no `RDNORM`.
        if self.timer.expired.load(Ordering::SeqCst) || ready() {
            EventMask::IN
        } else {
            EventMask::empty()
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.timer.queue)
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(crate::fs::anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[timerfd]".to_owned())
    }

    fn fdinfo(&self) -> String {
        let Some(kernel) = self.timer.kernel.upgrade() else { return String::new() };
        let clock = match self.timer.clock {
            ClockId::Realtime => 0,
            ClockId::Boottime => 7,
            _ => 1,
        };
        let state = self.timer.state.lock();
        let now = kernel.time.now(self.timer.clock).unwrap_or(0);
        let due = self.timer.expired.load(Ordering::SeqCst) || is_due(&state, now);
        let ticks = match (due, state.interval) {
            (false, _) => 0,
            (true, 0) => 1,
            (true, interval) => now.saturating_sub(state.deadline) / interval + 1,
        };
        let pair = |nanos: u64| format!("({}, {})", nanos / 1_000_000_000, nanos % 1_000_000_000);
        format!(
            "clockid: {clock}\nticks: {ticks}\nsettime flags: 0{:o}\nit_value: {}\nit_interval: {}\n",
            state.flags,
            pair(remaining(&state, now)),
            pair(state.interval)
        )
    }

    fn release(&self, _file: &File) {
        let handle = self.timer.state.lock().handle.take();
        if let (Some(handle), Some(kernel)) = (handle, self.timer.kernel.upgrade()) {
            kernel.timers.cancel(handle);
        }
    }

    fn ignores_position(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
