//! Contexts: a stub thread and the sentry thread that drives it.

use super::agent::Space;
use super::code::{self, END_THREAD, LOAD_BASES, SIGNAL_CALL};
use super::frame::{self, Delivered};
use super::listener::{Listener, Notification};
use super::space::{Member, SystrapSpace};
use super::stack::SignalStack;
use crate::placement::{self, Slot};
use crate::ptrace::fault;
use crate::registers::{EFLAGS_TRAP, sanitize};
use crate::stub::bpf::ARCH_X86_64;
use crate::stub::interrupt::{InterruptState, SIGNAL, tgkill};
use crate::{
    AddressSpace, Context, Event, Fault, Interrupter, PendingContext, PlatformError, Registers,
    Result, XState,
};
use nix::errno::Errno;
use std::sync::Arc;

/// `si_code` of a `SIGSYS` from a seccomp filter.
const SYS_SECCOMP: i32 = 1;

/// Where the stub's thread is.
#[derive(Debug)]
enum Place {
    /// In a handler that has reported. All registers are to be loaded before it goes on.
    Reported {
        /// To answer the report with.
        id: u64,
        /// Where its `ucontext_t` is.
        context: u64,
        /// Where its FP state is.
        fp: u64,
    },
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
    /// Registers as they are, since the thread was brought to its handler within that call.
    found: Option<Box<Registers>>,
    /// FP state to load.
    xstate: Option<XState>,
    /// The segment bases as the thread has them.
    bases: (u64, u64),
    listener: Listener,
    stack: Option<SignalStack>,
    interrupts: Arc<InterruptState>,
    space: Member,
}

/// A context that has no thread yet.
#[derive(Debug)]
pub struct SystrapPending {
    xstate: XState,
    space: Member,
}

impl SystrapPending {
    /// A new thread of a stub, to start with this FP state.
    pub fn new(xstate: XState, space: Arc<SystrapSpace>) -> Self {
        Self { xstate, space: Member::new(space) }
    }
}

impl PendingContext for SystrapPending {
    fn attach(self: Box<Self>) -> Result<Box<dyn Context>> {
        Ok(Box::new(SystrapContext::attach(self.space, self.xstate)?))
    }
}

impl SystrapContext {
    fn attach(space: Member, xstate: XState) -> Result<Self> {
        let (stack, listener) = space.new_thread()?;
        let hello = listener.receive().map_err(lost)?.ok_or(PlatformError::StubDied)?;
        if !is_report(&hello) {
            return Err(PlatformError::StubDied);
        }
        let tid = hello.tid;
        let (id, context, fp) = (hello.id, stack.own_context(), stack.own_fp());
        Ok(Self {
            slot: Slot::new(tid),
            tid,
            place: Place::Reported { id, context, fp },
            seen: Registers::default(),
            found: None,
            xstate: Some(xstate),
            bases: (hello.args[3], hello.args[4]),
            listener,
            stack: Some(stack),
            interrupts: Arc::new(InterruptState::new(space.pid(), tid)),
            space,
        })
    }

    /// The queue of mapping work.
    fn work(&self) -> &Arc<Space> {
        self.space.inner()
    }

    /// Answers the call or report that the thread waits in.
    fn answer(&mut self, id: u64, rax: u64) -> Result<()> {
        self.place = Place::Away;
        self.listener.answer(id, rax).map_err(lost)
    }

    fn receive(&self) -> Result<Notification> {
        self.listener.receive().map_err(lost)?.ok_or(PlatformError::StubDied)
    }

    /// Brings a thread that is in a system call to its signal handler, which has all registers.
    fn surface(&mut self) -> Result<()> {
        let Place::InCall(id) = self.place else { return Ok(()) };
        tgkill(self.space.pid(), self.tid, SIGNAL);
        self.answer(id, self.seen.rax)?;
        let got = self.receive()?;
        let delivered = self.reported(&got)?.ok_or(PlatformError::StubDied)?;
        let mut full = self.seen;
        delivered.restore(&mut full);
        (full.fs_base, full.gs_base) = self.bases;
        full.eflags &= !if self.seen.single_step { EFLAGS_TRAP } else { 0 };
        self.found = Some(Box::new(full));
        Ok(())
    }

    /// Completes the registers of a thread that has been brought to its handler.
    fn complete(&mut self, regs: &mut Registers) {
        if let Some(found) = self.found.take() {
            merge(regs, &self.seen, &found);
            self.seen = *found;
        }
    }

    /// Takes a report; `None` when guest code has called our handler. The thread then is in its handler.
    fn reported(&mut self, got: &Notification) -> Result<Option<Delivered>> {
        let stack = self.stack.as_ref().ok_or(PlatformError::StubDied)?;
        if !is_report(got) {
            return Err(PlatformError::StubDied);
        }
        let [signal, info, context, fs, gs, _] = got.args;
        self.bases = (fs, gs);
        let delivered = Delivered::read(stack, signal, info, context);
        let (context, fp) = match &delivered {
            Some(delivered) => (context, delivered.fp),
            None => (stack.own_context(), stack.own_fp()),
        };
        self.place = Place::Reported { id: got.id, context, fp };
        Ok(delivered)
    }

    /// Lets guest code go on, and waits for what it does next.
    fn run(&mut self, regs: &mut Registers) -> Result<Event> {
        match self.place {
            Place::InCall(id) => self.answer(id, regs.rax)?,
            Place::Reported { id, context, fp } => {
                let fp = self.load_fp(fp)?;
                let stack = self.stack.as_ref().ok_or(PlatformError::StubDied)?;
                sanitize(regs);
                let mut load = *regs;
                load.eflags |= if regs.single_step { EFLAGS_TRAP } else { 0 };
                frame::write_context(stack, context, &load, fp).ok_or(PlatformError::StubDied)?;
                let bases = (regs.fs_base, regs.gs_base);
                let mut answer = 0;
                if bases != self.bases {
                    stack.set_bases(bases.0, bases.1)?;
                    self.bases = bases;
                    answer = LOAD_BASES;
                }
                self.answer(id, answer)?;
            }
            Place::Away => return Err(PlatformError::StubDied),
        }
        let got = self.receive()?;
        if is_report(&got) {
            return self.signal(&got, regs);
        }
        regs.orig_rax = got.number.into();
        regs.rax = (-i64::from(libc::ENOSYS)) as u64;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = got.args;
        (regs.rip, regs.rcx, regs.r11) = (got.rip, got.rip, regs.eflags);
        (self.place, self.seen) = (Place::InCall(got.id), *regs);
        if got.arch != ARCH_X86_64 {
            self.surface()?;
            self.complete(regs);
            return Ok(fault::foreign_syscall(regs));
        }
        Ok(Event::Syscall)
    }

    /// Writes the FP state to load, if it is another than the thread's; returns where it is.
    fn load_fp(&mut self, fp: u64) -> Result<u64> {
        let Some(state) = self.xstate.take() else { return Ok(fp) };
        let stack = self.stack.as_ref().ok_or(PlatformError::StubDied)?;
        let own = stack.own_fp();
        frame::write_fp(stack, own, &state).ok_or(PlatformError::StubDied)?;
        Ok(own)
    }

    /// A handler has reported; the guest's registers are on its stack.
    fn signal(&mut self, got: &Notification, regs: &mut Registers) -> Result<Event> {
        self.found = None;
        let Some(delivered) = self.reported(got)? else {
            // Guest code has called our handler. What it has spoilt is replaced by what a program
            // starts with.
            self.xstate = Some(XState::initial());
            return Ok(Event::Fault(Fault {
                signal: libc::SIGSEGV,
                code: 0x80,
                addr: 0,
                access: None,
                trap: 13,
                error: 0,
            }));
        };
        let stepped = regs.single_step;
        delivered.restore(regs);
        (regs.fs_base, regs.gs_base) = self.bases;
        regs.orig_rax = u64::MAX;
        if stepped {
            regs.eflags &= !EFLAGS_TRAP;
        }
        let Fault { signal, code, .. } = delivered.fault;
        if signal == libc::SIGSYS && code == SYS_SECCOMP {
            regs.orig_rax = delivered.number.into();
            if delivered.arch != ARCH_X86_64 {
                return Ok(fault::foreign_syscall(regs));
            }
            regs.rax = (-i64::from(libc::ENOSYS)) as u64;
            return Ok(Event::Syscall);
        }
        if code <= 0 || signal == SIGNAL {
            return Ok(Event::Interrupted);
        }
        Ok(Event::Fault(delivered.fault))
    }
}

/// Whether it is a handler that reports.
fn is_report(got: &Notification) -> bool {
    got.number == SIGNAL_CALL && got.rip == code::reported() && got.arch == ARCH_X86_64
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
        if let Place::InCall(_) = self.place
            && (regs.single_step || self.seen.single_step || !only_result_differs(regs, &self.seen))
        {
            self.surface()?;
        }
        self.complete(regs);
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
        self.surface()?;
        self.complete(regs);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.work().flush(())
    }

    fn new_thread(&mut self) -> Result<Box<dyn PendingContext>> {
        let xstate = self.xstate()?;
        Ok(Box::new(SystrapPending::new(xstate, self.space.space().clone())))
    }

    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        let xstate = self.xstate()?;
        let copy = self.space.copy()?;
        Ok((copy.clone(), Box::new(SystrapPending::new(xstate, copy))))
    }

    fn xstate(&mut self) -> Result<XState> {
        self.surface()?;
        if let Some(state) = &self.xstate {
            return Ok(state.clone());
        }
        let Place::Reported { fp, .. } = self.place else { return Err(PlatformError::StubDied) };
        let stack = self.stack.as_ref().ok_or(PlatformError::StubDied)?;
        // What the guest has spoilt is replaced by what a program starts with.
        Ok(frame::read_fp(stack, fp).unwrap_or_else(XState::initial))
    }

    fn set_xstate(&mut self, state: &XState) -> Result<()> {
        if !state.is_valid() {
            return Err(PlatformError::host("set the FP state", Errno::EINVAL));
        }
        self.surface()?;
        self.xstate = Some(state.clone());
        Ok(())
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.interrupts.clone()
    }

    fn address_space(&self) -> Arc<dyn AddressSpace> {
        self.space.space().clone()
    }

    fn set_blocked(&mut self, blocked: bool) {
        self.slot.set_blocked(blocked);
    }
}

impl Drop for SystrapContext {
    fn drop(&mut self) {
        self.interrupts.retarget(None);
        if self.space.has_one_member() {
            // The stub ends with it, on another CPU if one is idle: nobody waits for that.
            placement::release(self.tid);
            placement::release(self.space.pid());
            return;
        }
        // The guest's own exit(2) ends the thread as well as ours.
        let ended = match self.place {
            Place::InCall(id) if self.seen.orig_rax == libc::SYS_exit as u64 => {
                self.listener.let_through(id).map_err(lost)
            }
            _ => self.surface().and_then(|()| match self.place {
                Place::Reported { id, .. } => self.answer(id, END_THREAD),
                _ => Err(PlatformError::StubDied),
            }),
        };
        match ended {
            Ok(()) => {
                if let Some(stack) = self.stack.take() {
                    self.space.give_stack(stack);
                }
            }
            // It cannot be ended alone.
            Err(_) => self.space.kill(),
        }
    }
}
