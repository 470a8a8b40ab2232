//! Every host system call of a running gofer.
//!
//! Its seccomp filters ([`crate::sandbox::seccomp`]) are made from these tables when they are compiled; a call that is
//! added to the server is added here. Start-up ([`crate::sandbox`]) makes others, before any filter is in place.

use platform::host::calls::Limit::{Either, With, Without};
use platform::host::calls::{EXECUTABLE, HostCall, THREAD, host_calls};

/// Flags of every `openat(2)`: it never waits, for the other side of a FIFO, say.
const OPEN: u32 = (libc::O_NONBLOCK | libc::O_CLOEXEC) as u32;

/// Commands of `fcntl(2)`.
const FCNTL: &[u32] = &[libc::F_DUPFD_CLOEXEC as u32, libc::F_GETFD as u32];

/// The only device number that nodes are made with: no driver has it.
const NO_DEVICE: &[u32] = &[0];

/// Calls that the C library makes and does without: they fail with these errors.
pub const REFUSED: &[(i64, i32, &str)] = &[
    // Its flags are in memory, where a filter cannot look; clone(2) follows, whose flags are limited.
    (libc::SYS_clone3, libc::ENOSYS, "thread"),
    (libc::SYS_openat, libc::ENOENT, "allocator: /proc/sys/vm/overcommit_memory, CPUs in /sys"),
];

/// What every gofer needs, sorted by name.
pub const CALLS: &[HostCall] = host_calls! {
    brk SYS_brk Run "memory";
    clone SYS_clone Run (Either(0, THREAD)) "start a channel's thread";
    close SYS_close Run "let go of a file";
    exit SYS_exit Run "end of a thread";
    exit_group SYS_exit_group Run "end of the gofer";
    fcntl SYS_fcntl Run (Either(1, FCNTL)) "duplicate a descriptor; a check before closing one (standard library, debug builds)";
    fdatasync SYS_fdatasync Run "write a file's data to the disk";
    fgetxattr SYS_fgetxattr Run "value of an extended attribute";
    flistxattr SYS_flistxattr Run "names of extended attributes";
    fstatfs SYS_fstatfs Run "state of a file system; tell the kernel's own file systems";
    fsync SYS_fsync Run "write a file or directory to the disk";
    futex SYS_futex Run "locks, and waiting for threads to end";
    getdents64 SYS_getdents64 Run "list a directory";
    geteuid SYS_geteuid Run "recognise a file just created as its own";
    getpid SYS_getpid Run "abort (C library)";
    gettid SYS_gettid Run "name of a thread in an error message (standard library)";
    inotify_add_watch SYS_inotify_add_watch Run "watch a directory for changes by others, through /proc/self/fd";
    inotify_init1 SYS_inotify_init1 Run "make a watcher";
    inotify_rm_watch SYS_inotify_rm_watch Run "end a watch";
    madvise SYS_madvise Run "memory: give back a thread's stack";
    mmap SYS_mmap Run (Without(2, EXECUTABLE)) "memory";
    mprotect SYS_mprotect Run (Without(2, EXECUTABLE)) "memory: heaps and stack guards of threads";
    mremap SYS_mremap Run "memory: grow a large buffer";
    munmap SYS_munmap Run "memory";
    openat SYS_openat Run (With(2, OPEN)) "open a file that was found, through /proc/self/fd; create one";
    openat2 SYS_openat2 Run "open one component without access, beneath a directory";
    ppoll SYS_ppoll Run "wait for the first message of a channel";
    prctl SYS_prctl Run (Either(0, &[libc::PR_SET_NAME as u32])) "name of a thread";
    readlinkat SYS_readlinkat Run "target of a symbolic link";
    recvmsg SYS_recvmsg Run "wait for a request";
    restart_syscall SYS_restart_syscall Run "go on with ppoll after a stop";
    rseq SYS_rseq Run "start of a thread (C library)";
    rt_sigaction SYS_rt_sigaction Run "abort (C library)";
    rt_sigprocmask SYS_rt_sigprocmask Run "start and end of a thread (C library)";
    rt_sigreturn SYS_rt_sigreturn Run "return from a handler";
    sched_getaffinity SYS_sched_getaffinity Run "which CPUs there are; a thread's stack bounds";
    sched_setaffinity SYS_sched_setaffinity Run "bind a channel's thread to its CPU";
    sched_yield SYS_sched_yield Run "a contended lock";
    sendmsg SYS_sendmsg Run "send a reply, with a donated descriptor";
    set_robust_list SYS_set_robust_list Run "start of a thread (C library)";
    shutdown SYS_shutdown Run "close a channel whose other end breaks the protocol";
    sigaltstack SYS_sigaltstack Run "stack overflow handler of a thread (standard library)";
    statx SYS_statx Run "attributes";
    tgkill SYS_tgkill Run (Either(2, &[libc::SIGABRT as u32])) "abort (C library)";
    write SYS_write Run "why it had to abort, on standard error";
};

/// What a gofer with an export that can be written to needs besides.
pub const CHANGING_CALLS: &[HostCall] = host_calls! {
    fchmod SYS_fchmod Run "mode of a file just created";
    fchmodat SYS_fchmodat Run "mode, through /proc/self/fd";
    fchownat SYS_fchownat Run "owner";
    fremovexattr SYS_fremovexattr Run "remove an extended attribute";
    fsetxattr SYS_fsetxattr Run "set an extended attribute";
    ftruncate SYS_ftruncate Run "size";
    linkat SYS_linkat Run "create a hard link";
    mkdirat SYS_mkdirat Run "create a directory";
    mknodat SYS_mknodat Run (Either(3, NO_DEVICE)) "create a file, FIFO, socket node or whiteout; never a device that there is";
    renameat2 SYS_renameat2 Run "move a name";
    symlinkat SYS_symlinkat Run "create a symbolic link";
    unlinkat SYS_unlinkat Run "remove a name";
    utimensat SYS_utimensat Run "time stamps";
};

/// What a gofer needs besides that makes sockets.
pub const SOCKET_CALLS: &[HostCall] = host_calls! {
    socket SYS_socket Run (Either(0, &[libc::AF_UNIX as u32])) "make a Unix socket to donate";
};

/// What a gofer with an export whose sockets may be connected to needs besides those.
pub const CONNECTING_CALLS: &[HostCall] = host_calls! {
    connect SYS_connect Run "connect to a Unix socket that was found";
};

/// What a gofer with an export in which sockets may be bound needs besides those.
pub const BINDING_CALLS: &[HostCall] = host_calls! {
    bind SYS_bind Run "bind a Unix socket to a new name";
    listen SYS_listen Run "have it take connections";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_unique_and_fewer_than_the_sentrys() {
        let mut all: Vec<&str> = Vec::new();
        for table in [CALLS, CHANGING_CALLS, SOCKET_CALLS, CONNECTING_CALLS, BINDING_CALLS] {
            assert!(table.windows(2).all(|pair| pair[0].name < pair[1].name));
            all.extend(table.iter().map(|call| call.name));
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(count < 65, "{count} host calls");
    }
}
