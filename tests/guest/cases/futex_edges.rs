//! Futexes at their edges: flags of every operation, owners that die, and the newer calls.

use crate::prelude::*;

const FUTEX2_U32: u32 = 2;
const FUTEX2_PRIVATE: u32 = 128;
const ALL_BITS: u32 = u32::MAX;

fn wake2(word: u64, mask: u64, count: i32, flags: u32) -> Ret {
    syscall(454, &[word, mask, count as u64, u64::from(flags)])
}
fn wait2(word: u64, value: u64, mask: u64, flags: u32, timeout: u64, clock: i32) -> Ret {
    syscall(455, &[word, value, mask, u64::from(flags), timeout, clock as u64])
}
/// A child that waits on a shared word, is asleep by then, and exits with the errno.
fn sleeper(f: impl FnOnce() -> Ret) -> i32 {
    let pid = child(|| f().errno());
    let path = CString::new(format!("/proc/{pid}/stat")).unwrap_or_default();
    let asleep = || get(&path).text().rsplit(')').next().is_some_and(|t| t.starts_with(" S"));
    until(asleep);
    nap(30);
    until(asleep);
    pid
}

fn unknown_operations() {
    let w = shared(1);
    for op in [2, 14, 15, 63, 127, -1] {
        p!(op, futex(w, op, 0, 0u64, 0, 0));
    }
    // The clock may only be chosen where there is a timeout.
    for op in [FUTEX_WAKE, FUTEX_REQUEUE, FUTEX_UNLOCK_PI, FUTEX_TRYLOCK_PI, FUTEX_WAKE_BITSET] {
        p!(op, futex(w, op | FUTEX_CLOCK_REALTIME, 1, 0u64, w + 8, 1));
    }
}

fn empty_bit_sets() {
    let w = shared(1);
    p!(
        futex(w, FUTEX_WAIT_BITSET, 0, at(&span(0)), 0, 0),
        futex(w, FUTEX_WAKE_BITSET, 1, 0u64, 0, 0)
    );
    p!(futex(w, FUTEX_WAIT_BITSET, 1, 0u64, 0, 0), futex(w, FUTEX_WAIT_BITSET, 1, 0u64, 0, 1));
}

fn timeouts_at_their_edges() {
    let w = shared(1);
    for time in [[0i64, 0], [0, -1], [0, 1_000_000_000], [-1, 0], [0, 999_999]] {
        p!(
            futex(w, FUTEX_WAIT, 0, at(&time), 0, 0),
            futex(w, FUTEX_WAIT_BITSET, 0, at(&time), 0, 1)
        );
        p!(futex(w, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, at(&time), 0, 1));
    }
    p!(futex(w, FUTEX_WAIT, 1, at(&[0i64, -1]), 0, 0), futex(w, FUTEX_WAIT, 1, 8u64, 0, 0));
}

fn the_value_is_looked_at_first() {
    let (w, other) = (shared(1), anon(1));
    munmap(other, PAGE);
    p!(
        futex_wait(w, 1, 0),
        futex_wait(other, 1, 0),
        futex_wait(w + 2, 1, 0),
        futex_wait(1 << 63, 0, 0)
    );
    p!(
        futex(w, FUTEX_CMP_REQUEUE, 1, 1u64, other, 5),
        futex(w, FUTEX_CMP_REQUEUE, 1, 1u64, other, 0)
    );
    p!(
        futex(w, FUTEX_CMP_REQUEUE, 1, 1u64, w + 4, 5),
        futex(w, FUTEX_CMP_REQUEUE, 1, 1u64, w + 2, 0)
    );
    p!(
        futex(w, FUTEX_CMP_REQUEUE, -1i32 as u32, 1u64, w + 4, 0),
        futex(w, FUTEX_REQUEUE, 1, -1i64, w + 4, 0)
    );
    p!(futex(w, FUTEX_CMP_REQUEUE, 0, 1u64, w, 0));
}

/// Waits that do not wait, with the operations that locks and conditions of the C library use, for words in memory of every kind.
fn words_in_memory_of_every_kind() {
    let look = |label: &str, word: u64| {
        for op in [FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME] {
            let op = op | FUTEX_PRIVATE_FLAG;
            p!(label, op, futex(word, op, 1, 0u64, 0, 1), futex(word, op, 0, at(&span(1)), 0, 1));
        }
        p!(futex(word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0u64, 0, 0));
    };
    let w = anon(4);
    look("fresh", w);
    p!(poke(w, 2));
    look("another value", w);
    p!(poke(w, 1));
    p!(futex(w, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, at(&span(1)), 0, 0));
    poke(w, 0);
    for (label, prot) in [("read-only", PROT_READ), ("nothing", PROT_NONE), ("again", PROT_READ)] {
        mprotect(w, PAGE, prot);
        look(label, w);
    }
    munmap(w, PAGE);
    look("gone", w);
    look("not aligned", w + PAGE + 2);
    // Where exactly user addresses end for a wake-up is a matter of the version of Linux.
    for end in [0x7fff_ffff_effc_u64, 1 << 63, u64::MAX - 3] {
        look("at the end", end);
    }
    put(c"f", vec![0u8; 8192]);
    let fd = open(c"f", O_RDWR, 0).fd();
    for flags in [MAP_SHARED, MAP_PRIVATE] {
        let file = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0).addr();
        look("in a file", file + PAGE);
        p!(peek(file + PAGE));
        look("in a file", file + PAGE);
        p!(ftruncate(fd, PAGE as i64));
        look("behind its end", file + PAGE);
        look("before it", file);
        p!(ftruncate(fd, 2 * PAGE as i64));
        look("in it again", file + PAGE);
    }
}

fn counts_of_waking() {
    let w = shared(1);
    let all: Vec<i32> = (0..3).map(|_| sleeper(|| futex_wait(w, 0, 20_000))).collect();
    // None is asked for, one is woken.
    p!(futex_wake(w, 0), futex_wake(w, 1), futex_wake(w, -1i32 as u32));
    p!(futex_wake(w, 5));
    futex_wake(w, 5);
    p!(all.into_iter().map(wait).all(|s| s.code() == 0));
}

fn bits_choose_who_wakes() {
    let w = shared(1);
    let a = sleeper(|| futex(w, FUTEX_WAIT_BITSET, 0, 0u64, 0, 0b01));
    let b = sleeper(|| futex(w, FUTEX_WAIT_BITSET, 0, 0u64, 0, 0b10));
    p!(
        futex(w, FUTEX_WAKE_BITSET, 5, 0u64, 0, 0b100),
        futex(w, FUTEX_WAKE_BITSET, 5, 0u64, 0, 0b10),
        wait(b)
    );
    p!(futex(w, FUTEX_WAKE, 5, 0u64, 0, 0), wait(a));
}

fn operations_on_the_second_word() {
    // op, cmp, argument and what the word holds afterwards.
    let w = shared(1);
    let encode = |op: u32, cmp: u32, arg: u32, cmp_arg: u32| {
        op << 28 | cmp << 24 | (arg & 0xfff) << 12 | cmp_arg & 0xfff
    };
    for (op, arg) in [
        (0, 5),
        (1, 3),
        (2, 6),
        (3, 0xff0),
        (4, 0xff),
        (8, 3),
        (9, 31),
        (8, 40),
        (5, 1),
        (0, 0xfff),
        (1, 0xfff),
    ] {
        word(w + 4).store(0xf0, SeqCst);
        let ret = futex(w, FUTEX_WAKE_OP, 1, 1u64, w + 4, encode(op, 0, arg, 0xf0));
        say!("{op} {arg:#x}: {ret} {:#x}", word(w + 4).load(SeqCst));
    }
    for cmp in 0..8 {
        say!("{cmp}: {}", futex(w, FUTEX_WAKE_OP, 1, 1u64, w + 4, encode(1, cmp, 0, 1)));
    }
    p!(futex(w, FUTEX_WAKE_OP, 1, 1u64, w + 6, 0), futex(w, FUTEX_WAKE_OP, 1, 1u64, 8, 0));
    let read_only = mmap(0, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0).addr();
    p!(futex(w, FUTEX_WAKE_OP, 1, 1u64, read_only, 0));
}

fn locks_with_owners() {
    let w = shared(1);
    let me = gettid() as u32;
    p!(
        futex(w, FUTEX_LOCK_PI, 0, 0u64, 0, 0),
        word(w).load(SeqCst) == me,
        futex(w, FUTEX_LOCK_PI, 0, 0u64, 0, 0)
    );
    p!(futex(w, FUTEX_TRYLOCK_PI, 0, 0u64, 0, 0), futex(w, FUTEX_WAIT, me, at(&span(0)), 0, 0));
    p!(
        run(|| futex(w, FUTEX_TRYLOCK_PI, 0, 0u64, 0, 0).errno()),
        run(|| futex(w, FUTEX_UNLOCK_PI, 0, 0u64, 0, 0).errno())
    );
    // Absolute, of the wall clock.
    p!(
        run(|| futex(w, FUTEX_LOCK_PI, 0, at(&[1i64, 0]), 0, 0).errno()),
        word(w).load(SeqCst) & 0x3fff_ffff == me
    );
    p!(futex(w, FUTEX_UNLOCK_PI, 0, 0u64, 0, 0), futex(w, FUTEX_UNLOCK_PI, 0, 0u64, 0, 0));
}

fn an_owner_that_died() {
    let w = shared(1);
    let dead = child(|| 0);
    wait(dead);
    word(w).store(dead as u32, SeqCst);
    p!(futex(w, FUTEX_LOCK_PI, 0, 0u64, 0, 0), futex(w, FUTEX_TRYLOCK_PI, 0, 0u64, 0, 0));
    word(w).store(0x4000_0000, SeqCst);
    p!(
        futex(w, FUTEX_LOCK_PI, 0, 0u64, 0, 0),
        word(w).load(SeqCst) == gettid() as u32 | 0x4000_0000
    );
}

fn the_newer_waiting() {
    let w = shared(1);
    p!(
        wait2(w, 1, ALL_BITS.into(), FUTEX2_U32, 0, CLOCK_MONOTONIC),
        wait2(w, 0, 0, FUTEX2_U32, 0, CLOCK_MONOTONIC)
    );
    for flags in [0, 1, 3, 4, FUTEX2_PRIVATE, 1 << 8] {
        p!(
            flags,
            wait2(w, 1, ALL_BITS.into(), flags, 0, CLOCK_MONOTONIC),
            wake2(w, ALL_BITS.into(), 1, flags)
        );
    }
    p!(
        wait2(w, 1 << 32, ALL_BITS.into(), FUTEX2_U32, 0, CLOCK_MONOTONIC),
        wait2(w, 0, 1 << 32, FUTEX2_U32, 0, CLOCK_MONOTONIC)
    );
    let past = [0i64, 1];
    p!(
        wait2(w, 0, 1, FUTEX2_U32, at(&past), CLOCK_MONOTONIC),
        wait2(w, 0, 1, FUTEX2_U32, at(&past), CLOCK_REALTIME)
    );
    p!(
        wait2(w, 0, 1, FUTEX2_U32, at(&past), CLOCK_BOOTTIME),
        wait2(w, 0, 1, FUTEX2_U32, 8, CLOCK_MONOTONIC)
    );
    let pid = sleeper(|| wait2(w, 0, 0b10, FUTEX2_U32, 0, CLOCK_MONOTONIC));
    p!(
        wake2(w, 0b01, 1, FUTEX2_U32),
        wake2(w, 0, 1, FUTEX2_U32),
        wake2(w, 0b10, 0, FUTEX2_U32),
        wake2(w, 0b10, 1, FUTEX2_U32),
        wait(pid)
    );
    // The older call and the newer are for the same words.
    let pid = sleeper(|| wait2(w, 0, ALL_BITS.into(), FUTEX2_U32, 0, CLOCK_MONOTONIC));
    p!(futex_wake(w, 1), wait(pid));
}

fn the_newer_requeueing() {
    let w = shared(1);
    let waiters = [0u64, w, u64::from(FUTEX2_U32), 0, w + 4, u64::from(FUTEX2_U32)];
    let requeue = |list: u64, flags: u32, wake: i32, move_: i32| {
        syscall(456, &[list, u64::from(flags), wake as u64, move_ as u64])
    };
    p!(
        requeue(at(&waiters), 0, 1, 1),
        requeue(at(&waiters), 1, 1, 1),
        requeue(8, 0, 1, 1),
        requeue(at(&waiters), 0, -1, 1)
    );
    let other = [1u64, w, u64::from(FUTEX2_U32), 0, w + 4, u64::from(FUTEX2_U32)];
    p!(requeue(at(&other), 0, 1, 1), requeue(0, 0, 1, 1));
    let a = sleeper(|| wait2(w, 0, ALL_BITS.into(), FUTEX2_U32, 0, CLOCK_MONOTONIC));
    let b = sleeper(|| wait2(w, 0, ALL_BITS.into(), FUTEX2_U32, 0, CLOCK_MONOTONIC));
    p!(
        requeue(at(&waiters), 0, 1, 5),
        wake2(w, ALL_BITS.into(), 5, FUTEX2_U32),
        wake2(w + 4, ALL_BITS.into(), 5, FUTEX2_U32)
    );
    p!(wait(a), wait(b));
}

fn vectors_at_their_edges() {
    let w = shared(1);
    let one = |value: u64, addr: u64, flags: u32| [value, addr, u64::from(flags)];
    let call = |list: u64, n: u32, flags: u32, timeout: u64, clock: i32| {
        sc!(SYS_futex_waitv, list, n, flags, timeout, clock)
    };
    let good = one(0, w, FUTEX2_U32);
    p!(
        call(at(&good), 0, 0, 0, 0),
        call(at(&good), 129, 0, 0, 0),
        call(at(&good), 1, 1, 0, 0),
        call(8, 1, 0, 0, 0),
        call(0, 1, 0, 0, 0)
    );
    p!(
        call(at(&one(1, w, FUTEX2_U32)), 1, 0, 0, 0),
        call(at(&one(0, w + 1, FUTEX2_U32)), 1, 0, 0, 0),
        call(at(&one(0, 8, FUTEX2_U32)), 1, 0, 0, 0)
    );
    p!(
        call(at(&one(0, w, 0)), 1, 0, 0, 0),
        call(at(&one(0, w, FUTEX2_U32 | 64)), 1, 0, 0, 0),
        call(at(&[0, w, 2 | 1 << 32]), 1, 0, 0, 0)
    );
    let past = [0i64, 1];
    p!(
        call(at(&good), 1, 0, at(&past), CLOCK_MONOTONIC),
        call(at(&good), 1, 0, at(&past), CLOCK_REALTIME),
        call(at(&good), 1, 0, at(&past), CLOCK_TAI)
    );
    let many: Vec<u64> = (0..128u64).flat_map(|i| one(0, w + 4 * i, FUTEX2_U32)).collect();
    let pid = child(|| call(at(many.as_slice()), 128, 0, 0, 0).fd());
    p!(wake_all(w + 4 * 100, 1), wait(pid));
}

fn a_word_in_a_file_by_two_processes() {
    put(c"f", vec![0u8; 8192]);
    let fd = open(c"f", O_RDWR, 0).fd();
    let map = || mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0).addr();
    let pid = sleeper(|| futex_wait(map() + PAGE, 0, 20_000));
    let private = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0).addr();
    p!(
        futex_wake(private + PAGE, 1),
        futex(map() + PAGE, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0u64, 0, 0),
        futex_wake(map(), 1)
    );
    p!(futex_wake(map() + PAGE, 1), wait(pid));
}

fn lists_of_locks_at_the_end() {
    // A thread's list names a lock that it is about to take; the lock is told of its death.
    let shared = shared(1);
    let list = shared + 64;
    p!(run(|| {
        // head.next, head.futex_offset, head.list_op_pending
        fill(
            list,
            &[list.to_le_bytes(), 16u64.to_le_bytes(), (shared + 16).to_le_bytes()].concat(),
        );
        word(shared + 32).store(gettid() as u32, SeqCst);
        p!(sc!(SYS_set_robust_list, list, 24), sc!(SYS_set_robust_list, list, 23));
        let (mut head, mut len) = (0u64, 0u64);
        p!(sc!(SYS_get_robust_list, 0, at_mut(&mut head), at_mut(&mut len)), head == list, len);
        0
    }));
    p!(
        format!("{:#x}", word(shared + 32).load(SeqCst)),
        sc!(SYS_get_robust_list, 0x7fff_fff0, 8u64, 8u64)
    );
    p!(sc!(SYS_get_robust_list, 0, 8u64, 8u64));
}

cases![
    unknown_operations,
    empty_bit_sets,
    timeouts_at_their_edges,
    the_value_is_looked_at_first,
    words_in_memory_of_every_kind,
    counts_of_waking,
    bits_choose_who_wakes,
    operations_on_the_second_word,
    locks_with_owners,
    an_owner_that_died,
    the_newer_waiting,
    the_newer_requeueing,
    vectors_at_their_edges,
    a_word_in_a_file_by_two_processes,
    lists_of_locks_at_the_end,
];
