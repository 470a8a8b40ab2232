//! Guest buffers as the ends of file operations: [`UserSink`] and [`UserSource`].

use super::UserAddr;
use super::manager::{MemoryManager, State};
use super::usercopy::Memory;
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source, from_host};
use platform::Frames;
use platform::memory_file::{read_from_fd, write_to_fd};
use std::ops::Range;
use std::os::fd::BorrowedFd;

/// Most buffers of one call (`IOV_MAX`).
pub const IOV_MAX: u64 = 1024;
/// Most bytes of one call (`MAX_RW_COUNT`).
pub const MAX_RW_COUNT: u64 = 0x7fff_f000;

/// Most bytes that one host call moves while the memory map is locked for reading.
const HOST_CHUNK: u64 = 1 << 20;
/// Size of the detour buffer for memory that is not in the memory file.
const DETOUR: usize = 64 << 10;

/// A guest buffer (`struct iovec`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoVec {
    /// First byte.
    pub base: UserAddr,
    /// Length in bytes.
    pub len: u64,
}

impl MemoryManager {
    /// Copies an array of `struct iovec` in. `EINVAL` for more than [`IOV_MAX`] entries or a length
    /// that is negative as a `ssize_t`, `EFAULT` for a buffer outside user addresses. Lengths are cut
    /// so that their sum is at most [`MAX_RW_COUNT`].
    pub fn read_iovecs(&self, addr: UserAddr, count: u64) -> Result<Vec<IoVec>> {
        self.copy_iovecs(addr, count, |base, len| self.check_buffer(base, len))
    }

    /// As [`MemoryManager::read_iovecs`] for buffers in another process: their addresses are checked
    /// when they are used.
    pub fn read_iovecs_unchecked(&self, addr: UserAddr, count: u64) -> Result<Vec<IoVec>> {
        self.copy_iovecs(addr, count, |_, _| Ok(()))
    }

    fn copy_iovecs(
        &self,
        addr: UserAddr,
        count: u64,
        check: impl Fn(UserAddr, u64) -> Result<()>,
    ) -> Result<Vec<IoVec>> {
        if count > IOV_MAX {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0u8; count as usize * 16];
        self.read(addr, &mut bytes)?;
        let mut room = MAX_RW_COUNT;
        let mut vectors = Vec::with_capacity(count as usize);
        for pair in bytes.chunks_exact(16) {
            let (base, len) = pair.split_at(8);
            let word = |b: &[u8]| b.try_into().map(u64::from_ne_bytes).unwrap_or(0);
            let (base, len) = (word(base), word(len));
            if len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            check(UserAddr(base), len)?;
            let len = len.min(room);
            room -= len;
            vectors.push(IoVec { base: UserAddr(base), len });
        }
        Ok(vectors)
    }

    /// `EFAULT` for a buffer that is not within user addresses, mapped or not (`access_ok`).
    pub fn check_buffer(&self, addr: UserAddr, len: u64) -> Result<()> {
        match addr.0.checked_add(len) {
            Some(end) if end <= super::TASK_SIZE => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }
}

/// Frames, and the byte range in them.
type Part<'a> = (&'a Frames, Range<u64>);

/// A list of buffers and a position in it.
struct Cursor<'a> {
    mm: &'a MemoryManager,
    /// The only buffer, or the first of them.
    first: IoVec,
    rest: Vec<IoVec>,
    index: usize,
    offset: u64,
    remaining: u64,
}

impl<'a> Cursor<'a> {
    fn new(mm: &'a MemoryManager, first: IoVec, rest: Vec<IoVec>) -> Self {
        let remaining = rest.iter().fold(first.len, |sum, v| sum.saturating_add(v.len));
        Cursor { mm, first, rest, index: 0, offset: 0, remaining }
    }

    fn from_list(mm: &'a MemoryManager, mut list: Vec<IoVec>) -> Self {
        let first = if list.is_empty() { IoVec::default() } else { list.remove(0) };
        Self::new(mm, first, list)
    }

    fn get(&self, index: usize) -> Option<IoVec> {
        match index.checked_sub(1) {
            None => Some(self.first),
            Some(i) => self.rest.get(i).copied(),
        }
    }

    /// The rest of the current buffer, which is not empty; `None` at the end.
    fn current(&mut self) -> Option<(u64, u64)> {
        loop {
            let vector = self.get(self.index)?;
            if self.offset < vector.len {
                return Some((vector.base.0.wrapping_add(self.offset), vector.len - self.offset));
            }
            self.index += 1;
            self.offset = 0;
        }
    }

    fn advance(&mut self, mut n: u64) {
        while n > 0 {
            let Some((_, len)) = self.current() else { return };
            let step = n.min(len);
            self.offset += step;
            self.remaining = self.remaining.saturating_sub(step);
            n -= step;
        }
    }

    fn rewind(&mut self, mut n: u64) {
        while n > 0 {
            if self.offset == 0 {
                let Some(before) = self.index.checked_sub(1) else { return };
                self.index = before;
                self.offset = self.get(before).map_or(0, |v| v.len);
                continue;
            }
            let step = n.min(self.offset);
            self.offset -= step;
            self.remaining = self.remaining.saturating_add(step);
            n -= step;
        }
    }

    /// Calls `step(addr, len, done)` for stretches of up to `max` bytes in all until one does less
    /// than its all. An error counts only if nothing was done before it.
    fn each(
        &mut self,
        max: usize,
        mut step: impl FnMut(&MemoryManager, u64, u64, u64) -> (u64, Result<()>),
    ) -> Result<usize> {
        let max = max as u64;
        let mut done = 0;
        while done < max {
            let Some((addr, len)) = self.current() else { break };
            let len = len.min(max - done);
            let (n, result) = step(self.mm, addr, len, done);
            self.advance(n);
            done += n;
            match result {
                Ok(()) if n == len => {}
                Ok(()) => break,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done as usize)
    }

    /// Moves up to `max` bytes between a host file and the buffers, without a copy in between where
    /// they lie in the memory file.
    fn host(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        max: usize,
        to_guest: bool,
    ) -> Result<usize> {
        let mut done = 0u64;
        let max = (max as u64).min(self.remaining);
        while done < max {
            let at = offset.map(|o| o.wrapping_add(done));
            let want = (max - done).min(HOST_CHUNK);
            let moved = match self.host_direct(fd, at, want, to_guest) {
                Ok(None) => self.host_detour(fd, at, want, to_guest),
                Ok(Some(n)) => Ok(n),
                Err(error) => Err(error),
            };
            match moved {
                Ok((n, planned)) => {
                    done += n;
                    self.advance(n);
                    // A stream has given what it has; a second call might have to wait.
                    if n < planned || offset.is_none() {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done as usize)
    }

    /// One host call on the memory file's ranges behind the next `want` bytes. Returns the bytes
    /// moved and the bytes tried; `None` if the next buffer is not in the memory file.
    fn host_direct(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        want: u64,
        to_guest: bool,
    ) -> Result<Option<(u64, u64)>> {
        let mut limit = want;
        let mut faults = 0;
        loop {
            let state = self.mm.read_state();
            if let Some(part) = self.whole(&state, limit, to_guest) {
                let tried = if limit < want { u64::MAX } else { limit };
                return transfer(fd, &[part], offset, to_guest).map(|n| Some((n, tried)));
            }
            let (parts, planned, missing) = self.gather(&state, limit, to_guest);
            let Some(addr) = missing else {
                if planned == 0 {
                    return Ok(None);
                }
                // Cut short by a bad buffer: what comes before it counts, and the caller stops.
                let tried = if limit < want { u64::MAX } else { planned };
                return transfer(fd, &parts, offset, to_guest).map(|n| Some((n, tried)));
            };
            drop(parts);
            drop(state);
            faults += 1;
            // Each fault gives at least a page, unless other threads undo it as fast.
            let hopeless = faults > HOST_CHUNK / super::PAGE_SIZE + IOV_MAX;
            match self.mm.fault_in(addr, to_guest) {
                Ok(()) if !hopeless => {}
                Err(error) if planned == 0 => return Err(error),
                Ok(()) if planned == 0 => return Err(Errno::EFAULT),
                _ => limit = planned,
            }
        }
    }

    /// The memory-file range behind the next `limit` bytes, if it is one: as it mostly is.
    fn whole<'s>(&self, state: &'s State, limit: u64, to_guest: bool) -> Option<Part<'s>> {
        let vector = self.get(self.index)?;
        if vector.len.checked_sub(self.offset)? < limit || limit == 0 {
            return None;
        }
        let addr = vector.base.0.wrapping_add(self.offset);
        match state.resolve(addr, limit, to_guest)? {
            (Memory::Frames(frames, at), n) if n == limit => Some((frames, at..at.wrapping_add(n))),
            _ => None,
        }
    }

    /// The memory-file ranges behind the next `limit` bytes, their length, and the first address that
    /// must be faulted in, if it was that which ended the list.
    fn gather<'s>(
        &self,
        state: &'s State,
        limit: u64,
        to_guest: bool,
    ) -> (Vec<Part<'s>>, u64, Option<u64>) {
        let mut parts = Vec::with_capacity(4);
        let (mut index, mut skip, mut planned) = (self.index, self.offset, 0);
        while planned < limit {
            let Some(vector) = self.get(index) else { break };
            if skip >= vector.len {
                (index, skip) = (index + 1, 0);
                continue;
            }
            let addr = vector.base.0.wrapping_add(skip);
            let len = (vector.len - skip).min(limit - planned);
            match state.resolve(addr, len, to_guest) {
                Some((Memory::Frames(frames, at), n)) => {
                    parts.push((frames, at..at.wrapping_add(n)));
                    planned += n;
                    skip += n;
                }
                Some((Memory::Host(..), _)) => break,
                None => return (parts, planned, Some(addr)),
            }
        }
        (parts, planned, None)
    }

    /// Moves bytes through a kernel buffer.
    fn host_detour(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        want: u64,
        to_guest: bool,
    ) -> Result<(u64, u64)> {
        let Some((addr, len)) = self.current() else { return Ok((0, 0)) };
        let len = len.min(want).min(DETOUR as u64) as usize;
        let mut buf = vec![0u8; len];
        if to_guest {
            let n = platform::host::io::read(fd, &mut buf, offset).map_err(from_host)?;
            let data = buf.get(..n).unwrap_or_default();
            match self.mm.write_part(addr, data) {
                (0, Err(error)) => Err(error),
                (done, _) => Ok((done as u64, len as u64)),
            }
        } else {
            let n = match self.mm.read_part(addr, &mut buf) {
                (0, Err(error)) => return Err(error),
                (n, _) => n,
            };
            let data = buf.get(..n).unwrap_or_default();
            let n = platform::host::io::write(fd, data, offset).map_err(from_host)?;
            Ok((n as u64, len as u64))
        }
    }
}

fn transfer(
    fd: BorrowedFd<'_>,
    parts: &[Part<'_>],
    offset: Option<u64>,
    to_guest: bool,
) -> Result<u64> {
    let moved =
        if to_guest { read_from_fd(fd, parts, offset) } else { write_to_fd(fd, parts, offset) };
    moved.map(|n| n as u64).map_err(from_host)
}

/// Guest buffers that receive what a read produces.
pub struct UserSink<'a>(Cursor<'a>);

impl<'a> UserSink<'a> {
    /// Several buffers, filled in order.
    pub fn new(mm: &'a MemoryManager, buffers: Vec<IoVec>) -> Self {
        UserSink(Cursor::from_list(mm, buffers))
    }

    /// One buffer. Its length is cut to [`MAX_RW_COUNT`]; `EFAULT` outside user addresses.
    pub fn single(mm: &'a MemoryManager, base: UserAddr, len: u64) -> Result<Self> {
        mm.check_buffer(base, len)?;
        let buffer = IoVec { base, len: len.min(MAX_RW_COUNT) };
        Ok(UserSink(Cursor::new(mm, buffer, Vec::new())))
    }
}

impl Sink for UserSink<'_> {
    fn remaining(&self) -> usize {
        self.0.remaining as usize
    }

    fn put(&mut self, data: &[u8]) -> Result<usize> {
        self.0.each(data.len(), |mm, addr, len, done| {
            let part = data.get(done as usize..(done + len) as usize).unwrap_or_default();
            let (n, result) = mm.write_part(addr, part);
            (n as u64, result)
        })
    }

    fn put_frames(&mut self, frames: &Frames, offset: u64, len: usize) -> Result<usize> {
        self.0
            .each(len, |mm, addr, len, done| {
                let base = offset.wrapping_add(done);
                mm.walk(addr, len, true, |memory, len, done| match memory {
                    Memory::Frames(to, at) => to
                        .copy_from(at, frames, base.wrapping_add(done), len)
                        .map_err(|_| Errno::EFAULT),
                    Memory::Host(..) => Err(Errno::EFAULT),
                })
            })
            .or_else(|_| self.put_frames_slowly(frames, offset, len))
    }

    fn put_zeroes(&mut self, len: usize) -> Result<usize> {
        self.0.each(len, |mm, addr, len, _| match mm.zero(UserAddr(addr), len) {
            Ok(()) => (len, Ok(())),
            Err(error) => (0, Err(error)),
        })
    }

    fn read_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, max: usize) -> Result<usize> {
        self.0.host(fd, offset, max, true)
    }
}

impl UserSink<'_> {
    /// For buffers in mapped host files.
    fn put_frames_slowly(&mut self, frames: &Frames, offset: u64, len: usize) -> Result<usize> {
        let mut buf = [0u8; 4096];
        let mut done = 0;
        while done < len && self.remaining() > 0 {
            let n = (len - done).min(buf.len());
            let part = buf.get_mut(..n).unwrap_or_default();
            frames.read(offset.wrapping_add(done as u64), part).map_err(|_| Errno::EIO)?;
            match self.put(part) {
                Ok(m) if m == n => done += m,
                Ok(m) => return Ok(done + m),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

/// Guest buffers that supply what a write consumes.
pub struct UserSource<'a>(Cursor<'a>);

impl<'a> UserSource<'a> {
    /// Several buffers, taken in order.
    pub fn new(mm: &'a MemoryManager, buffers: Vec<IoVec>) -> Self {
        UserSource(Cursor::from_list(mm, buffers))
    }

    /// One buffer. Its length is cut to [`MAX_RW_COUNT`]; `EFAULT` outside user addresses.
    pub fn single(mm: &'a MemoryManager, base: UserAddr, len: u64) -> Result<Self> {
        mm.check_buffer(base, len)?;
        let buffer = IoVec { base, len: len.min(MAX_RW_COUNT) };
        Ok(UserSource(Cursor::new(mm, buffer, Vec::new())))
    }
}

impl Source for UserSource<'_> {
    fn remaining(&self) -> usize {
        self.0.remaining as usize
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let max = buf.len();
        self.0.each(max, |mm, addr, len, done| {
            let part = buf.get_mut(done as usize..(done + len) as usize).unwrap_or_default();
            let (n, result) = mm.read_part(addr, part);
            (n as u64, result)
        })
    }

    fn take_frames(&mut self, frames: &Frames, offset: u64, len: usize) -> Result<usize> {
        self.0.each(len, |mm, addr, len, done| {
            let base = offset.wrapping_add(done);
            let mut buf = [0u8; 4096];
            mm.walk(addr, len, false, |memory, len, done| {
                let base = base.wrapping_add(done);
                match memory {
                    Memory::Frames(from, at) => {
                        frames.copy_from(base, from, at, len).map_err(|_| Errno::EFAULT)
                    }
                    Memory::Host(fd, at) => {
                        let mut done = 0;
                        while done < len {
                            let n = (len - done).min(buf.len() as u64);
                            let part = buf.get_mut(..n as usize).unwrap_or_default();
                            super::usercopy::read_host_page(fd, at.wrapping_add(done), part)?;
                            frames
                                .write(base.wrapping_add(done), part)
                                .map_err(|_| Errno::EFAULT)?;
                            done += n;
                        }
                        Ok(())
                    }
                }
            })
        })
    }

    fn rewind(&mut self, n: usize) {
        self.0.rewind(n as u64);
    }

    fn write_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, max: usize) -> Result<usize> {
        self.0.host(fd, offset, max, false)
    }
}
