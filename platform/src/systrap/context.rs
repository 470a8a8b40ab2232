//! Contexts: a stub thread and the sentry thread that drives it.

use super::listener::{Listener, Notification};
use super::signal::Delivered;
use super::space::SystrapSpace;
use super::stack::SignalStack;
use crate::placement::Slot;
use crate::ptrace::context::park;
use crate::ptrace::fault;
use crate::ptrace::inject::{self, gone};
use crate::ptrace::interrupt::InterruptState;
use crate::ptrace::run;
use crate::ptrace::tracee::{SignalInfo, Tracee};
use crate::stub::batch::call;
use crate::stub::code::{Entries, SIGNAL_CALL};
use crate::stub::filter::{LISTENER_FLAGS, PROCESS_FLAGS, THREAD_FLAGS};
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

/// How guest code goes on.
#[derive(Debug)]
enum Run {
    /// By answering its system call.
    Answer(u64),
    /// From where it stopped, without a tracer.
    Untraced,
    /// From where it stopped, under ptrace.
    Traced,
}

/// Blocked in threads that never run guest code. (The host would reset the handler of a blocked
/// `SIGTRAP` at our own traps.)
pub const LEADER_MASK: u64 = !(1 << (libc::SIGTRAP - 1));

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
    /// System calls in a row that needed no ptrace, while the thread was traced.
    calls: u32,
    /// System calls to make before the thread gets a listener; `None` if it cannot have one.
    before_listener: Option<u32>,
    listener: Option<Listener>,
    stack: Option<SignalStack>,
    interrupts: Arc<InterruptState>,
    space: Arc<SystrapSpace>,
}

/// A stub thread that sits in the stub's parking loop.
#[derive(Debug)]
pub struct SystrapPending {
    tid: i32,
    /// FP state that it has not got by being cloned.
    xstate: Option<XState>,
    /// `None` once attached.
    space: Option<Arc<SystrapSpace>>,
}

impl SystrapPending {
    /// The thread `tid` of a stub, to be given this FP state.
    pub fn new(tid: i32, xstate: Option<XState>, space: Arc<SystrapSpace>) -> Self {
        Self { tid, xstate, space: Some(space) }
    }
}

impl PendingContext for SystrapPending {
    fn attach(mut self: Box<Self>) -> Result<Box<dyn Context>> {
        let space = self.space.take().ok_or(PlatformError::StubDied)?;
        let context = SystrapContext::attach(self.tid, space)?;
        if let (Place::Stopped(tracee), Some(xstate)) = (&context.place, &self.xstate) {
            tracee.set_xstate(xstate).map_err(gone)?;
        }
        Ok(Box::new(context))
    }
}

impl Drop for SystrapPending {
    fn drop(&mut self) {
        // A thread that nobody wants must not stay; attaching and dropping a context ends it. The first
        // thread of a stub just stays parked: it ends with the stub.
        if let Some(space) = self.space.take()
            && self.tid != space.inner().pid()
        {
            drop(SystrapContext::attach(self.tid, space));
        }
    }
}

impl SystrapContext {
    fn attach(tid: i32, space: Arc<SystrapSpace>) -> Result<Self> {
        let slot = Slot::new(tid);
        let tracee = space.seize(tid)?;
        let interrupts = Arc::new(InterruptState::new(space.inner().pid(), tid));
        let options = space.options();
        let unblocked = tracee.set_signal_mask(0);
        // Should that have failed, the drop of the context ends the thread.
        let context = Self {
            slot,
            tid,
            place: Place::Stopped(tracee),
            seen: Registers::default(),
            found: None,
            calls: 0,
            before_listener: Some(options.calls_before_listener),
            listener: None,
            stack: None,
            interrupts,
            space,
        };
        unblocked.map_err(gone)?;
        Ok(context)
    }

    /// Whether the thread is the stub's first.
    fn is_first(&self) -> bool {
        self.tid == self.space.inner().pid()
    }

    /// Clones the thread; the new thread, or process, is parked.
    fn clone_self(&mut self, what: &'static str, flags: u32) -> Result<i32> {
        let mut interrupted = false;
        let cloned = inject::clone(self.stop()?, flags, &mut interrupted);
        if interrupted {
            self.interrupts.note();
        }
        cloned?.map_err(|e| PlatformError::host(what, e))
    }

    /// Hands this context from the stub's first thread over to a new one: the first becomes the leader.
    fn leave_first_thread(&mut self) -> Result<()> {
        let tid = self.clone_self("create a thread in a stub", THREAD_FLAGS)?;
        let tracee = self.space.seize(tid)?;
        self.interrupts.retarget(Some((self.space.inner().pid(), tid)));
        self.slot.retarget(tid);
        self.tid = tid;
        let Place::Stopped(first) = std::mem::replace(&mut self.place, Place::Stopped(tracee))
        else {
            return Err(PlatformError::StubDied);
        };
        first.set_signal_mask(LEADER_MASK).map_err(gone)?;
        park(&first)
    }

    /// Whether the (stopped) thread is to run untraced now. Gives it a listener if need be.
    fn is_let_go(&mut self) -> Result<bool> {
        if self.calls < self.space.options().calls_before_detach {
            return Ok(false);
        }
        if self.listener.is_some() {
            return Ok(true);
        }
        if self.before_listener != Some(0) {
            return Ok(false);
        }
        self.before_listener = None;
        if self.is_first() {
            self.leave_first_thread()?;
        }
        let mut interrupted = false;
        let mut stack = self.space.take_stack()?;
        let Place::Stopped(tracee) = &self.place else { return Err(PlatformError::StubDied) };
        let listener = prepare(&self.space, tracee, &mut stack, &mut interrupted);
        if interrupted {
            self.interrupts.note();
        }
        match listener {
            Ok(listener) => {
                (self.listener, self.stack) = (Some(listener), Some(stack));
                Ok(true)
            }
            Err(PlatformError::StubDied) => Err(PlatformError::StubDied),
            Err(error) => {
                // Out of descriptors, most likely. It goes on traced, only more slowly.
                tracing::debug!("a guest thread stays traced: {error}");
                Ok(false)
            }
        }
    }

    /// Stops the thread, which is in a system call if it is not stopped already.
    fn stop(&mut self) -> Result<&Tracee> {
        if let Place::InCall(id) = self.place {
            self.place = Place::Away;
            self.calls = 0;
            let answer = || self.listener()?.answer(id, self.seen.rax);
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

    /// Decides how guest code goes on, and prepares that. Signals to the stub may get lost meanwhile.
    fn prepare_run(&mut self, regs: &mut Registers) -> Result<Run> {
        if let Place::InCall(id) = self.place
            && only_result_differs(regs, &self.seen)
        {
            return Ok(Run::Answer(id));
        }
        self.stop_with(regs)?;
        let untraced = !regs.single_step && self.is_let_go()?;
        Ok(if untraced { Run::Untraced } else { Run::Traced })
    }

    /// Runs guest code until something happens that concerns the guest.
    fn run(&mut self, how: &Run, regs: &mut Registers) -> Result<Event> {
        match (how, &self.place) {
            (Run::Answer(id), _) => {
                self.place = Place::Away;
                let listener = self.listener().map_err(lost)?;
                listener.answer(*id, regs.rax).map_err(lost)?;
                self.wait(regs)
            }
            (Run::Untraced, Place::Stopped(tracee)) => {
                regs.orig_rax = u64::MAX;
                run::load(tracee, regs)?;
                tracee.detach().map_err(gone)?;
                self.place = Place::Away;
                self.wait(regs)
            }
            (Run::Traced, Place::Stopped(tracee)) => {
                let event = run::run(tracee, regs)?;
                if event == Event::Syscall {
                    self.calls = self.calls.saturating_add(1);
                    self.before_listener = self.before_listener.map(|n| n.saturating_sub(1));
                } else {
                    self.calls = 0;
                }
                Ok(event)
            }
            _ => Err(PlatformError::StubDied),
        }
    }

    fn listener(&self) -> Result<&Listener, Errno> {
        self.listener.as_ref().ok_or(Errno::ENOENT)
    }

    /// Waits for what a thread that runs untraced does next.
    fn wait(&mut self, regs: &mut Registers) -> Result<Event> {
        let got = self.listener().and_then(Listener::receive).map_err(lost)?;
        let got = got.ok_or(PlatformError::StubDied)?;
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

/// Makes a traced thread of the stub one that can run guest code untraced.
fn prepare(
    space: &SystrapSpace,
    tracee: &Tracee,
    stack: &mut SignalStack,
    interrupted: &mut bool,
) -> Result<Listener> {
    // Nobody else makes descriptors in the stub, or copies it, meanwhile.
    let _executor = space.inner().flush_locked(tracee, interrupted)?;
    let calls = stack.calls()?;
    SystrapSpace::execute(tracee, &calls, "set the signal stack of a stub", interrupted)?;
    stack.set_mapped();
    const SET_MODE_FILTER: u64 = 1;
    let program = layout::TEXT + layout::LISTENER_FILTER;
    let install = call(libc::SYS_seccomp, &[SET_MODE_FILTER, LISTENER_FLAGS.into(), program]);
    let what = "install a stub's system-call listener";
    let fd = SystrapSpace::execute(tracee, &[install], what, interrupted)?;
    let listener = Listener::fetch(space.inner().pid(), fd)
        .map_err(|e| PlatformError::host("fetch a stub's system-call listener", e));
    let close = call(libc::SYS_close, &[fd]);
    SystrapSpace::execute(tracee, &[close], "close a descriptor in a stub", interrupted)?;
    listener
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
        let how = self.prepare_run(regs)?;
        if !self.interrupts.enter() {
            return Ok(Event::Interrupted);
        }
        let result = self.run(&how, regs);
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
        self.calls = 0;
        if interrupted {
            self.interrupts.note();
        }
        result
    }

    fn new_thread(&mut self) -> Result<Box<dyn PendingContext>> {
        self.stop()?;
        if self.is_first() {
            self.leave_first_thread()?;
        }
        let (tid, xstate) = if self.listener.is_none() {
            (self.clone_self("create a thread in a stub", THREAD_FLAGS)?, None)
        } else {
            let xstate = self.xstate()?;
            (self.space.new_thread()?, Some(xstate))
        };
        Ok(Box::new(SystrapPending::new(tid, xstate, self.space.clone())))
    }

    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        let space = self.space.clone();
        let mut interrupted = false;
        let executor = space.inner().flush_locked(self.stop()?, &mut interrupted)?;
        if interrupted {
            self.interrupts.note();
        }
        let (copy, xstate) = if self.listener.is_none() {
            let pid = self.clone_self("copy a stub", PROCESS_FLAGS)?;
            (space.copy(pid), None)
        } else {
            let xstate = self.xstate()?;
            (space.copy(space.new_process()?), Some(xstate))
        };
        drop(executor);
        let pending = SystrapPending::new(copy.inner().pid(), xstate, copy.clone());
        Ok((copy, Box::new(pending)))
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
