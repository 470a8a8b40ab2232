//! The control protocol: what `runsc` asks of a running sandbox, and its frames.
//!
//! Over a Unix stream socket. A frame is its length (four bytes, little-endian) and a message in
//! postcard's encoding; descriptors travel with the length. The connection that the sandbox is started with
//! owns the container's first process; a connection that starts another one ([`Request::Exec`]) owns that.
//! [`Request::Resize`] and [`Target::Own`] mean the process that the connection owns.

use super::{ContainerSpec, LimitSpec, NetworkMessage, ProcessSpec};
use platform::host::{Errno, io, socket};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Largest message, in bytes: arguments and environment of a process fit (`MAX_ARG_STRLEN` is less).
const MESSAGE_MAX: usize = 16 << 20;

/// What is asked of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The network to take over, with a descriptor for each interface. Comes before anything else, where it was
    /// announced, and has no answer then; or before [`Request::Start`]. Answer: [`Reply::Done`].
    Network(NetworkMessage),
    /// Talk about this container of the sandbox from now on; without it, the connection is about the sandbox's
    /// first one. Answer: [`Reply::Done`].
    Select(String),
    /// Make a further container in the sandbox, which lives no longer than this connection; the connection owns
    /// its first process. Answers: [`Reply::Ready`], and [`Reply::Exited`] when it has ended.
    Create {
        /// The container.
        spec: Box<ContainerSpec>,
        /// The number in the container of each of the first descriptors, as for [`Request::Exec`]. Those that
        /// follow are the connections to its gofer.
        files: Vec<i32>,
    },
    /// End a container that was made by [`Request::Create`]. Answer: [`Reply::Done`], when nothing of it is left.
    Destroy,
    /// Run the container's first process. Answer: [`Reply::Started`].
    Start,
    /// The sandbox outlives this connection. Answer: [`Reply::Done`].
    Detach,
    /// Start a process beside the first one; then the connection owns it. Its files come along as
    /// descriptors. Answer: [`Reply::Started`], and [`Reply::Exited`] when it has ended. When the connection
    /// is closed before, the process is killed.
    Exec {
        /// The process.
        process: Box<ProcessSpec>,
        /// The number in the container of each descriptor. With a terminal: one or two descriptors of the
        /// host's side of it.
        files: Vec<i32>,
    },
    /// Send a signal, as from outside the container's pid namespace. Answer: [`Reply::Done`].
    Signal {
        /// To whom.
        to: Target,
        /// Which.
        number: i32,
    },
    /// The console has a new size. Answer: none.
    Resize {
        /// Characters in a line.
        columns: u16,
        /// Lines.
        rows: u16,
    },
    /// Wait for the end of a process of [`Request::Exec`], or of the first one (1). Answer:
    /// [`Reply::Exited`].
    Wait(i32),
    /// Answer: [`Reply::Processes`].
    Processes,
    /// Let no guest code run. Answer: [`Reply::Done`].
    Pause,
    /// End that. Answer: [`Reply::Done`].
    Resume,
    /// Answer: [`Reply::Status`].
    Status,
    /// Write a line for every system call to the descriptor that comes along, until the connection is closed.
    /// Answer: [`Reply::Done`].
    Strace,
    /// Write a line of JSON for every event of these kinds ([`EventKinds`](super::EventKinds)) of the sandbox to the
    /// descriptor that comes along, until the connection is closed. Answer: [`Reply::Done`].
    Trace(u32),
    /// Write a line for these system calls, by their names, to the debug log, for all if none is named; `None`: for no
    /// call. Answer: [`Reply::Done`].
    LogCalls(Option<Vec<String>>),
    /// Change how much the sentry says of itself in the debug log. Answer: [`Reply::Done`].
    LogLevel(super::LogLevel),
    /// What every thread of the container is doing. Answer: [`Reply::Threads`].
    Threads,
    /// Answer: [`Reply::Stats`].
    Stats,
    /// Say when a process of the container is killed for want of memory. Answer: [`Reply::OutOfMemory`] for the next one,
    /// before it has ended; the connection has to ask again then.
    WatchMemory,
    /// Connect the stream that comes along with this port of the loopback interface. Answers: [`Reply::Ready`], and
    /// [`Reply::Done`] when it is over. It ends with this connection.
    Forward(u16),
    /// Answer: [`Reply::Usage`].
    Usage,
    /// Write what the container has changed of its root as a tar archive to the descriptor that comes along. Answer:
    /// [`Reply::Done`], when all of it is written.
    RootfsUpper,
    /// Change what the container may use. Answer: [`Reply::Done`].
    Limit(LimitSpec),
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The process that the connection owns.
    Own,
    /// The process with this id in the container.
    Process(i32),
    /// Every process of the process group with this id in the container.
    Group(i32),
    /// Every process.
    All,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// The container is set up; its first process waits for [`Request::Start`].
    Ready,
    /// The process runs.
    Started {
        /// Its id in the container.
        pid: i32,
    },
    /// The process has ended.
    Exited {
        /// Its wait status (`wait(2)`).
        status: i32,
    },
    /// See [`Request::Processes`].
    Processes(Vec<ProcessInfo>),
    /// See [`Request::Threads`].
    Threads(Vec<ThreadInfo>),
    /// See [`Request::Status`].
    Status(Status),
    /// See [`Request::Stats`].
    Stats(Stats),
    /// See [`Request::WatchMemory`].
    OutOfMemory,
    /// See [`Request::Usage`].
    Usage(MemoryUsage),
    /// It cannot be done.
    Failed {
        /// One line: what was tried and why it failed.
        message: String,
        /// The exit status for `runsc`.
        status: u8,
    },
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// The first process has not been started.
    Created,
    /// It runs.
    Running,
    /// It runs, but for `runsc pause`.
    Paused,
}

/// A process, as `ps(1)` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Process id in the container.
    pub pid: i32,
    /// Its parent's; 0 if that is outside.
    pub ppid: i32,
    /// User id.
    pub uid: u32,
    /// Threads.
    pub threads: u32,
    /// Age in nanoseconds.
    pub age: u64,
    /// CPU time used, in nanoseconds.
    pub cpu: u64,
    /// State letter of `/proc/PID/stat`.
    pub state: char,
    /// Command line, or the name if there is none.
    pub command: String,
}

/// A thread of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadInfo {
    /// Process id in the container.
    pub pid: i32,
    /// Thread id in the container.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// State letter of `/proc/PID/stat`.
    pub state: char,
    /// The system call that it is in; `None` while it runs.
    pub call: Option<String>,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time of the guest's code, in nanoseconds.
    pub user: u64,
    /// CPU time of the sentry for the guest, in nanoseconds.
    pub system: u64,
    /// Guest memory in use, in bytes.
    pub memory: u64,
    /// Processes.
    pub processes: u64,
    /// Threads.
    pub threads: u64,
    /// Most memory that was seen in use, in bytes.
    pub memory_peak: u64,
    /// Most that may be; [`u64::MAX`]: no limit. The same for threads.
    pub memory_limit: u64,
    /// Processes killed because of that limit.
    pub oom_kills: u64,
    /// Most threads.
    pub tasks_limit: u64,
    /// Periods of the CPU limit that have passed.
    pub periods: u64,
    /// Periods in which the limit was reached.
    pub throttled_periods: u64,
    /// Nanoseconds that it kept threads waiting.
    pub throttled_time: u64,
    /// The sandbox has other containers: only these figures are of this one alone.
    pub shared: bool,
}

/// What a container uses memory for, in bytes. What processes share counts for each of them in the first three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUsage {
    /// Private memory of programs, and their private copies of file pages.
    pub anonymous: u64,
    /// Mapped pages of files.
    pub file: u64,
    /// Mapped pages of shared memory and of files in memory.
    pub shared: u64,
    /// Memory of the sandbox that no process maps: files in memory, pipes and the like. 0 in a sandbox of several
    /// containers, where nobody knows whose it is.
    pub unmapped: u64,
    /// Memory that the container holds.
    pub total: u64,
}

fn send_all(fd: BorrowedFd<'_>, mut bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut fds = fds;
    while !bytes.is_empty() {
        let sent = socket::send(fd, bytes, fds)?;
        // The descriptors went with the first byte.
        fds = &[];
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Sends one message, with descriptors. `EPIPE` when the other side has gone.
pub fn send<T: Serialize>(
    fd: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut bytes = vec![0; 4];
    bytes = postcard::to_extend(message, bytes).map_err(|_| Errno::EINVAL)?;
    let len = bytes.len() - 4;
    if len > MESSAGE_MAX {
        return Err(Errno::EMSGSIZE);
    }
    for (to, from) in bytes.iter_mut().zip((len as u32).to_le_bytes()) {
        *to = from;
    }
    send_all(fd, &bytes, fds)
}

/// Reads exactly `buffer.len()` bytes; `EPIPE` when the other side closes before.
fn read_exact(fd: BorrowedFd<'_>, mut buffer: &mut [u8]) -> Result<(), Errno> {
    while !buffer.is_empty() {
        match io::read(fd, buffer, None) {
            Ok(0) => return Err(Errno::EPIPE),
            Ok(n) => buffer = buffer.get_mut(n..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Receives one message with the descriptors it carries; `None` when the other side has closed the
/// connection. `EBADMSG` for bytes that are no message.
pub fn receive<T: DeserializeOwned>(
    fd: BorrowedFd<'_>,
) -> Result<Option<(T, Vec<OwnedFd>)>, Errno> {
    let mut header = [0; 4];
    let (n, fds) = match socket::receive(fd, &mut header) {
        // Closed with data of ours unread.
        Err(Errno::ECONNRESET) => return Ok(None),
        result => result?,
    };
    if n == 0 {
        return Ok(None);
    }
    read_exact(fd, header.get_mut(n..).unwrap_or_default())?;
    let len = u32::from_le_bytes(header) as usize;
    if len > MESSAGE_MAX {
        return Err(Errno::EMSGSIZE);
    }
    let mut bytes = vec![0; len];
    read_exact(fd, &mut bytes)?;
    let message = postcard::from_bytes(&bytes).map_err(|_| Errno::EBADMSG)?;
    Ok(Some((message, fds)))
}

/// One side of a connection.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Over a connected stream socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends one message, with descriptors.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        send(self.0.as_fd(), message, fds)
    }

    /// Receives one message; `None` when the other side has closed.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>, Errno> {
        receive(self.0.as_fd())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (Connection, Connection) {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty()).unwrap();
        (Connection::new(a), Connection::new(b))
    }

    #[test]
    fn messages_and_descriptors_travel() {
        let (a, b) = pair();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let process = ProcessSpec { args: vec![vec![7; 300_000]], ..ProcessSpec::default() };
        let exec = Request::Exec { process: Box::new(process), files: vec![0] };
        let expected = exec.clone();
        let sender = std::thread::spawn(move || {
            a.send(&Request::Start, &[]).unwrap();
            a.send(&exec, &[writer.as_fd()]).unwrap();
        });
        assert_eq!(b.receive::<Request>().unwrap().unwrap().0, Request::Start);
        let (request, fds) = b.receive::<Request>().unwrap().unwrap();
        assert_eq!((request, fds.len()), (expected, 1));
        sender.join().unwrap();
        drop(fds);
        assert_eq!(io::read(reader.as_fd(), &mut [0], None), Ok(0));
        assert!(b.receive::<Request>().unwrap().is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        let (a, b) = pair();
        send_all(a.as_fd(), &[1, 0, 0, 0, 0xff], &[]).unwrap();
        assert_eq!(b.receive::<Request>().unwrap_err(), Errno::EBADMSG);
        send_all(a.as_fd(), &[0xff; 4], &[]).unwrap();
        assert_eq!(b.receive::<Request>().unwrap_err(), Errno::EMSGSIZE);
        send_all(a.as_fd(), &[9, 0, 0], &[]).unwrap();
        drop(a);
        assert_eq!(b.receive::<Request>().unwrap_err(), Errno::EPIPE);
    }
}
