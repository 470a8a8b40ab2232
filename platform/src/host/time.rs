#![expect(unsafe_code, reason = "clock_gettime")]
//! Host clocks.
//!
//! Host calls: `clock_gettime` (through the vDSO for the wall and monotonic clocks).

use super::Errno;

/// A host clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// `CLOCK_REALTIME`.
    Realtime,
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_MONOTONIC_RAW`.
    MonotonicRaw,
    /// `CLOCK_BOOTTIME`.
    Boottime,
    /// CPU time of the calling thread, `CLOCK_THREAD_CPUTIME_ID`.
    ThreadCpu,
    /// CPU time of the sentry, `CLOCK_PROCESS_CPUTIME_ID`.
    ProcessCpu,
}

impl Clock {
    fn id(self) -> libc::clockid_t {
        match self {
            Self::Realtime => libc::CLOCK_REALTIME,
            Self::Monotonic => libc::CLOCK_MONOTONIC,
            Self::MonotonicRaw => libc::CLOCK_MONOTONIC_RAW,
            Self::Boottime => libc::CLOCK_BOOTTIME,
            Self::ThreadCpu => libc::CLOCK_THREAD_CPUTIME_ID,
            Self::ProcessCpu => libc::CLOCK_PROCESS_CPUTIME_ID,
        }
    }

    /// The clock's value in nanoseconds.
    pub fn now(self) -> u64 {
        read(self.id()).unwrap_or(0)
    }
}

/// CPU time a host thread of this process, or of a stub, has used, in nanoseconds.
///
/// `tid` is a host thread id. Fails with `EINVAL` when there is no such thread.
pub fn thread_cpu_time(tid: i32) -> Result<u64, Errno> {
    if !(1..1 << 28).contains(&tid) {
        return Err(Errno::EINVAL);
    }
    // The kernel's encoding of a per-thread scheduler clock: ~tid << 3 | per-thread | scheduled.
    read((!tid << 3) | 4 | 2)
}

fn read(clock: libc::clockid_t) -> Result<u64, Errno> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the result.
    Errno::result(unsafe { libc::clock_gettime(clock, &mut time) })?;
    Ok((time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run() {
        for clock in [Clock::Realtime, Clock::Monotonic, Clock::MonotonicRaw, Clock::Boottime] {
            let first = clock.now();
            assert!(first > 0 && clock.now() >= first, "{clock:?}");
        }
        let tid = crate::host::thread::current_tid();
        let mine = thread_cpu_time(tid).unwrap();
        assert!(Clock::ThreadCpu.now() >= mine);
        assert_eq!(thread_cpu_time(i32::MAX), Err(Errno::EINVAL));
    }
}
