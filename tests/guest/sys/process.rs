//! Processes: fork, exec of this program itself, and waiting.
#![expect(unsafe_code, reason = "fork and _exit")]

use super::{Arg, Ret, at, at_mut, errno, sc};
use std::ffi::CString;
use std::fmt;

/// getpid(2).
pub fn getpid() -> i32 {
    sc!(SYS_getpid).fd()
}
/// gettid(2).
pub fn gettid() -> i32 {
    sc!(SYS_gettid).fd()
}
/// getppid(2).
pub fn getppid() -> i32 {
    sc!(SYS_getppid).fd()
}
/// kill(2).
pub fn kill(pid: i32, sig: i32) -> Ret {
    sc!(SYS_kill, pid, sig)
}
/// prctl(2).
pub fn prctl(option: i32, a: impl Arg) -> Ret {
    sc!(SYS_prctl, option, a, 0, 0, 0)
}
/// A user id that no other process has, for per-user limits.
pub fn fresh_uid() -> u32 {
    100_000 + getpid() as u32
}
/// exit_group(2).
pub fn exit(code: i32) -> ! {
    // SAFETY: ends the process without running anything else.
    unsafe { libc::_exit(code) }
}

/// Forks; the child runs `f` and exits with what it returns.
pub fn child(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: cases fork while they have no other thread that could hold a lock.
    match unsafe { libc::fork() } {
        0 => exit(f()),
        pid => pid,
    }
}

/// Runs `f` in a child process and waits for its end.
pub fn run(f: impl FnOnce() -> i32) -> Status {
    wait(child(f))
}

/// A wait status.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub Ret, pub i32);

impl Status {
    /// The exit code, or -1.
    pub fn code(self) -> i32 {
        if self.0.ok() && libc::WIFEXITED(self.1) { libc::WEXITSTATUS(self.1) } else { -1 }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.1;
        if !self.0.ok() {
            write!(f, "{}", self.0)
        } else if self.0.0 == 0 {
            write!(f, "nothing")
        } else if libc::WIFEXITED(s) {
            write!(f, "exited {}", libc::WEXITSTATUS(s))
        } else if libc::WIFSIGNALED(s) {
            write!(f, "killed by {}", errno::signal(libc::WTERMSIG(s)))
        } else if libc::WIFSTOPPED(s) {
            write!(f, "stopped by {}", errno::signal(libc::WSTOPSIG(s)))
        } else if libc::WIFCONTINUED(s) {
            write!(f, "continued")
        } else {
            write!(f, "status {s:#x}")
        }
    }
}

/// wait4(2) for this child with options.
pub fn wait_opt(pid: i32, options: i32) -> Status {
    let mut status = 0i32;
    let ret = sc!(SYS_wait4, pid, at_mut(&mut status), options, 0u64);
    Status(ret, status)
}
/// wait4(2) for this child.
pub fn wait(pid: i32) -> Status {
    wait_opt(pid, 0)
}

/// What waitid(2) reported.
#[derive(Clone, Copy)]
pub struct Waited {
    /// The call's result.
    pub ret: Ret,
    /// si_pid.
    pub pid: i32,
    /// si_code.
    pub code: i32,
    /// si_status.
    pub status: i32,
}

impl fmt::Display for Waited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.ret.ok() {
            return write!(f, "{}", self.ret);
        }
        let code = super::signal::code_name(libc::SIGCHLD, self.code);
        match self.code {
            0 => write!(f, "nothing"),
            libc::CLD_EXITED => write!(f, "{code} {}", self.status),
            _ => write!(f, "{code} {}", errno::signal(self.status)),
        }
    }
}

/// waitid(2).
pub fn waitid(kind: u32, id: i32, options: i32) -> Waited {
    let mut info = [0i32; 32];
    let ret = sc!(SYS_waitid, kind, id, at_mut(&mut info), options, 0u64);
    Waited { ret, pid: info[4], code: info[2], status: info[6] }
}

/// The absolute path of this program.
pub fn me() -> CString {
    let path = std::env::args_os().next().unwrap_or_default();
    CString::new(path.into_encoded_bytes()).unwrap_or_default()
}

/// A NULL-terminated pointer array for execve(2); valid while `strings` lives.
pub fn pointers(strings: &[CString]) -> Vec<u64> {
    strings.iter().map(|s| s.as_ptr() as u64).chain([0]).collect()
}

/// C strings from texts.
pub fn strings(texts: &[&str]) -> Vec<CString> {
    texts.iter().map(|t| CString::new(*t).unwrap_or_default()).collect()
}

/// execve(2) with these arguments and environment; returns only on failure.
pub fn exec(path: impl Arg, args: &[&str], env: &[&str]) -> Ret {
    let (args, env) = (strings(args), strings(env));
    let (argv, envp) = (pointers(&args), pointers(&env));
    sc!(SYS_execve, path, at(argv.as_slice()), at(envp.as_slice()))
}

/// Executes a helper sub-command of this program in place of this process.
pub fn exec_helper(args: &[&str]) -> Ret {
    let me = me();
    let mut all = vec!["conformance", "helper"];
    all.extend_from_slice(args);
    exec(&me, &all, &["CONFORMANCE=1"])
}

/// Runs a helper sub-command of this program as a child process.
pub fn helper(args: &[&str]) -> Status {
    run(|| exec_helper(args).errno())
}
