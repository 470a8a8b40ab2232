//! Advisory locks: `fcntl(2)` record locks, open-file-description locks and `flock(2)`.
//!
//! The locks of a file hang on its inode. Record locks belong to a process (in truth, as in Linux, to
//! its descriptor table) and go when any descriptor of the file is closed; the others belong to the
//! open file description and go with it.

pub mod lease;
mod range;
mod wait_graph;

use super::File;
use super::attachments;
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Wake};
use crate::mm::UserAddr;
use crate::sync::{Mutex, rank};
use crate::wait::{EventMask, WaitQueue};
use range::{Owner, RecordLock, RecordLocks};
use std::sync::{Arc, Weak};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `F_GETLK`
pub const F_GETLK: u32 = 5;
/// `F_SETLK`
pub const F_SETLK: u32 = 6;
/// `F_SETLKW`
pub const F_SETLKW: u32 = 7;
/// `F_OFD_GETLK`
pub const F_OFD_GETLK: u32 = 36;
/// `F_OFD_SETLK`
pub const F_OFD_SETLK: u32 = 37;
/// `F_OFD_SETLKW`
pub const F_OFD_SETLKW: u32 = 38;

const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

const LOCK_SH: u32 = 1;
const LOCK_EX: u32 = 2;
const LOCK_NB: u32 = 4;
const LOCK_UN: u32 = 8;

const OFFSET_MAX: u64 = i64::MAX as u64;

/// `struct flock`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Flock {
    kind: i16,
    whence: i16,
    pad: u32,
    start: i64,
    len: i64,
    pid: i32,
    pad2: u32,
}

/// All locks of an inode.
struct FileLocks {
    state: Mutex<State, { rank::FILE_LOCKS }>,
    /// Told when a lock goes.
    queue: WaitQueue,
    dev: u64,
    ino: u64,
}

impl FileLocks {
    /// Names the file in the graph of who waits for whom.
    fn id(&self) -> u64 {
        std::ptr::from_ref(self).addr() as u64
    }
}

#[derive(Default)]
struct State {
    records: RecordLocks,
    flocks: Vec<WholeLock>,
}

/// A `flock(2)` lock.
#[derive(Debug, Clone, Copy)]
struct WholeLock {
    file: u64,
    pid: i32,
    exclusive: bool,
}

/// Every inode that has had locks, for `/proc/locks`.
static ALL: Mutex<Vec<Weak<FileLocks>>, { rank::LEAF }> = Mutex::new(Vec::new());

fn existing(file: &File) -> Option<Arc<FileLocks>> {
    attachments::of(file).get()
}

fn of(file: &File) -> Result<Arc<FileLocks>> {
    if let Some(locks) = existing(file) {
        return Ok(locks);
    }
    let attr = file.attr()?;
    let locks = attachments::of(file).get_or_insert_with(|| FileLocks {
        state: Mutex::default(),
        queue: WaitQueue::new(),
        dev: attr.dev,
        ino: attr.ino,
    });
    let mut all = ALL.lock();
    all.retain(|l| l.strong_count() > 0);
    if !all.iter().any(|l| std::ptr::eq(l.as_ptr(), Arc::as_ptr(&locks))) {
        all.push(Arc::downgrade(&locks));
    }
    Ok(locks)
}

/// The lock commands of `fcntl(2)`. `EINVAL` for any other command.
pub fn fcntl(t: &mut CurrentTask, file: &Arc<File>, cmd: u32, arg: u64) -> Result<u64> {
    let addr = UserAddr(arg);
    let ofd = matches!(cmd, F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW);
    let flock: Flock = t.mm().read_obj(addr)?;
    if ofd && flock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, end) = range_of(file, &flock)?;
    let (owner, pid) =
        if ofd { (Owner::File(file.id()), -1) } else { (Owner::Process(t.files().id()), t.tgid()) };
    let want = RecordLock { owner, pid, start, end, write: flock.kind == F_WRLCK };
    match cmd {
        F_GETLK | F_OFD_GETLK => {
            if flock.kind != F_RDLCK && flock.kind != F_WRLCK {
                return Err(Errno::EINVAL);
            }
            let found = existing(file).and_then(|l| l.state.lock().records.conflict(&want));
            let mut answer = flock;
            match found {
                None => answer.kind = F_UNLCK,
                Some(lock) => {
                    answer.kind = if lock.write { F_WRLCK } else { F_RDLCK };
                    answer.whence = 0;
                    answer.start = lock.start as i64;
                    let to_end = lock.end >= OFFSET_MAX;
                    answer.len = if to_end { 0 } else { (lock.end - lock.start + 1) as i64 };
                    // A process that the caller's pid namespace does not know has no number: 0.
                    answer.pid = t.local_id(lock.pid);
                }
            }
            t.mm().write_obj(addr, &answer)?;
        }
        F_SETLK | F_OFD_SETLK | F_SETLKW | F_OFD_SETLKW => {
            let wait = matches!(cmd, F_SETLKW | F_OFD_SETLKW);
            match flock.kind {
                F_RDLCK if !file.flags().readable() => return Err(Errno::EBADF),
                F_WRLCK if !file.flags().writable() => return Err(Errno::EBADF),
                F_RDLCK | F_WRLCK => set_record(t, &of(file)?, want, wait)?,
                F_UNLCK => {
                    if let Some(locks) = existing(file) {
                        let mut state = locks.state.lock();
                        state.records.unlock(owner, start, end)?;
                        wait_graph::released(owner, locks.id());
                        drop(state);
                        locks.queue.notify(EventMask::IN);
                    }
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn range_of(file: &File, flock: &Flock) -> Result<(u64, u64)> {
    let base = match flock.whence {
        0 => 0,
        1 => *file.pos() as i64,
        2 => file.attr()?.size as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(flock.start).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = match flock.len {
        0 => (start, i64::MAX),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => (start.checked_add(len).ok_or(Errno::EINVAL)?, start - 1),
    };
    match (u64::try_from(start), u64::try_from(end)) {
        (Ok(start), Ok(end)) => Ok((start, end)),
        _ => Err(Errno::EINVAL),
    }
}

fn set_record(
    t: &mut CurrentTask,
    locks: &Arc<FileLocks>,
    want: RecordLock,
    wait: bool,
) -> Result<()> {
    let waiter = wait_graph::Waiter::new(want.owner);
    let attempt = |wait: bool| -> Result<bool> {
        let mut state = locks.state.lock();
        if let Some(blocker) = state.records.conflict(&want) {
            if wait {
                waiter.wait(blocker.owner, locks.id())?;
            }
            return Ok(false);
        }
        state.records.lock(want)?;
        waiter.done();
        // Giving an exclusive lock up for a shared one may let others in.
        wait_graph::released(want.owner, locks.id());
        Ok(true)
    };
    if attempt(false)? {
        locks.queue.notify(EventMask::IN);
        return Ok(());
    }
    if !wait {
        return Err(Errno::EAGAIN);
    }
    let key = locks.queue.add(EventMask::IN, t.waker());
    let result = loop {
        match attempt(true) {
            Ok(true) => break Ok(()),
            Ok(false) => {}
            Err(e) => break Err(e),
        }
        if let Wake::Interrupted = t.block(None) {
            break Err(Errno::ERESTARTSYS);
        }
    };
    drop(waiter);
    locks.queue.remove(key);
    if result.is_ok() {
        locks.queue.notify(EventMask::IN);
    }
    result
}

/// `flock(2)`.
pub fn flock(t: &mut CurrentTask, file: &Arc<File>, operation: u32) -> Result<()> {
    let wait = operation & LOCK_NB == 0;
    let exclusive = match operation & !LOCK_NB {
        LOCK_SH => false,
        LOCK_EX => true,
        LOCK_UN => {
            release_flock(file);
            return Ok(());
        }
        _ => return Err(Errno::EINVAL),
    };
    let locks = of(file)?;
    let new = WholeLock { file: file.id(), pid: t.tgid(), exclusive };
    {
        let mut state = locks.state.lock();
        match state.flocks.iter().position(|l| l.file == new.file) {
            Some(i) if state.flocks.get(i).is_some_and(|l| l.exclusive == exclusive) => {
                return Ok(());
            }
            // As in Linux a conversion first gives the old lock up, even if it then fails.
            Some(i) => {
                let _ = state.flocks.swap_remove(i);
                drop(state);
                locks.queue.notify(EventMask::IN);
            }
            None => {}
        }
    }
    let attempt = || {
        let mut state = locks.state.lock();
        let blocked = state.flocks.iter().any(|l| l.file != new.file && (l.exclusive || exclusive));
        if !blocked {
            state.flocks.push(new);
        }
        !blocked
    };
    if attempt() {
        return Ok(());
    }
    if !wait {
        return Err(Errno::EAGAIN);
    }
    let key = locks.queue.add(EventMask::IN, t.waker());
    let result = loop {
        if attempt() {
            break Ok(());
        }
        if let Wake::Interrupted = t.block(None) {
            break Err(Errno::ERESTARTSYS);
        }
    };
    locks.queue.remove(key);
    result
}

fn release_flock(file: &File) {
    let Some(locks) = existing(file) else { return };
    let had = {
        let mut state = locks.state.lock();
        let before = state.flocks.len();
        state.flocks.retain(|l| l.file != file.id());
        before != state.flocks.len()
    };
    if had {
        locks.queue.notify(EventMask::IN);
    }
}

fn release_records(file: &File, owner: Owner) {
    let Some(locks) = existing(file) else { return };
    let had = {
        let mut state = locks.state.lock();
        let had = state.records.release(owner);
        if had {
            wait_graph::released(owner, locks.id());
        }
        had
    };
    if had {
        locks.queue.notify(EventMask::IN);
    }
}

/// Releases the POSIX record locks that the descriptor table `owner` holds on the file behind `file`
/// (`close(2)` of any descriptor of it does that).
pub fn release_posix(file: &Arc<File>, owner: u64) {
    release_records(file, Owner::Process(owner));
}

/// Releases what the open file description holds; it is about to go.
pub fn release_file(file: &File) {
    release_records(file, Owner::File(file.id()));
    release_flock(file);
    lease::release(file);
}

/// The contents of `/proc/locks`.
pub fn proc_locks() -> String {
    use std::fmt::Write;
    let all: Vec<_> = ALL.lock().iter().filter_map(Weak::upgrade).collect();
    let mut out = String::new();
    let mut n = 0;
    for locks in all {
        let state = locks.state.lock();
        let device =
            format!("{:02x}:{:02x}:{}", locks.dev >> 8 & 0xfff, locks.dev & 0xff, locks.ino);
        for lock in state.flocks.iter() {
            n += 1;
            let mode = if lock.exclusive { "WRITE" } else { "READ " };
            let _ = writeln!(out, "{n}: FLOCK  ADVISORY  {mode} {} {device} 0 EOF", lock.pid);
        }
        for lock in state.records.iter() {
            n += 1;
            let kind = if matches!(lock.owner, Owner::File(_)) { "OFDLCK" } else { "POSIX " };
            let mode = if lock.write { "WRITE" } else { "READ " };
            let _ =
                write!(out, "{n}: {kind} ADVISORY  {mode} {} {device} {} ", lock.pid, lock.start);
            let _ = match lock.end >= OFFSET_MAX {
                true => writeln!(out, "EOF"),
                false => writeln!(out, "{}", lock.end),
            };
        }
    }
    out
}
