//! TCP over the loopback interface: making, naming, connecting and accepting.

use crate::prelude::*;

fn creation() {
    for (family, kind, protocol) in [
        (AF_INET, SOCK_STREAM, 0),
        (AF_INET, SOCK_STREAM, IPPROTO_TCP),
        (AF_INET, SOCK_DGRAM, IPPROTO_UDP),
        (AF_INET6, SOCK_STREAM, 0),
        (AF_INET6, SOCK_DGRAM, 0),
    ] {
        let fd = sc!(SYS_socket, family, kind, protocol).fd();
        p!(getopt(fd, SO_DOMAIN), getopt(fd, SO_TYPE), getopt(fd, SO_PROTOCOL));
        p!(getopt(fd, SO_ACCEPTCONN), getopt(fd, SO_ERROR));
    }
}

fn creation_errors() {
    p!(sc!(SYS_socket, AF_INET, SOCK_STREAM, IPPROTO_UDP));
    p!(sc!(SYS_socket, AF_INET, SOCK_DGRAM, IPPROTO_TCP));
    p!(sc!(SYS_socket, AF_INET, SOCK_RAW, 0), sc!(SYS_socket, AF_INET, SOCK_SEQPACKET, 0));
    p!(sc!(SYS_socket, AF_INET, SOCK_STREAM, -1), sc!(SYS_socket, AF_INET, SOCK_STREAM, 300));
    p!(sc!(SYS_socket, AF_INET, 0, 0), sc!(SYS_socket, AF_INET, 11, 0));
    let mut two = [0i32; 2];
    p!(sc!(SYS_socketpair, AF_INET, SOCK_STREAM, 0, at_mut(&mut two)));
    p!(sc!(SYS_socketpair, AF_INET6, SOCK_DGRAM, 0, at_mut(&mut two)));
    p!(sc!(SYS_socketpair, AF_INET, SOCK_DGRAM, 6, at_mut(&mut two)));
    p!(sc!(SYS_socketpair, AF_INET, SOCK_STREAM, 1, at_mut(&mut two)));
    p!(sc!(SYS_socketpair, AF_INET, SOCK_STREAM, 6, at_mut(&mut two)));
    p!(sc!(SYS_socket, 45, SOCK_STREAM, 0));
}

fn raw_needs_the_capability() {
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(sc!(SYS_socket, AF_INET, SOCK_RAW, IPPROTO_ICMP));
        p!(sc!(SYS_socket, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
        p!(sc!(SYS_socket, AF_PACKET, SOCK_RAW, 0x300));
        0
    }));
}

fn ping_pong() {
    let (l, port) = listener("127.0.0.1", 5);
    let c = dial(port);
    let a = accept(l, 0).fd();
    p!(wr(c, "hello"), rd(a, 10), wr(a, "bye"), rd(c, 10), close(a), rd(c, 10));
}

fn names() {
    let (l, port) = listener("127.0.0.1", 5);
    let fresh = socket4(SOCK_STREAM);
    p!(own_name(fresh, &[]), peer_name(fresh, &[]), own_name(l, &[port]), peer_name(l, &[]));
    let c = dial(port);
    let cport = port_of(c);
    let a = accept(l, 0).fd();
    p!(own_name(c, &[port, cport]), peer_name(c, &[port, cport]));
    p!(own_name(a, &[port, cport]), peer_name(a, &[port, cport]));
    let (mut buf, mut len) = ([0u8; 64], 4u32);
    p!(sc!(SYS_getsockname, a, &mut buf, at_mut(&mut len)), len);
    p!(sc!(SYS_getsockname, a, &mut buf, at(&-1i32)), sc!(SYS_getpeername, a, 8u64, at(&16u32)));
}

fn accept_tells_the_peer() {
    let (l, port) = listener("127.0.0.1", 5);
    let c = dial(port);
    let (mut buf, mut len) = ([0u8; 64], 64u32);
    p!(sc!(SYS_accept4, l, &mut buf, at_mut(&mut len), SOCK_CLOEXEC | SOCK_NONBLOCK).ok());
    p!(spell_ip(&buf[..len as usize], &[port_of(c)]));
    p!(sc!(SYS_accept4, l, 0u64, 0u64, 0x10));
}

fn accepted_flags() {
    let (l, port) = listener("127.0.0.1", 5);
    let _c = [dial(port), dial(port)];
    let a = accept(l, SOCK_CLOEXEC | SOCK_NONBLOCK).fd();
    p!(fcntl(a, F_GETFD, 0), fcntl(a, F_GETFL, 0));
    fcntl(l, F_SETFL, O_NONBLOCK);
    let b = accept(l, 0).fd();
    p!(fcntl(b, F_GETFD, 0), fcntl(b, F_GETFL, 0), accept(l, 0));
}

fn bind_errors() {
    let fd = socket4(SOCK_STREAM);
    let a = addr("127.0.0.1", 0);
    p!(sc!(SYS_bind, fd, a.as_slice(), 15), sc!(SYS_bind, fd, a.as_slice(), 129));
    p!(sc!(SYS_bind, fd, 8u64, 16), bind_to(fd, "::1", 0), bind_to(fd, "203.0.113.9", 0));
    p!(bind_to(999, "127.0.0.1", 0), bind_to(1, "127.0.0.1", 0));
    p!(bind_to(fd, "127.0.0.1", 0), bind_to(fd, "127.0.0.1", 0));
    let other = socket4(SOCK_STREAM);
    p!(bind_to(other, "127.0.0.1", port_of(fd)), bind_to(other, "0.0.0.0", port_of(fd)));
    p!(bind_to(other, "127.0.0.2", port_of(fd)));
    let six = socket6(SOCK_STREAM);
    p!(bind_to(six, "127.0.0.1", 0), sc!(SYS_bind, six, addr("::1", 0).as_slice(), 23));
    p!(bind_to(six, "ff02::1", 0), bind_to(six, "2001:db8::1", 0), bind_to(six, "::1", 0));
}

fn bind_with_no_family() {
    let mut a = addr("0.0.0.0", 0);
    a[0] = 0;
    p!(sc!(SYS_bind, socket4(SOCK_STREAM), a.as_slice(), 16));
    let mut b = addr("127.0.0.1", 0);
    b[0] = 0;
    p!(sc!(SYS_bind, socket4(SOCK_STREAM), b.as_slice(), 16));
    p!(sc!(SYS_bind, socket6(SOCK_STREAM), [0u8; 28].as_slice(), 28));
}

fn low_ports_need_the_capability() {
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(bind_to(socket4(SOCK_STREAM), "127.0.0.1", 1023));
        p!(bind_to(socket4(SOCK_DGRAM), "127.0.0.1", 7));
        p!(bind_to(socket6(SOCK_STREAM), "::1", 1023));
        0
    }));
}

fn reuse_address() {
    let two = |a: bool, b: bool| {
        let (x, y) = (socket4(SOCK_STREAM), socket4(SOCK_STREAM));
        setopt(x, SO_REUSEADDR, a.into());
        setopt(y, SO_REUSEADDR, b.into());
        bind_to(x, "127.0.0.1", 0);
        let bound = bind_to(y, "127.0.0.1", port_of(x));
        format!("{bound} {} {}", listen(x, 1), if bound.ok() { listen(y, 1) } else { bound })
    };
    p!(two(false, false), two(true, false), two(false, true), two(true, true));
    let (l, port) = listener("127.0.0.1", 1);
    setopt(l, SO_REUSEADDR, 1);
    let x = socket4(SOCK_STREAM);
    setopt(x, SO_REUSEADDR, 1);
    p!(bind_to(x, "127.0.0.1", port));
}

fn reuse_port() {
    let two = |a: bool, b: bool| {
        let (x, y) = (socket4(SOCK_STREAM), socket4(SOCK_STREAM));
        setopt(x, SO_REUSEPORT, a.into());
        setopt(y, SO_REUSEPORT, b.into());
        bind_to(x, "127.0.0.1", 0);
        let bound = bind_to(y, "127.0.0.1", port_of(x));
        format!("{bound} {} {}", listen(x, 1), if bound.ok() { listen(y, 1) } else { bound })
    };
    p!(two(false, false), two(true, false), two(false, true), two(true, true));
}

fn reuse_port_balances() {
    let (a, b) = (socket4(SOCK_STREAM), socket4(SOCK_STREAM));
    setopt(a, SO_REUSEPORT, 1);
    setopt(b, SO_REUSEPORT, 1);
    bind_to(a, "127.0.0.1", 0);
    bind_to(b, "127.0.0.1", port_of(a));
    listen(a, 100);
    listen(b, 100);
    let clients: Vec<i32> = (0..60).map(|_| dial(port_of(a))).collect();
    fcntl(a, F_SETFL, O_NONBLOCK);
    fcntl(b, F_SETFL, O_NONBLOCK);
    let count = |l: i32| (0..).take_while(|_| accept(l, 0).ok()).count();
    let (x, y) = (count(a), count(b));
    p!(clients.len(), x + y, x > 5, y > 5);
}

fn dual_stack() {
    let (l, port) = listener("::", 5);
    let c = dial(port);
    let a = accept(l, 0).fd();
    p!(own_name(a, &[port]), peer_name(a, &[port, port_of(c)]), own_name(l, &[port]));
    let d = socket6(SOCK_STREAM);
    p!(connect_to(d, "::ffff:127.0.0.1", port), own_name(d, &[]), peer_name(d, &[port]));
    let e = socket6(SOCK_STREAM);
    p!(connect_to(e, "::1", port), own_name(e, &[]), peer_name(e, &[port]));
    p!(bind_to(socket4(SOCK_STREAM), "127.0.0.1", port));
}

fn v6_only() {
    let fd = socket6(SOCK_STREAM);
    p!(get_int(fd, IPPROTO_IPV6, IPV6_V6ONLY), set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    p!(bind_to(fd, "::", 0), listen(fd, 1), set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0));
    let port = port_of(fd);
    p!(connect_to(socket4(SOCK_STREAM), "127.0.0.1", port));
    p!(bind_to(socket4(SOCK_STREAM), "0.0.0.0", port));
    let c = socket6(SOCK_STREAM);
    set_int(c, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    p!(connect_to(c, "::ffff:127.0.0.1", port), connect_to(c, "::1", port));
}

fn v6_only_and_v4_together() {
    let six = socket6(SOCK_STREAM);
    set_int(six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    bind_to(six, "::", 0);
    let four = socket4(SOCK_STREAM);
    p!(bind_to(four, "0.0.0.0", port_of(six)), listen(six, 1), listen(four, 1));
    dial(port_of(six));
    p!(poll(&[(four, POLLIN), (six, POLLIN)], 1000));
}

fn whole_loopback_network() {
    let (l, port) = listener("0.0.0.0", 5);
    let c = socket4(SOCK_STREAM);
    p!(connect_to(c, "127.1.2.3", port), own_name(c, &[]), peer_name(c, &[port]));
    let a = accept(l, 0).fd();
    p!(own_name(a, &[port]), peer_name(a, &[port, port_of(c)]));
    let d = socket4(SOCK_STREAM);
    p!(bind_to(d, "127.9.9.9", 0), connect_to(d, "127.0.0.1", port), own_name(d, &[port_of(d)]));
    p!(bind_to(socket4(SOCK_STREAM), "127.0.0.255", 0));
}

fn any_address_as_destination() {
    let (_l, port) = listener("127.0.0.1", 5);
    let c = socket4(SOCK_STREAM);
    p!(connect_to(c, "0.0.0.0", port), peer_name(c, &[port]));
    let (_l, port) = listener("::1", 5);
    let c = socket6(SOCK_STREAM);
    p!(connect_to(c, "::", port), peer_name(c, &[port]));
}

fn refused() {
    let port = closed_port();
    let c = socket4(SOCK_STREAM);
    p!(connect_to(c, "127.0.0.1", port), getopt(c, SO_ERROR), own_name(c, &[]));
    p!(poll(&[(c, POLLIN | POLLOUT | POLLRDHUP)], 0), connect_to(c, "127.0.0.1", port));
    let (_l, port) = listener("127.0.0.1", 1);
    p!(connect_to(c, "127.0.0.1", port), connect_to(socket6(SOCK_STREAM), "::1", closed_port()));
}

fn connect_errors() {
    let (l, port) = listener("127.0.0.1", 5);
    let c = socket4(SOCK_STREAM);
    let a = addr("127.0.0.1", port);
    p!(sc!(SYS_connect, c, a.as_slice(), 15), sc!(SYS_connect, c, a.as_slice(), 1));
    p!(sc!(SYS_connect, c, 8u64, 16), connect_to(c, "::1", port), connect_to(c, "224.0.0.1", port));
    p!(connect_to(c, "127.255.255.255", port), connect_to(999, "127.0.0.1", port));
    p!(connect_to(1, "127.0.0.1", port), connect_to(c, "127.0.0.1", port));
    p!(connect_to(c, "127.0.0.1", port), connect_to(l, "127.0.0.1", port));
    p!(connect_to(socket6(SOCK_STREAM), "127.0.0.1", port));
}

fn nonblocking_connect() {
    let (l, port) = listener("127.0.0.1", 5);
    let c = socket4(SOCK_STREAM | SOCK_NONBLOCK);
    p!(connect_to(c, "127.0.0.1", port), poll(&[(c, POLLOUT | POLLIN)], 10_000));
    p!(getopt(c, SO_ERROR), peer_name(c, &[port]), connect_to(c, "127.0.0.1", port));
    p!(connect_to(c, "127.0.0.1", port), accept(l, 0).ok());
}

fn nonblocking_refused() {
    let port = closed_port();
    let c = socket4(SOCK_STREAM | SOCK_NONBLOCK);
    p!(connect_to(c, "127.0.0.1", port), poll(&[(c, POLLOUT | POLLIN | POLLRDHUP)], 10_000));
    p!(getopt(c, SO_ERROR), getopt(c, SO_ERROR), poll(&[(c, POLLOUT)], 0));
    p!(connect_to(c, "127.0.0.1", port));
    let d = socket4(SOCK_STREAM | SOCK_NONBLOCK);
    p!(connect_to(d, "127.0.0.1", port), poll(&[(d, POLLOUT)], 10_000));
    p!(connect_to(d, "127.0.0.1", port), connect_to(d, "127.0.0.1", port));
    let e = socket4(SOCK_STREAM | SOCK_NONBLOCK);
    p!(connect_to(e, "127.0.0.1", port), poll(&[(e, POLLOUT)], 10_000), wr(e, "x"), wr(e, "x"));
    p!(rd(e, 1));
}

fn full_backlog_makes_them_wait() {
    let (l, port) = listener("127.0.0.1", 0);
    let first = dial(port);
    let second = socket4(SOCK_STREAM | SOCK_NONBLOCK);
    p!(connect_to(second, "127.0.0.1", port), poll(&[(second, POLLOUT)], 0));
    p!(connect_to(second, "127.0.0.1", port), rd(second, 1), wr(second, "x"));
    p!(peer_name(second, &[port]), own_name(second, &[port_of(second)]));
    p!(accept(l, 0).ok(), poll(&[(second, POLLOUT)], 10_000), wr(second, "x"));
    p!(accept(l, 0).ok(), close(first));
}

fn backlog_counts() {
    let (l, port) = listener("127.0.0.1", 3);
    let all: Vec<i32> = (0..8).map(|_| socket4(SOCK_STREAM | SOCK_NONBLOCK)).collect();
    let connected = all
        .iter()
        .filter(|c| !connect_to(**c, "127.0.0.1", port).ok())
        .filter(|c| poll(&[(**c, POLLOUT)], 50) == "1 [OUT]");
    p!(connected.count());
    p!(listen(l, 5), poll(&[(l, POLLIN)], 0));
}

fn connect_timeout() {
    let (_l, port) = listener("127.0.0.1", 0);
    let _first = dial(port);
    let c = socket4(SOCK_STREAM);
    sc!(SYS_setsockopt, c, SOL_SOCKET, SO_SNDTIMEO, at(&[0i64, 30_000]), 16);
    p!(took(25, || connect_to(c, "127.0.0.1", port)).0);
    p!(connect_to(c, "127.0.0.1", port), poll(&[(c, POLLOUT)], 0));
}

fn connect_gives_up() {
    let (_l, port) = listener("127.0.0.1", 0);
    let _first = dial(port);
    let c = socket4(SOCK_STREAM);
    p!(set_int(c, IPPROTO_TCP, TCP_USER_TIMEOUT, 300));
    let (ret, right) = took(250, || connect_to(c, "127.0.0.1", port));
    p!(ret, right, getopt(c, SO_ERROR));
    let d = socket4(SOCK_STREAM | SOCK_NONBLOCK);
    p!(set_int(d, IPPROTO_TCP, TCP_USER_TIMEOUT, 300), connect_to(d, "127.0.0.1", port));
    p!(poll(&[(d, POLLOUT)], 10_000), getopt(d, SO_ERROR), getopt(d, SO_ERROR));
}

fn connect_is_interrupted() {
    let (_l, port) = listener("127.0.0.1", 0);
    let _first = dial(port);
    let c = socket4(SOCK_STREAM);
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 30, 0);
    p!(connect_to(c, "127.0.0.1", port), poll(&[(c, POLLOUT)], 0));
}

fn listen_rules() {
    let fd = socket4(SOCK_STREAM);
    p!(listen(fd, 1), port_of(fd) != 0, own_name(fd, &[port_of(fd)]), listen(fd, 7));
    p!(getopt(fd, SO_ACCEPTCONN), poll(&[(fd, POLLIN | POLLOUT)], 0), rd(fd, 1), wr(fd, "x").ok());
    let s = tcp_pair();
    p!(listen(s[0], 1), accept(s[0], 0), accept(socket4(SOCK_STREAM), 0));
    p!(listen(socket4(SOCK_DGRAM), 1), accept(socket4(SOCK_DGRAM), 0), listen(1, 1));
}

fn shutdown_of_a_listener() {
    let (l, port) = listener("127.0.0.1", 5);
    let c = dial(port);
    p!(shutdown(l, SHUT_WR), getopt(l, SO_ACCEPTCONN), shutdown(l, SHUT_RD));
    p!(getopt(l, SO_ACCEPTCONN), accept(l, 0), poll(&[(l, POLLIN | POLLOUT)], 0));
    p!(poll(&[(c, POLLIN)], 10_000), rd(c, 1), rd(c, 1));
    p!(connect_to(socket4(SOCK_STREAM), "127.0.0.1", port), listen(l, 1));
    p!(dial(port_of(l)) > 0, accept(l, 0).ok());
}

fn closing_a_listener_resets_the_unaccepted() {
    let (l, port) = listener("127.0.0.1", 5);
    let c = dial(port);
    wr(c, "data");
    p!(close(l), poll(&[(c, POLLIN | POLLRDHUP)], 10_000), rd(c, 1), rd(c, 1));
}

fn blocked_accept_is_woken() {
    let (l, port) = listener("127.0.0.1", 5);
    let pid = child(|| {
        nap(20);
        let c = dial(port);
        rd(c, 1);
        0
    });
    p!(accept(l, 0).ok(), wait_opt(pid, WNOHANG).0);
    kill(pid, SIGKILL);
    wait(pid);
}

fn accept_timeout_and_signal() {
    let (l, _) = listener("127.0.0.1", 5);
    sc!(SYS_setsockopt, l, SOL_SOCKET, SO_RCVTIMEO, at(&[0i64, 20_000]), 16);
    p!(accept(l, 0));
    let (l, _) = listener("127.0.0.1", 5);
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 20, 0);
    p!(accept(l, 0));
}

fn self_connection() {
    let fd = socket4(SOCK_STREAM);
    bind_to(fd, "127.0.0.1", 0);
    let port = port_of(fd);
    p!(connect_to(fd, "127.0.0.1", port), peer_name(fd, &[port]), wr(fd, "echo"), rd(fd, 10));
    p!(poll(&[(fd, POLLIN | POLLOUT)], 0), shutdown(fd, SHUT_WR), rd(fd, 1));
}

fn disconnecting() {
    let [c, s] = tcp_pair();
    p!(sc!(SYS_connect, c, [0u8; 16].as_slice(), 16), peer_name(c, &[]), own_name(c, &[]));
    p!(poll(&[(s, POLLIN | POLLRDHUP)], 10_000), rd(s, 1), rd(s, 1));
    let (_l, port) = listener("127.0.0.1", 5);
    p!(connect_to(c, "127.0.0.1", port), peer_name(c, &[port]));
    let b = socket4(SOCK_STREAM);
    bind_to(b, "127.0.0.1", 0);
    let own = port_of(b);
    connect_to(b, "127.0.0.1", port);
    p!(sc!(SYS_connect, b, [0u8; 2].as_slice(), 2), own_name(b, &[]), own != 0);
}

fn same_pair_of_ports_only_once() {
    let (_l, port) = listener("127.0.0.1", 5);
    let a = socket4(SOCK_STREAM);
    setopt(a, SO_REUSEADDR, 1);
    bind_to(a, "127.0.0.1", 0);
    let b = socket4(SOCK_STREAM);
    setopt(b, SO_REUSEADDR, 1);
    p!(bind_to(b, "127.0.0.1", port_of(a)), connect_to(a, "127.0.0.1", port));
    p!(connect_to(b, "127.0.0.1", port));
}

fn port_stays_with_accepted_connections() {
    let (l, port) = listener("127.0.0.1", 5);
    let _c = dial(port);
    let a = accept(l, 0).fd();
    close(l);
    let x = socket4(SOCK_STREAM);
    p!(bind_to(x, "127.0.0.1", port), setopt(x, SO_REUSEADDR, 1), bind_to(x, "127.0.0.1", port));
    p!(setopt(a, SO_REUSEADDR, 1), bind_to(x, "127.0.0.1", port));
}

fn ephemeral_ports_lie_in_the_range() {
    let range = get(c"/proc/sys/net/ipv4/ip_local_port_range").to_string();
    p!(range.split_whitespace().count() >= 2);
    let ports: Vec<u16> = (0..50).map(|_| listener("127.0.0.1", 1).1).collect();
    p!(ports.iter().all(|p| *p >= 1024));
    let mut unique = ports.clone();
    unique.sort_unstable();
    unique.dedup();
    p!(unique.len());
}

fn deferred_accept() {
    let (l, port) = listener("127.0.0.1", 5);
    p!(set_int(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, 30));
    let c = dial(port);
    p!(poll(&[(l, POLLIN)], 30), wr(c, "now"), poll(&[(l, POLLIN)], 10_000));
    p!(rd(accept(l, 0).fd(), 10));
}

fn many_connections() {
    let (l, port) = listener("127.0.0.1", 300);
    let clients: Vec<i32> = (0..200).map(|_| dial(port)).collect();
    let servers: Vec<i32> = (0..200).map(|_| accept(l, 0).fd()).collect();
    clients.iter().for_each(|c| {
        wr(*c, "x");
    });
    p!(servers.iter().filter(|s| rd(**s, 9).to_string() == rd(-1, 9).to_string()).count());
    p!(clients.iter().chain(&servers).filter(|fd| **fd > 0).count());
}

fn sockets_have_inodes() {
    let fd = socket4(SOCK_STREAM);
    p!(fstat(fd), lseek(fd, 0, SEEK_CUR), sc!(SYS_fsync, fd), ftruncate(fd, 0));
    p!(pread(fd, 1, 0), pwrite(fd, "x", 0));
    let link = readlink(&CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default(), 64);
    p!(link.to_string().contains("socket:["));
}

cases![
    creation,
    creation_errors,
    raw_needs_the_capability,
    ping_pong,
    names,
    accept_tells_the_peer,
    accepted_flags,
    bind_errors,
    bind_with_no_family,
    low_ports_need_the_capability,
    reuse_address,
    reuse_port,
    reuse_port_balances,
    dual_stack,
    v6_only,
    v6_only_and_v4_together,
    whole_loopback_network,
    any_address_as_destination,
    refused,
    connect_errors,
    nonblocking_connect,
    nonblocking_refused,
    full_backlog_makes_them_wait,
    backlog_counts,
    connect_timeout,
    connect_gives_up,
    connect_is_interrupted,
    listen_rules,
    shutdown_of_a_listener,
    closing_a_listener_resets_the_unaccepted,
    blocked_accept_is_woken,
    accept_timeout_and_signal,
    self_connection,
    disconnecting,
    same_pair_of_ports_only_once,
    port_stays_with_accepted_connections,
    ephemeral_ports_lie_in_the_range,
    deferred_accept,
    many_connections,
    sockets_have_inodes,
];
