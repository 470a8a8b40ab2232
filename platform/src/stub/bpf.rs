//! Classic BPF for `seccomp(2)`: the pieces that both back ends' filters are made of.

use nix::libc::{self, sock_filter};

/// How a call's argument is limited.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// The 32-bit argument of this index has this value.
    Equal(u8, u32),
    /// The 32-bit argument of this index is at least this value.
    AtLeast(u8, u32),
    /// The 32-bit argument of this index has one of two values.
    Either(u8, u32, u32),
    /// The 32-bit argument of this index has one of three values.
    OneOf(u8, [u32; 3]),
}

/// A call that may be made, and how its arguments are limited.
pub type Allowed = (libc::c_long, &'static [Check]);

/// Load a word of `struct seccomp_data`.
pub const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
/// Jump if equal.
pub const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
/// Jump if greater or equal, unsigned.
pub const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
/// Return an action.
pub const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Offset of the number in `struct seccomp_data`.
pub const NUMBER: u32 = 0;
/// Offset of the architecture.
pub const ARCH: u32 = 4;
/// Offset of the program counter's lower half.
pub const RIP_LOW: u32 = 8;
/// Offset of the program counter's upper half.
pub const RIP_HIGH: u32 = 12;
/// Offset of the arguments.
pub const ARGS: u32 = 16;

/// `AUDIT_ARCH_X86_64`.
pub const ARCH_X86_64: u32 = 0xc000_003e;

/// One instruction.
pub const fn op(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// Goes on behind these instructions when the call was made by code in the 4 KiB page at `page`, and
/// otherwise `elsewhere` instructions further.
///
/// The recorded program counter is behind the instruction, so it cannot be the page's first byte but
/// could be the one past its end; our code is shorter than a page.
pub fn if_in_page(page: u64, elsewhere: u8) -> [sock_filter; 5] {
    let (low, high) = (page as u32, (page >> 32) as u32);
    [
        op(LOAD, RIP_HIGH, 0, 0),
        op(IF_EQUAL, high, 0, elsewhere + 3),
        op(LOAD, RIP_LOW, 0, 0),
        op(IF_AT_LEAST, low, 0, elsewhere + 1),
        op(IF_AT_LEAST, low + crate::PAGE_SIZE as u32, elsewhere, 0),
    ]
}

/// Allows the calls listed, and does `otherwise` to all others.
pub fn allow_list(allowed: &[Allowed], otherwise: sock_filter) -> Vec<sock_filter> {
    let mut program = vec![op(LOAD, NUMBER, 0, 0)];
    for (number, checks) in allowed {
        // Each check skips to the next one on success, and falls on the refusal otherwise.
        let mut body = Vec::new();
        for check in *checks {
            let (index, tests) = match *check {
                Check::Equal(index, value) => (index, vec![op(IF_EQUAL, value, 1, 0)]),
                Check::AtLeast(index, value) => (index, vec![op(IF_AT_LEAST, value, 1, 0)]),
                Check::Either(index, one, other) => {
                    (index, vec![op(IF_EQUAL, one, 2, 0), op(IF_EQUAL, other, 1, 0)])
                }
                Check::OneOf(index, [first, second, third]) => {
                    let tests = [(first, 3), (second, 2), (third, 1)];
                    (index, tests.map(|(value, skip)| op(IF_EQUAL, value, skip, 0)).into())
                }
            };
            body.push(op(LOAD, ARGS + 8 * u32::from(index), 0, 0));
            body.extend(tests);
            body.push(otherwise);
        }
        body.push(op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
        program.push(op(IF_EQUAL, *number as u32, 0, body.len() as u8));
        program.extend(body);
    }
    program.push(otherwise);
    program
}

/// Runs a program as the kernel would.
#[cfg(test)]
pub fn evaluate(program: &[sock_filter], arch: u32, number: i64, rip: u64, args: [u64; 6]) -> u32 {
    let mut data = vec![number as u32, arch, rip as u32, (rip >> 32) as u32];
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
            let taken = if code == IF_EQUAL { accumulator == op.k } else { accumulator >= op.k };
            at += usize::from(if taken { op.jt } else { op.jf });
        }
    }
}
