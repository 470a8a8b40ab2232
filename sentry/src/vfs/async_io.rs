//! Signal-driven I/O: `F_SETOWN`, `F_SETSIG` and `O_ASYNC`, and `SIGURG`.
//!
//! A file with `O_ASYNC` has an entry of its own in the wait queue of its object. Whoever notifies that
//! queue may hold locks below which no signal can be sent, so the entry only notes what happened
//! ([`Deferred`]); the signal goes out when that host thread's task leaves its system call or is about to
//! sleep in it, or from a thread of its own when no task caused it.

use super::{File, OpenFlags};
use crate::errno::{Errno, Result};
use crate::kernel::landlock::{self, Domain};
use crate::kernel::signal::{SigInfo, Signal, send};
use crate::kernel::{CurrentTask, Kernel, Task, ThreadGroup};
use crate::sync::{Mutex, rank};
use crate::wait::{EventMask, WaitKey, Waker};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// To whom the signal goes (`struct f_owner_ex`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnerKind {
    /// A thread (`F_OWNER_TID`).
    Thread,
    /// A process (`F_OWNER_PID`).
    #[default]
    Process,
    /// A process group (`F_OWNER_PGRP`).
    Group,
}

/// Who is signalled, how, and with whose permission.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnerState {
    /// What kind of id `id` is.
    pub kind: OwnerKind,
    /// The kernel's id; 0 for no one.
    pub id: i32,
    /// The signal (`F_SETSIG`); 0 is `SIGIO` without details.
    pub signal: i32,
    /// Real and effective user of who set the owner.
    pub uids: (u32, u32),
    /// Restrictions of who set the owner, and the process, which they do not keep from itself.
    landlock: Option<(Arc<Domain>, i32)>,
    /// Descriptor with which `O_ASYNC` was set: what `si_fd` tells.
    fd: i32,
}

/// Who is signalled when a file becomes ready. Costs nothing until someone is.
#[derive(Default)]
pub struct FileOwner(OnceLock<Arc<Entry>>);

impl FileOwner {
    /// The state.
    pub fn get(&self) -> OwnerState {
        self.0.get().map(|entry| entry.state.lock().clone()).unwrap_or_default()
    }

    fn entry<'a>(t: &CurrentTask, file: &'a File) -> &'a Arc<Entry> {
        file.owner.0.get_or_init(|| {
            Arc::new(Entry {
                kernel: Arc::downgrade(t.kernel()),
                access: file.flags(),
                socket: crate::socket::of(file).is_ok(),
                on: AtomicBool::new(false),
                state: Mutex::default(),
                registered: Mutex::default(),
            })
        })
    }
}

/// The entry of a file in its object's wait queue. It does not refer to the file, whose end takes locks.
struct Entry {
    kernel: Weak<Kernel>,
    /// The file's access mode.
    access: OpenFlags,
    /// It is a socket: urgent data sends `SIGURG`.
    socket: bool,
    /// `O_ASYNC` is set.
    on: AtomicBool,
    state: Mutex<OwnerState, { rank::LEAF }>,
    /// The place in the wait queue, once there is a reason for one.
    registered: Mutex<Option<WaitKey>, { rank::LEAF }>,
}

/// What a signal tells of a file, with the values of `si_code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Data to read (`POLL_IN`).
    In = 1,
    /// Room to write (`POLL_OUT`).
    Out = 2,
    /// A lease is being broken (`POLL_MSG`).
    Message = 3,
    /// Hung up (`POLL_HUP`).
    HangUp = 6,
    /// Urgent data: `SIGURG`.
    Urgent = 0,
}

impl Reason {
    /// `si_band`.
    fn band(self) -> i64 {
        match self {
            Reason::In => 0x41,
            Reason::Out => 0x304,
            Reason::Message => 0x441,
            Reason::HangUp => 0x18,
            Reason::Urgent => 0x82,
        }
    }
}

/// Most signals that wait to be sent: more than that are lost, as they are to a full signal queue.
const DEFERRED_MAX: usize = 4096;

/// Signals about files that are to be sent as soon as no lock is held.
#[derive(Default)]
pub struct Deferred {
    any: AtomicBool,
    list: Mutex<Vec<(Arc<Entry>, Reason)>, { rank::LEAF }>,
}

impl Deferred {
    /// True when there is something to send.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Notes a signal. True if it is the first one.
    fn push(&self, entry: Arc<Entry>, reason: Reason) -> bool {
        let mut list = self.list.lock();
        if list.len() < DEFERRED_MAX {
            list.push((entry, reason));
        }
        !self.any.swap(true, Ordering::SeqCst)
    }
}

/// Sends what has been noted. The caller holds no lock.
pub fn send_deferred(kernel: &Arc<Kernel>) {
    while kernel.async_signals.any.swap(false, Ordering::SeqCst) {
        let list = std::mem::take(&mut *kernel.async_signals.list.lock());
        for (entry, reason) in list {
            let owner = entry.state.lock().clone();
            signal(kernel, &owner, reason);
        }
    }
}

impl Entry {
    fn reasons(&self, events: EventMask) -> [Option<Reason>; 2] {
        let urgent = (self.socket && events.contains(EventMask::PRI)).then_some(Reason::Urgent);
        if !self.on.load(Ordering::SeqCst) {
            return [urgent, None];
        }
        let duplex = self.access.contains(OpenFlags::RDWR);
        let reason = if duplex && events.contains(EventMask::HUP) {
            Some(Reason::HangUp)
        } else if self.access.readable() && events.contains(EventMask::IN) {
            Some(Reason::In)
        } else if self.access.writable() && events.contains(EventMask::OUT) {
            Some(Reason::Out)
        } else {
            None
        };
        [urgent, reason]
    }
}

/// What is registered: a handle on the entry that can make more of itself.
struct Bell(Arc<Entry>);

impl Waker for Bell {
    fn wake(&self, events: EventMask) {
        let Some(kernel) = self.0.kernel.upgrade() else { return };
        for reason in self.0.reasons(events).into_iter().flatten() {
            let first = kernel.async_signals.push(self.0.clone(), reason);
            // A task sends them itself before it does anything that takes time.
            if first && crate::kernel::current().is_none() {
                let kernel = kernel.clone();
                if let Err(e) = platform::workers::spawn(move || send_deferred(&kernel)) {
                    tracing::debug!("a thread to send SIGIO from: {e}; the next task does");
                }
            }
        }
    }
}

/// Tells the owner of a file that a lease on it is being broken.
#[derive(Clone)]
pub struct LeaseBell(Arc<Entry>);

impl LeaseBell {
    /// Notes the signal, which the calling task sends before it sleeps or goes on.
    pub fn ring(&self) {
        if let Some(kernel) = self.0.kernel.upgrade() {
            kernel.async_signals.push(self.0.clone(), Reason::Message);
        }
    }

    /// The lease is gone: no one owns the file any more.
    pub fn end(&self) {
        let mut state = self.0.state.lock();
        state.id = 0;
        state.signal = 0;
    }
}

/// For a lease taken through descriptor `fd`. The caller becomes the owner unless there is one.
pub fn lease_bell(t: &CurrentTask, file: &File, fd: i32) -> LeaseBell {
    let entry = FileOwner::entry(t, file);
    let ownerless = {
        let mut state = entry.state.lock();
        state.fd = fd;
        state.id == 0
    };
    if ownerless {
        assign(t, file, OwnerKind::Process, t.tgid());
    }
    LeaseBell(entry.clone())
}

/// Registers the file with its object, if it is not yet and if the object is one that sends signals.
fn register(t: &CurrentTask, file: &Arc<File>) {
    let (true, Some(queue)) = (file.ops().async_io(), file.ops().wait_queue()) else { return };
    let entry = FileOwner::entry(t, file);
    if entry.registered.lock().is_some() {
        return;
    }
    let mask = EventMask::READABLE | EventMask::WRITABLE | EventMask::PRI;
    let key = queue.add(mask, Arc::new(Bell(entry.clone())));
    let other = entry.registered.lock().replace(key);
    if let Some(other) = other {
        queue.remove(other);
    }
}

/// The file is about to go.
pub fn release(file: &File) {
    let Some(entry) = file.owner.0.get() else { return };
    let key = entry.registered.lock().take();
    if let (Some(key), Some(queue)) = (key, file.ops().wait_queue()) {
        queue.remove(key);
    }
}

/// `F_SETSIG`: the signal instead of `SIGIO`.
pub fn set_signal(t: &CurrentTask, file: &File, signal: i32) {
    FileOwner::entry(t, file).state.lock().signal = signal;
}

/// Sets or clears `O_ASYNC` through a descriptor (`F_SETFL`, `FIOASYNC`). False if the file knows no
/// signals.
pub fn set_async(t: &CurrentTask, file: &Arc<File>, fd: i32, on: bool) -> bool {
    if !file.ops().async_io() {
        return false;
    }
    if on == file.flags().contains(OpenFlags::ASYNC) {
        return true;
    }
    if on {
        FileOwner::entry(t, file).state.lock().fd = fd;
        if let Some((kind, id)) = file.ops().default_owner(t)
            && file.owner.get().id == 0
        {
            assign(t, file, kind, id);
        }
        register(t, file);
    }
    FileOwner::entry(t, file).on.store(on, Ordering::SeqCst);
    file.set_flags(OpenFlags::ASYNC, if on { OpenFlags::ASYNC } else { OpenFlags::empty() });
    true
}

fn assign(t: &CurrentTask, file: &File, kind: OwnerKind, id: i32) {
    let uids = (t.creds().uid, t.creds().euid);
    let landlock = t.creds().landlock.clone().map(|domain| (domain, t.tgid()));
    let mut state = FileOwner::entry(t, file).state.lock();
    state.kind = kind;
    state.id = id;
    state.uids = uids;
    let old = std::mem::replace(&mut state.landlock, landlock);
    drop(state);
    drop(old);
}

/// Makes `id`, as the caller's pid namespace has it, the owner. `ESRCH` if there is no such thread, process
/// or group. 0 is no one.
pub fn set_owner(t: &CurrentTask, file: &Arc<File>, kind: OwnerKind, id: i32) -> Result<()> {
    let global = if id == 0 { 0 } else { t.global_id(id) };
    let exists = match kind {
        _ if id == 0 => true,
        OwnerKind::Thread => t.kernel().task(global).is_some(),
        OwnerKind::Process => t.kernel().thread_group(global).is_some(),
        OwnerKind::Group => t.kernel().session_of_pgroup(global).is_some(),
    };
    if !exists {
        return Err(Errno::ESRCH);
    }
    assign(t, file, kind, global);
    // Urgent data is told of without O_ASYNC, too.
    register(t, file);
    Ok(())
}

/// As [`set_owner`] for a process or, when negative, a group (`F_SETOWN`, `SIOCSPGRP`).
pub fn set_owner_signed(t: &CurrentTask, file: &Arc<File>, id: i32) -> Result<()> {
    let kind = if id < 0 { OwnerKind::Group } else { OwnerKind::Process };
    set_owner(t, file, kind, id.checked_abs().ok_or(Errno::EINVAL)?)
}

/// The owner as the caller's pid namespace has it, negative for a group (`F_GETOWN`, `SIOCGPGRP`).
pub fn owner_signed(t: &CurrentTask, file: &File) -> i32 {
    let state = file.owner.get();
    let id = t.local_id(state.id);
    if state.kind == OwnerKind::Group { -id } else { id }
}

/// Who gets it.
enum Target {
    Task(Arc<Task>),
    Process(Arc<ThreadGroup>),
}

fn targets(kernel: &Kernel, owner: &OwnerState) -> Vec<Target> {
    match owner.kind {
        OwnerKind::Thread => kernel.task(owner.id).map(Target::Task).into_iter().collect(),
        OwnerKind::Process => {
            kernel.thread_group(owner.id).map(Target::Process).into_iter().collect()
        }
        OwnerKind::Group => {
            kernel.tree().members(owner.id).into_iter().map(Target::Process).collect()
        }
    }
}

impl Target {
    /// `sigio_perm`: whoever set the owner may signal it.
    fn allows(&self, owner: &OwnerState) -> bool {
        let (uid, euid) = owner.uids;
        let task = match self {
            Target::Task(task) => Some(task.clone()),
            Target::Process(group) => group.any_task(),
        };
        let Some(task) = task else { return false };
        if let Some((domain, setter)) = &owner.landlock
            && task.tgid() != *setter
            && landlock::scope::check_signal(Some(domain), &task).is_err()
        {
            return false;
        }
        let creds = task.creds();
        euid == 0 || [euid, uid].iter().any(|id| *id == creds.suid || *id == creds.uid)
    }

    fn send(&self, kernel: &Kernel, info: &SigInfo) -> Result<bool> {
        match self {
            Target::Task(task) => send::send(kernel, task.group(), Some(task), info, false),
            Target::Process(group) => send::send(kernel, group, None, info, false),
        }
    }
}

/// `si_code` for signals whose own codes mean something else.
const SI_SIGIO: i32 = -5;

/// The signals whose codes say what happened (`SIG_SPECIFIC_SICODES`); `SIGIO`'s are these very ones.
const OWN_CODES: [Signal; 7] = [
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGTRAP,
    Signal::SIGCHLD,
    Signal::SIGSYS,
];

fn signal(kernel: &Kernel, owner: &OwnerState, reason: Reason) {
    if owner.id == 0 {
        return;
    }
    for target in targets(kernel, owner) {
        if !target.allows(owner) {
            continue;
        }
        if reason == Reason::Urgent {
            let _ = target.send(kernel, &SigInfo::kernel(Signal::SIGURG));
            continue;
        }
        if let Some(signal) = Signal::new(owner.signal) {
            let code = if OWN_CODES.contains(&signal) { SI_SIGIO } else { reason as i32 };
            let info = SigInfo::poll(signal, code, reason.band(), owner.fd);
            if target.send(kernel, &info).is_ok() {
                continue;
            }
            // No room in the queue: the plain signal at least.
        }
        let _ = target.send(kernel, &SigInfo::kernel(Signal::SIGIO));
    }
}
