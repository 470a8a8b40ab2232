//! Signal dispositions (`sigaction(2)`), shared by tasks cloned with `CLONE_SIGHAND`.

use super::{DefaultAction, NSIG, SigSet, Signal};
use crate::sync::{Mutex, rank};
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SIG_DFL`.
pub const SIG_DFL: u64 = 0;
/// `SIG_IGN`.
pub const SIG_IGN: u64 = 1;

/// `SA_NOCLDSTOP`.
pub const SA_NOCLDSTOP: u64 = 1;
/// `SA_NOCLDWAIT`.
pub const SA_NOCLDWAIT: u64 = 2;
/// `SA_SIGINFO`.
pub const SA_SIGINFO: u64 = 4;
/// `SA_UNSUPPORTED`: always cleared.
pub const SA_UNSUPPORTED: u64 = 0x400;
/// `SA_EXPOSE_TAGBITS`.
pub const SA_EXPOSE_TAGBITS: u64 = 0x800;
/// `SA_RESTORER`.
pub const SA_RESTORER: u64 = 0x0400_0000;
/// `SA_ONSTACK`.
pub const SA_ONSTACK: u64 = 0x0800_0000;
/// `SA_RESTART`.
pub const SA_RESTART: u64 = 0x1000_0000;
/// `SA_NODEFER`.
pub const SA_NODEFER: u64 = 0x4000_0000;
/// `SA_RESETHAND`.
pub const SA_RESETHAND: u64 = 0x8000_0000;

/// Flags that the kernel keeps; others read back as zero (`UAPI_SA_FLAGS`).
pub const SA_KNOWN: u64 = SA_NOCLDSTOP
    | SA_NOCLDWAIT
    | SA_SIGINFO
    | SA_ONSTACK
    | SA_RESTART
    | SA_NODEFER
    | SA_RESETHAND
    | SA_EXPOSE_TAGBITS
    | SA_RESTORER;

/// The kernel's `struct sigaction`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SigAction {
    /// Handler's address, [`SIG_DFL`] or [`SIG_IGN`].
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Signals blocked while it runs.
    pub mask: u64,
}

impl SigAction {
    /// True when the signal does nothing.
    pub fn ignores(&self, signal: Signal) -> bool {
        self.handler == SIG_IGN
            || (self.handler == SIG_DFL && signal.default_action() == DefaultAction::Ignore)
    }
}

/// A table of dispositions.
pub struct SigHandlers {
    actions: Mutex<[SigAction; NSIG], { rank::PENDING }>,
    /// Signals that do nothing, and those with the default action, for readers without the lock.
    ignored: AtomicU64,
    default: AtomicU64,
}

impl Default for SigHandlers {
    fn default() -> Self {
        Self::from_actions([SigAction::default(); NSIG])
    }
}

impl SigHandlers {
    fn from_actions(actions: [SigAction; NSIG]) -> SigHandlers {
        let handlers = SigHandlers {
            actions: Mutex::new(actions),
            ignored: AtomicU64::new(0),
            default: AtomicU64::new(0),
        };
        handlers.summarize(&actions);
        handlers
    }

    fn summarize(&self, actions: &[SigAction; NSIG]) {
        let (mut ignored, mut default) = (SigSet::EMPTY, SigSet::EMPTY);
        for (n, action) in (1..).zip(actions) {
            let Some(signal) = Signal::new(n) else { continue };
            if action.ignores(signal) {
                ignored.add(signal);
            }
            if action.handler == SIG_DFL {
                default.add(signal);
            }
        }
        self.ignored.store(ignored.0, Ordering::SeqCst);
        self.default.store(default.0, Ordering::SeqCst);
    }

    /// A copy of its own (`fork(2)`).
    pub fn copy(&self) -> SigHandlers {
        Self::from_actions(*self.actions.lock())
    }

    /// What `execve(2)` leaves: handlers become the default, ignored signals stay ignored.
    pub fn for_exec(&self) -> SigHandlers {
        let mut actions = *self.actions.lock();
        for action in &mut actions {
            let keep = action.handler == SIG_IGN;
            *action = SigAction::default();
            if keep {
                action.handler = SIG_IGN;
            }
        }
        Self::from_actions(actions)
    }

    /// What `CLONE_CLEAR_SIGHAND` leaves: as [`SigHandlers::for_exec`].
    pub fn cleared(&self) -> SigHandlers {
        self.for_exec()
    }

    /// The disposition of a signal.
    pub fn get(&self, signal: Signal) -> SigAction {
        self.actions.lock().get(signal.index()).copied().unwrap_or_default()
    }

    /// Changes a disposition; returns the old one.
    pub fn set(&self, signal: Signal, action: SigAction) -> SigAction {
        let mut actions = self.actions.lock();
        let mut old = action;
        if let Some(place) = actions.get_mut(signal.index()) {
            old = std::mem::replace(place, action);
        }
        self.summarize(&actions);
        old
    }

    /// Signals that do nothing.
    pub fn ignored(&self) -> SigSet {
        SigSet(self.ignored.load(Ordering::SeqCst))
    }

    /// Signals with the default action.
    pub fn default_set(&self) -> SigSet {
        SigSet(self.default.load(Ordering::SeqCst))
    }

    /// Signals with a handler (`SigCgt` in `/proc/PID/status`).
    pub fn caught(&self) -> SigSet {
        let actions = *self.actions.lock();
        let mut set = SigSet::EMPTY;
        for (n, action) in (1..).zip(&actions) {
            if let (Some(signal), true) = (Signal::new(n), action.handler > SIG_IGN) {
                set.add(signal);
            }
        }
        set
    }

    /// Signals set to `SIG_IGN` (`SigIgn` in `/proc/PID/status`).
    pub fn explicitly_ignored(&self) -> SigSet {
        self.ignored().without(self.default_set())
    }
}
