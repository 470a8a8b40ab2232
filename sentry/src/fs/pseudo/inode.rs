//! Inodes of pseudo file systems.

use super::open::{OpenDirectory, OpenText};
use super::{Directory, Node, PseudoFs, Rights};
use crate::errno::{Errno, Result};
use crate::kernel::ThreadGroup;
use crate::kernel::cgroup::Cgroup;
use crate::vfs::{Attachments, Attr, FileOps, FileSystem, Inode, OpenFlags, Owner, Path, SetAttr};
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

    fn child(&self, name: &[u8], node: Node) -> Arc<dyn Inode> {
        let (fs, ino) = (self.fs.clone(), self.child_ino(name));
        let child: Arc<dyn Inode> =
            Arc::new(Self { fs, node: node.clone(), ino, attachments: Attachments::default() });
        if let Node::Text(text) = node {
            text.found(Arc::downgrade(&child));
        }
        child
    }

    /// The control group that it is the directory of.
    pub fn cgroup(&self) -> Option<Arc<Cgroup>> {
        match &self.node {
            Node::Directory(directory) => directory.cgroup(),
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
        let nlink = match &self.node {
            Node::Directory(directory) => directory.links(),
            Node::Text(_) | Node::Link(_) => 1,
        };
        Ok(Attr {
            dev: self.fs.dev(),
            ino: self.ino,
            mode: file_type as u32 | rights.mode,
            nlink,
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
        let times = SetAttr { atime: changes.atime, mtime: changes.mtime, ..SetAttr::default() };
        if matches!(self.node, Node::Text(_)) && only_size {
            return Ok(());
        }
        if times == *changes {
            return Err(Errno::EPERM);
        }
        let old = self.node.rights();
        let rights = Rights {
            mode: changes.mode.map_or(old.mode, |mode| mode & 0o7777),
            uid: changes.uid.unwrap_or(old.uid),
            gid: changes.gid.unwrap_or(old.gid),
        };
        match &self.node {
            Node::Directory(directory) => directory.set_rights(rights),
            Node::Text(text) => text.set_rights(rights),
            Node::Link(_) => Err(Errno::EPERM),
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
        Ok(self.child(name, directory.lookup(name)?))
    }

    fn create(&self, _: &[u8], _: u32, _: u64, _: Owner) -> Result<Arc<dyn Inode>> {
        Err(self.fs.refusal())
    }

    fn mkdir(&self, name: &[u8], mode: u32, owner: Owner) -> Result<Arc<dyn Inode>> {
        let Node::Directory(directory) = &self.node else { return Err(Errno::ENOTDIR) };
        let rights = Rights { mode: mode & 0o7777, uid: owner.uid, gid: owner.gid };
        let made = directory.make(name, rights).ok_or_else(|| self.fs.refusal())?;
        Ok(self.child(name, made?))
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let Node::Directory(directory) = &self.node else { return Err(Errno::ENOTDIR) };
        directory.remove(name).ok_or_else(|| self.fs.refusal())?
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
