//! What a gofer serves.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags};

use super::Result;
use super::hidden::Hidden;
use crate::protocol::Reach;

/// Where an export lies on the host.
#[derive(Debug)]
pub enum Source {
    /// A path, followed through symbolic links when the gofer starts. The gofer can keep only this
    /// mount tree in its own mount namespace.
    Path(PathBuf),
    /// An open file or directory (`O_PATH` is enough). It is served as it is; the mounts around it
    /// stay reachable for the process, though for no request.
    Fd(OwnedFd),
}

/// One file or directory tree that the sentry may reach.
#[derive(Debug)]
pub struct Export {
    /// Where it lies.
    pub source: Source,
    /// Nothing in it may be changed, and files are donated for reading only.
    pub read_only: bool,
    /// Directories beneath the root, as relative paths, that look empty.
    pub hide: Vec<PathBuf>,
    /// Mounts of the kernel's own file systems (proc, sysfs, cgroup and the like) look empty,
    /// wherever they are.
    pub hide_kernel_filesystems: bool,
    /// What of the host's it leads to besides its files.
    pub reach: Reach,
}

impl Export {
    /// A tree with nothing hidden.
    pub fn new(path: impl Into<PathBuf>, read_only: bool) -> Self {
        Self {
            source: Source::Path(path.into()),
            read_only,
            hide: Vec::new(),
            hide_kernel_filesystems: true,
            reach: Reach::empty(),
        }
    }

    /// The host's root as `runsc do` shows it: read-only, without `/proc`, `/sys` and `/dev`.
    pub fn host_root() -> Self {
        let hide = ["proc", "sys", "dev"].map(PathBuf::from).to_vec();
        Self { hide, ..Self::new("/", true) }
    }

    /// Opens it by its path, for a process that shares the host's mounts.
    pub fn open(self) -> Result<OpenedExport> {
        let root = match self.source {
            Source::Fd(fd) => fd,
            Source::Path(ref path) => rustix::fs::openat(
                CWD,
                path.as_path(),
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
            )?,
        };
        OpenedExport::new(
            root,
            self.read_only,
            &self.hide,
            self.hide_kernel_filesystems,
            self.reach,
        )
    }
}

/// An export, opened: what is left to know once it cannot be reached by its path any more.
#[derive(Debug)]
pub struct OpenedExport {
    root: OwnedFd,
    pub(crate) read_only: bool,
    pub(super) hidden: Hidden,
    pub(crate) reach: Reach,
}

impl OpenedExport {
    pub(crate) fn new(
        root: OwnedFd,
        read_only: bool,
        hide: &[PathBuf],
        hide_kernel_filesystems: bool,
        reach: Reach,
    ) -> Result<Self> {
        let hidden = Hidden::find(root.as_fd(), hide, hide_kernel_filesystems)?;
        Ok(Self { root, read_only, hidden, reach })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}
