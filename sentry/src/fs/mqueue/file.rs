//! An open queue.

use super::QueueInode;
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::kernel;
use crate::vfs::{File, FileOps};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;

/// An open queue. Reading gives a line that describes it; messages go through their own calls.
pub struct QueueFile {
    pub(super) inode: Arc<QueueInode>,
}

impl QueueFile {
    /// The queue's inode.
    pub fn inode(&self) -> &Arc<QueueInode> {
        &self.inode
    }
}

impl FileOps for QueueFile {
    fn read(&self, _file: &File, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let (bytes, (notify, signal, pid)) = self.inode.queue.describe();
        let pid = kernel::current().map_or(pid, |task| task.local_id(pid));
        let text =
            format!("QSIZE:{bytes:<10} NOTIFY:{notify:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n");
        let from = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
        match text.as_bytes().get(from..) {
            Some(rest) if !rest.is_empty() => dst.put(rest),
            _ => Ok(0),
        }
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        use crate::vfs::Inode;
        Ok(self.inode.attr()?.size)
    }

    fn poll(&self, _file: &File) -> EventMask {
        self.inode.queue.poll()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.inode.queue.waiters)
    }

    fn flush(&self, _file: &File) -> Result<()> {
        if let Some(task) = kernel::current() {
            self.inode.queue.unregister(task.group());
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
