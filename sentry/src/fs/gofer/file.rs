//! Open regular files of exports.

use super::GoferInode;
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source, from_host};
use crate::kernel::cgroup;
use crate::mm::{Mappings, PAGE_SIZE};
use crate::vfs::{File, FileOps, Mappable, OpenFlags};
use platform::MapSource;
use platform::host::file;
use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// An open file: the descriptor that the gofer donated.
pub struct GoferFile {
    inode: Arc<GoferInode>,
    fd: Arc<OwnedFd>,
    /// The descriptor appends by itself (`O_APPEND` on a shared mount).
    appends: bool,
    /// What its reads and writes are counted for.
    dev: u64,
}

impl GoferFile {
    pub(super) fn open(inode: Arc<GoferInode>, flags: OpenFlags) -> Result<Self> {
        let appends =
            flags.writable() && flags.contains(OpenFlags::APPEND) && !inode.fs.exclusive();
        let fd = if appends {
            let flags = gofer::OpenFlags::READ | gofer::OpenFlags::WRITE | gofer::OpenFlags::APPEND;
            let client = inode.client();
            let (fd, attr) = inode.at(|dir, names| client.open(dir, names, flags))?;
            inode.seen(attr);
            Arc::new(fd)
        } else {
            inode.descriptor(flags.writable())?
        };
        let dev = inode.dev();
        Ok(Self { inode, fd, appends, dev })
    }
}

impl FileOps for GoferFile {
    fn read(&self, _file: &File, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let max = dst.remaining();
        let n = match dst.read_host(self.fd.as_fd(), Some(offset), max) {
            // Where there is nothing to read nobody looks where it would go.
            Err(Errno::EFAULT) if offset >= self.size()? => 0,
            read => read?,
        };
        cgroup::io::count(self.dev, false, n);
        Ok(n)
    }

    fn write(&self, file: &File, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let append = file.flags().contains(OpenFlags::APPEND);
        let offset = if append && !self.appends { self.size()? } else { offset };
        // `F_SETFL` may have taken the flag away that the descriptor still has.
        let other = if self.appends && !append { Some(self.inode.descriptor(true)?) } else { None };
        let fd = other.as_ref().unwrap_or(&self.fd);
        let max = src.remaining();
        let n = src.write_host(fd.as_fd(), Some(offset), max)?;
        self.inode.changed();
        cgroup::io::count(self.dev, true, n);
        Ok(n)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(file::fstat(self.fd.as_fd()).map_err(from_host)?.st_size.max(0) as u64)
    }

    fn seek_data(&self, offset: u64, data: bool) -> Result<u64> {
        let whence = if data { file::Whence::SeekData } else { file::Whence::SeekHole };
        let offset = i64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        file::lseek(self.fd.as_fd(), offset, whence).map_err(from_host)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        self.inode.mappable()
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        let fd = self.fd.as_fd();
        if data_only { file::fdatasync(fd) } else { file::fsync(fd) }.map_err(from_host)
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        let mode = i32::try_from(mode).map_err(|_| Errno::EOPNOTSUPP)?;
        file::fallocate(self.fd.as_fd(), mode, offset, len).map_err(from_host)?;
        self.inode.changed();
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Memory behind a regular file: the host's own pages.
pub(super) struct GoferMappable {
    pub inode: Arc<GoferInode>,
    pub mappings: Mappings,
}

impl Mappable for GoferMappable {
    fn translate(&self, offset: u64, len: u64, write: bool) -> Result<Option<(u64, MapSource)>> {
        let fd = self.inode.descriptor(write)?;
        let size = file::fstat(fd.as_fd()).map_err(from_host)?.st_size.max(0) as u64;
        let end = size.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EOVERFLOW)?;
        if offset >= end {
            return Ok(None);
        }
        if write {
            self.inode.changed();
        }
        Ok(Some((len.min(end - offset), MapSource::HostFd(fd, offset))))
    }

    fn mappings(&self) -> Option<&Mappings> {
        (!self.inode.fs.frozen()).then_some(&self.mappings)
    }

    fn sync(&self, _offset: u64, _len: u64) -> Result<()> {
        let fd = self.inode.descriptor(true)?;
        file::fdatasync(fd.as_fd()).map_err(from_host)
    }
}
