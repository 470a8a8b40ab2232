//! Directories of tmpfs.

use super::inode::{Kind, TmpfsInode};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use crate::vfs::{DirEntry, File, FileOps, FileType, Inode, Owner};
use rustc_hash::FxHashMap;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;
const RENAME_WHITEOUT: u32 = 4;

/// Positions of `.` and `..`; entries come behind them.
const FIRST_POSITION: u64 = 2;
/// What an entry adds to a directory's size (`BOGO_DIRENT_SIZE`).
const ENTRY_SIZE: u64 = 20;

struct Entry {
    name: Arc<[u8]>,
    inode: Arc<TmpfsInode>,
}

/// Entries by name and by position. Positions only grow, so a reader that stopped at one finds its
/// way although others add and remove entries.
struct Entries {
    names: FxHashMap<Arc<[u8]>, u64>,
    order: BTreeMap<u64, Entry>,
    next: u64,
    parent: Weak<TmpfsInode>,
    /// Removed: nothing may be added any more.
    dead: bool,
}

impl Default for Entries {
    fn default() -> Self {
        Self {
            names: FxHashMap::default(),
            order: BTreeMap::new(),
            next: FIRST_POSITION,
            parent: Weak::new(),
            dead: false,
        }
    }
}

impl Entries {
    fn get(&self, name: &[u8]) -> Option<&Arc<TmpfsInode>> {
        Some(&self.order.get(self.names.get(name)?)?.inode)
    }

    fn insert(&mut self, name: &[u8], inode: Arc<TmpfsInode>) {
        let name: Arc<[u8]> = Arc::from(name);
        let position = self.next;
        self.next += 1;
        if let Some(old) = self.names.insert(name.clone(), position) {
            self.order.remove(&old);
        }
        self.order.insert(position, Entry { name, inode });
    }

    fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpfsInode>> {
        let position = self.names.remove(name)?;
        Some(self.order.remove(&position)?.inode)
    }

    /// Puts another inode behind a name, at the same position.
    fn replace(&mut self, name: &[u8], inode: Arc<TmpfsInode>) {
        if let Some(entry) = self.names.get(name).and_then(|p| self.order.get_mut(p)) {
            entry.inode = inode;
        }
    }
}

/// A directory's contents.
#[derive(Default)]
pub(super) struct Directory {
    entries: Mutex<Entries, { rank::INODE }>,
}

impl Directory {
    pub(super) fn get(&self, name: &[u8]) -> Option<Arc<TmpfsInode>> {
        self.entries.lock().get(name).cloned()
    }

    pub(super) fn size(&self) -> u64 {
        (self.entries.lock().order.len() as u64 + 2) * ENTRY_SIZE
    }

    pub(super) fn take_children(&mut self) -> Vec<Arc<TmpfsInode>> {
        let entries = self.entries.get_mut();
        entries.names.clear();
        std::mem::take(&mut entries.order).into_values().map(|e| e.inode).collect()
    }
}

fn is_dir(inode: &TmpfsInode) -> bool {
    matches!(inode.kind, Kind::Directory(_))
}

impl TmpfsInode {
    fn set_parent(&self, parent: &Arc<TmpfsInode>) {
        if let Kind::Directory(dir) = &self.kind {
            dir.entries.lock().parent = Arc::downgrade(parent);
        }
    }

    /// Makes an inode and gives it the name.
    pub(super) fn make(
        &self,
        name: &[u8],
        mode: u32,
        owner: Owner,
        kind: Kind,
    ) -> Result<Arc<dyn Inode>> {
        let dir = self.directory()?;
        let child = Self::new(self.tmpfs(), mode, owner, kind)?;
        child.inherit_flags(self);
        if is_dir(&child) {
            child.set_parent(&self.this()?);
        }
        {
            let mut entries = dir.entries.lock();
            if entries.dead {
                return Err(Errno::ENOENT);
            }
            if entries.names.contains_key(name) {
                return Err(Errno::EEXIST);
            }
            entries.insert(name, child.clone());
        }
        if is_dir(&child) {
            self.add_links(1);
        }
        self.touch();
        Ok(child)
    }

    pub(super) fn link_child(&self, name: &[u8], child: Arc<TmpfsInode>) -> Result<()> {
        {
            let mut entries = self.directory()?.entries.lock();
            if entries.dead {
                return Err(Errno::ENOENT);
            }
            if entries.names.contains_key(name) {
                return Err(Errno::EEXIST);
            }
            child.add_link()?;
            entries.insert(name, child);
        }
        self.touch();
        Ok(())
    }

    pub(super) fn remove_file(&self, name: &[u8]) -> Result<()> {
        let child = {
            let mut entries = self.directory()?.entries.lock();
            if is_dir(entries.get(name).ok_or(Errno::ENOENT)?) {
                return Err(Errno::EISDIR);
            }
            entries.remove(name).ok_or(Errno::ENOENT)?
        };
        child.add_links(-1);
        self.touch();
        Ok(())
    }

    pub(super) fn remove_dir(&self, name: &[u8]) -> Result<()> {
        let child = self.directory()?.get(name).ok_or(Errno::ENOENT)?;
        child.kill_empty()?;
        let removed = self.directory()?.entries.lock().remove(name);
        drop(removed);
        child.add_links(-2);
        self.add_links(-1);
        self.touch();
        Ok(())
    }

    /// Marks an empty directory as removed. `ENOTEMPTY` if it is not empty.
    fn kill_empty(&self) -> Result<()> {
        let mut entries = self.directory()?.entries.lock();
        if !entries.order.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        entries.dead = true;
        Ok(())
    }

    pub(super) fn rename_child(
        &self,
        name: &[u8],
        new_dir: &TmpfsInode,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) != 0 {
            return Err(Errno::EINVAL);
        }
        // The VFS keeps both directories from changing under us: looking before locking is safe.
        let child = self.directory()?.get(name).ok_or(Errno::ENOENT)?;
        let target = new_dir.directory()?.get(new_name);
        if flags & RENAME_EXCHANGE != 0 {
            return self.exchange(name, child, new_dir, new_name, target.ok_or(Errno::ENOENT)?);
        }
        if let Some(target) = &target {
            if flags & RENAME_NOREPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            if Arc::ptr_eq(target, &child) {
                return Ok(());
            }
            match (is_dir(&child), is_dir(target)) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) => target.kill_empty()?,
                (false, false) => {}
            }
        }
        let whiteout = if flags & RENAME_WHITEOUT != 0 {
            let mode = FileType::CharDevice as u32;
            let owner = child.meta.lock().owner;
            Some(Self::new(self.tmpfs(), mode, owner, Kind::Special(0))?)
        } else {
            None
        };
        if new_dir.directory()?.entries.lock().dead {
            return Err(Errno::ENOENT);
        }
        let dropped = self.directory()?.entries.lock().remove(name);
        drop(dropped);
        new_dir.directory()?.entries.lock().insert(new_name, child.clone());
        if let Some(whiteout) = whiteout {
            self.directory()?.entries.lock().insert(name, whiteout);
        }
        if let Some(target) = &target {
            target.add_links(if is_dir(target) { -2 } else { -1 });
            if is_dir(target) {
                new_dir.add_links(-1);
            }
        }
        self.moved(&child, new_dir)?;
        self.touch();
        new_dir.touch();
        Ok(())
    }

    /// Bookkeeping for a child that went from `self` to `new_dir`.
    fn moved(&self, child: &TmpfsInode, new_dir: &TmpfsInode) -> Result<()> {
        if is_dir(child) && !std::ptr::eq(self, new_dir) {
            child.set_parent(&new_dir.this()?);
            self.add_links(-1);
            new_dir.add_links(1);
        }
        child.add_links(0);
        Ok(())
    }

    fn exchange(
        &self,
        name: &[u8],
        child: Arc<TmpfsInode>,
        new_dir: &TmpfsInode,
        new_name: &[u8],
        target: Arc<TmpfsInode>,
    ) -> Result<()> {
        self.directory()?.entries.lock().replace(name, target.clone());
        new_dir.directory()?.entries.lock().replace(new_name, child.clone());
        self.moved(&child, new_dir)?;
        new_dir.moved(&target, self)?;
        self.touch();
        new_dir.touch();
        Ok(())
    }

    /// Whether it is a directory without entries.
    pub fn is_empty_dir(&self) -> bool {
        matches!(&self.kind, Kind::Directory(dir) if dir.entries.lock().order.is_empty())
    }

    /// Emits the entries from position `pos` on.
    fn read_entries(&self, mut pos: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let entries = self.directory()?.entries.lock();
        if pos == 0 {
            let ino = self.ino();
            if !emit(DirEntry { name: b".", ino, file_type: FileType::Directory, next: 1 }) {
                return Ok(());
            }
            pos = 1;
        }
        if pos == 1 {
            let ino = entries.parent.upgrade().map_or(self.ino(), |p| p.ino());
            let file_type = FileType::Directory;
            if !emit(DirEntry { name: b"..", ino, file_type, next: FIRST_POSITION }) {
                return Ok(());
            }
            pos = FIRST_POSITION;
        }
        for (&position, entry) in entries.order.range(pos..) {
            let wants_more = emit(DirEntry {
                name: &entry.name,
                ino: entry.inode.ino(),
                file_type: entry.inode.file_type(),
                next: position + 1,
            });
            if !wants_more {
                break;
            }
        }
        Ok(())
    }
}

/// An open directory.
pub(super) struct DirectoryFile {
    inode: Arc<TmpfsInode>,
}

impl DirectoryFile {
    pub(super) fn new(inode: Arc<TmpfsInode>) -> Self {
        Self { inode }
    }
}

impl FileOps for DirectoryFile {
    fn read(&self, _: &File, _: &mut dyn crate::io::Sink, _: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.inode.directory()?.size())
    }

    fn readdir(
        &self,
        file: &File,
        pos: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.inode.accessed(file);
        self.inode.read_entries(pos, emit)
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
