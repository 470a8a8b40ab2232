//! Clocks and timers (`time(7)`).
//!
//! * [`TimeSource`]: the clocks, all derived from the host's. [`ntp`]: how the wall clock is disciplined. [`abi`]: `timespec` and its kin.
//! * [`TimerQueue`]: one host thread that sleeps until the earliest deadline.
//! * [`process_timers`]: interval timers and POSIX timers of a process. [`timerfd`]: timers as files.
//! * [`restart`]: what an interrupted sleep goes on with.

pub mod abi;
pub mod ntp;
pub mod process_timers;
pub mod queue;
pub mod restart;
pub mod source;
pub mod timerfd;

pub use abi::{Itimerspec, Itimerval, Timespec, Timeval};
pub use queue::{TimerHandle, TimerQueue, TimerTarget};
pub use source::{ClockId, TimeSource};

/// Nanoseconds in a second.
pub const NANOS: u64 = 1_000_000_000;
