//! Lists of system calls that a stub executes in one go.
//!
//! A list lies in a page of the memory file that the stub can read but not write: no guest thread can
//! change what another one of its process is about to execute. Calls that need writable memory
//! (receiving a descriptor) use a second page; a guest that scribbles there can only make its own
//! call fail, as everything that decides what is mapped comes from the list.

use super::filter::{MAP_FLAGS, PROCESS_FLAGS, RECEIVE_FLAGS, THREAD_FLAGS};
use super::layout::{BATCH, FD_LINK, FD_MEMORY, FD_RECEIVED, HELLO, SCRATCH, control};
use super::operation::Operation;
use crate::{AccessError, Frames, MapSource, MemoryFile, PAGE_SIZE, Prot, Result};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

/// A system call: number and arguments.
pub type Call = [u64; 7];

/// Bytes of an entry in the list.
pub const ENTRY: u64 = 64;

/// Most entries of one list.
pub const CAPACITY: usize = (control::COUNT / ENTRY) as usize;

/// Bytes of scratch memory for receiving one descriptor.
const SLOT: u64 = 256;

/// Most descriptors received by one list.
const SLOTS: usize = (HELLO / SLOT) as usize;

/// Fixed offsets within a slot: `struct msghdr`, `struct iovec`, the byte received, control data.
const IOVEC: u64 = 64;
const DATA: u64 = 96;
const CONTROL: u64 = 128;
/// `CMSG_SPACE(sizeof(int))`.
const CONTROL_LEN: u64 = 24;

/// The calls for some operations, and the descriptors to send before they are executed.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// In order.
    pub calls: Vec<Call>,
    /// In the order in which the calls receive them.
    pub descriptors: Vec<BorrowedFd<'a>>,
}

impl<'a> Plan<'a> {
    /// Adds an operation's calls; `false` when they do not fit any more and nothing was added.
    pub fn add(&mut self, operation: &'a Operation) -> bool {
        let mut calls = Vec::with_capacity(3);
        let mut descriptor = None;
        // A descriptor that is mapped several times in a row is received once.
        let mut again = false;
        match operation {
            Operation::Map { range, prot, source } => {
                let (fd, offset) = match source {
                    MapSource::Frames(frames) => (FD_MEMORY, frames.offset()),
                    MapSource::HostFd(fd, offset) => {
                        again = self.is_open(fd.as_fd());
                        if !again {
                            descriptor = Some(fd.as_fd());
                            calls.push(receive(self.descriptors.len() as u64));
                        }
                        (FD_RECEIVED, *offset)
                    }
                };
                calls.push(call(
                    libc::SYS_mmap,
                    &[
                        range.start,
                        range.end - range.start,
                        prot.rights().into(),
                        MAP_FLAGS.into(),
                        fd,
                        offset,
                    ],
                ));
                // A mapping that is only to be executed would get a key of its own.
                let new = *prot == Prot::EXEC.with_key(0) || prot.key().is_some_and(|key| key != 0);
                if new {
                    calls.push(protect(range, *prot));
                }
                if descriptor.is_some() || again {
                    calls.push(close_received());
                }
            }
            Operation::Unmap(range) => {
                calls.push(call(libc::SYS_munmap, &[range.start, range.end - range.start]));
            }
            Operation::Protect(range, prot) => calls.push(protect(range, *prot)),
            Operation::Populate(range) => calls.push(advise(range, libc::MADV_POPULATE_WRITE)),
            Operation::Huge(range) => calls.push(advise(range, libc::MADV_HUGEPAGE)),
        }
        let fits = self.calls.len() - usize::from(again) + calls.len() <= CAPACITY
            && (descriptor.is_none() || self.descriptors.len() < SLOTS);
        if fits {
            if again {
                self.calls.pop();
            }
            self.calls.extend(calls);
            self.descriptors.extend(descriptor);
        }
        fits
    }

    /// Whether the last call closes this descriptor.
    fn is_open(&self, fd: BorrowedFd<'_>) -> bool {
        self.calls.last() == Some(&close_received())
            && self.descriptors.last().is_some_and(|last| last.as_raw_fd() == fd.as_raw_fd())
    }
}

/// `mprotect(2)`, or `pkey_mprotect(2)` if there is a key.
fn protect(range: &Range<u64>, prot: Prot) -> Call {
    let (start, len, rights) = (range.start, range.end - range.start, prot.rights().into());
    match prot.key() {
        None => call(libc::SYS_mprotect, &[start, len, rights]),
        Some(key) => call(libc::SYS_pkey_mprotect, &[start, len, rights, key.into()]),
    }
}

/// The call that closes what was received.
fn close_received() -> Call {
    call(libc::SYS_close, &[FD_RECEIVED])
}

/// `madvise(2)` of a range.
fn advise(range: &Range<u64>, advice: i32) -> Call {
    call(libc::SYS_madvise, &[range.start, range.end - range.start, advice as u64])
}

/// The call that receives the list's descriptor of this index, which becomes [`FD_RECEIVED`].
pub fn receive(index: u64) -> Call {
    call(libc::SYS_recvmsg, &[FD_LINK, SCRATCH + SLOT * index, RECEIVE_FLAGS.into()])
}

/// What the stub's code must know of an entry beyond the call itself: its last word.
pub mod kind {
    /// Nothing.
    pub const PLAIN: u64 = 0;
    /// Goes on after a failure.
    pub const HINT: u64 = 1;
    /// Returns in a new thread, too.
    pub const THREAD: u64 = 2;
    /// Returns in a new process, too.
    pub const PROCESS: u64 = 3;
}

fn kind_of(call: &Call) -> u64 {
    const CLONE: u64 = libc::SYS_clone as u64;
    const FUTEX: u64 = libc::SYS_futex as u64;
    const THREAD: u64 = THREAD_FLAGS as u64;
    const PROCESS: u64 = PROCESS_FLAGS as u64;
    match *call {
        [CLONE, THREAD, ..] => kind::THREAD,
        [CLONE, PROCESS, ..] => kind::PROCESS,
        [FUTEX, ..] => kind::HINT,
        _ if is_hint(call) => kind::HINT,
        _ => kind::PLAIN,
    }
}

/// Whether the failure of a call means nothing: populating and huge pages are hints.
pub fn is_hint(call: &Call) -> bool {
    const HINTS: [u64; 2] = [libc::MADV_POPULATE_WRITE as u64, libc::MADV_HUGEPAGE as u64];
    call[0] == libc::SYS_madvise as u64 && HINTS.contains(&call[3])
}

/// Pads a call's arguments with zeroes.
pub fn call(number: i64, arguments: &[u64]) -> Call {
    let mut call = [0; 7];
    call[0] = number as u64;
    for (slot, argument) in call.iter_mut().skip(1).zip(arguments) {
        *slot = *argument;
    }
    call
}

/// The two pages of one stub.
#[derive(Debug)]
pub struct BatchPages {
    frames: Frames,
}

impl BatchPages {
    /// Pages for a stub; they are not mapped yet.
    pub fn new(memory: &Arc<MemoryFile>) -> Result<Self> {
        Ok(Self { frames: memory.allocate(2 * PAGE_SIZE)? })
    }

    /// The call that maps both read-only.
    pub fn map_call(&self) -> Call {
        call(
            libc::SYS_mmap,
            &[
                BATCH,
                2 * PAGE_SIZE,
                libc::PROT_READ as u64,
                MAP_FLAGS.into(),
                FD_MEMORY,
                self.frames.offset(),
            ],
        )
    }

    /// Calls that the first list begins with: a copy of the stub shall not have these pages.
    pub fn setup_calls() -> [Call; 2] {
        let writable = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        [
            call(libc::SYS_mprotect, &[SCRATCH, PAGE_SIZE, writable]),
            call(libc::SYS_madvise, &[BATCH, 2 * PAGE_SIZE, libc::MADV_DONTFORK as u64]),
        ]
    }

    /// Both, in the memory file.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// Leaves an empty list.
    pub fn clear(&self) -> Result<(), AccessError> {
        self.frames.store64(control::COUNT, 0)
    }

    /// Writes a list of at most [`CAPACITY`] calls, and what receiving that many descriptors needs.
    pub fn write(&self, calls: &[Call], descriptors: usize) -> Result<(), AccessError> {
        let mut bytes = Vec::with_capacity(calls.len() * ENTRY as usize);
        for call in calls {
            for word in call {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.extend_from_slice(&kind_of(call).to_le_bytes());
        }
        self.frames.write(0, &bytes)?;
        self.frames.store64(control::COUNT, calls.len() as u64)?;
        for slot in 0..descriptors.min(SLOTS) as u64 {
            let base = SCRATCH + slot * SLOT;
            let words = [
                // struct msghdr: no name, one vector entry, control data, no flags.
                (0, 0),
                (8, 0),
                (16, base + IOVEC),
                (24, 1),
                (32, base + CONTROL),
                (40, CONTROL_LEN),
                (48, 0),
                (IOVEC, base + DATA),
                (IOVEC + 8, 1),
            ];
            for (offset, word) in words {
                self.frames.store64(PAGE_SIZE + slot * SLOT + offset, word)?;
            }
        }
        Ok(())
    }
}
