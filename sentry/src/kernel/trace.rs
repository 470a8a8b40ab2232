//! Who gets a line for every system call: the debug log, and whoever asks for it while the sandbox runs.

use super::config::LogSink;
use crate::sync::{Mutex, rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The logs of system calls.
pub struct CallLogs {
    /// There are some; asked before every system call.
    on: AtomicBool,
    sinks: Mutex<Vec<Arc<dyn LogSink>>, { rank::LEAF }>,
}

impl CallLogs {
    /// With one log from the beginning, or none.
    pub fn new(first: Option<Arc<dyn LogSink>>) -> Self {
        let sinks: Vec<_> = first.into_iter().collect();
        Self { on: AtomicBool::new(!sinks.is_empty()), sinks: Mutex::new(sinks) }
    }

    /// True if somebody wants to know.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Writes a line to all of them.
    pub fn line(&self, line: &str) {
        // Written without the lock: a log may be a pipe that nobody reads for a while.
        let sinks = self.sinks.lock().clone();
        for sink in sinks {
            sink.line(line);
        }
    }

    /// Adds a log.
    pub fn add(&self, sink: Arc<dyn LogSink>) {
        let mut sinks = self.sinks.lock();
        sinks.push(sink);
        self.on.store(true, Ordering::Relaxed);
    }

    /// Takes a log away.
    pub fn remove(&self, sink: &Arc<dyn LogSink>) {
        let mut sinks = self.sinks.lock();
        sinks.retain(|known| !Arc::ptr_eq(known, sink));
        self.on.store(!sinks.is_empty(), Ordering::Relaxed);
    }
}
