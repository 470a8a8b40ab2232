//! Inodes of tmpfs.

use super::Tmpfs;
use super::dir::{Directory, DirectoryFile};
use super::file::{Contents, F_SEAL_EXEC, RegularFile};
use super::xattr::Xattrs;
use crate::errno::{Errno, Result};
use crate::fs::super_block::now;
use crate::sync::{Mutex, rank};
use crate::vfs::{
    Attachments, Attr, File, FileOps, FileSystem, FileType, Inode, InodeFlags, MountFlags,
    OpenFlags, Owner, Path, SetAttr, TimeSet,
};
use std::any::Any;
use std::sync::{Arc, Weak};

/// What an inode is.
pub(super) enum Kind {
    File(Contents),
    Directory(Directory),
    Symlink(Box<[u8]>),
    /// Device (with its number), FIFO or socket.
    Special(u64),
}

impl Kind {
    /// A regular file that seals can be added to.
    pub(super) fn file() -> Self {
        Kind::File(Contents::default())
    }

    pub(super) fn directory() -> Self {
        Kind::Directory(Directory::default())
    }
}

/// Attributes that change.
pub(super) struct Meta {
    /// Type and permission bits.
    pub(super) mode: u32,
    pub(super) nlink: u32,
    pub(super) owner: Owner,
    pub(super) atime: i64,
    pub(super) mtime: i64,
    pub(super) ctime: i64,
    pub(super) btime: i64,
    /// Made by `O_TMPFILE`: may be given a name although it has none.
    linkable: bool,
    flags: InodeFlags,
    xattrs: Option<Box<Xattrs>>,
}

/// An inode of a [`Tmpfs`].
pub struct TmpfsInode {
    fs: Arc<Tmpfs>,
    ino: u64,
    file_type: FileType,
    pub(super) kind: Kind,
    pub(super) meta: Mutex<Meta, { rank::LEAF }>,
    attachments: Attachments,
    myself: Weak<TmpfsInode>,
}

/// A day, in nanoseconds: how old an access time may get (`relatime`).
const DAY: i64 = 86_400_000_000_000;

impl TmpfsInode {
    /// A new inode with one link (a directory: two). `ENOSPC` at the file system's limit.
    pub(super) fn new(
        fs: &Arc<Tmpfs>,
        mode: u32,
        owner: Owner,
        kind: Kind,
    ) -> Result<Arc<TmpfsInode>> {
        fs.take_inode()?;
        Ok(Self::new_counted(fs, mode, owner, kind))
    }

    /// As [`TmpfsInode::new`], when the inode has been counted.
    pub(super) fn new_counted(
        fs: &Arc<Tmpfs>,
        mode: u32,
        owner: Owner,
        kind: Kind,
    ) -> Arc<TmpfsInode> {
        let time = now();
        let file_type = FileType::from_mode(mode).unwrap_or(FileType::Regular);
        let nlink = if file_type == FileType::Directory { 2 } else { 1 };
        let meta = Meta {
            mode,
            nlink,
            owner,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            linkable: false,
            flags: InodeFlags::empty(),
            xattrs: None,
        };
        Arc::new_cyclic(|myself| TmpfsInode {
            fs: fs.clone(),
            ino: fs.next_ino(),
            file_type,
            kind,
            meta: Mutex::new(meta),
            attachments: Attachments::default(),
            myself: myself.clone(),
        })
    }

    /// The file system.
    pub fn tmpfs(&self) -> &Arc<Tmpfs> {
        &self.fs
    }

    /// Inode number.
    pub fn ino(&self) -> u64 {
        self.ino
    }

    pub(super) fn this(&self) -> Result<Arc<TmpfsInode>> {
        // Someone calls us, so someone holds us.
        self.myself.upgrade().ok_or(Errno::ENOENT)
    }

    /// As a directory. `ENOTDIR` if it is none.
    pub(super) fn directory(&self) -> Result<&Directory> {
        match &self.kind {
            Kind::Directory(dir) => Ok(dir),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// As a regular file. `EINVAL` if it is none.
    pub(super) fn contents(&self) -> Result<&Contents> {
        match &self.kind {
            Kind::File(contents) => Ok(contents),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Takes its only link away: it has no name.
    pub(super) fn orphan(&self) {
        self.meta.lock().nlink = 0;
    }

    /// Contents changed.
    pub(super) fn touch(&self) {
        let time = now();
        let mut meta = self.meta.lock();
        meta.mtime = time;
        meta.ctime = time;
    }

    /// Changes the number of links.
    pub(super) fn add_links(&self, n: i32) {
        let mut meta = self.meta.lock();
        meta.nlink = meta.nlink.saturating_add_signed(n);
        meta.ctime = now();
    }

    /// Adds a link, if it may have one. `ENOENT` when the last name is gone, `EMLINK` when there are
    /// too many.
    pub(super) fn add_link(&self) -> Result<()> {
        let mut meta = self.meta.lock();
        if meta.nlink == 0 && !meta.linkable {
            return Err(Errno::ENOENT);
        }
        meta.nlink = meta.nlink.checked_add(1).ok_or(Errno::EMLINK)?;
        meta.ctime = now();
        Ok(())
    }

    /// `EPERM` if it has one of these flags.
    pub(super) fn check_not(&self, flags: InodeFlags) -> Result<()> {
        if self.meta.lock().flags.intersects(flags) { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// `EPERM` if its flags, or those of what it calls `name`, keep that from being removed.
    fn check_removal(&self, name: &[u8]) -> Result<()> {
        self.check_not(InodeFlags::LOCKS)?;
        match self.directory()?.get(name) {
            Some(child) => child.check_not(InodeFlags::LOCKS),
            None => Ok(()),
        }
    }

    /// Takes over the flags that a directory hands down.
    pub(super) fn inherit_flags(&self, dir: &TmpfsInode) {
        let flags = dir.meta.lock().flags & InodeFlags::INHERITED;
        if !flags.is_empty() {
            self.meta.lock().flags = flags;
        }
    }

    /// `EPERM` if its flags keep it from such a change of attributes.
    fn check_change(&self, changes: &SetAttr) -> Result<()> {
        let given = |time: Option<TimeSet>| matches!(time, Some(TimeSet::At(_)));
        let more = changes.mode.is_some()
            || changes.uid.is_some()
            || changes.gid.is_some()
            || changes.size.is_some()
            || given(changes.atime)
            || given(changes.mtime);
        self.check_not(if more { InodeFlags::LOCKS } else { InodeFlags::IMMUTABLE })
    }

    /// Notes an access through `file`, as `relatime` does.
    pub(super) fn accessed(&self, file: &File) {
        if file.flags().contains(OpenFlags::NOATIME) {
            return;
        }
        let flags = file.path().map_or(MountFlags::empty(), |p| p.mount.flags());
        if flags.contains(MountFlags::NOATIME)
            || flags.contains(MountFlags::NODIRATIME) && self.file_type == FileType::Directory
        {
            return;
        }
        let mut meta = self.meta.lock();
        if meta.flags.contains(InodeFlags::NOATIME) {
            return;
        }
        let time = now();
        if flags.contains(MountFlags::STRICTATIME)
            || meta.atime <= meta.mtime
            || meta.atime <= meta.ctime
            || time - meta.atime >= DAY
        {
            meta.atime = time;
        }
    }

    /// Adds seals. See [`Contents::add_seals`].
    pub fn add_seals(&self, seals: u32) -> Result<()> {
        self.contents()?.add_seals(seals)
    }

    /// The seals (`F_GET_SEALS`). `EINVAL` if it is not a regular file.
    pub fn seals(&self) -> Result<u32> {
        Ok(self.contents()?.seals())
    }
}

impl Inode for TmpfsInode {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn attr(&self) -> Result<Attr> {
        let (size, pages, rdev) = match &self.kind {
            Kind::File(contents) => (contents.size(), contents.allocated(), 0),
            Kind::Directory(dir) => (dir.size(), 0, 0),
            Kind::Symlink(target) => (target.len() as u64, 0, 0),
            Kind::Special(rdev) => (0, 0, *rdev),
        };
        let meta = self.meta.lock();
        Ok(Attr {
            dev: self.fs.dev(),
            ino: self.ino,
            mode: meta.mode,
            nlink: meta.nlink,
            uid: meta.owner.uid,
            gid: meta.owner.gid,
            rdev,
            size,
            blksize: 4096,
            blocks: pages.saturating_mul(8),
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: Some(meta.btime),
        })
    }

    fn file_type(&self) -> FileType {
        self.file_type
    }

    fn set_attr(&self, changes: &SetAttr) -> Result<()> {
        self.check_change(changes)?;
        if let Some(size) = changes.size {
            match &self.kind {
                Kind::File(contents) => contents.truncate(&self.fs, size)?,
                Kind::Directory(_) => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
        }
        let time = now();
        let at = |set: TimeSet| match set {
            TimeSet::Now => time,
            TimeSet::At(t) => t,
        };
        let mut meta = self.meta.lock();
        if let Some(mode) = changes.mode {
            let sealed = self.seals().is_ok_and(|seals| seals & F_SEAL_EXEC != 0);
            if sealed && (mode ^ meta.mode) & 0o111 != 0 {
                return Err(Errno::EPERM);
            }
            meta.mode = meta.mode & !0o7777 | mode & 0o7777;
        }
        if let Some(uid) = changes.uid {
            meta.owner.uid = uid;
        }
        if let Some(gid) = changes.gid {
            meta.owner.gid = gid;
        }
        if changes.size.is_some() {
            meta.mtime = time;
        }
        if let Some(set) = changes.atime {
            meta.atime = at(set);
        }
        if let Some(set) = changes.mtime {
            meta.mtime = at(set);
        }
        meta.ctime = time;
        Ok(())
    }

    fn flags(&self) -> Option<InodeFlags> {
        matches!(self.kind, Kind::File(_) | Kind::Directory(_)).then(|| self.meta.lock().flags)
    }

    fn set_flags(&self, flags: InodeFlags) -> Result<()> {
        let mut meta = self.meta.lock();
        meta.flags = flags;
        meta.ctime = now();
        Ok(())
    }

    fn open(self: Arc<Self>, _path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if flags.writable() {
            let appends = flags.contains(OpenFlags::APPEND);
            let but = if appends { InodeFlags::IMMUTABLE } else { InodeFlags::LOCKS };
            self.check_not(but)?;
        }
        match &self.kind {
            Kind::File(_) => Ok(Arc::new(RegularFile::new(self))),
            Kind::Directory(_) => Ok(Arc::new(DirectoryFile::new(self))),
            Kind::Symlink(_) => Err(Errno::ELOOP),
            Kind::Special(_) => Err(Errno::ENXIO),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let child = self.directory()?.get(name).ok_or(Errno::ENOENT)?;
        Ok(child)
    }

    fn create(&self, name: &[u8], mode: u32, rdev: u64, owner: Owner) -> Result<Arc<dyn Inode>> {
        let kind = match FileType::from_mode(mode) {
            Some(FileType::Regular) => Kind::File(Contents::unsealable()),
            Some(FileType::CharDevice | FileType::BlockDevice) => Kind::Special(rdev),
            Some(FileType::Fifo | FileType::Socket) => Kind::Special(0),
            _ => return Err(Errno::EINVAL),
        };
        self.make(name, mode, owner, kind)
    }

    fn create_unnamed(&self, mode: u32, owner: Owner) -> Result<Arc<dyn Inode>> {
        self.directory()?;
        let inode = Self::new(&self.fs, mode, owner, Kind::File(Contents::unsealable()))?;
        {
            let mut meta = inode.meta.lock();
            meta.nlink = 0;
            meta.linkable = true;
        }
        Ok(inode)
    }

    fn mkdir(&self, name: &[u8], mode: u32, owner: Owner) -> Result<Arc<dyn Inode>> {
        let mode = FileType::Directory as u32 | mode & 0o7777;
        self.make(name, mode, owner, Kind::directory())
    }

    fn symlink(&self, name: &[u8], target: &[u8], owner: Owner) -> Result<Arc<dyn Inode>> {
        let mode = FileType::Symlink as u32 | 0o777;
        self.make(name, mode, owner, Kind::Symlink(target.into()))
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = downcast(target)?;
        if target.file_type == FileType::Directory {
            return Err(Errno::EPERM);
        }
        target.check_not(InodeFlags::LOCKS)?;
        self.link_child(name, target.this()?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.check_removal(name)?;
        self.remove_file(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.check_removal(name)?;
        self.remove_dir(name)
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        let new_dir = downcast(new_dir)?;
        self.check_removal(name)?;
        if new_dir.directory()?.get(new_name).is_some() {
            new_dir.check_removal(new_name)?;
        }
        self.rename_child(name, new_dir, new_name, flags)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.kind {
            Kind::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        match &self.meta.lock().xattrs {
            Some(xattrs) => xattrs.get(name),
            None => Xattrs::default().get(name),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        self.check_not(InodeFlags::LOCKS)?;
        let mut meta = self.meta.lock();
        meta.xattrs.get_or_insert_default().set(name, value, flags)?;
        meta.ctime = now();
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.meta.lock().xattrs.as_ref().map_or_else(Vec::new, |x| x.list()))
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.check_not(InodeFlags::LOCKS)?;
        let mut meta = self.meta.lock();
        meta.xattrs.get_or_insert_default().remove(name)?;
        meta.ctime = now();
        Ok(())
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An inode that the VFS took from this file system.
pub(super) fn downcast(inode: &Arc<dyn Inode>) -> Result<&TmpfsInode> {
    inode.as_any().downcast_ref().ok_or(Errno::EXDEV)
}

impl Drop for TmpfsInode {
    fn drop(&mut self) {
        // A tree goes with its root, as deep as a guest has made it: a loop, not a recursion.
        let mut orphans = self.dismantle();
        while let Some(child) = orphans.pop() {
            if let Some(mut inode) = Arc::into_inner(child) {
                orphans.extend(inode.dismantle());
            }
        }
        self.fs.return_inode();
    }
}

impl TmpfsInode {
    /// Gives back what it holds, but for its children, which are returned.
    fn dismantle(&mut self) -> Vec<Arc<TmpfsInode>> {
        match &mut self.kind {
            Kind::File(contents) => {
                contents.release(&self.fs);
                Vec::new()
            }
            Kind::Directory(dir) => dir.take_children(),
            Kind::Symlink(_) | Kind::Special(_) => Vec::new(),
        }
    }
}
