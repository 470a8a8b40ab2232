//! The dentry cache: names in directories and what they stand for.
//!
//! A dentry holds its parent; a parent knows its children only weakly, so that an unused branch
//! can go. What keeps recently used names alive is a ring of bounded size ([`super::dcache`]).
//! Names known not to exist are remembered in the parent.

use super::dcache;
use super::{FileSystem, FileType, Inode};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, MutexGuard, RwLock, rank};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// Longest name of a directory entry, in bytes.
pub const NAME_MAX: usize = 255;

/// What a directory knows of one name.
enum Child {
    Known(Weak<Dentry>),
    /// The name does not exist.
    Negative,
}

type Children = FxHashMap<Arc<[u8]>, Child>;

/// Where a dentry hangs in its file system's tree.
struct Place {
    /// `None` for the root of a file system, and for what never had a name.
    parent: Option<Arc<Dentry>>,
    name: Arc<[u8]>,
}

/// A name in a directory, and what it stands for. Always positive.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    fs: Arc<dyn FileSystem>,
    place: Mutex<Place, { rank::DENTRY }>,
    children: RwLock<Option<Box<Children>>, { rank::DENTRY }>,
    /// Serialises changes of this directory's entries with each other and with look-ups that reach
    /// the file system (Linux's `i_rwsem`).
    entries: Mutex<(), { rank::DIRECTORY }>,
    unlinked: AtomicBool,
    /// May be given a name although it has none (`O_TMPFILE` without `O_EXCL`).
    linkable: bool,
    /// Used since the cache's hand last passed.
    referenced: AtomicBool,
    /// Mounts on this dentry, in whatever namespace.
    mounts: AtomicU32,
    /// Mounts on it or below, where names are looked up anew each time: a dentry on the way to a mount must
    /// stay the one that is found.
    pinned: AtomicU32,
    volatile: bool,
    /// Its file system waits for guests ([`FileSystem::waits`]).
    waits: bool,
    /// Types never change, so the walk need not ask for attributes.
    file_type: FileType,
}

impl Dentry {
    /// The root of a file system, or an object that has no name.
    pub fn new_root(inode: Arc<dyn Inode>) -> Arc<Dentry> {
        Self::new(inode, None, Arc::from(&b""[..]))
    }

    /// An object without a place in a directory (`O_TMPFILE`, memfd): `name` is only shown.
    pub fn new_unlinked(inode: Arc<dyn Inode>, name: &[u8]) -> Arc<Dentry> {
        let dentry = Self::new(inode, None, Arc::from(name));
        dentry.unlinked.store(true, Ordering::Relaxed);
        dentry
    }

    /// An object without a name that belongs to `dir`'s file system (`O_TMPFILE`).
    pub fn new_unnamed(
        inode: Arc<dyn Inode>,
        dir: &Arc<Dentry>,
        name: &[u8],
        linkable: bool,
    ) -> Arc<Dentry> {
        let dentry = Self::with(inode, Some(dir.clone()), Arc::from(name), linkable);
        dentry.unlinked.store(true, Ordering::Relaxed);
        dentry
    }

    fn new(inode: Arc<dyn Inode>, parent: Option<Arc<Dentry>>, name: Arc<[u8]>) -> Arc<Dentry> {
        Self::with(inode, parent, name, false)
    }

    fn with(
        inode: Arc<dyn Inode>,
        parent: Option<Arc<Dentry>>,
        name: Arc<[u8]>,
        linkable: bool,
    ) -> Arc<Dentry> {
        // One file system's inodes share it; asking the parent avoids a virtual call, and is right
        // because mounts, not dentries, cross file systems.
        let fs = parent.as_ref().map_or_else(|| inode.fs(), |p| p.fs.clone());
        let (volatile, waits) = (fs.volatile_names(), fs.waits());
        let file_type = inode.file_type();
        Arc::new(Dentry {
            inode,
            fs,
            place: Mutex::new(Place { parent, name }),
            children: RwLock::new(None),
            entries: Mutex::new(()),
            unlinked: AtomicBool::new(false),
            linkable,
            referenced: AtomicBool::new(false),
            mounts: AtomicU32::new(0),
            pinned: AtomicU32::new(0),
            volatile,
            waits,
            file_type,
        })
    }

    /// The object.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The file system the object belongs to.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// The type of the object.
    pub fn file_type(&self) -> FileType {
        self.file_type
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// The directory it is in; `None` for a root and for what has no name.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    /// Its name; empty for a root.
    pub fn name(&self) -> Arc<[u8]> {
        self.place.lock().name.clone()
    }

    /// The name has been removed, or never was.
    pub fn is_unlinked(&self) -> bool {
        self.unlinked.load(Ordering::Acquire)
    }

    /// True if it may be given a name although it has none.
    pub fn is_linkable(&self) -> bool {
        self.linkable
    }

    /// True if something is mounted here in some namespace.
    pub fn is_mountpoint(&self) -> bool {
        self.mounts.load(Ordering::Acquire) != 0
    }

    /// Notes that a mount was put here (`true`) or taken away.
    pub(super) fn count_mount(self: &Arc<Self>, added: bool) {
        let count = |n: &AtomicU32| match added {
            true => n.fetch_add(1, Ordering::AcqRel),
            false => n.fetch_sub(1, Ordering::AcqRel),
        };
        count(&self.mounts);
        if self.volatile {
            let mut at = Some(self.clone());
            while let Some(dentry) = at {
                count(&dentry.pinned);
                at = dentry.parent();
                if let (Some(parent), true) = (&at, added) {
                    // Another look-up may have put its own dentry in the place of this one.
                    let (name, known) = (dentry.name(), Child::Known(Arc::downgrade(&dentry)));
                    parent.children.write().get_or_insert_default().insert(name, known);
                }
            }
        }
    }

    /// True if `self` is `other` or lies beneath it.
    pub fn is_within(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(self.clone());
        while let Some(dentry) = at {
            if Arc::ptr_eq(&dentry, other) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// Clears the mark of use; returns whether it was set.
    pub(super) fn take_referenced(&self) -> bool {
        self.referenced.swap(false, Ordering::Relaxed)
    }

    fn touch(&self) {
        if !self.referenced.load(Ordering::Relaxed) {
            self.referenced.store(true, Ordering::Relaxed);
        }
    }

    /// True when its file system may wait for a guest ([`FileSystem::waits`]).
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// True when its file system makes up inodes at each look-up: they are the same if their numbers are.
    pub(crate) fn has_passing_inodes(&self) -> bool {
        self.volatile && !self.waits
    }

    /// Locks the directory against changes of its entries; nothing where the file system waits for guests.
    pub(super) fn lock_entries(&self) -> Option<MutexGuard<'_, ()>> {
        (!self.waits).then(|| self.entries.lock())
    }

    /// Locks two directories of one file system, as [`Dentry::lock_entries`].
    pub(super) fn lock_two<'a>(a: &'a Dentry, b: &'a Dentry) -> [Option<MutexGuard<'a, ()>>; 2] {
        if std::ptr::eq(a, b) || a.waits {
            return [a.lock_entries(), None];
        }
        let (first, second) = Mutex::lock_pair(&a.entries, &b.entries);
        [Some(first), Some(second)]
    }

    /// What the cache says of `name`: `None` nothing, `Some(None)` that it does not exist.
    fn cached(&self, name: &[u8]) -> Option<Option<Arc<Dentry>>> {
        let children = self.children.read();
        match children.as_ref()?.get(name)? {
            Child::Negative => Some(None),
            Child::Known(child) => child.upgrade().map(Some),
        }
    }

    /// The child of that name. `rest` is the rest of the path being walked: a file system that asks
    /// someone far away may use it to fetch several components at once.
    pub fn lookup(self: &Arc<Self>, name: &[u8], rest: &[u8]) -> Result<Arc<Dentry>> {
        if self.volatile {
            return self.lookup_volatile(name);
        }
        match self.cached(name) {
            Some(Some(child)) => {
                child.touch();
                Ok(child)
            }
            Some(None) => Err(Errno::ENOENT),
            None => {
                let _entries = self.lock_entries();
                self.lookup_locked(name, rest)
            }
        }
    }

    /// As [`Dentry::lookup`] by a caller that holds the entries' lock.
    pub(super) fn lookup_locked(self: &Arc<Self>, name: &[u8], rest: &[u8]) -> Result<Arc<Dentry>> {
        if self.volatile {
            return self.lookup_volatile(name);
        }
        match self.cached(name) {
            Some(Some(child)) => return Ok(child),
            Some(None) => return Err(Errno::ENOENT),
            None => {}
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        match self.inode.lookup_ahead(name, rest) {
            Ok(inode) => Ok(self.insert(name, inode)),
            Err(Errno::ENOENT) => {
                self.set_negative(name);
                Err(Errno::ENOENT)
            }
            Err(e) => Err(e),
        }
    }

    fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed) > 0
    }

    /// Names may come and go by themselves: the file system is always asked. Nothing is locked
    /// meanwhile, so it may take whatever lock its answer needs.
    fn lookup_volatile(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let inode = self.inode.lookup(name)?;
        match self.cached(name) {
            Some(Some(child)) if Arc::ptr_eq(&child.inode, &inode) || child.is_pinned() => {
                child.touch();
                Ok(child)
            }
            _ => Ok(self.insert(name, inode)),
        }
    }

    /// Makes `name` stand for `inode`. The caller holds the entries' lock (not for volatile names).
    pub(super) fn insert(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let name: Arc<[u8]> = Arc::from(name);
        let child = Self::new(inode, Some(self.clone()), name.clone());
        self.children
            .write()
            .get_or_insert_default()
            .insert(name, Child::Known(Arc::downgrade(&child)));
        if !self.volatile || (child.is_dir() && self.fs.keeps_directories()) {
            dcache::keep(child.clone());
        }
        child
    }

    /// Notes that `name` does not exist.
    pub(super) fn set_negative(self: &Arc<Self>, name: &[u8]) {
        if self.volatile || name.len() > NAME_MAX {
            return;
        }
        let name: Arc<[u8]> = Arc::from(name);
        let old =
            self.children.write().get_or_insert_default().insert(name.clone(), Child::Negative);
        if !matches!(old, Some(Child::Negative)) {
            dcache::keep_negative(Arc::downgrade(self), name);
        }
    }

    /// Forgets that `name` does not exist (the cache needs the room).
    pub(super) fn forget_negative(&self, name: &[u8]) {
        let mut children = self.children.write();
        if let Some(map) = children.as_mut()
            && matches!(map.get(name), Some(Child::Negative))
        {
            map.remove(name);
        }
    }

    /// Forgets everything known of the names in this directory that nobody uses.
    pub fn forget_children(&self) {
        let mut children = self.children.write();
        if let Some(map) = children.as_mut() {
            map.retain(|_, child| matches!(child, Child::Known(c) if c.strong_count() > 0));
        }
    }

    /// The name of `self` was removed from `parent` (whose entries are locked).
    pub(super) fn set_unlinked(&self, parent: &Arc<Dentry>, name: &[u8]) {
        self.unlinked.store(true, Ordering::Release);
        parent.set_negative(name);
    }

    /// Moves `self` to `name` in `parent`. Both directories' entries are locked.
    pub(super) fn set_place(self: &Arc<Self>, parent: &Arc<Dentry>, name: &[u8]) {
        let name: Arc<[u8]> = Arc::from(name);
        let old = std::mem::replace(
            &mut *self.place.lock(),
            Place { parent: Some(parent.clone()), name: name.clone() },
        );
        if let Some(old_parent) = &old.parent {
            let mut children = old_parent.children.write();
            if let Some(map) = children.as_mut()
                && matches!(map.get(&old.name), Some(Child::Known(c)) if c.as_ptr() == Arc::as_ptr(self))
            {
                map.remove(&old.name);
            }
        }
        parent
            .children
            .write()
            .get_or_insert_default()
            .insert(name, Child::Known(Arc::downgrade(self)));
    }
}

impl Dentry {
    /// `a`, called `a_name` in `a_dir`, and `b` change places. Both directories' entries are locked.
    pub(super) fn exchange(
        a: &Arc<Dentry>,
        a_dir: &Arc<Dentry>,
        a_name: &[u8],
        b: &Arc<Dentry>,
        b_dir: &Arc<Dentry>,
        b_name: &[u8],
    ) {
        a.set_place(b_dir, b_name);
        // The entry of `b` is already overwritten: only its own idea of its place is left to change.
        b.set_place(a_dir, a_name);
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        let this: *const Dentry = self;
        let place = self.place.get_mut();
        let name = place.name.clone();
        let Some(mut parent) = place.parent.take() else { return };
        {
            let mut children = parent.children.write();
            if let Some(map) = children.as_mut()
                && matches!(map.get(&name), Some(Child::Known(c)) if std::ptr::eq(c.as_ptr(), this))
            {
                map.remove(&name);
            }
        }
        // The parent may go with its last child, and its parent with it, as deep as a guest has made
        // directories: a loop, not a recursion.
        while let Some(mut last) = Arc::into_inner(parent) {
            let place = last.place.get_mut();
            let Some(next) = place.parent.take() else { break };
            {
                let mut children = next.children.write();
                if let Some(map) = children.as_mut()
                    && matches!(map.get(&place.name), Some(Child::Known(c)) if c.strong_count() == 0)
                {
                    map.remove(&place.name);
                }
            }
            parent = next;
        }
    }
}

impl std::fmt::Debug for Dentry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dentry")
            .field("name", &self.name().escape_ascii().to_string())
            .field("unlinked", &self.is_unlinked())
            .finish_non_exhaustive()
    }
}
