//! Of all the host's mounts, only the exported trees; and an empty root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::sys;
use crate::server::{Export, Source};

type Result<T> = std::result::Result<T, Errno>;

/// Detached trees: reachable through their descriptors alone.
#[derive(Debug)]
pub(super) struct Prepared {
    /// One for each export, in order.
    pub(super) trees: Vec<OwnedFd>,
    /// `/proc/self/fd` alone, without the rest of `/proc` around it.
    pub(super) fds: OwnedFd,
    /// An empty, read-only file system.
    pub(super) root: OwnedFd,
    /// All trees got the mount flags they should have.
    pub(super) restricted: bool,
}

/// Detaches the exported trees from the host's mounts. Nothing is changed that the caller would
/// have to undo when it fails: it may open the exports by their paths instead.
pub(super) fn detach(exports: &[Export]) -> Result<Prepared> {
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let fds = clone_tree(CWD, "/proc/self/fd", OpenTreeFlags::empty())?;
    let root = empty_tree()?;
    // Before anything is covered: one export may lie beneath what another one hides.
    let sources = exports.iter().map(open_source).collect::<Result<Vec<_>>>()?;
    let mut trees: Vec<Option<OwnedFd>> = Vec::new();
    for (export, source) in exports.iter().zip(&sources) {
        let plain = export.hide.is_empty();
        trees.push(if plain { Some(take(export, source)?) } else { None });
    }
    for ((export, source), tree) in exports.iter().zip(&sources).zip(&mut trees) {
        if tree.is_none() {
            cover(source.as_fd(), &export.hide, &root)?;
            *tree = Some(take(export, source)?);
        }
    }
    let trees: Vec<OwnedFd> = trees.into_iter().flatten().collect();
    let mut restricted = true;
    for (export, tree) in exports.iter().zip(&trees) {
        restricted &= matches!(export.source, Source::Path(_))
            && sys::restrict_mounts(tree.as_fd(), export.read_only).is_ok();
    }
    Ok(Prepared { trees, fds, root, restricted })
}

/// Makes the empty tree the root and lets go of the host's.
pub(super) fn change_root(root: &OwnedFd) -> Result<()> {
    let old = rustix::fs::openat(
        CWD,
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::mount::move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(root)?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => {
            // The old root now lies on top of the new one.
            rustix::process::fchdir(&old)?;
            rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        }
        // The host's root is the initial RAM file system, which cannot be moved away. The way back
        // from a changed root needs a capability that is dropped.
        Err(Errno::INVAL) => rustix::process::chroot(".")?,
        Err(error) => return Err(error),
    }
    rustix::process::chdir("/")
}

fn open_source(export: &Export) -> Result<OwnedFd> {
    match &export.source {
        Source::Path(path) => {
            rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        }
        Source::Fd(fd) => rustix::io::fcntl_dupfd_cloexec(fd, 3),
    }
}

/// The export as a tree of its own. A descriptor from outside belongs to mounts that cannot be
/// cloned here, and stays what it is.
fn take(export: &Export, source: &OwnedFd) -> Result<OwnedFd> {
    match export.source {
        Source::Path(_) => clone_tree(
            source.as_fd(),
            "",
            OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE,
        ),
        Source::Fd(_) => rustix::io::fcntl_dupfd_cloexec(source, 3),
    }
}

fn clone_tree(dir: BorrowedFd<'_>, path: &str, flags: OpenTreeFlags) -> Result<OwnedFd> {
    let flags = flags | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(dir, path, flags)
}

fn empty_tree() -> Result<OwnedFd> {
    let filesystem = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&filesystem, "mode", "0555")?;
    rustix::mount::fsconfig_set_string(&filesystem, "nr_inodes", "1")?;
    rustix::mount::fsconfig_create(&filesystem)?;
    rustix::mount::fsmount(
        &filesystem,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
}

/// Puts the empty tree over the directories to hide, so that what is below does not come along.
fn cover(source: BorrowedFd<'_>, hide: &[PathBuf], empty: &OwnedFd) -> Result<()> {
    for path in hide {
        let Ok(target) = open_hidden(source, path) else { continue };
        let cover = clone_tree(empty.as_fd(), "", OpenTreeFlags::AT_EMPTY_PATH)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&cover, "", &target, "", flags)?;
    }
    Ok(())
}

fn open_hidden(source: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat2(
        source,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}
