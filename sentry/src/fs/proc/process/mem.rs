//! `mem`: the memory of a process as a file.

use super::Subject;
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Rights, Text};
use crate::io::{Sink, Source};
use crate::mm::{PAGE_SIZE, UserAddr};

/// The file.
pub struct Mem(pub Subject);

impl Text for Mem {
    fn read(&self) -> Result<Vec<u8>> {
        Err(Errno::EIO)
    }

    fn read_at(&self, dst: &mut dyn Sink, offset: u64) -> Option<Result<usize>> {
        Some(self.copy_out(dst, offset))
    }

    fn write_at(&self, src: &mut dyn Source, offset: u64) -> Option<Result<usize>> {
        Some(self.copy_in(src, offset))
    }

    fn rights(&self) -> Rights {
        self.0.owned(0o600)
    }

    fn may_open(&self) -> Result<()> {
        self.0.may_inspect()?;
        self.0.task().map(drop)
    }
}

/// Bytes from `addr` to the end of its page, at most `max`.
fn piece(addr: u64, max: usize) -> usize {
    max.min((PAGE_SIZE - addr % PAGE_SIZE) as usize)
}

impl Mem {
    fn copy_out(&self, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let Some(mm) = self.0.mm() else { return Ok(0) };
        let mut buf = [0; PAGE_SIZE as usize];
        let mut done = 0;
        while dst.remaining() > 0 {
            let addr = offset.wrapping_add(done as u64);
            let Some(chunk) = buf.get_mut(..piece(addr, dst.remaining())) else { break };
            match mm.read(UserAddr(addr), chunk) {
                Ok(()) => done += dst.put(chunk)?,
                Err(_) if done > 0 => break,
                Err(_) => return Err(Errno::EIO),
            }
        }
        Ok(done)
    }

    fn copy_in(&self, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let Some(mm) = self.0.mm() else { return Ok(0) };
        let mut buf = [0; PAGE_SIZE as usize];
        let mut done = 0;
        while src.remaining() > 0 {
            let addr = offset.wrapping_add(done as u64);
            let Some(chunk) = buf.get_mut(..piece(addr, src.remaining())) else { break };
            let n = src.take(chunk)?;
            match mm.write_forced(UserAddr(addr), chunk.get(..n).unwrap_or_default()) {
                Ok(()) => done += n,
                Err(_) if done > 0 => break,
                Err(_) => return Err(Errno::EIO),
            }
        }
        Ok(done)
    }
}
