//! One guest thread, seen from everywhere (`task_struct`).

use super::{Credentials, Kernel};
use crate::errno::Result;
use crate::mm::MemoryManager;
use crate::sync::{Mutex, rank};
use crate::vfs::{FdTable, File, FsContext};
use std::sync::Arc;

/// One guest thread.
pub struct Task {
    kernel: Arc<Kernel>,
    tid: i32,
    shared: Mutex<Shared, { rank::TASK }>,
}

/// What `clone(2)` can share between tasks.
struct Shared {
    mm: Arc<MemoryManager>,
    files: Arc<FdTable>,
    fs: Arc<FsContext>,
    creds: Arc<Credentials>,
}

impl Task {
    /// The sandbox.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// Thread id in the root pid namespace.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Process id.
    pub fn tgid(&self) -> i32 {
        self.tid
    }

    /// Memory of its process.
    pub fn mm(&self) -> Arc<MemoryManager> {
        self.shared.lock().mm.clone()
    }

    /// Its file descriptors.
    pub fn files(&self) -> Arc<FdTable> {
        self.shared.lock().files.clone()
    }

    /// Its root, working directory and umask.
    pub fn fs(&self) -> Arc<FsContext> {
        self.shared.lock().fs.clone()
    }

    /// Its credentials.
    pub fn creds(&self) -> Arc<Credentials> {
        self.shared.lock().creds.clone()
    }

    /// The file behind a descriptor. `EBADF` if there is none.
    pub fn file(&self, fd: i32) -> Result<Arc<File>> {
        self.files().get(fd)
    }
}
