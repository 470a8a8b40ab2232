//! The seccomp filters of `systrap` stubs.
//!
//! The first is every stub thread's and lets only our code page make system calls, those listed, with
//! the arguments we use. It is what binds the agent. Guest threads have a second one on top, and the host
//! takes the stricter verdict: whatever they do goes to the sentry, except the three calls from our
//! page that can do nothing but concern the thread itself.

use crate::stub::bpf::{
    ARCH, ARCH_X86_64, Allowed, Check, IF_EQUAL, LOAD, NUMBER, RETURN, allow_list, if_in_page, op,
};
use crate::stub::filter::MAPPING_CALLS;
use crate::stub::layout;
use nix::libc::{self, sock_filter};

/// `seccomp(2)` flags for the filter of a guest thread: it gets a listener; once the sentry has a
/// call, only its answer or `SIGKILL` ends the wait.
pub const LISTENER_FLAGS: u32 = {
    const SPEC_ALLOW: u32 = 4;
    const NEW_LISTENER: u32 = 8;
    const WAIT_KILLABLE_RECV: u32 = 32;
    SPEC_ALLOW | NEW_LISTENER | WAIT_KILLABLE_RECV
};

/// Waking the agent when a new thread is ready.
const WAKE: u32 = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as u32;
/// Waiting for that.
pub const WAIT: u32 = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as u32;

/// What guest threads may do from our page without the sentry: wake, load a state that describes
/// themselves, end.
const THREAD_CALLS: &[Allowed] = &[
    (libc::SYS_futex, &[Check::Either(1, WAKE, WAIT)]),
    (libc::SYS_rt_sigreturn, &[]),
    (libc::SYS_exit, &[]),
];

/// What agents and new threads may do besides the calls that change mappings.
const AGENT_CALLS: &[Allowed] = &[
    (libc::SYS_read, &[Check::Equal(0, layout::FD_CONTROL as u32)]),
    (libc::SYS_sendto, &[Check::Equal(0, layout::FD_CONTROL as u32), Check::Equal(4, 0)]),
    (
        libc::SYS_dup3,
        &[Check::Equal(0, layout::FD_RECEIVED as u32), Check::Equal(1, layout::FD_CONTROL as u32)],
    ),
    (libc::SYS_sigaltstack, &[]),
    (libc::SYS_seccomp, &[Check::Equal(0, 1), Check::Equal(1, LISTENER_FLAGS)]),
];

/// Calls of guest code whose handling needs registers that a notification does not carry: they raise
/// `SIGSYS`, whose handler has all.
pub const NEED_REGISTERS: [i64; 9] = [
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_arch_prctl,
];

/// The filter of all threads of a stub.
pub fn everyone() -> Vec<sock_filter> {
    // Nobody traces the stub, so this fails the call with `ENOSYS`. Unlike other refusals it gives way to
    // a guest thread's notification.
    let refuse = op(RETURN, libc::SECCOMP_RET_TRACE, 0, 0);
    let calls: Vec<Allowed> =
        MAPPING_CALLS.iter().chain(AGENT_CALLS).chain(THREAD_CALLS).copied().collect();
    let ours = allow_list(&calls, refuse);
    let mut program = vec![op(LOAD, ARCH, 0, 0), op(IF_EQUAL, ARCH_X86_64, 1, 0), refuse];
    program.extend(if_in_page(layout::TEXT, ours.len() as u8));
    program.extend(ours);
    program.push(refuse);
    program
}

/// The second filter of guest threads. It holds nothing that guest code may not know.
pub fn listener() -> Vec<sock_filter> {
    let notify = op(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
    let trap = op(RETURN, libc::SECCOMP_RET_TRAP, 0, 0);
    let ours = allow_list(THREAD_CALLS, notify);
    let mut program = vec![op(LOAD, ARCH, 0, 0), op(IF_EQUAL, ARCH_X86_64, 1, 0), notify];
    program.extend(if_in_page(layout::TEXT, ours.len() as u8));
    program.extend(ours);
    program.push(op(LOAD, NUMBER, 0, 0));
    let mut left = NEED_REGISTERS.len() as u8;
    for number in NEED_REGISTERS {
        program.push(op(IF_EQUAL, number as u32, left, 0));
        left -= 1;
    }
    program.extend([notify, trap]);
    program
}

/// The listener's filter as it lies in the code page: `struct sock_fprog`, then the program.
pub fn listener_in_page() -> Vec<u8> {
    const PROGRAM: u64 = layout::LISTENER_FILTER + 16;
    let filter = listener();
    let mut bytes = (filter.len() as u64).to_le_bytes().to_vec();
    bytes.extend((layout::TEXT + PROGRAM).to_le_bytes());
    for op in filter {
        bytes.extend(op.code.to_le_bytes());
        bytes.extend([op.jt, op.jf]);
        bytes.extend(op.k.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::code::SIGNAL_CALL;
    use super::*;
    use crate::stub::bpf::evaluate;
    use crate::stub::filter::{MAP_FLAGS, PROCESS_FLAGS, THREAD_FLAGS};

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const OURS: u64 = layout::TEXT + 2;
    const GUEST: u64 = 0x40_1000;

    #[test]
    fn agents_do_only_what_is_listed() {
        let run = |number, rip, args| evaluate(&everyone(), ARCH_X86_64, number, rip, args);
        let mapping = [0, 0, 0, MAP_FLAGS.into(), 0, 0];
        assert_eq!(run(libc::SYS_mmap, OURS, mapping), ALLOW);
        for flags in [PROCESS_FLAGS, THREAD_FLAGS] {
            assert_eq!(run(libc::SYS_clone, OURS, [flags.into(), 0, 0, 0, 0, 0]), ALLOW);
        }
        for outside in [GUEST, layout::TEXT - 1, layout::BATCH + 1, OURS + (1 << 32), !0] {
            assert_ne!(run(libc::SYS_mmap, outside, mapping), ALLOW);
        }
        let listed = |number| {
            let all = MAPPING_CALLS.iter().chain(AGENT_CALLS).chain(THREAD_CALLS);
            all.into_iter().any(|(known, _)| *known == number)
        };
        for number in 0..600 {
            for args in [[0; 6], [3, 2, 0, 0, 0, 0], [2, 0, 0, 0, 9, 0]] {
                assert!(listed(number) || run(number, OURS, args) != ALLOW, "{number}");
            }
            assert_ne!(evaluate(&everyone(), 0x4000_0003, number, OURS, mapping), ALLOW);
        }
        assert_ne!(run(libc::SYS_sendto, OURS, [2, 0, 1, 0, 9, 0]), ALLOW);
        assert_ne!(run(libc::SYS_sendto, OURS, [1, 0, 1, 0, 0, 0]), ALLOW);
        assert_ne!(run(libc::SYS_read, OURS, [0, 0, 1, 0, 0, 0]), ALLOW);
    }

    #[test]
    fn guest_threads_reach_three_calls() {
        let run = |number, rip, args| evaluate(&listener(), ARCH_X86_64, number, rip, args);
        let futex = [0, WAKE.into(), 0, 0, 0, 0];
        for number in (0..600).chain([i64::from(SIGNAL_CALL)]) {
            let guest = run(number, GUEST, futex);
            let needs = NEED_REGISTERS.contains(&number);
            assert_eq!(guest, if needs { libc::SECCOMP_RET_TRAP } else { NOTIFY }, "{number}");
            assert_eq!(run(number, 0xffff_ffff_ff60_0400, futex), guest);
            let harmless = [libc::SYS_futex, libc::SYS_rt_sigreturn, libc::SYS_exit];
            let ours = run(number, OURS, futex);
            assert_eq!(ours, if harmless.contains(&number) { ALLOW } else { NOTIFY }, "{number}");
            assert_eq!(evaluate(&listener(), 0x4000_0003, number, OURS, futex), NOTIFY);
        }
        assert_eq!(run(libc::SYS_futex, OURS, [0; 6]), NOTIFY);
        assert!(listener_in_page().len() as u64 + layout::LISTENER_FILTER <= crate::PAGE_SIZE);
    }
}
