//! Contexts: a traced stub thread and the sentry thread that drives it.

use super::fault;
use super::inject::{self, gone};
use super::interrupt::InterruptState;
use super::space::Space;
use super::tracee::{Resume, Stop, Tracee};
use crate::placement::Slot;
use crate::registers::{USER_CS, USER_SS};
use crate::stub::code::Entries;
use crate::stub::filter::{PROCESS_FLAGS, THREAD_FLAGS};
use crate::stub::layout::GUEST;
use crate::stub::process::StubProcess;
use crate::{
    AddressSpace, Context, Event, Interrupter, PendingContext, PlatformError, Registers, Result,
    XState,
};
use nix::errno::Errno;
use std::sync::Arc;

/// 32-bit user code segment, which 64-bit code may enter by a far jump.
const USER32_CS: u64 = 0x23;

/// A traced stub thread.
#[derive(Debug)]
pub struct PtraceContext {
    // Dropped in this order; `Drop` lets the thread go first.
    slot: Slot,
    tracee: Tracee,
    interrupts: Arc<InterruptState>,
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
        Ok(Self { slot, tracee, interrupts, space })
    }

    /// Runs guest code until something happens that concerns the guest.
    fn run(&self, registers: &mut Registers) -> Result<Event> {
        let how = if registers.single_step { Resume::Step } else { Resume::Guest };
        registers.orig_rax = u64::MAX;
        self.load(registers)?;
        loop {
            self.tracee.resume(how).map_err(gone)?;
            match self.tracee.wait().map_err(gone)? {
                Stop::Gone => return Err(PlatformError::StubDied),
                Stop::Other => {}
                Stop::Syscall => {
                    self.tracee.registers(registers).map_err(gone)?;
                    // The `syscall` instruction saves the program counter in rcx; other entries do
                    // not. Guest code that fakes it only fools itself.
                    let plausible = registers.cs == USER_CS && registers.rcx == registers.rip;
                    if !plausible && !self.tracee.is_64bit_syscall().map_err(gone)? {
                        return Ok(fault::foreign_syscall(registers));
                    }
                    return Ok(Event::Syscall);
                }
                Stop::Signal(signal) => {
                    if let Some(event) = self.signal(signal, registers)? {
                        return Ok(event);
                    }
                }
            }
        }
    }

    /// What a signal means to the guest; `None` for nothing.
    fn signal(&self, signal: i32, registers: &mut Registers) -> Result<Option<Event>> {
        let synchronous = matches!(
            signal,
            libc::SIGSEGV
                | libc::SIGBUS
                | libc::SIGILL
                | libc::SIGFPE
                | libc::SIGTRAP
                | libc::SIGSYS
        );
        if synchronous {
            let info = self.tracee.signal_info().map_err(gone)?;
            if info.code > 0 {
                self.tracee.registers(registers).map_err(gone)?;
                registers.orig_rax = u64::MAX;
                if let Some(event) = fault::vsyscall(&self.tracee, signal, info, registers)? {
                    return Ok(Some(event));
                }
                return Ok(Some(Event::Fault(fault::describe(signal, info, registers))));
            }
        }
        if signal == libc::SIGCHLD || signal == libc::SIGCONT {
            return Ok(None);
        }
        self.tracee.registers(registers).map_err(gone)?;
        Ok(Some(Event::Interrupted))
    }

    /// Sets the registers; values the host refuses are replaced by what a program starts with.
    fn load(&self, registers: &mut Registers) -> Result<()> {
        match self.tracee.set_registers(registers) {
            Err(Errno::EIO | Errno::EINVAL) => {
                sanitize(registers);
                self.tracee.set_registers(registers).map_err(gone)
            }
            result => result.map_err(gone),
        }
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

    /// Lets the stub's thread end on its own, without taking its siblings along.
    fn end_thread(&self) {
        let registers = Registers::at_entry(Entries::STUB.exit(), 0);
        let detached = self.tracee.set_registers(&registers).and_then(|()| self.tracee.detach());
        if detached.is_err() {
            // Killed; the kernel keeps it until we have been told.
            while !matches!(self.tracee.wait(), Ok(Stop::Gone) | Err(_)) {}
        }
    }
}

/// Attaches to a stub's thread.
fn seize(process: &Arc<StubProcess>, tid: i32) -> Result<Tracee> {
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

/// Replaces what a program cannot have loaded itself: foreign segments, kernel addresses.
fn sanitize(registers: &mut Registers) {
    if registers.cs != USER32_CS {
        registers.cs = USER_CS;
    }
    registers.ss = USER_SS;
    for segment in [&mut registers.ds, &mut registers.es, &mut registers.fs, &mut registers.gs] {
        if *segment & 3 != 3 || *segment > u64::from(u16::MAX) {
            *segment = 0;
        }
    }
    for base in [&mut registers.fs_base, &mut registers.gs_base] {
        if *base >= GUEST.end {
            *base = 0;
        }
    }
}

impl Context for PtraceContext {
    fn switch(&mut self, regs: &mut Registers) -> Result<Event> {
        self.flush()?;
        if !self.interrupts.enter() {
            return Ok(Event::Interrupted);
        }
        let result = self.run(regs);
        self.interrupts.leave(matches!(result, Ok(Event::Interrupted)));
        result
    }

    fn flush(&mut self) -> Result<()> {
        self.with_interrupts(|interrupted| self.space.flush(&self.tracee, interrupted))
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
            let executor = self.space.flush_locked(&self.tracee, interrupted)?;
            let pid = inject::clone(&self.tracee, PROCESS_FLAGS, interrupted)?
                .map_err(|e| PlatformError::host("copy a stub", e))?;
            let copy = self.space.copy(Arc::new(StubProcess::new(pid)));
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
        self.end_thread();
    }
}
