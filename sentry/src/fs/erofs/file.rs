//! Open regular files of an image.

use super::ErofsInode;
use super::image::Place;
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::mm::PAGE_SIZE;
use crate::vfs::{File, FileOps, Mappable};
use platform::MapSource;
use std::any::Any;
use std::os::fd::AsFd;
use std::sync::Arc;

/// An open file.
pub struct ErofsFile {
    pub(super) inode: Arc<ErofsInode>,
}

impl FileOps for ErofsFile {
    fn read(&self, _file: &File, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let (image, record) = (&self.inode.fs.image, &self.inode.record);
        let mut done = 0;
        while dst.remaining() > 0 {
            let piece = image.place(record, offset.saturating_add(done as u64));
            let (place, len) = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            let max = dst.remaining().min(usize::try_from(len).unwrap_or(usize::MAX));
            let put = match place {
                Place::At(at) => dst.read_host(image.fd().as_fd(), Some(at), max),
                Place::Hole => dst.put_zeroes(max),
            };
            match put {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.inode.record.size)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        Ok(Arc::new(ErofsMappable { inode: self.inode.clone() }))
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Memory behind a file: pages of the image where they are aligned there, else copies.
struct ErofsMappable {
    inode: Arc<ErofsInode>,
}

/// Largest copy at a time, in bytes.
const COPY_MAX: u64 = 1 << 20;

impl Mappable for ErofsMappable {
    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<Option<(u64, MapSource)>> {
        let fs = &self.inode.fs;
        let (image, record) = (&fs.image, &self.inode.record);
        let Some((place, run)) = image.place(record, offset)? else { return Ok(None) };
        // What is left of a last page is zero in the image, too: blocks are padded.
        let whole = run & !(PAGE_SIZE - 1);
        if let Place::At(at) = place
            && at.is_multiple_of(PAGE_SIZE)
            && whole > 0
        {
            return Ok(Some((len.min(whole), MapSource::HostFd(image.fd().clone(), at))));
        }
        let left = (record.size - offset).next_multiple_of(PAGE_SIZE);
        let len = len.min(left).min(COPY_MAX);
        let frames = fs.memory.allocate(len).map_err(|_| Errno::ENOMEM)?;
        let bytes = image.read(record, offset, len as usize)?;
        frames.write(0, &bytes).map_err(|_| Errno::EIO)?;
        Ok(Some((len, MapSource::Frames(frames))))
    }
}
