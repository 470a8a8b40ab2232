//! Contexts: a guest thread, which runs on any vCPU.

use super::boards::Board;
use super::fault::{self, vector};
use super::machine::{Home, Lent};
use super::shim::{self, kind};
use super::space::{KvmSpace, Outcome};
use super::vcpu::Stop;
use crate::host::thread;
use crate::ptrace::fault::{VSYSCALLS, foreign_syscall};
use crate::registers::{
    EFLAGS_ENTRY, EFLAGS_TRAP, EFLAGS_USER, USER_CS, USER_SS, USER32_CS, sanitize,
};
use crate::stub::interrupt::{InterruptState, SIGNAL};
use crate::{
    AddressSpace, Answers, Context, Event, Interrupter, PendingContext, PlatformError, Registers,
    Result, XState,
};
use nix::errno::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// [`shim::INT80`] as a kind of stop.
const INT80: u64 = shim::INT80 as u64;

/// Addresses below are user code's; the same in negative are the kernel's; others are none.
const CANONICAL: u64 = 1 << 47;

/// Faults in a row for which the host has no page and that are not the guest's, after which it ends.
const MAX_NO_MEMORY: u32 = 64;

/// A guest thread.
#[derive(Debug)]
pub struct KvmContext {
    space: Arc<KvmSpace>,
    /// Kept until the thread blocks.
    lent: Option<Lent>,
    home: Arc<Home>,
    interrupts: Arc<InterruptState>,
    /// What calls return that the shim answers.
    board: Arc<Board>,
    tid: i32,
}

/// A guest thread that no host thread runs yet.
#[derive(Debug)]
pub struct KvmPending {
    space: Arc<KvmSpace>,
    state: XState,
}

impl KvmPending {
    /// A thread that starts with this FP state.
    pub fn new(space: Arc<KvmSpace>, state: XState) -> Self {
        Self { space, state }
    }
}

impl PendingContext for KvmPending {
    fn attach(self: Box<Self>) -> Result<Box<dyn Context>> {
        // Delivered within KVM_RUN only.
        thread::block_signal(SIGNAL)
            .map_err(|e| PlatformError::host("block the signal that stops guest code", e))?;
        let tid = thread::current_tid();
        let board = Board::new(self.space.machine())?;
        Ok(Box::new(KvmContext {
            space: self.space,
            lent: None,
            home: Home::new(self.state),
            board,
            interrupts: Arc::new(InterruptState::new(std::process::id() as i32, tid)),
            tid,
        }))
    }
}

impl KvmContext {
    /// Its vCPU, with its FP state.
    fn vcpu(&mut self) -> Result<&mut Lent> {
        let lent = match self.lent.take() {
            Some(lent) => lent,
            None => self.space.machine().acquire(&self.home)?,
        };
        Ok(self.lent.insert(lent))
    }

    fn release(&mut self, forget: bool) {
        if let Some(lent) = self.lent.take() {
            self.space.machine().release(lent, forget);
        }
    }

    /// Ends the guest process.
    fn die<T>(&self) -> Result<T> {
        self.space.kill();
        Err(PlatformError::StubDied)
    }

    fn run(&mut self, regs: &mut Registers) -> Result<Event> {
        if !load(regs) {
            return Ok(Event::Fault(fault::bad_return()));
        }
        let (space, tid, mut no_memory) = (self.space.clone(), self.tid, 0);
        self.vcpu()?.vcpu.set_registers(regs);
        let board = self.board.address();
        loop {
            let lent = self.vcpu()?;
            lent.vcpu.set_board(board);
            let ran = lent.vcpu.run(space.id(), space.root(), space.generation(), tid);
            space.machine().runs.fetch_add(1, Ordering::Relaxed);
            let Ok(stop) = ran else {
                self.lent.take().into_iter().for_each(|lent| space.machine().failed(lent));
                return self.die();
            };
            if let Some(event) = self.stopped(stop, regs)? {
                return Ok(event);
            }
            if stop.no_memory {
                no_memory += 1;
                if no_memory > MAX_NO_MEMORY {
                    return self.die();
                }
                space.be_exact();
            }
            if space.machine().is_wanted() {
                // Another one's turn. The registers travel, as the next vCPU may be another.
                let lent = self.vcpu()?;
                lent.vcpu.registers(stop.kind, regs);
                if regs.single_step {
                    regs.eflags &= !EFLAGS_TRAP;
                }
                self.release(false);
                self.vcpu()?.vcpu.set_registers(regs);
            } else {
                self.vcpu()?.vcpu.keep_registers();
            }
            // What the fault has changed, or others have meanwhile.
            if space.flush().is_err() || space.is_dead() {
                return Err(PlatformError::StubDied);
            }
        }
    }

    /// What a stop means to the guest; `None` for nothing.
    fn stopped(&mut self, stop: Stop, regs: &mut Registers) -> Result<Option<Event>> {
        let space = self.space.clone();
        let pending = self.interrupts.is_pending();
        let stepped = regs.single_step;
        let lent = self.vcpu()?;
        let (address, error) = lent.vcpu.fault();
        let mut raised = None;
        match stop.kind {
            vector::PAGE_FAULT => match space.fault(address, error) {
                Outcome::Repaired => {
                    space.bring_ahead(address, &lent.vcpu);
                    return Ok(None);
                }
                Outcome::Raise(fault) => raised = Some(fault),
                Outcome::Exhausted => return self.die(),
            },
            number if number == u64::from(shim::INTERRUPT) && !pending => return Ok(None),
            number if number & kind::RING0 != 0 || number == 8 => {
                let rip = lent.vcpu.ring0_rip();
                tracing::error!(
                    "exception {number:#x} in ring 0 at {rip:#x}, address {address:#x}; the guest process ends"
                );
                return self.die();
            }
            _ => {}
        }
        lent.vcpu.registers(stop.kind, regs);
        let traced = regs.eflags;
        if stepped {
            regs.eflags &= !EFLAGS_TRAP;
        }
        let event = match stop.kind {
            kind::SYSCALL32 | INT80 => {
                regs.orig_rax = regs.rax;
                foreign_syscall(regs)
            }
            kind::SYSCALL => {
                regs.orig_rax = regs.rax;
                regs.r11 = regs.eflags;
                regs.rax = (-i64::from(libc::ENOSYS)) as u64;
                Event::Syscall
            }
            number if number == u64::from(shim::INTERRUPT) => Event::Interrupted,
            vector::PAGE_FAULT => {
                if let Some(event) = vsyscall(&space, address, regs) {
                    return Ok(Some(event));
                }
                raised.map_or(Event::Interrupted, Event::Fault)
            }
            trap => {
                let with_trap = Registers { eflags: traced, ..*regs };
                let fp = || lent.vcpu.xstate().ok();
                Event::Fault(fault::describe(trap, error, &with_trap, fp))
            }
        };
        Ok(Some(event))
    }
}

/// A call of the vsyscall page, which the kernel would have answered.
fn vsyscall(space: &KvmSpace, address: u64, regs: &mut Registers) -> Option<Event> {
    let (_, number) =
        VSYSCALLS.iter().find(|(entry, _)| *entry == address && regs.rip == *entry)?;
    // The entry was called, so the return address is on the stack.
    regs.rip = space.word(regs.rsp)?;
    regs.rsp = regs.rsp.wrapping_add(8);
    regs.orig_rax = *number as u64;
    regs.rax = (-i64::from(libc::ENOSYS)) as u64;
    Some(Event::Syscall)
}

/// Replaces what a program cannot have loaded itself; `false` when the CPU would refuse to go on there.
fn load(regs: &mut Registers) -> bool {
    regs.orig_rax = u64::MAX;
    sanitize(regs);
    for selector in [&mut regs.ds, &mut regs.es, &mut regs.fs, &mut regs.gs] {
        // The null selector and those of user code are what our descriptor table has.
        if ![3, USER32_CS, USER_SS, USER_CS].contains(selector) {
            *selector = 0;
        }
    }
    regs.eflags = regs.eflags & EFLAGS_USER | EFLAGS_ENTRY;
    match regs.cs {
        USER32_CS => regs.rip <= u64::from(u32::MAX),
        _ => regs.rip < CANONICAL || regs.rip >= CANONICAL.wrapping_neg(),
    }
}

impl Context for KvmContext {
    fn switch(&mut self, regs: &mut Registers) -> Result<Event> {
        self.flush()?;
        if self.space.is_dead() {
            return Err(PlatformError::StubDied);
        }
        if !self.interrupts.enter() {
            return Ok(Event::Interrupted);
        }
        let result = self.run(regs);
        self.interrupts.leave(matches!(result, Ok(Event::Interrupted)));
        if self.space.machine().is_wanted() {
            self.release(false);
        }
        result
    }

    fn flush(&mut self) -> Result<()> {
        self.space.flush()
    }

    fn new_thread(&mut self) -> Result<Box<dyn PendingContext>> {
        Ok(Box::new(KvmPending::new(self.space.clone(), self.xstate()?)))
    }

    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        self.flush()?;
        let state = self.xstate()?;
        let space = self.space.copy()?;
        Ok((space.clone(), Box::new(KvmPending::new(space, state))))
    }

    fn xstate(&mut self) -> Result<XState> {
        if self.space.is_dead() {
            return Err(PlatformError::StubDied);
        }
        match self.home.get() {
            Some(state) => Ok(state),
            None => self.vcpu()?.vcpu.xstate(),
        }
    }

    fn set_xstate(&mut self, state: &XState) -> Result<()> {
        if !state.is_valid() {
            return Err(PlatformError::host("set the FP state", Errno::EINVAL));
        }
        match &self.lent {
            Some(lent) => lent.vcpu.set_xstate(state),
            None => {
                self.home.set(state.clone());
                Ok(())
            }
        }
    }

    fn answers(&self) -> Option<Arc<dyn Answers>> {
        Some(self.board.clone())
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.interrupts.clone()
    }

    fn address_space(&self) -> Arc<dyn AddressSpace> {
        self.space.clone()
    }

    fn set_blocked(&mut self, blocked: bool) {
        if blocked {
            self.release(false);
        }
    }
}

impl Drop for KvmContext {
    fn drop(&mut self) {
        self.interrupts.retarget(None);
        self.release(true);
    }
}
