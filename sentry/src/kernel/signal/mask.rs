//! The set of signals that a task blocks.
//!
//! The task changes it with the signals of its process locked. Some platforms change it, too, on behalf of `rt_sigprocmask(2)`, without
//! that lock and while the task runs guest code, unless it is held ([`platform::SignalMask`]). So it is held while it matters:
//! whoever queues a signal holds the masks of all tasks that the signal may be for before queueing it, and looks at
//! them afterwards. A mask is let go by its task alone, with the lock, once no signal is pending for that. Where signals are
//! pending, masks are thus as fixed as the lock made them; where none are, nothing depends on them.

use super::SigSet;
use platform::SignalMask;
use platform::answers::HELD;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A task's mask.
pub struct Mask {
    /// The mask, where the platform has none.
    own: AtomicU64,
    shared: Option<Arc<dyn SignalMask>>,
}

impl Mask {
    /// A mask that is held, in the platform's place for it, if there is one.
    pub fn new(set: SigSet, place: impl FnOnce(u64) -> Option<Arc<dyn SignalMask>>) -> Mask {
        Mask { own: AtomicU64::new(set.0), shared: place(set.0) }
    }

    /// What the platform knows it by.
    pub fn number(&self) -> Option<u32> {
        self.shared.as_ref().map(|shared| shared.number())
    }

    /// The blocked signals.
    pub fn get(&self) -> SigSet {
        match &self.shared {
            Some(shared) => SigSet(shared.load() & !HELD),
            None => SigSet(self.own.load(Ordering::Relaxed)),
        }
    }

    /// Replaces the blocked signals, with the signals of the process locked. It is held as before.
    pub fn set(&self, set: SigSet) {
        match &self.shared {
            Some(shared) => shared.store(set.0 | shared.load() & HELD),
            None => self.own.store(set.0, Ordering::Relaxed),
        }
    }

    /// Keeps the platform from changing it.
    pub fn hold(&self) {
        if let Some(shared) = &self.shared {
            shared.hold();
        }
    }

    /// Whether the platform could change it if it were let go.
    pub fn is_held(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.load() & HELD != 0)
    }

    /// Lets the platform change it: no signal is pending for the task, and the signals of its process are locked.
    pub fn let_go(&self) {
        if let Some(shared) = &self.shared {
            shared.store(shared.load() & !HELD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::signal::Signal;

    #[derive(Default)]
    struct Place(AtomicU64);

    impl SignalMask for Place {
        fn number(&self) -> u32 {
            7
        }
        fn load(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
        fn store(&self, word: u64) {
            self.0.store(word, Ordering::Relaxed);
        }
        fn hold(&self) {
            self.0.fetch_or(HELD, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_mask_is_held_until_it_is_let_go() {
        let place = Arc::new(Place::default());
        let shared: Arc<dyn SignalMask> = place.clone();
        let mask = Mask::new(Signal::SIGHUP.set(), |set| {
            shared.store(set | HELD);
            Some(shared)
        });
        assert_eq!(
            (mask.number(), mask.get(), mask.is_held()),
            (Some(7), Signal::SIGHUP.set(), true)
        );
        mask.set(SigSet::EMPTY);
        assert_eq!((mask.get(), mask.is_held(), place.load()), (SigSet::EMPTY, true, HELD));
        mask.let_go();
        mask.set(Signal::SIGSEGV.set());
        assert!(!mask.is_held());
        // The platform changes it.
        place.store(Signal::SIGHUP.set().0);
        mask.hold();
        assert_eq!((mask.get(), mask.is_held()), (Signal::SIGHUP.set(), true));
    }

    #[test]
    fn without_a_place_nothing_is_held() {
        let mask = Mask::new(Signal::SIGHUP.set(), |_| None);
        mask.hold();
        assert_eq!(
            (mask.number(), mask.get(), mask.is_held()),
            (None, Signal::SIGHUP.set(), false)
        );
        mask.set(SigSet::EMPTY);
        assert_eq!(mask.get(), SigSet::EMPTY);
    }
}
