//! Core dumps (`core(5)`): what a signal leaves behind of a process that it ends.
//!
//! The thread that takes the signal begins the end of its process. The others, on their way out, leave their
//! registers and wait ([`take_part`]), so that memory is as it was; then the thread writes the file, which has the
//! place, owner and size that `kernel.core_pattern`, the process's credentials and `RLIMIT_CORE` say.

mod areas;
mod file;
mod name;
mod notes;

use super::signal::send::{begin_exit, killed_status};
use super::signal::{SigInfo, SigSet};
use super::{CurrentTask, Rlimit, Task, ThreadGroup};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use platform::{Registers, XState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Least `RLIMIT_CORE` with which anything is written, in bytes (`min_coredump`).
const LEAST: u64 = 4096;
/// Longest pattern, in bytes (`CORENAME_MAX_SIZE`, less the NUL).
const PATTERN_MAX: usize = 127;

/// Settings of the sandbox.
#[derive(Debug)]
pub struct Settings {
    pattern: Mutex<Vec<u8>, { rank::LEAF }>,
    /// `kernel.core_uses_pid`.
    pub uses_pid: AtomicU32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { pattern: Mutex::new(b"core".to_vec()), uses_pid: AtomicU32::new(0) }
    }
}

impl Settings {
    /// `kernel.core_pattern`.
    pub fn pattern(&self) -> Vec<u8> {
        self.pattern.lock().clone()
    }

    /// Changes the pattern; what is too long is cut off. `EINVAL` for a program or a socket that is to take core
    /// dumps: nothing in a sandbox is started by the kernel.
    pub fn set_pattern(&self, pattern: &[u8]) -> Result<()> {
        if matches!(pattern.first(), Some(b'|' | b'@')) {
            return Err(Errno::EINVAL);
        }
        let cut = pattern.get(..PATTERN_MAX).unwrap_or(pattern);
        *self.pattern.lock() = cut.to_vec();
        Ok(())
    }
}

/// What a thread leaves.
pub(super) struct Thread {
    task: Arc<Task>,
    regs: Registers,
    /// `None` if it could not be had.
    xstate: Option<XState>,
    pending: SigSet,
    blocked: SigSet,
}

impl Thread {
    fn of(t: &mut CurrentTask) -> Thread {
        let CurrentTask { context, regs, .. } = &mut *t;
        // Without them what was known last is as good as it gets.
        let _ = context.load_registers(regs);
        Thread {
            regs: t.regs,
            xstate: t.context.xstate().ok(),
            task: t.task().clone(),
            pending: t.pending_hint(),
            blocked: t.blocked(),
        }
    }
}

/// A dump that is under way.
pub struct Dump {
    dumper: Arc<Task>,
    threads: Mutex<Vec<Thread>, { rank::LEAF }>,
    done: AtomicBool,
}

/// Ends the calling thread's process by a signal that dumps core.
pub(super) fn end(t: &mut CurrentTask, info: &SigInfo) {
    let group = t.group().clone();
    let wanted = t.limit(Rlimit::Core).soft >= LEAST && group.is_dumpable();
    let dump = Arc::new(Dump {
        dumper: t.task().clone(),
        threads: Mutex::new(Vec::new()),
        done: AtomicBool::new(false),
    });
    {
        let mut signals = group.signals();
        if signals.exiting() {
            return;
        }
        if wanted {
            signals.dump = Some(dump.clone());
        }
        begin_exit(&mut signals, killed_status(info.signal, false));
    }
    if !wanted {
        return;
    }
    t.context.set_blocked(true);
    while !dump.is_complete(&group) {
        t.task().parker.park();
    }
    t.context.set_blocked(false);
    let own = Thread::of(t);
    let written = {
        let threads = std::mem::take(&mut *dump.threads.lock());
        let result = file::write(t, info, &own, &threads);
        *dump.threads.lock() = threads;
        result
    };
    if let Err(error) = &written {
        tracing::debug!(pid = t.tgid(), ?error, "no core dump");
    }
    {
        let mut signals = group.signals();
        signals.dump = None;
        // One that the limit has cut off is one, too.
        if matches!(written, Ok(()) | Err(Errno::EFBIG)) {
            signals.group_exit = Some(killed_status(info.signal, true));
        }
    }
    dump.done.store(true, Ordering::SeqCst);
    for thread in std::mem::take(&mut *dump.threads.lock()) {
        thread.task.parker.unpark();
    }
}

impl Dump {
    /// Every other thread has left what there is of it, or is gone.
    fn is_complete(&self, group: &ThreadGroup) -> bool {
        let signals = group.signals();
        let threads = self.threads.lock();
        let here = |task: &Arc<Task>| threads.iter().any(|thread| Arc::ptr_eq(&thread.task, task));
        signals.tasks.iter().all(|task| Arc::ptr_eq(task, &self.dumper) || here(task))
    }

    /// A thread has gone without taking part.
    pub(super) fn thread_gone(&self) {
        self.dumper.parker.unpark();
    }
}

/// A thread whose process is dumped leaves its registers, and waits until that is over.
pub(super) fn take_part(t: &mut CurrentTask) {
    let dump = t.group().signals().dump.clone();
    let Some(dump) = dump else { return };
    let thread = Thread::of(t);
    dump.threads.lock().push(thread);
    dump.dumper.parker.unpark();
    t.context.set_blocked(true);
    while !dump.done.load(Ordering::SeqCst) {
        t.task().parker.park();
    }
    t.context.set_blocked(false);
}
