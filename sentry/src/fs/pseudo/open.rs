//! Open files of pseudo file systems.

use super::{Directory, PseudoInode, Text, WRITE_MAX};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::Task;
use crate::sync::{Mutex, rank};
use crate::vfs::{DirEntry, File, FileOps, FileType};
use crate::wait::{Changes, EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The position of the numbered name 0, behind all others (Linux has `FIRST_PROCESS_ENTRY` for it).
const FIRST_NUMBERED: u64 = 1 << 16;

/// An open directory.
pub struct OpenDirectory {
    inode: Arc<PseudoInode>,
    directory: Arc<dyn Directory>,
}

impl OpenDirectory {
    pub(super) fn new(inode: Arc<PseudoInode>, directory: Arc<dyn Directory>) -> Self {
        Self { inode, directory }
    }
}

impl FileOps for OpenDirectory {
    fn readdir(
        &self,
        file: &File,
        pos: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let parent = file.path().and_then(|p| p.dentry.parent());
        let parent_ino = match parent {
            Some(parent) => parent.inode().attr()?.ino,
            None => self.inode.ino(),
        };
        let dots = [(&b"."[..], self.inode.ino()), (&b".."[..], parent_ino)];
        for (i, (name, ino)) in (0u64..).zip(dots) {
            let next = i + 1;
            let file_type = FileType::Directory;
            if pos < next && !emit(DirEntry { name, ino, file_type, next }) {
                return Ok(());
            }
        }
        for (index, listed) in (3u64..).zip(self.directory.list()?) {
            let next = listed.number.map_or(index, |number| FIRST_NUMBERED + u64::from(number));
            let (name, file_type) = (&*listed.name, listed.file_type);
            let ino = self.inode.child_ino(name);
            if pos < next && !emit(DirEntry { name, ino, file_type, next }) {
                return Ok(());
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
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open text. Like Linux's `seq_file` it is made when it is read from the start, so that the parts
/// of one pass fit together.
pub struct OpenText {
    text: Arc<dyn Text>,
    made: Mutex<Option<Arc<[u8]>>, { rank::INODE }>,
    changes: Option<Arc<Changes>>,
    /// Of [`Changes::count`], how many the reader knows of.
    seen: AtomicUsize,
}

impl OpenText {
    pub(super) fn new(text: Arc<dyn Text>) -> Self {
        let changes = text.changes();
        let seen = AtomicUsize::new(changes.as_ref().map_or(0, |c| c.count()));
        Self { text, made: Mutex::new(None), changes, seen }
    }

    fn contents(&self, offset: u64) -> Result<Arc<[u8]>> {
        if offset != 0
            && let Some(made) = &*self.made.lock()
        {
            return Ok(made.clone());
        }
        let fresh: Arc<[u8]> = self.text.read()?.into();
        *self.made.lock() = Some(fresh.clone());
        Ok(fresh)
    }
}

impl FileOps for OpenText {
    fn read(&self, _file: &File, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        if let Some(result) = self.text.read_at(dst, offset) {
            return result;
        }
        let contents = self.contents(offset)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match contents.get(start..) {
            None | Some([]) => Ok(0),
            Some(rest) => dst.put(rest),
        }
    }

    fn write(&self, _file: &File, src: &mut dyn Source, offset: u64) -> Result<usize> {
        if let Some(result) = self.text.write_at(src, offset) {
            return result;
        }
        let mut buf = vec![0; src.remaining().min(WRITE_MAX)];
        let n = src.take(&mut buf)?;
        buf.truncate(n);
        self.text.write(&buf)?;
        Ok(n)
    }

    fn is_generated(&self) -> bool {
        true
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        self.text.ioctl(task, cmd, arg)
    }

    /// A change is reported once, as Linux does it for `/proc/PID/mounts`.
    fn poll(&self, _file: &File) -> EventMask {
        let ready = EventMask::READABLE | EventMask::WRITABLE;
        let Some(changes) = &self.changes else { return ready };
        let now = changes.count();
        if self.seen.swap(now, Ordering::SeqCst) == now {
            return EventMask::READABLE;
        }
        EventMask::READABLE | EventMask::ERR | EventMask::PRI
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        self.changes.as_ref().map(|changes| changes.queue())
    }

    fn takes_writes_at(&self, file: &File) -> bool {
        self.text.takes_writes_at(file.flags().writable())
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
