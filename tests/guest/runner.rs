//! Runs cases: each in a forked child, in a directory of its own, under a time limit.
#![expect(unsafe_code, reason = "fork, and a handler that only interrupts a wait")]

use crate::registry::{Area, Case};
use crate::sys::process::{Status, exit, kill};
use crate::sys::{Ret, at_mut, sc, signal, time};
use crate::transcript::say;
use std::ffi::CString;

/// Seconds after which a case is ended. The harness allows more for a whole run.
const LIMIT_SECONDS: u32 = 25;

/// Runs one case: a line that opens it, its transcript, and a line with how it ended.
pub fn run(area: &Area, case: &Case) {
    say!("=== {}::{}", area.name, case.name);
    let dir = scratch(case.name);
    if !sc!(SYS_mkdir, &dir, 0o777).ok() {
        say!("--- no scratch directory {}", dir.to_string_lossy());
        return;
    }
    // SAFETY: this program has one thread here.
    let pid = match unsafe { libc::fork() } {
        0 => {
            prepare(&dir);
            (case.run)();
            exit(0)
        }
        pid => pid,
    };
    let status = wait_limited(pid);
    // Whatever the case left running must not disturb the next one.
    kill(-pid, libc::SIGKILL);
    time::until(|| sc!(SYS_wait4, -1, 0u64, libc::WNOHANG, 0u64).0 <= 0);
    remove(&dir);
    say!("--- {status}");
}

/// The working directory of a case, below `$CONFORMANCE_TMP` or `/tmp`.
fn scratch(case: &str) -> CString {
    let base = std::env::var("CONFORMANCE_TMP").unwrap_or_else(|_| "/tmp".into());
    CString::new(format!("{base}/conformance-{}-{case}", std::process::id())).unwrap_or_default()
}

/// Gives every case the same process state, and undoes what the Rust runtime installed.
fn prepare(dir: &CString) {
    sc!(SYS_setsid);
    sc!(SYS_umask, 0o022);
    sc!(SYS_chdir, dir);
    // By system call: the C library refuses the signals that it reserves for itself.
    for sig in 1..=64 {
        sc!(SYS_rt_sigaction, sig, crate::sys::at(&[0u64; 4]), 0u64, 8);
    }
    signal::sigmask(libc::SIG_SETMASK, 0);
    sc!(SYS_sigaltstack, crate::sys::at(&[0u64, libc::SS_DISABLE as u64, 0]), 0u64);
    // Descriptors that happen to be inherited would shift the numbers a case sees.
    sc!(SYS_close_range, 3u32, u32::MAX, 0);
}

extern "C" fn interrupt(_: i32) {}

/// Waits for a case, ending its process group at the time limit.
fn wait_limited(pid: i32) -> String {
    let saved = signal::set_action(libc::SIGALRM, interrupt as *const () as usize, 0, 0);
    sc!(SYS_alarm, LIMIT_SECONDS);
    let mut late = false;
    let mut status = 0i32;
    let ret = loop {
        let ret: Ret = sc!(SYS_wait4, pid, at_mut(&mut status), 0, 0u64);
        if ret.errno() != libc::EINTR {
            break ret;
        }
        late = true;
        kill(-pid, libc::SIGKILL);
        kill(pid, libc::SIGKILL);
    };
    sc!(SYS_alarm, 0);
    saved.restore();
    match late {
        true => "timed out".into(),
        false => Status(ret, status).to_string(),
    }
}

/// Removes a directory tree, whatever modes the case left on it.
fn remove(dir: &CString) {
    if let Ok(path) = dir.to_str() {
        // A case that unmounts or removes its own directory leaves nothing to do.
        let _ = std::fs::remove_dir_all(path);
    }
}
