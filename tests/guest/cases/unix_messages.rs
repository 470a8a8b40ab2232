//! Unix-domain sockets: control messages, options, and several messages at once.

use crate::prelude::*;

fn rights_pass_descriptors() {
    put(c"f", "shared file");
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let s = pair(kind);
        let fd = open(c"f", O_RDONLY, 0).fd();
        p!(sendmsg(s[0], b"x", &rights(&[fd]), None, 0));
        let got = recvmsg(s[1], 10, 100, 0);
        let copy = got.fds().first().copied().unwrap_or(-1);
        p!(&got, copy != fd, rd(copy, 6), rd(fd, 10), fcntl(copy, F_GETFD, 0));
    }
}

fn rights_in_flight_survive_the_sender() {
    let s = pair(SOCK_STREAM);
    let fds = pipe(0);
    sendmsg(s[0], b"x", &rights(&[fds[1]]), None, 0);
    close(fds[1]);
    close(s[0]);
    let copy = recvmsg(s[1], 1, 100, MSG_CMSG_CLOEXEC).fds().first().copied().unwrap_or(-1);
    p!(fcntl(copy, F_GETFD, 0), wr(copy, "alive"), rd(fds[0], 10), close(copy), rd(fds[0], 1));
}

fn rights_dropped_with_the_socket_close_the_file() {
    let s = pair(SOCK_STREAM);
    let fds = pipe(0);
    sendmsg(s[0], b"x", &rights(&[fds[1]]), None, 0);
    close(fds[1]);
    p!(poll(&[(fds[0], POLLIN)], 0), close(s[1]), close(s[0]));
    p!(until(|| poll(&[(fds[0], POLLIN)], 0) == "1 [HUP]"));
}

fn several_rights_and_truncation() {
    let s = pair(SOCK_STREAM);
    p!(sendmsg(s[0], b"x", &rights(&[1, 1, 1]), None, 0), recvmsg(s[1], 1, 24, 0));
    p!(sendmsg(s[0], b"x", &rights(&[1, 1, 1]), None, 0));
    p!(recvmsg(s[1], 1, 0, 0), sendmsg(s[0], b"y", &rights(&[1]), None, 0), rd(s[1], 1));
    p!(fcntl(6, F_GETFD, 0));
    p!(sendmsg(s[0], b"x", &rights(&[1, 1]), None, 0), recvmsg(s[1], 1, 16, 0));
}

fn rights_errors() {
    let s = pair(SOCK_STREAM);
    p!(sendmsg(s[0], b"x", &rights(&[999]), None, 0), sendmsg(s[0], b"x", &rights(&[-1]), None, 0));
    p!(sendmsg(s[0], b"", &rights(&[1]), None, 0));
    p!(sendmsg(s[0], b"x", &rights(&[1; 254]), None, 0));
    p!(sendmsg(s[0], b"x", &rights(&[1; 253]), None, 0));
    p!(sendmsg(s[0], b"x", &cmsg(SOL_SOCKET, 77, b"abcd"), None, 0));
    p!(sendmsg(s[0], b"x", &cmsg(1234, 1, b"abcd"), None, 0));
    let mut short = rights(&[1]);
    short[0] = 8;
    p!(sendmsg(s[0], b"x", &short, None, 0), sendmsg(s[0], b"x", &rights(&[1])[..12], None, 0));
    let mut long = rights(&[1]);
    long[0] = 200;
    p!(sendmsg(s[0], b"x", &long, None, 0));
}

fn rights_of_every_kind_of_file() {
    let s = pair(SOCK_DGRAM);
    let all = [
        pipe(0)[0],
        epoll(0),
        sc!(SYS_eventfd2, 0, 0).fd(),
        socket(SOCK_STREAM).fd(),
        open(c".", O_RDONLY, 0).fd(),
        open(c".", O_PATH, 0).fd(),
    ];
    p!(sendmsg(s[0], b"x", &rights(&all), None, 0));
    let got = recvmsg(s[1], 1, 100, 0);
    p!(got.fds().len(), got.fds().iter().all(|&fd| fcntl(fd, F_GETFD, 0).ok()));
}

fn rights_separate_stream_reads() {
    let s = pair(SOCK_STREAM);
    wr(s[0], "aa");
    sendmsg(s[0], b"bb", &rights(&[1]), None, 0);
    wr(s[0], "cc");
    p!(recvmsg(s[1], 100, 100, 0), recvmsg(s[1], 100, 100, 0));
    p!(recvmsg(s[1], 100, 100, MSG_DONTWAIT));
}

fn peeking_at_rights() {
    let s = pair(SOCK_STREAM);
    sendmsg(s[0], b"x", &rights(&[1]), None, 0);
    p!(recvmsg(s[1], 1, 100, MSG_PEEK), recvmsg(s[1], 1, 100, 0));
}

fn socket_passed_over_itself() {
    let s = pair(SOCK_STREAM);
    p!(sendmsg(s[0], b"x", &rights(&[s[0], s[1]]), None, 0), close(s[0]), close(s[1]));
    // Nobody refers to the pair any more; making another must still work.
    let t = pair(SOCK_STREAM);
    p!(wr(t[0], "ok"), rd(t[1], 2));
}

fn credentials_on_request() {
    let s = pair(SOCK_STREAM);
    p!(setopt(s[1], SO_PASSCRED, 1), getopt(s[1], SO_PASSCRED), wr(s[0], "x"));
    let got = recvmsg(s[1], 10, 100, 0);
    p!(&got, got.creds() == Some([getpid(), 0, 0]), setopt(s[1], SO_PASSCRED, 0), wr(s[0], "y"));
    p!(recvmsg(s[1], 10, 100, 0));
}

fn explicit_credentials() {
    let s = pair(SOCK_DGRAM);
    setopt(s[1], SO_PASSCRED, 1);
    p!(sendmsg(s[0], b"x", &creds(getpid(), 0, 0), None, 0));
    p!(recvmsg(s[1], 9, 100, 0).creds() == Some([getpid(), 0, 0]));
    p!(sendmsg(s[0], b"x", &creds(getpid(), 55, 66), None, 0));
    p!(recvmsg(s[1], 9, 100, 0).creds().is_some_and(|c| c[1..] == [55, 66]));
    p!(sendmsg(s[0], b"x", &creds(0x7fff_fff0, 0, 0), None, 0));
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(sendmsg(s[0], b"x", &creds(getpid(), 0, 0), None, 0));
        p!(sendmsg(s[0], b"x", &creds(getppid(), 1000, 0), None, 0));
        p!(sendmsg(s[0], b"x", &creds(getpid(), 1000, 0), None, 0));
        p!(sendmsg(s[0], b"x", &creds(getpid(), 1000, 7), None, 0));
        0
    }));
}

fn peer_credentials() {
    let peer = |fd: i32| {
        let (mut cred, mut len) = ([-1i32; 3], 12u32);
        let ret =
            sc!(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, at_mut(&mut cred), at_mut(&mut len));
        format!("{ret} {} {} {} {len}", cred[0] == getpid(), cred[1], cred[2])
    };
    let s = pair(SOCK_STREAM);
    p!(peer(s[0]), peer(socket(SOCK_STREAM).fd()));
    let l = server(SOCK_STREAM, "s");
    chmod(c"s", 0o777);
    let pid = child(|| {
        sc!(SYS_setresgid, 1001, 1001, 1001);
        sc!(SYS_setresuid, 1000, 1000, 1000);
        let c = client(SOCK_STREAM, "s");
        let seen = peer(c).ends_with(" 0 0 12");
        rd(c, 1);
        i32::from(!seen)
    });
    let a = accept(l, 0).fd();
    let (mut cred, mut len) = ([-1i32; 3], 12u32);
    sc!(SYS_getsockopt, a, SOL_SOCKET, SO_PEERCRED, at_mut(&mut cred), at_mut(&mut len));
    p!(close(a), wait(pid), cred[0] == pid, cred[1], cred[2]);
}

fn integer_options() {
    let s = pair(SOCK_STREAM);
    for (name, option) in [
        ("reuseaddr", SO_REUSEADDR),
        ("keepalive", SO_KEEPALIVE),
        ("broadcast", SO_BROADCAST),
        ("oobinline", SO_OOBINLINE),
        ("priority", SO_PRIORITY),
        ("rcvlowat", SO_RCVLOWAT),
        ("timestamp", SO_TIMESTAMP),
        ("passcred", SO_PASSCRED),
    ] {
        let before = getopt(s[0], option);
        say!("{name}: {before} {} {}", setopt(s[0], option, 1), getopt(s[0], option));
    }
}

fn buffer_sizes_are_doubled() {
    let s = pair(SOCK_STREAM);
    p!(setopt(s[0], SO_SNDBUF, 10_000), getopt(s[0], SO_SNDBUF), setopt(s[0], SO_RCVBUF, 10_000));
    p!(getopt(s[0], SO_RCVBUF));
    p!(setopt(s[0], SO_SNDBUF, 1), getopt(s[0], SO_SNDBUF) > Ret(1000), setopt(s[0], SO_RCVBUF, 0));
    p!(getopt(s[0], SO_RCVBUF) > Ret(1000));
}

fn option_errors() {
    let s = pair(SOCK_STREAM);
    let (mut value, mut len) = (0i32, 4u32);
    p!(getopt(s[0], 9999), setopt(s[0], 9999, 1), getopt(1, SO_TYPE), getopt(999, SO_TYPE));
    p!(setopt(s[0], SO_TYPE, 1), setopt(s[0], SO_ERROR, 1));
    p!(sc!(SYS_setsockopt, s[0], SOL_SOCKET, SO_REUSEADDR, at(&value), 3));
    p!(sc!(SYS_setsockopt, s[0], SOL_SOCKET, SO_REUSEADDR, 8u64, 4));
    p!(sc!(SYS_getsockopt, s[0], SOL_SOCKET, SO_TYPE, 8u64, at_mut(&mut len)));
    p!(sc!(SYS_getsockopt, s[0], SOL_SOCKET, SO_TYPE, at_mut(&mut value), 8u64));
    len = 2;
    p!(sc!(SYS_getsockopt, s[0], SOL_SOCKET, SO_TYPE, at_mut(&mut value), at_mut(&mut len)), len);
    p!(sc!(SYS_getsockopt, s[0], SOL_SOCKET, SO_TYPE, at_mut(&mut value), at(&-1i32)));
    p!(sc!(SYS_getsockopt, s[0], 6, 1, at_mut(&mut value), at_mut(&mut len)));
}

fn timeouts() {
    let s = pair(SOCK_STREAM);
    let set = |option: i32, value: [i64; 2]| {
        sc!(SYS_setsockopt, s[0], SOL_SOCKET, option, at(&value), 16)
    };
    p!(set(SO_RCVTIMEO, [0, 30_000]), took(20, || recv(s[0], 1, 0)).0);
    p!(took(20, || recv(s[0], 1, 0)).1);
    let (mut value, mut len) = ([9i64; 2], 16u32);
    p!(sc!(SYS_getsockopt, s[0], SOL_SOCKET, SO_RCVTIMEO, at_mut(&mut value), at_mut(&mut len)));
    p!(value[0], value[1] >= 30_000);
    p!(set(SO_SNDTIMEO, [0, 30_000]), set(SO_SNDTIMEO, [0, 1_000_000]), set(SO_RCVTIMEO, [-1, 0]));
    p!(recv(s[0], 1, MSG_DONTWAIT));
    while send(s[0], vec![0; 4096], MSG_DONTWAIT).ok() {}
    p!(took(20, || send(s[0], vec![0; 4096], 0)).0);
}

fn accept_timeout() {
    let s = server(SOCK_STREAM, "s");
    sc!(SYS_setsockopt, s, SOL_SOCKET, SO_RCVTIMEO, at(&[0i64, 20_000]), 16);
    p!(accept(s, 0));
}

fn message_vectors() {
    let s = pair(SOCK_STREAM);
    let parts = iov(&[(at(b"one"), 3), (0, 0), (at(b"two"), 3)]);
    let msg = [0u64, 0, at(&*parts), 3, 0, 0, 0];
    p!(sc!(SYS_sendmsg, s[0], at(&msg), 0));
    let (mut a, mut b) = ([0u8; 2], [0u8; 9]);
    let parts = iov(&[(at_mut(&mut a), 2), (at_mut(&mut b), 9)]);
    let mut msg = [0u64, 0, at(&*parts), 2, 0, 0, 0];
    p!(sc!(SYS_recvmsg, s[1], at_mut(&mut msg), 0), a.escape_ascii().to_string());
    p!(b.escape_ascii().to_string());
}

fn message_errors() {
    let s = pair(SOCK_STREAM);
    let parts = iov(&[(at(b"one"), 3)]);
    p!(sc!(SYS_sendmsg, s[0], 8u64, 0));
    p!(sc!(SYS_sendmsg, s[0], at(&[0u64, 0, at(&*parts), 1025, 0, 0, 0]), 0));
    p!(sc!(SYS_sendmsg, s[0], at(&[0u64, 0, 8, 1, 0, 0, 0]), 0));
    p!(sc!(SYS_sendmsg, 999, at(&[0u64; 7]), 0), sc!(SYS_sendmsg, 1, at(&[0u64; 7]), 0));
    p!(sc!(SYS_recvmsg, s[0], 8u64, MSG_DONTWAIT));
    p!(sc!(SYS_sendmsg, s[0], at(&[0u64, 0, at(&*parts), 1, 8, 100, 0]), 0));
    p!(sendmsg(s[0], b"x", b"", Some("nowhere"), 0));
    p!(sendmsg(pair(SOCK_DGRAM)[0], b"x", b"", Some("nowhere"), 0), send(s[0], "x", MSG_OOB).ok());
    p!(sc!(SYS_sendmsg, s[0], at(&[0u64; 7]), 0), sc!(SYS_sendto, s[0], 8u64, 4, 0, 0u64, 0));
    p!(sc!(SYS_recvfrom, s[0], 8u64, 0, MSG_DONTWAIT, 0u64, 0u64));
}

fn recvfrom_bad_buffer_loses_nothing_else() {
    let s = pair(SOCK_STREAM);
    wr(s[0], "data");
    p!(sc!(SYS_recvfrom, s[1], 8u64, 4, 0, 0u64, 0u64), recv(s[1], 10, MSG_DONTWAIT));
}

/// An array of `struct mmsghdr` (eight words each) with one buffer a message.
fn mmsg(iovs: &[Vec<u64>]) -> Vec<u64> {
    iovs.iter().flat_map(|v| [0, 0, at(v.as_slice()), 1, 0, 0, 0, 0]).collect()
}

fn sendmmsg_and_recvmmsg() {
    let s = pair(SOCK_DGRAM);
    let out: Vec<Vec<u64>> =
        [&b"one"[..], b"three", b""].iter().map(|d| iov(&[(at(*d), d.len())])).collect();
    let mut msgs = mmsg(&out);
    p!(sc!(SYS_sendmmsg, s[0], at_mut(msgs.as_mut_slice()), 3, 0), msgs[7], msgs[15], msgs[23]);
    let mut bufs = [[0u8; 8]; 4];
    let ins: Vec<Vec<u64>> = bufs.iter_mut().map(|b| iov(&[(at_mut(b), 8)])).collect();
    let mut msgs = mmsg(&ins);
    p!(sc!(SYS_recvmmsg, s[1], at_mut(msgs.as_mut_slice()), 4, MSG_DONTWAIT, 0u64), msgs[7]);
    p!(msgs[15], msgs[23]);
    p!(bufs[0].escape_ascii().to_string(), bufs[1].escape_ascii().to_string());
    p!(sc!(SYS_recvmmsg, s[1], at_mut(msgs.as_mut_slice()), 4, MSG_DONTWAIT, 0u64));
    send(s[0], "late", 0);
    p!(sc!(SYS_recvmmsg, s[1], at_mut(msgs.as_mut_slice()), 4, MSG_WAITFORONE, 0u64), msgs[7]);
    p!(sc!(SYS_recvmmsg, s[1], 8u64, 1, 0, 0u64), sc!(SYS_sendmmsg, s[0], 8u64, 1, 0));
    p!(sc!(SYS_sendmmsg, 999, 8u64, 1, 0));
    p!(sc!(SYS_recvmmsg, s[1], at_mut(msgs.as_mut_slice()), 1, 0, at(&[0i64, -1])));
    p!(sc!(SYS_sendmmsg, s[0], 8u64, 0, 0));
}

fn sendmmsg_stops_at_the_first_error() {
    let s = pair(SOCK_DGRAM);
    let bad = [iov(&[(at(b"fine"), 4)]), iov(&[(8, 4)]), iov(&[(at(b"more"), 4)])];
    let mut msgs = mmsg(&bad);
    p!(sc!(SYS_sendmmsg, s[0], at_mut(msgs.as_mut_slice()), 3, 0), recv(s[1], 10, MSG_DONTWAIT));
    p!(recv(s[1], 10, MSG_DONTWAIT));
}

fn out_of_band_byte() {
    let s = pair(SOCK_STREAM);
    p!(send(s[0], "ab", 0), send(s[0], "!", MSG_OOB), poll(&[(s[1], POLLPRI | POLLIN)], 0));
    p!(recv(s[1], 1, MSG_OOB), recv(s[1], 10, 0));
    p!(recv(s[1], 1, MSG_OOB));
}

fn readiness_of_listeners_and_datagrams() {
    let s = server(SOCK_STREAM, "s");
    let ep = epoll(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
    p!(epoll_wait(ep, 4, 0), client(SOCK_STREAM, "s") > 0, epoll_wait(ep, 4, 0));
    p!(client(SOCK_STREAM, "s") > 0, epoll_wait(ep, 4, 0));
    p!(poll(&[(s, POLLIN | POLLOUT)], 0), poll(&[(socket(SOCK_STREAM).fd(), POLLIN | POLLOUT)], 0));
    p!(poll(&[(socket(SOCK_DGRAM).fd(), POLLIN | POLLOUT)], 0));
}

fn edge_triggered_socket_write_readiness() {
    let s = pair(SOCK_STREAM | SOCK_NONBLOCK);
    let ep = epoll(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, s[0], EPOLLOUT | EPOLLET, 1);
    p!(epoll_wait(ep, 4, 0), epoll_wait(ep, 4, 0));
    while wr(s[0], vec![0; 4096]).ok() {}
    p!(epoll_wait(ep, 4, 0));
    while rd(s[1], 65_536).0.is_ok() {}
    p!(epoll_wait(ep, 4, 0), epoll_wait(ep, 4, 0));
}

cases![
    rights_pass_descriptors,
    rights_in_flight_survive_the_sender,
    rights_dropped_with_the_socket_close_the_file,
    several_rights_and_truncation,
    rights_errors,
    rights_of_every_kind_of_file,
    rights_separate_stream_reads,
    peeking_at_rights,
    socket_passed_over_itself,
    credentials_on_request,
    explicit_credentials,
    peer_credentials,
    integer_options,
    buffer_sizes_are_doubled,
    option_errors,
    timeouts,
    accept_timeout,
    message_vectors,
    message_errors,
    recvfrom_bad_buffer_loses_nothing_else,
    sendmmsg_and_recvmmsg,
    sendmmsg_stops_at_the_first_error,
    out_of_band_byte,
    readiness_of_listeners_and_datagrams,
    edge_triggered_socket_write_readiness,
];
