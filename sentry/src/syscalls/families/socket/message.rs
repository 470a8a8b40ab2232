//! Sending and receiving.

use super::{control, deadline, interrupted, read_address, socket_file, write_address};
use crate::errno::{Errno, Result};
use crate::io::Source;
use crate::kernel::CurrentTask;
use crate::mm::{UserAddr, UserSink, UserSource};
use crate::socket::inet::{AF_INET, AF_INET6};
use crate::socket::{self, Kind, RecvMsg, SendMsg, Socket, Ucred, flags};
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags};
use crate::syscalls::blocking;
use crate::syscalls::families::ipc::wait::{Timeout, sigpipe};
use crate::vfs::File;
use crate::wait::EventMask;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct msghdr`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MsgHdr {
    name: u64,
    namelen: i32,
    pad: u32,
    iov: u64,
    iovlen: u64,
    control: u64,
    controllen: u64,
    flags: u32,
    pad2: u32,
}

/// Where in `struct msghdr` results go.
const NAMELEN: u64 = 8;
const CONTROLLEN: u64 = 40;
const FLAGS: u64 = 48;
/// Size of `struct mmsghdr`, and where the length of a message is in it.
const MMSG_SIZE: u64 = 64;
const MMSG_LEN: u64 = 56;

/// Sends everything from `src`, waiting as long as the socket's options allow.
fn send_all(
    t: &mut CurrentTask,
    file: &Arc<File>,
    src: &mut dyn Source,
    msg: &mut SendMsg,
) -> SysResult {
    let socket = socket::of(file)?;
    if msg.creds.is_none() {
        msg.creds = Some(Ucred::of(t, t.creds()));
    }
    let nonblocking = file.nonblocking() || msg.flags & flags::DONTWAIT != 0;
    let timeout = socket.options().timeout(true);
    let end = deadline(t, timeout);
    let events = EventMask::WRITABLE;
    let mut sent = 0;
    loop {
        let result =
            blocking::on_file(t, file, events, nonblocking, end, |_| socket.send(src, msg));
        match result {
            // A stream may take less than there is.
            Ok(n) => {
                sent += n as u64;
                if socket.kind() != Kind::Stream || n == 0 || src.remaining() == 0 {
                    return Ok(sent);
                }
            }
            Err(e) => {
                let pipe = e == Errno::EPIPE && socket.kind() == Kind::Stream;
                if pipe && msg.flags & flags::NOSIGNAL == 0 {
                    sigpipe(t);
                }
                return if sent > 0 { Ok(sent) } else { interrupted(Err(e), timeout) };
            }
        }
    }
}

/// `sendto(2)`.
pub fn sendto(
    t: &mut CurrentTask,
    sockfd: Fd,
    buf: UserAddr,
    len: u64,
    flags: Flags,
    dest_addr: UserAddr,
    addrlen: i32,
) -> SysResult {
    let mm = t.mm().clone();
    let mut src = UserSource::single(&mm, buf, len)?;
    let file = socket_file(t, sockfd.0)?;
    let mut msg = SendMsg { flags: flags.0, ..SendMsg::default() };
    if !dest_addr.is_null() {
        let address = read_address(t, dest_addr, addrlen)?;
        set_destination(t, socket::of(&file)?, &address, &mut msg)?;
    }
    send_all(t, &file, &mut src, &mut msg)
}

fn set_destination(
    t: &CurrentTask,
    socket: &Arc<dyn Socket>,
    address: &[u8],
    msg: &mut SendMsg,
) -> Result<()> {
    if !address.is_empty() {
        msg.to = Some(socket.destination(t, address)?);
    }
    Ok(())
}

fn send_message(t: &mut CurrentTask, file: &Arc<File>, addr: UserAddr, flags: u32) -> SysResult {
    let header: MsgHdr = t.mm().read_obj(addr)?;
    let mut msg = SendMsg { flags, ..SendMsg::default() };
    let namelen = if header.name == 0 { 0 } else { header.namelen };
    if namelen < 0 {
        return Err(Errno::EINVAL);
    }
    let address = read_address(t, UserAddr(header.name), namelen.min(128))?;
    let mm = t.mm().clone();
    let vectors = read_vectors(t, &header)?;
    let inet = matches!(socket::of(file)?.family(), AF_INET | AF_INET6);
    let control = (UserAddr(header.control), header.controllen);
    control::read(t, control, inet, &mut msg)?;
    set_destination(t, socket::of(file)?, &address, &mut msg)?;
    send_all(t, file, &mut UserSource::new(&mm, vectors), &mut msg)
}

fn read_vectors(t: &CurrentTask, header: &MsgHdr) -> Result<Vec<crate::mm::sink::IoVec>> {
    if header.iovlen > 1024 {
        return Err(Errno::EMSGSIZE);
    }
    t.mm().read_iovecs(UserAddr(header.iov), header.iovlen)
}

/// `sendmsg(2)`.
pub fn sendmsg(t: &mut CurrentTask, sockfd: Fd, msg: UserAddr, flags: Flags) -> SysResult {
    let file = socket_file(t, sockfd.0)?;
    send_message(t, &file, msg, flags.0)
}

/// `sendmmsg(2)`.
pub fn sendmmsg(
    t: &mut CurrentTask,
    sockfd: Fd,
    msgvec: UserAddr,
    vlen: u32,
    flags: Flags,
) -> SysResult {
    let file = socket_file(t, sockfd.0)?;
    let mut done = 0;
    for i in 0..u64::from(vlen.min(1024)) {
        let at = msgvec.offset(i * MMSG_SIZE);
        let result = send_message(t, &file, at, flags.0)
            .and_then(|n| t.mm().write_obj(at.offset(MMSG_LEN), &(n as u32)));
        match result {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Receives into `dst`, waiting as long as the socket's options allow.
fn receive(
    t: &mut CurrentTask,
    file: &Arc<File>,
    dst: &mut UserSink<'_>,
    msg: &mut RecvMsg,
) -> SysResult {
    use crate::io::Sink;
    let socket = socket::of(file)?;
    // Nobody waits for errors.
    let nonblocking = file.nonblocking() || msg.flags & (flags::DONTWAIT | flags::ERRQUEUE) != 0;
    msg.nonblocking = nonblocking;
    let timeout = socket.options().timeout(false);
    let end = deadline(t, timeout);
    let stream = socket.kind() == Kind::Stream;
    let all = stream && msg.flags & flags::WAITALL != 0 && msg.flags & flags::PEEK == 0;
    let want = dst.remaining();
    let target = if all { want } else { socket.options().rcvlowat().min(want) };
    let mut got = 0;
    loop {
        let result = blocking::on_file(t, file, EventMask::READABLE, nonblocking, end, |_| {
            socket.receive(dst, msg)
        });
        match result {
            Ok(n) => {
                got += n;
                let more = stream && n > 0 && got < target && msg.rights.is_none();
                if !more || msg.flags & flags::PEEK != 0 {
                    return Ok(got as u64);
                }
            }
            Err(_) if got > 0 => return Ok(got as u64),
            Err(e) => return interrupted(Err(e), timeout),
        }
    }
}

/// `recvfrom(2)`.
pub fn recvfrom(
    t: &mut CurrentTask,
    sockfd: Fd,
    buf: UserAddr,
    len: u64,
    flags: Flags,
    src_addr: UserAddr,
    addrlen: UserAddr,
) -> SysResult {
    let mm = t.mm().clone();
    let mut dst = UserSink::single(&mm, buf, len)?;
    let file = socket_file(t, sockfd.0)?;
    let mut msg = RecvMsg { flags: flags.0, ..RecvMsg::default() };
    let n = receive(t, &file, &mut dst, &mut msg)?;
    if !src_addr.is_null() {
        write_address(t, msg.from.as_deref().unwrap_or_default(), src_addr, addrlen)?;
    }
    Ok(n)
}

fn receive_message(t: &mut CurrentTask, file: &Arc<File>, addr: UserAddr, flags: u32) -> SysResult {
    let header: MsgHdr = t.mm().read_obj(addr)?;
    if header.name != 0 && header.namelen < 0 {
        return Err(Errno::EINVAL);
    }
    let vectors = read_vectors(t, &header)?;
    let mm = t.mm().clone();
    let mut msg = RecvMsg { flags, ..RecvMsg::default() };
    let n = receive(t, file, &mut UserSink::new(&mm, vectors), &mut msg)?;
    if header.name != 0 {
        let from = msg.from.as_deref().unwrap_or_default();
        let room = header.namelen.max(0) as usize;
        t.mm().write(UserAddr(header.name), from.get(..room).unwrap_or(from))?;
        t.mm().write_obj(addr.offset(NAMELEN), &(from.len() as u32))?;
    }
    let control = UserAddr(header.control);
    let used = control::write(t, control, header.controllen, &mut msg)?;
    msg.out_flags |= flags & flags::CMSG_CLOEXEC;
    t.mm().write_obj(addr.offset(CONTROLLEN), &used)?;
    t.mm().write_obj(addr.offset(FLAGS), &msg.out_flags)?;
    Ok(n)
}

/// `recvmsg(2)`.
pub fn recvmsg(t: &mut CurrentTask, sockfd: Fd, msg: UserAddr, flags: Flags) -> SysResult {
    let file = socket_file(t, sockfd.0)?;
    receive_message(t, &file, msg, flags.0)
}

/// `recvmmsg(2)`.
pub fn recvmmsg(
    t: &mut CurrentTask,
    sockfd: Fd,
    msgvec: UserAddr,
    vlen: u32,
    flags: Flags,
    timeout: UserAddr,
) -> SysResult {
    let limit = Timeout::read_timespec(t, timeout)?;
    let file = socket_file(t, sockfd.0)?;
    if let Some(e) = socket::of(&file)?.take_error() {
        return Err(e);
    }
    let mut flags = flags.0;
    let mut done = 0;
    for i in 0..u64::from(vlen.min(1024)) {
        let at = msgvec.offset(i * MMSG_SIZE);
        let call_flags = flags & !flags::WAITFORONE;
        let result = receive_message(t, &file, at, call_flags)
            .and_then(|n| t.mm().write_obj(at.offset(MMSG_LEN), &(n as u32)));
        match result {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
        if flags & flags::WAITFORONE != 0 {
            flags |= flags::DONTWAIT;
        }
        // As in Linux the time is only looked at between messages.
        if limit != Timeout::Never && limit.left() == 0 {
            break;
        }
    }
    limit.write_left(t, timeout, false);
    Ok(done)
}
