//! Sequence numbers (RFC 9293, section 3.4): a circle of 2³² numbers.

use std::ops::{Add, AddAssign, Sub};

/// A sequence number. Comparisons are right for numbers less than 2³¹ apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seq(pub u32);

impl Seq {
    /// `self < other`.
    pub(crate) fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// `self > other`.
    pub(crate) fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// The later of two.
    pub(crate) fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// The earlier of two.
    pub(crate) fn min(self, other: Self) -> Self {
        if self.before(other) { self } else { other }
    }

    /// How far `self` is behind `earlier`; zero when it is not.
    pub(crate) fn since(self, earlier: Self) -> u32 {
        if self.before(earlier) { 0 } else { self.0.wrapping_sub(earlier.0) }
    }
}

impl Add<u32> for Seq {
    type Output = Self;

    fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl Sub<u32> for Seq {
    type Output = Self;

    fn sub(self, n: u32) -> Self {
        Self(self.0.wrapping_sub(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_wrap() {
        let a = Seq(u32::MAX - 5);
        let b = a + 10;
        assert!(a.before(b) && b.after(a) && !a.before(a));
        assert_eq!((b.since(a), a.since(b)), (10, 0));
        assert_eq!((a.max(b), a.min(b)), (b, a));
        assert_eq!(b - 10, a);
    }
}
