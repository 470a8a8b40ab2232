//! Moving data between files without a buffer: `sendfile`, `splice`, `tee`, `vmsplice` and `copy_file_range` by
//! the kinds of both ends.

use crate::prelude::*;

fn splice(from: i32, to: i32, len: usize, flags: i32) -> Ret {
    sc!(SYS_splice, from, 0u64, to, 0u64, len, flags)
}
fn sendfile(out: i32, from: i32, len: usize) -> Ret {
    sc!(SYS_sendfile, out, from, 0u64, len)
}
fn copy_range(from: i32, to: i32, len: usize) -> Ret {
    sc!(SYS_copy_file_range, from, 0u64, to, 0u64, len, 0)
}
/// One descriptor of every kind, ready to be read.
fn kinds() -> Vec<(&'static str, i32)> {
    put(c"source", "0123456789");
    let mut all = vec![("file", open(c"source", O_RDONLY, 0).fd())];
    all.push(("directory", open(c".", O_RDONLY, 0).fd()));
    all.push(("path", open(c"source", O_PATH, 0).fd()));
    let [r, w] = pipe(O_NONBLOCK);
    wr(w, "pipe");
    all.push(("pipe", r));
    all.push(("writing end", w));
    let [a, b] = pair(SOCK_STREAM | SOCK_NONBLOCK);
    send(b, "socket", 0);
    all.push(("socket", a));
    let e = sc!(SYS_eventfd2, 1, O_NONBLOCK).fd();
    all.push(("counter", e));
    all.push(("zero", open(c"/dev/zero", O_RDONLY, 0).fd()));
    all.push(("proc", open(c"/proc/sys/kernel/ostype", O_RDONLY, 0).fd()));
    let memory = sc!(SYS_memfd_create, c"m", 0).fd();
    wr(memory, "memory");
    lseek(memory, 0, SEEK_SET);
    all.push(("memory file", memory));
    all.push(("epoll", epoll(0)));
    all.push(("timer", sc!(SYS_timerfd_create, CLOCK_MONOTONIC, O_NONBLOCK).fd()));
    all.push(("inotify", sc!(SYS_inotify_init1, O_NONBLOCK).fd()));
    all.push(("closed", -1));
    all
}

fn into_a_pipe_from_every_kind() {
    for (name, fd) in kinds() {
        let [r, w] = pipe(O_NONBLOCK);
        say!("{name}: {} then {}", splice(fd, w, 4, SPLICE_F_NONBLOCK as i32), rd(r, 9));
        close(r);
        close(w);
    }
}

fn out_of_a_pipe_into_every_kind() {
    for (name, fd) in kinds() {
        let [r, w] = pipe(O_NONBLOCK);
        wr(w, 1u64.to_ne_bytes());
        say!(
            "{name}: {} then {}",
            splice(r, fd, 8, SPLICE_F_NONBLOCK as i32),
            rd(r, 9).bytes().len()
        );
        close(r);
        close(w);
    }
}

fn files_are_sent_from_every_kind() {
    for (name, fd) in kinds() {
        let [a, b] = pair(SOCK_STREAM | SOCK_NONBLOCK);
        say!("{name} to a socket: {} then {}", sendfile(a, fd, 4), recv(b, 9, 0));
        let out = open(c"out", O_CREAT | O_RDWR | O_TRUNC, 0o644).fd();
        say!("{name} to a file: {} then {}", sendfile(out, fd, 4), get(c"out"));
        close(out);
    }
}

fn pipes_duplicate_only_pipes() {
    let [r, w] = pipe(O_NONBLOCK);
    wr(w, "abc");
    for (name, fd) in kinds() {
        say!("{name}: {} {}", sc!(SYS_tee, r, fd, 2, 0), sc!(SYS_tee, fd, w, 2, 0));
    }
    p!(sc!(SYS_tee, r, w, 2, 0), sc!(SYS_tee, r, w, 2, 0xff));
}

fn memory_goes_only_to_pipes() {
    let byte = anon(1);
    for (name, fd) in kinds() {
        say!("{name}: {}", sc!(SYS_vmsplice, fd, at(&*iov(&[(byte, 2)])), 1, SPLICE_F_NONBLOCK));
    }
}

fn lengths_of_nothing() {
    put(c"f", "0123");
    let (f, [r, w]) = (open(c"f", O_RDWR, 0).fd(), pipe(O_NONBLOCK));
    p!(splice(f, w, 0, 0), splice(r, f, 0, 0), splice(-1, w, 0, 0), splice(f, f, 0, 0));
    p!(sendfile(w, f, 0), sendfile(-1, f, 0), copy_range(f, f, 0), copy_range(-1, f, 0));
    p!(sc!(SYS_tee, r, w, 0, 0), sc!(SYS_tee, f, w, 0, 0), sc!(SYS_vmsplice, w, 0u64, 0, 0));
    p!(splice(f, w, 1, 0x80), splice(r, w, 1, 0), sc!(SYS_vmsplice, w, 8u64, 1, 0));
}

fn the_end_of_each_source() {
    put(c"f", "");
    let (f, [r, w], [r2, w2]) = (open(c"f", O_RDWR, 0).fd(), pipe(0), pipe(O_NONBLOCK));
    p!(splice(f, w2, 5, 0), sendfile(w2, f, 5));
    p!(splice(r2, f, 5, 0), sc!(SYS_tee, r2, w, 5, SPLICE_F_NONBLOCK));
    close(w2);
    p!(splice(r2, f, 5, 0), sc!(SYS_tee, r2, w, 5, 0), splice(r2, w, 5, 0));
    close(r);
    catch(SIGPIPE, 0);
    put(c"f", "data");
    p!(splice(f, w, 5, 0), caught(), sendfile(w, f, 5), caught());
    p!(sc!(SYS_vmsplice, w, at(&*iov(&[(at(b"x"), 1)])), 1, 0), caught());
    let [a, b] = pair(SOCK_STREAM);
    close(b);
    p!(sendfile(a, f, 2), caught(), splice(a, pipe(0)[1], 5, 0));
}

fn what_append_mode_forbids() {
    put(c"f", "0123");
    put(c"g", "abcd");
    let (f, g) = (open(c"f", O_RDWR | O_APPEND, 0).fd(), open(c"g", O_RDONLY, 0).fd());
    let [r, w] = pipe(0);
    wr(w, "x");
    p!(splice(r, f, 1, 0), sendfile(f, g, 2), copy_range(g, f, 2), get(c"f"));
    let read_only = open(c"f", O_RDONLY, 0).fd();
    p!(splice(r, read_only, 1, 0), sendfile(read_only, g, 2), copy_range(g, read_only, 2));
    let write_only = open(c"g", O_WRONLY, 0).fd();
    p!(splice(write_only, w, 1, 0), sendfile(f, write_only, 2), copy_range(write_only, f, 2));
}

fn a_file_onto_itself() {
    put(c"f", "0123456789");
    let (f, again) = (open(c"f", O_RDWR, 0).fd(), open(c"f", O_RDWR, 0).fd());
    let (mut from, mut to) = (0i64, 2i64);
    let copied = |from: &mut i64, to: &mut i64, len: usize| {
        sc!(SYS_copy_file_range, f, at_mut(from), again, at_mut(to), len, 0)
    };
    p!(copied(&mut from, &mut to, 5), from, to);
    (from, to) = (0, 5);
    p!(copied(&mut from, &mut to, 5), from, to, get(c"f"));
    (from, to) = (8, 12);
    p!(copied(&mut from, &mut to, 100), from, to, get(c"f"));
    (from, to) = (50, 0);
    p!(copied(&mut from, &mut to, 100), from, to);
    p!(sc!(SYS_copy_file_range, f, 0u64, again, 0u64, 1, 1));
    lseek(f, 0, SEEK_SET);
    p!(sendfile(again, f, 5), lseek(f, 0, SEEK_CUR), lseek(again, 0, SEEK_CUR), get(c"f"));
}

fn pipes_onto_themselves() {
    let [r, w] = pipe(O_NONBLOCK);
    wr(w, "abc");
    p!(splice(r, w, 3, 0), sc!(SYS_tee, r, w, 3, 0), sendfile(w, r, 3), rd(r, 9));
    sc!(SYS_mknod, c"fifo", S_IFIFO | 0o644, 0);
    let both = open(c"fifo", O_RDWR | O_NONBLOCK, 0).fd();
    wr(both, "xyz");
    p!(splice(both, both, 3, 0), splice(both, w, 2, 0), rd(r, 9), rd(both, 9));
}

fn a_pipe_of_packets_keeps_them() {
    let [r, w] = pipe(O_NONBLOCK | O_DIRECT);
    let [r2, w2] = pipe(O_NONBLOCK);
    wr(w, "one");
    wr(w, "two");
    p!(
        sc!(SYS_tee, r, w2, 100, 0),
        rd(r2, 100),
        splice(r, w2, 2, 0),
        rd(r2, 9),
        rd(r, 9),
        rd(r, 9)
    );
    p!(wr(w, "three"), splice(r, w2, 100, 0), rd(r2, 9));
}

fn a_full_pipe_takes_a_part() {
    put(c"f", vec![1u8; 200_000]);
    let (f, [r, w]) = (open(c"f", O_RDONLY, 0).fd(), pipe(0));
    p!(splice(f, w, 200_000, SPLICE_F_NONBLOCK as i32), splice(f, w, 1, SPLICE_F_NONBLOCK as i32));
    p!(lseek(f, 0, SEEK_CUR), fcntl(w, F_SETFL, O_NONBLOCK), sendfile(w, f, 10));
    p!(
        lseek(f, 0, SEEK_CUR),
        rd(r, 65536).bytes().len(),
        sendfile(w, f, 200_000),
        lseek(f, 0, SEEK_CUR)
    );
}

fn a_spliced_page_is_the_files() {
    // What is in the pipe is the file's page: it changes with it until it is read, or is a copy; both
    // are seen on Linux by the file system, so only what does not depend on it is looked at.
    put(c"f", "before");
    let (f, [r, w]) = (open(c"f", O_RDWR, 0).fd(), pipe(0));
    p!(splice(f, w, 6, 0), unlink(c"f"), close(f), rd(r, 9));
    let page = anon(1);
    fill(page, b"first");
    p!(sc!(SYS_vmsplice, w, at(&*iov(&[(page, 5)])), 1, 0), rd(r, 9), munmap(page, PAGE));
}

fn gifts_need_whole_pages() {
    let [r, w] = pipe(0);
    let page = anon(2);
    for (start, len) in [(page, 4096), (page + 1, 4096), (page, 5000)] {
        p!(
            sc!(SYS_vmsplice, w, at(&*iov(&[(start, len)])), 1, SPLICE_F_GIFT),
            rd(r, 8192).bytes().len()
        );
    }
    p!(sc!(SYS_vmsplice, w, at(&*iov(&[(0, 4096)])), 1, 0));
    p!(sc!(SYS_vmsplice, w, at(&*iov(&[(page, 10), (0, 10)])), 2, 0), rd(r, 100).bytes().len());
    p!(
        sc!(SYS_vmsplice, w, at(&*iov(&[(page, usize::MAX)])), 1, 0),
        sc!(SYS_vmsplice, w, 0u64, 2000, 0)
    );
    wr(w, "back");
    p!(
        sc!(SYS_vmsplice, r, at(&*iov(&[(page, 2), (page + 4096, 9)])), 2, 0),
        copy(page, 2) == b"ba"
    );
    p!(copy(page + 4096, 2) == b"ck", wr(w, "z"), sc!(SYS_vmsplice, r, at(&*iov(&[(0, 1)])), 1, 0));
}

fn from_sockets_of_both_kinds() {
    ignore(SIGPIPE);
    let [r, w] = pipe(O_NONBLOCK);
    let [a, b] = pair(SOCK_SEQPACKET | SOCK_NONBLOCK);
    send(a, "packet", 0);
    p!(splice(b, w, 3, 0), rd(r, 9));
    let [a, b] = pair(SOCK_DGRAM | SOCK_NONBLOCK);
    send(a, "datagram", 0);
    p!(splice(b, w, 3, 0), rd(r, 9));
    let [c, s] = tcp_pair();
    send(c, "stream", 0);
    poll(&[(s, POLLIN)], 5000);
    p!(splice(s, w, 3, 0), rd(r, 9), splice(s, w, 9, 0), rd(r, 9), fcntl(s, F_SETFL, O_NONBLOCK));
    p!(splice(s, w, 9, 0), close(c), poll(&[(s, POLLIN)], 5000), splice(s, w, 9, 0));
    p!(splice(socket4(SOCK_STREAM), w, 9, 0), wr(w, "x"), splice(r, socket4(SOCK_STREAM), 9, 0));
}

fn many_pieces_through_one_pipe() {
    let data: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    put(c"f", &data);
    let (f, g) = (open(c"f", O_RDONLY, 0).fd(), open(c"g", O_CREAT | O_RDWR, 0o644).fd());
    let [r, w] = pipe(0);
    let mut total = 0;
    loop {
        let n = splice(f, w, 30_000, 0);
        if n.0 <= 0 {
            break;
        }
        let mut left = n.0;
        while left > 0 {
            left -= splice(r, g, 7000, 0).0.max(1);
        }
        total += n.0;
    }
    p!(total, get(c"g").bytes() == data);
}

fn more_memory_than_room() {
    let ([r, w], data) = (pipe(0), anon(64));
    let splice = |pages: u64, parts: usize, flags: u32| {
        let parts = vec![(data, (pages * PAGE) as usize); parts];
        sc!(SYS_vmsplice, w, at(&*iov(&parts)), parts.len(), flags)
    };
    // What there is room for goes in, and is not waited for more.
    p!(splice(40, 1, 0), splice(40, 1, SPLICE_F_NONBLOCK), rd(r, PAGE as usize).bytes().len());
    p!(splice(3, 1, 0), rd(r, 5 * PAGE as usize).bytes().len(), splice(2, 4, 0));
    p!(rd(r, 16 * PAGE as usize).bytes().len(), splice(3, 7, SPLICE_F_NONBLOCK));
}

cases![
    into_a_pipe_from_every_kind,
    out_of_a_pipe_into_every_kind,
    files_are_sent_from_every_kind,
    pipes_duplicate_only_pipes,
    memory_goes_only_to_pipes,
    lengths_of_nothing,
    the_end_of_each_source,
    what_append_mode_forbids,
    a_file_onto_itself,
    pipes_onto_themselves,
    a_pipe_of_packets_keeps_them,
    a_full_pipe_takes_a_part,
    a_spliced_page_is_the_files,
    gifts_need_whole_pages,
    from_sockets_of_both_kinds,
    many_pieces_through_one_pipe,
    more_memory_than_room,
];
