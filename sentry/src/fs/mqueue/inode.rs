//! A queue as a file.

use super::queue::Queue;
use super::settings::{Charge, Size};
use super::{MqueueFs, QueueFile};
use crate::errno::Result;
use crate::fs::anon;
use crate::sync::{Mutex, rank};
use crate::vfs::{Attachments, Attr, FileOps, FileSystem, Inode, OpenFlags, Path, SetAttr};
use std::any::Any;
use std::sync::Arc;

/// What `stat(2)` says of every queue's size.
const FILENT_SIZE: u64 = 80;

/// A queue's inode.
pub struct QueueInode {
    fs: Arc<MqueueFs>,
    attr: Mutex<Attr, { rank::LEAF }>,
    attachments: Attachments,
    /// The queue.
    pub queue: Queue,
    _charge: Charge,
}

impl QueueInode {
    pub(super) fn new(
        fs: &Arc<MqueueFs>,
        identity: anon::Identity,
        mode: u32,
        size: Size,
        charge: Charge,
    ) -> Arc<Self> {
        let mut attr = identity.attr(fs.dev(), mode, identity.born);
        attr.size = FILENT_SIZE;
        Arc::new(Self {
            fs: fs.clone(),
            attr: Mutex::new(attr),
            attachments: Attachments::default(),
            queue: Queue::new(size),
            _charge: charge,
        })
    }

    pub(super) fn ino(&self) -> u64 {
        self.attr.lock().ino
    }

    pub(super) fn unlinked(&self) {
        let mut attr = self.attr.lock();
        attr.nlink = 0;
        attr.ctime = anon::now();
    }

    /// It was used: sent to or received from (`sent` or not), or its attributes were.
    pub fn touch(&self, contents: bool) {
        let now = anon::now();
        let mut attr = self.attr.lock();
        (attr.atime, attr.ctime) = (now, now);
        if contents {
            attr.mtime = now;
        }
    }
}

impl Inode for QueueInode {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn attr(&self) -> Result<Attr> {
        Ok(*self.attr.lock())
    }

    fn set_attr(&self, changes: &SetAttr) -> Result<()> {
        let mut attr = self.attr.lock();
        changes.apply(&mut attr);
        attr.size = changes.size.unwrap_or(attr.size);
        Ok(())
    }

    fn open(self: Arc<Self>, _path: &Path, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(QueueFile { inode: self }))
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
