//! What `adjtimex(2)` sets and shows: the discipline of the wall clock (`ntp_adjtime(3)`).
//!
//! Jumps (`ADJ_SETOFFSET`) and the leap to another TAI offset act. Rates and slews are kept and reported, but the host
//! disciplines the clock that ours follows.

use crate::errno::{Errno, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct timex`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timex {
    /// What to change (`ADJ_*`).
    pub modes: u32,
    pad: u32,
    /// Offset to slew, in micro- or nanoseconds.
    pub offset: i64,
    /// Frequency offset, in 2^-16 parts per million.
    pub freq: i64,
    /// Maximum error in microseconds.
    pub maxerror: i64,
    /// Estimated error in microseconds.
    pub esterror: i64,
    /// Status bits (`STA_*`).
    pub status: i32,
    pad2: i32,
    /// Time constant of the loop.
    pub constant: i64,
    /// Precision in microseconds.
    pub precision: i64,
    /// Largest frequency offset.
    pub tolerance: i64,
    /// Seconds of the time, or of the jump.
    pub sec: i64,
    /// Micro- or nanoseconds of it.
    pub usec: i64,
    /// Microseconds between ticks.
    pub tick: i64,
    pps: [i64; 7],
    pad3: i32,
    /// TAI offset in seconds.
    pub tai: i32,
    rest: [u32; 12],
}

const OFFSET: u32 = 0x1;
const FREQUENCY: u32 = 0x2;
const MAXERROR: u32 = 0x4;
const ESTERROR: u32 = 0x8;
const STATUS: u32 = 0x10;
const TIMECONST: u32 = 0x20;
const TAI: u32 = 0x80;
const SETOFFSET: u32 = 0x100;
const MICRO: u32 = 0x1000;
const NANO: u32 = 0x2000;
const TICK: u32 = 0x4000;
const ADJTIME: u32 = 0x8000;
/// With [`ADJTIME`], which must have it: a slew by `adjtime(3)`.
const SINGLESHOT: u32 = 0x1;
/// With [`ADJTIME`]: only reads.
const READONLY: u32 = 0x2000;

const STA_PLL: i32 = 0x1;
const STA_UNSYNC: i32 = 0x40;
const STA_CLOCKERR: i32 = 0x1000;
const STA_NANO: i32 = 0x2000;
/// Bits that the kernel alone sets.
const STA_RONLY: i32 = 0xff00;

/// The clock is not synchronized.
const TIME_ERROR: u64 = 5;
/// 500 ppm.
const MAXFREQ: i64 = 500 << 16;
/// Largest error that is shown, in microseconds.
const PHASE_LIMIT: i64 = 16_000_000;
/// Largest offset that is slewed, in nanoseconds.
const MAXPHASE: i64 = 500_000_000;
const MAXTC: i64 = 10;
/// Bounds of the tick: a tenth more or less than at 100 Hz.
const TICKS: std::ops::RangeInclusive<i64> = 9_000..=11_000;

/// The state of the discipline.
#[derive(Debug)]
pub struct Ntp {
    offset: i64,
    freq: i64,
    maxerror: i64,
    esterror: i64,
    status: i32,
    constant: i64,
    tick: i64,
    tai: i32,
    /// What `adjtime(3)` has left to slew, in microseconds.
    slew: i64,
}

impl Default for Ntp {
    fn default() -> Self {
        Self {
            offset: 0,
            freq: 0,
            maxerror: PHASE_LIMIT,
            esterror: PHASE_LIMIT,
            status: STA_UNSYNC,
            constant: 2,
            tick: 10_000,
            tai: 0,
            slew: 0,
        }
    }
}

impl Ntp {
    /// Does what `tx` asks for and completes it but for the time. Gives the call's result and by how many nanoseconds the
    /// clock is to jump. `EPERM` where more than reading is asked for and the caller is not `privileged`, `EINVAL` for
    /// what makes no sense.
    pub fn adjust(&mut self, tx: &mut Timex, privileged: bool) -> Result<(u64, i64)> {
        let modes = tx.modes;
        validate(tx, privileged)?;
        let mut jump = 0;
        if modes & SETOFFSET != 0 {
            let unit = if modes & NANO != 0 { 1 } else { 1000 };
            let seconds = tx.sec.checked_mul(1_000_000_000).ok_or(Errno::EINVAL)?;
            jump = seconds.checked_add(tx.usec * unit).ok_or(Errno::EINVAL)?;
        }
        if modes & ADJTIME != 0 {
            let before = self.slew;
            if modes & READONLY == 0 {
                self.slew = tx.offset;
            }
            tx.offset = before;
        } else {
            self.set(tx);
            tx.offset = if self.status & STA_NANO != 0 { self.offset } else { self.offset / 1000 };
        }
        tx.freq = self.freq;
        tx.maxerror = self.maxerror;
        tx.esterror = self.esterror;
        tx.status = self.status;
        tx.constant = self.constant;
        tx.precision = 1;
        tx.tolerance = MAXFREQ;
        tx.tick = self.tick;
        tx.tai = self.tai;
        tx.pps = [0; 7];
        let unsure = self.status & (STA_UNSYNC | STA_CLOCKERR) != 0;
        Ok((if unsure { TIME_ERROR } else { 0 }, jump))
    }

    /// Whether times are shown in nanoseconds.
    pub fn nanoseconds(&self) -> bool {
        self.status & STA_NANO != 0
    }

    /// The clock was set: it is not synchronized any more (`ntp_clear`).
    pub fn clear(&mut self) {
        self.slew = 0;
        self.offset = 0;
        self.status |= STA_UNSYNC;
        (self.maxerror, self.esterror) = (PHASE_LIMIT, PHASE_LIMIT);
    }

    fn set(&mut self, tx: &Timex) {
        let modes = tx.modes;
        if modes & STATUS != 0 {
            self.status = self.status & STA_RONLY | tx.status & !STA_RONLY;
        }
        if modes & NANO != 0 {
            self.status |= STA_NANO;
        }
        if modes & MICRO != 0 {
            self.status &= !STA_NANO;
        }
        if modes & FREQUENCY != 0 {
            self.freq = tx.freq.clamp(-MAXFREQ, MAXFREQ);
        }
        if modes & MAXERROR != 0 {
            self.maxerror = tx.maxerror.clamp(0, PHASE_LIMIT);
        }
        if modes & ESTERROR != 0 {
            self.esterror = tx.esterror.clamp(0, PHASE_LIMIT);
        }
        if modes & TIMECONST != 0 {
            let finer = if self.status & STA_NANO != 0 { 0 } else { 4 };
            self.constant = tx.constant.clamp(0, MAXTC).saturating_add(finer).min(MAXTC);
        }
        if modes & TAI != 0
            && let Some(tai) = i32::try_from(tx.constant).ok().filter(|n| (0..=100_000).contains(n))
        {
            self.tai = tai;
        }
        if modes & OFFSET != 0 && self.status & STA_PLL != 0 {
            let unit = if self.status & STA_NANO != 0 { 1 } else { 1000 };
            self.offset = tx.offset.saturating_mul(unit).clamp(-MAXPHASE, MAXPHASE);
        }
        if modes & TICK != 0 {
            self.tick = tx.tick;
        }
    }
}

/// `timekeeping_validate_timex`.
fn validate(tx: &Timex, privileged: bool) -> Result<()> {
    let modes = tx.modes;
    let need = |needed: bool| if needed && !privileged { Err(Errno::EPERM) } else { Ok(()) };
    if modes & ADJTIME != 0 {
        if modes & SINGLESHOT == 0 {
            return Err(Errno::EINVAL);
        }
        need(modes & READONLY == 0)?;
    } else {
        need(modes != 0)?;
        if modes & TICK != 0 && !TICKS.contains(&tx.tick) {
            return Err(Errno::EINVAL);
        }
    }
    if modes & SETOFFSET != 0 {
        need(true)?;
        let units = if modes & NANO != 0 { 1_000_000_000 } else { 1_000_000 };
        if !(0..units).contains(&tx.usec) {
            return Err(Errno::EINVAL);
        }
    }
    // What a shift of the frequency would overflow.
    const SCALE: i64 = 1000 << 16;
    if modes & FREQUENCY != 0 && !(i64::MIN / SCALE..=i64::MAX / SCALE).contains(&tx.freq) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}
