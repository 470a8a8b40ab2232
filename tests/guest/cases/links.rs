//! Changes of the network through netlink and ioctl(2), and the news of them, in networks of the case's own.

use crate::prelude::*;

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;
/// `NLM_F_REQUEST | NLM_F_ACK`, and with `NLM_F_CREATE | NLM_F_EXCL`.
const PLAIN: u16 = 5;
const FRESH: u16 = 0x605;
const CREATE: u16 = 0x405;
const REPLACE: u16 = 0x505;

/// Runs `f` in a child with a network that nobody else uses, its loopback interface up.
fn in_network(f: impl FnOnce()) {
    p!(run(|| {
        ok!(sc!(SYS_unshare, CLONE_NEWNET));
        ok!(flags_of(b"lo", 1));
        f();
        0
    }));
}

/// `SIOCSIFFLAGS`
fn flags_of(name: &[u8], flags: u8) -> Ret {
    let mut request = ifreq(name, &[flags, 0]);
    sc!(SYS_ioctl, socket4(SOCK_DGRAM), 0x8914, at_mut(&mut request))
}

fn ifreq(name: &[u8], value: &[u8]) -> [u8; 40] {
    let mut out = [0u8; 40];
    out[..name.len()].copy_from_slice(name);
    out[16..16 + value.len()].copy_from_slice(value);
    out
}

fn netlink(groups: u32) -> i32 {
    let fd = sc!(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE).fd();
    let name = [16u32.to_le_bytes(), [0; 4], groups.to_le_bytes()].concat();
    ok!(sc!(SYS_bind, fd, name.as_slice(), 12));
    fd
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn attr(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut out = (4 + data.len() as u16).to_le_bytes().to_vec();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Sends a request; the error of the answer, and its explanation.
fn change(fd: i32, kind: u16, flags: u16, body: &[u8]) -> String {
    let head = [
        &(16 + body.len() as u32).to_le_bytes()[..],
        &kind.to_le_bytes(),
        &flags.to_le_bytes(),
        &[7, 0, 0, 0, 0, 0, 0, 0],
        body,
    ]
    .concat();
    if !send(fd, &head, 0).ok() {
        return "not sent".into();
    }
    let got = recv(fd, 8192, MSG_DONTWAIT);
    let bytes = got.bytes();
    if half(bytes, 4) != 2 {
        return format!("{} bytes of type {}", bytes.len(), half(bytes, 4));
    }
    Ret(i64::from(word(bytes, 16) as i32)).to_string()
}

/// A `struct ifinfomsg`.
fn info(index: u32, flags: u32, mask: u32) -> Vec<u8> {
    [[0; 4], index.to_le_bytes(), flags.to_le_bytes(), mask.to_le_bytes()].concat()
}

fn make(kind: &[u8], name: &[u8], data: &[u8]) -> Vec<u8> {
    let inner = match data {
        [] => attr(1, kind),
        data => [attr(1, kind), attr(2, data)].concat(),
    };
    [info(0, 0, 0), attr(3, &[name, b"\0"].concat()), attr(18, &inner)].concat()
}

fn veth(name: &[u8], peer: &[u8]) -> Vec<u8> {
    let other = [info(0, 0, 0), attr(3, &[peer, b"\0"].concat())].concat();
    make(b"veth", name, &attr(1, &other))
}

fn index_of(name: &[u8]) -> u32 {
    let mut request = ifreq(name, &[]);
    let got = sc!(SYS_ioctl, socket4(SOCK_DGRAM), 0x8933, at_mut(&mut request));
    if got.ok() { word(&request, 16) } else { 0 }
}

/// A `struct ifaddrmsg`.
fn address(index: u32, prefix: u8, ip: [u8; 4]) -> Vec<u8> {
    [&[2, prefix, 0, 0][..], &index.to_le_bytes(), &attr(2, &ip), &attr(1, &ip)].concat()
}

/// A `struct rtmsg` with destination, next hop and interface.
fn route(to: [u8; 4], prefix: u8, via: Option<[u8; 4]>, device: u32) -> Vec<u8> {
    let mut out = vec![2, prefix, 0, 0, 254, 3, if via.is_some() { 0 } else { 253 }, 1, 0, 0, 0, 0];
    if prefix > 0 {
        out.extend(attr(1, &to));
    }
    if let Some(via) = via {
        out.extend(attr(5, &via));
    }
    if device != 0 {
        out.extend(attr(4, &device.to_le_bytes()));
    }
    out
}

/// What a socket with groups has heard: type, what is after it, and addresses.
fn news(fd: i32) {
    loop {
        let mut buf = vec![0u8; 16384];
        let n = sc!(SYS_recvfrom, fd, buf.as_mut_slice(), buf.len(), MSG_DONTWAIT, 0u64, 0u64);
        if n.0 <= 0 {
            return;
        }
        let body = &buf[16..n.0 as usize];
        match half(&buf, 4) {
            kind @ 16..=17 => {
                // Interfaces of the kernel's that come with a network are nobody's business.
                let name = find(body, 16, 3).unwrap_or_default();
                let name = name.strip_suffix(b"\0").unwrap_or(&name).escape_ascii().to_string();
                let (up, mtu) = (word(body, 8) & 1, find(body, 16, 4).map(|b| word(&b, 0)));
                say!("link {kind} {name} up {up} mtu {mtu:?}");
            }
            kind @ 20..=21 => say!("address {kind} {:?} {:?}", &body[..2], find(body, 8, 2)),
            kind @ 24..=25 => say!(
                "route {kind} {:?} table {} type {} to {:?} via {:?}",
                &body[..2],
                body[4],
                body[7],
                find(body, 12, 1),
                find(body, 12, 5)
            ),
            kind => say!("other {kind}"),
        }
    }
}

fn find(body: &[u8], skip: usize, kind: u16) -> Option<Vec<u8>> {
    let mut rest = body.get(skip..)?;
    while rest.len() >= 4 {
        let len = usize::from(half(rest, 0)).clamp(4, rest.len());
        if half(rest, 2) & 0x3fff == kind {
            return Some(rest[4..len].to_vec());
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    None
}

fn making_links() {
    in_network(|| {
        let fd = netlink(0);
        p!(change(fd, NEWLINK, FRESH, &veth(b"d0", b"e0")), index_of(b"d0") > 1);
        p!(change(fd, NEWLINK, FRESH, &veth(b"d0", b"e0")));
        p!(change(fd, NEWLINK, FRESH, &veth(b"a/b", b"e1")));
        p!(change(fd, NEWLINK, FRESH, &make(b"nonsense", b"d1", &[])));
        p!(change(fd, NEWLINK, PLAIN, &veth(b"d1", b"e1")), index_of(b"d1"));
        p!(change(fd, NEWLINK, FRESH, &veth(b"v0", b"v1")));
        p!(index_of(b"v0") > 1, index_of(b"v1") > 1);
        p!(change(fd, NEWLINK, FRESH, &veth(b"v0", b"v2")), index_of(b"v2"));
        p!(change(fd, DELLINK, PLAIN, &info(index_of(b"v1"), 0, 0)));
        p!(index_of(b"v0"), index_of(b"v1"));
        p!(change(fd, DELLINK, PLAIN, &info(1, 0, 0)), change(fd, DELLINK, PLAIN, &info(99, 0, 0)));
        p!(change(fd, DELLINK, PLAIN, &info(index_of(b"d0"), 0, 0)), index_of(b"d0"));
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(change(fd, NEWLINK, FRESH, &veth(b"d0", b"e0")));
    });
}

fn changing_links() {
    in_network(|| {
        let fd = netlink(0);
        p!(change(fd, NEWLINK, FRESH, &veth(b"d0", b"e0")));
        let d0 = index_of(b"d0");
        let set =
            |attr: &[u8]| change(fd, SETLINK, PLAIN, &[info(d0, 0, 0), attr.to_vec()].concat());
        p!(set(&attr(4, &1400u32.to_le_bytes())), set(&attr(4, &67u32.to_le_bytes())));
        p!(set(&attr(1, &[2, 0, 0, 0, 0, 9])), set(&attr(1, &[3, 0, 0, 0, 0, 9])));
        p!(
            set(&attr(3, b"d1\0")),
            index_of(b"d1") == d0,
            set(&attr(3, b"lo\0")),
            set(&attr(3, b"a b\0"))
        );
        p!(set(&attr(13, &7u32.to_le_bytes())));
        p!(
            change(fd, SETLINK, PLAIN, &info(d0, 1, 1)),
            change(fd, SETLINK, PLAIN, &info(99, 1, 1))
        );
        let ask = |cmd: i32| {
            let mut request = ifreq(b"d1", &[]);
            let got = sc!(SYS_ioctl, socket4(SOCK_DGRAM), cmd, at_mut(&mut request));
            format!("{got} {:?}", &request[16..24])
        };
        p!(ask(0x8921), ask(0x8927), ask(0x8942), ask(0x8913));
        let tell = |cmd: i32, value: &[u8]| {
            let mut request = ifreq(b"d1", value);
            sc!(SYS_ioctl, socket4(SOCK_DGRAM), cmd, at_mut(&mut request))
        };
        p!(tell(0x8922, &1300u32.to_le_bytes()), tell(0x8922, &1u32.to_le_bytes()), ask(0x8921));
        p!(tell(0x8916, &[2, 0, 0, 0, 10, 1, 2, 3]), ask(0x8915), ask(0x891b));
        p!(tell(0x891c, &[2, 0, 0, 0, 255, 255, 255, 0]), ask(0x891b), ask(0x8919));
        p!(
            tell(0x891c, &[2, 0, 0, 0, 255, 0, 255, 0]),
            tell(0x8943, &9u32.to_le_bytes()),
            ask(0x8942)
        );
        p!(tell(0x8923, b"d2"), index_of(b"d2") == d0, ask(0x8921));
    });
}

fn addresses() {
    in_network(|| {
        let fd = netlink(0);
        p!(change(fd, NEWLINK, FRESH, &veth(b"d0", b"e0")));
        let d0 = index_of(b"d0");
        let add = |prefix, ip| change(fd, NEWADDR, FRESH, &address(d0, prefix, ip));
        let delete = |prefix, ip| change(fd, DELADDR, PLAIN, &address(d0, prefix, ip));
        p!(add(24, [10, 0, 0, 1]), add(24, [10, 0, 0, 1]), add(33, [10, 0, 0, 2]));
        p!(change(fd, NEWADDR, FRESH, &address(99, 24, [10, 0, 0, 1])));
        p!(delete(16, [10, 0, 0, 1]), delete(24, [10, 0, 0, 9]), delete(24, [10, 0, 0, 1]));
        p!(delete(24, [10, 0, 0, 1]), add(24, [10, 0, 0, 1]));
        // It is this machine's once the interface is up.
        p!(bind_to(socket4(SOCK_STREAM), "10.0.0.1", 0), flags_of(b"d0", 1));
        p!(
            bind_to(socket4(SOCK_STREAM), "10.0.0.1", 0),
            bind_to(socket4(SOCK_STREAM), "10.0.0.2", 0)
        );
        let udp = socket4(SOCK_DGRAM);
        p!(send_to(udp, "x", "10.0.0.77", 9), send_to(udp, "x", "10.9.0.1", 9));
        p!(connect_to(udp, "10.0.0.77", 9), own_name(udp, &[port_of(udp)]));
    });
}

fn routes() {
    in_network(|| {
        let fd = netlink(0);
        p!(change(fd, NEWLINK, FRESH, &veth(b"d0", b"e0")));
        let d0 = index_of(b"d0");
        let add = |flags, body: &[u8]| change(fd, NEWROUTE, flags, body);
        let delete = |body: &[u8]| change(fd, DELROUTE, PLAIN, body);
        p!(change(fd, NEWADDR, FRESH, &address(d0, 24, [10, 0, 0, 1])));
        p!(add(FRESH, &route([10, 1, 0, 0], 16, None, d0)));
        p!(flags_of(b"d0", 1));
        p!(
            add(FRESH, &route([10, 1, 0, 0], 16, None, d0)),
            add(FRESH, &route([10, 1, 0, 0], 16, None, d0))
        );
        p!(add(FRESH, &route([0; 4], 0, Some([10, 0, 0, 254]), 0)));
        p!(add(FRESH, &route([0; 4], 0, Some([10, 0, 0, 253]), 0)));
        p!(add(REPLACE, &route([0; 4], 0, Some([10, 0, 0, 253]), 0)));
        p!(add(FRESH, &route([10, 2, 0, 0], 16, Some([192, 0, 2, 1]), d0)));
        p!(
            add(PLAIN, &route([10, 3, 0, 0], 16, None, d0)),
            add(CREATE, &route([10, 3, 0, 0], 16, None, 99))
        );
        let udp = socket4(SOCK_DGRAM);
        p!(connect_to(udp, "192.0.2.9", 9), own_name(udp, &[port_of(udp)]));
        p!(delete(&route([0; 4], 0, Some([10, 0, 0, 254]), 0)), delete(&route([0; 4], 0, None, 0)));
        p!(delete(&route([0; 4], 0, None, 0)), delete(&route([10, 1, 0, 0], 16, None, d0)));
        p!(connect_to(udp, "192.0.2.9", 9));
    });
}

fn hearing_of_it() {
    in_network(|| {
        let fd = netlink(0);
        // Links, addresses and routes of IPv4.
        let ear = netlink(1 | 0x10 | 0x40);
        p!(change(fd, NEWLINK, FRESH, &veth(b"d0", b"e0")));
        news(ear);
        let d0 = index_of(b"d0");
        p!(change(fd, SETLINK, PLAIN, &[info(d0, 0, 0), attr(4, &1200u32.to_le_bytes())].concat()));
        news(ear);
        p!(change(fd, SETLINK, PLAIN, &info(d0, 1, 1)));
        news(ear);
        p!(change(fd, NEWADDR, FRESH, &address(d0, 24, [10, 0, 0, 1])));
        news(ear);
        p!(change(fd, NEWROUTE, FRESH, &route([10, 1, 0, 0], 16, Some([10, 0, 0, 2]), 0)));
        p!(change(fd, DELROUTE, PLAIN, &route([10, 1, 0, 0], 16, None, 0)));
        news(ear);
        // Who belongs to no group hears nothing.
        p!(recv(fd, 10, MSG_DONTWAIT));
    });
}

/// Two networks, a pair of interfaces between them.
fn between_networks() {
    in_network(|| {
        let fd = netlink(0);
        let here = open(c"/proc/self/ns/net", O_RDONLY, 0);
        let child = child(|| {
            ok!(sc!(SYS_unshare, CLONE_NEWNET));
            let there = open(c"/proc/self/ns/net", O_RDONLY, 0);
            let inner = netlink(0);
            ok!(sc!(SYS_setns, here.fd(), CLONE_NEWNET));
            p!(change(fd, NEWLINK, FRESH, &veth(b"v0", b"v1")));
            let (v0, v1) = (index_of(b"v0"), index_of(b"v1"));
            let to = |fd: i32| attr(28, &(fd as u32).to_le_bytes());
            p!(
                change(fd, SETLINK, PLAIN, &[info(v1, 0, 0), to(there.fd())].concat()),
                index_of(b"v1")
            );
            p!(change(fd, SETLINK, PLAIN, &[info(1, 0, 0), to(there.fd())].concat()));
            p!(change(fd, SETLINK, PLAIN, &[info(v0, 0, 0), to(0x7fff)].concat()));
            p!(change(fd, NEWADDR, FRESH, &address(v0, 24, [10, 0, 0, 1])), flags_of(b"v0", 1));
            let server = socket4(SOCK_STREAM);
            p!(bind_to(server, "10.0.0.1", 7000), listen(server, 5));
            let udp = socket4(SOCK_DGRAM);
            p!(bind_to(udp, "10.0.0.1", 7001));
            ok!(sc!(SYS_setns, there.fd(), CLONE_NEWNET));
            let v1 = index_of(b"v1");
            p!(v1 > 1, change(inner, NEWADDR, FRESH, &address(v1, 24, [10, 0, 0, 2])));
            p!(flags_of(b"v1", 1));
            let client = socket4(SOCK_STREAM);
            p!(connect_to(client, "10.0.0.1", 7000));
            let accepted = accept(server, 0).fd();
            p!(send(client, "over the wire", 0), recv_soon(accepted, 100, 0));
            p!(send(accepted, "and back", 0), recv_soon(client, 100, 0));
            let asking = socket4(SOCK_DGRAM);
            p!(send_to(asking, "datagram", "10.0.0.1", 7001), recv_soon(udp, 100, 0));
            // Nobody listens there.
            p!(connect_to(socket4(SOCK_STREAM), "10.0.0.1", 7002));
            p!(change(inner, DELLINK, PLAIN, &info(v1, 0, 0)));
            ok!(sc!(SYS_setns, here.fd(), CLONE_NEWNET));
            p!(index_of(b"v0"));
            0
        });
        p!(wait(child));
    });
}

fn neighbors() {
    in_network(|| {
        let fd = netlink(0);
        p!(change(fd, NEWLINK, FRESH, &veth(b"v0", b"v1")), flags_of(b"v0", 1), flags_of(b"v1", 1));
        let v0 = index_of(b"v0");
        let body = |device: u32, ip: [u8; 4]| {
            let fixed = [&[2, 0, 0, 0][..], &device.to_le_bytes(), &[0x80, 0, 0, 0]].concat();
            [fixed, attr(1, &ip), attr(2, &[2, 0, 0, 0, 0, 7])].concat()
        };
        let (near, far) = (body(v0, [10, 0, 0, 9]), body(99, [10, 0, 0, 9]));
        p!(change(fd, NEWNEIGH, FRESH, &near), change(fd, NEWNEIGH, FRESH, &near));
        p!(change(fd, NEWNEIGH, CREATE, &near), change(fd, NEWNEIGH, FRESH, &far));
        p!(change(fd, DELNEIGH, PLAIN, &near), change(fd, NEWNEIGH, PLAIN, &near));
    });
}

fn checksum(data: &[u8]) -> [u8; 2] {
    let sum: u32 =
        data.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0))).sum();
    (!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes()
}

/// The next IPv4 packet that a program reads of an interface; what IPv6 says by itself is passed over.
fn next_packet(fd: i32, skip: usize) -> String {
    loop {
        poll(&[(fd, POLLIN)], 2000);
        let got = rd(fd, 2048);
        let bytes = got.bytes();
        if got.0.is_err() {
            return got.to_string();
        }
        if bytes.get(skip).is_some_and(|b| b >> 4 == 4) {
            // The identifier, whether it may be cut, and the header's checksum with them.
            let mut bytes = bytes.to_vec();
            bytes[skip + 4..skip + 8].fill(0);
            bytes[skip + 10..skip + 12].fill(0);
            return format!("\"{}\"", bytes.escape_ascii());
        }
    }
}

fn tun_devices() {
    in_network(|| {
        let net = netlink(0);
        let open_one = || open(c"/dev/net/tun", O_RDWR | O_NONBLOCK, 0).fd();
        let set = |fd: i32, name: &[u8], flags: u16| {
            let mut request = ifreq(name, &flags.to_le_bytes());
            let got = sc!(SYS_ioctl, fd, 0x4004_54ca, at_mut(&mut request));
            format!("{got} {}", request[..8].escape_ascii())
        };
        let fd = open_one();
        p!(rd(fd, 100), wr(fd, "x"), poll(&[(fd, POLLIN | POLLOUT)], 0));
        p!(set(fd, b"t0", 0), set(fd, b"lo", 0x1001), set(fd, b"t0", 0x1001));
        p!(set(fd, b"t1", 0x1001), set(open_one(), b"t0", 0x1001), set(open_one(), b"t0", 0x1002));
        let mut request = [0u8; 40];
        p!(sc!(SYS_ioctl, fd, 0x8004_54d2_u64, at_mut(&mut request)), half(&request, 16));
        p!(rd(fd, 100), wr(fd, [0x45u8; 40]), poll(&[(fd, POLLIN | POLLOUT)], 0));
        let t0 = index_of(b"t0");
        p!(change(net, NEWADDR, FRESH, &address(t0, 24, [10, 7, 0, 1])), flags_of(b"t0", 1));
        let udp = socket4(SOCK_DGRAM);
        p!(bind_to(udp, "10.7.0.1", 5000), send_to(udp, "question", "10.7.0.2", 5001));
        p!(next_packet(fd, 0));
        let mut ip = vec![0x45, 0, 0, 34, 0, 9, 0x40, 0, 64, 17, 0, 0, 10, 7, 0, 2, 10, 7, 0, 1];
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum);
        // A datagram without a checksum.
        ip.extend([0x13, 0x89, 0x13, 0x88, 0, 14, 0, 0]);
        ip.extend(b"answer");
        p!(wr(fd, &ip), recv_soon(udp, 100, 0), wr(fd, b"no packet"));
        p!(sc!(SYS_ioctl, fd, 0x4004_54cb, 1), close(fd), index_of(b"t0") == t0);
        let fd = open_one();
        // With the header that tells the protocol.
        p!(set(fd, b"t0", 1), send_to(udp, "again", "10.7.0.2", 5001), next_packet(fd, 4));
        p!(sc!(SYS_ioctl, fd, 0x4004_54cb, 0), close(fd), index_of(b"t0"));
        let fd = open_one();
        p!(set(fd, b"", 0x1002), index_of(b"tap0") > 1, wr(fd, [1; 13]), flags_of(b"tap0", 1));
        p!(wr(fd, [1; 13]), wr(fd, [1; 60]), close(fd), index_of(b"tap0"));
    });
}

fn owners_of_tun_devices() {
    in_network(|| {
        let open_one = || open(c"/dev/net/tun", O_RDWR | O_NONBLOCK, 0).fd();
        let set = |fd: i32, name: &[u8]| {
            let mut request = ifreq(name, &0x1001_u16.to_le_bytes());
            sc!(SYS_ioctl, fd, 0x4004_54ca, at_mut(&mut request))
        };
        let mine = open_one();
        let (own, free, group) = (open_one(), open_one(), open_one());
        for (fd, name) in [(own, b"t0"), (free, b"t1"), (group, b"t2")] {
            p!(
                sc!(SYS_ioctl, fd, 0x4004_54cc, 5),
                set(fd, name),
                sc!(SYS_ioctl, fd, 0x4004_54cb, 1)
            );
        }
        p!(sc!(SYS_ioctl, own, 0x4004_54cc, 5), sc!(SYS_ioctl, group, 0x4004_54ce, 6));
        p!(sc!(SYS_ioctl, own, 0x4004_54cc, -1), sc!(SYS_ioctl, own, 0x4004_54ce, -1));
        let others: Vec<i32> = (0..6).map(|_| open_one()).collect();
        p!(close(own), close(free), close(group));
        for (uid, fds) in [(5, &others[..3]), (7, &others[3..])] {
            p!(run(|| {
                p!(sc!(SYS_setresgid, uid, uid, uid), sc!(SYS_setgroups, 1, at(&[uid + 1])));
                p!(sc!(SYS_setresuid, uid, uid, uid));
                p!(set(fds[0], b"t0"), set(fds[1], b"t1"), set(fds[2], b"t2"), set(mine, b"t9"));
                0
            }));
        }
    });
}

cases![
    owners_of_tun_devices,
    making_links,
    changing_links,
    addresses,
    routes,
    hearing_of_it,
    between_networks,
    neighbors,
    tun_devices
];
