//! Linux's own asynchronous I/O: contexts, requests, completions and the ring that programs read themselves.

use crate::prelude::*;

/// `struct iocb`.
type Iocb = [u64; 8];

const PREAD: u64 = 0;
const PWRITE: u64 = 1;
const FSYNC: u64 = 2;
const FDSYNC: u64 = 3;
const POLL: u64 = 5;
const NOOP: u64 = 6;
const PREADV: u64 = 7;
const PWRITEV: u64 = 8;

fn iocb(op: u64, fd: i32, buf: u64, len: usize, offset: i64) -> Iocb {
    [op + 100, 0, op | (fd as u32 as u64) << 32, buf, len as u64, offset as u64, 0, 0]
}

fn setup(nr: u32) -> u64 {
    let mut ctx = 0u64;
    let ret = sc!(SYS_io_setup, nr, at_mut(&mut ctx));
    if ret.ok() { ctx } else { 0 }
}

fn submit(ctx: u64, requests: &[&Iocb]) -> Ret {
    let list: Vec<u64> = requests.iter().map(|r| at(*r)).collect();
    sc!(SYS_io_submit, ctx, list.len(), at(list.as_slice()))
}

/// Completions as `data:result`.
fn events(ctx: u64, min: i64, max: i64, ms: i64) -> String {
    let mut buf = [[0i64; 4]; 16];
    let ret = sc!(SYS_io_getevents, ctx, min, max, at_mut(&mut buf), at(&span(ms)));
    let n = usize::try_from(ret.0).unwrap_or(0);
    let text: Vec<String> = buf[..n].iter().map(|e| format!("{}:{}", e[0], Ret(e[2]))).collect();
    format!("{ret} {}", text.join(" "))
}

fn setup_and_destroy() {
    let mut ctx = 0u64;
    p!(sc!(SYS_io_setup, 0, at_mut(&mut ctx)), sc!(SYS_io_setup, 5, 8u64));
    p!(sc!(SYS_io_setup, u32::MAX, at_mut(&mut ctx)), sc!(SYS_io_setup, 1 << 22, at_mut(&mut ctx)));
    p!(sc!(SYS_io_setup, 5, at_mut(&mut ctx)), ctx != 0, ctx % PAGE);
    p!(sc!(SYS_io_setup, 5, at_mut(&mut ctx)), sc!(SYS_io_destroy, ctx), sc!(SYS_io_destroy, ctx));
    p!(sc!(SYS_io_destroy, 0u64), sc!(SYS_io_destroy, u64::MAX), events(ctx, 0, 1, 0));
    p!(submit(ctx, &[]), sc!(SYS_io_setup, 1, PAGE * 3));
}

fn the_ring() {
    let ctx = setup(4);

    let half = |i: u64| word(ctx + i * 4).load(SeqCst);
    p!(half(1) > 8, half(2), half(3), format!("{:#x}", half(4)), half(5), half(6), half(7));
    let fd = open(c"f", O_CREAT | O_RDWR, 0o600).fd();
    p!(
        submit(ctx, &[&iocb(PWRITE, fd, at(b"abc"), 3, 0)]),
        half(2),
        half(3),
        word(ctx + 32).load(SeqCst)
    );
    p!(half(12), half(13));
    // As libraries do: take it without a call.
    word(ctx + 8).store(1, SeqCst);
    p!(events(ctx, 0, 1, 0), half(2), half(3));
}

fn reads_and_writes() {
    let ctx = setup(8);
    let fd = open(c"f", O_CREAT | O_RDWR, 0o600).fd();
    p!(submit(ctx, &[&iocb(PWRITE, fd, at(b"hello world"), 11, 0)]), events(ctx, 1, 1, 1000));
    let mut buf = [0u8; 16];
    let read = iocb(PREAD, fd, at_mut(&mut buf), 16, 6);
    p!(submit(ctx, &[&read]), events(ctx, 1, 4, 1000), buf[..5].escape_ascii().to_string());
    let parts = iov(&[(at(b"one"), 3), (at(b"two"), 3)]);
    p!(submit(ctx, &[&iocb(PWRITEV, fd, at(&*parts), 2, 4)]), events(ctx, 1, 1, 1000), get(c"f"));
    let mut two = ([0u8; 2], [0u8; 4]);
    let parts = iov(&[(at_mut(&mut two.0), 2), (at_mut(&mut two.1), 4)]);
    p!(submit(ctx, &[&iocb(PREADV, fd, at(&*parts), 2, 3)]), events(ctx, 1, 1, 1000));
    p!(two.0.escape_ascii().to_string(), two.1.escape_ascii().to_string());
    p!(submit(ctx, &[&iocb(PREAD, fd, at_mut(&mut buf), 4, 1000)]), events(ctx, 1, 1, 1000));
    p!(submit(ctx, &[&iocb(PREAD, fd, 8, 4, 0)]), events(ctx, 1, 1, 1000), lseek(fd, 0, SEEK_CUR));
}

fn several_at_once() {
    let ctx = setup(8);
    let fd = open(c"f", O_CREAT | O_RDWR, 0o600).fd();
    let all = [
        iocb(PWRITE, fd, at(b"aa"), 2, 0),
        iocb(FSYNC, fd, 0, 0, 0),
        iocb(FDSYNC, fd, 0, 0, 0),
        iocb(PWRITE, fd, at(b"bb"), 2, 2),
    ];
    let refs: Vec<&Iocb> = all.iter().collect();
    p!(submit(ctx, &refs).0, events(ctx, 4, 4, 5000).split(' ').count(), get(c"f"));
    p!(submit(ctx, &[&all[0], &iocb(99, fd, 0, 0, 0), &all[3]]), events(ctx, 1, 4, 1000));
    p!(submit(ctx, &[&iocb(99, fd, 0, 0, 0)]), events(ctx, 0, 4, 0));
}

fn request_errors() {
    let ctx = setup(4);
    let fd = open(c"f", O_CREAT | O_RDWR, 0o600).fd();
    let (reader, writer) = (open(c"f", O_RDONLY, 0).fd(), open(c"f", O_WRONLY, 0).fd());
    let mut buf = [0u8; 4];
    let to = at_mut(&mut buf);
    p!(submit(ctx, &[&iocb(PREAD, 999, to, 4, 0)]), submit(ctx, &[&iocb(PREAD, writer, to, 4, 0)]));
    p!(submit(ctx, &[&iocb(PWRITE, reader, to, 4, 0)]), submit(ctx, &[&iocb(NOOP, fd, 0, 0, 0)]));
    p!(
        submit(ctx, &[&iocb(PREAD, fd, to, 4, -1)]),
        submit(ctx, &[&iocb(PREAD, fd, to, usize::MAX, 0)])
    );
    p!(submit(ctx, &[&iocb(FSYNC, fd, 1, 0, 0)]), submit(ctx, &[&iocb(FSYNC, fd, 0, 1, 0)]));
    p!(submit(ctx, &[&iocb(POLL, fd, 0x10000, 0, 0)]), submit(ctx, &[&iocb(POLL, fd, 1, 1, 0)]));
    let mut odd = iocb(PREAD, fd, to, 4, 0);
    odd[6] = 1;
    p!(submit(ctx, &[&odd]));
    let mut odd = iocb(PREAD, fd, to, 4, 0);
    odd[1] = 1 << 63;
    p!(submit(ctx, &[&odd]));
    let mut odd = iocb(PREAD, fd, to, 4, 0);
    odd[7] = 1 | (999 << 32);
    p!(submit(ctx, &[&odd]));
    odd[7] = 1 | (fd as u64) << 32;
    p!(submit(ctx, &[&odd]));
    p!(sc!(SYS_io_submit, ctx, 1, 8u64), sc!(SYS_io_submit, ctx, 1, at(&[8u64])));
    p!(sc!(SYS_io_submit, ctx, -1, at(&[8u64])), sc!(SYS_io_submit, ctx, 0, 8u64));
    p!(sc!(SYS_io_submit, 4096u64, 1, at(&[8u64])), events(ctx, 0, 4, 0));
}

fn getevents_errors_and_waits() {
    let ctx = setup(4);
    p!(events(ctx, -1, 1, 0), events(ctx, 2, 1, 0), events(ctx, 0, -1, 0), events(ctx, 0, 0, 0));
    p!(sc!(SYS_io_getevents, ctx, 1, 1, 8u64, 8u64), events(4096, 0, 1, 0));
    p!(took(20, || sc!(SYS_io_getevents, ctx, 1, 1, 8u64, at(&span(30)))).1, events(ctx, 1, 1, 1));
    let fd = open(c"f", O_CREAT | O_RDWR, 0o600).fd();
    p!(submit(ctx, &[&iocb(PWRITE, fd, at(b"x"), 1, 0)]));
    p!(sc!(SYS_io_getevents, ctx, 1, 1, 8u64, at(&span(1000))), events(ctx, 0, 4, 0));
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 20, 0);
    p!(sc!(SYS_io_getevents, ctx, 1, 1, 8u64, 0u64), caught());
}

fn pgetevents(ctx: u64, min: i64, max: i64, to: u64, timeout: u64, mask: u64) -> Ret {
    syscall(333, &[ctx, min as u64, max as u64, to, timeout, mask])
}

fn pgetevents_with_a_mask() {
    let ctx = setup(4);
    catch(SIGALRM, 0);
    block(&[SIGALRM]);
    setitimer(ITIMER_REAL, 20, 0);
    let mask = set(&[SIGUSR1]);
    let pair = [at(&mask), 8];
    p!(pgetevents(ctx, 1, 1, 8u64, 0u64, at(&pair)), caught(), pending());
    p!(names(sigmask(SIG_BLOCK, 0)), pgetevents(ctx, 0, 1, 8u64, 0u64, at(&[at(&mask), 4])));
    p!(pgetevents(ctx, 1, 1, 8u64, at(&span(5)), 0u64));
}

fn counter_is_told() {
    let ctx = setup(4);
    let fd = open(c"f", O_CREAT | O_RDWR, 0o600).fd();
    let counter = sc!(SYS_eventfd2, 0, EFD_NONBLOCK).fd();
    let mut request = iocb(PWRITE, fd, at(b"x"), 1, 0);
    request[7] = 1 | (counter as u64) << 32;
    p!(submit(ctx, &[&request, &request]), poll(&[(counter, POLLIN)], 1000), rd(counter, 8));
    p!(events(ctx, 2, 4, 1000));
}

fn polls() {
    let ctx = setup(4);
    let [r, w] = pipe(O_NONBLOCK);
    let wait = iocb(POLL, r, POLLIN as u64, 0, 0);
    p!(submit(ctx, &[&wait]), events(ctx, 0, 1, 0), wr(w, "x"), events(ctx, 1, 1, 5000));
    p!(submit(ctx, &[&wait]), events(ctx, 1, 1, 5000), rd(r, 1), close(w));
    p!(submit(ctx, &[&iocb(POLL, r, POLLOUT as u64, 0, 0)]), events(ctx, 1, 1, 5000));
    let fd = open(c"f", O_CREAT | O_RDWR, 0o600).fd();
    p!(submit(ctx, &[&iocb(POLL, fd, (POLLIN | POLLOUT) as u64, 0, 0)]), events(ctx, 1, 1, 5000));
}

fn cancelling() {
    let ctx = setup(4);
    let [r, w] = pipe(O_NONBLOCK);
    let wait = iocb(POLL, r, POLLIN as u64, 0, 0);
    let mut out = [0u64; 4];
    p!(sc!(SYS_io_cancel, ctx, at(&wait), at_mut(&mut out)), submit(ctx, &[&wait]));
    p!(sc!(SYS_io_cancel, ctx, at(&wait), at_mut(&mut out)), events(ctx, 1, 1, 5000), wr(w, "x"));
    p!(events(ctx, 0, 1, 0), sc!(SYS_io_cancel, ctx, at(&wait), at_mut(&mut out)));
    let mut odd = wait;
    odd[1] = 7;
    p!(sc!(SYS_io_cancel, ctx, at(&odd), at_mut(&mut out)), sc!(SYS_io_cancel, ctx, 8u64, 8u64));
    p!(sc!(SYS_io_cancel, 4096u64, at(&wait), at_mut(&mut out)));
}

fn files_without_offsets() {
    let ctx = setup(4);
    let [r, w] = pipe(O_NONBLOCK);
    let mut buf = [0u8; 4];
    p!(submit(ctx, &[&iocb(PWRITE, w, at(b"ab"), 2, 0)]), events(ctx, 1, 1, 1000));
    let read = iocb(PREAD, r, at_mut(&mut buf), 4, 0);
    p!(submit(ctx, &[&read]), events(ctx, 1, 1, 1000), buf[..2].escape_ascii().to_string());
    p!(submit(ctx, &[&read]), events(ctx, 1, 1, 1000), submit(ctx, &[&iocb(FSYNC, r, 0, 0, 0)]));
    let dir = open(c".", O_RDONLY, 0).fd();
    p!(submit(ctx, &[&iocb(PREAD, dir, at_mut(&mut buf), 4, 0)]), events(ctx, 0, 1, 0));
    p!(close(r), ignore_pipe(), submit(ctx, &[&iocb(PWRITE, w, at(b"ab"), 2, 0)]));
    p!(events(ctx, 1, 1, 1000));
}

fn ignore_pipe() -> &'static str {
    ignore(SIGPIPE);
    "SIGPIPE ignored"
}

fn context_stays_with_its_memory() {
    let ctx = setup(4);
    let fd = open(c"f", O_CREAT | O_RDWR, 0o600).fd();
    let write = iocb(PWRITE, fd, at(b"x"), 1, 0);
    p!(run(|| {
        p!(submit(ctx, &[&write]), sc!(SYS_io_destroy, ctx), events(ctx, 0, 1, 0));
        0
    }));
    p!(submit(ctx, &[&write]), events(ctx, 1, 1, 1000));
}

fn destroyed_while_a_thread_waits() {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o600).fd();
    let write = iocb(PWRITE, fd, at(b"x"), 1, 0);
    let ends = (0..50).map(|_| {
        let ctx = setup(4);
        submit(ctx, &[&write]);
        let before = events(ctx, 1, 1, 1000) != "0";
        let waiting = std::thread::spawn(move || events(ctx, 1, 1, 20_000));
        sc!(SYS_sched_yield);
        let destroyed = sc!(SYS_io_destroy, ctx).ok();
        (before, destroyed, waiting.join().unwrap_or_default())
    });
    let mut ends: Vec<_> = ends.collect();
    ends.dedup();
    p!(format!("{ends:?}"));
}

fn no_more_than_there_is_room_for() {
    let ctx = setup(1);
    let fd = open(c"f", O_CREAT | O_RDWR, 0o600).fd();
    let write = iocb(PWRITE, fd, at(b"x"), 1, 0);
    let mut n = 0;
    while n < 10_000 && submit(ctx, &[&write]).ok() {
        n += 1;
    }
    p!(n > 1, submit(ctx, &[&write]), events(ctx, 1, 1, 1000), submit(ctx, &[&write]));
}

cases![
    setup_and_destroy,
    the_ring,
    reads_and_writes,
    several_at_once,
    request_errors,
    getevents_errors_and_waits,
    pgetevents_with_a_mask,
    counter_is_told,
    polls,
    cancelling,
    files_without_offsets,
    context_stays_with_its_memory,
    destroyed_while_a_thread_waits,
    no_more_than_there_is_room_for,
];
