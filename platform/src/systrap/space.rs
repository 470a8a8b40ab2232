//! Address spaces of the `systrap` back end: a stub, its agent, the signal stacks of its threads, its patches.

use super::agent::{Agent, Space};
use super::listener::Listener;
use super::patches::Patches;
use super::site::Site;
use super::slots::Slots;
use super::stack::{SignalStack, SignalStacks};
use crate::stub::process::StubProcess;
use crate::stub::queue::Operation;
use crate::stub::space::Shared;
use crate::{AddressSpace, CallSite, CodePage, Frames, MapSource, Prot, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A stub. Lock order: the inner space's `executor`, then `stacks` or `patches`, then the inner queue.
#[derive(Debug)]
pub struct SystrapSpace {
    // Dropped first: then no mapping reaches the stacks any more.
    inner: Arc<Space>,
    stacks: Mutex<SignalStacks>,
    /// How many guest threads it has, those about to start included.
    members: AtomicUsize,
    /// Slots of call sites; shared by all copies of the stub.
    slots: Arc<Slots>,
    patches: Mutex<Patches>,
    /// There are patches.
    patched: AtomicBool,
}

/// A guest thread's part in its address space.
#[derive(Debug)]
pub struct Member(Arc<SystrapSpace>);

impl Member {
    /// One more thread, made by another one of this address space or the first one.
    pub fn new(space: Arc<SystrapSpace>) -> Self {
        space.members.fetch_add(1, Ordering::Relaxed);
        Self(space)
    }

    /// The address space.
    pub fn space(&self) -> &Arc<SystrapSpace> {
        &self.0
    }
}

impl std::ops::Deref for Member {
    type Target = SystrapSpace;

    fn deref(&self) -> &SystrapSpace {
        &self.0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.0.members.fetch_sub(1, Ordering::AcqRel) == 1 {
            // No guest code will run here again: the host can begin to take the stub apart.
            self.0.kill();
        }
    }
}

impl SystrapSpace {
    /// Wraps a stub in which nothing is mapped.
    pub fn new(shared: Arc<Shared>, process: Arc<StubProcess>, agent: Agent) -> Arc<Self> {
        Self::wrap(Space::new(shared, process, agent), Arc::default(), Patches::default())
    }

    fn wrap(inner: Arc<Space>, slots: Arc<Slots>, patches: Patches) -> Arc<Self> {
        Arc::new(Self {
            inner,
            stacks: Mutex::default(),
            members: AtomicUsize::new(0),
            slots,
            patched: AtomicBool::new(!patches.is_empty()),
            patches: Mutex::new(patches),
        })
    }

    /// What does the mapping work.
    pub fn inner(&self) -> &Arc<Space> {
        &self.inner
    }

    /// Host process id of the stub.
    pub fn pid(&self) -> i32 {
        self.inner.pid()
    }

    /// Copies the stub, once waiting operations have been executed.
    pub fn copy(&self) -> Result<Arc<Self>> {
        let mut executor = self.inner.flush_locked(())?;
        let agent = executor.own.new_process(self.inner.shared())?;
        let process = Arc::new(StubProcess::new(agent.pid()));
        let patches = self.patches.lock().clone();
        Ok(Self::wrap(self.inner.copy(process, agent), self.slots.clone(), patches))
    }

    /// The slots of its call sites.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The site and the offset in its slot of an address that lies in a slot.
    pub fn slot(&self, address: u64) -> Option<(Site, u64)> {
        self.slots.find(address)
    }

    /// Where a thread that is to go on at `rip` goes on, now that there are patches.
    pub fn resume(&self, rip: u64) -> u64 {
        if !self.patched.load(Ordering::Acquire) {
            return rip;
        }
        self.patches.lock().resume(rip).unwrap_or(rip)
    }

    /// Puts the original code back, for ever: the guest is about to look at it step by step.
    pub fn end_patches(&self) {
        let mut patches = self.patches.lock();
        if !patches.ended {
            patches.end(&self.inner);
            self.patched.store(false, Ordering::Release);
        }
    }

    /// Before the mappings of a range change: copies of its pages, to be released then.
    fn changes(&self, addr: u64, len: u64) -> Vec<Frames> {
        let Some(end) = addr.checked_add(len) else { return Vec::new() };
        if self.slots.overlap(addr, end) {
            self.end_patches();
        }
        if !self.patched.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut patches = self.patches.lock();
        patches.remove(addr..end)
    }

    /// Makes a thread, which has reported and waits for the answer.
    pub fn new_thread(&self) -> Result<(SignalStack, Listener)> {
        let mut stack = self.stacks.lock().take(&self.inner.shared().memory)?;
        // What waits goes with it: a new process always has something to map before it starts.
        let make = |agent: &mut Agent, operations: &[Operation]| {
            agent.new_thread(self.inner.shared(), &mut stack, operations)
        };
        let listener = self.inner.flush_by(make)?.0;
        Ok((stack, listener))
    }

    /// Takes back the stack of a thread that has ended.
    pub fn give_stack(&self, stack: SignalStack) {
        self.stacks.lock().give(stack);
    }

    /// Whether there is one guest thread and no other to come.
    pub fn has_one_member(&self) -> bool {
        self.members.load(Ordering::Acquire) == 1
    }

    /// Ends the stub: one of its threads is not as it should be.
    pub fn kill(&self) {
        self.inner.process().kill();
    }
}

impl AddressSpace for SystrapSpace {
    fn map(&self, addr: u64, len: u64, prot: Prot, source: MapSource, mut replaced: Vec<Frames>) {
        replaced.extend(self.changes(addr, len));
        self.inner.map(addr, len, prot, source, replaced);
    }

    fn unmap(&self, addr: u64, len: u64, mut frames: Vec<Frames>) {
        frames.extend(self.changes(addr, len));
        self.inner.unmap(addr, len, frames);
    }

    fn protect(&self, addr: u64, len: u64, prot: Prot) {
        if self.patched.load(Ordering::Acquire)
            && let Some(end) = addr.checked_add(len)
        {
            self.patches.lock().protect(addr..end, prot);
        }
        self.inner.protect(addr, len, prot);
    }

    fn add_slots(&self, addr: u64, frames: Frames) {
        self.slots.add(addr, frames);
    }

    fn patch(&self, call: CallSite, page: CodePage<'_>) {
        let mut patches = self.patches.lock();
        patches.patch(&self.inner, &self.slots, page, call.rip, call.number);
        self.patched.store(!patches.is_empty(), Ordering::Release);
    }

    fn populate(&self, addr: u64, len: u64) {
        self.inner.populate(addr, len);
    }

    fn huge(&self, addr: u64, len: u64) {
        self.inner.huge(addr, len);
    }

    fn maps_ahead(&self) -> bool {
        self.inner.maps_ahead()
    }

    fn check(&self) -> Result<()> {
        self.inner.check()
    }
}
