//! TCP over the loopback interface: data, urgent data, ends, resets and readiness.

use crate::prelude::*;
use std::thread;

fn halves_are_shut_one_by_one() {
    let [c, s] = tcp_pair();
    catch(SIGPIPE, 0);
    p!(wr(c, "last"), shutdown(c, SHUT_WR), wr(c, "x"), count());
    p!(poll(&[(s, POLLIN | POLLRDHUP | POLLOUT)], 10_000), rd(s, 10), rd(s, 10));
    p!(wr(s, "answer"), rd(c, 10), close(s), rd(c, 10), poll(&[(c, POLLIN | POLLRDHUP)], 10_000));
}

fn shutdown_reading() {
    let [c, s] = tcp_pair();
    p!(shutdown(c, SHUT_RD), rd(c, 1), poll(&[(c, POLLIN | POLLOUT | POLLRDHUP)], 0));
    p!(wr(s, "still"), recv_soon(c, 10, 0), rd(c, 1), wr(c, "ok"), rd(s, 2));
    p!(poll(&[(s, POLLIN | POLLOUT | POLLRDHUP)], 0));
}

fn shutdown_both() {
    let [c, s] = tcp_pair();
    p!(shutdown(c, SHUT_RDWR), poll(&[(c, POLLIN | POLLOUT | POLLRDHUP)], 0), rd(c, 1));
    p!(poll(&[(s, POLLIN | POLLOUT | POLLRDHUP)], 10_000), rd(s, 1), shutdown(s, SHUT_WR));
    p!(until(|| poll(&[(s, POLLIN)], 0) == "1 [IN|HUP]"), peer_name(s, &[]), peer_name(c, &[]));
    p!(shutdown(c, SHUT_RDWR), shutdown(s, SHUT_RD));
}

fn shutdown_errors() {
    let fd = socket4(SOCK_STREAM);
    p!(shutdown(fd, SHUT_RD), shutdown(fd, 3), shutdown(fd, -1), shutdown(1, 0), shutdown(999, 0));
    p!(poll(&[(fd, POLLIN | POLLOUT | POLLRDHUP)], 0));
    let [c, _s] = tcp_pair();
    p!(shutdown(c, 7));
}

fn unconnected() {
    let fd = socket4(SOCK_STREAM);
    catch(SIGPIPE, 0);
    p!(rd(fd, 1), wr(fd, "x"), count(), send(fd, "x", MSG_NOSIGNAL), count());
    p!(poll(&[(fd, POLLIN | POLLOUT | POLLRDHUP)], 0), recv(fd, 1, MSG_DONTWAIT));
    p!(send_to(fd, "x", "127.0.0.1", 9), recv(fd, 1, MSG_OOB));
}

fn writing_to_a_closed_peer() {
    let [c, s] = tcp_pair();
    catch(SIGPIPE, 0);
    p!(close(s), poll(&[(c, POLLIN)], 10_000), wr(c, "x"));
    p!(until(|| !send(c, "x", MSG_NOSIGNAL).ok()), wr(c, "x"), count());
    p!(getopt(c, SO_ERROR), rd(c, 1));
}

fn closing_with_unread_data_resets() {
    let [c, s] = tcp_pair();
    catch(SIGPIPE, 0);
    wr(c, "unread");
    poll(&[(s, POLLIN)], 10_000);
    p!(close(s), poll(&[(c, POLLIN | POLLOUT | POLLRDHUP)], 10_000), rd(c, 1), rd(c, 1));
    p!(wr(c, "x"), count(), getopt(c, SO_ERROR), peer_name(c, &[]));
}

fn data_before_the_reset_is_read() {
    let [c, s] = tcp_pair();
    wr(c, "unread");
    wr(s, "first");
    poll(&[(c, POLLIN), (s, POLLIN)], 10_000);
    p!(close(s), until(|| poll(&[(c, POLLIN)], 0).contains("HUP")));
    p!(rd(c, 10), rd(c, 1), rd(c, 1));
}

fn linger_of_zero_resets() {
    let [c, s] = tcp_pair();
    p!(set_bytes(s, SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0, 0, 0, 0, 0]), close(s));
    p!(poll(&[(c, POLLIN)], 10_000), getopt(c, SO_ERROR), getopt(c, SO_ERROR), rd(c, 1));
    let [c, s] = tcp_pair();
    shutdown(s, SHUT_WR);
    poll(&[(c, POLLIN)], 10_000);
    set_bytes(s, SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0, 0, 0, 0, 0]);
    p!(close(s), until(|| poll(&[(c, POLLIN)], 0).contains("ERR")), getopt(c, SO_ERROR));
}

fn linger_of_some_time_delivers() {
    let [c, s] = tcp_pair();
    set_bytes(s, SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0, 5, 0, 0, 0]);
    p!(wr(s, "all of it"), close(s), rd(c, 20), rd(c, 20));
}

fn simultaneous_close() {
    let [c, s] = tcp_pair();
    p!(shutdown(c, SHUT_WR), shutdown(s, SHUT_WR), rd(c, 1), rd(s, 1));
    p!(until(|| poll(&[(c, POLLIN)], 0).contains("HUP")), getopt(c, SO_ERROR));
    p!(until(|| peer_name(s, &[]) == "ENOTCONN"));
}

fn data_after_both_halves_are_shut_resets() {
    let [c, s] = tcp_pair();
    shutdown(c, SHUT_RDWR);
    poll(&[(s, POLLIN)], 10_000);
    p!(send(s, "x", 0), until(|| poll(&[(s, POLLIN)], 0).contains("ERR")), getopt(s, SO_ERROR));
}

fn bulk() {
    let [c, s] = tcp_pair();
    let sender = thread::spawn(move || {
        let data = vec![b'z'; 8 << 20];
        let n = wr_all(c, &data);
        close(c);
        n
    });
    let (got, right) = drain(s, usize::MAX, b'z');
    p!(got, right, sender.join().unwrap_or(0));
}

fn wr_all(fd: i32, data: &[u8]) -> i64 {
    sc!(SYS_write, fd, data, data.len()).0
}

fn bulk_in_both_directions() {
    let [c, s] = tcp_pair();
    let echo = thread::spawn(move || {
        let mut buf = vec![0u8; 30_000];
        loop {
            let n = sc!(SYS_read, s, buf.as_mut_slice(), buf.len());
            if n.0 <= 0 {
                close(s);
                return;
            }
            wr_all(s, &buf[..n.0 as usize]);
        }
    });
    let sender = thread::spawn(move || {
        let data = vec![b'q'; 1 << 20];
        wr_all(c, &data);
        shutdown(c, SHUT_WR);
    });
    let (got, right) = drain(c, usize::MAX, b'q');
    p!(got, right, sender.join().is_ok(), echo.join().is_ok());
}

fn a_full_queue_says_so() {
    let [c, s] = tcp_pair();
    setopt(s, SO_RCVBUF, 10_000);
    setopt(c, SO_SNDBUF, 10_000);
    let sent = stuff(c);
    p!(sent > 1000, send(c, "x", MSG_DONTWAIT), poll(&[(c, POLLOUT | POLLIN)], 0));
    p!(drain(s, sent, 7) == (sent, true), poll(&[(c, POLLOUT)], 10_000), send(c, "x", 0));
}

fn send_timeout() {
    let [c, _s] = tcp_pair();
    sc!(SYS_setsockopt, c, SOL_SOCKET, SO_SNDTIMEO, at(&[0i64, 20_000]), 16);
    stuff(c);
    p!(took(15, || send(c, vec![0; 9_000_000], 0)).0.errno(), getopt(c, SO_ERROR));
}

fn receive_timeout() {
    let [c, s] = tcp_pair();
    sc!(SYS_setsockopt, c, SOL_SOCKET, SO_RCVTIMEO, at(&[0i64, 20_000]), 16);
    p!(took(15, || recv(c, 1, 0)).0, rd(c, 1), wr(s, "x"), recv(c, 1, 0));
    p!(recv(c, 9, MSG_WAITALL), wr(s, "abc"), recv(c, 9, MSG_WAITALL));
}

fn blocked_sender_is_interrupted() {
    let [c, _s] = tcp_pair();
    stuff(c);
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 20, 0);
    p!(send(c, vec![0; 20_000_000], 0).ok(), count());
}

fn peeking() {
    let [c, s] = tcp_pair();
    wr(c, "abcdef");
    p!(recv_soon(s, 3, MSG_PEEK), recv(s, 10, MSG_PEEK), recv(s, 2, 0), recv(s, 10, MSG_PEEK));
    p!(recv(s, 10, 0), recv(s, 1, MSG_PEEK | MSG_DONTWAIT));
}

fn peek_offset() {
    let [c, s] = tcp_pair();
    p!(getopt(s, SO_PEEK_OFF), setopt(s, SO_PEEK_OFF, 2), wr(c, "abcdef"));
    poll(&[(s, POLLIN)], 10_000);
    p!(recv(s, 2, MSG_PEEK), recv(s, 2, MSG_PEEK), getopt(s, SO_PEEK_OFF), recv(s, 3, 0));
    p!(getopt(s, SO_PEEK_OFF), recv(s, 9, MSG_PEEK | MSG_DONTWAIT));
}

fn waiting_for_all() {
    let [c, s] = tcp_pair();
    let sender = thread::spawn(move || {
        wr(c, "one");
        nap(20);
        wr(c, "two");
        nap(20);
        wr(c, "three");
        c
    });
    p!(recv(s, 6, MSG_WAITALL));
    let c = sender.join().unwrap_or(-1);
    close(c);
    p!(recv(s, 100, MSG_WAITALL), recv(s, 1, MSG_WAITALL));
}

fn low_water_mark() {
    let [c, s] = tcp_pair();
    p!(getopt(s, SO_RCVLOWAT), setopt(s, SO_RCVLOWAT, 4), wr(c, "abc"), poll(&[(s, POLLIN)], 30));
    p!(wr(c, "d"), poll(&[(s, POLLIN)], 10_000), recv(s, 10, 0));
    p!(wr(c, "e"), recv(s, 10, MSG_DONTWAIT), shutdown(c, SHUT_WR), poll(&[(s, POLLIN)], 10_000));
}

fn truncating_discards() {
    let [c, s] = tcp_pair();
    wr(c, "abcdef");
    poll(&[(s, POLLIN)], 10_000);
    p!(sc!(SYS_recvfrom, s, 0u64, 4, MSG_TRUNC, 0u64, 0u64), rd(s, 10));
}

fn bad_buffers() {
    let [c, s] = tcp_pair();
    p!(sc!(SYS_write, c, 8u64, 4), wr(c, "data"), sc!(SYS_read, s, 8u64, 4), rd(s, 10));
    p!(sc!(SYS_recvfrom, s, 8u64, 0, MSG_DONTWAIT, 0u64, 0u64), send(c, "", 0));
    p!(poll(&[(s, POLLIN)], 0));
}

fn urgent_data() {
    let [c, s] = tcp_pair();
    p!(recv(s, 1, MSG_OOB), send(c, "abc!", MSG_OOB), poll(&[(s, POLLPRI)], 10_000));
    p!(poll(&[(s, POLLIN | POLLPRI)], 0), ioctl_int(s, 0x8905), ioctl_int(s, 0x541b));
    p!(recv(s, 10, 0), ioctl_int(s, 0x8905), recv(s, 1, MSG_OOB | MSG_PEEK));
    p!(poll(&[(s, POLLIN | POLLPRI)], 0));
    p!(recvmsg(s, 1, 0, MSG_OOB), recv(s, 1, MSG_OOB), poll(&[(s, POLLIN | POLLPRI)], 0));
    p!(wr(c, "rest"), recv_soon(s, 10, 0), ioctl_int(s, 0x8905), recv(s, 1, MSG_OOB));
}

fn urgent_data_in_line() {
    let [c, s] = tcp_pair();
    setopt(s, SO_OOBINLINE, 1);
    p!(send(c, "ab!", MSG_OOB), wr(c, "cd"), poll(&[(s, POLLPRI)], 10_000));
    p!(until(|| ioctl_int(s, 0x541b) == Ret(5)), recv(s, 10, 0), ioctl_int(s, 0x8905));
    p!(recv(s, 1, MSG_OOB), recv(s, 10, 0), recv(s, 10, MSG_DONTWAIT));
}

fn urgent_byte_splits_reads() {
    let [c, s] = tcp_pair();
    wr(c, "ab");
    send(c, "c!", MSG_OOB);
    wr(c, "de");
    p!(until(|| ioctl_int(s, 0x541b) == Ret(3)), recv(s, 100, 0), recv(s, 100, 0));
    p!(recv(s, 1, MSG_OOB));
}

fn queue_sizes() {
    let [c, s] = tcp_pair();
    p!(ioctl_int(s, 0x541b), ioctl_int(c, 0x5411), wr(c, "12345"));
    p!(until(|| ioctl_int(s, 0x541b) == Ret(5)), until(|| ioctl_int(c, 0x5411) == Ret(0)));
    p!(ioctl_int(socket4(SOCK_STREAM), 0x541b), ioctl_int(listener("127.0.0.1", 1).0, 0x541b));
    p!(ioctl_int(listener("127.0.0.1", 1).0, 0x5411));
}

fn edge_triggered() {
    let [c, s] = tcp_pair();
    let ep = epoll(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 1);
    p!(epoll_wait(ep, 4, 0), epoll_wait(ep, 4, 0), wr(c, "a"), epoll_wait(ep, 4, 10_000));
    p!(epoll_wait(ep, 4, 0), wr(c, "b"), epoll_wait(ep, 4, 10_000), rd(s, 1));
    p!(epoll_wait(ep, 4, 0), shutdown(c, SHUT_WR), epoll_wait(ep, 4, 10_000));
    p!(epoll_wait(ep, 4, 0));
}

fn edge_triggered_writing() {
    let [c, s] = tcp_pair();
    let ep = epoll(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, c, EPOLLOUT | EPOLLET, 1);
    p!(epoll_wait(ep, 4, 0), epoll_wait(ep, 4, 0));
    let sent = stuff(c);
    p!(epoll_wait(ep, 4, 0), drain(s, sent, 7) == (sent, true), epoll_wait(ep, 4, 10_000));
}

fn edge_triggered_connect() {
    let (l, port) = listener("127.0.0.1", 5);
    let ep = epoll(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN | EPOLLET, 9);
    let c = socket4(SOCK_STREAM | SOCK_NONBLOCK);
    epoll_ctl(ep, EPOLL_CTL_ADD, c, EPOLLOUT | EPOLLIN | EPOLLET, 1);
    p!(epoll_wait(ep, 4, 0), connect_to(c, "127.0.0.1", port));
    p!(poll(&[(c, POLLOUT)], 10_000), epoll_wait(ep, 4, 10_000), accept(l, 0).ok());
    p!(dial(port) > 0, epoll_wait(ep, 4, 10_000));
}

fn a_reader_sleeps_until_data_comes() {
    let [c, s] = tcp_pair();
    let reader = thread::spawn(move || rd(s, 10).to_string());
    nap(20);
    wr(c, "wake");
    p!(reader.join().unwrap_or_default());
    let reader = thread::spawn(move || rd(s, 10).to_string());
    nap(20);
    close(c);
    p!(reader.join().unwrap_or_default());
}

fn shutdown_wakes_a_reader() {
    let [_c, s] = tcp_pair();
    let reader = thread::spawn(move || rd(s, 10).to_string());
    nap(20);
    shutdown(s, SHUT_RD);
    p!(reader.join().unwrap_or_default());
}

fn vectors() {
    let [c, s] = tcp_pair();
    let parts = iov(&[(at(b"one"), 3), (0, 0), (at(b"two"), 3)]);
    p!(sc!(SYS_writev, c, at(&*parts), 3), recv_soon(s, 10, 0));
    p!(sendmsg(c, b"message", b"", None, 0), recvmsg(s, 20, 100, 0));
    p!(sendmsg(c, b"x", &cmsg(IPPROTO_IP, 99, b"abcd"), None, 0), recvmsg(s, 20, 100, 0));
    p!(sendmsg(c, b"x", &rights(&[1]), None, 0), recvmsg(s, 20, 100, 0));
}

fn many_messages() {
    let [c, s] = tcp_pair();
    let (a, b) = (iov(&[(at(b"one"), 3)]), iov(&[(at(b"three"), 5)]));
    let mut msgs: Vec<u64> =
        [&a, &b].iter().flat_map(|v| [0, 0, at(v.as_slice()), 1, 0, 0, 0, 0]).collect();
    p!(sc!(SYS_sendmmsg, c, at_mut(msgs.as_mut_slice()), 2, 0), msgs[7], msgs[15]);
    until(|| ioctl_int(s, 0x541b) == Ret(8));
    let mut bufs = [[0u8; 4]; 3];
    let ins: Vec<Vec<u64>> = bufs.iter_mut().map(|b| iov(&[(at_mut(b), 4)])).collect();
    let mut msgs: Vec<u64> =
        ins.iter().flat_map(|v| [0, 0, at(v.as_slice()), 1, 0, 0, 0, 0]).collect();
    p!(sc!(SYS_recvmmsg, s, at_mut(msgs.as_mut_slice()), 3, MSG_DONTWAIT, 0u64), msgs[7], msgs[15]);
}

fn sendfile_and_splice() {
    let [c, s] = tcp_pair();
    put(c"f", "from a file");
    let f = open(c"f", O_RDONLY, 0);
    p!(sc!(SYS_sendfile, c, f, 0u64, 100), recv_soon(s, 20, 0));
    let fds = pipe(0);
    wr(fds[1], "from a pipe");
    p!(sc!(SYS_splice, fds[0], 0u64, c, 0u64, 100, 0), recv_soon(s, 20, 0));
    wr(c, "to a pipe");
    poll(&[(s, POLLIN)], 10_000);
    p!(sc!(SYS_splice, s, 0u64, fds[1], 0u64, 100, 0), rd(fds[0], 20));
    p!(sc!(SYS_sendfile, c, s, 0u64, 100));
}

fn corked_data_is_delivered() {
    let [c, s] = tcp_pair();
    p!(set_int(c, IPPROTO_TCP, TCP_CORK, 1), wr(c, "ab"), wr(c, "cd"));
    p!(set_int(c, IPPROTO_TCP, TCP_CORK, 0), recv_soon(s, 10, MSG_PEEK).to_string().len() > 4);
    p!(recv(s, 4, MSG_WAITALL), send(c, "ef", MSG_MORE), send(c, "gh", 0));
    p!(recv(s, 4, MSG_WAITALL));
}

fn duplicates_keep_the_connection() {
    let [c, s] = tcp_pair();
    let d = dup(c).fd();
    p!(close(c), wr(d, "x"), rd(s, 1));
    let pid = child(|| {
        wr(d, "child");
        0
    });
    p!(wait(pid), rd(s, 10), close(d), rd(s, 1));
}

fn set_unknown_flags() {
    let [c, s] = tcp_pair();
    p!(send(c, "x", MSG_DONTROUTE | MSG_EOR | 0x800), recv_soon(s, 1, 0));
    p!(recv(s, 1, MSG_ERRQUEUE), recv(s, 1, MSG_ERRQUEUE | MSG_DONTWAIT));
}

fn sigpipe_and_nosignal() {
    let [c, _s] = tcp_pair();
    catch(SIGPIPE, 0);
    shutdown(c, SHUT_WR);
    p!(send(c, "x", MSG_NOSIGNAL), count(), send(c, "x", 0), count());
    p!(wr(c, "x"), count(), sendmsg(c, b"x", b"", None, MSG_NOSIGNAL), count());
}

cases![
    halves_are_shut_one_by_one,
    shutdown_reading,
    shutdown_both,
    shutdown_errors,
    unconnected,
    writing_to_a_closed_peer,
    closing_with_unread_data_resets,
    data_before_the_reset_is_read,
    linger_of_zero_resets,
    linger_of_some_time_delivers,
    simultaneous_close,
    data_after_both_halves_are_shut_resets,
    bulk,
    bulk_in_both_directions,
    a_full_queue_says_so,
    send_timeout,
    receive_timeout,
    blocked_sender_is_interrupted,
    peeking,
    peek_offset,
    waiting_for_all,
    low_water_mark,
    truncating_discards,
    bad_buffers,
    urgent_data,
    urgent_data_in_line,
    urgent_byte_splits_reads,
    queue_sizes,
    edge_triggered,
    edge_triggered_writing,
    edge_triggered_connect,
    a_reader_sleeps_until_data_comes,
    shutdown_wakes_a_reader,
    vectors,
    many_messages,
    sendfile_and_splice,
    corked_data_is_delivered,
    duplicates_keep_the_connection,
    set_unknown_flags,
    sigpipe_and_nosignal,
];
