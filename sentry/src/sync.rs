//! Ranked locks: the lock order, written as types and checked in debug builds.
//!
//! A thread may only take a lock whose rank is higher than every rank it holds. The order is the
//! table in [`rank`]; two locks of one rank are never held together (take them through
//! [`Mutex::lock_pair`] where an operation needs two of a kind: it orders them by address). No lock
//! is held while a task waits, and none of [`rank::MM`] or above while touching guest memory.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// The lock order, outermost first.
pub mod rank {
    /// A file system that is being set up (`fsopen(2)`): held while it is made.
    pub const FS_SETUP: u16 = 2;
    /// A file's position: held while the file is read or written, whatever that needs.
    pub const FILE_POS: u16 = 4;
    /// The rename lock of a file system.
    pub const RENAME: u16 = 6;
    /// The entries of a directory, while they change or are asked for (`i_rwsem`). Below the locks of
    /// tasks, for `proc` looks at those.
    pub const DIRECTORY: u16 = 7;
    /// The process tree: parents, children, groups, sessions, pid tables.
    pub const TASKS: u16 = 10;
    /// A control group's own state; see `kernel/cgroup`.
    pub const CGROUP: u16 = 12;
    /// A thread group's or task's own state.
    pub const TASK: u16 = 14;
    /// Pending signals, masks and handlers of a thread group.
    pub const SIGNALS: u16 = 18;
    /// Keys and keyrings; credentials are read and changed with it held.
    pub const KEYS: u16 = 13;
    /// A task's own pending signals; taken with [`SIGNALS`] held.
    pub const PENDING: u16 = 19;
    /// What a task knows of its tracer; taken with signals locked.
    pub const TRACE: u16 = 21;
    /// Controlling terminals and their sessions.
    pub const TTY: u16 = 20;
    /// The shape of a mount tree.
    pub const MOUNT_TREE: u16 = 22;
    /// The mount table.
    pub const MOUNTS: u16 = 26;
    /// Who watches whom among epoll instances.
    pub const EPOLL_TREE: u16 = 27;
    /// Epoll interest lists.
    pub const EPOLL: u16 = 28;
    /// Contents of a directory or file in an overlay (held while its layers are used).
    pub const OVERLAY: u16 = 32;
    /// Data that a stream socket holds back (`MSG_MORE`), until it is passed on to the socket.
    pub const HELD_BACK: u16 = 34;
    /// Contents of a directory, file, pipe or socket.
    pub const INODE: u16 = 36;
    /// As [`INODE`], for an object nested in it (a socket's peer).
    pub const INODE_NESTED: u16 = 38;
    /// Futex buckets.
    pub const FUTEX: u16 = 44;
    /// A process's memory map.
    pub const MM: u16 = 50;
    /// Who maps an object; taken with an address space locked, or none.
    pub const MAPPINGS: u16 = 51;
    /// Which frames back which pages of an in-memory file. Never held while touching guest memory:
    /// clone the frames, release the lock, then copy.
    pub const FILE_PAGES: u16 = 52;
    /// File descriptor tables.
    pub const FD_TABLE: u16 = 54;
    /// Working directory, root and umask.
    pub const FS_CONTEXT: u16 = 56;
    /// Advisory locks of an inode.
    pub const FILE_LOCKS: u16 = 58;
    /// inotify queues.
    pub const INOTIFY: u16 = 60;
    /// Timers.
    pub const TIMER: u16 = 64;
    /// Ready lists of epoll instances.
    pub const EPOLL_READY: u16 = 68;
    /// Wait queues.
    pub const WAIT_QUEUE: u16 = 72;
    /// A dentry's parent, name and children: the last reference to a file, and with it to its dentry,
    /// may go while almost anything is locked.
    pub const DENTRY: u16 = 80;
    /// Tables of System V objects; the objects' own locks are leaves.
    pub const IPC: u16 = 86;
    /// What a platform answers a task's system calls with; held while that is computed.
    pub const ANSWERS: u16 = 88;
    /// Which directories of a shared mount are watched, or the right to note that the host has moved one; what is known
    /// of each file are leaves.
    pub const GOFER_WATCHES: u16 = 89;
    /// Anything that takes no further lock.
    pub const LEAF: u16 = 90;
}

thread_local! {
    static HELD: RefCell<Vec<u16>> = const { RefCell::new(Vec::new()) };
}

/// Notes one held rank for as long as it lives (debug builds only).
struct Held {
    #[cfg(debug_assertions)]
    rank: u16,
}

impl Held {
    #[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "checked in debug builds"))]
    fn take(rank: u16, pair: bool) -> Self {
        #[cfg(debug_assertions)]
        HELD.with_borrow_mut(|held| {
            if let Some(&top) = held.iter().max() {
                assert!(
                    top < rank || (pair && top == rank),
                    "lock order: rank {rank} taken while holding rank {top}"
                );
            }
            held.push(rank);
        });
        Self {
            #[cfg(debug_assertions)]
            rank,
        }
    }
}

#[cfg(debug_assertions)]
impl Drop for Held {
    fn drop(&mut self) {
        // A guard may be dropped while its thread ends, when the list is already gone.
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(i) = held.iter().rposition(|&r| r == self.rank) {
                held.remove(i);
            }
        });
    }
}

/// True when the calling thread holds no ranked lock (always true in release builds).
pub fn none_held() -> bool {
    HELD.with_borrow(Vec::is_empty)
}

/// A mutex with a place in the lock order.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized, const RANK: u16> {
    inner: parking_lot::Mutex<T>,
}

/// A held [`Mutex`].
pub struct MutexGuard<'a, T: ?Sized> {
    inner: parking_lot::MutexGuard<'a, T>,
    _held: Held,
}

impl<T, const RANK: u16> Mutex<T, RANK> {
    /// A new, unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self { inner: parking_lot::Mutex::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized, const RANK: u16> Mutex<T, RANK> {
    /// Takes the lock, waiting for it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let held = Held::take(RANK, false);
        MutexGuard { inner: self.inner.lock(), _held: held }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = self.inner.try_lock()?;
        Some(MutexGuard { inner, _held: Held::take(RANK, true) })
    }

    /// Takes two different locks of one rank, in the order of their addresses.
    pub fn lock_pair<'a>(a: &'a Self, b: &'a Self) -> (MutexGuard<'a, T>, MutexGuard<'a, T>) {
        let take = |m: &'a Self, pair| {
            let held = Held::take(RANK, pair);
            MutexGuard { inner: m.inner.lock(), _held: held }
        };
        if std::ptr::addr_eq(a, b) {
            // The caller has a bug; two guards of one mutex would wait for each other for ever.
            debug_assert!(false, "lock_pair of one mutex");
        }
        if (a as *const Self).cast::<()>() < (b as *const Self).cast::<()>() {
            let first = take(a, false);
            (first, take(b, true))
        } else {
            let second = take(b, false);
            (take(a, true), second)
        }
    }

    /// The value, when no one else can hold the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A reader-writer lock with a place in the lock order.
#[derive(Debug, Default)]
pub struct RwLock<T: ?Sized, const RANK: u16> {
    inner: parking_lot::RwLock<T>,
}

/// A [`RwLock`] held for reading.
pub struct ReadGuard<'a, T: ?Sized> {
    inner: parking_lot::RwLockReadGuard<'a, T>,
    _held: Held,
}

/// A [`RwLock`] held for writing.
pub struct WriteGuard<'a, T: ?Sized> {
    inner: parking_lot::RwLockWriteGuard<'a, T>,
    _held: Held,
}

impl<T, const RANK: u16> RwLock<T, RANK> {
    /// A new, unlocked lock.
    pub const fn new(value: T) -> Self {
        Self { inner: parking_lot::RwLock::new(value) }
    }
}

impl<T: ?Sized, const RANK: u16> RwLock<T, RANK> {
    /// Takes the lock for reading.
    pub fn read(&self) -> ReadGuard<'_, T> {
        let held = Held::take(RANK, false);
        ReadGuard { inner: self.inner.read(), _held: held }
    }

    /// Takes the lock for writing.
    pub fn write(&self) -> WriteGuard<'_, T> {
        let held = Held::take(RANK, false);
        WriteGuard { inner: self.inner.write(), _held: held }
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
