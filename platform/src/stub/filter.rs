//! The seccomp filter of the `ptrace` back end's stubs.
//!
//! Only our code page may make system calls, only those listed, and only with the arguments we use.
//! Anything else made from there ends the stub; it cannot happen unless our code was subverted. Calls
//! from guest code never get this far, since ptrace takes them before filters run, with one
//! exception: the vsyscall page, whose emulation in the kernel asks the filter. That is turned into
//! a `SIGSYS` for the back end to handle.

use super::bpf::{
    ARCH, ARCH_X86_64, Allowed, Check, IF_EQUAL, LOAD, RETURN, allow_list, if_in_page, op,
};
use super::layout;
use nix::libc::{self, sock_filter};

/// `clone(2)` flags for a new thread of a stub.
pub const THREAD_FLAGS: u32 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM) as u32;

/// `clone(2)` flags for a new stub.
pub const PROCESS_FLAGS: u32 = libc::CLONE_PARENT as u32;

/// Flags of every `mmap(2)` in a stub.
pub const MAP_FLAGS: u32 = (libc::MAP_SHARED | libc::MAP_FIXED) as u32;

/// Flags of `recvmsg(2)` in a stub.
pub const RECEIVE_FLAGS: u32 = (libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) as u32;

/// The calls that change mappings or copy the stub: both back ends need them.
pub const MAPPING_CALLS: &[Allowed] = &[
    (libc::SYS_mmap, &[Check::Equal(3, MAP_FLAGS)]),
    (libc::SYS_munmap, &[]),
    (libc::SYS_mprotect, &[]),
    (libc::SYS_pkey_mprotect, &[]),
    (
        libc::SYS_madvise,
        &[Check::OneOf(
            2,
            [
                libc::MADV_DONTFORK as u32,
                libc::MADV_POPULATE_WRITE as u32,
                libc::MADV_HUGEPAGE as u32,
            ],
        )],
    ),
    (libc::SYS_clone, &[Check::Either(0, THREAD_FLAGS, PROCESS_FLAGS)]),
    (libc::SYS_recvmsg, &[Check::Equal(0, layout::FD_LINK as u32), Check::Equal(2, RECEIVE_FLAGS)]),
    (libc::SYS_close, &[Check::AtLeast(0, layout::FD_RECEIVED as u32)]),
    (libc::SYS_exit, &[]),
    (libc::SYS_exit_group, &[]),
];

/// The arguments with which a thread makes reading of the time-stamp counter fault (`prctl(2)`), or not.
pub fn tsc_call(allowed: bool) -> [u64; 2] {
    let mode = if allowed { libc::PR_TSC_ENABLE } else { libc::PR_TSC_SIGSEGV };
    [libc::PR_SET_TSC as u64, mode as u64]
}

/// What a stub that waits for its tracer, or is stopped by it, may do besides.
const WAITING_CALLS: &[Allowed] = &[
    (libc::SYS_read, &[Check::Equal(0, layout::FD_ALIVE as u32)]),
    (libc::SYS_prctl, &[Check::Equal(0, libc::PR_SET_TSC as u32)]),
];

/// The filter of all threads of a stub.
pub fn program() -> Vec<sock_filter> {
    let kill = op(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0);
    let trap = op(RETURN, libc::SECCOMP_RET_TRAP, 0, 0);
    let mut program = vec![op(LOAD, ARCH, 0, 0), op(IF_EQUAL, ARCH_X86_64, 1, 0), kill];
    let calls: Vec<Allowed> = MAPPING_CALLS.iter().chain(WAITING_CALLS).copied().collect();
    let ours = allow_list(&calls, kill);
    // Calls of guest code do not get here; those of the vsyscall page do.
    program.extend(if_in_page(layout::TEXT, ours.len() as u8));
    program.extend(ours);
    program.push(trap);
    program
}

#[cfg(test)]
mod tests {
    use super::super::bpf::evaluate;
    use super::*;

    fn run(number: i64, rip: u64, args: [u64; 6]) -> u32 {
        evaluate(&program(), ARCH_X86_64, number, rip, args)
    }

    #[test]
    fn only_our_page_and_our_calls() {
        const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
        const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
        let ours = layout::TEXT + 2;
        let mapping = [0, 0, 0, MAP_FLAGS.into(), 0, 0];
        assert_eq!(run(libc::SYS_mmap, ours, mapping), ALLOW);
        assert_eq!(run(libc::SYS_mmap, ours, [0; 6]), KILL);
        for outside in [0x40_1000, layout::TEXT - 1, layout::BATCH, ours + (1 << 32), !0] {
            assert_eq!(run(libc::SYS_mmap, outside, mapping), libc::SECCOMP_RET_TRAP);
        }
        assert_eq!(run(libc::SYS_clone, ours, [PROCESS_FLAGS.into(), 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(libc::SYS_clone, ours, [THREAD_FLAGS.into(), 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(libc::SYS_clone, ours, [17, 0, 0, 0, 0, 0]), KILL);
        assert_eq!(run(libc::SYS_close, ours, [2, 0, 0, 0, 0, 0]), KILL);
        assert_eq!(run(libc::SYS_close, ours, [3, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(libc::SYS_read, ours, [2, 0, 1, 0, 0, 0]), ALLOW);
        assert_eq!(run(libc::SYS_read, ours, [0, 0, 1, 0, 0, 0]), KILL);
        for advice in 0..200 {
            let allowed = [libc::MADV_DONTFORK, libc::MADV_POPULATE_WRITE, libc::MADV_HUGEPAGE];
            let verdict = run(libc::SYS_madvise, ours, [0, 0, advice, 0, 0, 0]);
            assert_eq!(verdict == ALLOW, allowed.contains(&(advice as i32)), "{advice}");
        }
        let flags = RECEIVE_FLAGS.into();
        assert_eq!(run(libc::SYS_recvmsg, ours, [1, 0, flags, 0, 0, 0]), ALLOW);
        assert_eq!(run(libc::SYS_recvmsg, ours, [1, 0, 0, 0, 0, 0]), KILL);
        for number in 0..600 {
            let allowed = MAPPING_CALLS.iter().chain(WAITING_CALLS).any(|(nr, _)| *nr == number);
            assert!(allowed || run(number, ours, [0; 6]) == KILL, "{number}");
        }
    }
}
