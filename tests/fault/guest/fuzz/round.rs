//! One round: a process, perhaps with threads, that makes random calls until it has made enough or has
//! ended itself.

use super::pool::{Pool, length};
use super::table::{Call, Kind};
use crate::random::Random;
use crate::sys::process::exit;
use crate::sys::thread::{THREAD, spawn};
use crate::sys::{at, call, mem, sc, signal, time};
use libc::c_void;
use std::ffi::CString;

/// Calls of a round.
const CALLS: u64 = 400;
/// Calls that a child made on the way makes.
const CHILD_CALLS: u64 = 30;

/// What a thread of a round works with.
struct Work<'a> {
    pool: &'a Pool,
    calls: &'a [Call],
    seed: u64,
}

extern "C" fn interrupt(_: i32) {}

/// Does one round and ends the process.
pub fn run(seed: u64, all: &[Call]) -> ! {
    let mut random = Random::new(seed);
    // Signals to its group are its own affair.
    sc!(SYS_setsid);
    sc!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
    let dir = CString::new(format!("/tmp/fuzz/{seed}")).unwrap_or_default();
    // A file system of its own, so that it leaves nothing behind.
    sc!(SYS_mkdir, &dir, 0o777);
    sc!(SYS_mount, b"none\0", b"/\0", 0u64, libc::MS_REC | libc::MS_PRIVATE, 0u64);
    sc!(SYS_mount, b"none\0", &dir, b"tmpfs\0", 0, b"size=16m\0");
    sc!(SYS_chdir, &dir);
    sc!(SYS_mount, b"proc\0", b"/proc\0", b"proc\0", 0, 0u64);
    limits();
    let pool = Pool::new(&mut random);
    let calls = choose(all, &mut random);
    signal::set_action(libc::SIGALRM, interrupt as *const () as usize, 0, 0);
    if random.one_in(3) {
        for _ in 0..random.below(3) + 1 {
            let work = Work { pool: &pool, calls: &calls, seed: random.next() };
            spawn(THREAD, entry, std::ptr::from_ref(Box::leak(Box::new(work))) as u64, 0, 0);
        }
    }
    // What blocks is interrupted.
    time::setitimer(libc::ITIMER_REAL, 20, 20);
    make(&pool, &calls, &mut random, CALLS);
    exit(0)
}

/// So that a round cannot take all memory of the machine.
fn limits() {
    for (resource, limit) in [
        (libc::RLIMIT_AS, 1u64 << 30),
        (libc::RLIMIT_FSIZE, 1 << 26),
        (libc::RLIMIT_NOFILE, 400),
        (libc::RLIMIT_CORE, 0),
    ] {
        sc!(SYS_setrlimit, resource, at(&[limit; 2]));
    }
}

/// A few calls of all, so that they meet each other often; sometimes all.
fn choose(all: &[Call], random: &mut Random) -> Vec<Call> {
    if random.one_in(8) {
        return all.to_vec();
    }
    let count = random.below(30) + 2;
    (0..count).filter_map(|_| all.get(random.below(all.len() as u64) as usize)).cloned().collect()
}

extern "C" fn entry(work: *mut c_void) -> i32 {
    // SAFETY: the creator leaked it for this thread.
    #[expect(unsafe_code, reason = "the argument of a new thread")]
    let work = unsafe { &*work.cast::<Work<'_>>() };
    let mut random = Random::new(work.seed);
    for _ in 0..CALLS {
        if random.one_in(4) {
            remap(work.pool, &mut random);
        } else {
            make(work.pool, work.calls, &mut random, 1);
        }
    }
    0
}

/// Takes memory away from the other threads, or gives it back.
fn remap(pool: &Pool, random: &mut Random) {
    let (at, len) = (pool.region + random.below(64) * mem::PAGE, (random.below(4) + 1) * mem::PAGE);
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    match random.below(4) {
        0 => mem::munmap(at, len.min(pool.region + 64 * mem::PAGE - at)),
        1 => mem::mprotect(at, len, random.below(8) as i32),
        _ => mem::mmap(at, len.min(pool.region + 64 * mem::PAGE - at), 3, anonymous, -1, 0),
    };
}

/// Makes random calls.
fn make(pool: &Pool, calls: &[Call], random: &mut Random, count: u64) {
    let mut left = count;
    while left > 0 {
        left -= 1;
        let Some(chosen) = calls.get(random.below(calls.len() as u64) as usize) else { return };
        let args: [u64; 6] =
            std::array::from_fn(|i| value(chosen.args.get(i).copied(), pool, random));
        for (arg, kind) in args.iter().zip(&chosen.args) {
            if *kind == Kind::Pointer {
                pool.fill(*arg, random);
            }
        }
        let mut args = args;
        match chosen.number {
            // The end of the round is a rare result, not the usual one.
            libc::SYS_exit | libc::SYS_exit_group | libc::SYS_reboot if !random.one_in(50) => {
                continue;
            }
            libc::SYS_vfork => continue,
            libc::SYS_clone if !random.one_in(8) => {
                (args[0], args[1]) = (args[0] & !(libc::CLONE_VM as u64) | 17, 0);
            }
            // One that blocks everything for ever is a round wasted.
            libc::SYS_rt_sigreturn if !random.one_in(20) => continue,
            _ => {}
        }
        let number = if random.one_in(500) { random.below(600) as i64 } else { chosen.number };
        let result = call::syscall(number, &args);
        if result.0 == 0 && matches!(number, libc::SYS_clone | libc::SYS_clone3 | libc::SYS_fork) {
            if count <= CHILD_CALLS {
                exit(0);
            }
            left = left.min(CHILD_CALLS);
        }
    }
}

/// A value for an argument.
fn value(kind: Option<Kind>, pool: &Pool, random: &mut Random) -> u64 {
    if random.one_in(40) {
        return random.next() >> random.below(64);
    }
    match kind {
        None => random.pick(&[0, 0, 1, u64::MAX, pool.region]).unwrap_or(0),
        Some(Kind::Fd) => pool.fd(random),
        Some(Kind::Path) => pool.path(random),
        Some(Kind::Mapping) => pool.mapping(random),
        Some(Kind::Pointer) => pool.buffer(random),
        Some(Kind::Length) => length(random),
        Some(Kind::Flags) => match random.below(6) {
            0 | 1 => 0,
            2 => u64::from(random.next() as u32),
            3 => random.below(16),
            _ => (0..random.below(4) + 1).fold(0, |bits, _| bits | 1 << random.below(20)),
        },
        Some(Kind::Pid) => match random.below(8) {
            0 => random.below(100),
            1 => random.pick(&[-1i64, i64::MIN, i64::MAX, 1 << 22]).unwrap_or(-1) as u64,
            2 => 0,
            _ => random.below(6) + 1,
        },
        Some(Kind::Signal) => match random.below(4) {
            0 => random.below(70),
            _ => random.pick(&[0u64, 10, 12, 17, 18, 28, 34, 63]).unwrap_or(0),
        },
        Some(Kind::Number) => match random.below(5) {
            0 => random.below(1 << 16),
            1 => length(random),
            2 => u64::MAX,
            _ => random.below(40),
        },
    }
}
