//! Making, naming and connecting sockets.

use super::{deadline, interrupted, read_address, socket_file, write_address};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::landlock::{NET_BIND_TCP, NET_CONNECT_TCP, net};
use crate::mm::UserAddr;
use crate::socket::{self, SocketFile, family};
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags};
use crate::syscalls::blocking;
use crate::syscalls::families::ipc::{install, install_pair};
use crate::vfs::OpenFlags;
use crate::wait::EventMask;

const KIND_MASK: u32 = 0xf;
/// First number beyond the kinds there are.
const SOCK_MAX: u32 = 11;

/// `SOCK_CLOEXEC` and `SOCK_NONBLOCK`, which are `O_CLOEXEC` and `O_NONBLOCK`. `EINVAL` for others.
fn file_flags(flags: u32) -> Result<(bool, bool)> {
    let (cloexec, nonblock) = (OpenFlags::CLOEXEC.bits(), OpenFlags::NONBLOCK.bits());
    if flags & !(cloexec | nonblock) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((flags & cloexec != 0, flags & nonblock != 0))
}

/// The `SOCK_*` number without flags. `EINVAL` for one that no family has.
fn known_kind(kind: u32) -> Result<i32> {
    let kind = kind & KIND_MASK;
    if kind < SOCK_MAX { Ok(kind as i32) } else { Err(Errno::EINVAL) }
}

/// `socket(2)`.
pub fn socket(t: &mut CurrentTask, domain: i32, kind: u32, protocol: i32) -> SysResult {
    let (cloexec, nonblock) = file_flags(kind & !KIND_MASK)?;
    let family = family::find(domain)?;
    let kind = known_kind(kind)?;
    let socket = family.create(t, kind, protocol)?;
    let file = SocketFile::open(socket, t.creds(), nonblock);
    install(t, file, cloexec)
}

/// `socketpair(2)`.
pub fn socketpair(
    t: &mut CurrentTask,
    domain: i32,
    kind: u32,
    protocol: i32,
    sv: UserAddr,
) -> SysResult {
    let (cloexec, nonblock) = file_flags(kind & !KIND_MASK)?;
    let family = family::find(domain)?;
    let (a, b) = family.pair(t, known_kind(kind)?, protocol)?;
    let open = |socket| SocketFile::open(socket, t.creds(), nonblock);
    install_pair(t, (open(a), open(b)), cloexec, sv)?;
    Ok(0)
}

/// `bind(2)`.
pub fn bind(t: &mut CurrentTask, sockfd: Fd, addr: UserAddr, addrlen: i32) -> SysResult {
    let file = socket_file(t, sockfd.0)?;
    let address = read_address(t, addr, addrlen)?;
    let socket = socket::of(&file)?;
    net::check(t.creds(), &**socket, &address, NET_BIND_TCP)?;
    socket.bind(t, &address)?;
    Ok(0)
}

/// `listen(2)`.
pub fn listen(t: &mut CurrentTask, sockfd: Fd, backlog: i32) -> SysResult {
    let file = socket_file(t, sockfd.0)?;
    socket::of(&file)?.listen(t, backlog)?;
    Ok(0)
}

/// `accept(2)`.
pub fn accept(t: &mut CurrentTask, sockfd: Fd, addr: UserAddr, addrlen: UserAddr) -> SysResult {
    accept4(t, sockfd, addr, addrlen, Flags(0))
}

/// `accept4(2)`.
pub fn accept4(
    t: &mut CurrentTask,
    sockfd: Fd,
    addr: UserAddr,
    addrlen: UserAddr,
    flags: Flags,
) -> SysResult {
    let (cloexec, nonblock) = file_flags(flags.0)?;
    let file = socket_file(t, sockfd.0)?;
    let socket = socket::of(&file)?;
    let timeout = socket.options().timeout(false);
    let end = deadline(t, timeout);
    let readable = EventMask::READABLE;
    let new = blocking::on_file(t, &file, readable, file.nonblocking(), end, |_| socket.accept());
    let new = interrupted(new, timeout)?;
    if !addr.is_null() {
        let peer = new.accepted_from().map_err(|_| Errno::ECONNABORTED)?;
        write_address(t, &peer, addr, addrlen).inspect_err(|_| new.release())?;
    }
    install(t, SocketFile::open(new, t.creds(), nonblock), cloexec)
}

/// `connect(2)`.
pub fn connect(t: &mut CurrentTask, sockfd: Fd, addr: UserAddr, addrlen: i32) -> SysResult {
    let file = socket_file(t, sockfd.0)?;
    let address = read_address(t, addr, addrlen)?;
    let socket = socket::of(&file)?;
    net::check(t.creds(), &**socket, &address, NET_CONNECT_TCP)?;
    socket.connect(t, &file, &address, file.nonblocking())?;
    Ok(0)
}

/// `getsockname(2)`.
pub fn getsockname(
    t: &mut CurrentTask,
    sockfd: Fd,
    addr: UserAddr,
    addrlen: UserAddr,
) -> SysResult {
    let file = socket_file(t, sockfd.0)?;
    let address = socket::of(&file)?.local_address()?;
    write_address(t, &address, addr, addrlen)?;
    Ok(0)
}

/// `getpeername(2)`.
pub fn getpeername(
    t: &mut CurrentTask,
    sockfd: Fd,
    addr: UserAddr,
    addrlen: UserAddr,
) -> SysResult {
    let file = socket_file(t, sockfd.0)?;
    let address = socket::of(&file)?.peer_address()?;
    write_address(t, &address, addr, addrlen)?;
    Ok(0)
}

/// `shutdown(2)`.
pub fn shutdown(t: &mut CurrentTask, sockfd: Fd, how: i32) -> SysResult {
    let file = socket_file(t, sockfd.0)?;
    socket::of(&file)?.shutdown(how)?;
    Ok(0)
}
