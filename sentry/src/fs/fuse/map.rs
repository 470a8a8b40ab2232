//! Memory behind files that a daemon serves.
//!
//! A file is read whole when it is mapped: a fault must not wait for a guest process with the address space
//! locked. As long as someone maps it, writes through the kernel go to the copy, too. Shared mappings cannot be
//! written: no one would carry what is written there to the daemon.

use super::FuseInode;
use crate::errno::{Errno, Result};
use crate::mm::{Discard, Mappings, PAGE_SIZE};
use crate::sync::{Mutex, rank};
use crate::vfs::Mappable;
use platform::{Frames, MapSource};
use std::sync::Arc;

/// Largest file that can be mapped, in bytes.
const MAX_SIZE: u64 = 4 << 30;

/// See the module's head.
pub struct FuseMappable {
    mappings: Mappings,
    /// Pages, in order, and how many bytes of them there are; frames that are not empty.
    contents: Mutex<Contents, { rank::FILE_PAGES }>,
    /// Time of the last change of what was read.
    mtime: i64,
}

struct Contents {
    frames: Option<Frames>,
    size: u64,
}

/// What is behind an open file, read with `read`. `EFBIG` for a file that is too large.
pub(super) fn map(
    inode: &FuseInode,
    read: impl Fn(u64, usize) -> Result<Vec<u8>>,
) -> Result<Arc<dyn Mappable>> {
    let attr = inode.fresh_attr()?;
    if let Some(old) = inode.mapping().filter(|old| old.is_current(attr.size, attr.mtime)) {
        return Ok(old);
    }
    if attr.size > MAX_SIZE {
        return Err(Errno::EFBIG);
    }
    let len = attr.size.next_multiple_of(PAGE_SIZE);
    let frames = match len {
        0 => None,
        _ => Some(inode.fs.memory.allocate(len).map_err(|_| Errno::ENOMEM)?),
    };
    if let Some(frames) = &frames {
        let piece = inode.fs.max_data(false);
        let mut at = 0;
        while at < attr.size {
            let wanted = (attr.size - at).min(piece as u64) as usize;
            let data = read(at, wanted)?;
            frames.write(at, &data).map_err(|_| Errno::EIO)?;
            at += data.len() as u64;
            if data.len() < wanted {
                break;
            }
        }
    }
    let contents = Mutex::new(Contents { frames, size: attr.size });
    let fresh =
        Arc::new(FuseMappable { mappings: Mappings::default(), contents, mtime: attr.mtime });
    *inode.mapped.lock() = Arc::downgrade(&fresh);
    Ok(fresh)
}

impl FuseMappable {
    fn is_current(&self, size: u64, mtime: i64) -> bool {
        self.mtime == mtime && self.contents.lock().size == size
    }

    /// Bytes were written to the file.
    pub(super) fn written(&self, offset: u64, data: &[u8]) {
        let frames = self.contents.lock().frames.clone();
        let Some(frames) = frames else { return };
        let room = frames.len().saturating_sub(offset).min(data.len() as u64) as usize;
        // Behind the end of what was mapped there is no one to see it.
        let _ = frames.write(offset, data.get(..room).unwrap_or_default());
    }

    /// The file has another size.
    pub(super) fn truncated(&self, size: u64) {
        {
            let mut contents = self.contents.lock();
            contents.size = contents.size.min(size);
        }
        drop(self.mappings.discard(size..u64::MAX, Discard::Everything));
    }
}

impl Mappable for FuseMappable {
    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<Option<(u64, MapSource)>> {
        let contents = self.contents.lock();
        let end = contents.size.next_multiple_of(PAGE_SIZE);
        let Some(frames) = contents.frames.as_ref().filter(|_| offset < end) else {
            return Ok(None);
        };
        let len = len.min(end - offset);
        let part = frames.slice(offset..offset + len).ok_or(Errno::EIO)?;
        Ok(Some((len, MapSource::Frames(part))))
    }

    fn mappings(&self) -> Option<&Mappings> {
        Some(&self.mappings)
    }
}
