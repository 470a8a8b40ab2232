//! Making, removing and renaming in an overlay.

use super::inode::Layers;
use super::{OPAQUE, OverlayInode, is_whiteout};
use crate::errno::{Errno, Result};
use crate::vfs::{FileType, Inode, Owner};
use std::sync::Arc;

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;

/// Hides a name of the lower layer.
fn hide(upper: &Arc<dyn Inode>, name: &[u8]) -> Result<()> {
    upper.create(name, FileType::CharDevice as u32, 0, Owner { uid: 0, gid: 0 }).map(drop)
}

/// Takes a whiteout away, so that something can be made in its place. True if there was one.
fn unhide(upper: &Arc<dyn Inode>, name: &[u8]) -> Result<bool> {
    match upper.lookup(name) {
        Ok(inode) if is_whiteout(&*inode)? => upper.unlink(name).map(|()| true),
        Ok(_) | Err(Errno::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes the whiteouts of a directory whose merged view is empty.
fn empty_out(dir: &Arc<dyn Inode>, names: &[Box<[u8]>]) -> Result<()> {
    names.iter().try_for_each(|name| dir.unlink(name))
}

impl OverlayInode {
    /// Makes something new in the upper layer; a directory over a hidden name is opaque.
    pub(super) fn make_in_upper(
        &self,
        name: &[u8],
        directory: bool,
        make: impl FnOnce(&Arc<dyn Inode>) -> Result<Arc<dyn Inode>>,
    ) -> Result<Arc<dyn Inode>> {
        let upper = self.copy_up(true)?;
        let hidden = unhide(&upper, name)?;
        let made = match make(&upper) {
            Ok(made) => made,
            Err(e) => {
                if hidden {
                    hide(&upper, name)?;
                }
                return Err(e);
            }
        };
        if directory && hidden {
            made.set_xattr(OPAQUE, b"y", 0)?;
        }
        Ok(self.child(name, Layers { upper: Some(made), lower: None })?)
    }

    pub(super) fn remove_file(&self, name: &[u8]) -> Result<()> {
        let found = self.find(name, b"")?;
        let upper = self.copy_up(true)?;
        let below = self.in_lower(name, b"")?.is_some();
        if found.upper.is_some() {
            upper.unlink(name)?;
        }
        if below {
            hide(&upper, name)?;
        }
        Ok(())
    }

    pub(super) fn remove_directory(&self, name: &[u8]) -> Result<()> {
        let child = self.child(name, self.find(name, b"")?)?;
        if child.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let upper = self.copy_up(true)?;
        child.make_empty()?;
        if child.layers().upper.is_some() {
            upper.rmdir(name)?;
        }
        if self.in_lower(name, b"")?.is_some() {
            hide(&upper, name)?;
        }
        Ok(())
    }

    /// `ENOTEMPTY` unless the merged directory is empty; removes the whiteouts in its upper part.
    fn make_empty(&self) -> Result<()> {
        if !self.merged()?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        match &self.layers().upper {
            Some(upper) => empty_out(upper, &self.whiteouts()?),
            None => Ok(()),
        }
    }

    /// A directory that lies (partly) in the lower layer cannot be moved: its lower part would stay.
    fn check_movable(&self) -> Result<()> {
        let stays = self.file_type() == FileType::Directory && self.layers().lower.is_some();
        if stays { Err(Errno::EXDEV) } else { Ok(()) }
    }

    pub(super) fn move_child(
        &self,
        name: &[u8],
        new_dir: &OverlayInode,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE) != 0 {
            return Err(Errno::EINVAL);
        }
        let exchange = flags & RENAME_EXCHANGE != 0;
        let child = self.child(name, self.find(name, b"")?)?;
        child.check_movable()?;
        let target = match new_dir.find(new_name, b"") {
            Ok(layers) => Some(new_dir.child(new_name, layers)?),
            Err(Errno::ENOENT) if !exchange => None,
            Err(e) => return Err(e),
        };
        if target.is_some() && flags & RENAME_NOREPLACE != 0 {
            return Err(Errno::EEXIST);
        }
        child.copy_up(true)?;
        let (from, to) = (self.copy_up(true)?, new_dir.copy_up(true)?);
        if exchange {
            let target = target.ok_or(Errno::ENOENT)?;
            target.check_movable()?;
            target.copy_up(true)?;
            // Each may now lie over a directory of the lower layer that it is not part of.
            new_dir.close_off(&child, new_name)?;
            self.close_off(&target, name)?;
            return from.rename(name, &to, new_name, RENAME_EXCHANGE);
        }
        if let Some(target) = &target
            && target.file_type() == FileType::Directory
        {
            target.make_empty()?;
            if target.layers().upper.is_some() {
                to.rmdir(new_name)?;
            }
        }
        unhide(&to, new_name)?;
        new_dir.close_off(&child, new_name)?;
        from.rename(name, &to, new_name, 0)?;
        if self.in_lower(name, b"")?.is_some() {
            hide(&from, name)?;
        }
        Ok(())
    }

    /// Makes a directory that is about to get the name `name` here opaque if the lower layer has
    /// something of that name.
    fn close_off(&self, child: &OverlayInode, name: &[u8]) -> Result<()> {
        if child.file_type() == FileType::Directory && self.in_lower(name, b"")?.is_some() {
            child.copy_up(true)?.set_xattr(OPAQUE, b"y", 0)?;
        }
        Ok(())
    }

    /// Whiteouts in the upper part of a directory.
    fn whiteouts(&self) -> Result<Vec<Box<[u8]>>> {
        let Some(upper) = self.layers().upper else { return Ok(Vec::new()) };
        let mut names = super::directory::names(&upper, &self.fs.mounts)?;
        let mut failed = Ok(());
        names.retain(|name| {
            let whiteout = upper.lookup(name).and_then(|inode| is_whiteout(&*inode));
            whiteout.unwrap_or_else(|e| {
                failed = Err(e);
                false
            })
        });
        failed.map(|()| names)
    }
}
