//! FIFOs that are shared with programs outside the sandbox (`--host-fifo=open`): the host's own pipe behind a name of an
//! exported directory.
//!
//! The gofer opens them without waiting; who is to wait for the other side does so here, by looking again now and
//! then, since the host tells nobody that a FIFO has been opened.

use super::watch::{self, Watched};
use crate::errno::{Errno, Result};
use crate::fs::ioctl::{FIONREAD, put_int};
use crate::io::{Sink, Source, from_host};
use crate::kernel::{CurrentTask, Task, Wake};
use crate::sync::{Mutex, rank};
use crate::vfs::{File, FileOps, OpenFlags, Path};
use crate::wait::{EventMask, WaitQueue};
use platform::host::{Errno as HostErrno, io, poll, tty};
use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// How often the other side is looked for, in nanoseconds.
const AGAIN: u64 = 20_000_000;

/// An open FIFO of the host's.
pub struct HostFifo {
    fd: OwnedFd,
    queue: Arc<WaitQueue>,
    /// A byte that was read to find out whether somebody writes.
    held: Mutex<Option<u8>, { rank::LEAF }>,
    _watched: Watched,
}

/// Opens the FIFO at `path` if it is one that is shared with programs outside. Waits for the other side unless
/// `O_NONBLOCK` or `O_RDWR` is among `flags`.
pub fn open(t: &mut CurrentTask, path: &Path, flags: OpenFlags) -> Option<Result<Arc<File>>> {
    let waits = !flags.contains(OpenFlags::NONBLOCK) && flags.readable() != flags.writable();
    let fd = loop {
        match path.inode().open_outside(flags)? {
            Ok(fd) => break fd,
            Err(Errno::ENXIO) if waits && flags.writable() => {
                if let Err(e) = pause(t) {
                    return Some(Err(e));
                }
            }
            Err(e) => return Some(Err(e)),
        }
    };
    Some(wrap(t, fd, path, flags, waits))
}

fn wrap(
    t: &mut CurrentTask,
    fd: OwnedFd,
    path: &Path,
    flags: OpenFlags,
    waits: bool,
) -> Result<Arc<File>> {
    let queue = Arc::new(WaitQueue::new());
    let watched = Watched::new(fd.as_fd(), &queue)?;
    let fifo = Arc::new(HostFifo { fd, queue, held: Mutex::new(None), _watched: watched });
    if waits && flags.readable() {
        let key = fifo.queue.add(EventMask::READABLE | EventMask::HUP, t.waker());
        let result = loop {
            match fifo.has_writer() {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(e) => break Err(e),
            }
            if let Err(e) = pause(t) {
                break Err(e);
            }
        };
        fifo.queue.remove(key);
        result?;
    }
    Ok(File::new(fifo, Some(path.clone()), flags))
}

fn pause(t: &mut CurrentTask) -> Result<()> {
    let until = t.kernel().time.monotonic() + AGAIN;
    match t.block(Some(until)) {
        Wake::Event | Wake::Timeout => Ok(()),
        Wake::Interrupted => Err(Errno::ERESTARTSYS),
    }
}

impl HostFifo {
    /// Whether somebody has it open for writing, or has had since it was opened here.
    fn has_writer(&self) -> Result<bool> {
        // Readiness tells of data and of writers that are gone, not of one that has written nothing.
        if poll::poll_now(self.fd.as_fd(), libc::POLLIN).map_err(from_host)? != 0 {
            return Ok(true);
        }
        let mut byte = [0];
        match io::read(self.fd.as_fd(), &mut byte, None) {
            Ok(0) => Ok(false),
            Ok(_) => {
                *self.held.lock() = Some(byte[0]);
                Ok(true)
            }
            Err(HostErrno::EAGAIN) => Ok(true),
            Err(e) => Err(from_host(e)),
        }
    }
}

impl FileOps for HostFifo {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let held = self.held.lock().take();
        let done = match held {
            None => 0,
            Some(byte) => dst.put(&[byte]).inspect_err(|_| *self.held.lock() = held)?,
        };
        match dst.remaining() {
            0 => Ok(done),
            room => match dst.read_host(self.fd.as_fd(), None, room) {
                Ok(n) => Ok(done + n),
                Err(_) if done > 0 => Ok(done),
                Err(e) => Err(e),
            },
        }
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        let mut done = 0;
        while src.remaining() > 0 {
            let max = src.remaining();
            match src.write_host(self.fd.as_fd(), None, max) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn poll(&self, file: &File) -> EventMask {
        let found = watch::ready_now(self.fd.as_fd(), file, 0);
        match self.held.lock().is_some() {
            true => found | EventMask::IN | EventMask::RDNORM,
            false => found,
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        if cmd != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let held = usize::from(self.held.lock().is_some());
        put_int(task, arg, tty::bytes_available(self.fd.as_fd()).map_err(from_host)? + held)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
