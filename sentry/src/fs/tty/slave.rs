//! The slave side: the terminal as programs see it.

use super::termios::bits::{ICANON, TOSTOP, VMIN, VTIME};
use super::{Tty, control};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::{ControllingTty, CurrentTask, Signal, Task};
use crate::vfs::async_io::OwnerKind;
use crate::vfs::{File, FileOps, OpenFlags};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Most bytes moved at a time.
const CHUNK: usize = 4096;

/// An open file of a slave side.
pub struct SlaveFile {
    tty: Arc<Tty>,
    generation: u64,
}

impl SlaveFile {
    /// Opens the slave side. `EIO` while it is locked or without a master, `EBUSY` if it is
    /// exclusive.
    pub fn open(
        tty: &Arc<Tty>,
        task: Option<&CurrentTask>,
        flags: OpenFlags,
    ) -> Result<Arc<SlaveFile>> {
        if tty.locked.load(Ordering::Relaxed) {
            return Err(Errno::EIO);
        }
        if tty.exclusive.load(Ordering::Relaxed)
            && !task.is_some_and(|t| t.creds().has(crate::vfs::permission::CAP_SYS_ADMIN))
        {
            return Err(Errno::EBUSY);
        }
        let generation = {
            let mut state = tty.state();
            if !state.master_open {
                return Err(Errno::EIO);
            }
            state.slaves += 1;
            state.slave_seen = true;
            tty.generation.load(Ordering::SeqCst)
        };
        if let Some(task) = task
            && !flags.contains(OpenFlags::NOCTTY)
        {
            tty.opened_by(task);
        }
        Ok(Arc::new(SlaveFile { tty: tty.clone(), generation }))
    }

    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    fn hung_up(&self) -> bool {
        self.tty.generation.load(Ordering::SeqCst) != self.generation
    }

    /// What is there, if a read may have it: `enough` bytes are.
    fn take(&self, dst: &mut dyn Sink, enough: usize) -> Result<usize> {
        let data = {
            let mut state = self.tty.state();
            if !state.discipline.has_input(enough) {
                return Err(Errno::EAGAIN);
            }
            state.discipline.read(dst.remaining().min(CHUNK))
        };
        // The master may go on typing.
        self.tty.master_queue.notify(EventMask::WRITABLE);
        if data.is_empty() {
            return Ok(0);
        }
        dst.put(&data)
    }

    /// `VMIN` and `VTIME`, when they count.
    fn min_time(&self) -> Option<(usize, u8)> {
        let state = self.tty.state();
        let termios = state.discipline.termios();
        (!termios.l(ICANON)).then(|| (usize::from(termios.cc(VMIN)), termios.cc(VTIME)))
    }
}

impl FileOps for SlaveFile {
    fn read(&self, file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if self.hung_up() {
            return Ok(0);
        }
        let (min, time) = self.min_time().unwrap_or((1, 0));
        let enough = if file.nonblocking() || time > 0 { 1 } else { min.min(dst.remaining()) };
        match self.take(dst, enough) {
            Err(Errno::EAGAIN) if min == 0 && time == 0 => Ok(0),
            other => other,
        }
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        if self.hung_up() {
            return Err(Errno::EIO);
        }
        let mut buf = [0; CHUNK];
        let want = src.remaining().min(CHUNK);
        let got = src.take(buf.get_mut(..want).unwrap_or_default())?;
        let n = {
            let mut state = self.tty.state();
            if !state.master_open {
                return Err(Errno::EIO);
            }
            state.discipline.write(buf.get(..got).unwrap_or_default())
        };
        src.rewind(got - n);
        if n == 0 && got > 0 {
            return Err(Errno::EAGAIN);
        }
        self.tty.master_queue.notify(EventMask::READABLE);
        Ok(n)
    }

    fn check_access(&self, t: &CurrentTask, write: bool) -> Result<()> {
        if self.hung_up() {
            return Ok(());
        }
        if !write {
            return self.tty.check_foreground(t, Signal::SIGTTIN);
        }
        let stops = self.tty.state().discipline.termios().l(TOSTOP);
        if stops { self.tty.check_foreground(t, Signal::SIGTTOU) } else { Ok(()) }
    }

    fn timeout(&self, write: bool) -> Option<u64> {
        let (_, time) = self.min_time().filter(|_| !write)?;
        (time > 0).then(|| u64::from(time) * 100_000_000)
    }

    fn timed_out(&self, _file: &File) -> Result<usize> {
        Ok(0)
    }

    fn poll(&self, _file: &File) -> EventMask {
        if self.hung_up() {
            let both = EventMask::READABLE | EventMask::WRITABLE;
            return both | EventMask::HUP | EventMask::ERR;
        }
        let state = self.tty.state();
        let termios = state.discipline.termios();
        let min = match termios.cc(VTIME) {
            0 => usize::from(termios.cc(VMIN)),
            _ => 1,
        };
        let mut events = EventMask::empty();
        if state.discipline.has_input(min) {
            events |= EventMask::READABLE;
        }
        if state.discipline.output_room() >= 8 {
            events |= EventMask::WRITABLE;
        }
        if !state.master_open {
            events |= EventMask::HUP;
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.tty.slave_queue)
    }

    fn async_io(&self) -> bool {
        true
    }

    fn default_owner(&self, t: &CurrentTask) -> Option<(OwnerKind, i32)> {
        Some(match self.tty.foreground() {
            group if group > 0 => (OwnerKind::Group, group),
            _ => (OwnerKind::Process, t.tgid()),
        })
    }

    fn ioctl(&self, task: &Task, file: &File, cmd: u32, arg: u64) -> Result<u64> {
        if self.hung_up() {
            return Err(Errno::EIO);
        }
        control::slave(&self.tty, task, file, cmd, arg)
    }

    fn release(&self, _file: &File) {
        let last = {
            let mut state = self.tty.state();
            state.slaves = state.slaves.saturating_sub(1);
            state.slaves == 0
        };
        if last {
            self.tty.master_queue.notify(EventMask::READABLE | EventMask::HUP);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
