//! Flags of inodes: `ioctl_iflags(2)`, `file_getattr(2)` and `file_setattr(2)`.

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, PathPtr};
use crate::vfs::notify::{self, Happened};
use crate::vfs::{InodeFlags, Path, WalkContext, WalkFlags, permission, walk};

/// `FS_IOC_GETFLAGS`
pub const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
/// `FS_IOC_SETFLAGS`
pub const FS_IOC_SETFLAGS: u32 = 0x4008_6602;

/// `FS_IOC_FSGETXATTR`
pub const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
/// `FS_IOC_FSSETXATTR`
pub const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;

/// `struct fsxattr`: `FS_XFLAG_*`, hints of extents, their number, a project, a hint for copies, and padding.
type Fsxattr = [u32; 7];

/// `struct file_attr`: 64 bits of `FS_XFLAG_*`, then what no file system here knows.
const SIZE: u64 = 24;
/// `FS_XFLAG_*` and the flags that they stand for.
const EXTENDED: [(u64, InodeFlags); 4] = [
    (0x8, InodeFlags::IMMUTABLE),
    (0x10, InodeFlags::APPEND),
    (0x40, InodeFlags::NOATIME),
    (0x80, InodeFlags::NODUMP),
];

/// `FS_IOC_GETFLAGS`. `ENOTTY` where inodes have no flags.
pub fn get(t: &CurrentTask, path: &Path, arg: u64) -> SysResult {
    let flags = path.inode().flags().ok_or(Errno::ENOTTY)?;
    t.mm().write_obj(UserAddr(arg), &flags.bits())?;
    Ok(0)
}

/// `FS_IOC_SETFLAGS`.
pub fn set(t: &CurrentTask, path: &Path, arg: u64) -> SysResult {
    path.inode().flags().ok_or(Errno::ENOTTY)?;
    let bits: u32 = t.mm().read_obj(UserAddr(arg))?;
    path.mount.check_writable()?;
    change(t, path, InodeFlags::from_bits(bits))
}

/// `FS_IOC_FSGETXATTR`. `ENOTTY` where inodes have no flags.
pub fn get_extended(t: &CurrentTask, path: &Path, arg: u64) -> SysResult {
    let flags = path.inode().flags().ok_or(Errno::ENOTTY)?;
    let mut words = Fsxattr::default();
    words[0] = extended(flags) as u32;
    t.mm().write_obj(UserAddr(arg), &words)?;
    Ok(0)
}

/// `FS_IOC_FSSETXATTR`: flags only, as there are no extents and projects.
pub fn set_extended(t: &CurrentTask, path: &Path, arg: u64) -> SysResult {
    path.inode().flags().ok_or(Errno::ENOTTY)?;
    let [flags, extent, _count, project, copy, _, _]: Fsxattr = t.mm().read_obj(UserAddr(arg))?;
    path.mount.check_writable()?;
    let known = [extent, project, copy] == [0; 3];
    change(t, path, from_extended(flags.into()).filter(|_| known))
}

/// The `FS_XFLAG_*` that stand for flags.
fn extended(flags: InodeFlags) -> u64 {
    let set = EXTENDED.iter().filter(|(_, flag)| flags.contains(*flag));
    set.fold(0, |sum, (bit, _)| sum | bit)
}

/// The flags that `FS_XFLAG_*` stand for; `None` if there are others.
fn from_extended(bits: u64) -> Option<InodeFlags> {
    let (mut left, mut flags) = (bits, InodeFlags::empty());
    for (bit, flag) in EXTENDED {
        if left & bit != 0 {
            left -= bit;
            flags |= flag;
        }
    }
    (left == 0).then_some(flags)
}

/// Changes the flags; `None` stands for some that are not known (`EOPNOTSUPP`).
fn change(t: &CurrentTask, path: &Path, flags: Option<InodeFlags>) -> SysResult {
    let inode = path.inode();
    if !permission::is_owner_or_capable(&inode.attr()?, t.creds()) {
        return Err(Errno::EPERM);
    }
    let old = inode.flags().ok_or(Errno::EOPNOTSUPP)?;
    let flags = flags.ok_or(Errno::EOPNOTSUPP)?;
    if (flags ^ old).intersects(InodeFlags::LOCKS)
        && !t.creds().has(permission::CAP_LINUX_IMMUTABLE)
    {
        return Err(Errno::EPERM);
    }
    inode.set_flags(flags)?;
    notify::happened(path, Happened::ATTRIB);
    Ok(0)
}

fn find(t: &CurrentTask, dirfd: Fd, path: PathPtr, at_flags: u32) -> Result<Path> {
    const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
    const AT_EMPTY_PATH: u32 = 0x1000;
    let path = path.read(t.mm())?;
    let ctx = WalkContext::of(t);
    let start = walk::start(t, &ctx, dirfd.0, &path)?;
    let mut flags = WalkFlags::empty();
    flags.set(WalkFlags::FOLLOW, at_flags & AT_SYMLINK_NOFOLLOW == 0);
    flags.set(WalkFlags::EMPTY_PATH, at_flags & AT_EMPTY_PATH != 0);
    walk::resolve(&ctx, start, &path, flags)
}

fn check_arguments(size: u64, at_flags: u32) -> Result<()> {
    if at_flags & !0x1100 != 0 {
        return Err(Errno::EINVAL);
    }
    match size {
        size if size > crate::mm::PAGE_SIZE => Err(Errno::E2BIG),
        size if size < SIZE => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// `file_getattr(2)`
pub fn file_getattr(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    attr: UserAddr,
    size: u64,
    at_flags: Flags,
) -> SysResult {
    check_arguments(size, at_flags.0)?;
    let place = find(t, dirfd, path, at_flags.0)?;
    let flags = place.inode().flags().ok_or(Errno::EOPNOTSUPP)?;
    let mut bytes = extended(flags).to_ne_bytes().to_vec();
    bytes.resize(size as usize, 0);
    t.mm().write(attr, &bytes)?;
    Ok(0)
}

/// `file_setattr(2)`
pub fn file_setattr(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    attr: UserAddr,
    size: u64,
    at_flags: Flags,
) -> SysResult {
    check_arguments(size, at_flags.0)?;
    let mut bytes = vec![0; size as usize];
    t.mm().read(attr, &mut bytes)?;
    if bytes.iter().skip(SIZE as usize).any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let place = find(t, dirfd, path, at_flags.0)?;
    place.mount.check_writable()?;
    let (head, rest) = bytes.split_first_chunk::<8>().ok_or(Errno::EINVAL)?;
    let known = rest.iter().all(|byte| *byte == 0);
    change(t, &place, from_extended(u64::from_ne_bytes(*head)).filter(|_| known))
}
