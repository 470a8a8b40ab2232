//! SYN cookies (RFC 4987, section 3.6): under a flood a listener remembers nothing and puts what it needs
//! into its initial sequence number. 24 bits of it are a keyed hash, 5 count the time, 3 say the peer's MSS;
//! window shift, SACK and ECN go into the low bits of the time stamp, if the peer sends those.

use super::Seq;
use crate::demux::FourTuple;
use crate::random::{Key, siphash};
use crate::time::Instant;

/// The segment sizes that can be told apart, the closest lower one is used.
const SIZES: [u16; 8] = [536, 1220, 1300, 1360, 1400, 1440, 1460, 8960];
/// One tick of the count.
const TICK_SECS: u64 = 64;
/// Ticks that a cookie lives, at least one whole.
const LIFE: u64 = 2;

/// Makes a cookie.
pub(crate) fn make(key: Key, tuple: &FourTuple, irs: Seq, mss: u16, now: Instant) -> Seq {
    let count = now.millis() / 1000 / TICK_SECS;
    let index = SIZES.iter().rposition(|&s| s <= mss).unwrap_or(0) as u32;
    Seq((count as u32 & 31) << 27 | index << 24 | hash(key, tuple, irs, count, index))
}

/// The MSS in a cookie that is right and young enough.
pub(crate) fn check(
    key: Key,
    tuple: &FourTuple,
    irs: Seq,
    cookie: Seq,
    now: Instant,
) -> Option<u16> {
    let count = now.millis() / 1000 / TICK_SECS;
    let index = cookie.0 >> 24 & 7;
    for back in 0..LIFE {
        let Some(made) = count.checked_sub(back) else { break };
        if made as u32 & 31 == cookie.0 >> 27
            && hash(key, tuple, irs, made, index) == cookie.0 & 0xff_ffff
        {
            return SIZES.get(index as usize).copied();
        }
    }
    None
}

fn hash(key: Key, tuple: &FourTuple, irs: Seq, count: u64, index: u32) -> u32 {
    let [a, b, c, d, e] = tuple.words();
    let last = u64::from(irs.0) << 32 | u64::from(index);
    siphash(key, &[a, b, c, d, e, count, last]) as u32 & 0xff_ffff
}

/// What goes into a time stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extra {
    /// `None`: no window scaling.
    pub shift: Option<u8>,
    pub sack: bool,
    pub ecn: bool,
}

impl Extra {
    /// The latest time stamp not after `stamp` that says this.
    pub(crate) fn into_stamp(self, stamp: u32) -> u32 {
        let bits = u32::from(self.shift.unwrap_or(15).min(15))
            | u32::from(self.sack) << 4
            | u32::from(self.ecn) << 5;
        let out = stamp & !63 | bits;
        if out.wrapping_sub(stamp) as i32 > 0 { out.wrapping_sub(64) } else { out }
    }

    /// What a time stamp says.
    pub(crate) fn from_stamp(stamp: u32) -> Self {
        let shift = (stamp & 15) as u8;
        Self { shift: (shift < 15).then_some(shift), sack: stamp & 16 != 0, ecn: stamp & 32 != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(port: u16) -> FourTuple {
        FourTuple::new(("10.0.0.1".parse().unwrap(), 80), ("10.0.0.2".parse().unwrap(), port))
    }

    #[test]
    fn cookies_are_checked_with_everything_in_them() {
        let (key, now) = ([1, 2], Instant::from_millis(1_000_000));
        let c = make(key, &tuple(5), Seq(77), 1460, now);
        assert_eq!(check(key, &tuple(5), Seq(77), c, now), Some(1460));
        assert_eq!(check(key, &tuple(6), Seq(77), c, now), None);
        assert_eq!(check(key, &tuple(5), Seq(78), c, now), None);
        assert_eq!(check([1, 3], &tuple(5), Seq(77), c, now), None);
        assert_eq!(check(key, &tuple(5), Seq(77), c + (1 << 24), now), None, "another size");
        let later = Instant::from_millis(1_060_000);
        assert_eq!(check(key, &tuple(5), Seq(77), c, later), Some(1460));
        let late = Instant::from_millis(1_200_000);
        assert_eq!(check(key, &tuple(5), Seq(77), c, late), None);
    }

    #[test]
    fn sizes_are_rounded_down() {
        let now = Instant::ZERO;
        for (mss, want) in [(100, 536), (536, 536), (1459, 1440), (1460, 1460), (65495, 8960)] {
            let c = make([0, 0], &tuple(1), Seq(1), mss, now);
            assert_eq!(check([0, 0], &tuple(1), Seq(1), c, now), Some(want));
        }
    }

    #[test]
    fn guesses_fail() {
        let now = Instant::from_millis(500_000);
        let hits = (0..2_000_000u32)
            .filter(|n| {
                check([9, 9], &tuple(1), Seq(1), Seq(n.wrapping_mul(2_654_435_761)), now).is_some()
            })
            .count();
        assert!(hits < 20, "{hits}");
    }

    #[test]
    fn stamps_carry_the_rest() {
        for stamp in [0, 5, 63, 64, 1_000_000, u32::MAX] {
            for shift in [None, Some(0), Some(7), Some(14)] {
                let e = Extra { shift, sack: true, ecn: stamp % 2 == 0 };
                let s = e.into_stamp(stamp);
                assert_eq!(Extra::from_stamp(s), e);
                assert!(stamp.wrapping_sub(s) < 64, "never ahead of the clock");
            }
        }
    }
}
