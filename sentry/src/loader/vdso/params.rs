#![expect(unsafe_code, reason = "reads the time stamp counter")]
//! The clock that system calls and the vDSO share.
//!
//! Time is a line over the time stamp counter: `base + (tsc - base_tsc) * mult / 2^32`. The host's
//! clocks say how it runs; the line is laid anew when it is older than a second and someone enters the
//! kernel, so that no timer is needed. A new line starts where the old one is, or later, so that time
//! never goes back; a line that runs ahead is given a lower slope until the host has caught up.
//!
//! Until the rate is known, and on CPUs whose counter does not run evenly, the host's clocks are read
//! instead, and the vDSO makes system calls.

use crate::mm::SharedMemory;
use platform::host::time::Clock;
use std::arch::x86_64::{__cpuid, _mm_lfence, _rdtsc};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering, fence};

/// Nanoseconds that the first measurement of the rate takes.
const FIRST_SPAN: u64 = 20_000_000;
/// Nanoseconds after which the line is laid anew.
const SPAN: u64 = 1_000_000_000;
/// Two measurements of the wall clock's distance from the monotonic clock differ by less than this
/// unless someone has set the clock. Nanoseconds.
const JITTER: u64 = 2_000;

/// Where the vDSO's code finds the parameters in its page.
pub(super) mod field {
    /// Even when the others are consistent; odd while they change.
    pub const SEQ: u64 = 0;
    /// 1 if the counter can be used.
    pub const MODE: u64 = 4;
    /// Counter at the line's start.
    pub const BASE_TSC: u64 = 8;
    /// Nanoseconds per count, times 2^32.
    pub const MULT: u64 = 16;
    /// `CLOCK_MONOTONIC` at the line's start.
    pub const MONOTONIC: u64 = 24;
    /// `CLOCK_REALTIME` there.
    pub const REALTIME: u64 = 32;
    /// `CLOCK_BOOTTIME` there.
    pub const BOOTTIME: u64 = 40;
}

/// One reading of all clocks.
#[derive(Debug, Clone, Copy)]
struct Sample {
    tsc: u64,
    monotonic: u64,
    realtime: u64,
    boottime: u64,
}

/// What the next measurement starts from.
#[derive(Debug)]
struct Calibration {
    last: Sample,
}

/// The line, and how it is kept.
#[derive(Debug)]
pub struct ClockParams {
    seq: AtomicU32,
    mode: AtomicU32,
    base_tsc: AtomicU64,
    mult: AtomicU64,
    monotonic: AtomicU64,
    realtime: AtomicU64,
    boottime: AtomicU64,
    /// Counts after which the line is old.
    stale_after: AtomicU64,
    calibration: parking_lot::Mutex<Calibration>,
    /// How far the wall clock is ahead of the host's, since a guest has set it. Nanoseconds.
    ahead: AtomicI64,
    page: Option<Arc<SharedMemory>>,
    usable: bool,
}

/// A clock of the line.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Monotonic,
    Realtime,
    Boottime,
}

impl ClockParams {
    /// Starts the measurement. `page` is where the vDSO reads the parameters.
    pub(super) fn new(page: Option<Arc<SharedMemory>>) -> ClockParams {
        let params = ClockParams {
            seq: AtomicU32::new(0),
            mode: AtomicU32::new(0),
            base_tsc: AtomicU64::new(0),
            mult: AtomicU64::new(0),
            monotonic: AtomicU64::new(0),
            realtime: AtomicU64::new(0),
            boottime: AtomicU64::new(0),
            stale_after: AtomicU64::new(0),
            calibration: parking_lot::Mutex::new(Calibration { last: sample() }),
            ahead: AtomicI64::new(0),
            page,
            usable: invariant_tsc(),
        };
        let first = params.calibration.lock().last;
        params.base_tsc.store(first.tsc, Ordering::Relaxed);
        params
    }

    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub fn now_monotonic(&self) -> u64 {
        self.now(Kind::Monotonic)
    }

    /// `CLOCK_REALTIME` in nanoseconds.
    pub fn now_realtime(&self) -> u64 {
        self.now(Kind::Realtime)
    }

    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub fn now_boottime(&self) -> u64 {
        self.now(Kind::Boottime)
    }

    fn now(&self, kind: Kind) -> u64 {
        if self.usable {
            let (now, age) = self.read(kind);
            if age <= self.stale_after.load(Ordering::Relaxed) && now != 0 {
                return now;
            }
            self.update();
            let (now, _) = self.read(kind);
            if now != 0 {
                return now;
            }
        }
        match kind {
            Kind::Monotonic => Clock::Monotonic.now(),
            Kind::Realtime => {
                Clock::Realtime.now().wrapping_add_signed(self.ahead.load(Ordering::Relaxed))
            }
            Kind::Boottime => Clock::Boottime.now(),
        }
    }

    /// The clock by the line, 0 as long as there is none, and the line's age in counts.
    fn read(&self, kind: Kind) -> (u64, u64) {
        loop {
            let seq = self.seq.load(Ordering::Acquire);
            if seq & 1 == 0 {
                let delta = rdtsc().saturating_sub(self.base_tsc.load(Ordering::Relaxed));
                let base = match kind {
                    Kind::Monotonic => &self.monotonic,
                    Kind::Realtime => &self.realtime,
                    Kind::Boottime => &self.boottime,
                };
                let now = match self.mode.load(Ordering::Relaxed) {
                    1 => {
                        line(base.load(Ordering::Relaxed), delta, self.mult.load(Ordering::Relaxed))
                    }
                    _ => 0,
                };
                fence(Ordering::Acquire);
                if self.seq.load(Ordering::Relaxed) == seq {
                    return (now, delta);
                }
            }
            std::hint::spin_loop();
        }
    }

    /// Moves the wall clock by `by` nanoseconds, for everyone in the sandbox.
    pub fn shift_realtime(&self, by: i64) {
        let _calibration = self.calibration.lock();
        self.ahead.fetch_add(by, Ordering::Relaxed);
        if self.mode.load(Ordering::Relaxed) == 1 {
            self.publish(
                self.base_tsc.load(Ordering::Relaxed),
                self.mult.load(Ordering::Relaxed),
                self.monotonic.load(Ordering::Relaxed),
                self.realtime.load(Ordering::Relaxed).wrapping_add_signed(by),
                self.boottime.load(Ordering::Relaxed),
            );
        }
    }

    /// Lays the line anew, unless another thread is doing it.
    fn update(&self) {
        let Some(mut calibration) = self.calibration.try_lock() else { return };
        let last = calibration.last;
        if Clock::Monotonic.now().saturating_sub(last.monotonic) < FIRST_SPAN {
            // Too short to measure by.
            return;
        }
        let now = sample();
        let (counts, span) =
            (now.tsc.saturating_sub(last.tsc), now.monotonic.saturating_sub(last.monotonic));
        if counts == 0 {
            return;
        }
        let rate = (u128::from(span) << 32) / u128::from(counts);
        let rate = u64::try_from(rate).unwrap_or(0);
        if rate == 0 {
            return;
        }
        let (mut monotonic, mut mult) = (now.monotonic, rate);
        if self.mode.load(Ordering::Relaxed) == 1 {
            let delta = now.tsc.saturating_sub(self.base_tsc.load(Ordering::Relaxed));
            let shown = line(
                self.monotonic.load(Ordering::Relaxed),
                delta,
                self.mult.load(Ordering::Relaxed),
            );
            if let Some(ahead) = shown.checked_sub(now.monotonic).filter(|&ahead| ahead > 0) {
                // Time does not go back: run slower, to be right again in a second.
                monotonic = shown;
                let slower =
                    (u128::from(rate) * u128::from(ahead.min(SPAN / 2000))) / u128::from(SPAN);
                mult = rate - u64::try_from(slower).unwrap_or(0).min(rate / 2);
            }
        }
        let wall = now.realtime.wrapping_add_signed(self.ahead.load(Ordering::Relaxed));
        let wall = self.offset(&self.realtime, wall.wrapping_sub(now.monotonic));
        let boot = self.offset(&self.boottime, now.boottime.wrapping_sub(now.monotonic));
        // At `now.tsc` the line shows `monotonic`; the other clocks keep their distance from it.
        self.publish(
            now.tsc,
            mult,
            monotonic,
            monotonic.wrapping_add(wall),
            monotonic.wrapping_add(boot),
        );
        let stale = u128::from(counts) * u128::from(SPAN) / u128::from(span);
        self.stale_after.store(u64::try_from(stale).unwrap_or(u64::MAX), Ordering::Relaxed);
        calibration.last = now;
    }

    /// The distance of a clock from the monotonic one: as it was, unless it has really changed.
    fn offset(&self, clock: &AtomicU64, measured: u64) -> u64 {
        if self.mode.load(Ordering::Relaxed) != 1 {
            return measured;
        }
        let kept =
            clock.load(Ordering::Relaxed).wrapping_sub(self.monotonic.load(Ordering::Relaxed));
        let difference = measured.wrapping_sub(kept) as i64;
        if difference.unsigned_abs() < JITTER { kept } else { measured }
    }

    fn publish(&self, tsc: u64, mult: u64, monotonic: u64, realtime: u64, boottime: u64) {
        let seq = self.seq.load(Ordering::Relaxed);
        self.seq.store(seq.wrapping_add(1), Ordering::Relaxed);
        self.write32(field::SEQ, seq.wrapping_add(1));
        fence(Ordering::Release);
        let values = [
            (&self.base_tsc, field::BASE_TSC, tsc),
            (&self.mult, field::MULT, mult),
            (&self.monotonic, field::MONOTONIC, monotonic),
            (&self.realtime, field::REALTIME, realtime),
            (&self.boottime, field::BOOTTIME, boottime),
        ];
        for (own, offset, value) in values {
            own.store(value, Ordering::Relaxed);
            if let Some(page) = &self.page {
                let _ = page.frames().store64(offset, value);
            }
        }
        self.mode.store(1, Ordering::Relaxed);
        self.write32(field::MODE, 1);
        self.write32(field::SEQ, seq.wrapping_add(2));
        self.seq.store(seq.wrapping_add(2), Ordering::Release);
    }

    fn write32(&self, offset: u64, value: u32) {
        if let Some(page) = &self.page {
            // The page was made with the sandbox; a host without memory for it shows elsewhere.
            let _ = page.frames().store32(offset, value);
        }
    }
}

/// A point on the line.
fn line(base: u64, delta: u64, mult: u64) -> u64 {
    base.wrapping_add(((u128::from(delta) * u128::from(mult)) >> 32) as u64)
}

/// Reads the clocks together; the best of a few tries.
fn sample() -> Sample {
    let once = || {
        let before = rdtsc();
        let monotonic = Clock::Monotonic.now();
        let after = rdtsc();
        let realtime = Clock::Realtime.now();
        let (again, boottime) = (Clock::Monotonic.now(), Clock::Boottime.now());
        let last = Clock::Monotonic.now();
        // The wall clock was read halfway between two readings of the monotonic one.
        let sample = Sample {
            tsc: before + (after.saturating_sub(before)) / 2,
            monotonic,
            realtime: realtime.wrapping_sub(again.wrapping_sub(monotonic) / 2),
            boottime: boottime.wrapping_sub((last - last.wrapping_sub(again) / 2) - monotonic),
        };
        (last.wrapping_sub(monotonic), sample)
    };
    let mut best = once();
    for _ in 0..4 {
        let next = once();
        if next.0 < best.0 {
            best = next;
        }
    }
    best.1
}

fn rdtsc() -> u64 {
    // SAFETY: every x86-64 CPU has both instructions; they touch no memory.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

/// True if the counter runs at one rate on all CPUs, in all power states.
fn invariant_tsc() -> bool {
    __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_host_and_never_goes_back() {
        let clock = ClockParams::new(None);
        let (mut last, start) = (0, Clock::Monotonic.now());
        // Through the first measurement, and a little beyond.
        while Clock::Monotonic.now() - start < 60_000_000 {
            let before = Clock::Monotonic.now();
            let now = clock.now_monotonic();
            let after = Clock::Monotonic.now();
            assert!(now >= last, "went back by {}", last - now);
            assert!(now + 100_000 >= before && now <= after + 100_000, "{before} {now} {after}");
            last = now;
        }
        let wall = clock.now_realtime();
        assert!(wall.abs_diff(Clock::Realtime.now()) < 1_000_000);
        assert!(clock.now_boottime().abs_diff(Clock::Boottime.now()) < 1_000_000);
    }

    #[test]
    fn a_new_line_starts_where_the_old_one_is() {
        let clock = ClockParams::new(None);
        if !clock.usable {
            return;
        }
        // A line that runs far ahead: later ones may stand still, but not jump back.
        let now = sample();
        clock.publish(now.tsc, 1 << 31, now.monotonic + 50_000_000, now.realtime, now.boottime);
        clock.calibration.lock().last.monotonic -= 2 * FIRST_SPAN;
        clock.calibration.lock().last.tsc -= 100_000_000;
        let mut last = 0;
        for _ in 0..100 {
            clock.update();
            let now = clock.now_monotonic();
            assert!(now >= last);
            last = now;
        }
        assert!(last >= now.monotonic + 50_000_000);
    }
}
