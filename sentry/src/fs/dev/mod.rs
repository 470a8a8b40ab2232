//! `/dev`: a file system in memory with the nodes every program expects, and the memory devices.

mod memory;

use super::tmpfs::{Tmpfs, TmpfsInode, TmpfsOptions};
use crate::errno::{Errno, Result};
use crate::vfs::device::Device;
use crate::vfs::{FileType, Inode, Owner};
use platform::MemoryFile;
use std::sync::Arc;

/// Registers the drivers of the memory devices (`mem(4)`, `null(4)`, `random(4)`, `full(4)`).
pub fn register() {
    memory::register();
    super::tty::device::register();
    super::fuse::device::register();
    super::tun::register();
    super::userfaultfd::device::register();
}

/// Device nodes: name, major, minor.
const NODES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("console", 5, 1),
    ("fuse", 10, 229),
    ("userfaultfd", 10, 126),
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Directories that others are mounted on.
const DIRECTORIES: &[&str] = &["pts", "shm", "mqueue"];

/// A new `/dev`: its root directory. Without `console` there is no `/dev/console`, as in a container without a
/// terminal.
pub fn mount(memory: &Arc<MemoryFile>, console: bool) -> Result<Arc<TmpfsInode>> {
    let options = TmpfsOptions::parse(b"mode=755,size=64k")?;
    let root = Tmpfs::named("tmpfs", memory.clone(), options);
    let owner = Owner { uid: 0, gid: 0 };
    for &(name, major, minor) in NODES {
        if name == "console" && !console {
            continue;
        }
        // Who may open this one may answer faults of the kernel.
        let rights = if name == "userfaultfd" { 0o600 } else { 0o666 };
        let mode = FileType::CharDevice as u32 | rights;
        root.create(name.as_bytes(), mode, Device { major, minor }.rdev(), owner)?;
    }
    let net = root.mkdir(b"net", 0o755, owner)?;
    let tun = Device { major: 10, minor: 200 };
    net.create(b"tun", FileType::CharDevice as u32 | 0o666, tun.rdev(), owner)?;
    for (name, target) in LINKS {
        root.symlink(name.as_bytes(), target.as_bytes(), owner)?;
    }
    for name in DIRECTORIES {
        match root.mkdir(name.as_bytes(), 0o755, owner) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(root)
}
