//! System calls that a platform may answer itself, without the sentry.
//!
//! What such a call returns is a word that the sentry has written down for the thread and that the guest cannot write.
//! The sentry changes the word when what it stands for changes, from whatever thread that is: a call that a
//! platform answers at the same time has come before the change, or after it. What platforms change themselves is the signal mask of a
//! thread ([`SignalMask`]), the position of an open file ([`FilePosition`]) and what is in a pipe ([`PipePlace`]).

use std::ops::Range;
use std::sync::Arc;

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
    /// `lseek(2)` with `SEEK_SET` and `SEEK_CUR` on a file whose position the platform keeps ([`FilePosition`]). The word is the number of
    /// the thread's table of descriptors ([`Descriptors`]).
    Lseek,
    /// `read(2)` of a pipe whose bytes the platform has ([`PipePlace`]). The word as that of [`PureCall::Lseek`].
    Read,
    /// `write(2)` to such a pipe.
    Write,
}

impl PureCall {
    /// All of them.
    pub const ALL: [Self; 13] = [
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
        Self::Lseek,
        Self::Read,
        Self::Write,
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
            Self::Lseek => libc::SYS_lseek,
            Self::Read => libc::SYS_read,
            Self::Write => libc::SYS_write,
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

/// What a table of descriptors has for the platform ([`crate::Platform::descriptors`]): for each descriptor, what the platform calls
/// the open file behind it.
pub trait Descriptors: Send + Sync {
    /// What calls on descriptors of this table are answered with.
    fn number(&self) -> u32;

    /// From now on a descriptor stands for this file, or, with `None`, for one that the platform knows nothing of. Descriptors of a
    /// table are set one at a time.
    fn set(&self, fd: u32, file: Option<FileName>);

    /// Another table, without descriptors. `None` where there is no room for one.
    fn another(&self) -> Option<Arc<dyn Descriptors>>;

    /// A place for the position of an open file, which is held. `None` where there is no room for one.
    fn position(&self) -> Option<Box<dyn FilePosition>>;

    /// A place for bytes in a pipe, which is held. `None` where there is no room for one.
    fn pipe(&self) -> Option<Box<dyn PipePlace>>;
}

/// What a platform calls an open file: never the same for two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileName(pub u64);

/// The position of an open file, in a word that the platform changes on behalf of `lseek(2)` while nobody holds it. The sentry holds it
/// with a lock of its own for as long as a transfer moves it.
pub trait FilePosition: Send + Sync {
    /// What descriptors of the file are set to.
    fn name(&self) -> FileName;

    /// Keeps the platform from changing it. The position, unless it has been held since the sentry had it last.
    fn hold(&self) -> Option<u64>;

    /// The platform may change it, from this position on. It remains held where that is too large for the platform.
    fn let_go(&self, position: u64);
}

/// Most bytes in a [`PipePlace`].
pub const PIPE_PAGE: usize = crate::PAGE_SIZE as usize;

/// All that is in a pipe, in one page, from which the platform reads and to which it writes on behalf of the pipe's users while nobody
/// holds it. It does so only where a call neither waits nor wakes anybody, and succeeds whole: not where the page is empty or
/// has no room behind its bytes. What it begins with an empty page begins at the page's start.
pub trait PipePlace: Send + Sync {
    /// What descriptors of an open file of the pipe are set to.
    fn name(&self, reads: bool, writes: bool) -> FileName;

    /// Keeps the platform from reading and writing, once it has done what it has begun. Where in the page the pipe's bytes are, which have
    /// been copied there, unless it has been held since the sentry had them last.
    fn hold(&self, page: &mut [u8; PIPE_PAGE]) -> Option<Range<usize>>;

    /// The platform may read and write: these bytes of the page are what is in the pipe.
    fn let_go(&self, page: &[u8; PIPE_PAGE], bytes: Range<usize>);
}
