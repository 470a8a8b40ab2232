//! Moving bytes between files inside the kernel: `splice(2)`, `tee(2)`, `vmsplice(2)`, `sendfile(2)`,
//! `copy_file_range(2)`.

use super::wait::sigpipe;
use crate::errno::{Errno, Result};
use crate::fs::pipe::{self, Held, Pipe};
use crate::io::{BufSink, BufSource, Limited};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::socket;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags};
use crate::syscalls::blocking;
use crate::syscalls::families::file::transfer::start_of_write;
use crate::vfs::{File, OpenFlags};
use crate::wait::EventMask;
use std::sync::Arc;

const SPLICE_F_NONBLOCK: u32 = 2;
const SPLICE_F_ALL: u32 = 0xf;
/// The most that one call moves (`MAX_RW_COUNT`).
const MAX_COUNT: u64 = 0x7fff_f000;
/// Size of the buffer between two files that are not pipes.
const CHUNK: usize = 64 << 10;

/// Where in a file a transfer goes on, and where the new position is stored.
enum Position {
    /// The file has none.
    None,
    /// The file's own.
    File(u64),
    /// In guest memory.
    User(UserAddr, u64),
}

impl Position {
    /// `ESPIPE` for an explicit position in a file that has none.
    fn of(t: &CurrentTask, file: &File, addr: UserAddr) -> Result<Position> {
        if !addr.is_null() {
            if !file.ops().seekable() {
                return Err(Errno::ESPIPE);
            }
            let at: i64 = t.mm().read_obj(addr)?;
            return Ok(Position::User(addr, u64::try_from(at).map_err(|_| Errno::EINVAL)?));
        }
        Ok(if file.ops().seekable() { Position::File(*file.pos()) } else { Position::None })
    }

    fn at(&self) -> u64 {
        match self {
            Position::None => 0,
            Position::File(at) | Position::User(_, at) => *at,
        }
    }

    fn advance(&mut self, n: usize) {
        match self {
            Position::None => {}
            Position::File(at) | Position::User(_, at) => *at = at.saturating_add(n as u64),
        }
    }

    /// Stores it where it came from.
    fn store(self, t: &CurrentTask, file: &File) -> Result<()> {
        match self {
            Position::None => Ok(()),
            Position::File(at) => {
                *file.pos() = at;
                Ok(())
            }
            Position::User(addr, at) => t.mm().write_obj(addr, &(at as i64)),
        }
    }
}

/// `SIGPIPE` goes with `EPIPE`.
fn with_signal<T>(t: &CurrentTask, result: Result<T>) -> Result<T> {
    result.inspect_err(|e| {
        if *e == Errno::EPIPE {
            sigpipe(t);
        }
    })
}

/// Writes all of `data`, waiting for room unless `nonblocking`. Returns how much went out before an
/// error, and the error.
fn write_all(
    t: &mut CurrentTask,
    file: &Arc<File>,
    data: &[u8],
    pos: &mut Position,
    nonblocking: bool,
) -> (usize, Result<()>) {
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        let at = pos.at();
        let room = if file.ops().seekable() {
            start_of_write(t, file, at, 0).map(|(_, room)| room)
        } else {
            Ok(usize::MAX)
        };
        let room = match room {
            Ok(room) => room,
            Err(e) => return (done, Err(e)),
        };
        let result = blocking::on_file(t, file, EventMask::WRITABLE, nonblocking, None, |_| {
            file.ops().write(file, &mut Limited::new(&mut BufSource::new(rest), room), at)
        });
        match result {
            Ok(0) => return (done, Ok(())),
            Ok(n) => {
                done += n;
                pos.advance(n);
            }
            Err(e) => return (done, Err(e)),
        }
    }
    (done, Ok(()))
}

fn pipe_to_file(
    t: &mut CurrentTask,
    (input, from): (&Arc<File>, &Arc<Pipe>),
    output: &Arc<File>,
    pos: &mut Position,
    len: usize,
    nonblocking: bool,
) -> Result<usize> {
    let mut done = 0;
    while done < len {
        // Waits for the first bytes only.
        let wait = !nonblocking && done == 0;
        let held = blocking::on_file(t, input, EventMask::READABLE, !wait, None, |_| {
            Held::take(from, len - done)
        });
        let mut held = match held {
            Ok(Some(held)) => held,
            Ok(None) => break,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        };
        while let Some(data) = held.front().map(<[u8]>::to_vec) {
            let (n, result) = write_all(t, output, &data, pos, nonblocking || output.nonblocking());
            held.consume(n);
            done += n;
            match result {
                Ok(()) if n == data.len() => {}
                Ok(()) => return Ok(done),
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return with_signal(t, Err(e)),
            }
        }
    }
    Ok(done)
}

fn file_to_pipe(
    t: &mut CurrentTask,
    input: &Arc<File>,
    pos: &mut Position,
    (output, to): (&Arc<File>, &Arc<Pipe>),
    len: usize,
    nonblocking: bool,
) -> Result<usize> {
    // Only sockets look at the flags of the other side, too.
    let nonblocking_in = input.nonblocking() || (nonblocking && socket::of(input).is_ok());
    let result = loop {
        let room =
            blocking::on_file(t, output, EventMask::WRITABLE, nonblocking, None, |_| to.reserve());
        let room = match room {
            Ok(room) => room,
            Err(e) => break Err(e),
        };
        let mut buf = vec![0; len.min(room.bytes)];
        match input.ops().read(input, &mut BufSink::new(&mut buf), pos.at()) {
            Ok(n) => break room.fill(buf.get(..n).unwrap_or_default()),
            Err(Errno::EAGAIN) if !nonblocking_in => {
                // Not while holding the room.
                drop(room);
                let mut first = true;
                blocking::on_file(t, input, EventMask::READABLE, false, None, |_| {
                    let ready = input
                        .poll()
                        .intersects(EventMask::READABLE | EventMask::ALWAYS | EventMask::RDHUP);
                    let again = std::mem::take(&mut first) || !ready;
                    if again { Err(Errno::EAGAIN) } else { Ok(()) }
                })?;
            }
            Err(e) => break Err(e),
        }
    };
    let n = with_signal(t, result)?;
    pos.advance(n);
    Ok(n)
}

/// `splice(2)`.
pub fn splice(
    t: &mut CurrentTask,
    fd_in: Fd,
    off_in: UserAddr,
    fd_out: Fd,
    off_out: UserAddr,
    len: u64,
    flags: Flags,
) -> SysResult {
    if len == 0 {
        return Ok(0);
    }
    if flags.0 & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let (input, output) = (t.file(fd_in.0)?, t.file(fd_out.0)?);
    if !input.flags().readable() || !output.flags().writable() {
        return Err(Errno::EBADF);
    }
    let len = len.min(MAX_COUNT) as usize;
    let nonblocking = flags.0 & SPLICE_F_NONBLOCK != 0;
    let (from, to) = (pipe::of(&input).cloned(), pipe::of(&output).cloned());
    if (from.is_some() && !off_in.is_null()) || (to.is_some() && !off_out.is_null()) {
        return Err(Errno::ESPIPE);
    }
    match (from, to) {
        (Some(from), Some(to)) => {
            let nonblocking = nonblocking || input.nonblocking() || output.nonblocking();
            if Arc::ptr_eq(&from, &to) {
                return Err(Errno::EINVAL);
            }
            let moved = between_pipes(t, &input, &output, nonblocking, |_| {
                pipe::splice_pipes(&from, &to, len)
            });
            with_signal(t, moved).map(|n| n as u64)
        }
        (Some(from), None) => {
            if output.flags().contains(OpenFlags::APPEND) || has_no_pages(&output) {
                return Err(Errno::EINVAL);
            }
            let nonblocking = nonblocking || input.nonblocking();
            let mut pos = Position::of(t, &output, off_out)?;
            let n = pipe_to_file(t, (&input, &from), &output, &mut pos, len, nonblocking)?;
            pos.store(t, &output)?;
            Ok(n as u64)
        }
        (None, Some(to)) => {
            let is_dir = input.path().is_some_and(|path| path.dentry.is_dir());
            if is_dir || has_no_pages(&input) {
                return Err(Errno::EINVAL);
            }
            let nonblocking = nonblocking || output.nonblocking();
            let mut pos = Position::of(t, &input, off_in)?;
            let n = file_to_pipe(t, &input, &mut pos, (&output, &to), len, nonblocking)?;
            pos.store(t, &input)?;
            Ok(n as u64)
        }
        (None, None) => Err(Errno::EINVAL),
    }
}

/// True for files between which and pipes nothing can be moved: event counters, epoll instances and their kind.
fn has_no_pages(file: &File) -> bool {
    let text = || file.ops().link_text();
    file.path().is_none() && text().is_some_and(|text| text.starts_with("anon_inode:"))
}

/// Tries until it succeeds; waits on whichever pipe is the obstacle.
fn between_pipes(
    t: &mut CurrentTask,
    input: &Arc<File>,
    output: &Arc<File>,
    nonblocking: bool,
    mut attempt: impl FnMut(&mut CurrentTask) -> Result<usize>,
) -> Result<usize> {
    loop {
        match attempt(t) {
            Err(Errno::EAGAIN) if !nonblocking => {}
            other => return other,
        }
        let empty = !input.poll().intersects(EventMask::READABLE | EventMask::HUP);
        let (file, events) = match empty {
            true => (input, EventMask::READABLE),
            false => (output, EventMask::WRITABLE),
        };
        let stop = events | EventMask::ALWAYS;
        blocking::on_file(t, file, events, false, None, |_| {
            if file.poll().intersects(stop) { Ok(()) } else { Err(Errno::EAGAIN) }
        })?;
        // The other one may be the obstacle now; a pipe held by another splice is neither empty nor
        // full, so give its owner the CPU.
        std::thread::yield_now();
        if t.interrupted() {
            return Err(Errno::ERESTARTSYS);
        }
    }
}

/// `tee(2)`.
pub fn tee(t: &mut CurrentTask, fd_in: Fd, fd_out: Fd, len: u64, flags: Flags) -> SysResult {
    if flags.0 & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (input, output) = (t.file(fd_in.0)?, t.file(fd_out.0)?);
    if !input.flags().readable() || !output.flags().writable() {
        return Err(Errno::EBADF);
    }
    let (Some(from), Some(to)) = (pipe::of(&input).cloned(), pipe::of(&output).cloned()) else {
        return Err(Errno::EINVAL);
    };
    if Arc::ptr_eq(&from, &to) {
        return Err(Errno::EINVAL);
    }
    let nonblocking =
        flags.0 & SPLICE_F_NONBLOCK != 0 || input.nonblocking() || output.nonblocking();
    let len = len.min(MAX_COUNT) as usize;
    let copied =
        between_pipes(t, &input, &output, nonblocking, |_| pipe::tee_pipes(&from, &to, len));
    with_signal(t, copied).map(|n| n as u64)
}

/// `vmsplice(2)`: copies, which a caller cannot tell from mapping as long as it does not change the
/// pages (and may not rely on it if it does).
pub fn vmsplice(
    t: &mut CurrentTask,
    fd: Fd,
    iov: UserAddr,
    nr_segs: u64,
    flags: Flags,
) -> SysResult {
    if flags.0 & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let file = t.file(fd.0)?;
    if pipe::of(&file).is_none() {
        return Err(Errno::EBADF);
    }
    if nr_segs > 1024 {
        return Err(Errno::EINVAL);
    }
    let nonblocking = flags.0 & SPLICE_F_NONBLOCK != 0 || file.nonblocking();
    let writes = file.flags().writable();
    let mut done = 0u64;
    for i in 0..nr_segs {
        let [base, len]: [u64; 2] = t.mm().read_obj(iov.offset(i * 16))?;
        if i64::try_from(len).is_err() {
            return Err(Errno::EINVAL);
        }
        let mut at = 0;
        while at < len && done < MAX_COUNT {
            let mut buf = vec![0; (len - at).min(CHUNK as u64) as usize];
            let addr = UserAddr(base).offset(at);
            let result = if writes {
                t.mm().read(addr, &mut buf).and_then(|()| {
                    // Room is waited for once, and filled.
                    let wait = nonblocking || done > 0;
                    let sent = blocking::on_file(t, &file, EventMask::WRITABLE, wait, None, |t| {
                        match write_all(t, &file, &buf, &mut Position::None, true) {
                            (0, Err(e)) => Err(e),
                            (n, _) => Ok(n),
                        }
                    });
                    with_signal(t, sent)
                })
            } else {
                // Only the first bytes are waited for.
                let wait = nonblocking || done > 0;
                blocking::on_file(t, &file, EventMask::READABLE, wait, None, |_| {
                    file.ops().read(&file, &mut BufSink::new(&mut buf), 0)
                })
                .and_then(|n| t.mm().write(addr, buf.get(..n).unwrap_or_default()).map(|()| n))
            };
            match result {
                Ok(n) => {
                    done += n as u64;
                    at += n as u64;
                    if n < buf.len() {
                        return Ok(done);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(done)
}

/// Copies from a file with a position to any other file.
fn copy(
    t: &mut CurrentTask,
    (input, from): (&Arc<File>, &mut Position),
    (output, to): (&Arc<File>, &mut Position),
    len: u64,
) -> Result<usize> {
    let mut buf = vec![0; CHUNK.min(len as usize)];
    let mut done = 0;
    while (done as u64) < len {
        let want = (len - done as u64).min(CHUNK as u64) as usize;
        let chunk = buf.get_mut(..want).unwrap_or_default();
        let n = match input.ops().read(input, &mut BufSink::new(chunk), from.at()) {
            Ok(0) => break,
            Ok(n) => n,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        };
        let data = buf.get(..n).unwrap_or_default();
        let (n, result) = write_all(t, output, data, to, output.nonblocking());
        from.advance(n);
        done += n;
        match result {
            Ok(()) if n == data.len() => {}
            Ok(()) => break,
            Err(_) if done > 0 => break,
            Err(e) => return with_signal(t, Err(e)),
        }
        if t.interrupted() {
            break;
        }
    }
    Ok(done)
}

/// `sendfile(2)`.
pub fn sendfile(
    t: &mut CurrentTask,
    out_fd: Fd,
    in_fd: Fd,
    offset: UserAddr,
    count: u64,
) -> SysResult {
    let input = t.file(in_fd.0)?;
    if !input.flags().readable() {
        return Err(Errno::EBADF);
    }
    let mut from = Position::of(t, &input, offset)?;
    if count > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let output = t.file(out_fd.0)?;
    if !output.flags().writable() {
        return Err(Errno::EBADF);
    }
    let to_pipe = pipe::of(&output).is_some();
    if !to_pipe && (!input.ops().seekable() || output.flags().contains(OpenFlags::APPEND)) {
        return Err(Errno::EINVAL);
    }
    if input.attr()?.is_dir() || !input.ops().seekable() || has_no_pages(&output) {
        return Err(Errno::EINVAL);
    }
    let mut to = Position::of(t, &output, UserAddr::NULL)?;
    let n = copy(t, (&input, &mut from), (&output, &mut to), count.min(MAX_COUNT))?;
    from.store(t, &input)?;
    to.store(t, &output)?;
    Ok(n as u64)
}

/// `copy_file_range(2)`.
pub fn copy_file_range(
    t: &mut CurrentTask,
    fd_in: Fd,
    off_in: UserAddr,
    fd_out: Fd,
    off_out: UserAddr,
    len: u64,
    flags: Flags,
) -> SysResult {
    let (input, output) = (t.file(fd_in.0)?, t.file(fd_out.0)?);
    // To Linux a negative offset is a large one here.
    let position = |file, addr| {
        Position::of(t, file, addr).map_err(|e| match e {
            Errno::EINVAL => Errno::EOVERFLOW,
            e => e,
        })
    };
    let mut from = position(&input, off_in)?;
    let mut to = position(&output, off_out)?;
    if flags.0 != 0 {
        return Err(Errno::EINVAL);
    }
    let (a, b) = (input.attr()?, output.attr()?);
    if a.is_dir() || b.is_dir() {
        return Err(Errno::EISDIR);
    }
    if !a.is_regular() || !b.is_regular() {
        return Err(Errno::EINVAL);
    }
    if !input.flags().readable()
        || !output.flags().writable()
        || output.flags().contains(OpenFlags::APPEND)
    {
        return Err(Errno::EBADF);
    }
    if a.dev != b.dev {
        return Err(Errno::EXDEV);
    }
    let max = i64::MAX as u64;
    if from.at().checked_add(len).is_none_or(|end| end > max)
        || to.at().checked_add(len).is_none_or(|end| end > max)
    {
        return Err(Errno::EOVERFLOW);
    }
    let len = len.min(a.size.saturating_sub(from.at()));
    if a.ino == b.ino && from.at() < to.at() + len && to.at() < from.at() + len {
        return Err(Errno::EINVAL);
    }
    let (_, room) = start_of_write(t, &output, to.at(), 0)?;
    let len = len.min(MAX_COUNT).min(room as u64);
    let n = copy(t, (&input, &mut from), (&output, &mut to), len)?;
    if n > 0 {
        from.store(t, &input)?;
        to.store(t, &output)?;
    }
    Ok(n as u64)
}
