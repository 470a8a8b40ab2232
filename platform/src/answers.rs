//! System calls that a platform may answer itself, without the sentry.
//!
//! What such a call returns is a word that the sentry has written down for the thread and that the guest cannot write.
//! The sentry changes the word when what it stands for changes, from whatever thread that is: a call that a
//! platform answers at the same time has come before the change, or after it. What platforms change themselves is the signal mask of a
//! thread alone ([`SignalMask`]).

/// A call that only reads what the sentry knows of its thread, and has no arguments, or one that does nothing with its.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PureCall {
    /// `getpid(2)`
    Getpid = 1,
    /// `gettid(2)`
    Gettid,
    /// `getppid(2)`
    Getppid,
    /// `getpgrp(2)`
    Getpgrp,
    /// `getuid(2)`
    Getuid,
    /// `geteuid(2)`
    Geteuid,
    /// `getgid(2)`
    Getgid,
    /// `getegid(2)`
    Getegid,
    /// `futex(2)` with `FUTEX_PRIVATE_FLAG`: a wake-up where nobody can be waiting ([`FutexWaiters`]), and a wait without a timeout for
    /// a word that has another value. The word is 0.
    Futex,
    /// `rt_sigprocmask(2)` while nothing follows from a change of the mask ([`SignalMask`]). The word is that mask's number.
    Sigprocmask,
}

impl PureCall {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Getpid,
        Self::Gettid,
        Self::Getppid,
        Self::Getpgrp,
        Self::Getuid,
        Self::Geteuid,
        Self::Getgid,
        Self::Getegid,
        Self::Futex,
        Self::Sigprocmask,
    ];

    /// Its number.
    pub const fn number(self) -> u64 {
        let number = match self {
            Self::Getpid => libc::SYS_getpid,
            Self::Gettid => libc::SYS_gettid,
            Self::Getppid => libc::SYS_getppid,
            Self::Getpgrp => libc::SYS_getpgrp,
            Self::Getuid => libc::SYS_getuid,
            Self::Geteuid => libc::SYS_geteuid,
            Self::Getgid => libc::SYS_getgid,
            Self::Getegid => libc::SYS_getegid,
            Self::Futex => libc::SYS_futex,
            Self::Sigprocmask => libc::SYS_rt_sigprocmask,
        };
        number as u64
    }

    /// Its place among a thread's words, counted from 1.
    pub const fn slot(self) -> u8 {
        self as u8
    }
}

/// The words of one thread ([`crate::Context::answers`]).
pub trait Answers: Send + Sync {
    /// From now on the platform may answer such a call of the thread with `value`, or, with `None`, passes it on.
    fn set(&self, call: PureCall, value: Option<u32>);
}

/// Where a platform sees whether anybody may wait at an address ([`crate::Platform::futex_waiters`]). Of waits that
/// `FUTEX_PRIVATE_FLAG` can meet, in whatever process.
pub trait FutexWaiters: Send + Sync {
    /// One more waits at an address. To be told before the word there is compared.
    fn add(&self, addr: u64);

    /// One less does.
    fn remove(&self, addr: u64);
}

/// Set in the word of a [`SignalMask`] that only the sentry may change: the bit of `SIGKILL`, which no mask has.
pub const HELD: u64 = 1 << (libc::SIGKILL - 1);

/// The signal mask of a thread in a word that the platform may change on the thread's behalf, between two calls of it that the sentry
/// answers ([`crate::Platform::signal_mask`]). [`HELD`] keeps it as it is: whoever has set that may act upon the mask. The
/// platform changes only the mask, and only while that bit is not set.
pub trait SignalMask: Send + Sync {
    /// What [`PureCall::Sigprocmask`] is answered with.
    fn number(&self) -> u32;

    /// The mask, and whether it is held.
    fn load(&self) -> u64;

    /// Replaces both. Only what is held, or whose thread is not in guest code, may be replaced.
    fn store(&self, word: u64);

    /// Sets [`HELD`], before what follows is read.
    fn hold(&self);
}
