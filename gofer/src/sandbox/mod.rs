//! Locking up the gofer.
//!
//! A gofer starts as a copy of the process that starts it, in namespaces of its own as far as the
//! host allows ([`crate::process`]). [`enter`] then takes away everything it does not need: the
//! host's mounts other than the exported trees, descriptors, capabilities and the way to gain
//! any. What the host refuses is left out and reported in [`Isolation`]; the rules of the protocol
//! hold all the same, they do not rest on it.

mod landlock;
mod mounts;
mod privileges;
pub mod seccomp;
mod sys;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use bitflags::bitflags;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::server::{Export, OpenedExport, Source, open_fd_directory};
use mounts::Prepared;

bitflags! {
    /// How far a gofer is locked up.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Isolation: u32 {
        /// Own user namespace: its capabilities are worth nothing outside.
        const USER = 1;
        /// Own mount namespace.
        const MOUNT = 1 << 1;
        /// Own pid namespace: it sees no other process.
        const PID = 1 << 2;
        /// Own, empty network namespace.
        const NET = 1 << 3;
        /// Own IPC namespace.
        const IPC = 1 << 4;
        /// Own UTS namespace.
        const UTS = 1 << 5;
        /// Own cgroup namespace.
        const CGROUP = 1 << 6;
        /// Its root is empty, and of the host's mounts it has only the exported trees.
        const DETACHED = 1 << 7;
        /// Read-only exports are read-only mounts, and no mount of it honours devices or set-id.
        const RESTRICTED_MOUNTS = 1 << 8;
        /// The host's Landlock refuses it every file outside the exports.
        const LANDLOCK = 1 << 9;
    }
}

impl Isolation {
    /// Everything there is.
    pub const FULL: Self = Self::all();
}

/// Why a gofer could not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// An export cannot be opened.
    #[error("cannot open {path}: {source}")]
    Export {
        /// The export.
        path: String,
        /// Why not.
        source: Errno,
    },
    /// `/proc` is needed to open a file that was found by its descriptor.
    #[error("cannot open /proc/self/fd: {0}; is /proc mounted?")]
    Proc(Errno),
    /// The host has Landlock, but does not take the rules.
    #[error("restricting it to its exports with Landlock: {0}")]
    Landlock(#[from] ::landlock::RulesetError),
    /// A step that does not depend on the host failed.
    #[error("{what}: {source}")]
    Step {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: Errno,
    },
}

impl SandboxError {
    fn step(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::Step { what, source }
    }
}

/// What a locked-up gofer serves.
#[derive(Debug)]
pub struct Entered {
    /// The exports, in the order given.
    pub exports: Vec<OpenedExport>,
    /// `/proc/self/fd`, for [`crate::server::Server::new`].
    pub fds: OwnedFd,
    /// How far it is locked up.
    pub isolation: Isolation,
}

/// Locks the calling process up.
///
/// `namespaces` says which namespaces are its own already. Standard error becomes `stderr`, or goes
/// nowhere. Every descriptor but `keep` and the exports is closed, so the caller must not use any
/// other afterwards. With `become_root` it becomes user 0 of its user namespace. The process must have one thread.
pub fn enter(
    exports: Vec<Export>,
    keep: &[BorrowedFd<'_>],
    namespaces: Isolation,
    stderr: Option<BorrowedFd<'_>>,
    become_root: bool,
) -> Result<Entered, SandboxError> {
    let writable = exports.iter().any(|export| !export.read_only);
    let mut isolation = namespaces;
    privileges::raise_descriptor_limit();
    replace_standard_streams(stderr)?;
    let entered =
        if namespaces.contains(Isolation::MOUNT) { mounts::detach(&exports).ok() } else { None };
    let (exports, fds) = match entered {
        Some(Prepared { trees, fds, root, restricted }) => {
            isolation.set(Isolation::RESTRICTED_MOUNTS, restricted);
            let exports = exports
                .into_iter()
                .zip(trees)
                .map(|(export, tree)| opened(export, tree))
                .collect::<Result<Vec<_>, _>>()?;
            mounts::change_root(&root).map_err(SandboxError::step("changing to an empty root"))?;
            isolation |= Isolation::DETACHED;
            (exports, fds)
        }
        None => {
            let fds = open_fd_directory().map_err(SandboxError::Proc)?;
            let exports = exports
                .into_iter()
                .map(|export| {
                    let path = describe(&export.source);
                    export.open().map_err(|source| SandboxError::Export { path, source })
                })
                .collect::<Result<Vec<_>, _>>()?;
            (exports, fds)
        }
    };
    // Unix sockets are connected to by their name in here.
    rustix::process::fchdir(&fds).map_err(SandboxError::step("changing to /proc/self/fd"))?;
    let mut kept: Vec<i32> = keep.iter().map(|fd| fd.as_raw_fd()).collect();
    kept.extend(exports.iter().map(|export| export.root().as_raw_fd()));
    kept.extend([0, 1, 2, fds.as_raw_fd()]);
    sys::close_all_but(&mut kept);
    if become_root {
        privileges::become_root().map_err(SandboxError::step("becoming user 0"))?;
    }
    privileges::drop_all(writable).map_err(SandboxError::step("dropping privileges"))?;
    isolation.set(Isolation::LANDLOCK, landlock::restrict(&exports)?);
    Ok(Entered { exports, fds, isolation })
}

fn opened(export: Export, tree: OwnedFd) -> Result<OpenedExport, SandboxError> {
    let path = describe(&export.source);
    OpenedExport::new(
        tree,
        export.read_only,
        &export.hide,
        export.hide_kernel_filesystems,
        export.reach,
    )
    .map_err(|source| SandboxError::Export { path, source })
}

fn describe(source: &Source) -> String {
    match source {
        Source::Path(path) => path.display().to_string(),
        Source::Fd(fd) => format!("descriptor {}", fd.as_raw_fd()),
    }
}

/// The standard streams may be pipes or a terminal that somebody waits for the end of.
fn replace_standard_streams(stderr: Option<BorrowedFd<'_>>) -> Result<(), SandboxError> {
    let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        // Any descriptor will do to keep the numbers taken.
        .or_else(|_| rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))
        .map_err(SandboxError::step("opening /dev/null"))?;
    rustix::stdio::dup2_stdin(null.as_fd())
        .and_then(|()| rustix::stdio::dup2_stdout(null.as_fd()))
        .and_then(|()| rustix::stdio::dup2_stderr(stderr.unwrap_or(null.as_fd())))
        .map_err(SandboxError::step("replacing the standard streams"))
}
