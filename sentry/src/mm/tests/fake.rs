//! A platform without a CPU: it notes what would be mapped, and a "guest" that uses it.

use crate::mm::{FaultSignal, FaultState, Limits, MemoryManager, PAGE_SIZE};
use parking_lot::Mutex;
use platform::{
    Access, AddressSpace, Context, Event, Fault, Frames, Interrupter, MapSource, MemoryFile,
    PendingContext, Platform, Prot, Registers, Result, XState,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pages that the stub would have mapped.
#[derive(Default)]
pub struct Space {
    pages: Mutex<BTreeMap<u64, (Prot, Frames)>>,
    stale: Mutex<Vec<Range<u64>>>,
}

impl AddressSpace for Space {
    fn map(&self, addr: u64, len: u64, prot: Prot, source: MapSource, replaced: Vec<Frames>) {
        let MapSource::Frames(frames) = source else { panic!("no host files here") };
        assert_eq!(frames.len(), len);
        self.unmap(addr, len, Vec::new());
        self.pages.lock().insert(addr, (prot, frames));
        drop(replaced);
    }

    fn unmap(&self, addr: u64, len: u64, frames: Vec<Frames>) {
        self.split(addr);
        self.split(addr + len);
        self.pages.lock().retain(|&at, _| at < addr || at >= addr + len);
        drop(frames);
    }

    fn protect(&self, addr: u64, len: u64, prot: Prot) {
        self.split(addr);
        self.split(addr + len);
        for (_, page) in self.pages.lock().range_mut(addr..addr + len) {
            page.0 = prot;
        }
    }

    fn populate(&self, _: u64, _: u64) {}

    fn least_part(&self) -> Option<u64> {
        Some(4 * PAGE_SIZE)
    }

    fn stale(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut *self.stale.lock())
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl Space {
    /// A copy that is right except in some ranges, others each time, as one that was used before is.
    fn copy(&self) -> Space {
        static COPIES: AtomicUsize = AtomicUsize::new(0);
        let count = COPIES.fetch_add(1, Ordering::Relaxed);
        let mut pages = self.pages.lock().clone();
        let mut stale = Vec::new();
        for (index, (&start, (prot, frames))) in pages.iter_mut().enumerate() {
            if (index + count).is_multiple_of(3) {
                *prot = Prot::empty();
                stale.push(start..start + frames.len());
            }
        }
        for range in stale.iter().step_by(2) {
            pages.remove(&range.start);
        }
        Space { pages: Mutex::new(pages), stale: Mutex::new(stale) }
    }

    fn split(&self, at: u64) {
        let mut pages = self.pages.lock();
        let Some((&start, (prot, frames))) = pages.range(..at).next_back() else { return };
        if start + frames.len() <= at {
            return;
        }
        let (prot, len) = (*prot, frames.len());
        let low = frames.slice(0..at - start).unwrap();
        let high = frames.slice(at - start..len).unwrap();
        pages.insert(start, (prot, low));
        pages.insert(at, (prot, high));
    }

    fn find(&self, addr: u64) -> Option<(Prot, Frames, u64)> {
        let pages = self.pages.lock();
        let (&start, (prot, frames)) = pages.range(..=addr).next_back()?;
        let at = addr - start;
        (at < frames.len()).then(|| {
            let page = at & !(PAGE_SIZE - 1);
            (*prot, frames.slice(page..page + PAGE_SIZE).unwrap(), at % PAGE_SIZE)
        })
    }
}

/// The platform.
pub struct Nothing;

impl Platform for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }
    fn user_addresses(&self) -> Range<u64> {
        0x1_0000..0x7fff_ffff_f000
    }
    fn new_address_space(&self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        Ok((Arc::new(Space::default()), Box::new(Idle(Arc::default()))))
    }
}

struct Idle(Arc<Space>);

impl PendingContext for Idle {
    fn attach(self: Box<Self>) -> Result<Box<dyn Context>> {
        Ok(self)
    }
}

impl Interrupter for Idle {
    fn interrupt(&self) {}
}

impl Context for Idle {
    fn switch(&mut self, _: &mut Registers) -> Result<Event> {
        Ok(Event::Interrupted)
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    fn new_thread(&mut self) -> Result<Box<dyn PendingContext>> {
        Ok(Box::new(Idle(self.0.clone())))
    }
    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        let space = Arc::new(self.0.copy());
        *LAST_FORK.lock() = Some(space.clone());
        Ok((space.clone(), Box::new(Idle(space))))
    }
    fn xstate(&mut self) -> Result<XState> {
        Ok(XState { bytes: Box::default() })
    }
    fn set_xstate(&mut self, _: &XState) -> Result<()> {
        Ok(())
    }
    fn interrupter(&self) -> Arc<dyn Interrupter> {
        Arc::new(Idle(self.0.clone()))
    }
    fn address_space(&self) -> Arc<dyn AddressSpace> {
        self.0.clone()
    }
    fn set_blocked(&mut self, _: bool) {}
}

static LAST_FORK: Mutex<Option<Arc<Space>>> = Mutex::new(None);
static ONE_FORK: Mutex<()> = Mutex::new(());

/// A process on the fake platform.
pub struct Machine {
    pub mm: Arc<MemoryManager>,
    memory: Arc<MemoryFile>,
    space: Arc<Space>,
    /// Alternates between telling the kind of access and not, as platforms differ.
    tell: Cell<bool>,
}

impl Machine {
    pub fn new() -> Machine {
        let memory = MemoryFile::new().unwrap();
        Self::with_memory(memory)
    }

    fn with_memory(memory: Arc<MemoryFile>) -> Machine {
        let space = Arc::new(Space::default());
        let limits = Limits::default();
        let (mm, _) = MemoryManager::new(&Given(space.clone()), &memory, limits, true).unwrap();
        Machine { mm, memory, space, tell: Cell::new(false) }
    }

    pub fn fork(&mut self) -> Machine {
        let _one = ONE_FORK.lock();
        let mut context = Idle(self.space.clone());
        let (mm, _) = self.mm.fork(&mut context).unwrap();
        drop(context);
        let space = LAST_FORK.lock().take().unwrap();
        Machine { mm, memory: self.memory.clone(), space, tell: Cell::new(false) }
    }

    pub fn committed(&self) -> u64 {
        self.memory.committed_bytes().unwrap()
    }

    /// Pages that the stub has mapped.
    pub fn mapped_pages(&self) -> u64 {
        self.space.pages.lock().values().map(|(_, frames)| frames.len() / PAGE_SIZE).sum()
    }

    /// Mappings as the host would count them: neighbours in address and file are one.
    pub fn space_runs(&self) -> usize {
        let pages = self.space.pages.lock();
        let mut runs = 0;
        let mut last: Option<(u64, u64, Prot)> = None;
        for (&at, (prot, frames)) in pages.iter() {
            if last != Some((at, frames.offset(), *prot)) {
                runs += 1;
            }
            last = Some((at + frames.len(), frames.offset() + frames.len(), *prot));
        }
        runs
    }

    /// The guest reads a byte.
    pub fn load(&self, addr: u64) -> Result<u8, FaultSignal> {
        let (frames, at) = self.touch(addr, Access::Read)?;
        let mut byte = [0];
        frames.read(at, &mut byte).unwrap();
        Ok(byte[0])
    }

    /// The guest writes a byte.
    pub fn store(&self, addr: u64, value: u8) -> Result<(), FaultSignal> {
        let (frames, at) = self.touch(addr, Access::Write)?;
        frames.write(at, &[value]).unwrap();
        Ok(())
    }

    fn touch(&self, addr: u64, access: Access) -> Result<(Frames, u64), FaultSignal> {
        let need = if access == Access::Write { Prot::WRITE } else { Prot::READ };
        let mut state = FaultState::default();
        self.tell.set(!self.tell.get());
        for _ in 0..10 {
            let found = self.space.find(addr);
            let code = match found {
                Some((prot, frames, at)) if prot.contains(need) => return Ok((frames, at)),
                Some(_) => 2,
                None => 1,
            };
            let fault = Fault {
                signal: libc::SIGSEGV,
                code,
                addr,
                access: self.tell.get().then_some(access),
                trap: 14,
                error: 0,
            };
            self.mm.handle_fault(&fault, &mut state)?;
        }
        panic!("the same fault for ever at {addr:#x}");
    }
}

/// A platform whose next address space is known.
struct Given(Arc<Space>);

impl Platform for Given {
    fn name(&self) -> &'static str {
        Nothing.name()
    }
    fn user_addresses(&self) -> Range<u64> {
        Nothing.user_addresses()
    }
    fn new_address_space(&self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        Ok((self.0.clone(), Box::new(Idle(self.0.clone()))))
    }
}

/// Repeatable random numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}
