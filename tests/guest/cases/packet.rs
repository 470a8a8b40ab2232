//! Packet sockets (`packet(7)`) and socket filters, in a network of the case's own.

use crate::prelude::*;

const SOL_PACKET: i32 = 263;
const ALL: u16 = 3;
const IP: u16 = 0x800;

/// Runs `f` in a child with a network that nobody else uses, its loopback interface up.
fn in_network(f: impl FnOnce()) {
    p!(run(|| {
        let mut lo = [0u8; 40];
        lo[..2].copy_from_slice(b"lo");
        lo[16] = 1;
        ok!(sc!(SYS_unshare, CLONE_NEWNET));
        ok!(sc!(SYS_ioctl, socket4(SOCK_DGRAM), 0x8914, at_mut(&mut lo)));
        f();
        0
    }));
}

fn packet(kind: i32, protocol: u16) -> i32 {
    sc!(SYS_socket, AF_PACKET, kind, i32::from(protocol.to_be())).fd()
}

/// A `struct sockaddr_ll`.
fn ll(protocol: u16, device: u32, address: &[u8]) -> Vec<u8> {
    let mut out = (AF_PACKET as u16).to_le_bytes().to_vec();
    out.extend_from_slice(&protocol.to_be_bytes());
    out.extend_from_slice(&device.to_le_bytes());
    out.extend_from_slice(&[0, 0, 0, address.len() as u8]);
    out.extend_from_slice(address);
    out.resize(20, 0);
    out
}

fn bind_ll(fd: i32, protocol: u16, device: u32) -> Ret {
    let to = ll(protocol, device, &[]);
    sc!(SYS_bind, fd, to.as_slice(), to.len())
}

fn send_ll(fd: i32, data: &[u8], to: &[u8]) -> Ret {
    sc!(SYS_sendto, fd, data, data.len(), MSG_DONTWAIT, to, to.len())
}

/// An IP packet without what differs: identifier, header checksum, and of TCP numbers, window and options, whose relations
/// are shown by [`conversation`].
fn spell_frame(bytes: &[u8]) -> String {
    format!("{} \"{}\"", bytes.len(), bytes.get(..60).unwrap_or(bytes).escape_ascii())
}

/// The next frame, and from where it came; the identifier and the checksum of IPv4 are the kernel's to choose.
fn frame(fd: i32, start: usize, flags: i32) -> String {
    let (mut data, mut name, mut len) = ([0u8; 2048], [0u8; 64], 64u32);
    let n = sc!(
        SYS_recvfrom,
        fd,
        &mut data,
        2048,
        MSG_DONTWAIT | flags,
        at_mut(&mut name),
        at_mut(&mut len)
    );
    if !n.ok() {
        return n.to_string();
    }
    let bytes = &mut data[..(n.0 as usize).min(2048)];
    if bytes.get(start).is_some_and(|b| b >> 4 == 4) && bytes.len() >= start + 20 {
        bytes[start + 4..start + 6].fill(0);
        bytes[start + 10..start + 12].fill(0);
    }
    format!("{} from {len} {:?}", spell_frame(bytes), &name[..20])
}

fn frames(fd: i32, start: usize) {
    for _ in 0..12 {
        let next = frame(fd, start, 0);
        say!("{next}");
        if !next.contains("from") {
            return;
        }
    }
}

/// A datagram between two bound sockets of the loopback interface: fixed ports in a network of one's own.
fn say_udp(data: &str) {
    let fd = socket4(SOCK_DGRAM);
    ok!(bind_to(fd, "127.0.0.1", 4000));
    ok!(send_to(fd, data, "127.0.0.1", 4000));
    p!(recv(fd, 100, 0));
    close(fd);
}

fn name_of_packet(fd: i32) -> String {
    let (mut name, mut len) = ([0u8; 64], 64u32);
    let got = sc!(SYS_getsockname, fd, &mut name, at_mut(&mut len));
    format!("{got} {len} {:?}", &name[..(len as usize).min(20)])
}

fn making() {
    in_network(|| {
        for kind in [SOCK_RAW, SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET] {
            p!(sc!(SYS_socket, AF_PACKET, kind, 0).ok());
        }
        p!(sc!(SYS_socket, AF_PACKET, SOCK_STREAM, 0));
        let fd = packet(SOCK_RAW, ALL);
        p!(getopt(fd, SO_TYPE), getopt(fd, SO_DOMAIN), getopt(fd, SO_PROTOCOL));
        p!(name_of_packet(fd), listen(fd, 1), accept(fd, 0), shutdown(fd, 2));
        p!(connect_to(fd, "127.0.0.1", 1), peer_name(fd, &[]));
        p!(recv(fd, 10, MSG_DONTWAIT), recv(fd, 10, MSG_OOB), poll(&[(fd, POLLIN | POLLOUT)], 0));
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(sc!(SYS_socket, AF_PACKET, SOCK_RAW, 0), sc!(SYS_socket, AF_PACKET, 99, 0));
    });
}

fn binding() {
    in_network(|| {
        let fd = packet(SOCK_RAW, 0);
        p!(bind_ll(fd, IP, 77), bind_ll(fd, 0, 1), name_of_packet(fd));
        p!(bind_ll(fd, IP, 1), name_of_packet(fd), bind_ll(fd, 0, 1), name_of_packet(fd));
        p!(bind_ll(fd, ALL, 0), name_of_packet(fd));
        p!(sc!(SYS_bind, fd, ll(IP, 1, &[]).as_slice(), 19), bind_to(fd, "127.0.0.1", 0));
        let mut wrong = ll(IP, 1, &[]);
        wrong[0] = 2;
        p!(sc!(SYS_bind, fd, wrong.as_slice(), 20));
    });
}

fn datagrams_seen() {
    in_network(|| {
        let [raw, cooked, only, none] = [
            packet(SOCK_RAW, ALL),
            packet(SOCK_DGRAM, ALL),
            packet(SOCK_RAW, IP),
            packet(SOCK_RAW, 0x86dd),
        ];
        say_udp("hello");
        frames(raw, 14);
        frames(cooked, 0);
        frames(only, 14);
        frames(none, 14);
        // Binding says which frames come from then on.
        p!(bind_ll(none, IP, 1), set_int(raw, SOL_PACKET, 23, 1));
        say_udp("");
        p!(poll(&[(none, POLLIN)], 0), ioctl_int(none, 0x541b), frame(none, 14, MSG_PEEK));
        frames(none, 14);
        frames(raw, 14);
        p!(recv(cooked, 4, MSG_TRUNC | MSG_PEEK), recv(cooked, 4, 0));
    });
}

/// What a TCP conversation looks like: numbers as distances from the first ones.
fn conversation() {
    in_network(|| {
        let fd = packet(SOCK_DGRAM, IP);
        let l = socket4(SOCK_STREAM);
        ok!(bind_to(l, "127.0.0.1", 4001));
        ok!(listen(l, 5));
        let c = socket4(SOCK_STREAM);
        ok!(bind_to(c, "127.0.0.1", 4002));
        ok!(connect_to(c, "127.0.0.1", 4001));
        let s = accept(l, 0).fd();
        ok!(send(c, "question", 0));
        p!(recv_soon(s, 100, 0));
        ok!(send(s, "answer!", 0));
        p!(recv_soon(c, 100, 0));
        ok!(shutdown(c, SHUT_WR));
        p!(recv_soon(s, 100, 0));
        close(s);
        p!(recv_soon(c, 100, 0));
        close(c);
        let mut first = [None, None];
        loop {
            let mut d = [0u8; 2048];
            let n = sc!(SYS_recvfrom, fd, &mut d, 2048, MSG_DONTWAIT, 0u64, 0u64);
            if n.0 <= 0 {
                return;
            }
            let head = usize::from(d[0] & 15) * 4;
            let word = |at: usize| {
                d[head + at..head + at + 4].iter().fold(0u32, |n, b| n << 8 | u32::from(*b))
            };
            let half = |at: usize| u16::from_be_bytes([d[head + at], d[head + at + 1]]);
            let (flags, end) = (d[head + 13], usize::from(u16::from_be_bytes([d[2], d[3]])));
            let side = usize::from(half(0) == 4001);
            let base = *first[side].get_or_insert(word(4));
            let other = first[1 - side].unwrap_or(word(8));
            let data = &d[head + usize::from(d[head + 12] >> 4) * 4..end];
            // An acknowledgement alone may be late or come with data.
            if flags == 16 && data.is_empty() {
                continue;
            }
            say!(
                "{}>{} flags {flags:x} seq {} ack {} \"{}\"",
                half(0),
                half(2),
                word(4).wrapping_sub(base),
                word(8).wrapping_sub(other),
                data.escape_ascii()
            );
        }
    });
}

fn refused_connection() {
    in_network(|| {
        let fd = packet(SOCK_DGRAM, IP);
        let c = socket4(SOCK_STREAM);
        ok!(bind_to(c, "127.0.0.1", 4002));
        p!(connect_to(c, "127.0.0.1", 4001));
        for _ in 0..2 {
            let got = copy_of(fd);
            let head = 20;
            say!("{:?} {:?}", got.get(head..head + 4), got.get(head + 13));
        }
        p!(recv(fd, 10, MSG_DONTWAIT));
    });
}

fn copy_of(fd: i32) -> Vec<u8> {
    let mut data = vec![0u8; 4096];
    let n = sc!(SYS_recvfrom, fd, data.as_mut_slice(), 4096, MSG_DONTWAIT, 0u64, 0u64);
    data.truncate(n.0.max(0) as usize);
    data
}

fn sending() {
    in_network(|| {
        let (watcher, fd) = (packet(SOCK_RAW, 0x88b5), packet(SOCK_RAW, 0));
        let whole = [&[1u8; 6][..], &[2; 6], &[0x88, 0xb5], b"payload"].concat();
        p!(
            send(fd, &whole, 0),
            send_ll(fd, &whole, &ll(0, 1, &[])),
            send_ll(fd, &whole, &ll(0, 9, &[]))
        );
        frames(watcher, 14);
        p!(send_ll(fd, &whole[..13], &ll(0, 1, &[])), send_ll(fd, &whole[..14], &ll(0, 1, &[])));
        p!(send_ll(fd, &whole, &ll(0, 1, &[])[..19]), send_ll(fd, &[0; 65_600], &ll(0, 1, &[])));
        frames(watcher, 14);
        p!(bind_ll(fd, 0x88b5, 1), send(fd, &whole, 0));
        frames(watcher, 14);
        frames(fd, 14);
        let cooked = packet(SOCK_DGRAM, 0);
        p!(
            send_ll(cooked, b"text", &ll(0x88b5, 1, &[9; 6])),
            send_ll(cooked, b"x", &ll(0x88b5, 1, &[]))
        );
        p!(send_ll(cooked, b"text", &ll(0x88b5, 1, &[9; 6])[..17]));
        frames(watcher, 14);
        // A sender does not see what it sends, but what comes back.
        let all = packet(SOCK_RAW, ALL);
        p!(send_ll(all, &whole, &ll(0, 1, &[])));
        frames(all, 14);
        let mut lo = [0u8; 40];
        lo[..2].copy_from_slice(b"lo");
        ok!(sc!(SYS_ioctl, fd, 0x8914, at_mut(&mut lo)));
        p!(send_ll(all, &whole, &ll(0, 1, &[])), getopt(fd, SO_ERROR), poll(&[(fd, POLLIN)], 0));
        p!(bind_ll(all, ALL, 1), recv(all, 10, MSG_DONTWAIT), recv(all, 10, MSG_DONTWAIT));
    });
}

/// An echo request of the program's own is answered.
fn injected_ping() {
    in_network(|| {
        let fd = packet(SOCK_DGRAM, IP);
        let mut message = b"\x08\0\0\0\x12\x34\0\x01data".to_vec();
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum);
        let mut header =
            vec![0x45, 0, 0, 32, 0, 7, 0x40, 0, 64, 1, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1];
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        p!(send_ll(fd, &[header, message].concat(), &ll(IP, 1, &[])));
        frames(fd, 0);
    });
}

fn checksum(data: &[u8]) -> [u8; 2] {
    let sum: u32 =
        data.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0))).sum();
    (!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes()
}

/// A `struct packet_mreq`.
fn mreq(device: u32, kind: u16, address: &[u8]) -> Vec<u8> {
    let mut out = device.to_le_bytes().to_vec();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(address.len() as u16).to_le_bytes());
    out.extend_from_slice(address);
    out.resize(16, 0);
    out
}

fn memberships() {
    in_network(|| {
        let fd = packet(SOCK_RAW, ALL);
        let change = |name: i32, value: &[u8]| set_bytes(fd, SOL_PACKET, name, value);
        for kind in 0..5 {
            p!(kind, change(1, &mreq(1, kind, &[1; 6])), change(2, &mreq(1, kind, &[1; 6])));
        }
        p!(
            change(1, &mreq(7, 1, &[])),
            change(1, &mreq(1, 0, &[1; 7])),
            change(1, &mreq(1, 1, &[])[..15])
        );
        p!(
            change(2, &mreq(1, 1, &[])),
            change(2, &mreq(7, 1, &[])),
            change(2, &mreq(1, 1, &[])[..7])
        );
        p!(change(1, &mreq(1, 1, &[])), change(1, &mreq(1, 1, &[])), change(2, &mreq(1, 1, &[])));
    });
}

fn options() {
    in_network(|| {
        let fd = packet(SOCK_RAW, ALL);
        for name in [8, 9, 10, 12, 14, 17, 20, 23] {
            p!(name, get_int(fd, SOL_PACKET, name), set_int(fd, SOL_PACKET, name, 1));
            p!(get_int(fd, SOL_PACKET, name), set_int(fd, SOL_PACKET, name, -1));
            p!(set_int(fd, SOL_PACKET, name, 0), set_bytes(fd, SOL_PACKET, name, b"ab"));
        }
        p!(get_int(fd, SOL_PACKET, 99), set_int(fd, SOL_PACKET, 99, 1), set_int(fd, 99, 1, 1));
        p!(get_bytes(fd, SOL_PACKET, 6), get_int(fd, SOL_IP, 1));
        say_udp("x");
        p!(get_bytes(fd, SOL_PACKET, 6), get_bytes(fd, SOL_PACKET, 6));
        let header_len = |version: i32| {
            let (mut value, mut len) = (version, 4u32);
            let got = sc!(SYS_getsockopt, fd, SOL_PACKET, 11, at_mut(&mut value), at_mut(&mut len));
            format!("{got} {value}")
        };
        p!(header_len(1), header_len(9), header_len(-1));
    });
}

fn auxiliary_data() {
    in_network(|| {
        let [raw, cooked] = [packet(SOCK_RAW, IP), packet(SOCK_DGRAM, IP)];
        for fd in [raw, cooked] {
            ok!(set_int(fd, SOL_PACKET, 8, 1));
            ok!(attach(fd, &[(6, 0, 0, 30)]));
        }
        say_udp("hello");
        for fd in [raw, cooked] {
            let got = recvmsg(fd, 100, 256, MSG_DONTWAIT);
            say!("{} {:?}", got.ret, got.control);
        }
        ok!(setopt(raw, SO_TIMESTAMP, 1));
        p!(ioctl_int(cooked, 0x8906).ok());
        say_udp("x");
        p!(recvmsg(raw, 100, 256, MSG_DONTWAIT).control.len());
    });
}

fn full_buffer() {
    in_network(|| {
        let fd = packet(SOCK_RAW, IP);
        ok!(setopt(fd, SO_RCVBUF, 0));
        for _ in 0..20 {
            say_udp("some text");
        }
        let statistics = get_bytes(fd, SOL_PACKET, 6);
        let mut got = 0;
        while recv(fd, 100, MSG_DONTWAIT).0.is_ok() {
            got += 1;
        }
        p!(got, statistics);
    });
}

/// `struct sock_filter` and `struct sock_fprog`.
fn attach(fd: i32, program: &[(u16, u8, u8, u32)]) -> Ret {
    let code: Vec<u8> = program
        .iter()
        .flat_map(|(code, jt, jf, k)| {
            [&code.to_le_bytes()[..], &[*jt, *jf], &k.to_le_bytes()].concat()
        })
        .collect();
    let fprog = [program.len() as u64, code.as_ptr() as u64];
    sc!(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, at(&fprog), 16)
}

fn filters_refused() {
    in_network(|| {
        let fd = packet(SOCK_RAW, ALL);
        let ret = (6, 0, 0, 0xffff);
        p!(setopt(fd, SO_DETACH_FILTER, 0), attach(fd, &[]), attach(fd, &[ret]));
        p!(attach(fd, &[(0x20, 0, 0, 0)]), attach(fd, &[(0x20, 0, 0, 2), ret]));
        p!(attach(fd, &[(5, 0, 0, 0), ret]), attach(fd, &[(5, 0, 0, 1), ret]));
        p!(attach(fd, &[(0x15, 0, 1, 0), ret]), attach(fd, &[(0x15, 1, 0, 0), ret, ret]));
        p!(attach(fd, &[(0x34, 0, 0, 0), ret]), attach(fd, &[(0x94, 0, 0, 3), ret]));
        p!(attach(fd, &[(0x74, 0, 0, 32), ret]), attach(fd, &[(0x61, 0, 0, 0), ret]));
        p!(attach(fd, &[(0xb1, 0, 0, 14), ret]), attach(fd, &[(0x20, 0, 0, 0xffff_f03c), ret]));
        p!(
            attach(fd, &[(0x20, 0, 0, 0xffff_f040), ret]),
            attach(fd, &[(0x20, 0, 0, 0xffff_ffff), ret])
        );
        p!(attach(fd, &[(0xffff, 0, 0, 0), ret]), attach(fd, &[(0x28, 0, 0, 0xfff0_0000), ret]));
        let fprog = [1u64, 8];
        p!(sc!(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, at(&fprog), 16));
        p!(sc!(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, at(&fprog), 15));
        p!(setopt(fd, SO_LOCK_FILTER, 1), attach(fd, &[ret]), setopt(fd, SO_DETACH_FILTER, 0));
        p!(setopt(fd, SO_LOCK_FILTER, 0), getopt(fd, SO_LOCK_FILTER));
    });
}

/// Each program runs over one datagram: what is left of it, or nothing.
fn filters_run() {
    in_network(|| {
        let programs: &[&[(u16, u8, u8, u32)]] = &[
            &[(6, 0, 0, 0)],
            &[(6, 0, 0, 20)],
            // UDP to port 4000, as tcpdump asks for it.
            &[
                (0x28, 0, 0, 12),
                (0x15, 0, 8, 0x800),
                (0x30, 0, 0, 23),
                (0x15, 0, 6, 17),
                (0x28, 0, 0, 20),
                (0x45, 4, 0, 0x1fff),
                (0xb1, 0, 0, 14),
                (0x48, 0, 0, 16),
                (0x15, 0, 1, 4000),
                (6, 0, 0, 1000),
                (6, 0, 0, 0),
            ],
            // The length; the accumulator; beyond the end.
            &[(0x80, 0, 0, 0), (0x14, 0, 0, 30), (0x16, 0, 0, 0)],
            &[(0x30, 0, 0, 9999), (6, 0, 0, 1000)],
            // Protocol, kind, interface and type of hardware.
            &[(0x20, 0, 0, 0xffff_f000), (0x15, 0, 1, 0x800), (6, 0, 0, 31), (6, 0, 0, 0)],
            &[(0x20, 0, 0, 0xffff_f004), (0x15, 0, 1, 0), (6, 0, 0, 32), (6, 0, 0, 0)],
            &[(0x20, 0, 0, 0xffff_f008), (0x15, 0, 1, 1), (6, 0, 0, 33), (6, 0, 0, 0)],
            &[(0x20, 0, 0, 0xffff_f01c), (0x15, 0, 1, 772), (6, 0, 0, 34), (6, 0, 0, 0)],
            // From the network header on, from the link header on.
            &[(0x30, 0, 0, 0xfff0_0009), (0x15, 0, 1, 17), (6, 0, 0, 35), (6, 0, 0, 0)],
            &[(0x28, 0, 0, 0xffe0_000c), (0x15, 0, 1, 0x800), (6, 0, 0, 36), (6, 0, 0, 0)],
            // Where the payload begins.
            &[(0x20, 0, 0, 0xffff_f034), (0x16, 0, 0, 0)],
            // Arithmetic.
            &[(0x00, 0, 0, 100), (0x94, 0, 0, 63), (0x16, 0, 0, 0)],
            &[(0x00, 0, 0, 100), (0x01, 0, 0, 0), (0x9c, 0, 0, 0), (0x16, 0, 0, 0)],
            &[(0x00, 0, 0, 1), (0x01, 0, 0, 37), (0x6c, 0, 0, 0), (0x16, 0, 0, 0)],
            &[(0x00, 0, 0, 5), (0x02, 0, 0, 3), (0x61, 0, 0, 3), (0x0c, 0, 0, 0), (0x16, 0, 0, 0)],
        ];
        for (i, program) in programs.iter().enumerate() {
            let [raw, cooked] = [packet(SOCK_RAW, IP), packet(SOCK_DGRAM, IP)];
            p!(i, attach(raw, program), attach(cooked, program));
            say_udp("hello");
            p!(copy_of(raw).len(), copy_of(cooked).len());
            p!(setopt(raw, SO_DETACH_FILTER, 0), get_bytes(raw, SOL_PACKET, 6));
            say_udp("hello");
            p!(copy_of(raw).len());
            close(raw);
            close(cooked);
        }
    });
}

fn filters_of_others() {
    in_network(|| {
        let fd = socket4(SOCK_DGRAM);
        ok!(bind_to(fd, "127.0.0.1", 4000));
        // The first byte of the data has to be `y`; what comes is cut to ten bytes, eight of them the header's.
        let program = [(0x30, 0, 0, 8), (0x15, 0, 1, u32::from(b'y')), (6, 0, 0, 10), (6, 0, 0, 0)];
        p!(attach(fd, &program));
        for text in ["yes", "no", "y", ""] {
            ok!(send_to(fd, text, "127.0.0.1", 4000));
            p!(recv(fd, 100, MSG_DONTWAIT));
        }
        p!(attach(fd, &[(6, 0, 0, 1)]), send_to(fd, "text", "127.0.0.1", 4000).ok());
        p!(recv(fd, 100, MSG_DONTWAIT), setopt(fd, SO_DETACH_FILTER, 0));
        p!(send_to(fd, "text", "127.0.0.1", 4000).ok(), recv(fd, 100, MSG_DONTWAIT));
        let raw = sc!(SYS_socket, AF_INET, SOCK_RAW, IPPROTO_UDP).fd();
        p!(
            attach(raw, &[(0x30, 0, 0, 9), (0x16, 0, 0, 0)]),
            send_to(fd, "text", "127.0.0.1", 4000).ok()
        );
        p!(copy_of(raw).len());
    });
}

fn ring_request(block: u32, blocks: u32, slot: u32, slots: u32) -> Vec<u8> {
    [block, blocks, slot, slots].iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn ring_setup() {
    in_network(|| {
        let fd = packet(SOCK_RAW, IP);
        let set = |request: &[u8]| set_bytes(fd, SOL_PACKET, 5, request);
        p!(mmap(0, 8192, PROT_READ, MAP_SHARED, fd, 0), set_int(fd, SOL_PACKET, 10, 1));
        for (block, blocks, slot, slots) in [
            (4095, 2, 512, 16),
            (0, 2, 512, 16),
            (0x8000_0000, 1, 512, 16),
            (4096, 2, 500, 16),
            (4096, 2, 48, 170),
            (4096, 2, 512, 17),
            (4096, 2, 8192, 0),
            (4096, 0, 512, 1),
            (4096, 0, 512, 0),
        ] {
            p!(block, blocks, slot, slots, set(&ring_request(block, blocks, slot, slots)));
        }
        p!(set(&ring_request(4096, 2, 512, 16)[..15]), set(&ring_request(4096, 2, 512, 16)));
        p!(set(&ring_request(4096, 2, 512, 16)), set_int(fd, SOL_PACKET, 10, 0));
        p!(set_int(fd, SOL_PACKET, 12, 8), set_int(fd, SOL_PACKET, 14, 1));
        p!(poll(&[(fd, POLLIN)], 0));
        let memory = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        p!(memory.ok(), set(&ring_request(4096, 0, 0, 0)), munmap(memory.addr(), 8192));
        p!(set(&ring_request(4096, 0, 0, 0)), mmap(0, 8192, PROT_READ, MAP_SHARED, fd, 0));
    });
}

fn ring_use() {
    in_network(|| {
        for kind in [SOCK_RAW, SOCK_DGRAM] {
            let fd = packet(kind, IP);
            ok!(set_int(fd, SOL_PACKET, 10, 1));
            ok!(set_int(fd, SOL_PACKET, 12, 4));
            ok!(attach(fd, &[(6, 0, 0, 40)]));
            ok!(set_bytes(fd, SOL_PACKET, 5, &ring_request(4096, 1, 1024, 4)));
            let at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0).addr();
            for text in ["one", "two", "three", "four", "five"] {
                say_udp(text);
            }
            p!(poll(&[(fd, POLLIN)], 0), get_bytes(fd, SOL_PACKET, 6), recv(fd, 9, MSG_DONTWAIT));
            for slot in 0..4u64 {
                let header = copy(at + slot * 1024, 52);
                let half = |i: usize| u16::from_le_bytes([header[i], header[i + 1]]);
                let word = |i: usize| {
                    u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]])
                };
                p!(word(0) & !(7 << 28), word(4), word(8), half(12), half(14), word(16) > 0);
                say!("{:?} {:?}", &header[24..32], &header[32..52]);
                let mut bytes = copy(at + slot * 1024 + u64::from(half(12)), word(8) as usize);
                let start = usize::from(half(14) - half(12));
                bytes[start + 4..start + 6].fill(0);
                bytes[start + 10..start + 12].fill(0);
                p!(spell_frame(&bytes));
            }
            word(at + 3 * 1024).store(0, SeqCst);
            p!(poll(&[(fd, POLLIN)], 0));
            word(at).store(0, SeqCst);
            say_udp("six");
            p!(word(at).load(SeqCst) & 1, poll(&[(fd, POLLIN)], 0));
            p!(munmap(at, 4096), close(fd));
        }
    });
}

fn listed() {
    in_network(|| {
        let fds = [packet(SOCK_RAW, ALL), packet(SOCK_DGRAM, 0)];
        p!(bind_ll(fds[0], IP, 1));
        let text = get(c"/proc/net/packet").text();
        for line in text.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            say!("{:?}", fields.get(1..7));
        }
    });
}

cases![
    making,
    binding,
    datagrams_seen,
    conversation,
    refused_connection,
    sending,
    injected_ping,
    memberships,
    options,
    auxiliary_data,
    full_buffer,
    filters_refused,
    filters_run,
    filters_of_others,
    ring_setup,
    ring_use,
    listed
];
