//! Every host system call of a running gofer.
//!
//! The seccomp filter is generated from [`CALLS`]; a call that is added to the server is added here.
//! Start-up ([`crate::sandbox`]) makes others, before any filter is in place.

use libc::c_long;

/// One host system call the gofer may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCall {
    /// Its number.
    pub number: c_long,
    /// Its name.
    pub name: &'static str,
    /// What it is needed for.
    pub purpose: &'static str,
}

macro_rules! calls {
    ($($number:ident $name:literal $purpose:literal;)*) => {
        &[$($crate::server::calls::HostCall {
            number: libc::$number,
            name: $name,
            purpose: $purpose,
        }),*]
    };
}
pub(crate) use calls;

/// All of them, by what they are for.
pub const CALLS: &[HostCall] = calls! {
    // Channels.
    SYS_recvmsg "recvmsg" "wait for a request";
    SYS_sendmsg "sendmsg" "send a reply, with a donated descriptor";
    SYS_shutdown "shutdown" "close a channel whose other end breaks the protocol";
    SYS_ppoll "ppoll" "wait for the first message of a channel";
    // Finding files.
    SYS_openat2 "openat2" "open one component without access, beneath a directory";
    SYS_openat "openat" "open a file that was found, through /proc/self/fd; create one";
    SYS_statx "statx" "attributes";
    SYS_fstatfs "fstatfs" "state of a file system; tell the kernel's own file systems";
    SYS_readlinkat "readlinkat" "target of a symbolic link";
    SYS_getdents64 "getdents64" "list a directory";
    SYS_fcntl "fcntl" "duplicate a descriptor (F_DUPFD_CLOEXEC)";
    SYS_close "close" "let go of a file";
    // Changing files; unused when every export is read-only.
    SYS_mkdirat "mkdirat" "create a directory";
    SYS_mknodat "mknodat" "create a file, FIFO or socket node";
    SYS_symlinkat "symlinkat" "create a symbolic link";
    SYS_linkat "linkat" "create a hard link";
    SYS_unlinkat "unlinkat" "remove a name";
    SYS_renameat2 "renameat2" "move a name";
    SYS_fchmod "fchmod" "mode of a file just created";
    SYS_fchmodat "fchmodat" "mode, through /proc/self/fd";
    SYS_fchownat "fchownat" "owner";
    SYS_ftruncate "ftruncate" "size";
    SYS_utimensat "utimensat" "time stamps";
    SYS_fsync "fsync" "write a file or directory to the disk";
    SYS_fdatasync "fdatasync" "write a file's data to the disk";
    SYS_fsetxattr "fsetxattr" "set an extended attribute";
    SYS_fremovexattr "fremovexattr" "remove an extended attribute";
    // Extended attributes.
    SYS_fgetxattr "fgetxattr" "value of an extended attribute";
    SYS_flistxattr "flistxattr" "names of extended attributes";
    // Unix sockets in exports that allow it.
    SYS_socket "socket" "AF_UNIX only: make a connection to donate";
    SYS_connect "connect" "connect to a Unix socket that was found";
    // Who it is.
    SYS_geteuid "geteuid" "recognise a file just created as its own";
    // Threads and memory.
    SYS_clone3 "clone3" "start a channel's thread";
    SYS_clone "clone" "the same, on hosts without clone3";
    SYS_sched_getaffinity "sched_getaffinity" "which CPUs there are; a thread's stack bounds";
    SYS_sched_setaffinity "sched_setaffinity" "bind a channel's thread to its CPU";
    SYS_set_robust_list "set_robust_list" "start of a thread (libc)";
    SYS_rseq "rseq" "start of a thread (libc)";
    SYS_rt_sigprocmask "rt_sigprocmask" "start and end of a thread (libc)";
    SYS_sigaltstack "sigaltstack" "stack overflow handler of a thread (standard library)";
    SYS_gettid "gettid" "name of a thread in an error message (standard library)";
    SYS_prctl "prctl" "name of a thread (PR_SET_NAME)";
    SYS_futex "futex" "locks, and waiting for threads to end";
    SYS_mmap "mmap" "memory";
    SYS_mprotect "mprotect" "memory: heaps and stack guards of threads";
    SYS_mremap "mremap" "memory: grow a large buffer";
    SYS_munmap "munmap" "memory";
    SYS_madvise "madvise" "memory: give back a thread's stack";
    SYS_brk "brk" "memory";
    SYS_restart_syscall "restart_syscall" "go on with ppoll after a stop";
    SYS_sched_yield "sched_yield" "a contended lock";
    // The end.
    SYS_exit "exit" "end of a thread";
    SYS_exit_group "exit_group" "end of the gofer";
    SYS_write "write" "why it had to abort, on standard error";
    SYS_rt_sigaction "rt_sigaction" "abort (libc)";
    SYS_getpid "getpid" "abort (libc)";
    SYS_tgkill "tgkill" "abort (libc)";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_listed_twice() {
        for (index, call) in CALLS.iter().enumerate() {
            assert!(!CALLS[..index].iter().any(|other| other.number == call.number), "{call:?}");
        }
    }
}
