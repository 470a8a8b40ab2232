#![expect(unsafe_code, reason = "makes processes with fork and clone")]
//! Two steps to a process of its own namespaces that is a child of the caller.
//!
//! First a plain `fork(3)`, which leaves a consistent copy of a process with several threads (the
//! C library holds its locks meanwhile); that copy has one thread, so it can use the bare `clone(2)`
//! with namespaces and `CLONE_PARENT`. It stays until the new namespaces have their users, which
//! only a process outside can give them, and ends.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, WaitOptions};

use super::maps;
use crate::protocol::channel_pair;
use crate::sandbox::Isolation;

/// Processes made.
#[derive(Debug)]
pub(super) struct Forked {
    /// The one that runs.
    pub(super) pid: Pid,
    /// Others, ended or about to, which the caller has to wait for.
    pub(super) abandoned: Vec<Pid>,
}

const GO: u8 = 1;
const STOP: u8 = 2;

/// Namespaces to try, best first.
const ATTEMPTS: [Isolation; 3] =
    [Isolation::USER.union(WITHOUT_USER), WITHOUT_USER, Isolation::empty()];

const WITHOUT_USER: Isolation = Isolation::MOUNT
    .union(Isolation::PID)
    .union(Isolation::NET)
    .union(Isolation::IPC)
    .union(Isolation::UTS)
    .union(Isolation::CGROUP);

/// Runs `body` in a new child process, which ends when it returns. `body` is told which namespaces
/// are the process's own.
pub(super) fn spawn(isolate: bool, body: impl FnOnce(Isolation)) -> Result<Forked, Errno> {
    let (reader, writer) = channel_pair()?;
    // SAFETY: fork(3) is called with no lock of this crate held; the child goes on with one thread
    // and a consistent heap, and leaves through `exit` below.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        0 => {
            drop(reader);
            helper(isolate, &writer, body);
            exit(0)
        }
        helper => {
            drop(writer);
            // Its end closes the channel, so it is waited for first and then read from: its report
            // fits the socket's buffer.
            let helper = Pid::from_raw(helper).ok_or(Errno::CHILD)?;
            wait(helper);
            receive_report(&reader)
        }
    }
}

/// Makes the process, then tells the caller about it.
fn helper(isolate: bool, report: &OwnedFd, body: impl FnOnce(Isolation)) {
    let attempts: &[Isolation] = if isolate { &ATTEMPTS } else { &[Isolation::empty()] };
    let mut body = Some(body);
    let mut error = Errno::INVAL;
    for &namespaces in attempts {
        let Ok((go_reader, go_writer)) = channel_pair() else { continue };
        let flags = libc::SIGCHLD | libc::CLONE_PARENT | clone_flags(namespaces);
        // SAFETY: without CLONE_VM and with a null stack, clone(2) is fork(2): the child is a copy
        // that goes on from here on its own copy of this stack. This process has one thread.
        let pid = unsafe { libc::syscall(libc::SYS_clone, i64::from(flags), 0, 0, 0, 0) };
        if pid == 0 {
            drop(go_writer);
            if wait_for_go(&go_reader)
                && let Some(body) = body.take()
            {
                drop(go_reader);
                body(namespaces);
            }
            exit(0);
        }
        let Some(pid) = i32::try_from(pid).ok().filter(|&pid| pid > 0).and_then(Pid::from_raw)
        else {
            error = last_errno();
            continue;
        };
        let mapped = if namespaces.contains(Isolation::USER) { maps::write(pid) } else { Ok(()) };
        let (verdict, failed) = match mapped {
            Ok(()) => (GO, None),
            Err(errno) => (STOP, Some(errno)),
        };
        send(report, &[&[verdict], &pid.as_raw_nonzero().get().to_le_bytes()[..]].concat());
        send(&go_writer, &[verdict]);
        match failed {
            None => return,
            Some(errno) => error = errno,
        }
    }
    send(report, &[&[0], &error.raw_os_error().to_le_bytes()[..]].concat());
}

fn receive_report(reader: &OwnedFd) -> Result<Forked, Errno> {
    let mut abandoned = Vec::new();
    let mut error = Errno::CHILD;
    loop {
        let mut message = [0; 5];
        let (length, _) = match rustix::net::recv(reader, &mut message, RecvFlags::empty()) {
            Ok(received) => received,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        let [verdict, number @ ..] = message;
        let number = i32::from_le_bytes(number);
        match (verdict, Pid::from_raw(number)) {
            (GO, Some(pid)) if length == message.len() => return Ok(Forked { pid, abandoned }),
            (STOP, Some(pid)) if length == message.len() => abandoned.push(pid),
            (0, _) if length == message.len() => error = Errno::from_raw_os_error(number),
            _ => {
                for pid in abandoned {
                    wait(pid);
                }
                return Err(error);
            }
        }
    }
}

fn clone_flags(namespaces: Isolation) -> i32 {
    [
        (Isolation::USER, libc::CLONE_NEWUSER),
        (Isolation::MOUNT, libc::CLONE_NEWNS),
        (Isolation::PID, libc::CLONE_NEWPID),
        (Isolation::NET, libc::CLONE_NEWNET),
        (Isolation::IPC, libc::CLONE_NEWIPC),
        (Isolation::UTS, libc::CLONE_NEWUTS),
        (Isolation::CGROUP, libc::CLONE_NEWCGROUP),
    ]
    .into_iter()
    .filter(|&(namespace, _)| namespaces.contains(namespace))
    .fold(0, |flags, (_, flag)| flags | flag)
}

fn wait_for_go(reader: &OwnedFd) -> bool {
    let mut message = [0; 1];
    loop {
        match rustix::net::recv(reader, &mut message, RecvFlags::empty()) {
            Ok((1, _)) => return message == [GO],
            Err(Errno::INTR) => {}
            _ => return false,
        }
    }
}

fn send(socket: &OwnedFd, message: &[u8]) {
    // When nobody listens any more there is nobody to tell.
    let _ = rustix::net::send(socket, message, SendFlags::NOSIGNAL);
}

fn wait(pid: Pid) {
    while let Err(Errno::INTR) = rustix::process::waitpid(Some(pid), WaitOptions::empty()) {}
}

/// Ends this process without running the exit handlers of the one it is a copy of.
fn exit(status: i32) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

fn last_errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
