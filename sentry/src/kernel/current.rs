//! One guest thread, seen from its own host thread.

use super::clone::Vfork;
use super::namespace::Namespaces;
use super::signal::AltStack;
use super::signal::frame::TrapInfo;
use super::task::{Shared, place, work};
use super::{Credentials, Task};
use crate::errno::{Errno, Result};
use crate::mm::MemoryManager;
use crate::time::restart::RestartBlock;
use crate::vfs::{FdTable, File, FsContext};
use crate::wait::Waker;
use platform::{Context, Registers};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Why a task that blocked goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// A waker was told of something (perhaps spuriously).
    Event,
    /// The deadline has passed.
    Timeout,
    /// A signal is pending, or the task must die.
    Interrupted,
}

/// The guest thread that the calling host thread runs. Handlers of system calls get it.
///
/// It holds plain references to what the task uses all the time, so that a system call takes no lock
/// for them; what changes here is copied to the shared part ([`Task`]).
pub struct CurrentTask {
    task: Arc<Task>,
    shared: Shared,
    creds: Arc<Credentials>,
    /// Registers at the system call or fault; what handlers change here the guest sees.
    pub regs: Registers,
    /// Execution state in the platform.
    pub context: Box<dyn Context>,
    /// The alternate signal stack.
    pub(super) alt_stack: AltStack,
    /// Mask to put back once a signal has been handled, with [`work::RESTORE_MASK`].
    pub(super) saved_mask: u64,
    /// What `restart_syscall(2)` goes on with.
    pub restart: Option<RestartBlock>,
    /// Reading the time-stamp counter raises `SIGSEGV` (`PR_SET_TSC`).
    pub(super) no_tsc: bool,
    /// Wait status with which it ends, unless its process ends first.
    pub(super) exit_status: i32,
    /// Whoever waits for our exec or end (`vfork(2)`).
    pub(super) vfork: Option<Arc<Vfork>>,
    /// The exception behind the latest fault signal.
    pub(super) trap: TrapInfo,
}

impl CurrentTask {
    pub(super) fn new(
        task: Arc<Task>,
        shared: Shared,
        regs: Registers,
        context: Box<dyn Context>,
    ) -> CurrentTask {
        let creds = task.creds();
        CurrentTask {
            task,
            shared,
            creds,
            regs,
            context,
            alt_stack: AltStack::default(),
            saved_mask: 0,
            restart: None,
            no_tsc: false,
            exit_status: 0,
            vfork: None,
            trap: TrapInfo::default(),
        }
    }

    /// The shared part.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Whether its code may read the time-stamp counter (`PR_GET_TSC`).
    pub fn may_read_tsc(&self) -> bool {
        !self.no_tsc
    }

    /// Lets its code read the time-stamp counter, or not. `EINVAL` where the platform cannot see to that.
    pub fn set_may_read_tsc(&mut self, allowed: bool) -> Result<()> {
        if self.no_tsc == allowed {
            self.context.set_tsc(allowed).map_err(|_| Errno::EINVAL)?;
            self.no_tsc = !allowed;
        }
        Ok(())
    }

    /// Memory of its process.
    pub fn mm(&self) -> &Arc<MemoryManager> {
        &self.shared.mm
    }

    /// Its file descriptors.
    pub fn files(&self) -> &Arc<FdTable> {
        &self.shared.files
    }

    /// Its root, working directory and umask.
    pub fn fs(&self) -> &Arc<FsContext> {
        &self.shared.fs
    }

    /// Its credentials.
    pub fn creds(&self) -> &Arc<Credentials> {
        &self.creds
    }

    /// The file behind a descriptor. `EBADF` if there is none.
    pub fn file(&self, fd: i32) -> Result<Arc<File>> {
        self.shared.files.get(fd)
    }

    /// Takes it apart at its end.
    pub(super) fn into_parts(self) -> (Arc<Task>, Shared, Box<dyn Context>, Option<Arc<Vfork>>) {
        (self.task, self.shared, self.context, self.vfork)
    }

    /// The alternate signal stack.
    pub fn alt_stack(&self) -> AltStack {
        self.alt_stack
    }

    /// Replaces the alternate signal stack (`sigaltstack(2)`).
    pub fn replace_alt_stack(&mut self, new: &AltStack) -> Result<()> {
        let sp = self.regs.rsp;
        self.alt_stack.replace(new, sp)
    }

    fn publish(&self) {
        self.task.set_shared(Some(self.shared.clone()));
    }

    /// Goes on with other memory (`execve(2)`); the old one is returned.
    pub(super) fn set_mm(&mut self, mm: Arc<MemoryManager>) -> Arc<MemoryManager> {
        let old = std::mem::replace(&mut self.shared.mm, mm);
        self.publish();
        old
    }

    /// Goes on with another descriptor table (`unshare(2)`, `execve(2)`, `close_range(2)`).
    pub fn set_files(&mut self, files: Arc<FdTable>) {
        let old = std::mem::replace(&mut self.shared.files, files);
        self.publish();
        drop(old);
    }

    /// Goes on with another root, working directory and umask (`unshare(2)`).
    pub fn set_fs(&mut self, fs: Arc<FsContext>) {
        self.shared.fs = fs;
        self.publish();
    }

    /// Goes on in other namespaces (`unshare(2)`, `setns(2)`).
    pub(super) fn set_namespaces(&mut self, new: Arc<Namespaces>) {
        self.task.set_namespaces(new);
    }

    /// Goes on with other credentials.
    pub fn set_creds(&mut self, creds: Credentials) {
        self.creds = Arc::new(creds);
        self.task.publish_creds(self.creds.clone());
    }

    /// To be registered in wait queues before [`CurrentTask::block`].
    pub fn waker(&self) -> Arc<dyn Waker> {
        self.task.clone()
    }

    /// True when a signal is pending or the task must stop or die: a sleep would end at once.
    pub fn interrupted(&self) -> bool {
        self.task.work() & work::INTERRUPTS != 0
    }

    /// True when the task must die: long work that no signal interrupts may be left.
    pub fn killed(&self) -> bool {
        self.task.work() & work::KILL != 0
    }

    /// Forgets an event that came since the last [`CurrentTask::block`]. To be called before the
    /// first registration of a system call that counts its wake-ups.
    pub fn forget_events(&self) {
        self.task.woken.store(false, Ordering::SeqCst);
    }

    /// Sleeps until the waker is told of something, a signal is pending, or `deadline` (nanoseconds
    /// of the host's `CLOCK_MONOTONIC`) has passed. An event that came since the last `block`
    /// returns at once.
    pub fn block(&mut self, deadline: Option<u64>) -> Wake {
        debug_assert!(crate::sync::none_held(), "a lock is held while waiting");
        self.send_async_signals();
        self.sleep(deadline.unwrap_or(u64::MAX), work::INTERRUPTS)
    }

    /// Sends the signals about files that this or another task has caused. No lock may be held.
    pub(super) fn send_async_signals(&self) {
        if self.kernel().async_signals.any() {
            crate::vfs::async_io::send_deferred(self.kernel());
        }
    }

    /// As [`CurrentTask::block`], but only the end of the process interrupts it.
    pub fn block_killable(&mut self) -> Wake {
        debug_assert!(crate::sync::none_held(), "a lock is held while waiting");
        self.sleep(u64::MAX, work::KILL)
    }

    /// Sleeps until a time of `CLOCK_MONOTONIC`, whatever else happens; only the end of the process interrupts it.
    pub(super) fn sleep_through(&mut self, until: u64) {
        while self.sleep(until, work::KILL) == Wake::Event {}
    }

    /// Sleeps until `done`, which is looked at whenever the task is woken. Only the end of the process
    /// interrupts it; then the result is false.
    pub(super) fn wait_killable(&mut self, mut done: impl FnMut() -> bool) -> bool {
        loop {
            // The task that waits is woken by unpark alone: look after every one.
            self.task.place.store(place::ASLEEP, Ordering::SeqCst);
            let wake = if done() {
                Some(true)
            } else if self.task.work() & work::KILL != 0 {
                Some(false)
            } else {
                None
            };
            if let Some(result) = wake {
                self.task.place.store(place::KERNEL, Ordering::SeqCst);
                return result;
            }
            self.context.set_blocked(true);
            self.task.parker.park();
            self.context.set_blocked(false);
        }
    }

    fn sleep(&mut self, deadline: u64, interrupts: u32) -> Wake {
        // Publish first, then look: whoever tells us of something does it the other way round.
        self.task.place.store(place::ASLEEP, Ordering::SeqCst);
        let mut slept = false;
        let wake = loop {
            if self.task.woken.swap(false, Ordering::SeqCst) {
                break Wake::Event;
            }
            if self.task.work() & interrupts != 0 {
                break Wake::Interrupted;
            }
            if deadline != u64::MAX && self.task.kernel().time.monotonic() >= deadline {
                break Wake::Timeout;
            }
            if !slept {
                slept = true;
                self.task.last_call.stay(&self.regs);
                super::pause::stopped(&self.task);
                self.context.set_blocked(true);
            }
            self.task.parker.park_until(deadline);
        };
        self.task.place.store(place::KERNEL, Ordering::SeqCst);
        if slept {
            self.context.set_blocked(false);
            self.task.switches.fetch_add(1, Ordering::Relaxed);
        }
        if wake != Wake::Interrupted && self.task.work() & work::HOLDS != 0 {
            // What it waited for is there, but nothing may go on: the call would still move data.
            super::pause::pause_here(self);
        }
        wake
    }
}

impl Task {
    /// Sleeps until `done`, which is looked at whenever the task is woken; for file systems, which are not given
    /// the [`CurrentTask`] ([`Kernel::asks_guests`](super::Kernel::asks_guests)). To be called on its own host
    /// thread. False if something else ended the sleep: the end of the process or, with `interruptible`, a
    /// signal, too.
    pub(crate) fn sleep_until(&self, mut done: impl FnMut() -> bool, interruptible: bool) -> bool {
        let interrupts = if interruptible { work::INTERRUPTS } else { work::KILL };
        loop {
            self.place.store(place::ASLEEP, Ordering::SeqCst);
            let result = if done() {
                Some(true)
            } else if self.work() & interrupts != 0 {
                Some(false)
            } else {
                None
            };
            if let Some(result) = result {
                self.place.store(place::KERNEL, Ordering::SeqCst);
                return result;
            }
            self.parker.park();
        }
    }

    /// True once its process, or it alone, must end.
    pub(crate) fn is_ending(&self) -> bool {
        self.work() & work::KILL != 0
    }
}

impl Deref for CurrentTask {
    type Target = Task;
    fn deref(&self) -> &Task {
        &self.task
    }
}
