//! The clocks of the sandbox (`clock_gettime(2)`): the host's, read through its vDSO. The wall clock runs beside
//! the host's once someone with `CAP_SYS_TIME` has set it.

use super::ntp::Ntp;
use crate::errno::{Errno, Result};
use crate::loader::vdso::params::ClockParams;
use crate::sync::{Mutex, rank};
use platform::host::time::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A clock's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockId {
    /// `CLOCK_REALTIME` and its coarse and alarm forms.
    Realtime,
    /// `CLOCK_MONOTONIC` and its coarse form.
    Monotonic,
    /// `CLOCK_MONOTONIC_RAW`.
    MonotonicRaw,
    /// `CLOCK_BOOTTIME` and its alarm form.
    Boottime,
    /// `CLOCK_TAI`.
    Tai,
    /// CPU time of a process; 0 is the caller's.
    ProcessCpu(i32, CpuClock),
    /// CPU time of a thread; 0 is the caller.
    ThreadCpu(i32, CpuClock),
}

/// What a CPU clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuClock {
    /// User and system time.
    Prof,
    /// User time.
    Virt,
    /// Time on a CPU.
    Sched,
}

impl ClockId {
    /// Decodes a `clockid_t`. `EINVAL` for one that does not exist.
    pub fn decode(id: i32) -> Result<ClockId> {
        Ok(match id {
            0 | 5 | 8 => ClockId::Realtime,
            1 | 6 => ClockId::Monotonic,
            2 => ClockId::ProcessCpu(0, CpuClock::Sched),
            3 => ClockId::ThreadCpu(0, CpuClock::Sched),
            4 => ClockId::MonotonicRaw,
            7 | 9 => ClockId::Boottime,
            11 => ClockId::Tai,
            id if id < 0 => {
                let kind = match id & 3 {
                    0 => CpuClock::Prof,
                    1 => CpuClock::Virt,
                    2 => CpuClock::Sched,
                    // A dynamic (device) clock.
                    _ => return Err(Errno::EINVAL),
                };
                let pid = !(id >> 3);
                match id & 4 {
                    0 => ClockId::ProcessCpu(pid, kind),
                    _ => ClockId::ThreadCpu(pid, kind),
                }
            }
            _ => return Err(Errno::EINVAL),
        })
    }

    /// True for the clocks that count CPU time.
    pub fn is_cpu(self) -> bool {
        matches!(self, ClockId::ProcessCpu(..) | ClockId::ThreadCpu(..))
    }
}

/// Reads the clocks. Every clock of the sandbox goes through it, so that a restored sandbox can be
/// given other offsets.
#[derive(Debug)]
pub struct TimeSource {
    start: u64,
    /// The clock that the vDSO shows, too.
    clock: Option<Arc<ClockParams>>,
    /// How far the wall clock has been moved, where there is no vDSO. Nanoseconds.
    ahead: AtomicI64,
    /// How often the wall clock has been set.
    sets: AtomicU64,
    /// What `adjtimex(2)` sets and shows.
    pub ntp: Mutex<Ntp, { rank::LEAF }>,
}

impl Default for TimeSource {
    fn default() -> Self {
        Self::new()
    }
}

impl TimeSource {
    /// Starts now.
    pub fn new() -> TimeSource {
        TimeSource {
            start: Clock::Boottime.now(),
            clock: None,
            ahead: AtomicI64::new(0),
            sets: AtomicU64::new(0),
            ntp: Mutex::default(),
        }
    }

    /// Starts now, and agrees with the vDSO that reads `clock`.
    pub fn with_clock(clock: Arc<ClockParams>) -> TimeSource {
        TimeSource { clock: Some(clock), ..TimeSource::new() }
    }

    /// `CLOCK_REALTIME` in nanoseconds.
    pub fn realtime(&self) -> u64 {
        let ahead = || self.ahead.load(Ordering::Relaxed);
        self.clock.as_ref().map_or_else(
            || Clock::Realtime.now().wrapping_add_signed(ahead()),
            |c| c.now_realtime(),
        )
    }

    /// Moves `CLOCK_REALTIME` by `by` nanoseconds. Who has timers on it must be told: see
    /// [`super::TimerQueue::wall_clock_set`].
    pub fn shift_realtime(&self, by: i64) {
        self.sets.fetch_add(1, Ordering::SeqCst);
        match &self.clock {
            Some(clock) => clock.shift_realtime(by),
            None => {
                self.ahead.fetch_add(by, Ordering::Relaxed);
            }
        }
    }

    /// How often `CLOCK_REALTIME` has been set.
    pub fn sets(&self) -> u64 {
        self.sets.load(Ordering::SeqCst)
    }

    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub fn monotonic(&self) -> u64 {
        self.clock.as_ref().map_or_else(|| Clock::Monotonic.now(), |c| c.now_monotonic())
    }

    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub fn boottime(&self) -> u64 {
        self.clock.as_ref().map_or_else(|| Clock::Boottime.now(), |c| c.now_boottime())
    }

    /// Nanoseconds since the sandbox started.
    pub fn uptime(&self) -> u64 {
        self.boottime().saturating_sub(self.start)
    }

    /// `CLOCK_BOOTTIME` at which the sandbox started.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// A clock that is not a CPU clock, in nanoseconds; `EINVAL` for those.
    pub fn now(&self, clock: ClockId) -> Result<u64> {
        Ok(match clock {
            // The host's TAI offset is 0 unless an NTP daemon sets it; ours is always 0.
            ClockId::Realtime | ClockId::Tai => self.realtime(),
            ClockId::Monotonic => self.monotonic(),
            ClockId::MonotonicRaw => Clock::MonotonicRaw.now(),
            ClockId::Boottime => self.boottime(),
            ClockId::ProcessCpu(..) | ClockId::ThreadCpu(..) => return Err(Errno::EINVAL),
        })
    }

    /// The `CLOCK_MONOTONIC` time at which a clock reaches `at`. A time that has passed is now.
    pub fn monotonic_deadline(&self, clock: ClockId, at: u64) -> Result<u64> {
        if clock == ClockId::Monotonic {
            return Ok(at);
        }
        let now = self.now(clock)?;
        Ok(self.monotonic().saturating_add(at.saturating_sub(now)))
    }
}
