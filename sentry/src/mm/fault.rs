//! Page faults: copy-on-write, pages that appear on first use, growing stacks.

use super::PAGE_SIZE;
use super::hot::HotPages;
use super::layout::STACK_GUARD_GAP;
use super::manager::{Edit, MemoryManager};
use super::runs::{Owner, Run};
use super::userfault::Outcome;
use super::vma::{Vma, VmaFlags};
use crate::errno::{Errno, Result};
use crate::fs::userfaultfd::Answer;
use platform::{Access, Fault, Frames, MapSource, Prot};

/// Bytes copied around a write to a page of a private mapping of a file that never changes.
const FILE_AROUND: u64 = 16 * PAGE_SIZE;
/// Bytes copied around a write to a page that is shared since a fork.
const FORK_AROUND: u64 = HotPages::WINDOW;
/// Least bytes by which a stack grows.
const STACK_WINDOW: u64 = 128 << 10;
/// How often one address may be mapped anew before the fault is believed.
const MAX_REMAPS: u32 = 4;

/// A signal to deliver for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultSignal {
    /// `SIGSEGV`, `SIGBUS`, or what the CPU raised.
    pub signo: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: u64,
    /// `si_pkey`, with `SEGV_PKUERR`.
    pub key: u8,
}

/// What a thread remembers from one fault to the next, so that a fault that cannot be put right is
/// not tried for ever. Starts as the default; kept by the thread's run loop.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultState {
    page: u64,
    generation: u64,
    remaps: u32,
}

/// Why an access is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// Nothing is mapped there (`SEGV_MAPERR`).
    NoMapping,
    /// The area does not permit it (`SEGV_ACCERR`).
    NoAccess,
    /// Behind the end of the mapped object (`BUS_ADRERR`).
    BeyondEnd,
    /// No memory is left.
    NoMemory,
}

/// What a fault needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fixed {
    /// Something was changed: the access can go on.
    Changed,
    /// The object was mapped again, as it was.
    Remapped,
    /// Everything was as it should be.
    Nothing,
}

impl MemoryManager {
    /// Puts right what made guest code fault, or says which signal it gets.
    ///
    /// Exceptions that do not concern memory come back as the signal they are.
    pub fn handle_fault(&self, fault: &Fault, state: &mut FaultState) -> Result<(), FaultSignal> {
        let key = match (fault.signal, fault.code) {
            (libc::SIGSEGV, SEGV_PKUERR) => self.key_at(fault.addr),
            _ => 0,
        };
        let pass = FaultSignal { signo: fault.signal, code: fault.code, addr: fault.addr, key };
        let memory = match fault.signal {
            // A general protection fault has no address: SI_KERNEL.
            libc::SIGSEGV => fault.code == SEGV_MAPERR || fault.code == SEGV_ACCERR,
            libc::SIGBUS => fault.code == BUS_ADRERR,
            _ => false,
        };
        if !memory {
            return Err(pass);
        }
        let access = match fault.access {
            // Not every platform knows; but of what may be read only a write is refused.
            None if fault.code == SEGV_ACCERR && self.is_guarded(fault.addr) => Some(Access::Write),
            known => known,
        };
        match self.answer(fault.addr, access, false) {
            Outcome::Ours => {}
            Outcome::Answered(Answer::Refused) => {
                return Err(FaultSignal { signo: libc::SIGBUS, code: BUS_ADRERR, ..pass });
            }
            Outcome::Answered(_) => return Ok(()),
        }
        let page = fault.addr & !(PAGE_SIZE - 1);
        let before = self.generation();
        let again = state.page == page && state.generation == before;
        let mut edit = self.edit();
        let fixed = edit.fix(fault.addr, access, fault.signal == libc::SIGBUS);
        drop(edit);
        let remaps = if state.page == page { state.remaps } else { 0 };
        *state = FaultState { page, generation: self.generation(), remaps };
        match fixed {
            Ok(Fixed::Changed) => Ok(()),
            Ok(Fixed::Remapped) if remaps < MAX_REMAPS => {
                state.remaps += 1;
                Ok(())
            }
            // Another thread may have put it right meanwhile: try once more, but only once.
            Ok(Fixed::Nothing) if !again => Ok(()),
            Ok(_) => Err(match fault.signal {
                libc::SIGBUS => pass,
                _ => FaultSignal { code: SEGV_ACCERR, ..pass },
            }),
            Err(denied) => Err(denied.signal(fault.addr)),
        }
    }

    /// Makes the page at `addr` accessible for the kernel's own copy. `EFAULT` if the guest itself
    /// could not access it.
    pub(super) fn fault_in(&self, addr: u64, write: bool) -> Result<()> {
        let access = if write { Access::Write } else { Access::Read };
        loop {
            match self.answer(addr, Some(access), true) {
                Outcome::Ours => break,
                Outcome::Answered(Answer::Retry) => {}
                Outcome::Answered(_) => return Err(Errno::EFAULT),
            }
        }
        self.edit().fix(addr, Some(access), false).map(|_| ()).map_err(|_| Errno::EFAULT)
    }
}

const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
pub const SEGV_PKUERR: i32 = 4;
const BUS_ADRERR: i32 = 2;

impl Denied {
    fn signal(self, addr: u64) -> FaultSignal {
        let (signo, code) = match self {
            Denied::NoMapping => (libc::SIGSEGV, SEGV_MAPERR),
            Denied::NoAccess => (libc::SIGSEGV, SEGV_ACCERR),
            Denied::BeyondEnd | Denied::NoMemory => (libc::SIGBUS, BUS_ADRERR),
        };
        FaultSignal { signo, code, addr, key: 0 }
    }
}

impl Edit<'_> {
    /// Makes the page at `addr` accessible. `access` is `None` when the platform cannot tell; then
    /// whatever the area permits and is not possible yet is made possible. `bus`: the stub has a
    /// mapping there, but nothing stands behind it.
    pub fn fix(&mut self, addr: u64, access: Option<Access>, bus: bool) -> Result<Fixed, Denied> {
        let vma = match self.state.vmas.find(addr) {
            Some(vma) => vma.clone(),
            None => self.grow_stack(addr)?,
        };
        let permitted = match access {
            Some(Access::Write) => vma.writable(),
            Some(Access::Execute) => vma.prot.contains(Prot::EXEC),
            // x86 cannot forbid reading of what may be written or executed.
            Some(Access::Read) | None => !vma.prot.is_empty(),
        };
        if !permitted {
            return Err(Denied::NoAccess);
        }
        let page = addr & !(PAGE_SIZE - 1);
        let may_write = vma.writable() && matches!(access, Some(Access::Write) | None);
        let Some((_, run)) = self.state.runs.find(page) else {
            if self.restore_touched(&vma, page) || self.misses(&vma) {
                return Ok(Fixed::Changed);
            }
            self.add_run(&vma, page)?;
            if access == Some(Access::Write)
                && matches!(self.owner_at(page), Some(Owner::Object { .. }))
                && vma.private()
            {
                self.copy_page(&vma, page, file_window(&vma))?;
            }
            return Ok(Fixed::Changed);
        };
        if run.guarded && access == Some(Access::Write) {
            // Only just: it will be asked who answers.
            return Ok(Fixed::Changed);
        }
        match run.owner {
            Owner::Mine => Ok(Fixed::Nothing),
            Owner::Cow if may_write => self.break_cow(&vma, page),
            Owner::Cow => Ok(Fixed::Nothing),
            Owner::Object { .. } if vma.private() && may_write && !bus => {
                self.copy_page(&vma, page, file_window(&vma))?;
                Ok(Fixed::Changed)
            }
            Owner::Object { write } => {
                let upgraded = may_write && !write;
                if !upgraded && !bus {
                    return Ok(Fixed::Nothing);
                }
                self.remap_object(&vma, page)?;
                Ok(if upgraded { Fixed::Changed } else { Fixed::Remapped })
            }
        }
    }

    fn owner_at(&self, page: u64) -> Option<Owner> {
        self.state.runs.find(page).map(|(_, run)| run.owner)
    }

    /// Maps something at a page that has no run yet.
    fn add_run(&mut self, vma: &Vma, page: u64) -> Result<(), Denied> {
        match &vma.backing {
            None => self.map_next_part(vma, page).map_err(|_| Denied::NoMemory),
            Some(_) => {
                // Only the gap: other pages of the area may have been copied.
                let gaps = self.state.runs.gaps(page, vma.end);
                let end = gaps.first().map_or(page + PAGE_SIZE, |&(_, end)| end);
                match self.populate_object(vma, page, end, Vec::new()) {
                    Ok(mapped) if mapped > page => Ok(()),
                    Ok(_) | Err(_) => Err(Denied::BeyondEnd),
                }
            }
        }
    }

    /// Asks the object again what stands behind a page, and maps that.
    fn remap_object(&mut self, vma: &Vma, page: u64) -> Result<(), Denied> {
        let Some((start, run)) = self.state.runs.find(page) else { return Ok(()) };
        let end = start.wrapping_add(run.len).min(vma.end);
        let mut replaced = Vec::new();
        for (_, run) in self.state.runs.remove(page, end) {
            run.into_frames(&mut replaced);
        }
        let mapped = self.populate_object(vma, page, end, replaced).unwrap_or(page);
        if mapped < end {
            self.mm.space.unmap(mapped, end - mapped, Vec::new());
        }
        if mapped > page { Ok(()) } else { Err(Denied::BeyondEnd) }
    }

    /// A write to a private page that may be shared since a fork.
    fn break_cow(&mut self, vma: &Vma, page: u64) -> Result<Fixed, Denied> {
        let Some((start, run)) = self.state.runs.find(page) else { return Ok(Fixed::Nothing) };
        let Some(frames) = run.frames() else { return Ok(Fixed::Nothing) };
        self.mm.hot.record(page);
        let low = start.max(vma.start);
        let high = start.wrapping_add(run.len).min(vma.end);
        if !frames.is_shared(low - start..high - start) {
            self.make_mine(vma, low, high);
            return Ok(Fixed::Changed);
        }
        let (from, to) = around(page, FORK_AROUND, low, high);
        if !frames.is_shared(from - start..to - start) {
            self.make_mine(vma, from, to);
            return Ok(Fixed::Changed);
        }
        self.copy_page(vma, page, FORK_AROUND)?;
        Ok(Fixed::Changed)
    }

    /// Pages that nobody shares any more can be written again.
    fn make_mine(&mut self, vma: &Vma, from: u64, to: u64) {
        for (_, run) in self.state.runs.range_mut(from, to) {
            run.owner = Owner::Mine;
            run.shadow = None;
        }
        match self.state.has_userfaults || vma.key != 0 {
            true => self.protect_runs(vma, from, to),
            false => self.mm.space.protect(from, to - from, vma.prot),
        }
        self.state.runs.join(to);
        self.state.runs.join(from);
    }

    /// Replaces the page at `page`, and some around it, by private copies.
    pub fn copy_page(&mut self, vma: &Vma, page: u64, window: u64) -> Result<(), Denied> {
        let Some((start, run)) = self.state.runs.find_mut(page) else { return Ok(()) };
        let low = start.max(vma.start);
        let high = start.wrapping_add(run.len).min(vma.end);
        let (from, to) = around(page, window, low, high);
        if run.shadow.is_none() {
            // Failing that, the chunk alone gets frames below.
            run.shadow = self.mm.memory.allocate(run.len).ok();
        }
        let mut replaced = Vec::new();
        for (at, mut run) in self.state.runs.remove(from, to) {
            let copy = match run.shadow.take() {
                Some(shadow) => Ok(shadow),
                None => self.mm.memory.allocate(run.len),
            };
            let copied = copy.ok().filter(|copy| copy_run(copy, &run).is_ok());
            let Some(copied) = copied else {
                self.state.runs.insert(at, run);
                return Err(Denied::NoMemory);
            };
            let guarded = run.guarded;
            run.into_frames(&mut replaced);
            let copy = Run { guarded, ..Run::private(copied) };
            self.map_run(at, copy, vma, std::mem::take(&mut replaced));
        }
        Ok(())
    }

    /// An access below a stack makes it grow (`expand_stack`). Returns the area as it is then.
    fn grow_stack(&mut self, addr: u64) -> Result<Vma, Denied> {
        let page = addr & !(PAGE_SIZE - 1);
        let vma = self.state.vmas.find_or_above(addr).ok_or(Denied::NoMapping)?.clone();
        if !vma.flags.contains(VmaFlags::GROWSDOWN) || page < self.state.layout.low {
            return Err(Denied::NoMapping);
        }
        let floor = match self.state.vmas.below(vma.start) {
            // A stack that cannot be touched guards itself.
            Some(below) if below.flags.contains(VmaFlags::GROWSDOWN) => below.end,
            Some(below) if below.prot.is_empty() => below.end,
            Some(below) => below.end.saturating_add(STACK_GUARD_GAP),
            None => self.state.layout.low,
        };
        let limits = &self.mm.limits;
        let lowest = floor.max(vma.end.saturating_sub(limits.stack() & !(PAGE_SIZE - 1)));
        if page < lowest {
            return Err(Denied::NoMapping);
        }
        let window = vma.len().max(STACK_WINDOW);
        let start = page.min(vma.start.saturating_sub(window)).max(lowest);
        let total = self.state.vmas.totals().total;
        if total.saturating_add(vma.start - start) > limits.address_space() {
            return Err(Denied::NoMapping);
        }
        self.state.vmas.grow_down(vma.start, start);
        let grown = Vma { start, ..vma.clone() };
        self.populate(&grown, start, vma.start).map_err(|_| Denied::NoMemory)?;
        Ok(grown)
    }
}

/// How many bytes to copy around a write to a private page: what may change must be seen until it is
/// written.
fn file_window(vma: &Vma) -> u64 {
    let changes = vma.backing.as_ref().is_some_and(|b| b.mappable.mappings().is_some());
    if changes { PAGE_SIZE } else { FILE_AROUND }
}

/// The window of `len` bytes that contains `page`, aligned to its size and cut to `[low, high)`.
fn around(page: u64, len: u64, low: u64, high: u64) -> (u64, u64) {
    let start = page / len * len;
    (start.max(low), start.saturating_add(len).min(high))
}

/// Fills fresh frames with the contents of a run of the same length.
fn copy_run(to: &Frames, run: &Run) -> Result<()> {
    match &run.source {
        MapSource::Frames(from) => copy_frames(to, from, run.len),
        MapSource::HostFd(fd, offset) => {
            use std::os::fd::AsFd;
            let mut done = 0;
            while done < run.len {
                let part = [(to, done..run.len)];
                let at = offset.wrapping_add(done);
                match platform::memory_file::read_from_fd(fd.as_fd(), &part, Some(at)) {
                    // The rest of the last page, and of the run, is zeroes.
                    Ok(0) => break,
                    Ok(n) => done += n as u64,
                    Err(platform::host::Errno::EINTR) => {}
                    Err(e) => return Err(crate::io::from_host(e)),
                }
            }
            Ok(())
        }
    }
}

/// Copies pages that hold storage; the others read as zeroes here and there.
fn copy_frames(to: &Frames, from: &Frames, len: u64) -> Result<()> {
    from.data(0..len).into_iter().try_for_each(|part| {
        let len = part.end - part.start;
        to.copy_from(part.start, from, part.start, len).map_err(|_| Errno::ENOMEM)
    })
}
