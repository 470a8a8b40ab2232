//! Areas of memory: flags and limits of `mmap`, `mremap`, `mprotect`, `madvise` and `mlock` at their edges, and what
//! /proc says of them.

use crate::prelude::*;

const RW: i32 = PROT_READ | PROT_WRITE;
const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;
const TOP: u64 = (1 << 47) - PAGE;

/// The areas of [from, to) in /proc/self/maps, as offsets in pages with rights.
fn areas(from: u64, to: u64) -> String {
    let maps = get(c"/proc/self/maps").text();
    let mut out = Vec::new();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap_or(("", ""));
        let (a, b) = range.split_once('-').unwrap_or(("", ""));
        let number = |s: &str| u64::from_str_radix(s, 16).unwrap_or(0);
        let (a, b) = (number(a), number(b));
        if a < to && b > from {
            let clip = |x: u64| (x.clamp(from, to) - from) / PAGE;
            out.push(format!("{}-{} {}", clip(a), clip(b), rest.split(' ').next().unwrap_or("")));
        }
    }
    out.join(", ")
}
/// Eight pages with a page without rights on each side, so that nothing else merges with them.
fn island() -> u64 {
    let a = mmap(0, 10 * PAGE, PROT_NONE, ANON, -1, 0).addr();
    mprotect(a + PAGE, 8 * PAGE, RW);
    a + PAGE
}
fn shown(a: u64) -> String {
    areas(a, a + 8 * PAGE)
}

fn neighbours_merge() {
    let a = island();
    p!(shown(a), mprotect(a + 2 * PAGE, PAGE, PROT_READ), shown(a));
    p!(mprotect(a + 2 * PAGE, PAGE, RW), shown(a), munmap(a + 4 * PAGE, PAGE), shown(a));
    p!(mmap(a + 4 * PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0).ok(), shown(a));
    p!(mmap(a + 4 * PAGE, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0).ok(), shown(a));
}

fn file_areas_merge_by_offset() {
    put(c"f", vec![1u8; 8 * PAGE as usize]);
    let (fd, a) = (open(c"f", O_RDWR, 0).fd(), island());
    let at_page = |page: u64, offset: i64| {
        mmap(a + page * PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, fd, offset * PAGE as i64).ok()
    };
    p!(
        at_page(0, 0),
        at_page(1, 1),
        shown(a),
        at_page(2, 5),
        at_page(3, 6),
        shown(a),
        at_page(4, 0)
    );
    p!(
        shown(a),
        mprotect(a + PAGE, PAGE, PROT_READ),
        shown(a),
        mprotect(a + PAGE, PAGE, RW),
        shown(a)
    );
}

fn advice_splits_areas() {
    let a = island();
    let advise = |page: u64, advice: i32| sc!(SYS_madvise, a + page * PAGE, PAGE, advice);
    p!(advise(1, MADV_DONTFORK), shown(a), advise(1, MADV_DOFORK), shown(a));
    p!(advise(3, MADV_WIPEONFORK), shown(a), advise(3, MADV_KEEPONFORK), shown(a));
    p!(advise(5, MADV_DONTDUMP), shown(a), advise(5, MADV_DODUMP), shown(a));
    p!(
        advise(2, MADV_RANDOM),
        shown(a),
        advise(2, MADV_SEQUENTIAL),
        shown(a),
        advise(2, MADV_NORMAL)
    );
    p!(
        shown(a),
        sc!(SYS_mlock, a + PAGE, PAGE),
        shown(a),
        sc!(SYS_munlock, a + PAGE, PAGE),
        shown(a)
    );
}

fn names_of_anonymous_areas() {
    let a = island();
    let name = |page: u64, name: u64| sc!(SYS_prctl, PR_SET_VMA, 0, a + page * PAGE, PAGE, name);
    let lines = || {
        let maps = get(c"/proc/self/maps").text();
        maps.lines()
            .filter(|l| l.contains("[anon:"))
            .filter_map(|l| l.split('[').nth(1).map(String::from))
            .collect::<Vec<_>>()
            .join(" ")
    };
    p!(
        name(1, c"first".as_ptr() as u64),
        lines(),
        shown(a),
        name(2, c"first".as_ptr() as u64),
        lines(),
        shown(a)
    );
    p!(
        name(2, c"other".as_ptr() as u64),
        lines(),
        name(1, 0),
        lines(),
        name(1, 8),
        name(1, c"a[b".as_ptr() as u64)
    );
    p!(
        name(1, c"a$b".as_ptr() as u64),
        name(1, c"a\\b".as_ptr() as u64),
        name(1, c"a`b".as_ptr() as u64),
        name(1, c"\x01".as_ptr() as u64),
        name(1, c"a b".as_ptr() as u64)
    );
    let long = CString::new("n".repeat(79)).unwrap_or_default();
    let longer = CString::new("n".repeat(80)).unwrap_or_default();
    p!(name(1, long.as_ptr() as u64), name(1, longer.as_ptr() as u64), lines().len());
    p!(sc!(SYS_prctl, PR_SET_VMA, 1, a, PAGE, 0), sc!(SYS_prctl, PR_SET_VMA, 0, a + 1, PAGE, 0));
}

fn fixed_at_the_edges() {
    p!(
        mmap(TOP, PAGE, RW, ANON | MAP_FIXED, -1, 0),
        mmap(TOP - PAGE, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0)
    );
    p!(peek(TOP));
    p!(mmap(65536, PAGE, RW, ANON | MAP_FIXED, -1, 0).addr(), munmap(65536, PAGE));
    p!(mmap(0, PAGE, RW, ANON | MAP_FIXED, -1, 0).addr(), munmap(0, PAGE));
}

fn the_first_page_without_rights() {
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(
            mmap(0, PAGE, RW, ANON | MAP_FIXED, -1, 0),
            mmap(1, PAGE, RW, ANON, -1, 0).addr() >= PAGE
        );
        0
    }));
}

fn thirty_two_bits() {
    let all: Vec<u64> = (0..4).map(|_| mmap(0, PAGE, RW, ANON | MAP_32BIT, -1, 0).addr()).collect();
    p!(all.iter().all(|a| *a != 0 && *a < 1 << 32), all.windows(2).all(|w| w[0] != w[1]));
    p!(mmap(0, 1 << 31, RW, ANON | MAP_32BIT | MAP_NORESERVE, -1, 0));
    p!(mmap(1 << 40, PAGE, RW, ANON | MAP_32BIT, -1, 0).addr() < 1 << 32);
}

fn hints_that_cannot_be() {
    let a = anon(1);
    for hint in [1 << 47, u64::MAX - 5000, 1, TOP, a + 1] {
        let got = mmap(hint, PAGE, RW, ANON, -1, 0);
        p!(got.ok(), got.addr() % PAGE, got.addr() != a);
    }
}

fn types_of_mappings() {
    put(c"f", vec![1u8; 4096]);
    let fd = open(c"f", O_RDWR, 0).fd();
    for kind in [0, 3, 4, 15] {
        p!(
            kind,
            mmap(0, PAGE, PROT_READ, kind, fd, 0).0.min(0),
            mmap(0, PAGE, PROT_READ, kind | MAP_ANONYMOUS, -1, 0).0.min(0)
        );
    }
    p!(mmap(0, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0));
    p!(
        mmap(0, PAGE, 0x80, MAP_PRIVATE, fd, 0).ok(),
        mmap(0, PAGE, PROT_READ, MAP_PRIVATE | 0x0800_0000, fd, 0).ok()
    );
}

fn growing_down() {
    let a = mmap(0, 64 * PAGE, PROT_NONE, ANON, -1, 0).addr();
    // The guard gap of a stack is 256 pages: growth needs so much room, of which there is none.
    mmap(a + 32 * PAGE, PAGE, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
    p!(peek(a + 32 * PAGE), peek(a + 31 * PAGE));
    let b = mmap(0, 600 * PAGE, PROT_NONE, ANON, -1, 0).addr();
    munmap(b, 600 * PAGE);
    mmap(b + 590 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, -1, 0);
    p!(poke(b + 589 * PAGE, 1), poke(b + 580 * PAGE, 2));
    p!(mprotect(b + 590 * PAGE, PAGE, PROT_READ | PROT_GROWSDOWN), poke(b + 585 * PAGE, 1));
    p!(munmap(b + 500 * PAGE, 91 * PAGE));
}

fn protection_beyond_the_descriptor() {
    put(c"f", vec![1u8; 4096]);
    let (r, w) = (open(c"f", O_RDONLY, 0).fd(), open(c"f", O_RDWR, 0).fd());
    let shared = mmap(0, PAGE, PROT_READ, MAP_SHARED, r, 0).addr();
    p!(
        mprotect(shared, PAGE, RW),
        mprotect(shared, PAGE, PROT_READ | PROT_EXEC),
        shown_one(shared)
    );
    let shared = mmap(0, PAGE, PROT_READ, MAP_SHARED, w, 0).addr();
    p!(
        mprotect(shared, PAGE, RW),
        shown_one(shared),
        chmod(c"f", 0o444),
        mprotect(shared, PAGE, PROT_NONE)
    );
    p!(mprotect(shared, PAGE, RW), poke(shared, 9), get(c"f").bytes()[0]);
}
fn shown_one(a: u64) -> String {
    areas(a, a + PAGE)
}

fn remapping_at_the_edges() {
    let a = island();
    let remap = |from: u64, old: u64, new: u64, flags: i32, to: u64| {
        sc!(SYS_mremap, from, old, new, flags, to)
    };
    p!(
        remap(a + 1, PAGE, PAGE, 0, 0),
        remap(a, 0, PAGE, MREMAP_MAYMOVE, 0),
        remap(a, PAGE, 0, 0, 0)
    );
    p!(remap(a, PAGE, PAGE, MREMAP_FIXED, a + 4 * PAGE), remap(a, PAGE, PAGE, 8, 0));
    p!(remap(a, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, a + PAGE));
    p!(remap(a, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, a + PAGE + 5));
    p!(
        remap(a, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 1 << 47),
        remap(TOP, PAGE, 2 * PAGE, 0, 0)
    );
    p!(
        remap(a, 100 * PAGE, 101 * PAGE, MREMAP_MAYMOVE, 0),
        remap(a, PAGE, u64::MAX, MREMAP_MAYMOVE, 0)
    );
    p!(remap(a, 1, 1, 0, 0).addr() == a, remap(a, 8 * PAGE, 1, 0, 0).addr() == a, shown(a));
}

fn remapping_keeps_properties() {
    let a = island();
    poke(a, 7);
    sc!(SYS_madvise, a, PAGE, MADV_WIPEONFORK);
    let b = sc!(SYS_mremap, a, PAGE, 3 * PAGE, MREMAP_MAYMOVE).addr();
    p!(b != a, peek(b), shown(a));
    p!(run(|| {
        p!(peek(b), poke(b + 2 * PAGE, 1));
        0
    }));
    let c = mmap(0, PAGE, PROT_READ, ANON, -1, 0).addr();
    let d = sc!(SYS_mremap, c, PAGE, 2 * PAGE, MREMAP_MAYMOVE).addr();
    p!(peek(d + PAGE), poke(d + PAGE, 1));
}

fn remapping_across_areas() {
    let a = island();
    mprotect(a + PAGE, PAGE, PROT_READ);
    p!(
        sc!(SYS_mremap, a, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE),
        sc!(SYS_mremap, a, 2 * PAGE, PAGE, 0).addr() == a
    );
    p!(shown(a));
}

fn shared_memory_moves_with_its_contents() {
    let a = shared(2);
    poke(a, 3);
    let pid = child(|| {
        let b = sc!(SYS_mremap, a, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE).addr();
        p!(peek(b), poke(b + PAGE, 4), peek(b + 2 * PAGE));
        0
    });
    p!(wait(pid), peek(a + PAGE));
}

fn unmapping_the_middle_of_locked_memory() {
    let a = island();
    let locked = || {
        let status = get(c"/proc/self/status").text();
        status.lines().find_map(|l| l.strip_prefix("VmLck:")).unwrap_or("").trim().to_string()
    };
    p!(sc!(SYS_mlock, a, 8 * PAGE), locked(), munmap(a + 2 * PAGE, PAGE), locked(), shown(a));
    p!(
        sc!(SYS_mlock2, a, PAGE, 1),
        locked(),
        sc!(SYS_mlock2, a, PAGE, 2),
        sc!(SYS_munlockall),
        locked()
    );
    p!(
        sc!(SYS_mlock, a + 1, 1),
        locked(),
        sc!(SYS_mlock, a, 8 * PAGE),
        locked(),
        sc!(SYS_munlock, a, 8 * PAGE)
    );
    p!(
        locked(),
        sc!(SYS_munlock, a, PAGE),
        locked(),
        sc!(SYS_mlock, a, 0),
        sc!(SYS_mlock, u64::MAX, PAGE)
    );
    p!(sc!(SYS_mlockall, 0), sc!(SYS_mlockall, 4), sc!(SYS_mlockall, 8), sc!(SYS_munlockall));
}

fn locked_memory_resists_dontneed() {
    let a = island();
    poke(a, 7);
    p!(sc!(SYS_mlock, a, PAGE), sc!(SYS_madvise, a, PAGE, MADV_DONTNEED), peek(a));
    p!(sc!(SYS_madvise, a, PAGE, 24), peek(a), sc!(SYS_madvise, a, PAGE, MADV_FREE));
    poke(a, 7);
    p!(sc!(SYS_munlock, a, PAGE), sc!(SYS_madvise, a, PAGE, MADV_DONTNEED), peek(a));
    p!(
        sc!(SYS_msync, a, PAGE, MS_INVALIDATE),
        sc!(SYS_mlock, a, PAGE),
        sc!(SYS_msync, a, PAGE, MS_INVALIDATE)
    );
}

fn advice_over_holes() {
    let a = island();
    munmap(a + 3 * PAGE, PAGE);
    fill(a, &[5]);
    fill(a + 5 * PAGE, &[6]);
    p!(sc!(SYS_madvise, a, 8 * PAGE, MADV_DONTNEED), peek(a), peek(a + 5 * PAGE));
    p!(
        sc!(SYS_madvise, a, 8 * PAGE, MADV_NORMAL),
        sc!(SYS_madvise, a, 8 * PAGE, MADV_DONTFORK),
        shown(a)
    );
    p!(
        sc!(SYS_madvise, a, 8 * PAGE, MADV_POPULATE_READ),
        sc!(SYS_madvise, a, 8 * PAGE, MADV_WILLNEED)
    );
    p!(
        sc!(SYS_madvise, a + 1, PAGE, MADV_NORMAL),
        sc!(SYS_madvise, a, 0, 999),
        sc!(SYS_madvise, a, 0, MADV_NORMAL)
    );
    p!(
        sc!(SYS_madvise, u64::MAX - 4095, PAGE, MADV_NORMAL),
        sc!(SYS_madvise, a, u64::MAX, MADV_NORMAL)
    );
}

fn sealed_areas_stay() {
    let a = island();
    poke(a, 7);
    let seal = |at: u64, len: u64, flags: u64| syscall(462, &[at, len, flags]);
    p!(
        seal(a, 2 * PAGE, 1),
        seal(a + 1, PAGE, 0),
        seal(a, 0, 0),
        seal(a, 20 * PAGE, 0),
        seal(a, 2 * PAGE, 0)
    );
    p!(munmap(a, PAGE), mprotect(a, PAGE, PROT_READ), mmap(a, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    p!(sc!(SYS_mremap, a, PAGE, 2 * PAGE, MREMAP_MAYMOVE), sc!(SYS_mremap, a, 2 * PAGE, PAGE, 0));
    p!(
        sc!(SYS_madvise, a, PAGE, MADV_DONTNEED),
        sc!(SYS_madvise, a, PAGE, MADV_NORMAL),
        peek(a),
        shown(a)
    );
    p!(
        munmap(a, 8 * PAGE),
        munmap(a + 2 * PAGE, 6 * PAGE),
        seal(a, PAGE, 0),
        mprotect(a, 2 * PAGE, RW)
    );
}

fn the_break_and_its_limit() {
    p!(run(|| {
        let start = sc!(SYS_brk, 0u64).addr();
        p!(
            sc!(SYS_brk, start + 5).addr() == start + 5,
            sc!(SYS_brk, start + 2 * PAGE).addr() == start + 2 * PAGE
        );
        p!(poke(start + PAGE, 1), sc!(SYS_brk, start).addr() == start, peek(start + PAGE));
        p!(
            sc!(SYS_brk, start + PAGE).addr() == start + PAGE,
            peek(start),
            sc!(SYS_brk, 1u64).addr() == start + PAGE
        );
        sc!(SYS_prlimit64, 0, RLIMIT_DATA, at(&[1u64 << 16, 1 << 16]), 0u64);
        p!(sc!(SYS_brk, start + (1 << 20)).addr() == start + PAGE);
        0
    }));
}

fn counts_in_status() {
    let field = |name: &str| {
        let status = get(c"/proc/self/status").text();
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("");
        line.trim_start_matches(':')
            .trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<i64>()
            .unwrap_or(-1)
    };
    let (size, data, resident) = (field("VmSize"), field("VmData"), field("RssAnon"));
    let a = mmap(0, 1 << 22, RW, ANON, -1, 0).addr();
    p!(field("VmSize") - size, field("VmData") - data);
    (0..1024u64).for_each(|i| fill(a + i * PAGE, &[1]));
    p!(
        field("RssAnon") - resident >= 4096 - 64,
        mprotect(a, 1 << 21, PROT_READ),
        field("VmData") - data
    );
    p!(
        munmap(a, 1 << 22),
        field("VmSize") - size,
        field("VmData") - data,
        field("VmPeak") - size >= 4096
    );
    let (exec, stack) = (field("VmExe") > 0, field("VmStk") > 0);
    p!(exec, stack, field("VmSwap"), field("VmLck"), field("VmPin"));
}

fn faults_at_page_ends() {
    // A word across two pages, of which the second is missing, faults at the second.
    let a = island();
    munmap(a + PAGE, PAGE);
    catch_with(SIGSEGV, 0, 0, Extra::Throw);
    static PLACE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    PLACE.store(a + PAGE - 4, SeqCst);
    extern "C" fn touch() {
        copy(PLACE.load(SeqCst), 8);
    }
    p!(attempt(touch));
    let seen = hits();
    p!(seen.len(), seen.first().map_or(0, |h| h.addr.wrapping_sub(a) / PAGE));
}

cases![
    neighbours_merge,
    file_areas_merge_by_offset,
    advice_splits_areas,
    names_of_anonymous_areas,
    fixed_at_the_edges,
    the_first_page_without_rights,
    thirty_two_bits,
    hints_that_cannot_be,
    types_of_mappings,
    growing_down,
    protection_beyond_the_descriptor,
    remapping_at_the_edges,
    remapping_keeps_properties,
    remapping_across_areas,
    shared_memory_moves_with_its_contents,
    unmapping_the_middle_of_locked_memory,
    locked_memory_resists_dontneed,
    advice_over_holes,
    sealed_areas_stay,
    the_break_and_its_limit,
    counts_in_status,
    faults_at_page_ends,
];
