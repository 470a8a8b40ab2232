//! The list of host system calls the sentry makes, and what such a list consists of: the gofer has one, too.
//!
//! The sentry's seccomp filter is generated from these tables when it is compiled ([`super::seccomp`]): what
//! every platform needs, and what one platform needs besides. To allow a call, add a line. A test keeps the
//! tables sorted and free of duplicates.

use Limit::{Either, Without};

/// When a host call is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Only until the first guest instruction runs.
    Setup,
    /// At any time.
    Run,
}

/// How an argument of a call is limited. Arguments count from 0; only their lower 32 bits are looked at, which is
/// all that the kernel uses of the ones named here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Not at all.
    Any,
    /// The argument must have one of these values.
    Either(u8, &'static [u32]),
    /// The argument must not have any of these bits.
    Without(u8, u32),
    /// The argument must have all of these bits.
    With(u8, u32),
}

/// One host system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostCall {
    /// Name, as in `syscalls(2)`.
    pub name: &'static str,
    /// x86-64 number.
    pub number: i64,
    /// When it is needed.
    pub phase: Phase,
    /// What its arguments may be.
    pub limit: Limit,
    /// What it is used for, and by whom.
    pub purpose: &'static str,
}

/// A table. One line for each call: the name appears once, the number follows from it. A limit stands in
/// parentheses.
#[macro_export]
macro_rules! host_calls {
    (@limit) => {
        $crate::host::calls::Limit::Any
    };
    (@limit $limit:expr) => {
        $limit
    };
    ($($name:ident $number:ident $phase:ident $(($($limit:tt)+))? $purpose:literal;)*) => {
        &[$($crate::host::calls::HostCall {
            name: stringify!($name),
            number: libc::$number,
            phase: $crate::host::calls::Phase::$phase,
            limit: $crate::host_calls!(@limit $($($limit)+)?),
            purpose: $purpose,
        },)*]
    };
}
pub use host_calls;

/// Requests of `ioctl(2)`: terminals, and what waits in a pipe or socket.
const TERMINAL: [u32; 9] = [
    libc::TCGETS as u32,
    libc::TCSETS as u32,
    libc::TCSETSW as u32,
    libc::TCSETSF as u32,
    libc::TIOCGWINSZ as u32,
    libc::TIOCSWINSZ as u32,
    libc::FIONREAD as u32,
    libc::TIOCOUTQ as u32,
    // SIOCATMARK
    0x8905,
];

/// Those and `SECCOMP_IOCTL_NOTIF_RECV`, `SEND`, `ID_VALID`, `ADDFD` and `SET_FLAGS`.
const SYSTRAP_REQUESTS: [u32; 14] =
    join(TERMINAL, [0xc050_2100, 0xc018_2101, 0x4008_2102, 0x4018_2103, 0x4008_2104]);

/// Those of terminals, and what a virtual machine that exists already needs.
const KVM_REQUESTS: [u32; 27] = join(
    TERMINAL,
    [
        // KVM_RUN, KVM_INTERRUPT, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_GET_REGS.
        0xae80,
        0x4004_ae86,
        0x8040_ae9f,
        0x4040_aea0,
        0x8090_ae81,
        // KVM_GET_XSAVE, KVM_SET_XSAVE.
        0x9000_aea4,
        0x5000_aea5,
        // KVM_SET_USER_MEMORY_REGION.
        0x4020_ae46,
        // KVM_PRE_FAULT_MEMORY.
        0xc040_aed5,
        // KVM_CREATE_VCPU, KVM_SET_CPUID2, KVM_GET_SREGS, KVM_SET_SREGS, KVM_SET_XCRS, KVM_SET_MSRS,
        // KVM_SET_DEVICE_ATTR, KVM_SET_REGS, KVM_SET_SIGNAL_MASK.
        0xae41,
        0x4008_ae90,
        0x8138_ae83,
        0x4138_ae84,
        0x4188_aea7,
        0x4008_ae89,
        0x4018_aee1,
        0x4090_ae82,
        0x4004_ae8b,
    ],
);

const fn join<const A: usize, const B: usize, const N: usize>(
    a: [u32; A],
    b: [u32; B],
) -> [u32; N] {
    assert!(A + B == N);
    let (mut all, mut i) = ([0; N], 0);
    while i < N {
        all[i] = if i < A { a[i] } else { b[i - A] };
        i += 1;
    }
    all
}

/// Families of sockets that are made.
const UNIX: &[u32] = &[libc::AF_UNIX as u32];

/// Options of sockets that are set.
const CONTROL_OPTIONS: &[u32] = &[libc::SO_PASSCRED as u32, libc::SO_RCVTIMEO as u32];

/// Options of connected Internet sockets that are set, besides those: by their numbers, whatever the level.
/// `TCP_NODELAY`, `TCP_CORK`, `TCP_KEEPIDLE`, `_KEEPINTVL`, `_KEEPCNT`, `SO_SNDBUF`, `SO_RCVBUF` and `TCP_LINGER2`,
/// `SO_KEEPALIVE`, `SO_OOBINLINE`, `TCP_QUICKACK`, `SO_LINGER`, `TCP_USER_TIMEOUT`.
const CONNECTION_OPTIONS: &[u32] = &[1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 16, 18, 20];

/// Those that the guest's own sockets of the host can have: what a level of `sentry/src/socket/inet/host/options.rs` lets
/// through, by number.
const HOST_OPTIONS: &[u32] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 29, 30,
    32, 33, 34, 35, 36, 42, 49, 51, 66, 67, 103, 104,
];

/// Options that are read: `TCP_MAXSEG`, `SO_ERROR`, `TCP_INFO`.
const READ_OPTIONS: &[u32] = &[2, 4, 11];

/// Flags of `clone(2)` for a thread, as the C library has them.
pub const THREAD: &[u32] = &[(libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u32];

/// Commands of `fcntl(2)`: duplication, flags, locks, and the size and seals of a memory file.
const FCNTL: &[u32] = &[
    libc::F_DUPFD_CLOEXEC as u32,
    libc::F_GETFD as u32,
    libc::F_SETFD as u32,
    libc::F_GETFL as u32,
    libc::F_SETFL as u32,
    libc::F_OFD_GETLK as u32,
    libc::F_OFD_SETLK as u32,
    libc::F_OFD_SETLKW as u32,
];

/// No memory is both written and executed: none becomes executable.
pub const EXECUTABLE: u32 = libc::PROT_EXEC as u32;

/// Calls that the C library makes and does without: the filter fails them with these errors. They are not made.
pub const REFUSED: &[(i64, i32, &str)] = &[
    // Its flags are in memory, where a filter cannot look; clone(2) follows, whose flags are limited.
    (libc::SYS_clone3, libc::ENOSYS, "thread of the sentry"),
    (libc::SYS_openat, libc::ENOENT, "allocator: /proc/sys/vm/overcommit_memory, CPUs in /sys"),
];

/// What every platform needs, sorted by name.
pub const HOST_CALLS: &[HostCall] = host_calls! {
    accept4 SYS_accept4 Run "control connections";
    arch_prctl SYS_arch_prctl Setup "C library, at start";
    brk SYS_brk Run "allocator";
    capset SYS_capset Setup "zygote: drop all capabilities";
    clock_gettime SYS_clock_gettime Run "clocks other than those of the vDSO (CPU time)";
    clone SYS_clone Run (Either(0, THREAD)) "thread of the sentry for a new guest thread; zygote: the process all stubs descend from";
    close SYS_close Run "release of donated and internal descriptors";
    close_range SYS_close_range Setup "zygote: close everything inherited";
    dup2 SYS_dup2 Setup "zygote: descriptors at their fixed numbers";
    dup3 SYS_dup3 Setup "zygote: descriptors at their fixed numbers";
    epoll_create1 SYS_epoll_create1 Run "watching of host descriptors";
    epoll_ctl SYS_epoll_ctl Run "watching of host descriptors";
    epoll_wait SYS_epoll_wait Run "watching of host descriptors";
    eventfd2 SYS_eventfd2 Run "waking of a thread in poll";
    exit SYS_exit Run "end of a thread";
    exit_group SYS_exit_group Run "end of the sentry";
    fallocate SYS_fallocate Run "memory file: return and reserve pages; files: guest's fallocate";
    fcntl SYS_fcntl Run (Either(1, FCNTL)) "status flags, duplication and locks of donated descriptors";
    fdatasync SYS_fdatasync Run "guest's fdatasync";
    fstat SYS_fstat Run "attributes of donated descriptors, size of the memory file";
    fsync SYS_fsync Run "guest's fsync";
    ftruncate SYS_ftruncate Run "size of the memory file and of donated files";
    futex SYS_futex Run "locks and parked threads of the sentry";
    getcpu SYS_getcpu Run "placement (through the vDSO where there is one)";
    getrandom SYS_getrandom Run "guest's getrandom, hash seeds";
    getsockname SYS_getsockname Run "the port of a connection from the host's loopback interface; the guest's getsockname";
    gettid SYS_gettid Run "placement of threads";
    kcmp SYS_kcmp Run (Either(2, &[0])) "which standard streams are one open file (KCMP_FILE)";
    kill SYS_kill Run "end of a stub";
    lseek SYS_lseek Run "holes of donated files, positions of the standard streams";
    madvise SYS_madvise Run "allocator; memory file";
    memfd_create SYS_memfd_create Setup "the memory file";
    mincore SYS_mincore Run "memory file: how much a guest process uses";
    mmap SYS_mmap Run (Without(2, EXECUTABLE)) "allocator, thread stacks, donated files";
    mprotect SYS_mprotect Run (Without(2, EXECUTABLE)) "thread stacks";
    mremap SYS_mremap Run "allocator";
    munmap SYS_munmap Run "allocator, thread stacks, donated files";
    newfstatat SYS_newfstatat Run (Either(3, &[libc::AT_EMPTY_PATH as u32])) "fstat of the C library";
    pipe2 SYS_pipe2 Setup "ptrace: stubs notice the end of the sentry";
    poll SYS_poll Run "readiness of host descriptors";
    ppoll SYS_ppoll Run "readiness of host descriptors";
    prctl SYS_prctl Run (Either(0, &[libc::PR_SET_NAME as u32])) "names of threads";
    pread64 SYS_pread64 Run "donated files";
    preadv2 SYS_preadv2 Run "donated files, into guest memory";
    prlimit64 SYS_prlimit64 Setup "zygote: no core dumps; C library, at start";
    pwrite64 SYS_pwrite64 Run "donated files";
    pwritev2 SYS_pwritev2 Run "donated files, out of guest memory";
    read SYS_read Run "donated pipes and terminals";
    recvmmsg SYS_recvmmsg Run "packets of the sandbox's interfaces";
    recvmsg SYS_recvmsg Run "gofer and control connections; discarding of a descriptor that no stub fetched";
    restart_syscall SYS_restart_syscall Run "continuation of a sleep after a stop";
    rseq SYS_rseq Run "C library, per thread";
    rt_sigaction SYS_rt_sigaction Run "C library, before the first thread; fault handlers";
    rt_sigprocmask SYS_rt_sigprocmask Run "signals are taken by one thread";
    rt_sigreturn SYS_rt_sigreturn Run "return from a fault handler";
    rt_sigtimedwait SYS_rt_sigtimedwait Run "the thread that takes the sentry's signals";
    sched_getaffinity SYS_sched_getaffinity Run "placement";
    sched_setaffinity SYS_sched_setaffinity Run "placement";
    sched_yield SYS_sched_yield Run "locks";
    seccomp SYS_seccomp Setup "zygote and sentry: their filters";
    sendmsg SYS_sendmsg Run "gofer and control connections; descriptors for a stub";
    set_robust_list SYS_set_robust_list Run "C library, per thread";
    set_tid_address SYS_set_tid_address Setup "C library, at start";
    setsid SYS_setsid Setup "zygote: away from the terminal";
    shutdown SYS_shutdown Run "channels to a gofer that breaks the protocol";
    sigaltstack SYS_sigaltstack Run "overflow guard of each thread";
    tgkill SYS_tgkill Run "interrupting guest code";
    write SYS_write Run "donated pipes and terminals, log";
    writev SYS_writev Run "donated pipes and terminals";
};

/// What `--platform=ptrace` needs besides.
pub const PTRACE_CALLS: &[HostCall] = host_calls! {
    getpid SYS_getpid Run "identity of the sentry";
    ioctl SYS_ioctl Run (Either(1, &TERMINAL)) "terminal attributes and window size; bytes waiting in a pipe or socket";
    ptrace SYS_ptrace Run "running guest code";
    socketpair SYS_socketpair Setup "the channel that carries descriptors to stubs";
    wait4 SYS_wait4 Run "stops and ends of stubs";
};

/// What `--platform=systrap` needs besides.
pub const SYSTRAP_CALLS: &[HostCall] = host_calls! {
    getpid SYS_getpid Run "identity of the sentry";
    ioctl SYS_ioctl Run (Either(1, &SYSTRAP_REQUESTS)) "terminal attributes and window size; bytes waiting in a pipe or socket; system calls of guests";
    pidfd_getfd SYS_pidfd_getfd Run "listeners of guest threads";
    pidfd_open SYS_pidfd_open Run "listeners of guest threads";
    setsockopt SYS_setsockopt Run (Either(2, CONTROL_OPTIONS)) "control sockets of agents: credentials, time limit";
    socketpair SYS_socketpair Run (Either(0, UNIX)) "control sockets of agents";
    wait4 SYS_wait4 Run "ends of stubs";
};

/// What `--platform=kvm` needs besides.
pub const KVM_CALLS: &[HostCall] = host_calls! {
    getpid SYS_getpid Run "identity of the sentry";
    ioctl SYS_ioctl Run (Either(1, &KVM_REQUESTS)) "terminal attributes and window size; bytes waiting in a pipe or socket; the virtual machine";
};

/// What `--network=user` needs besides. Stands before the platform's table: the first entry of a call decides.
pub const USER_NETWORK_CALLS: &[HostCall] = host_calls! {
    getsockopt SYS_getsockopt Run (Either(2, READ_OPTIONS)) "state of a connection";
    sendto SYS_sendto Run (Either(5, &[0])) "urgent data, to where the socket is connected";
    setsockopt SYS_setsockopt Run (Either(2, CONNECTION_OPTIONS)) "options of connections; control sockets of agents (SO_PASSCRED, SO_RCVTIMEO)";
};

/// What `--network=host` needs besides, in the same way.
pub const HOST_NETWORK_CALLS: &[HostCall] = host_calls! {
    bind SYS_bind Run "the guest's bind";
    connect SYS_connect Run "the guest's connect";
    getpeername SYS_getpeername Run "the guest's getpeername";
    getsockopt SYS_getsockopt Run "options of the guest's sockets";
    listen SYS_listen Run "the guest's listen";
    sendto SYS_sendto Run (Either(5, &[0])) "urgent data, to where the socket is connected";
    setsockopt SYS_setsockopt Run (Either(2, HOST_OPTIONS)) "options of the guest's sockets; control sockets of agents (SO_PASSCRED, SO_RCVTIMEO)";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_unique() {
        for table in [
            HOST_CALLS,
            PTRACE_CALLS,
            SYSTRAP_CALLS,
            KVM_CALLS,
            USER_NETWORK_CALLS,
            HOST_NETWORK_CALLS,
        ] {
            assert!(table.windows(2).all(|pair| pair[0].name < pair[1].name));
            assert!(table.iter().all(|call| !call.purpose.is_empty()));
        }
        for call in PTRACE_CALLS.iter().chain(SYSTRAP_CALLS).chain(KVM_CALLS) {
            assert!(HOST_CALLS.iter().all(|base| base.name != call.name), "{}", call.name);
        }
    }

    #[test]
    fn options_of_agents_can_be_set_beside_those_of_connections() {
        for options in [CONNECTION_OPTIONS, HOST_OPTIONS] {
            assert!(CONTROL_OPTIONS.iter().all(|option| options.contains(option)));
        }
    }

    /// The promise: what a subverted sentry could ask of the host.
    #[test]
    fn few() {
        let run = |table: &[HostCall]| table.iter().filter(|c| c.phase == Phase::Run).count();
        for platform in [PTRACE_CALLS, SYSTRAP_CALLS, KVM_CALLS] {
            let count = run(HOST_CALLS) + run(platform);
            assert!(count <= 65, "{count} host calls");
            assert!(count + run(USER_NETWORK_CALLS) <= 68);
            assert!(count + run(HOST_NETWORK_CALLS) <= 73);
        }
    }
}
