//! The list of host system calls the sentry makes.
//!
//! The sentry's seccomp filter is generated from this table; a test keeps it sorted and free of
//! duplicates.

/// When a host call is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Only until the first guest instruction runs.
    Setup,
    /// At any time.
    Run,
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
    /// What it is used for, and by whom.
    pub purpose: &'static str,
}

/// One line of the table: the name appears once, the number follows from it.
macro_rules! calls {
    ($($name:ident $number:ident $phase:ident $purpose:literal;)*) => {
        &[$(HostCall {
            name: stringify!($name),
            number: libc::$number,
            phase: Phase::$phase,
            purpose: $purpose,
        },)*]
    };
}

/// Every host system call of the sentry, sorted by name.
pub const HOST_CALLS: &[HostCall] = calls! {
    accept4 SYS_accept4 Run "control connections";
    arch_prctl SYS_arch_prctl Setup "C library, at start";
    brk SYS_brk Run "allocator";
    capset SYS_capset Setup "zygote: drop all capabilities";
    clock_gettime SYS_clock_gettime Run "clocks other than those of the vDSO (CPU time)";
    clone SYS_clone Setup "zygote: the process all stubs descend from";
    clone3 SYS_clone3 Run "thread of the sentry for a new guest thread";
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
    fcntl SYS_fcntl Run "status flags, duplication and locks of donated descriptors";
    fdatasync SYS_fdatasync Run "guest's fdatasync";
    fstat SYS_fstat Run "attributes of donated descriptors, size of the memory file";
    fsync SYS_fsync Run "guest's fsync";
    ftruncate SYS_ftruncate Run "size of the memory file and of donated files";
    futex SYS_futex Run "locks and parked threads of the sentry";
    getcpu SYS_getcpu Run "placement (through the vDSO where there is one)";
    getpid SYS_getpid Run "identity of the sentry";
    getrandom SYS_getrandom Run "guest's getrandom, hash seeds";
    getrusage SYS_getrusage Run "accounting";
    gettid SYS_gettid Run "placement of threads";
    ioctl SYS_ioctl Run "terminal attributes and window size; bytes waiting in a pipe; systrap: system calls";
    kcmp SYS_kcmp Run "which standard streams are one open file";
    kill SYS_kill Run "end of a stub";
    lseek SYS_lseek Run "holes of donated files, positions of the standard streams";
    madvise SYS_madvise Run "allocator; memory file";
    membarrier SYS_membarrier Run "guest's membarrier";
    memfd_create SYS_memfd_create Setup "the memory file";
    mmap SYS_mmap Run "allocator, thread stacks, donated files";
    mprotect SYS_mprotect Run "thread stacks";
    mremap SYS_mremap Run "allocator";
    munmap SYS_munmap Run "allocator, thread stacks, donated files";
    pidfd_getfd SYS_pidfd_getfd Run "systrap: listeners of guest threads";
    pidfd_open SYS_pidfd_open Run "systrap: listeners of guest threads";
    pipe2 SYS_pipe2 Setup "ptrace: stubs notice the end of the sentry";
    poll SYS_poll Run "readiness of host descriptors";
    ppoll SYS_ppoll Run "readiness of host descriptors";
    prctl SYS_prctl Run "names of threads";
    pread64 SYS_pread64 Run "donated files";
    preadv SYS_preadv Run "donated files";
    preadv2 SYS_preadv2 Run "donated files, into guest memory";
    prlimit64 SYS_prlimit64 Setup "zygote: no core dumps; C library, at start";
    ptrace SYS_ptrace Run "ptrace: running guest code";
    pwrite64 SYS_pwrite64 Run "donated files";
    pwritev SYS_pwritev Run "donated files";
    pwritev2 SYS_pwritev2 Run "donated files, out of guest memory";
    read SYS_read Run "donated pipes and terminals";
    readv SYS_readv Run "donated pipes and terminals";
    recvfrom SYS_recvfrom Run "discarding of a descriptor that no stub fetched";
    recvmsg SYS_recvmsg Run "gofer and control connections";
    restart_syscall SYS_restart_syscall Run "continuation of a sleep after a stop";
    rseq SYS_rseq Run "C library, per thread";
    rt_sigaction SYS_rt_sigaction Setup "fault handlers";
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
    shutdown SYS_shutdown Run "control connections";
    sigaltstack SYS_sigaltstack Run "overflow guard of each thread";
    socketpair SYS_socketpair Setup "ptrace: the channel that carries descriptors to stubs";
    splice SYS_splice Run "donated pipes";
    tgkill SYS_tgkill Run "interrupting guest code";
    timer_create SYS_timer_create Run "CPU-time limits";
    timer_delete SYS_timer_delete Run "CPU-time limits";
    timer_settime SYS_timer_settime Run "CPU-time limits";
    uname SYS_uname Run "systrap: what the host can do";
    wait4 SYS_wait4 Run "ptrace: stops and ends of stubs";
    write SYS_write Run "donated pipes and terminals, log";
    writev SYS_writev Run "donated pipes and terminals";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_unique() {
        assert!(HOST_CALLS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(HOST_CALLS.iter().all(|call| !call.purpose.is_empty()));
    }
}
