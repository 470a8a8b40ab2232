//! Open file descriptions (`struct file`) and what they do.

use super::notify::{self, Happened};
use super::path::Path;
use super::{Attachments, Attr, FileType};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task};
use crate::mm::Mappings;
use crate::sync::{Mutex, MutexGuard, rank};
use crate::wait::{EventMask, WaitQueue};
use platform::{Descriptors, FileName, FilePosition, MapSource};
use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

bitflags::bitflags! {
    /// Flags of `open(2)`. Unknown bits are kept out by the system-call layer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Access mode bit: write only.
        const WRONLY = 0o1;
        /// Access mode bit: read and write.
        const RDWR = 0o2;
        /// Make it if it is not there.
        const CREAT = 0o100;
        /// With `CREAT`: fail if it is there.
        const EXCL = 0o200;
        /// Do not become the controlling terminal.
        const NOCTTY = 0o400;
        /// Truncate.
        const TRUNC = 0o1000;
        /// Every write goes to the end.
        const APPEND = 0o2000;
        /// Do not block.
        const NONBLOCK = 0o4000;
        /// Data integrity on every write.
        const DSYNC = 0o10000;
        /// Signal-driven I/O.
        const ASYNC = 0o20000;
        /// Direct I/O (packet mode for pipes).
        const DIRECT = 0o40000;
        /// Accepted for old programs.
        const LARGEFILE = 0o100000;
        /// Must be a directory.
        const DIRECTORY = 0o200000;
        /// Do not follow a link in the last component.
        const NOFOLLOW = 0o400000;
        /// Do not update the access time.
        const NOATIME = 0o1000000;
        /// Close on exec (a property of the descriptor, not of the file).
        const CLOEXEC = 0o2000000;
        /// File integrity on every write.
        const SYNC = 0o4000000;
        /// Only a name for the object, not for its contents.
        const PATH = 0o10000000;
        /// Unnamed file in a directory (with `DIRECTORY`).
        const TMPFILE_BIT = 0o20000000;
    }
}

impl OpenFlags {
    /// May be read.
    pub fn readable(self) -> bool {
        !self.contains(Self::WRONLY) && !self.contains(Self::PATH)
    }

    /// May be written.
    pub fn writable(self) -> bool {
        self.intersects(Self::WRONLY.union(Self::RDWR)) && !self.contains(Self::PATH)
    }

    /// `O_TMPFILE`.
    pub fn tmpfile(self) -> bool {
        self.contains(Self::TMPFILE_BIT)
    }

    /// Flags that `fcntl(F_SETFL)` may change.
    pub const SETTABLE: OpenFlags =
        Self::APPEND.union(Self::NONBLOCK).union(Self::DIRECT).union(Self::NOATIME);
}

/// An entry that `readdir` emits.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// Name.
    pub name: &'a [u8],
    /// Inode number.
    pub ino: u64,
    /// Type.
    pub file_type: FileType,
    /// Position to continue behind this entry (`d_off`).
    pub next: u64,
}

/// Memory behind a file, for `mmap(2)`.
pub trait Mappable: Send + Sync {
    /// What backs `len` bytes from `offset` (page multiples). `MapSource::HostFd` and
    /// `MapSource::Frames` are mapped whole. The result covers a prefix of the range: `(bytes,
    /// source)`; bytes is a multiple of the page size. `None` if `offset` lies behind the end of the
    /// file (the access is a `SIGBUS`). `write`: the mapping is shared and writable.
    fn translate(&self, offset: u64, len: u64, write: bool) -> Result<Option<(u64, MapSource)>>;

    /// Who maps it. `None` if its size never changes, and its contents do not while it is mapped
    /// privately: then a private mapping may copy pages before they are written.
    fn mappings(&self) -> Option<&Mappings> {
        None
    }

    /// Whether the page at `offset` lies in memory (`mincore(2)`).
    fn resident(&self, _offset: u64) -> bool {
        true
    }

    /// Writes a shared mapping's pages back (`msync(2)`).
    fn sync(&self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    /// Frees the storage of a page range, which reads as zeroes then (`MADV_REMOVE`).
    fn punch(&self, _offset: u64, _len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
}

/// What an open file does. Never blocks: an operation that cannot go on returns `EAGAIN`, whatever the
/// file's `O_NONBLOCK` says, and the caller waits for [`FileOps::wait_queue`].
pub trait FileOps: Send + Sync + Any {
    /// Reads at `offset` (ignored unless [`FileOps::seekable`]). 0 is the end of the file.
    fn read(&self, _file: &File, _dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes at `offset`; with `O_APPEND` the implementation writes at the end and ignores it.
    fn write(&self, _file: &File, _src: &mut dyn Source, _offset: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// True when the file has a position (`lseek`, `pread`, `pwrite` work).
    fn seekable(&self) -> bool {
        false
    }

    /// True when `pwrite` works on a file that has positions.
    fn takes_writes_at(&self, _file: &File) -> bool {
        true
    }

    /// True when every `lseek(2)` is accepted and leads to 0 (`/dev/null`, `eventfd(2)`), whether there
    /// is a position or not.
    fn ignores_position(&self) -> bool {
        false
    }

    /// The position, for a file that shares it with programs outside the sandbox; `None`: the open
    /// file description alone has it.
    fn shared_position(&self) -> Option<u64> {
        None
    }

    /// Tells a platform of what the file has besides a position. Called before it gets a descriptor.
    fn tell(&self, _platform: &dyn Descriptors) {}

    /// What the platform calls the open file, if it has been told of it.
    fn name(&self, _file: &File) -> Option<FileName> {
        None
    }

    /// True when nobody but the open file description has the position.
    fn has_own_position(&self) -> bool {
        self.seekable() && !self.ignores_position()
    }

    /// The position has become another.
    fn moved(&self, _to: u64) {}

    /// Reads at a position that programs outside the sandbox move too, and moves it: one step for them, as
    /// between two processes that share a description. `None`: nobody outside has it.
    fn read_shared(&self, _dst: &mut dyn Sink) -> Option<Result<usize>> {
        None
    }

    /// Writes as [`FileOps::read_shared`] reads.
    fn write_shared(&self, _file: &File, _src: &mut dyn Source) -> Option<Result<usize>> {
        None
    }

    /// True when what is read is made then, and lies nowhere (files of proc, sysfs and cgroups).
    fn is_generated(&self) -> bool {
        false
    }

    /// Size for `SEEK_END`, in bytes.
    fn size(&self) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    /// `SEEK_DATA` (`data` true) or `SEEK_HOLE` from `offset`. The default: data up to the end.
    fn seek_data(&self, offset: u64, data: bool) -> Result<u64> {
        let size = self.size()?;
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        Ok(if data { offset } else { size })
    }

    /// Emits entries from position `pos` until `emit` returns false. `ENOTDIR` if not a directory.
    fn readdir(
        &self,
        _file: &File,
        _pos: u64,
        _emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// Called by a task that is about to read or (`write`) write: a terminal stops tasks in the
    /// background here.
    fn check_access(&self, _t: &CurrentTask, _write: bool) -> Result<()> {
        Ok(())
    }

    /// How long a blocking read or write waits, in nanoseconds (`SO_RCVTIMEO`, `VTIME`).
    fn timeout(&self, _write: bool) -> Option<u64> {
        None
    }

    /// What a blocking read returns when [`FileOps::timeout`] has passed.
    fn timed_out(&self, _file: &File) -> Result<usize> {
        Err(Errno::EAGAIN)
    }

    /// True if a write that fails with `EPIPE` also sends `SIGPIPE`.
    fn sends_sigpipe(&self) -> bool {
        true
    }

    /// Readiness now.
    fn poll(&self, _file: &File) -> EventMask {
        EventMask::READABLE | EventMask::WRITABLE
    }

    /// Where changes of readiness are announced; `None` if it never changes (such a file cannot be
    /// added to an epoll instance: `EPERM`).
    fn wait_queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// True when changes of readiness send signals to who wants them (`O_ASYNC`).
    fn async_io(&self) -> bool {
        false
    }

    /// Who gets these signals unless an owner has been set, by the kernel's id.
    fn default_owner(&self, _t: &CurrentTask) -> Option<(super::async_io::OwnerKind, i32)> {
        None
    }

    /// `ioctl(2)`; the generic commands (`FIONBIO`, `FIOCLEX` …) are handled by the caller.
    fn ioctl(&self, _task: &Task, _file: &File, _cmd: u32, _arg: u64) -> Result<u64> {
        Err(Errno::ENOTTY)
    }

    /// True when a seal keeps the file from being mapped shared and writable.
    fn write_sealed(&self) -> bool {
        false
    }

    /// False when a mapping that is shared cannot be writable (`ENODEV`).
    fn shared_writes_map(&self) -> bool {
        true
    }

    /// Memory behind the file. `ENODEV` if it cannot be mapped.
    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        Err(Errno::ENODEV)
    }

    /// `fsync(2)` and `fdatasync(2)`.
    fn sync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// `fallocate(2)`.
    fn allocate(&self, _mode: u32, _offset: u64, _len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What hangs on the object behind the file, for files without a path that have an inode of their own (pipes, sockets).
    fn attachments(&self) -> Option<&Attachments> {
        None
    }

    /// Attributes for files that no inode stands behind in the VFS (pipes, sockets, anonymous
    /// inodes); `None`: ask the inode of [`File::path`].
    fn attr(&self) -> Option<Result<Attr>> {
        None
    }

    /// Text of `/proc/PID/fd/N` for files without a path, such as `pipe:[123]`.
    fn link_text(&self) -> Option<String> {
        None
    }

    /// Lines that `/proc/PID/fdinfo/N` adds.
    fn fdinfo(&self) -> String {
        String::new()
    }

    /// A descriptor of the calling task no longer stands for the file: `close(2)` returns the error.
    fn flush(&self, _file: &File) -> Result<()> {
        Ok(())
    }

    /// The last reference to the open file description is gone.
    fn release(&self, _file: &File) {}

    /// The status flags (`F_SETFL`) changed.
    fn flags_changed(&self, _file: &File) {}

    /// For downcasts (`epoll_ctl` on an epoll file, `accept` on a socket).
    fn as_any(&self) -> &dyn Any;
}

static NEXT_FILE_ID: AtomicU64 = AtomicU64::new(1);

/// An open file description: what descriptors made by `dup(2)` and `fork(2)` share.
pub struct File {
    ops: Arc<dyn FileOps>,
    path: Option<Path>,
    flags: AtomicU32,
    pos: Mutex<u64, { rank::FILE_POS }>,
    /// The platform's place for the position, which it may change while that is not locked.
    place: OnceLock<Box<dyn FilePosition>>,
    id: u64,
    guard: Guard,
    /// `F_SETOWN`/`F_SETSIG` state; see `vfs::async_io`.
    pub owner: super::async_io::FileOwner,
    /// The epoll instances that watch it.
    pub epoll_links: crate::fs::epoll::Links,
    /// Opening it made the file.
    created: AtomicBool,
    /// Rights over it that who opened it does not have (`landlock(7)`).
    refused: AtomicU16,
}

/// The position of an open file, locked; announced when it has changed ([`FileOps::moved`]).
pub struct Position<'a> {
    before: u64,
    locked: MutexGuard<'a, u64>,
    file: &'a File,
    place: Option<&'a dyn FilePosition>,
}

impl<'a> Position<'a> {
    fn new(file: &'a File, mut locked: MutexGuard<'a, u64>) -> Self {
        // One that comes later remains held until the next time.
        let place = file.place.get().map(|place| &**place);
        if let Some(now) = place.and_then(|place| place.hold()).or(file.ops.shared_position()) {
            *locked = now;
        }
        Self { before: *locked, locked, file, place }
    }
}

impl Deref for Position<'_> {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.locked
    }
}

impl DerefMut for Position<'_> {
    fn deref_mut(&mut self) -> &mut u64 {
        &mut self.locked
    }
}

impl Drop for Position<'_> {
    fn drop(&mut self) {
        if *self.locked != self.before {
            self.file.ops.moved(*self.locked);
        }
        if let Some(place) = self.place {
            place.let_go(*self.locked);
        }
    }
}

/// What an open file keeps others from doing with its inode (`ETXTBSY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    None,
    /// Counted by `Attachments::allow_write`.
    Writes,
    /// Nothing; counted by `Attachments::begin_read`.
    Reads,
    /// Counted by `Attachments::deny_write`.
    Runs,
    /// Nothing: the kernel's own file, of which watchers are not told.
    Quiet,
}

impl File {
    /// A new description. `path` is where it was opened, for files that have a name.
    pub fn new(ops: Arc<dyn FileOps>, path: Option<Path>, flags: OpenFlags) -> Arc<File> {
        Self::guarded(ops, path, flags, Guard::None)
    }

    /// As [`File::new`], for the kernel's own use: nobody is told when it is closed.
    pub(crate) fn new_quiet(ops: Arc<dyn FileOps>, path: Path, flags: OpenFlags) -> Arc<File> {
        Self::guarded(ops, Some(path), flags, Guard::Quiet)
    }

    /// As [`File::new`], for a regular file opened for writing: as long as it is open no one can
    /// run it. The caller has counted it with `Attachments::allow_write`.
    pub(super) fn new_writer(ops: Arc<dyn FileOps>, path: Path, flags: OpenFlags) -> Arc<File> {
        Self::guarded(ops, Some(path), flags, Guard::Writes)
    }

    /// As [`File::new`], for a regular file that is only read.
    pub(super) fn new_reader(ops: Arc<dyn FileOps>, path: Path, flags: OpenFlags) -> Arc<File> {
        path.inode().attachments().begin_read();
        Self::guarded(ops, Some(path), flags, Guard::Reads)
    }

    /// As [`File::new`], for a program: as long as it is open no one can open it for writing. The
    /// caller has counted it with `Attachments::deny_write`.
    pub(super) fn new_program(ops: Arc<dyn FileOps>, path: Path) -> Arc<File> {
        Self::guarded(ops, Some(path), OpenFlags::empty(), Guard::Runs)
    }

    fn guarded(
        ops: Arc<dyn FileOps>,
        path: Option<Path>,
        flags: OpenFlags,
        guard: Guard,
    ) -> Arc<File> {
        let keep = !(OpenFlags::CREAT
            | OpenFlags::EXCL
            | OpenFlags::NOCTTY
            | OpenFlags::TRUNC
            | OpenFlags::CLOEXEC);
        Arc::new(File {
            ops,
            path,
            flags: AtomicU32::new((flags & keep).bits()),
            pos: Mutex::new(0),
            place: OnceLock::new(),
            id: NEXT_FILE_ID.fetch_add(1, Ordering::Relaxed),
            guard,
            owner: Default::default(),
            created: AtomicBool::new(false),
            refused: AtomicU16::new(0),
            epoll_links: Default::default(),
        })
    }

    /// True if opening it made the file (`F_CREATED_QUERY`).
    pub fn created(&self) -> bool {
        self.created.load(Ordering::Relaxed)
    }

    /// Notes that opening it made the file.
    pub(super) fn set_created(&self) {
        self.created.store(true, Ordering::Relaxed);
    }

    /// True if whoever opened it had one of these rights ([`landlock`](crate::kernel::landlock::access))
    /// not.
    pub fn refuses(&self, rights: u16) -> bool {
        self.refused.load(Ordering::Relaxed) & rights != 0
    }

    /// Notes the rights that whoever opens it does not have.
    pub(super) fn set_refused(&self, rights: u16) {
        self.refused.store(rights, Ordering::Relaxed);
    }

    /// What it does.
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }

    /// What it does, if that is a `T`.
    pub fn ops_as<T: FileOps>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }

    /// Where it was opened.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    /// Access mode and status flags (`F_GETFL`).
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Changes the flags in `mask` to those in `flags`.
    pub fn set_flags(&self, mask: OpenFlags, flags: OpenFlags) {
        let set = (flags & mask).bits();
        let _ = self.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            Some(old & !mask.bits() | set)
        });
        self.ops.flags_changed(self);
    }

    /// Whether it can have `O_DIRECT` (`FMODE_CAN_ODIRECT`): what lies on a file system can.
    pub fn can_be_direct(&self) -> Result<bool> {
        Ok(!self.ops.is_generated() && self.attr()?.is_regular())
    }

    /// True for the kernel's own file, about which nobody is told.
    pub fn is_quiet(&self) -> bool {
        self.guard == Guard::Quiet
    }

    /// True with `O_NONBLOCK`.
    pub fn nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }

    /// The position, locked (`f_pos_lock`).
    pub fn pos(&self) -> Position<'_> {
        Position::new(self, self.pos.lock())
    }

    /// The position for those who only look (`/proc/PID/fdinfo`); 0 while it is moving.
    pub fn peek_pos(&self) -> u64 {
        match (self.pos.try_lock(), self.place.get()) {
            (Some(locked), Some(_)) => *Position::new(self, locked),
            (Some(locked), None) => *locked,
            (None, _) => 0,
        }
    }

    /// Tells a platform of the file, which is about to get a descriptor.
    pub(super) fn tell(&self, platform: &dyn Descriptors) {
        if self.flags().contains(OpenFlags::PATH) {
            return;
        }
        self.ops.tell(platform);
        if self.place.get().is_none()
            && self.ops.has_own_position()
            && let Some(place) = platform.position()
        {
            // Somebody else may just have done the same.
            let _ = self.place.set(place);
        }
    }

    /// What the platform calls it, if it knows it.
    pub(super) fn name(&self) -> Option<FileName> {
        match self.place.get() {
            Some(place) => Some(place.name()),
            None => self.ops.name(self),
        }
    }

    /// Never reused; names the description as owner of OFD locks and in epoll.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Attributes for `fstat(2)`.
    pub fn attr(&self) -> Result<Attr> {
        match (self.ops.attr(), &self.path) {
            (Some(attr), Some(_)) => attr,
            (Some(attr), None) => attr.map(|attr| super::own_attr::changed(self, attr)),
            (None, Some(path)) => path.inode().attr(),
            (None, None) => Err(Errno::EBADF),
        }
    }

    /// Readiness now.
    pub fn poll(&self) -> EventMask {
        self.ops.poll(self)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.epoll_links.release(self);
        super::async_io::release(self);
        super::locks::release_file(self);
        self.ops.release(self);
        if let Some(path) = &self.path {
            if !self.flags().contains(OpenFlags::PATH) && self.guard != Guard::Quiet {
                let written = self.flags().writable();
                let what = if written { Happened::CLOSE_WRITE } else { Happened::CLOSE_NOWRITE };
                notify::happened(path, what);
            }
            match self.guard {
                Guard::None | Guard::Quiet => {}
                Guard::Reads => path.inode().attachments().end_read(),
                Guard::Writes => path.inode().attachments().end_write(),
                Guard::Runs => path.inode().attachments().end_deny_write(),
            }
        }
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File")
            .field("id", &self.id)
            .field("flags", &self.flags())
            .finish_non_exhaustive()
    }
}
