//! Address spaces of the `systrap` back end: those of `ptrace`, and what their guest threads need.

use super::Options;
use super::stack::{SignalStack, SignalStacks};
use crate::ptrace::context::{park, seize};
use crate::ptrace::inject::{self, gone};
use crate::ptrace::space::{Shared, Space};
use crate::ptrace::tracee::Tracee;
use crate::stub::process::StubProcess;
use crate::{AddressSpace, Frames, MapSource, MemoryFile, PlatformError, Prot, Result, placement};
use parking_lot::Mutex;
use std::sync::Arc;

/// A stub. Once one of its threads has a listener, its first thread is the *leader*, which does not run
/// guest code: other threads and copies of the stub are cloned from it, as a thread with a listener
/// could only beget threads that share it. Lock order: the inner space's `executor`, `leader`, `stacks`.
#[derive(Debug)]
pub struct SystrapSpace {
    // Dropped first: then no mapping reaches the stacks any more.
    inner: Arc<Space>,
    leader: Mutex<()>,
    stacks: Mutex<SignalStacks>,
    memory: Arc<MemoryFile>,
    options: Options,
}

impl SystrapSpace {
    /// Wraps a stub in which nothing is mapped.
    pub fn new(shared: Arc<Shared>, process: Arc<StubProcess>, options: Options) -> Arc<Self> {
        Self::wrap(Space::new(shared, process), options)
    }

    fn wrap(inner: Arc<Space>, options: Options) -> Arc<Self> {
        let memory = inner.memory().clone();
        let (leader, stacks) = (Mutex::new(()), Mutex::default());
        Arc::new(Self { inner, leader, stacks, memory, options })
    }

    /// When threads are traced, and when not.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What does the mapping work.
    pub fn inner(&self) -> &Arc<Space> {
        &self.inner
    }

    /// The stub's process.
    pub fn process(&self) -> &Arc<StubProcess> {
        self.inner.process()
    }

    /// Wraps the stub `pid`, a copy of this one. Waiting operations had been executed, and the caller
    /// keeps others from executing more.
    pub fn copy(&self, pid: i32) -> Arc<Self> {
        let process = StubProcess::new(pid, self.process().secret());
        Self::wrap(self.inner.copy(Arc::new(process)), self.options)
    }

    /// Makes a copy of the stub's process by its leader; returns its host process id.
    pub fn new_process(&self) -> Result<i32> {
        self.clone_leader("copy a stub", crate::stub::filter::PROCESS_FLAGS)
    }

    /// Makes a thread of the stub by its leader; returns its host id.
    pub fn new_thread(&self) -> Result<i32> {
        self.clone_leader("create a thread in a stub", crate::stub::filter::THREAD_FLAGS)
    }

    fn clone_leader(&self, what: &'static str, flags: u32) -> Result<i32> {
        let _guard = self.leader.lock();
        placement::follow(self.inner.pid());
        let leader = seize(self.process(), self.inner.pid())?;
        let cloned = inject::clone(&leader, flags, &mut false);
        let parked = park(&leader);
        let id = cloned?.map_err(|e| PlatformError::host(what, e))?;
        parked?;
        Ok(id)
    }

    /// A signal stack for a new thread.
    pub fn take_stack(&self) -> Result<SignalStack> {
        self.stacks.lock().take(&self.memory)
    }

    /// Takes back the stack of a thread that has ended.
    pub fn give_stack(&self, stack: SignalStack) {
        self.stacks.lock().give(stack);
    }

    /// Ends the stub: one of its threads is not as it should be.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Lets a traced thread of the stub end on its own, without taking its siblings along.
    pub fn end_thread(&self, tracee: &Tracee) {
        crate::ptrace::context::end_thread(tracee);
    }

    /// See [`Space::flush`].
    pub fn flush(&self, tracee: &Tracee, interrupted: &mut bool) -> Result<()> {
        self.inner.flush(tracee, interrupted)
    }

    /// Makes a traced thread of the stub execute calls, while no mapping work is done.
    pub fn execute(
        tracee: &Tracee,
        calls: &[crate::stub::batch::Call],
        what: &'static str,
        interrupted: &mut bool,
    ) -> Result<u64> {
        use crate::stub::code::Entries;
        let mut last = 0;
        for call in calls {
            last = inject::syscall(tracee, Entries::STUB, call, interrupted)?
                .map_err(|e| PlatformError::host(what, e))?;
        }
        Ok(last)
    }

    /// Attaches to a thread of the stub.
    pub fn seize(&self, tid: i32) -> Result<Tracee> {
        seize(self.process(), tid)
    }

    /// Attaches to a thread that waits for the sentry, which `release` ends.
    pub fn seize_after(
        &self,
        tid: i32,
        release: impl FnOnce() -> Result<(), nix::errno::Errno>,
    ) -> Result<Tracee> {
        Tracee::seize_after(self.process(), tid, release).map_err(|error| match error {
            nix::errno::Errno::EPERM | nix::errno::Errno::ENOENT => PlatformError::StubDied,
            other => gone(other),
        })
    }
}

impl AddressSpace for SystrapSpace {
    fn map(&self, addr: u64, len: u64, prot: Prot, source: MapSource, replaced: Vec<Frames>) {
        self.inner.map(addr, len, prot, source, replaced);
    }

    fn unmap(&self, addr: u64, len: u64, frames: Vec<Frames>) {
        self.inner.unmap(addr, len, frames);
    }

    fn protect(&self, addr: u64, len: u64, prot: Prot) {
        self.inner.protect(addr, len, prot);
    }

    fn populate(&self, addr: u64, len: u64) {
        self.inner.populate(addr, len);
    }

    fn check(&self) -> Result<()> {
        self.inner.check()
    }
}
