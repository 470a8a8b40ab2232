//! Unix-domain sockets.

use super::{Arg, Ret, at, at_mut, sc};
use libc::AF_UNIX;
use std::fmt;

/// socket(2) of the Unix domain.
pub fn socket(kind: i32) -> Ret {
    sc!(SYS_socket, AF_UNIX, kind, 0)
}
/// socketpair(2) of the Unix domain.
pub fn pair(kind: i32) -> [i32; 2] {
    let mut fds = [-1i32; 2];
    sc!(SYS_socketpair, AF_UNIX, kind, 0, at_mut(&mut fds));
    fds
}

/// A `sockaddr_un` of exactly the bytes needed: a path gets its zero, an abstract name (`@name`)
/// a leading zero.
pub fn address(name: &str) -> Vec<u8> {
    let mut out = (AF_UNIX as u16).to_le_bytes().to_vec();
    match name.strip_prefix('@') {
        Some(rest) => {
            out.push(0);
            out.extend_from_slice(rest.as_bytes());
        }
        None => {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
    }
    out
}

/// An address as text, in the same spelling as [`address`] takes.
pub fn spell(addr: &[u8]) -> String {
    match addr {
        [] => "no address".into(),
        [_, _] => "unnamed".into(),
        [_, _, 0, rest @ ..] => format!("@{}", rest.escape_ascii()),
        [_, _, path @ ..] => {
            let end = path.iter().position(|&c| c == 0).unwrap_or(path.len());
            format!("{}", path[..end].escape_ascii())
        }
        _ => "short".into(),
    }
}

/// bind(2).
pub fn bind(fd: impl Arg, name: &str) -> Ret {
    let addr = address(name);
    sc!(SYS_bind, fd, addr.as_slice(), addr.len())
}
/// connect(2).
pub fn connect(fd: impl Arg, name: &str) -> Ret {
    let addr = address(name);
    sc!(SYS_connect, fd, addr.as_slice(), addr.len())
}
/// listen(2).
pub fn listen(fd: impl Arg, backlog: i32) -> Ret {
    sc!(SYS_listen, fd, backlog)
}
/// accept4(2) without asking for the address.
pub fn accept(fd: impl Arg, flags: i32) -> Ret {
    sc!(SYS_accept4, fd, 0u64, 0u64, flags)
}
/// A listening socket bound to `name`.
pub fn server(kind: i32, name: &str) -> i32 {
    let fd = socket(kind);
    bind(fd, name);
    listen(fd, 5);
    fd.fd()
}
/// A socket connected to `name`.
pub fn client(kind: i32, name: &str) -> i32 {
    let fd = socket(kind);
    connect(fd, name);
    fd.fd()
}

/// getsockname(2) (`SYS_getsockname`) or getpeername(2) as text.
pub fn name_of(nr: i64, fd: impl Arg) -> String {
    let mut buf = [0u8; 128];
    let mut len = buf.len() as u32;
    let ret = super::call::syscall(nr, &[fd.arg(), at_mut(&mut buf), at_mut(&mut len)]);
    if ret.ok() { spell(&buf[..len as usize]) } else { ret.to_string() }
}

/// send(2).
pub fn send(fd: impl Arg, data: impl AsRef<[u8]>, flags: i32) -> Ret {
    sc!(SYS_sendto, fd, data.as_ref(), data.as_ref().len(), flags, 0u64, 0)
}
/// sendto(2).
pub fn sendto(fd: impl Arg, data: impl AsRef<[u8]>, flags: i32, name: &str) -> Ret {
    let addr = address(name);
    sc!(SYS_sendto, fd, data.as_ref(), data.as_ref().len(), flags, addr.as_slice(), addr.len())
}
/// recv(2).
pub fn recv(fd: impl Arg, len: usize, flags: i32) -> super::fs::Got {
    let mut buf = vec![0; len];
    let ret = sc!(SYS_recvfrom, fd, buf.as_mut_slice(), len, flags, 0u64, 0u64);
    // With MSG_TRUNC the kernel returns the whole length, which may exceed the buffer.
    super::fs::got(buf, if ret.ok() { Ret(ret.0.min(len as i64)) } else { ret })
}

/// getsockopt(2) of an integer option of `SOL_SOCKET`: the error or the value.
pub fn getopt(fd: impl Arg, name: i32) -> Ret {
    let (mut value, mut len) = (0i32, 4u32);
    let ret = sc!(SYS_getsockopt, fd, libc::SOL_SOCKET, name, at_mut(&mut value), at_mut(&mut len));
    if ret.ok() { Ret(i64::from(value)) } else { ret }
}
/// setsockopt(2) of an integer option of `SOL_SOCKET`.
pub fn setopt(fd: impl Arg, name: i32, value: i32) -> Ret {
    sc!(SYS_setsockopt, fd, libc::SOL_SOCKET, name, at(&value), 4)
}
/// shutdown(2).
pub fn shutdown(fd: impl Arg, how: i32) -> Ret {
    sc!(SYS_shutdown, fd, how)
}

/// One control message: level, type and data.
pub fn cmsg(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let mut out = (16 + data.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(&level.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}
/// An `SCM_RIGHTS` message.
pub fn rights(fds: &[i32]) -> Vec<u8> {
    let data: Vec<u8> = fds.iter().flat_map(|fd| fd.to_le_bytes()).collect();
    cmsg(libc::SOL_SOCKET, libc::SCM_RIGHTS, &data)
}
/// An `SCM_CREDENTIALS` message.
pub fn creds(pid: i32, uid: u32, gid: u32) -> Vec<u8> {
    let data = [pid as u32, uid, gid].map(u32::to_le_bytes).concat();
    cmsg(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &data)
}

/// sendmsg(2) of one buffer, with control data and an optional address.
pub fn sendmsg(fd: impl Arg, data: &[u8], control: &[u8], name: Option<&str>, flags: i32) -> Ret {
    let addr = name.map(address).unwrap_or_default();
    let iov = [at(data), data.len() as u64];
    let ctl = if control.is_empty() { 0 } else { at(control) };
    let to = if addr.is_empty() { 0 } else { at(addr.as_slice()) };
    let msg = [to, addr.len() as u64, at(&iov), 1, ctl, control.len() as u64, 0];
    sc!(SYS_sendmsg, fd, at(&msg), flags)
}

/// What recvmsg(2) delivered.
pub struct Received {
    /// The call's result.
    pub ret: Ret,
    /// The data.
    pub data: Vec<u8>,
    /// msg_flags.
    pub flags: i32,
    /// The sender's address as text.
    pub from: String,
    /// Every control message: level, type, data.
    pub control: Vec<(i32, i32, Vec<u8>)>,
}

impl Received {
    /// The descriptors of all `SCM_RIGHTS` messages.
    pub fn fds(&self) -> Vec<i32> {
        let rights = self.control.iter().filter(|c| c.1 == libc::SCM_RIGHTS);
        rights.flat_map(|c| numbers(&c.2)).collect()
    }
    /// pid, uid and gid of the `SCM_CREDENTIALS` message.
    pub fn creds(&self) -> Option<[i32; 3]> {
        let found = self.control.iter().find(|c| c.1 == libc::SCM_CREDENTIALS)?;
        numbers(&found.2).try_into().ok()
    }
}

fn numbers(data: &[u8]) -> Vec<i32> {
    let (words, _) = data.as_chunks::<4>();
    words.iter().map(|w| i32::from_le_bytes(*w)).collect()
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.ret.ok() {
            return write!(f, "{}", self.ret);
        }
        write!(f, "{} \"{}\" from {}", self.ret, self.data.escape_ascii(), self.from)?;
        for (bit, name) in [
            (libc::MSG_TRUNC, "TRUNC"),
            (libc::MSG_CTRUNC, "CTRUNC"),
            (libc::MSG_EOR, "EOR"),
            (libc::MSG_OOB, "OOB"),
            (libc::MSG_CMSG_CLOEXEC, "CLOEXEC"),
        ] {
            if self.flags & bit != 0 {
                write!(f, " {name}")?;
            }
        }
        for (_, kind, data) in &self.control {
            match *kind {
                libc::SCM_RIGHTS => write!(f, " rights({})", data.len() / 4)?,
                libc::SCM_CREDENTIALS => write!(f, " creds")?,
                other => write!(f, " control {other}")?,
            }
        }
        Ok(())
    }
}

/// recvmsg(2) with room for `len` bytes of data and `room` bytes of control data.
pub fn recvmsg(fd: impl Arg, len: usize, room: usize, flags: i32) -> Received {
    recvmsg_with(fd, len, room, flags, spell)
}

/// As [`recvmsg`], for addresses that `spell` makes text of.
pub fn recvmsg_with(
    fd: impl Arg,
    len: usize,
    room: usize,
    flags: i32,
    spell: impl Fn(&[u8]) -> String,
) -> Received {
    let (mut data, mut ctl, mut name) = (vec![0u8; len], vec![0u8; room], [0u8; 128]);
    let iov = [at_mut(data.as_mut_slice()), len as u64];
    let mut msg =
        [at_mut(&mut name), 128, at(&iov), 1, at_mut(ctl.as_mut_slice()), room as u64, 0u64];
    let ret = sc!(SYS_recvmsg, fd, at_mut(&mut msg), flags);
    data.truncate(if ret.ok() { ret.0 as usize } else { 0 });
    ctl.truncate(msg[5] as usize);
    let from = spell(&name[..(msg[1] as u32 as usize).min(128)]);
    Received { ret, data, flags: msg[6] as i32, from, control: split(&ctl) }
}

/// Splits control data into its messages.
fn split(mut rest: &[u8]) -> Vec<(i32, i32, Vec<u8>)> {
    let mut out = Vec::new();
    while let Some((head, _)) = rest.split_at_checked(16) {
        let len = head.iter().take(8).rev().fold(0usize, |n, &b| n << 8 | usize::from(b));
        let Some(data) = rest.get(16..len) else { break };
        let ids = numbers(&head[8..]);
        out.push((ids[0], ids[1], data.to_vec()));
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    out
}
