//! UDP-Lite over the loopback interface.

use crate::prelude::*;

const UDPLITE: i32 = 136;
const SEND_CSCOV: i32 = 10;
const RECV_CSCOV: i32 = 11;

fn lite(ip: &str) -> (i32, u16) {
    let family = if ip.contains(':') { AF_INET6 } else { AF_INET };
    let fd = sc!(SYS_socket, family, SOCK_DGRAM, UDPLITE).fd();
    bind_to(fd, ip, 0);
    (fd, port_of(fd))
}

fn messages() {
    for ip in ["127.0.0.1", "::1"] {
        let ((a, pa), (b, pb)) = (lite(ip), lite(ip));
        p!(getopt(a, SO_PROTOCOL), getopt(a, SO_TYPE), own_name(a, &[pa]));
        p!(send_to(a, "hello", ip, pb), recv_from(b, 20, 0, &[pa, pb]));
        p!(send_to(b, "", ip, pa), recv_from(a, 20, 0, &[pa, pb]));
        p!(connect_to(a, ip, pb), peer_name(a, &[pb]), wr(a, "again"), recv(b, 20, 0));
        p!(recv(a, 9, MSG_DONTWAIT), sc!(SYS_listen, a, 1));
        let big = vec![0u8; 70_000];
        let (to, most) = (addr(ip, pb), if ip.contains(':') { 65_527 } else { 65_507 });
        for len in [most, most + 1] {
            p!(sc!(SYS_sendto, b, big.as_slice(), len, 0, to.as_slice(), to.len()));
        }
    }
}

fn kinds_of_sockets() {
    for (family, kind) in
        [(AF_INET, SOCK_STREAM), (AF_INET6, SOCK_STREAM), (AF_INET, SOCK_SEQPACKET)]
    {
        p!(sc!(SYS_socket, family, kind, UDPLITE));
    }
    p!(sc!(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, UDPLITE).ok());
}

fn ports_of_its_own() {
    let (u, port) = udp("127.0.0.1");
    let l = sc!(SYS_socket, AF_INET, SOCK_DGRAM, UDPLITE).fd();
    p!(bind_to(l, "127.0.0.1", port));
    let other = sc!(SYS_socket, AF_INET, SOCK_DGRAM, UDPLITE).fd();
    p!(bind_to(other, "127.0.0.1", port));
    let (from, _) = udp("127.0.0.1");
    p!(send_to(from, "udp", "127.0.0.1", port), recv(l, 9, MSG_DONTWAIT), recv(u, 9, 0));
    p!(send_to(other, "lite", "127.0.0.1", port), recv(u, 9, MSG_DONTWAIT), recv(l, 9, 0));
}

fn refused() {
    let (gone, port) = lite("127.0.0.1");
    close(gone);
    let (a, _) = lite("127.0.0.1");
    p!(connect_to(a, "127.0.0.1", port), wr(a, "x"), wr(a, "x"), wr(a, "x"));
}

fn coverage_options() {
    let (a, _) = lite("127.0.0.1");
    let (u, _) = udp("127.0.0.1");
    for name in [SEND_CSCOV, RECV_CSCOV] {
        p!(get_int(a, UDPLITE, name), get_int(u, UDPLITE, name), get_int(a, IPPROTO_UDP, name));
        for value in [0, 1, 7, 8, 20, 65_535, 65_536, -1] {
            p!(
                set_int(a, UDPLITE, name, value),
                get_int(a, UDPLITE, name),
                set_int(u, UDPLITE, name, value)
            );
        }
        p!(set_int(a, IPPROTO_UDP, name, 30), get_int(a, UDPLITE, name));
        p!(set_bytes(a, UDPLITE, name, &[0; 3]), get_int(a, SOL_SOCKET, name) == Ret(0));
    }
    // UDP's own, at either level.
    p!(
        set_int(a, UDPLITE, 1, 1),
        get_int(a, IPPROTO_UDP, 1),
        set_int(u, UDPLITE, 1, 1),
        get_int(u, UDPLITE, 1)
    );
    p!(set_int(a, UDPLITE, 77, 1), get_int(a, UDPLITE, 77));
}

fn too_little_is_covered() {
    for ip in ["127.0.0.1", "::1"] {
        let ((a, _), (b, pb)) = (lite(ip), lite(ip));
        let arrives = |n: usize| {
            send_to(a, &"x".repeat(n), ip, pb);
            recv(b, 99, MSG_DONTWAIT).to_string().contains('x')
        };
        // Without an option everything is taken.
        p!(arrives(50), set_int(a, UDPLITE, SEND_CSCOV, 20), arrives(50));
        // The whole of it is wanted.
        p!(set_int(b, UDPLITE, RECV_CSCOV, 0), arrives(50), arrives(12), arrives(13), arrives(1));
        p!(
            set_int(b, UDPLITE, RECV_CSCOV, 20),
            arrives(50),
            set_int(b, UDPLITE, RECV_CSCOV, 21),
            arrives(50)
        );
        p!(arrives(12), set_int(a, UDPLITE, SEND_CSCOV, 0), arrives(50), arrives(5));
        p!(set_int(a, UDPLITE, SEND_CSCOV, 21), arrives(50));
        let list = if ip.contains(':') { c"/proc/net/udplite6" } else { c"/proc/net/udplite" };
        let text = get(list).0.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| line.contains(&format!(":{pb:04X} ")));
        p!(line.and_then(|line| line.split_whitespace().last()).unwrap_or("no line"));
    }
}

fn corked() {
    let ((a, _), (b, pb)) = (lite("127.0.0.1"), lite("127.0.0.1"));
    p!(connect_to(a, "127.0.0.1", pb), send(a, "one ", MSG_MORE), send(a, "two", 0));
    p!(recv(b, 20, 0), set_int(a, UDPLITE, 103, 2), send(a, "segments", 0), send(a, "so", 0));
    p!(recv(b, 20, MSG_DONTWAIT), set_int(a, UDPLITE, 103, 0), send(a, "so", 0), recv(b, 20, 0));
}

fn groups() {
    let ((a, _), (b, pb)) = (lite("127.0.0.1"), lite("0.0.0.0"));
    let group = [[239, 1, 2, 36], [127, 0, 0, 1]].concat();
    p!(set_bytes(b, 0, 35, &group), set_bytes(a, 0, 32, &group[4..]));
    p!(send_to(a, "to all", "239.1.2.36", pb), recv(b, 20, 0));
}

fn counters() {
    let row = |name: &str| {
        let text = get(c"/proc/net/snmp").0.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut lines = text.lines().filter(|line| line.starts_with("UdpLite:"));
        let (titles, numbers) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        let at = titles.split(' ').position(|title| title == name);
        let number = at.and_then(|at| numbers.split(' ').nth(at));
        number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    let names = ["InDatagrams", "NoPorts", "InErrors", "OutDatagrams"];
    let before = names.map(row);
    let ((a, pa), (b, pb)) = (lite("127.0.0.1"), lite("127.0.0.1"));
    set_int(b, UDPLITE, RECV_CSCOV, 0);
    send_to(a, "counted", "127.0.0.1", pb);
    p!(recv(b, 20, 0));
    set_int(a, UDPLITE, SEND_CSCOV, 8);
    send_to(a, "not covered", "127.0.0.1", pb);
    close(b);
    send_to(a, "to nobody", "127.0.0.1", pb);
    let after = names.map(row);
    for (i, least) in [1, 1, 1, 3].into_iter().enumerate() {
        p!(names[i], after[i] >= before[i] + least);
    }
    let listed = |file: &CStr, text: &str| get(file).to_string().contains(text);
    p!(
        listed(c"/proc/net/udplite", &format!(":{pa:04X} ")),
        listed(c"/proc/net/udp", &format!(":{pa:04X} "))
    );
    p!(
        listed(c"/proc/net/snmp6", "UdpLite6InDatagrams"),
        listed(c"/proc/net/protocols", "UDP-Lite")
    );
}

cases![
    messages,
    kinds_of_sockets,
    ports_of_its_own,
    refused,
    coverage_options,
    too_little_is_covered,
    corked,
    groups,
    counters,
];
