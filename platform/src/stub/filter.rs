//! The seccomp filter of every stub.
//!
//! Only our code page may make system calls, only those listed, and only with the arguments we use.
//! Anything else made from there ends the stub; it cannot happen unless our code was subverted. Calls
//! from guest code never get this far under ptrace, which takes them before filters run, with one
//! exception: the vsyscall page, whose emulation in the kernel asks the filter. That is turned into
//! a `SIGSYS` for the back end to handle.
//!
//! Under systrap a stub runs guest code untraced. There the calls must carry a [`Secret`] that only
//! the sentry knows, because guest code can jump to our `syscall` instruction with registers of its
//! own. Guest threads have a second filter ([`listener`]) that sends everything else to the sentry.

use super::code::SIGNAL_CALL;
use super::layout;
use crate::PAGE_SIZE;
use nix::libc::{self, sock_filter};

/// What a stub's system calls must carry: the upper halves of the fourth and fifth argument. No call
/// that a stub makes uses these (the host takes a descriptor and `mmap(2)` flags as 32 bits).
///
/// It is put into registers by ptrace, while all signals are held back, so it is never in memory that
/// guest code can read. 64 bits cannot be guessed at a million tries a second.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u32; 2]);

impl Secret {
    /// None is needed: guest code is always traced.
    pub const NONE: Self = Self([0; 2]);

    /// From random bytes.
    pub fn new(random: [u32; 2]) -> Self {
        // Never equal to `NONE`.
        Self([random[0] | 1, random[1]])
    }

    /// To be or-ed to the two arguments.
    pub fn masks(self) -> [u64; 2] {
        self.0.map(|half| u64::from(half) << 32)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// How a call's argument is limited.
#[derive(Debug, Clone, Copy)]
enum Check {
    /// The 32-bit argument of this index has this value.
    Equal(u8, u32),
    /// The 32-bit argument of this index is at least this value.
    AtLeast(u8, u32),
    /// The 32-bit argument of this index has one of two values.
    Either(u8, u32, u32),
}

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

/// The calls a stub may make.
const ALLOWED: &[(libc::c_long, &[Check])] = &[
    (libc::SYS_mmap, &[Check::Equal(3, MAP_FLAGS)]),
    (libc::SYS_munmap, &[]),
    (libc::SYS_mprotect, &[]),
    (
        libc::SYS_madvise,
        &[Check::Either(2, libc::MADV_DONTFORK as u32, libc::MADV_POPULATE_WRITE as u32)],
    ),
    (libc::SYS_clone, &[Check::Either(0, THREAD_FLAGS, PROCESS_FLAGS)]),
    (libc::SYS_read, &[Check::Equal(0, layout::FD_ALIVE as u32)]),
    (libc::SYS_recvmsg, &[Check::Equal(0, layout::FD_LINK as u32), Check::Equal(2, RECEIVE_FLAGS)]),
    (libc::SYS_close, &[Check::AtLeast(0, layout::FD_RECEIVED as u32)]),
    (libc::SYS_exit, &[]),
    (libc::SYS_exit_group, &[]),
];

/// `seccomp(2)` flags for the filter of a guest thread: it gets a listener; once the sentry has a
/// call, only its answer or `SIGKILL` ends the wait.
pub const LISTENER_FLAGS: u32 = {
    const SPEC_ALLOW: u32 = 4;
    const NEW_LISTENER: u32 = 8;
    const WAIT_KILLABLE_RECV: u32 = 32;
    SPEC_ALLOW | NEW_LISTENER | WAIT_KILLABLE_RECV
};

/// The calls a systrap stub may make besides.
const SYSTRAP_ALLOWED: &[(libc::c_long, &[Check])] = &[
    (libc::SYS_sigaltstack, &[]),
    (libc::SYS_seccomp, &[Check::Equal(0, 1), Check::Equal(1, LISTENER_FLAGS)]),
];

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const RIP_LOW: u32 = 8;
const RIP_HIGH: u32 = 12;
const ARGS: u32 = 16;

/// `AUDIT_ARCH_X86_64`.
const ARCH_X86_64: u32 = 0xc000_003e;

fn op(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// Upper half of the vsyscall page's address.
const VSYSCALL_HIGH: u32 = u32::MAX;

/// The filter of all threads of a stub.
pub fn program(secret: Secret) -> Vec<sock_filter> {
    let systrap = secret != Secret::NONE;
    // Without a tracer that asked for it, `TRACE` fails the call with `ENOSYS`; and a listener's
    // filter comes first.
    let (trap, kill) = if systrap {
        (libc::SECCOMP_RET_TRACE, libc::SECCOMP_RET_TRACE)
    } else {
        (libc::SECCOMP_RET_TRAP, libc::SECCOMP_RET_KILL_PROCESS)
    };
    let trap = op(RETURN, trap, 0, 0);
    let kill = op(RETURN, kill, 0, 0);
    let allow = op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
    // The recorded program counter is behind the instruction, so it cannot be the page's first byte
    // but could be the one past its end; our code is far shorter than the page.
    let (low, high) = (layout::TEXT as u32, (layout::TEXT >> 32) as u32);
    let mut program = vec![
        op(LOAD, ARCH, 0, 0),
        op(IF_EQUAL, ARCH_X86_64, 1, 0),
        kill,
        op(LOAD, RIP_HIGH, 0, 0),
        op(IF_EQUAL, high, 0, 3),
        op(LOAD, RIP_LOW, 0, 0),
        op(IF_AT_LEAST, low, 0, 1),
        op(IF_AT_LEAST, low + PAGE_SIZE as u32, 0, 4),
        op(LOAD, RIP_HIGH, 0, 0),
        op(IF_EQUAL, VSYSCALL_HIGH, 0, 1),
        op(RETURN, libc::SECCOMP_RET_TRAP, 0, 0),
        trap,
        op(LOAD, NUMBER, 0, 0),
    ];
    if systrap {
        program.extend([
            op(LOAD, ARGS + 8 * 3 + 4, 0, 0),
            op(IF_EQUAL, secret.0[0], 1, 0),
            kill,
            op(LOAD, ARGS + 8 * 4 + 4, 0, 0),
            op(IF_EQUAL, secret.0[1], 1, 0),
            kill,
            op(LOAD, NUMBER, 0, 0),
        ]);
    }
    let more = if systrap { SYSTRAP_ALLOWED } else { &[] };
    for (number, checks) in ALLOWED.iter().chain(more) {
        // Each check skips to the next one on success, and falls on the kill otherwise.
        let mut body = Vec::new();
        for check in *checks {
            let (index, first, second) = match *check {
                Check::Equal(index, value) => (index, op(IF_EQUAL, value, 1, 0), None),
                Check::AtLeast(index, value) => (index, op(IF_AT_LEAST, value, 1, 0), None),
                Check::Either(index, one, other) => {
                    (index, op(IF_EQUAL, one, 2, 0), Some(op(IF_EQUAL, other, 1, 0)))
                }
            };
            body.push(op(LOAD, ARGS + 8 * u32::from(index), 0, 0));
            body.push(first);
            body.extend(second);
            body.push(kill);
        }
        body.push(allow);
        program.push(op(IF_EQUAL, *number as u32, 0, body.len() as u8));
        program.extend(body);
    }
    program.push(kill);
    program
}

/// The second filter of a systrap stub's guest threads, whose listener the sentry has: everything but
/// what the first filter is to judge goes there. It holds nothing that guest code may not know.
pub fn listener() -> Vec<sock_filter> {
    let notify = op(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
    let (low, high) = (layout::TEXT as u32, (layout::TEXT >> 32) as u32);
    vec![
        op(LOAD, ARCH, 0, 0),
        op(IF_EQUAL, ARCH_X86_64, 1, 0),
        notify,
        op(LOAD, RIP_HIGH, 0, 0),
        op(IF_EQUAL, high, 0, 3),
        op(LOAD, RIP_LOW, 0, 0),
        op(IF_AT_LEAST, low, 0, 1),
        op(IF_AT_LEAST, low + PAGE_SIZE as u32, 0, 1),
        notify,
        op(LOAD, NUMBER, 0, 0),
        op(IF_EQUAL, SIGNAL_CALL, 0, 1),
        notify,
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, on a `struct seccomp_data`.
    fn run(number: i64, rip: u64, args: [u64; 6]) -> u32 {
        evaluate(&program(Secret::NONE), number, rip, args)
    }

    fn evaluate(program: &[sock_filter], number: i64, rip: u64, args: [u64; 6]) -> u32 {
        let mut data = vec![number as u32, ARCH_X86_64, rip as u32, (rip >> 32) as u32];
        for arg in args {
            data.extend([arg as u32, (arg >> 32) as u32]);
        }
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let op = program[at];
            at += 1;
            let code = u32::from(op.code);
            if code == LOAD {
                accumulator = data[op.k as usize / 4];
            } else if code == RETURN {
                return op.k;
            } else {
                let taken =
                    if code == IF_EQUAL { accumulator == op.k } else { accumulator >= op.k };
                at += usize::from(if taken { op.jt } else { op.jf });
            }
        }
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
        let flags = RECEIVE_FLAGS.into();
        assert_eq!(run(libc::SYS_recvmsg, ours, [1, 0, flags, 0, 0, 0]), ALLOW);
        assert_eq!(run(libc::SYS_recvmsg, ours, [1, 0, 0, 0, 0, 0]), KILL);
        for number in 0..600 {
            let allowed = ALLOWED.iter().any(|(nr, _)| *nr == number);
            assert!(allowed || run(number, ours, [0; 6]) == KILL, "{number}");
        }
    }

    #[test]
    fn systrap_needs_the_secret() {
        const TRACE: u32 = libc::SECCOMP_RET_TRACE;
        const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
        let secret = Secret::new([0x1234_5678, 0x9abc_def0]);
        let program = program(secret);
        let ours = layout::TEXT + 2;
        let [fourth, fifth] = secret.masks();
        let mapping = [0, 0, 0, u64::from(MAP_FLAGS) | fourth, fifth, 0];
        assert_eq!(evaluate(&program, libc::SYS_mmap, ours, mapping), ALLOW);
        for index in [3, 4] {
            for bit in 32..64 {
                let mut wrong = mapping;
                wrong[index] ^= 1 << bit;
                assert_eq!(evaluate(&program, libc::SYS_mmap, ours, wrong), TRACE);
            }
        }
        assert_eq!(evaluate(&program, libc::SYS_mmap, 0x40_1000, mapping), TRACE);
        let vsyscall = 0xffff_ffff_ff60_0400;
        assert_eq!(evaluate(&program, 201, vsyscall, [0; 6]), libc::SECCOMP_RET_TRAP);
        let carried = [0, 0, 0, fourth, fifth, 0];
        for number in 0..600 {
            assert_eq!(evaluate(&program, number, ours, [2, 0, 0, 0, 0, 0]), TRACE, "{number}");
            let known = ALLOWED.iter().chain(SYSTRAP_ALLOWED).any(|(nr, _)| *nr == number);
            assert!(known || evaluate(&program, number, ours, carried) == TRACE, "{number}");
        }
        const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
        for number in (0..600).chain([i64::from(SIGNAL_CALL)]) {
            assert_eq!(evaluate(&listener(), number, 0x40_1000, [0; 6]), NOTIFY);
            let expected = if number < 600 { ALLOW } else { NOTIFY };
            assert_eq!(evaluate(&listener(), number, ours, [0; 6]), expected);
        }
    }
}
