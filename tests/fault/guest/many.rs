//! A guest that has much of one thing: threads, signals, children.

use crate::Options;
use crate::sys::process::{child, getpid, gettid, wait};
use crate::sys::{process, sc, signal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

/// Threads that are all there at once: each tells its id and waits until all have.
pub fn threads(options: &Options<'_>) -> Result<(), String> {
    let count = options.number("--count", 5000) as usize;
    let (all, sum) = (Arc::new(Barrier::new(count + 1)), Arc::new(AtomicU64::new(0)));
    let mut threads = Vec::new();
    for number in 0..count {
        let (all, sum) = (all.clone(), sum.clone());
        let body = move || {
            all.wait();
            sum.fetch_add(gettid() as u64, Ordering::Relaxed);
            all.wait();
        };
        let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(body);
        threads.push(thread.map_err(|error| format!("thread {number}: {error}"))?);
    }
    all.wait();
    let listed = std::fs::read_dir("/proc/self/task").map_err(|error| error.to_string())?.count();
    all.wait();
    for thread in threads {
        thread.join().map_err(|_| "a thread has panicked")?;
    }
    println!("threads: {listed} listed, mean id {}", sum.load(Ordering::Relaxed) / count as u64);
    if listed == count + 1 { Ok(()) } else { Err(format!("{listed} threads are listed")) }
}

static TAKEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn take(_signal: i32) {
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

/// Signals as fast as two children can send them, while the receiver computes: none that is queued may be lost.
pub fn storm(options: &Options<'_>) -> Result<(), String> {
    let count = options.number("--count", 100_000);
    let real_time = libc::SIGRTMIN();
    let (plain, queued) = (libc::SIGUSR1, real_time);
    for signal in [plain, queued] {
        signal::set_action(signal, take as *const () as usize, libc::SA_RESTART, 0);
    }
    let me = getpid();
    let senders = [plain, queued].map(|signal| {
        child(|| {
            let mut sent = 0;
            while sent < count {
                match process::kill(me, signal).errno() {
                    0 => sent += 1,
                    // The queue is full.
                    libc::EAGAIN => drop(sc!(SYS_sched_yield)),
                    _ => return 1,
                }
            }
            0
        })
    });
    let mut rounds = 0_u64;
    let mut left = senders.to_vec();
    while !left.is_empty() {
        rounds = rounds.wrapping_mul(3).wrapping_add(1);
        let mut failed = false;
        left.retain(|pid| {
            let status = process::wait_opt(*pid, libc::WNOHANG);
            let ended = status.0.0 != 0;
            failed |= ended && status.code() != 0;
            !ended
        });
        if failed {
            return Err("a sender has failed".to_owned());
        }
    }
    let taken = TAKEN.load(Ordering::Relaxed);
    println!("storm: {taken} of {} taken", 2 * count);
    // Of the plain ones those that came while one was pending are not counted.
    if taken > count { Ok(()) } else { Err("signals were lost".to_owned()) }
}

/// Children, one after the other, which must leave nothing behind.
pub fn forks(options: &Options<'_>) -> Result<(), String> {
    let count = options.number("--count", 10_000);
    for number in 0..count {
        let pid = child(|| 7);
        if pid <= 0 {
            return Err(format!("child {number}: fork fails"));
        }
        if wait(pid).code() != 7 {
            return Err(format!("child {number} did not end as it should"));
        }
    }
    let numeric = |name: &str| name.parse::<u32>().is_ok();
    let entries = std::fs::read_dir("/proc").map_err(|error| error.to_string())?;
    let left = entries.flatten().filter(|e| numeric(&e.file_name().to_string_lossy())).count();
    println!("forks: {count} done, {left} processes");
    if left <= 2 { Ok(()) } else { Err(format!("{left} processes are left")) }
}
