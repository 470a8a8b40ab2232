//! A program that answers page faults: `userfaultfd(2)`.

use crate::prelude::*;
use std::sync::atomic::{AtomicI32, AtomicU64};

const USER_MODE_ONLY: i32 = 1;
const API: u64 = 0xc018_aa3f;
const REGISTER: u64 = 0xc020_aa00;
const UNREGISTER: u64 = 0x8010_aa01;
const WAKE: u64 = 0x8010_aa02;
const COPY: u64 = 0xc028_aa03;
const ZEROPAGE: u64 = 0xc020_aa04;
const MOVE: u64 = 0xc028_aa05;
const WRITEPROTECT: u64 = 0xc018_aa06;
const CONTINUE: u64 = 0xc020_aa07;
const MISSING: u64 = 1;
const WP: u64 = 2;
const SIGBUS_FEATURE: u64 = 1 << 7;
const THREAD_ID: u64 = 1 << 8;
const EXACT_ADDRESS: u64 = 1 << 11;

fn create(flags: i32) -> i32 {
    sc!(SYS_userfaultfd, flags).fd()
}
fn agree(fd: i32, features: u64) -> Ret {
    ioctl(fd, API, at_mut(&mut [0xaau64, features, 0]))
}
/// A descriptor that is ready for use.
fn ready(features: u64) -> i32 {
    let fd = create(O_CLOEXEC);
    agree(fd, features);
    fd
}
fn register(fd: i32, start: u64, len: u64, mode: u64) -> Ret {
    ioctl(fd, REGISTER, at_mut(&mut [start, len, mode, 0]))
}
fn range(fd: i32, op: u64, start: u64, len: u64) -> Ret {
    ioctl(fd, op, at_mut(&mut [start, len]))
}
/// An operation, and what it says it has done.
fn copy_to(fd: i32, dst: u64, src: u64, len: u64, mode: u64) -> String {
    let mut arg = [dst, src, len, mode, 77];
    let ret = ioctl(fd, COPY, at_mut(&mut arg));
    format!("{ret} {}", Ret(arg[4] as i64))
}
fn move_to(fd: i32, dst: u64, src: u64, len: u64, mode: u64) -> String {
    let mut arg = [dst, src, len, mode, 77];
    let ret = ioctl(fd, MOVE, at_mut(&mut arg));
    format!("{ret} {}", Ret(arg[4] as i64))
}
fn zero(fd: i32, start: u64, len: u64, mode: u64) -> String {
    let mut arg = [start, len, mode, 77];
    let ret = ioctl(fd, ZEROPAGE, at_mut(&mut arg));
    format!("{ret} {}", Ret(arg[3] as i64))
}
fn protect(fd: i32, start: u64, len: u64, mode: u64) -> Ret {
    ioctl(fd, WRITEPROTECT, at_mut(&mut [start, len, mode]))
}

/// What the thread that answers needs, and what it has seen.
static FD: AtomicI32 = AtomicI32::new(-1);
static HOW: AtomicI32 = AtomicI32::new(0);
static BASE: AtomicU64 = AtomicU64::new(0);
static SOURCE: AtomicU64 = AtomicU64::new(0);
static FLAGS: AtomicU64 = AtomicU64::new(0);
static OFFSET: AtomicU64 = AtomicU64::new(0);
static THREAD_OF: AtomicU64 = AtomicU64::new(0);
static FAULTS: AtomicI32 = AtomicI32::new(0);
static FAULTING: AtomicI32 = AtomicI32::new(0);

const BY_COPY: i32 = 0;
const BY_ZERO: i32 = 1;
const BY_UNPROTECTING: i32 = 2;
const BY_UNREGISTERING: i32 = 3;
const BY_CLOSING: i32 = 4;
const BY_WAKING_FIRST: i32 = 5;
const BY_SIGNAL_FIRST: i32 = 6;
const BY_MOVE: i32 = 7;

/// Answers faults as it is told to.
extern "C" fn serve(_: *mut c_void) -> i32 {
    let fd = FD.load(SeqCst);
    loop {
        let mut msg = [0u64; 4];
        if sc!(SYS_read, fd, at_mut(&mut msg), 32).0 != 32 {
            return 0;
        }
        let page = msg[2] & !(PAGE - 1);
        FLAGS.store(msg[0] & 0xff | msg[1] << 8, SeqCst);
        OFFSET.store(msg[2] - BASE.load(SeqCst), SeqCst);
        THREAD_OF.store(msg[3], SeqCst);
        let before = FAULTS.fetch_add(1, SeqCst);
        let source = SOURCE.load(SeqCst);
        let how = HOW.load(SeqCst);
        let answer = |op: u64, arg: &mut [u64]| sc!(SYS_ioctl, fd, op, at_mut(arg));
        match how {
            BY_COPY => answer(COPY, &mut [page, source, PAGE, 0, 0]),
            BY_MOVE => answer(MOVE, &mut [page, source, PAGE, 0, 0]),
            BY_ZERO => answer(ZEROPAGE, &mut [page, PAGE, 0, 0]),
            BY_UNPROTECTING => answer(WRITEPROTECT, &mut [page, PAGE, 0]),
            BY_UNREGISTERING => answer(UNREGISTER, &mut [page, PAGE]),
            BY_CLOSING => sc!(SYS_close, fd),
            BY_WAKING_FIRST if before == 0 => answer(WAKE, &mut [page, PAGE]),
            BY_SIGNAL_FIRST if before == 0 => {
                sc!(SYS_tgkill, sc!(SYS_getpid), FAULTING.load(SeqCst), SIGUSR1)
            }
            _ => answer(ZEROPAGE, &mut [page, PAGE, 0, 0]),
        };
    }
}
fn answering(fd: i32, base: u64, how: i32) {
    FD.store(fd, SeqCst);
    HOW.store(how, SeqCst);
    BASE.store(base, SeqCst);
    FAULTS.store(0, SeqCst);
    FAULTING.store(gettid(), SeqCst);
    if !spawn(THREAD, serve, 0, 0, 0).ok() {
        say!("no thread");
    }
}
fn seen() -> String {
    let flags = FLAGS.load(SeqCst);
    let faults = FAULTS.load(SeqCst);
    // Whether a page that is not there was missed by a write is not known on every platform.
    let (event, protected) = (flags & 0xff, flags >> 8 & !1);
    format!("{faults} event {event:#x} flags {protected:#x} at {:#x}", OFFSET.load(SeqCst))
}

fn opening() {
    let fd = create(0);
    p!(fcntl(fd, F_GETFD, 0), fcntl(fd, F_GETFL, 0).0 & 0xfff, fstat(fd));
    p!(readlink(&CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default(), 64));
    p!(fcntl(create(O_CLOEXEC | O_NONBLOCK), F_GETFD, 0), create(USER_MODE_ONLY) >= 0);
    p!(sc!(SYS_userfaultfd, 2), sc!(SYS_userfaultfd, 1 << 30), sc!(SYS_userfaultfd, O_APPEND));
    p!(rd(fd, 32), wr(fd, "x"), sc!(SYS_lseek, fd, 0, 0), poll(&[(fd, POLLIN)], 0));
    p!(range(fd, WAKE, 0, PAGE), ioctl(fd, 0xaa99, 0u64), ioctl(fd, API, 8u64));
    p!(
        ioctl(fd, API, at_mut(&mut [0xabu64, 0, 0])),
        ioctl(fd, API, at_mut(&mut [0xaau64, 1 << 60, 0]))
    );
    let mut api = [0xaau64, 0, 0];
    p!(ioctl(fd, API, at_mut(&mut api)), api[0], api[1] & 0x981, format!("{:#x}", api[2]));
    p!(ioctl(fd, API, at_mut(&mut api)), api[0], api[2], rd(fd, 31), ioctl(fd, 0xaa99, 0u64));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    p!(rd(fd, 32), poll(&[(fd, POLLIN)], 0));
    p!(run(|| {
        let uid = fresh_uid();
        p!(sc!(SYS_setresuid, uid, uid, uid), sc!(SYS_userfaultfd, 0), sc!(SYS_userfaultfd, 2));
        p!(create(USER_MODE_ONLY) >= 0, open(c"/dev/userfaultfd", O_RDWR, 0));
        0
    }));
}

fn the_device() {
    let device = open(c"/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0).fd();
    p!(stat(c"/dev/userfaultfd"), ioctl(device, 0xaa01, 0u64), ioctl(device, 0xaa00, 2u64));
    let fd = ioctl(device, 0xaa00, O_CLOEXEC as u64).fd();
    p!(fd >= 0, fcntl(fd, F_GETFD, 0), agree(fd, 0), rd(device, 32), wr(device, "x"));
    let area = anon(1);
    p!(register(fd, area, PAGE, MISSING));
    answering(fd, area, BY_ZERO);
    p!(peek(area), seen());
}

fn registering() {
    let fd = ready(0);
    let area = anon(4);
    let reg = |start: u64, len: u64, mode: u64| register(fd, start, len, mode);
    p!(reg(area, PAGE, 0), reg(area, PAGE, 8), reg(area, PAGE, 1 << 40), reg(area, PAGE, 4));
    p!(
        reg(area + 1, PAGE, 1),
        reg(area, PAGE + 1, 1),
        reg(area, 0, 1),
        reg(u64::MAX - 8191, PAGE, 1)
    );
    p!(reg(0, PAGE, 1), reg(area, 1 << 60, 1));
    let mut arg = [area, 2 * PAGE, MISSING, 0];
    p!(ioctl(fd, REGISTER, at_mut(&mut arg)), format!("{:#x}", arg[3] & 0x7f));
    let mut arg = [area, 2 * PAGE, MISSING | WP, 0];
    p!(ioctl(fd, REGISTER, at_mut(&mut arg)), format!("{:#x}", arg[3] & 0x7f));
    p!(reg(area, 4 * PAGE, MISSING), register(ready(0), area, PAGE, MISSING));
    let none = mmap(0, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).addr();
    // Not on a memory file system, whose files can be watched.
    let file = open(c"/proc/self/exe", O_RDONLY, 0).fd();
    let mapped = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, file, 0).addr();
    // Last, so that nothing is mapped into it.
    let hole = anon(3);
    munmap(hole + PAGE, PAGE);
    p!(reg(hole, 3 * PAGE, MISSING), reg(hole + PAGE, PAGE, MISSING));
    p!(reg(none, PAGE, MISSING), peek(none));
    p!(reg(mapped, PAGE, MISSING));
    let off = |start: u64, len: u64| range(fd, UNREGISTER, start, len);
    p!(
        off(area, 0),
        off(area + 1, PAGE),
        off(hole + PAGE, PAGE),
        off(mapped, PAGE),
        off(area, PAGE)
    );
    p!(peek(area), off(area, PAGE), range(fd, WAKE, area, 0), range(fd, WAKE, area, PAGE));
}

fn missing_pages_are_answered() {
    let (fd, area, source) = (ready(0), anon(4), anon(1));
    fill(source, &[7; 4096]);
    poke(area + PAGE, 9);
    p!(register(fd, area, 4 * PAGE, MISSING));
    SOURCE.store(source, SeqCst);
    answering(fd, area, BY_COPY);
    p!(peek(area + 5), seen(), peek(area), seen(), peek(area + PAGE), seen());
    p!(poke(area + 2 * PAGE + 8, 1), seen(), peek(area + 2 * PAGE), peek(area + 2 * PAGE + 8));
    HOW.store(BY_ZERO, SeqCst);
    p!(peek(area + 3 * PAGE), seen(), poke(area + 3 * PAGE, 3), peek(area + 3 * PAGE), seen());
}

fn the_kernel_waits_too() {
    let (fd, area, source) = (ready(0), anon(4), anon(1));
    fill(source, b"/dev/null\0");
    register(fd, area, 4 * PAGE, MISSING);
    SOURCE.store(source, SeqCst);
    answering(fd, area, BY_COPY);
    let [r, w] = pipe(0);
    wr(w, "bytes");
    p!(sc!(SYS_open, area, O_RDONLY, 0).ok(), seen(), sc!(SYS_read, r, area + PAGE, 5), seen());
    p!(
        peek(area + PAGE),
        peek(area + PAGE + 5),
        sc!(SYS_write, w, area + 2 * PAGE, 9),
        seen(),
        rd(r, 20)
    );
    p!(futex_wait(area + 3 * PAGE, 0, 0), FAULTS.load(SeqCst));
    let user = create(USER_MODE_ONLY);
    agree(user, 0);
    let other = anon(2);
    p!(register(user, other, 2 * PAGE, MISSING), sc!(SYS_open, other, O_RDONLY, 0));
    p!(sc!(SYS_write, w, other, 5), sc!(SYS_fstat, w, other));
    FD.store(user, SeqCst);
    answering(user, other, BY_ZERO);
    p!(peek(other), seen(), sc!(SYS_fstat, w, other));
}

fn filling_in_advance() {
    let (fd, area, source) = (ready(0), anon(8), anon(4));
    fill(source, &[5; 4 * 4096]);
    p!(copy_to(fd, area, source, PAGE, 0), zero(fd, area, PAGE, 0));
    register(fd, area, 6 * PAGE, MISSING);
    p!(
        copy_to(fd, area, source, 2 * PAGE, 0),
        peek(area + PAGE),
        copy_to(fd, area, source, PAGE, 0)
    );
    p!(
        copy_to(fd, area + 1, source, PAGE, 0),
        copy_to(fd, area, source, PAGE + 1, 0),
        copy_to(fd, area, source, 0, 0)
    );
    p!(
        copy_to(fd, area + 2 * PAGE, source, PAGE, 1 << 5),
        copy_to(fd, area + 2 * PAGE, 8, PAGE, 0)
    );
    p!(copy_to(fd, area + 2 * PAGE, source + 1, PAGE, 0), peek(area + 2 * PAGE + 4095));
    p!(
        copy_to(fd, area + 5 * PAGE, source, 2 * PAGE, 0),
        copy_to(fd, area + 6 * PAGE, source, PAGE, 0)
    );
    p!(
        copy_to(fd, area + 4 * PAGE, source, PAGE, 2),
        zero(fd, area + 3 * PAGE, PAGE, 1),
        peek(area + 3 * PAGE)
    );
    p!(
        zero(fd, area + 3 * PAGE, PAGE, 0),
        zero(fd, area + 2, PAGE, 0),
        zero(fd, area, PAGE, 2),
        zero(fd, area, 0, 0)
    );
    // What is there stops a copy that has begun.
    p!(zero(fd, area + 5 * PAGE, PAGE, 0), copy_to(fd, area + 4 * PAGE, source, 2 * PAGE, 0));
    let mut arg = [area + 4 * PAGE, PAGE, 0, 77];
    p!(ioctl(fd, CONTINUE, at_mut(&mut arg)), Ret(arg[3] as i64), protect(fd, area, PAGE, 1));
    let gone = anon(1);
    munmap(gone, PAGE);
    p!(copy_to(fd, area + 4 * PAGE, gone, PAGE, 0), copy_to(fd, gone, source, PAGE, 0));
    p!(get(&CString::new(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default())
        .text()
        .contains("pending:\t0"));
}

fn waking_without_an_answer() {
    let (fd, area) = (ready(0), anon(1));
    register(fd, area, PAGE, MISSING);
    answering(fd, area, BY_WAKING_FIRST);
    p!(peek(area), seen());
}

fn signals_are_handled_meanwhile() {
    let (fd, area) = (ready(0), anon(1));
    register(fd, area, PAGE, MISSING);
    catch(SIGUSR1, 0);
    answering(fd, area, BY_SIGNAL_FIRST);
    p!(peek(area), seen(), caught());
}

fn unregistering_and_closing_let_go() {
    let (fd, area) = (ready(0), anon(2));
    register(fd, area, 2 * PAGE, MISSING);
    answering(fd, area, BY_UNREGISTERING);
    p!(peek(area), seen());
    HOW.store(BY_CLOSING, SeqCst);
    p!(poke(area + PAGE, 4), seen(), peek(area + PAGE));
}

fn killed_while_it_waits() {
    let [r, w] = pipe(0);
    let waiting = child(|| {
        let (fd, area) = (ready(0), anon(1));
        register(fd, area, PAGE, MISSING);
        wr(w, "x");
        peek(area);
        0
    });
    rd(r, 1);
    nap(20);
    p!(wait_opt(waiting, WNOHANG), kill(waiting, SIGKILL), wait(waiting));
    let waiting = child(|| {
        let (fd, area) = (ready(0), anon(1));
        register(fd, area, PAGE, MISSING);
        wr(w, "x");
        sc!(SYS_getcwd, area, 100);
        0
    });
    rd(r, 1);
    nap(20);
    p!(wait_opt(waiting, WNOHANG), kill(waiting, SIGTERM), kill(waiting, SIGKILL), wait(waiting));
}

fn pages_go_missing_again() {
    let (fd, area) = (ready(0), anon(3));
    fill(area, &[1; 3 * 4096]);
    register(fd, area, 3 * PAGE, MISSING);
    p!(peek(area), sc!(SYS_madvise, area, 2 * PAGE, MADV_DONTNEED));
    answering(fd, area, BY_ZERO);
    p!(peek(area), seen(), peek(area + 2 * PAGE), seen());
    p!(run(|| i32::from(peek(area + PAGE) == Touch::Value(0))), seen());
    p!(mprotect(area + PAGE, PAGE, PROT_READ), peek(area + PAGE), seen());
    p!(mprotect(area + PAGE, PAGE, PROT_NONE), peek(area + PAGE), seen());
}

fn moving_and_growing_areas() {
    let (fd, area) = (ready(0), anon(4));
    register(fd, area, 4 * PAGE, MISSING);
    answering(fd, area, BY_ZERO);
    p!(poke(area, 6), seen());
    let moved = sc!(SYS_mremap, area, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
    p!(moved.ok(), peek(moved.addr()), peek(moved.addr() + PAGE), seen(), peek(area), seen());
    let moved = sc!(SYS_mremap, area + 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0);
    p!(moved.ok(), peek(moved.addr()), peek(moved.addr() + PAGE), seen());
    p!(
        munmap(area + 3 * PAGE, PAGE),
        mmap(area + 3 * PAGE, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0).ok()
    );
    p!(peek(area + 3 * PAGE), seen());
}

fn write_protection() {
    let (fd, area) = (ready(1), anon(4));
    fill(area, &[1; 2 * 4096]);
    p!(protect(fd, area, PAGE, 1), register(fd, area, 3 * PAGE, WP));
    p!(
        protect(fd, area, 2 * PAGE, 1),
        protect(fd, area, PAGE, 3),
        protect(fd, area, PAGE, 4),
        protect(fd, area, 0, 1)
    );
    p!(protect(fd, area + 2 * PAGE, 2 * PAGE, 1), protect(fd, area + 1, PAGE, 1));
    answering(fd, area, BY_UNPROTECTING);
    p!(peek(area), seen(), poke(area, 2), seen(), poke(area, 3), seen(), peek(area));
    p!(poke(area + 2 * PAGE, 1), seen());
    let [r, w] = pipe(0);
    wr(w, "z");
    p!(sc!(SYS_read, r, area + PAGE, 1), seen(), peek(area + PAGE));
    p!(protect(fd, area, PAGE, 1), protect(fd, area, PAGE, 2), poke(area, 9), seen());
    p!(
        protect(fd, area, PAGE, 1),
        run(|| i32::from(poke(area, 8) == Touch::Value(8))),
        seen(),
        peek(area)
    );
    p!(
        poke(area, 10),
        seen(),
        protect(fd, area, PAGE, 1),
        range(fd, UNREGISTER, area, PAGE),
        poke(area, 1),
        seen()
    );
}

fn protected_copies() {
    let (fd, area, source) = (ready(1), anon(2), anon(1));
    fill(source, &[3; 4096]);
    register(fd, area, 2 * PAGE, MISSING | WP);
    p!(copy_to(fd, area, source, PAGE, 2), peek(area));
    answering(fd, area, BY_UNPROTECTING);
    p!(poke(area, 4), seen(), peek(area));
    p!(sc!(SYS_madvise, area, PAGE, MADV_DONTNEED));
    HOW.store(BY_ZERO, SeqCst);
    p!(poke(area, 4), seen());
}

fn moving_pages() {
    let (fd, area, source) = (ready(0), anon(4), anon(4));
    fill(source, &[3; 2 * 4096]);
    p!(move_to(fd, area, source, PAGE, 0));
    register(fd, area, 3 * PAGE, MISSING);
    p!(
        move_to(fd, area, source, PAGE, 0),
        peek(area),
        peek(source),
        move_to(fd, area, source + PAGE, PAGE, 0)
    );
    p!(
        move_to(fd, area + PAGE, source + 2 * PAGE, PAGE, 0),
        move_to(fd, area + PAGE, source + 1, PAGE, 0)
    );
    p!(
        move_to(fd, area + PAGE, source + PAGE, PAGE, 1 << 6),
        move_to(fd, area + PAGE, source + PAGE, 0, 0)
    );
    SOURCE.store(source + PAGE, SeqCst);
    answering(fd, area, BY_MOVE);
    p!(peek(area + 2 * PAGE), seen(), peek(source + PAGE), poke(area, 8), peek(area), seen());
}

fn what_events_tell() {
    let (fd, area) = (ready(THREAD_ID | EXACT_ADDRESS), anon(2));
    register(fd, area, 2 * PAGE, MISSING);
    answering(fd, area, BY_ZERO);
    p!(peek(area + 0x123), seen(), THREAD_OF.load(SeqCst) == gettid() as u64);
    let (fd, area) = (ready(SIGBUS_FEATURE), anon(1));
    register(fd, area, PAGE, MISSING);
    p!(
        peek(area),
        poke(area + 1, 1),
        sc!(SYS_getcwd, area, 100),
        zero(fd, area, PAGE, 0),
        peek(area)
    );
}

fn reading_events() {
    let fd = create(O_NONBLOCK);
    agree(fd, 0);
    let area = anon(1);
    register(fd, area, PAGE, MISSING);
    p!(rd(fd, 32), poll(&[(fd, POLLIN)], 0));
    extern "C" fn touch(at: *mut c_void) -> i32 {
        sc!(SYS_access, at as u64, 0);
        0
    }
    spawn(THREAD, touch, area, 0, 0);
    p!(
        poll(&[(fd, POLLIN)], 5000),
        rd(fd, 31),
        sc!(SYS_read, fd, 8u64, 32),
        poll(&[(fd, POLLIN)], 0)
    );
    p!(rd(fd, 100).bytes().len(), poll(&[(fd, POLLIN)], 0), rd(fd, 32));
    p!(zero(fd, area, PAGE, 0));
}

cases![
    opening,
    the_device,
    registering,
    missing_pages_are_answered,
    the_kernel_waits_too,
    filling_in_advance,
    waking_without_an_answer,
    signals_are_handled_meanwhile,
    unregistering_and_closing_let_go,
    killed_while_it_waits,
    pages_go_missing_again,
    moving_and_growing_areas,
    write_protection,
    protected_copies,
    moving_pages,
    what_events_tell,
    reading_events,
];
