//! Standard streams of the first process: what the CLI was given, or a terminal of our own that is
//! connected to the CLI's.

use super::{BootError, ProcessSpec};
use crate::errno::Errno;
use crate::fs::host::HostFile;
use crate::fs::tty::console;
use crate::fs::tty::termios::WinSize;
use crate::kernel::{Kernel, Task};
use crate::vfs::walk::{self, WalkContext, WalkFlags};
use crate::vfs::{FdTable, File, MountNamespace};
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

    /// Takes on the size of the host's terminal.
    pub fn follow_host(&self) {
        self.0.follow_host();
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

/// The number of a file of the host in the container.
pub type Files = Vec<(i32, OwnedFd)>;

/// True when both are one open file description outside.
fn same(a: &File, b: &File) -> bool {
    match (a.ops_as::<HostFile>(), b.ops_as::<HostFile>()) {
        (Some(a), Some(b)) => a.same_description(b),
        _ => false,
    }
}

/// Opens them. The console of the first process is what `/dev/console` opens.
pub fn open(
    kernel: &Arc<Kernel>,
    namespace: &Arc<MountNamespace>,
    host: Files,
    spec: &ProcessSpec,
    first: bool,
) -> Result<(Arc<FdTable>, Option<Arc<Console>>), BootError> {
    let files = Arc::new(FdTable::new());
    let mut host = host;
    let mut console = None;
    if spec.terminal {
        // All three are the terminal: none of them stays, or it would take the place of the console's.
        let sides: Vec<_> = host.extract_if(.., |(fd, _)| (0..3).contains(fd)).collect();
        let mut sides = sides.into_iter().map(|(_, side)| side);
        let (Some(input), output) = (sides.next(), sides.next()) else {
            return Err(no_terminal(Errno::EBADF));
        };
        let output = match output {
            Some(output) => output,
            None => input.try_clone().map_err(|_| no_terminal(Errno::EMFILE))?,
        };
        let ctx = WalkContext::kernel(namespace.root());
        let flags = WalkFlags::FOLLOW | WalkFlags::DIRECTORY;
        let pts = walk::resolve(&ctx, ctx.root.clone(), b"/dev/pts", flags).map_err(no_terminal)?;
        let (columns, rows) = spec.terminal_size;
        let size = window(columns, rows);
        let (bridge, slave) =
            console::Console::start(kernel, &pts, [input, output], size, spec.ids.uid)
                .map_err(no_terminal)?;
        if first {
            bridge.show_as_console();
        }
        for fd in 0..3 {
            files.insert_at(fd, slave.clone(), false, u64::MAX).map_err(failed)?;
        }
        console = Some(Arc::new(Console(bridge)));
    }
    let mut opened: Vec<Arc<File>> = Vec::new();
    for (fd, stream) in host {
        let mut file = HostFile::open(stream).map_err(failed)?;
        // Streams that are one outside are one inside: they share position and flags.
        match opened.iter().find(|known| same(known, &file)) {
            Some(known) => file = known.clone(),
            None => opened.push(file.clone()),
        }
        files.insert_at(fd, file, false, u64::MAX).map_err(failed)?;
    }
    Ok((files, console))
}
