//! Unix-domain sockets: connections, data and addresses.

use crate::prelude::*;
use std::thread;

fn pairs_of_each_kind() {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let s = pair(kind);
        p!(send(s[0], "ping", 0), recv(s[1], 10, 0), wr(s[1], "pong"), rd(s[0], 10));
        p!(getopt(s[0], SO_TYPE) == Ret(kind.into()));
        p!(getopt(s[0], SO_DOMAIN), getopt(s[0], SO_PROTOCOL), getopt(s[0], SO_ACCEPTCONN));
        p!(fstat(s[0]));
    }
}

fn creation_errors() {
    let mut two = [0i32; 2];
    p!(socket(99), socket(SOCK_RAW).ok(), sc!(SYS_socket, AF_UNIX, SOCK_STREAM, 5));
    p!(sc!(SYS_socket, 99, SOCK_STREAM, 0));
    p!(sc!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 8u64));
    p!(sc!(SYS_socketpair, 99, SOCK_STREAM, 0, at_mut(&mut two)));
    p!(socket(SOCK_STREAM | 0x100), fcntl(socket(SOCK_STREAM | SOCK_CLOEXEC), F_GETFD, 0));
    p!(fcntl(socket(SOCK_STREAM | SOCK_NONBLOCK), F_GETFL, 0));
}

fn stream_server() {
    let s = server(SOCK_STREAM, "s");
    p!(stat(c"s"), getopt(s, SO_ACCEPTCONN));
    let c = client(SOCK_STREAM, "s");
    let a = accept(s, 0).fd();
    p!(wr(c, "hello"), rd(a, 10), wr(a, "bye"), rd(c, 10), close(a), rd(c, 10), wr(s, "x"));
}

fn names() {
    let s = server(SOCK_STREAM, "s");
    let c = client(SOCK_STREAM, "s");
    let a = accept(s, 0).fd();
    p!(name_of(SYS_getsockname, s), name_of(SYS_getpeername, s), name_of(SYS_getsockname, c));
    p!(name_of(SYS_getpeername, c));
    p!(name_of(SYS_getsockname, a), name_of(SYS_getpeername, a), name_of(SYS_getsockname, 1));
    p!(name_of(SYS_getsockname, 999));
    let p = pair(SOCK_STREAM);
    p!(name_of(SYS_getsockname, p[0]), name_of(SYS_getpeername, p[0]));
    let (mut buf, mut len) = ([0u8; 4], 4u32);
    p!(sc!(SYS_getsockname, s, &mut buf, at_mut(&mut len)), len);
    p!(sc!(SYS_getsockname, s, 8u64, at_mut(&mut len)));
    p!(sc!(SYS_getsockname, s, &mut buf, 8u64), sc!(SYS_getsockname, s, &mut buf, at(&-1i32)));
}

fn accept_returns_the_peers_name() {
    let s = server(SOCK_STREAM, "s");
    let c = socket(SOCK_STREAM);
    p!(bind(c, "client"), connect(c, "s"));
    let (mut buf, mut len) = ([0u8; 50], 50u32);
    p!(sc!(SYS_accept, s, &mut buf, at_mut(&mut len)).ok(), spell(&buf[..len as usize]));
    let anonymous = client(SOCK_STREAM, "s");
    len = 50;
    p!(sc!(SYS_accept4, s, &mut buf, at_mut(&mut len), SOCK_CLOEXEC).ok(), len, anonymous > 0);
}

fn bind_errors() {
    put(c"f", "");
    p!(bind(socket(SOCK_STREAM), "f"), bind(socket(SOCK_STREAM), "no/s"));
    p!(bind(socket(SOCK_STREAM), "f/s"), bind(1, "x"), bind(999, "x"));
    let s = socket(SOCK_STREAM);
    p!(bind(s, "s"), bind(s, "again"), bind(socket(SOCK_DGRAM), "s"), unlink(c"s"));
    p!(bind(socket(SOCK_STREAM), "s"));
    let addr = address("abc");
    p!(sc!(SYS_bind, socket(SOCK_STREAM), addr.as_slice(), 1));
    p!(sc!(SYS_bind, socket(SOCK_STREAM), addr.as_slice(), 200));
    p!(sc!(SYS_bind, socket(SOCK_STREAM), 8u64, 10));
    p!(sc!(SYS_bind, socket(SOCK_STREAM), at(&[2u16, 0, 0]), 6));
}

fn long_names_without_a_terminator() {
    let long = "n".repeat(107);
    p!(bind(socket(SOCK_STREAM), &long), stat(&CString::new(long).unwrap_or_default()));
    let mut raw = vec![1, 0];
    raw.extend([b'm'; 108]);
    p!(sc!(SYS_bind, socket(SOCK_STREAM), raw.as_slice(), 110));
    p!(stat(&CString::new("m".repeat(108)).unwrap_or_default()));
}

fn connect_errors() {
    put(c"f", "");
    p!(connect(socket(SOCK_STREAM), "none"), connect(socket(SOCK_STREAM), "f"));
    p!(connect(socket(SOCK_STREAM), "@none"));
    let s = socket(SOCK_STREAM);
    bind(s, "s");
    p!(connect(socket(SOCK_STREAM), "s"), listen(s, 1), connect(socket(SOCK_DGRAM), "s"));
    p!(connect(socket(SOCK_SEQPACKET), "s"));
    let c = socket(SOCK_STREAM);
    p!(connect(c, "s"), connect(c, "s"), connect(s, "s"), connect(1, "s"), close(s));
    p!(connect(socket(SOCK_STREAM), "s"));
}

fn listen_and_accept_errors() {
    let s = socket(SOCK_STREAM);
    p!(listen(s, 1), accept(s, 0), listen(socket(SOCK_DGRAM), 1), listen(1, 1));
    p!(listen(pair(SOCK_STREAM)[0], 1));
    let t = server(SOCK_STREAM | SOCK_NONBLOCK, "t");
    p!(accept(t, 0), accept(t, 1), accept(pair(SOCK_STREAM)[0], 0), accept(socket(SOCK_DGRAM), 0));
    p!(accept(999, 0));
}

fn backlog_is_limited() {
    let s = socket(SOCK_STREAM);
    bind(s, "s");
    listen(s, 1);
    let tries: Vec<String> =
        (0..4).map(|_| connect(socket(SOCK_STREAM | SOCK_NONBLOCK), "s").to_string()).collect();
    p!(tries.join(" "), accept(s, 0).ok(), connect(socket(SOCK_STREAM | SOCK_NONBLOCK), "s"));
}

fn blocked_connect_waits_for_room() {
    let s = socket(SOCK_STREAM);
    bind(s, "s");
    listen(s, 0);
    connect(socket(SOCK_STREAM), "s");
    let c = thread::spawn(|| connect(socket(SOCK_STREAM), "s"));
    p!(accept(s, 0).ok(), accept(s, 0).ok(), c.join().unwrap_or(Ret(-1)));
}

fn accept_blocks_and_is_interrupted() {
    let s = server(SOCK_STREAM, "s");
    let c = thread::spawn(|| client(SOCK_STREAM, "s") > 0);
    p!(accept(s, 0).ok(), c.join().unwrap_or(false));
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 10, 10);
    p!(accept(s, 0));
    setitimer(ITIMER_REAL, 0, 0);
}

fn closing_a_listener_resets_waiting_clients() {
    let s = server(SOCK_STREAM, "s");
    let c = client(SOCK_STREAM, "s");
    ignore(SIGPIPE);
    p!(close(s), rd(c, 1), wr(c, "x"), poll(&[(c, POLLIN | POLLOUT)], 0));
}

fn abstract_names() {
    let name = format!("@conformance-{}", getpid());
    let s = server(SOCK_STREAM, &name);
    p!(name_of(SYS_getsockname, s) == name, bind(socket(SOCK_STREAM), &name));
    p!(client(SOCK_STREAM, &name) > 0, accept(s, 0).ok());
    p!(close(s), connect(socket(SOCK_STREAM), &name), bind(socket(SOCK_STREAM), &name));
    let zeros = format!("@a\0b-{}", getpid());
    p!(bind(socket(SOCK_STREAM), &zeros), bind(socket(SOCK_STREAM), &format!("{zeros}\0")));
    p!(bind(socket(SOCK_STREAM), &zeros));
}

fn autobind() {
    let s = socket(SOCK_STREAM);
    p!(sc!(SYS_bind, s, at(&1u16), 2), name_of(SYS_getsockname, s).len());
    p!(name_of(SYS_getsockname, s).starts_with('@'));
}

fn datagrams() {
    let (a, b) = (socket(SOCK_DGRAM).fd(), socket(SOCK_DGRAM).fd());
    p!(bind(a, "a"), bind(b, "b"), sendto(a, "to b", 0, "b"), recvmsg(b, 10, 0, 0));
    p!(sendto(b, "", 0, "a"), recvmsg(a, 10, 0, 0));
    p!(send(a, "x", 0), connect(a, "b"), send(a, "connected", 0), rd(b, 4));
    p!(sendto(a, "other", 0, "a"), sendto(a, "none", 0, "none"));
    let anonymous = socket(SOCK_DGRAM);
    p!(sendto(anonymous, "who", 0, "b"), recvmsg(b, 10, 0, 0), name_of(SYS_getpeername, a));
}

fn connected_datagram_sockets_refuse_others() {
    let (a, b, c) = (socket(SOCK_DGRAM), socket(SOCK_DGRAM), socket(SOCK_DGRAM));
    bind(a, "a");
    bind(b, "b");
    bind(c, "c");
    p!(connect(a, "b"), sendto(c, "x", 0, "a"), sendto(b, "y", 0, "a"), rd(a, 5));
    p!(sc!(SYS_connect, a, at(&0u16), 2), name_of(SYS_getpeername, a), sendto(c, "x", 0, "a"));
}

fn datagram_receiver_closes() {
    let s = pair(SOCK_DGRAM);
    send(s[0], "kept", 0);
    p!(close(s[0]), recv(s[1], 10, 0), send(s[1], "x", 0), poll(&[(s[1], POLLIN | POLLOUT)], 0));
}

fn datagram_boundaries_and_truncation() {
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        let s = pair(kind);
        send(s[0], "first", 0);
        send(s[0], "second", 0);
        send(s[0], "", 0);
        send(s[0], "third", 0);
        p!(recvmsg(s[1], 3, 0, 0), recvmsg(s[1], 3, 0, MSG_TRUNC).ret, recv(s[1], 10, 0));
        p!(recv(s[1], 10, 0));
        p!(recv(s[1], 10, MSG_DONTWAIT));
    }
}

fn seqpacket_server() {
    let s = server(SOCK_SEQPACKET, "s");
    let c = client(SOCK_SEQPACKET, "s");
    let a = accept(s, 0).fd();
    p!(wr(c, "one"), wr(c, "two"), rd(a, 10), rd(a, 1), close(c), rd(a, 10));
    p!(send(a, "x", MSG_NOSIGNAL));
    p!(sendto(socket(SOCK_SEQPACKET), "x", 0, "s"));
}

fn peek_and_waitall() {
    let s = pair(SOCK_STREAM);
    wr(s[0], "abcdef");
    p!(recv(s[1], 3, MSG_PEEK), recv(s[1], 4, MSG_PEEK), recv(s[1], 6, 0));
    let writer = thread::spawn(move || {
        wr(s[0], "12");
        wr(s[0], "34");
        wr(s[0], "56")
    });
    p!(recv(s[1], 6, MSG_WAITALL), writer.join().is_ok());
    wr(s[0], "tail");
    close(s[0]);
    p!(recv(s[1], 10, MSG_WAITALL), recv(s[1], 10, MSG_WAITALL));
}

fn peek_offset() {
    let s = pair(SOCK_STREAM);
    wr(s[0], "abcdef");
    p!(getopt(s[1], SO_PEEK_OFF), setopt(s[1], SO_PEEK_OFF, 2), recv(s[1], 2, MSG_PEEK));
    p!(recv(s[1], 2, MSG_PEEK), recv(s[1], 3, 0), recv(s[1], 9, MSG_PEEK | MSG_DONTWAIT));
}

fn nonblocking_and_dontwait() {
    let s = pair(SOCK_STREAM);
    p!(recv(s[0], 1, MSG_DONTWAIT), recv(pair(SOCK_STREAM | SOCK_NONBLOCK)[0], 1, 0));
    p!(recv(socket(SOCK_STREAM), 1, MSG_DONTWAIT));
    let mut sent = 0;
    while send(s[0], vec![0; 1000], MSG_DONTWAIT).ok() {
        sent += 1;
    }
    p!(sent > 50, send(s[0], "x", MSG_DONTWAIT), poll(&[(s[0], POLLOUT)], 0));
    while recv(s[1], 10_000, MSG_DONTWAIT).0.is_ok() {}
    p!(poll(&[(s[0], POLLOUT)], 0), send(s[0], "x", MSG_DONTWAIT));
}

fn shutdown_each_side() {
    ignore(SIGPIPE);
    let s = pair(SOCK_STREAM);
    wr(s[0], "before");
    p!(shutdown(s[0], SHUT_WR), wr(s[0], "x"), rd(s[1], 10), rd(s[1], 10), wr(s[1], "still"));
    p!(rd(s[0], 10));
    p!(shutdown(s[0], SHUT_RD), rd(s[0], 10), wr(s[1], "x"), shutdown(s[0], 5));
    p!(shutdown(1, SHUT_RD), shutdown(socket(SOCK_STREAM), SHUT_RD));
    p!(poll(&[(s[0], POLLIN | POLLOUT | POLLRDHUP)], 0));
}

fn shutdown_wakes_a_reader() {
    let s = pair(SOCK_STREAM);
    let reader = thread::spawn(move || rd(s[0], 4));
    p!(shutdown(s[0], SHUT_RDWR), reader.join().map_or("?".into(), |g| g.to_string()));
}

fn broken_connection() {
    let s = pair(SOCK_STREAM);
    close(s[1]);
    p!(run(|| wr(s[0], "x").errno()), send(s[0], "x", MSG_NOSIGNAL), rd(s[0], 1));
    p!(getopt(s[0], SO_ERROR));
}

fn unread_data_resets() {
    let s = pair(SOCK_STREAM);
    wr(s[0], "unread");
    close(s[1]);
    p!(rd(s[0], 10), rd(s[0], 10), getopt(s[0], SO_ERROR));
}

fn large_transfer() {
    let s = pair(SOCK_STREAM);
    let writer = thread::spawn(move || {
        let data: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let n = wr(s[0], &data);
        close(s[0]);
        n
    });
    let mut all = Vec::new();
    loop {
        let part = rd(s[1], 70_000);
        if part.bytes().is_empty() {
            break;
        }
        all.extend_from_slice(part.bytes());
    }
    p!(writer.join().unwrap_or(Ret(-1)), all.len());
    p!(all.iter().enumerate().all(|(i, &b)| b == (i % 251) as u8));
}

fn oversized_datagram() {
    let s = pair(SOCK_DGRAM);
    p!(setopt(s[0], SO_SNDBUF, 4608), send(s[0], vec![0; 100_000], 0));
    p!(send(s[0], vec![0; 1000], 0));
}

fn socket_as_a_file() {
    let s = pair(SOCK_STREAM);
    server(SOCK_STREAM, "s");
    p!(lseek(s[0], 0, SEEK_SET), pread(s[0], 1, 0), ftruncate(s[0], 0), open(c"s", O_RDWR, 0));
    p!(fcntl(s[0], F_GETFL, 0));
    let mut n = 0i32;
    wr(s[1], "123");
    p!(ioctl(s[0], FIONREAD, at_mut(&mut n)), n, ioctl(s[1], TIOCOUTQ, at_mut(&mut n)), n > 0);
    p!(sc!(SYS_fsync, s[0]));
}

fn permission_to_connect() {
    let s = server(SOCK_STREAM, "s");
    chmod(c"s", 0o600);
    p!(
        s > 0,
        run(|| {
            sc!(SYS_setresuid, 1000, 1000, 1000);
            connect(socket(SOCK_STREAM), "s").errno()
        })
    );
}

fn connecting_to_itself() {
    let s = socket(SOCK_DGRAM);
    bind(s, "s");
    p!(connect(s, "s"), send(s, "echo", 0), rd(s, 10));
}

cases![
    pairs_of_each_kind,
    creation_errors,
    stream_server,
    names,
    accept_returns_the_peers_name,
    bind_errors,
    long_names_without_a_terminator,
    connect_errors,
    listen_and_accept_errors,
    backlog_is_limited,
    blocked_connect_waits_for_room,
    accept_blocks_and_is_interrupted,
    closing_a_listener_resets_waiting_clients,
    abstract_names,
    autobind,
    datagrams,
    connected_datagram_sockets_refuse_others,
    datagram_receiver_closes,
    datagram_boundaries_and_truncation,
    seqpacket_server,
    peek_and_waitall,
    peek_offset,
    nonblocking_and_dontwait,
    shutdown_each_side,
    shutdown_wakes_a_reader,
    broken_connection,
    unread_data_resets,
    large_transfer,
    oversized_datagram,
    socket_as_a_file,
    permission_to_connect,
    connecting_to_itself,
];
