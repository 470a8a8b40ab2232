//! Changing rights and sealing: `mprotect(2)` and `mseal(2)`.

use super::UserAddr;
use super::manager::{Edit, MemoryManager};
use super::runs::Owner;
use super::vma::{Vma, VmaFlags};
use crate::errno::{Errno, Result};
use platform::{GUEST_KEYS, Prot};
use std::sync::atomic::Ordering;

bitflags::bitflags! {
    /// What memory may not become executable (`PR_SET_MDWE`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Mdwe: u32 {
        /// None that is or was writable.
        const REFUSE_EXEC_GAIN = 1;
        /// That does not hold for children and the next program.
        const NO_INHERIT = 2;
    }
}

/// Which way a stack area extends the range of `mprotect(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grows {
    /// Not at all.
    No,
    /// `PROT_GROWSDOWN`: down to the start of the area.
    Down,
    /// `PROT_GROWSUP`: there are no such areas on x86.
    Up,
}

impl MemoryManager {
    /// Changes the rights of a range. `ENOMEM` if a part is not mapped (what comes before it has been
    /// changed), `EACCES` if an area does not permit them, `EINVAL` for a misaligned address or a
    /// wrong [`Grows`].
    pub fn mprotect(&self, addr: UserAddr, len: u64, prot: Prot, grows: Grows) -> Result<()> {
        self.protect(addr, len, prot, None, grows)
    }

    /// As [`MemoryManager::mprotect`], and gives the areas a protection key; `EINVAL` for one that is not allocated.
    pub fn pkey_mprotect(
        &self,
        addr: UserAddr,
        len: u64,
        prot: Prot,
        key: i32,
        grows: Grows,
    ) -> Result<()> {
        self.protect(addr, len, prot, Some(key), grows)
    }

    fn protect(
        &self,
        addr: UserAddr,
        len: u64,
        prot: Prot,
        key: Option<i32>,
        grows: Grows,
    ) -> Result<()> {
        if len == 0 && addr.0.is_multiple_of(super::PAGE_SIZE) {
            return Ok(());
        }
        let end = self.page_range(addr.0, len, Errno::ENOMEM)?;
        let mut start = addr.0;
        let mut edit = self.edit();
        let key = match key {
            Some(key) => {
                self.check_key(key)?;
                Some(key as u8)
            }
            None => None,
        };
        let first = edit.state.vmas.find_or_above(start).ok_or(Errno::ENOMEM)?;
        match grows {
            Grows::No if first.start > start => return Err(Errno::ENOMEM),
            Grows::No => {}
            Grows::Down if first.start >= end => return Err(Errno::ENOMEM),
            Grows::Down if !first.flags.contains(VmaFlags::GROWSDOWN) => {
                return Err(Errno::EINVAL);
            }
            Grows::Down => start = first.start,
            Grows::Up => return Err(Errno::EINVAL),
        }
        edit.check_sealed(start, end)?;
        let mut at = start;
        for part in edit.state.vmas.parts(start, end) {
            if part.start > at {
                return Err(Errno::ENOMEM);
            }
            at = part.end;
            if !part.max_prot.contains(prot) {
                return Err(Errno::EACCES);
            }
            self.check_gain(part.prot, prot)?;
            let key = key.unwrap_or_else(|| self.implied_key(part.key, prot));
            edit.protect(part, prot, key)?;
        }
        if at < end { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// What was asked for with `PR_SET_MDWE`.
    pub fn mdwe(&self) -> Mdwe {
        Mdwe::from_bits_retain(self.mdwe.load(Ordering::Relaxed))
    }

    /// `PR_SET_MDWE`: `EPERM` to change what has been asked for.
    pub fn set_mdwe(&self, mdwe: Mdwe) -> Result<()> {
        let change =
            self.mdwe.compare_exchange(0, mdwe.bits(), Ordering::Relaxed, Ordering::Relaxed);
        change.map(drop).or_else(|old| if old == mdwe.bits() { Ok(()) } else { Err(Errno::EPERM) })
    }

    /// What the memory of another program, that a new process or program comes from, leaves to this one.
    pub fn inherit_mdwe(&self, from: &MemoryManager) {
        let mdwe = from.mdwe();
        if !mdwe.contains(Mdwe::NO_INHERIT) {
            self.mdwe.store(mdwe.bits(), Ordering::Relaxed);
        }
    }

    /// `EACCES` where memory may not become executable that was or is writable.
    pub(super) fn check_gain(&self, old: Prot, new: Prot) -> Result<()> {
        let gains =
            new.contains(Prot::EXEC) && (new.contains(Prot::WRITE) || !old.contains(Prot::EXEC));
        let refused = gains && self.mdwe().contains(Mdwe::REFUSE_EXEC_GAIN);
        if refused { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// Seals a range against any change (`mseal(2)`). `ENOMEM` if a part is not mapped.
    pub fn mseal(&self, addr: UserAddr, len: u64) -> Result<()> {
        let end = self.page_range(addr.0, len, Errno::EINVAL)?;
        if end == addr.0 {
            return Ok(());
        }
        let mut edit = self.edit();
        if !edit.state.vmas.covers(addr.0, end) {
            return Err(Errno::ENOMEM);
        }
        edit.state.vmas.update(addr.0, end, |vma| vma.flags |= VmaFlags::SEALED);
        Ok(())
    }
}

impl Edit<'_> {
    /// Gives a part of an area new rights.
    fn protect(&mut self, mut part: Vma, prot: Prot, key: u8) -> Result<()> {
        if part.prot == prot && part.key == key {
            return Ok(());
        }
        let was_data = part.is_data();
        let old_key = part.key;
        (part.prot, part.key) = (prot, key);
        if part.is_data() && !was_data {
            let data = self.state.vmas.totals().data;
            if data.saturating_add(part.len()) > self.mm.limits.data() {
                return Err(Errno::ENOMEM);
            }
        }
        let (start, end) = (part.start, part.end);
        self.state.vmas.update(start, end, |vma| (vma.prot, vma.key) = (prot, key));
        if !part.private() && prot.contains(Prot::WRITE) {
            self.upgrade_objects(&part);
        }
        if key == 0 && GUEST_KEYS.contains(&old_key) {
            self.take_key(&part);
        }
        self.protect_runs(&part, start, end);
        self.populate(&part, start, end)
    }

    /// Gives what the stub has of an area key 0, which it does not get by rights without a word about keys.
    fn take_key(&self, part: &Vma) {
        for (at, run) in self.state.runs.overlapping(part.start, part.end) {
            let (from, to) = (at.max(part.start), at.wrapping_add(run.len).min(part.end));
            self.mm.space.protect(from, to - from, self.stub_prot(part, run).with_key(0));
        }
    }

    /// Maps shared objects again that were only translated for reading.
    fn upgrade_objects(&mut self, part: &Vma) {
        let read_only: Vec<(u64, u64)> = self
            .state
            .runs
            .overlapping(part.start, part.end)
            .filter(|(_, run)| run.owner == Owner::Object { write: false })
            .map(|(at, run)| (at.max(part.start), at.wrapping_add(run.len).min(part.end)))
            .collect();
        for (from, to) in read_only {
            let mut replaced = Vec::new();
            for (_, run) in self.state.runs.remove(from, to) {
                run.into_frames(&mut replaced);
            }
            // Where the object refuses, the pages stay without a run, and a fault reports it.
            let mapped = self.populate_object(part, from, to, replaced).unwrap_or(from);
            if mapped < to {
                self.mm.space.unmap(mapped, to - mapped, Vec::new());
            }
        }
    }
}
