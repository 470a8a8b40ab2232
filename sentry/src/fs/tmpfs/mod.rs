//! A file system in memory: `tmpfs`, `memfd_create(2)`, and the upper layer of overlays.
//!
//! Regular files are extents of the memory file ([`pages`]), so that mapping one maps the very pages.
//! Directories keep their entries by name and by the order in which they were made, which makes
//! positions of `readdir` stable while entries come and go.

mod dir;
mod file;
mod inode;
pub mod memfd;
mod options;
mod pages;
#[cfg(test)]
mod tests;
mod xattr;

pub use inode::TmpfsInode;
pub use options::TmpfsOptions;

use crate::errno::{Errno, Result};
use crate::fs::super_block::next_dev;
use crate::mm::PAGE_SIZE;
use crate::vfs::{FileSystem, FileType, Owner, StatFs};
use inode::Kind;
use platform::MemoryFile;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// `TMPFS_MAGIC`
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// One tmpfs.
pub struct Tmpfs {
    type_name: &'static str,
    dev: u64,
    memory: Arc<MemoryFile>,
    options: TmpfsOptions,
    pages: AtomicU64,
    inodes: AtomicU64,
    next_ino: AtomicU64,
}

impl Tmpfs {
    /// A new, empty file system: its root directory.
    pub fn mount(memory: Arc<MemoryFile>, options: TmpfsOptions) -> Arc<TmpfsInode> {
        Self::named("tmpfs", memory, options)
    }

    /// As [`Tmpfs::mount`], under another name in `/proc/mounts` (`devtmpfs`).
    pub fn named(
        type_name: &'static str,
        memory: Arc<MemoryFile>,
        options: TmpfsOptions,
    ) -> Arc<TmpfsInode> {
        let owner = Owner { uid: options.uid, gid: options.gid };
        let mode = FileType::Directory as u32 | options.mode & 0o7777;
        let fs = Arc::new(Self {
            type_name,
            dev: next_dev(),
            memory,
            options,
            pages: AtomicU64::new(0),
            inodes: AtomicU64::new(1),
            next_ino: AtomicU64::new(1),
        });
        TmpfsInode::new_counted(&fs, mode, owner, Kind::directory())
    }

    fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    fn next_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts up to `n` more of something; how many fitted. `ENOSPC` for none.
    fn take(counter: &AtomicU64, n: u64, limit: u64) -> Result<u64> {
        let fits = |used: u64| limit.saturating_sub(used).min(n);
        counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (fits(used) > 0).then(|| used + fits(used))
            })
            .map(fits)
            .map_err(|_| Errno::ENOSPC)
    }

    fn take_pages(&self, n: u64) -> Result<u64> {
        Self::take(&self.pages, n, self.options.size / PAGE_SIZE)
    }

    fn return_pages(&self, n: u64) {
        self.pages.fetch_sub(n, Ordering::Relaxed);
    }

    fn take_inode(&self) -> Result<()> {
        Self::take(&self.inodes, 1, self.options.inodes).map(drop)
    }

    fn return_inode(&self) {
        self.inodes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FileSystem for Tmpfs {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        let blocks = self.options.size / PAGE_SIZE;
        let free = blocks.saturating_sub(self.pages.load(Ordering::Relaxed));
        let inodes = self.options.inodes;
        let inodes_free = inodes.saturating_sub(self.inodes.load(Ordering::Relaxed));
        Ok(StatFs {
            magic: TMPFS_MAGIC,
            block_size: PAGE_SIZE,
            blocks: [blocks, free, free],
            files: [inodes, inodes_free],
            name_max: 255,
            fragment_size: 0,
        })
    }

    fn options(&self) -> String {
        self.options.to_string()
    }
}
