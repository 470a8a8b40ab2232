//! Inodes of an image.

use super::directory::{self, ErofsDirectory};
use super::file::ErofsFile;
use super::image::{DAMAGED, Record};
use super::{ErofsFs, xattr};
use crate::errno::{Errno, Result};
use crate::vfs::{
    Attachments, Attr, FileOps, FileSystem, FileType, Inode, OpenFlags, Owner, Path, SetAttr,
};
use std::any::Any;
use std::sync::{Arc, Weak};

/// Longest target of a symbolic link.
const LINK_MAX: u64 = 4095;

/// An inode.
pub struct ErofsInode {
    pub(super) fs: Arc<ErofsFs>,
    pub(super) number: u64,
    pub(super) record: Record,
    kind: FileType,
    attachments: Attachments,
}

impl ErofsInode {
    /// The inode of a number.
    pub(super) fn find(fs: &Arc<ErofsFs>, number: u64) -> Result<Arc<ErofsInode>> {
        let known = fs.inodes.lock().get(&number).and_then(Weak::upgrade);
        if let Some(known) = known {
            return Ok(known);
        }
        let record = fs.image.inode(number)?;
        let kind = FileType::from_mode(record.mode).ok_or(DAMAGED)?;
        let attachments = Attachments::default();
        let fresh = Arc::new(Self { fs: fs.clone(), number, record, kind, attachments });
        let mut inodes = fs.inodes.lock();
        let known = inodes.get(&number).and_then(Weak::upgrade);
        if known.is_none() {
            inodes.insert(number, Arc::downgrade(&fresh));
        }
        drop(inodes);
        Ok(known.unwrap_or(fresh))
    }
}

impl Inode for ErofsInode {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn attr(&self) -> Result<Attr> {
        let record = &self.record;
        let block_size = self.fs.image.block_size();
        Ok(Attr {
            dev: self.fs.dev,
            ino: self.number,
            mode: record.mode,
            nlink: record.nlink,
            uid: record.uid,
            gid: record.gid,
            rdev: record.rdev,
            size: record.size,
            blksize: block_size as u32,
            blocks: record.size.div_ceil(block_size) * (block_size / 512),
            atime: record.mtime,
            mtime: record.mtime,
            ctime: record.mtime,
            btime: None,
        })
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn set_attr(&self, _changes: &SetAttr) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn open(self: Arc<Self>, _path: &Path, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            FileType::Directory => Ok(Arc::new(ErofsDirectory { inode: self })),
            _ => Ok(Arc::new(ErofsFile { inode: self })),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if self.kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let number = directory::find(&self.fs.image, &self.record, name)?.ok_or(Errno::ENOENT)?;
        Ok(Self::find(&self.fs, number)?)
    }

    fn create(&self, _: &[u8], _: u32, _: u64, _: Owner) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    fn create_unnamed(&self, _: u32, _: Owner) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    fn mkdir(&self, _: &[u8], _: u32, _: Owner) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    fn symlink(&self, _: &[u8], _: &[u8], _: Owner) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    fn link(&self, _: &[u8], _: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn unlink(&self, _: &[u8]) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn rmdir(&self, _: &[u8]) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn rename(&self, _: &[u8], _: &Arc<dyn Inode>, _: &[u8], _: u32) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        if self.record.size > LINK_MAX {
            return Err(DAMAGED);
        }
        let target = self.fs.image.read(&self.record, 0, self.record.size as usize)?;
        if target.contains(&0) { Err(DAMAGED) } else { Ok(target) }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let all = xattr::all(&self.fs.image, &self.record)?;
        all.into_iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
            .ok_or(Errno::ENODATA)
    }

    fn set_xattr(&self, _: &[u8], _: &[u8], _: u32) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        Ok(xattr::all(&self.fs.image, &self.record)?.into_iter().map(|(name, _)| name).collect())
    }

    fn remove_xattr(&self, _: &[u8]) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for ErofsInode {
    fn drop(&mut self) {
        let mut inodes = self.fs.inodes.lock();
        let here: *const ErofsInode = self;
        if inodes.get(&self.number).is_some_and(|other| std::ptr::eq(other.as_ptr(), here)) {
            inodes.remove(&self.number);
        }
    }
}
