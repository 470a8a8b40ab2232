//! Address spaces: a stub process and the mapping work that waits for it.

use super::inject;
use super::tracee::Tracee;
use crate::stub::batch::{BatchPages, CAPACITY, Plan, is_hint};
use crate::stub::code::Entries;
use crate::stub::link::Link;
use crate::stub::process::StubProcess;
use crate::stub::queue::{Operation, Queue, Work};
use crate::{AddressSpace, Frames, MapSource, MemoryFile, PlatformError, Prot, Result};
use nix::errno::Errno;
use parking_lot::{Mutex, MutexGuard};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// From this many operations on, a list costs fewer stops than one call each.
const BATCH_FROM: usize = 4;

/// What all address spaces of a platform share.
#[derive(Debug)]
pub struct Shared {
    /// Holds guest memory.
    pub memory: Arc<MemoryFile>,
    /// Brings host descriptors into stubs.
    pub link: Link,
    /// Closing it ends the stubs that are not traced.
    pub _alive: OwnedFd,
    /// The code page, mapped in every stub.
    pub _text: Frames,
}

/// An address space. Lock order: `executor`, `queue`.
#[derive(Debug)]
pub struct Space {
    shared: Arc<Shared>,
    queue: Mutex<Queue>,
    /// Counts pushes to the queue.
    queued: AtomicU64,
    /// Value of `queued` up to which all operations are done.
    done: AtomicU64,
    executor: Mutex<Executor>,
    /// Errno of the first operation that the host refused, 0 for none.
    refused: AtomicU64,
    process: Arc<StubProcess>,
}

/// State of whoever executes operations in the stub.
#[derive(Debug, Default)]
pub struct Executor {
    pages: Option<BatchPages>,
    /// Frames that a mapping which could not be removed may still reach; released with the stub.
    stranded: Vec<Frames>,
}

impl Space {
    /// Wraps a stub in which nothing is mapped.
    pub fn new(shared: Arc<Shared>, process: Arc<StubProcess>) -> Arc<Self> {
        Arc::new(Self::with_queue(shared, process, Queue::default()))
    }

    /// Wraps a stub that is a copy of this one's.
    pub fn copy(&self, process: Arc<StubProcess>) -> Arc<Self> {
        let queue = self.queue.lock().for_copy();
        Arc::new(Self::with_queue(self.shared.clone(), process, queue))
    }

    fn with_queue(shared: Arc<Shared>, process: Arc<StubProcess>, queue: Queue) -> Self {
        Self {
            shared,
            queue: Mutex::new(queue),
            queued: AtomicU64::new(0),
            done: AtomicU64::new(0),
            executor: Mutex::new(Executor::default()),
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

    fn push(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        change(&mut queue);
        self.queued.fetch_add(1, Ordering::Release);
    }

    /// The memory file behind guest memory.
    pub fn memory(&self) -> &Arc<MemoryFile> {
        &self.shared.memory
    }

    /// Whether operations wait to be executed.
    pub fn has_work(&self) -> bool {
        self.done.load(Ordering::Acquire) != self.queued.load(Ordering::Acquire)
    }

    /// Executes what waits, in a stopped thread of the stub.
    pub fn flush(&self, tracee: &Tracee, interrupted: &mut bool) -> Result<()> {
        if !self.has_work() {
            return Ok(());
        }
        self.flush_locked(tracee, interrupted).map(drop)
    }

    /// Executes what waits, and keeps others from executing more until the guard is dropped.
    pub fn flush_locked(
        &self,
        tracee: &Tracee,
        interrupted: &mut bool,
    ) -> Result<MutexGuard<'_, Executor>> {
        let mut executor = self.executor.lock();
        let (work, upto) = {
            let mut queue = self.queue.lock();
            (queue.take(), self.queued.load(Ordering::Relaxed))
        };
        let result = executor.execute(&self.shared, tracee, &work.operations, interrupted);
        let Work { operations, frames } = work;
        match result {
            Ok(()) => {
                self.done.store(upto, Ordering::Release);
                drop(operations);
                Frames::release_all(frames);
                Ok(executor)
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

impl Executor {
    fn execute(
        &mut self,
        shared: &Shared,
        tracee: &Tracee,
        operations: &[Operation],
        interrupted: &mut bool,
    ) -> Result<()> {
        let needs_list =
            |op: &Operation| matches!(op, Operation::Map { source: MapSource::HostFd(..), .. });
        if operations.len() < BATCH_FROM && !operations.iter().any(needs_list) {
            for operation in operations {
                let mut plan = Plan::default();
                plan.add(operation);
                for call in &plan.calls {
                    match inject::syscall(tracee, Entries::STUB, call, interrupted)? {
                        Err(error) if !is_hint(call) => return Err(refused(error)),
                        _ => {}
                    }
                }
            }
            return Ok(());
        }
        let mut rest = operations;
        while !rest.is_empty() {
            let mut plan = Plan::default();
            let pages = match self.pages.take() {
                Some(pages) => pages,
                None => {
                    let pages = BatchPages::new(&shared.memory)?;
                    inject::syscall(tracee, Entries::STUB, &pages.map_call(), interrupted)?
                        .map_err(refused)?;
                    plan.calls.extend(BatchPages::setup_calls());
                    pages
                }
            };
            let pages = self.pages.insert(pages);
            const { assert!(CAPACITY > 8) };
            while let Some((first, others)) = rest.split_first() {
                if !plan.add(first) {
                    break;
                }
                rest = others;
            }
            pages.write(&plan.calls, plan.descriptors.len())?;
            let transfer = (!plan.descriptors.is_empty()).then(|| shared.link.begin());
            for fd in &plan.descriptors {
                if let Some(transfer) = &transfer {
                    transfer
                        .send(*fd)
                        .map_err(|e| PlatformError::host("send a file descriptor to a stub", e))?;
                }
            }
            let mut next = 0;
            while let Err((failed, error)) =
                inject::batch(tracee, next, plan.calls.len(), interrupted)?
            {
                if !plan.calls.get(failed).is_some_and(is_hint) {
                    return Err(refused(error));
                }
                next = failed + 1;
            }
        }
        Ok(())
    }
}

fn refused(error: Errno) -> PlatformError {
    PlatformError::host("change the mappings of a guest process", error)
}

impl AddressSpace for Space {
    fn map(&self, addr: u64, len: u64, prot: Prot, source: MapSource, replaced: Vec<Frames>) {
        if let Some(range) = range(addr, len) {
            self.push(|queue| queue.map(range, prot, source, replaced));
        }
    }

    fn unmap(&self, addr: u64, len: u64, frames: Vec<Frames>) {
        if let Some(range) = range(addr, len) {
            self.push(|queue| queue.unmap(range, frames));
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

    fn check(&self) -> Result<()> {
        match self.refused.load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(refused(Errno::from_raw(errno as i32))),
        }
    }
}

/// The range, if it is one that guest memory may use: nothing else ever reaches a stub.
fn range(addr: u64, len: u64) -> Option<Range<u64>> {
    let guest = crate::stub::layout::GUEST;
    let end = addr.checked_add(len)?;
    (addr >= guest.start && end <= guest.end).then_some(addr..end)
}

impl Drop for Space {
    fn drop(&mut self) {
        // The stub goes first: after that no mapping can reach the frames dropped with the fields.
        self.process.end();
    }
}
