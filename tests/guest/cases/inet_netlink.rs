//! Netlink sockets, and the network in `/proc` and `/sys`.

use crate::prelude::*;

fn netlink(protocol: i32) -> i32 {
    sc!(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol).fd()
}

fn nl_addr(port: u32, groups: u32) -> Vec<u8> {
    let family = (AF_NETLINK as u32).to_le_bytes();
    [family, port.to_le_bytes(), groups.to_le_bytes()].concat()
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut out = (16 + body.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&7u32.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(body);
    out
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

/// Sends a request and returns the messages of the answer: type and body.
fn ask(fd: i32, request: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let sent = send(fd, request, 0);
    if !sent.ok() {
        return vec![(0, vec![])];
    }
    let dump = half(request, 6) & 0x300 == 0x300;
    let mut all = Vec::new();
    loop {
        let mut buf = vec![0u8; 32768];
        let n = sc!(SYS_recvfrom, fd, buf.as_mut_slice(), buf.len(), MSG_DONTWAIT, 0u64, 0u64);
        if n.0 <= 0 {
            return all;
        }
        let mut rest = &buf[..n.0 as usize];
        while rest.len() >= 16 {
            let len = (word(rest, 0) as usize).clamp(16, rest.len());
            all.push((half(rest, 4), rest[16..len].to_vec()));
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        }
        if !dump || all.last().is_some_and(|m| m.0 == 2 || m.0 == 3) {
            return all;
        }
    }
}

/// The attribute of a message behind `skip` bytes.
fn attr(body: &[u8], skip: usize, kind: u16) -> String {
    let mut rest = body.get(skip..).unwrap_or(&[]);
    while rest.len() >= 4 {
        let len = usize::from(half(rest, 0)).clamp(4, rest.len());
        if half(rest, 2) & 0x3fff == kind {
            return format!("{:?}", &rest[4..len]);
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    "none".into()
}

fn error_of(messages: &[(u16, Vec<u8>)]) -> String {
    match messages {
        [(2, body)] => format!("error {}", Ret(i64::from(word(body, 0) as i32))),
        other => format!("{} messages of type {:?}", other.len(), other.first().map(|m| m.0)),
    }
}

fn making_and_naming() {
    let fd = netlink(NETLINK_ROUTE);
    p!(getopt(fd, SO_DOMAIN), getopt(fd, SO_TYPE), getopt(fd, SO_PROTOCOL));
    p!(sc!(SYS_bind, fd, nl_addr(0, 0).as_slice(), 12));
    let (mut buf, mut len) = ([0u8; 32], 32u32);
    p!(sc!(SYS_getsockname, fd, &mut buf, at_mut(&mut len)), len, word(&buf, 4) == getpid() as u32);
    let other = netlink(NETLINK_ROUTE);
    p!(sc!(SYS_bind, other, nl_addr(getpid() as u32, 0).as_slice(), 12));
    p!(sc!(SYS_bind, other, nl_addr(0, 0).as_slice(), 12));
    p!(sc!(SYS_bind, other, nl_addr(4711, 0).as_slice(), 12));
    p!(sc!(SYS_bind, other, nl_addr(0, 0).as_slice(), 8), bind_to(other, "127.0.0.1", 0));
    p!(listen(fd, 1), accept(fd, 0), shutdown(fd, 2), recv(fd, 10, MSG_DONTWAIT));
    p!(poll(&[(fd, POLLIN | POLLOUT)], 0));
}

fn protocols() {
    p!(sc!(SYS_socket, AF_NETLINK, SOCK_STREAM, 0), sc!(SYS_socket, AF_NETLINK, SOCK_RAW, 99).ok());
    p!(netlink(NETLINK_SOCK_DIAG) > 0, netlink(NETLINK_KOBJECT_UEVENT) > 0);
    p!(sc!(SYS_bind, netlink(NETLINK_KOBJECT_UEVENT), nl_addr(0, 1).as_slice(), 12));
}

fn one_link() {
    let fd = netlink(NETLINK_ROUTE);
    let mut body = [0u8; 16];
    body[4] = 1;
    let got = ask(fd, &message(18, 1, &body));
    for (kind, body) in &got {
        say!("{kind} {:?}", &body[..12]);
        // Name, MTU, hardware address, queue length.
        p!(attr(body, 16, 3), attr(body, 16, 4), attr(body, 16, 1), attr(body, 16, 13));
    }
    body[4] = 250;
    p!(error_of(&ask(fd, &message(18, 1, &body))));
    let named = |name: &[u8]| {
        let mut body = vec![0u8; 16];
        body.extend_from_slice(&(4 + name.len() as u16).to_le_bytes());
        body.extend_from_slice(&3u16.to_le_bytes());
        body.extend_from_slice(name);
        body.resize(body.len().next_multiple_of(4), 0);
        message(18, 1, &body)
    };
    p!(error_of(&ask(fd, &named(b"lo\0"))), error_of(&ask(fd, &named(b"nothere\0"))));
}

fn dumps_end_with_done() {
    let fd = netlink(NETLINK_ROUTE);
    for (kind, size) in [(18, 16), (22, 8), (26, 12), (30, 12), (34, 12)] {
        let got = ask(fd, &message(kind, 0x301, &vec![0; size]));
        let last = got.last().map_or(0, |m| m.0);
        say!(
            "{kind}: last {last}, all of type {}",
            got.iter().rev().skip(1).all(|m| m.0 == kind - 2)
        );
    }
}

fn loopback_addresses() {
    let fd = netlink(NETLINK_ROUTE);
    for family in [AF_INET, AF_INET6] {
        let mut body = [0u8; 8];
        body[0] = family as u8;
        for (kind, body) in ask(fd, &message(22, 0x301, &body)) {
            if kind == 20 && word(&body, 4) == 1 {
                say!("{:?} {} {}", &body[..4], attr(&body, 8, 1), attr(&body, 8, 2));
            }
        }
    }
}

fn errors_and_acknowledgements() {
    let fd = netlink(NETLINK_ROUTE);
    p!(error_of(&ask(fd, &message(200, 1, &[0; 16]))));
    p!(error_of(&ask(fd, &message(22, 0, &[0; 16]))), error_of(&ask(fd, &[0; 10])));
    p!(sc!(SYS_sendto, fd, 8u64, 20, 0, 0u64, 0));
    p!(send(fd, "", 0));
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        let fd = netlink(NETLINK_ROUTE);
        let mut body = [0u8; 16];
        body[4] = 1;
        p!(error_of(&ask(fd, &message(16, 5, &body))), error_of(&ask(fd, &message(20, 5, &body))));
        0
    }));
}

fn options() {
    let fd = netlink(NETLINK_ROUTE);
    for name in [3, 4, 5, 10, 11, 12] {
        p!(get_int(fd, 270, name), set_int(fd, 270, name, 1), get_int(fd, 270, name));
    }
    p!(set_int(fd, 270, 1, 1), set_int(fd, 270, 2, 1), set_int(fd, 270, 99, 1));
}

fn sockets_are_listed() {
    let (l, port) = listener("127.0.0.1", 5);
    let fd = netlink(NETLINK_SOCK_DIAG);
    let mut body = vec![0u8; 56];
    (body[0], body[1]) = (AF_INET as u8, IPPROTO_TCP as u8);
    body[4..8].fill(0xff);
    let got = ask(fd, &message(20, 0x301, &body));
    let own = got.iter().find(|m| m.0 == 20 && m.1[4..6] == port.to_be_bytes());
    p!(own.is_some(), own.map_or(0, |m| m.1[1]), l > 0);
    p!(own.map_or(String::new(), |m| format!("{:?}", &m.1[8..12])));
    let found = |file: &CStr| {
        let text = get(file).to_string();
        text.contains(&format!(":{port:04X} ")) && text.contains("local_address")
    };
    p!(found(c"/proc/net/tcp"), found(c"/proc/net/tcp6"));
    let (u, port) = udp("::1");
    let text = get(c"/proc/net/udp6").to_string();
    p!(text.contains(&format!(":{port:04X} ")), close(u));
}

fn files_about_the_network() {
    for file in [c"/proc/net/dev", c"/proc/net/snmp", c"/proc/net/sockstat", c"/proc/net/route"] {
        p!(get(file).to_string().len() > 50);
    }
    p!(get(c"/proc/net/dev").to_string().contains("lo:"));
    p!(get(c"/sys/class/net/lo/mtu"), get(c"/sys/class/net/lo/type"));
    p!(get(c"/sys/class/net/lo/address"), get(c"/sys/class/net/lo/ifindex"));
    p!(get(c"/sys/class/net/lo/operstate"), get(c"/proc/sys/net/ipv4/ip_default_ttl"));
    p!(get(c"/proc/sys/net/ipv4/tcp_syncookies"), get(c"/proc/sys/net/core/somaxconn"));
}

fn a_network_of_ones_own() {
    p!(run(|| {
        if !sc!(SYS_unshare, CLONE_NEWNET).ok() {
            return 1;
        }
        let (l, port) = listener("127.0.0.1", 1);
        p!(port != 0, connect_to(socket4(SOCK_STREAM), "127.0.0.1", 80), l > 0);
        let mut r = [0u8; 40];
        r[..2].copy_from_slice(b"lo");
        p!(sc!(SYS_ioctl, socket4(SOCK_DGRAM), 0x8913, at_mut(&mut r)), r[16]);
        r[16] |= 1;
        p!(sc!(SYS_ioctl, socket4(SOCK_DGRAM), 0x8914, at_mut(&mut r)));
        p!(sc!(SYS_ioctl, socket4(SOCK_DGRAM), 0x8913, at_mut(&mut r)), r[16]);
        let (l, port) = listener("127.0.0.1", 1);
        p!(dial(port) > 0, accept(l, 0).ok(), connect_to(socket4(SOCK_STREAM), "8.8.8.8", 80));
        p!(send_to(socket4(SOCK_DGRAM), "x", "8.8.8.8", 80));
        p!(connect_to(socket6(SOCK_STREAM), "2001:db8::1", 80));
        0
    }));
}

cases![
    making_and_naming,
    protocols,
    one_link,
    dumps_end_with_done,
    loopback_addresses,
    errors_and_acknowledgements,
    options,
    sockets_are_listed,
    files_about_the_network,
    a_network_of_ones_own,
];
