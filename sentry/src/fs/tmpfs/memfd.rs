//! `memfd_create(2)`: files without a name, on a tmpfs that is mounted nowhere.

use super::file::{F_SEAL_EXEC, F_SEAL_SEAL};
use super::inode::Kind;
use super::{Tmpfs, TmpfsInode, TmpfsOptions};
use crate::errno::{Errno, Result};
use crate::kernel::{Credentials, Kernel};
use crate::vfs::{Dentry, File, FileType, Inode, Mount, OpenFlags, Owner, Path};
use std::sync::Arc;

bitflags::bitflags! {
    /// Flags of `memfd_create(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct MemfdFlags: u32 {
        /// The descriptor is closed by `execve(2)`.
        const CLOEXEC = 1;
        /// Seals can be added.
        const ALLOW_SEALING = 2;
        /// Not executable, and sealed to stay so.
        const NOEXEC_SEAL = 8;
        /// Executable.
        const EXEC = 16;
    }
}

/// Longest name, in bytes.
const NAME_MAX: usize = 249;

/// The mount that such files belong to.
fn internal_mount(kernel: &Kernel) -> Arc<Mount> {
    let make = || {
        let options = TmpfsOptions { inodes: 1 << 20, ..TmpfsOptions::default() };
        let root = Tmpfs::mount(kernel.memory.clone(), options);
        Mount::new_internal(root.fs(), Dentry::new_root(root), b"tmpfs")
    };
    kernel.memfd_mount.get_or_init(make).clone()
}

/// A new file of that name, open for reading and writing. `EINVAL` for a name that is too long or
/// flags that exclude each other.
pub fn create(
    kernel: &Kernel,
    creds: &Credentials,
    name: &[u8],
    flags: MemfdFlags,
) -> Result<Arc<File>> {
    let both = MemfdFlags::NOEXEC_SEAL | MemfdFlags::EXEC;
    if name.len() > NAME_MAX || flags.contains(both) {
        return Err(Errno::EINVAL);
    }
    let mount = internal_mount(kernel);
    let root: &TmpfsInode = mount.root().inode().as_any().downcast_ref().ok_or(Errno::EIO)?;
    let noexec = flags.contains(MemfdFlags::NOEXEC_SEAL);
    let mode = FileType::Regular as u32 | if noexec { 0o666 } else { 0o777 };
    let owner = Owner { uid: creds.fsuid, gid: creds.fsgid };
    let inode = TmpfsInode::new(root.tmpfs(), mode, owner, Kind::file())?;
    inode.orphan();
    if noexec {
        inode.add_seals(F_SEAL_EXEC)?;
    } else if !flags.contains(MemfdFlags::ALLOW_SEALING) {
        inode.add_seals(F_SEAL_SEAL)?;
    }
    let dentry = Dentry::new_unlinked(inode.clone(), &[b"memfd:", name].concat());
    let path = Path { mount, dentry };
    let flags = OpenFlags::RDWR | OpenFlags::LARGEFILE;
    let ops = inode.open(&path, flags)?;
    Ok(File::new(ops, Some(path), flags))
}
