//! Options and interface requests of Internet sockets.

use crate::prelude::*;

fn defaults(fd: i32, level: i32, names: &[i32]) {
    for name in names {
        say!("{level} {name}: {}", get_int(fd, level, *name));
    }
}

fn socket_level_defaults() {
    let names = [
        SO_DEBUG,
        SO_REUSEADDR,
        SO_DONTROUTE,
        SO_BROADCAST,
        SO_SNDBUF,
        SO_RCVBUF,
        SO_KEEPALIVE,
        SO_OOBINLINE,
        SO_PRIORITY,
        SO_REUSEPORT,
        SO_PASSCRED,
        SO_RCVLOWAT,
        SO_SNDLOWAT,
        SO_TIMESTAMP,
        SO_ACCEPTCONN,
        SO_MARK,
        SO_PEEK_OFF,
        SO_BUSY_POLL,
    ];
    defaults(socket4(SOCK_DGRAM), SOL_SOCKET, &names);
    defaults(socket6(SOCK_STREAM), SOL_SOCKET, &names[..4]);
    p!(getopt(socket4(SOCK_STREAM), SO_SNDBUF));
}

fn buffers_are_doubled() {
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let fd = socket4(kind);
        p!(setopt(fd, SO_SNDBUF, 10_000), getopt(fd, SO_SNDBUF), setopt(fd, SO_RCVBUF, 20_000));
        p!(getopt(fd, SO_RCVBUF), setopt(fd, SO_SNDBUF, 0), getopt(fd, SO_SNDBUF));
        p!(setopt(fd, SO_RCVBUF, 0), getopt(fd, SO_RCVBUF));
    }
}

fn lingering() {
    let fd = socket4(SOCK_STREAM);
    p!(get_bytes(fd, SOL_SOCKET, SO_LINGER));
    p!(set_bytes(fd, SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0, 9, 0, 0, 0]));
    p!(get_bytes(fd, SOL_SOCKET, SO_LINGER), set_bytes(fd, SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0]));
}

fn priorities_and_marks() {
    let fd = socket4(SOCK_DGRAM);
    p!(setopt(fd, SO_PRIORITY, 6), getopt(fd, SO_PRIORITY), setopt(fd, SO_MARK, 7));
    p!(getopt(fd, SO_MARK));
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(setopt(fd, SO_PRIORITY, 7), setopt(fd, SO_MARK, 8), setopt(fd, SO_PRIORITY, 3));
        0
    }));
}

fn unknown_options() {
    let fd = socket4(SOCK_STREAM);
    p!(get_int(fd, SOL_SOCKET, 9999), set_int(fd, SOL_SOCKET, 9999, 1));
    p!(get_int(fd, IPPROTO_TCP, 9999), set_int(fd, IPPROTO_TCP, 9999, 1));
    p!(get_int(fd, IPPROTO_IP, 9999), set_int(fd, IPPROTO_IP, 9999, 1));
    p!(get_int(fd, IPPROTO_IPV6, IPV6_V6ONLY), set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    p!(get_int(fd, 1234, 1), set_int(fd, 1234, 1, 1), get_int(fd, IPPROTO_UDP, 1));
    let u = socket4(SOCK_DGRAM);
    p!(get_int(u, IPPROTO_TCP, TCP_NODELAY), set_int(u, IPPROTO_TCP, TCP_NODELAY, 1));
    p!(get_int(u, 1234, 1));
}

fn tcp_switches() {
    let fd = socket4(SOCK_STREAM);
    for name in [TCP_NODELAY, TCP_CORK] {
        p!(get_int(fd, IPPROTO_TCP, name), set_int(fd, IPPROTO_TCP, name, 5));
        p!(get_int(fd, IPPROTO_TCP, name), set_int(fd, IPPROTO_TCP, name, 0));
        p!(get_int(fd, IPPROTO_TCP, name));
    }
    p!(get_int(fd, IPPROTO_TCP, TCP_QUICKACK), set_int(fd, IPPROTO_TCP, TCP_QUICKACK, 1));
    p!(
        set_bytes(fd, IPPROTO_TCP, TCP_NODELAY, &[1, 0, 0]),
        get_bytes(fd, IPPROTO_TCP, TCP_NODELAY)
    );
}

fn tcp_numbers() {
    let fd = socket4(SOCK_STREAM);
    for (name, values) in [
        (TCP_KEEPIDLE, [60, 0, 32768]),
        (TCP_KEEPINTVL, [5, 0, 32768]),
        (TCP_KEEPCNT, [3, 0, 128]),
        (TCP_SYNCNT, [4, 0, 128]),
        (TCP_USER_TIMEOUT, [1000, -1, 0]),
        (TCP_LINGER2, [10, -5, 1000]),
        (TCP_DEFER_ACCEPT, [1, 5, 0]),
    ] {
        say!("{name}: {}", get_int(fd, IPPROTO_TCP, name));
        for value in values {
            let set = set_int(fd, IPPROTO_TCP, name, value);
            say!("{value}: {set} {}", get_int(fd, IPPROTO_TCP, name));
        }
    }
    p!(get_int(fd, IPPROTO_TCP, TCP_MAXSEG), set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 1000));
    p!(get_int(fd, IPPROTO_TCP, TCP_MAXSEG), set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 10));
}

fn congestion_control() {
    let fd = socket4(SOCK_STREAM);
    p!(set_bytes(fd, IPPROTO_TCP, TCP_CONGESTION, b"reno"));
    p!(get_bytes(fd, IPPROTO_TCP, TCP_CONGESTION));
    p!(set_bytes(fd, IPPROTO_TCP, TCP_CONGESTION, b"nosuchthing"));
    p!(set_bytes(fd, IPPROTO_TCP, TCP_CONGESTION, b""));
}

fn tcp_info() {
    let info = |fd: i32| {
        let (mut buf, mut len) = ([0u8; 104], 104u32);
        let ret =
            sc!(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, at_mut(&mut buf), at_mut(&mut len));
        format!("{ret} {len} state {}", buf[0])
    };
    let [c, s] = tcp_pair();
    let (l, _) = listener("127.0.0.1", 5);
    p!(info(c), info(s), info(l), info(socket4(SOCK_STREAM)));
    shutdown(c, SHUT_WR);
    poll(&[(s, POLLIN)], 10_000);
    p!(until(|| info(c).ends_with("state 5")), info(s));
    let mut len = 1u32;
    let mut buf = [9u8; 4];
    p!(sc!(SYS_getsockopt, c, IPPROTO_TCP, TCP_INFO, at_mut(&mut buf), at_mut(&mut len)), len);
}

fn options_are_inherited() {
    let (l, port) = listener("127.0.0.1", 5);
    set_int(l, IPPROTO_TCP, TCP_NODELAY, 1);
    set_int(l, IPPROTO_TCP, TCP_KEEPIDLE, 77);
    setopt(l, SO_KEEPALIVE, 1);
    setopt(l, SO_RCVBUF, 30_000);
    set_int(l, IPPROTO_IP, IP_TTL, 9);
    set_bytes(l, SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0, 2, 0, 0, 0]);
    let _c = dial(port);
    let a = accept(l, 0).fd();
    p!(get_int(a, IPPROTO_TCP, TCP_NODELAY), get_int(a, IPPROTO_TCP, TCP_KEEPIDLE));
    p!(getopt(a, SO_KEEPALIVE), getopt(a, SO_RCVBUF), get_int(a, IPPROTO_IP, IP_TTL));
    p!(get_bytes(a, SOL_SOCKET, SO_LINGER), getopt(a, SO_ACCEPTCONN));
}

fn ip_options() {
    let fd = socket4(SOCK_DGRAM);
    for (name, values) in [
        (IP_TTL, [10, 0, 256]),
        (IP_TOS, [0x1c, 0xff, 256]),
        (IP_MULTICAST_TTL, [5, -1, 256]),
        (IP_MULTICAST_LOOP, [0, 1, 7]),
        (IP_MTU_DISCOVER, [0, 3, 9]),
        (IP_RECVERR, [1, 0, 2]),
        (IP_FREEBIND, [1, 0, 2]),
    ] {
        say!("{name}: {}", get_int(fd, IPPROTO_IP, name));
        for value in values {
            let set = set_int(fd, IPPROTO_IP, name, value);
            say!("{value}: {set} {}", get_int(fd, IPPROTO_IP, name));
        }
    }
    p!(set_bytes(fd, IPPROTO_IP, IP_TTL, &[7]), get_int(fd, IPPROTO_IP, IP_TTL));
    p!(get_int(fd, IPPROTO_IP, IP_MTU), connect_to(fd, "127.0.0.1", 9));
    p!(get_int(fd, IPPROTO_IP, IP_MTU), get_int(socket4(SOCK_STREAM), IPPROTO_IP, IP_MTU));
}

fn ipv6_options() {
    let fd = socket6(SOCK_DGRAM);
    for (name, values) in [
        (IPV6_UNICAST_HOPS, [10, -1, 256]),
        (IPV6_MULTICAST_HOPS, [3, -1, 256]),
        (IPV6_MULTICAST_LOOP, [0, 1, 2]),
        (IPV6_TCLASS, [8, -1, 256]),
        (IPV6_MTU_DISCOVER, [0, 2, 9]),
        (IPV6_RECVERR, [1, 0, 2]),
    ] {
        say!("{name}: {}", get_int(fd, IPPROTO_IPV6, name));
        for value in values {
            let set = set_int(fd, IPPROTO_IPV6, name, value);
            say!("{value}: {set} {}", get_int(fd, IPPROTO_IPV6, name));
        }
    }
    p!(get_int(fd, IPPROTO_IP, IP_TTL), set_int(fd, IPPROTO_IP, IP_TTL, 5));
}

fn bind_to_foreign_address_with_freebind() {
    let fd = socket4(SOCK_STREAM);
    p!(bind_to(fd, "203.0.113.1", 0), set_int(fd, IPPROTO_IP, IP_FREEBIND, 1));
    p!(bind_to(fd, "203.0.113.1", 0), own_name(fd, &[port_of(fd)]));
}

fn cookies_differ() {
    let cookie = |fd: i32| get_bytes(fd, SOL_SOCKET, SO_COOKIE);
    let (a, b) = (socket4(SOCK_STREAM), socket4(SOCK_STREAM));
    p!(cookie(a) == cookie(a), cookie(a) == cookie(b), cookie(a).starts_with("8 "));
}

/// A `struct ifreq` for a name.
fn request(name: &str) -> [u8; 40] {
    let mut out = [0u8; 40];
    out[..name.len()].copy_from_slice(name.as_bytes());
    out
}

fn ask(name: &str, cmd: i32) -> String {
    let mut r = request(name);
    let ret = sc!(SYS_ioctl, socket4(SOCK_DGRAM), cmd, at_mut(&mut r));
    format!("{ret} {:?}", &r[16..32])
}

fn interface_requests() {
    p!(ask("lo", 0x8913), ask("lo", 0x8915), ask("lo", 0x891b), ask("lo", 0x8933));
    p!(ask("lo", 0x8921), ask("lo", 0x8927), ask("lo", 0x891d), ask("lo", 0x8919));
    p!(ask("lo", 0x8942), ask("nothere", 0x8913), ask("", 0x8933));
    let mut r = request("");
    r[16] = 1;
    p!(
        sc!(SYS_ioctl, socket6(SOCK_STREAM), 0x8910, at_mut(&mut r)),
        r[..4].escape_ascii().to_string()
    );
    r[16] = 200;
    p!(sc!(SYS_ioctl, socket4(SOCK_STREAM), 0x8910, at_mut(&mut r)));
    let unix = socket(SOCK_STREAM).fd();
    let mut r = request("lo");
    p!(sc!(SYS_ioctl, unix, 0x8933, at_mut(&mut r)), r[16]);
    p!(sc!(SYS_ioctl, unix, 0x8913, 8u64), sc!(SYS_ioctl, unix, 0x89aa, 0u64).ok());
}

fn interface_changes_need_the_capability() {
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(ask("lo", 0x8914), ask("lo", 0x8922));
        0
    }));
}

fn interface_list() {
    let mut buf = [0u8; 4000];
    let mut conf = [4000u64, at_mut(&mut buf)];
    let fd = socket4(SOCK_DGRAM);
    p!(sc!(SYS_ioctl, fd, 0x8912, at_mut(&mut conf)), conf[0] % 40, conf[0] >= 40);
    p!(buf[..3].escape_ascii().to_string(), format!("{:?}", &buf[16..32]));
    let mut conf = [39u64, at_mut(&mut buf)];
    p!(sc!(SYS_ioctl, fd, 0x8912, at_mut(&mut conf)), conf[0]);
}

fn repairing_is_refused() {
    let c = socket4(SOCK_STREAM);
    p!(get_int(c, IPPROTO_TCP, 19), get_int(c, IPPROTO_TCP, 20), get_int(c, IPPROTO_TCP, 21));
    p!(
        set_int(c, IPPROTO_TCP, 20, 1),
        set_int(c, IPPROTO_TCP, 21, 1),
        set_int(c, IPPROTO_TCP, 22, 1)
    );
    let [c, _s] = tcp_pair();
    p!(
        set_int(c, IPPROTO_TCP, 20, 1),
        set_int(c, IPPROTO_TCP, 21, 1),
        set_int(c, IPPROTO_TCP, 24, 1)
    );
}

fn protocols_above() {
    let c = socket4(SOCK_STREAM);
    p!(
        set_bytes(c, IPPROTO_TCP, 31, b"nope"),
        set_bytes(c, IPPROTO_TCP, 31, b""),
        get_bytes(c, IPPROTO_TCP, 31)
    );
    p!(get_bytes(c, IPPROTO_TCP, 28), get_int(c, IPPROTO_TCP, 43));
}

fn fast_open_of_a_listener() {
    let c = socket4(SOCK_STREAM);
    let set =
        |fd, n| format!("{} {}", set_int(fd, IPPROTO_TCP, 23, n), get_int(fd, IPPROTO_TCP, 23));
    p!(set(c, -1), set(c, 5), set(c, 0), set_int(c, IPPROTO_TCP, 30, 2));
    let (l, _) = listener("127.0.0.1", 1);
    let [a, _b] = tcp_pair();
    p!(set(l, 7), set(a, 7));
}

fn more_tcp_numbers() {
    let set = |name, n| {
        let c = socket4(SOCK_STREAM);
        format!("{} {}", set_int(c, IPPROTO_TCP, name, n), get_int(c, IPPROTO_TCP, name))
    };
    p!(
        set(9, 1000),
        set(9, i32::MAX),
        set(12, 0),
        set(12, 5),
        set(17, 1),
        set(17, 2),
        set(27, 2),
        set(27, 3)
    );
    p!(set(36, 1), set(36, 2), set(36, -1));
}

fn short_values() {
    let c = socket4(SOCK_STREAM);
    for name in
        [SO_TYPE, SO_ERROR, SO_REUSEADDR, SO_PASSCRED, SO_DOMAIN, SO_ACCEPTCONN, 26, 27, 37, 49, 72]
    {
        p!(name, set_bytes(c, SOL_SOCKET, name, &[1]));
    }
    for name in [1, 6, 7, 8, 10, 11, 12, 13, 18, 20, 23, 24, 26, 2, 33, 34, 49] {
        p!(name, set_bytes(c, IPPROTO_IP, name, &[]));
    }
}

fn nobody_at_the_other_end() {
    let [c, s] = tcp_pair();
    p!(get_bytes(c, SOL_SOCKET, SO_PEERCRED), getopt(c, 59), getopt(c, 77), getopt(c, 76));
    let (mut name, mut len) = ([0u8; 16], 16u32);
    p!(get_bytes(socket4(SOCK_STREAM), SOL_SOCKET, 28));
    p!(sc!(SYS_getsockopt, s, SOL_SOCKET, 28, at_mut(&mut name), at_mut(&mut len)), len);
    p!(spell_ip(&name, &[port_of(c)]), getopt(c, 48));
    let fresh = socket4(SOCK_STREAM);
    p!(getopt(fresh, 49), setopt(fresh, 49, 1), getopt(fresh, 49), getopt(c, 53), setopt(c, 53, 1));
    p!(get_bytes(c, SOL_SOCKET, 37), setopt(c, 44, 1), setopt(c, 44, 0), getopt(c, 44));
}

fn old_and_new_names_of_ipv6() {
    let a = socket6(SOCK_DGRAM);
    for name in [2, 3, 4, 5, 8, 11, 30, 77, 78, 70] {
        p!(
            name,
            get_int(a, IPPROTO_IPV6, name),
            set_int(a, IPPROTO_IPV6, name, 1),
            get_int(a, IPPROTO_IPV6, name)
        );
    }
    p!(
        set_int(a, IPPROTO_IPV6, 31, 2),
        set_int(a, IPPROTO_IPV6, 29, 7),
        get_int(a, IPPROTO_IPV6, 29)
    );
    p!(bind_to(a, "2001:db8::5", 0), get_int(a, IPPROTO_IPV6, 24), get_int(a, IPPROTO_IP, 15));
    p!(set_int(a, IPPROTO_IP, 25, 1), set_int(a, IPPROTO_IP, 26, 2));
}

cases![
    socket_level_defaults,
    buffers_are_doubled,
    lingering,
    priorities_and_marks,
    unknown_options,
    tcp_switches,
    tcp_numbers,
    congestion_control,
    tcp_info,
    options_are_inherited,
    ip_options,
    ipv6_options,
    bind_to_foreign_address_with_freebind,
    cookies_differ,
    interface_requests,
    interface_changes_need_the_capability,
    interface_list,
    repairing_is_refused,
    protocols_above,
    fast_open_of_a_listener,
    more_tcp_numbers,
    short_values,
    nobody_at_the_other_end,
    old_and_new_names_of_ipv6,
];
