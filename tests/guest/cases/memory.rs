//! mmap, munmap, mprotect and fork, on anonymous and shared memory.

use crate::prelude::*;

const RW: i32 = PROT_READ | PROT_WRITE;
const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

fn anonymous_memory_is_zero_and_writable() {
    let a = anon(3);
    p!(peek(a), peek(a + 2 * PAGE + 4095));
    p!(poke(a + PAGE, 7), peek(a + PAGE), peek(a + PAGE + 1));
    p!(munmap(a, 3 * PAGE), peek(a));
}

fn mmap_is_page_aligned_and_rounds_length() {
    let a = mmap(0, 5000, RW, ANON, -1, 0).addr();
    p!(a % PAGE, poke(a + 2 * PAGE - 1, 3), munmap(a, 1), peek(a), peek(a + PAGE));
}

fn mmap_errors() {
    p!(mmap(0, 0, RW, ANON, -1, 0));
    p!(mmap(0, PAGE, RW, MAP_ANONYMOUS, -1, 0));
    p!(mmap(0, PAGE, RW, MAP_PRIVATE | MAP_SHARED | MAP_ANONYMOUS, -1, 0).ok());
    p!(mmap(0, PAGE, RW, MAP_PRIVATE, -1, 0), mmap(0, PAGE, RW, MAP_PRIVATE, 1000, 0));
    p!(mmap(0, u64::MAX, RW, ANON, -1, 0), mmap(0, 1 << 47, RW, ANON, -1, 0));
    p!(mmap(0, u64::MAX - PAGE, RW, ANON, -1, 0));
    p!(mmap(12345, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    p!(mmap(1 << 47, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    p!(mmap(u64::MAX - PAGE + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0));
}

fn mmap_file_offset_errors() {
    put(c"f", "data");
    let fd = open(c"f", O_RDWR, 0).fd();
    p!(mmap(0, PAGE, RW, MAP_PRIVATE, fd, 1), mmap(0, PAGE, RW, MAP_PRIVATE, fd, 4095));
    p!(mmap(0, PAGE, RW, MAP_PRIVATE, fd, -4096));
}

fn mmap_hint_is_taken_when_free() {
    let a = anon(4);
    munmap(a, 4 * PAGE);
    p!(mmap(a, PAGE, RW, ANON, -1, 0).addr() == a);
    p!(mmap(a, PAGE, RW, ANON, -1, 0).addr() == a);
    p!(mmap(a + PAGE + 5, PAGE, RW, ANON, -1, 0).addr() == a + PAGE);
}

fn map_fixed_replaces() {
    let a = anon(3);
    poke(a, 1);
    poke(a + PAGE, 2);
    poke(a + 2 * PAGE, 3);
    p!(mmap(a + PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0).addr() == a + PAGE);
    p!(peek(a), peek(a + PAGE), peek(a + 2 * PAGE));
}

fn map_fixed_noreplace() {
    let a = anon(2);
    let flags = ANON | MAP_FIXED_NOREPLACE;
    p!(mmap(a, PAGE, RW, flags, -1, 0), mmap(a + PAGE, 4 * PAGE, RW, flags, -1, 0));
    munmap(a, 2 * PAGE);
    p!(mmap(a, PAGE, RW, flags, -1, 0).addr() == a);
}

fn map_32bit() {
    let a = mmap(0, PAGE, RW, ANON | MAP_32BIT, -1, 0);
    p!(a.ok(), a.addr() < 1 << 31, poke(a.addr(), 1));
}

fn map_growsdown_and_populate() {
    let a = mmap(0, 4 * PAGE, RW, ANON | MAP_POPULATE, -1, 0).addr();
    p!(poke(a + 3 * PAGE, 1));
    ok!(mmap(0, PAGE, RW, ANON | MAP_GROWSDOWN, -1, 0));
    ok!(mmap(0, PAGE, RW, ANON | MAP_NORESERVE | MAP_STACK, -1, 0));
}

fn shared_anonymous_after_fork() {
    let a = shared(1);
    poke(a, 1);
    p!(run(|| {
        poke(a, 2);
        0
    }));
    p!(peek(a));
}

fn shared_mapping_made_in_child_stays_there() {
    let a = anon(1);
    munmap(a, PAGE);
    p!(run(|| {
        let b = mmap(a, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0).addr();
        p!(poke(b, 1));
        0
    }));
    p!(peek(a));
}

fn private_is_copied_on_write_after_fork() {
    let a = anon(2);
    poke(a, 1);
    let to_child = pipe(0);
    let pid = child(|| {
        rd(to_child[0], 1);
        p!(peek(a), poke(a + PAGE, 9), peek(a + PAGE));
        0
    });
    poke(a, 5);
    wr(to_child[1], "x");
    p!(wait(pid), peek(a), peek(a + PAGE));
}

fn copy_on_write_through_three_generations() {
    let a = anon(1);
    poke(a, 1);
    p!(run(|| {
        poke(a, 2);
        p!(run(|| {
            p!(peek(a), poke(a, 3));
            run(|| i32::from(peek(a) != Touch::Value(3))).code()
        }));
        p!(peek(a));
        0
    }));
    p!(peek(a));
}

fn kernel_writes_copy_on_write_too() {
    let a = anon(1);
    poke(a, b'o');
    let fds = pipe(0);
    p!(run(|| {
        wr(fds[1], "new");
        p!(sc!(SYS_read, fds[0], a, 3));
        p!(peek(a));
        0
    }));
    p!(peek(a));
}

fn write_to_read_only_page() {
    let a = mmap(0, PAGE, PROT_READ, ANON, -1, 0).addr();
    p!(peek(a), poke(a, 1));
    p!(mprotect(a, PAGE, RW), poke(a, 1), peek(a));
}

fn prot_none_and_back() {
    let a = anon(1);
    poke(a, 42);
    p!(mprotect(a, PAGE, PROT_NONE), peek(a), poke(a, 1));
    p!(mprotect(a, PAGE, PROT_READ), peek(a), poke(a, 1));
}

fn prot_write_implies_read() {
    let a = mmap(0, PAGE, PROT_WRITE, ANON, -1, 0).addr();
    p!(poke(a, 3), peek(a));
}

fn execute_protection() {
    let a = anon(1);
    // mov eax, 77; ret
    fill(a, &[0xb8, 77, 0, 0, 0, 0xc3]);
    p!(call(a), mprotect(a, PAGE, PROT_READ | PROT_EXEC), call(a), poke(a, 1));
    p!(mprotect(a, PAGE, PROT_READ), call(a));
}

fn code_rewritten_in_place() {
    let a = mmap(0, PAGE, RW | PROT_EXEC, ANON, -1, 0).addr();
    for n in [1u8, 2, 3] {
        fill(a, &[0xb8, n, 0, 0, 0, 0xc3]);
        p!(call(a));
    }
}

fn call_of_unmapped_address() {
    let a = anon(1);
    munmap(a, PAGE);
    p!(call(a));
}

fn mprotect_splits_and_merges() {
    let a = anon(5);
    p!(mprotect(a + PAGE, 3 * PAGE, PROT_READ), poke(a, 1), poke(a + PAGE, 1));
    p!(mprotect(a + 2 * PAGE, PAGE, RW), poke(a + 2 * PAGE, 1), poke(a + 3 * PAGE, 1));
    p!(poke(a + 4 * PAGE, 1), mprotect(a, 5 * PAGE, RW), poke(a + 3 * PAGE, 1));
}

fn mprotect_errors() {
    let a = anon(3);
    p!(mprotect(a + 1, PAGE, RW), mprotect(a, 0, RW), mprotect(a, PAGE, 0x100));
    munmap(a + PAGE, PAGE);
    p!(mprotect(a, 3 * PAGE, PROT_READ), poke(a, 1), poke(a + 2 * PAGE, 1));
    p!(mprotect(a + PAGE, PAGE, PROT_READ), mprotect(a, u64::MAX, PROT_READ));
    p!(mprotect(a, PAGE, PROT_GROWSDOWN | PROT_GROWSUP | PROT_READ));
}

fn munmap_hole_and_errors() {
    let a = anon(3);
    p!(munmap(a + PAGE, PAGE), peek(a), peek(a + PAGE), peek(a + 2 * PAGE));
    p!(munmap(a + PAGE, PAGE), munmap(a, 0), munmap(a + 1, PAGE), munmap(0, 1 << 48));
    p!(munmap(a, 3 * PAGE), peek(a + 2 * PAGE));
    // Up to the last page a program can name.
    let end = (1 << 47) - PAGE;
    p!(munmap(end - PAGE, PAGE), munmap(end - PAGE, 2 * PAGE), munmap(end, PAGE));
    p!(run(|| munmap(0, end).errno()));
}

fn munmap_across_two_mappings() {
    let a = anon(4);
    mmap(a + 2 * PAGE, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    p!(munmap(a + PAGE, 2 * PAGE));
    p!(peek(a), peek(a + PAGE), peek(a + 2 * PAGE), peek(a + 3 * PAGE));
}

fn null_page_is_not_mapped() {
    p!(peek(0), poke(8, 1), peek(4095));
    p!(peek(0xffff_8000_0000_0000), peek(u64::MAX));
}

fn non_canonical_address() {
    // The processor reports no address for these.
    p!(peek(0x8000_0000_0000_0000));
}

fn large_sparse_mapping() {
    let gib = 64u64 << 30;
    let a = mmap(0, gib, RW, ANON | MAP_NORESERVE, -1, 0).addr();
    p!(a != 0, poke(a, 1), poke(a + gib - 1, 2), poke(a + gib / 2, 3), peek(a + gib / 2));
    p!(munmap(a, gib), peek(a));
}

fn many_mappings() {
    let mut all: Vec<u64> = Vec::new();
    for i in 0..500u64 {
        let prot = if i % 2 == 0 { RW } else { PROT_READ };
        all.push(mmap(0, PAGE, prot, ANON, -1, 0).addr());
    }
    p!(all.iter().all(|&a| a != 0));
    p!(all.iter().step_by(2).all(|&a| poke(a, 1) == Touch::Value(1)));
    p!(all.iter().all(|&a| munmap(a, PAGE).ok()));
}

fn partial_buffers_at_the_end_of_a_mapping() {
    let a = anon(2);
    munmap(a + PAGE, PAGE);
    let fds = pipe(0);
    wr(fds[1], "abcdefgh");
    p!(sc!(SYS_read, fds[0], a + PAGE, 8));
    p!(sc!(SYS_read, fds[0], a + PAGE - 4, 4), sc!(SYS_read, fds[0], a + PAGE - 4, 4));
    p!(copy(a + PAGE - 4, 4).escape_ascii().to_string());
    p!(sc!(SYS_write, fds[1], a + PAGE, 1), sc!(SYS_write, fds[1], 0u64, 1));
    p!(sc!(SYS_write, fds[1], a + PAGE, 0));
}

fn kernel_respects_protection() {
    let a = anon(1);
    let fds = pipe(0);
    wr(fds[1], "abc");
    mprotect(a, PAGE, PROT_READ);
    p!(sc!(SYS_read, fds[0], a, 1), sc!(SYS_write, fds[1], a, 1));
    mprotect(a, PAGE, PROT_NONE);
    p!(sc!(SYS_write, fds[1], a, 1), sc!(SYS_uname, a));
}

fn stack_grows_on_demand() {
    fn deep(n: u32) -> u64 {
        let block = [n as u8; 4096];
        let below = if n == 0 { 0 } else { deep(n - 1) };
        std::hint::black_box(&block).iter().map(|&b| u64::from(b)).sum::<u64>() + below
    }
    p!(deep(500));
}

fn stack_overflow_is_a_fault() {
    p!(run(|| {
        fn forever(n: u64) -> u64 {
            let block = [n; 512];
            if std::hint::black_box(n) == u64::MAX { 0 } else { forever(n + 1) + block[0] }
        }
        setrlimit(RLIMIT_STACK, 1 << 20);
        std::hint::black_box(forever(1)) as i32
    }));
}

fn setrlimit(which: u32, value: u64) -> Ret {
    sc!(SYS_prlimit64, 0, which, at(&[value, value]), 0u64)
}

fn address_space_limit() {
    p!(run(|| {
        let a = anon(1);
        p!(setrlimit(RLIMIT_AS, 1 << 30), mmap(0, 1 << 31, RW, ANON, -1, 0));
        p!(mmap(0, PAGE, RW, ANON, -1, 0).ok(), munmap(a, PAGE));
        p!(sc!(SYS_mremap, anon(1), PAGE, 1u64 << 31, MREMAP_MAYMOVE));
        0
    }));
}

fn data_limit() {
    p!(run(|| {
        p!(setrlimit(RLIMIT_DATA, 1 << 24), mmap(0, 1 << 25, RW, ANON, -1, 0));
        p!(mmap(0, 1 << 25, PROT_READ, ANON, -1, 0).ok());
        0
    }));
}

fn mappings_survive_fork_of_a_fork() {
    let s = shared(1);
    p!(run(|| {
        let inner = shared(1);
        p!(run(|| {
            poke(s, 8);
            poke(inner, 9);
            0
        }));
        p!(peek(inner));
        0
    }));
    p!(peek(s));
}

fn exec_drops_mappings() {
    let a = shared(1);
    p!(helper(&["exit", "4"]), poke(a, 1));
}

fn vforked_child_shares_memory() {
    extern "C" fn entry(arg: *mut c_void) -> i32 {
        poke(arg as u64, 77);
        exit(3)
    }
    let a = anon(1);
    let pid = spawn(CLONE_VM | CLONE_VFORK | SIGCHLD, entry, a, 0, 0);
    p!(peek(a), wait(pid.fd()));
}

fn process_vm_readv_of_a_child() {
    let a = anon(1);
    poke(a, b'p');
    let pid = child(|| {
        poke(a, b'c');
        raise(SIGSTOP);
        0
    });
    p!(wait_opt(pid, WUNTRACED));
    let mut byte = [0u8; 1];
    let local = iov(&[(at_mut(&mut byte), 1)]);
    let remote = iov(&[(a, 1)]);
    p!(sc!(SYS_process_vm_readv, pid, at(&*local), 1, at(&*remote), 1, 0));
    p!(byte.escape_ascii().to_string(), peek(a) == Touch::Value(b'p'));
    p!(sc!(SYS_process_vm_readv, pid, at(&*local), 1, at(&*iov(&[(0, 1)])), 1, 0));
    p!(sc!(SYS_process_vm_writev, pid, at(&*local), 1, at(&*remote), 1, 1));
    p!(sc!(SYS_process_vm_readv, 0x7fff_fff0, at(&*local), 1, at(&*remote), 1, 0));
    kill(pid, SIGKILL);
    p!(wait(pid));
}

cases![
    anonymous_memory_is_zero_and_writable,
    mmap_is_page_aligned_and_rounds_length,
    mmap_errors,
    mmap_file_offset_errors,
    mmap_hint_is_taken_when_free,
    map_fixed_replaces,
    map_fixed_noreplace,
    map_32bit,
    map_growsdown_and_populate,
    shared_anonymous_after_fork,
    shared_mapping_made_in_child_stays_there,
    private_is_copied_on_write_after_fork,
    copy_on_write_through_three_generations,
    kernel_writes_copy_on_write_too,
    write_to_read_only_page,
    prot_none_and_back,
    prot_write_implies_read,
    execute_protection,
    code_rewritten_in_place,
    call_of_unmapped_address,
    mprotect_splits_and_merges,
    mprotect_errors,
    munmap_hole_and_errors,
    munmap_across_two_mappings,
    null_page_is_not_mapped,
    non_canonical_address,
    large_sparse_mapping,
    many_mappings,
    partial_buffers_at_the_end_of_a_mapping,
    kernel_respects_protection,
    stack_grows_on_demand,
    stack_overflow_is_a_fault,
    address_space_limit,
    data_limit,
    mappings_survive_fork_of_a_fork,
    exec_drops_mappings,
    vforked_child_shares_memory,
    process_vm_readv_of_a_child,
];
