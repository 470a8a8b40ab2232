//! Random system calls with random arguments, in rounds: each in a process that is the first of
//! namespaces of its own, with a few calls from the whole table, so that what one call leaves
//! behind is what the next one finds.
//!
//! A round cannot end the fuzzer, whatever it does to itself; what is reported is a round that cannot be
//! killed. That the sandbox itself goes on is for the caller to see.

mod pool;
mod round;
mod table;

use crate::Options;
use crate::sys::process::{Status, kill};
use crate::sys::signal::block;
use crate::sys::{at, at_mut, sc, time};
use std::time::{Duration, Instant};
use table::Call;

/// How long a round may take before it is killed, in milliseconds.
const ROUND: i64 = 2000;
/// How long a killed round may take to end, in milliseconds.
const END: i64 = 20_000;

/// Runs rounds until one of the limits is reached.
pub fn main(options: &Options<'_>) -> Result<(), String> {
    let calls = select(options.text("--calls").unwrap_or_default());
    let first = options.number("--seed", 1);
    let rounds = options.number("--rounds", u64::MAX);
    let limit = Duration::from_secs(options.number("--seconds", 3600));
    let verbose = options.text("--verbose").is_some();
    let start = Instant::now();
    std::fs::create_dir_all("/tmp/fuzz").map_err(|e| format!("mkdir /tmp/fuzz: {e}"))?;
    block(&[libc::SIGCHLD]);
    let (mut done, mut killed) = (0, 0);
    for seed in first..first.saturating_add(rounds) {
        if start.elapsed() > limit {
            break;
        }
        if verbose || done % 50 == 0 {
            println!("round {seed}, {} s, {killed} killed", start.elapsed().as_secs());
        }
        killed += u64::from(one(seed, &calls)?);
        done += 1;
    }
    println!("fuzz: {done} rounds from {first}, {killed} killed after {ROUND} ms");
    Ok(())
}

/// The calls whose name contains one of these words; all without words.
fn select(words: &str) -> Vec<Call> {
    let mut calls = table::all();
    calls.retain(|call| words.is_empty() || words.split(',').any(|word| call.name.contains(word)));
    calls
}

/// Runs one round; whether it had to be killed.
fn one(seed: u64, calls: &[Call]) -> Result<bool, String> {
    let namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let pid = sc!(SYS_clone, namespaces | libc::SIGCHLD, 0u64, 0u64, 0u64, 0u64);
    if pid.0 == 0 {
        round::run(seed, calls);
    }
    if !pid.ok() {
        return Err(format!("round {seed}: clone: {pid}"));
    }
    let mut killed = false;
    if !ends(pid.fd(), ROUND) {
        killed = true;
        kill(pid.fd(), libc::SIGKILL);
        if !ends(pid.fd(), END) {
            let stuck = std::fs::read_to_string(format!("/proc/{}/syscall", pid.fd()));
            return Err(format!("round {seed}: does not end when killed: {stuck:?}"));
        }
    }
    Ok(killed)
}

/// Waits for a child to end.
fn ends(pid: i32, milliseconds: i64) -> bool {
    let end = Instant::now() + Duration::from_millis(milliseconds as u64);
    loop {
        let mut status = 0;
        let waited = Status(sc!(SYS_wait4, pid, at_mut(&mut status), libc::WNOHANG, 0u64), status);
        if waited.0.0 != 0 {
            return true;
        }
        let left = end.saturating_duration_since(Instant::now()).as_millis() as i64;
        if left == 0 {
            return false;
        }
        let set = 1u64 << (libc::SIGCHLD - 1);
        sc!(SYS_rt_sigtimedwait, at(&set), 0u64, at(&time::span(left)), 8);
    }
}
