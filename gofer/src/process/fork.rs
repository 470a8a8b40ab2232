#![expect(unsafe_code, reason = "makes processes with fork and clone")]
//! A process in namespaces of its own that is a child of the caller.
//!
//! The bare `clone(2)` makes one, but only a process with one thread can use it: in a copy of another
//! one, locks of the C library may be held by threads that are not there. A process with several
//! threads first makes a copy with `fork(3)`, for which the library holds its locks; that copy has
//! one thread, and makes the process with `CLONE_PARENT`. Whoever makes it gives its user namespace
//! its users, which only a process outside can do.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, WaitOptions};

use super::maps::{self, Users};
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
const FAILED: u8 = 3;

/// Namespaces that a process has to be made with, best first. The others it makes itself, which
/// takes longer (mostly the network's) and keeps nobody waiting.
const ATTEMPTS: [Isolation; 3] =
    [Isolation::USER.union(Isolation::PID), Isolation::PID, Isolation::empty()];

/// Namespaces that a process can make for itself, with its flag of `unshare(2)`.
const OWN: [(Isolation, i32); 5] = [
    (Isolation::MOUNT, libc::CLONE_NEWNS),
    (Isolation::NET, libc::CLONE_NEWNET),
    (Isolation::IPC, libc::CLONE_NEWIPC),
    (Isolation::UTS, libc::CLONE_NEWUTS),
    (Isolation::CGROUP, libc::CLONE_NEWCGROUP),
];

/// Runs `body` in a new child process, which ends when it returns. `body` is told which namespaces
/// are the process's own.
pub(super) fn spawn(
    isolate: bool,
    users: Option<&Users>,
    body: impl FnOnce(Isolation),
) -> Result<Forked, Errno> {
    let mut abandoned = Vec::new();
    if has_one_thread() {
        let made =
            clone_in_namespaces(isolate, users, Relation::Child, body, |pid| abandoned.push(pid));
        return made.map(|pid| Forked { pid, abandoned });
    }
    let (reader, writer) = channel_pair()?;
    // SAFETY: fork(3) is called with no lock of this crate held; the child goes on with one thread
    // and a consistent heap, and leaves through `exit` below.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        0 => {
            drop(reader);
            let report = |verdict: u8, number: i32| {
                send(&writer, &[&[verdict], &number.to_le_bytes()[..]].concat());
            };
            let stopped = |pid: Pid| report(STOP, pid.as_raw_nonzero().get());
            match clone_in_namespaces(isolate, users, Relation::Sibling, body, stopped) {
                Ok(pid) => report(GO, pid.as_raw_nonzero().get()),
                Err(error) => report(FAILED, error.raw_os_error()),
            }
            exit(0)
        }
        helper => {
            drop(writer);
            // It ends by itself, and what it reports fits the socket's buffer.
            wait(Pid::from_raw(helper).ok_or(Errno::CHILD)?);
            receive_report(&reader)
        }
    }
}

/// What a new process is to the one that makes it.
#[derive(Clone, Copy)]
enum Relation {
    Child,
    /// Another child of its parent.
    Sibling,
}

/// Makes the process, with the best namespaces there are. Those that got namespaces without users
/// end at once; `stopped` is told about them.
fn clone_in_namespaces(
    isolate: bool,
    users: Option<&Users>,
    relation: Relation,
    body: impl FnOnce(Isolation),
    mut stopped: impl FnMut(Pid),
) -> Result<Pid, Errno> {
    let attempts: &[Isolation] = match (isolate, users) {
        // Without these users its files would belong to others.
        (true, Some(_)) => &ATTEMPTS[..1],
        (true, None) => &ATTEMPTS,
        (false, _) => &[Isolation::empty()],
    };
    let relation = match relation {
        Relation::Child => 0,
        Relation::Sibling => libc::CLONE_PARENT,
    };
    let mut body = Some(body);
    let mut error = Errno::INVAL;
    for &namespaces in attempts {
        let (go_reader, go_writer) = channel_pair()?;
        let flags = libc::SIGCHLD | relation | clone_flags(namespaces);
        // SAFETY: without CLONE_VM and with a null stack, clone(2) is fork(2): the child is a copy
        // that goes on from here on its own copy of this stack. This process has one thread, so
        // nothing in the copy is in the middle of a change.
        let pid = unsafe { libc::syscall(libc::SYS_clone, i64::from(flags), 0, 0, 0, 0) };
        if pid == 0 {
            drop(go_writer);
            if wait_for_go(&go_reader)
                && let Some(body) = body.take()
            {
                drop(go_reader);
                body(if isolate { namespaces | unshare_the_rest() } else { namespaces });
            }
            exit(0);
        }
        let Some(pid) = i32::try_from(pid).ok().filter(|&pid| pid > 0).and_then(Pid::from_raw)
        else {
            error = last_errno();
            continue;
        };
        let mapped = match namespaces.contains(Isolation::USER) {
            true => maps::write(pid, users),
            false => Ok(()),
        };
        match mapped {
            Ok(()) => {
                send(&go_writer, &[GO]);
                return Ok(pid);
            }
            Err(errno) => {
                send(&go_writer, &[STOP]);
                stopped(pid);
                error = errno;
            }
        }
    }
    Err(error)
}

/// Whether this process has no other thread than this one.
fn has_one_thread() -> bool {
    /// Links of `/proc/self/task`: two as for every directory, and one for each thread.
    const LINKS_OF_ONE: u64 = 3;
    rustix::fs::stat("/proc/self/task").is_ok_and(|stat| stat.st_nlink == LINKS_OF_ONE)
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
            (FAILED, _) if length == message.len() => error = Errno::from_raw_os_error(number),
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
    let user = if namespaces.contains(Isolation::USER) { libc::CLONE_NEWUSER } else { 0 };
    let pid = if namespaces.contains(Isolation::PID) { libc::CLONE_NEWPID } else { 0 };
    user | pid
}

/// Gives this process namespaces of its own as far as it may, and says which.
fn unshare_the_rest() -> Isolation {
    let mut got = Isolation::empty();
    for (namespace, flag) in OWN {
        // SAFETY: takes integers only. None of the flags lets threads differ in what the standard
        // library takes to be the process's (descriptors, memory).
        if unsafe { libc::unshare(flag) } == 0 {
            got |= namespace;
        }
    }
    got
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
