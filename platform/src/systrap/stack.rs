//! The stacks on which stubs' signal handlers run.

use crate::stub::batch::{Call, call};
use crate::stub::filter::MAP_FLAGS;
use crate::stub::layout::{FD_MEMORY, SIGNAL_STACKS};
use crate::{Frames, MemoryFile, PAGE_SIZE, PlatformError, Result, XState};
use nix::errno::Errno;
use std::sync::Arc;

/// Bytes of a signal frame besides the FP and vector state, with much to spare.
const FRAME: u64 = 2048;

/// Bytes of one stack.
fn size() -> u64 {
    (XState::size() as u64 + FRAME).next_multiple_of(PAGE_SIZE)
}

/// One guest thread's stack. Its pages stay mapped in the stub when the thread has ended, for the next
/// one; a copy of the stub does not have them.
#[derive(Debug)]
pub struct SignalStack {
    index: u64,
    frames: Frames,
    mapped: bool,
}

/// The stacks of a stub.
#[derive(Debug, Default)]
pub struct SignalStacks {
    free: Vec<SignalStack>,
    made: u64,
}

impl SignalStacks {
    /// One that no other thread uses. The caller maps it if it [must be](SignalStack::calls).
    pub fn take(&mut self, memory: &Arc<MemoryFile>) -> Result<SignalStack> {
        if let Some(stack) = self.free.pop() {
            return Ok(stack);
        }
        let index = self.made;
        if (index + 1).saturating_mul(size()) > SIGNAL_STACKS.end - SIGNAL_STACKS.start {
            return Err(PlatformError::host("place the signal stack of a stub", Errno::ENOMEM));
        }
        let frames = memory.allocate(size())?;
        self.made += 1;
        Ok(SignalStack { index, frames, mapped: false })
    }

    /// Takes back the stack of a thread that has ended. (One that was never mapped is lost with the
    /// thread that could not be made.)
    pub fn give(&mut self, stack: SignalStack) {
        self.free.push(stack);
    }
}

impl SignalStack {
    fn base(&self) -> u64 {
        SIGNAL_STACKS.start + self.index * size()
    }

    /// What the stub's thread has to do to have it.
    pub fn calls(&self) -> Result<Vec<Call>> {
        let mut calls = Vec::with_capacity(3);
        if !self.mapped {
            let writable = (libc::PROT_READ | libc::PROT_WRITE) as u64;
            let (base, offset) = (self.base(), self.frames.offset());
            let map = [base, size(), writable, MAP_FLAGS.into(), FD_MEMORY, offset];
            calls.push(call(libc::SYS_mmap, &map));
            calls.push(call(libc::SYS_madvise, &[base, size(), libc::MADV_DONTFORK as u64]));
        }
        // `stack_t`, at the stack's lower end. Another guest thread may change it before it is read,
        // and only harms itself.
        self.frames.store64(0, self.base())?;
        self.frames.store64(8, 0)?;
        self.frames.store64(16, size())?;
        calls.push(call(libc::SYS_sigaltstack, &[self.base(), 0]));
        Ok(calls)
    }

    /// The calls have been made.
    pub fn set_mapped(&mut self) {
        self.mapped = true;
    }

    /// Copies bytes from a stub's address; `None` unless all of them are on this stack.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let offset = address.checked_sub(self.base())?;
        let end = offset.checked_add(bytes.len() as u64)?;
        if end > size() {
            return None;
        }
        self.frames.read(offset, bytes).ok()
    }
}
