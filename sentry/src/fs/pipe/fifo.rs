//! FIFOs: pipes with a name.

use super::{Pipe, PipeFile};
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Wake};
use crate::sync::{Mutex, rank};
use crate::vfs::{File, OpenFlags, Path};
use crate::wait::EventMask;
use std::sync::{Arc, Weak};

/// Where an inode of type FIFO keeps its pipe, as long as someone has it open.
#[derive(Default)]
pub struct FifoSlot {
    pipe: Mutex<Weak<Pipe>, { rank::LEAF }>,
    /// The pipe has no name of its own: opening it again waits for no one.
    anonymous: bool,
}

impl FifoSlot {
    /// A slot that holds the pipe of an open file already.
    pub fn of(file: &PipeFile) -> Self {
        Self { pipe: Mutex::new(Arc::downgrade(&file.pipe)), anonymous: !file.named }
    }

    fn pipe(&self, t: &CurrentTask) -> Arc<Pipe> {
        let creds = t.creds();
        let mut slot = self.pipe.lock();
        if let Some(pipe) = slot.upgrade() {
            return pipe;
        }
        let pipe = Pipe::new(creds);
        *slot = Arc::downgrade(&pipe);
        pipe
    }
}

/// Opens a FIFO: waits for the other side unless `O_NONBLOCK` or `O_RDWR` is among `flags`.
///
/// `ENXIO` for a non-blocking writer without a reader, `ERESTARTSYS` when interrupted.
pub fn open_fifo(
    t: &mut CurrentTask,
    slot: &FifoSlot,
    path: Path,
    flags: OpenFlags,
) -> Result<Arc<File>> {
    let pipe = slot.pipe(t);
    let (reads, writes) = (flags.readable(), flags.writable());
    let nonblocking = flags.contains(OpenFlags::NONBLOCK);
    let waits = !slot.anonymous;
    if waits && writes && !reads && nonblocking && pipe.lock().readers == 0 {
        return Err(Errno::ENXIO);
    }
    let seen = |pipe: &Pipe| {
        let state = pipe.lock();
        if reads {
            (state.writers, state.writer_count)
        } else {
            (state.readers, state.reader_count)
        }
    };
    let (partners, count) = seen(&pipe);
    pipe.attach(flags);
    let alone = waits && partners == 0 && !(reads && writes);
    let quiet = (alone && nonblocking).then_some(count);
    // From here on dropping the file takes the opening back.
    let ops = Arc::new(PipeFile { pipe: pipe.clone(), named: true, quiet });
    let file = File::new(ops, Some(path), flags);
    if alone && !nonblocking {
        let key = pipe.queue.add(EventMask::READABLE | EventMask::WRITABLE, t.waker());
        let result = loop {
            // A partner may have come and gone: the count tells, not who is there now.
            if seen(&pipe).1 != count {
                break Ok(());
            }
            if let Wake::Interrupted = t.block(None) {
                break Err(Errno::ERESTARTSYS);
            }
        };
        pipe.queue.remove(key);
        result?;
    }
    Ok(file)
}
