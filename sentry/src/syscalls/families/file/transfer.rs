//! `read(2)`, `write(2)` and their vectored and positioned kin.

use crate::errno::{Errno, Result};
use crate::fs::fanotify::{event, marks};
use crate::io::{Limited, Sink, Source};
use crate::kernel::signal::{SigInfo, Signal};
use crate::kernel::{CurrentTask, Rlimit};
use crate::mm::sink::IoVec;
use crate::mm::{MemoryManager, UserAddr, UserSink, UserSource};
use crate::syscalls::arg::{Fd, Flags};
use crate::syscalls::{SysResult, blocking};
use crate::vfs::notify::{self, Happened};
use crate::vfs::{File, FileType, OpenFlags, SetAttr, permission};
use crate::wait::EventMask;
use std::sync::Arc;

/// `RWF_HIPRI`: accepted; there is nothing to poll.
const RWF_HIPRI: u32 = 1;
const RWF_DSYNC: u32 = 2;
const RWF_SYNC: u32 = 4;
const RWF_NOWAIT: u32 = 8;
const RWF_APPEND: u32 = 16;
const RWF_NOAPPEND: u32 = 32;
const RWF_ALL: u32 = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND;

/// The guest buffers of one call.
pub enum Buffers {
    /// A single one: address and length.
    One(UserAddr, u64),
    /// Several (`struct iovec`).
    Many(Vec<IoVec>),
}

impl Buffers {
    /// Reads `count` vectors at `addr`.
    pub fn many(t: &CurrentTask, addr: UserAddr, count: u64) -> Result<Self> {
        Ok(Buffers::Many(t.mm().read_iovecs(addr, count)?))
    }

    fn sink<'a>(&self, mm: &'a MemoryManager) -> Result<UserSink<'a>> {
        match self {
            Buffers::One(addr, len) => UserSink::single(mm, *addr, *len),
            Buffers::Many(list) => Ok(UserSink::new(mm, list.clone())),
        }
    }

    fn source<'a>(&self, mm: &'a MemoryManager) -> Result<UserSource<'a>> {
        match self {
            Buffers::One(addr, len) => UserSource::single(mm, *addr, *len),
            Buffers::Many(list) => Ok(UserSource::new(mm, list.clone())),
        }
    }
}

/// Where in the file a transfer happens.
#[derive(Clone, Copy)]
enum At {
    /// At the file's position, which moves.
    Position,
    Offset(u64),
}

impl At {
    /// An offset given by the guest. `EINVAL` if negative.
    fn offset(raw: i64) -> Result<Self> {
        u64::try_from(raw).map(At::Offset).map_err(|_| Errno::EINVAL)
    }
}

fn read_file(
    t: &mut CurrentTask,
    file: &Arc<File>,
    buffers: &Buffers,
    at: At,
    flags: u32,
) -> SysResult {
    if !file.flags().readable() {
        return Err(Errno::EBADF);
    }
    if let Some(path) = file.path().filter(|_| !file.is_quiet()) {
        marks::ask(path, event::ACCESS_PERM)?;
    }
    let mm = t.mm().clone();
    let ops = file.ops();
    if ops.seekable() {
        // Such files never have to be waited for.
        let mut sink = buffers.sink(&mm)?;
        let n = match at {
            At::Offset(offset) => {
                check_end(offset, sink.remaining())?;
                ops.read(file, &mut sink, offset)?
            }
            At::Position => match ops.read_shared(&mut sink) {
                Some(n) => n?,
                None => {
                    let mut pos = file.pos();
                    check_end(*pos, sink.remaining())?;
                    let n = ops.read(file, &mut sink, *pos)?;
                    *pos = pos.saturating_add(n as u64);
                    n
                }
            },
        };
        announce(file, n, Happened::ACCESS);
        return Ok(n as u64);
    }
    if let At::Offset(_) = at {
        return Err(Errno::ESPIPE);
    }
    let nonblocking = file.nonblocking() || flags & RWF_NOWAIT != 0;
    ops.check_access(t, false)?;
    let timeout = ops.timeout(false);
    let end = timeout.map(|n| t.kernel().time.monotonic().saturating_add(n));
    let result = blocking::on_file(t, file, EventMask::READABLE, nonblocking, end, |_| {
        ops.read(file, &mut buffers.sink(&mm)?, 0)
    });
    let n = match result {
        Err(Errno::EAGAIN) if timeout.is_some() && !nonblocking => ops.timed_out(file)?,
        Err(Errno::ERESTARTSYS) if timeout.is_some() => return Err(Errno::EINTR),
        other => other?,
    };
    Ok(n as u64)
}

/// `EINVAL` for a transfer that would end beyond the largest offset.
fn check_end(offset: u64, len: usize) -> Result<()> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// Tells watchers of a transfer of `n` bytes.
fn announce(file: &File, n: usize, what: Happened) {
    if let Some(path) = file.path().filter(|_| n > 0 && !file.is_quiet()) {
        notify::happened(path, what);
    }
}

fn write_file(
    t: &mut CurrentTask,
    file: &Arc<File>,
    buffers: &Buffers,
    at: At,
    flags: u32,
) -> SysResult {
    if !file.flags().writable() {
        return Err(Errno::EBADF);
    }
    let mm = t.mm().clone();
    let ops = file.ops();
    let n = if ops.seekable() {
        let mut source = buffers.source(&mm)?;
        remove_privileges(t, file)?;
        match at {
            At::Offset(offset) => {
                check_end(offset, source.remaining())?;
                let (offset, room) = start_of_write(t, file, offset, flags)?;
                ops.write(file, &mut Limited::new(&mut source, room), offset)?
            }
            At::Position => {
                let plain = flags & (RWF_APPEND | RWF_NOAPPEND) == 0;
                let shared = if plain { ops.write_shared(file, &mut source) } else { None };
                match shared {
                    Some(n) => n?,
                    None => write_at_position(t, file, &mut source, flags)?,
                }
            }
        }
    } else {
        if let At::Offset(_) = at {
            return Err(Errno::ESPIPE);
        }
        let nonblocking = file.nonblocking() || flags & RWF_NOWAIT != 0;
        write_stream(t, file, buffers, &mm, nonblocking)?
    };
    announce(file, n, Happened::MODIFY);
    if flags & (RWF_DSYNC | RWF_SYNC) != 0
        || file.flags().intersects(OpenFlags::DSYNC | OpenFlags::SYNC)
    {
        match ops.sync(flags & RWF_SYNC == 0) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n as u64)
}

/// Writes at the description's position, which moves.
fn write_at_position(
    t: &CurrentTask,
    file: &Arc<File>,
    source: &mut UserSource<'_>,
    flags: u32,
) -> Result<usize> {
    let ops = file.ops();
    let mut pos = file.pos();
    check_end(*pos, source.remaining())?;
    let (start, room) = start_of_write(t, file, *pos, flags)?;
    let n = ops.write(file, &mut Limited::new(source, room), start)?;
    let appends = file.flags().contains(OpenFlags::APPEND) && flags & RWF_NOAPPEND == 0;
    *pos = if appends { ops.size()? } else { start.saturating_add(n as u64) };
    Ok(n)
}

/// Writes to a pipe, socket or terminal. A blocking write goes on until all is written, an error or a
/// signal; what has been written by then is the result.
fn write_stream(
    t: &mut CurrentTask,
    file: &Arc<File>,
    buffers: &Buffers,
    mm: &MemoryManager,
    nonblocking: bool,
) -> Result<usize> {
    let mut source = buffers.source(mm)?;
    let ops = file.ops();
    ops.check_access(t, true)?;
    let end = ops.timeout(true).map(|n| t.kernel().time.monotonic().saturating_add(n));
    let mut done = 0;
    loop {
        let result = blocking::on_file(t, file, EventMask::WRITABLE, nonblocking, end, |_| {
            ops.write(file, &mut source, 0)
        });
        match result {
            Ok(n) => {
                done += n;
                if n == 0 || nonblocking || source.remaining() == 0 {
                    return Ok(done);
                }
            }
            Err(Errno::EPIPE) if ops.sends_sigpipe() => {
                t.task().send_signal(&SigInfo::user(Signal::SIGPIPE, t.tgid(), t.creds().uid));
                return if done > 0 { Ok(done) } else { Err(Errno::EPIPE) };
            }
            Err(_) if done > 0 => return Ok(done),
            Err(e) => return Err(e),
        }
    }
}

/// Where a write starts, after `RWF_APPEND`, and how many bytes `RLIMIT_FSIZE` leaves it (`SIGXFSZ`).
pub fn start_of_write(
    t: &CurrentTask,
    file: &Arc<File>,
    offset: u64,
    flags: u32,
) -> Result<(u64, usize)> {
    let append = flags & RWF_APPEND != 0;
    let offset = if append { file.ops().size()? } else { offset };
    let limit = t.limit(Rlimit::Fsize).soft;
    if limit != u64::MAX {
        let regular = file.path().is_some_and(|p| p.dentry.file_type() == FileType::Regular);
        let start =
            if file.flags().contains(OpenFlags::APPEND) { file.ops().size()? } else { offset };
        if regular && start >= limit {
            t.task().send_signal(&SigInfo::user(Signal::SIGXFSZ, t.tgid(), t.creds().uid));
            return Err(Errno::EFBIG);
        }
        if regular {
            return Ok((offset, usize::try_from(limit - start).unwrap_or(usize::MAX)));
        }
    }
    Ok((offset, usize::MAX))
}

/// A write by an ordinary user takes set-id bits away.
fn remove_privileges(t: &CurrentTask, file: &File) -> Result<()> {
    if t.creds().has(permission::CAP_FSETID) {
        return Ok(());
    }
    let Some(path) = file.path() else { return Ok(()) };
    if path.dentry.file_type() != FileType::Regular {
        return Ok(());
    }
    let attr = path.inode().attr()?;
    if let Some(mode) = permission::without_privileges(&attr, t.creds()) {
        path.inode().set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })?;
    }
    Ok(())
}

/// `read(2)`.
pub fn read(t: &mut CurrentTask, fd: Fd, buf: UserAddr, count: u64) -> SysResult {
    let file = t.file(fd.0)?;
    read_file(t, &file, &Buffers::One(buf, count), At::Position, 0)
}

/// `write(2)`.
pub fn write(t: &mut CurrentTask, fd: Fd, buf: UserAddr, count: u64) -> SysResult {
    let file = t.file(fd.0)?;
    write_file(t, &file, &Buffers::One(buf, count), At::Position, 0)
}

/// `pread(2)`.
pub fn pread64(t: &mut CurrentTask, fd: Fd, buf: UserAddr, count: u64, offset: i64) -> SysResult {
    let at = At::offset(offset)?;
    let file = usable(t, fd, at, false)?;
    read_file(t, &file, &Buffers::One(buf, count), at, 0)
}

/// `pwrite(2)`.
pub fn pwrite64(t: &mut CurrentTask, fd: Fd, buf: UserAddr, count: u64, offset: i64) -> SysResult {
    let at = At::offset(offset)?;
    let file = usable(t, fd, at, true)?;
    write_file(t, &file, &Buffers::One(buf, count), at, 0)
}

/// `readv(2)`.
pub fn readv(t: &mut CurrentTask, fd: Fd, iov: UserAddr, count: u64) -> SysResult {
    let file = usable(t, fd, At::Position, false)?;
    let buffers = Buffers::many(t, iov, count)?;
    read_file(t, &file, &buffers, At::Position, 0)
}

/// `writev(2)`.
pub fn writev(t: &mut CurrentTask, fd: Fd, iov: UserAddr, count: u64) -> SysResult {
    let file = usable(t, fd, At::Position, true)?;
    let buffers = Buffers::many(t, iov, count)?;
    write_file(t, &file, &buffers, At::Position, 0)
}

/// `preadv(2)`.
pub fn preadv(t: &mut CurrentTask, fd: Fd, iov: UserAddr, count: u64, offset: i64) -> SysResult {
    let at = At::offset(offset)?;
    let file = usable(t, fd, at, false)?;
    let buffers = Buffers::many(t, iov, count)?;
    read_file(t, &file, &buffers, at, 0)
}

/// `pwritev(2)`.
pub fn pwritev(t: &mut CurrentTask, fd: Fd, iov: UserAddr, count: u64, offset: i64) -> SysResult {
    let at = At::offset(offset)?;
    let file = usable(t, fd, at, true)?;
    let buffers = Buffers::many(t, iov, count)?;
    write_file(t, &file, &buffers, at, 0)
}

/// The file of a descriptor, for a transfer: `EBADF`, or `ESPIPE` if it has no positions. Before buffers are looked
/// at.
fn usable(t: &CurrentTask, fd: Fd, at: At, write: bool) -> Result<Arc<File>> {
    let file = t.file(fd.0)?;
    let ops = file.ops();
    let has_positions = || ops.seekable() && (!write || ops.takes_writes_at(&file));
    if matches!(at, At::Offset(_)) && !has_positions() {
        return Err(Errno::ESPIPE);
    }
    let mode = file.flags();
    if if write { mode.writable() } else { mode.readable() } { Ok(file) } else { Err(Errno::EBADF) }
}

/// Position of `preadv2(2)` and `pwritev2(2)`: -1 is the file's.
fn position(offset: i64) -> Result<At> {
    if offset == -1 { Ok(At::Position) } else { At::offset(offset) }
}

/// Flags of `preadv2(2)` and `pwritev2(2)`: `EOPNOTSUPP` for unknown ones, `EINVAL` for two that contradict each
/// other.
fn check_flags(flags: u32) -> Result<()> {
    if flags & !RWF_ALL != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let both = RWF_APPEND | RWF_NOAPPEND;
    if flags & both == both { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `preadv2(2)`.
pub fn preadv2(
    t: &mut CurrentTask,
    fd: Fd,
    iov: UserAddr,
    count: u64,
    offset: i64,
    _high: u64,
    flags: Flags,
) -> SysResult {
    let at = position(offset)?;
    let file = usable(t, fd, at, false)?;
    let buffers = Buffers::many(t, iov, count)?;
    check_flags(flags.0)?;
    if flags.0 & (RWF_APPEND | RWF_NOAPPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    read_file(t, &file, &buffers, at, flags.0)
}

/// `pwritev2(2)`.
pub fn pwritev2(
    t: &mut CurrentTask,
    fd: Fd,
    iov: UserAddr,
    count: u64,
    offset: i64,
    _high: u64,
    flags: Flags,
) -> SysResult {
    let at = position(offset)?;
    let file = usable(t, fd, at, true)?;
    let buffers = Buffers::many(t, iov, count)?;
    check_flags(flags.0)?;
    write_file(t, &file, &buffers, at, flags.0)
}

/// A transfer of `io_submit(2)`. The outer result is that of the submission: `EBADF` for the wrong access
/// mode, `EINVAL` for a bad offset or a file that cannot be read, `EOPNOTSUPP` for unknown flags, `EFAULT` for
/// a buffer outside of the address space; the inner one is what the request completes with.
pub fn aio_transfer(
    t: &mut CurrentTask,
    file: &Arc<File>,
    buffers: &Buffers,
    offset: i64,
    flags: u32,
    write: bool,
) -> Result<SysResult> {
    if flags & !RWF_ALL != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let mode = file.flags();
    if if write { !mode.writable() } else { !mode.readable() } {
        return Err(Errno::EBADF);
    }
    if file.path().is_some_and(|p| p.dentry.file_type() == FileType::Directory) {
        return Err(Errno::EINVAL);
    }
    drop(buffers.sink(&t.mm().clone())?);
    let wanted = At::offset(offset)?;
    let at = if file.ops().seekable() { wanted } else { At::Position };
    Ok(match write {
        true => write_file(t, file, buffers, at, flags),
        false => read_file(t, file, buffers, at, flags),
    })
}
