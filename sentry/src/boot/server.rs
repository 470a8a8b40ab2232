//! Answers the control protocol: one thread for each connection, one that accepts them.

use super::container::{Container, Started};
use super::forward::Forward;
use super::log::{self, Log, LogFormat};
use super::pod::Pod;
use super::protocol::{Connection, Reply, Request, Target};
use super::run::exit;
use super::stdio::Console;
use super::{BootError, ContainerSpec, EventKinds};
use crate::errno::Errno;
use crate::kernel::LogSink;
use crate::kernel::cgroup::Killed;
use crate::kernel::signal::Signal;
use platform::host::{Errno as HostErrno, poll, socket, thread};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Stack of a thread that starts processes, in bytes.
const STACK: usize = 256 << 10;

/// Most connections at a time. Each waits for something outside the sandbox, so that there are few.
const CONNECTIONS_MAX: usize = 256;

/// Nanoseconds until the next try when there was no descriptor for a connection.
const DESCRIPTORS_RETRY: u64 = 100_000_000;

/// What is said to who wants to change what goes there.
const NO_LOG: &str =
    "the sandbox has no debug log: it has to be started with --debug-log or --debug";

/// Exit status when the owner has gone.
const EXIT_FAILED: i32 = 128;

/// Serves the connection that the sandbox was started with, and new ones if there is a `listener`.
pub fn serve(
    pod: &Arc<Pod>,
    owner: Arc<Connection>,
    listener: Option<OwnedFd>,
) -> Result<(), HostErrno> {
    let served = pod.clone();
    thread::spawn("control", STACK, move || {
        let mut session = Session::of_owner(served, owner);
        session.run();
        if !session.detached {
            exit(EXIT_FAILED);
        }
    })?;
    let Some(listener) = listener else { return Ok(()) };
    let pod = pod.clone();
    thread::spawn("control-accept", STACK, move || accept(&pod, &listener)).map(drop)
}

fn accept(pod: &Arc<Pod>, listener: &OwnedFd) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        match socket::accept(listener.as_fd()) {
            Ok(socket) if open.load(Ordering::Relaxed) < CONNECTIONS_MAX => {
                let guard = Open::new(&open);
                let connection = Arc::new(Connection::new(socket));
                let mut session = Session::new(pod.clone(), connection);
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

/// A connection, what it is about and what it owns.
struct Session {
    pod: Arc<Pod>,
    container: Arc<Container>,
    connection: Arc<Connection>,
    /// The kernel's id of the process of `exec` that the connection owns; 0 for none.
    own: i32,
    /// It owns the container, which joined.
    owns_container: bool,
    console: Option<Arc<Console>>,
    detached: bool,
    /// The log of system calls that ends with the connection.
    strace: Option<Arc<dyn LogSink>>,
    /// Who gets events until the connection ends.
    trace: Option<Arc<dyn LogSink>>,
    /// Tells of the next process that is killed for want of memory.
    memory: Option<Arc<MemoryWatch>>,
    /// What is forwarded, and ends with the connection.
    forward: Weak<Forward>,
}

impl Session {
    fn new(pod: Arc<Pod>, connection: Arc<Connection>) -> Self {
        let container = pod.first.clone();
        let (own, owns_container, console, detached) = (0, false, None, false);
        let (strace, trace, memory, forward) = (None, None, None, Weak::new());
        Self {
            pod,
            container,
            connection,
            own,
            owns_container,
            console,
            detached,
            strace,
            trace,
            memory,
            forward,
        }
    }

    fn of_owner(pod: Arc<Pod>, connection: Arc<Connection>) -> Self {
        let console = pod.first.console.clone();
        Self { console, ..Self::new(pod, connection) }
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
        if let Some(log) = &self.strace {
            self.container.kernel.unlog_calls(log);
        }
        if let Some(sink) = &self.trace {
            self.container.kernel.call_logs.remove_events(sink);
        }
        if let Some(forward) = self.forward.upgrade() {
            forward.finish();
        }
        if self.own > 0 {
            let kill = Signal::SIGKILL.number();
            // It may have ended.
            let _ = self.container.signal(Target::Own, self.own, kill);
        }
        if self.owns_container {
            self.pod.destroy(&self.container);
        }
    }

    /// The kernel's id of the process that signals are for: of `exec`, or the container's first one.
    fn target(&self) -> i32 {
        if self.own > 0 { self.own } else { self.container.first() }
    }

    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>) -> Option<Reply> {
        Some(match request {
            Request::Network(message) => match self.pod.give_network(message, fds) {
                Ok(()) => Reply::Done,
                Err(e) => failed(&e),
            },
            Request::Select(id) => match self.pod.find(&id) {
                Some(container) => {
                    self.container = container;
                    Reply::Done
                }
                None => refused("there is no such container in the sandbox: it has ended"),
            },
            Request::Create { spec, files } => match self.create(&spec, files, fds) {
                Ok(()) => Reply::Ready,
                Err(e) => failed(&e),
            },
            Request::Destroy if self.container.is_first() => {
                refused("the first container of a sandbox ends with it")
            }
            Request::Destroy => {
                self.pod.destroy(&self.container);
                Reply::Done
            }
            Request::Start => match self.pod.start(&self.container) {
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
                    if self.container.is_first() {
                        self.container.kernel.finish(status << 8);
                    } else {
                        self.container.finish(status << 8);
                    }
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
            Request::Signal { to, number } => {
                match self.container.signal(to, self.target(), number) {
                    Ok(()) => Reply::Done,
                    Err(Errno::ESRCH) => refused("no such process: it has ended"),
                    Err(_) => refused("there is no such signal"),
                }
            }
            Request::Resize { columns, rows } => {
                if let Some(console) = &self.console {
                    console.resize(columns, rows);
                }
                return None;
            }
            Request::Wait(pid) => {
                let pending = self.pod.report();
                let status = if pid == 1 {
                    Some(self.container.wait())
                } else {
                    let id = self.container.global(pid);
                    self.container.kernel.outsiders.wait(id)
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
            Request::Pause if self.container.pause(true) => Reply::Done,
            Request::Pause => refused("container paused"),
            Request::Resume if self.container.pause(false) => Reply::Done,
            Request::Resume => refused("container not paused"),
            Request::Status => Reply::Status(self.container.status()),
            Request::Strace if self.strace.is_some() => refused("the connection has a log already"),
            Request::Strace => match fds.into_iter().next() {
                Some(fd) => {
                    let log: Arc<dyn LogSink> = Arc::new(Log::new(fd, LogFormat::Text));
                    self.container.kernel.log_calls(log.clone(), &[]);
                    self.strace = Some(log);
                    Reply::Done
                }
                None => refused("a log needs a descriptor"),
            },
            Request::Trace(_) if self.trace.is_some() => {
                refused("the connection has events already")
            }
            Request::Trace(kinds) => match fds.into_iter().next() {
                Some(fd) => {
                    let sink: Arc<dyn LogSink> = Arc::new(Log::new(fd, LogFormat::Text));
                    let kinds = EventKinds::from_bits_truncate(kinds);
                    self.container.kernel.call_logs.add_events(sink.clone(), kinds);
                    self.trace = Some(sink);
                    Reply::Done
                }
                None => refused("events need a descriptor"),
            },
            Request::LogCalls(calls) => self.log_calls(calls),
            Request::LogLevel(_) if self.container.kernel.config.log.is_none() => refused(NO_LOG),
            Request::LogLevel(level) => {
                log::set_level(level.into());
                Reply::Done
            }
            Request::Threads => Reply::Threads(self.container.threads()),
            Request::Forward(_) if self.forward.strong_count() > 0 => {
                refused("the connection forwards something already")
            }
            Request::Forward(port) => {
                let Some(stream) = fds.into_iter().next() else {
                    return Some(refused("forwarding needs a descriptor"));
                };
                let connection = self.connection.clone();
                match Forward::start(self.container.net(), port, stream, Some(connection)) {
                    Ok(forward) => {
                        self.forward = Arc::downgrade(&forward);
                        // Sent while this holds it, so that the news of its end cannot come first.
                        let _ = self.connection.send(&Reply::Ready, &[]);
                        return None;
                    }
                    Err(e) => refused(&e.to_string()),
                }
            }
            Request::WatchMemory => {
                let watch = Arc::new(MemoryWatch(self.connection.clone()));
                self.container.watch_memory(&watch);
                self.memory = Some(watch);
                return None;
            }
            Request::Usage => Reply::Usage(self.container.memory_usage()),
            Request::Stats => Reply::Stats(self.container.stats()),
            Request::RootfsUpper => {
                match fds.first().map(|file| self.container.archive(file.as_fd())) {
                    None => refused("an archive needs a descriptor"),
                    Some(Ok(())) => Reply::Done,
                    Some(Err(Errno::EINVAL)) => refused(
                        "the container's root has no overlay: its changes are in the bundle",
                    ),
                    Some(Err(e)) => refused(&format!("cannot write the archive: {e}")),
                }
            }
            Request::Limit(limits) => {
                self.container.limit(&limits);
                Reply::Done
            }
        })
    }

    /// Changes which system calls get a line in the debug log.
    fn log_calls(&self, calls: Option<Vec<String>>) -> Reply {
        let kernel = &self.container.kernel;
        let Some(log) = &kernel.config.log else { return refused(NO_LOG) };
        match calls {
            Some(names) => kernel.log_calls(log.clone(), &names),
            None => kernel.unlog_calls(log),
        }
        Reply::Done
    }

    /// Makes a container that the connection owns, and is told of its end.
    fn create(
        &mut self,
        spec: &ContainerSpec,
        files: Vec<i32>,
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), BootError> {
        let channels = fds.split_off(files.len().min(fds.len()));
        let files = files.into_iter().zip(fds).collect();
        let container = self.pod.create(spec, files, channels)?;
        self.container = container.clone();
        self.owns_container = true;
        self.console = container.console.clone();
        let (connection, pending) = (self.connection.clone(), self.pod.report());
        let report = move || {
            let _pending = pending;
            let status = container.wait();
            // The owner may have gone.
            let _ = connection.send(&Reply::Exited { status }, &[]);
        };
        thread::spawn("control-wait", STACK, report).map(drop).map_err(super::run::thread_failed)
    }

    /// The connection owns a new process, and is told of its end.
    fn own(&mut self, started: Started) -> Option<Reply> {
        let Started { id, pid, console } = started;
        self.own = id;
        self.console = console.clone();
        let (container, connection) = (self.container.clone(), self.connection.clone());
        let pending = self.pod.report();
        let report = move || {
            let _pending = pending;
            let Some(status) = container.kernel.outsiders.wait(id) else { return };
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

/// Who asked to be told of it.
struct MemoryWatch(Arc<Connection>);

impl Killed for MemoryWatch {
    fn killed(&self) {
        // There may be nobody any more.
        let _ = self.0.send(&Reply::OutOfMemory, &[]);
    }
}

fn failed(e: &BootError) -> Reply {
    Reply::Failed { message: e.to_string(), status: e.exit_status() }
}

fn refused(message: &str) -> Reply {
    Reply::Failed { message: message.into(), status: 1 }
}
