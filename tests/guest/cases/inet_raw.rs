//! Raw sockets, in a network of the case's own.

use crate::prelude::*;

const SOL_RAW: i32 = 255;

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

fn raw4(protocol: i32) -> i32 {
    sc!(SYS_socket, AF_INET, SOCK_RAW, protocol).fd()
}

fn raw6(protocol: i32) -> i32 {
    sc!(SYS_socket, AF_INET6, SOCK_RAW, protocol).fd()
}

fn checksum(data: &[u8]) -> [u8; 2] {
    let sum: u32 =
        data.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0))).sum();
    (!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes()
}

/// An ICMP message of `kind`.
fn icmp(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut out = [&[kind, 0, 0, 0, 0x12, 0x34, 0, 1], data].concat();
    let sum = checksum(&out);
    out[2..4].copy_from_slice(&sum);
    out
}

fn send_bytes(fd: i32, data: &[u8], ip: &str, port: u16) -> Ret {
    let to = addr(ip, port);
    sc!(SYS_sendto, fd, data, data.len(), MSG_DONTWAIT, to.as_slice(), to.len())
}

/// The next packet: its IPv4 header without what the kernel chooses (identifier and checksum), and the rest.
fn packet(fd: i32) -> String {
    let (mut data, mut name, mut len) = ([0u8; 512], [0u8; 128], 128u32);
    let n =
        sc!(SYS_recvfrom, fd, &mut data, 512, MSG_DONTWAIT, at_mut(&mut name), at_mut(&mut len));
    if !n.ok() {
        return n.to_string();
    }
    let bytes = &data[..n.0 as usize];
    let from = spell_ip(&name[..(len as usize).min(128)], &[]);
    if bytes[0] >> 4 == 4 && bytes.len() >= 20 {
        let (h, rest) = bytes.split_at(20);
        format!(
            "{:?} {:?} {:?} \"{}\" from {from}",
            &h[..4],
            &h[8..10],
            &h[12..],
            rest.escape_ascii()
        )
    } else {
        format!("\"{}\" from {from}", bytes.escape_ascii())
    }
}

/// All that waits, one a line.
fn packets(fd: i32) {
    for _ in 0..8 {
        let next = packet(fd);
        say!("{next}");
        if !next.contains("from") {
            return;
        }
    }
}

fn making() {
    for protocol in [-1, 0, 1, 255, 256, 262, 263] {
        p!(protocol, sc!(SYS_socket, AF_INET, SOCK_RAW, protocol).ok());
        p!(sc!(SYS_socket, AF_INET6, SOCK_RAW, protocol).ok());
    }
    p!(sc!(SYS_socket, AF_INET, SOCK_RAW, 0), sc!(SYS_socket, AF_INET, SOCK_RAW, 263));
    in_network(|| {
        let fd = raw4(IPPROTO_ICMP);
        p!(getopt(fd, SO_TYPE), getopt(fd, SO_PROTOCOL), getopt(fd, SO_DOMAIN));
        p!(own_name(fd, &[]), port_of(fd), peer_name(fd, &[]));
        p!(listen(fd, 1), accept(fd, 0), shutdown(fd, 2), poll(&[(fd, POLLIN | POLLOUT)], 0));
        p!(port_of(raw6(IPPROTO_UDP)), own_name(raw6(IPPROTO_ICMPV6), &[58]));
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(sc!(SYS_socket, AF_INET, SOCK_RAW, 1), sc!(SYS_socket, AF_INET6, SOCK_RAW, 58));
    });
}

fn addresses() {
    in_network(|| {
        let fd = raw4(IPPROTO_ICMP);
        p!(bind_to(fd, "192.0.2.1", 0), bind_to(fd, "127.0.0.1", 7), own_name(fd, &[1]));
        p!(bind_to(fd, "::1", 0), sc!(SYS_bind, fd, [2u8; 8].as_slice(), 8));
        p!(bind_to(fd, "224.0.0.1", 0), own_name(fd, &[1]), bind_to(fd, "0.0.0.0", 0));
        p!(connect_to(fd, "127.0.0.2", 0), own_name(fd, &[1]), peer_name(fd, &[1]));
        p!(bind_to(fd, "127.0.0.1", 0), connect_to(fd, "127.0.0.2", 5), peer_name(fd, &[5]));
        p!(connect_to(fd, "192.0.2.1", 0), connect_to(fd, "127.255.255.255", 0));
        let none = [0u8; 16];
        p!(sc!(SYS_connect, fd, none.as_slice(), 16), peer_name(fd, &[]), own_name(fd, &[1]));
        let fd = raw6(IPPROTO_UDP);
        p!(bind_to(fd, "127.0.0.1", 0), bind_to(fd, "::ffff:127.0.0.1", 0));
        p!(bind_to(fd, "2001:db8::1", 0), bind_to(fd, "::1", 0), own_name(fd, &[17]));
        p!(connect_to(fd, "::1", 0), peer_name(fd, &[]), bind_to(fd, "::1", 0));
    });
}

fn echo_over_ipv4() {
    in_network(|| {
        let fd = raw4(IPPROTO_ICMP);
        p!(send_bytes(fd, &icmp(8, b"data"), "127.0.0.1", 0));
        packets(fd);
        p!(send_bytes(fd, &icmp(8, b"data"), "127.0.0.5", 9), ioctl_int(fd, 0x541b));
        packets(fd);
        // A wrong checksum, and what is no request.
        p!(send_bytes(fd, b"\x08\0\x01\x01abcd", "127.0.0.1", 0));
        packets(fd);
        p!(send_bytes(fd, &icmp(0, b"answer"), "127.0.0.1", 0));
        packets(fd);
        p!(send_bytes(fd, b"", "127.0.0.1", 0), send(fd, b"x", 0), send(fd, b"x", MSG_OOB));
        packets(fd);
        p!(
            send_bytes(fd, &[0; 65_535], "127.0.0.1", 0),
            send_bytes(fd, &[0; 65_536], "127.0.0.1", 0)
        );
        p!(send_bytes(fd, b"x", "127.255.255.255", 0), send_bytes(fd, b"x", "192.0.2.1", 0));
        p!(
            send_bytes(fd, b"x", "::1", 0),
            sc!(SYS_sendto, fd, b"x".as_slice(), 1, 0, [2u8; 8].as_slice(), 8)
        );
    });
}

fn echo_over_ipv6() {
    in_network(|| {
        let fd = raw6(IPPROTO_ICMPV6);
        p!(send_bytes(fd, &[128, 0, 0, 0, 0, 1, 0, 2, b'x'], "::1", 0));
        packets(fd);
        p!(send_bytes(fd, &[128, 0, 0, 0, 0, 1, 0, 2, b'x'], "::1", 58));
        packets(fd);
        p!(send_bytes(fd, b"abcd", "::1", 17), send_bytes(fd, b"ab", "::1", 0), send(fd, b"x", 0));
        p!(send_bytes(fd, b"abcd", "127.0.0.1", 0), send_bytes(fd, b"abcd", "2001:db8::1", 0));
        let (mut data, mut len) = ([0u8; 32], 32u32);
        p!(sc!(SYS_getsockopt, fd, IPPROTO_ICMPV6, 1, &mut data, at_mut(&mut len)), len, data[16]);
        let mut filter = [0u8; 32];
        filter[16] = 1;
        p!(set_bytes(fd, IPPROTO_ICMPV6, 1, &filter), set_bytes(fd, IPPROTO_ICMPV6, 2, &filter));
        p!(send_bytes(fd, &[128, 0, 0, 0, 0, 1, 0, 2, b'y'], "::1", 0));
        packets(fd);
        p!(set_bytes(raw6(17), IPPROTO_ICMPV6, 1, &filter), get_bytes(raw6(17), IPPROTO_ICMPV6, 1));
    });
}

fn who_hears_what() {
    in_network(|| {
        let [all, bound, connected, filtered] = [(); 4].map(|()| raw4(IPPROTO_ICMP));
        p!(bind_to(bound, "127.0.0.2", 0), connect_to(connected, "127.0.0.3", 0));
        p!(set_bytes(filtered, SOL_RAW, 1, &[0, 1, 0, 0]), get_bytes(filtered, SOL_RAW, 1));
        p!(set_bytes(filtered, SOL_RAW, 1, &[1]), get_bytes(filtered, SOL_RAW, 1));
        p!(set_bytes(filtered, SOL_RAW, 2, &[1]), get_bytes(filtered, SOL_RAW, 2));
        p!(set_bytes(raw4(17), SOL_RAW, 1, &[1]), get_bytes(raw4(17), SOL_RAW, 1));
        for ip in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
            send_bytes(all, &icmp(8, ip.as_bytes()), ip, 0);
        }
        for fd in [all, bound, connected, filtered] {
            say!("next");
            packets(fd);
        }
        p!(send(connected, icmp(8, b"to the peer"), 0));
        packets(connected);
    });
}

fn udp_is_seen() {
    in_network(|| {
        let (raw, six) = (raw4(IPPROTO_UDP), raw6(IPPROTO_UDP));
        let (a, b) = (socket4(SOCK_DGRAM), socket4(SOCK_DGRAM));
        p!(bind_to(a, "127.0.0.1", 4000), bind_to(b, "127.0.0.1", 4001));
        p!(send_to(a, "hello", "127.0.0.1", 4001), recv(b, 10, 0));
        packets(raw);
        let (c, d) = (socket6(SOCK_DGRAM), socket6(SOCK_DGRAM));
        p!(bind_to(c, "::1", 4000), bind_to(d, "::1", 4001), send_to(c, "six", "::1", 4001));
        packets(six);
        // From a raw socket to one of UDP: without a checksum, and with a wrong one.
        let segment = [&[0x0f, 0xa0, 0x0f, 0xa1, 0, 10, 0, 0][..], b"hi"].concat();
        p!(send_bytes(raw, &segment, "127.0.0.1", 0), recv_from(b, 10, MSG_DONTWAIT, &[4000]));
        let wrong = [&[0x0f, 0xa0, 0x0f, 0xa1, 0, 10, 1, 2][..], b"hi"].concat();
        p!(send_bytes(raw, &wrong, "127.0.0.1", 0), recv_from(b, 10, MSG_DONTWAIT, &[4000]));
        packets(raw);
        // Nobody is there: an ICMP message tells.
        let watch = raw4(IPPROTO_ICMP);
        p!(send_to(a, "lost", "127.0.0.1", 4002), connect_to(a, "127.0.0.1", 4002));
        let got = packet(watch);
        p!(got.contains("\\x03\\x03") && got.contains("lost"));
    });
}

fn own_headers() {
    in_network(|| {
        let fd = raw4(IPPROTO_RAW);
        let watch = raw4(IPPROTO_ICMP);
        p!(get_int(fd, SOL_IP, IP_HDRINCL), get_int(watch, SOL_IP, IP_HDRINCL));
        let mut whole = vec![0x45, 3, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1];
        whole.extend_from_slice(&icmp(0, b"mine"));
        p!(send_bytes(fd, &whole, "127.0.0.1", 0));
        packets(watch);
        whole[12..16].copy_from_slice(&[192, 0, 2, 9]);
        p!(send_bytes(fd, &whole[..19], "127.0.0.1", 0), send_bytes(fd, b"", "127.0.0.1", 0));
        whole[0] = 0x4f;
        p!(send_bytes(fd, &whole, "127.0.0.1", 0), send_bytes(fd, &[0x45; 65_537], "127.0.0.1", 0));
        packets(watch);
        p!(set_int(watch, SOL_IP, IP_HDRINCL, 1), get_int(watch, SOL_IP, IP_HDRINCL));
        p!(set_int(socket4(SOCK_DGRAM), SOL_IP, IP_HDRINCL, 1));
        p!(get_int(raw6(IPPROTO_RAW), SOL_IPV6, 36), get_int(raw6(17), SOL_IPV6, 36));
    });
}

fn checksums_over_ipv6() {
    in_network(|| {
        let fd = raw6(200);
        p!(get_int(fd, SOL_RAW, 7), get_int(fd, SOL_IPV6, 7), set_int(fd, SOL_RAW, 7, 3));
        p!(set_int(fd, SOL_RAW, 7, 4), get_int(fd, SOL_RAW, 7), set_int(fd, SOL_RAW, 9, 1));
        p!(send_bytes(fd, b"abcdefgh", "::1", 0), send_bytes(fd, b"abcd", "::1", 0));
        packets(fd);
        p!(set_int(fd, SOL_RAW, 7, -5), get_int(fd, SOL_RAW, 7), send_bytes(fd, b"abcd", "::1", 0));
        packets(fd);
        let six = raw6(IPPROTO_ICMPV6);
        p!(get_int(six, SOL_RAW, 7), set_int(six, SOL_IPV6, 7, 4), set_int(six, SOL_RAW, 7, 2));
        p!(get_int(socket6(SOCK_DGRAM), SOL_IPV6, 7), get_int(raw4(17), SOL_RAW, 7));
    });
}

fn control_messages() {
    in_network(|| {
        let fd = raw4(IPPROTO_ICMP);
        for name in [IP_RECVTTL, IP_RECVTOS, IP_PKTINFO, IP_RECVORIGDSTADDR] {
            p!(set_int(fd, SOL_IP, name, 1), get_int(fd, SOL_IP, name));
        }
        p!(set_int(fd, SOL_IP, IP_TTL, 33), set_int(fd, SOL_IP, IP_TOS, 0x10));
        send_bytes(fd, &icmp(0, b""), "127.0.0.1", 0);
        let got = recv_message(fd, 0, MSG_DONTWAIT | MSG_TRUNC, &[]);
        say!("{got} {:?}", got.control);
        let six = raw6(IPPROTO_ICMPV6);
        for name in [49, 51, 66] {
            p!(set_int(six, SOL_IPV6, name, 1), get_int(six, SOL_IPV6, name));
        }
        p!(set_int(six, SOL_IPV6, 16, 17), send_bytes(six, &[129, 0, 0, 0, 1, 1, 1, 1], "::1", 0));
        let got = recv_message(six, 4, MSG_DONTWAIT | MSG_TRUNC, &[]);
        say!("{got} {:?}", got.control);
    });
}

fn unknown_protocols() {
    in_network(|| {
        let (fd, watch) = (raw4(200), raw4(IPPROTO_ICMP));
        p!(send_bytes(fd, b"known", "127.0.0.1", 0));
        packets(fd);
        packets(watch);
        let other = raw4(IPPROTO_RAW);
        let header =
            [&[0x45, 0, 0, 0, 0, 9, 0x40, 0, 9, 201, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1][..], b"x"];
        p!(send_bytes(other, &header.concat(), "127.0.0.1", 0));
        packets(watch);
        // The errors of what is sent.
        let udp = raw4(IPPROTO_UDP);
        p!(set_int(udp, SOL_IP, IP_RECVERR, 1));
        p!(
            send_bytes(udp, &[0x0f, 0xa0, 0x0f, 0xa1, 0, 8, 0, 0], "127.0.0.1", 0),
            getopt(udp, SO_ERROR)
        );
        let got = recv_message(udp, 64, MSG_ERRQUEUE | MSG_DONTWAIT, &[]);
        say!("{got} {:?}", got.control);
    });
}

cases![
    making,
    addresses,
    echo_over_ipv4,
    echo_over_ipv6,
    who_hears_what,
    udp_is_seen,
    own_headers,
    checksums_over_ipv6,
    control_messages,
    unknown_protocols,
];
