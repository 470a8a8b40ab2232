//! Memory protection keys: allocation, rights, faults, and what a signal, a fork, a thread and a program do to them. On a CPU without them
//! they say only that.
#![expect(unsafe_code, reason = "reads and writes the register of rights")]

use crate::prelude::*;
use std::sync::atomic::{AtomicI32, AtomicU32};

const RW: i32 = PROT_READ | PROT_WRITE;
const DISABLE_ACCESS: u32 = 1;
const DISABLE_WRITE: u32 = 2;

/// Whether the CPU and its kernel have keys (`ospke`).
pub(crate) fn has_keys() -> bool {
    let features = std::arch::x86_64::__cpuid_count(7, 0);
    features.ecx >> 4 & 1 == 1
}

pub(crate) fn rdpkru() -> u32 {
    let value: u32;
    // SAFETY: reads a register that exists, which the callers have checked.
    unsafe { std::arch::asm!("rdpkru", out("eax") value, in("ecx") 0, out("edx") _) };
    value
}

fn wrpkru(value: u32) {
    // SAFETY: cases change the rights of keys of their own only, or in a process that ends.
    unsafe { std::arch::asm!("wrpkru", in("eax") value, in("ecx") 0, in("edx") 0) };
}

fn alloc(rights: u32) -> Ret {
    sc!(SYS_pkey_alloc, 0, rights)
}

fn free(key: i32) -> Ret {
    sc!(SYS_pkey_free, key)
}

fn protect(at: u64, len: u64, prot: i32, key: i32) -> Ret {
    sc!(SYS_pkey_mprotect, at, len, prot, key)
}

/// Allocates a key with all rights; ends the case where there are none.
fn key() -> i32 {
    alloc(0).0 as i32
}

fn set_rights(key: i32, rights: u32) {
    wrpkru(rdpkru() & !(3 << (2 * key)) | rights << (2 * key));
}

fn rights(key: i32) -> u32 {
    rdpkru() >> (2 * key) & 3
}

macro_rules! needs_keys {
    () => {
        if !has_keys() {
            p!(alloc(0), free(1), protect(anon(1), PAGE, RW, 1), protect(anon(1), PAGE, RW, -1));
            return;
        }
    };
}

fn allocation() {
    needs_keys!();
    p!(sc!(SYS_pkey_alloc, 1, 0), alloc(4), free(1), free(-1), free(16), free(99));
    let keys: Vec<i32> =
        std::iter::from_fn(|| Some(alloc(0)).filter(|r| r.0 >= 0)).map(|r| r.0 as i32).collect();
    // Memory that is only to be executed may have one.
    p!(keys.len() >= 14, alloc(0), keys[..3] == [1, 2, 3]);
    p!(free(keys[4]), free(keys[4]), protect(anon(1), PAGE, RW, keys[4]));
    p!(alloc(DISABLE_WRITE).0 as i32 == keys[4], rights(keys[4]));
    p!(keys.iter().all(|key| free(*key).0 == 0));
}

fn the_default_key_can_be_freed() {
    needs_keys!();
    p!(run(|| {
        let page = anon(1);
        p!(protect(page, PAGE, RW, 0), free(0), protect(page, PAGE, RW, 0), poke(page, 1));
        p!(alloc(0), free(0));
        0
    }));
}

fn rights_of_a_new_key() {
    needs_keys!();
    for wanted in 0..4 {
        let got = alloc(wanted);
        let key = got.0 as i32;
        p!(rights(key), free(key), rights(key));
    }
}

fn rights_decide() {
    needs_keys!();
    let (key, page) = (key(), anon(3));
    poke(page, 7);
    p!(protect(page, PAGE, RW, key), peek(page), poke(page, 8));
    for denied in [DISABLE_ACCESS, DISABLE_WRITE, DISABLE_ACCESS | DISABLE_WRITE, 0] {
        set_rights(key, denied);
        p!(denied, peek(page), poke(page, 9), peek(page + PAGE), poke(page + PAGE, 9), rights(key));
    }
    // The rights of the area count as well.
    p!(protect(page, PAGE, PROT_READ, key), peek(page), poke(page, 1));
    set_rights(key, DISABLE_ACCESS);
    p!(peek(page), poke(page, 1), mprotect(page, PAGE, PROT_NONE), peek(page));
    set_rights(key, 0);
    p!(peek(page), mprotect(page, PAGE, RW), peek(page), munmap(page, PAGE), free(key));
}

fn keys_of_errors() {
    needs_keys!();
    let (key, page) = (key(), anon(2));
    p!(protect(page + 1, PAGE, RW, key), protect(page, 0, RW, 99), protect(page, PAGE, RW, 15 + 1));
    p!(protect(page, PAGE, RW, -2), protect(page, PAGE, 64, 99), protect(page, PAGE, 64, key));
    munmap(page + PAGE, PAGE);
    p!(protect(page, 2 * PAGE, PROT_READ, key), protect(page + PAGE, PAGE, RW, 99));
    p!(protect(page + PAGE, PAGE, RW, key), protect(page, PAGE, RW, key), free(key));
    // What has it keeps it.
    set_rights(key, DISABLE_ACCESS);
    p!(peek(page), protect(page, PAGE, RW, key), protect(page, PAGE, RW, 0), peek(page));
}

fn system_calls_heed_rights() {
    needs_keys!();
    let (key, page) = (key(), anon(2));
    let [r, w] = pipe(0);
    fill(page, b"abc");
    protect(page, PAGE, RW, key);
    let call = || {
        let out = sc!(SYS_write, w, page, 3);
        let into = if out.0 == 3 { sc!(SYS_read, r, page + 8, 3) } else { out };
        format!("{out} {into} {} {}", sc!(SYS_uname, page), sc!(SYS_chdir, page))
    };
    p!(call());
    set_rights(key, DISABLE_WRITE);
    p!(call(), sc!(SYS_write, w, page, 1), sc!(SYS_read, r, page, 9), sc!(SYS_read, r, page, 9));
    p!(sc!(SYS_read, r, page + PAGE, 9));
    set_rights(key, DISABLE_ACCESS);
    p!(call(), sc!(SYS_pipe2, page, 0));
    set_rights(key, 0);
    p!(call(), close(r), close(w), free(key));
}

static IN_HANDLER: AtomicU32 = AtomicU32::new(0);
static PKEY: AtomicI32 = AtomicI32::new(0);

extern "C" fn look(_: i32, info: *mut siginfo_t, _: *mut c_void) {
    IN_HANDLER.store(rdpkru(), SeqCst);
    // SAFETY: the kernel passes a valid siginfo; the key is 32 bytes into it.
    PKEY.store(unsafe { *info.cast::<i32>().add(8) }, SeqCst);
    wrpkru(0);
}

extern "C" fn leave(sig: i32, info: *mut siginfo_t, context: *mut c_void) {
    look(sig, info, context);
    // SAFETY: ends this process.
    unsafe { _exit(if IN_HANDLER.load(SeqCst) == 0x5555_5554 { PKEY.load(SeqCst) } else { 99 }) }
}

fn handlers_start_with_the_first_rights() {
    needs_keys!();
    let key = key();
    let saved = set_action(SIGUSR1, look as *const () as usize, SA_SIGINFO, 0);
    for denied in [0, DISABLE_ACCESS, DISABLE_WRITE] {
        set_rights(key, denied);
        let before = rdpkru();
        raise(SIGUSR1);
        say!("{:#x} {}", IN_HANDLER.load(SeqCst), rdpkru() == before);
    }
    saved.restore();
    free(key);
}

fn the_key_is_told() {
    needs_keys!();
    p!(run(|| {
        let _first = (key(), key());
        let (key, page) = (key(), anon(1));
        protect(page, PAGE, RW, key);
        set_rights(key, DISABLE_ACCESS);
        set_action(SIGSEGV, leave as *const () as usize, SA_SIGINFO, 0);
        fault_at(page);
        0
    }));
    p!(run(|| {
        let (key, page) = (key(), anon(1));
        protect(page, PAGE, RW, key);
        set_rights(key, DISABLE_ACCESS);
        fault_at(page);
        0
    }));
}

fn fault_at(page: u64) {
    // SAFETY: faults, as the case wants.
    unsafe { std::arch::asm!("mov al, [{}]", in(reg) page, out("al") _) };
}

fn children_threads_and_programs() {
    needs_keys!();
    let (key, page) = (key(), anon(2));
    poke(page, 3);
    protect(page, PAGE, RW, key);
    set_rights(key, DISABLE_WRITE);
    p!(run(|| {
        p!(rights(key), peek(page), poke(page, 4), free(key), free(key));
        set_rights(key, 0);
        p!(poke(page, 5), peek(page), fork_again(page));
        0
    }));
    p!(peek(page));
    let thread = std::thread::spawn(move || {
        p!(rights(key), poke(page, 6));
        set_rights(key, 0);
        p!(poke(page, 6));
    });
    p!(thread.join().is_ok(), rights(key), peek(page), poke(page, 7));
    p!(helper(&["pkeys"]), rights(key), free(key));
}

fn fork_again(page: u64) -> Status {
    run(|| {
        p!(peek(page), poke(page, 9), peek(page));
        0
    })
}

/// The areas that a range has in smaps, each with its key.
fn shown(start: u64, end: u64) -> String {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        let range = line.split(' ').next().and_then(|word| word.split_once('-'));
        let numbers = range.and_then(|(a, b)| {
            Some((u64::from_str_radix(a, 16).ok()?, u64::from_str_radix(b, 16).ok()?))
        });
        if let Some((from, to)) = numbers {
            inside = from < end && to > start;
            if inside {
                let (from, to) = (from.max(start) - start, to.min(end) - start);
                out += &format!("[{}+{}", from / PAGE, (to - from) / PAGE);
            }
        } else if inside && let Some(key) = line.strip_prefix("ProtectionKey:") {
            out += &format!(" key {}]", key.trim());
        }
    }
    out
}

fn areas_differ_by_their_keys() {
    needs_keys!();
    let (one, other, at) = (key(), key(), anon(6));
    let end = at + 6 * PAGE;
    p!(protect(at, 2 * PAGE, RW, one), protect(at + 2 * PAGE, 2 * PAGE, RW, other));
    p!(shown(at, end), mprotect(at, 6 * PAGE, PROT_READ), shown(at, end));
    p!(
        protect(at, 4 * PAGE, RW, other),
        shown(at, end),
        protect(at, 6 * PAGE, RW, 0),
        shown(at, end)
    );
    p!(protect(at, 6 * PAGE, PROT_READ, one), mprotect(at, PAGE, RW), shown(at, end));
    p!(free(one), free(other), munmap(at, 6 * PAGE));
}

fn every_kind_of_memory() {
    needs_keys!();
    let key = key();
    let fd = open(c"keyed", O_RDWR | O_CREAT, 0o600).0 as i32;
    p!(ftruncate(fd, 4 * PAGE as i64), pwrite(fd, [5; 64], 0));
    let shared_file = mmap(0, PAGE, RW, MAP_SHARED, fd, 0).addr();
    let private_file = mmap(0, 4 * PAGE, RW, MAP_PRIVATE, fd, 0).addr();
    let big = mmap(0, 8 << 20, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).addr();
    for at in [shared_file, private_file, big, shared(1)] {
        p!(protect(at, PAGE, RW, key), peek(at));
        set_rights(key, DISABLE_WRITE);
        p!(peek(at), poke(at, 2));
        set_rights(key, 0);
        p!(poke(at, 2), peek(at));
        set_rights(key, DISABLE_ACCESS);
        p!(run(|| {
            p!(peek(at));
            set_rights(key, 0);
            p!(poke(at, 3), peek(at));
            0
        }));
        p!(peek(at), poke(at, 4));
        set_rights(key, 0);
        p!(peek(at));
    }
    let moved = sc!(SYS_mremap, private_file, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE, 0).addr();
    set_rights(key, DISABLE_ACCESS);
    p!(peek(moved), peek(moved + PAGE), sc!(SYS_madvise, big, PAGE, MADV_DONTNEED), peek(big));
    set_rights(key, 0);
    p!(peek(moved), peek(big), poke(big, 1));
    p!(protect(big, PAGE, PROT_NONE, key), peek(big), protect(big, PAGE, RW, key), peek(big));
    p!(mmap(big, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0).addr() == big);
    set_rights(key, DISABLE_ACCESS);
    p!(peek(big), poke(big, 1), unlink(c"keyed"), close(fd), free(key));
}

fn memory_that_is_only_executed() {
    needs_keys!();
    let (key, code) = (key(), anon(1));
    fill(code, &[0xb8, 7, 0, 0, 0, 0xc3]);
    p!(mprotect(code, PAGE, PROT_EXEC), call(code), peek(code), poke(code, 1));
    p!(protect(code, PAGE, PROT_EXEC, 0), call(code), peek(code));
    p!(protect(code, PAGE, PROT_EXEC, key), call(code), peek(code));
    set_rights(key, DISABLE_ACCESS);
    p!(call(code), peek(code), mprotect(code, PAGE, PROT_EXEC), call(code), peek(code));
    set_rights(key, 0);
    p!(peek(code), mprotect(code, PAGE, PROT_READ | PROT_EXEC), peek(code), call(code));
    p!(shown(code, code + PAGE), free(key));
}

fn a_program_that_denies_itself_everything() {
    needs_keys!();
    for denied in [DISABLE_ACCESS, DISABLE_WRITE] {
        p!(run(|| {
            wrpkru(denied);
            // The stack.
            fault_at(0);
            0
        }));
    }
}

/// System calls that need no memory, with rights to none.
fn system_calls_without_rights() {
    needs_keys!();
    let words = shared(1);
    for denied in [DISABLE_WRITE, DISABLE_ACCESS] {
        word(words).store(0, SeqCst);
        word(words + 4).store(denied, SeqCst);
        // A thread in which the C library has not registered memory for the kernel to write to (`rseq`).
        ok!(spawn(THREAD, without_rights, words, 0, 0));
        await_change(words, 0);
        p!(word(words).load(SeqCst));
    }
}

extern "C" fn without_rights(words: *mut c_void) -> i32 {
    let words = words as u64;
    let (before, denied) = (rdpkru(), word(words + 4).load(SeqCst));
    let mut wrong = 0;
    for _ in 0..3000 {
        let pid: u64;
        // SAFETY: no memory is used while the rights are taken away.
        unsafe {
            std::arch::asm!(
                "wrpkru", "mov eax, {number}", "syscall", "mov r8, rax", "mov eax, r9d",
                "xor ecx, ecx", "xor edx, edx", "wrpkru",
                number = const SYS_getppid,
                inout("eax") before | denied => _, inout("ecx") 0 => _, inout("edx") 0 => _,
                in("r9") before, out("r8") pid, out("r11") _,
            );
        }
        wrong += u32::from(pid != getppid() as u64 || rdpkru() != before);
    }
    publish(words, 1 + wrong);
    exit_thread()
}

fn exit_thread() -> ! {
    loop {
        sc!(SYS_exit, 0);
    }
}

cases![
    allocation,
    the_default_key_can_be_freed,
    rights_of_a_new_key,
    rights_decide,
    keys_of_errors,
    system_calls_heed_rights,
    handlers_start_with_the_first_rights,
    the_key_is_told,
    children_threads_and_programs,
    areas_differ_by_their_keys,
    every_kind_of_memory,
    memory_that_is_only_executed,
    a_program_that_denies_itself_everything,
    system_calls_without_rights,
];
