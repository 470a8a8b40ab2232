//! Inodes that a daemon serves.

use super::abi::{Body, ENTRY_OUT, Entry, Opcode, Opened, Parser, Told, valid};
use super::connection::Expect;
use super::directory::FuseDirectory;
use super::file::FuseFile;
use super::map::FuseMappable;
use super::names::{Known, Names, Recent};
use super::{FuseFs, abi};
use crate::errno::{Errno, Result};
use crate::kernel::{self, Credentials};
use crate::sync::{Mutex, rank};
use crate::vfs::permission::Access;
use crate::vfs::{
    Attachments, Attr, FileOps, FileSystem, FileType, Inode, OpenFlags, Owner, Path, SetAttr,
    TimeSet,
};
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Longest target of a symbolic link.
const LINK_MAX: usize = 4095;
/// Longest value, or list of names, of extended attributes.
const XATTR_MAX: usize = 65536;

/// An inode.
pub struct FuseInode {
    pub(super) fs: Arc<FuseFs>,
    pub(super) node: u64,
    generation: u64,
    kind: FileType,
    /// Replies that named it: so many the daemon counts until it is forgotten.
    lookups: AtomicU64,
    /// The daemon has told another type: the node is not the same any more.
    bad: AtomicBool,
    /// Attributes as last told, and the moment until which they may be believed.
    attr: Mutex<(Attr, u64), { rank::LEAF }>,
    pub(super) names: Mutex<Names, { rank::LEAF }>,
    /// Of the root: what was looked up last.
    recent: Mutex<Recent, { rank::LEAF }>,
    /// The root.
    root: Weak<FuseInode>,
    /// Opened by the request that made it, for whoever did that.
    pub(super) created: Mutex<Option<(u32, Opened)>, { rank::LEAF }>,
    pub(super) mapped: Mutex<Weak<FuseMappable>, { rank::LEAF }>,
    attachments: Attachments,
}

impl FuseInode {
    /// The root directory; its attributes are asked for when they are needed.
    pub(super) fn root(fs: &Arc<FuseFs>, mode: u32) -> Arc<FuseInode> {
        let attr = Attr {
            dev: fs.dev,
            ino: abi::ROOT_ID,
            mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: 0,
            mtime: 0,
            ctime: 0,
            btime: None,
        };
        let root = Arc::new_cyclic(|me| Self::with(fs, (abi::ROOT_ID, 0), attr, 0, me.clone()));
        fs.inodes.lock().insert(abi::ROOT_ID, Arc::downgrade(&root));
        root
    }

    fn with(
        fs: &Arc<FuseFs>,
        (node, generation): (u64, u64),
        attr: Attr,
        until: u64,
        root: Weak<FuseInode>,
    ) -> FuseInode {
        FuseInode {
            fs: fs.clone(),
            node,
            generation,
            kind: attr.file_type(),
            lookups: AtomicU64::new(0),
            bad: AtomicBool::new(false),
            attr: Mutex::new((attr, until)),
            names: Mutex::default(),
            recent: Mutex::default(),
            root,
            created: Mutex::new(None),
            mapped: Mutex::default(),
            attachments: Attachments::default(),
        }
    }

    /// The inode that a reply names, of which the daemon counts one more look-up.
    pub(super) fn of_entry(&self, entry: &Entry) -> Arc<FuseInode> {
        let fs = &self.fs;
        let (attr, until) = (fs.complete(entry.told), fs.until(entry.told.valid));
        let inode = {
            let mut inodes = fs.inodes.lock();
            let known = inodes.get(&entry.node).and_then(Weak::upgrade);
            match known {
                Some(known)
                    if known.generation == entry.generation && known.kind == attr.file_type() =>
                {
                    known
                }
                other => {
                    let fresh = Arc::new({
                        let id = (entry.node, entry.generation);
                        Self::with(fs, id, attr, until, self.root.clone())
                    });
                    inodes.insert(entry.node, Arc::downgrade(&fresh));
                    drop(inodes);
                    if let Some(other) = other {
                        other.bad.store(true, Ordering::Relaxed);
                    }
                    fresh
                }
            }
        };
        inode.lookups.fetch_add(1, Ordering::Relaxed);
        *inode.attr.lock() = (attr, until);
        if let Some(root) = self.root.upgrade() {
            let gone = root.recent.lock().keep(&inode);
            drop(gone);
        }
        inode
    }

    /// The inode behind the reply about `name`, which is noted.
    pub(super) fn named(&self, name: &[u8], entry: &Entry) -> Result<Arc<FuseInode>> {
        if entry.node == abi::ROOT_ID {
            return Err(Errno::EIO);
        }
        let inode = self.of_entry(entry);
        let until = self.fs.until(entry.valid);
        self.names.lock().set(name, Some(&inode), until);
        Ok(inode)
    }

    /// Forgets what a name stands for. False if that was not known.
    pub(super) fn forget_name(&self, name: &[u8]) -> bool {
        self.names.lock().forget(name)
    }

    /// What is known of its attributes counts no longer.
    pub(super) fn stale(&self) {
        self.attr.lock().1 = 0;
    }

    /// Its last name may be gone: it is not kept in memory for its own sake.
    pub(super) fn unlinked(&self) {
        self.stale();
        if let Some(root) = self.root.upgrade() {
            let gone = root.recent.lock().release(self);
            drop(gone);
        }
    }

    /// `EIO` once the daemon has given the node to something else, `EACCES` for who may not use it.
    pub(super) fn check(&self) -> Result<()> {
        if self.bad.load(Ordering::Relaxed) {
            return Err(Errno::EIO);
        }
        match kernel::current() {
            Some(task) if !self.fs.allows(&task.creds()) => Err(Errno::EACCES),
            _ => Ok(()),
        }
    }

    pub(super) fn call(&self, opcode: Opcode, body: Body, expect: Expect) -> Result<Vec<u8>> {
        self.fs.call(opcode, self.node, body, expect)
    }

    /// Takes over attributes that were told. `EIO` for another type.
    fn told(&self, told: Told) -> Result<Attr> {
        let attr = self.fs.complete(told);
        if attr.file_type() != self.kind {
            self.bad.store(true, Ordering::Relaxed);
            return Err(Errno::EIO);
        }
        *self.attr.lock() = (attr, self.fs.until(told.valid));
        Ok(attr)
    }

    /// Attributes, asked for unless those that are known may be believed.
    pub(super) fn fresh_attr(&self) -> Result<Attr> {
        self.check()?;
        let (attr, until) = *self.attr.lock();
        if until > self.fs.now() {
            return Ok(attr);
        }
        let body = Body::default().u32(0).u32(0).u64(0);
        let reply = self.call(Opcode::GetAttr, body, Expect::Exactly(abi::ATTR_OUT))?;
        self.told(Parser(&reply).attr_out()?)
    }

    /// Its size as last told, or as left by a write.
    pub(super) fn known_size(&self) -> u64 {
        self.attr.lock().0.size
    }

    /// A write ended at `end`: the file is at least so long, and its times have changed.
    pub(super) fn written(&self, end: u64) {
        let mut attr = self.attr.lock();
        attr.0.size = attr.0.size.max(end);
        attr.1 = 0;
    }

    fn ask(&self, name: &[u8]) -> Result<Arc<FuseInode>> {
        let body = Body::default().name(name);
        let reply = match self.call(Opcode::Lookup, body, Expect::Exactly(ENTRY_OUT)) {
            Err(Errno::ENOENT) => {
                self.names.lock().forget(name);
                return Err(Errno::ENOENT);
            }
            other => other?,
        };
        match Parser(&reply).entry_out()? {
            Some(entry) => self.named(name, &entry),
            None => {
                let until = self.fs.until(Parser::negative_valid(&reply)?);
                self.names.lock().set(name, None, until);
                Err(Errno::ENOENT)
            }
        }
    }

    /// The reply to a request that makes `name`.
    pub(super) fn made(&self, name: &[u8], reply: &[u8], kind: FileType) -> Result<Arc<FuseInode>> {
        let entry = Parser(reply).entry_out()?.ok_or(Errno::EIO)?;
        self.stale();
        if entry.told.attr.file_type() != kind {
            // As the daemon counts a look-up, it has to be forgotten.
            self.fs.connection.forget(entry.node, 1);
            return Err(Errno::EIO);
        }
        self.named(name, &entry)
    }

    /// Changes a mapping of the file as the file itself was changed.
    pub(super) fn mapping(&self) -> Option<Arc<FuseMappable>> {
        self.mapped.lock().upgrade()
    }
}

impl Inode for FuseInode {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn attr(&self) -> Result<Attr> {
        self.fresh_attr()
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn permission(&self, creds: &Credentials, want: Access) -> Option<Result<()>> {
        if !self.fs.allows(creds) {
            return Some(Err(Errno::EACCES));
        }
        if self.fs.options.default_permissions {
            return None;
        }
        // The daemon decides, when it is asked to do something. Only programs need the bit.
        if want.contains(Access::EXEC) && self.kind == FileType::Regular {
            return Some(self.fresh_attr().and_then(|attr| match attr.mode & 0o111 {
                0 => Err(Errno::EACCES),
                _ => Ok(()),
            }));
        }
        Some(Ok(()))
    }

    fn access(&self, creds: &Credentials, want: Access) -> Option<Result<()>> {
        if self.fs.options.default_permissions || !self.fs.allows(creds) {
            return self.permission(creds, want);
        }
        let body = Body::default().u32(want.bits()).u32(0);
        Some(match self.fs.call_if_known(Opcode::Access, self.node, body, Expect::Exactly(0)) {
            Ok(_) | Err(Errno::EOPNOTSUPP) => Ok(()),
            Err(e) => Err(e),
        })
    }

    fn set_attr(&self, changes: &SetAttr) -> Result<()> {
        self.check()?;
        let owner = &self.fs.options.owner;
        let mut what = 0;
        let mut flag = |bit: u32, set: bool| {
            if set {
                what |= bit;
            }
        };
        flag(valid::MODE, changes.mode.is_some());
        flag(valid::UID, changes.uid.is_some());
        flag(valid::GID, changes.gid.is_some());
        flag(valid::SIZE, changes.size.is_some());
        for (time, bit, now) in [
            (changes.atime, valid::ATIME, valid::ATIME_NOW),
            (changes.mtime, valid::MTIME, valid::MTIME_NOW),
        ] {
            flag(bit, time.is_some());
            flag(now, time == Some(TimeSet::Now));
        }
        let split = |time: Option<TimeSet>| match time {
            Some(TimeSet::At(at)) => {
                (at.div_euclid(1_000_000_000) as u64, at.rem_euclid(1_000_000_000) as u32)
            }
            _ => (0, 0),
        };
        let ((atime, anano), (mtime, mnano)) = (split(changes.atime), split(changes.mtime));
        let uid = changes.uid.and_then(|uid| owner.uid_from_kernel(uid)).unwrap_or(0);
        let gid = changes.gid.and_then(|gid| owner.gid_from_kernel(gid)).unwrap_or(0);
        let mode = changes.mode.map_or(0, |mode| self.kind as u32 | mode & 0o7777);
        let body = Body::default().u32(what).u32(0).u64(0).u64(changes.size.unwrap_or(0)).u64(0);
        let body = body.u64(atime).u64(mtime).u64(0).u32(anano).u32(mnano).u32(0);
        let body = body.u32(mode).u32(0).u32(uid).u32(gid).u32(0);
        let reply = self.call(Opcode::SetAttr, body, Expect::Exactly(abi::ATTR_OUT))?;
        self.told(Parser(&reply).attr_out()?)?;
        if let (Some(size), Some(mapping)) = (changes.size, self.mapping()) {
            mapping.truncated(size);
        }
        Ok(())
    }

    fn open(self: Arc<Self>, _path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        self.check()?;
        if self.kind == FileType::Directory {
            return Ok(Arc::new(FuseDirectory::open(self, flags)?));
        }
        Ok(Arc::new(FuseFile::open(self, flags)?))
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if self.kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        if name.len() > abi::NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let now = self.fs.now();
        let known = self.names.lock().get(name, now);
        match known {
            Some(Known::Inode(inode)) if !inode.bad.load(Ordering::Relaxed) => Ok(inode),
            Some(Known::Nothing) => Err(Errno::ENOENT),
            _ => Ok(self.ask(name)?),
        }
    }

    fn create(&self, name: &[u8], mode: u32, rdev: u64, owner: Owner) -> Result<Arc<dyn Inode>> {
        Ok(self.make_node(name, mode, rdev, owner)?)
    }

    fn create_for_open(
        &self,
        name: &[u8],
        mode: u32,
        owner: Owner,
        flags: OpenFlags,
    ) -> Result<Arc<dyn Inode>> {
        Ok(self.make_open(name, mode, owner, flags)?)
    }

    fn mkdir(&self, name: &[u8], mode: u32, _owner: Owner) -> Result<Arc<dyn Inode>> {
        Ok(self.make_directory(name, mode)?)
    }

    fn symlink(&self, name: &[u8], target: &[u8], _owner: Owner) -> Result<Arc<dyn Inode>> {
        Ok(self.make_link(name, target)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.add_name(name, target)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove(Opcode::Unlink, name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove(Opcode::RmDir, name)
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        self.move_name(name, new_dir, new_name, flags)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        self.check()?;
        let mut target = self.call(Opcode::ReadLink, Body::default(), Expect::UpTo(LINK_MAX))?;
        // What stands behind a NUL is not part of it.
        let len = target.iter().position(|b| *b == 0).unwrap_or(target.len());
        target.truncate(len);
        Ok(target)
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.check()?;
        let body = Body::default().u32(XATTR_MAX as u32).u32(0).name(name);
        self.fs.call_if_known(Opcode::GetXattr, self.node, body, Expect::UpTo(XATTR_MAX))
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        self.check()?;
        let body = Body::default().u32(value.len() as u32).u32(flags).name(name).bytes(value);
        self.fs.call_if_known(Opcode::SetXattr, self.node, body, Expect::Exactly(0))?;
        self.stale();
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        self.check()?;
        let body = Body::default().u32(XATTR_MAX as u32).u32(0);
        let expect = Expect::UpTo(XATTR_MAX);
        let list = self.fs.call_if_known(Opcode::ListXattr, self.node, body, expect)?;
        let Some((0, names)) = list.split_last() else {
            return if list.is_empty() { Ok(Vec::new()) } else { Err(Errno::EIO) };
        };
        let names: Vec<Vec<u8>> = names.split(|b| *b == 0).map(<[u8]>::to_vec).collect();
        if names.iter().any(Vec::is_empty) { Err(Errno::EIO) } else { Ok(names) }
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.check()?;
        let body = Body::default().name(name);
        self.fs.call_if_known(Opcode::RemoveXattr, self.node, body, Expect::Exactly(0))?;
        self.stale();
        Ok(())
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for FuseInode {
    fn drop(&mut self) {
        {
            let mut inodes = self.fs.inodes.lock();
            let here: *const FuseInode = self;
            if inodes.get(&self.node).is_some_and(|other| std::ptr::eq(other.as_ptr(), here)) {
                inodes.remove(&self.node);
            }
        }
        let lookups = *self.lookups.get_mut();
        if lookups > 0 {
            self.fs.connection.forget(self.node, lookups);
        }
        if let Some((_, opened)) = self.created.get_mut().take() {
            super::file::release(&self.fs, self.node, Opcode::Release, opened.handle, 0);
        }
    }
}
