//! What an export does not show: chosen directories, and the kernel's own file systems.
//!
//! Both are told by what a file *is* (device and inode, or type of file system), not by the path it
//! was reached through, so renaming and other ways in do not help.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use super::Result;
use super::stat::{stat_fd, stat_name};
use crate::protocol::Attr;

/// Magic numbers, `statfs(2)`, of file systems that show or change the host's kernel.
const KERNEL_FILESYSTEMS: &[u32] = &[
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0xcafe_4a11, // bpf
    0xde5e_81e4, // efivarfs
    0x6165_676c, // pstore
    0x0000_1cd1, // devpts
    0x1980_0202, // mqueue
    0xf97c_ff8c, // selinuxfs
    0x4249_4e4d, // binfmt_misc
    0x6e73_6673, // nsfs
    0x6573_5543, // fusectl
];

/// How much is remembered about mounts; beyond it the host is asked each time.
const MOUNTS_REMEMBERED: usize = 4096;

/// What makes a file the same file.
type Identity = (u64, u64);

/// What makes a mount the same mount. The device is there for hosts without mount identifiers.
type Mount = (u64, u64);

/// What one export hides.
#[derive(Debug)]
pub(super) struct Hidden {
    directories: Vec<Identity>,
    kernel_filesystems: bool,
    /// Mounts seen so far, and whether they are the kernel's own.
    mounts: Mutex<Vec<(Mount, bool)>>,
}

impl Hidden {
    /// Finds the directories to hide beneath `root`. Those that do not exist need no hiding.
    pub(super) fn find(
        root: BorrowedFd<'_>,
        directories: &[PathBuf],
        kernel_filesystems: bool,
    ) -> Result<Self> {
        let mut identities = Vec::new();
        for path in directories {
            let opened = rustix::fs::openat2(
                root,
                path.as_path(),
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            );
            let fd = match opened {
                Ok(fd) => fd,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => continue,
                Err(error) => return Err(error),
            };
            let attr = stat_fd(&fd)?;
            identities.push((attr.dev, attr.ino));
        }
        Ok(Self { directories: identities, kernel_filesystems, mounts: Mutex::new(Vec::new()) })
    }

    /// Whether nothing can be hidden beneath a file of the same mount.
    pub(super) fn only_whole_mounts(&self) -> bool {
        self.directories.is_empty()
    }

    /// Whether the file open as `fd` is hidden. `from` is a file known to be visible that it was
    /// reached from.
    pub(super) fn covers(
        &self,
        fd: BorrowedFd<'_>,
        attr: &Attr,
        from: Option<&Attr>,
    ) -> Result<bool> {
        if self.covers_directory(attr) {
            return Ok(true);
        }
        if !self.kernel_filesystems || from.is_some_and(|from| mount_of(from) == mount_of(attr)) {
            return Ok(false);
        }
        if let Some(known) = self.known_mount(attr) {
            return Ok(known);
        }
        let kind = rustix::fs::fstatfs(fd)?.f_type;
        let kernel =
            KERNEL_FILESYSTEMS.iter().any(|&magic| i64::from(magic) == (kind & 0xffff_ffff));
        let mut mounts = self.mounts.lock();
        if mounts.len() < MOUNTS_REMEMBERED {
            mounts.push((mount_of(attr), kernel));
        }
        Ok(kernel)
    }

    /// As [`Hidden::covers`], for the entry `name` of `dir` with attributes `attr`, opening it only
    /// if there is no other way to tell.
    pub(super) fn covers_name(
        &self,
        dir: BorrowedFd<'_>,
        dir_attr: &Attr,
        name: &[u8],
        attr: &Attr,
    ) -> Result<bool> {
        if self.covers_directory(attr) {
            return Ok(true);
        }
        if !self.kernel_filesystems || mount_of(dir_attr) == mount_of(attr) {
            return Ok(false);
        }
        if let Some(known) = self.known_mount(attr) {
            return Ok(known);
        }
        let fd = super::resolve::open_name(dir, name)?;
        self.covers(std::os::fd::AsFd::as_fd(&fd), &stat_fd(&fd)?, Some(dir_attr))
    }

    /// Whether the entry `name` of `dir` is a hidden directory, and so must stay where it is.
    pub(super) fn pins(&self, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
        !self.directories.is_empty()
            && stat_name(dir, name).is_ok_and(|attr| self.covers_directory(&attr))
    }

    fn covers_directory(&self, attr: &Attr) -> bool {
        self.directories.contains(&(attr.dev, attr.ino))
    }

    fn known_mount(&self, attr: &Attr) -> Option<bool> {
        let mount = mount_of(attr);
        self.mounts.lock().iter().find(|(known, _)| *known == mount).map(|&(_, kernel)| kernel)
    }
}

fn mount_of(attr: &Attr) -> Mount {
    (attr.mount_id, attr.dev)
}

/// What a hidden file looks like: an empty directory that nobody may write to.
pub(super) fn disguise(attr: &Attr) -> Attr {
    Attr {
        mode: libc::S_IFDIR | 0o555,
        nlink: 2,
        uid: 0,
        gid: 0,
        size: 0,
        blocks: 0,
        rdev: 0,
        ..*attr
    }
}

/// Keeps a lookup of one name from mounting what an automounter would put there.
pub(super) const STAT_NAME_FLAGS: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);
