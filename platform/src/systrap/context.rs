//! Contexts: a stub thread and the sentry thread that drives it.

use super::listener::{Listener, Notification};
use super::signal::Delivered;
use super::space::SystrapSpace;
use super::stack::SignalStack;
use crate::placement::Slot;
use crate::ptrace::fault;
use crate::ptrace::inject::gone;
use crate::ptrace::interrupt::InterruptState;
use crate::ptrace::run;
use crate::ptrace::tracee::{SignalInfo, Tracee};
use crate::stub::batch::call;
use crate::stub::code::{Entries, SIGNAL_CALL};
use crate::stub::filter::LISTENER_FLAGS;
use crate::stub::layout;
use crate::{
    AddressSpace, Context, Event, Fault, Interrupter, PendingContext, PlatformError, Registers,
    Result, XState,
};
use nix::errno::Errno;
use std::sync::Arc;

/// `AUDIT_ARCH_X86_64`.
const ARCH_X86_64: u32 = 0xc000_003e;

/// System calls whose handling needs registers that a notification does not carry. Others get them
/// when somebody asks: [`Context::load_registers`].
const NEED_REGISTERS: [i64; 9] = [
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_arch_prctl,
];

/// Where the stub's thread is.
#[derive(Debug)]
enum Place {
    /// Traced and stopped. Its registers do not matter, they are all set before it goes on.
    Stopped(Tracee),
    /// In a system call of the guest, whose notification has been received.
    InCall(u64),
    /// In guest code; or unknown, after an error. The stub has been killed or is being so.
    Away,
}

/// A thread of a stub.
#[derive(Debug)]
pub struct SystrapContext {
    // Dropped in this order; `Drop` ends the thread first.
    slot: Slot,
    tid: i32,
    place: Place,
    /// Registers as the sentry was told at the last system call.
    seen: Registers,
    /// Registers as they are, since the thread was stopped within that call.
    found: Option<Box<Registers>>,
    listener: Listener,
    stack: Option<SignalStack>,
    interrupts: Arc<InterruptState>,
    space: Arc<SystrapSpace>,
}

/// A thread that is still to be made.
#[derive(Debug)]
pub struct SystrapPending {
    space: Arc<SystrapSpace>,
    xstate: XState,
}

impl SystrapPending {
    /// A thread of a stub that will start with this FP state.
    pub fn new(space: Arc<SystrapSpace>, xstate: XState) -> Self {
        Self { space, xstate }
    }
}

impl PendingContext for SystrapPending {
    fn attach(self: Box<Self>) -> Result<Box<dyn Context>> {
        Ok(Box::new(SystrapContext::attach(self.space, &self.xstate)?))
    }
}

impl SystrapContext {
    fn attach(space: Arc<SystrapSpace>, xstate: &XState) -> Result<Self> {
        let mut stack = space.take_stack()?;
        let tid = space.new_thread()?;
        let slot = Slot::new(tid);
        let tracee = space.seize(tid)?;
        match prepare(&space, &tracee, &mut stack, xstate) {
            Ok((listener, interrupted)) => {
                let interrupts = Arc::new(InterruptState::new(space.inner().pid(), tid));
                if interrupted {
                    interrupts.note();
                }
                let place = Place::Stopped(tracee);
                let stack = Some(stack);
                let seen = Registers::default();
                Ok(Self { slot, tid, place, seen, found: None, listener, stack, interrupts, space })
            }
            Err(error) => {
                space.end_thread(&tracee);
                Err(error)
            }
        }
    }

    /// Stops the thread, which is in a system call if it is not stopped already.
    fn stop(&mut self) -> Result<&Tracee> {
        if let Place::InCall(id) = self.place {
            self.place = Place::Away;
            let answer = || self.listener.answer(id, self.seen.rax);
            let tracee = self.space.seize_after(self.tid, answer)?;
            let mut full = Registers::default();
            let result = tracee.registers(&mut full);
            self.place = Place::Stopped(tracee);
            result.map_err(gone)?;
            full.orig_rax = self.seen.orig_rax;
            self.found = Some(Box::new(full));
        }
        match &self.place {
            Place::Stopped(tracee) => Ok(tracee),
            _ => Err(PlatformError::StubDied),
        }
    }

    /// Stops the thread and completes the registers.
    fn stop_with(&mut self, regs: &mut Registers) -> Result<()> {
        self.stop()?;
        if let Some(found) = self.found.take() {
            merge(regs, &self.seen, &found);
        }
        Ok(())
    }

    /// Runs guest code until something happens that concerns the guest.
    fn run(&mut self, regs: &mut Registers) -> Result<Event> {
        if let Place::InCall(id) = self.place
            && only_result_differs(regs, &self.seen)
        {
            self.place = Place::Away;
            self.listener.answer(id, regs.rax).map_err(lost)?;
            return self.wait(regs);
        }
        self.stop_with(regs)?;
        let Place::Stopped(tracee) = &self.place else { return Err(PlatformError::StubDied) };
        if regs.single_step {
            return run::run(tracee, regs);
        }
        regs.orig_rax = u64::MAX;
        run::load(tracee, regs)?;
        tracee.detach().map_err(gone)?;
        self.place = Place::Away;
        self.wait(regs)
    }

    fn wait(&mut self, regs: &mut Registers) -> Result<Event> {
        let got = self.listener.receive().map_err(lost)?.ok_or(PlatformError::StubDied)?;
        let entries = Entries::STUB;
        if got.rip == entries.signal_reported() && got.number == SIGNAL_CALL {
            return self.signal(&got, regs);
        }
        regs.orig_rax = got.number.into();
        regs.rax = (-i64::from(libc::ENOSYS)) as u64;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = got.args;
        (regs.rip, regs.rcx, regs.r11) = (got.rip, got.rip, regs.eflags);
        (self.place, self.seen) = (Place::InCall(got.id), *regs);
        if got.arch != ARCH_X86_64 {
            self.stop_with(regs)?;
            return Ok(fault::foreign_syscall(regs));
        }
        // Calls through the vsyscall page have returned from there once the thread stops.
        if NEED_REGISTERS.contains(&got.number.into()) || got.rip >= layout::GUEST.end {
            self.stop_with(regs)?;
        }
        Ok(Event::Syscall)
    }

    /// A handler has reported; the guest's registers are on its stack.
    fn signal(&mut self, got: &Notification, regs: &mut Registers) -> Result<Event> {
        (self.place, self.seen) = (Place::InCall(got.id), Registers::default());
        self.stop()?;
        let Some(found) = self.found.take() else { return Err(PlatformError::StubDied) };
        let Place::Stopped(tracee) = &self.place else { return Err(PlatformError::StubDied) };
        let step = regs.single_step;
        *regs = *found;
        (regs.single_step, regs.orig_rax) = (step, u64::MAX);
        let [signal, info, context, ..] = got.args;
        let delivered =
            self.stack.as_ref().and_then(|stack| Delivered::read(stack, signal, info, context));
        tracee.set_signal_mask(0).map_err(gone)?;
        let Some(delivered) = delivered else {
            // Guest code has called our handler.
            return Ok(Event::Fault(Fault {
                signal: libc::SIGSEGV,
                code: 0x80,
                addr: 0,
                access: None,
                trap: 13,
                error: 0,
            }));
        };
        // What the guest has spoilt is replaced by what a program starts with.
        let initial = XState::initial();
        let xstate = delivered.xstate.as_ref().unwrap_or(&initial);
        match tracee.set_xstate(xstate) {
            Err(Errno::ESRCH) => return Err(PlatformError::StubDied),
            Err(_) => tracee.set_xstate(&initial).map_err(gone)?,
            Ok(()) => {}
        }
        delivered.restore(regs);
        let Fault { signal, code, addr: address, .. } = delivered.fault;
        if code <= 0 || signal == libc::SIGUSR1 {
            return Ok(Event::Interrupted);
        }
        let info = SignalInfo { code, address };
        if let Some(event) = fault::vsyscall(tracee, signal, info, regs)? {
            return Ok(event);
        }
        Ok(Event::Fault(delivered.fault))
    }
}

/// Makes a fresh thread of the stub one that can run guest code.
///
/// Returns its listener, and whether a signal came meanwhile.
fn prepare(
    space: &SystrapSpace,
    tracee: &Tracee,
    stack: &mut SignalStack,
    xstate: &XState,
) -> Result<(Listener, bool)> {
    let mut interrupted = false;
    // Nobody else makes descriptors in the stub, or copies it, meanwhile.
    let executor = space.inner().flush_locked(tracee, &mut interrupted)?;
    let calls = stack.calls()?;
    SystrapSpace::execute(tracee, &calls, "set the signal stack of a stub", &mut interrupted)?;
    stack.set_mapped();
    const SET_MODE_FILTER: u64 = 1;
    let program = layout::TEXT + layout::LISTENER_FILTER;
    let install = call(libc::SYS_seccomp, &[SET_MODE_FILTER, LISTENER_FLAGS.into(), program]);
    let what = "install a stub's system-call listener";
    let fd = SystrapSpace::execute(tracee, &[install], what, &mut interrupted)?;
    let listener = Listener::fetch(&space.pidfd, fd)
        .map_err(|e| PlatformError::host("fetch a stub's system-call listener", e));
    let close = call(libc::SYS_close, &[fd]);
    let what = "close a descriptor in a stub";
    SystrapSpace::execute(tracee, &[close], what, &mut interrupted)?;
    drop(executor);
    tracee.set_xstate(xstate).map_err(gone)?;
    tracee.set_signal_mask(0).map_err(gone)?;
    Ok((listener?, interrupted))
}

/// What a failure of the listener means: the thread was killed, or there is no way to go on.
fn lost(error: Errno) -> PlatformError {
    match error {
        Errno::ENOENT => PlatformError::StubDied,
        other => PlatformError::host("exchange a system call with a stub", other),
    }
}

/// Whether the guest goes on as it would after an ordinary system call.
fn only_result_differs(regs: &Registers, seen: &Registers) -> bool {
    let same = Registers { rax: regs.rax, orig_rax: regs.orig_rax, ..*seen };
    *regs == same
}

/// Completes registers of which the sentry had `seen` only some, and has changed some since.
fn merge(regs: &mut Registers, seen: &Registers, full: &Registers) {
    macro_rules! each {
        ($($field:ident)*) => {
            $(if regs.$field == seen.$field { regs.$field = full.$field; })*
        };
    }
    each!(r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi rip cs eflags rsp ss);
    each!(fs_base gs_base ds es fs gs);
}

impl Context for SystrapContext {
    fn switch(&mut self, regs: &mut Registers) -> Result<Event> {
        self.flush()?;
        if !self.interrupts.enter() {
            return Ok(Event::Interrupted);
        }
        let result = self.run(regs);
        self.interrupts.leave(matches!(result, Ok(Event::Interrupted)));
        if result.is_err() {
            self.space.kill();
        }
        result
    }

    fn load_registers(&mut self, regs: &mut Registers) -> Result<()> {
        if let Place::InCall(_) = self.place {
            self.stop()?;
        }
        if let Some(found) = self.found.take() {
            merge(regs, &self.seen, &found);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.space.inner().has_work() {
            return Ok(());
        }
        let space = self.space.clone();
        let mut interrupted = false;
        let result = self.stop().and_then(|tracee| space.flush(tracee, &mut interrupted));
        if interrupted {
            self.interrupts.note();
        }
        result
    }

    fn new_thread(&mut self) -> Result<Box<dyn PendingContext>> {
        let xstate = self.xstate()?;
        Ok(Box::new(SystrapPending::new(self.space.clone(), xstate)))
    }

    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        let space = self.space.clone();
        let mut interrupted = false;
        let tracee = self.stop()?;
        let xstate = tracee.xstate().map_err(gone)?;
        let executor = space.inner().flush_locked(tracee, &mut interrupted)?;
        let copy = space.copy();
        drop(executor);
        if interrupted {
            self.interrupts.note();
        }
        let copy = copy?;
        Ok((copy.clone(), Box::new(SystrapPending::new(copy, xstate))))
    }

    fn xstate(&mut self) -> Result<XState> {
        self.stop()?.xstate().map_err(gone)
    }

    fn set_xstate(&mut self, state: &XState) -> Result<()> {
        self.stop()?.set_xstate(state).map_err(|error| match error {
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

impl Drop for SystrapContext {
    fn drop(&mut self) {
        self.interrupts.retarget(None);
        match self.stop() {
            Ok(_) => {
                if let Place::Stopped(tracee) = &self.place {
                    self.space.end_thread(tracee);
                }
                if let Some(stack) = self.stack.take() {
                    self.space.give_stack(stack);
                }
            }
            // It cannot be ended alone.
            Err(_) => self.space.kill(),
        }
    }
}
