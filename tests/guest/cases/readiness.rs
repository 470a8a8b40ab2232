//! What poll(2), select(2) and epoll(7) say of every kind of file, as its state changes.

use crate::prelude::*;

const ALL: i16 =
    POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM | POLLRDBAND | POLLWRBAND;

fn all(fd: i32) -> String {
    poll(&[(fd, ALL)], 0)
}
/// What a fresh epoll instance says of a descriptor.
fn watched(fd: i32) -> String {
    let ep = epoll(0);
    let ret = epoll_ctl(ep, EPOLL_CTL_ADD, fd, i32::from(ALL), 1);
    let said = if ret.ok() { epoll_wait(ep, 4, 0) } else { ret.to_string() };
    close(ep);
    said
}
fn selected(fd: i32) -> String {
    select(fd + 1, [&[fd], &[fd], &[fd]], at(&timeval(0)))
}

fn regular_files_and_directories() {
    put(c"f", "text");
    let (f, d) = (open(c"f", O_RDWR, 0).fd(), open(c".", O_RDONLY, 0).fd());
    let path = open(c"f", O_PATH, 0).fd();
    p!(all(f), watched(f), selected(f), all(d), watched(d), selected(d));
    p!(all(path), watched(path), selected(path));
    let write_only = open(c"f", O_WRONLY, 0).fd();
    p!(all(write_only), watched(write_only));
}

fn ends_of_a_pipe() {
    let [r, w] = pipe(O_NONBLOCK);
    p!(all(r), all(w), watched(r), watched(w), selected(r), selected(w));
    wr(w, "x");
    p!(all(r), all(w), selected(r));
    while wr(w, [0u8; 4096]).ok() {}
    p!(all(r), all(w), watched(w), selected(w));
    // Less than a page of room is no room.
    p!(rd(r, 100), all(w), rd(r, 4096).bytes().len(), all(w));
    close(r);
    p!(all(w), watched(w), selected(w));
    let [r, w] = pipe(O_NONBLOCK);
    wr(w, "x");
    close(w);
    p!(all(r), watched(r), rd(r, 1), all(r), watched(r), selected(r));
}

fn a_fifo_opened_for_both() {
    sc!(SYS_mknod, c"fifo", S_IFIFO | 0o644, 0);
    let both = open(c"fifo", O_RDWR | O_NONBLOCK, 0).fd();
    p!(all(both), watched(both), wr(both, "x"), all(both), rd(both, 1), all(both));
    let r = open(c"fifo", O_RDONLY | O_NONBLOCK, 0).fd();
    close(both);
    // There has been a writer.
    p!(all(r), watched(r));
    let w = open(c"fifo", O_WRONLY | O_NONBLOCK, 0).fd();
    p!(all(r), wr(w, "y"), all(r), close(w), all(r), rd(r, 5), all(r));
}

fn a_fifo_that_never_had_a_writer() {
    sc!(SYS_mknod, c"fifo", S_IFIFO | 0o644, 0);
    let r = open(c"fifo", O_RDONLY | O_NONBLOCK, 0).fd();
    p!(all(r), watched(r), selected(r), rd(r, 1));
}

fn event_counters() {
    let fd = sc!(SYS_eventfd2, 0, O_NONBLOCK).fd();
    p!(all(fd), watched(fd), selected(fd));
    p!(wr(fd, 1u64.to_ne_bytes()), all(fd), rd(fd, 8), wr(fd, (u64::MAX - 1).to_ne_bytes()));
    p!(all(fd), watched(fd), selected(fd), rd(fd, 8), all(fd));
}

fn timer_descriptors() {
    let fd = sc!(SYS_timerfd_create, CLOCK_MONOTONIC, O_NONBLOCK).fd();
    p!(all(fd), watched(fd), sc!(SYS_timerfd_settime, fd, 0, at(&itimerspec(1, 0)), 0u64));
    p!(poll(&[(fd, POLLIN | POLLOUT)], 5000), watched(fd), selected(fd), rd(fd, 8).bytes().len());
    p!(all(fd), watched(fd));
}

fn signal_descriptors() {
    block(&[SIGUSR1, SIGUSR2]);
    let fd = sc!(SYS_signalfd4, -1, at(&set(&[SIGUSR1])), 8, O_NONBLOCK).fd();
    p!(all(fd), raise(SIGUSR2), all(fd), raise(SIGUSR1), all(fd), watched(fd), selected(fd));
    p!(rd(fd, 128).bytes().len(), all(fd));
    // Each process sees its own signals through the same descriptor.
    raise(SIGUSR1);
    p!(run(|| {
        p!(all(fd));
        0
    }));
    p!(all(fd));
}

fn processes() {
    let [r, w] = pipe(0);
    let pid = child(|| {
        rd(r, 1);
        0
    });
    let fd = sc!(SYS_pidfd_open, pid, 0).fd();
    p!(all(fd), watched(fd), selected(fd), wr(w, "x"), poll(&[(fd, POLLIN)], 5000), all(fd));
    p!(watched(fd), wait(pid), all(fd), watched(fd), selected(fd));
}

fn notifications() {
    mkdir(c"d", 0o755);
    let fd = sc!(SYS_inotify_init1, O_NONBLOCK).fd();
    p!(all(fd), watched(fd), sc!(SYS_inotify_add_watch, fd, c"d", IN_CREATE), all(fd));
    mkdir(c"d/x", 0o755);
    p!(all(fd), watched(fd), selected(fd), rd(fd, 100).bytes().len(), all(fd));
}

fn epoll_instances() {
    let (ep, [r, w]) = (epoll(0), pipe(0));
    p!(all(ep), selected(ep), epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN, 5), all(ep), wr(w, "x"));
    p!(all(ep), watched(ep), selected(ep), epoll_wait(ep, 1, 0), all(ep), rd(r, 1), all(ep));
    // With edges the event is taken by the first who waits.
    epoll_ctl(ep, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET, 5);
    wr(w, "x");
    p!(all(ep), all(ep), epoll_wait(ep, 1, 0), all(ep));
}

fn devices() {
    for name in [c"/dev/null", c"/dev/zero", c"/dev/full", c"/dev/urandom", c"/dev/random"] {
        let fd = open(name, O_RDWR, 0).fd();
        say!("{}: {} {}", name.to_string_lossy(), all(fd), watched(fd));
        close(fd);
    }
}

fn process_files() {
    for name in [c"/proc/self/stat", c"/proc/self/maps", c"/proc/self/mem", c"/proc/self/fdinfo/1"]
    {
        let fd = open(name, O_RDONLY, 0).fd();
        say!("{}: {} {}", name.to_string_lossy(), all(fd), watched(fd));
        close(fd);
    }
    // The list of mounts tells of changes.
    let fd = open(c"/proc/self/mounts", O_RDONLY, 0).fd();
    p!(all(fd));
}

fn terminals() {
    let master = open(c"/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK, 0).fd();
    let mut number = 0i32;
    p!(
        all(master),
        ioctl(master, TIOCSPTLCK, at(&0i32)),
        ioctl(master, TIOCGPTN, at_mut(&mut number))
    );
    let path = CString::new(format!("/dev/pts/{number}")).unwrap_or_default();
    let slave = open(&path, O_RDWR | O_NOCTTY | O_NONBLOCK, 0).fd();
    p!(all(master), all(slave), watched(slave), wr(master, "abc"), all(slave), all(master));
    p!(wr(master, "\n"), poll(&[(slave, ALL)], 2000), rd(slave, 10), all(slave), rd(master, 100));
    p!(wr(slave, "out"), poll(&[(master, POLLIN)], 2000), all(master), close(slave), all(master));
    p!(rd(master, 100), all(master), watched(master), rd(master, 1));
    let slave = open(&path, O_RDWR | O_NOCTTY | O_NONBLOCK, 0).fd();
    p!(all(master), close(master), all(slave), watched(slave), selected(slave));
}

fn memory_files_and_queues() {
    let memory = sc!(SYS_memfd_create, c"m", 0).fd();
    p!(all(memory), watched(memory));
    let name = CString::new(format!("conformance-ready-{}", getpid())).unwrap_or_default();
    let limits = [0i64, 2, 8, 0, 0, 0, 0, 0];
    let queue = sc!(SYS_mq_open, &name, O_RDWR | O_CREAT, 0o600, at(&limits)).fd();
    p!(all(queue), watched(queue), sc!(SYS_mq_timedsend, queue, b"x", 1, 0, 0u64), all(queue));
    p!(sc!(SYS_mq_timedsend, queue, b"x", 1, 0, 0u64), all(queue), watched(queue));
    p!(sc!(SYS_mq_unlink, &name), all(queue));
}

fn unconnected_sockets() {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let fd = socket(kind).fd();
        p!(kind, all(fd), watched(fd), selected(fd));
    }
    let (tcp, udp) = (socket4(SOCK_STREAM), socket4(SOCK_DGRAM));
    p!(all(tcp), watched(tcp), selected(tcp), all(udp), watched(udp), selected(udp));
    bind_to(tcp, "127.0.0.1", 0);
    p!(all(tcp), listen(tcp, 1), all(tcp), selected(tcp));
}

fn local_streams() {
    for kind in [SOCK_STREAM, SOCK_SEQPACKET] {
        let [a, b] = pair(kind);
        p!(kind, all(a), send(b, "x", 0), all(a), watched(a), selected(a));
        p!(shutdown(b, SHUT_WR), all(a), watched(a), recv(a, 9, 0), all(a), all(b));
        p!(shutdown(b, SHUT_RD), all(a), all(b), close(b), all(a), watched(a), selected(a));
    }
}

fn local_streams_shut_for_reading() {
    let [a, b] = pair(SOCK_STREAM);
    p!(shutdown(a, SHUT_RD), all(a), all(b), watched(a), watched(b), send(b, "x", MSG_NOSIGNAL));
    p!(shutdown(a, SHUT_WR), all(a), all(b), recv(b, 1, 0));
}

fn local_datagrams() {
    let [a, b] = pair(SOCK_DGRAM);
    p!(all(a), send(b, "x", 0), all(a), shutdown(b, SHUT_WR), all(a), all(b));
    p!(shutdown(a, SHUT_RD), all(a), close(b), all(a), watched(a), selected(a));
    let [a, b] = pair(SOCK_DGRAM);
    while send(a, "x", MSG_DONTWAIT).ok() {}
    p!(all(a), watched(a), recv(b, 1, 0), all(a));
}

fn listeners() {
    let l = server(SOCK_STREAM, "s");
    p!(all(l), watched(l));
    let c = client(SOCK_STREAM, "s");
    p!(all(l), watched(l), selected(l), all(c), accept(l, 0).ok(), all(l));
    p!(shutdown(l, SHUT_RD), all(l), watched(l), selected(l));
}

fn unread_data_of_a_closed_peer() {
    let [a, b] = pair(SOCK_STREAM);
    send(a, "never read", 0);
    close(b);
    p!(all(a), watched(a), get_int(a, SOL_SOCKET, SO_ERROR), all(a));
    let [c, s] = tcp_pair();
    send(c, "never read", 0);
    poll(&[(s, POLLIN)], 5000);
    close(s);
    p!(poll(&[(c, POLLHUP)], 5000), all(c), watched(c), selected(c));
    p!(get_int(c, SOL_SOCKET, SO_ERROR), all(c), recv(c, 1, 0));
}

fn tcp_states() {
    let [c, s] = tcp_pair();
    p!(all(c), watched(c), send(s, "x", 0), poll(&[(c, POLLIN)], 5000), all(c), selected(c));
    p!(shutdown(s, SHUT_WR), poll(&[(c, POLLRDHUP)], 5000), all(c), recv(c, 9, 0), all(c), all(s));
    p!(shutdown(c, SHUT_WR), poll(&[(s, POLLHUP)], 5000), all(c), all(s), watched(c), watched(s));
}

fn tcp_shut_for_reading() {
    let [c, s] = tcp_pair();
    p!(shutdown(c, SHUT_RD), all(c), watched(c), all(s), recv(c, 1, 0));
}

fn tcp_refused() {
    let c = socket4(SOCK_STREAM | SOCK_NONBLOCK);
    connect_to(c, "127.0.0.1", closed_port());
    p!(poll(&[(c, POLLOUT)], 5000), all(c), watched(c), selected(c));
    p!(get_int(c, SOL_SOCKET, SO_ERROR), all(c), watched(c));
}

fn udp_errors_are_conditions() {
    let c = socket4(SOCK_DGRAM);
    connect_to(c, "127.0.0.1", closed_port());
    send(c, "x", 0);
    p!(poll(&[(c, POLLIN)], 5000), all(c), watched(c), selected(c), recv(c, 1, 0), all(c));
    set_int(c, IPPROTO_IP, IP_RECVERR, 1);
    send(c, "x", 0);
    p!(
        poll(&[(c, POLLIN)], 5000),
        all(c),
        recv(c, 1, 0),
        all(c),
        recv(c, 1, MSG_ERRQUEUE).0.is_ok()
    );
    p!(all(c));
}

fn urgent_bytes_are_exceptional() {
    let [c, s] = tcp_pair();
    send(c, "a!", MSG_OOB);
    p!(
        poll(&[(s, POLLPRI)], 5000),
        all(s),
        selected(s),
        recv(s, 1, MSG_OOB),
        all(s),
        recv(s, 9, 0)
    );
    let [a, b] = pair(SOCK_STREAM);
    send(a, "a!", MSG_OOB);
    p!(all(b), selected(b), recv(b, 9, MSG_OOB), all(b));
}

fn nothing_is_asked_for() {
    let ([r, w], [a, b]) = (pipe(0), pair(SOCK_STREAM));
    wr(w, "x");
    p!(poll(&[(r, 0), (w, 0), (-1, ALL), (900, ALL)], 0));
    close(r);
    close(b);
    p!(poll(&[(w, 0), (a, 0)], 0));
}

fn edges_come_with_news() {
    // Each kind: ready, told once, told again with more.
    let (ep, [r, w], e) = (epoll(0), pipe(0), sc!(SYS_eventfd2, 0, O_NONBLOCK).fd());
    let [a, b] = pair(SOCK_STREAM);
    let [c, s] = tcp_pair();
    for (data, fd) in [r, e, a, c].into_iter().enumerate() {
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, data as u64);
    }
    for _ in 0..2 {
        p!(wr(w, "x"), epoll_wait(ep, 8, 0), epoll_wait(ep, 8, 0));
        p!(wr(e, 1u64.to_ne_bytes()), epoll_wait(ep, 8, 0), epoll_wait(ep, 8, 0));
        p!(send(b, "x", 0), epoll_wait(ep, 8, 0), epoll_wait(ep, 8, 0));
        p!(send(s, "x", 0), epoll_wait(ep, 8, 5000), epoll_wait(ep, 8, 0));
    }
    // A part that is read leaves the rest untold.
    p!(rd(r, 1), recv(a, 1, 0), epoll_wait(ep, 8, 0));
    // Changing what is asked for tells it again.
    p!(epoll_ctl(ep, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET, 9), epoll_wait(ep, 8, 0));
}

fn edges_of_writing() {
    let (ep, [r, w]) = (epoll(0), pipe(O_NONBLOCK));
    epoll_ctl(ep, EPOLL_CTL_ADD, w, EPOLLOUT | EPOLLET, 1);
    p!(epoll_wait(ep, 8, 0), epoll_wait(ep, 8, 0));
    while wr(w, [0u8; 4096]).ok() {}
    p!(epoll_wait(ep, 8, 0), rd(r, 4096).bytes().len(), epoll_wait(ep, 8, 0), epoll_wait(ep, 8, 0));
    let (ep, [a, b]) = (epoll(0), pair(SOCK_DGRAM));
    epoll_ctl(ep, EPOLL_CTL_ADD, a, EPOLLOUT | EPOLLET, 1);
    epoll_wait(ep, 8, 0);
    while send(a, "x", MSG_DONTWAIT).ok() {}
    p!(epoll_wait(ep, 8, 0), recv(b, 1, 0), epoll_wait(ep, 8, 0));
}

fn a_duplicate_keeps_the_interest() {
    let (ep, [r, w]) = (epoll(0), pipe(0));
    epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN, 1);
    let copy = dup(r).fd();
    close(r);
    wr(w, "x");
    p!(epoll_wait(ep, 4, 0), epoll_ctl(ep, EPOLL_CTL_DEL, r, 0, 0));
    // The number is used for another file, which can be added, too.
    p!(dup2(open(c"/dev/zero", O_RDONLY, 0), r).fd() == r, epoll_ctl(ep, EPOLL_CTL_DEL, r, 0, 0));
    let [r2, w2] = pipe(0);
    dup2(r2, r);
    p!(epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN, 2), epoll_wait(ep, 4, 0), wr(w2, "y"));
    p!(epoll_wait(ep, 4, 0), close(copy), epoll_wait(ep, 4, 0));
}

fn one_shot_is_armed_again() {
    let (ep, [r, w]) = (epoll(0), pipe(0));
    epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN | EPOLLONESHOT, 1);
    p!(wr(w, "x"), epoll_wait(ep, 4, 0), wr(w, "y"), epoll_wait(ep, 4, 0));
    // Nor are hang-ups told while it is not armed.
    close(w);
    p!(epoll_wait(ep, 4, 0), epoll_ctl(ep, EPOLL_CTL_MOD, r, 0, 1), epoll_wait(ep, 4, 0));
    p!(
        epoll_ctl(ep, EPOLL_CTL_MOD, r, EPOLLONESHOT | EPOLLIN, 1),
        epoll_wait(ep, 4, 0),
        epoll_wait(ep, 4, 0)
    );
}

cases![
    regular_files_and_directories,
    ends_of_a_pipe,
    a_fifo_opened_for_both,
    a_fifo_that_never_had_a_writer,
    event_counters,
    timer_descriptors,
    signal_descriptors,
    processes,
    notifications,
    epoll_instances,
    devices,
    process_files,
    terminals,
    memory_files_and_queues,
    unconnected_sockets,
    local_streams,
    local_streams_shut_for_reading,
    local_datagrams,
    listeners,
    unread_data_of_a_closed_peer,
    tcp_states,
    tcp_shut_for_reading,
    tcp_refused,
    udp_errors_are_conditions,
    urgent_bytes_are_exceptional,
    nothing_is_asked_for,
    edges_come_with_news,
    edges_of_writing,
    a_duplicate_keeps_the_interest,
    one_shot_is_armed_again,
];
