//! Inodes of exports.

use super::children::{Children, Known};
use super::directory::OpenDirectory;
use super::file::{GoferFile, GoferMappable};
use super::handles;
use super::watch::State;
use super::{
    ASKED_OF, GoferFs, LIST_AFTER, LIST_ATTRS, LOOK_AHEAD, MAX_LISTED, UNEXPECTED, convert,
};
use crate::errno::{Errno, Result};
use crate::kernel::calls::Call;
use crate::socket::Kind;
use crate::sync::{Mutex, rank};
use crate::vfs::{
    Attachments, Attr, FileOps, FileSystem, FileType, Inode, OpenFlags, Owner, Path, SetAttr,
};
use gofer::{Attr as HostAttr, Entry, ListOptions, NodeId};
use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

/// A file of the host.
pub struct GoferInode {
    pub(super) myself: Weak<GoferInode>,
    pub(super) fs: Arc<GoferFs>,
    kind: FileType,
    key: (u64, u64),
    /// When it was made: numbers of files that have gone are used again.
    born: Option<gofer::Timestamp>,
    /// The gofer's handle, once one was needed.
    pub(super) node: OnceLock<NodeId>,
    /// A directory's handle that may go again.
    pub(super) handle: handles::Place,
    /// Where it can be found as long as there is no handle; `None` for the root.
    place: Mutex<Option<(Arc<GoferInode>, Box<[u8]>)>, { rank::LEAF }>,
    /// Attributes as last seen.
    attr: Mutex<Seen, { rank::LEAF }>,
    target: OnceLock<Arc<[u8]>>,
    pub(super) children: Mutex<Children, { rank::LEAF }>,
    pub(super) fds: Mutex<Descriptors, { rank::LEAF }>,
    pub(super) mapped: Mutex<Weak<GoferMappable>, { rank::LEAF }>,
    attachments: Attachments,
}

/// Attributes, and what they are good for.
#[derive(Clone, Copy)]
struct Seen {
    attr: HostAttr,
    /// In an exclusive mount: nothing has changed them.
    valid: bool,
    /// The system call by which they were seen.
    by: Option<Call>,
}

/// Donated descriptors of a regular file.
#[derive(Default)]
pub(super) struct Descriptors {
    read: Option<Arc<OwnedFd>>,
    /// Open for reading and writing, if the gofer allowed it.
    write: Option<Arc<OwnedFd>>,
}

impl GoferInode {
    pub(super) fn root(fs: &Arc<GoferFs>, node: NodeId, attr: HostAttr) -> Arc<Self> {
        let inode = Self::new(fs, None, attr, None);
        let _ = inode.node.set(node);
        inode
    }

    fn new(
        fs: &Arc<GoferFs>,
        place: Option<(Arc<GoferInode>, Box<[u8]>)>,
        attr: HostAttr,
        target: Option<Arc<[u8]>>,
    ) -> Arc<Self> {
        let known = OnceLock::new();
        if let Some(target) = target {
            let _ = known.set(target);
        }
        Arc::new_cyclic(|myself| Self {
            myself: myself.clone(),
            fs: fs.clone(),
            kind: convert::file_type(attr.kind()),
            key: (attr.dev, attr.ino),
            born: attr.btime,
            node: OnceLock::new(),
            handle: handles::Place::default(),
            place: Mutex::new(place),
            attr: Mutex::new(Seen { attr, valid: true, by: None }),
            target: known,
            children: Mutex::default(),
            fds: Mutex::default(),
            mapped: Mutex::default(),
            attachments: Attachments::default(),
        })
    }

    /// Itself, as its children refer to it.
    pub(super) fn this(&self) -> Result<Arc<GoferInode>> {
        self.myself.upgrade().ok_or(Errno::ESTALE)
    }

    /// The inode of a child that was just seen. Names of one file give one inode.
    pub(super) fn child(
        self: &Arc<Self>,
        name: &[u8],
        attr: HostAttr,
        target: Option<Arc<[u8]>>,
    ) -> Arc<GoferInode> {
        let child = self.known_child(name, attr, target);
        // What an exclusive mount's inode knows is newer than what its directory does.
        if !self.fs.exclusive() {
            child.seen(attr);
        }
        child
    }

    /// The inode of a child whose attributes may have changed since they were seen.
    fn known_child(
        self: &Arc<Self>,
        name: &[u8],
        attr: HostAttr,
        target: Option<Arc<[u8]>>,
    ) -> Arc<GoferInode> {
        let key = (attr.dev, attr.ino);
        let place = Some((self.clone(), name.into()));
        let fresh = Self::new(&self.fs, place, attr, target);
        // References are dropped after the table's lock, which their end takes.
        let mut inodes = self.fs.inodes.lock();
        let old = inodes.get(&key).and_then(Weak::upgrade);
        match old {
            Some(old) if old.kind == fresh.kind && old.born == fresh.born => {
                drop(inodes);
                if !self.fs.exclusive() {
                    old.found_at(self, name);
                }
                old
            }
            stale => {
                inodes.insert(key, Arc::downgrade(&fresh));
                drop(inodes);
                drop(stale);
                fresh
            }
        }
    }

    /// The inode of a regular file that was just made without a name; `fd` reads and writes it.
    pub(super) fn unnamed(&self, attr: HostAttr, node: NodeId, fd: OwnedFd) -> Arc<GoferInode> {
        let inode = Self::new(&self.fs, None, attr, None);
        let _ = inode.node.set(node);
        inode.fds.lock().write = Some(Arc::new(fd));
        let stale = self.fs.inodes.lock().insert((attr.dev, attr.ino), Arc::downgrade(&inode));
        drop(stale);
        self.fs.donated.remember(&inode.myself);
        inode
    }

    /// Takes over attributes that the gofer just told.
    pub(super) fn seen(&self, attr: HostAttr) {
        *self.attr.lock() = Seen { attr, valid: true, by: Call::current() };
    }

    /// The cached attributes are no longer true.
    pub(super) fn changed(&self) {
        {
            let mut seen = self.attr.lock();
            (seen.valid, seen.by) = (false, None);
        }
        self.fs.unsettle();
        self.forget_in_parent();
    }

    /// What the directory above remembers of this file is no longer true.
    pub(super) fn forget_in_parent(&self) {
        if let Some((dir, name)) = self.place() {
            dir.children.lock().changed(&name);
        }
    }

    /// Calls the gofer with a handle and the path beneath it that name this file.
    pub(super) fn at<T>(
        &self,
        call: impl FnOnce(NodeId, &[&[u8]]) -> gofer::client::Result<T>,
    ) -> Result<T> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut node = self.node.get().copied();
        // Held until the call is done.
        let mut handle = None;
        if node.is_none() && self.kind == FileType::Directory {
            handle = self.handle.get();
        }
        let found = node.is_some() || handle.is_some();
        let mut above = if found { None } else { self.place.lock().clone() };
        while node.is_none() && handle.is_none() {
            let Some((parent, name)) = above else { return Err(Errno::ESTALE) };
            names.push(name);
            node = parent.node.get().copied();
            if node.is_none() {
                handle = parent.handle.get();
            }
            above = parent.place.lock().clone();
        }
        let node = node.or(handle.as_ref().map(|handle| handle.node)).ok_or(Errno::ESTALE)?;
        let names: Vec<&[u8]> = names.iter().rev().map(|name| &**name).collect();
        call(node, &names).map_err(convert::errno)
    }

    /// The gofer's handle, which stays valid when names change.
    pub(super) fn node(&self) -> Result<NodeId> {
        if let Some(node) = self.node.get() {
            return Ok(*node);
        }
        let client = &self.fs.client;
        let walked = self.at(|dir, names| client.walk(dir, names, true))?;
        if let Some(e) = walked.error {
            return Err(Errno::from_raw(e as i32));
        }
        let node = walked.node.ok_or(UNEXPECTED)?;
        if self.node.set(node).is_err() {
            // Another thread was faster.
            client.forget(node);
        }
        self.node.get().copied().ok_or(UNEXPECTED)
    }

    /// A renamed file is found at its new place.
    pub(super) fn moved(&self, dir: &Arc<GoferInode>, name: &[u8]) {
        let old = self.place.lock().replace((dir.clone(), name.into()));
        // Outside the lock: it may be the last reference to the directory.
        drop(old);
    }

    /// The host may have moved this file to where it was just seen.
    fn found_at(&self, dir: &Arc<GoferInode>, name: &[u8]) {
        let same = self
            .place
            .lock()
            .as_ref()
            .is_some_and(|(old, old_name)| Arc::ptr_eq(old, dir) && **old_name == *name);
        if same || self.node.get().is_some() {
            return;
        }
        // Those that may be the last references go after the lock, which their end may take.
        let mut above = vec![dir.clone()];
        let _gone;
        let one = self.fs.moves.lock();
        // What is known of the directories above may be old, too: never a circle.
        while let Some(at) = above.last() {
            if std::ptr::eq(&**at, self) {
                return;
            }
            let Some((parent, _)) = at.place() else { break };
            above.push(parent);
        }
        _gone = self.place.lock().replace((dir.clone(), name.into()));
        drop(one);
    }

    /// Attributes as the host has them, fetched if need be.
    pub(super) fn host_attr(&self) -> Result<HostAttr> {
        let Seen { attr, valid, by } = *self.attr.lock();
        if (valid && self.fs.exclusive()) || (by.is_some() && by == Call::current()) {
            return Ok(attr);
        }
        let mut open = None;
        if let Some(fd) = self.any_fd() {
            // An open file tells by itself, without a message.
            let stat = platform::host::file::fstat(fd.as_fd()).map_err(crate::io::from_host)?;
            let fresh = convert_stat(attr, &stat);
            // Owners in the host's terms only the gofer knows. A file that has lost its name keeps those it had.
            if fresh.ctime == attr.ctime || fresh.nlink == 0 {
                self.seen(fresh);
                return Ok(fresh);
            }
            open = Some(fresh);
        }
        if let Some(known) = self.attr_above() {
            return Ok(known);
        }
        self.prepare_parent();
        let fresh = match (self.ask_attr(), open) {
            // Its name has gone to another file, or been moved away.
            (Ok(other), Some(open)) if !self.has_key(&other) => open,
            (Err(_), Some(open)) => open,
            (fresh, _) => fresh?,
        };
        self.seen(fresh);
        Ok(fresh)
    }

    /// The directory it was found in, and its name there; `None` for the root.
    pub(super) fn place(&self) -> Option<(Arc<GoferInode>, Box<[u8]>)> {
        self.place.lock().clone()
    }

    /// The guest's number of the device that it is on.
    pub(super) fn dev(&self) -> u64 {
        self.fs.dev_of(self.key.0)
    }

    /// Whether these attributes are of the same file.
    pub(super) fn has_key(&self, attr: &HostAttr) -> bool {
        self.key == (attr.dev, attr.ino) && self.born == attr.btime
    }

    /// Where a symbolic link leads, if that is known.
    pub(super) fn known_target(&self) -> Option<Arc<[u8]>> {
        self.target.get().cloned()
    }

    /// What a name stands for, if that is known and true.
    fn known(&self, name: &[u8]) -> Option<Known> {
        if self.knows_names() { self.children.lock().get(name) } else { None }
    }

    fn prepare_parent(&self) {
        if self.node.get().is_some() {
            return;
        }
        let parent = self.place.lock().as_ref().map(|(dir, _)| dir.clone());
        if let Some(parent) = parent {
            parent.prepare();
        }
    }

    fn any_fd(&self) -> Option<Arc<OwnedFd>> {
        let fds = self.fds.lock();
        fds.write.clone().or_else(|| fds.read.clone())
    }

    /// The donated descriptor, for reading or for reading and writing.
    pub(super) fn descriptor(&self, write: bool) -> Result<Arc<OwnedFd>> {
        {
            let fds = self.fds.lock();
            let found = if write { &fds.write } else { &fds.read };
            if let Some(fd) = found.as_ref().or(fds.write.as_ref()) {
                return Ok(fd.clone());
            }
        }
        self.prepare_parent();
        let mut flags = gofer::OpenFlags::READ;
        if write {
            flags |= gofer::OpenFlags::WRITE;
        }
        let client = &self.fs.client;
        let opened = self.at(|dir, names| client.open(dir, names, flags));
        let (fd, attr) = match opened {
            // Readable by no one, not even its owner, but writable.
            Err(Errno::EACCES) if write => {
                self.at(|dir, names| client.open(dir, names, gofer::OpenFlags::WRITE))?
            }
            other => other?,
        };
        self.seen(attr);
        let fd = Arc::new(fd);
        let fd = {
            let mut fds = self.fds.lock();
            let place = if write { &mut fds.write } else { &mut fds.read };
            place.get_or_insert(fd).clone()
        };
        self.fs.donated.remember(&self.myself);
        Ok(fd)
    }

    /// The descriptor of a regular file, for reading, for the kernel's own use.
    pub(crate) fn donated(&self) -> Result<Arc<OwnedFd>> {
        if self.kind == FileType::Regular { self.descriptor(false) } else { Err(Errno::EINVAL) }
    }

    /// Closes the donated descriptors, unless an open file or a mapping uses them: the name they were
    /// opened by may be gone. Returns whether it did.
    pub(super) fn close_unused(&self) -> bool {
        if self.mapped.lock().upgrade().is_some() {
            return false;
        }
        let unused = {
            let mut fds = self.fds.lock();
            let used =
                |fd: &Option<Arc<OwnedFd>>| fd.as_ref().is_some_and(|fd| Arc::strong_count(fd) > 1);
            if used(&fds.read) || used(&fds.write) {
                return false;
            }
            std::mem::take(&mut *fds)
        };
        drop(unused);
        true
    }

    /// Lists the directory, with the attributes of some files. Its entries, unless all of them are now known.
    pub(super) fn list(&self, options: ListOptions) -> Result<Option<Vec<Entry>>> {
        let client = &self.fs.client;
        let before = self.children.lock().generation;
        let now = self.fs.now();
        let listing = self.at(|dir, names| client.list(dir, names, false, options))?;
        let count = listing.entries.len();
        if !self.fs.exclusive() && count > MAX_LISTED {
            return Ok(Some(listing.entries));
        }
        {
            let mut children = self.children.lock();
            if !self.remembers(&children, before) {
                return Ok(Some(listing.entries));
            }
            // Files without attributes (a large directory, or just gone) are asked for one by one.
            let names = listing.entries.iter().map(|entry| {
                let target = || entry.target.as_deref().map(Arc::from);
                (entry.name.clone(), entry.attr.map(|attr| Known::File(attr, target())))
            });
            children.set_all(names, now);
        }
        self.count_names(count);
        Ok(if listing.complete { None } else { Some(listing.entries) })
    }

    /// Whether what was asked for when the directory had the generation `before` is still true, and worth remembering.
    fn remembers(&self, children: &Children, before: u64) -> bool {
        self.fs.exclusive()
            || (children.generation == before && matches!(children.watch, State::By(_)))
    }

    /// Lists the directory, if so many look-ups have asked for names that this pays.
    fn list_if_due(&self) -> Result<()> {
        let (asked, listed) = {
            let mut children = self.children.lock();
            children.asked += 1;
            (children.asked, children.listed())
        };
        if asked == LIST_AFTER {
            self.watch();
        }
        if !self.knows_names() {
            return Ok(());
        }
        match listed {
            None if asked == LIST_AFTER => {
                self.list(ListOptions { attr_limit: LIST_ATTRS, targets: true }).map(drop)
            }
            Some(names) if asked as usize == LIST_AFTER as usize + names / ASKED_OF => {
                self.list(ListOptions::default()).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Asks for `name`, and for what probably comes next.
    fn ask(&self, name: &[u8], rest: &[u8]) -> Result<Known> {
        let ahead = rest.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".");
        let ahead = ahead.take_while(|c| *c != b"..").take(LOOK_AHEAD - 1);
        let wanted: Vec<&[u8]> = std::iter::once(name).chain(ahead).collect();
        let client = &self.fs.client;
        let before = self.children.lock().generation;
        let now = self.fs.now();
        // The walk starts above this directory if it has no handle: those components come first.
        let mut above = 0;
        let walked = self.at(|dir, names| {
            above = names.len();
            let path: Vec<&[u8]> = names.iter().chain(&wanted).copied().collect();
            client.walk(dir, &path, false)
        });
        let walked = match walked {
            // The rest of the path is none of our business if it cannot be a path.
            Err(Errno::ENAMETOOLONG | Errno::EINVAL) if wanted.len() > 1 => {
                return self.ask(name, b"");
            }
            other => other?,
        };
        let seen = walked.attrs.get(above..).unwrap_or_default();
        let error = walked.error.map(|e| Errno::from_raw(e as i32));
        let target = walked.target.map(Arc::<[u8]>::from);
        let mut dir = self.this()?;
        let mut result = None;
        for (i, (&attr, &name)) in seen.iter().zip(&wanted).enumerate() {
            let last = i + 1 == seen.len();
            let target = if last { target.clone() } else { None };
            let known = Known::File(attr, target.clone());
            match i {
                0 => self.note_since(before, name, known.clone(), now),
                _ => dir.note(name, known.clone()),
            }
            result.get_or_insert(known);
            dir = dir.child(name, attr, target);
        }
        match (error, wanted.get(seen.len())) {
            (Some(Errno::ENOENT), Some(missing)) if walked.attrs.len() >= above => {
                match seen.len() {
                    0 => self.note_since(before, missing, Known::Nothing, now),
                    _ => dir.note(missing, Known::Nothing),
                }
                Ok(result.unwrap_or(Known::Nothing))
            }
            (Some(e), _) if result.is_none() => Err(e),
            _ => result.ok_or(UNEXPECTED),
        }
    }

    /// Notes what a name stands for, where nobody else changes that.
    pub(super) fn note(&self, name: &[u8], known: Known) {
        if self.fs.exclusive() {
            self.children.lock().set(name, known, 0);
        }
    }

    /// Notes what a name stands for, as it was seen at `now`, when the directory had the generation `before`.
    pub(super) fn note_since(&self, before: u64, name: &[u8], known: Known, now: u64) {
        let mut children = self.children.lock();
        if self.remembers(&children, before) {
            children.set(name, known, now);
        }
    }
}

/// Attributes from a donated descriptor; what `fstat(2)` does not tell, or not to the sentry in its user namespace, is as
/// before.
fn convert_stat(old: HostAttr, stat: &platform::host::file::Stat) -> HostAttr {
    let time = |sec, nsec: i64| gofer::Timestamp { sec, nsec: nsec as u32 };
    HostAttr {
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        size: stat.st_size.max(0) as u64,
        blocks: stat.st_blocks.max(0) as u64,
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        ..old
    }
}

impl Drop for GoferInode {
    fn drop(&mut self) {
        self.end_watch();
        if let Some(node) = self.node.get() {
            self.fs.client.forget(*node);
        }
        let mut inodes = self.fs.inodes.lock();
        if inodes.get(&self.key).is_some_and(|weak| weak.strong_count() == 0) {
            inodes.remove(&self.key);
        }
    }
}

impl Inode for GoferInode {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn attr(&self) -> Result<Attr> {
        let attr = self.host_attr()?;
        Ok(Attr {
            dev: self.fs.dev_of(attr.dev),
            ino: attr.ino,
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            size: attr.size,
            blksize: attr.blksize,
            blocks: attr.blocks,
            atime: convert::nanos(attr.atime),
            mtime: convert::nanos(attr.mtime),
            ctime: convert::nanos(attr.ctime),
            btime: attr.btime.map(convert::nanos),
        })
    }

    fn set_attr(&self, changes: &SetAttr) -> Result<()> {
        self.change_attr(changes)
    }

    fn open(self: Arc<Self>, _path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            FileType::Directory => Ok(Arc::new(OpenDirectory::new(self))),
            FileType::Regular => Ok(Arc::new(GoferFile::open(self, flags)?)),
            _ => Err(Errno::ENXIO),
        }
    }

    fn open_outside(&self, flags: OpenFlags) -> Option<Result<OwnedFd>> {
        self.open_fifo(flags)
    }

    fn connect_outside(&self, kind: Kind) -> Option<Result<OwnedFd>> {
        self.connect_socket(kind)
    }

    fn bind_outside(
        &self,
        name: &[u8],
        kind: Kind,
        mode: u32,
        owner: Owner,
    ) -> Option<Result<(Arc<dyn Inode>, OwnedFd)>> {
        self.bind_socket(name, kind, mode, owner)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.lookup_ahead(name, b"")
    }

    fn lookup_ahead(&self, name: &[u8], rest: &[u8]) -> Result<Arc<dyn Inode>> {
        if self.kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let mut known = self.known(name);
        if known.is_none() {
            self.list_if_due()?;
            known = self.known(name);
        }
        let this = self.this()?;
        match known {
            Some(Known::File(attr, target)) => Ok(this.known_child(name, attr, target)),
            Some(Known::Nothing) => Err(Errno::ENOENT),
            None => match self.ask(name, rest)? {
                Known::File(attr, target) => Ok(this.child(name, attr, target)),
                Known::Nothing => Err(Errno::ENOENT),
            },
        }
    }

    fn create(&self, name: &[u8], mode: u32, rdev: u64, owner: Owner) -> Result<Arc<dyn Inode>> {
        self.make_file(name, mode, rdev, owner)
    }

    fn create_unnamed(&self, mode: u32, owner: Owner) -> Result<Arc<dyn Inode>> {
        self.make_unnamed(mode, owner)
    }

    fn mkdir(&self, name: &[u8], mode: u32, owner: Owner) -> Result<Arc<dyn Inode>> {
        self.make_directory(name, mode, owner)
    }

    fn symlink(&self, name: &[u8], target: &[u8], owner: Owner) -> Result<Arc<dyn Inode>> {
        self.make_symlink(name, target, owner)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.make_link(name, target)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove_file(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove_directory(name)
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        self.move_child(name, new_dir, new_name, flags)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        if let Some(target) = self.target.get() {
            return Ok(target.to_vec());
        }
        let client = &self.fs.client;
        let target = self.at(|dir, names| client.readlink(dir, names))?;
        let _ = self.target.set(target.clone().into());
        Ok(target)
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let client = &self.fs.client;
        self.at(|dir, names| client.getxattr(dir, names, name))
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        let client = &self.fs.client;
        let flags = gofer::XattrFlags::from_bits_truncate(flags);
        self.at(|dir, names| client.setxattr(dir, names, name, value, flags))
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        let client = &self.fs.client;
        let list = self.at(|dir, names| client.listxattr(dir, names))?;
        let names = list.split(|b| *b == 0).filter(|name| !name.is_empty());
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let client = &self.fs.client;
        self.at(|dir, names| client.removexattr(dir, names, name))
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
