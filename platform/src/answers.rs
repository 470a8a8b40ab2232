//! System calls that a platform may answer itself, without the sentry.
//!
//! What such a call returns is a word that the sentry has written down for the thread and that the guest cannot write.
//! The sentry changes the word when what it stands for changes, from whatever thread that is: a call that a
//! platform answers at the same time has come before the change, or after it.

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
}

impl PureCall {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Getpid,
        Self::Gettid,
        Self::Getppid,
        Self::Getpgrp,
        Self::Getuid,
        Self::Geteuid,
        Self::Getgid,
        Self::Getegid,
        Self::Futex,
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
