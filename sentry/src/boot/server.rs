//! Answers the control protocol: one thread for each connection, one that accepts them.

use super::container::{Container, Started};
use super::protocol::{Connection, Reply, Request, Target};
use super::stdio::Console;
use super::{BootError, run::exit};
use crate::errno::Errno;
use crate::kernel::signal::Signal;
use platform::host::{Errno as HostErrno, poll, socket, thread};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Stack of a thread that starts processes, in bytes.
const STACK: usize = 256 << 10;

/// Most connections at a time. Each waits for something outside the sandbox, so that there are few.
const CONNECTIONS_MAX: usize = 256;

/// Nanoseconds until the next try when there was no descriptor for a connection.
const DESCRIPTORS_RETRY: u64 = 100_000_000;

/// Exit status when the owner has gone.
const EXIT_FAILED: i32 = 128;

/// Serves the connection that the sandbox was started with, and new ones if there is a `listener`.
pub fn serve(
    container: &Arc<Container>,
    owner: Arc<Connection>,
    listener: Option<OwnedFd>,
) -> Result<(), HostErrno> {
    let served = container.clone();
    thread::spawn("control", STACK, move || {
        let mut session = Session::of_owner(served, owner);
        session.run();
        if !session.detached {
            exit(EXIT_FAILED);
        }
    })?;
    let Some(listener) = listener else { return Ok(()) };
    let container = container.clone();
    thread::spawn("control-accept", STACK, move || accept(&container, &listener)).map(drop)
}

fn accept(container: &Arc<Container>, listener: &OwnedFd) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        match socket::accept(listener.as_fd()) {
            Ok(socket) if open.load(Ordering::Relaxed) < CONNECTIONS_MAX => {
                let guard = Open::new(&open);
                let connection = Arc::new(Connection::new(socket));
                let mut session = Session::new(container.clone(), connection);
                // Without a thread the connection is closed, which the other side notices.
                let _ = thread::spawn("control-conn", STACK, move || {
                    session.run();
                    session.close();
                    drop(guard);
                });
            }
            Ok(refused) => drop(refused),
            Err(HostErrno::EINTR | HostErrno::ECONNABORTED) => {}
            // The connection stays in the queue until a descriptor is free.
            Err(HostErrno::EMFILE | HostErrno::ENFILE) => {
                let _ = poll::poll(&mut [], Some(DESCRIPTORS_RETRY));
            }
            Err(_) => return,
        }
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection and what it owns.
struct Session {
    container: Arc<Container>,
    connection: Arc<Connection>,
    /// The process that it owns, 0 for none.
    own: i32,
    console: Option<Arc<Console>>,
    detached: bool,
}

impl Session {
    fn new(container: Arc<Container>, connection: Arc<Connection>) -> Self {
        Self { container, connection, own: 0, console: None, detached: false }
    }

    fn of_owner(container: Arc<Container>, connection: Arc<Connection>) -> Self {
        let console = container.console.clone();
        Self { container, connection, own: 1, console, detached: false }
    }

    /// Answers until the other side closes the connection or sends nonsense.
    fn run(&mut self) {
        while let Ok(Some((request, fds))) = self.connection.receive::<Request>() {
            let Some(reply) = self.answer(request, fds) else { continue };
            if self.connection.send(&reply, &[]).is_err() {
                break;
            }
        }
    }

    /// The other side has gone: nobody would learn how its process ends.
    fn close(&self) {
        if self.own > 0 {
            let kill = Signal::SIGKILL.number();
            // It may have ended.
            let _ = self.container.signal(Target::Own, self.own, kill);
        }
    }

    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>) -> Option<Reply> {
        Some(match request {
            Request::Network(_) => refused("the sandbox has its network already"),
            Request::Start => match self.container.start() {
                Ok(pid) => Reply::Started { pid },
                Err(e) => {
                    let again = matches!(e, BootError::Started);
                    let status = i32::from(e.exit_status());
                    let reply = failed(&e);
                    if again {
                        return Some(reply);
                    }
                    // What cannot be started is of no use: answer, then end.
                    let _ = self.connection.send(&reply, &[]);
                    self.container.kernel.finish(status << 8);
                    return None;
                }
            },
            Request::Detach => {
                self.detached = true;
                Reply::Done
            }
            Request::Exec { process, files } => {
                let files = files.into_iter().zip(fds).collect();
                match self.container.exec(&process, files) {
                    Ok(started) => return self.own(started),
                    Err(e) => failed(&e),
                }
            }
            Request::Signal { to, number } => match self.container.signal(to, self.own, number) {
                Ok(()) => Reply::Done,
                Err(Errno::ESRCH) => refused("no such process: it has ended"),
                Err(_) => refused("there is no such signal"),
            },
            Request::Resize { columns, rows } => {
                if let Some(console) = &self.console {
                    console.resize(columns, rows);
                }
                return None;
            }
            Request::Wait(pid) => {
                let pending = self.container.report();
                let kernel = &self.container.kernel;
                let status = if pid == 1 {
                    Some(kernel.wait_finished())
                } else {
                    kernel.outsiders.wait(pid)
                };
                let reply = match status {
                    Some(status) => Reply::Exited { status },
                    None => refused("no such process was started by exec"),
                };
                // Sent before the report counts as sent.
                let _ = self.connection.send(&reply, &[]);
                drop(pending);
                return None;
            }
            Request::Processes => Reply::Processes(self.container.processes()),
            Request::Pause if self.container.kernel.pause() => Reply::Done,
            Request::Pause => refused("container paused"),
            Request::Resume if self.container.kernel.resume() => Reply::Done,
            Request::Resume => refused("container not paused"),
            Request::Status => Reply::Status(self.container.status()),
            Request::Stats => Reply::Stats(self.container.stats()),
            Request::Limit(limits) => {
                self.container.kernel.limits.set(limits.tasks, limits.memory);
                Reply::Done
            }
        })
    }

    /// The connection owns a new process, and is told of its end.
    fn own(&mut self, started: Started) -> Option<Reply> {
        let Started { pid, console } = started;
        self.own = pid;
        self.console = console.clone();
        let (container, connection) = (self.container.clone(), self.connection.clone());
        let pending = container.report();
        let report = move || {
            let _pending = pending;
            let Some(status) = container.kernel.outsiders.wait(pid) else { return };
            if let Some(console) = console {
                console.finish();
            }
            // Whoever asked may have gone.
            let _ = connection.send(&Reply::Exited { status }, &[]);
        };
        // Sent from here so that the news of the end cannot come first.
        if self.connection.send(&Reply::Started { pid }, &[]).is_err()
            || thread::spawn("control-wait", STACK, report).is_err()
        {
            self.close();
            return Some(refused("the sandbox has no thread left to wait for the process"));
        }
        None
    }
}

fn failed(e: &BootError) -> Reply {
    Reply::Failed { message: e.to_string(), status: e.exit_status() }
}

fn refused(message: &str) -> Reply {
    Reply::Failed { message: message.into(), status: 1 }
}
