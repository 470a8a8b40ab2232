//! `--network=host`: a process that makes sockets of the host's network for a sentry that uses them itself.
//!
//! It is asked for one socket at a time, over a `SOCK_SEQPACKET` socket, and does nothing else: only internet sockets for
//! TCP, UDP and echo requests can be had, and never a raw one.

use crate::protocol::{decode, encode};
use platform::host::calls::Limit::{Either, Without};
use platform::host::calls::{EXECUTABLE, HostCall, host_calls};
use platform::host::seccomp::Filter;
use platform::host::socket as messages;
use platform::host::{Errno, socket};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

/// Room for a message.
const MAX_MESSAGE: usize = 64;

/// A kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// For IPv6.
    pub v6: bool,
    /// What it speaks.
    pub protocol: crate::protocol::Protocol,
}

/// Calls that the C library makes and does without: they fail with these errors.
const REFUSED: &[(i64, i32, &str)] =
    &[(libc::SYS_openat, libc::ENOENT, "allocator: /proc/sys/vm/overcommit_memory, CPUs in /sys")];

/// What it needs, sorted by name.
pub const CALLS: &[HostCall] = host_calls! {
    brk SYS_brk Run "memory";
    close SYS_close Run "a socket that was handed over";
    exit_group SYS_exit_group Run "end of the process";
    fcntl SYS_fcntl Run (Either(1, &[libc::F_GETFD as u32])) "a check before closing (standard library, debug builds)";
    futex SYS_futex Run "locks of the C library";
    getpid SYS_getpid Run "abort (C library)";
    gettid SYS_gettid Run "abort (C library)";
    madvise SYS_madvise Run "memory";
    mmap SYS_mmap Run (Without(2, EXECUTABLE)) "memory";
    munmap SYS_munmap Run "memory";
    recvmsg SYS_recvmsg Run "requests";
    restart_syscall SYS_restart_syscall Run "go on with a wait after a stop";
    rt_sigaction SYS_rt_sigaction Run "abort (C library)";
    rt_sigprocmask SYS_rt_sigprocmask Run "abort (C library)";
    rt_sigreturn SYS_rt_sigreturn Run "return from a handler";
    sendmsg SYS_sendmsg Run "answers, with sockets";
    socket SYS_socket Run (Either(0, &[libc::AF_INET as u32, libc::AF_INET6 as u32])) "the sockets";
    tgkill SYS_tgkill Run (Either(2, &[libc::SIGABRT as u32])) "abort (C library)";
    write SYS_write Run "why it had to abort";
};

/// Its filter.
pub static FILTER: Filter = Filter::new("socket maker", &[CALLS], REFUSED);

/// Makes a socket, which does not block. The error is `errno(3)`.
fn make(wanted: Wanted) -> Result<OwnedFd, i32> {
    use crate::protocol::Protocol;
    let family = if wanted.v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let (kind, protocol) = match (wanted.protocol, wanted.v6) {
        (Protocol::Tcp, _) => (SocketType::STREAM, None),
        (Protocol::Udp, _) => (SocketType::DGRAM, None),
        (Protocol::Echo, false) => (SocketType::DGRAM, Some(ipproto::ICMP)),
        (Protocol::Echo, true) => (SocketType::DGRAM, Some(ipproto::ICMPV6)),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, kind, flags, protocol).map_err(|e| e.raw_os_error())
}

/// Serves until the sentry is gone or breaks the protocol.
pub fn serve(control: &OwnedFd) {
    let mut buffer = [0; MAX_MESSAGE];
    while let Ok((n, _)) = messages::receive(control.as_fd(), &mut buffer) {
        let Some(wanted) = buffer.get(..n).and_then(decode::<Wanted>) else { return };
        let made = make(wanted);
        let (errno, fds) = match &made {
            Ok(socket) => (0, vec![socket.as_fd()]),
            Err(errno) => (*errno, Vec::new()),
        };
        let mut answer = [0; MAX_MESSAGE];
        let Some(bytes) = encode(&errno, &mut answer) else { return };
        if messages::send(control.as_fd(), bytes, &fds).is_err() {
            return;
        }
    }
}

/// The sentry's side.
#[derive(Debug)]
pub struct Maker(Mutex<OwnedFd>);

impl Maker {
    /// Takes the sentry's end.
    pub fn new(control: OwnedFd) -> Self {
        Self(Mutex::new(control))
    }

    /// A new socket, which does not block. `ENETDOWN` when the process is gone.
    pub fn socket(&self, wanted: Wanted) -> Result<OwnedFd, Errno> {
        let control = self.0.lock().map_err(|_| Errno::ENETDOWN)?;
        let mut buffer = [0; MAX_MESSAGE];
        let bytes = encode(&wanted, &mut buffer).ok_or(Errno::EINVAL)?;
        socket::send(control.as_fd(), bytes, &[]).map_err(|_| Errno::ENETDOWN)?;
        let mut buffer = [0; MAX_MESSAGE];
        let received = socket::receive(control.as_fd(), &mut buffer);
        let (n, mut fds) = received.map_err(|_| Errno::ENETDOWN)?;
        match buffer.get(..n).and_then(decode::<i32>) {
            Some(0) => fds.pop().ok_or(Errno::ENETDOWN),
            // The limit is that process's, of which the guest knows nothing.
            Some(libc::EMFILE | libc::ENFILE) => Err(Errno::ENOBUFS),
            Some(errno) => Err(Errno::from_raw(errno)),
            None => Err(Errno::ENETDOWN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    #[test]
    fn sockets() {
        let (ours, theirs) = socket::seqpacket_pair().unwrap();
        let thread = std::thread::spawn(move || serve(&theirs));
        let maker = Maker::new(ours);
        for v6 in [false, true] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                maker.socket(Wanted { v6, protocol }).unwrap();
            }
        }
        drop(maker);
        thread.join().unwrap();
    }

    #[test]
    fn sorted_and_few() {
        assert!(CALLS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(CALLS.len() < 20);
    }
}
