//! Contexts: a stub thread and the sentry thread that drives it. How they take turns is in [`super::turn`].

use super::agent::{PATIENCE, Space};
use super::block::{ASLEEP, Block};
use super::code::{self, END_THREAD, LOAD_BASES};
use super::frame;
use super::listener::{Listener, Notification};
use super::origin::Origins;
use super::space::{Member, SystrapSpace};
use super::spare::Parked;
use super::spin::Rhythm;
use super::stack::SignalStack;
use super::turn::{is_report, lost};
use super::watchdog::Watched;
use crate::placement::{self, Slot};
use crate::stub::filter::tsc_call;
use crate::stub::interrupt::InterruptState;
use crate::{
    AddressSpace, CallSite, Context, Event, Interrupter, PendingContext, PlatformError, Registers,
    Result, XState,
};
use nix::errno::Errno;
use std::sync::Arc;

/// Bytes of a `syscall` instruction.
const CALL_LEN: u64 = 2;

/// The segment bases of a thread that waits to be used again.
const PARKED_BASES: (u64, u64) = (0, 0);

/// Where the stub's thread is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
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
    /// As [`Place::InCall`], but the call itself came through the thread's block, and it waits in the gate.
    Waiting(u64),
    /// In the gate, with a system call that came through its block.
    Requested,
    /// In guest code; or unknown, after an error. The stub has been killed or is being so.
    Away,
}

/// A thread of a stub.
#[derive(Debug)]
pub struct SystrapContext {
    // Dropped in this order; `Drop` ends the thread first.
    pub(super) slot: Slot,
    pub(super) tid: i32,
    pub(super) place: Place,
    /// Registers as the sentry was told at the last system call.
    pub(super) seen: Registers,
    /// Registers as they are, since the thread was brought to its handler within that call.
    pub(super) found: Option<Box<Registers>>,
    /// FP state to load.
    pub(super) xstate: Option<XState>,
    /// The segment bases as the thread has them.
    pub(super) bases: (u64, u64),
    pub(super) listener: Arc<Listener>,
    pub(super) stack: Option<SignalStack>,
    /// When calls are taken from memory.
    pub(super) rhythm: Rhythm,
    /// Its process has ended: nobody waits long for what it does.
    pub(super) hurries: bool,
    /// Its code cannot read the time-stamp counter.
    pub(super) no_tsc: bool,
    /// Guest code has called our handler itself: what the thread does next is not known.
    pub(super) faked: bool,
    /// Guest code has faulted, and the sentry puts that right.
    pub(super) faulted: bool,
    /// What the last call that came through the block was answered with.
    pub(super) result: u64,
    /// A call site that should be patched.
    pub(super) hot: Option<CallSite>,
    pub(super) origins: Origins,
    pub(super) interrupts: Arc<InterruptState>,
    /// Sees to it that the thread heeds them.
    pub(super) watched: Arc<Watched>,
    pub(super) space: Member,
}

/// A context that has no thread yet.
#[derive(Debug)]
pub struct SystrapPending {
    xstate: XState,
    thread: Option<Parked>,
    space: Member,
}

impl SystrapPending {
    /// A new thread of a stub, to start with this FP state.
    pub fn new(xstate: XState, space: Arc<SystrapSpace>) -> Self {
        Self { xstate, thread: None, space: Member::new(space) }
    }

    /// As [`SystrapPending::new`], with a thread that is there already.
    pub fn with_thread(mut self, thread: Option<Parked>) -> Self {
        self.thread = thread;
        self
    }
}

impl PendingContext for SystrapPending {
    fn attach(self: Box<Self>) -> Result<Box<dyn Context>> {
        let context = match self.thread {
            None => SystrapContext::attach(self.space, self.xstate)?,
            Some(thread) => SystrapContext::revive(self.space, self.xstate, thread)?,
        };
        Ok(Box::new(context))
    }
}

impl SystrapContext {
    fn attach(space: Member, xstate: XState) -> Result<Self> {
        let (stack, listener) = space.new_thread()?;
        let hello = listener.receive_within(PATIENCE).map_err(lost)?;
        let hello = hello.ok_or(PlatformError::StubDied)?;
        if !is_report(&hello) {
            return Err(PlatformError::StubDied);
        }
        let (tid, id) = (hello.tid, hello.id);
        let thread = Parked { tid, id, listener: Arc::new(listener), stack };
        Ok(Self::new(space, xstate, thread, (hello.args[3], hello.args[4])))
    }

    /// Takes over the thread of a spare stub. What has to be mapped anew is so from now on.
    fn revive(space: Member, xstate: XState, thread: Parked) -> Result<Self> {
        space.inner().flush(())?;
        Ok(Self::new(space, xstate, thread, PARKED_BASES))
    }

    /// With a thread that waits in our page.
    fn new(space: Member, xstate: XState, thread: Parked, bases: (u64, u64)) -> Self {
        let Parked { tid, id, listener, stack } = thread;
        let interrupts = Arc::new(InterruptState::new(space.pid(), tid));
        let watched = Watched::new(interrupts.clone(), space.space());
        // Its last thread may have left something.
        Block(&stack).set_state(ASLEEP);
        let (context, fp) = (stack.own_context(), stack.own_fp());
        Self {
            slot: Slot::new(tid),
            tid,
            place: Place::Reported { id, context, fp },
            seen: Registers::default(),
            found: None,
            xstate: Some(xstate),
            bases,
            listener,
            stack: Some(stack),
            rhythm: Rhythm::default(),
            hurries: false,
            no_tsc: false,
            faked: false,
            faulted: false,
            result: 0,
            hot: None,
            origins: Origins::default(),
            interrupts,
            watched,
            space,
        }
    }

    /// The queue of mapping work.
    fn work(&self) -> &Arc<Space> {
        self.space.inner()
    }
}

/// Whether the guest goes on as it would after an ordinary system call.
fn only_result_differs(regs: &Registers, seen: &Registers) -> bool {
    let same = Registers { rax: regs.rax, orig_rax: regs.orig_rax, ..*seen };
    *regs == same
}

impl Context for SystrapContext {
    fn switch(&mut self, regs: &mut Registers) -> Result<Event> {
        if regs.single_step {
            self.space.end_patches();
        }
        let faulted = std::mem::take(&mut self.faulted);
        self.work().flush_due((), faulted)?;
        if let Place::InCall(_) | Place::Waiting(_) | Place::Requested = self.place
            && (regs.single_step || self.seen.single_step || !only_result_differs(regs, &self.seen))
        {
            self.surface()?;
        }
        self.complete(regs);
        if !self.interrupts.enter() {
            return Ok(Event::Interrupted);
        }
        let mut executed = self.work().executed();
        let mut result = self.run(regs);
        while let Ok(event) = &result
            && self.work().is_missed(event, executed)
        {
            result = match self.flush() {
                Ok(()) if self.interrupts.is_pending() => Ok(Event::Interrupted),
                Ok(()) => {
                    executed = self.work().executed();
                    self.run(regs)
                }
                Err(error) => Err(error),
            };
        }
        self.faulted = matches!(result, Ok(Event::Fault(_)));
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

    fn hot_site(&mut self) -> Option<CallSite> {
        self.hot.take()
    }

    fn flush(&mut self) -> Result<()> {
        self.work().flush(())
    }

    fn new_thread(&mut self) -> Result<Box<dyn PendingContext>> {
        // The new thread starts on this CPU.
        self.come_home(true);
        let xstate = self.xstate()?;
        Ok(Box::new(SystrapPending::new(xstate, self.space.space().clone())))
    }

    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        self.come_home(true);
        let xstate = self.xstate()?;
        let (copy, thread) = self.space.space().copy()?;
        let pending = SystrapPending::new(xstate, copy.clone()).with_thread(thread);
        Ok((copy, Box::new(pending)))
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

    fn set_tsc(&mut self, allowed: bool) -> Result<()> {
        self.no_tsc = true;
        self.call(libc::SYS_prctl, tsc_call(allowed))?;
        self.no_tsc = !allowed;
        Ok(())
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.watched.clone()
    }

    fn address_space(&self) -> Arc<dyn AddressSpace> {
        self.space.space().clone()
    }

    fn set_blocked(&mut self, blocked: bool) {
        if blocked {
            self.rhythm.block();
            match self.slot.together() {
                Some(together) => {
                    together.block();
                    self.let_sleep();
                }
                None => self.come_home(true),
            }
        }
        self.slot.set_blocked(blocked);
    }
}

impl Drop for SystrapContext {
    fn drop(&mut self) {
        self.interrupts.retarget(None);
        let last = self.space.has_one_member();
        if last && self.space.may_be_spare() && self.retire().is_ok() {
            return;
        }
        if last || self.end_thread().is_err() {
            // The stub ends with it, or because it cannot be ended alone; on another CPU if one is idle, for
            // nobody waits for that.
            placement::release(self.tid);
            placement::release(self.space.pid());
            self.space.kill();
        }
        // Whatever the thread still does, its stack is not used for anything else: it is free for the stub's next thread if
        // this one has been told to end, and goes with the stub else.
        if let Some(stack) = self.stack.take() {
            self.space.give_stack(stack);
        }
    }
}

impl SystrapContext {
    /// Brings the last thread of the process to where a new one is, for another process.
    fn retire(&mut self) -> Result<()> {
        if self.no_tsc {
            return Err(PlatformError::StubDied);
        }
        self.hurries = true;
        self.surface()?;
        let Place::Reported { id, context, fp } = self.place else {
            return Err(PlatformError::StubDied);
        };
        self.xstate = Some(XState::initial());
        let fp = self.load_fp(fp)?;
        self.stack()?.set_bases(PARKED_BASES.0, PARKED_BASES.1)?;
        let watched = self.watched.clone();
        let _wait = watched.wait();
        let report = self.report_regs()?;
        self.load(context, fp, &report)?;
        self.answer(id, LOAD_BASES)?;
        let got = self.receive()?;
        if !self.is_fresh(&got) || (got.args[3], got.args[4]) != PARKED_BASES {
            return Err(PlatformError::StubDied);
        }
        let stack = self.stack.take().ok_or(PlatformError::StubDied)?;
        let (tid, id, listener) = (self.tid, got.id, self.listener.clone());
        self.space.park(Parked { tid, id, listener, stack });
        Ok(())
    }

    /// Makes the thread execute a call of the host. Its registers are found in [`SystrapContext::found`] or with the
    /// caller, as after [`SystrapContext::surface`].
    fn call(&mut self, number: i64, args: [u64; 2]) -> Result<()> {
        self.surface()?;
        let Place::Reported { id, context, fp } = self.place else {
            return Err(PlatformError::StubDied);
        };
        let state = self.xstate()?;
        self.xstate = Some(state.clone());
        let fp = self.load_fp(fp)?;
        self.xstate = Some(state);
        let watched = self.watched.clone();
        let _wait = watched.wait();
        // Behind the call, the code loads the state at rdx, as behind any report that is answered with zero; it reports.
        let report = self.report_regs()?;
        let (rax, rip) = (number as u64, code::reported() - CALL_LEN);
        let call = Registers { rax, rip, rdi: args[0], rsi: args[1], ..report };
        self.load(context, fp, &call)?;
        self.answer(id, 0)?;
        let got = self.receive()?;
        let made = [u64::from(got.number), got.rip, got.args[0], got.args[1], got.args[2]];
        if made != [rax, code::reported(), args[0], args[1], report.rdx] {
            return Err(PlatformError::StubDied);
        }
        self.load(report.rdx, fp, &report)?;
        self.listener.let_through(got.id).map_err(lost)?;
        let got = self.receive()?;
        if !self.is_fresh(&got) {
            return Err(PlatformError::StubDied);
        }
        let stack = self.stack()?;
        let (context, fp) = (stack.own_context(), stack.own_fp());
        self.bases = (got.args[3], got.args[4]);
        self.place = Place::Reported { id: got.id, context, fp };
        Ok(())
    }

    /// Registers of a thread that reports as a new one does.
    fn report_regs(&self) -> Result<Registers> {
        // What else it would do is not known.
        if self.faked {
            return Err(PlatformError::StubDied);
        }
        let own = self.stack()?.own_context();
        Ok(Registers { rdx: own, rsp: own, ..Registers::at_entry(code::signal(), 0) })
    }

    /// Whether the report is that of a thread with these registers, and no signal's.
    fn is_fresh(&self, got: &Notification) -> bool {
        let own = self.stack.as_ref().map(SignalStack::own_context);
        is_report(got) && got.args[..2] == [0, 0] && Some(got.args[2]) == own
    }

    /// Writes a state that is loaded next, in which signals wait.
    fn load(&self, context: u64, fp: u64, regs: &Registers) -> Result<()> {
        let stack = self.stack()?;
        frame::write_context(stack, context, regs, fp)
            .and_then(|()| frame::block_signals(stack, context))
            .ok_or(PlatformError::StubDied)
    }

    /// Ends the thread, but not the stub.
    fn end_thread(&mut self) -> Result<()> {
        // The guest's own exit(2) ends the thread as well as ours.
        if let Place::InCall(id) = self.place
            && self.seen.orig_rax == libc::SYS_exit as u64
        {
            return self.listener.let_through(id).map_err(lost);
        }
        self.surface()?;
        match self.place {
            Place::Reported { id, .. } => self.answer(id, END_THREAD),
            _ => Err(PlatformError::StubDied),
        }
    }
}
