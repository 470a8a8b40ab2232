//! `userfaultfd(2)`: a program that answers the page faults of others, or its own.
//!
//! A [`UserFault`] is told of faults in areas that are registered with it; whoever faults waits until the page
//! is there, or the descriptor is closed. What is done to the memory is [`crate::mm`]'s affair.

use super::anon;
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::kernel::{Kernel, Task};
use crate::mm::{MemoryManager, Modes, PAGE_SIZE, UserAddr};
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, File, FileOps, OpenFlags};
use crate::wait::{EventMask, WaitQueue, Waker};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// `UFFD_API`
const API: u64 = 0xaa;
/// Size of a `struct uffd_msg`.
const MSG_SIZE: usize = 32;
/// `UFFD_EVENT_PAGEFAULT`
const EVENT_PAGEFAULT: u8 = 0x12;

/// Features (`UFFD_FEATURE_*`).
mod feature {
    /// Faults because of write protection say so.
    pub const PAGEFAULT_FLAG_WP: u64 = 1;
    /// A fault is a `SIGBUS`.
    pub const SIGBUS: u64 = 1 << 7;
    /// Faults tell the thread.
    pub const THREAD_ID: u64 = 1 << 8;
    /// Faults tell the whole address.
    pub const EXACT_ADDRESS: u64 = 1 << 11;
    /// Pages can be moved.
    pub const MOVE: u64 = 1 << 16;
    pub const ALL: u64 = PAGEFAULT_FLAG_WP | SIGBUS | THREAD_ID | EXACT_ADDRESS | MOVE;
}

/// Numbers of the operations (`_UFFDIO_*`).
mod nr {
    pub const REGISTER: u64 = 0;
    pub const UNREGISTER: u64 = 1;
    pub const WAKE: u64 = 2;
    pub const COPY: u64 = 3;
    pub const ZEROPAGE: u64 = 4;
    pub const MOVE: u64 = 5;
    pub const WRITEPROTECT: u64 = 6;
    pub const API: u64 = 0x3f;
}

const UFFDIO_API: u32 = 0xc018_aa3f;
const UFFDIO_REGISTER: u32 = 0xc020_aa00;
const UFFDIO_UNREGISTER: u32 = 0x8010_aa01;
const UFFDIO_WAKE: u32 = 0x8010_aa02;
const UFFDIO_COPY: u32 = 0xc028_aa03;
const UFFDIO_ZEROPAGE: u32 = 0xc020_aa04;
const UFFDIO_MOVE: u32 = 0xc028_aa05;
const UFFDIO_WRITEPROTECT: u32 = 0xc018_aa06;
const UFFDIO_CONTINUE: u32 = 0xc020_aa07;

const MODE_DONTWAKE: u64 = 1;
/// `UFFDIO_COPY_MODE_WP`
const COPY_MODE_WP: u64 = 2;
/// `UFFDIO_WRITEPROTECT_MODE_WP` and `_DONTWAKE`, which are the other way round.
const PROTECT_MODE_WP: u64 = 1;
const PROTECT_MODE_DONTWAKE: u64 = 2;
/// `UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`
const MOVE_MODE_HOLES: u64 = 2;

/// What a fault is about, with the values of `UFFD_PAGEFAULT_FLAG_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The access.
    pub addr: u64,
    /// It was a write.
    pub write: bool,
    /// The page is there, but protected against writing.
    pub protected: bool,
}

/// How a fault that is the program's own affair ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The access is to be tried again.
    Retry,
    /// Nobody answers such faults: a `SIGBUS`, or `EFAULT`.
    Refused,
    /// The task is to end: whatever it wanted does not matter any more.
    Ending,
}

/// A task that waits.
struct Waiter {
    id: u64,
    missed: Missed,
    /// Thread id in its own pid namespace.
    tid: i32,
    /// The fault has been read.
    told: bool,
    woken: Arc<AtomicBool>,
    task: Arc<Task>,
}

#[derive(Default)]
struct State {
    /// What was agreed on with `UFFDIO_API`.
    features: Option<u64>,
    /// Those that wait, in order.
    waiters: VecDeque<Waiter>,
    next_id: u64,
    /// The descriptor is closed.
    released: bool,
}

/// The object behind a `userfaultfd(2)` descriptor. See the module's head.
pub struct UserFault {
    this: Weak<UserFault>,
    mm: Weak<MemoryManager>,
    /// Faults of the kernel itself are refused (`UFFD_USER_MODE_ONLY`).
    user_mode_only: bool,
    state: Mutex<State, { rank::LEAF }>,
    queue: WaitQueue,
    /// Registered in some area, ever.
    registered: AtomicU64,
}

impl std::fmt::Debug for UserFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserFault").finish_non_exhaustive()
    }
}

/// A new descriptor's file, for faults in `mm`.
pub fn open(
    kernel: &Kernel,
    mm: &Arc<MemoryManager>,
    user_only: bool,
    nonblock: bool,
) -> Arc<File> {
    // Whoever faults in a system call waits for another guest thread.
    kernel.asks_guests.store(true, Ordering::Relaxed);
    let ops = Arc::new_cyclic(|this| UserFault {
        this: this.clone(),
        mm: Arc::downgrade(mm),
        user_mode_only: user_only,
        state: Mutex::default(),
        queue: WaitQueue::new(),
        registered: AtomicU64::new(0),
    });
    let mut flags = OpenFlags::empty();
    flags.set(OpenFlags::NONBLOCK, nonblock);
    File::new(ops, None, flags)
}

impl UserFault {
    /// A task has missed a page: it waits until that is there. `still` tells, once those who answer know of
    /// the fault, whether it is missed still. `kernel`: the access is the kernel's own. No lock of the memory
    /// map is held.
    pub fn missed(&self, missed: Missed, kernel: bool, still: impl Fn() -> bool) -> Answer {
        if kernel && self.user_mode_only {
            return Answer::Refused;
        }
        let Some(task) = crate::kernel::current() else { return Answer::Refused };
        if task.is_ending() {
            return Answer::Ending;
        }
        let woken = Arc::new(AtomicBool::new(false));
        let id = {
            let mut state = self.state.lock();
            if state.released {
                return Answer::Retry;
            }
            if state.features.is_some_and(|f| f & feature::SIGBUS != 0) {
                return Answer::Refused;
            }
            state.next_id += 1;
            let id = state.next_id;
            let tid = task.ns_tid();
            let waiter =
                Waiter { id, missed, tid, told: false, woken: woken.clone(), task: task.clone() };
            state.waiters.push_back(waiter);
            id
        };
        let answered = !still() || {
            self.queue.notify(EventMask::READABLE);
            task.sleep_until(|| woken.load(Ordering::SeqCst), !kernel)
        };
        self.state.lock().waiters.retain(|w| w.id != id);
        match answered {
            true => Answer::Retry,
            false if task.is_ending() => Answer::Ending,
            // A signal: the access is made again after it.
            false => Answer::Retry,
        }
    }

    /// Wakes those who wait for a page in `[start, end)`.
    pub fn wake(&self, start: u64, end: u64) {
        let gone: Vec<(Arc<AtomicBool>, Arc<Task>)> = {
            let state = self.state.lock();
            let within = state.waiters.iter().filter(|w| (start..end).contains(&w.missed.addr));
            within.map(|w| (w.woken.clone(), w.task.clone())).collect()
        };
        for (woken, task) in gone {
            woken.store(true, Ordering::SeqCst);
            task.wake(EventMask::IN);
        }
    }

    fn memory(&self) -> Result<Arc<MemoryManager>> {
        self.mm.upgrade().ok_or(Errno::ESRCH)
    }

    fn message(waiter: &Waiter, features: u64) -> [u8; MSG_SIZE] {
        let mut msg = [0; MSG_SIZE];
        let missed = &waiter.missed;
        let flags = u64::from(missed.write) | if missed.protected { 2 } else { 0 };
        let exact = features & feature::EXACT_ADDRESS != 0;
        let addr = if exact { missed.addr } else { missed.addr & !(PAGE_SIZE - 1) };
        let tid = if features & feature::THREAD_ID != 0 { waiter.tid } else { 0 };
        let bytes = [&[EVENT_PAGEFAULT, 0, 0, 0, 0, 0, 0, 0][..], &flags.to_le_bytes()];
        let rest = [&addr.to_le_bytes()[..], &tid.to_le_bytes()];
        let all = bytes.into_iter().chain(rest).flatten();
        msg.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        msg
    }

    /// `UFFDIO_API`.
    fn agree(&self, mm: &MemoryManager, arg: UserAddr) -> Result<u64> {
        let [api, features, _]: [u64; 3] = mm.read_obj(arg)?;
        let known = api == API && features & !feature::ALL == 0;
        if known {
            let ioctls = 1 << nr::API | 1 << nr::REGISTER | 1 << nr::UNREGISTER;
            mm.write_obj(arg, &[API, feature::ALL, ioctls])?;
            let mut state = self.state.lock();
            if state.features.is_none() {
                state.features = Some(features);
                return Ok(0);
            }
        }
        mm.write_obj(arg, &[0u64; 3])?;
        Err(Errno::EINVAL)
    }

    /// Checks that a range of addresses is one of pages. Returns its end. `EINVAL`.
    fn range(mm: &MemoryManager, start: u64, len: u64) -> Result<u64> {
        let end = start.checked_add(len).filter(|end| *end <= mm.task_size());
        let aligned = start.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
        match end {
            Some(end) if aligned && len != 0 && start >= mm.layout().low => Ok(end),
            _ => Err(Errno::EINVAL),
        }
    }

    fn register(&self, caller: &MemoryManager, arg: UserAddr) -> Result<u64> {
        const MISSING: u64 = 1;
        const WP: u64 = 2;
        const MINOR: u64 = 4;
        let [start, len, mode]: [u64; 3] = caller.read_obj(arg)?;
        // Minor faults are those of shared memory, which cannot be registered here.
        if mode == 0 || mode & !(MISSING | WP | MINOR) != 0 || mode & MINOR != 0 {
            return Err(Errno::EINVAL);
        }
        let mm = self.memory().map_err(|_| Errno::ENOMEM)?;
        let end = Self::range(&mm, start, len)?;
        let this = self.this.upgrade().ok_or(Errno::EINVAL)?;
        let modes = Modes { missing: mode & MISSING != 0, protect: mode & WP != 0 };
        mm.register_userfault(start, end, &this, modes)?;
        self.registered.fetch_add(1, Ordering::Relaxed);
        let mut ioctls = 1 << nr::WAKE | 1 << nr::COPY | 1 << nr::ZEROPAGE | 1 << nr::MOVE;
        if modes.protect {
            ioctls |= 1 << nr::WRITEPROTECT;
        }
        caller.write_obj(arg.offset(24), &ioctls)?;
        Ok(0)
    }

    fn unregister(&self, caller: &MemoryManager, arg: UserAddr) -> Result<u64> {
        let [start, len]: [u64; 2] = caller.read_obj(arg)?;
        let mm = self.memory().map_err(|_| Errno::ENOMEM)?;
        let end = Self::range(&mm, start, len)?;
        mm.unregister_userfault(start, end, self)?;
        self.wake(start, end);
        Ok(0)
    }

    fn wake_range(&self, caller: &MemoryManager, arg: UserAddr) -> Result<u64> {
        let [start, len]: [u64; 2] = caller.read_obj(arg)?;
        let end = Self::range(caller, start, len)?;
        self.wake(start, end);
        Ok(0)
    }

    /// What has been done of an operation on `len` bytes from `start`: told to the caller at `result`; those
    /// who wait for it are woken.
    fn finish(
        &self,
        caller: &MemoryManager,
        result: UserAddr,
        done: Result<u64>,
        (start, len): (u64, u64),
        wake: bool,
    ) -> Result<u64> {
        let value = match done {
            Ok(n) => n as i64,
            Err(e) => -i64::from(e.raw()),
        };
        caller.write_obj(result, &value)?;
        let done = done?;
        if wake {
            self.wake(start, start.saturating_add(done));
        }
        if done == len { Ok(0) } else { Err(Errno::EAGAIN) }
    }

    fn copy(&self, caller: &MemoryManager, arg: UserAddr) -> Result<u64> {
        let [dst, src, len, mode]: [u64; 4] = caller.read_obj(arg)?;
        let end = Self::range(caller, dst, len)?;
        src.checked_add(len).ok_or(Errno::EINVAL)?;
        if mode & !(MODE_DONTWAKE | COPY_MODE_WP) != 0 {
            return Err(Errno::EINVAL);
        }
        let mm = self.memory()?;
        let protect = mode & COPY_MODE_WP != 0;
        let done = mm.userfault_fill(dst, end, Some((caller, src)), protect);
        self.finish(caller, arg.offset(32), done, (dst, len), mode & MODE_DONTWAKE == 0)
    }

    fn zero(&self, caller: &MemoryManager, arg: UserAddr) -> Result<u64> {
        let [start, len, mode]: [u64; 3] = caller.read_obj(arg)?;
        let end = Self::range(caller, start, len)?;
        if mode & !MODE_DONTWAKE != 0 {
            return Err(Errno::EINVAL);
        }
        let done = self.memory()?.userfault_fill(start, end, None, false);
        self.finish(caller, arg.offset(24), done, (start, len), mode & MODE_DONTWAKE == 0)
    }

    fn move_pages(&self, caller: &MemoryManager, arg: UserAddr) -> Result<u64> {
        let [dst, src, len, mode]: [u64; 4] = caller.read_obj(arg)?;
        let mm = self.memory()?;
        // Only the process itself moves its pages.
        if !std::ptr::eq(&*mm, caller) {
            return Err(Errno::EINVAL);
        }
        let end = Self::range(&mm, dst, len)?;
        Self::range(&mm, src, len)?;
        if mode & !(MODE_DONTWAKE | MOVE_MODE_HOLES) != 0 {
            return Err(Errno::EINVAL);
        }
        let done = mm.userfault_move(dst, end, src, mode & MOVE_MODE_HOLES != 0);
        self.finish(caller, arg.offset(32), done, (dst, len), mode & MODE_DONTWAKE == 0)
    }

    fn write_protect(&self, caller: &MemoryManager, arg: UserAddr) -> Result<u64> {
        let [start, len, mode]: [u64; 3] = caller.read_obj(arg)?;
        let end = Self::range(caller, start, len)?;
        if mode & !(PROTECT_MODE_WP | PROTECT_MODE_DONTWAKE) != 0
            || mode == PROTECT_MODE_WP | PROTECT_MODE_DONTWAKE
        {
            return Err(Errno::EINVAL);
        }
        self.memory()?.userfault_protect(start, end, mode & PROTECT_MODE_WP != 0)?;
        if mode == 0 {
            self.wake(start, end);
        }
        Ok(0)
    }

    /// `UFFDIO_CONTINUE`, which is for shared memory only.
    fn go_on(&self, caller: &MemoryManager, arg: UserAddr) -> Result<u64> {
        let [start, len, mode]: [u64; 3] = caller.read_obj(arg)?;
        let end = Self::range(caller, start, len)?;
        if mode & !(MODE_DONTWAKE | COPY_MODE_WP) != 0 {
            return Err(Errno::EINVAL);
        }
        let mm = self.memory()?;
        let done = mm.check_userfault(start, end).and(Err(Errno::EINVAL));
        self.finish(caller, arg.offset(24), done, (start, len), false)
    }
}

impl FileOps for UserFault {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let mut done = 0;
        loop {
            let message = {
                let mut state = self.state.lock();
                let features = state.features.ok_or(Errno::EINVAL)?;
                if dst.remaining() < MSG_SIZE {
                    return if done > 0 { Ok(done) } else { Err(Errno::EINVAL) };
                }
                match state.waiters.iter_mut().find(|w| !w.told) {
                    Some(waiter) => {
                        waiter.told = true;
                        Self::message(waiter, features)
                    }
                    None if done > 0 => return Ok(done),
                    None => return Err(Errno::EAGAIN),
                }
            };
            match dst.put(&message) {
                Ok(n) if n == MSG_SIZE => done += n,
                // As on Linux it is told, whether it has arrived or not.
                other => {
                    return match other {
                        _ if done > 0 => Ok(done),
                        Err(e) => Err(e),
                        Ok(_) => Err(Errno::EFAULT),
                    };
                }
            }
        }
    }

    fn poll(&self, file: &File) -> EventMask {
        let state = self.state.lock();
        // Without O_NONBLOCK a read might wait although something was there.
        if state.features.is_none() || !file.nonblocking() {
            return EventMask::ERR;
        }
        match state.waiters.iter().any(|w| !w.told) {
            true => EventMask::IN,
            false => EventMask::empty(),
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn ignores_position(&self) -> bool {
        true
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        let caller = task.mm()?;
        let arg = UserAddr(arg);
        if cmd != UFFDIO_API && self.state.lock().features.is_none() {
            return Err(Errno::EINVAL);
        }
        match cmd {
            UFFDIO_API => self.agree(&caller, arg),
            UFFDIO_REGISTER => self.register(&caller, arg),
            UFFDIO_UNREGISTER => self.unregister(&caller, arg),
            UFFDIO_WAKE => self.wake_range(&caller, arg),
            UFFDIO_COPY => self.copy(&caller, arg),
            UFFDIO_ZEROPAGE => self.zero(&caller, arg),
            UFFDIO_MOVE => self.move_pages(&caller, arg),
            UFFDIO_WRITEPROTECT => self.write_protect(&caller, arg),
            UFFDIO_CONTINUE => self.go_on(&caller, arg),
            _ => Err(Errno::EINVAL),
        }
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[userfaultfd]".into())
    }

    fn fdinfo(&self) -> String {
        let state = self.state.lock();
        let pending = state.waiters.iter().filter(|w| !w.told).count();
        let features = state.features.map_or(0, |f| f | 1 << 63);
        format!(
            "pending:\t{pending}\ntotal:\t{}\nAPI:\t{API:x}:{features:x}:{:x}\n",
            state.waiters.len(),
            feature::ALL
        )
    }

    fn release(&self, _file: &File) {
        self.state.lock().released = true;
        if self.registered.load(Ordering::Relaxed) != 0
            && let Some(mm) = self.mm.upgrade()
        {
            mm.forget_userfault(self);
            mm.end();
        }
        self.wake(0, u64::MAX);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `/dev/userfaultfd`.
pub mod device {
    use crate::errno::{Errno, Result};
    use crate::kernel::{CurrentTask, Rlimit, Task};
    use crate::vfs::device::{self, Device};
    use crate::vfs::{File, FileOps, OpenFlags, Path};
    use std::any::Any;
    use std::sync::Arc;

    /// Major number of miscellaneous devices, and a minor number of the dynamic ones.
    pub const DEVICE: Device = Device { major: 10, minor: 126 };

    /// Registers the driver.
    pub fn register() {
        device::register(DEVICE.major, DEVICE.minor..=DEVICE.minor, "misc", open);
    }

    fn open(
        _t: Option<&CurrentTask>,
        _path: &Path,
        _flags: OpenFlags,
        _device: Device,
    ) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(Opener))
    }

    /// The open device: whoever may open it may have descriptors that answer faults of the kernel.
    struct Opener;

    impl FileOps for Opener {
        fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
            /// `USERFAULTFD_IOC_NEW`
            const NEW: u32 = 0xaa00;
            if cmd != NEW {
                return Err(Errno::EINVAL);
            }
            let (file, cloexec) = super::from_flags(task, arg as u32)?;
            let fd = task.files()?.insert(file, cloexec, 0, task.limit(Rlimit::Nofile).soft)?;
            Ok(fd as u64)
        }

        fn as_any(&self) -> &dyn Any {
            self
        }
    }
}

/// `vm.unprivileged_userfaultfd`: whether those who may not trace can answer faults of the kernel.
pub static UNPRIVILEGED: AtomicU32 = AtomicU32::new(0);

/// `UFFD_USER_MODE_ONLY`
pub const USER_MODE_ONLY: u32 = 1;

/// A descriptor's file for the caller's memory by the flags of `userfaultfd(2)`, and whether it is to be closed
/// on exec. `EINVAL`.
pub fn from_flags(task: &Task, flags: u32) -> Result<(Arc<File>, bool)> {
    let (cloexec, nonblock) = (OpenFlags::CLOEXEC.bits(), OpenFlags::NONBLOCK.bits());
    if flags & !(cloexec | nonblock | USER_MODE_ONLY) != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = task.mm()?;
    let user_only = flags & USER_MODE_ONLY != 0;
    let file = open(task.kernel(), &mm, user_only, flags & nonblock != 0);
    Ok((file, flags & cloexec != 0))
}
