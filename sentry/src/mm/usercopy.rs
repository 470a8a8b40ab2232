//! Copies between the kernel and guest memory.
//!
//! A copy works on spans: stretches of guest addresses with one piece of the memory file (or of a host
//! file) behind them, looked up and used under the lock held for reading. What is not there yet is
//! faulted in as if the guest had touched it.

use super::manager::{MemoryManager, State};
use super::protect::Grows;
use super::runs::Owner;
use super::{PAGE_SIZE, UserAddr};
use crate::errno::{Errno, Result};
use platform::{Frames, MapSource, Prot};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// How often one page is faulted in for one copy. More than once only when another thread of the
/// guest keeps changing the mapping.
const MAX_FAULTS: u32 = 8;

/// What stands behind a span of guest addresses.
#[derive(Clone, Copy)]
pub(super) enum Memory<'a> {
    /// Frames, from an offset in bytes.
    Frames(&'a Frames, u64),
    /// A host file, from an offset in bytes.
    Host(&'a Arc<OwnedFd>, u64),
}

impl State {
    /// What stands behind `addr`, and for how many of `len` bytes. `None` if the access is not
    /// permitted or needs a fault first.
    pub fn resolve(&self, addr: u64, len: u64, write: bool) -> Option<(Memory<'_>, u64)> {
        let vma = self.vmas.find(addr)?;
        if vma.key != 0 && !self.keys.permit(vma.key, write) {
            return None;
        }
        if if write { !vma.writable() } else { vma.prot.is_empty() } {
            return None;
        }
        let (start, run) = self.runs.find(addr)?;
        let usable = match run.owner {
            Owner::Mine => true,
            Owner::Cow => !write,
            Owner::Object { write: writable } => !write || (writable && !vma.private()),
        };
        if !usable || write && run.guarded {
            return None;
        }
        let at = addr - start;
        let len = len.min(run.len - at).min(vma.end - addr);
        let memory = match &run.source {
            MapSource::Frames(frames) => Memory::Frames(frames, at),
            MapSource::HostFd(fd, offset) => Memory::Host(fd, offset.wrapping_add(at)),
        };
        Some((memory, len))
    }
}

impl MemoryManager {
    /// Calls `step(memory, len, done)` for the spans of `[addr, addr + len)`, in order; `done` counts
    /// the bytes before the span. Returns how many bytes were covered, and `EFAULT` or the error of a
    /// step if that are not all.
    pub(super) fn walk(
        &self,
        addr: u64,
        len: u64,
        write: bool,
        mut step: impl FnMut(Memory<'_>, u64, u64) -> Result<()>,
    ) -> (u64, Result<()>) {
        let (mut done, mut faults) = (0, 0);
        loop {
            {
                let state = self.read_state();
                while done < len {
                    let at = addr.wrapping_add(done);
                    let Some((memory, n)) = state.resolve(at, len - done, write) else { break };
                    if let Err(error) = step(memory, n, done) {
                        return (done, Err(error));
                    }
                    done += n;
                    faults = 0;
                }
            }
            if done >= len {
                return (done, Ok(()));
            }
            faults += 1;
            if faults > MAX_FAULTS {
                return (done, Err(Errno::EFAULT));
            }
            let Some(at) = addr.checked_add(done) else { return (done, Err(Errno::EFAULT)) };
            if let Err(error) = self.fault_in(at, write) {
                return (done, Err(error));
            }
        }
    }

    /// Copies guest memory in, as much as can be read. Returns the bytes copied.
    pub(super) fn read_part(&self, addr: u64, buf: &mut [u8]) -> (usize, Result<()>) {
        let (done, result) = self.walk(addr, buf.len() as u64, false, |memory, len, done| {
            let part = buf.get_mut(done as usize..(done + len) as usize).unwrap_or_default();
            match memory {
                Memory::Frames(frames, at) => frames.read(at, part).map_err(|_| Errno::EFAULT),
                Memory::Host(fd, at) => read_host_page(fd, at, part),
            }
        });
        (done as usize, result)
    }

    /// Copies to guest memory, as much as can be written. Returns the bytes copied.
    pub(super) fn write_part(&self, addr: u64, buf: &[u8]) -> (usize, Result<()>) {
        let (done, result) = self.walk(addr, buf.len() as u64, true, |memory, len, done| {
            let part = buf.get(done as usize..(done + len) as usize).unwrap_or_default();
            match memory {
                Memory::Frames(frames, at) => frames.write(at, part).map_err(|_| Errno::EFAULT),
                Memory::Host(fd, at) => write_host_page(fd.as_fd(), at, part),
            }
        });
        (done as usize, result)
    }

    /// Copies guest memory in. `EFAULT` if any byte cannot be read.
    pub fn read(&self, addr: UserAddr, buf: &mut [u8]) -> Result<()> {
        self.read_part(addr.0, buf).1
    }

    /// Copies to guest memory. `EFAULT` if any byte cannot be written; the bytes before it may have
    /// been.
    pub fn write(&self, addr: UserAddr, buf: &[u8]) -> Result<()> {
        self.write_part(addr.0, buf).1
    }

    /// As [`MemoryManager::write`], for a debugger: also where the program itself may not write, if that is
    /// private memory. Others see the page as it was or as it is then.
    pub fn write_forced(&self, addr: UserAddr, buf: &[u8]) -> Result<()> {
        match self.write(addr, buf) {
            Err(Errno::EFAULT) => {}
            other => return other,
        }
        let start = addr.0 & !(PAGE_SIZE - 1);
        let end = addr.0.checked_add(buf.len() as u64).ok_or(Errno::EFAULT)?;
        let areas: Vec<_> = {
            let mut areas = Vec::new();
            let mut at = start;
            while at < end {
                let area = self.maps_from(at).filter(|a| a.start <= at).ok_or(Errno::EFAULT)?;
                if area.shared {
                    return Err(Errno::EFAULT);
                }
                let to = area.end.min(end.next_multiple_of(PAGE_SIZE));
                areas.push((at, to - at, area.prot));
                at = to;
            }
            areas
        };
        for (at, len, prot) in &areas {
            self.mprotect(UserAddr(*at), *len, *prot | Prot::READ | Prot::WRITE, Grows::No)?;
        }
        let written = self.write(addr, buf);
        for (at, len, prot) in areas {
            self.mprotect(UserAddr(at), len, prot, Grows::No)?;
        }
        written
    }

    /// Writes `len` zero bytes. `EFAULT` if any byte cannot be written.
    pub fn zero(&self, addr: UserAddr, len: u64) -> Result<()> {
        let zeroes = [0u8; PAGE_SIZE as usize];
        let write = |fd: BorrowedFd<'_>, at: u64, len: u64| {
            let mut done = 0;
            while done < len {
                let n = (len - done).min(PAGE_SIZE);
                write_host_page(fd, at + done, zeroes.get(..n as usize).unwrap_or_default())?;
                done += n;
            }
            Ok(())
        };
        self.walk(addr.0, len, true, |memory, len, _| match memory {
            Memory::Frames(frames, at) => frames.zero(at, len).map_err(|_| Errno::EFAULT),
            Memory::Host(fd, at) => write(fd.as_fd(), at, len),
        })
        .1
    }

    /// Copies one ABI structure in.
    pub fn read_obj<T: FromBytes + IntoBytes + FromZeros>(&self, addr: UserAddr) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read(addr, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies one ABI structure out.
    pub fn write_obj<T: IntoBytes + Immutable>(&self, addr: UserAddr, value: &T) -> Result<()> {
        self.write(addr, value.as_bytes())
    }

    /// Copies a NUL-terminated string of at most `max` bytes (without the NUL) in. `ENAMETOOLONG` if
    /// it is longer.
    pub fn read_cstr(&self, addr: UserAddr, max: usize) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut chunk = [0u8; 256];
        let mut at = addr.0;
        while text.len() <= max {
            // Up to the end of the page: what follows may not be there, nor be needed.
            let page_rest = PAGE_SIZE - at % PAGE_SIZE;
            let want = (chunk.len() as u64).min(page_rest) as usize;
            let part = chunk.get_mut(..want).unwrap_or_default();
            self.read(UserAddr(at), part)?;
            if let Some(end) = part.iter().position(|&b| b == 0) {
                text.extend_from_slice(part.get(..end).unwrap_or_default());
                return if text.len() > max { Err(Errno::ENAMETOOLONG) } else { Ok(text) };
            }
            text.extend_from_slice(part);
            at = at.checked_add(want as u64).ok_or(Errno::EFAULT)?;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Touches every page of a range, as `MAP_POPULATE` does. `EFAULT` where it cannot.
    pub(super) fn populate_range(&self, addr: u64, len: u64, write: bool) -> Result<()> {
        self.edit().map_all_parts(addr, addr.saturating_add(len));
        // Pages of an object that the stub cannot write are not made there.
        let touched = {
            let state = self.read_state();
            let mut areas = state.vmas.overlapping(addr, addr.saturating_add(len));
            areas.any(|vma| vma.private() && vma.backing.is_some())
        };
        let (_, result) = self.walk(addr, len, write, |memory, len, _| {
            if let Memory::Frames(frames, at) = memory {
                let start = at & !(PAGE_SIZE - 1);
                let end = (at + len).next_multiple_of(PAGE_SIZE).min(frames.len());
                frames.commit(start..end).map_err(|_| Errno::ENOMEM)?;
                for page in (start..end).step_by(PAGE_SIZE as usize).filter(|_| touched) {
                    frames.read(page, &mut [0]).map_err(|_| Errno::ENOMEM)?;
                }
            }
            Ok(())
        });
        self.space.populate(addr & !(PAGE_SIZE - 1), len.next_multiple_of(PAGE_SIZE));
        result
    }
}

/// Reads from a mapped host file. The rest of its last page is zeroes, behind that is nothing.
pub(super) fn read_host_page(fd: &Arc<OwnedFd>, at: u64, buf: &mut [u8]) -> Result<()> {
    if super::windows::read(fd, at, buf) {
        return Ok(());
    }
    let fd = fd.as_fd();
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let position = at.wrapping_add(done as u64);
        match platform::host::io::read(fd, rest, Some(position)) {
            Ok(0) => {
                let zeroes = (position.next_multiple_of(PAGE_SIZE) - position) as usize;
                if rest.len() > zeroes {
                    return Err(Errno::EFAULT);
                }
                rest.fill(0);
                return Ok(());
            }
            Ok(n) => done += n,
            Err(platform::host::Errno::EINTR) => {}
            Err(_) => return Err(Errno::EFAULT),
        }
    }
    Ok(())
}

/// Writes to a mapped host file. What lies behind its end, in its last page, is lost; the file does
/// not grow.
fn write_host_page(fd: BorrowedFd<'_>, at: u64, buf: &[u8]) -> Result<()> {
    let size = platform::host::file::fstat(fd).map_err(crate::io::from_host)?.st_size as u64;
    let end = at.saturating_add(buf.len() as u64);
    if end > size.next_multiple_of(PAGE_SIZE) {
        return Err(Errno::EFAULT);
    }
    let keep = (size.min(end)).saturating_sub(at) as usize;
    let mut done = 0;
    while let Some(rest) = buf.get(done..keep).filter(|rest| !rest.is_empty()) {
        match platform::host::io::write(fd, rest, Some(at.wrapping_add(done as u64))) {
            Ok(0) => return Err(Errno::EFAULT),
            Ok(n) => done += n,
            Err(platform::host::Errno::EINTR) => {}
            Err(_) => return Err(Errno::EFAULT),
        }
    }
    Ok(())
}
