//! `open(2)` and `openat2(2)`.

use super::AT_FDCWD;
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, Mode, PathPtr};
use crate::syscalls::families::file::install;
use crate::vfs::open::{self, OpenHow};
use crate::vfs::{OpenFlags, WalkFlags};

/// Flags that `O_PATH` leaves.
const PATH_FLAGS: OpenFlags = OpenFlags::DIRECTORY
    .union(OpenFlags::NOFOLLOW)
    .union(OpenFlags::PATH)
    .union(OpenFlags::CLOEXEC);

/// The checks of `build_open_flags`.
pub(super) fn check(mut flags: OpenFlags) -> Result<OpenFlags> {
    if flags.tmpfile() {
        if !flags.contains(OpenFlags::DIRECTORY)
            || flags.contains(OpenFlags::CREAT)
            || !flags.writable()
        {
            return Err(Errno::EINVAL);
        }
    } else if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(OpenFlags::SYNC) {
        flags |= OpenFlags::DSYNC;
    }
    Ok(flags)
}

fn do_open(t: &mut CurrentTask, dirfd: Fd, path: PathPtr, flags: u32, mode: u32) -> SysResult {
    let mut flags = OpenFlags::from_bits_truncate(flags) | OpenFlags::LARGEFILE;
    if flags.contains(OpenFlags::PATH) {
        flags &= PATH_FLAGS;
    }
    let flags = check(flags)?;
    let path = path.read(t.mm())?;
    let file = open::open(t, dirfd.0, &path, flags, mode & 0o7777)?;
    install(t, file, flags.contains(OpenFlags::CLOEXEC))
}

/// `open(2)`.
pub fn open(t: &mut CurrentTask, path: PathPtr, flags: Flags, mode: Mode) -> SysResult {
    do_open(t, AT_FDCWD, path, flags.0, mode.0)
}

/// `openat(2)`.
pub fn openat(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    flags: Flags,
    mode: Mode,
) -> SysResult {
    do_open(t, dirfd, path, flags.0, mode.0)
}

/// `creat(2)`.
pub fn creat(t: &mut CurrentTask, path: PathPtr, mode: Mode) -> SysResult {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    do_open(t, AT_FDCWD, path, flags.bits(), mode.0)
}

/// `openat2(2)`.
pub fn openat2(
    t: &mut CurrentTask,
    dirfd: Fd,
    path: PathPtr,
    how: UserAddr,
    size: u64,
) -> SysResult {
    const SIZE: u64 = 24;
    if size < SIZE {
        return Err(Errno::EINVAL);
    }
    if size > crate::mm::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve]: [u64; 3] = t.mm().read_obj(how)?;
    // Fields of a later kernel must be zero.
    let mut rest = vec![0u8; (size - SIZE) as usize];
    t.mm().read(how.offset(SIZE), &mut rest)?;
    if rest.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    let flags = u32::try_from(flags).ok().and_then(OpenFlags::from_bits).ok_or(Errno::EINVAL)?;
    let makes = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE_BIT);
    if mode & !0o7777 != 0 || mode != 0 && !makes {
        return Err(Errno::EINVAL);
    }
    if flags.contains(OpenFlags::PATH) && !PATH_FLAGS.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let flags = check(flags)?;
    let resolve = resolve_flags(resolve)?;
    let path = path.read(t.mm())?;
    let how = OpenHow { flags, mode: mode as u32, resolve };
    let file = open::open_how(t, dirfd.0, &path, how)?;
    install(t, file, flags.contains(OpenFlags::CLOEXEC))
}

/// `RESOLVE_*`.
fn resolve_flags(raw: u64) -> Result<WalkFlags> {
    const CACHED: u64 = 0x20;
    let pairs = [
        (1, WalkFlags::NO_XDEV),
        (2, WalkFlags::NO_MAGICLINKS),
        (4, WalkFlags::NO_SYMLINKS),
        (8, WalkFlags::BENEATH),
        (16, WalkFlags::IN_ROOT),
    ];
    let known: u64 = pairs.iter().map(|(bit, _)| bit).sum();
    if raw & !(known | CACHED) != 0 || raw & 24 == 24 {
        return Err(Errno::EINVAL);
    }
    if raw & CACHED != 0 {
        // The caller is prepared for this answer: it tries again without.
        return Err(Errno::EAGAIN);
    }
    let set = pairs.iter().filter(|(bit, _)| raw & bit != 0);
    Ok(set.fold(WalkFlags::empty(), |flags, (_, flag)| flags | *flag))
}
