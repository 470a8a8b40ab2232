//! Open directories of an overlay: both layers as one.

use super::copy_up::open;
use super::{OverlayInode, is_whiteout};
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, DirEntry, File, FileOps, FileType, Inode, Mount, OpenFlags};
use rustc_hash::FxHashSet;
use std::any::Any;
use std::sync::Arc;

/// One entry of the merged directory.
pub(super) struct Merged {
    pub name: Box<[u8]>,
    ino: u64,
    file_type: FileType,
}

/// An open directory. A pass over it sees the entries as they were at its start.
pub struct OverlayDirectory {
    inode: Arc<OverlayInode>,
    listing: Mutex<Option<Arc<[Merged]>>, { rank::LEAF }>,
}

impl OverlayDirectory {
    pub(super) fn new(inode: Arc<OverlayInode>) -> Self {
        Self { inode, listing: Mutex::new(None) }
    }

    fn listing(&self, restart: bool) -> Result<Arc<[Merged]>> {
        if !restart && let Some(listing) = &*self.listing.lock() {
            return Ok(listing.clone());
        }
        let fresh: Arc<[Merged]> = self.inode.merged()?.into();
        *self.listing.lock() = Some(fresh.clone());
        Ok(fresh)
    }
}

/// Entries of one layer's directory, without the dots.
fn entries(dir: &Arc<dyn Inode>, mount: &Arc<Mount>) -> Result<Vec<Merged>> {
    let file = open(dir, mount, OpenFlags::DIRECTORY)?;
    let mut list = Vec::new();
    file.ops().readdir(&file, 0, &mut |entry| {
        if !matches!(entry.name, b"." | b"..") {
            let DirEntry { name, ino, file_type, .. } = entry;
            list.push(Merged { name: name.into(), ino, file_type });
        }
        true
    })?;
    Ok(list)
}

/// Names in a directory of the upper layer.
pub(super) fn names(dir: &Arc<dyn Inode>, mounts: &[Arc<Mount>; 2]) -> Result<Vec<Box<[u8]>>> {
    let [upper, _] = mounts;
    Ok(entries(dir, upper)?.into_iter().map(|entry| entry.name).collect())
}

impl OverlayInode {
    /// The entries of both layers.
    pub(super) fn merged(&self) -> Result<Vec<Merged>> {
        let layers = self.layers();
        let [upper_mount, lower_mount] = &self.fs.mounts;
        let mut list = Vec::new();
        let mut hidden = FxHashSet::default();
        if let Some(upper) = &layers.upper {
            for mut entry in entries(upper, upper_mount)? {
                hidden.insert(entry.name.clone());
                if entry.file_type == FileType::CharDevice
                    && is_whiteout(&*upper.lookup(&entry.name)?)?
                {
                    continue;
                }
                entry.ino = self.number_of_upper(&entry);
                list.push(entry);
            }
        }
        if let Some(lower) = &layers.lower {
            // Numbers of files on other devices below are what `stat` says only for those in use:
            // telling more would mean to ask for each.
            let lower = entries(lower, lower_mount)?;
            list.extend(lower.into_iter().filter(|entry| !hidden.contains(&entry.name)));
        }
        Ok(list)
    }

    fn number_of_upper(&self, entry: &Merged) -> u64 {
        let attr = Attr { ino: entry.ino, ..crate::fs::anon::attr() };
        self.fs.number(true, &attr)
    }
}

impl FileOps for OverlayDirectory {
    fn readdir(
        &self,
        file: &File,
        pos: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let ino = self.inode.ino;
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
        for (merged, next) in listing.iter().skip(skip).zip(pos.max(2) + 1..) {
            let Merged { name, ino, file_type } = merged;
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
        Ok(i64::MAX as u64)
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
