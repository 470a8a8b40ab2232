//! Internet sockets over the loopback interface.

use super::fs::Got;
use super::sock::{Received, listen, recv, recvmsg_with, send};
use super::{Arg, Ret, at, at_mut, sc};
use libc::{AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM};

/// socket(2) of IPv4.
pub fn socket4(kind: i32) -> i32 {
    sc!(SYS_socket, AF_INET, kind, 0).fd()
}
/// socket(2) of IPv6.
pub fn socket6(kind: i32) -> i32 {
    sc!(SYS_socket, AF_INET6, kind, 0).fd()
}

/// An address: `a.b.c.d` or an IPv6 address, with a port.
pub fn addr(ip: &str, port: u16) -> Vec<u8> {
    match ip.parse() {
        Ok(std::net::IpAddr::V4(ip)) => {
            let mut out = (AF_INET as u16).to_le_bytes().to_vec();
            out.extend_from_slice(&port.to_be_bytes());
            out.extend_from_slice(&ip.octets());
            out.resize(16, 0);
            out
        }
        Ok(std::net::IpAddr::V6(ip)) => {
            let mut out = (AF_INET6 as u16).to_le_bytes().to_vec();
            out.extend_from_slice(&port.to_be_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&ip.octets());
            out.extend_from_slice(&[0; 4]);
            out
        }
        Err(_) => Vec::new(),
    }
}

/// bind(2).
pub fn bind_to(fd: impl Arg, ip: &str, port: u16) -> Ret {
    let a = addr(ip, port);
    sc!(SYS_bind, fd, a.as_slice(), a.len())
}
/// connect(2).
pub fn connect_to(fd: impl Arg, ip: &str, port: u16) -> Ret {
    let a = addr(ip, port);
    sc!(SYS_connect, fd, a.as_slice(), a.len())
}
/// sendto(2).
pub fn send_to(fd: impl Arg, data: &str, ip: &str, port: u16) -> Ret {
    let a = addr(ip, port);
    sc!(SYS_sendto, fd, data.as_bytes(), data.len(), 0, a.as_slice(), a.len())
}

/// The raw address of getsockname(2) or getpeername(2).
fn raw_name(nr: i64, fd: i32) -> Result<Vec<u8>, Ret> {
    let mut buf = [0u8; 128];
    let mut len = buf.len() as u32;
    let ret = super::call::syscall(nr, &[fd.arg(), at_mut(&mut buf), at_mut(&mut len)]);
    if ret.ok() { Ok(buf[..len as usize].to_vec()) } else { Err(ret) }
}

/// The port a socket is bound to; 0 for none.
pub fn port_of(fd: i32) -> u16 {
    let name = raw_name(libc::SYS_getsockname, fd).unwrap_or_default();
    name.get(2..4).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
}

/// An address as text; the port only as whether it is one of those known, or zero.
pub fn spell_ip(a: &[u8], known: &[u16]) -> String {
    if a.len() < 8 {
        return format!("{} bytes", a.len());
    }
    let port = u16::from_be_bytes([a[2], a[3]]);
    let port = match known.iter().position(|p| *p == port) {
        _ if port == 0 => "0".to_string(),
        Some(i) => format!("port#{i}"),
        None => "other".into(),
    };
    match i32::from(u16::from_le_bytes([a[0], a[1]])) {
        AF_INET => format!("{}.{}.{}.{}:{port} ({})", a[4], a[5], a[6], a[7], a.len()),
        AF_INET6 if a.len() >= 24 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&a[8..24]);
            format!("[{}]:{port} ({})", std::net::Ipv6Addr::from(octets), a.len())
        }
        family => format!("family {family} ({})", a.len()),
    }
}

/// getsockname(2) as text.
pub fn own_name(fd: i32, known: &[u16]) -> String {
    raw_name(libc::SYS_getsockname, fd).map_or_else(|e| e.to_string(), |a| spell_ip(&a, known))
}
/// getpeername(2) as text.
pub fn peer_name(fd: i32, known: &[u16]) -> String {
    raw_name(libc::SYS_getpeername, fd).map_or_else(|e| e.to_string(), |a| spell_ip(&a, known))
}

/// A listener on an ephemeral port of `ip`, and the port.
pub fn listener(ip: &str, backlog: i32) -> (i32, u16) {
    let fd = if ip.contains(':') { socket6(SOCK_STREAM) } else { socket4(SOCK_STREAM) };
    bind_to(fd, ip, 0);
    listen(fd, backlog);
    (fd, port_of(fd))
}

/// A connected socket to that port of 127.0.0.1.
pub fn dial(port: u16) -> i32 {
    let fd = socket4(SOCK_STREAM);
    connect_to(fd, "127.0.0.1", port);
    fd
}

/// Two connected TCP sockets: client and server.
pub fn tcp_pair() -> [i32; 2] {
    let (l, port) = listener("127.0.0.1", 5);
    let c = dial(port);
    let s = super::sock::accept(l, 0).fd();
    super::fs::close(l);
    [c, s]
}

/// A UDP socket bound to an ephemeral port of `ip`, and the port.
pub fn udp(ip: &str) -> (i32, u16) {
    let fd = if ip.contains(':') { socket6(SOCK_DGRAM) } else { socket4(SOCK_DGRAM) };
    bind_to(fd, ip, 0);
    (fd, port_of(fd))
}

/// A port of 127.0.0.1 that nobody listens on.
pub fn closed_port() -> u16 {
    let (l, port) = listener("127.0.0.1", 1);
    super::fs::close(l);
    port
}

/// recvfrom(2): data, and the sender in the spelling of [`spell_ip`].
pub fn recv_from(fd: i32, len: usize, flags: i32, known: &[u16]) -> String {
    let (mut data, mut name, mut name_len) = (vec![0u8; len], [0u8; 128], 128u32);
    let ret = sc!(
        SYS_recvfrom,
        fd,
        data.as_mut_slice(),
        len,
        flags,
        at_mut(&mut name),
        at_mut(&mut name_len)
    );
    if !ret.ok() {
        return ret.to_string();
    }
    data.truncate(ret.0 as usize);
    let from = spell_ip(&name[..(name_len as usize).min(128)], known);
    format!("{} \"{}\" from {from}", ret, data.escape_ascii())
}

/// recvmsg(2) with the sender in the spelling of [`spell_ip`].
pub fn recv_message(fd: i32, len: usize, flags: i32, known: &[u16]) -> Received {
    recvmsg_with(fd, len, 512, flags, |a| spell_ip(a, known))
}

/// setsockopt(2) of an integer option of any level.
pub fn set(fd: i32, level: i32, name: i32, value: i32) -> Ret {
    sc!(SYS_setsockopt, fd, level, name, at(&value), 4)
}
/// getsockopt(2) of an integer option of any level: the error or the value.
pub fn get_int(fd: i32, level: i32, name: i32) -> Ret {
    let (mut value, mut len) = (0i32, 4u32);
    let ret = sc!(SYS_getsockopt, fd, level, name, at_mut(&mut value), at_mut(&mut len));
    if ret.ok() { Ret(i64::from(value)) } else { ret }
}
/// setsockopt(2) of bytes.
pub fn set_bytes(fd: i32, level: i32, name: i32, value: &[u8]) -> Ret {
    sc!(SYS_setsockopt, fd, level, name, value, value.len())
}
/// getsockopt(2) of bytes, with room for 64 of them.
pub fn get_bytes(fd: i32, level: i32, name: i32) -> String {
    let (mut value, mut len) = ([0u8; 64], 64u32);
    let ret = sc!(SYS_getsockopt, fd, level, name, at_mut(&mut value), at_mut(&mut len));
    match ret.ok() {
        true => format!("{len} \"{}\"", value[..(len as usize).min(64)].escape_ascii()),
        false => ret.to_string(),
    }
}

/// An ioctl(2) that stores an `int`.
pub fn ioctl_int(fd: i32, cmd: i32) -> Ret {
    let mut value = -1i32;
    let ret = sc!(SYS_ioctl, fd, cmd, at_mut(&mut value));
    if ret.ok() { Ret(i64::from(value)) } else { ret }
}

/// Receives until `len` bytes came, an error or the end; says how many and whether they are `byte`.
pub fn drain(fd: i32, len: usize, byte: u8) -> (usize, bool) {
    let (mut got, mut right) = (0, true);
    let mut buf = vec![0u8; 65536];
    while got < len {
        let n = sc!(SYS_read, fd, buf.as_mut_slice(), buf.len());
        if n.0 <= 0 {
            break;
        }
        right &= buf[..n.0 as usize].iter().all(|b| *b == byte);
        got += n.0 as usize;
    }
    (got, right)
}

/// Sends without waiting until nothing fits; says how many bytes went out.
pub fn stuff(fd: i32) -> usize {
    let data = vec![7u8; 65536];
    let mut sent = 0;
    loop {
        let n = send(fd, &data, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        if n.0 <= 0 {
            return sent;
        }
        sent += n.0 as usize;
    }
}

/// recv(2) that waits until there is something.
pub fn recv_soon(fd: i32, len: usize, flags: i32) -> Got {
    super::poll::poll(&[(fd, libc::POLLIN)], 10_000);
    recv(fd, len, flags | libc::MSG_DONTWAIT)
}
