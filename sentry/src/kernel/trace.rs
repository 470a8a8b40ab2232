//! Who is told of system calls: a line for each (`--strace`), and events of those that matter for security
//! (`--trace`). The debug log, files given at the start, and whoever asks while the sandbox runs.

use super::Kernel;
use super::config::LogSink;
use crate::sync::{Mutex, rank};
use crate::syscalls::table;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

bitflags::bitflags! {
    /// Kinds of events.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct EventKinds: u32 {
        /// Programs are executed.
        const EXEC = 1;
        /// Files are opened for writing.
        const OPEN = 2;
        /// Sockets are connected.
        const CONNECT = 4;
        /// A process changes its user, groups, capabilities, root or namespaces.
        const PRIVILEGE = 8;
        /// A call fails for want of rights, or a filter does not let it pass.
        const REFUSED = 16;
    }
}

impl EventKinds {
    /// Every kind and its name.
    pub const NAMES: [(&'static str, EventKinds); 5] = [
        ("exec", EventKinds::EXEC),
        ("open", EventKinds::OPEN),
        ("connect", EventKinds::CONNECT),
        ("privilege", EventKinds::PRIVILEGE),
        ("refused", EventKinds::REFUSED),
    ];

    /// The name of the first kind in it.
    pub fn name(self) -> &'static str {
        let known = Self::NAMES.iter().find(|(_, kind)| self.intersects(*kind));
        known.map_or("", |(name, _)| name)
    }
}

/// What [`CallLogs::watched`] gives.
pub mod watched {
    /// Somebody gets a line for calls.
    pub const CALLS: u32 = 1;
    /// Somebody gets events.
    pub const EVENTS: u32 = 2;
}

/// Numbers of system calls, a bit for each.
type CallSet = [u64; 8];

/// Who gets lines, and of which calls; `None`: of all.
type Sinks<F> = Mutex<Vec<(Arc<dyn LogSink>, F)>, { rank::LEAF }>;

/// The logs of system calls.
#[derive(Default)]
pub struct CallLogs {
    /// Bits of [`watched`]; asked before every system call.
    on: AtomicU32,
    sinks: Sinks<Option<CallSet>>,
    events: Sinks<EventKinds>,
}

impl CallLogs {
    /// Bits of [`watched`]: what somebody wants to know.
    pub fn watched(&self) -> u32 {
        self.on.load(Ordering::Relaxed)
    }

    fn update(&self, bit: u32, on: bool) {
        match on {
            true => self.on.fetch_or(bit, Ordering::Relaxed),
            false => self.on.fetch_and(!bit, Ordering::Relaxed),
        };
    }

    /// True if somebody gets a line for calls of this number.
    pub fn wants(&self, nr: u64) -> bool {
        self.sinks.lock().iter().any(|(_, calls)| contains(calls, nr))
    }

    /// Writes a line about a call to all who want it.
    pub fn line(&self, nr: u64, line: &str) {
        // Written without the lock: a log may be a pipe that nobody reads for a while.
        let sinks = self.sinks.lock().clone();
        for (sink, _) in sinks.iter().filter(|(_, calls)| contains(calls, nr)) {
            sink.line(line);
        }
    }

    fn add(&self, sink: Arc<dyn LogSink>, names: &[String]) {
        let calls = (!names.is_empty()).then(|| {
            let mut set = CallSet::default();
            for name in names {
                let number = table::number_of(name).and_then(|nr| usize::try_from(nr).ok());
                match number.and_then(|nr| Some((set.get_mut(nr / 64)?, nr % 64))) {
                    Some((word, bit)) => *word |= 1 << bit,
                    None => tracing::warn!("there is no system call {name:?} to be logged"),
                }
            }
            set
        });
        let mut sinks = self.sinks.lock();
        sinks.retain(|(known, _)| !Arc::ptr_eq(known, &sink));
        sinks.push((sink, calls));
        self.update(watched::CALLS, true);
    }

    fn remove(&self, sink: &Arc<dyn LogSink>) {
        let mut sinks = self.sinks.lock();
        sinks.retain(|(known, _)| !Arc::ptr_eq(known, sink));
        self.update(watched::CALLS, !sinks.is_empty());
    }

    /// The kinds of events that anybody wants.
    pub fn event_kinds(&self) -> EventKinds {
        let events = self.events.lock();
        events.iter().fold(EventKinds::empty(), |all, (_, kinds)| all | *kinds)
    }

    /// Writes an event of these kinds to all who want one of them.
    pub fn event(&self, kinds: EventKinds, line: &str) {
        let sinks = self.events.lock().clone();
        for (sink, _) in sinks.iter().filter(|(_, wanted)| wanted.intersects(kinds)) {
            sink.line(line);
        }
    }

    /// Adds somebody who wants events.
    pub fn add_events(&self, sink: Arc<dyn LogSink>, kinds: EventKinds) {
        self.events.lock().push((sink, kinds));
        self.update(watched::EVENTS, true);
    }

    /// Takes somebody away who wanted events.
    pub fn remove_events(&self, sink: &Arc<dyn LogSink>) {
        let mut sinks = self.events.lock();
        sinks.retain(|(known, _)| !Arc::ptr_eq(known, sink));
        self.update(watched::EVENTS, !sinks.is_empty());
    }
}

impl Kernel {
    /// Adds a log of the calls that are named, or of all; of one that is there already the calls change. Names that no
    /// call has are about nothing.
    pub fn log_calls(&self, sink: Arc<dyn LogSink>, names: &[String]) {
        self.call_logs.add(sink, names);
        self.refresh_all_answers();
    }

    /// Takes a log of calls away.
    pub fn unlog_calls(&self, sink: &Arc<dyn LogSink>) {
        self.call_logs.remove(sink);
        self.refresh_all_answers();
    }
}

fn contains(calls: &Option<CallSet>, nr: u64) -> bool {
    let Some(calls) = calls else { return true };
    let word = usize::try_from(nr / 64).ok().and_then(|i| calls.get(i));
    word.is_some_and(|word| word & 1 << (nr % 64) != 0)
}
