//! A writable file system over one that is never written.
//!
//! Follows Linux's overlayfs: the upper layer (a tmpfs) holds what was changed, character devices 0:0
//! in it (*whiteouts*) hide names of the lower layer, and a directory marked opaque hides all of
//! them. A file of the lower layer is *copied up* when it is first opened for writing or its
//! attributes change. As with overlayfs, a file opened for reading before it was copied up keeps
//! showing the lower contents, a directory that lies in the lower layer cannot be renamed (`EXDEV`),
//! and a hard link of the lower layer is broken by copying up.
//!
//! Everything has the overlay's device number. An inode keeps its number when it is copied up.

mod archive;
mod copy_up;
mod directory;
mod inode;
mod modify;
#[cfg(test)]
mod tests;

pub use archive::archive;
pub use inode::OverlayInode;

use super::super_block::next_dev;
use crate::errno::Result;
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, FileSystem, FileType, Inode, Mount, MountFlags, StatFs};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Extended attribute that marks a directory of the upper layer as opaque.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Prefix of extended attributes that are the overlay's own.
const PRIVATE: &[u8] = b"trusted.overlay.";

/// One overlay.
pub struct OverlayFs {
    dev: u64,
    upper: Arc<dyn FileSystem>,
    /// Mounts of the layers, through which their files are opened.
    mounts: [Arc<Mount>; 2],
    /// Device of most files of the lower layer, whose inode numbers are kept.
    lower_dev: u64,
    /// Numbers of inodes that were copied up (by their number in the upper layer), and of those on
    /// other devices of the lower layer.
    numbers: Mutex<FxHashMap<(Option<u64>, u64), u64>, { rank::LEAF }>,
    next: AtomicU64,
}

/// Numbers from here on belong to files that were made in the overlay. Lower file systems number from
/// below; a collision would need one of more than a billion files with such numbers.
const FIRST_OWN: u64 = 1 << 31;

/// The overlay of two directories: its root.
pub fn mount(upper: Arc<dyn Inode>, lower: Arc<dyn Inode>) -> Arc<OverlayInode> {
    let mount = |inode: &Arc<dyn Inode>| {
        Mount::new(inode.fs(), inode.clone(), b"overlay", MountFlags::empty())
    };
    let fs = Arc::new(OverlayFs {
        dev: next_dev(),
        upper: upper.fs(),
        mounts: [mount(&upper), mount(&lower)],
        lower_dev: lower.fs().dev(),
        numbers: Mutex::default(),
        next: AtomicU64::new(FIRST_OWN),
    });
    OverlayInode::root(fs, upper, lower)
}

impl OverlayFs {
    /// The number of a file, by its attributes in the layer it comes from.
    fn number(&self, upper: bool, attr: &Attr) -> u64 {
        if !upper && attr.dev == self.lower_dev {
            return attr.ino;
        }
        let key = (if upper { None } else { Some(attr.dev) }, attr.ino);
        *self.numbers.lock().entry(key).or_insert_with(|| self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A file that was copied up keeps its number.
    fn keep_number(&self, upper_ino: u64, number: u64) {
        self.numbers.lock().insert((None, upper_ino), number);
    }
}

impl FileSystem for OverlayFs {
    fn type_name(&self) -> &'static str {
        "overlay"
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        /// `OVERLAYFS_SUPER_MAGIC`
        const MAGIC: u64 = 0x794c_7630;
        Ok(StatFs { magic: MAGIC, ..self.upper.statfs()? })
    }
}

/// True for what hides a name of the lower layer.
fn is_whiteout(inode: &dyn Inode) -> Result<bool> {
    if inode.file_type() != FileType::CharDevice {
        return Ok(false);
    }
    Ok(inode.attr()?.rdev == 0)
}
