//! Address spaces of the `systrap` back end: a stub, its agent, the signal stacks of its threads, its patches.

use super::agent::{Agent, Space};
use super::listener::Listener;
use super::patches::Patches;
use super::site::Site;
use super::slots::Slots;
use super::spare::{Blanks, HABIT, LIFETIME, MOST_EACH, MOST_STALE, Parked, SpareCopy};
use super::stack::{SignalStack, SignalStacks};
use crate::stub::operation::Operation;
use crate::stub::process::StubProcess;
use crate::stub::space::Shared;
use crate::{AddressSpace, CallSite, CodePage, Frames, MapSource, Prot, Result, reaper};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// A stub. Lock order: the inner space's `executor`, then `stacks` or `patches`, then the inner queue. `spares`, `parked` and
/// `stale` are locked alone.
#[derive(Debug)]
pub struct SystrapSpace {
    // Dropped first: then no mapping reaches the stacks any more.
    inner: Arc<Space>,
    stacks: Mutex<SignalStacks>,
    /// How many guest threads it has, those about to start included.
    members: AtomicUsize,
    /// It has had several at a time.
    had_several: AtomicBool,
    /// Slots of call sites; shared by all copies of the stub.
    slots: Arc<Slots>,
    patches: Mutex<Patches>,
    /// There are patches.
    patched: AtomicBool,
    /// What it is a copy of, and since when, on that one's clock and on its own.
    origin: Option<(Weak<SystrapSpace>, u64, u64)>,
    /// How often it has been copied.
    copies: AtomicUsize,
    /// Stubs of copies that have ended.
    spares: Mutex<Vec<SpareCopy>>,
    /// They will be looked at when they may be too old.
    expiring: AtomicBool,
    /// Where it goes when it is of no use for another copy.
    blanks: Arc<Blanks>,
    /// The last thread, when it is ready to be used for another process.
    parked: Mutex<Option<Parked>>,
    /// See [`AddressSpace::stale`].
    stale: Mutex<Vec<Range<u64>>>,
}

/// A guest thread's part in its address space.
#[derive(Debug)]
pub struct Member(Arc<SystrapSpace>);

impl Member {
    /// One more thread, made by another one of this address space or the first one.
    pub fn new(space: Arc<SystrapSpace>) -> Self {
        if space.members.fetch_add(1, Ordering::Relaxed) > 0 {
            space.had_several.store(true, Ordering::Relaxed);
        }
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
        if self.0.members.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.parked.lock().is_none() {
            // No guest code will run here again: the host can begin to take the stub apart.
            self.0.kill();
        }
    }
}

impl SystrapSpace {
    /// Wraps a stub in which nothing is mapped.
    pub fn new(
        shared: Arc<Shared>,
        process: Arc<StubProcess>,
        agent: Agent,
        blanks: Arc<Blanks>,
    ) -> Arc<Self> {
        let inner = Space::new(shared, process, agent);
        Arc::new(Self::wrap(inner, Arc::default(), Patches::default(), blanks))
    }

    /// A spare stub in which nothing is mapped, and its thread; `None` when there is none.
    pub fn take_blank(blanks: &Arc<Blanks>) -> Option<(Arc<Self>, Parked)> {
        let spare = blanks.take()?;
        let mut space = Self::wrap(spare.inner, Arc::default(), Patches::default(), blanks.clone());
        space.stacks = Mutex::new(spare.stacks);
        Some((Arc::new(space), spare.thread))
    }

    fn wrap(inner: Arc<Space>, slots: Arc<Slots>, patches: Patches, blanks: Arc<Blanks>) -> Self {
        Self {
            inner,
            stacks: Mutex::default(),
            members: AtomicUsize::new(0),
            had_several: AtomicBool::new(false),
            slots,
            patched: AtomicBool::new(!patches.is_empty()),
            patches: Mutex::new(patches),
            origin: None,
            copies: AtomicUsize::new(0),
            spares: Mutex::default(),
            expiring: AtomicBool::new(false),
            blanks,
            parked: Mutex::default(),
            stale: Mutex::default(),
        }
    }

    /// What does the mapping work.
    pub fn inner(&self) -> &Arc<Space> {
        &self.inner
    }

    /// Host process id of the stub.
    pub fn pid(&self) -> i32 {
        self.inner.pid()
    }

    /// Copies the stub, once waiting operations have been executed. A copy that was made from a spare stub has a thread
    /// already.
    pub fn copy(self: &Arc<Self>) -> Result<(Arc<Self>, Option<Parked>)> {
        self.copies.fetch_add(1, Ordering::Relaxed);
        if let Some(copy) = self.copy_to_spare()? {
            return Ok(copy);
        }
        let make = |agent: &mut Agent, operations: &[Operation]| {
            agent.new_process(self.inner.shared(), operations)
        };
        let (agent, executor) = self.inner.flush_by(make)?;
        let agent = agent?;
        let process = Arc::new(StubProcess::new(agent.pid()));
        let patches = self.patches.lock().clone();
        let (inner, born) = (self.inner.copy(process, agent), self.inner.executed());
        drop(executor);
        let mut copy = Self::wrap(inner, self.slots.clone(), patches, self.blanks.clone());
        copy.origin = Some((Arc::downgrade(self), born, 0));
        Ok((Arc::new(copy), None))
    }

    /// Makes a spare stub the copy, if there is one that is alike.
    fn copy_to_spare(self: &Arc<Self>) -> Result<Option<(Arc<Self>, Option<Parked>)>> {
        let Some(copy) = self.spares.lock().pop() else { return Ok(None) };
        let executor = self.inner.flush_locked(())?;
        let born = self.inner.executed();
        let Some(stale) = copy.stale(&self.inner) else {
            drop(executor);
            reaper::later(|| drop(copy));
            return Ok(None);
        };
        let spare = copy.spare;
        let own = spare.inner.renew(&self.inner, &stale);
        let patches = self.patches.lock().clone();
        drop(executor);
        let mut copy = Self::wrap(spare.inner, self.slots.clone(), patches, self.blanks.clone());
        copy.origin = Some((Arc::downgrade(self), born, own));
        copy.stacks = Mutex::new(spare.stacks);
        copy.stale = Mutex::new(stale);
        Ok(Some((Arc::new(copy), Some(spare.thread))))
    }

    /// Whether the stub is likely to be of use when its process has ended. One with several threads is not: the others could
    /// have seen to it that one is not where it should be.
    pub fn may_be_spare(&self) -> bool {
        let alone = !self.had_several.load(Ordering::Relaxed);
        alone && self.inner.is_sound() && (self.is_wanted_by_origin() || self.blanks.has_room())
    }

    /// Whether its original makes one copy after the other.
    fn is_wanted_by_origin(&self) -> bool {
        let Some((origin, ..)) = &self.origin else { return false };
        let wanted = |origin: Arc<Self>| {
            origin.copies.load(Ordering::Relaxed) >= HABIT
                && origin.members.load(Ordering::Relaxed) > 0
                && origin.spares.lock().len() < MOST_EACH
        };
        origin.upgrade().is_some_and(wanted)
    }

    /// The last thread of the process has ended, and is ready for another one's.
    pub fn park(&self, thread: Parked) {
        *self.parked.lock() = Some(thread);
    }

    /// Gives the stub to the original's spare ones, if it wants more.
    fn give_to_origin(&self) -> Option<()> {
        if !self.is_wanted_by_origin() || !self.inner.is_sound() {
            return None;
        }
        let (origin, born, own) = self.origin.as_ref()?;
        let origin = origin.upgrade()?;
        let touched = self.inner.touched_since(*own).filter(|all| all.len() <= MOST_STALE)?;
        let thread = self.parked.lock().take()?;
        let stacks = std::mem::take(&mut *self.stacks.lock());
        let spare = SpareCopy::new(self.inner.clone(), thread, stacks, touched, *born)?;
        origin.spares.lock().push(spare);
        Self::expire_later(&origin);
        Some(())
    }

    /// Sees to it that spare stubs do not stay for ever.
    fn expire_later(origin: &Arc<Self>) {
        if !origin.expiring.swap(true, Ordering::AcqRel) {
            let weak = Arc::downgrade(origin);
            reaper::after(LIFETIME, move || Self::expire(&weak));
        }
    }

    fn expire(origin: &Weak<Self>) {
        let Some(origin) = origin.upgrade() else { return };
        let old: Vec<SpareCopy> = origin.spares.lock().extract_if(.., |s| s.is_old()).collect();
        drop(old);
        origin.expiring.store(false, Ordering::Release);
        if !origin.spares.lock().is_empty() {
            Self::expire_later(&origin);
        }
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

    /// Whether a fault came because the guest reads a patched page, which is the original now.
    pub fn show(&self, address: u64) -> bool {
        self.patched.load(Ordering::Acquire) && self.patches.lock().show(&self.inner, address)
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

impl Drop for SystrapSpace {
    fn drop(&mut self) {
        // Emptied, it is of no concern to anybody; else it ends now.
        if let Some(thread) = self.parked.get_mut().take() {
            self.blanks.give(&self.inner, thread, std::mem::take(self.stacks.get_mut()));
        }
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
        self.unpatch(addr, len);
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

    fn unpatch(&self, addr: u64, len: u64) {
        if self.patched.load(Ordering::Acquire)
            && let Some(end) = addr.checked_add(len)
        {
            self.patches.lock().restore(&self.inner, addr..end);
        }
    }

    fn populate(&self, addr: u64, len: u64) {
        self.inner.populate(addr, len);
    }

    fn huge(&self, addr: u64, len: u64) {
        self.inner.huge(addr, len);
    }

    fn least_part(&self) -> Option<u64> {
        self.inner.least_part()
    }

    fn stale(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut *self.stale.lock())
    }

    fn keep(&self) -> bool {
        self.give_to_origin().is_some()
    }

    fn check(&self) -> Result<()> {
        self.inner.check()
    }
}
