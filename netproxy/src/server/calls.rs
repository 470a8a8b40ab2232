//! Every host system call of a running proxy, and the filter that is made from them.

use platform::host::calls::Limit::{Either, Without};
use platform::host::calls::{EXECUTABLE, HostCall, host_calls};
use platform::host::seccomp::Filter;

/// Families of sockets that are made.
const INTERNET: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];

/// Calls that the C library makes and does without: they fail with these errors.
const REFUSED: &[(i64, i32, &str)] =
    &[(libc::SYS_openat, libc::ENOENT, "allocator: /proc/sys/vm/overcommit_memory, CPUs in /sys")];

/// What it needs, sorted by name.
pub const CALLS: &[HostCall] = host_calls! {
    accept4 SYS_accept4 Run "a connection to a published port";
    brk SYS_brk Run "memory";
    clock_gettime SYS_clock_gettime Run "time stamps of the log, where the vDSO has none";
    close SYS_close Run "let go of a socket";
    connect SYS_connect Run "a TCP connection";
    epoll_ctl SYS_epoll_ctl Run "watch a socket";
    epoll_pwait SYS_epoll_pwait Run "wait for the next event (C library)";
    epoll_wait SYS_epoll_wait Run "wait for the next event";
    exit_group SYS_exit_group Run "end of the proxy";
    fcntl SYS_fcntl Run (Either(1, &[libc::F_GETFD as u32])) "a check before closing (standard library, debug builds)";
    futex SYS_futex Run "locks of the C library";
    getpid SYS_getpid Run "abort (C library)";
    getrandom SYS_getrandom Run "seeds of hash tables";
    getsockopt SYS_getsockopt Run "how an attempt to connect ended";
    gettid SYS_gettid Run "abort (C library)";
    madvise SYS_madvise Run "memory";
    mmap SYS_mmap Run (Without(2, EXECUTABLE)) "memory";
    mprotect SYS_mprotect Run (Without(2, EXECUTABLE)) "memory";
    mremap SYS_mremap Run "memory: grow a large buffer";
    munmap SYS_munmap Run "memory";
    recvfrom SYS_recvfrom Run "packets of the sentry";
    recvmsg SYS_recvmsg Run "requests; packets of the network, and errors";
    restart_syscall SYS_restart_syscall Run "go on with a wait after a stop";
    rt_sigaction SYS_rt_sigaction Run "abort (C library)";
    rt_sigprocmask SYS_rt_sigprocmask Run "abort (C library)";
    rt_sigreturn SYS_rt_sigreturn Run "return from a handler";
    sendmsg SYS_sendmsg Run "events, with descriptors";
    sendto SYS_sendto Run "packets";
    setsockopt SYS_setsockopt Run "what the network is asked to tell of packets; their time to live";
    shutdown SYS_shutdown Run "the end of what a guest sends over a connection that was held back";
    socket SYS_socket Run (Either(0, INTERNET)) "connections and packets";
    socketpair SYS_socketpair Run (Either(0, &[libc::AF_UNIX as u32])) "the guest's end of a connection to a name server";
    tgkill SYS_tgkill Run (Either(2, &[libc::SIGABRT as u32])) "abort (C library)";
    write SYS_write Run "log; why it had to abort";
};

/// The filter.
pub static FILTER: Filter = Filter::new("network proxy", &[CALLS], REFUSED);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_few() {
        assert!(CALLS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(CALLS.len() < 40);
    }
}
