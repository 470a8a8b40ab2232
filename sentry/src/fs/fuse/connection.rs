//! A connection with a daemon: requests that wait to be read from `/dev/fuse`, and requests that wait for
//! their reply.
//!
//! Requests and forgotten nodes are held until the daemon reads them. Both are bounded by what it answers: a
//! task has one request under way, and only a reply makes a node that can be forgotten or a file that can be
//! released. A task that is killed takes its request back, so that a daemon that never answers keeps neither
//! tasks nor memory.

use super::abi::{self, Body, InitFlags, Opcode, Parser};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use crate::wait::{EventMask, WaitQueue, Waker};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Requests nobody waits for, of which the replies are still expected; the oldest are forgotten.
const UNATTENDED_MAX: usize = 1024;
/// Most nodes in one `FUSE_BATCH_FORGET`.
const FORGETS_MAX: usize = 64;
/// Bit of the ids of `FUSE_INTERRUPT`s; ids of other requests are even (`FUSE_INT_REQ_BIT`).
const INTERRUPT_BIT: u64 = 1;

/// How long a reply may be, without its header.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// So many bytes.
    Exactly(usize),
    /// Up to so many.
    UpTo(usize),
}

impl Expect {
    fn allows(self, len: usize) -> bool {
        match self {
            Expect::Exactly(n) => len == n,
            Expect::UpTo(max) => len <= max,
        }
    }
}

/// Who makes a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sender {
    /// Ids in the user namespace of the mount.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Thread.
    pub pid: u32,
}

/// A request.
pub struct Request {
    pub(super) opcode: Opcode,
    node: u64,
    sender: Sender,
    body: Vec<u8>,
    expect: Expect,
    /// Who sleeps until the reply is there.
    task: Option<Arc<dyn Waker>>,
    interrupted: AtomicBool,
    done: AtomicBool,
    reply: Mutex<Option<Result<Vec<u8>>>, { rank::LEAF }>,
}

impl Request {
    pub(super) fn new(
        opcode: Opcode,
        node: u64,
        sender: Sender,
        body: Body,
        expect: Expect,
        task: Option<Arc<dyn Waker>>,
    ) -> Arc<Request> {
        Arc::new(Request {
            opcode,
            node,
            sender,
            body: body.0,
            expect,
            task,
            interrupted: AtomicBool::new(false),
            done: AtomicBool::new(false),
            reply: Mutex::new(None),
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    pub(super) fn take_reply(&self) -> Result<Vec<u8>> {
        self.reply.lock().take().unwrap_or(Err(Errno::EIO))
    }

    /// Hands the reply to whoever waits.
    fn finish(&self, reply: Result<Vec<u8>>) {
        *self.reply.lock() = Some(reply);
        self.done.store(true, Ordering::SeqCst);
        if let Some(task) = &self.task {
            task.wake(EventMask::IN);
        }
    }

    fn bytes(&self, unique: u64) -> Vec<u8> {
        message(self.opcode, unique, self.node, self.sender, &self.body)
    }
}

fn message(opcode: Opcode, unique: u64, node: u64, sender: Sender, body: &[u8]) -> Vec<u8> {
    let Sender { uid, gid, pid } = sender;
    let len = (abi::IN_HEADER + body.len()) as u32;
    let header = Body::default().u32(len).u32(opcode as u32).u64(unique).u64(node);
    header.u32(uid).u32(gid).u32(pid).u32(0).bytes(body).0
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// `/dev/fuse` is open, nothing is mounted.
    New,
    /// Mounted.
    Connected,
    /// The daemon is gone, or the mount is.
    Ended,
}

struct State {
    phase: Phase,
    /// The daemon speaks another version.
    refused: bool,
    next: u64,
    /// Not read yet.
    pending: VecDeque<(u64, Arc<Request>)>,
    /// Read, and not answered.
    sent: FxHashMap<u64, Arc<Request>>,
    /// Those of `sent` that nobody waits for, oldest first.
    unattended: VecDeque<u64>,
    interrupts: VecDeque<u64>,
    forgets: VecDeque<(u64, u64)>,
    /// A request was read last: it is the forgotten nodes' turn.
    forgets_next: bool,
}

/// What was agreed upon.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The daemon's minor version.
    pub minor: u32,
    /// Flags both know.
    pub flags: InitFlags,
    /// Most bytes of a write.
    pub max_write: u32,
    /// Most bytes of a read.
    pub max_read: u32,
}

/// See the module's head.
pub struct Connection {
    state: Mutex<State, { rank::LEAF }>,
    /// Who waits for something to read, and who watches for the end.
    pub(super) readers: WaitQueue,
    /// Who waits for the terms.
    pub(super) starters: WaitQueue,
    terms: OnceLock<Terms>,
    /// Operations that the daemon does not know, a bit for each opcode.
    unknown: AtomicU64,
    /// `max_read` of the mount.
    max_read: AtomicU64,
    /// Open files of `/dev/fuse`.
    devices: AtomicU64,
    /// Told of nodes and names that the daemon says have changed.
    pub(super) listener: OnceLock<Box<dyn Fn(Notice) -> Result<()> + Send + Sync>>,
}

/// Something that a daemon told without being asked.
#[derive(Debug, Clone)]
pub enum Notice {
    /// Attributes of a node have changed.
    Inode(u64),
    /// A name in a node has changed.
    Entry(u64, Vec<u8>),
}

impl Default for Connection {
    fn default() -> Self {
        let state = State {
            phase: Phase::New,
            refused: false,
            next: 0,
            pending: VecDeque::new(),
            sent: FxHashMap::default(),
            unattended: VecDeque::new(),
            interrupts: VecDeque::new(),
            forgets: VecDeque::new(),
            forgets_next: false,
        };
        Self {
            state: Mutex::new(state),
            readers: WaitQueue::new(),
            starters: WaitQueue::new(),
            terms: OnceLock::new(),
            unknown: AtomicU64::new(0),
            max_read: AtomicU64::new(0),
            devices: AtomicU64::new(1),
            listener: OnceLock::new(),
        }
    }
}

impl Connection {
    /// Begins: the daemon is asked for its terms. `EINVAL` if something is mounted with it already.
    pub(super) fn connect(&self, max_read: u32) -> Result<()> {
        {
            let mut state = self.state.lock();
            if state.phase != Phase::New {
                return Err(Errno::EINVAL);
            }
            state.phase = Phase::Connected;
        }
        self.max_read.store(u64::from(max_read), Ordering::Relaxed);
        const MAX_READAHEAD: u32 = 128 << 10;
        let (major, minor) = abi::VERSION;
        let mut body =
            Body::default().u32(major).u32(minor).u32(MAX_READAHEAD).u32(abi::OFFERED.bits());
        body.0.resize(64, 0);
        let expect = Expect::UpTo(64);
        let sender = Sender::default();
        self.queue(Request::new(Opcode::Init, 0, sender, body, expect, None))
    }

    /// True while something is mounted and the daemon lives.
    pub(super) fn is_connected(&self) -> bool {
        self.state.lock().phase == Phase::Connected
    }

    /// True once a mount has begun with it.
    pub(super) fn is_used(&self) -> bool {
        self.state.lock().phase != Phase::New
    }

    /// What was agreed upon; `None` before the daemon has answered.
    pub(super) fn terms(&self) -> Option<Terms> {
        self.terms.get().copied()
    }

    /// Puts a request where the daemon finds it. `ENOTCONN` without a daemon.
    pub(super) fn queue(&self, request: Arc<Request>) -> Result<()> {
        {
            let mut state = self.state.lock();
            if state.phase != Phase::Connected {
                return Err(Errno::ENOTCONN);
            }
            if state.refused {
                return Err(Errno::ECONNREFUSED);
            }
            state.next += 2;
            let unique = state.next;
            state.pending.push_back((unique, request));
        }
        self.readers.notify(EventMask::READABLE);
        Ok(())
    }

    /// Notes that the kernel no longer knows a node.
    pub(super) fn forget(&self, node: u64, lookups: u64) {
        {
            let mut state = self.state.lock();
            if state.phase != Phase::Connected {
                return;
            }
            state.forgets.push_back((node, lookups));
        }
        self.readers.notify(EventMask::READABLE);
    }

    /// The task that waits for a request has a signal: the daemon is told, once.
    pub(super) fn interrupt(&self, request: &Arc<Request>) {
        if request.interrupted.swap(true, Ordering::SeqCst) {
            return;
        }
        {
            let mut state = self.state.lock();
            let sent = state.sent.iter().find(|(_, r)| Arc::ptr_eq(r, request));
            let Some(unique) = sent.map(|(unique, _)| *unique) else { return };
            if state.phase != Phase::Connected || self.is_unknown(Opcode::Interrupt) {
                return;
            }
            state.interrupts.push_back(unique);
        }
        self.readers.notify(EventMask::READABLE);
    }

    /// Nobody waits for a request any more.
    pub(super) fn abandon(&self, request: &Arc<Request>) {
        let mut state = self.state.lock();
        state.pending.retain(|(_, other)| !Arc::ptr_eq(other, request));
        let sent = state.sent.iter().find(|(_, r)| Arc::ptr_eq(r, request));
        if let Some(unique) = sent.map(|(unique, _)| *unique) {
            state.sent.remove(&unique);
        }
    }

    /// Whether the daemon has said that it does not know an operation.
    pub(super) fn is_unknown(&self, opcode: Opcode) -> bool {
        self.unknown.load(Ordering::Relaxed) & 1 << (opcode as u32) != 0
    }

    /// Notes that the daemon does not know an operation.
    pub(super) fn set_unknown(&self, opcode: Opcode) {
        self.unknown.fetch_or(1 << (opcode as u32), Ordering::Relaxed);
    }

    /// Ends it: the daemon is gone, or the mount is. Who waits gets `ECONNABORTED`.
    pub(super) fn end(&self) {
        let requests: Vec<Arc<Request>> = {
            let mut state = self.state.lock();
            state.phase = Phase::Ended;
            state.forgets.clear();
            state.interrupts.clear();
            state.unattended.clear();
            let pending = std::mem::take(&mut state.pending);
            let sent = std::mem::take(&mut state.sent);
            pending.into_iter().map(|(_, request)| request).chain(sent.into_values()).collect()
        };
        for request in requests {
            request.finish(Err(Errno::ECONNABORTED));
        }
        self.starters.notify(EventMask::IN | EventMask::ERR);
        self.readers.notify(EventMask::READABLE | EventMask::ERR);
    }

    /// Another open file stands for it (`FUSE_DEV_IOC_CLONE`).
    pub(super) fn add_device(&self) {
        self.devices.fetch_add(1, Ordering::Relaxed);
    }

    /// An open file of it is closed; the last one ends it.
    pub(super) fn device_closed(&self) {
        if self.devices.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end();
        }
    }

    /// True if there is something to read.
    pub(super) fn is_readable(&self) -> bool {
        let state = self.state.lock();
        !state.pending.is_empty() || !state.interrupts.is_empty() || !state.forgets.is_empty()
    }

    /// The next message for the daemon, whose buffer has `room` bytes. `EAGAIN` if there is none, `EPERM` before
    /// anything is mounted, `ENODEV` after the end, `EINVAL` for a buffer that is too small for some.
    pub(super) fn next_message(&self, room: usize) -> Result<(Vec<u8>, Option<u64>)> {
        let max_write = self.terms().map_or(0, |terms| terms.max_write as usize);
        loop {
            let (message, too_large) = {
                let mut state = self.state.lock();
                match state.phase {
                    Phase::New => return Err(Errno::EPERM),
                    Phase::Ended => return Err(Errno::ENODEV),
                    Phase::Connected => {}
                }
                if room < abi::MIN_READ_BUFFER.max(abi::IN_HEADER + 40 + max_write) {
                    return Err(Errno::EINVAL);
                }
                self.pick(&mut state, room).ok_or(Errno::EAGAIN)?
            };
            match too_large {
                Some(request) => {
                    // It can never be read.
                    let e =
                        if request.opcode == Opcode::SetXattr { Errno::E2BIG } else { Errno::EIO };
                    request.finish(Err(e));
                }
                None => return Ok(message),
            }
        }
    }

    /// The next message and its number, or the request that is too large for the buffer.
    fn pick(
        &self,
        state: &mut State,
        room: usize,
    ) -> Option<((Vec<u8>, Option<u64>), Option<Arc<Request>>)> {
        if let Some(unique) = state.interrupts.pop_front() {
            let body = Body::default().u64(unique).0;
            let id = unique | INTERRUPT_BIT;
            return Some((
                (message(Opcode::Interrupt, id, 0, Sender::default(), &body), None),
                None,
            ));
        }
        let turn = state.forgets_next || state.pending.is_empty();
        if turn && !state.forgets.is_empty() {
            state.forgets_next = false;
            return Some(((self.forgets(state), None), None));
        }
        let (unique, request) = state.pending.pop_front()?;
        state.forgets_next = true;
        let bytes = request.bytes(unique);
        if bytes.len() > room {
            return Some(((Vec::new(), None), Some(request)));
        }
        if request.task.is_none() {
            state.unattended.push_back(unique);
            if state.unattended.len() > UNATTENDED_MAX
                && let Some(oldest) = state.unattended.pop_front()
            {
                state.sent.remove(&oldest);
            }
        } else if request.interrupted.load(Ordering::SeqCst) {
            state.interrupts.push_back(unique);
        }
        state.sent.insert(unique, request);
        Some(((bytes, Some(unique)), None))
    }

    /// One message about forgotten nodes.
    fn forgets(&self, state: &mut State) -> Vec<u8> {
        const BATCH_SINCE: u32 = 16;
        state.next += 2;
        let unique = state.next;
        let batch = self.terms().is_some_and(|terms| terms.minor >= BATCH_SINCE);
        let sender = Sender::default();
        if !batch || state.forgets.len() == 1 {
            let (node, lookups) = state.forgets.pop_front().unwrap_or_default();
            let body = Body::default().u64(lookups);
            return message(Opcode::Forget, unique, node, sender, &body.0);
        }
        let count = state.forgets.len().min(FORGETS_MAX);
        let mut body = Body::default().u32(count as u32).u32(0);
        for (node, lookups) in state.forgets.drain(..count) {
            body = body.u64(node).u64(lookups);
        }
        message(Opcode::BatchForget, unique, 0, sender, &body.0)
    }

    /// A message could not be given to the daemon.
    pub(super) fn undelivered(&self, unique: u64) {
        let request = self.state.lock().sent.remove(&unique);
        if let Some(request) = request {
            request.finish(Err(Errno::EIO));
        }
    }

    /// What the daemon wrote: a reply, or a notice. `EINVAL` if it is neither, `ENOENT` if nobody waits for it.
    pub(super) fn received(&self, bytes: &[u8]) -> Result<()> {
        let mut parser = Parser(bytes);
        let invalid = |_| Errno::EINVAL;
        let len = parser.u32().map_err(invalid)?;
        let error = parser.u32().map_err(invalid)? as i32;
        let unique = parser.u64().map_err(invalid)?;
        if len as usize != bytes.len() {
            return Err(Errno::EINVAL);
        }
        if unique == 0 {
            return self.noticed(error, parser);
        }
        if error <= -512 || error > 0 {
            return Err(Errno::EINVAL);
        }
        let body = parser.0;
        let request = {
            let mut state = self.state.lock();
            if state.phase != Phase::Connected {
                return Err(Errno::ENOENT);
            }
            if unique & INTERRUPT_BIT != 0 {
                let of = unique & !INTERRUPT_BIT;
                if !state.sent.contains_key(&of) {
                    return Err(Errno::ENOENT);
                }
                if !body.is_empty() {
                    return Err(Errno::EINVAL);
                }
                match -error {
                    libc::ENOSYS => self.set_unknown(Opcode::Interrupt),
                    libc::EAGAIN => state.interrupts.push_back(of),
                    _ => {}
                }
                return Ok(());
            }
            state.sent.remove(&unique).ok_or(Errno::ENOENT)?
        };
        let wrong = if error != 0 { !body.is_empty() } else { !request.expect.allows(body.len()) };
        let reply = match error {
            _ if wrong => Err(Errno::EIO),
            0 => Ok(body.to_vec()),
            _ => Err(Errno::from_raw(-error)),
        };
        if request.opcode == Opcode::Init {
            self.agreed(reply);
        } else {
            request.finish(reply);
        }
        if wrong { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// The daemon's answer to `FUSE_INIT`.
    fn agreed(&self, reply: Result<Vec<u8>>) {
        match reply.and_then(|bytes| self.read_terms(&bytes)) {
            Ok(terms) => {
                let _ = self.terms.set(terms);
            }
            Err(_) => self.state.lock().refused = true,
        }
        self.starters.notify(EventMask::IN);
    }

    /// `struct fuse_init_out`.
    fn read_terms(&self, bytes: &[u8]) -> Result<Terms> {
        const PAGE: u32 = 4096;
        const DEFAULT_PAGES: u32 = 32;
        let mut parser = Parser(bytes);
        let (major, minor) = (parser.u32()?, parser.u32()?);
        if major != abi::VERSION.0 {
            return Err(Errno::EIO);
        }
        let mut terms = Terms { minor, flags: InitFlags::empty(), max_write: PAGE, max_read: PAGE };
        let mut pages = DEFAULT_PAGES;
        if minor >= 5 {
            let (_readahead, flags) = (parser.u32()?, parser.u32()?);
            terms.flags = InitFlags::from_bits_truncate(flags);
            let (_background, _congestion) = (parser.u16()?, parser.u16()?);
            terms.max_write = parser.u32()?.max(PAGE);
            let _granularity = parser.u32().unwrap_or(1);
            if terms.flags.contains(InitFlags::MAX_PAGES)
                && let Ok(wanted) = parser.u16()
            {
                pages = u32::from(wanted).clamp(1, abi::MAX_DATA / PAGE);
            }
        }
        terms.max_write = terms.max_write.min(pages * PAGE);
        if !terms.flags.contains(InitFlags::BIG_WRITES) {
            terms.max_write = PAGE;
        }
        let wanted = u32::try_from(self.max_read.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        terms.max_read = wanted.max(PAGE).min(pages * PAGE);
        Ok(terms)
    }

    /// True if the daemon speaks another version.
    pub(super) fn is_refused(&self) -> bool {
        self.state.lock().refused
    }

    fn noticed(&self, code: i32, mut parser: Parser<'_>) -> Result<()> {
        let invalid = |_| Errno::EINVAL;
        let Some(listener) = self.listener.get() else { return Err(Errno::EINVAL) };
        match code {
            abi::notice::INVAL_INODE => {
                let node = parser.u64().map_err(invalid)?;
                parser.bytes(16).map_err(invalid)?;
                if !parser.0.is_empty() {
                    return Err(Errno::EINVAL);
                }
                listener(Notice::Inode(node))
            }
            abi::notice::INVAL_ENTRY | abi::notice::DELETE => {
                let parent = parser.u64().map_err(invalid)?;
                if code == abi::notice::DELETE {
                    parser.u64().map_err(invalid)?;
                }
                let (len, _flags) =
                    (parser.u32().map_err(invalid)?, parser.u32().map_err(invalid)?);
                if len as usize > abi::NAME_MAX {
                    return Err(Errno::ENAMETOOLONG);
                }
                // The NUL behind the name is counted apart.
                match parser.0.split_last() {
                    Some((0, name)) if name.len() == len as usize => {
                        listener(Notice::Entry(parent, name.to_vec()))
                    }
                    _ => Err(Errno::EINVAL),
                }
            }
            _ => Err(Errno::EINVAL),
        }
    }
}
