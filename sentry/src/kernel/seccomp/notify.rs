//! Supervisors: programs that decide on the system calls of others (`seccomp_unotify(2)`).

use super::Verdict;
use super::data::Data;
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Rlimit, Task, Wake};
use crate::mm::UserAddr;
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, File, FileOps, OpenFlags};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

/// `SECCOMP_IOCTL_NOTIF_RECV`
pub const NOTIF_RECV: u32 = 0xc050_2100;
const NOTIF_SEND: u32 = 0xc018_2101;
const NOTIF_ID_VALID: u32 = 0x4008_2102;
const NOTIF_ID_VALID_OLD: u32 = 0x8008_2102;
const NOTIF_ADDFD: u32 = 0x4018_2103;
const NOTIF_SET_FLAGS: u32 = 0x4008_2104;
/// Size of `struct seccomp_notif`.
pub const NOTIF_SIZE: usize = 80;
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`
const CONTINUE: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The supervisor has not seen it.
    Waiting,
    /// The supervisor has received it.
    Received,
    /// Decided: the call is made, or the result.
    Decided(Option<u64>),
}

struct Notification {
    id: u64,
    task: Arc<Task>,
    data: Data,
    state: State,
}

#[derive(Default)]
struct Queue {
    next_id: u64,
    pending: VecDeque<Notification>,
    /// The supervisor has closed its descriptor.
    closed: bool,
    /// Nobody has the filter any more.
    hung_up: bool,
}

/// Where the system calls of one filter wait for their supervisor.
#[derive(Default)]
pub struct Listener {
    queue: Mutex<Queue, { rank::INODE }>,
    /// Told when there is something for the supervisor, and when it has decided.
    changed: WaitQueue,
    killable: bool,
}

impl Listener {
    /// With `killable`, only fatal signals interrupt a call that the supervisor has received.
    pub fn new(killable: bool) -> Arc<Listener> {
        Arc::new(Listener { killable, ..Listener::default() })
    }

    /// Nobody has the filter any more.
    pub fn hang_up(&self) {
        self.queue.lock().hung_up = true;
        self.changed.notify(EventMask::all());
    }

    fn decide(&self, id: u64, decision: Option<u64>) -> Result<()> {
        {
            let mut queue = self.queue.lock();
            let found = queue.pending.iter_mut().find(|n| n.id == id).ok_or(Errno::ENOENT)?;
            if found.state != State::Received {
                return Err(Errno::EINPROGRESS);
            }
            found.state = State::Decided(decision);
        }
        self.changed.notify(EventMask::all());
        Ok(())
    }

    /// `SECCOMP_IOCTL_NOTIF_RECV`: the next call. `EAGAIN` if there is none, `ENOENT` if none can come.
    pub fn receive(&self, t: &CurrentTask, at: UserAddr) -> Result<u64> {
        let mut zero = [0; NOTIF_SIZE];
        t.mm().read(at, &mut zero)?;
        if zero.iter().any(|b| *b != 0) {
            return Err(Errno::EINVAL);
        }
        let (id, bytes) = {
            let mut queue = self.queue.lock();
            let hung_up = queue.hung_up;
            let next = queue.pending.iter_mut().find(|n| n.state == State::Waiting);
            let next = next.ok_or(if hung_up { Errno::ENOENT } else { Errno::EAGAIN })?;
            next.state = State::Received;
            let mut bytes = next.id.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&t.local_id(next.task.tid()).to_ne_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&next.data.bytes());
            (next.id, bytes)
        };
        if let Err(e) = t.mm().write(at, &bytes) {
            // Nobody has seen it: it goes back.
            let mut queue = self.queue.lock();
            if let Some(n) = queue.pending.iter_mut().find(|n| n.id == id) {
                n.state = State::Waiting;
            }
            return Err(e);
        }
        self.changed.notify(EventMask::all());
        Ok(0)
    }

    fn send(&self, task: &Task, at: UserAddr) -> Result<u64> {
        let mm = task.mm()?;
        let id: u64 = mm.read_obj(at)?;
        let value: u64 = mm.read_obj(at.offset(8))?;
        let [error, flags]: [u32; 2] = mm.read_obj(at.offset(16))?;
        if flags & !CONTINUE != 0 || (flags == CONTINUE && (error != 0 || value != 0)) {
            return Err(Errno::EINVAL);
        }
        let result = match (flags, error as i32) {
            (CONTINUE, _) => None,
            (_, 0) => Some(value),
            (_, error) => Some(i64::from(error) as u64),
        };
        self.decide(id, result)?;
        Ok(0)
    }

    fn is_valid(&self, id: u64) -> Result<u64> {
        let queue = self.queue.lock();
        let valid = queue.pending.iter().any(|n| n.id == id && n.state == State::Received);
        if valid { Ok(0) } else { Err(Errno::ENOENT) }
    }

    /// `SECCOMP_IOCTL_NOTIF_ADDFD`: gives the task whose call it is a copy of a descriptor.
    fn add_fd(&self, task: &Task, at: UserAddr) -> Result<u64> {
        const SETFD: u32 = 1;
        const SEND: u32 = 2;
        const CLOEXEC: u32 = 0o2000000;
        let mm = task.mm()?;
        let id: u64 = mm.read_obj(at)?;
        let [flags, source, newfd, newfd_flags]: [u32; 4] = mm.read_obj(at.offset(8))?;
        if flags & !(SETFD | SEND) != 0
            || newfd_flags & !CLOEXEC != 0
            || (newfd != 0 && flags & SETFD == 0)
        {
            return Err(Errno::EINVAL);
        }
        let file = task.files()?.get(source as i32)?;
        let target = {
            let queue = self.queue.lock();
            let found = queue.pending.iter().find(|n| n.id == id).ok_or(Errno::ENOENT)?;
            if found.state != State::Received {
                return Err(Errno::EINPROGRESS);
            }
            found.task.clone()
        };
        let (files, cloexec) = (target.files()?, newfd_flags & CLOEXEC != 0);
        let limit = target.limit(Rlimit::Nofile).soft;
        let fd = match flags & SETFD {
            0 => files.insert(file, cloexec, 0, limit)?,
            _ => {
                let fd = newfd as i32;
                if let Some(old) = files.insert_at(fd, file, cloexec, limit)? {
                    let _ = files.closed(old);
                }
                fd
            }
        };
        if flags & SEND != 0 {
            self.decide(id, Some(fd as u64))?;
        }
        Ok(fd as u64)
    }

    fn close(&self) {
        self.queue.lock().closed = true;
        self.changed.notify(EventMask::all());
    }
}

/// Lets the supervisor decide on the system call in the registers.
pub(super) fn ask(t: &mut CurrentTask, listener: Option<&Arc<Listener>>, data: &Data) -> Verdict {
    let Some(listener) = listener.cloned() else {
        t.regs.rax = Errno::ENOSYS.as_return();
        return Verdict::Skip;
    };
    let id = {
        let mut queue = listener.queue.lock();
        queue.next_id += 1;
        let id = queue.next_id;
        if !queue.closed {
            let task = t.task().clone();
            queue.pending.push_back(Notification { id, task, data: *data, state: State::Waiting });
        }
        id
    };
    let key = listener.changed.add(EventMask::all(), t.waker());
    listener.changed.notify(EventMask::all());
    let verdict = loop {
        let state = {
            let queue = listener.queue.lock();
            let own = queue.pending.iter().find(|n| n.id == id).map(|n| n.state);
            if queue.closed && !matches!(own, Some(State::Decided(_))) { None } else { own }
        };
        match state {
            None => {
                t.regs.rax = Errno::ENOSYS.as_return();
                break Verdict::Skip;
            }
            Some(State::Decided(None)) => break Verdict::Allow,
            Some(State::Decided(Some(value))) => {
                t.regs.rax = value;
                break Verdict::Skip;
            }
            Some(State::Received) if listener.killable => {
                if t.block_killable() == Wake::Interrupted {
                    break Verdict::Restart(Errno::ERESTARTSYS);
                }
            }
            Some(_) => {
                if t.block(None) == Wake::Interrupted {
                    break Verdict::Restart(Errno::ERESTARTSYS);
                }
            }
        }
    };
    listener.changed.remove(key);
    listener.queue.lock().pending.retain(|n| n.id != id);
    verdict
}

/// The supervisor's descriptor.
pub struct NotifyFile(Arc<Listener>);

impl NotifyFile {
    /// The queue behind it.
    pub fn listener(&self) -> &Arc<Listener> {
        &self.0
    }
}

/// A descriptor for a supervisor, close-on-exec.
pub fn install(t: &CurrentTask, listener: Arc<Listener>) -> Result<i32> {
    let file = File::new(Arc::new(NotifyFile(listener)), None, OpenFlags::RDWR);
    t.files().insert(file, true, 0, t.limit(Rlimit::Nofile).soft)
}

impl FileOps for NotifyFile {
    fn poll(&self, _file: &File) -> EventMask {
        let queue = self.0.queue.lock();
        let has = |state| queue.pending.iter().any(|n| n.state == state);
        let mut ready = EventMask::empty();
        ready.set(EventMask::READABLE, has(State::Waiting));
        ready.set(EventMask::WRITABLE, has(State::Received));
        ready.set(EventMask::HUP, queue.hung_up);
        ready
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.changed)
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        let at = UserAddr(arg);
        match cmd {
            NOTIF_SEND => self.0.send(task, at),
            NOTIF_ID_VALID | NOTIF_ID_VALID_OLD => self.0.is_valid(task.mm()?.read_obj(at)?),
            NOTIF_ADDFD => self.0.add_fd(task, at),
            // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP is a hint to the scheduler.
            NOTIF_SET_FLAGS if arg <= 1 => Ok(0),
            _ => Err(Errno::EINVAL),
        }
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(crate::fs::anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:seccomp notify".to_owned())
    }

    fn release(&self, _file: &File) {
        self.0.close();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
