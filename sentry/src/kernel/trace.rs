//! Who gets a line for every system call: the debug log, and whoever asks for it while the sandbox runs.

use super::config::LogSink;
use crate::sync::{Mutex, rank};
use crate::syscalls::table;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A log, and the calls that it is about.
#[derive(Clone)]
struct CallLog {
    sink: Arc<dyn LogSink>,
    /// Numbers; none: all.
    only: Arc<[u64]>,
}

impl CallLog {
    /// Names that no call has are about nothing.
    fn new(sink: Arc<dyn LogSink>, names: &[String]) -> CallLog {
        let number = |name: &String| match table::number_of(name) {
            Some(number) => number,
            None => {
                tracing::warn!("there is no system call {name:?} to be logged");
                u64::MAX
            }
        };
        CallLog { sink, only: names.iter().map(number).collect() }
    }

    fn wants(&self, nr: u64) -> bool {
        self.only.is_empty() || self.only.contains(&nr)
    }
}

/// The logs of system calls.
pub struct CallLogs {
    /// There are some; asked before every system call.
    on: AtomicBool,
    logs: Mutex<Vec<CallLog>, { rank::LEAF }>,
}

impl CallLogs {
    /// With one log from the beginning, about the calls that are named or about all, or none.
    pub fn new(first: Option<Arc<dyn LogSink>>, names: &[String]) -> Self {
        let logs: Vec<_> = first.into_iter().map(|sink| CallLog::new(sink, names)).collect();
        Self { on: AtomicBool::new(!logs.is_empty()), logs: Mutex::new(logs) }
    }

    /// True if somebody wants to know of some calls.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// True if somebody wants to know of this call.
    pub fn wants(&self, nr: u64) -> bool {
        self.logs.lock().iter().any(|log| log.wants(nr))
    }

    /// Writes a line about a call to all who want to know.
    pub fn line(&self, nr: u64, line: &str) {
        // Written without the lock: a log may be a pipe that nobody reads for a while.
        let logs = self.logs.lock().clone();
        for log in logs.iter().filter(|log| log.wants(nr)) {
            log.sink.line(line);
        }
    }

    /// Adds a log, about the calls that are named, or about all.
    pub fn add(&self, sink: Arc<dyn LogSink>, names: &[String]) {
        let log = CallLog::new(sink, names);
        let mut logs = self.logs.lock();
        logs.push(log);
        self.on.store(true, Ordering::Relaxed);
    }

    /// Takes a log away.
    pub fn remove(&self, sink: &Arc<dyn LogSink>) {
        let mut logs = self.logs.lock();
        logs.retain(|known| !Arc::ptr_eq(&known.sink, sink));
        self.on.store(!logs.is_empty(), Ordering::Relaxed);
    }
}
