//! Contexts: a traced stub thread and the sentry thread that drives it.

use super::execute::{Injector, Space};
use super::inject::{self, gone};
use super::run;
use super::tracee::{Stop, Tracee};
use crate::placement::Slot;
use crate::stub::batch::call;
use crate::stub::code::Entries;
use crate::stub::filter::{PROCESS_FLAGS, THREAD_FLAGS, tsc_call};
use crate::stub::interrupt::InterruptState;
use crate::stub::process::StubProcess;
use crate::{
    AddressSpace, Context, Event, Interrupter, PendingContext, PlatformError, Registers, Result,
    XState,
};
use nix::errno::Errno;
use std::sync::Arc;

/// A traced stub thread.
#[derive(Debug)]
pub struct PtraceContext {
    // Dropped in this order; `Drop` lets the thread go first.
    slot: Slot,
    tracee: Tracee,
    interrupts: Arc<InterruptState>,
    /// Guest code has faulted, and the sentry puts that right.
    faulted: bool,
    space: Arc<Space>,
}

/// A stub thread that sits in the stub's parking loop.
#[derive(Debug)]
pub struct PtracePending {
    tid: i32,
    /// `None` once attached.
    space: Option<Arc<Space>>,
}

impl PtracePending {
    /// The thread `tid` of a stub.
    pub fn new(tid: i32, space: Arc<Space>) -> Self {
        Self { tid, space: Some(space) }
    }
}

impl PendingContext for PtracePending {
    fn attach(mut self: Box<Self>) -> Result<Box<dyn Context>> {
        let space = self.space.take().ok_or(PlatformError::StubDied)?;
        Ok(Box::new(PtraceContext::attach(self.tid, space)?))
    }
}

impl Drop for PtracePending {
    fn drop(&mut self) {
        // A thread that nobody wants must not stay; attaching and dropping a context ends it. The first
        // thread of a stub just stays parked: it ends with the stub.
        if let Some(space) = self.space.take()
            && self.tid != space.pid()
        {
            drop(PtraceContext::attach(self.tid, space));
        }
    }
}

impl PtraceContext {
    fn attach(tid: i32, space: Arc<Space>) -> Result<Self> {
        let slot = Slot::new(tid);
        let tracee = seize(space.process(), tid)?;
        let interrupts = Arc::new(InterruptState::new(space.pid(), tid));
        Ok(Self { slot, tracee, interrupts, faulted: false, space })
    }

    /// Does mapping work; a signal that came meanwhile is reported by the next `switch`.
    fn with_interrupts<T>(&self, work: impl FnOnce(&mut bool) -> Result<T>) -> Result<T> {
        let mut interrupted = false;
        let result = work(&mut interrupted);
        if interrupted {
            self.interrupts.note();
        }
        result
    }

    /// Hands this context from the stub's first thread over to a new one.
    ///
    /// The end of a process's first thread is only reported once all others are gone, that is when
    /// their tracers have noticed. Were it used by a guest with several threads, its tracer could wait
    /// for ever after the stub was killed. So guests with several threads never use it.
    fn leave_first_thread(&mut self) -> Result<()> {
        let tid = self.clone_thread()?;
        let tracee = seize(self.space.process(), tid)?;
        self.interrupts.retarget(Some((self.space.pid(), tid)));
        self.slot.retarget(tid);
        let first = std::mem::replace(&mut self.tracee, tracee);
        park(&first)
    }

    fn clone_thread(&self) -> Result<i32> {
        self.with_interrupts(|interrupted| inject::clone(&self.tracee, THREAD_FLAGS, interrupted))?
            .map_err(|e| PlatformError::host("create a thread in a stub", e))
    }
}

/// Lets a stub's thread end on its own, without taking its siblings along.
pub fn end_thread(tracee: &Tracee) {
    let registers = Registers::at_entry(Entries::STUB.exit(), 0);
    let detached = tracee.set_registers(&registers).and_then(|()| tracee.detach());
    if detached.is_err() {
        // Killed; the kernel keeps it until we have been told.
        while !matches!(tracee.wait(), Ok(Stop::Gone) | Err(_)) {}
    }
}

/// Attaches to a stub's thread.
pub fn seize(process: &Arc<StubProcess>, tid: i32) -> Result<Tracee> {
    Tracee::seize(process, tid).map_err(|error| match error {
        // A zombie cannot be seized.
        Errno::EPERM | Errno::ESRCH => PlatformError::StubDied,
        other => PlatformError::host("attach to a stub with ptrace", other),
    })
}

/// Lets a thread wait for its next tracer, or the sentry's end.
pub fn park(tracee: &Tracee) -> Result<()> {
    let registers = Registers::at_entry(Entries::STUB.park(), 0);
    tracee.set_registers(&registers).map_err(gone)?;
    tracee.detach().map_err(gone)
}

impl Context for PtraceContext {
    fn switch(&mut self, regs: &mut Registers) -> Result<Event> {
        let faulted = std::mem::take(&mut self.faulted);
        self.with_interrupts(|interrupted| {
            self.space.flush_due((&self.tracee, interrupted), faulted)
        })?;
        if !self.interrupts.enter() {
            return Ok(Event::Interrupted);
        }
        let mut executed = self.space.executed();
        let mut result = run::run(&self.tracee, regs);
        while let Ok(event) = &result
            && self.space.is_missed(event, executed)
        {
            result = match self.flush() {
                // The signal may have been taken in the course of that.
                Ok(()) if self.interrupts.is_pending() => Ok(Event::Interrupted),
                Ok(()) => {
                    executed = self.space.executed();
                    run::run(&self.tracee, regs)
                }
                Err(error) => Err(error),
            };
        }
        self.interrupts.leave(matches!(result, Ok(Event::Interrupted)));
        self.faulted = matches!(result, Ok(Event::Fault(_)));
        result
    }

    fn flush(&mut self) -> Result<()> {
        self.with_interrupts(|interrupted| self.space.flush((&self.tracee, interrupted)))
    }

    fn new_thread(&mut self) -> Result<Box<dyn PendingContext>> {
        if self.tracee.tid() == self.space.pid() {
            self.leave_first_thread()?;
        }
        let tid = self.clone_thread()?;
        Ok(Box::new(PtracePending::new(tid, self.space.clone())))
    }

    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        let space = self.with_interrupts(|interrupted| {
            let executor = self.space.flush_locked((&self.tracee, interrupted))?;
            let pid = inject::clone(&self.tracee, PROCESS_FLAGS, interrupted)?
                .map_err(|e| PlatformError::host("copy a stub", e))?;
            let copy = self.space.copy(Arc::new(StubProcess::new(pid)), Injector::default());
            drop(executor);
            Ok(copy)
        })?;
        let pending = PtracePending::new(space.pid(), space.clone());
        Ok((space, Box::new(pending)))
    }

    fn xstate(&mut self) -> Result<XState> {
        self.tracee.xstate().map_err(gone)
    }

    fn set_xstate(&mut self, state: &XState) -> Result<()> {
        self.tracee.set_xstate(state).map_err(|error| match error {
            Errno::ESRCH => PlatformError::StubDied,
            // The host says EFAULT or EINVAL for contents it does not like.
            _ => PlatformError::host("set the FP state", Errno::EINVAL),
        })
    }

    fn set_tsc(&mut self, allowed: bool) -> Result<()> {
        let call = call(libc::SYS_prctl, &tsc_call(allowed));
        self.with_interrupts(|interrupted| {
            inject::syscall(&self.tracee, Entries::STUB, &call, interrupted)
        })?
        .map(drop)
        .map_err(|e| PlatformError::host("forbid reading of the time-stamp counter", e))
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.interrupts.clone()
    }

    fn address_space(&self) -> Arc<dyn AddressSpace> {
        self.space.clone()
    }

    fn set_blocked(&mut self, blocked: bool) {
        self.slot.set_blocked(blocked);
    }
}

impl Drop for PtraceContext {
    fn drop(&mut self) {
        self.interrupts.retarget(None);
        end_thread(&self.tracee);
    }
}
