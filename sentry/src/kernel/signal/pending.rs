//! Queues of pending signals.

use super::{SigFields, SigInfo, SigSet, Signal};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
        if room || (!info.signal.is_realtime() && info.code >= 0) {
            self.queue.push_back(*info);
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
        if !self.queue.iter().any(|i| i.signal == signal) {
            self.set.remove(signal);
            self.publish();
        }
        info.unwrap_or_else(|| SigInfo::user(signal, 0, 0))
    }

    /// Drops every signal of a set.
    pub fn flush(&mut self, set: SigSet) {
        if self.set.and(set).is_empty() {
            return;
        }
        self.set = self.set.without(set);
        self.publish();
        self.queue.retain(|i| !set.contains(i.signal));
    }

    /// Drops the pending signals of a deleted timer.
    pub fn flush_timer(&mut self, timer: i32) {
        let is_it = |i: &SigInfo| matches!(i.fields, SigFields::Timer { id, .. } if id == timer);
        let Some(gone) = self.queue.iter().find(|i| is_it(i)).map(|i| i.signal) else { return };
        self.queue.retain(|i| !is_it(i));
        if !self.queue.iter().any(|i| i.signal == gone) {
            self.set.remove(gone);
            self.publish();
        }
    }
}
