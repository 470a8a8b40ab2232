//! A turn: guest code goes on until it does something for the sentry.

use super::block::{ASLEEP, Block, EFLAGS_SAVED, LISTENING, PARKED, REQUEST, Request};
use super::code::{self, LOAD_BASES, SIGNAL_CALL};
use super::context::{Place, SystrapContext};
use super::filter::NEED_REGISTERS;
use super::frame::{self, Delivered};
use super::gate::{self, Progress, WAIT_CALL};
use super::listener::Notification;
use super::spin::SHORT;
use super::stack::SignalStack;
use crate::host::time::Clock;
use crate::ptrace::fault;
use crate::registers::{EFLAGS_TRAP, EFLAGS_ZERO, sanitize};
use crate::stub::bpf::ARCH_X86_64;
use crate::stub::interrupt::{SIGNAL, tgkill};
use crate::{CallSite, Event, Fault, PlatformError, Registers, Result, XState};
use nix::errno::Errno;
use std::thread;

/// `si_code` of a `SIGSYS` from a seccomp filter.
const SYS_SECCOMP: i32 = 1;
/// `si_code` of an access that a protection key forbids.
const SEGV_PKUERR: i32 = 4;

/// How often the block is looked at between two looks at the clock.
const LOOKS: u32 = 32;
/// How long the block alone is looked at before the host is asked whether a call came there, in nanoseconds.
const ALONE: u64 = 4_000;

/// How long a thread is waited for whose process has ended, in milliseconds.
const HURRY: i32 = 100;

/// What a guest thread has done.
enum Got {
    /// A system call or a report that came by the host.
    Host(Notification),
    /// A system call in the thread's block.
    Memory(Request),
}

impl SystrapContext {
    pub(super) fn stack(&self) -> Result<&SignalStack> {
        self.stack.as_ref().ok_or(PlatformError::StubDied)
    }

    fn block(&self) -> Result<Block<'_>> {
        self.stack().map(Block)
    }

    /// Answers the call or report that the thread waits in.
    pub(super) fn answer(&mut self, id: u64, rax: u64) -> Result<()> {
        self.place = Place::Away;
        self.listener.answer(id, rax).map_err(lost)
    }

    pub(super) fn receive(&self) -> Result<Notification> {
        let got = match self.hurries {
            false => self.listener.receive(),
            true => self.listener.receive_within(HURRY),
        };
        got.map_err(lost)?.ok_or(PlatformError::StubDied)
    }

    /// Lets guest code go on, and waits for what it does next.
    pub(super) fn run(&mut self, regs: &mut Registers) -> Result<Event> {
        if self.slot.is_called_back() {
            self.come_home(true);
        } else if self.slot.has_joined() {
            self.rhythm.begin(true);
        } else if self.rhythm.is_due() {
            let possible = self.slot.spread(self.rhythm.steady());
            self.rhythm.begin(possible);
        }
        loop {
            self.resume(regs)?;
            let event = match self.next()? {
                Got::Memory(request) => {
                    self.place = Place::Requested;
                    if !self.rhythm.pays(self.slot.together()) {
                        self.come_home(false);
                    }
                    Some(self.requested(&request, regs)?)
                }
                Got::Host(got) if is_report(&got) => self.signal(&got, regs)?,
                Got::Host(got) if is_wait(&got) => {
                    self.place = Place::Waiting(got.id);
                    let request = self.block()?.request();
                    Some(self.requested(&request, regs)?)
                }
                Got::Host(got) => Some(self.called(&got, regs)?),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// Lets the thread go on with these registers.
    fn resume(&mut self, regs: &mut Registers) -> Result<()> {
        let state = if self.rhythm.away { LISTENING } else { ASLEEP };
        if let Place::Requested = self.place {
            self.result = regs.rax;
            let block = self.block()?;
            block.set_answer(regs.rax);
            if block.change_state(REQUEST, state) {
                self.place = Place::Away;
                return Ok(());
            }
            self.park()?;
            self.complete(regs);
        }
        match self.place {
            Place::InCall(id) => {
                self.block()?.set_state(state);
                self.answer(id, regs.rax)
            }
            Place::Waiting(id) => {
                self.result = regs.rax;
                let block = self.block()?;
                block.set_answer(regs.rax);
                block.set_state(state);
                self.answer(id, 0)
            }
            Place::Reported { id, context, fp } => {
                let fp = self.load_fp(fp)?;
                sanitize(regs);
                let mut load = *regs;
                load.eflags |= if regs.single_step { EFLAGS_TRAP } else { 0 };
                load.rip = self.space.resume(load.rip);
                let bases = (regs.fs_base, self.hardware_gs(regs.gs_base)?);
                let stack = self.stack()?;
                Block(stack).set_state(state);
                frame::write_context(stack, context, &load, fp).ok_or(PlatformError::StubDied)?;
                let mut answer = 0;
                if bases != self.bases {
                    stack.set_bases(bases.0, bases.1)?;
                    self.bases = bases;
                    answer = LOAD_BASES;
                }
                self.answer(id, answer)
            }
            Place::Away | Place::Requested => Err(PlatformError::StubDied),
        }
    }

    /// Waits until a thread whose call came through its block waits in the host's kernel, where it is about to go.
    fn park(&mut self) -> Result<()> {
        let got = self.receive()?;
        if is_wait(&got) {
            self.place = Place::Waiting(got.id);
            return Ok(());
        }
        // A signal came first.
        let delivered = self.reported(&got)?.ok_or(PlatformError::StubDied)?;
        self.find(&delivered);
        Ok(())
    }

    /// Waits for what guest code does next.
    fn next(&mut self) -> Result<Got> {
        if self.rhythm.away
            && let Some(request) = self.look()?
        {
            return Ok(Got::Memory(request));
        }
        self.receive().map(Got::Host)
    }

    /// Looks at the block for a while; `None` when what comes next comes by the host.
    fn look(&mut self) -> Result<Option<Request>> {
        let block = self.block()?;
        let start = Clock::Monotonic.now();
        loop {
            for _ in 0..LOOKS {
                match block.state() {
                    LISTENING => std::hint::spin_loop(),
                    REQUEST => return Ok(Some(block.request())),
                    // Parked already, or spoilt.
                    _ => return Ok(None),
                }
            }
            if self.slot.together().is_some() {
                // Others look from this CPU, too.
                thread::yield_now();
            }
            let waited = Clock::Monotonic.now().saturating_sub(start);
            if self.interrupts.is_pending() || (waited > ALONE && self.listener.has_call()) {
                return Ok(None);
            }
            if waited > SHORT || self.slot.is_called_back() {
                break;
            }
        }
        let request =
            if block.change_state(LISTENING, ASLEEP) { None } else { self.late_request()? };
        if request.is_none() && (self.slot.together().is_none() || self.slot.is_called_back()) {
            self.come_home(true);
        }
        Ok(request)
    }

    /// A request that came while we stopped looking.
    fn late_request(&self) -> Result<Option<Request>> {
        let block = self.block()?;
        Ok((block.state() == REQUEST).then(|| block.request()))
    }

    /// Ends the taking of calls from memory; the sentry's thread goes to its guest thread's CPU.
    pub(super) fn come_home(&mut self, paid: bool) {
        if !self.rhythm.away {
            return;
        }
        self.let_sleep();
        let together = self.slot.together().is_some();
        self.slot.gather();
        self.rhythm.end(paid, together);
    }

    /// A thread whose call came through its block need not look for the answer any more.
    pub(super) fn let_sleep(&self) {
        if let Place::Requested = self.place
            && let Ok(block) = self.block()
        {
            // Fails when it does not do so anyway.
            block.change_state(REQUEST, PARKED);
        }
    }

    /// A system call that came by the host.
    fn called(&mut self, got: &Notification, regs: &mut Registers) -> Result<Event> {
        let mut rip = got.rip;
        match self.space.slot(got.rip) {
            Some((site, at)) => {
                rip = site.original(at);
                self.rhythm.call();
            }
            None if self.space.slots().is_hot(rip) => {
                self.hot = Some(CallSite { rip, number: got.number.into() });
            }
            None => {}
        }
        regs.orig_rax = got.number.into();
        regs.rax = (-i64::from(libc::ENOSYS)) as u64;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = got.args;
        (regs.rip, regs.rcx, regs.r11) = (rip, rip, regs.eflags);
        (self.place, self.seen) = (Place::InCall(got.id), *regs);
        if got.arch != ARCH_X86_64 {
            self.surface()?;
            self.complete(regs);
            return Ok(fault::foreign_syscall(regs));
        }
        Ok(Event::Syscall)
    }

    /// A system call that came through the block.
    fn requested(&mut self, request: &Request, regs: &mut Registers) -> Result<Event> {
        let rip = self.origins.find(self.space.slots(), request.slot);
        let number = request.number;
        regs.orig_rax = number.into();
        regs.rax = (-i64::from(libc::ENOSYS)) as u64;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = request.args;
        (regs.rip, regs.rcx, regs.r11) = (rip, rip, regs.eflags);
        self.seen = *regs;
        if NEED_REGISTERS.contains(&number.into()) {
            self.surface()?;
            self.complete(regs);
        }
        Ok(Event::Syscall)
    }

    /// Brings a thread that is in a system call to its signal handler, which has all registers.
    pub(super) fn surface(&mut self) -> Result<()> {
        let mut waits = match self.place {
            Place::InCall(id) | Place::Waiting(id) => Some(id),
            Place::Requested => None,
            Place::Reported { .. } | Place::Away => return Ok(()),
        };
        let mut may_wait = waits.is_none();
        let watched = self.watched.clone();
        let _wait = watched.wait();
        tgkill(self.space.pid(), self.tid, SIGNAL);
        loop {
            if let Some(id) = waits.take() {
                self.answer(id, self.seen.rax)?;
            }
            let got = self.receive()?;
            if may_wait && is_wait(&got) {
                // It had given up looking for its answer.
                (waits, may_wait) = (Some(got.id), false);
                continue;
            }
            let delivered = self.reported(&got)?.ok_or(PlatformError::StubDied)?;
            self.find(&delivered);
            return Ok(());
        }
    }

    /// Notes the registers of a thread that has been brought to its handler within a system call.
    fn find(&mut self, delivered: &Delivered) {
        let mut full = self.seen;
        delivered.restore(&mut full);
        (full.fs_base, full.gs_base) = self.guest_bases();
        full.eflags &= !if self.seen.single_step { EFLAGS_TRAP } else { 0 };
        let progress = gate::progress(full.rip, false);
        if progress.is_some() || self.space.slot(full.rip).is_some() {
            self.load_flags(progress, &mut full);
            // Behind its system call, for the guest.
            (full.rip, full.rcx, full.r11) = (self.seen.rip, self.seen.rcx, full.eflags);
            full.rax = self.seen.rax;
        }
        self.found = Some(Box::new(full));
    }

    /// Completes the registers of a thread that has been brought to its handler.
    pub(super) fn complete(&mut self, regs: &mut Registers) {
        if let Some(found) = self.found.take() {
            merge(regs, &self.seen, &found);
            self.seen = *found;
        }
    }

    /// Takes a report; `None` when guest code has called our handler. The thread then is in its handler.
    fn reported(&mut self, got: &Notification) -> Result<Option<Delivered>> {
        if !is_report(got) {
            return Err(PlatformError::StubDied);
        }
        let [signal, info, context, fs, gs, _] = got.args;
        self.bases = (fs, gs);
        let stack = self.stack()?;
        let delivered = Delivered::read(stack, signal, info, context);
        let (context, fp) = match &delivered {
            Some(delivered) => (context, delivered.fp),
            None => {
                let own = (stack.own_context(), stack.own_fp());
                self.faked = true;
                own
            }
        };
        self.place = Place::Reported { id: got.id, context, fp };
        Ok(delivered)
    }

    /// Writes the FP state to load, if it is another than the thread's; returns where it is.
    pub(super) fn load_fp(&mut self, fp: u64) -> Result<u64> {
        let Some(state) = self.xstate.take() else { return Ok(fp) };
        let stack = self.stack()?;
        let own = stack.own_fp();
        frame::write_fp(stack, own, &state).ok_or(PlatformError::StubDied)?;
        Ok(own)
    }

    /// A handler has reported; the guest's registers are on its stack. `None` when it was our own affair.
    fn signal(&mut self, got: &Notification, regs: &mut Registers) -> Result<Option<Event>> {
        self.found = None;
        let Some(delivered) = self.reported(got)? else {
            // Guest code has called our handler. What it has spoilt is replaced by what a program
            // starts with.
            self.xstate = Some(XState::initial());
            return Ok(Some(Event::Fault(Fault {
                signal: libc::SIGSEGV,
                code: 0x80,
                addr: 0,
                access: None,
                trap: 13,
                error: 0,
            })));
        };
        let stepped = regs.single_step;
        delivered.restore(regs);
        (regs.fs_base, regs.gs_base) = self.guest_bases();
        regs.orig_rax = u64::MAX;
        if stepped {
            regs.eflags &= !EFLAGS_TRAP;
        }
        let Fault { signal, code, .. } = delivered.fault;
        if signal == libc::SIGSEGV
            && code == SEGV_PKUERR
            && (gate::progress(regs.rip, false).is_some() || self.space.slots().is_entry(regs.rip))
        {
            // Guest code has denied itself all memory that has no key; the gate's is such. The call is made without it.
            self.leave_gate(regs)?;
            self.space.end_patches();
            return Ok(Some(Event::Interrupted));
        }
        self.leave_gate(regs)?;
        if signal == libc::SIGSYS && code == SYS_SECCOMP {
            regs.orig_rax = delivered.number.into();
            if delivered.arch != ARCH_X86_64 {
                return Ok(Some(fault::foreign_syscall(regs)));
            }
            regs.rax = (-i64::from(libc::ENOSYS)) as u64;
            regs.rcx = regs.rip;
            return Ok(Some(Event::Syscall));
        }
        if code <= 0 || signal == SIGNAL {
            return Ok(Some(Event::Interrupted));
        }
        if signal == libc::SIGILL && self.space.resume(regs.rip) != regs.rip {
            // Its call was under way while the site was patched.
            return Ok(None);
        }
        if signal == libc::SIGSEGV && code == SEGV_PKUERR && self.space.show(delivered.fault.addr) {
            return Ok(Some(Event::Interrupted));
        }
        Ok(Some(Event::Fault(delivered.fault)))
    }

    /// Where a thread that was interrupted in the gate or in a slot is for the guest: before its system call, which it
    /// makes again, or behind it.
    fn leave_gate(&mut self, regs: &mut Registers) -> Result<()> {
        let progress = gate::progress(regs.rip, regs.eflags & EFLAGS_ZERO != 0);
        self.load_flags(progress, regs);
        let block = self.block()?;
        let slot = match progress {
            None if self.space.slots().is_entry(regs.rip) => regs.rcx,
            None => regs.rip,
            Some(Progress::Before) => regs.rcx,
            Some(Progress::Checking) => regs.r11,
            Some(Progress::Stored | Progress::Saved) => {
                regs.rax = block.number();
                regs.rcx
            }
            Some(Progress::Sent) if matches!(block.state(), REQUEST | PARKED) => {
                // We have answered all that we have seen, so this we have not.
                block.set_state(ASLEEP);
                regs.rax = block.number();
                block.slot()
            }
            Some(Progress::Sent | Progress::Answered) => {
                regs.rax = self.result;
                (regs.rcx, regs.r11) = (self.seen.rcx, regs.eflags);
                block.slot().wrapping_add(2)
            }
        };
        if let Some((site, at)) = self.space.slot(slot) {
            regs.rip = site.original(at);
            if site.lacks_rcx(at) {
                regs.rcx = regs.rip;
            }
        }
        Ok(())
    }

    /// Puts the flags of a thread back that is in the gate and has saved them.
    fn load_flags(&self, progress: Option<Progress>, regs: &mut Registers) {
        if progress.is_some_and(Progress::has_saved_flags)
            && let Ok(block) = self.block()
        {
            regs.eflags = regs.eflags & !EFLAGS_SAVED | block.flags();
        }
    }

    /// The bases of the thread as the guest has set them.
    fn guest_bases(&self) -> (u64, u64) {
        let block = self.stack.as_ref().map(SignalStack::base);
        let (fs, gs) = self.bases;
        (fs, if Some(gs) == block { 0 } else { gs })
    }

    /// What to load as the gs base: the block, as long as the guest does not use it.
    fn hardware_gs(&self, guest: u64) -> Result<u64> {
        let free = guest == 0 && self.space.slots().is_enabled();
        Ok(if free { self.stack()?.base() } else { guest })
    }
}

/// Whether it is a handler that reports.
pub(super) fn is_report(got: &Notification) -> bool {
    got.number == SIGNAL_CALL && got.rip == code::reported() && got.arch == ARCH_X86_64
}

/// Whether it is a thread in the gate that waits for its answer.
fn is_wait(got: &Notification) -> bool {
    got.number == WAIT_CALL && got.rip == gate::waiting() && got.arch == ARCH_X86_64
}

/// What a failure of the listener means: the thread was killed, or there is no way to go on.
pub(super) fn lost(error: Errno) -> PlatformError {
    match error {
        Errno::ENOENT => PlatformError::StubDied,
        other => PlatformError::host("exchange a system call with a stub", other),
    }
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
