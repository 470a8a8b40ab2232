//! Inodes of pseudo file systems.

use super::open::{OpenDirectory, OpenText};
use super::{Directory, Node, PseudoFs};
use crate::errno::{Errno, Result};
use crate::kernel::ThreadGroup;
use crate::vfs::{
    Attachments, Attr, FileOps, FileSystem, FileType, Inode, OpenFlags, Owner, Path, SetAttr,
};
use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// An inode made up at look-up. Two look-ups of one name give inodes of one number.
pub struct PseudoInode {
    fs: Arc<PseudoFs>,
    node: Node,
    ino: u64,
    attachments: Attachments,
}

impl PseudoInode {
    pub(super) fn root(fs: Arc<PseudoFs>, root: Arc<dyn Directory>) -> Arc<Self> {
        Arc::new(Self {
            fs,
            node: Node::Directory(root),
            ino: 1,
            attachments: Attachments::default(),
        })
    }

    /// The process that it is the directory of (`/proc/PID`).
    pub fn process(&self) -> Option<Arc<ThreadGroup>> {
        match &self.node {
            Node::Directory(directory) => directory.process(),
            Node::Text(_) | Node::Link(_) => None,
        }
    }

    pub(super) fn child_ino(&self, name: &[u8]) -> u64 {
        let mut hasher = rustc_hash::FxHasher::default();
        (self.ino, name).hash(&mut hasher);
        // Programs keep inode numbers in 32 bits more often than they should.
        (hasher.finish() >> 32) | 2
    }

    pub(super) fn ino(&self) -> u64 {
        self.ino
    }
}

impl Inode for PseudoInode {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn attr(&self) -> Result<Attr> {
        let rights = self.node.rights();
        let file_type = self.node.file_type();
        let now = self.fs.made;
        Ok(Attr {
            dev: self.fs.dev(),
            ino: self.ino,
            mode: file_type as u32 | rights.mode,
            nlink: if file_type == FileType::Directory { 2 } else { 1 },
            uid: rights.uid,
            gid: rights.gid,
            rdev: 0,
            size: 0,
            blksize: 1024,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: None,
        })
    }

    fn set_attr(&self, changes: &SetAttr) -> Result<()> {
        // Shells open such files with O_TRUNC; there is nothing to cut off.
        let only_size = SetAttr { size: changes.size, ..SetAttr::default() } == *changes;
        match &self.node {
            Node::Text(_) if only_size => Ok(()),
            _ => Err(Errno::EPERM),
        }
    }

    fn open(self: Arc<Self>, _path: &Path, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match &self.node {
            Node::Directory(directory) => {
                let directory = directory.clone();
                Ok(Arc::new(OpenDirectory::new(self, directory)))
            }
            Node::Text(text) => {
                text.may_open()?;
                Ok(Arc::new(OpenText::new(text.clone())))
            }
            Node::Link(_) => Err(Errno::ELOOP),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let Node::Directory(directory) = &self.node else { return Err(Errno::ENOTDIR) };
        let node = directory.lookup(name)?;
        let (fs, ino) = (self.fs.clone(), self.child_ino(name));
        Ok(Arc::new(Self { fs, node, ino, attachments: Attachments::default() }))
    }

    fn create(&self, _: &[u8], _: u32, _: u64, _: Owner) -> Result<Arc<dyn Inode>> {
        Err(self.fs.refusal())
    }

    fn mkdir(&self, _: &[u8], _: u32, _: Owner) -> Result<Arc<dyn Inode>> {
        Err(self.fs.refusal())
    }

    fn symlink(&self, _: &[u8], _: &[u8], _: Owner) -> Result<Arc<dyn Inode>> {
        Err(self.fs.refusal())
    }

    fn rename(&self, _: &[u8], _: &Arc<dyn Inode>, _: &[u8], _: u32) -> Result<()> {
        Err(self.fs.refusal())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.node {
            Node::Link(link) => link.text(),
            _ => Err(Errno::EINVAL),
        }
    }

    fn magic_link(&self) -> Option<Result<Path>> {
        match &self.node {
            Node::Link(link) => link.target(),
            _ => None,
        }
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
