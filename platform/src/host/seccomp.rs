#![expect(unsafe_code, reason = "installs a filter and a handler for its violations")]
//! Seccomp filters (`seccomp(2)`) of our own processes: the sentry's, and the kind of which the gofer has one.
//!
//! Made from the tables of [`super::calls`] when this is compiled, so that starting costs one system call. A call
//! that is not allowed is not made: the thread gets `SIGSYS`, whose handler says which call it was and ends the
//! sandbox. Stubs have a filter of their own and descend from a process that was made before this one's.

use super::Errno;
use super::calls::{
    HOST_CALLS, HOST_NETWORK_CALLS, HostCall, KVM_CALLS, Limit, PTRACE_CALLS, Phase, REFUSED,
    SYSTRAP_CALLS, USER_NETWORK_CALLS,
};
use nix::libc::{self, sock_filter};
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

/// Exit status of a sentry that made a forbidden call: as by `SIGSYS`.
const EXIT_STATUS: i32 = 128 + libc::SIGSYS;

/// What becomes of a call that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It ends the sandbox.
    Enforce,
    /// It is made, and the host's kernel writes it to its log. For finding what the tables lack; no protection.
    Log,
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const IF_ANY: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// `AUDIT_ARCH_X86_64`.
const ARCH_X86_64: u32 = 0xc000_003e;
/// Calls of the x32 ABI have this bit.
const X32: u32 = 0x4000_0000;

/// Most instructions of a filter here; the kernel's limit is far higher.
const CAPACITY: usize = 384;

/// A filter.
pub struct Filter {
    who: &'static str,
    tables: &'static [&'static [HostCall]],
    refused: &'static [(i64, i32, &'static str)],
    code: [sock_filter; CAPACITY],
    len: usize,
}

/// The filter of a sentry with `--platform=ptrace`.
pub static PTRACE: Filter = Filter::new("sentry", &[HOST_CALLS, PTRACE_CALLS], REFUSED);
/// The filter of a sentry with `--platform=systrap`.
pub static SYSTRAP: Filter = Filter::new("sentry", &[HOST_CALLS, SYSTRAP_CALLS], REFUSED);
/// The filter of a sentry with `--platform=kvm`.
pub static KVM: Filter = Filter::new("sentry", &[HOST_CALLS, KVM_CALLS], REFUSED);
/// That of `--platform=kvm` with `--network=user`.
pub static KVM_USER_NETWORK: Filter =
    Filter::new("sentry", &[HOST_CALLS, USER_NETWORK_CALLS, KVM_CALLS], REFUSED);
/// That of `--platform=ptrace` with `--network=user`.
pub static PTRACE_USER_NETWORK: Filter =
    Filter::new("sentry", &[HOST_CALLS, USER_NETWORK_CALLS, PTRACE_CALLS], REFUSED);
/// That of `--platform=systrap` with `--network=user`.
pub static SYSTRAP_USER_NETWORK: Filter =
    Filter::new("sentry", &[HOST_CALLS, USER_NETWORK_CALLS, SYSTRAP_CALLS], REFUSED);
/// That of `--platform=kvm` with `--network=host`.
pub static KVM_HOST_NETWORK: Filter =
    Filter::new("sentry", &[HOST_CALLS, HOST_NETWORK_CALLS, KVM_CALLS], REFUSED);
/// That of `--platform=ptrace` with `--network=host`.
pub static PTRACE_HOST_NETWORK: Filter =
    Filter::new("sentry", &[HOST_CALLS, HOST_NETWORK_CALLS, PTRACE_CALLS], REFUSED);
/// That of `--platform=systrap` with `--network=host`.
pub static SYSTRAP_HOST_NETWORK: Filter =
    Filter::new("sentry", &[HOST_CALLS, HOST_NETWORK_CALLS, SYSTRAP_CALLS], REFUSED);

const fn op(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

const ALLOW: sock_filter = op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
const TRAP: sock_filter = op(RETURN, libc::SECCOMP_RET_TRAP, 0, 0);

impl Filter {
    /// Of the calls in `tables`, for the process `who`. Those of `refused` (number, errno, who makes it) fail with
    /// that error where they would end it else.
    pub const fn new(
        who: &'static str,
        tables: &'static [&'static [HostCall]],
        refused: &'static [(i64, i32, &'static str)],
    ) -> Self {
        let mut filter = Self { who, tables, refused, code: [ALLOW; CAPACITY], len: 0 };
        filter.push(op(LOAD, ARCH, 0, 0));
        filter.push(op(IF_EQUAL, ARCH_X86_64, 1, 0));
        filter.push(TRAP);
        filter.push(op(LOAD, NUMBER, 0, 0));
        filter.push(op(IF_AT_LEAST, X32, 0, 1));
        filter.push(TRAP);
        let mut i = 0;
        while i < tables.len() {
            filter.push_all(tables[i]);
            i += 1;
        }
        // After the tables: a call whose arguments are not as they say has been decided there.
        let mut i = 0;
        while i < refused.len() {
            let number = refused[i].0;
            filter.push(op(IF_EQUAL, number as u32, 0, 1));
            let refuse = filter.otherwise(number);
            filter.push(refuse);
            i += 1;
        }
        filter.push(TRAP);
        filter
    }

    /// That of the same platform with `--network=user`.
    pub fn with_user_network(&'static self) -> &'static Self {
        let pairs = [
            (&PTRACE, &PTRACE_USER_NETWORK),
            (&SYSTRAP, &SYSTRAP_USER_NETWORK),
            (&KVM, &KVM_USER_NETWORK),
        ];
        let found = pairs.into_iter().find(|(without, _)| std::ptr::eq(*without, self));
        found.map_or(self, |(_, with)| with)
    }

    /// That of the same platform with `--network=host`.
    pub fn with_host_network(&'static self) -> &'static Self {
        let pairs = [
            (&PTRACE, &PTRACE_HOST_NETWORK),
            (&SYSTRAP, &SYSTRAP_HOST_NETWORK),
            (&KVM, &KVM_HOST_NETWORK),
        ];
        let found = pairs.into_iter().find(|(without, _)| std::ptr::eq(*without, self));
        found.map_or(self, |(_, with)| with)
    }

    /// Runs out of the array, which fails the build, when there are too many.
    const fn push(&mut self, op: sock_filter) {
        self.code[self.len] = op;
        self.len += 1;
    }

    /// What becomes of a call that is not allowed.
    const fn otherwise(&self, number: i64) -> sock_filter {
        let mut i = 0;
        while i < self.refused.len() {
            if self.refused[i].0 == number {
                return op(RETURN, libc::SECCOMP_RET_ERRNO | self.refused[i].1 as u32, 0, 0);
            }
            i += 1;
        }
        TRAP
    }

    const fn push_all(&mut self, calls: &[HostCall]) {
        let mut i = 0;
        while i < calls.len() {
            if matches!(calls[i].phase, Phase::Run) {
                self.push_call(&calls[i]);
            }
            i += 1;
        }
    }

    const fn push_call(&mut self, call: &HostCall) {
        let number = call.number as u32;
        let otherwise = self.otherwise(call.number);
        match call.limit {
            Limit::Any => {
                self.push(op(IF_EQUAL, number, 0, 1));
                self.push(ALLOW);
            }
            Limit::Either(index, values) => {
                let count = values.len() as u8;
                self.push(op(IF_EQUAL, number, 0, count + 3));
                self.push(op(LOAD, ARGS + 8 * index as u32, 0, 0));
                let mut i = 0;
                while i < values.len() {
                    // Past the others and the trap, to the end.
                    self.push(op(IF_EQUAL, values[i], count - i as u8, 0));
                    i += 1;
                }
                self.push(otherwise);
                self.push(ALLOW);
            }
            Limit::Without(index, bits) => {
                self.push(op(IF_EQUAL, number, 0, 4));
                self.push(op(LOAD, ARGS + 8 * index as u32, 0, 0));
                self.push(op(IF_ANY, bits, 0, 1));
                self.push(otherwise);
                self.push(ALLOW);
            }
            Limit::With(index, bits) => {
                self.push(op(IF_EQUAL, number, 0, 5));
                self.push(op(LOAD, ARGS + 8 * index as u32, 0, 0));
                self.push(op(AND, bits, 0, 0));
                self.push(op(IF_EQUAL, bits, 1, 0));
                self.push(otherwise);
                self.push(ALLOW);
            }
        }
    }

    fn code(&self) -> &[sock_filter] {
        self.code.get(..self.len).unwrap_or_default()
    }

    /// Installs it for the calling thread and those it makes. The process has given up new privileges
    /// (`PR_SET_NO_NEW_PRIVS`). Violations are reported to the descriptor `report`.
    pub fn install(&'static self, mode: Mode, report: i32) -> Result<(), Errno> {
        REPORT.store(report, Ordering::Relaxed);
        INSTALLED.store(std::ptr::from_ref(self).cast_mut(), Ordering::Release);
        catch_violations()?;
        let logged: Vec<sock_filter>;
        let code = match mode {
            Mode::Enforce => self.code(),
            Mode::Log => {
                let log = |op: &sock_filter| match op.k {
                    libc::SECCOMP_RET_TRAP if op.code == RETURN => {
                        sock_filter { k: libc::SECCOMP_RET_LOG, ..*op }
                    }
                    _ => *op,
                };
                logged = self.code().iter().map(log).collect();
                &logged
            }
        };
        let program = libc::sock_fprog {
            len: u16::try_from(code.len()).map_err(|_| Errno::EINVAL)?,
            filter: code.as_ptr().cast_mut(),
        };
        // SAFETY: `program` describes `code`, which outlives the call; the kernel copies it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                &raw const program,
            )
        };
        Errno::result(result).map(drop)
    }
}

/// Fixes the number of the allocator's arenas, which the C library would otherwise look up in a file of `/sys`
/// when the second thread allocates. `M_ARENA_MAX` of `mallopt(3)`.
pub fn limit_arenas(count: usize) {
    const M_ARENA_MAX: i32 = -8;
    let count = i32::try_from(count).unwrap_or(i32::MAX).max(1);
    // SAFETY: takes integers. It fails for unknown parameters only.
    unsafe { libc::mallopt(M_ARENA_MAX, count) };
}

/// Keeps others of the same user from looking into this process (`PR_SET_DUMPABLE`). Processes that descend
/// from it already are not concerned.
pub fn hide_process() -> Result<(), Errno> {
    nix::sys::prctl::set_dumpable(false)
}

/// Where violations are reported.
static REPORT: AtomicI32 = AtomicI32::new(libc::STDERR_FILENO);

/// The filter, for the names of what it forbids.
static INSTALLED: AtomicPtr<Filter> = AtomicPtr::new(std::ptr::null_mut());

/// Installs the handler of `SIGSYS`.
fn catch_violations() -> Result<(), Errno> {
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = violation;
    // SAFETY: all-zero is a valid sigaction; the handler has the signature that SA_SIGINFO asks for, and makes
    // only calls that are allowed and safe in a handler.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut())
    };
    Errno::result(result).map(drop)
}

/// `siginfo_t` of a seccomp violation.
#[repr(C)]
struct Violation {
    signo: i32,
    errno: i32,
    code: i32,
    padding: i32,
    address: u64,
    number: i32,
    arch: u32,
}

/// Says which call it was, and ends the sandbox. Nothing here allocates.
extern "C" fn violation(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a siginfo, which for SIGSYS begins with these fields.
    let number = unsafe { (*info.cast::<Violation>()).number };
    // SAFETY: with SA_SIGINFO the third argument is the ucontext of the interrupted thread.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let argument = |register: i32| registers.get(register as usize).copied().unwrap_or(0) as u64;
    let mut line = Line { bytes: [0; 256], len: 0 };
    // SAFETY: null before a filter is installed, else a filter that lives for ever.
    let filter = unsafe { INSTALLED.load(Ordering::Acquire).as_ref() };
    let (who, tables) = filter.map_or(("process", &[][..]), |f| (f.who, f.tables));
    let known = tables.iter().copied().flatten().find(|call| call.number == i64::from(number));
    line.text(b"runsc: the ");
    line.text(who.as_bytes());
    line.text(b" made the host call ");
    line.text(known.map_or("", |call| call.name).as_bytes());
    line.text(b" #");
    line.number(number.max(0) as u64, 10);
    line.text(b"(0x");
    line.number(argument(libc::REG_RDI), 16);
    line.text(b", 0x");
    line.number(argument(libc::REG_RSI), 16);
    line.text(b", 0x");
    line.number(argument(libc::REG_RDX), 16);
    line.text(b"), which its filter forbids; the sandbox ends. Please report this line.\n");
    let bytes = line.bytes.get(..line.len).unwrap_or_default();
    // SAFETY: writes a valid buffer; exit_group does not return.
    unsafe {
        libc::write(REPORT.load(Ordering::Relaxed), bytes.as_ptr().cast(), bytes.len());
        libc::_exit(EXIT_STATUS);
    }
}

/// A line that is put together without memory of the heap.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    fn text(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }

    fn number(&mut self, mut number: u64, base: u64) {
        let mut digits = [0; 20];
        let mut count = 0;
        for place in digits.iter_mut().rev() {
            *place = b"0123456789abcdef".get((number % base) as usize).copied().unwrap_or(b'?');
            number /= base;
            count += 1;
            if number == 0 {
                break;
            }
        }
        self.text(digits.get(digits.len() - count..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork, pipe, read};
    use std::os::fd::AsRawFd;

    /// Runs a filter as the kernel would.
    fn evaluate(filter: &Filter, number: i64, args: [u64; 6]) -> u32 {
        let mut data = vec![number as u32, ARCH_X86_64, 0, 0];
        for arg in args {
            data.extend([arg as u32, (arg >> 32) as u32]);
        }
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let op = filter.code()[at];
            at += 1;
            let taken = match op.code {
                LOAD => {
                    accumulator = data[op.k as usize / 4];
                    continue;
                }
                RETURN => return op.k,
                AND => {
                    accumulator &= op.k;
                    continue;
                }
                IF_EQUAL => accumulator == op.k,
                IF_AT_LEAST => accumulator >= op.k,
                _ => accumulator & op.k != 0,
            };
            at += usize::from(if taken { op.jt } else { op.jf });
        }
    }

    #[test]
    fn only_what_the_tables_say() {
        const NO: u32 = libc::SECCOMP_RET_TRAP;
        const YES: u32 = libc::SECCOMP_RET_ALLOW;
        let with_network = [
            &PTRACE_USER_NETWORK,
            &SYSTRAP_USER_NETWORK,
            &KVM_USER_NETWORK,
            &PTRACE_HOST_NETWORK,
            &SYSTRAP_HOST_NETWORK,
            &KVM_HOST_NETWORK,
        ];
        for filter in [&PTRACE, &SYSTRAP, &KVM].into_iter().chain(with_network) {
            for number in 0..600 {
                let mut calls = filter.tables.iter().copied().flatten();
                let call = calls.find(|call| call.number == number);
                if let Some((_, errno, _)) = REFUSED.iter().find(|(refused, ..)| *refused == number)
                {
                    let expected = libc::SECCOMP_RET_ERRNO | *errno as u32;
                    assert_eq!(evaluate(filter, number, [0; 6]), expected);
                    assert!(call.is_none());
                    continue;
                }
                let run = call.filter(|call| call.phase == Phase::Run);
                let verdict = evaluate(filter, number, [u64::MAX; 6]);
                match run.map(|call| call.limit) {
                    None => assert_eq!(verdict, NO, "{number}"),
                    Some(Limit::Any) => assert_eq!(verdict, YES, "{number}"),
                    Some(Limit::Either(index, values)) => {
                        assert_eq!(verdict, NO, "{number}");
                        for value in values {
                            let mut args = [0; 6];
                            args[usize::from(index)] = u64::from(*value);
                            assert_eq!(evaluate(filter, number, args), YES, "{number} {value:x}");
                        }
                    }
                    Some(Limit::With(..)) => {
                        assert_eq!(verdict, YES, "{number}");
                        assert_eq!(evaluate(filter, number, [0; 6]), NO, "{number}");
                    }
                    Some(Limit::Without(..)) => {
                        assert_eq!(verdict, NO, "{number}");
                        assert_eq!(evaluate(filter, number, [0; 6]), YES, "{number}");
                    }
                }
            }
            assert_eq!(evaluate(filter, libc::SYS_read | i64::from(X32), [0; 6]), NO);
        }
    }

    /// A process that installs the filter, makes a call and would exit with 0; its status and what it said.
    fn attempt(call: impl FnOnce() -> i64) -> (i32, String) {
        let (reader, writer) = pipe().unwrap();
        // SAFETY: the child makes system calls only, and leaves through _exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                // SAFETY: plain prctl call.
                unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
                let status = match PTRACE.install(Mode::Enforce, writer.as_raw_fd()) {
                    Ok(()) => i32::from(call() != 0),
                    Err(_) => 99,
                };
                // SAFETY: ends the child.
                unsafe { libc::_exit(status) }
            }
            ForkResult::Parent { child } => {
                drop(writer);
                let mut said = [0; 512];
                let n = read(&reader, &mut said).unwrap();
                let WaitStatus::Exited(_, status) = waitpid(child, None).unwrap() else {
                    panic!("killed by a signal")
                };
                (status, String::from_utf8_lossy(&said[..n]).into_owned())
            }
        }
    }

    #[test]
    fn the_host_enforces_it() {
        let call = |number: i64, args: [i64; 3]| {
            // SAFETY: none of the calls made with this reads or writes memory unless it is refused.
            move || unsafe { libc::syscall(number, args[0], args[1], args[2]) }
        };
        assert_eq!(attempt(call(libc::SYS_sched_yield, [0; 3])), (0, String::new()));
        let path = c"/etc/passwd".as_ptr() as i64;
        // Fails without being made, and is not reported.
        let open = call(libc::SYS_openat, [libc::AT_FDCWD.into(), path, 0]);
        assert_eq!(attempt(open), (1, String::new()));
        let forbidden = [
            ("open", libc::SYS_open, [path, 0, 0]),
            ("openat2", libc::SYS_openat2, [libc::AT_FDCWD.into(), path, 0]),
            ("socket", libc::SYS_socket, [libc::AF_INET.into(), 1, 0]),
            ("connect", libc::SYS_connect, [0, 0, 0]),
            ("execve", libc::SYS_execve, [path, 0, 0]),
            ("fork", libc::SYS_fork, [0; 3]),
            (
                "clone with a new user namespace",
                libc::SYS_clone,
                [libc::CLONE_NEWUSER.into(), 0, 0],
            ),
            ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0]),
            (
                "executable memory",
                libc::SYS_mmap,
                [0, 4096, (libc::PROT_READ | libc::PROT_EXEC).into()],
            ),
            ("memory made executable", libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC.into()]),
            ("TIOCSTI", libc::SYS_ioctl, [0, libc::TIOCSTI as i64, 0]),
            ("io_uring", libc::SYS_io_uring_setup, [1, 0, 0]),
            ("bpf", libc::SYS_bpf, [0; 3]),
            ("keyctl", libc::SYS_keyctl, [0; 3]),
            ("process_vm_readv", libc::SYS_process_vm_readv, [1, 0, 0]),
            ("PR_SET_DUMPABLE", libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0]),
        ];
        for (name, number, args) in forbidden {
            let (status, said) = attempt(call(number, args));
            assert_eq!(status, EXIT_STATUS, "{name}: {said}");
            assert!(said.contains(&format!("#{number}(0x{:x}", args[0])), "{name}: {said}");
        }
    }
}
