//! Places that make system calls again and again: whatever a kernel does to make them fast is not seen.

use crate::prelude::*;
use crate::sys::site::{
    After, CALL, TAIL, TAIL_CALL, enter, heat, interrupted, interruptions, load, load_alone, map,
    map_again, near, watch,
};

const RX: i32 = PROT_READ | PROT_EXEC;
/// Arguments where the code loads the number and the call has none.
const NOBODY: [u64; 5] = [0; 5];
const CARRY: u64 = 1;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const DIRECTION: u64 = 1 << 10;
const OVERFLOW: u64 = 1 << 11;
const ARITHMETIC: u64 = CARRY | 1 << 2 | 1 << 4 | ZERO | SIGN | OVERFLOW;

fn parent() -> i64 {
    i64::from(getppid())
}
/// A hot `getppid` with the number before it.
fn hot_load() -> u64 {
    let code = map(c"code", &load(SYS_getppid));
    heat(code, NOBODY);
    code
}
/// A hot place with an instruction behind it.
fn hot_tail() -> u64 {
    let code = map(c"code", &TAIL);
    heat(code, [SYS_getppid as u64, 0, 0, 0, 0]);
    code
}

fn results_stay_right() {
    let (a, b) = (map(c"a", &load(SYS_getppid)), map(c"b", &TAIL));
    let mut right = true;
    for _ in 0..5000 {
        right &= enter(a, NOBODY, 0x202).rax == parent();
        right &= enter(b, [SYS_getppid as u64, 0, 0, 0, 0], 0x202).rax == parent();
    }
    p!(right);
    // Another call from a place that has always made the same one.
    p!(enter(b, [SYS_getuid as u64, 0, 0, 0, 0], 0x202).rax);
    p!(enter(b, [SYS_close as u64, u64::MAX, 0, 0, 0], 0x202).rax);
    p!(enter(b, [u64::MAX, 0, 0, 0, 0], 0x202).rax, enter(b, [5000, 0, 0, 0, 0], 0x202).rax);
}

fn stack_and_direction_behind_a_call() {
    let code = hot_load();
    let after = enter(code, NOBODY, 0x202);
    p!(after.rax == parent(), after.red_zone);
    let after = enter(code, NOBODY, 0x202 | DIRECTION);
    p!(after.flags & DIRECTION, after.rax == parent());
}

fn flags_through_thousands_of_calls() {
    let code = map(c"code", &load(SYS_getppid));
    let (mut wrong, mut zones) = (0, 0);
    for i in 0..20_000u64 {
        let flags = [0, CARRY, ZERO, SIGN, OVERFLOW, ARITHMETIC][i as usize % 6];
        let after = enter(code, NOBODY, 0x202 | flags);
        wrong += i32::from(after.flags & ARITHMETIC != flags);
        zones += i32::from(!after.red_zone);
    }
    p!(wrong, zones);
}

fn where_a_call_returned_to() {
    let code = map(c"code", &load(SYS_getppid));
    let (mut places, mut flags) = (0, 0);
    for _ in 0..20_000 {
        let After { rcx, r11, .. } = enter(code, NOBODY, 0x202 | CARRY);
        places += i32::from(rcx != code + CALL + 2);
        flags += i32::from(r11 & ARITHMETIC != CARRY);
    }
    p!(places, flags);
}

fn nothing_else_behind_a_call() {
    let code = map(c"code", &load_alone(SYS_getppid));
    let (mut places, mut flags, mut results) = (0, 0, 0);
    for _ in 0..20_000 {
        let After { rax, rcx, r11, .. } = enter(code, NOBODY, 0x202 | CARRY);
        places += i32::from(rcx != code + CALL + 2);
        flags += i32::from(r11 & ARITHMETIC != CARRY);
        results += i32::from(rax != parent());
    }
    p!(places, flags, results, copy(code, 13) == load_alone(SYS_getppid));
    p!(enter(code + CALL, [SYS_getuid as u64, 0, 0, 0, 0], 0x202).rax);
    p!(enter(code + CALL + 2, [7, 0, 0, 0, 0], 0x202).rax);
}

fn where_a_call_with_a_comparison_returned_to() {
    let code = map(c"code", &TAIL);
    let (mut places, mut flags) = (0, 0);
    for _ in 0..20_000 {
        let after = enter(code, [SYS_getppid as u64, 0, 0, 0, 0], 0x202 | OVERFLOW);
        places += i32::from(after.rcx != code + TAIL_CALL + 2);
        flags += i32::from(after.r11 & ARITHMETIC != OVERFLOW);
    }
    p!(places, flags);
}

fn opened_for_writing_while_used() {
    let code = map(c"code", &load_alone(SYS_getppid));
    p!(heat(code, NOBODY) == parent());
    let others =
        [(SYS_getuid, sc!(SYS_getuid).0), (SYS_getppid, parent()), (SYS_getgid, sc!(SYS_getgid).0)];
    for (number, want) in others {
        let fd = open(c"code", O_RDWR, 0);
        p!(heat(code, NOBODY) == enter(code, NOBODY, 0x202).rax);
        p!(pwrite(fd, load_alone(number), 0), close(fd));
        p!(heat(code, NOBODY) == want, copy(code, 13) == load_alone(number));
    }
}

fn comparison_behind_a_call() {
    let code = hot_tail();
    let after = enter(code, [SYS_close as u64, u64::MAX, 0, 0, 0], 0x202);
    p!(after.rax, after.flags & CARRY);
    let after = enter(code, [SYS_getppid as u64, 0, 0, 0, 0], 0x202);
    p!(after.rax == parent(), after.flags & CARRY);
}

fn upper_half_of_the_number() {
    let code = hot_tail();
    let number = SYS_getppid as u64;
    for upper in [1 << 32, 0xffff_ffff << 32, 1 << 63] {
        p!(enter(code, [number | upper, 0, 0, 0, 0], 0x202).rax == parent());
    }
}

fn bytes_are_those_of_the_file() {
    let (a, b) = (map(c"a", &load(SYS_getppid)), map(c"b", &TAIL));
    heat(a, NOBODY);
    heat(b, [SYS_getppid as u64, 0, 0, 0, 0]);
    p!(copy(a, 12) == load(SYS_getppid), copy(b, 13) == TAIL);
    // They stay right when the place is used on.
    heat(a, NOBODY);
    p!(copy(a, 12) == load(SYS_getppid), heat(a, NOBODY) == parent());
}

fn the_kernel_reads_the_files_bytes() {
    let code = hot_load();
    let [r, w] = pipe(0);
    p!(sc!(SYS_write, w, code, 12), rd(r, 12).bytes() == load(SYS_getppid));
    let memory = open(c"/proc/self/mem", O_RDONLY, 0);
    p!(pread(memory, 12, code as i64).bytes() == load(SYS_getppid));
    let mut seen = [0u8; 12];
    let (local, remote) = (iov(&[(at_mut(&mut seen), 12)]), iov(&[(code, 12)]));
    p!(sc!(SYS_process_vm_readv, getpid(), at(&*local), 1, at(&*remote), 1, 0));
    p!(seen.as_slice() == load(SYS_getppid));
    let parent = getpid();
    p!(run(|| {
        let mut seen = [0u8; 12];
        let local = iov(&[(at_mut(&mut seen), 12)]);
        p!(sc!(SYS_process_vm_readv, parent, at(&*local), 1, at(&*remote), 1, 0));
        p!(seen.as_slice() == load(SYS_getppid));
        0
    }));
}

fn a_copy_elsewhere_runs() {
    for code in [hot_load(), hot_tail()] {
        let other = anon(1);
        fill(other, &copy(code, 64));
        p!(mprotect(other, PAGE, RX));
        p!(enter(other, [SYS_getppid as u64, 0, 0, 0, 0], 0x202).rax == parent());
        p!(heat(other, [SYS_getppid as u64, 0, 0, 0, 0]) == parent());
    }
}

fn entered_at_the_call_itself() {
    let code = hot_load();
    for _ in 0..200 {
        // Past the load: the number is the caller's.
        let after = enter(code + CALL, [SYS_getuid as u64, 0, 0, 0, 0], 0x202);
        if after.rax != 0 {
            p!(after.rax);
        }
    }
    p!(enter(code + CALL, [SYS_getppid as u64, 0, 0, 0, 0], 0x202).rax == parent());
    p!(enter(code, NOBODY, 0x202).rax == parent());
}

fn entered_behind_the_call() {
    let code = hot_tail();
    for value in [-4096i64, -4095, -1, 0, 7] {
        let after = enter(code + TAIL_CALL + 2, [value as u64, 0, 0, 0, 0], 0x202);
        p!(after.rax, after.flags & (CARRY | ZERO | SIGN));
    }
}

fn entered_within_the_number() {
    // As an instruction the number is three that do nothing, and one that clears carry.
    let mut bytes = vec![0x90, 0xb8, 0x90, 0x90, 0x90, 0xf8];
    bytes.extend_from_slice(&[0x0f, 0x05, 0xc3]);
    let code = map(c"code", &bytes);
    p!(heat(code, NOBODY));
    let after = enter(code + 2, [SYS_getppid as u64, 0, 0, 0, 0], 0x202 | CARRY);
    p!(after.rax == parent());
}

fn rewritten_in_place() {
    let code = hot_load();
    p!(mprotect(code, PAGE, PROT_READ | PROT_WRITE), copy(code, 12) == load(SYS_getppid));
    fill(code, &load(SYS_getuid));
    p!(mprotect(code, PAGE, RX), enter(code, NOBODY, 0x202).rax, heat(code, NOBODY));
    for number in [SYS_getgid, SYS_getppid, SYS_geteuid] {
        mprotect(code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
        fill(code, &load(number));
        p!(heat(code, NOBODY) == sc!(SYS_getppid).0, copy(code, 12) == load(number));
    }
}

fn a_compiler_turns_rights_on_and_off() {
    let code = anon(1);
    for round in 0..300u64 {
        let number = [SYS_getuid, SYS_getppid][round as usize % 2];
        mprotect(code, PAGE, PROT_READ | PROT_WRITE);
        fill(code, &load(number));
        mprotect(code, PAGE, RX);
        let want = if number == SYS_getuid { 0 } else { parent() };
        for _ in 0..70 {
            if enter(code, NOBODY, 0x202).rax != want {
                p!(round);
            }
        }
    }
    p!(copy(code, 12) == load(SYS_getppid));
}

fn written_through_proc() {
    let code = hot_load();
    let memory = open(c"/proc/self/mem", O_RDWR, 0);
    p!(pwrite(memory, load(SYS_getuid), code as i64), enter(code, NOBODY, 0x202).rax);
    p!(copy(code, 12) == load(SYS_getuid), heat(code, NOBODY), get(c"code").bytes()[5]);
}

fn written_to_the_file() {
    let code = hot_load();
    let fd = open(c"code", O_WRONLY, 0);
    p!(pwrite(fd, load(SYS_getuid), 0), enter(code, NOBODY, 0x202).rax);
    p!(copy(code, 12) == load(SYS_getuid), heat(code, NOBODY));
    p!(pwrite(fd, load(SYS_getppid), 0), enter(code, NOBODY, 0x202).rax == parent());
}

fn written_through_a_shared_mapping() {
    let code = hot_load();
    let fd = open(c"code", O_RDWR, 0).fd();
    let shared = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0).addr();
    fill(shared, &load(SYS_getuid));
    p!(enter(code, NOBODY, 0x202).rax, heat(code, NOBODY), copy(code, 12) == load(SYS_getuid));
}

fn cut_off_under_it() {
    let code = hot_load();
    p!(sc!(SYS_truncate, c"code", 0), call(code), peek(code));
    put(c"code", load(SYS_getuid));
    p!(call(code), peek(code));
}

fn a_shared_mapping_of_code() {
    put(c"code", vec![0xcc; PAGE as usize]);
    put(c"code", [load(SYS_getppid), vec![0xcc; PAGE as usize - 12]].concat());
    let code = map_again(c"code", MAP_SHARED);
    p!(heat(code, NOBODY) == parent(), copy(code, 12) == load(SYS_getppid));
    p!(pwrite(open(c"code", O_WRONLY, 0), load(SYS_getuid), 0), enter(code, NOBODY, 0x202).rax);
}

fn another_process_maps_the_same() {
    let code = hot_load();
    let parent = i64::from(getpid());
    p!(run(|| {
        let mine = map_again(c"code", MAP_PRIVATE);
        p!(copy(mine, 12) == load(SYS_getppid), enter(mine, NOBODY, 0x202).rax == parent);
        p!(copy(code, 12) == load(SYS_getppid), enter(code, NOBODY, 0x202).rax == parent);
        let memory = open(c"/proc/self/mem", O_RDWR, 0);
        p!(pwrite(memory, load(SYS_getuid), code as i64), enter(code, NOBODY, 0x202).rax);
        p!(enter(mine, NOBODY, 0x202).rax == parent);
        0
    }));
    p!(enter(code, NOBODY, 0x202).rax == i64::from(getppid()));
}

fn moved_and_replaced() {
    let code = hot_load();
    let to = near();
    p!(sc!(SYS_mremap, code, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to).addr() == to);
    p!(enter(to, NOBODY, 0x202).rax == parent(), call(code), heat(to, NOBODY) == parent());
    p!(copy(to, 12) == load(SYS_getppid));
    put(c"other", [load(SYS_getuid), vec![0xcc; PAGE as usize - 12]].concat());
    let fd = open(c"other", O_RDONLY, 0).fd();
    p!(mmap(to, PAGE, RX, MAP_PRIVATE | MAP_FIXED, fd, 0).addr() == to);
    p!(enter(to, NOBODY, 0x202).rax, heat(to, NOBODY), munmap(to, PAGE), call(to));
}

fn rights_come_and_go() {
    let code = hot_load();
    p!(mprotect(code, PAGE, PROT_READ), call(code), copy(code, 12) == load(SYS_getppid));
    p!(mprotect(code, PAGE, PROT_NONE), call(code), peek(code));
    p!(mprotect(code, PAGE, RX), heat(code, NOBODY) == parent());
    p!(sc!(SYS_madvise, code, PAGE, MADV_DONTNEED), heat(code, NOBODY) == parent());
    p!(copy(code, 12) == load(SYS_getppid));
}

fn a_call_across_two_pages() {
    let mut bytes = vec![0xcc; PAGE as usize - 10];
    bytes.extend_from_slice(&load(SYS_getppid));
    bytes.resize(2 * PAGE as usize, 0xcc);
    put(c"code", bytes);
    let fd = open(c"code", O_RDONLY, 0).fd();
    let base = mmap(near(), 2 * PAGE, RX, MAP_PRIVATE, fd, 0).addr();
    let code = base + PAGE - 10;
    p!(heat(code, NOBODY) == parent(), copy(code, 12) == load(SYS_getppid));
    p!(munmap(base + PAGE, PAGE), peek(code), peek(code + 10));
}

fn many_places_in_a_page() {
    let mut one = load(SYS_getppid);
    one.resize(16, 0xcc);
    let bytes: Vec<u8> = one.iter().copied().cycle().take(16 * 64).collect();
    let code = map(c"code", &bytes);
    let mut right = true;
    for _ in 0..200 {
        for place in 0..64 {
            right &= enter(code + 16 * place, NOBODY, 0x202).rax == parent();
        }
    }
    p!(right, copy(code, bytes.len()) == bytes);
}

fn forked_children_use_them() {
    let code = hot_load();
    for _ in 0..5 {
        let me = i64::from(getpid());
        p!(run(|| i32::from(heat(code, NOBODY) != me)));
    }
    p!(run(|| {
        munmap(code, PAGE);
        i32::from(call(code) == Touch::Value(0))
    }));
    p!(heat(code, NOBODY) == parent(), helper(&["exit", "5"]));
    p!(heat(code, NOBODY) == parent());
}

fn a_child_made_by_one() {
    // clone(SIGCHLD) by hand: both sides come back behind the call.
    let code = map(c"code", &TAIL);
    heat(code, [SYS_getppid as u64, 0, 0, 0, 0]);
    for _ in 0..3 {
        let pid = enter(code, [SYS_clone as u64, SIGCHLD as u64, 0, 0, 0], 0x202).rax;
        if pid == 0 {
            exit(i32::from(enter(code, [SYS_getpid as u64, 0, 0, 0, 0], 0x202).rax <= 0));
        }
        p!(wait(pid as i32));
    }
}

fn the_place_becomes_hot_among_threads() {
    const THREADS: u64 = 4;
    extern "C" fn entry(arg: *mut c_void) -> i32 {
        let shared = arg as u64;
        // Nothing here may allocate: the threads share the thread-local data of the first.
        let half = |at: u64| u64::from(word(at).load(SeqCst));
        let code = half(shared + 16) | half(shared + 20) << 32;
        let want = i64::from(word(shared + 4).load(SeqCst));
        for _ in 0..3000 {
            if enter(code, NOBODY, 0x202).rax != want {
                word(shared + 8).fetch_add(1, SeqCst);
            }
        }
        word(shared + 12).fetch_add(1, SeqCst);
        futex_wake(shared + 12, 1);
        sc!(SYS_exit, 0);
        0
    }
    for round in 0..4u64 {
        let shared = anon(1);
        let code = map(c"code", &load(SYS_getppid));
        fill(shared + 16, &code.to_le_bytes());
        word(shared + 4).store(getppid() as u32, SeqCst);
        for _ in 0..THREADS {
            spawn(THREAD, entry, shared, 0, 0);
        }
        let done = until(|| u64::from(word(shared + 12).load(SeqCst)) == THREADS);
        p!(round, done, word(shared + 8).load(SeqCst));
    }
}

fn a_thread_pointer_in_gs() {
    let code = hot_load();
    let memory = anon(1);
    word(memory + 16).store(99, SeqCst);
    p!(sc!(SYS_arch_prctl, 0x1001, memory), heat(code, NOBODY) == parent());
    let mut base = 0u64;
    p!(sc!(SYS_arch_prctl, 0x1004, at_mut(&mut base)), base == memory);
    // mov %gs:16, %eax; ret
    let read = map(c"read", &[0x65, 0x8b, 0x04, 0x25, 16, 0, 0, 0, 0xc3]);
    p!(call(read), heat(code, NOBODY) == parent(), call(read));
    p!(sc!(SYS_arch_prctl, 0x1001, 0), heat(code, NOBODY) == parent());
    p!(sc!(SYS_arch_prctl, 0x1004, at_mut(&mut base)), base);
}

fn any_stack_pointer() {
    // xchg %rsp, %rdi; syscall; xchg %rsp, %rdi; ret
    let swap = [0x48, 0x87, 0xe7];
    let bytes = [&[0x90, 0xb8, 110, 0, 0, 0][..], &swap, &[0x0f, 0x05], &swap, &[0xc3]].concat();
    let code = map(c"code", &bytes);
    for stack in [0, 1, 0x7fff_ffff_fff8, 1 << 63] {
        let mut right = true;
        for _ in 0..200 {
            right &= enter(code, [0, stack, 0, 0, 0], 0x202).rax == parent();
        }
        p!(right);
    }
}

fn vector_registers_stay() {
    let code = hot_load();
    catch(SIGUSR1, 0);
    p!((0..300).all(|_| fp_survives(SIGUSR1) && enter(code, NOBODY, 0x202).rax == parent()));
}

fn interrupted_reads_say_where() {
    let code = map(c"code", &TAIL);
    let [r, _w] = pipe(O_NONBLOCK);
    let byte = anon(1);
    let args = [SYS_read as u64, r as u64, byte, 1, 0];
    p!(heat(code, args), fcntl(r, F_SETFL, 0));
    watch(SIGALRM, 0, code);
    setitimer(ITIMER_REAL, 30, 0);
    p!(enter(code, args, 0x202).rax);
    let (offset, number) = interrupted();
    p!(offset, number);
}

fn restarted_reads_say_where() {
    let code = map(c"code", &TAIL);
    let [r, w] = pipe(O_NONBLOCK);
    let byte = anon(1);
    let args = [SYS_read as u64, r as u64, byte, 1, 0];
    p!(heat(code, args), fcntl(r, F_SETFL, 0));
    watch(SIGALRM, SA_RESTART, code);
    let pid = child(|| {
        nap(150);
        wr(w, "x");
        0
    });
    setitimer(ITIMER_REAL, 30, 0);
    p!(enter(code, args, 0x202).rax, peek(byte), wait(pid));
    let (offset, number) = interrupted();
    p!(offset, number == SYS_read);
}

fn a_storm_of_signals_sees_only_code() {
    let code = map(c"code", &load(SYS_getppid));
    watch(SIGALRM, SA_RESTART, code);
    sc!(SYS_setitimer, ITIMER_REAL, at(&[0i64, 500, 0, 500]), 0u64);
    let mut right = true;
    for _ in 0..20_000 {
        right &= enter(code, NOBODY, 0x202).rax == parent();
    }
    setitimer(ITIMER_REAL, 0, 0);
    // Only the starts of its four instructions.
    let (offsets, strange) = interruptions();
    p!(right, offsets & !0b1010_0001_0001, strange);
}

fn two_that_only_call_with_signals_and_children() {
    const CALLS: u64 = 8000;
    let code = map(c"code", &TAIL);
    put(c"f", "");
    let pipes = [pipe(0), pipe(0)];
    let both = [0, 1].map(|me: usize| {
        child(|| {
            let fd = open(c"f", O_RDONLY, 0).0 as u64;
            let ([from, _], [_, to]) = (pipes[me], pipes[1 - me]);
            let mut right = true;
            catch(SIGALRM, SA_RESTART);
            sc!(SYS_setitimer, ITIMER_REAL, at(&[0i64, 700, 0, 700]), 0u64);
            for _ in 0..2 {
                for call in 0..CALLS {
                    let seek = [SYS_lseek as u64, fd, call, SEEK_SET as u64, 0];
                    right &= enter(code, seek, 0x202).rax == call as i64;
                    // They wait for each other now and then.
                    if call % 500 == 499 {
                        right &= wr(to, "x").0 == 1 && rd(from, 1).bytes() == b"x";
                    }
                }
                let ask = [SYS_getppid as u64, 0, 0, 0, 0];
                right &= run(|| i32::from(enter(code, ask, 0x202).rax <= 0)).code() == 0;
                // And compute.
                right &= (0..2_000_000u64).fold(1, |n, i| std::hint::black_box(n | i)) & 1 == 1;
            }
            setitimer(ITIMER_REAL, 0, 0);
            i32::from(!right)
        })
    });
    p!(wait(both[0]), wait(both[1]));
}

fn the_return_from_a_handler_is_one() {
    catch(SIGUSR1, SA_RESTART);
    let mut masks = true;
    for _ in 0..2000 {
        raise(SIGUSR1);
        masks &= sigmask(SIG_BLOCK, 0) == 0;
    }
    p!(hits().len() > 200, masks);
}

fn a_filter_sees_the_place() {
    let code = map(c"code", &load(SYS_getppid));
    heat(code, NOBODY);
    // Traps getppid, allows the rest.
    let filter: [[u16; 4]; 4] =
        [[0x20, 0, 0, 0], [0x15, 1, SYS_getppid as u16, 0], [0x06, 0, 0, 0x7fff], [0x06, 0, 0, 3]];
    let program = [4u64, at(&filter)];
    p!(prctl(PR_SET_NO_NEW_PRIVS, 1), sc!(SYS_prctl, PR_SET_SECCOMP, 2, at(&program)));
    watch(SIGSYS, 0, code);
    for _ in 0..3 {
        let result = enter(code, NOBODY, 0x202).rax;
        let (offset, number) = interrupted();
        p!(result == SYS_getppid, offset, number);
    }
}

fn it_is_listed_as_before() {
    let code = hot_load();
    let maps = get(c"/proc/self/maps").text();
    let start = format!("{code:x}-{:x} ", code + PAGE);
    let line = maps.lines().find(|l| l.starts_with(&start)).unwrap_or("");
    p!(line.split(' ').nth(1).unwrap_or(""), line.ends_with("/code"));
    let mut present = [0u8; 1];
    p!(sc!(SYS_mincore, code, PAGE, &mut present), present[0] & 1);
}

cases![
    results_stay_right,
    stack_and_direction_behind_a_call,
    flags_through_thousands_of_calls,
    where_a_call_returned_to,
    comparison_behind_a_call,
    nothing_else_behind_a_call,
    where_a_call_with_a_comparison_returned_to,
    opened_for_writing_while_used,
    upper_half_of_the_number,
    bytes_are_those_of_the_file,
    the_kernel_reads_the_files_bytes,
    a_copy_elsewhere_runs,
    entered_at_the_call_itself,
    entered_behind_the_call,
    entered_within_the_number,
    rewritten_in_place,
    a_compiler_turns_rights_on_and_off,
    written_through_proc,
    written_to_the_file,
    written_through_a_shared_mapping,
    cut_off_under_it,
    a_shared_mapping_of_code,
    another_process_maps_the_same,
    moved_and_replaced,
    rights_come_and_go,
    a_call_across_two_pages,
    many_places_in_a_page,
    forked_children_use_them,
    a_child_made_by_one,
    the_place_becomes_hot_among_threads,
    a_thread_pointer_in_gs,
    any_stack_pointer,
    vector_registers_stay,
    interrupted_reads_say_where,
    restarted_reads_say_where,
    a_storm_of_signals_sees_only_code,
    two_that_only_call_with_signals_and_children,
    the_return_from_a_handler_is_one,
    a_filter_sees_the_place,
    it_is_listed_as_before,
];
