//! `rt_sigprocmask(2)`: every way of changing a mask, in memory of every kind, while signals come.

use crate::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

const SETS: [u64; 5] = [0, bit(SIGUSR1), bit(SIGUSR1) | bit(SIGHUP), bit(SIGKILL) | bit(64), !0];

fn change(how: i32, new: u64, old: u64) -> Ret {
    sc!(SYS_rt_sigprocmask, how, new, old, 8)
}

/// The mask, by a call that does nothing else.
fn mask() -> u64 {
    let mut old = 0u64;
    change(SIG_BLOCK, 0, at_mut(&mut old));
    old
}

fn every_way_of_changing() {
    for start in SETS {
        for how in [SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK, 3, -1] {
            for new in SETS {
                sigmask(SIG_SETMASK, start);
                let mut old = 0x5555u64;
                p!(how, change(how, at(&new), at_mut(&mut old)), format!("{old:x} {:x}", mask()));
                p!(change(how, at(&start), 0), format!("{:x}", mask()));
            }
            p!(change(how, 0, 0), sc!(SYS_rt_sigprocmask, how, 0u64, 0u64, 4));
        }
    }
}

fn sets_in_memory_of_every_kind() {
    let w = anon(3);
    munmap(w + 2 * PAGE, PAGE);
    let look = |label: &str, new: u64, old: u64| {
        sigmask(SIG_SETMASK, bit(SIGHUP));
        p!(label, change(SIG_BLOCK, new, old), format!("{:x}", mask()));
        sigmask(SIG_SETMASK, bit(SIGHUP));
        p!(label, change(SIG_SETMASK, new, old), format!("{:x}", mask()));
    };
    look("fresh", w, w + PAGE);
    p!(poke(w, 6), poke(w + PAGE, 7));
    look("touched", w, w + PAGE);
    p!(peek(w + PAGE));
    look("across a border", w + PAGE - 4, w + PAGE - 12);
    look("across the end", w + 2 * PAGE - 4, 0);
    look("across the end", 0, w + 2 * PAGE - 4);
    look("across the end", w, w + 2 * PAGE - 4);
    look("not aligned", w + 1, w + 11);
    for (label, prot) in [("read-only", PROT_READ), ("nothing", PROT_NONE), ("again", PROT_READ)] {
        mprotect(w + PAGE, PAGE, prot);
        look(label, w, w + PAGE);
        look(label, w + PAGE, w);
        p!(peek(w), peek(w + PAGE));
    }
    mprotect(w, PAGE, PROT_READ | PROT_WRITE);
    for end in [8, 0x7fff_ffff_eff8_u64, 0x7fff_ffff_f000, 1 << 47, 1 << 63, u64::MAX - 7] {
        look("at the end", end, 0);
        look("at the end", w, end);
        look("at the end", 0, end);
    }
    put(c"f", vec![3u8; 8192]);
    let fd = open(c"f", O_RDWR, 0).fd();
    for flags in [MAP_SHARED, MAP_PRIVATE] {
        let file = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0).addr();
        look("in a file", file + PAGE, w);
        look("in a file", w, file + PAGE);
        p!(ftruncate(fd, PAGE as i64));
        look("behind its end", file + PAGE, w);
        p!(ftruncate(fd, 2 * PAGE as i64));
    }
    p!(get(c"f").0.iter().flatten().map(|b| u64::from(*b)).sum::<u64>());
}

fn both_sets_in_one_place() {
    let mut sets = [0u64; 3];
    let base = at_mut(&mut sets);
    for (from, to) in [(8, 8), (8, 0), (8, 16), (8, 4), (4, 8), (8, 15), (8, 1)] {
        for how in [SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK] {
            sigmask(SIG_SETMASK, bit(SIGHUP) | bit(SIGINT));
            sets = [bit(SIGUSR1) | bit(SIGINT); 3];
            p!(
                from,
                to,
                how,
                change(how, base + from, base + to),
                format!("{sets:x?} {:x}", mask())
            );
        }
    }
}

fn a_copy_of_the_process_has_its_own() {
    let w = shared(1);
    sigmask(SIG_SETMASK, bit(SIGHUP));
    p!(run(|| {
        let old = sigmask(SIG_BLOCK, bit(SIGINT));
        i32::from(old != bit(SIGHUP) || mask() != bit(SIGHUP) | bit(SIGINT))
    }));
    // The old set goes to memory that is the parent's until it is written.
    let page = anon(1);
    poke(page, 9);
    p!(run(|| {
        change(SIG_SETMASK, at(&0u64), page);
        change(SIG_SETMASK, 0, w);
        i32::from(peek(page) != Touch::Value(1))
    }));
    p!(peek(page), peek(w), format!("{:x}", mask()));
    let threads: Vec<_> = (0..4u64)
        .map(|n| {
            thread::spawn(move || {
                for i in 0..200 {
                    sigmask(SIG_SETMASK, n << 20 | i);
                }
                mask()
            })
        })
        .collect();
    let masks: Vec<_> = threads.into_iter().map(|t| t.join().unwrap_or(0)).collect();
    p!(format!("{masks:x?} {:x}", mask()));
}

fn what_waits_comes_when_it_may() {
    catch(SIGUSR1, 0);
    catch(SIGUSR2, 0);
    block(&[SIGUSR1]);
    p!(raise(SIGUSR1), pending(), count());
    // Others do not bring it.
    unblock(&[SIGUSR2]);
    block(&[SIGUSR2]);
    p!(raise(SIGUSR2), format!("{:x}", mask()), pending(), count());
    let mut old = 0u64;
    p!(change(SIG_UNBLOCK, at(&bit(SIGUSR2)), at_mut(&mut old)), format!("{old:x}"), caught());
    p!(change(SIG_SETMASK, at(&0u64), 8u64), format!("{:x}", mask()), caught());
    // Ignored ones, and those that a wait takes.
    block(&[SIGUSR1, SIGCHLD]);
    p!(raise(SIGCHLD), unblock(&[SIGCHLD]) == bit(SIGUSR1) | bit(SIGCHLD), pending());
    p!(raise(SIGUSR1), sc!(SYS_rt_sigtimedwait, at(&bit(SIGUSR1)), 0u64, 0u64, 8), pending());
    unblock(&[SIGUSR1]);
    p!(format!("{:x}", mask()), caught());
}

/// Changes its mask until it is told to stop. How often.
fn toggle(stop: &AtomicBool, sig: i32) -> u64 {
    let (set, mut old, mut n) = (bit(sig), 0u64, 0);
    while !stop.load(SeqCst) {
        change(SIG_BLOCK, at(&set), at_mut(&mut old));
        change(SIG_UNBLOCK, at(&set), 0);
        n += 1;
    }
    n
}

fn none_is_lost_while_the_mask_changes() {
    const SENT: usize = 300;
    let rt = SIGRTMIN() + 3;
    catch(rt, 0);
    let (stop, tids) = (Arc::new(AtomicBool::new(false)), [(); 2].map(|()| AtomicU64::new(0)));
    let tids = Arc::new(tids);
    let threads: Vec<_> = (0..2)
        .map(|i| {
            let (stop, tids) = (stop.clone(), tids.clone());
            thread::spawn(move || {
                tids[i].store(gettid() as u64, SeqCst);
                toggle(&stop, rt) > 0
            })
        })
        .collect();
    until(|| tids.iter().all(|tid| tid.load(SeqCst) != 0));
    // This one leaves them to the others.
    block(&[rt]);
    for i in 0..SENT {
        let to = tids[i % 2].load(SeqCst) as i32;
        match i % 3 {
            0 => kill(getpid(), rt),
            _ => sc!(SYS_tgkill, getpid(), to, rt),
        };
        if i % 7 == 0 {
            until(|| count() > i);
        }
    }
    p!(until(|| count() == SENT), pending());
    stop.store(true, SeqCst);
    p!(threads.into_iter().all(|t| t.join().unwrap_or(false)));
    unblock(&[rt]);
    p!(count());
}

fn a_timer_ends_a_loop_of_changes() {
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 2, 2);
    let set = bit(SIGALRM);
    p!(until(|| {
        change(SIG_BLOCK, at(&set), 0);
        change(SIG_UNBLOCK, at(&set), 0);
        count() >= 20
    }));
    setitimer(ITIMER_REAL, 0, 0);
    p!(pending(), format!("{:x}", mask()));
}

cases![
    every_way_of_changing,
    sets_in_memory_of_every_kind,
    both_sets_in_one_place,
    a_copy_of_the_process_has_its_own,
    what_waits_comes_when_it_may,
    none_is_lost_while_the_mask_changes,
    a_timer_ends_a_loop_of_changes,
];
