//! Addresses in a guest process.

use std::fmt;

/// An address that a guest gave us. It points wherever the guest likes, also nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UserAddr(pub u64);

impl UserAddr {
    /// The null pointer.
    pub const NULL: UserAddr = UserAddr(0);

    /// True for the null pointer.
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address `n` bytes on; wraps, so that a wild pointer stays wild and faults when used.
    pub fn offset(self, n: u64) -> UserAddr {
        UserAddr(self.0.wrapping_add(n))
    }
}

impl fmt::Debug for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
