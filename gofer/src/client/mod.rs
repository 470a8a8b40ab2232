//! The sentry's side of the protocol.
//!
//! A [`Client`] is shared by all threads of the sentry. Each call is one round trip on the channel
//! of the CPU that the caller runs on (a wake-up across CPUs costs many times the work asked for).
//! Calls block in the host and are not interrupted: the gofer answers or dies.
//!
//! When the gofer is gone, or breaks the protocol, every call returns [`ClientError::GoferDied`],
//! and the callback given to [`Client::on_death`] runs once.

pub mod calls;
mod channels;
mod error;
mod modify;
mod query;
mod watch;
mod xattr;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use parking_lot::Mutex;

use crate::protocol::{
    At, Bytes, Envelope, MAGIC, MAX_FORGET, NodeId, Reply, Request, Transport, VERSION, join,
};
use channels::Channels;
pub use error::ClientError;
pub use modify::Created;
pub use watch::Watcher;

/// Result of a call to the gofer.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// How many identifiers may wait to be given back before that alone is worth a message.
const FORGET_HIGH_WATER: usize = MAX_FORGET / 2;

type DeathCallback = Box<dyn FnOnce() + Send>;

/// A connection to a gofer.
pub struct Client {
    channels: Channels,
    exports: u32,
    forgotten: Mutex<Vec<NodeId>>,
    dead: AtomicBool,
    on_death: Mutex<Option<DeathCallback>>,
    /// A second descriptor of the first channel, to wait for its end.
    death: OwnedFd,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Client")
            .field("exports", &self.exports)
            .field("dead", &self.is_dead())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Opens the channels whose other ends a gofer serves, in the same order.
    ///
    /// Blocks until the gofer has answered on the first one; the others open with their first use.
    /// Fails when the gofer dies first or speaks another version.
    pub fn connect(sockets: Vec<OwnedFd>) -> Result<Self> {
        let Some(first) = sockets.first() else {
            return Err(ClientError::Protocol("no channel"));
        };
        let death = first.try_clone().map_err(|_| ClientError::Protocol("out of descriptors"))?;
        let mut client = Self {
            channels: Channels::new(sockets),
            exports: 0,
            forgotten: Mutex::new(Vec::new()),
            dead: AtomicBool::new(false),
            on_death: Mutex::new(None),
            death,
        };
        client.exports = client.channels.open_first(Self::hello)?;
        Ok(client)
    }

    /// Number of exports the gofer serves; [`Client::attach`] takes an index below it.
    pub fn exports(&self) -> u32 {
        self.exports
    }

    /// Registers what to do when the gofer dies: runs once, on whichever thread finds out first,
    /// and at once if it is dead already. Replaces an earlier registration.
    ///
    /// A thread finds out by a call that fails or by [`Client::wait_for_death`].
    pub fn on_death(&self, callback: impl FnOnce() + Send + 'static) {
        *self.on_death.lock() = Some(Box::new(callback));
        if self.is_dead() {
            self.run_death_callback();
        }
    }

    /// Whether the gofer was found dead.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// A descriptor that polls as hung up (`POLLHUP`) once the gofer is gone. Ask for no other
    /// event, and do not read from it.
    pub fn death_fd(&self) -> BorrowedFd<'_> {
        self.death.as_fd()
    }

    /// Blocks until the gofer is gone (or [`Client::close`] is called), then has every call fail
    /// and runs the callback.
    pub fn wait_for_death(&self) {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::from_borrowed_fd(self.death.as_fd(), PollFlags::empty())];
        // An error other than an interruption means the same: it is no longer there.
        while let Ok(0) | Err(rustix::io::Errno::INTR) = poll(&mut fds, None) {}
        self.declare_dead();
    }

    /// Ends the connection: the gofer exits, and every later call fails.
    pub fn close(&self) {
        self.declare_dead();
    }

    /// Gives an identifier back, so that the gofer closes its file.
    ///
    /// Usually costs nothing: identifiers travel with the next request. Giving one back twice, or
    /// one that a request of another thread still names, makes that request fail with `EBADF`.
    pub fn forget(&self, node: NodeId) {
        self.forget_all(&[node]);
    }

    /// Gives several identifiers back, see [`Client::forget`].
    pub fn forget_all(&self, nodes: &[NodeId]) {
        let waiting = {
            let mut forgotten = self.forgotten.lock();
            forgotten.extend_from_slice(nodes);
            forgotten.len()
        };
        if waiting >= FORGET_HIGH_WATER {
            // Nothing is lost on failure: the gofer is dead, and its files with it.
            let _ = self.flush_forgotten();
        }
    }

    /// Sends all identifiers that wait to be given back.
    pub fn flush_forgotten(&self) -> Result<()> {
        while !self.forgotten.lock().is_empty() {
            self.done(Request::Nop)?;
        }
        Ok(())
    }

    fn hello(transport: &mut Transport) -> Result<u32> {
        let request = Request::Hello { magic: MAGIC, version: VERSION };
        transport.send(&Envelope { forget: Vec::new(), request }, None)?;
        match transport.receive()? {
            (Reply::Hello { version: VERSION, exports }, None) => Ok(exports),
            (Reply::Hello { .. }, None) => {
                Err(ClientError::Protocol("the gofer speaks another version"))
            }
            (Reply::Error(errno), None) => Err(ClientError::host(errno)),
            _ => Err(ClientError::Protocol("unexpected reply to the handshake")),
        }
    }

    /// One round trip; `read` takes what it needs out of the reply.
    fn call<T>(
        &self,
        request: Request<'_>,
        read: impl FnOnce(Reply<'_>, Option<OwnedFd>) -> Result<T>,
    ) -> Result<T> {
        self.conversation(|exchange| exchange.round_trip(request, read))
    }

    /// Several round trips on one channel, which nobody else uses in between.
    fn conversation<T>(&self, talk: impl FnOnce(&mut Exchange<'_>) -> Result<T>) -> Result<T> {
        if self.is_dead() {
            return Err(ClientError::GoferDied);
        }
        let result = self
            .channels
            .with(Self::hello, |transport| talk(&mut Exchange { client: self, transport }));
        match result {
            Err(ClientError::Protocol(what)) => {
                tracing::error!("gofer connection given up: {what}");
                self.declare_dead();
                Err(ClientError::GoferDied)
            }
            Err(ClientError::GoferDied) => {
                self.declare_dead();
                Err(ClientError::GoferDied)
            }
            result => result,
        }
    }

    fn done(&self, request: Request<'_>) -> Result<()> {
        self.call(request, |reply, _| match reply {
            Reply::Done => Ok(()),
            _ => Err(UNEXPECTED),
        })
    }

    fn bytes(&self, request: Request<'_>) -> Result<Vec<u8>> {
        self.call(request, |reply, _| match reply {
            Reply::Bytes(bytes) => Ok(bytes.0.into_owned()),
            _ => Err(UNEXPECTED),
        })
    }

    fn declare_dead(&self) {
        if !self.dead.swap(true, Ordering::AcqRel) {
            self.channels.shutdown();
        }
        self.run_death_callback();
    }

    fn run_death_callback(&self) {
        let callback = self.on_death.lock().take();
        if let Some(callback) = callback {
            callback();
        }
    }

    /// Takes up to a message's worth of identifiers to give back.
    fn take_forgotten(&self) -> Vec<NodeId> {
        let mut forgotten = self.forgotten.lock();
        let rest = forgotten.len().saturating_sub(MAX_FORGET);
        forgotten.split_off(rest)
    }
}

/// What is said when a reply does not belong to its request.
const UNEXPECTED: ClientError = ClientError::Protocol("unexpected reply");

/// A channel held for one or more round trips.
struct Exchange<'a> {
    client: &'a Client,
    transport: &'a mut Transport,
}

impl Exchange<'_> {
    fn round_trip<T>(
        &mut self,
        request: Request<'_>,
        read: impl FnOnce(Reply<'_>, Option<OwnedFd>) -> Result<T>,
    ) -> Result<T> {
        let envelope = Envelope { forget: self.client.take_forgotten(), request };
        self.transport.send(&envelope, None)?;
        match self.transport.receive()? {
            (Reply::Error(errno), _) => Err(ClientError::host(errno)),
            (reply, fd) => read(reply, fd),
        }
    }
}

/// An argument of at most `limit` bytes, so that every request fits a message.
fn bounded(bytes: &[u8], limit: usize, errno: Errno) -> Result<Bytes<'_>> {
    if bytes.len() > limit {
        return Err(ClientError::Errno(errno));
    }
    Ok(Bytes::borrowed(bytes))
}

/// A node and the names beneath it, joined and checked.
struct Path {
    node: NodeId,
    joined: Vec<u8>,
}

impl Path {
    fn new(node: NodeId, names: &[&[u8]]) -> Result<Self> {
        let mut joined = Vec::new();
        join(names, &mut joined).map_err(|error| ClientError::host(error.errno()))?;
        Ok(Self { node, joined })
    }

    fn at(&self) -> At<'_> {
        At { node: self.node, path: Bytes::borrowed(&self.joined) }
    }
}
