//! Message queues (`msgget(2)`, `msgsnd(2)`, `msgrcv(2)`, `msgctl(2)`).
//!
//! As in Linux, a message that a sleeper waits for is handed to it and never enters the queue.

use super::ids::{Ids, Object};
use super::limits::Limits;
use super::{Permissions, now};
use crate::errno::{Errno, Result};
use crate::kernel::namespace::IpcNamespace;
use crate::kernel::{Credentials, CurrentTask, Wake};
use crate::sync::{Mutex, rank};
use crate::wait::{EventMask, Waker};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `MSGMNI`: queues of a namespace.
pub const MSGMNI: usize = 32000;
/// `MSGMAX`: bytes of one message.
pub const MSGMAX: u64 = 8192;
/// `MSGMNB`: bytes of one queue, unless `msgctl(2)` says otherwise.
pub const MSGMNB: u64 = 16384;
/// How many bytes the sentry has memory for (`ENOMEM`), in all namespaces together.
pub const MOST: usize = 64 << 20;
/// What a message costs beyond its text.
const OVERHEAD: usize = 64;

const CAP_SYS_RESOURCE: u32 = 24;

/// `MSG_NOERROR`: a text that is too long is cut.
pub const MSG_NOERROR: u32 = 0o10000;
/// `MSG_EXCEPT`: any type but this.
pub const MSG_EXCEPT: u32 = 0o20000;
/// `MSG_COPY`: a copy of the n-th message.
pub const MSG_COPY: u32 = 0o40000;
/// `IPC_NOWAIT`
pub const IPC_NOWAIT: u32 = 0o4000;

static BYTES: AtomicUsize = AtomicUsize::new(0);

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type, at least 1; in POSIX queues its priority.
    pub kind: i64,
    /// What it says.
    pub text: Vec<u8>,
}

impl Message {
    /// A new one. `ENOMEM` when there are too many.
    pub fn new(kind: i64, text: Vec<u8>) -> Result<Message> {
        let size = text.len() + OVERHEAD;
        let room = |n: usize| n.checked_add(size).filter(|n| *n <= MOST);
        let got = BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        got.map(|_| Message { kind, text }).map_err(|_| Errno::ENOMEM)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        BYTES.fetch_sub(self.text.len() + OVERHEAD, Ordering::Relaxed);
    }
}

/// Which message a receiver wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The first.
    Any,
    /// The first of a type.
    Type(i64),
    /// The first of any other type.
    Not(i64),
    /// The first of the lowest type up to this.
    UpTo(i64),
}

impl Want {
    /// As `msgrcv(2)` says it.
    pub fn decode(kind: i64, flags: u32) -> Want {
        match kind {
            0 => Want::Any,
            i64::MIN..0 => Want::UpTo(kind.checked_neg().unwrap_or(i64::MAX)),
            _ if flags & MSG_EXCEPT != 0 => Want::Not(kind),
            _ => Want::Type(kind),
        }
    }

    fn fits(self, kind: i64) -> bool {
        match self {
            Want::Any => true,
            Want::Type(want) => kind == want,
            Want::Not(other) => kind != other,
            Want::UpTo(highest) => kind <= highest,
        }
    }
}

struct Receiver {
    id: u64,
    want: Want,
    /// Longest text it takes; `None`: it cuts what is longer.
    longest: Option<usize>,
    pid: i32,
    waker: Arc<dyn Waker>,
}

struct State {
    perm: Permissions,
    /// Seconds since the epoch: sent, received, changed.
    times: [i64; 3],
    /// Sender and receiver of the latest message.
    pids: [i32; 2],
    bytes: u64,
    max_bytes: u64,
    messages: VecDeque<Message>,
    receivers: VecDeque<Receiver>,
    /// Results for receivers, by their id.
    done: BTreeMap<u64, Result<Message>>,
    next_receiver: u64,
    senders: VecDeque<(u64, Arc<dyn Waker>)>,
    next_sender: u64,
    removed: bool,
}

/// A message queue.
pub struct Queue {
    state: Mutex<State, { rank::LEAF }>,
}

/// A copy of a queue's description for `IPC_STAT`.
pub struct Description {
    /// Who may use it.
    pub perm: Permissions,
    /// Seconds since the epoch: sent, received, changed.
    pub times: [i64; 3],
    /// Bytes, messages, most bytes.
    pub sizes: [u64; 3],
    /// Sender and receiver of the latest message.
    pub pids: [i32; 2],
}

/// The queues of a namespace.
pub type Queues = Ids<Queue>;

type Wakers = Vec<Arc<dyn Waker>>;

fn wake(wakers: Wakers) {
    for waker in wakers {
        waker.wake(EventMask::READABLE);
    }
}

impl State {
    fn has_room(&self, len: usize) -> bool {
        let one_more = self.messages.len() as u64 + 1;
        self.bytes.saturating_add(len as u64) <= self.max_bytes && one_more <= self.max_bytes
    }

    /// Gives a message to the first receiver that wants it, or puts it into the queue.
    fn deliver(&mut self, message: Message, pid: i32, wakers: &mut Wakers) {
        self.times[0] = now();
        self.pids[0] = pid;
        while let Some(at) = self.receivers.iter().position(|r| r.want.fits(message.kind)) {
            let Some(receiver) = self.receivers.remove(at) else { break };
            wakers.push(receiver.waker);
            if receiver.longest.is_some_and(|longest| message.text.len() > longest) {
                self.done.insert(receiver.id, Err(Errno::E2BIG));
                continue;
            }
            self.pids[1] = receiver.pid;
            self.times[1] = now();
            self.done.insert(receiver.id, Ok(message));
            return;
        }
        self.bytes += message.text.len() as u64;
        self.messages.push_back(message);
    }

    fn position(&self, want: Want) -> Option<usize> {
        let kinds = self.messages.iter().map(|m| m.kind).enumerate();
        let mut hits = kinds.filter(|(_, kind)| want.fits(*kind));
        match want {
            Want::UpTo(_) => hits.min_by_key(|(at, kind)| (*kind, *at)).map(|(at, _)| at),
            _ => hits.next().map(|(at, _)| at),
        }
    }

    /// Takes the message that is wanted out of the queue. `ENOMSG`, `E2BIG`.
    fn take(&mut self, want: Want, longest: Option<usize>, pid: i32) -> Result<(Message, Wakers)> {
        let at = self.position(want).ok_or(Errno::ENOMSG)?;
        let len = self.messages.get(at).map_or(0, |m| m.text.len());
        if longest.is_some_and(|longest| len > longest) {
            return Err(Errno::E2BIG);
        }
        let message = self.messages.remove(at).ok_or(Errno::ENOMSG)?;
        self.bytes -= len as u64;
        self.times[1] = now();
        self.pids[1] = pid;
        // Every sender looks whether its message fits now.
        Ok((message, self.senders.iter().map(|(_, waker)| waker.clone()).collect()))
    }
}

impl Object for Queue {
    fn permissions(&self) -> Permissions {
        self.state.lock().perm
    }
}

impl Queue {
    fn new(perm: Permissions, max_bytes: u64) -> Queue {
        Queue {
            state: Mutex::new(State {
                perm,
                times: [0, 0, now()],
                pids: [0, 0],
                bytes: 0,
                max_bytes,
                messages: VecDeque::new(),
                receivers: VecDeque::new(),
                done: BTreeMap::new(),
                next_receiver: 0,
                senders: VecDeque::new(),
                next_sender: 0,
                removed: false,
            }),
        }
    }

    /// `IPC_STAT`
    pub fn describe(&self) -> Description {
        let s = self.state.lock();
        let sizes = [s.bytes, s.messages.len() as u64, s.max_bytes];
        Description { perm: s.perm, times: s.times, sizes, pids: s.pids }
    }

    /// `IPC_SET`. `EPERM` for more bytes than usual without `CAP_SYS_RESOURCE`.
    pub fn set(
        &self,
        ns: &IpcNamespace,
        creds: &Credentials,
        (uid, gid, mode): (u32, u32, u32),
        max_bytes: u64,
    ) -> Result<()> {
        if max_bytes > ns.limits.msgmnb.load(Ordering::Relaxed) && !creds.has(CAP_SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        let mut wakers = Wakers::new();
        {
            let mut state = self.state.lock();
            state.perm.change(uid, gid, mode);
            state.max_bytes = max_bytes;
            state.times[2] = now();
            wakers.extend(state.senders.iter().map(|(_, waker)| waker.clone()));
        }
        wake(wakers);
        Ok(())
    }

    /// `MSG_COPY`: a copy of the message at a place. `ENOMSG`, `E2BIG`.
    pub fn copy(&self, at: i64, longest: Option<usize>) -> Result<Message> {
        let state = self.state.lock();
        let at = usize::try_from(at).map_err(|_| Errno::ENOMSG)?;
        let message = state.messages.get(at).ok_or(Errno::ENOMSG)?;
        if longest.is_some_and(|longest| message.text.len() > longest) {
            return Err(Errno::E2BIG);
        }
        Message::new(message.kind, message.text.clone())
    }

    /// Ends everyone's sleep with `EIDRM`.
    fn retire(&self) {
        let mut wakers = Wakers::new();
        let mut messages = VecDeque::new();
        {
            let mut state = self.state.lock();
            state.removed = true;
            std::mem::swap(&mut messages, &mut state.messages);
            for receiver in std::mem::take(&mut state.receivers) {
                state.done.insert(receiver.id, Err(Errno::EIDRM));
                wakers.push(receiver.waker);
            }
            wakers.extend(std::mem::take(&mut state.senders).into_iter().map(|(_, w)| w));
        }
        wake(wakers);
    }
}

/// `msgget(2)`.
pub fn get(t: &CurrentTask, key: i32, flags: u32) -> Result<i32> {
    let ns = &*t.namespaces().ipc;
    let by = (ns, &**t.creds());
    let most = Limits::count(&ns.limits.msgmni);
    let bounds = (most, &ns.limits.msg_next_id);
    ns.msg.get(
        by,
        (key, flags),
        bounds,
        |_| Ok(()),
        |perm| Ok(Queue::new(perm, ns.limits.msgmnb.load(Ordering::Relaxed))),
    )
}

/// `msgsnd(2)`.
pub fn send(t: &mut CurrentTask, id: i32, message: Message, nowait: bool) -> Result<()> {
    let namespaces = t.namespaces();
    let ns = &*namespaces.ipc;
    let queue = ns.msg.find(id)?;
    let pid = t.tgid();
    let mut ticket = None;
    let leave = |state: &mut State, ticket: Option<u64>| {
        state.senders.retain(|(id, _)| Some(*id) != ticket);
    };
    loop {
        let allowed = queue.permissions().check(ns, t.creds(), 2);
        let mut wakers = Wakers::new();
        {
            let mut state = queue.state.lock();
            let error = match allowed {
                Err(e) => Some(e),
                Ok(()) if state.removed => Some(Errno::EIDRM),
                Ok(()) if state.has_room(message.text.len()) => None,
                Ok(()) if nowait => Some(Errno::EAGAIN),
                Ok(()) if ticket.is_none() => {
                    state.next_sender += 1;
                    ticket = Some(state.next_sender);
                    let entry = (state.next_sender, t.waker());
                    state.senders.push_back(entry);
                    Some(Errno::ERESTARTSYS)
                }
                Ok(()) => Some(Errno::ERESTARTSYS),
            };
            match error {
                Some(Errno::ERESTARTSYS) => {}
                Some(e) => {
                    leave(&mut state, ticket);
                    return Err(e);
                }
                None => {
                    leave(&mut state, ticket);
                    state.deliver(message, pid, &mut wakers);
                    drop(state);
                    wake(wakers);
                    return Ok(());
                }
            }
        }
        if t.block(None) == Wake::Interrupted {
            leave(&mut queue.state.lock(), ticket);
            return Err(Errno::ERESTARTNOHAND);
        }
    }
}

/// `msgrcv(2)`, without `MSG_COPY`.
pub fn receive(
    t: &mut CurrentTask,
    id: i32,
    want: Want,
    longest: Option<usize>,
    nowait: bool,
) -> Result<Message> {
    let namespaces = t.namespaces();
    let ns = &*namespaces.ipc;
    let queue = ns.msg.find(id)?;
    let pid = t.tgid();
    queue.permissions().check(ns, t.creds(), 4)?;
    let ticket = {
        let mut state = queue.state.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        match state.take(want, longest, pid) {
            Ok((message, wakers)) => {
                drop(state);
                wake(wakers);
                return Ok(message);
            }
            Err(Errno::ENOMSG) if !nowait => {
                state.next_receiver += 1;
                let id = state.next_receiver;
                let receiver = Receiver { id, want, longest, pid, waker: t.waker() };
                state.receivers.push_back(receiver);
                id
            }
            Err(e) => return Err(e),
        }
    };
    loop {
        let wake = t.block(None);
        let mut state = queue.state.lock();
        if let Some(result) = state.done.remove(&ticket) {
            return result;
        }
        if wake == Wake::Interrupted {
            state.receivers.retain(|r| r.id != ticket);
            return Err(Errno::ERESTARTNOHAND);
        }
    }
}

/// The queue, for whoever may read it. `EACCES`.
pub fn readable(t: &CurrentTask, id: i32) -> Result<Arc<Queue>> {
    let ns = &*t.namespaces().ipc;
    let queue = ns.msg.find(id)?;
    queue.permissions().check(ns, t.creds(), 4)?;
    Ok(queue)
}

/// `IPC_RMID`
pub fn remove(ns: &IpcNamespace, creds: &Credentials, id: i32) -> Result<()> {
    let queue = ns.msg.find(id)?;
    queue.permissions().check_owner(ns, creds)?;
    ns.msg.remove(id);
    queue.retire();
    Ok(())
}

/// The contents of `/proc/sysvipc/msg`.
pub fn proc_text(ns: &IpcNamespace) -> String {
    use std::fmt::Write;
    let mut out = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      \
         stime      rtime      ctime\n",
    );
    for (id, queue) in ns.msg.all().0 {
        let Description { perm: p, times, sizes, pids } = queue.describe();
        let _ = writeln!(
            out,
            "{:10} {id:10}  {:4o}  {:10} {:10} {:5} {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10}",
            p.key,
            p.mode,
            sizes[0],
            sizes[1],
            pids[0],
            pids[1],
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            times[0],
            times[1],
            times[2]
        );
    }
    out
}
