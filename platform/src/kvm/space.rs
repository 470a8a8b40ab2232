//! Address spaces: what is mapped, its page tables, and what waits to be flushed.
//!
//! Operations change areas and page tables at once. What vCPUs may still have cached is flushed before
//! the next guest code runs: until then frames, tables and windows that were in use are kept.
//!
//! Lock order: `flushing`, `state`.

use super::areas::{Areas, Source};
use super::arena::Page;
use super::machine::Machine;
use super::tables::{Exhausted, HUGE_SIZE, PageTables, entry};
use super::vcpu::Vcpu;
use super::window::Window;
use crate::stub::layout;
use crate::stub::mapped::MappedRanges;
use crate::{
    Access, AddressSpace, Fault, Frames, MapSource, PAGE_SIZE, PlatformError, Prot, Result,
};
use nix::errno::Errno;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bits of a page fault's error code.
const PF_PRESENT: u64 = 1;
const PF_WRITE: u64 = 2;
const PF_USER: u64 = 4;
const PF_RESERVED: u64 = 8;
const PF_FETCH: u64 = 16;
const PF_KEY: u64 = 32;

/// `SEGV_MAPERR`, `SEGV_ACCERR`, `SEGV_PKUERR`, `BUS_ADRERR`.
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const SEGV_PKUERR: i32 = 4;
const BUS_ADRERR: i32 = 2;

/// Least part of an area that is mapped as it comes into use, in bytes: a fault costs as much as some pages that the host
/// maps one by one.
const PART: u64 = 32 * PAGE_SIZE;

/// x86 trap number of a page fault.
const PAGE_FAULT: u64 = 14;

/// An address space.
#[derive(Debug)]
pub struct KvmSpace {
    machine: Arc<Machine>,
    /// Unlike any other's, also of those that are gone.
    id: u64,
    root: Page,
    /// Counts changes that vCPUs must not have cached the state before of.
    generation: AtomicU64,
    /// Counts operations, and those that have taken effect everywhere.
    queued: AtomicU64,
    done: AtomicU64,
    flushing: Mutex<()>,
    state: Mutex<State>,
    /// Errno of the first operation that was refused, 0 for none.
    refused: AtomicU32,
}

#[derive(Debug)]
struct State {
    areas: Areas,
    tables: PageTables,
    /// To be released after a flush.
    frames: Vec<Frames>,
    /// Windows that page tables or caches may refer to.
    windows: Vec<Arc<Window>>,
    /// Some window may not be in use any more.
    windows_changed: bool,
    /// Caches may have what page tables have no more.
    stale: bool,
    /// Where memory may come before it is used, and has not yet.
    ahead: MappedRanges,
    /// The host has refused a page before: each is asked for before it is mapped, on its own.
    exact: bool,
}

/// What is to be done about a page fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing, it is mapped now.
    Repaired,
    /// The guest is told.
    Raise(Fault),
    /// There is no memory for page tables.
    Exhausted,
}

impl KvmSpace {
    /// An empty address space.
    pub fn new(machine: Arc<Machine>) -> Result<Arc<Self>> {
        Self::with_areas(machine, Areas::default(), Vec::new(), false)
    }

    fn with_areas(
        machine: Arc<Machine>,
        areas: Areas,
        windows: Vec<Arc<Window>>,
        exact: bool,
    ) -> Result<Arc<Self>> {
        let tables = PageTables::new(machine.slots().arena(), Some(machine.kernel_tables()))
            .map_err(|Exhausted| PlatformError::host("allocate page tables", Errno::ENOMEM))?;
        let root = tables.root();
        let state = State {
            areas,
            tables,
            frames: Vec::new(),
            windows,
            windows_changed: false,
            stale: false,
            ahead: MappedRanges::default(),
            exact,
        };
        Ok(Arc::new(Self {
            id: machine.next_space(),
            machine,
            root,
            generation: AtomicU64::new(1),
            queued: AtomicU64::new(0),
            done: AtomicU64::new(0),
            flushing: Mutex::new(()),
            state: Mutex::new(state),
            refused: AtomicU32::new(0),
        }))
    }

    /// A copy: the same is mapped. The caller has flushed and lets nobody queue operations.
    pub fn copy(&self) -> Result<Arc<Self>> {
        let state = self.state.lock();
        let (areas, windows, exact) = (state.areas.clone(), state.windows.clone(), state.exact);
        drop(state);
        Self::with_areas(self.machine.clone(), areas, windows, exact)
    }

    /// The machine it lives in.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its page tables.
    pub fn root(&self) -> Page {
        self.root
    }

    /// What its mappings are at: a vCPU that has cached an earlier state must flush.
    pub fn generation(&self) -> &AtomicU64 {
        &self.generation
    }

    /// Whether the guest process is to be ended.
    pub fn is_dead(&self) -> bool {
        self.refused.load(Ordering::Acquire) != 0
    }

    /// Ends the guest process.
    pub fn kill(&self) {
        self.refuse(Errno::ESRCH);
    }

    fn refuse(&self, error: Errno) {
        let _ = self.refused.compare_exchange(0, error as u32, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Makes all operations so far take effect everywhere.
    pub fn flush(&self) -> Result<()> {
        if self.done.load(Ordering::Acquire) == self.queued.load(Ordering::Acquire) {
            return Ok(());
        }
        let _flushing = self.flushing.lock();
        let mut state = self.state.lock();
        let upto = self.queued.load(Ordering::Relaxed);
        let stale = std::mem::take(&mut state.stale);
        let frames = std::mem::take(&mut state.frames);
        let pages = state.tables.take_unlinked();
        let windows = take_unused_windows(&mut state);
        drop(state);
        if stale {
            // A vCPU that enters from now on sees the new generation; one that is in there is stopped.
            self.generation.fetch_add(1, Ordering::SeqCst);
            self.machine.flush(self.id);
        }
        self.machine.slots().arena().release(pages);
        Frames::release_all(frames);
        drop(windows);
        self.done.store(upto, Ordering::Release);
        self.check()
    }

    fn change(&self, addr: u64, len: u64, change: impl FnOnce(&mut State, Range<u64>)) {
        let Some(end) = addr.checked_add(len) else { return };
        let range = addr..end;
        let inside = layout::GUEST.start <= addr && end <= layout::GUEST.end;
        if inside && (addr | len).is_multiple_of(PAGE_SIZE) {
            let mut state = self.state.lock();
            change(&mut state, range);
            self.queued.fetch_add(1, Ordering::Release);
        }
    }

    /// Replaces windows through which a range of a host file cannot be written.
    fn make_writable(&self, state: &mut State, range: Range<u64>) {
        let files: Vec<_> = state
            .areas
            .within(range)
            .filter_map(|(part, prot, source)| match source {
                Source::File(window, at) if !window.is_writable() => Some((part, prot, window, at)),
                _ => None,
            })
            .collect();
        for (part, prot, window, at) in files {
            let file = window.file_offset(at);
            let wanted = file..file + (part.end - part.start);
            match self.machine.slots().window(window.fd(), wanted, true) {
                Ok(new) => {
                    let at = new.offset_of(file);
                    state.stale |= state.tables.clear(part.clone());
                    state.windows.push(new.clone());
                    state.windows_changed = true;
                    state.areas.insert(part, prot, Source::File(new, at));
                }
                Err(error) => self.refuse(error),
            }
        }
    }

    /// Maps the page that guest code wanted, and some of its neighbours.
    pub fn fault(&self, address: u64, error: u64) -> Outcome {
        let access = match error {
            _ if error & PF_FETCH != 0 => Access::Execute,
            _ if error & PF_WRITE != 0 => Access::Write,
            _ => Access::Read,
        };
        let raise = |signal, code, error| {
            let access = Some(access);
            Outcome::Raise(Fault { signal, code, addr: address, access, trap: PAGE_FAULT, error })
        };
        let page = address & !(PAGE_SIZE - 1);
        let mut state = self.state.lock();
        let Some((start, area)) = state.areas.find(page) else {
            return raise(libc::SIGSEGV, SEGV_MAPERR, error & !PF_PRESENT);
        };
        let allowed = match access {
            Access::Read => !area.prot.is_empty(),
            Access::Write => area.prot.contains(Prot::WRITE),
            Access::Execute => area.prot.contains(Prot::EXEC),
        };
        if !allowed {
            return raise(libc::SIGSEGV, SEGV_ACCERR, error | PF_PRESENT);
        }
        if error & PF_USER == 0 {
            // Not an access of user code's own, so no right of the page can help.
            return raise(libc::SIGSEGV, SEGV_ACCERR, error);
        }
        if error & PF_KEY != 0 {
            return raise(libc::SIGSEGV, SEGV_PKUERR, error);
        }
        if error & PF_RESERVED != 0 {
            // Page tables are not as we write them.
            return Outcome::Exhausted;
        }
        let source = area.source.skip(page - start);
        let ask = state.exact || matches!(source, Source::File(..));
        if ask && !self.has_page(&source) {
            return raise(libc::SIGBUS, BUS_ADRERR, error & !PF_PRESENT);
        }
        let filled = self.fill(&mut state, page).or_else(|error| {
            if error != Errno::ENOMEM {
                return Err(error);
            }
            // Out of tables: what can be cleared comes back once caches are flushed. Others of this
            // process fault and fill again.
            state.stale |= state.tables.clear(layout::GUEST);
            self.queued.fetch_add(1, Ordering::Release);
            drop(state);
            self.flush().map_err(|_| Errno::ENOMEM)?;
            let mut state = self.state.lock();
            self.fill(&mut state, page)
        });
        match filled {
            Ok(()) => Outcome::Repaired,
            Err(_) => Outcome::Exhausted,
        }
    }

    /// Brings what may come before it is used of the surroundings of an address where guest code has faulted, and has the
    /// host map it, so that the VM does not stop at each of its pages.
    pub fn bring_ahead(&self, address: u64, vcpu: &Vcpu) {
        let Some((frames, physical)) = self.take_ahead(address) else { return };
        let memory = self.machine.slots().memory().mapping();
        memory.populate(frames.offset()..frames.offset() + frames.len());
        vcpu.pre_fault(physical, frames.len());
    }

    /// Takes from what may come ahead the part around an address that page tables are filled with at once. Its frames
    /// are held, so that nothing comes for somebody else if they are given back meanwhile.
    fn take_ahead(&self, address: u64) -> Option<(Frames, u64)> {
        let mut state = self.state.lock();
        let base = address / HUGE_SIZE * HUGE_SIZE;
        let near = |part: &Range<u64>| part.contains(&address);
        let part = state.ahead.within(base..base + HUGE_SIZE).find(near)?;
        state.ahead.remove(part.clone());
        let (start, area) = state.areas.find(address)?;
        let (from, to) = (part.start.max(start), part.end.min(area.end));
        let Source::Memory(offset) = area.source.skip(from - start) else { return None };
        if state.exact || !area.prot.contains(Prot::WRITE) {
            return None;
        }
        let (physical, room) = self.machine.slots().physical(offset).ok()?;
        let len = (to - from).min(room);
        Some((self.machine.slots().memory().hold(offset..offset + len), physical))
    }

    /// Whether the host has, or can make, the page.
    fn has_page(&self, source: &Source) -> bool {
        match source {
            Source::Memory(offset) => {
                self.machine.slots().memory().mapping().load64(*offset).is_ok()
            }
            Source::File(window, offset) => window.has_page(*offset),
        }
    }

    /// Maps what the page and its neighbours have in their areas. Pages that are mapped already stay.
    fn fill(&self, state: &mut State, page: u64) -> Result<(), Errno> {
        let State { areas, tables, exact, .. } = state;
        let base = page / HUGE_SIZE * HUGE_SIZE;
        let range = if *exact { page..page + PAGE_SIZE } else { base..base + HUGE_SIZE };
        for (part, prot, source) in areas.within(range) {
            let mut at = part.start;
            while at < part.end {
                let (physical, room) = self.physical(&source.skip(at - part.start))?;
                let end = part.end.min(at.saturating_add(room));
                let Some(first) = entry(physical, prot) else { break };
                let huge = end - at == HUGE_SIZE
                    && physical.is_multiple_of(HUGE_SIZE)
                    && matches!(source, Source::Memory(_));
                if huge && tables.set_huge(at, first).map_err(|Exhausted| Errno::ENOMEM)? {
                    return Ok(());
                }
                tables.set_run(at..end, first).map_err(|Exhausted| Errno::ENOMEM)?;
                at = end;
            }
        }
        Ok(())
    }

    /// Guest-physical address, and how many bytes follow there.
    fn physical(&self, source: &Source) -> Result<(u64, u64), Errno> {
        match source {
            Source::Memory(offset) => self.machine.slots().physical(*offset),
            Source::File(window, offset) => Ok((window.physical(*offset)?, u64::MAX)),
        }
    }

    /// The host had no page for something that is mapped. All is mapped anew, page by page, so that the
    /// access that wants it shows itself.
    pub fn be_exact(&self) {
        let mut state = self.state.lock();
        state.exact = true;
        state.stale |= state.tables.clear(layout::GUEST);
        self.queued.fetch_add(1, Ordering::Release);
    }

    /// Reads an aligned word of guest memory, as the kernel would on the guest's behalf.
    pub fn word(&self, address: u64) -> Option<u64> {
        if !address.is_multiple_of(8) {
            return None;
        }
        let state = self.state.lock();
        let (start, area) = state.areas.find(address)?;
        if area.prot.is_empty() {
            return None;
        }
        match area.source.skip(address - start) {
            Source::Memory(offset) => self.machine.slots().memory().mapping().load64(offset).ok(),
            Source::File(window, offset) => window.word(offset),
        }
    }
}

/// Windows that no area shows any more; they must outlive the flush.
fn take_unused_windows(state: &mut State) -> Vec<Arc<Window>> {
    if !std::mem::take(&mut state.windows_changed) {
        return Vec::new();
    }
    let areas = &state.areas;
    let used = |window: &Arc<Window>| {
        areas.within(layout::GUEST).any(
            |(.., source)| matches!(source, Source::File(other, _) if Arc::ptr_eq(&other, window)),
        )
    };
    let (kept, unused) = std::mem::take(&mut state.windows).into_iter().partition(used);
    state.windows = kept;
    unused
}

impl AddressSpace for KvmSpace {
    fn map(&self, addr: u64, len: u64, prot: Prot, source: MapSource, replaced: Vec<Frames>) {
        let source = match source {
            MapSource::Frames(frames) if frames.len() >= len => Source::Memory(frames.offset()),
            MapSource::Frames(_) => return self.refuse(Errno::EINVAL),
            MapSource::HostFd(fd, offset) => {
                let Some(end) = offset.checked_add(len) else {
                    return self.refuse(Errno::EOVERFLOW);
                };
                let writable = prot.contains(Prot::WRITE);
                match self.machine.slots().window(&fd, offset..end, writable) {
                    Ok(window) => {
                        let at = window.offset_of(offset);
                        Source::File(window, at)
                    }
                    Err(error) => {
                        self.queued.fetch_add(1, Ordering::Release);
                        return self.refuse(error);
                    }
                }
            }
        };
        self.change(addr, len, |state, range| {
            state.frames.extend(replaced);
            if let Source::File(window, _) = &source
                && !state.windows.iter().any(|known| Arc::ptr_eq(known, window))
            {
                state.windows.push(window.clone());
            }
            state.windows_changed = !state.windows.is_empty();
            state.ahead.remove(range.clone());
            state.stale |= state.tables.clear(range.clone());
            state.areas.insert(range, prot, source);
        });
    }

    fn unmap(&self, addr: u64, len: u64, frames: Vec<Frames>) {
        self.change(addr, len, |state, range| {
            state.frames.extend(frames);
            state.windows_changed = !state.windows.is_empty();
            state.ahead.remove(range.clone());
            state.stale |= state.tables.clear(range.clone());
            state.areas.remove(range);
        });
    }

    fn protect(&self, addr: u64, len: u64, prot: Prot) {
        self.change(addr, len, |state, range| {
            state.areas.protect(range.clone(), prot);
            state.stale |= state.tables.protect(range.clone(), prot);
            if prot.contains(Prot::WRITE) {
                self.make_writable(state, range);
            }
        });
    }

    fn populate(&self, addr: u64, len: u64) {
        let end = addr.saturating_add(len).min(layout::GUEST.end);
        let parts: Vec<_> = {
            let state = self.state.lock();
            state.areas.within(addr.min(end)..end).collect()
        };
        for (part, prot, source) in parts {
            if let Source::Memory(offset) = source
                && prot.contains(Prot::WRITE)
            {
                let memory = self.machine.slots().memory();
                memory.mapping().populate(offset..offset + (part.end - part.start));
                // What is there now is mapped when the first of it is used.
                self.huge(part.start, part.end - part.start);
            }
        }
    }

    fn huge(&self, addr: u64, len: u64) {
        let range = addr..addr.saturating_add(len).min(layout::GUEST.end);
        if self.machine.pre_faults() && layout::GUEST.contains(&addr) {
            self.state.lock().ahead.insert(range);
        }
    }

    fn least_part(&self) -> Option<u64> {
        self.machine.pre_faults().then_some(PART)
    }

    fn check(&self) -> Result<()> {
        match self.refused.load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(crate::stub::space::refused(Errno::from_raw(errno as i32))),
        }
    }
}

impl Drop for KvmSpace {
    fn drop(&mut self) {
        // No context is left, so no vCPU runs guest code here. Tables go before frames and windows: their
        // entries are all that leads there.
        let state = self.state.get_mut();
        state.tables.clear(layout::GUEST);
    }
}
