#![expect(unsafe_code, reason = "ioctl(2) of seccomp listeners, seccomp(2)")]
//! The sentry's end of a guest thread's seccomp filter: `seccomp_unotify(2)` with types.
//!
//! Host calls: `ioctl`, `poll`, `seccomp`, `uname`.

use crate::host::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

const NOTIF_RECV: u64 = 0xc050_2100;
const NOTIF_SEND: u64 = 0xc018_2101;
const NOTIF_SET_FLAGS: u64 = 0x4008_2104;

/// Wakes the other side on the caller's CPU: it runs while the caller sleeps.
const SYNC_WAKE_UP: u64 = 1;

/// A system call that a guest thread made, as the host kernel saw it. The thread waits in the kernel,
/// so nobody can change it any more.
#[derive(Debug, Clone, Copy)]
pub struct Notification {
    /// To answer it with.
    pub id: u64,
    /// The thread that made it.
    pub tid: i32,
    /// Number: the lower half of `rax`.
    pub number: u32,
    /// `AUDIT_ARCH_*` of the entry that was used.
    pub arch: u32,
    /// Behind the instruction.
    pub rip: u64,
    /// Arguments, in the order of the system-call convention.
    pub args: [u64; 6],
}

/// Receives the system calls of one guest thread.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// This host wakes a receiver when the guest thread has ended.
    told_of_end: bool,
}

impl Listener {
    /// Wraps the descriptor.
    pub fn new(fd: OwnedFd) -> Self {
        // SAFETY: the argument is a plain value. Hosts before 6.6 refuse, and hand over more slowly.
        let _ = unsafe { libc::ioctl(fd.as_raw_fd(), NOTIF_SET_FLAGS as _, SYNC_WAKE_UP) };
        Self { fd, told_of_end: release() >= (6, 11) }
    }

    /// Waits for the next system call; `None` when the guest thread has ended.
    pub fn receive(&self) -> Result<Option<Notification>, Errno> {
        loop {
            if !self.told_of_end && self.has_ended(-1) {
                return Ok(None);
            }
            // SAFETY: all-zero is valid, and what the host demands.
            let mut got: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the host fills the structure, whose size is in the request's number.
            let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), NOTIF_RECV as _, &raw mut got) };
            match Errno::result(result) {
                Ok(_) => {
                    return Ok(Some(Notification {
                        id: got.id,
                        tid: got.pid as i32,
                        number: got.data.nr as u32,
                        arch: got.data.arch,
                        rip: got.data.instruction_pointer,
                        args: got.data.args,
                    }));
                }
                Err(Errno::EINTR) => {}
                // Its end, or a signal to the guest thread came before we looked.
                Err(Errno::ENOENT) if self.has_ended(0) => return Ok(None),
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets a waiting thread go on, with this in `rax`. `ENOENT` when it is gone.
    pub fn answer(&self, id: u64, rax: u64) -> Result<(), Errno> {
        self.send(&libc::seccomp_notif_resp { id, val: rax as i64, error: 0, flags: 0 })
    }

    /// Lets the host execute a waiting thread's call. Only for calls without memory arguments that can do
    /// no harm whatever the other arguments are.
    pub fn let_through(&self, id: u64) -> Result<(), Errno> {
        const CONTINUE: u32 = 1;
        self.send(&libc::seccomp_notif_resp { id, val: 0, error: 0, flags: CONTINUE })
    }

    fn send(&self, answer: &libc::seccomp_notif_resp) -> Result<(), Errno> {
        // SAFETY: the host reads the structure, whose size is in the request's number.
        let result = unsafe {
            libc::ioctl(self.fd.as_raw_fd(), NOTIF_SEND as _, std::ptr::from_ref(answer))
        };
        Errno::result(result).map(drop)
    }

    /// As [`Listener::receive`], of a thread that makes its call soon; `None` also when it has not after `timeout`
    /// milliseconds.
    pub fn receive_within(&self, timeout: i32) -> Result<Option<Notification>, Errno> {
        match self.poll(timeout) {
            Ok(0) => Ok(None),
            _ => self.receive(),
        }
    }

    /// Whether a system call waits to be received, or the guest thread has ended.
    pub fn has_call(&self) -> bool {
        self.poll(0).is_ok_and(|events| events != 0)
    }

    /// Whether the guest thread has ended; waits for that or a system call for `timeout`
    /// milliseconds, -1 for ever.
    fn has_ended(&self, timeout: i32) -> bool {
        self.poll(timeout).is_ok_and(|events| events & (libc::POLLHUP | libc::POLLERR) != 0)
    }

    /// `poll(2)`: what has happened, 0 for nothing in `timeout` milliseconds. `EINTR`.
    fn poll(&self, timeout: i32) -> Result<i16, Errno> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        Errno::result(unsafe { libc::poll(&raw mut poll, 1, timeout) })?;
        Ok(poll.revents)
    }
}

/// Whether the host's seccomp knows `SECCOMP_RET_USER_NOTIF`.
pub fn is_available() -> bool {
    const GET_ACTION_AVAIL: u64 = 2;
    let action = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the host reads one integer.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// The host kernel's release: major and minor number; zeroes when it cannot be told.
pub fn release() -> (u32, u32) {
    static RELEASE: std::sync::OnceLock<(u32, u32)> = std::sync::OnceLock::new();
    *RELEASE.get_or_init(read_release)
}

fn read_release() -> (u32, u32) {
    // SAFETY: all-zero is valid; the host fills it with terminated strings.
    let name = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        libc::uname(&raw mut name);
        name.release
    };
    let text: Vec<u8> = name.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
    let text = String::from_utf8_lossy(&text);
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_the_hosts() {
        assert_eq!(size_of::<libc::seccomp_notif>(), 80);
        assert_eq!(size_of::<libc::seccomp_notif_resp>(), 24);
        assert!(release() > (3, 0));
    }
}
