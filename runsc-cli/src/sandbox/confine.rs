//! What a new sentry process gives up before it touches anything of the guest's.
#![expect(unsafe_code, reason = "prctl, capset and close_range are not in nix")]

use anyhow::Context;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{
    Gid, Uid, chdir, pivot_root, setfsgid, setfsuid, setgroups, setresgid, setresuid,
};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Duplicates a descriptor to one of its own; `None` if it is closed.
pub fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and returns a new descriptor or -1.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: the call returned a descriptor that nothing else owns.
    (new >= 0).then(|| unsafe { OwnedFd::from_raw_fd(new) })
}

/// True for a descriptor that whoever started this process has left open for it: its own are closed on execution.
pub fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes an integer and returns flags or -1.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Makes a terminal the controlling one of this session, which tells of its size by a signal. The signal is
/// blocked, for one thread of the sentry to take; the terminal's end is noticed where it is read.
pub fn take_terminal(console: OwnedFd) -> anyhow::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer; signal(2) with SIG_IGN installs no code of ours.
    unsafe {
        Errno::result(libc::ioctl(console.as_raw_fd(), libc::TIOCSCTTY, 0))
            .context("cannot take the terminal as the controlling one")?;
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
    SigSet::from_iter([Signal::SIGWINCH]).thread_block().context("cannot block a signal")
}

/// Lets go of the standard streams, whose other ends somebody may wait for. Standard error stays when the
/// starter waits for the sandbox anyway.
pub fn replace_standard_streams(attached: bool) -> anyhow::Result<()> {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("cannot replace standard input")?;
    rustix::stdio::dup2_stdout(&null).context("cannot replace standard output")?;
    if !attached {
        rustix::stdio::dup2_stderr(&null).context("cannot replace standard error")?;
    }
    Ok(())
}

/// Closes every descriptor but the standard streams and `keep`.
pub fn close_others<'a>(keep: impl Iterator<Item = BorrowedFd<'a>>) -> anyhow::Result<()> {
    let mut keep: Vec<u32> = keep.map(|fd| fd.as_raw_fd() as u32).collect();
    keep.sort_unstable();
    let mut first = 3;
    for last in keep.into_iter().map(|fd| fd - 1).chain([u32::MAX]) {
        if first <= last {
            // SAFETY: close_range takes integers. What it closes is owned by no value that this
            // process goes on to use: the child runs only what its `keep` list names.
            let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            Errno::result(result).context("cannot close inherited file descriptors")?;
        }
        first = last.saturating_add(2);
    }
    Ok(())
}

/// Allows as many descriptors as the host lets this process have: each open host file is one, and each
/// guest thread. The guest's own limits are the kernel's.
pub fn allow_descriptors() {
    // Failing, the limit stays, and what needs more gets an error.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Makes the root an empty, read-only directory, in which nothing of the host is visible.
pub fn empty_root() -> anyhow::Result<()> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("cannot make the mounts private")?;
    // Any directory that exists everywhere will do: the tmpfs on it becomes the root.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("runsc-root"), "/proc", Some("tmpfs"), flags, Some("size=4k,nr_inodes=2,mode=0555"))
        .context("cannot mount an empty root")?;
    chdir("/proc").context("cannot enter the empty root")?;
    pivot_root(".", ".").context("cannot make the empty directory the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot detach the host's root")?;
    mount(
        NONE,
        "/",
        NONE,
        flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY,
        NONE,
    )
    .context("cannot make the empty root read-only")?;
    chdir("/").context("cannot enter the empty root")
}

/// A file for guest memory, on a tmpfs of its own that gives huge pages on advice, whatever the host's setting for memfds. `None`
/// where the host does not have that.
pub fn memory_file() -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags, openat};
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    };
    // A file must belong to somebody whom the namespace knows; who starts sandboxes may be nobody there.
    setfsgid(Gid::from_raw(0));
    setfsuid(Uid::from_raw(0));
    let make = || {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        // Its size is limited by the sandbox's cgroup, as a memfd's is.
        for (option, value) in [("huge", "advise"), ("size", "0"), ("mode", "0700")] {
            fsconfig_set_string(fs.as_fd(), option, value)?;
        }
        fsconfig_create(fs.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let root = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        openat(
            &root,
            ".",
            OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )
    };
    make().ok()
}

/// Becomes user 0 of a namespace that owns nothing, without capabilities and for good.
///
/// If it is `attached` it dies with its parent.
pub fn drop_privileges(attached: bool) -> anyhow::Result<()> {
    // Allowed only where the group map was written by root; else the groups are the caller's own.
    let _ = setgroups(&[]);
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))
        .context("cannot change the group id")?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))
        .context("cannot change the user id")?;
    drop_bounding_set();
    drop_capabilities()?;
    // SAFETY: plain prctl calls with integer arguments. Stubs are forked from this process and must
    // be traceable by it, which after the changes above needs the dumpable flag to be set again; the
    // kernel clears it once its stubs have their own.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        if attached {
            // Changing credentials cleared it.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
    }
    Ok(())
}

/// Empties the bounding set, where there is CAP_SETPCAP.
fn drop_bounding_set() {
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes an integer; unknown capabilities are refused.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
}

/// Empties the other capability sets.
fn drop_capabilities() -> anyhow::Result<()> {
    // _LINUX_CAPABILITY_VERSION_3, this process; see capset(2).
    let header = [0x2008_0522_u32, 0];
    let none = [0u32; 6];
    // SAFETY: both arrays have the layout that version 3 of capset(2) reads and live through the
    // call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    Errno::result(result).map(drop).context("cannot drop the capabilities")
}

/// The user and group that own nothing (`nobody`).
const NOBODY: u32 = 65534;

/// Gives up what a process that only waits for another has no use for: a root's user, every capability, and the way
/// to get any back. An ordinary user stays who it is, and so does the root of a user namespace that has no `nobody`.
/// If it is `attached` it dies with its parent.
pub fn become_bystander(attached: bool) -> anyhow::Result<()> {
    if Uid::effective().is_root() {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        drop_bounding_set();
        // Refused in a user namespace without these numbers; the capabilities go all the same.
        let _ = setgroups(&[]).and(setresgid(gid, gid, gid)).and(setresuid(uid, uid, uid));
    }
    drop_capabilities()?;
    // SAFETY: plain prctl calls with integer arguments.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if attached {
            // Changing credentials cleared it.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
    }
    Ok(())
}
