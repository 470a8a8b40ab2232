//! The memory manager of a guest process.

use super::ahead::Ahead;
use super::hot::HotPages;
use super::keys::Keys;
use super::layout::Layout;
use super::runs::{Run, Runs};
use super::vma::{Vma, VmaFlags, VmaName, VmaTree};
use super::{ExecInfo, Limits, PAGE_SIZE, UserAddr};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, ReadGuard, RwLock, WriteGuard, rank};
use platform::{
    AddressSpace, Frames, Interrupter, MapSource, MemoryFile, PendingContext, Platform, Prot,
};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Memory of a guest process (`mm_struct`).
///
/// The last reference must be dropped with no lock held: that releases files and ends the stub.
pub struct MemoryManager {
    pub(super) id: u64,
    pub(super) memory: Arc<MemoryFile>,
    pub(super) space: Arc<dyn AddressSpace>,
    pub(super) addresses: Range<u64>,
    pub(super) limits: Limits,
    generation: AtomicU64,
    /// What is written after a fork; shared by all that descend from one program by forks.
    pub(super) hot: Arc<HotPages>,
    pub(super) membarrier: AtomicU64,
    /// What may not become executable (`PR_SET_MDWE`).
    pub(super) mdwe: AtomicU32,
    pub(super) keys: Arc<Keys>,
    myself: Weak<MemoryManager>,
    /// Who may run guest code in it; some may have ended.
    pub(super) threads: Mutex<Vec<Weak<dyn Interrupter>>, { rank::LEAF }>,
    state: RwLock<State, { rank::MM }>,
}

/// What the lock protects.
pub(super) struct State {
    pub vmas: VmaTree,
    pub keys: Arc<Keys>,
    pub runs: Runs,
    /// Frames for pages that are missed so that a program can answer; see [`super::userfault`].
    pub withheld: Runs,
    /// Some area's faults have been answered by a program.
    pub has_userfaults: bool,
    pub layout: Layout,
    pub brk: Brk,
    /// Frames kept for the growth of the main stack; their end precedes the stack's first frame.
    pub stack_spare: Option<Frames>,
    /// What is known of the areas that the stub gets in parts.
    pub ahead: Ahead,
    /// New mappings are locked (`MCL_FUTURE`).
    pub lock_future: bool,
    pub exec: Arc<ExecInfo>,
}

/// The heap.
#[derive(Default)]
pub(super) struct Brk {
    /// Where it starts (`mm->start_brk`).
    pub start: u64,
    /// The program break, as the guest set it (not rounded).
    pub end: u64,
    /// Frames kept for its growth; they follow the heap's last frame.
    pub spare: Option<Frames>,
}

impl MemoryManager {
    /// An empty address space and the context of its first thread. Addresses are random unless
    /// `randomize` is false (`ADDR_NO_RANDOMIZE`).
    pub fn new(
        platform: &dyn Platform,
        memory: &Arc<MemoryFile>,
        limits: Limits,
        randomize: bool,
    ) -> Result<(Arc<MemoryManager>, Box<dyn PendingContext>)> {
        let (space, pending) = platform.new_address_space().map_err(|error| {
            tracing::warn!(%error, "cannot make an address space");
            Errno::ENOMEM
        })?;
        let addresses = platform.user_addresses();
        let layout = Layout::new(addresses.clone(), limits.stack(), randomize);
        let keys = Arc::new(Keys::new(platform.has_protection_keys()));
        let state = State {
            keys: keys.clone(),
            vmas: VmaTree::default(),
            runs: Runs::default(),
            withheld: Runs::default(),
            has_userfaults: false,
            layout,
            brk: Brk::default(),
            stack_spare: None,
            ahead: Ahead::default(),
            lock_future: false,
            exec: Arc::default(),
        };
        let hot = Arc::default();
        Ok((Self::assemble(space, memory.clone(), addresses, limits, hot, keys, state), pending))
    }

    /// Puts the parts together under a new id.
    pub(super) fn assemble(
        space: Arc<dyn AddressSpace>,
        memory: Arc<MemoryFile>,
        addresses: Range<u64>,
        limits: Limits,
        hot: Arc<HotPages>,
        keys: Arc<Keys>,
        state: State,
    ) -> Arc<MemoryManager> {
        Arc::new_cyclic(|myself| MemoryManager {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            memory,
            space,
            addresses,
            limits,
            generation: AtomicU64::new(0),
            hot,
            membarrier: AtomicU64::new(0),
            mdwe: AtomicU32::new(0),
            keys,
            myself: myself.clone(),
            threads: Mutex::default(),
            state: RwLock::new(state),
        })
    }

    /// Lets go of it. If that was the last reference, its files are released now, its stub and its
    /// memory soon: no guest thread is left that could tell. To be called with no lock held.
    pub fn end(self: Arc<Self>) {
        let Some(this) = Arc::into_inner(self) else { return };
        let vmas = std::mem::take(&mut this.state.write().vmas);
        drop(vmas);
        // Then it has mapped what is needed again before it runs guest code again.
        let _kept = this.space.keep();
        platform::reaper::later(move || {
            let runs = std::mem::take(&mut this.state.write().runs);
            // The stub goes first, unless it is kept: then nothing reaches the pages any more.
            drop(this);
            Frames::recycle_all(runs.into_private());
        });
    }

    /// Never reused; names the address space in futex keys.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Itself, as tables of others refer to it.
    pub(super) fn this(&self) -> Weak<MemoryManager> {
        self.myself.clone()
    }

    /// The platform's side.
    pub fn address_space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Where guest memory comes from.
    pub fn memory_file(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    /// Limits that mappings are checked against. The kernel keeps them equal to the process's.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// One past the highest address a guest may use.
    pub fn task_size(&self) -> u64 {
        self.addresses.end
    }

    /// What `execve(2)` recorded of the program.
    pub fn exec_info(&self) -> Arc<ExecInfo> {
        self.state.read().exec.clone()
    }

    /// Replaces what is recorded of the program (`execve(2)`, `PR_SET_MM`).
    pub fn set_exec_info(&self, info: ExecInfo) {
        let mut new = Arc::new(info);
        std::mem::swap(&mut self.state.write().exec, &mut new);
        // The old record may hold the last reference to a file: it goes with no lock held.
    }

    /// True if every byte of a range is mapped.
    pub fn is_mapped(&self, addr: UserAddr, len: u64) -> bool {
        addr.0.checked_add(len).is_some_and(|end| self.state.read().vmas.covers(addr.0, end))
    }

    /// Notes a registration of `membarrier(2)`.
    pub fn register_membarrier(&self, command: u64) {
        self.membarrier.fetch_or(command, Ordering::Relaxed);
    }

    /// Registrations of `membarrier(2)` so far, a command's bit each.
    pub fn membarrier_registrations(&self) -> u64 {
        self.membarrier.load(Ordering::Relaxed)
    }

    /// Counts changes of the memory map.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn read_state(&self) -> ReadGuard<'_, State> {
        self.state.read()
    }

    /// Starts a change of the memory map.
    pub(super) fn edit(&self) -> Edit<'_> {
        let state = self.state.write();
        self.generation.fetch_add(1, Ordering::AcqRel);
        Edit { state, removed: Vec::new(), mm: self }
    }

    /// Checks that `[addr, addr + len)` is page-aligned and lies in user addresses; rounds `len` up.
    /// Returns the end. `EINVAL`, `ENOMEM` as the caller wants them.
    pub(super) fn page_range(&self, addr: u64, len: u64, outside: Errno) -> Result<u64> {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(outside)?;
        let end = addr.checked_add(len).ok_or(outside)?;
        if end > self.addresses.end {
            return Err(outside);
        }
        Ok(end)
    }
}

/// A change of the memory map: the state, locked, and what goes when it is unlocked.
pub(super) struct Edit<'a> {
    // Order matters: fields are dropped in this order, and files are released after the lock.
    pub state: WriteGuard<'a, State>,
    pub removed: Vec<Vma>,
    pub mm: &'a MemoryManager,
}

impl Edit<'_> {
    /// Frames for `[start, start + len)`: next to the neighbours' frames, if possible, so that the
    /// host sees one mapping.
    pub fn allocate(&self, start: u64, len: u64) -> Result<Frames> {
        let (memory, runs) = (&self.mm.memory, &self.state.runs);
        let below = start
            .checked_sub(1)
            .and_then(|addr| runs.find(addr))
            .filter(|(from, run)| from.wrapping_add(run.len) == start)
            .and_then(|(_, run)| run.frames());
        if let Some(next) = below.and_then(|frames| memory.allocate_after(frames, len)) {
            return Ok(next);
        }
        let above = runs.find(start.wrapping_add(len)).and_then(|(_, run)| run.frames());
        if let Some(before) = above.and_then(|frames| memory.allocate_before(frames, len)) {
            return Ok(before);
        }
        memory.allocate(len).map_err(|_| Errno::ENOMEM)
    }

    /// Maps a run in the stub with the rights that `vma` gives it, and notes it. There is no other
    /// run at its addresses; `replaced` are the frames mapped there before.
    pub fn map_run(&mut self, start: u64, run: Run, vma: &Vma, replaced: Vec<Frames>) {
        let prot = self.stub_prot(vma, &run);
        self.mm.space.map(start, run.len, prot, run.source.clone(), replaced);
        self.state.runs.insert(start, run);
    }

    /// Gives memory to the parts of `[start, end)` of an area that have none, if the area has rights.
    /// For files, what lies behind the end stays unmapped.
    pub fn populate(&mut self, vma: &Vma, start: u64, end: u64) -> Result<()> {
        if vma.prot.is_empty() || self.misses(vma) {
            return Ok(());
        }
        for (from, to) in self.state.runs.gaps(start, end) {
            match &vma.backing {
                None if self.in_parts(vma, to - from) => self.map_first_part(vma, from, to)?,
                None => {
                    let frames = match self.take_spare(vma, from, to) {
                        Some(frames) => frames,
                        None => match self.allocate(from, to - from) {
                            Ok(frames) => frames,
                            // More than the memory file can hold: pages get frames as they fault.
                            Err(_) if to - from >= Self::LAZY_FROM => continue,
                            Err(error) => return Err(error),
                        },
                    };
                    self.map_run(from, Run::private(frames), vma, Vec::new());
                }
                Some(_) => match self.populate_object(vma, from, to, Vec::new()) {
                    // A page for which there is no room is missed only when it is touched.
                    Ok(_) | Err(Errno::ENOSPC) => {}
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// An anonymous area as large as this may have more addresses than there are frames.
    const LAZY_FROM: u64 = 64 << 30;

    /// Frames that were set aside for the growth of the heap or of the stack.
    fn take_spare(&mut self, vma: &Vma, from: u64, to: u64) -> Option<Frames> {
        let len = to - from;
        match vma.name {
            VmaName::Heap => {
                let spare = self.state.brk.spare.take()?;
                if spare.len() < len || !self.continues(from, &spare) {
                    return None;
                }
                let (frames, rest) = spare.split_at(len);
                self.state.brk.spare = (!rest.is_empty()).then_some(rest);
                Some(frames)
            }
            VmaName::Stack if vma.flags.contains(VmaFlags::GROWSDOWN) => {
                let spare = self.state.stack_spare.take()?;
                if spare.len() < len {
                    return None;
                }
                let (rest, frames) = {
                    let at = spare.len() - len;
                    spare.split_at(at)
                };
                self.state.stack_spare = (!rest.is_empty()).then_some(rest);
                Some(frames)
            }
            _ => None,
        }
    }

    /// True if nothing lies below `addr`, or something whose frames `next` continues.
    pub(super) fn continues(&self, addr: u64, next: &Frames) -> bool {
        let below = addr.checked_sub(1).and_then(|a| self.state.runs.find(a));
        match below.and_then(|(_, run)| run.frames()) {
            Some(frames) => frames.offset().checked_add(frames.len()) == Some(next.offset()),
            None => true,
        }
    }

    /// Maps what backs `[from, to)` of an area with an object; `replaced` are the frames mapped there
    /// before. Returns where the mapped part ends.
    pub fn populate_object(
        &mut self,
        vma: &Vma,
        from: u64,
        to: u64,
        mut replaced: Vec<Frames>,
    ) -> Result<u64> {
        let Some(backing) = vma.backing.clone() else { return Ok(from) };
        let write = !vma.private() && vma.writable();
        let mut at = from;
        let mut outcome = Ok(());
        while at < to {
            let (len, source) = match backing.mappable.translate(vma.offset_of(at), to - at, write)
            {
                Ok(Some(translated)) => translated,
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            let len = checked_source(&source, len).min(to - at);
            if len == 0 {
                break;
            }
            let source = shortened(source, len);
            self.map_run(at, Run::object(len, source, write), vma, std::mem::take(&mut replaced));
            at += len;
        }
        if at < to && !replaced.is_empty() {
            self.mm.space.unmap(at, to - at, replaced);
        }
        outcome.map(|()| at)
    }

    /// Removes everything in `[start, end)`. Locked or sealed areas are the caller's concern.
    pub fn unmap(&mut self, start: u64, end: u64) {
        let vmas = self.state.vmas.remove(start, end);
        if vmas.is_empty() {
            return;
        }
        self.removed.extend(vmas);
        let mut frames = Vec::new();
        for (_, run) in self.state.runs.remove(start, end) {
            run.into_frames(&mut frames);
        }
        for (_, run) in self.state.withheld.remove(start, end) {
            run.into_frames(&mut frames);
        }
        self.mm.space.unmap(start, end - start, frames);
    }

    /// Sets the stub's rights for all runs in `[start, end)` of an area to what they should be.
    pub fn protect_runs(&mut self, vma: &Vma, start: u64, end: u64) {
        let mut pending: Option<(u64, u64, Prot)> = None;
        for (from, run) in self.state.runs.overlapping(start, end) {
            let to = from.wrapping_add(run.len).min(end);
            let from = from.max(start);
            let prot = self.stub_prot(vma, run);
            match &mut pending {
                Some((_, last, same)) if *last == from && *same == prot => *last = to,
                _ => {
                    if let Some((a, b, p)) = pending.replace((from, to, prot)) {
                        self.mm.space.protect(a, b - a, p);
                    }
                }
            }
        }
        if let Some((a, b, p)) = pending {
            self.mm.space.protect(a, b - a, p);
        }
    }
}

/// How many bytes of a translation are usable: never more than the frames have.
fn checked_source(source: &MapSource, len: u64) -> u64 {
    let len = len & !(PAGE_SIZE - 1);
    match source {
        MapSource::Frames(frames) => len.min(frames.len()),
        MapSource::HostFd(..) => len,
    }
}

/// The source with its frames cut to `len` bytes.
fn shortened(source: MapSource, len: u64) -> MapSource {
    match source {
        MapSource::Frames(frames) if frames.len() > len => {
            MapSource::Frames(frames.split_at(len).0)
        }
        other => other,
    }
}
