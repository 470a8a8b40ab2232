//! Open directories of exports.

use super::{GoferInode, LIST_ATTRS, convert};
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::sync::{Mutex, rank};
use crate::vfs::{DirEntry, File, FileOps, FileType};
use gofer::{Entry, ListOptions};
use std::any::Any;
use std::sync::Arc;

/// One entry of the listing that a pass goes through.
struct Listed {
    name: Box<[u8]>,
    ino: u64,
    file_type: FileType,
}

/// An open directory. A pass over it sees the entries as they were at its start.
pub struct OpenDirectory {
    inode: Arc<GoferInode>,
    listing: Mutex<Option<Arc<[Listed]>>, { rank::LEAF }>,
}

impl OpenDirectory {
    pub(super) fn new(inode: Arc<GoferInode>) -> Self {
        Self { inode, listing: Mutex::new(None) }
    }

    fn listing(&self, restart: bool) -> Result<Arc<[Listed]>> {
        if !restart && let Some(listing) = &*self.listing.lock() {
            return Ok(listing.clone());
        }
        let fresh = self.fetch()?;
        *self.listing.lock() = Some(fresh.clone());
        Ok(fresh)
    }

    fn fetch(&self) -> Result<Arc<[Listed]>> {
        if self.inode.knows_names() {
            let known = self.inode.children.lock().is_whole();
            let options = ListOptions { attr_limit: LIST_ATTRS, targets: true };
            let entries = if known { None } else { self.inode.list(options)? };
            if let Some(entries) = entries {
                return Ok(entries.into_iter().map(listed).collect());
            }
            let children = self.inode.children.lock();
            if let Some(all) = children.all() {
                let listed = all.map(|(name, attr)| Listed {
                    name: name.into(),
                    ino: attr.ino,
                    file_type: convert::file_type(attr.kind()),
                });
                return Ok(listed.collect());
            }
        }
        // Names only.
        let client = self.inode.client();
        let options = ListOptions { attr_limit: 0, targets: false };
        let listing = self.inode.at(|dir, names| client.list(dir, names, false, options))?;
        Ok(listing.entries.into_iter().map(listed).collect())
    }
}

fn listed(entry: Entry) -> Listed {
    Listed { name: entry.name, ino: entry.ino, file_type: convert::file_type(entry.kind) }
}

impl FileOps for OpenDirectory {
    fn readdir(
        &self,
        file: &File,
        pos: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let ino = self.inode.host_attr()?.ino;
        let parent = file.path().and_then(|path| path.dentry.parent());
        let parent_ino = match parent {
            Some(parent) => parent.inode().attr()?.ino,
            None => ino,
        };
        for (next, name, ino) in [(1, &b"."[..], ino), (2, &b".."[..], parent_ino)] {
            let entry = DirEntry { name, ino, file_type: FileType::Directory, next };
            if pos < next && !emit(entry) {
                return Ok(());
            }
        }
        let listing = self.listing(pos == 0)?;
        let skip = usize::try_from(pos.saturating_sub(2)).unwrap_or(usize::MAX);
        for (listed, next) in listing.iter().skip(skip).zip(pos.max(2) + 1..) {
            let Listed { name, ino, file_type } = listed;
            if !emit(DirEntry { name, ino: *ino, file_type: *file_type, next }) {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, _file: &File, _dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        // The end of the listing, as `SEEK_END` means it.
        Ok(i64::MAX as u64)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        let client = self.inode.client();
        self.inode.at(|dir, names| client.fsync(dir, names, data_only))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
