//! Pipes, fifos, eventfd, and moving data with splice, tee, sendfile and copy_file_range.

use crate::prelude::*;
use std::thread;

fn pipe_basics() {
    let fds = pipe(0);
    p!(fds[0], fds[1], wr(fds[1], "hello"), rd(fds[0], 3), rd(fds[0], 10), rd(fds[1], 1));
    p!(wr(fds[0], "x"));
    p!(fstat(fds[0]), close(fds[1]), rd(fds[0], 1));
}

fn pipe_flags_and_errors() {
    let fds = pipe(O_CLOEXEC | O_NONBLOCK);
    p!(fcntl(fds[0], F_GETFD, 0), fcntl(fds[1], F_GETFL, 0), rd(fds[0], 1));
    p!(sc!(SYS_pipe2, 8u64, 0));
    p!(sc!(SYS_pipe2, at_mut(&mut [0i32; 2]), 0x8), sc!(SYS_pipe, 8u64), pipe(O_DIRECT)[0] > 0);
}

fn pipe_capacity() {
    let fds = pipe(O_NONBLOCK);
    p!(fcntl(fds[0], F_GETPIPE_SZ, 0), fcntl(fds[0], F_SETPIPE_SZ, 5000));
    p!(fcntl(fds[0], F_GETPIPE_SZ, 0));
    p!(fcntl(fds[0], F_SETPIPE_SZ, 1), wr(fds[1], vec![0; 10_000]), wr(fds[1], "x"));
    p!(rd(fds[0], 100).bytes().len());
    p!(fcntl(fds[0], F_SETPIPE_SZ, -1), fcntl(fds[0], F_SETPIPE_SZ, 65_536), wr(fds[1], "x"));
}

fn pipe_shrink_below_its_contents() {
    let fds = pipe(O_NONBLOCK);
    wr(fds[1], vec![0; 20_000]);
    p!(fcntl(fds[0], F_SETPIPE_SZ, 4096), rd(fds[0], 20_000).bytes().len());
    p!(fcntl(fds[0], F_SETPIPE_SZ, 4096));
}

fn pipe_writes_up_to_pipe_buf_are_atomic() {
    let fds = pipe(O_NONBLOCK);
    let size = fcntl(fds[1], F_GETPIPE_SZ, 0).0 as usize;
    p!(wr(fds[1], vec![1; size - 100]).ok(), wr(fds[1], vec![2; 4096]));
    p!(poll(&[(fds[1], POLLOUT)], 0));
    rd(fds[0], 8192);
    p!(wr(fds[1], vec![2; 4096]), poll(&[(fds[1], POLLOUT), (fds[0], POLLIN)], 0));
}

fn pipe_blocked_writer_wakes() {
    let fds = pipe(0);
    let writer = thread::spawn(move || wr(fds[1], vec![7; 200_000]));
    let mut total = 0;
    while total < 200_000 {
        total += rd(fds[0], 30_000).bytes().len();
    }
    p!(total, writer.join().unwrap_or(Ret(-1)));
}

fn pipe_reader_goes_away_while_writing() {
    ignore(SIGPIPE);
    let fds = pipe(0);
    let writer = thread::spawn(move || wr(fds[1], vec![7; 200_000]));
    p!(until(|| poll(&[(fds[1], POLLOUT)], 0) == "0 [none]"), close(fds[0]));
    p!(writer.join().map_or(0, |r| r.0) > 0, wr(fds[1], "x"));
}

fn pipe_packet_mode() {
    let fds = pipe(O_DIRECT);
    wr(fds[1], "first");
    wr(fds[1], "second");
    p!(rd(fds[0], 100), rd(fds[0], 3), poll(&[(fds[0], POLLIN)], 0));
}

fn pipe_fionread_and_zero_length() {
    let fds = pipe(O_NONBLOCK);
    let mut n = -1i32;
    wr(fds[1], "12345");
    p!(ioctl(fds[0], FIONREAD, at_mut(&mut n)), n, ioctl(fds[1], FIONREAD, at_mut(&mut n)), n);
    p!(wr(fds[1], ""), rd(fds[0], 0), rd(fds[0], 100), rd(fds[0], 0), rd(fds[0], 1));
}

fn pipe_reopened_through_proc() {
    let fds = pipe(0);
    let path = CString::new(format!("/proc/self/fd/{}", fds[0])).unwrap_or_default();
    let writer = open(&path, O_WRONLY, 0);
    p!(writer.ok(), wr(writer, "back"), rd(fds[0], 10));
    p!(readlink(&path, 100).text().starts_with("pipe:["));
}

fn fifo_open_waits_for_the_other_side() {
    sc!(SYS_mknod, c"f", S_IFIFO | 0o600, 0u64);
    let writer = thread::spawn(|| {
        let fd = open(c"f", O_WRONLY, 0);
        let written = wr(fd, "through");
        close(fd);
        (fd.ok(), written)
    });
    let reader = open(c"f", O_RDONLY, 0);
    let (opened, written) = writer.join().unwrap_or((false, Ret(-1)));
    p!(opened, written, rd(reader, 100), rd(reader, 1), stat(c"f"));
}

fn fifo_nonblocking_open() {
    sc!(SYS_mknod, c"f", S_IFIFO | 0o600, 0u64);
    p!(open(c"f", O_WRONLY | O_NONBLOCK, 0), open(c"f", O_RDONLY | O_NONBLOCK, 0), rd(3, 1));
    p!(open(c"f", O_WRONLY | O_NONBLOCK, 0), rd(3, 1), wr(4, "x"), rd(3, 5), close(4), rd(3, 5));
    p!(open(c"f", O_RDWR, 0), lseek(3, 0, SEEK_SET), open(c"f", O_PATH, 0).ok());
}

fn fifo_poll_states() {
    sc!(SYS_mknod, c"f", S_IFIFO | 0o600, 0u64);
    let r = open(c"f", O_RDONLY | O_NONBLOCK, 0).fd();
    p!(poll(&[(r, POLLIN)], 0));
    let w = open(c"f", O_WRONLY, 0).fd();
    p!(poll(&[(r, POLLIN), (w, POLLOUT)], 0), close(w), poll(&[(r, POLLIN)], 0));
    let w = open(c"f", O_WRONLY, 0).fd();
    p!(poll(&[(r, POLLIN)], 0), close(r), poll(&[(w, POLLOUT)], 0));
}

fn fifo_open_interrupted() {
    sc!(SYS_mknod, c"f", S_IFIFO | 0o600, 0u64);
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 10, 10);
    p!(open(c"f", O_RDONLY, 0), open(c"f", O_WRONLY, 0));
    setitimer(ITIMER_REAL, 0, 0);
}

fn eventfd(value: u32, flags: i32) -> i32 {
    sc!(SYS_eventfd2, value, flags).fd()
}
fn number(got: Got) -> String {
    match <[u8; 8]>::try_from(got.bytes()) {
        Ok(bytes) => u64::from_le_bytes(bytes).to_string(),
        Err(_) => got.to_string(),
    }
}

fn eventfd_counter() {
    let fd = eventfd(3, EFD_NONBLOCK);
    p!(number(rd(fd, 8)), number(rd(fd, 8)), wr(fd, 5u64.to_le_bytes()));
    p!(wr(fd, 6u64.to_le_bytes()), number(rd(fd, 100)));
    p!(rd(fd, 7), wr(fd, [0; 7]), wr(fd, u64::MAX.to_le_bytes()));
    p!(wr(fd, (u64::MAX - 1).to_le_bytes()), wr(fd, 1u64.to_le_bytes()));
    p!(poll(&[(fd, POLLIN | POLLOUT)], 0), number(rd(fd, 8)), poll(&[(fd, POLLIN | POLLOUT)], 0));
}

fn eventfd_semaphore() {
    let fd = eventfd(2, EFD_NONBLOCK | EFD_SEMAPHORE);
    p!(number(rd(fd, 8)), number(rd(fd, 8)), number(rd(fd, 8)), sc!(SYS_eventfd2, 0, 0x8));
    p!(fcntl(eventfd(0, EFD_CLOEXEC), F_GETFD, 0));
    p!(lseek(fd, 0, SEEK_SET), pread(fd, 8, 0), fstat(fd).ret);
}

fn eventfd_wakes_readers_and_writers() {
    let fd = eventfd(0, 0);
    let reader = thread::spawn(move || number(rd(fd, 8)));
    p!(wr(fd, 9u64.to_le_bytes()), reader.join().unwrap_or_default());
    wr(fd, (u64::MAX - 1).to_le_bytes());
    let writer = thread::spawn(move || wr(fd, 4u64.to_le_bytes()));
    p!(number(rd(fd, 8)), writer.join().unwrap_or(Ret(-1)), number(rd(fd, 8)));
}

fn sendfile(out: i32, input: i32, offset: u64, count: usize) -> Ret {
    sc!(SYS_sendfile, out, input, offset, count)
}

fn sendfile_to_a_pipe() {
    put(c"f", "0123456789");
    let fd = open(c"f", O_RDONLY, 0).fd();
    let fds = pipe(0);
    let mut offset = 2i64;
    p!(sendfile(fds[1], fd, at_mut(&mut offset), 4), offset, rd(fds[0], 10));
    p!(lseek(fd, 0, SEEK_CUR));
    p!(sendfile(fds[1], fd, 0, 3), rd(fds[0], 10), lseek(fd, 0, SEEK_CUR));
    p!(sendfile(fds[1], fd, 0, 100), sendfile(fds[1], fd, 0, 1));
}

fn sendfile_between_files_and_errors() {
    put(c"f", "0123456789");
    let fd = open(c"f", O_RDONLY, 0).fd();
    let out = open(c"g", O_CREAT | O_RDWR, 0o644).fd();
    p!(sendfile(out, fd, 0, 10), get(c"g"), sendfile(fd, out, 0, 1), sendfile(out, fd, 8, 1));
    p!(sendfile(999, fd, 0, 1));
    let fds = pipe(0);
    p!(sendfile(out, fds[0], at_mut(&mut 0i64), 1), sendfile(out, fd, at_mut(&mut -1i64), 1));
    p!(sendfile(out, 999, 0, 1));
    let append = open(c"g", O_WRONLY | O_APPEND, 0).fd();
    p!(sendfile(append, fd, at_mut(&mut 0i64), 1));
}

fn splice(from: i32, from_at: u64, to: i32, to_at: u64, len: usize, flags: u32) -> Ret {
    sc!(SYS_splice, from, from_at, to, to_at, len, flags)
}

fn splice_file_to_pipe_and_back() {
    put(c"f", "splice me");
    let fd = open(c"f", O_RDWR, 0).fd();
    let fds = pipe(0);
    let mut offset = 3i64;
    p!(splice(fd, at_mut(&mut offset), fds[1], 0, 4, 0), offset, splice(fd, 0, fds[1], 0, 3, 0));
    p!(lseek(fd, 0, SEEK_CUR));
    let out = open(c"g", O_CREAT | O_RDWR, 0o644).fd();
    p!(splice(fds[0], 0, out, 0, 100, 0), get(c"g"));
    p!(splice(fds[0], 0, out, 0, 1, SPLICE_F_NONBLOCK));
}

fn splice_between_pipes() {
    let (a, b) = (pipe(0), pipe(0));
    wr(a[1], "abcdef");
    p!(splice(a[0], 0, b[1], 0, 4, 0), rd(b[0], 10), rd(a[0], 10), splice(a[0], 0, a[1], 0, 1, 0));
    close(a[1]);
    p!(splice(a[0], 0, b[1], 0, 4, 0));
}

fn splice_errors() {
    put(c"f", "x");
    let fd = open(c"f", O_RDWR, 0).fd();
    let fds = pipe(0);
    p!(splice(fd, 0, fd, 0, 1, 0), splice(fds[0], at_mut(&mut 0i64), fd, 0, 1, 0));
    p!(splice(fd, 0, fds[1], 0, 1, 0x100));
    p!(splice(999, 0, fds[1], 0, 1, 0), splice(fd, 8, fds[1], 0, 1, 0));
    p!(splice(fd, 0, fds[1], 0, 0, 0), splice(fds[1], 0, fd, 0, 1, 0));
    let append = open(c"f", O_WRONLY | O_APPEND, 0).fd();
    wr(fds[1], "data");
    p!(splice(fds[0], 0, append, 0, 1, 0));
    let dir = open(c".", O_RDONLY, 0).fd();
    p!(splice(dir, 0, fds[1], 0, 1, 0), splice(fds[0], 0, epoll(0), 0, 1, 0));
    p!(splice(fds[0], 0, sc!(SYS_eventfd2, 0, 0).fd(), 0, 1, 0));
}

fn splice_and_sockets() {
    let s = pair(SOCK_STREAM);
    let fds = pipe(0);
    p!(send(s[0], "from socket", 0), splice(s[1], 0, fds[1], 0, 100, 0), rd(fds[0], 100));
    p!(wr(fds[1], "to socket"), splice(fds[0], 0, s[0], 0, 100, 0), recv(s[1], 100, 0));
}

/// Whether a splice from a socket waits depends on the flags of the pipe, too; from an event counter there is none.
fn splice_from_a_socket_heeds_both() {
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 10, 10);
    let (event, s) = (eventfd(0, 0), pair(SOCK_STREAM));
    let (waits, returns) = (pipe(0), pipe(O_NONBLOCK));
    for out in [waits[1], returns[1]] {
        p!(splice(event, 0, out, 0, 8, 0), splice(event, 0, out, 0, 8, SPLICE_F_NONBLOCK));
        p!(splice(s[0], 0, out, 0, 8, 0), splice(s[0], 0, out, 0, 8, SPLICE_F_NONBLOCK));
    }
    setitimer(ITIMER_REAL, 0, 0);
    default(SIGALRM);
}

fn tee_duplicates() {
    let (a, b) = (pipe(0), pipe(0));
    wr(a[1], "twice");
    let tee = |from: i32, to: i32, flags: u32| sc!(SYS_tee, from, to, 100, flags);
    p!(tee(a[0], b[1], 0), rd(a[0], 10), rd(b[0], 10), tee(a[0], b[1], SPLICE_F_NONBLOCK));
    p!(tee(a[0], a[1], 0));
    put(c"f", "");
    p!(tee(open(c"f", O_RDONLY, 0).fd(), b[1], 0), tee(a[0], b[1], 0x100));
}

fn vmsplice_both_ways() {
    let fds = pipe(0);
    let data = iov(&[(at(b"user memory"), 11)]);
    p!(sc!(SYS_vmsplice, fds[1], at(&*data), 1, 0), rd(fds[0], 20), wr(fds[1], "back"));
    let mut buf = [0u8; 4];
    let into = iov(&[(at_mut(&mut buf), 4)]);
    p!(sc!(SYS_vmsplice, fds[0], at(&*into), 1, 0), buf.escape_ascii().to_string());
    p!(sc!(SYS_vmsplice, fds[1], 8u64, 1, 0));
    p!(sc!(SYS_vmsplice, 1000, at(&*into), 1, 0), sc!(SYS_vmsplice, fds[1], at(&*into), 1, 0x100));
}

fn copy_file_range() {
    put(c"f", "0123456789");
    let (from, to) = (open(c"f", O_RDONLY, 0).fd(), open(c"g", O_CREAT | O_RDWR, 0o644).fd());
    let (mut a, mut b) = (2i64, 5i64);
    let copy = |a: u64, b: u64, len: usize, flags: u32| {
        sc!(SYS_copy_file_range, from, a, to, b, len, flags)
    };
    p!(copy(at_mut(&mut a), at_mut(&mut b), 3, 0), a, b, get(c"g"), copy(0, 0, 4, 0), get(c"g"));
    p!(lseek(from, 0, SEEK_CUR));
    p!(copy(at(&100i64), 0, 4, 0), copy(0, 0, 4, 1), copy(8, 0, 4, 0), copy(0, 0, 0, 0));
    p!(copy(at(&-1i64), 0, 4, 0));
    p!(sc!(SYS_copy_file_range, to, 0u64, from, 0u64, 1, 0));
    p!(sc!(SYS_copy_file_range, from, 0u64, pipe(0)[1], 0u64, 1, 0));
    p!(sc!(SYS_copy_file_range, to, at(&0i64), to, at(&1i64), 3, 0));
    p!(sc!(SYS_copy_file_range, to, at(&0i64), to, at(&50i64), 3, 0));
    p!(sc!(SYS_copy_file_range, open(c".", O_RDONLY, 0), 0u64, to, 0u64, 1, 0));
}

cases![
    pipe_basics,
    pipe_flags_and_errors,
    pipe_capacity,
    pipe_shrink_below_its_contents,
    pipe_writes_up_to_pipe_buf_are_atomic,
    pipe_blocked_writer_wakes,
    pipe_reader_goes_away_while_writing,
    pipe_packet_mode,
    pipe_fionread_and_zero_length,
    pipe_reopened_through_proc,
    fifo_open_waits_for_the_other_side,
    fifo_nonblocking_open,
    fifo_poll_states,
    fifo_open_interrupted,
    eventfd_counter,
    eventfd_semaphore,
    eventfd_wakes_readers_and_writers,
    sendfile_to_a_pipe,
    sendfile_between_files_and_errors,
    splice_file_to_pipe_and_back,
    splice_between_pipes,
    splice_errors,
    splice_and_sockets,
    splice_from_a_socket_heeds_both,
    tee_duplicates,
    vmsplice_both_ways,
    copy_file_range,
];
