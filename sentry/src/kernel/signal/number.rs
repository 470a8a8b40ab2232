//! Signal numbers and sets (`signal(7)`).

/// Highest signal number (`_NSIG`).
pub const NSIG: usize = 64;

/// A valid signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $n:literal),* $(,)?) => {
        #[expect(missing_docs, reason = "the names are signal(7)'s")]
        impl Signal {
            $(pub const $name: Signal = Signal($n);)*
        }
        impl Signal {
            /// Name as in `signal(7)`; real-time signals have none of their own.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($n => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8,
    SIGKILL = 9, SIGUSR1 = 10, SIGSEGV = 11, SIGUSR2 = 12, SIGPIPE = 13, SIGALRM = 14, SIGTERM = 15,
    SIGSTKFLT = 16, SIGCHLD = 17, SIGCONT = 18, SIGSTOP = 19, SIGTSTP = 20, SIGTTIN = 21,
    SIGTTOU = 22, SIGURG = 23, SIGXCPU = 24, SIGXFSZ = 25, SIGVTALRM = 26, SIGPROF = 27,
    SIGWINCH = 28, SIGIO = 29, SIGPWR = 30, SIGSYS = 31,
}

/// What happens when a signal has no handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAction {
    /// Ends the process.
    Terminate,
    /// Ends the process with the core flag.
    Core,
    /// Nothing.
    Ignore,
    /// Stops the process.
    Stop,
    /// Continues a stopped process.
    Continue,
}

impl Signal {
    /// The signal of that number; `None` outside 1 to 64.
    pub fn new(number: i32) -> Option<Signal> {
        u8::try_from(number).ok().filter(|n| (1..=64).contains(n)).map(Signal)
    }

    /// The number.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Position in tables: the number less one, always below [`NSIG`].
    pub fn index(self) -> usize {
        usize::from(self.0.saturating_sub(1)) % NSIG
    }

    /// True for signals 32 to 64, which queue.
    pub fn is_realtime(self) -> bool {
        self.0 >= 32
    }

    /// The set with only this signal.
    pub fn set(self) -> SigSet {
        SigSet(1 << self.index())
    }

    /// What happens without a handler.
    pub fn default_action(self) -> DefaultAction {
        match self {
            Self::SIGCHLD | Self::SIGURG | Self::SIGWINCH => DefaultAction::Ignore,
            Self::SIGCONT => DefaultAction::Continue,
            Self::SIGSTOP | Self::SIGTSTP | Self::SIGTTIN | Self::SIGTTOU => DefaultAction::Stop,
            Self::SIGQUIT
            | Self::SIGILL
            | Self::SIGTRAP
            | Self::SIGABRT
            | Self::SIGBUS
            | Self::SIGFPE
            | Self::SIGSEGV
            | Self::SIGXCPU
            | Self::SIGXFSZ
            | Self::SIGSYS => DefaultAction::Core,
            _ => DefaultAction::Terminate,
        }
    }
}

/// A set of signals, with the bits of the kernel's `sigset_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SigSet(pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: SigSet = SigSet(0);
    /// Every signal.
    pub const ALL: SigSet = SigSet(u64::MAX);
    /// The two that can be neither blocked nor handled.
    pub const UNBLOCKABLE: SigSet = SigSet(1 << 8 | 1 << 18);
    /// Those that stop a process by default.
    pub const STOP: SigSet = SigSet(0b1111 << 18);
    /// Those raised by the program's own instructions; delivered before others.
    pub const SYNCHRONOUS: SigSet = SigSet(1 << 10 | 1 << 6 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 30);

    /// True if the signal is in the set.
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & signal.set().0 != 0
    }

    /// Adds a signal.
    pub fn add(&mut self, signal: Signal) {
        self.0 |= signal.set().0;
    }

    /// Removes a signal.
    pub fn remove(&mut self, signal: Signal) {
        self.0 &= !signal.set().0;
    }

    /// True if there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In this set but not in the other.
    pub fn without(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }

    /// In both.
    pub fn and(self, other: SigSet) -> SigSet {
        SigSet(self.0 & other.0)
    }

    /// In either.
    pub fn or(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }

    /// The signal that is delivered first: the lowest.
    pub fn first(self) -> Option<Signal> {
        Signal::new(i32::try_from(self.0.trailing_zeros()).unwrap_or(64) + 1)
    }
}
