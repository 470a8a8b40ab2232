//! Address spaces: a stub process and the mapping work that waits for it.

use super::link::Link;
use super::operation::Operation;
use super::process::StubProcess;
use super::queue::{Queue, Work};
use crate::{
    AddressSpace, Event, Frames, HUGE_PAGE, MapSource, MemoryFile, PlatformError, Prot, Result,
};
use nix::errno::Errno;
use parking_lot::{Mutex, MutexGuard};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What all address spaces of a platform share.
#[derive(Debug)]
pub struct Shared {
    /// Holds guest memory.
    pub memory: Arc<MemoryFile>,
    /// Brings host descriptors into stubs.
    pub link: Link,
    /// They have the protection keys of [`super::keys`].
    pub keys: bool,
    /// Closing it ends the stubs that wait for that.
    pub _alive: Option<OwnedFd>,
    /// The code pages, mapped in every stub.
    pub _text: Frames,
}

/// How a back end makes a stub change its mappings.
pub trait Execute: Send {
    /// What it takes to do so, for example a stopped thread of the stub.
    type With<'a>;

    /// Executes the operations in order. After an error the stub is ended.
    fn execute(
        &mut self,
        shared: &Shared,
        with: Self::With<'_>,
        operations: &[Operation],
    ) -> Result<()>;
}

/// An address space. Lock order: `executor`, `queue`; an original's before its copy's.
#[derive(Debug)]
pub struct Space<X> {
    shared: Arc<Shared>,
    queue: Mutex<Queue>,
    /// Counts pushes to the queue.
    queued: AtomicU64,
    /// Value of `queued` up to which all operations are done.
    done: AtomicU64,
    /// Value of `queued` up to which operations are done or being executed. Changed with the queue locked.
    taken: AtomicU64,
    /// Value of `queued` up to which operations that wait have been found not to be due.
    waiting: AtomicU64,
    executor: Mutex<Executor<X>>,
    /// Errno of the first operation that the host refused, 0 for none.
    refused: AtomicU64,
    process: Arc<StubProcess>,
}

/// State of whoever executes operations in the stub.
#[derive(Debug)]
pub struct Executor<X> {
    /// The back end's own.
    pub own: X,
    /// Frames that a mapping which could not be removed may still reach; released with the stub.
    stranded: Vec<Frames>,
}

impl<X: Execute> Space<X> {
    /// Wraps a stub in which nothing is mapped.
    pub fn new(shared: Arc<Shared>, process: Arc<StubProcess>, own: X) -> Arc<Self> {
        Arc::new(Self::with_queue(shared, process, own, Queue::default()))
    }

    /// Wraps a stub that is a copy of this one's. Waiting operations have been executed before, and the
    /// caller keeps others from executing more.
    pub fn copy(&self, process: Arc<StubProcess>, own: X) -> Arc<Self> {
        let queue = self.queue.lock().for_copy(&[]);
        Arc::new(Self::with_queue(self.shared.clone(), process, own, queue))
    }

    fn with_queue(shared: Arc<Shared>, process: Arc<StubProcess>, own: X, queue: Queue) -> Self {
        Self {
            shared,
            queue: Mutex::new(queue),
            queued: AtomicU64::new(0),
            done: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            executor: Mutex::new(Executor { own, stranded: Vec::new() }),
            refused: AtomicU64::new(0),
            process,
        }
    }

    /// Host process id of the stub.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The stub.
    pub fn process(&self) -> &Arc<StubProcess> {
        &self.process
    }

    fn push<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock();
        // The queue's clock is `queued`: both change with the queue locked.
        let now = queue.tick();
        let result = change(&mut queue);
        self.queued.store(now, Ordering::Release);
        result
    }

    /// Whether nothing that was taken out of the queue is still being executed. To be asked with the queue locked.
    fn is_idle(&self) -> bool {
        self.done.load(Ordering::Acquire) == self.taken.load(Ordering::Relaxed)
    }

    /// Where mappings have been changed after a time on the queue's clock; `None` when that is not known any more.
    pub fn touched_since(&self, then: u64) -> Option<Vec<Range<u64>>> {
        self.queue.lock().touched_since(then)
    }

    /// Makes this stub, in which nobody runs, the copy of another one, but for ranges that are `stale`: the caller maps them
    /// anew. As for [`Space::copy`], what waits in the other one has been executed. Returns the time on the queue's
    /// clock; what waited here is never executed.
    pub fn renew(&self, like: &Self, stale: &[Range<u64>]) -> u64 {
        let _executor = self.executor.lock();
        self.replace_queue(like.queue.lock().for_copy(stale))
    }

    /// Lets a stub forget what waits, in which nobody runs.
    fn replace_queue(&self, mut queue: Queue) -> u64 {
        let _old = {
            let mut current = self.queue.lock();
            let now = self.queued.load(Ordering::Relaxed);
            for counter in [&self.done, &self.taken, &self.waiting] {
                counter.store(now, Ordering::Release);
            }
            queue.set_clock(now);
            // Dropped with the queue unlocked.
            std::mem::replace(&mut *current, queue)
        };
        self.queued.load(Ordering::Relaxed)
    }

    /// Empties a stub in which nobody runs, by `clear`.
    pub fn clear_by(&self, clear: impl FnOnce(&mut X) -> Result<()>) -> Result<()> {
        let mut executor = self.executor.lock();
        clear(&mut executor.own).inspect_err(|error| self.refuse(error))?;
        self.replace_queue(Queue::default());
        Ok(())
    }

    /// Whether the stub is as its memory manager believes.
    pub fn is_sound(&self) -> bool {
        self.refused.load(Ordering::Acquire) == 0
    }

    /// What all address spaces share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether operations wait to be executed.
    pub fn has_work(&self) -> bool {
        self.done.load(Ordering::Acquire) != self.queued.load(Ordering::Acquire)
    }

    /// Executes what waits.
    pub fn flush(&self, with: X::With<'_>) -> Result<()> {
        if !self.has_work() {
            return Ok(());
        }
        self.flush_locked(with).map(drop)
    }

    /// Executes what waits before guest code goes on, unless it can wait until the guest misses it. `faulted`: the sentry
    /// has put right what the guest has missed.
    pub fn flush_due(&self, with: X::With<'_>, faulted: bool) -> Result<()> {
        let queued = self.queued.load(Ordering::Acquire);
        if self.done.load(Ordering::Acquire) == queued {
            return Ok(());
        }
        if !faulted && self.waiting.load(Ordering::Acquire) == queued {
            return Ok(());
        }
        if !faulted {
            let mut queue = self.queue.lock();
            // While a mapping is being removed, guest code must not use what comes in its place.
            if self.is_idle() && !queue.is_due() {
                let queued = self.queued.load(Ordering::Relaxed);
                self.waiting.store(queued, Ordering::Release);
                return Ok(());
            }
        }
        self.flush_locked(with).map(drop)
    }

    /// Up to when everything that was queued has been executed, on the queue's clock. It stays so as long as the
    /// caller keeps others from executing more.
    pub fn executed(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Whether what guest code has done may be because it missed something that waits, or that another thread has got
    /// executed since `executed` was asked, before guest code went on.
    pub fn is_missed(&self, event: &Event, executed: u64) -> bool {
        let Event::Fault(fault) = event else { return false };
        if fault.signal != libc::SIGSEGV || self.queued.load(Ordering::Acquire) == executed {
            return false;
        }
        let mut queue = self.queue.lock();
        self.executed() != executed || !self.is_idle() || queue.is_missed(fault.addr)
    }

    /// Executes what waits, and keeps others from executing more until the guard is dropped.
    pub fn flush_locked(&self, with: X::With<'_>) -> Result<MutexGuard<'_, Executor<X>>> {
        let execute = |own: &mut X, operations: &[Operation]| match operations {
            [] => Ok(()),
            _ => own.execute(&self.shared, with, operations),
        };
        self.flush_by(execute).map(|((), executor)| executor)
    }

    /// Lets `execute` execute what waits, which may be nothing, together with something else.
    pub fn flush_by<T>(
        &self,
        execute: impl FnOnce(&mut X, &[Operation]) -> Result<T>,
    ) -> Result<(T, MutexGuard<'_, Executor<X>>)> {
        let mut executor = self.executor.lock();
        let (work, upto) = {
            let mut queue = self.queue.lock();
            let upto = self.queued.load(Ordering::Relaxed);
            self.taken.store(upto, Ordering::Relaxed);
            (queue.take(), upto)
        };
        let result = execute(&mut executor.own, &work.operations);
        let Work { operations, frames } = work;
        match result {
            Ok(done) => {
                self.done.store(upto, Ordering::Release);
                drop(operations);
                Frames::release_all(frames);
                Ok((done, executor))
            }
            Err(error) => {
                // Some mapping may be left that should be gone: nothing of this is reused before the
                // stub is.
                executor.stranded.extend(frames);
                executor.stranded.extend(operations.into_iter().filter_map(Operation::frames));
                self.refuse(&error);
                Err(error)
            }
        }
    }

    /// Ends the stub, which is not as the guest's memory manager believes.
    fn refuse(&self, error: &PlatformError) {
        let errno = match error {
            PlatformError::Host { source, .. } => *source as u64,
            _ => Errno::ESRCH as u64,
        };
        let _ = self.refused.compare_exchange(0, errno, Ordering::AcqRel, Ordering::Acquire);
        self.process.kill();
    }
}

/// What the host's refusal of mapping work is to the caller.
pub fn refused(error: Errno) -> PlatformError {
    PlatformError::host("change the mappings of a guest process", error)
}

impl<X: Execute> AddressSpace for Space<X> {
    fn map(&self, addr: u64, len: u64, prot: Prot, source: MapSource, replaced: Vec<Frames>) {
        if let Some(range) = range(addr, len) {
            self.push(|queue| queue.map(range, prot, source, replaced));
        }
    }

    fn unmap(&self, addr: u64, len: u64, frames: Vec<Frames>) {
        if let Some(range) = range(addr, len) {
            // Dropped with the queue unlocked.
            let unused = self.push(|queue| queue.unmap(range, frames, self.is_idle()));
            Frames::release_all(unused);
        }
    }

    fn protect(&self, addr: u64, len: u64, prot: Prot) {
        if let Some(range) = range(addr, len) {
            self.push(|queue| queue.protect(range, prot));
        }
    }

    fn populate(&self, addr: u64, len: u64) {
        if let Some(range) = range(addr, len) {
            self.push(|queue| queue.populate(range));
        }
    }

    fn huge(&self, addr: u64, len: u64) {
        if let Some(range) = range(addr, len) {
            self.push(|queue| queue.huge(range));
        }
    }

    fn least_part(&self) -> Option<u64> {
        self.shared.memory.is_huge().then_some(HUGE_PAGE)
    }

    fn check(&self) -> Result<()> {
        match self.refused.load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(refused(Errno::from_raw(errno as i32))),
        }
    }
}

/// The range, if it is one that guest memory may use: nothing else ever reaches a stub.
fn range(addr: u64, len: u64) -> Option<Range<u64>> {
    let guest = super::layout::GUEST;
    let end = addr.checked_add(len)?;
    (addr >= guest.start && end <= guest.end).then_some(addr..end)
}

impl<X> Drop for Space<X> {
    fn drop(&mut self) {
        // The stub goes first: after that no mapping can reach the frames dropped with the fields.
        self.process.end();
    }
}
