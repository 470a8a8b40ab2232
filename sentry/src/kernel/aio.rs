//! Asynchronous I/O contexts (`io_setup(2)`): the ring of completions that programs read themselves, and
//! polls that are under way.
//!
//! Reads, writes and syncs are done when they are submitted, as Linux does those that need no device.

use crate::errno::{Errno, Result};
use crate::fs::eventfd::EventFd;
use crate::mm::{Backing, MapFlags, MapRequest, MemoryManager, PAGE_SIZE, SharedMemory, UserAddr};
use crate::sync::{Mutex, rank};
use crate::vfs::File;
use crate::wait::{EventMask, WaitKey, WaitQueue, Waker};
use platform::Prot;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// First bytes of a ring that libraries read without a system call.
const MAGIC: u32 = 0xa10a_10a1;
/// Size of the ring's head and of an event.
const UNIT: u64 = 32;
/// Offset of the head's index in the ring.
const HEAD: u64 = 8;
/// Offset of the tail's index.
const TAIL: u64 = 12;
/// Largest ring, in bytes.
const MAX_BYTES: u64 = 0x1000_0000;

/// A completion (`struct io_event`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct IoEvent {
    /// The request's own data.
    pub data: u64,
    /// Address of the request.
    pub obj: u64,
    /// Result: bytes, events, or a negated error number.
    pub res: i64,
    /// Unused.
    pub res2: i64,
}

/// The contexts of a sandbox.
pub struct Aio {
    contexts: Mutex<FxHashMap<(usize, u64), Arc<Context>>, { rank::LEAF }>,
    /// `fs.aio-max-nr`.
    pub max_nr: AtomicU64,
}

impl Default for Aio {
    fn default() -> Self {
        Self { contexts: Mutex::default(), max_nr: AtomicU64::new(65_536) }
    }
}

impl Aio {
    /// Requests that all contexts together may have under way (`fs.aio-nr`).
    pub fn nr(&self) -> u64 {
        let contexts = self.contexts.lock();
        contexts.values().filter(|c| c.mm.strong_count() > 0).map(|c| c.max_reqs).sum()
    }

    /// Makes a context for `nr` requests. `EINVAL` for none or far too many, `EAGAIN` beyond `fs.aio-max-nr`.
    pub fn create(&self, mm: &Arc<MemoryManager>, nr: u32, cpus: u32) -> Result<Arc<Context>> {
        if nr == 0 {
            return Err(Errno::EINVAL);
        }
        let max = self.max_nr.load(Ordering::Relaxed);
        let slots = u64::from(nr).max(u64::from(cpus) * 4) * 2;
        if slots > MAX_BYTES / UNIT {
            return Err(Errno::EINVAL);
        }
        if u64::from(nr) > max || self.nr() + u64::from(nr) > max {
            return Err(Errno::EAGAIN);
        }
        let bytes = ((slots + 2) * UNIT + UNIT).next_multiple_of(PAGE_SIZE);
        let slots = (bytes - UNIT) / UNIT;
        let memory = SharedMemory::new(mm.memory_file(), bytes)?;
        let rights = Prot::READ | Prot::WRITE;
        let mut request = MapRequest::anonymous(0, bytes, rights, MapFlags::empty());
        request.shared = true;
        request.backing = Some(Backing { mappable: Arc::new(memory), file: None, offset: 0 });
        let ring = mm.mmap(request)?;
        let head = [0_u32, slots as u32, 0, 0, MAGIC, 1, 0, UNIT as u32];
        mm.write_obj(ring, &head)?;
        let context = Arc::new(Context {
            mm: Arc::downgrade(mm),
            ring,
            bytes,
            slots: slots as u32,
            max_reqs: u64::from(nr),
            state: Mutex::new(State { tail: 0, polls: Vec::new() }),
            dead: AtomicBool::new(false),
            queue: WaitQueue::new(),
        });
        self.prune();
        let old = self.contexts.lock().insert(key(mm, ring), context.clone());
        drop(old);
        Ok(context)
    }

    /// Forgets the contexts of programs that have ended. No lock may be held.
    pub fn prune(&self) {
        let mut contexts = self.contexts.lock();
        if contexts.is_empty() {
            return;
        }
        let gone: Vec<_> = contexts.extract_if(|_, c| c.mm.strong_count() == 0).collect();
        drop(contexts);
        for (_, context) in &gone {
            context.end();
        }
    }

    /// The context that a program knows by the address of its ring. `EINVAL`.
    pub fn find(&self, mm: &Arc<MemoryManager>, id: UserAddr) -> Result<Arc<Context>> {
        let contexts = self.contexts.lock();
        let found = contexts.get(&key(mm, id)).filter(|c| c.is_of(mm)).cloned();
        drop(contexts);
        found.ok_or(Errno::EINVAL)
    }

    /// Ends a context: nothing completes any more, and its ring is unmapped. `EINVAL`.
    pub fn destroy(&self, mm: &Arc<MemoryManager>, id: UserAddr) -> Result<()> {
        let context = self.find(mm, id)?;
        if self.contexts.lock().remove(&key(mm, id)).is_none() {
            return Err(Errno::EINVAL);
        }
        context.end();
        // A program that has unmapped it already has done no harm.
        let _ = mm.munmap(context.ring, context.bytes);
        Ok(())
    }
}

fn key(mm: &Arc<MemoryManager>, ring: UserAddr) -> (usize, u64) {
    (Arc::as_ptr(mm) as usize, ring.0)
}

/// An asynchronous I/O context.
pub struct Context {
    mm: Weak<MemoryManager>,
    ring: UserAddr,
    bytes: u64,
    slots: u32,
    max_reqs: u64,
    state: Mutex<State, { rank::INODE }>,
    dead: AtomicBool,
    /// Completions are announced here.
    pub queue: WaitQueue,
}

struct State {
    tail: u32,
    polls: Vec<Arc<Poll>>,
}

/// What a completion does besides.
#[derive(Clone, Default)]
pub struct Completion {
    /// The request's own data.
    pub data: u64,
    /// Address of the request.
    pub obj: u64,
    /// `IOCB_FLAG_RESFD`: an event counter to add 1 to.
    pub counter: Option<Arc<File>>,
}

impl Context {
    fn is_of(&self, mm: &Arc<MemoryManager>) -> bool {
        std::ptr::eq(self.mm.as_ptr(), Arc::as_ptr(mm))
    }

    fn end(&self) {
        self.dead.store(true, Ordering::SeqCst);
        let polls = std::mem::take(&mut self.state.lock().polls);
        for poll in &polls {
            poll.unregister();
        }
        self.queue.notify(EventMask::all());
    }

    /// What programs know it by.
    pub fn id(&self) -> UserAddr {
        self.ring
    }

    /// Most requests that one call can submit.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// True once it has been destroyed.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn at(&self, offset: u64) -> UserAddr {
        UserAddr(self.ring.0 + offset)
    }

    /// The head as the program may have moved it.
    fn head(&self, mm: &MemoryManager) -> u32 {
        mm.read_obj::<u32>(self.at(HEAD)).unwrap_or(0) % self.slots
    }

    fn waiting(&self, mm: &MemoryManager, tail: u32) -> u32 {
        (tail + self.slots - self.head(mm)) % self.slots
    }

    /// True when one more request may be submitted: there is room for its completion.
    pub fn has_room(&self, mm: &MemoryManager) -> bool {
        let state = self.state.lock();
        self.waiting(mm, state.tail) as usize + state.polls.len() < self.slots as usize - 1
    }

    /// Adds a completion to the ring and tells who waits.
    pub fn complete(&self, completion: &Completion, res: i64) {
        let Some(mm) = self.mm.upgrade() else { return };
        {
            let mut state = self.state.lock();
            // The ring is unmapped once this lock has been free after the end: something else may be there then.
            if self.is_dead() {
                return;
            }
            self.put(&mm, &mut state, completion, res);
        }
        if let Some(counter) = completion.counter.as_ref().and_then(|f| f.ops_as::<EventFd>()) {
            counter.signal(1);
        }
        self.queue.notify(EventMask::READABLE);
    }

    fn put(&self, mm: &MemoryManager, state: &mut State, c: &Completion, res: i64) {
        let event = IoEvent { data: c.data, obj: c.obj, res, res2: 0 };
        // As with any memory that it shares, a program that has taken the ring away has itself to blame.
        let _ = mm.write_obj(self.at(UNIT * (1 + u64::from(state.tail))), &event);
        state.tail = (state.tail + 1) % self.slots;
        let _ = mm.write_obj(self.at(TAIL), &state.tail);
    }

    /// Takes up to `max` completions and stores them at `to`. `EFAULT` if the first cannot be stored, `EINVAL` once the
    /// context has been destroyed.
    pub fn take(&self, mm: &MemoryManager, to: UserAddr, max: u64) -> Result<u64> {
        let state = self.state.lock();
        if self.is_dead() {
            return Err(Errno::EINVAL);
        }
        let mut head = self.head(mm);
        let mut done = 0;
        while done < max && head != state.tail {
            let event: IoEvent = mm.read_obj(self.at(UNIT * (1 + u64::from(head))))?;
            let stored = mm.write_obj(UserAddr(to.0.wrapping_add(done * UNIT)), &event);
            match stored {
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
                Ok(()) => {}
            }
            head = (head + 1) % self.slots;
            done += 1;
        }
        mm.write_obj(self.at(HEAD), &head)?;
        Ok(done)
    }

    /// Starts a poll (`IOCB_CMD_POLL`) that completes once.
    pub fn poll(self: &Arc<Self>, file: &Arc<File>, events: EventMask, completion: Completion) {
        let poll = Arc::new_cyclic(|this| Poll {
            this: this.clone(),
            context: Arc::downgrade(self),
            file: file.clone(),
            events,
            completion,
            fired: AtomicBool::new(false),
            announced: AtomicU32::new(0),
            registration: Mutex::new(None),
        });
        self.state.lock().polls.push(poll.clone());
        if let Some(queue) = file.ops().wait_queue() {
            let waker: Arc<dyn Waker> = poll.clone();
            *poll.registration.lock() = Some(queue.add(events, waker));
        }
        poll.look();
    }

    /// Cancels a poll (`io_cancel(2)`), which completes without events. `EINVAL` if there is none.
    pub fn cancel(&self, obj: UserAddr) -> Result<()> {
        let poll = {
            let mut state = self.state.lock();
            let at = state.polls.iter().position(|p| p.completion.obj == obj.0);
            at.map(|i| state.polls.swap_remove(i)).ok_or(Errno::EINVAL)?
        };
        poll.unregister();
        self.complete(&poll.completion, 0);
        Ok(())
    }
}

/// A poll that is under way.
struct Poll {
    this: Weak<Poll>,
    context: Weak<Context>,
    file: Arc<File>,
    events: EventMask,
    completion: Completion,
    /// A look at the file is due.
    fired: AtomicBool,
    /// Everything that was announced: as in Linux a poll that had to wait tells of it, asked for or not.
    announced: AtomicU32,
    registration: Mutex<Option<WaitKey>, { rank::LEAF }>,
}

impl Poll {
    fn unregister(&self) {
        let key = self.registration.lock().take();
        if let (Some(key), Some(queue)) = (key, self.file.ops().wait_queue()) {
            queue.remove(key);
        }
    }

    /// Completes if the file is ready. No lock may be held.
    fn look(&self) {
        self.fired.store(false, Ordering::SeqCst);
        let (ready, Some(context)) = (self.file.poll() & self.events, self.context.upgrade())
        else {
            return;
        };
        if ready.is_empty() {
            return;
        }
        let found = {
            let mut state = context.state.lock();
            let at = state.polls.iter().position(|p| std::ptr::eq(&**p, self));
            at.map(|i| state.polls.swap_remove(i))
        };
        if found.is_some() {
            self.unregister();
            let announced = self.announced.load(Ordering::SeqCst);
            let told = if announced == 0 { ready.bits() } else { announced };
            context.complete(&self.completion, i64::from(told));
        }
    }
}

impl Waker for Poll {
    fn wake(&self, events: EventMask) {
        if !events.intersects(self.events) {
            return;
        }
        self.announced.fetch_or(events.bits(), Ordering::SeqCst);
        if self.fired.swap(true, Ordering::SeqCst) {
            return;
        }
        let Some(poll) = self.this.upgrade() else { return };
        // Whoever notifies may hold locks; the ring is guest memory.
        if let Err(e) = platform::workers::spawn(move || poll.look()) {
            tracing::warn!("a thread to complete an asynchronous poll from: {e}; it stays pending");
            self.fired.store(false, Ordering::SeqCst);
        }
    }
}
