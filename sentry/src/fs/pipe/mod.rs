//! Pipes and FIFOs (`pipe(7)`, `fifo(7)`).

mod buffer;
mod fifo;
mod splice;

pub use buffer::Slot;
pub use fifo::{FifoSlot, open_fifo};
pub use splice::{Held, splice_pipes, tee_pipes};

use super::anon::{Identity, PIPE_DEV};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::credentials::{CAP_SYS_ADMIN, CAP_SYS_RESOURCE};
use crate::kernel::{Credentials, Task};
use crate::mm::PAGE_SIZE;
use crate::sync::{Mutex, MutexGuard, rank};
use crate::vfs::{Attachments, Attr, File, FileOps, OpenFlags};
use crate::wait::{EventMask, WaitQueue};
use buffer::Buffer;
use platform::{Descriptors, FileName, PipePlace};
use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Writes of at most so many bytes are atomic.
pub const PIPE_BUF: usize = 4096;
/// Pages of a new pipe.
const DEFAULT_PAGES: usize = 16;

/// `fs.pipe-max-size`: what an unprivileged process may set with `F_SETPIPE_SZ`, in bytes.
pub static PIPE_MAX_SIZE: AtomicU32 = AtomicU32::new(1 << 20);

/// The most anyone may set, privileged or not: a guest must not exhaust the sentry.
const HARD_MAX_SIZE: u64 = 1 << 31;
/// A privileged guest's pipe is bounded, too, by what the sentry will hold for one.
const PRIVILEGED_MAX_SIZE: u64 = 64 << 20;

/// A pipe: a ring of pages between its readers and writers.
///
/// While its state is not locked, the platform may read and write in the place of tasks, if the pipe has readers, writers and at most one
/// page of bytes, and nobody waits. Who is to be told of changes looks at the pipe once it is in the queue, as all who wait do:
/// that takes the bytes back from the platform, and they stay here for as long as somebody is in the queue.
pub struct Pipe {
    state: Mutex<State, { rank::INODE }>,
    queue: WaitQueue,
    /// The platform's place for bytes.
    place: OnceLock<Box<dyn PipePlace>>,
    identity: Identity,
    /// Its locks.
    attachments: Attachments,
}

struct State {
    buffer: Buffer,
    readers: u32,
    writers: u32,
    /// How many readers and writers there have ever been (the opening of FIFOs waits for these).
    reader_count: u64,
    writer_count: u64,
    /// A `splice(2)` holds bytes it may have to put back; readers wait.
    reader_busy: bool,
    /// A `splice(2)` has been promised room; writers wait.
    writer_busy: bool,
    /// Packets may be written to it (`O_DIRECT`), or might have been.
    packets: bool,
}

/// A pipe's state, locked, with all its bytes.
struct Locked<'a> {
    pipe: &'a Pipe,
    state: MutexGuard<'a, State>,
}

impl<'a> Locked<'a> {
    fn new(pipe: &'a Pipe, mut state: MutexGuard<'a, State>) -> Self {
        if let Some(place) = pipe.place.get() {
            state.buffer.fetch(&**place);
        }
        Self { pipe, state }
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let Some(place) = self.pipe.place.get() else { return };
        let state = &mut *self.state;
        let open = state.readers > 0 && state.writers > 0;
        let busy = state.reader_busy || state.writer_busy || state.packets;
        if open && !busy && state.buffer.can_park() && self.pipe.queue.is_empty() {
            state.buffer.park(&**place);
        }
    }
}

impl Pipe {
    /// A new pipe that nobody has open yet.
    pub fn new(creds: &Credentials) -> Arc<Pipe> {
        let pages = match creds.has(CAP_SYS_RESOURCE) || creds.has(CAP_SYS_ADMIN) {
            true => DEFAULT_PAGES,
            false => {
                let most = PIPE_MAX_SIZE.load(Ordering::Relaxed) as usize / PAGE_SIZE as usize;
                DEFAULT_PAGES.min(most)
            }
        };
        Arc::new(Pipe {
            state: Mutex::new(State {
                buffer: Buffer::new(pages),
                readers: 0,
                writers: 0,
                reader_count: 0,
                writer_count: 0,
                reader_busy: false,
                writer_busy: false,
                packets: false,
            }),
            queue: WaitQueue::new(),
            place: OnceLock::new(),
            identity: Identity::new(creds),
            attachments: Attachments::default(),
        })
    }

    fn lock(&self) -> Locked<'_> {
        Locked::new(self, self.state.lock())
    }

    /// Capacity in bytes (`F_GETPIPE_SZ`).
    pub fn capacity(&self) -> u64 {
        self.lock().buffer.max_slots as u64 * PAGE_SIZE
    }

    /// `F_SETPIPE_SZ`: returns the new capacity. `EPERM` above `fs.pipe-max-size` without
    /// `privileged` (`CAP_SYS_RESOURCE`), `EBUSY` if the contents would not fit, `EINVAL` for
    /// nonsense.
    pub fn set_capacity(&self, bytes: u64, privileged: bool) -> Result<u64> {
        if bytes > HARD_MAX_SIZE {
            return Err(Errno::EINVAL);
        }
        let pages = bytes.div_ceil(PAGE_SIZE).max(1).next_power_of_two();
        let size = pages * PAGE_SIZE;
        let mut state = self.lock();
        let grows = pages > state.buffer.max_slots as u64;
        let max = u64::from(PIPE_MAX_SIZE.load(Ordering::Relaxed));
        if grows && ((size > max && !privileged) || size > PRIVILEGED_MAX_SIZE) {
            return Err(Errno::EPERM);
        }
        if (state.buffer.used() as u64) > pages {
            return Err(Errno::EBUSY);
        }
        state.buffer.max_slots = pages as usize;
        drop(state);
        if grows {
            self.queue.notify(EventMask::WRITABLE);
        }
        Ok(size)
    }

    /// Reads; `EAGAIN` when it is empty and has writers.
    fn read(&self, dst: &mut dyn Sink) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let mut state = self.lock();
        if state.reader_busy {
            return Err(Errno::EAGAIN);
        }
        if state.buffer.is_empty() {
            return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let was_full = state.buffer.is_full();
        let n = state.buffer.read(dst)?;
        let room = was_full && !state.buffer.is_full();
        drop(state);
        if room {
            self.queue.notify(EventMask::WRITABLE);
        }
        Ok(n)
    }

    /// Writes what fits; `EAGAIN` when nothing does, `EPIPE` without readers.
    fn write(&self, src: &mut dyn Source, packet: bool) -> Result<usize> {
        let mut state = self.lock();
        let len = src.remaining();
        if len == 0 {
            return Ok(0);
        }
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        if state.writer_busy || (len <= PIPE_BUF && !state.buffer.fits(len)) {
            return Err(Errno::EAGAIN);
        }
        let n = state.buffer.write(src, packet)?;
        drop(state);
        if n == 0 {
            return Err(Errno::EAGAIN);
        }
        self.queue.notify(EventMask::READABLE);
        Ok(n)
    }

    fn attach(&self, flags: OpenFlags) {
        let mut state = self.lock();
        state.packets |= flags.contains(OpenFlags::DIRECT);
        if flags.readable() {
            state.readers += 1;
            state.reader_count += 1;
        }
        if flags.writable() {
            state.writers += 1;
            state.writer_count += 1;
        }
        drop(state);
        self.queue.notify(EventMask::READABLE | EventMask::WRITABLE);
    }

    fn detach(&self, flags: OpenFlags) {
        let mut state = self.lock();
        let mut events = EventMask::empty();
        if flags.readable() {
            state.readers = state.readers.saturating_sub(1);
            if state.readers == 0 {
                events |= EventMask::WRITABLE | EventMask::ERR;
            }
        }
        if flags.writable() {
            state.writers = state.writers.saturating_sub(1);
            if state.writers == 0 {
                events |= EventMask::READABLE | EventMask::HUP;
            }
        }
        let unused = state.readers == 0 && state.writers == 0;
        let old = unused.then(|| std::mem::replace(&mut state.buffer, Buffer::new(DEFAULT_PAGES)));
        drop(state);
        drop(old);
        self.queue.notify(events);
    }
}

/// One open end of a pipe; the access mode of the open file says which.
pub struct PipeFile {
    pipe: Arc<Pipe>,
    /// Opened by name: the attributes are the FIFO's.
    named: bool,
    /// Writers there had been when a FIFO was opened without blocking and without a writer: no
    /// hang-up is reported until another one has come.
    quiet: Option<u64>,
}

impl PipeFile {
    /// The pipe.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
}

/// The pipe behind an open file, if it is one.
pub fn of(file: &File) -> Option<&Arc<Pipe>> {
    file.ops_as::<PipeFile>().map(PipeFile::pipe)
}

/// The two ends of a new pipe (`pipe2(2)`): reading, writing. `flags` may have `O_NONBLOCK` and
/// `O_DIRECT`.
pub fn pair(creds: &Credentials, flags: OpenFlags) -> (Arc<File>, Arc<File>) {
    let pipe = Pipe::new(creds);
    let end = |flags: OpenFlags| {
        pipe.attach(flags);
        let ops = Arc::new(PipeFile { pipe: pipe.clone(), named: false, quiet: None });
        File::new(ops, None, flags)
    };
    // As in Linux, `O_DIRECT` stands on the writing end only.
    let both = flags & OpenFlags::NONBLOCK;
    (end(both), end(both | (flags & OpenFlags::DIRECT) | OpenFlags::WRONLY))
}

impl FileOps for PipeFile {
    fn read(&self, file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if !file.flags().readable() {
            return Err(Errno::EBADF);
        }
        self.pipe.read(dst)
    }

    fn write(&self, file: &File, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        if !file.flags().writable() {
            return Err(Errno::EBADF);
        }
        self.pipe.write(src, file.flags().contains(OpenFlags::DIRECT))
    }

    fn poll(&self, file: &File) -> EventMask {
        let state = self.pipe.lock();
        let mut events = EventMask::empty();
        if file.flags().readable() {
            if !state.buffer.is_empty() {
                events |= EventMask::READABLE;
            }
            if state.writers == 0 && self.quiet != Some(state.writer_count) {
                events |= EventMask::HUP;
            }
        }
        if file.flags().writable() {
            if !state.buffer.is_full() {
                events |= EventMask::WRITABLE;
            }
            if state.readers == 0 {
                events |= EventMask::ERR;
            }
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pipe.queue)
    }

    fn async_io(&self) -> bool {
        true
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        match cmd {
            crate::fs::ioctl::FIONREAD => {
                let n = self.pipe.lock().buffer.len();
                crate::fs::ioctl::put_int(task, arg, n)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn attr(&self) -> Option<Result<Attr>> {
        if self.named {
            return None;
        }
        let identity = &self.pipe.identity;
        Some(Ok(identity.attr(PIPE_DEV, 0o010600, identity.born)))
    }

    fn link_text(&self) -> Option<String> {
        (!self.named).then(|| format!("pipe:[{}]", self.pipe.identity.ino))
    }

    fn tell(&self, platform: &dyn Descriptors) {
        // Watchers of a file with a name are told of every transfer.
        if !self.named
            && self.pipe.place.get().is_none()
            && let Some(place) = platform.pipe()
        {
            // Somebody else may just have done the same.
            let _ = self.pipe.place.set(place);
        }
    }

    fn name(&self, file: &File) -> Option<FileName> {
        let flags = file.flags();
        let place = self.pipe.place.get().filter(|_| !self.named)?;
        Some(place.name(flags.readable(), flags.writable()))
    }

    fn flags_changed(&self, file: &File) {
        // Whoever is to get signals is in the queue now.
        self.pipe.lock().packets |= file.flags().contains(OpenFlags::DIRECT);
    }

    fn release(&self, file: &File) {
        self.pipe.detach(file.flags());
    }

    fn attachments(&self) -> Option<&Attachments> {
        Some(&self.pipe.attachments)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
