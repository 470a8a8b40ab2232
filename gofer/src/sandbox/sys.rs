#![expect(unsafe_code, reason = "system calls that no library of ours wraps")]
//! Raw system calls of the start-up.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// `struct mount_attr` of `<linux/mount.h>`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;

/// Takes from all mounts of a tree the meaning of devices and set-id bits, and writing if
/// `read_only`. `mount_setattr(2)`, Linux 5.12.
pub(super) fn restrict_mounts(tree: BorrowedFd<'_>, read_only: bool) -> Result<(), Errno> {
    let attr = MountAttr {
        set: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | if read_only { MOUNT_ATTR_RDONLY } else { 0 },
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a constant C string, the structure lives across the call and its size is
    // passed along; the call reads both and writes neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Closes every descriptor that is not in `keep`, which is sorted on the way.
///
/// The caller of [`super::enter`] promised not to use any of them again.
pub(super) fn close_all_but(keep: &mut Vec<i32>) {
    keep.sort_unstable();
    keep.dedup();
    let mut first: u32 = 0;
    for &fd in keep.iter() {
        let Ok(fd) = u32::try_from(fd) else { continue };
        if fd > first {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: takes integers only. The descriptors it closes have owners in this process, which
    // never run again: `enter` is called by a process that serves `keep` and then exits.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        return;
    }
    // Linux before 5.9 has no such call.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .and_then(|limit| u32::try_from(limit).ok())
        .unwrap_or(1 << 20);
    for fd in first..=last.min(limit) {
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_close, fd) };
    }
}

fn last_errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
