//! Moving a pipe's pages without copying them through guest memory (`splice(2)`, `tee(2)`).

use super::{Locked, Pipe, Slot};
use crate::errno::{Errno, Result};
use crate::wait::EventMask;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes taken out of a pipe by an operation that may have to put some of them back. Other readers
/// wait meanwhile.
pub struct Held {
    pipe: Arc<Pipe>,
    slots: VecDeque<Slot>,
    was_full: bool,
}

impl Held {
    /// Takes up to `max` bytes. `None` at the end of the file, `EAGAIN` when it is empty.
    pub fn take(pipe: &Arc<Pipe>, max: usize) -> Result<Option<Held>> {
        let mut state = pipe.lock();
        if state.reader_busy {
            return Err(Errno::EAGAIN);
        }
        if state.buffer.is_empty() {
            return if state.writers == 0 { Ok(None) } else { Err(Errno::EAGAIN) };
        }
        state.reader_busy = true;
        let was_full = state.buffer.is_full();
        let slots = state.buffer.take(max);
        drop(state);
        Ok(Some(Held { pipe: pipe.clone(), slots, was_full }))
    }

    /// The bytes that come next.
    pub fn front(&self) -> Option<&[u8]> {
        self.slots.front().map(Slot::bytes)
    }

    /// The first `n` bytes have found their place.
    pub fn consume(&mut self, mut n: usize) {
        while n > 0
            && let Some(first) = self.slots.front_mut()
        {
            let step = first.len().min(n);
            first.advance(step);
            n -= step;
            if first.len() == 0 {
                self.slots.pop_front();
            } else if step == 0 {
                break;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.pipe.lock();
        state.reader_busy = false;
        state.buffer.untake(std::mem::take(&mut self.slots));
        let room = self.was_full && !state.buffer.is_full();
        let left = !state.buffer.is_empty();
        drop(state);
        let mut events = EventMask::empty();
        if room {
            events |= EventMask::WRITABLE;
        }
        if left {
            events |= EventMask::READABLE;
        }
        self.pipe.queue.notify(events);
    }
}

/// Room in a pipe that no other writer can take.
pub struct Room {
    pipe: Arc<Pipe>,
    /// Bytes that will fit.
    pub bytes: usize,
}

impl Pipe {
    /// Keeps the free pages for the caller. `EAGAIN` when there are none, `EPIPE` without readers.
    pub fn reserve(self: &Arc<Self>) -> Result<Room> {
        let mut state = self.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        if state.writer_busy || state.buffer.is_full() {
            return Err(Errno::EAGAIN);
        }
        state.writer_busy = true;
        let bytes = state.buffer.free() * super::PIPE_BUF;
        drop(state);
        Ok(Room { pipe: self.clone(), bytes })
    }
}

impl Room {
    /// Writes into the room. Returns how much went in; the rest of the room is given back.
    pub fn fill(self, data: &[u8]) -> Result<usize> {
        let mut state = self.pipe.lock();
        let n = state.buffer.write(&mut crate::io::BufSource::new(data), false)?;
        drop(state);
        Ok(n)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.pipe.lock().writer_busy = false;
        self.pipe.queue.notify(EventMask::READABLE | EventMask::WRITABLE);
    }
}

/// Runs `f` on both rings. The pipes are different ones.
fn both<T>(
    from: &Arc<Pipe>,
    to: &Arc<Pipe>,
    f: impl FnOnce(&mut super::State, &mut super::State) -> Result<T>,
) -> Result<T> {
    if Arc::ptr_eq(from, to) {
        return Err(Errno::EINVAL);
    }
    let (locked_from, locked_to) = crate::sync::Mutex::lock_pair(&from.state, &to.state);
    let (mut from, mut to) = (Locked::new(from, locked_from), Locked::new(to, locked_to));
    if to.readers == 0 {
        return Err(Errno::EPIPE);
    }
    if from.reader_busy || to.writer_busy {
        return Err(Errno::EAGAIN);
    }
    if from.buffer.is_empty() {
        // The end of the file is told by the caller from the success of nothing.
        return if from.writers == 0 { Err(Errno::ENODATA) } else { Err(Errno::EAGAIN) };
    }
    if to.buffer.is_full() {
        return Err(Errno::EAGAIN);
    }
    f(&mut from, &mut to)
}

fn end_is_zero(result: Result<usize>) -> Result<usize> {
    match result {
        Err(Errno::ENODATA) => Ok(0),
        other => other,
    }
}

/// Moves up to `max` bytes from one pipe to another. 0 at the end of the file; `EAGAIN` when one is
/// empty or the other full.
pub fn splice_pipes(from: &Arc<Pipe>, to: &Arc<Pipe>, max: usize) -> Result<usize> {
    let moved = both(from, to, |a, b| {
        let was_full = a.buffer.is_full();
        let mut done = 0;
        while done < max && !a.buffer.is_empty() && !b.buffer.is_full() {
            let page = a.buffer.take((max - done).min(a.buffer.front_len()));
            let n: usize = page.iter().map(Slot::len).sum();
            if n == 0 {
                break;
            }
            done += n;
            b.buffer.push(page);
        }
        Ok((done, was_full && !a.buffer.is_full()))
    });
    end_is_zero(moved.map(|(done, room)| {
        if room {
            from.queue.notify(EventMask::WRITABLE);
        }
        to.queue.notify(EventMask::READABLE);
        done
    }))
}

/// Copies up to `max` bytes from one pipe to another, which both keep. As [`splice_pipes`] else.
pub fn tee_pipes(from: &Arc<Pipe>, to: &Arc<Pipe>, max: usize) -> Result<usize> {
    end_is_zero(both(from, to, |a, b| {
        let copies = a.buffer.peek(max, b.buffer.free());
        let n = copies.iter().map(Slot::len).sum();
        b.buffer.push(copies);
        Ok(n)
    }))
    .inspect(|&n| {
        if n > 0 {
            to.queue.notify(EventMask::READABLE);
        }
    })
}
