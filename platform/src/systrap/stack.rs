//! What each guest thread has of ours in its stub: control words, and the stack on which signal
//! handlers run.

use super::frame::{CONTEXT_LEN, FP_TAIL};
use crate::stub::batch::{Call, call};
use crate::stub::filter::MAP_FLAGS;
use crate::stub::layout::{FD_MEMORY, SIGNAL_STACKS};
use crate::{Frames, MemoryFile, PAGE_SIZE, PlatformError, Result, XState};
use nix::errno::Errno;
use std::sync::Arc;

/// Bytes of control words below the stack: the segment bases to load, then what [`super::block`] describes.
pub const CONTROL: u64 = 512;

/// Bytes of a signal frame besides the FP and vector state, with much to spare.
const FRAME: u64 = 2048;

/// Where a frame of our own making lies, which does not overlap with one that the host makes.
const OWN_CONTEXT: u64 = CONTROL;
const OWN_FP: u64 = (OWN_CONTEXT + CONTEXT_LEN).next_multiple_of(64);

/// Bytes of all.
fn size() -> u64 {
    let fp = XState::size() as u64 + FP_TAIL;
    (OWN_FP + fp + fp + FRAME).next_multiple_of(PAGE_SIZE)
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

    /// Leaves nothing of what was on those that are free.
    pub fn wipe(&self) -> Result<()> {
        self.free.iter().try_for_each(SignalStack::wipe)
    }

    /// Takes back the stack of a thread that has ended. (One that was never mapped is lost with the
    /// thread that could not be made.)
    pub fn give(&mut self, stack: SignalStack) {
        self.free.push(stack);
    }
}

impl SignalStack {
    /// Where the control words begin, in the stub.
    pub fn base(&self) -> u64 {
        SIGNAL_STACKS.start + self.index * size()
    }

    /// `stack_t`, for the host.
    pub fn description(&self) -> [u64; 3] {
        [self.base() + CONTROL, 0, size() - CONTROL]
    }

    /// Where a new thread's frame is, in the stub.
    pub fn own_context(&self) -> u64 {
        self.base() + OWN_CONTEXT
    }

    /// Where an FP state of our own making goes, in the stub.
    pub fn own_fp(&self) -> u64 {
        self.base() + OWN_FP
    }

    /// What the stub has to do to have it mapped.
    pub fn calls(&self) -> Vec<Call> {
        if self.mapped {
            return Vec::new();
        }
        let writable = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let (base, offset) = (self.base(), self.frames.offset());
        let map = [base, size(), writable, MAP_FLAGS.into(), FD_MEMORY, offset];
        let fork = [base, size(), libc::MADV_DONTFORK as u64];
        vec![call(libc::SYS_mmap, &map), call(libc::SYS_madvise, &fork)]
    }

    /// The calls have been made.
    pub fn set_mapped(&mut self) {
        self.mapped = true;
    }

    /// The memory behind all.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// Sets the segment bases to load.
    pub fn set_bases(&self, fs: u64, gs: u64) -> Result<()> {
        self.frames.store64(0, fs)?;
        Ok(self.frames.store64(8, gs)?)
    }

    /// Leaves nothing of what was on it.
    pub fn wipe(&self) -> Result<()> {
        Ok(self.frames.zero(0, size())?)
    }

    fn offset(&self, address: u64, len: usize) -> Option<u64> {
        let offset = address.checked_sub(self.base())?;
        let end = offset.checked_add(len as u64)?;
        (offset >= CONTROL && end <= size()).then_some(offset)
    }

    /// Copies bytes from a stub's address; `None` unless all of them are on this stack.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let offset = self.offset(address, bytes.len())?;
        self.frames.read(offset, bytes).ok()
    }

    /// Copies bytes to a stub's address; `None` unless all of them are on this stack.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Option<()> {
        let offset = self.offset(address, bytes.len())?;
        self.frames.write(offset, bytes).ok()
    }
}
