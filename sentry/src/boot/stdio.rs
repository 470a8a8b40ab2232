//! Standard streams of the first process: what the CLI was given, or a terminal of our own that is
//! connected to the CLI's.

use super::{BootError, ProcessSpec};
use crate::errno::Errno;
use crate::fs::host::HostFile;
use crate::fs::tty::console;
use crate::fs::tty::termios::WinSize;
use crate::kernel::{Kernel, Task};
use crate::vfs::walk::{self, WalkContext, WalkFlags};
use crate::vfs::{FdTable, MountNamespace};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The terminal that is connected to the CLI's.
pub struct Console(console::Console);

impl Console {
    /// Makes it the controlling terminal of a process's session.
    pub fn give_to(&self, first: &Arc<Task>) {
        self.0.give_to(first);
    }

    /// The CLI's window has a new size.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.0.resize(window(columns, rows));
    }

    /// Shows what the program has written last.
    pub fn finish(&self) {
        self.0.finish();
    }
}

fn window(cols: u16, rows: u16) -> WinSize {
    WinSize { rows, cols, xpixel: 0, ypixel: 0 }
}

fn failed(errno: Errno) -> BootError {
    BootError::Mount { what: "the standard streams".into(), destination: "fd 0-2".into(), errno }
}

fn no_terminal(errno: Errno) -> BootError {
    BootError::Mount { what: "a terminal".into(), destination: "/dev/pts".into(), errno }
}

/// Opens them.
pub fn open(
    kernel: &Arc<Kernel>,
    namespace: &Arc<MountNamespace>,
    stdio: [Option<OwnedFd>; 3],
    spec: &ProcessSpec,
) -> Result<(Arc<FdTable>, Option<Arc<Console>>), BootError> {
    let files = Arc::new(FdTable::new());
    let stdio = match stdio {
        [Some(input), Some(output), _] if spec.terminal => {
            let ctx = WalkContext::kernel(namespace.root());
            let flags = WalkFlags::FOLLOW | WalkFlags::DIRECTORY;
            let pts =
                walk::resolve(&ctx, ctx.root.clone(), b"/dev/pts", flags).map_err(no_terminal)?;
            let (columns, rows) = spec.terminal_size;
            let size = window(columns, rows);
            let host = [input, output];
            let (console, slave) = console::Console::start(kernel, &pts, host, size, spec.ids.uid)
                .map_err(no_terminal)?;
            for fd in 0..3 {
                files.insert_at(fd, slave.clone(), false, u64::MAX).map_err(failed)?;
            }
            return Ok((files, Some(Arc::new(Console(console)))));
        }
        other => other,
    };
    for (fd, stream) in (0..).zip(stdio) {
        if let Some(stream) = stream {
            let file = HostFile::open(stream).map_err(failed)?;
            files.insert_at(fd, file, false, u64::MAX).map_err(failed)?;
        }
    }
    Ok((files, None))
}
