//! The master side: what a terminal emulator has open.

use super::{Tty, control};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task};
use crate::vfs::async_io::OwnerKind;
use crate::vfs::{File, FileOps};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::{Arc, Weak};

/// Most bytes moved at a time.
const CHUNK: usize = 4096;

/// Told when the master side is closed: the number in `/dev/pts` is free again.
pub trait Owner: Send + Sync {
    /// The terminal is gone.
    fn closed(&self, index: u32);
}

/// The open file of a master side.
pub struct MasterFile {
    tty: Arc<Tty>,
    owner: Weak<dyn Owner>,
}

impl MasterFile {
    /// The master side of a new terminal.
    pub fn new(tty: Arc<Tty>, owner: Weak<dyn Owner>) -> Arc<MasterFile> {
        Arc::new(MasterFile { tty, owner })
    }

    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }
}

impl FileOps for MasterFile {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let data = {
            let mut state = self.tty.state();
            let mut data = Vec::new();
            if state.packet {
                let status = std::mem::take(&mut state.packet_status);
                if status != 0 {
                    drop(state);
                    return dst.put(&[status]);
                }
                data.push(0);
            }
            let room = dst.remaining().min(CHUNK).saturating_sub(data.len());
            let out = state.discipline.take_output(room);
            if out.is_empty() {
                let gone = state.slave_seen && state.slaves == 0;
                return Err(if gone { Errno::EIO } else { Errno::EAGAIN });
            }
            data.extend(out);
            data
        };
        self.tty.slave_queue.notify(EventMask::WRITABLE);
        dst.put(&data)
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        let mut buf = [0; CHUNK];
        let want = src.remaining().min(CHUNK);
        let got = src.take(buf.get_mut(..want).unwrap_or_default())?;
        let result = self.tty.type_in(buf.get(..got).unwrap_or_default());
        src.rewind(got - *result.as_ref().unwrap_or(&0));
        result
    }

    fn poll(&self, _file: &File) -> EventMask {
        let state = self.tty.state();
        let mut events = EventMask::empty();
        if state.discipline.pending_output() > 0 {
            events |= EventMask::READABLE;
        }
        if state.packet && state.packet_status != 0 {
            events |= EventMask::READABLE | EventMask::PRI;
        }
        if state.discipline.room() > 0 {
            events |= EventMask::WRITABLE;
        }
        if state.slave_seen && state.slaves == 0 {
            events |= EventMask::HUP;
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.tty.master_queue)
    }

    fn async_io(&self) -> bool {
        true
    }

    fn default_owner(&self, t: &CurrentTask) -> Option<(OwnerKind, i32)> {
        // This side has no process group in the foreground.
        Some((OwnerKind::Process, t.tgid()))
    }

    fn ioctl(&self, task: &Task, file: &File, cmd: u32, arg: u64) -> Result<u64> {
        control::master(&self.tty, task, file, cmd, arg)
    }

    fn release(&self, _file: &File) {
        self.tty.state().master_open = false;
        self.tty.hang_up();
        if let Some(owner) = self.owner.upgrade() {
            owner.closed(self.tty.index);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
