//! Mounts that only a descriptor refers to (`fsmount(2)`, `open_tree(2)`).

use super::{Mount, dismantle};
use crate::vfs::{File, FileOps, OpenFlags};
use std::any::Any;
use std::sync::Arc;

/// The file of a detached mount: when it is closed before the mount is attached, the mount is gone.
struct DetachedMount(Arc<Mount>);

impl FileOps for DetachedMount {
    fn release(&self, _file: &File) {
        if self.0.namespace().is_none() && self.0.mountpoint().is_none() {
            dismantle(&self.0);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An `O_PATH` file at the root of a mount that is attached nowhere.
pub fn open(mount: Arc<Mount>) -> Arc<File> {
    let path = mount.root_path();
    File::new(Arc::new(DetachedMount(mount)), Some(path), OpenFlags::PATH)
}
