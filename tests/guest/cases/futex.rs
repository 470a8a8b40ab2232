//! Futexes: wait, wake, requeue, bitsets, priority inheritance and robust lists.

use crate::prelude::*;
use std::thread;

const PI_OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

fn wait_with_another_value() {
    let w = anon(1);
    p!(futex_wait(w, 1, -1), futex_wake(w, 1));
}

fn wait_times_out() {
    let w = anon(1);
    let (ret, in_time) = took(20, || futex_wait(w, 0, 20));
    p!(ret, in_time);
    let (ret, in_time) = took(0, || futex_wait(w, 0, 0));
    p!(ret, in_time);
}

fn wait_wake() {
    let w = anon(1);
    let waiter = thread::spawn(move || futex_wait(w, 0, 10000));
    p!(wake_all(w, 1), waiter.join().unwrap_or(Ret(-1)));
}

fn wake_counts() {
    let w = anon(1);
    let waiters: Vec<_> = (0..3).map(|_| thread::spawn(move || futex_wait(w, 0, 10000))).collect();
    p!(wake_all(w, 3), waiters.into_iter().all(|t| t.join().is_ok_and(|r| r.0 == 0)));
    p!(futex_wake(w, 100));
}

fn errors() {
    let w = anon(1);
    p!(futex_wait(w + 1, 0, 0), futex_wake(w + 2, 1), futex_wait(8, 0, 0), futex_wake(8, 1));
    p!(futex(w, 99, 0, 0u64, 0, 0), futex(w, FUTEX_WAIT, 0, 8u64, 0, 0));
    p!(futex(w, FUTEX_WAIT, 0, at(&[0i64, 1_000_000_000]), 0, 0));
    p!(futex(w, FUTEX_WAIT, 0, at(&[-1i64, 0]), 0, 0));
    p!(futex(0xffff_8000_0000_0000, FUTEX_WAKE, 1, 0u64, 0, 0));
    p!(futex(w, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, 0u64, 0, 0));
}

fn wait_on_read_only_and_missing_pages() {
    let w = anon(1);
    mprotect(w, PAGE, PROT_READ);
    p!(futex_wait(w, 1, 0), futex_wait(w, 0, 1), futex_wake(w, 1));
    munmap(w, PAGE);
    p!(futex_wait(w, 0, 0));
}

fn signal_interrupts_a_wait() {
    catch(SIGALRM, 0);
    let w = anon(1);
    setitimer(ITIMER_REAL, 20, 20);
    p!(futex_wait(w, 0, 10000), count() > 0);
    setitimer(ITIMER_REAL, 0, 0);
}

fn restart_keeps_the_deadline() {
    catch(SIGALRM, SA_RESTART);
    let w = anon(1);
    setitimer(ITIMER_REAL, 10, 0);
    let (ret, in_time) = took(60, || futex_wait(w, 0, 60));
    p!(ret == Ret(-i64::from(ETIMEDOUT)) || ret == Ret(-i64::from(EINTR)), in_time || !ret.ok());
}

fn private_and_shared_are_different() {
    let w = anon(1);
    let waiter =
        thread::spawn(move || futex(w, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, at(&span(10000)), 0, 0));
    let wake = |op: i32| futex(w, op, 1, 0u64, 0, 0).0;
    p!(until(|| wake(FUTEX_WAKE | FUTEX_PRIVATE_FLAG) == 1), waiter.join().unwrap_or(Ret(-1)));
}

fn shared_between_processes() {
    let w = shared(1);
    let pid = child(|| futex_wait(w, 0, 10000).errno());
    p!(wake_all(w, 1), wait(pid));
}

fn shared_through_a_file_at_another_address() {
    put(c"f", [0u8; 4096]);
    let fd = open(c"f", O_RDWR, 0).fd();
    let map = || mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0).addr();
    let (a, b) = (map(), map());
    let pid = child(|| futex_wait(a, 0, 10000).errno());
    p!(a != b, wake_all(b, 1), wait(pid));
}

fn private_memory_after_fork_is_not_shared() {
    let w = anon(1);
    let pid = child(|| futex_wait(w, 0, 50).errno());
    p!(futex_wake(w, 10), wait(pid));
}

fn bitset() {
    let w = anon(1);
    let waiter = thread::spawn(move || futex(w, FUTEX_WAIT_BITSET, 0, 0u64, 0, 0b0110));
    let wake = |bits: u32| futex(w, FUTEX_WAKE_BITSET, 1, 0u64, 0, bits);
    p!(wake(0b1001), until(|| wake(0b0100).0 == 1), waiter.join().unwrap_or(Ret(-1)));
    p!(wake(0), futex(w, FUTEX_WAIT_BITSET, 0, 0u64, 0, 0));
}

fn bitset_timeout_is_absolute() {
    let w = anon(1);
    let until_ns = clock(CLOCK_MONOTONIC) + 20_000_000;
    let at_time = [until_ns / 1_000_000_000, until_ns % 1_000_000_000];
    let (ret, _) = took(0, || futex(w, FUTEX_WAIT_BITSET, 0, at(&at_time), 0, u32::MAX));
    p!(ret, clock(CLOCK_MONOTONIC) >= until_ns);
    let past = [1i64, 0];
    p!(futex(w, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, at(&past), 0, u32::MAX));
}

fn requeue() {
    let (a, b) = (anon(1), anon(1));
    let waiters: Vec<_> = (0..3).map(|_| thread::spawn(move || futex_wait(a, 0, 10000))).collect();
    p!(until(|| futex(a, FUTEX_REQUEUE, 0, 100u64, b, 0).0 > 0));
    let (mut first, mut second) = (0, 0);
    p!(until(|| {
        first += futex_wake(a, 10).0;
        second += futex_wake(b, 10).0;
        first + second == 3
    }));
    p!(second > 0, waiters.into_iter().all(|t| t.join().is_ok()));
}

fn cmp_requeue() {
    let (a, b) = (anon(1), anon(1));
    word(a).store(5, SeqCst);
    p!(futex(a, FUTEX_CMP_REQUEUE, 1, 1u64, b, 4), futex(a, FUTEX_CMP_REQUEUE, 1, 1u64, b, 5));
    p!(futex(a, FUTEX_CMP_REQUEUE, 1, 1u64, b + 1, 5), futex(a, FUTEX_CMP_REQUEUE, 1, 1u64, 8, 5));
    p!(futex(a, FUTEX_REQUEUE, u32::MAX, 1u64, b, 0));
}

fn wake_op() {
    let (a, b) = (anon(1), anon(1));
    word(b).store(3, SeqCst);
    // *b = *b + 4; wake b's waiters when the old value was equal to 3.
    let op = 1 << 28 | 4 << 12 | 3;
    p!(futex(a, FUTEX_WAKE_OP, 1, 1u64, b, op), word(b).load(SeqCst));
    // *b = *b | (1 << 5); old value greater than 6.
    let op = (2 | 8) << 28 | 4 << 24 | 5 << 12 | 6;
    p!(futex(a, FUTEX_WAKE_OP, 1, 1u64, b, op), word(b).load(SeqCst));
    p!(futex(a, FUTEX_WAKE_OP, 1, 1u64, b, 7 << 28), futex(a, FUTEX_WAKE_OP, 1, 1u64, b, 9 << 24));
    p!(futex(a, FUTEX_WAKE_OP, 1, 1u64, 8, op));
}

fn wake_op_wakes_both() {
    let (a, b) = (anon(1), anon(1));
    let first = thread::spawn(move || futex_wait(a, 0, 10000));
    let second = thread::spawn(move || futex_wait(b, 0, 10000));
    let mut woken = 0;
    p!(until(|| {
        // Adds nothing; the old value is 0.
        woken += futex(a, FUTEX_WAKE_OP, 1, 1u64, b, 1 << 28).0;
        woken == 2
    }));
    p!(first.join().unwrap_or(Ret(-1)), second.join().unwrap_or(Ret(-1)));
}

fn pi_lock_and_unlock() {
    let w = anon(1);
    let me = gettid() as u32;
    p!(futex(w, FUTEX_LOCK_PI, 0, 0u64, 0, 0), word(w).load(SeqCst) == me);
    p!(futex(w, FUTEX_LOCK_PI, 0, 0u64, 0, 0), futex(w, FUTEX_TRYLOCK_PI, 0, 0u64, 0, 0));
    p!(futex(w, FUTEX_UNLOCK_PI, 0, 0u64, 0, 0), word(w).load(SeqCst));
    p!(futex(w, FUTEX_UNLOCK_PI, 0, 0u64, 0, 0));
}

fn pi_hands_over() {
    let w = anon(1);
    futex(w, FUTEX_LOCK_PI, 0, 0u64, 0, 0);
    let other = thread::spawn(move || {
        let ret = futex(w, FUTEX_LOCK_PI, 0, 0u64, 0, 0);
        let owner = word(w).load(SeqCst) & 0x3fff_ffff == gettid() as u32;
        (ret, owner, futex(w, FUTEX_UNLOCK_PI, 0, 0u64, 0, 0))
    });
    p!(until(|| word(w).load(SeqCst) & WAITERS != 0), futex(w, FUTEX_UNLOCK_PI, 0, 0u64, 0, 0));
    let (lock, owner, unlock) = other.join().unwrap_or((Ret(-1), false, Ret(-1)));
    p!(lock, owner, unlock, word(w).load(SeqCst));
}

fn pi_errors() {
    let w = anon(1);
    word(w).store(0x3fff_fff0, SeqCst);
    p!(futex(w, FUTEX_LOCK_PI, 0, 0u64, 0, 0), futex(w, FUTEX_UNLOCK_PI, 0, 0u64, 0, 0));
    p!(futex(w, FUTEX_TRYLOCK_PI, 0, 0u64, 0, 0), futex(8, FUTEX_LOCK_PI, 0, 0u64, 0, 0));
}

fn pi_lock_times_out() {
    let w = anon(1);
    futex(w, FUTEX_LOCK_PI, 0, 0u64, 0, 0);
    let other = thread::spawn(move || {
        let ns = clock(CLOCK_REALTIME) + 20_000_000;
        futex(w, FUTEX_LOCK_PI, 0, at(&[ns / 1_000_000_000, ns % 1_000_000_000]), 0, 0)
    });
    p!(other.join().unwrap_or(Ret(-1)), futex(w, FUTEX_UNLOCK_PI, 0, 0u64, 0, 0));
}

fn robust_list_marks_a_dead_owner() {
    let page = shared(1);
    // The head points to one entry, whose futex word lies 8 bytes behind it.
    let (head, entry) = (page, page + 64);
    p!(run(|| {
        fill(head, &[entry.to_le_bytes(), 8u64.to_le_bytes(), 0u64.to_le_bytes()].concat());
        fill(entry, &head.to_le_bytes());
        word(entry + 8).store(gettid() as u32, SeqCst);
        p!(sc!(SYS_set_robust_list, head, 24));
        0
    }));
    say!("{:#x}", word(entry + 8).load(SeqCst));
}

fn robust_list_wakes_a_waiter() {
    let page = shared(1);
    let (head, entry, go) = (page, page + 64, page + 128);
    let owner = child(|| {
        fill(head, &[entry.to_le_bytes(), 8u64.to_le_bytes(), 0u64.to_le_bytes()].concat());
        fill(entry, &head.to_le_bytes());
        word(entry + 8).store(gettid() as u32 | WAITERS, SeqCst);
        sc!(SYS_set_robust_list, head, 24);
        publish(go, 1);
        nap(20);
        0
    });
    await_change(go, 0);
    await_change(entry + 8, owner as u32 | WAITERS);
    p!(word(entry + 8).load(SeqCst) & PI_OWNER_DIED != 0, wait(owner));
}

fn robust_list_of_another_owner_is_left_alone() {
    let page = shared(1);
    let (head, entry) = (page, page + 64);
    word(entry + 8).store(1, SeqCst);
    p!(run(|| {
        fill(head, &[entry.to_le_bytes(), 8u64.to_le_bytes(), 0u64.to_le_bytes()].concat());
        fill(entry, &head.to_le_bytes());
        sc!(SYS_set_robust_list, head, 24);
        0
    }));
    p!(word(entry + 8).load(SeqCst));
}

fn robust_list_errors_and_garbage() {
    let mut head = 0u64;
    let mut len = 0u64;
    p!(sc!(SYS_set_robust_list, 0u64, 23), sc!(SYS_get_robust_list, 0, at_mut(&mut head), 8u64));
    p!(sc!(SYS_get_robust_list, 0, at_mut(&mut head), at_mut(&mut len)), len);
    p!(sc!(SYS_get_robust_list, 0x7fff_fff0, at_mut(&mut head), at_mut(&mut len)));
    // A circle, a wild pointer and no memory at all must not hang or harm the exit.
    let page = anon(1);
    fill(page, &[(page + 64).to_le_bytes(), 8u64.to_le_bytes(), 1u64.to_le_bytes()].concat());
    fill(page + 64, &(page + 64).to_le_bytes());
    for wild in [page, 0xdead_0000, u64::MAX - 7] {
        p!(run(|| sc!(SYS_set_robust_list, wild, 24).errno()));
    }
}

fn waitv() {
    let (a, b) = (anon(1), anon(1));
    // struct futex_waitv: val, uaddr, flags (32 bits, private), reserved.
    let list = [0u64, a, 0x82, 0, b, 0x82];
    let waitv = |n: u32| sc!(SYS_futex_waitv, at(&list), n, 0, 0u64, 0);
    let waiter = thread::spawn(move || {
        let list = [0u64, a, 0x82, 0, b, 0x82];
        sc!(SYS_futex_waitv, at(&list), 2, 0, 0u64, 0)
    });
    p!(until(|| futex(b, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0u64, 0, 0).0 == 1));
    p!(waiter.join().unwrap_or(Ret(-1)), waitv(0), waitv(129));
    word(b).store(1, SeqCst);
    p!(waitv(2), sc!(SYS_futex_waitv, 8u64, 1, 0, 0u64, 0));
    p!(sc!(SYS_futex_waitv, at(&list), 1, 1, 0u64, 0));
}

fn condition_variable_and_mutex() {
    let pair = std::sync::Arc::new((std::sync::Mutex::new(0u32), std::sync::Condvar::new()));
    let threads: Vec<_> = (0..4)
        .map(|i| {
            let pair = pair.clone();
            thread::spawn(move || {
                let mut turn = pair.0.lock().unwrap_or_else(|e| e.into_inner());
                while *turn % 4 != i {
                    turn = pair.1.wait(turn).unwrap_or_else(|e| e.into_inner());
                }
                *turn += 1;
                pair.1.notify_all();
            })
        })
        .collect();
    p!(threads.into_iter().all(|t| t.join().is_ok()));
    p!(*pair.0.lock().unwrap_or_else(|e| e.into_inner()));
}

fn contended_lock_counts_right() {
    let counter = std::sync::Arc::new(std::sync::Mutex::new(0u32));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let counter = counter.clone();
            thread::spawn(move || {
                for _ in 0..500 {
                    *counter.lock().unwrap_or_else(|e| e.into_inner()) += 1;
                }
            })
        })
        .collect();
    p!(threads.into_iter().all(|t| t.join().is_ok()));
    p!(*counter.lock().unwrap_or_else(|e| e.into_inner()));
}

cases![
    wait_with_another_value,
    wait_times_out,
    wait_wake,
    wake_counts,
    errors,
    wait_on_read_only_and_missing_pages,
    signal_interrupts_a_wait,
    restart_keeps_the_deadline,
    private_and_shared_are_different,
    shared_between_processes,
    shared_through_a_file_at_another_address,
    private_memory_after_fork_is_not_shared,
    bitset,
    bitset_timeout_is_absolute,
    requeue,
    cmp_requeue,
    wake_op,
    wake_op_wakes_both,
    pi_lock_and_unlock,
    pi_hands_over,
    pi_errors,
    pi_lock_times_out,
    robust_list_marks_a_dead_owner,
    robust_list_wakes_a_waiter,
    robust_list_of_another_owner_is_left_alone,
    robust_list_errors_and_garbage,
    waitv,
    condition_variable_and_mutex,
    contended_lock_counts_right,
];
