//! The changes of an overlay as a tar archive: its upper layer, as overlayfs has one on a disk. What was removed is a
//! character device 0:0 (*whiteout*), a directory that hides all of the lower layer's has the attribute
//! `trusted.overlay.opaque`. `tar --xattrs --xattrs-include='*'` makes an upper layer of it again.
//!
//! Files may change meanwhile: each is as long in the archive as its head says.

use super::copy_up::open;
use super::directory::names;
use super::{OverlayFs, OverlayInode};
use crate::errno::{Errno, Result};
use crate::fs::tar::{Entry, Kind, Writer};
use crate::io::BufSink;
use crate::vfs::device::Device;
use crate::vfs::{Attr, FileType, Inode, OpenFlags};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Read at a time, in bytes.
const CHUNK: usize = 256 << 10;
/// Longest path in the archive, in bytes; what lies deeper is left out.
const MAX_PATH: usize = 64 << 10;
/// Longest file that is written, in bytes: beyond any overlay there is, a guest has made it of holes.
const MAX_SIZE: u64 = 1 << 40;

/// Writes what was changed in an overlay, of which this is the root. `EINVAL` if it is none, `EFBIG` for a file that
/// would take days to write; else what `out` failed with.
pub fn archive(root: &Arc<dyn Inode>, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let overlay: &OverlayInode = root.as_any().downcast_ref().ok_or(Errno::EINVAL)?;
    let upper = overlay.layers().upper.ok_or(Errno::EINVAL)?;
    let mut walk = Walk {
        fs: &overlay.fs,
        out: Writer::new(out),
        seen: FxHashMap::default(),
        chunk: vec![0; CHUNK],
    };
    // Directories whose contents are still to be written, innermost last.
    let mut pending = vec![(upper.clone(), b"./".to_vec())];
    walk.write(&upper, b"./")?;
    while let Some((dir, path)) = pending.pop() {
        for name in names(&dir, &overlay.fs.mounts)? {
            // One that has gone since is not there.
            let Ok(inode) = dir.lookup(&name) else { continue };
            let mut path = [&*path, &*name].concat();
            if path.len() > MAX_PATH {
                continue;
            }
            let is_dir = inode.file_type() == FileType::Directory;
            if is_dir {
                path.push(b'/');
            }
            walk.write(&inode, &path)?;
            if is_dir {
                pending.push((inode, path));
            }
        }
    }
    walk.out.finish()
}

struct Walk<'a> {
    fs: &'a OverlayFs,
    out: Writer<'a>,
    /// Paths of files with several names, by their number.
    seen: FxHashMap<u64, Vec<u8>>,
    chunk: Vec<u8>,
}

impl Walk<'_> {
    fn write(&mut self, inode: &Arc<dyn Inode>, path: &[u8]) -> Result<()> {
        let attr = inode.attr()?;
        let kind = match attr.file_type() {
            // What has a name only while somebody listens is of no use elsewhere.
            FileType::Socket => return Ok(()),
            FileType::Directory => Kind::Directory,
            FileType::Fifo => Kind::Fifo,
            FileType::Symlink => Kind::Symlink(inode.readlink()?),
            kind @ (FileType::CharDevice | FileType::BlockDevice) => {
                let id = Device::from_rdev(attr.rdev);
                let (major, minor) = (id.major, id.minor);
                Kind::Device { block: kind == FileType::BlockDevice, major, minor }
            }
            FileType::Regular => match self.seen.get(&attr.ino) {
                Some(first) if attr.nlink > 1 => Kind::Link(first.clone()),
                _ => Kind::Regular(attr.size),
            },
        };
        if attr.size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let regular = matches!(kind, Kind::Regular(_));
        if regular && attr.nlink > 1 {
            self.seen.insert(attr.ino, path.to_vec());
        }
        let xattrs = inode.list_xattr().unwrap_or_default().into_iter();
        let xattrs = xattrs.filter_map(|name| Some((inode.get_xattr(&name).ok()?, name)));
        let xattrs = xattrs.map(|(value, name)| (name, value)).collect();
        let Attr { mode, uid, gid, mtime, .. } = attr;
        self.out.entry(&Entry { path, kind, mode: mode & 0o7777, uid, gid, mtime, xattrs })?;
        if regular { self.data(inode, attr.size) } else { Ok(()) }
    }

    /// Exactly so many bytes of a file.
    fn data(&mut self, inode: &Arc<dyn Inode>, size: u64) -> Result<()> {
        let [upper, _] = &self.fs.mounts;
        let file = open(inode, upper, OpenFlags::empty())?;
        let mut at = 0;
        while at < size {
            let want = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
            let buf = self.chunk.get_mut(..want).unwrap_or_default();
            let n = file.ops().read(&file, &mut BufSink::new(buf), at).unwrap_or(0);
            // Cut short meanwhile: zeros.
            buf.get_mut(n..).unwrap_or_default().fill(0);
            self.out.data(buf)?;
            at += want as u64;
        }
        self.out.pad(size)
    }
}
