//! Standard streams of the first process: what the CLI was given, or a terminal of our own that is
//! connected to the CLI's.

use super::{BootError, ProcessSpec};
use crate::errno::Errno;
use crate::fs::host::HostFile;
use crate::kernel::{Kernel, Task};
use crate::vfs::{FdTable, MountNamespace};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The terminal that is connected to the CLI's.
pub struct Console {}

impl Console {
    /// Makes it the controlling terminal of a process's session.
    pub fn give_to(&self, _first: &Arc<Task>) {}

    /// The CLI's window has a new size.
    pub fn resize(&self, _columns: u16, _rows: u16) {}
}

fn failed(errno: Errno) -> BootError {
    BootError::Mount { what: "the standard streams".into(), destination: "fd 0-2".into(), errno }
}

/// Opens them.
pub fn open(
    _kernel: &Arc<Kernel>,
    _namespace: &Arc<MountNamespace>,
    stdio: [Option<OwnedFd>; 3],
    _spec: &ProcessSpec,
) -> Result<(Arc<FdTable>, Option<Arc<Console>>), BootError> {
    let files = Arc::new(FdTable::new());
    for (fd, stream) in (0..).zip(stdio) {
        if let Some(stream) = stream {
            let file = HostFile::open(stream).map_err(failed)?;
            files.insert_at(fd, file, false, u64::MAX).map_err(failed)?;
        }
    }
    Ok((files, None))
}
