//! Resource limits (`getrlimit(2)`).

use crate::errno::{Errno, Result};

/// No limit.
pub const RLIM_INFINITY: u64 = u64::MAX;

/// Most descriptors that `RLIMIT_NOFILE` may allow (`fs.nr_open`).
pub const NR_OPEN: u64 = 1 << 20;

/// A limit's number, as in `getrlimit(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are getrlimit(2)'s")]
pub enum Rlimit {
    Cpu = 0,
    Fsize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    Rss = 5,
    Nproc = 6,
    Nofile = 7,
    Memlock = 8,
    As = 9,
    Locks = 10,
    Sigpending = 11,
    Msgqueue = 12,
    Nice = 13,
    Rtprio = 14,
    Rttime = 15,
}

/// How many limits there are.
pub const RLIM_NLIMITS: usize = 16;

/// Soft and hard value of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// How far the soft value may be raised.
    pub hard: u64,
}

impl Limit {
    /// No limit.
    pub const INFINITE: Limit = Limit { soft: RLIM_INFINITY, hard: RLIM_INFINITY };
}

/// All limits of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits([Limit; RLIM_NLIMITS]);

impl Default for Limits {
    /// Those of a freshly booted Linux.
    fn default() -> Self {
        let mut limits = [Limit::INFINITE; RLIM_NLIMITS];
        let set = |limits: &mut [Limit], which: Rlimit, soft, hard| {
            if let Some(l) = limits.get_mut(which as usize) {
                *l = Limit { soft, hard };
            }
        };
        let l = limits.as_mut_slice();
        set(l, Rlimit::Stack, 8 << 20, RLIM_INFINITY);
        set(l, Rlimit::Core, 0, RLIM_INFINITY);
        set(l, Rlimit::Nofile, 1024, 1 << 20);
        set(l, Rlimit::Memlock, 8 << 20, 8 << 20);
        set(l, Rlimit::Nproc, 65536, 65536);
        set(l, Rlimit::Sigpending, 65536, 65536);
        set(l, Rlimit::Msgqueue, 819_200, 819_200);
        set(l, Rlimit::Nice, 0, 0);
        set(l, Rlimit::Rtprio, 0, 0);
        Limits(limits)
    }
}

impl Limits {
    /// One limit.
    pub fn get(&self, which: Rlimit) -> Limit {
        self.0.get(which as usize).copied().unwrap_or(Limit::INFINITE)
    }

    /// The limit of a number given by a program. `EINVAL` if there is none.
    pub fn by_number(&self, number: u32) -> Result<Limit> {
        self.0.get(number as usize).copied().ok_or(Errno::EINVAL)
    }

    /// Sets the limit of a number. `EINVAL` if there is none.
    pub fn set(&mut self, number: u32, limit: Limit) -> Result<()> {
        *self.0.get_mut(number as usize).ok_or(Errno::EINVAL)? = limit;
        Ok(())
    }
}
