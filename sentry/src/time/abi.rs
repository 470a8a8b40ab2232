//! The time structures of the system-call interface.

use super::NANOS;
use crate::errno::{Errno, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct timespec`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds.
    pub nsec: i64,
}

impl Timespec {
    /// From nanoseconds.
    pub fn from_nanos(nanos: u64) -> Timespec {
        Timespec { sec: (nanos / NANOS) as i64, nsec: (nanos % NANOS) as i64 }
    }

    /// In nanoseconds; what does not fit becomes the largest time there is. `EINVAL` for negative
    /// seconds or nanoseconds that are not below a second.
    pub fn to_nanos(self) -> Result<u64> {
        if self.sec < 0 || !(0..NANOS as i64).contains(&self.nsec) {
            return Err(Errno::EINVAL);
        }
        // Linux's limit (KTIME_MAX), so that a deadline never wraps.
        let nanos = (self.sec as u64).saturating_mul(NANOS).saturating_add(self.nsec as u64);
        Ok(nanos.min(i64::MAX as u64))
    }
}

/// `struct timeval`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Timeval {
    /// Seconds.
    pub sec: i64,
    /// Microseconds.
    pub usec: i64,
}

impl Timeval {
    /// From nanoseconds, rounded down.
    pub fn from_nanos(nanos: u64) -> Timeval {
        Timeval { sec: (nanos / NANOS) as i64, usec: (nanos % NANOS / 1000) as i64 }
    }

    /// In nanoseconds. `EINVAL` for negative seconds or microseconds that are not below a second.
    pub fn to_nanos(self) -> Result<u64> {
        if self.sec < 0 || !(0..1_000_000).contains(&self.usec) {
            return Err(Errno::EINVAL);
        }
        let nanos = (self.sec as u64).saturating_mul(NANOS).saturating_add(self.usec as u64 * 1000);
        Ok(nanos.min(i64::MAX as u64))
    }
}

/// `struct itimerspec`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Itimerspec {
    /// Period; zero for a timer that expires once.
    pub interval: Timespec,
    /// Time of the next expiration; zero for a stopped timer.
    pub value: Timespec,
}

impl Itimerspec {
    /// Value and interval in nanoseconds. `EINVAL` for malformed times.
    pub fn to_nanos(self) -> Result<(u64, u64)> {
        Ok((self.value.to_nanos()?, self.interval.to_nanos()?))
    }

    /// From value and interval in nanoseconds.
    pub fn from_nanos((value, interval): (u64, u64)) -> Itimerspec {
        Itimerspec { interval: Timespec::from_nanos(interval), value: Timespec::from_nanos(value) }
    }
}

/// `struct itimerval`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Itimerval {
    /// Period; zero for a timer that expires once.
    pub interval: Timeval,
    /// Time to the next expiration; zero for a stopped timer.
    pub value: Timeval,
}
