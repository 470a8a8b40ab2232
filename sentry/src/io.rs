//! Where file operations put bytes and take them from.
//!
//! A [`Sink`] receives what a read produces, a [`Source`] supplies what a write consumes. Behind them
//! is guest memory (`mm::UserSink`, `mm::UserSource`) or a kernel buffer ([`BufSink`], [`BufSource`]). Both
//! hand their memory-file ranges to the host call directly where the data comes from a host file, so
//! that a `pread` copies once, in the host.

use crate::errno::{Errno, Result};
use platform::Frames;
use std::os::fd::BorrowedFd;

/// Receives what a read produces.
pub trait Sink {
    /// Bytes that can still be put.
    fn remaining(&self) -> usize;

    /// Puts as much of `data` as fits and advances. Returns how much went in; `EFAULT` only when
    /// nothing did.
    fn put(&mut self, data: &[u8]) -> Result<usize>;

    /// Puts `len` bytes of the memory file, starting `offset` bytes into `frames`.
    fn put_frames(&mut self, frames: &Frames, offset: u64, len: usize) -> Result<usize> {
        let mut done = 0;
        let mut buf = [0u8; 4096];
        while done < len && self.remaining() > 0 {
            let n = (len - done).min(buf.len()).min(self.remaining());
            let Some(chunk) = buf.get_mut(..n) else { break };
            frames.read(offset.wrapping_add(done as u64), chunk).map_err(|_| Errno::EIO)?;
            match self.put(chunk) {
                Ok(0) => break,
                Ok(m) => done += m,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Puts `len` zero bytes.
    fn put_zeroes(&mut self, len: usize) -> Result<usize> {
        let zeroes = [0u8; 4096];
        let mut done = 0;
        while done < len && self.remaining() > 0 {
            let chunk = zeroes.get(..(len - done).min(zeroes.len())).unwrap_or(&zeroes);
            match self.put(chunk) {
                Ok(0) => break,
                Ok(m) => done += m,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Reads up to `max` bytes from a host file: at `offset` with `pread`, or with `read` when it is
    /// `None`. Returns 0 at the end of the file, as `read(2)` does.
    fn read_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, max: usize) -> Result<usize>;
}

/// Supplies what a write consumes.
pub trait Source {
    /// Bytes that can still be taken.
    fn remaining(&self) -> usize;

    /// Fills as much of `buf` as possible and advances. Returns how much; `EFAULT` only when nothing
    /// could be taken.
    fn take(&mut self, buf: &mut [u8]) -> Result<usize>;

    /// Takes up to `len` bytes into the memory file, starting `offset` bytes into `frames`.
    fn take_frames(&mut self, frames: &Frames, offset: u64, len: usize) -> Result<usize> {
        let mut done = 0;
        let mut buf = [0u8; 4096];
        while done < len && self.remaining() > 0 {
            let n = (len - done).min(buf.len());
            let Some(chunk) = buf.get_mut(..n) else { break };
            let n = match self.take(chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            let Some(chunk) = buf.get(..n) else { break };
            frames.write(offset.wrapping_add(done as u64), chunk).map_err(|_| Errno::EIO)?;
            done += n;
        }
        Ok(done)
    }

    /// Puts back the last `n` bytes taken, which the receiver could not use.
    fn rewind(&mut self, n: usize);

    /// Writes up to `max` bytes to a host file: at `offset` with `pwrite`, or with `write` when it is
    /// `None`.
    fn write_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, max: usize) -> Result<usize>;
}

/// The first bytes of another source.
pub struct Limited<'a> {
    inner: &'a mut dyn Source,
    left: usize,
}

impl<'a> Limited<'a> {
    /// At most `max` bytes of `inner`.
    pub fn new(inner: &'a mut dyn Source, max: usize) -> Self {
        Self { inner, left: max }
    }
}

impl Source for Limited<'_> {
    fn remaining(&self) -> usize {
        self.inner.remaining().min(self.left)
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let max = buf.len().min(self.left);
        let n = self.inner.take(buf.get_mut(..max).unwrap_or_default())?;
        self.left -= n.min(self.left);
        Ok(n)
    }

    fn rewind(&mut self, n: usize) {
        self.inner.rewind(n);
        self.left += n;
    }

    fn write_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, max: usize) -> Result<usize> {
        let n = self.inner.write_host(fd, offset, max.min(self.left))?;
        self.left -= n.min(self.left);
        Ok(n)
    }
}

/// A [`Sink`] over a kernel buffer.
#[derive(Debug)]
pub struct BufSink<'a> {
    buf: &'a mut [u8],
    done: usize,
}

impl<'a> BufSink<'a> {
    /// Puts go to `buf`, from its start.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, done: 0 }
    }

    /// Bytes put so far.
    pub fn done(&self) -> usize {
        self.done
    }

    fn rest(&mut self, max: usize) -> &mut [u8] {
        let n = self.buf.len().saturating_sub(self.done).min(max);
        self.buf.get_mut(self.done..self.done + n).unwrap_or_default()
    }
}

impl Sink for BufSink<'_> {
    fn remaining(&self) -> usize {
        self.buf.len().saturating_sub(self.done)
    }

    fn put(&mut self, data: &[u8]) -> Result<usize> {
        let rest = self.rest(data.len());
        let n = rest.len();
        rest.copy_from_slice(data.get(..n).unwrap_or_default());
        self.done += n;
        Ok(n)
    }

    fn read_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, max: usize) -> Result<usize> {
        let n = platform::host::io::read(fd, self.rest(max), offset).map_err(from_host)?;
        self.done += n;
        Ok(n)
    }
}

/// A [`Source`] over a kernel buffer.
#[derive(Debug)]
pub struct BufSource<'a> {
    buf: &'a [u8],
    done: usize,
}

impl<'a> BufSource<'a> {
    /// Takes come from `buf`, from its start.
    pub fn new(buf: &'a [u8]) -> Self {
        Self { buf, done: 0 }
    }

    fn rest(&self, max: usize) -> &'a [u8] {
        let rest = self.buf.get(self.done..).unwrap_or_default();
        rest.get(..max).unwrap_or(rest)
    }
}

impl Source for BufSource<'_> {
    fn remaining(&self) -> usize {
        self.buf.len().saturating_sub(self.done)
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let rest = self.rest(buf.len());
        let n = rest.len();
        buf.get_mut(..n).unwrap_or_default().copy_from_slice(rest);
        self.done += n;
        Ok(n)
    }

    fn rewind(&mut self, n: usize) {
        self.done = self.done.saturating_sub(n);
    }

    fn write_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, max: usize) -> Result<usize> {
        let n = platform::host::io::write(fd, self.rest(max), offset).map_err(from_host)?;
        self.done += n;
        Ok(n)
    }
}

/// A host call's error as the guest sees it.
pub fn from_host(e: platform::host::Errno) -> Errno {
    Errno::from_raw(e as i32)
}
