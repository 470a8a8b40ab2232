//! UDP over the loopback interface.

use crate::prelude::*;

fn send_and_receive() {
    let (a, pa) = udp("127.0.0.1");
    let (b, pb) = udp("127.0.0.1");
    p!(send_to(a, "hello", "127.0.0.1", pb), recv_from(b, 20, 0, &[pa, pb]));
    p!(send_to(b, "", "127.0.0.1", pa), recv_from(a, 20, 0, &[pa, pb]));
    p!(recv_from(a, 20, MSG_DONTWAIT, &[]), own_name(a, &[pa]), peer_name(a, &[]));
}

fn datagrams_keep_their_bounds() {
    let (a, pa) = udp("127.0.0.1");
    for text in ["one", "three", "", "seven"] {
        send_to(a, text, "127.0.0.1", pa);
    }
    p!(ioctl_int(a, 0x541b), recv(a, 2, 0), recv(a, 2, MSG_TRUNC), recv(a, 10, 0), rd(a, 10));
    p!(send_to(a, "truncated", "127.0.0.1", pa), recv_message(a, 4, 0, &[pa]));
    p!(send_to(a, "truncated", "127.0.0.1", pa), recv_message(a, 4, MSG_TRUNC | MSG_PEEK, &[pa]));
    p!(recv(a, 20, MSG_PEEK), recv(a, 20, 0), ioctl_int(a, 0x541b), ioctl_int(a, 0x5411));
}

fn autobind_on_send() {
    let a = socket4(SOCK_DGRAM);
    let (b, pb) = udp("127.0.0.1");
    p!(own_name(a, &[]), send_to(a, "x", "127.0.0.1", pb), own_name(a, &[port_of(a)]));
    p!(recv_from(b, 9, 0, &[port_of(a)]), sc!(SYS_bind, a, addr("0.0.0.0", 0).as_slice(), 16));
}

fn send_errors() {
    let (a, pa) = udp("127.0.0.1");
    p!(send(a, "x", 0), send_to(a, "x", "127.0.0.1", 0), send_to(a, "x", "::1", pa));
    let to = addr("127.0.0.1", pa);
    p!(sc!(SYS_sendto, a, b"x", 1, 0, to.as_slice(), 15));
    p!(sc!(SYS_sendto, a, 8u64, 4, 0, to.as_slice(), 16), recv(a, 1, MSG_DONTWAIT));
    p!(sc!(SYS_sendto, a, b"x", 1, MSG_OOB, to.as_slice(), 16));
    let big = vec![0u8; 70_000];
    p!(sc!(SYS_sendto, a, big.as_slice(), 65_508, 0, to.as_slice(), 16));
    p!(sc!(SYS_sendto, a, big.as_slice(), 65_507, 0, to.as_slice(), 16));
    p!(recv(a, 70_000, MSG_TRUNC).to_string().len() > 60_000, send_to(a, "x", "0.0.0.0", pa));
    p!(recv_from(a, 9, 0, &[pa]));
    let (six, p6) = udp("::1");
    let to = addr("::1", p6);
    p!(sc!(SYS_sendto, six, big.as_slice(), 65_528, 0, to.as_slice(), 28));
    p!(sc!(SYS_sendto, six, big.as_slice(), 65_527, 0, to.as_slice(), 28));
    p!(sc!(SYS_sendto, six, b"x", 1, 0, to.as_slice(), 20));
}

fn connected() {
    let (a, pa) = udp("127.0.0.1");
    let (b, pb) = udp("127.0.0.1");
    let (c, _) = udp("127.0.0.1");
    p!(connect_to(a, "127.0.0.1", pb), peer_name(a, &[pa, pb]), own_name(a, &[pa, pb]));
    p!(wr(a, "to the peer"), recv_from(b, 20, 0, &[pa, pb]));
    p!(send_to(c, "stranger", "127.0.0.1", pa), recv(a, 20, MSG_DONTWAIT));
    p!(send_to(b, "friend", "127.0.0.1", pa), recv_from(a, 20, 0, &[pa, pb]));
    p!(send_to(a, "elsewhere", "127.0.0.1", port_of(c)), recv_from(c, 20, 0, &[pa, pb]));
    p!(sc!(SYS_connect, a, [0u8; 16].as_slice(), 16), peer_name(a, &[]), own_name(a, &[pa]));
    p!(wr(a, "x"), send_to(c, "again", "127.0.0.1", pa), recv(a, 20, MSG_DONTWAIT));
}

fn connect_chooses_an_address() {
    let a = socket4(SOCK_DGRAM);
    p!(connect_to(a, "127.0.0.1", 9), own_name(a, &[port_of(a)]), peer_name(a, &[9]));
    p!(sc!(SYS_connect, a, [0u8; 16].as_slice(), 16), own_name(a, &[]));
    let b = socket4(SOCK_DGRAM);
    p!(connect_to(b, "0.0.0.0", 9), peer_name(b, &[9]), connect_to(b, "127.0.0.1", 10));
    p!(peer_name(b, &[9, 10]));
    let six = socket6(SOCK_DGRAM);
    p!(connect_to(six, "::ffff:127.0.0.1", 9), own_name(six, &[]), peer_name(six, &[9]));
    p!(connect_to(socket4(SOCK_DGRAM), "::1", 9));
    p!(sc!(SYS_connect, b, addr("127.0.0.1", 1).as_slice(), 8));
}

fn refused_after_sending() {
    let (x, port) = udp("127.0.0.1");
    close(x);
    let a = socket4(SOCK_DGRAM);
    connect_to(a, "127.0.0.1", port);
    p!(wr(a, "x"), poll(&[(a, POLLIN | POLLOUT)], 10_000), rd(a, 1), recv(a, 1, MSG_DONTWAIT));
    p!(wr(a, "x"), until(|| poll(&[(a, POLLERR)], 0) != "0 [none]"), wr(a, "x"), wr(a, "x"));
    p!(until(|| getopt(a, SO_ERROR) == Ret(i64::from(ECONNREFUSED))), getopt(a, SO_ERROR));
    let b = socket4(SOCK_DGRAM);
    p!(send_to(b, "x", "127.0.0.1", port), send_to(b, "x", "127.0.0.1", port));
    p!(recv(b, 1, MSG_DONTWAIT), getopt(b, SO_ERROR));
}

fn error_queue() {
    let (x, port) = udp("127.0.0.1");
    close(x);
    let a = socket4(SOCK_DGRAM);
    p!(set_int(a, IPPROTO_IP, IP_RECVERR, 1), get_int(a, IPPROTO_IP, IP_RECVERR));
    p!(recv(a, 9, MSG_ERRQUEUE), send_to(a, "payload", "127.0.0.1", port));
    p!(poll(&[(a, POLLIN | POLLOUT)], 10_000));
    let got = recv_message(a, 20, MSG_ERRQUEUE, &[port]);
    p!(&got, got.flags & MSG_ERRQUEUE != 0);
    for (level, kind, data) in &got.control {
        say!("{level} {kind} {data:?}");
    }
    p!(getopt(a, SO_ERROR), recv(a, 9, MSG_ERRQUEUE), poll(&[(a, POLLIN | POLLOUT)], 0));
    let six = socket6(SOCK_DGRAM);
    set_int(six, IPPROTO_IPV6, IPV6_RECVERR, 1);
    let (y, port) = udp("::1");
    close(y);
    send_to(six, "six", "::1", port);
    poll(&[(six, POLLIN)], 10_000);
    let got = recv_message(six, 20, MSG_ERRQUEUE, &[port]);
    p!(&got);
    for (level, kind, data) in &got.control {
        say!("{level} {kind} {data:?}");
    }
}

fn control_messages() {
    let (a, pa) = udp("127.0.0.1");
    for option in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_RECVORIGDSTADDR] {
        p!(set_int(a, IPPROTO_IP, option, 1), get_int(a, IPPROTO_IP, option));
    }
    let b = socket4(SOCK_DGRAM);
    set_int(b, IPPROTO_IP, IP_TTL, 33);
    set_int(b, IPPROTO_IP, IP_TOS, 0x10);
    connect_to(b, "127.0.0.1", pa);
    let show = |data: &str| {
        wr(b, data);
        let got = recv_message(a, 20, 0, &[]);
        say!("{got}");
        for (level, kind, data) in &got.control {
            // The port of the original destination is ephemeral.
            let shown = if *kind == IP_RECVORIGDSTADDR { &data[4..] } else { &data[..] };
            say!("{level} {kind} {shown:?}");
        }
    };
    show("one");
    set_int(a, IPPROTO_IP, IP_RECVTTL, 0);
    show("two");
    p!(sendmsg(b, b"x", &cmsg(IPPROTO_IP, IP_TTL, &9i32.to_le_bytes()), None, 0));
    p!(sendmsg(b, b"x", &cmsg(IPPROTO_IP, IP_TTL, &0i32.to_le_bytes()), None, 0));
    p!(sendmsg(b, b"x", &cmsg(IPPROTO_IP, 99, &0i32.to_le_bytes()), None, 0));
    let info = [&0u32.to_le_bytes()[..], &[127, 0, 0, 5], &[0; 4]].concat();
    p!(sendmsg(b, b"src", &cmsg(IPPROTO_IP, IP_PKTINFO, &info), None, 0));
    recv(a, 9, 0);
    p!(recv_from(a, 9, 0, &[port_of(b)]));
    let info = [&0u32.to_le_bytes()[..], &[203, 0, 113, 5], &[0; 4]].concat();
    p!(sendmsg(b, b"src", &cmsg(IPPROTO_IP, IP_PKTINFO, &info), None, 0));
}

fn control_messages_of_v6() {
    let (a, pa) = udp("::");
    for option in [IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS] {
        p!(set_int(a, IPPROTO_IPV6, option, 1), get_int(a, IPPROTO_IPV6, option));
    }
    let show = |from: i32, ip: &str| {
        p!(send_to(from, "x", ip, pa));
        let got = recv_message(a, 20, 0, &[]);
        say!("{got}");
        for (level, kind, data) in &got.control {
            say!("{level} {kind} {data:?}");
        }
    };
    show(socket6(SOCK_DGRAM), "::1");
    show(socket4(SOCK_DGRAM), "127.0.0.1");
    show(socket6(SOCK_DGRAM), "::ffff:127.0.0.1");
}

fn time_stamps() {
    let (a, pa) = udp("127.0.0.1");
    for option in [SO_TIMESTAMP, SO_TIMESTAMPNS] {
        p!(setopt(a, option, 1), send_to(a, "x", "127.0.0.1", pa));
        let got = recv_message(a, 9, 0, &[pa]);
        let now = clock(CLOCK_REALTIME) / 1_000_000_000;
        for (level, kind, data) in &got.control {
            let sec = data.first_chunk().map_or(0, |b| i64::from_le_bytes(*b));
            say!("{level} {kind} {} {}", data.len(), (now - sec).abs() < 100);
        }
        p!(getopt(a, SO_TIMESTAMP), getopt(a, SO_TIMESTAMPNS), setopt(a, option, 0));
    }
}

fn a_full_queue_drops() {
    let (a, pa) = udp("127.0.0.1");
    setopt(a, SO_RCVBUF, 4000);
    let b = socket4(SOCK_DGRAM);
    for _ in 0..200 {
        send_to(b, "some bytes", "127.0.0.1", pa);
    }
    let count =
        (0..).take_while(|_| recv(a, 20, MSG_DONTWAIT).to_string().contains("some")).count();
    p!(count > 2, count < 100, send_to(b, "later", "127.0.0.1", pa), recv(a, 20, 0));
}

fn shutting_down() {
    let (a, pa) = udp("127.0.0.1");
    p!(shutdown(a, SHUT_RD), connect_to(a, "127.0.0.1", pa), shutdown(a, SHUT_RD), rd(a, 1));
    p!(poll(&[(a, POLLIN | POLLOUT | POLLRDHUP)], 0), recv(a, 1, MSG_DONTWAIT), wr(a, "x"));
    p!(shutdown(a, SHUT_WR), wr(a, "x"), poll(&[(a, POLLIN | POLLOUT | POLLRDHUP)], 0));
    p!(shutdown(a, 5));
}

fn readiness() {
    let (a, pa) = udp("127.0.0.1");
    let ep = epoll(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, a, EPOLLIN | EPOLLOUT | EPOLLET, 1);
    p!(poll(&[(a, POLLIN | POLLOUT)], 0), epoll_wait(ep, 4, 0), epoll_wait(ep, 4, 0));
    p!(send_to(a, "x", "127.0.0.1", pa), epoll_wait(ep, 4, 10_000), epoll_wait(ep, 4, 0));
    p!(send_to(a, "y", "127.0.0.1", pa), epoll_wait(ep, 4, 10_000), recv(a, 9, 0));
    p!(poll(&[(a, POLLIN | POLLOUT | POLLWRBAND)], 0));
}

fn sharing_a_port() {
    let bound = |options: [bool; 2], reuse: i32| {
        let (x, y) = (socket4(SOCK_DGRAM), socket4(SOCK_DGRAM));
        setopt(x, reuse, options[0].into());
        setopt(y, reuse, options[1].into());
        bind_to(x, "127.0.0.1", 0);
        let second = bind_to(y, "127.0.0.1", port_of(x));
        format!("{second}")
    };
    for reuse in [SO_REUSEADDR, SO_REUSEPORT] {
        p!(bound([false, false], reuse), bound([true, false], reuse), bound([false, true], reuse));
        p!(bound([true, true], reuse));
    }
    let (x, y) = (socket4(SOCK_DGRAM), socket4(SOCK_DGRAM));
    setopt(x, SO_REUSEADDR, 1);
    setopt(y, SO_REUSEADDR, 1);
    bind_to(x, "127.0.0.1", 0);
    bind_to(y, "127.0.0.1", port_of(x));
    send_to(socket4(SOCK_DGRAM), "latest", "127.0.0.1", port_of(x));
    p!(recv(y, 10, MSG_DONTWAIT), recv(x, 10, MSG_DONTWAIT));
}

fn exact_address_beats_wildcard() {
    let (a, port) = udp("0.0.0.0");
    let b = socket4(SOCK_DGRAM);
    p!(bind_to(b, "127.0.0.3", port), setopt(a, SO_REUSEADDR, 1), setopt(b, SO_REUSEADDR, 1));
    p!(bind_to(b, "127.0.0.3", port));
    let c = socket4(SOCK_DGRAM);
    send_to(c, "exact", "127.0.0.3", port);
    send_to(c, "wild", "127.0.0.4", port);
    p!(recv(b, 9, MSG_DONTWAIT), recv(a, 9, MSG_DONTWAIT), recv(a, 9, MSG_DONTWAIT));
}

fn dual_stack() {
    let (a, port) = udp("::");
    let four = socket4(SOCK_DGRAM);
    p!(send_to(four, "from v4", "127.0.0.1", port), recv_from(a, 20, 0, &[port_of(four)]));
    let fp = {
        bind_to(four, "127.0.0.1", 0);
        port_of(four)
    };
    p!(send_to(a, "to v4", "::ffff:127.0.0.1", fp), recv_from(four, 20, 0, &[port]));
    p!(send_to(a, "to v4", "127.0.0.1", fp), recv_from(four, 20, 0, &[port]));
    let only = socket6(SOCK_DGRAM);
    set_int(only, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    p!(send_to(only, "x", "::ffff:127.0.0.1", fp), connect_to(only, "::ffff:127.0.0.1", fp));
    p!(bind_to(only, "::ffff:127.0.0.1", 0));
}

fn broadcasting() {
    let (a, port) = udp("0.0.0.0");
    let b = socket4(SOCK_DGRAM);
    p!(send_to(b, "x", "127.255.255.255", port), connect_to(b, "127.255.255.255", port));
    p!(setopt(b, SO_BROADCAST, 1), send_to(b, "to all", "127.255.255.255", port));
    p!(recv_from(a, 20, 0, &[port_of(b)]), recv(a, 20, MSG_DONTWAIT));
}

fn mreqn(group: [u8; 4], address: [u8; 4], index: i32) -> Vec<u8> {
    [&group[..], &address, &index.to_le_bytes()].concat()
}

fn multicasting() {
    let (a, port) = udp("0.0.0.0");
    let group = [239, 1, 2, 3];
    let join = |fd: i32, r: &[u8]| set_bytes(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, r);
    p!(join(a, &mreqn(group, [0; 4], 1)), join(a, &mreqn(group, [0; 4], 1)));
    p!(join(a, &mreqn([10, 0, 0, 1], [0; 4], 1)), join(a, &mreqn(group, [0; 4], 999)));
    p!(join(a, &group), join(a, &mreqn([239, 1, 2, 4], [127, 0, 0, 1], 0)));
    let b = socket4(SOCK_DGRAM);
    p!(set_bytes(b, IPPROTO_IP, IP_MULTICAST_IF, &mreqn([0; 4], [0; 4], 1)));
    p!(get_int(b, IPPROTO_IP, IP_MULTICAST_TTL), get_int(b, IPPROTO_IP, IP_MULTICAST_LOOP));
    p!(send_to(b, "group", "239.1.2.3", port), recv_soon(a, 20, 0));
    p!(set_bytes(a, IPPROTO_IP, IP_DROP_MEMBERSHIP, &mreqn(group, [0; 4], 1)));
    p!(set_bytes(a, IPPROTO_IP, IP_DROP_MEMBERSHIP, &mreqn(group, [0; 4], 1)));
    p!(send_to(b, "group", "239.1.2.3", port), recv(a, 20, MSG_DONTWAIT));
    p!(join(socket4(SOCK_STREAM), &mreqn(group, [0; 4], 1)));
}

fn multicasting_v6() {
    let (a, port) = udp("::");
    let mut request = vec![0u8; 20];
    request[0] = 0xff;
    request[1] = 0x05;
    request[15] = 9;
    request[16] = 1;
    p!(set_bytes(a, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &request));
    p!(set_bytes(a, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &request));
    let b = socket6(SOCK_DGRAM);
    p!(set_int(b, IPPROTO_IPV6, IPV6_MULTICAST_IF, 1), get_int(b, IPPROTO_IPV6, IPV6_MULTICAST_IF));
    p!(set_int(b, IPPROTO_IPV6, IPV6_MULTICAST_IF, 999), send_to(b, "six", "ff05::9", port));
    p!(recv_soon(a, 20, 0), set_bytes(a, IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, &request));
}

fn corking() {
    let (a, port) = udp("127.0.0.1");
    let b = socket4(SOCK_DGRAM);
    connect_to(b, "127.0.0.1", port);
    p!(send(b, "ab", MSG_MORE), recv(a, 9, MSG_DONTWAIT), send(b, "cd", 0), recv(a, 9, 0));
    p!(set_int(b, IPPROTO_UDP, 1, 1), get_int(b, IPPROTO_UDP, 1), wr(b, "x"), wr(b, "y"));
    p!(recv(a, 9, MSG_DONTWAIT), set_int(b, IPPROTO_UDP, 1, 0), recv(a, 9, 0));
    p!(recv(a, 9, MSG_DONTWAIT));
}

fn segmentation() {
    let (a, port) = udp("127.0.0.1");
    let b = socket4(SOCK_DGRAM);
    connect_to(b, "127.0.0.1", port);
    p!(set_int(b, IPPROTO_UDP, 103, 4), get_int(b, IPPROTO_UDP, 103), wr(b, "0123456789"));
    p!(recv_soon(a, 9, 0), recv_soon(a, 9, 0), recv_soon(a, 9, 0), recv(a, 9, MSG_DONTWAIT));
    p!(set_int(b, IPPROTO_UDP, 103, 70_000), set_int(b, IPPROTO_UDP, 999, 1));
}

fn several_at_once() {
    let (a, port) = udp("127.0.0.1");
    let b = socket4(SOCK_DGRAM);
    connect_to(b, "127.0.0.1", port);
    let out: Vec<Vec<u64>> =
        [&b"one"[..], b"three"].iter().map(|d| iov(&[(at(*d), d.len())])).collect();
    let mut msgs: Vec<u64> =
        out.iter().flat_map(|v| [0, 0, at(v.as_slice()), 1, 0, 0, 0, 0]).collect();
    p!(sc!(SYS_sendmmsg, b, at_mut(msgs.as_mut_slice()), 2, 0), msgs[7], msgs[15]);
    let mut bufs = [[0u8; 8]; 3];
    let ins: Vec<Vec<u64>> = bufs.iter_mut().map(|b| iov(&[(at_mut(b), 8)])).collect();
    let mut msgs: Vec<u64> =
        ins.iter().flat_map(|v| [0, 0, at(v.as_slice()), 1, 0, 0, 0, 0]).collect();
    p!(sc!(SYS_recvmmsg, a, at_mut(msgs.as_mut_slice()), 3, MSG_WAITFORONE, 0u64));
    p!(msgs[7], msgs[15]);
}

fn bound_to_a_device() {
    let (a, port) = udp("127.0.0.1");
    p!(
        get_bytes(a, SOL_SOCKET, SO_BINDTODEVICE),
        set_bytes(a, SOL_SOCKET, SO_BINDTODEVICE, b"lo\0")
    );
    p!(get_bytes(a, SOL_SOCKET, SO_BINDTODEVICE), send_to(a, "x", "127.0.0.1", port), rd(a, 9));
    p!(set_bytes(a, SOL_SOCKET, SO_BINDTODEVICE, b"nothere\0"));
    p!(set_bytes(a, SOL_SOCKET, SO_BINDTODEVICE, b""), get_bytes(a, SOL_SOCKET, SO_BINDTODEVICE));
}

fn receive_timeout() {
    let (a, _) = udp("127.0.0.1");
    sc!(SYS_setsockopt, a, SOL_SOCKET, SO_RCVTIMEO, at(&[0i64, 20_000]), 16);
    p!(took(15, || recv(a, 1, 0)).0, rd(a, 1));
}

fn corked_data_goes_where_it_was_to_go_first() {
    let (a, pa) = udp("127.0.0.1");
    let (b, pb) = udp("127.0.0.1");
    let c = socket4(SOCK_DGRAM);
    let to = |port: u16, flags: i32, text: &str| {
        let to = addr("127.0.0.1", port);
        sc!(SYS_sendto, c, text.as_bytes(), text.len(), flags, to.as_slice(), 16)
    };
    p!(to(pa, MSG_MORE, "one "), to(pb, MSG_MORE, "two "), to(pb, 0, "three"));
    p!(recv(a, 20, MSG_DONTWAIT), recv(b, 20, MSG_DONTWAIT));
    connect_to(c, "127.0.0.1", pa);
    p!(send(c, "held", MSG_MORE), send(c, "", 0), recv(a, 20, MSG_DONTWAIT));
    p!(send(c, "lost", MSG_MORE), close(c), recv(a, 20, MSG_DONTWAIT));
}

/// The control messages of what was received.
fn told(got: crate::sys::sock::Received) -> String {
    format!("{:?}", got.control)
}

fn segments_are_received_together() {
    let (a, port) = udp("127.0.0.1");
    let b = socket4(SOCK_DGRAM);
    connect_to(b, "127.0.0.1", port);
    p!(set_int(a, IPPROTO_UDP, 104, 1), set_int(b, IPPROTO_UDP, 103, 10));
    p!(send(b, "0123456789abcdefghijABCDE", 0));
    let got = recv_message(a, 100, 0, &[port_of(b)]);
    p!(got.ret, format!("{:?}", got.control), recv(a, 20, MSG_DONTWAIT));
    p!(send(b, "short", 0), told(recv_message(a, 100, 0, &[port_of(b)])));
    p!(
        set_int(a, IPPROTO_UDP, 104, 0),
        send(b, "0123456789abc", 0),
        recv(a, 20, 0),
        recv(a, 20, 0)
    );
}

/// An entry of the error queue without its port: data, who it was for, and the extended error.
fn error_of(fd: i32) -> String {
    let got = recv_message(fd, 100, MSG_ERRQUEUE | MSG_DONTWAIT, &[]);
    let errors: Vec<String> = got
        .control
        .iter()
        .map(|(level, kind, data)| {
            format!("{level} {kind} {} {:?}", data.len(), &data[..data.len().min(16)])
        })
        .collect();
    format!("{} \"{}\" {}", got.ret, got.data.escape_ascii(), errors.join(" "))
}

fn too_large_a_message_is_in_the_error_queue() {
    let (a, port) = udp("127.0.0.1");
    let big = vec![0u8; 65_508];
    let to = addr("127.0.0.1", port);
    p!(set_int(a, IPPROTO_IP, IP_RECVERR, 1));
    p!(
        sc!(SYS_sendto, a, big.as_slice(), big.len(), 0, to.as_slice(), 16),
        error_of(a),
        error_of(a)
    );
}

fn errors_are_queued_by_the_destinations_family() {
    let port = closed_port();
    let six = socket6(SOCK_DGRAM);
    p!(
        set_int(six, IPPROTO_IPV6, 25, 1),
        send_to(six, "a", "::ffff:127.0.0.1", port),
        error_of(six)
    );
    p!(send_to(six, "b", "::1", port), error_of(six), set_int(six, IPPROTO_IP, IP_RECVERR, 1));
    getopt(six, SO_ERROR);
    p!(send_to(six, "c", "::ffff:127.0.0.1", port), error_of(six));
}

fn messages_of_other_levels() {
    let (a, port) = udp("127.0.0.1");
    let b = socket4(SOCK_DGRAM);
    connect_to(b, "127.0.0.1", port);
    let with = |level, kind, data: &[u8]| sendmsg(b, b"x", &cmsg(level, kind, data), None, 0);
    p!(
        with(SOL_SOCKET, SCM_RIGHTS, &[0xff; 4]),
        with(SOL_SOCKET, 2, &[0xff; 12]),
        with(SOL_SOCKET, 99, &[])
    );
    p!(
        with(IPPROTO_IPV6, 50, &[0; 20]),
        with(IPPROTO_TCP, 1, &[0; 4]),
        with(IPPROTO_UDP, 104, &[0; 4])
    );
    p!(with(IPPROTO_IP, 8, &[99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), with(IPPROTO_IP, 99, &[]));
    p!((0..5).take_while(|_| recv(a, 9, MSG_DONTWAIT).0.is_ok()).count());
    let (s, port) = udp("::1");
    let c = socket6(SOCK_DGRAM);
    connect_to(c, "::1", port);
    p!(set_int(s, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1), set_int(s, IPPROTO_IPV6, 2, 1));
    let with = |level, kind, data: &[u8]| sendmsg(c, b"x", &cmsg(level, kind, data), None, 0);
    p!(with(IPPROTO_IP, IP_TTL, &[3, 0, 0, 0]), told(recv_message(s, 9, 0, &[])));
    p!(with(IPPROTO_IPV6, 11, &[5, 0, 0, 0]), with(IPPROTO_IPV6, 62, &[1, 0, 0, 0]));
    p!(with(IPPROTO_IPV6, 50, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0]));
}

fn one_kind_of_time_stamp() {
    let (a, port) = udp("127.0.0.1");
    let all = [29, 35, 63, 64];
    for name in all {
        p!(
            setopt(a, name, 1),
            all.map(|n| getopt(a, n).to_string()).join(" "),
            send_to(a, "x", "127.0.0.1", port)
        );
        let got: Vec<(i32, i32, usize)> =
            recv_message(a, 9, 0, &[]).control.iter().map(|(l, k, d)| (*l, *k, d.len())).collect();
        p!(format!("{got:?}"));
    }
    p!(setopt(a, 29, 0), all.map(|n| getopt(a, n).to_string()).join(" "));
}

fn time_of_the_last_datagram() {
    let (a, port) = udp("127.0.0.1");
    let mut time = [0i64; 2];
    let mut ask = |cmd: u32| sc!(SYS_ioctl, a, cmd, at_mut(&mut time));
    p!(
        ask(0x8906),
        ask(0x8907),
        send_to(a, "x", "127.0.0.1", port),
        rd(a, 9),
        ask(0x8907),
        ask(0x8906)
    );
    p!(time[0] > 1_600_000_000, time[1] < 1_000_000);
}

fn from_v6_to_v4() {
    let (_a, port) = udp("127.0.0.1");
    let six = socket6(SOCK_DGRAM);
    let change = |fd, family| set_int(fd, IPPROTO_IPV6, 1, family);
    p!(
        change(six, AF_INET),
        get_int(six, IPPROTO_IPV6, 1),
        connect_to(six, "::ffff:127.0.0.1", port)
    );
    p!(
        get_int(six, IPPROTO_IPV6, 1),
        change(six, AF_UNIX),
        change(six, AF_INET6),
        change(six, AF_INET)
    );
    p!(
        getopt(six, SO_DOMAIN),
        own_name(six, &[port_of(six)]),
        peer_name(six, &[port]),
        change(six, AF_INET)
    );
    p!(get_int(six, IPPROTO_IPV6, 26), wr(six, "x"), rd(_a, 9));
    let (_b, port) = udp("::1");
    let six = socket6(SOCK_DGRAM);
    connect_to(six, "::1", port);
    p!(change(six, AF_INET));
    let l = socket6(SOCK_STREAM);
    p!(bind_to(l, "::", 0), listen(l, 5), change(l, AF_INET));
    let c = dial(port_of(l));
    let s = accept(l, 0).fd();
    p!(change(s, AF_INET), getopt(s, SO_DOMAIN), peer_name(s, &[port_of(c), port_of(l)]));
    p!(sc!(SYS_connect, s, [0u8; 16].as_slice(), 16), bind_to(s, "0.0.0.0", 0), listen(s, 5));
    p!(dial(port_of(s)) > 0, accept(s, 0).ok());
}

fn a_range_of_ports_of_its_own() {
    let range = |low: u32, high: u32| (low | high << 16) as i32;
    let of = |kind| {
        let fd = socket4(kind);
        set_int(fd, IPPROTO_IP, 51, range(40_011, 40_014));
        fd
    };
    p!(get_int(of(SOCK_DGRAM), IPPROTO_IP, 51) == Ret(i64::from(range(40_011, 40_014))));
    let within = |fd: i32| (40_011..=40_014).contains(&port_of(fd));
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let (a, b) = (of(kind), of(kind));
        p!(bind_to(a, "127.0.0.77", 0), within(a), bind_to(b, "127.0.0.77", 0), within(b));
    }
    let fd = socket4(SOCK_DGRAM);
    p!(set_int(fd, IPPROTO_IP, 51, range(5, 3)), set_int(fd, IPPROTO_IP, 51, range(5, 0)));
    p!(set_bytes(fd, IPPROTO_IP, 51, &[1]));
}

cases![
    send_and_receive,
    datagrams_keep_their_bounds,
    autobind_on_send,
    send_errors,
    connected,
    connect_chooses_an_address,
    refused_after_sending,
    error_queue,
    control_messages,
    control_messages_of_v6,
    time_stamps,
    a_full_queue_drops,
    shutting_down,
    readiness,
    sharing_a_port,
    exact_address_beats_wildcard,
    dual_stack,
    broadcasting,
    multicasting,
    multicasting_v6,
    corking,
    segmentation,
    several_at_once,
    bound_to_a_device,
    receive_timeout,
    corked_data_goes_where_it_was_to_go_first,
    segments_are_received_together,
    too_large_a_message_is_in_the_error_queue,
    errors_are_queued_by_the_destinations_family,
    messages_of_other_levels,
    one_kind_of_time_stamp,
    time_of_the_last_datagram,
    from_v6_to_v4,
    a_range_of_ports_of_its_own,
];
