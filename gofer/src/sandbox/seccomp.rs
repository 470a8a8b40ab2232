//! The gofer's seccomp filters, made from [`crate::server::calls`] when this is compiled.

use platform::host::seccomp::Filter;

use crate::protocol::Reach;
use crate::server::OpenedExport;
use crate::server::calls::{
    BINDING_CALLS, CALLS, CHANGING_CALLS, CONNECTING_CALLS, REFUSED, SOCKET_CALLS,
};

const WHO: &str = "gofer";

/// Everything is read-only.
static READING: Filter = Filter::new(WHO, &[CALLS], REFUSED);
/// Something can be written to.
static CHANGING: Filter = Filter::new(WHO, &[CALLS, CHANGING_CALLS], REFUSED);
/// Everything is read-only, but sockets can be connected to.
static CONNECTING: Filter = Filter::new(WHO, &[CALLS, SOCKET_CALLS, CONNECTING_CALLS], REFUSED);
/// Something can be written to, and sockets connected to.
static CHANGING_CONNECTING: Filter =
    Filter::new(WHO, &[CALLS, CHANGING_CALLS, SOCKET_CALLS, CONNECTING_CALLS], REFUSED);
/// Something can be written to, and sockets bound.
static BINDING: Filter =
    Filter::new(WHO, &[CALLS, CHANGING_CALLS, SOCKET_CALLS, BINDING_CALLS], REFUSED);
/// All there is.
static ALL: Filter = Filter::new(
    WHO,
    &[CALLS, CHANGING_CALLS, SOCKET_CALLS, CONNECTING_CALLS, BINDING_CALLS],
    REFUSED,
);

/// The smallest filter under which `exports` can be served.
pub fn filter_for(exports: &[OpenedExport]) -> &'static Filter {
    let writable = exports.iter().any(|export| !export.read_only);
    let reaches = |what| exports.iter().any(|export| export.reach.contains(what));
    match (writable, reaches(Reach::CONNECT), reaches(Reach::BIND)) {
        (false, false, _) => &READING,
        (true, false, false) => &CHANGING,
        (false, true, _) => &CONNECTING,
        (true, true, false) => &CHANGING_CONNECTING,
        (true, false, true) => &BINDING,
        (true, true, true) => &ALL,
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "forks, and makes calls that must be refused")]
mod tests {
    use super::*;
    use platform::host::seccomp::Mode;
    use rustix::process::{Pid, WaitOptions, waitpid};

    /// What a violation ends a process with.
    const ENDED: i32 = 128 + libc::SIGSYS;
    /// Exit status of a process whose call returned.
    const RETURNED: i32 = 7;

    /// Makes a call in a process with a filter; its exit status.
    fn attempt(filter: &'static Filter, number: i64, args: [i64; 4]) -> i32 {
        // SAFETY: the child makes system calls only, and leaves through _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: plain prctl(2); the call itself fails without touching memory, or is refused.
            unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                // Where a violation is reported: nowhere.
                if filter.install(Mode::Enforce, -1).is_ok() {
                    libc::syscall(number, args[0], args[1], args[2], args[3]);
                    libc::_exit(RETURNED);
                }
                libc::_exit(1)
            }
        }
        let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().unwrap();
        status.exit_status().unwrap()
    }

    #[test]
    fn the_host_enforces_them() {
        let path = c"x".as_ptr() as i64;
        let open = i64::from(libc::O_CLOEXEC | libc::O_NONBLOCK);
        let null = libc::makedev(1, 3) as i64;
        let mode = |kind: u32| i64::from(kind | 0o600);
        let inet = i64::from(libc::AF_INET);
        let unix = i64::from(libc::AF_UNIX);
        for (filter, number, args, expected) in [
            (&READING, libc::SYS_openat, [-1, path, open, 0], RETURNED),
            // Refused with an error, because the allocator does it.
            (&READING, libc::SYS_openat, [-1, path, 0, 0], RETURNED),
            (&READING, libc::SYS_open, [path, open, 0, 0], ENDED),
            (&READING, libc::SYS_mkdirat, [-1, path, 0, 0], ENDED),
            (&READING, libc::SYS_unlinkat, [-1, path, 0, 0], ENDED),
            (&CHANGING, libc::SYS_unlinkat, [-1, path, 0, 0], RETURNED),
            (&CHANGING, libc::SYS_mknodat, [-1, path, mode(libc::S_IFIFO), 0], RETURNED),
            (&CHANGING, libc::SYS_mknodat, [-1, path, mode(libc::S_IFSOCK), 0], RETURNED),
            (&CHANGING, libc::SYS_mknodat, [-1, path, mode(libc::S_IFCHR), 0], RETURNED),
            (&CHANGING, libc::SYS_mknodat, [-1, path, mode(libc::S_IFCHR), null], ENDED),
            (&CHANGING, libc::SYS_mknodat, [-1, path, mode(libc::S_IFBLK), null], ENDED),
            (&READING, libc::SYS_mknodat, [-1, path, mode(libc::S_IFCHR), 0], ENDED),
            (&CHANGING, libc::SYS_socket, [unix, 1, 0, 0], ENDED),
            (&CONNECTING, libc::SYS_socket, [unix, 1, 0, 0], RETURNED),
            (&CONNECTING, libc::SYS_socket, [inet, 1, 0, 0], ENDED),
            (&CONNECTING, libc::SYS_connect, [-1, path, 2, 0], RETURNED),
            (&CONNECTING, libc::SYS_bind, [-1, path, 2, 0], ENDED),
            (&CHANGING_CONNECTING, libc::SYS_listen, [-1, 1, 0, 0], ENDED),
            (&BINDING, libc::SYS_bind, [-1, path, 2, 0], RETURNED),
            (&BINDING, libc::SYS_connect, [-1, path, 2, 0], ENDED),
            (&ALL, libc::SYS_accept4, [-1, 0, 0, 0], ENDED),
            (&ALL, libc::SYS_execve, [path, 0, 0, 0], ENDED),
            (&ALL, libc::SYS_mount, [0; 4], ENDED),
            (&ALL, libc::SYS_ptrace, [0; 4], ENDED),
            (&ALL, libc::SYS_kill, [1, 0, 0, 0], ENDED),
            (&ALL, libc::SYS_ioctl, [0; 4], ENDED),
            (&ALL, libc::SYS_chroot, [path, 0, 0, 0], ENDED),
            (&ALL, libc::SYS_unshare, [0; 4], ENDED),
            (&ALL, libc::SYS_clone, [i64::from(libc::CLONE_NEWUSER), 0, 0, 0], ENDED),
            (&ALL, libc::SYS_mmap, [0, 4096, i64::from(libc::PROT_EXEC), 0], ENDED),
            (&ALL, libc::SYS_prctl, [i64::from(libc::PR_SET_DUMPABLE), 1, 0, 0], ENDED),
            (&ALL, libc::SYS_tgkill, [0, 0, i64::from(libc::SIGKILL), 0], ENDED),
        ] {
            assert_eq!(attempt(filter, number, args), expected, "{number} {args:?}");
        }
    }
}
