//! File descriptor tables (`files_struct`).

use super::File;
use crate::errno::{Errno, Result};
use std::sync::Arc;

/// A table of file descriptors, shared by tasks cloned with `CLONE_FILES`.
#[derive(Default)]
pub struct FdTable {}

impl FdTable {
    /// The file behind a descriptor. `EBADF` if there is none.
    pub fn get(&self, _fd: i32) -> Result<Arc<File>> {
        Err(Errno::EBADF)
    }

    /// Installs a file at the lowest free descriptor not below `min`. `EMFILE` at `limit`
    /// (`RLIMIT_NOFILE`).
    pub fn insert(&self, _file: Arc<File>, _cloexec: bool, _min: i32, _limit: u64) -> Result<i32> {
        Err(Errno::EMFILE)
    }
}
