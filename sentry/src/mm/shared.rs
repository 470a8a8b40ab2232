//! Shared anonymous memory: `mmap(MAP_SHARED | MAP_ANONYMOUS)`, also behind System V segments.

use super::PAGE_SIZE;
use crate::errno::{Errno, Result};
use crate::vfs::Mappable;
use platform::{Frames, MapSource, MemoryFile};
use std::sync::Arc;

/// Memory that processes share by inheriting or attaching it. Its size is fixed.
#[derive(Debug)]
pub struct SharedMemory {
    frames: Frames,
}

impl SharedMemory {
    /// `len` bytes of zeroes, rounded up to pages. `ENOMEM` if there are not that many.
    pub fn new(memory: &Arc<MemoryFile>, len: u64) -> Result<SharedMemory> {
        let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        Ok(SharedMemory { frames: memory.allocate(len).map_err(|_| Errno::ENOMEM)? })
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.frames.len()
    }

    /// The memory itself.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl Mappable for SharedMemory {
    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<Option<(u64, MapSource)>> {
        if offset >= self.frames.len() {
            return Ok(None);
        }
        let end = offset.saturating_add(len).min(self.frames.len());
        let frames = self.frames.slice(offset..end).ok_or(Errno::EINVAL)?;
        Ok(Some((end - offset, MapSource::Frames(frames))))
    }

    fn resident(&self, offset: u64) -> bool {
        self.frames.committed(offset..offset.saturating_add(PAGE_SIZE)) > 0
    }

    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset.saturating_add(len).min(self.frames.len());
        self.frames.decommit(offset..end).map_err(|_| Errno::ENOMEM)
    }
}
