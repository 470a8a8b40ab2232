//! Queues of pending signals.

use super::{SigFields, SigInfo, SigSet, Signal};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Signals queued in all of the sandbox.
static QUEUED: AtomicUsize = AtomicUsize::new(0);
/// Most signals that are queued in all of the sandbox: `RLIMIT_SIGPENDING` bounds one queue, and there
/// are as many queues as tasks.
const QUEUED_MAX: usize = 1 << 17;

/// Signals that wait for a task or a process.
#[derive(Debug, Default)]
pub struct Pending {
    set: SigSet,
    queue: VecDeque<SigInfo>,
    /// Copy of `set` for readers without the lock (readiness of a signalfd).
    mirror: Arc<AtomicU64>,
}

impl Pending {
    /// Where the set can be read without a lock.
    pub fn mirror(&self) -> Arc<AtomicU64> {
        self.mirror.clone()
    }

    fn publish(&self) {
        self.mirror.store(self.set.0, Ordering::SeqCst);
    }

    /// Which signals wait.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// Copies of what is queued, oldest first.
    pub fn list(&self) -> Vec<SigInfo> {
        self.queue.iter().copied().collect()
    }

    /// Number of queued signals.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Queues a signal. `room` is false when the queue limit is reached: then a signal is only marked
    /// pending, and its information is lost. Returns false when a real-time signal of `sigqueue(3)`
    /// cannot be queued and the sender has to be told (`EAGAIN`).
    pub fn push(&mut self, info: &SigInfo, room: bool) -> bool {
        let room = room && QUEUED.load(Ordering::Relaxed) < QUEUED_MAX;
        if room || (!info.signal.is_realtime() && info.code >= 0) {
            self.queue.push_back(*info);
            QUEUED.fetch_add(1, Ordering::Relaxed);
        } else if info.signal.is_realtime() && info.code != super::info::SI_USER {
            return false;
        }
        self.set.add(info.signal);
        self.publish();
        true
    }

    /// Takes the first signal that is not in `blocked`.
    pub fn take(&mut self, blocked: SigSet) -> Option<SigInfo> {
        let ready = self.set.without(blocked);
        let signal = ready.and(SigSet::SYNCHRONOUS).first().or_else(|| ready.first())?;
        Some(self.take_signal(signal))
    }

    fn take_signal(&mut self, signal: Signal) -> SigInfo {
        let found = self.queue.iter().position(|i| i.signal == signal);
        let info = found.and_then(|i| self.queue.remove(i));
        if info.is_some() {
            QUEUED.fetch_sub(1, Ordering::Relaxed);
        }
        if !self.queue.iter().any(|i| i.signal == signal) {
            self.set.remove(signal);
            self.publish();
        }
        info.unwrap_or_else(|| SigInfo::user(signal, 0, 0))
    }

    fn retain(&mut self, keep: impl FnMut(&SigInfo) -> bool) {
        let before = self.queue.len();
        self.queue.retain(keep);
        QUEUED.fetch_sub(before - self.queue.len(), Ordering::Relaxed);
    }

    /// Drops every signal of a set.
    pub fn flush(&mut self, set: SigSet) {
        if self.set.and(set).is_empty() {
            return;
        }
        self.set = self.set.without(set);
        self.publish();
        self.retain(|i| !set.contains(i.signal));
    }

    /// Drops the pending signals of a deleted timer.
    pub fn flush_timer(&mut self, timer: i32) {
        let is_it = |i: &SigInfo| matches!(i.fields, SigFields::Timer { id, .. } if id == timer);
        let Some(gone) = self.queue.iter().find(|i| is_it(i)).map(|i| i.signal) else { return };
        self.retain(|i| !is_it(i));
        if !self.queue.iter().any(|i| i.signal == gone) {
            self.set.remove(gone);
            self.publish();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        QUEUED.fetch_sub(self.queue.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synchronous_signals_come_first_and_real_time_ones_queue() {
        let mut pending = Pending::default();
        let rt = Signal::new(40).unwrap();
        for signal in [rt, rt, Signal::SIGHUP, Signal::SIGSEGV] {
            assert!(pending.push(&SigInfo::user(signal, 1, 0), true));
        }
        assert_eq!(pending.take(Signal::SIGHUP.set()).unwrap().signal, Signal::SIGSEGV);
        assert_eq!(pending.take(Signal::SIGHUP.set()).unwrap().signal, rt);
        assert!(pending.set().contains(rt));
        pending.flush(rt.set());
        assert_eq!(pending.take(SigSet::EMPTY).unwrap().signal, Signal::SIGHUP);
        assert!(pending.take(SigSet::EMPTY).is_none() && pending.is_empty());
    }

    #[test]
    fn a_full_queue_keeps_the_mark_and_tells_sigqueue() {
        let mut pending = Pending::default();
        let rt = Signal::new(40).unwrap();
        let queued = SigInfo { code: super::super::info::SI_QUEUE, ..SigInfo::user(rt, 1, 0) };
        assert!(!pending.push(&queued, false));
        assert!(pending.push(&SigInfo::user(rt, 1, 0), false));
        assert_eq!((pending.len(), pending.set()), (0, rt.set()));
    }
}
