//! Clocks, sleeping and timers.

pub mod clock;
pub mod itimer;
pub mod posix;
pub mod sleep;
pub mod timerfd;

pub use clock::*;
pub use itimer::*;
pub use posix::*;
pub use sleep::*;
pub use timerfd::*;
