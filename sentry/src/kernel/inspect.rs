//! What others may ask of a process or thread: the view behind `/proc/PID`.

use super::signal::SigSet;
use super::{Task, ThreadGroup};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
}

/// The guest thread that the calling host thread runs; `None` on the sentry's own threads. For files
/// whose contents depend on who reads them (`/proc/self`, terminals).
pub fn current() -> Option<Arc<Task>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Makes `task` the calling host thread's guest thread; `None` when it ends.
pub fn set_current(task: Option<Arc<Task>>) {
    CURRENT.set(task);
}

impl ThreadGroup {
    /// Name of the process: that of its first thread, or of the last one it had.
    pub fn comm(&self) -> Vec<u8> {
        match self.any_task() {
            Some(task) => task.comm(),
            None => self.usage.lock().comm.iter().copied().take_while(|b| *b != 0).collect(),
        }
    }

    /// State of the process as `/proc/PID/stat` shows it: `R` when any thread runs, `Z` for a zombie.
    pub fn state(&self) -> char {
        let states: Vec<char> = self.tasks().iter().map(|task| task.state()).collect();
        let first = states.first().copied().unwrap_or('Z');
        if states.contains(&'R') { 'R' } else { first }
    }

    /// True when its files in `proc` belong to its user (`PR_SET_DUMPABLE` is 1).
    pub fn is_dumpable(&self) -> bool {
        self.dumpable.load(Ordering::Relaxed) == 1
    }

    /// Signals that wait for the process and, if given, for one of its threads.
    pub fn pending_split(&self, task: &Task) -> (SigSet, SigSet) {
        let shared = self.signals().shared.set();
        let own = task.pending.lock().set();
        (own, shared)
    }

    /// Number of signals queued for the process and its threads.
    pub fn queued_signals(&self) -> usize {
        let signals = self.signals();
        let own: usize = signals.tasks.iter().map(|task| task.pending.lock().len()).sum();
        signals.shared.len() + own
    }
}
