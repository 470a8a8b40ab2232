//! Sockets: what Linux puts above every protocol, and the families below it.
//!
//! * [`Socket`]: what a family's sockets do. [`SocketFile`]: the open file around one.
//! * [`family`]: which families there are. [`unix`]: local sockets. [`inet`]: TCP, UDP and ICMP echo.
//! * [`netlink`]: questions about the network. [`packet`]: frames of interfaces. [`filter`]: what a socket is spared.
//! * [`options`]: the options of `SOL_SOCKET` that are the same for all.

pub mod family;
pub mod filter;
pub mod inet;
pub mod netlink;
pub mod options;
pub mod packet;
pub mod unix;
pub mod xtables;

use crate::errno::{Errno, Result};
use crate::fs::anon::{Identity, SOCKET_DEV};
use crate::io::{Sink, Source};
use crate::kernel::{Credentials, CurrentTask, Task};
use crate::vfs::{Attachments, Attr, File, FileOps, Mappable, OpenFlags};
use crate::wait::{EventMask, WaitQueue};
pub use options::{OptionValue, Options};
use std::any::Any;
use std::sync::Arc;
pub use unix::rights::Rights;

/// `SOL_SOCKET`
pub const SOL_SOCKET: i32 = 1;

/// Flags of `send(2)` and `recv(2)`.
pub mod flags {
    /// Urgent data.
    pub const OOB: u32 = 0x1;
    /// Look, do not take.
    pub const PEEK: u32 = 0x2;
    /// Do not use a gateway (ignored).
    pub const DONTROUTE: u32 = 0x4;
    /// Control data did not fit.
    pub const CTRUNC: u32 = 0x8;
    /// Data did not fit; as an input: tell the real length.
    pub const TRUNC: u32 = 0x20;
    /// Do not wait.
    pub const DONTWAIT: u32 = 0x40;
    /// End of a record.
    pub const EOR: u32 = 0x80;
    /// Wait for all that was asked for.
    pub const WAITALL: u32 = 0x100;
    /// From the error queue.
    pub const ERRQUEUE: u32 = 0x2000;
    /// No `SIGPIPE`.
    pub const NOSIGNAL: u32 = 0x4000;
    /// More will follow.
    pub const MORE: u32 = 0x8000;
    /// `recvmmsg(2)`: wait for the first message only.
    pub const WAITFORONE: u32 = 0x10000;
    /// Data in the `SYN`.
    pub const FASTOPEN: u32 = 0x2000_0000;
    /// Close received descriptors on exec.
    pub const CMSG_CLOEXEC: u32 = 0x4000_0000;
}

/// Kind of communication, with the values of `SOCK_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A stream of bytes.
    Stream = 1,
    /// Datagrams.
    Dgram = 2,
    /// Raw packets.
    Raw = 3,
    /// A sequence of records.
    SeqPacket = 5,
}

/// Who sent a message (`struct ucred`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ucred {
    /// Process id; 0 if unknown.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Ucred {
    /// What a receiver is told when nobody noted the sender.
    pub const NOBODY: Ucred = Ucred { pid: 0, uid: 65534, gid: 65534 };

    /// A task's own.
    pub fn of(task: &Task, creds: &Credentials) -> Ucred {
        Ucred { pid: task.tgid(), uid: creds.uid, gid: creds.gid }
    }

    /// With the ids as a task's namespaces have them.
    pub fn seen_by(self, task: &Task) -> Ucred {
        let user_ns = &task.creds().user_ns;
        Ucred {
            pid: task.local_id(self.pid),
            uid: user_ns.show_uid(self.uid),
            gid: user_ns.show_gid(self.gid),
        }
    }

    /// The other way round. `None` for ids that do not exist there.
    pub fn named_by(self, task: &Task) -> Option<Ucred> {
        let user_ns = &task.creds().user_ns;
        Some(Ucred {
            pid: task.global_id(self.pid),
            uid: user_ns.uid_to_kernel(self.uid)?,
            gid: user_ns.gid_to_kernel(self.gid)?,
        })
    }
}

/// A control message of a level other than `SOL_SOCKET`'s files and credentials (`cmsg(3)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// `SOL_*`.
    pub level: i32,
    /// Number within the level.
    pub kind: i32,
    /// Its data.
    pub data: Vec<u8>,
}

/// A resolved destination address: what the family's `destination` made of the bytes.
pub type Destination = Arc<dyn Any + Send + Sync>;

/// What goes with the bytes of a message that is sent.
#[derive(Default)]
pub struct SendMsg {
    /// `MSG_*` flags.
    pub flags: u32,
    /// Where to, when it is not the peer.
    pub to: Option<Destination>,
    /// Files that travel with it; taken by the socket when the first bytes go.
    pub rights: Option<Rights>,
    /// Who sends; taken along if the other side wants to know.
    pub creds: Option<Ucred>,
    /// The credentials were given explicitly.
    pub explicit_creds: bool,
    /// Control messages of protocol levels.
    pub control: Vec<Control>,
}

/// What came with the bytes of a message that is received.
#[derive(Default)]
pub struct RecvMsg {
    /// `MSG_*` flags of the call.
    pub flags: u32,
    /// The call will not wait.
    pub nonblocking: bool,
    /// `MSG_*` flags of the result.
    pub out_flags: u32,
    /// Address of the sender; empty bytes for one without a name.
    pub from: Option<Vec<u8>>,
    /// Files that came with it.
    pub rights: Option<Rights>,
    /// Who sent it.
    pub creds: Option<Ucred>,
    /// What else is told of it.
    pub control: Vec<Control>,
}

/// A socket. Never blocks, but for [`Socket::connect`]: an operation that cannot go on returns
/// `EAGAIN`, and the caller waits on [`Socket::wait_queue`].
pub trait Socket: Send + Sync + Any {
    /// Address family (`AF_*`).
    fn family(&self) -> i32;

    /// Kind of communication.
    fn kind(&self) -> Kind;

    /// Protocol number.
    fn protocol(&self) -> i32 {
        0
    }

    /// Options common to all families.
    fn options(&self) -> &Options;

    /// `bind(2)`.
    fn bind(&self, t: &mut CurrentTask, addr: &[u8]) -> Result<()>;

    /// `listen(2)`.
    fn listen(&self, t: &CurrentTask, backlog: i32) -> Result<()>;

    /// Takes a connection off the backlog.
    fn accept(&self) -> Result<Arc<dyn Socket>>;

    /// `connect(2)`; waits unless `nonblocking`.
    fn connect(
        &self,
        t: &mut CurrentTask,
        file: &Arc<File>,
        addr: &[u8],
        nonblocking: bool,
    ) -> Result<()>;

    /// `getsockname(2)`: the raw address.
    fn local_address(&self) -> Result<Vec<u8>>;

    /// `getpeername(2)`. `ENOTCONN`.
    fn peer_address(&self) -> Result<Vec<u8>>;

    /// The peer's address as `accept(2)` reports it, also when the connection is over already.
    fn accepted_from(&self) -> Result<Vec<u8>> {
        self.peer_address()
    }

    /// `shutdown(2)`; `how` is 0, 1 or 2.
    fn shutdown(&self, how: i32) -> Result<()>;

    /// Makes something of a destination address given to `sendto(2)`.
    fn destination(&self, t: &CurrentTask, addr: &[u8]) -> Result<Destination>;

    /// Sends. Returns how many bytes went out; a stream may take fewer than there are.
    fn send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize>;

    /// Receives.
    fn receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize>;

    /// An option that [`Options`] does not know. `ENOPROTOOPT` or `EOPNOTSUPP`.
    fn get_option(&self, t: &CurrentTask, level: i32, name: i32) -> Result<OptionValue>;

    /// The same, where the answer depends on what the program has put in its place (`given`).
    fn answer_option(
        &self,
        t: &CurrentTask,
        (level, name): (i32, i32),
        _given: &mut dyn FnMut() -> Result<i32>,
    ) -> Result<OptionValue> {
        self.get_option(t, level, name)
    }

    /// Sets an option that [`Options`] does not know.
    fn set_option(&self, t: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()>;

    /// The pending error, which is cleared (`SO_ERROR`).
    fn take_error(&self) -> Option<Errno>;

    /// True when it accepts connections (`SO_ACCEPTCONN`).
    fn is_listening(&self) -> bool;

    /// Readiness now.
    fn poll(&self) -> EventMask;

    /// Where changes of readiness are announced.
    fn wait_queue(&self) -> &WaitQueue;

    /// `ioctl(2)`.
    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64>;

    /// Memory that it shares with programs. `ENODEV` if there is none.
    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        Err(Errno::ENODEV)
    }

    /// Waits, before [`release`](Socket::release), until what was sent has arrived: at most so many nanoseconds, or until
    /// a signal comes (`SO_LINGER`).
    fn linger(&self, _t: &mut CurrentTask, _nanos: u64) {}

    /// The open file is gone.
    fn release(&self);

    /// For downcasts within a family.
    fn as_any(&self) -> &dyn Any;
}

/// The open file of a socket.
pub struct SocketFile {
    socket: Arc<dyn Socket>,
    identity: Identity,
    attachments: Attachments,
}

impl SocketFile {
    /// A file for `socket`, owned by whoever has `creds`.
    pub fn open(socket: Arc<dyn Socket>, creds: &Credentials, nonblock: bool) -> Arc<File> {
        let mut flags = OpenFlags::RDWR;
        flags.set(OpenFlags::NONBLOCK, nonblock);
        let identity = Identity::new(creds);
        socket.options().ino.store(identity.ino, std::sync::atomic::Ordering::Relaxed);
        let attachments = Attachments::default();
        File::new(Arc::new(SocketFile { socket, identity, attachments }), None, flags)
    }

    /// The socket.
    pub fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }
}

/// The socket behind an open file. `ENOTSOCK`.
pub fn of(file: &File) -> Result<&Arc<dyn Socket>> {
    file.ops_as::<SocketFile>().map(SocketFile::socket).ok_or(Errno::ENOTSOCK)
}

/// What `close(2)` waits for when it closes the last descriptor of a socket (`SO_LINGER`).
pub fn linger(t: &mut CurrentTask, file: &Arc<File>) {
    if Arc::strong_count(file) > 1 {
        return;
    }
    let Ok(socket) = of(file) else { return };
    let seconds = socket.options().linger().and_then(|n| u64::try_from(n).ok());
    if let Some(seconds) = seconds.filter(|n| *n > 0) {
        socket.linger(t, seconds.saturating_mul(1_000_000_000));
    }
}

impl FileOps for SocketFile {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        self.socket.receive(dst, &mut RecvMsg::default())
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        self.socket.send(src, &mut SendMsg::default())
    }

    fn timeout(&self, write: bool) -> Option<u64> {
        self.socket.options().timeout(write)
    }

    fn sends_sigpipe(&self) -> bool {
        self.socket.kind() == Kind::Stream
    }

    fn poll(&self, _file: &File) -> EventMask {
        self.socket.poll()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.socket.wait_queue())
    }

    fn async_io(&self) -> bool {
        true
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        self.socket.ioctl(task, cmd, arg)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        self.socket.mappable()
    }

    fn attachments(&self) -> Option<&Attachments> {
        Some(&self.attachments)
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(self.identity.attr(SOCKET_DEV, 0o140777, 0)))
    }

    fn link_text(&self) -> Option<String> {
        Some(format!("socket:[{}]", self.identity.ino))
    }

    fn release(&self, _file: &File) {
        self.socket.release();
        unix::rights::socket_closed();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
