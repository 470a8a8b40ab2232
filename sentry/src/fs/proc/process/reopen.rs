//! Opening a file without a path again, through `/proc/PID/fd/N`.
//!
//! Pipes and the standard streams have no place in the mount tree. The link leads to an inode made for
//! the occasion, on a mount of its own that is attached nowhere: opening a pipe there is opening a
//! FIFO that has this very pipe, opening a stream gives the same stream, at a position of its own if it has one.

use crate::errno::{Errno, Result};
use crate::fs::host::{HostFile, again};
use crate::fs::pipe::{FifoSlot, PipeFile};
use crate::fs::super_block;
use crate::vfs::{
    Attachments, Attr, Dentry, File, FileOps, FileSystem, FileType, Inode, Mount, OpenFlags, Path,
    SetAttr, StatFs,
};
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// Where opening `file` again leads. `ENXIO` for what cannot be opened twice (sockets, anonymous
/// inodes).
pub fn place(file: &Arc<File>) -> Result<Path> {
    let attachments = Attachments::default();
    let kind = if let Some(pipe) = file.ops_as::<PipeFile>() {
        attachments.set(Arc::new(FifoSlot::of(pipe)));
        FileType::Fifo
    } else if file.ops_as::<HostFile>().is_some() {
        // Opened through the inode, whatever it is on the host.
        FileType::Regular
    } else {
        return Err(Errno::ENXIO);
    };
    let fs: Arc<dyn FileSystem> = Arc::new(Nowhere);
    let name = file.ops().link_text().unwrap_or_default();
    let inode = Arc::new(Reopened { file: file.clone(), fs: fs.clone(), kind, attachments });
    let mount = Mount::new_internal(fs, Dentry::new_root(inode.clone()), b"none");
    Ok(Path { mount, dentry: Dentry::new_unlinked(inode, name.as_bytes()) })
}

struct Reopened {
    file: Arc<File>,
    fs: Arc<dyn FileSystem>,
    kind: FileType,
    attachments: Attachments,
}

impl Inode for Reopened {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn attr(&self) -> Result<Attr> {
        self.file.attr()
    }

    fn set_attr(&self, changes: &SetAttr) -> Result<()> {
        match (changes.size, self.file.ops_as::<HostFile>()) {
            (Some(size), Some(host)) => host.truncate(size),
            _ => Err(Errno::EPERM),
        }
    }

    fn open(self: Arc<Self>, _path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        again::open(&self.file, flags)
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The file system of such inodes.
struct Nowhere;

impl FileSystem for Nowhere {
    fn type_name(&self) -> &'static str {
        "pipefs"
    }

    fn dev(&self) -> u64 {
        static DEV: OnceLock<u64> = OnceLock::new();
        *DEV.get_or_init(super_block::next_dev)
    }

    fn statfs(&self) -> Result<StatFs> {
        /// `PIPEFS_MAGIC`
        const MAGIC: u64 = 0x5049_5045;
        Ok(StatFs { magic: MAGIC, block_size: 4096, name_max: 255, ..StatFs::default() })
    }
}
