//! EROFS: file systems in an image that is only read (`mkfs.erofs(1)`).
//!
//! The image is a file of the host, opened outside. What it says is checked where it is read ([`image`]): it may
//! come from anyone. Files that are not compressed are read and mapped from it directly; of a mapped file only the
//! tail that stands beside its inode is copied. Compressed files are refused (`EOPNOTSUPP`).

mod directory;
mod file;
mod image;
mod inode;
#[cfg(test)]
mod tests;
mod xattr;

use super::super_block::next_dev;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use crate::vfs::{FileSystem, FileType, StatFs};
use image::Image;
pub use inode::ErofsInode;
use platform::MemoryFile;
use rustc_hash::FxHashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

/// `EROFS_SUPER_MAGIC_V1`
const MAGIC: u64 = 0xe0f5_e1e2;

/// A mounted image.
pub struct ErofsFs {
    image: Image,
    dev: u64,
    memory: Arc<MemoryFile>,
    /// Inodes in use by number: names of one file are one inode.
    inodes: Mutex<FxHashMap<u64, Weak<ErofsInode>>, { rank::LEAF }>,
}

impl ErofsFs {
    /// Mounts an image: its root directory. `EINVAL` if it is none or damaged, `EOPNOTSUPP` if it needs what is
    /// not known here.
    pub fn mount(fd: Arc<OwnedFd>, memory: Arc<MemoryFile>) -> Result<Arc<ErofsInode>> {
        let image = Image::open(fd)?;
        let root = image.root();
        let inodes = Mutex::default();
        let fs = Arc::new(Self { image, dev: next_dev(), memory, inodes });
        let root = ErofsInode::find(&fs, root)?;
        match crate::vfs::Inode::file_type(&*root) {
            FileType::Directory => Ok(root),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl FileSystem for ErofsFs {
    fn type_name(&self) -> &'static str {
        "erofs"
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        let (block_size, blocks, inodes) = self.image.totals();
        Ok(StatFs {
            magic: MAGIC,
            block_size,
            blocks: [blocks, 0, 0],
            files: [inodes, 0],
            name_max: 255,
            ..StatFs::default()
        })
    }
}
