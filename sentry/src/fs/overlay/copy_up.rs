//! Copying a file from the lower layer to the upper one.

use super::OverlayInode;
use super::inode::Layers;
use crate::errno::{Errno, Result};
use crate::io::{BufSink, BufSource};
use crate::vfs::{
    Attr, Dentry, File, FileType, Inode, Mount, OpenFlags, Owner, Path, SetAttr, TimeSet,
};
use std::sync::Arc;

/// Copied at a time, in bytes.
const CHUNK: usize = 256 << 10;

impl OverlayInode {
    /// Makes sure that the file is in the upper layer, and returns it there. Without `data` a regular
    /// file is left empty, for a caller that is about to truncate it.
    pub(super) fn copy_up(&self, data: bool) -> Result<Arc<dyn Inode>> {
        if let Some(upper) = &self.layers.lock().upper {
            return Ok(upper.clone());
        }
        let Some((parent, name)) = self.place.lock().clone() else { return Err(Errno::ESTALE) };
        // The directories above first; never two locks of this kind at a time.
        let dir = parent.copy_up(true)?;
        let mut layers = self.layers.lock();
        if let Some(upper) = &layers.upper {
            return Ok(upper.clone());
        }
        let Some(lower) = layers.lower.clone() else { return Err(Errno::ESTALE) };
        let attr = lower.attr()?;
        // The name is taken by a whiteout, or by a newer file: only descriptors lead here any more.
        let removed = dir.lookup(&name).is_ok();
        let upper = self.make_copy(&lower, &attr, &dir, &name, data, removed)?;
        self.fs.keep_number(upper.attr()?.ino, self.ino);
        let keep = self.file_type() == FileType::Directory;
        *layers = Layers { upper: Some(upper.clone()), lower: keep.then_some(lower) };
        Ok(upper)
    }

    fn make_copy(
        &self,
        lower: &Arc<dyn Inode>,
        attr: &Attr,
        dir: &Arc<dyn Inode>,
        name: &[u8],
        data: bool,
        removed: bool,
    ) -> Result<Arc<dyn Inode>> {
        let owner = Owner { uid: attr.uid, gid: attr.gid };
        let copy = match attr.file_type() {
            FileType::Directory => dir.mkdir(name, attr.mode & 0o7777, owner)?,
            FileType::Symlink => dir.symlink(name, &lower.readlink()?, owner)?,
            FileType::Regular => {
                let copy = dir.create_unnamed(attr.mode, owner)?;
                if data {
                    self.copy_data(lower, &copy)?;
                }
                copy
            }
            _ => dir.create(name, attr.mode, attr.rdev, owner)?,
        };
        for xattr in lower.list_xattr().unwrap_or_default() {
            // One that the upper layer cannot hold is not worth failing for, as in overlayfs.
            if let Ok(value) = lower.get_xattr(&xattr) {
                let _ = copy.set_xattr(&xattr, &value, 0);
            }
        }
        copy.set_attr(&SetAttr {
            mode: (attr.file_type() != FileType::Symlink).then_some(attr.mode & 0o7777),
            atime: Some(TimeSet::At(attr.atime)),
            mtime: Some(TimeSet::At(attr.mtime)),
            ..SetAttr::default()
        })?;
        // The name appears with the complete file; one that was removed meanwhile stays without.
        if attr.file_type() == FileType::Regular && !removed {
            dir.link(name, &copy)?;
        }
        Ok(copy)
    }

    fn copy_data(&self, from: &Arc<dyn Inode>, to: &Arc<dyn Inode>) -> Result<()> {
        let [upper, lower] = &self.fs.mounts;
        let from = open(from, lower, OpenFlags::empty())?;
        let to = open(to, upper, OpenFlags::WRONLY)?;
        let mut buf = vec![0; CHUNK];
        let mut at = 0u64;
        loop {
            let mut sink = BufSink::new(&mut buf);
            let n = from.ops().read(&from, &mut sink, at)?;
            if n == 0 {
                return Ok(());
            }
            let mut source = BufSource::new(buf.get(..n).unwrap_or_default());
            if to.ops().write(&to, &mut source, at)? != n {
                return Err(Errno::ENOSPC);
            }
            at = at.saturating_add(n as u64);
        }
    }
}

/// Opens a file of a layer, past the overlay.
pub(super) fn open(
    inode: &Arc<dyn Inode>,
    mount: &Arc<Mount>,
    flags: OpenFlags,
) -> Result<Arc<File>> {
    let dentry = Dentry::new_unlinked(inode.clone(), b"");
    let path = Path { mount: mount.clone(), dentry };
    let ops = inode.clone().open(&path, flags)?;
    Ok(File::new_quiet(ops, path, flags))
}
