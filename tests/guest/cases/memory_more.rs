//! mremap, brk, madvise, msync, mlock and mincore.

use crate::prelude::*;

const RW: i32 = PROT_READ | PROT_WRITE;

fn mremap(a: u64, old: u64, new: u64, flags: i32, to: u64) -> Ret {
    sc!(SYS_mremap, a, old, new, flags, to)
}
fn madvise(a: u64, len: u64, advice: i32) -> Ret {
    sc!(SYS_madvise, a, len, advice)
}

fn mremap_grows_by_moving() {
    let a = anon(1);
    poke(a, 5);
    mmap(a + PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    p!(mremap(a, PAGE, 4 * PAGE, 0, 0));
    let b = mremap(a, PAGE, 4 * PAGE, MREMAP_MAYMOVE, 0).addr();
    p!(b != a, peek(b), poke(b + 3 * PAGE, 6), peek(a));
}

fn mremap_shrinks_in_place() {
    let a = anon(3);
    poke(a, 5);
    p!(mremap(a, 3 * PAGE, PAGE, 0, 0).addr() == a, peek(a), peek(a + PAGE));
}

fn mremap_grows_in_place_when_free() {
    let a = anon(4);
    poke(a, 9);
    munmap(a + PAGE, 3 * PAGE);
    p!(mremap(a, PAGE, 3 * PAGE, 0, 0).addr() == a, peek(a), poke(a + 2 * PAGE, 1));
}

fn mremap_fixed() {
    let (a, b) = (anon(2), anon(2));
    poke(a + PAGE, 3);
    poke(b, 4);
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    p!(mremap(a, 2 * PAGE, 2 * PAGE, flags, b).addr() == b, peek(b), peek(b + PAGE), peek(a));
    p!(mremap(b, 2 * PAGE, 2 * PAGE, flags, b + PAGE), mremap(b, PAGE, PAGE, flags, b + 1));
    p!(mremap(b, PAGE, PAGE, MREMAP_FIXED, a));
}

fn mremap_dontunmap() {
    let a = anon(2);
    poke(a, 3);
    let flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
    let b = mremap(a, 2 * PAGE, 2 * PAGE, flags, 0).addr();
    p!(b != a, peek(b), peek(a), mremap(b, 2 * PAGE, PAGE, flags, 0));
}

fn mremap_errors() {
    let a = anon(3);
    p!(mremap(a + 1, PAGE, PAGE, 0, 0), mremap(a, PAGE, 0, 0, 0), mremap(a, PAGE, PAGE, 64, 0));
    munmap(a + PAGE, PAGE);
    p!(mremap(a + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0));
    p!(mremap(a, 3 * PAGE, 4 * PAGE, MREMAP_MAYMOVE, 0));
    p!(mremap(a, PAGE, 1 << 48, MREMAP_MAYMOVE, 0), mremap(a, 0, PAGE, MREMAP_MAYMOVE, 0));
}

fn mremap_of_shared_memory_duplicates_with_old_size_zero() {
    let a = shared(1);
    let b = mremap(a, 0, PAGE, MREMAP_MAYMOVE, 0).addr();
    p!(b != a, poke(a, 12), peek(b), poke(b, 13), peek(a));
}

fn mremap_moves_file_mapping() {
    put(c"f", vec![b'x'; 3 * PAGE as usize]);
    let fd = open(c"f", O_RDWR, 0).fd();
    let a = mmap(0, PAGE, RW, MAP_SHARED, fd, PAGE as i64).addr();
    let b = mremap(a, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0).addr();
    p!(poke(b + PAGE, b'z'), pread(fd, 1, 2 * PAGE as i64), peek(b));
}

fn brk_moves_the_break() {
    let start = sc!(SYS_brk, 0u64).addr();
    p!(start != 0, sc!(SYS_brk, start + 3 * PAGE).addr() == start + 3 * PAGE);
    p!(poke(start + 2 * PAGE, 1), peek(start + 3 * PAGE - 1));
    p!(sc!(SYS_brk, start).addr() == start, peek(start + 2 * PAGE));
    sc!(SYS_brk, start + 3 * PAGE);
    p!(peek(start + 2 * PAGE));
}

fn brk_refuses_nonsense() {
    let start = sc!(SYS_brk, 0u64).addr();
    p!(sc!(SYS_brk, 1u64).addr() == start, sc!(SYS_brk, u64::MAX).addr() == start);
    p!(sc!(SYS_brk, 1u64 << 47).addr() == start);
}

fn brk_stops_at_a_mapping() {
    let start = sc!(SYS_brk, 0u64).addr().next_multiple_of(PAGE);
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    p!(mmap(start + 16 * PAGE, PAGE, RW, flags, -1, 0).ok());
    p!(sc!(SYS_brk, start + 32 * PAGE).addr() < start + 16 * PAGE);
    p!(sc!(SYS_brk, start + 8 * PAGE).addr() == start + 8 * PAGE);
}

fn brk_is_per_process() {
    let start = sc!(SYS_brk, 0u64).addr();
    p!(run(|| {
        p!(sc!(SYS_brk, 0u64).addr() == start);
        p!(sc!(SYS_brk, start + PAGE).addr() == start + PAGE);
        0
    }));
    p!(sc!(SYS_brk, 0u64).addr() == start);
}

fn dontneed_zeroes_private_memory() {
    let a = anon(3);
    for i in 0..3 {
        poke(a + i * PAGE, 1);
    }
    p!(madvise(a + PAGE, PAGE, MADV_DONTNEED), peek(a), peek(a + PAGE), peek(a + 2 * PAGE));
}

fn dontneed_keeps_shared_memory() {
    let a = shared(1);
    poke(a, 1);
    p!(madvise(a, PAGE, MADV_DONTNEED), peek(a), madvise(a, PAGE, MADV_REMOVE), peek(a));
}

fn dontneed_on_private_file_rereads() {
    put(c"f", "file");
    let fd = open(c"f", O_RDWR, 0).fd();
    let a = mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0).addr();
    p!(poke(a, b'X'), madvise(a, PAGE, MADV_DONTNEED), peek(a) == Touch::Value(b'f'));
}

fn dontneed_after_fork_only_affects_one() {
    let a = anon(1);
    poke(a, 4);
    p!(run(|| {
        p!(madvise(a, PAGE, MADV_DONTNEED), peek(a));
        0
    }));
    p!(peek(a));
}

fn madvise_errors() {
    let a = anon(3);
    p!(madvise(a + 1, PAGE, MADV_DONTNEED), madvise(a, PAGE, 9999), madvise(a, 0, MADV_DONTNEED));
    munmap(a + PAGE, PAGE);
    p!(madvise(a, 3 * PAGE, MADV_DONTNEED), madvise(a, u64::MAX, MADV_NORMAL));
}

fn madvise_hints_succeed() {
    let a = anon(2);
    for advice in [MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTFORK] {
        p!(advice, madvise(a, 2 * PAGE, advice));
    }
    p!(madvise(a, PAGE, MADV_DOFORK), madvise(a, PAGE, MADV_DONTDUMP));
    p!(madvise(a, PAGE, MADV_DODUMP));
    p!(madvise(a, PAGE, MADV_COLD), madvise(a, PAGE, MADV_PAGEOUT), peek(a));
}

fn dontfork_hides_memory_from_the_child() {
    let a = anon(2);
    poke(a, 1);
    poke(a + PAGE, 2);
    p!(madvise(a, PAGE, MADV_DONTFORK));
    p!(run(|| {
        p!(peek(a), peek(a + PAGE));
        0
    }));
    p!(madvise(a, PAGE, MADV_DOFORK));
    p!(run(|| i32::from(peek(a) != Touch::Value(1))));
}

fn wipeonfork_zeroes_in_the_child() {
    let a = anon(1);
    poke(a, 1);
    p!(madvise(a, PAGE, MADV_WIPEONFORK), run(|| i32::from(peek(a) != Touch::Value(0))), peek(a));
    p!(madvise(shared(1), PAGE, MADV_WIPEONFORK));
    p!(madvise(a, PAGE, MADV_KEEPONFORK), run(|| i32::from(peek(a) != Touch::Value(1))));
}

fn free_is_only_for_private_anonymous() {
    put(c"f", "x");
    let fd = open(c"f", O_RDWR, 0).fd();
    let a = mmap(0, PAGE, RW, MAP_SHARED, fd, 0).addr();
    p!(madvise(a, PAGE, MADV_FREE), madvise(anon(1), PAGE, MADV_FREE));
}

fn populate_write_and_read() {
    let a = anon(2);
    p!(madvise(a, 2 * PAGE, MADV_POPULATE_WRITE), peek(a), madvise(a, PAGE, MADV_POPULATE_READ));
    mprotect(a, PAGE, PROT_READ);
    p!(madvise(a, PAGE, MADV_POPULATE_WRITE), madvise(a, PAGE, MADV_POPULATE_READ));
}

fn msync_flags() {
    let a = shared(2);
    let msync = |addr: u64, len: u64, flags: i32| sc!(SYS_msync, addr, len, flags);
    p!(msync(a, PAGE, MS_SYNC), msync(a, PAGE, MS_ASYNC), msync(a, PAGE, MS_INVALIDATE));
    p!(msync(a, PAGE, MS_SYNC | MS_ASYNC), msync(a + 1, PAGE, MS_SYNC), msync(a, PAGE, 64));
    p!(msync(a, 0, MS_SYNC));
    munmap(a + PAGE, PAGE);
    p!(msync(a, 2 * PAGE, MS_SYNC));
}

fn mlock_and_munlock() {
    let a = anon(2);
    p!(sc!(SYS_mlock, a, PAGE), sc!(SYS_munlock, a, PAGE), sc!(SYS_mlock2, a, PAGE, MLOCK_ONFAULT));
    p!(sc!(SYS_mlock2, a, PAGE, 4), sc!(SYS_mlockall, 0), sc!(SYS_mlockall, 64));
    munmap(a + PAGE, PAGE);
    p!(sc!(SYS_mlock, a, 2 * PAGE), sc!(SYS_munlock, a + PAGE, PAGE), sc!(SYS_munlockall));
}

fn mlock_limit_for_users() {
    p!(run(|| {
        sc!(SYS_prlimit64, 0, RLIMIT_MEMLOCK, at(&[PAGE, PAGE]), 0u64);
        sc!(SYS_setresuid, 1000, 1000, 1000);
        let a = anon(3);
        p!(sc!(SYS_mlock, a, PAGE), sc!(SYS_mlock, a + PAGE, 2 * PAGE), sc!(SYS_munlock, a, PAGE));
        p!(sc!(SYS_mlock, a + PAGE, PAGE));
        0
    }));
}

fn mincore_reports_residence() {
    let a = anon(2);
    poke(a, 1);
    let mut vec = [9u8; 2];
    p!(sc!(SYS_mincore, a, 2 * PAGE, &mut vec), vec[0] & 1);
    p!(sc!(SYS_mincore, a + 1, PAGE, &mut vec), sc!(SYS_mincore, a, PAGE, 0u64));
    munmap(a + PAGE, PAGE);
    p!(sc!(SYS_mincore, a, 2 * PAGE, &mut vec));
}

fn remap_file_pages_and_others() {
    p!(sc!(SYS_remap_file_pages, anon(1), PAGE, 0, 0, 0));
    let key = sc!(SYS_pkey_mprotect, anon(1), PAGE, PROT_READ, -1);
    p!(key, sc!(SYS_pkey_mprotect, anon(1), PAGE, PROT_READ, 99), sc!(SYS_pkey_free, 99));
}

fn membarrier_query() {
    const QUERY: i32 = 0;
    const PRIVATE_EXPEDITED: i32 = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
    p!(sc!(SYS_membarrier, QUERY, 0, 0).0 & 0x18, sc!(SYS_membarrier, PRIVATE_EXPEDITED, 0, 0));
    p!(sc!(SYS_membarrier, REGISTER_PRIVATE_EXPEDITED, 0, 0));
    p!(sc!(SYS_membarrier, PRIVATE_EXPEDITED, 0, 0), sc!(SYS_membarrier, 1 << 30, 0, 0));
    p!(sc!(SYS_membarrier, QUERY, 1, 0));
}

fn remove_frees_pages_of_a_memory_file() {
    let fd = sc!(SYS_memfd_create, c"m", 0).fd();
    ftruncate(fd, 3 * PAGE as i64);
    let a = mmap(0, 3 * PAGE, RW, MAP_SHARED, fd, 0).addr();
    for i in 0..3 {
        poke(a + i * PAGE, 7);
    }
    p!(madvise(a + PAGE, PAGE, MADV_REMOVE), peek(a), peek(a + PAGE), peek(a + 2 * PAGE));
    p!(poke(a + PAGE, 8), peek(a + PAGE), madvise(a, PAGE, MADV_FREE));
    munmap(a + PAGE, PAGE);
    p!(madvise(a, 3 * PAGE, MADV_REMOVE), peek(a), peek(a + 2 * PAGE));
}

fn signals_do_not_interrupt_move_pages() {
    let a = anon(1);
    poke(a, 1);
    let (pages, mut status) = ([a; 2048], [-1; 2048]);
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 1, 1);
    let mut failed = 0;
    for _ in 0..20 {
        let moved = sc!(SYS_move_pages, 0, pages.len(), at(&pages), 0u64, at_mut(&mut status), 0);
        failed += usize::from(moved.0 != 0);
    }
    setitimer(ITIMER_REAL, 0, 0);
    p!(failed, status.iter().all(|node| *node == 0));
}

cases![
    signals_do_not_interrupt_move_pages,
    remove_frees_pages_of_a_memory_file,
    mremap_grows_by_moving,
    mremap_shrinks_in_place,
    mremap_grows_in_place_when_free,
    mremap_fixed,
    mremap_dontunmap,
    mremap_errors,
    mremap_of_shared_memory_duplicates_with_old_size_zero,
    mremap_moves_file_mapping,
    brk_moves_the_break,
    brk_refuses_nonsense,
    brk_stops_at_a_mapping,
    brk_is_per_process,
    dontneed_zeroes_private_memory,
    dontneed_keeps_shared_memory,
    dontneed_on_private_file_rereads,
    dontneed_after_fork_only_affects_one,
    madvise_errors,
    madvise_hints_succeed,
    dontfork_hides_memory_from_the_child,
    wipeonfork_zeroes_in_the_child,
    free_is_only_for_private_anonymous,
    populate_write_and_read,
    msync_flags,
    mlock_and_munlock,
    mlock_limit_for_users,
    mincore_reports_residence,
    remap_file_pages_and_others,
    membarrier_query,
];
