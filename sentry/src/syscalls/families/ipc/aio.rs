//! Asynchronous I/O: `io_setup(2)`, `io_submit(2)`, `io_getevents(2)` and their kin.

use super::wait::{Timeout, with_mask};
use crate::errno::{Errno, Result};
use crate::fs::eventfd::EventFd;
use crate::kernel::aio::{Completion, Context};
use crate::kernel::{CurrentTask, Wake};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::families::file::{Buffers, aio_transfer};
use crate::vfs::File;
use crate::wait::EventMask;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const POLL: u16 = 5;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

/// `IOCB_FLAG_RESFD`: add to an event counter when it is done.
const FLAG_RESFD: u32 = 1;
/// `IOCB_FLAG_IOPRIO`: `reqprio` is an I/O priority.
const FLAG_IOPRIO: u32 = 2;
/// What the kernel stores in `key`.
const KEY: u32 = 0;
const KEY_OFFSET: u64 = 8;

/// `struct iocb`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    reqprio: i16,
    fildes: i32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved2: u64,
    flags: u32,
    resfd: i32,
}

/// `io_setup(2)`.
pub fn io_setup(t: &mut CurrentTask, nr_events: u32, ctx_idp: UserAddr) -> SysResult {
    let old: u64 = t.mm().read_obj(ctx_idp)?;
    if old != 0 {
        return Err(Errno::EINVAL);
    }
    let aio = &t.kernel().aio;
    let context = aio.create(t.mm(), nr_events, t.kernel().config.cpus)?;
    if let Err(e) = t.mm().write_obj(ctx_idp, &context.id().0) {
        aio.destroy(t.mm(), context.id())?;
        return Err(e);
    }
    Ok(0)
}

/// `io_destroy(2)`.
pub fn io_destroy(t: &mut CurrentTask, ctx_id: UserAddr) -> SysResult {
    t.kernel().aio.destroy(t.mm(), ctx_id)?;
    Ok(0)
}

/// `io_submit(2)`.
pub fn io_submit(t: &mut CurrentTask, ctx_id: UserAddr, nr: i64, iocbpp: UserAddr) -> SysResult {
    let nr = u64::try_from(nr).map_err(|_| Errno::EINVAL)?;
    let context = t.kernel().aio.find(t.mm(), ctx_id)?;
    let nr = nr.min(u64::from(context.slots()));
    for i in 0..nr {
        if let Err(e) = submit_one(t, &context, iocbpp.0.wrapping_add(i * 8)) {
            return if i == 0 { Err(e) } else { Ok(i) };
        }
    }
    Ok(nr)
}

fn submit_one(t: &mut CurrentTask, context: &Arc<Context>, place: u64) -> Result<()> {
    let at = UserAddr(t.mm().read_obj(UserAddr(place))?);
    let iocb: Iocb = t.mm().read_obj(at)?;
    if iocb.reserved2 != 0 || (iocb.nbytes as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    if !context.has_room(t.mm()) {
        return Err(Errno::EAGAIN);
    }
    let file = t.file(iocb.fildes)?;
    let mut completion = Completion { data: iocb.data, obj: at.0, counter: None };
    if iocb.flags & FLAG_RESFD != 0 {
        let counter = t.file(iocb.resfd)?;
        counter.ops_as::<EventFd>().ok_or(Errno::EINVAL)?;
        completion.counter = Some(counter);
    }
    t.mm().write_obj(UserAddr(at.0 + KEY_OFFSET), &KEY)?;
    let vector = |t: &CurrentTask| Buffers::many(t, UserAddr(iocb.buf), iocb.nbytes);
    let single = Buffers::One(UserAddr(iocb.buf), iocb.nbytes);
    let result = match iocb.opcode {
        PREAD => transfer(t, &file, &single, &iocb, false)?,
        PWRITE => transfer(t, &file, &single, &iocb, true)?,
        PREADV => {
            check_mode(&file, false)?;
            let buffers = vector(t)?;
            transfer(t, &file, &buffers, &iocb, false)?
        }
        PWRITEV => {
            check_mode(&file, true)?;
            let buffers = vector(t)?;
            transfer(t, &file, &buffers, &iocb, true)?
        }
        FSYNC | FDSYNC => {
            if iocb.buf != 0 || iocb.offset != 0 || iocb.nbytes != 0 || iocb.rw_flags != 0 {
                return Err(Errno::EINVAL);
            }
            match file.ops().sync(iocb.opcode == FDSYNC) {
                // It cannot be synced at all.
                Err(Errno::EINVAL) => return Err(Errno::EINVAL),
                result => result.map(|()| 0),
            }
        }
        POLL => return poll(context, &file, &iocb, completion),
        _ => return Err(Errno::EINVAL),
    };
    let res = match result {
        Ok(n) => n as i64,
        // Not submitted again, whatever interrupted it.
        Err(e) if e.is_restart() => -i64::from(Errno::EINTR.raw()),
        Err(e) => -i64::from(e.raw()),
    };
    context.complete(&completion, res);
    Ok(())
}

fn check_mode(file: &File, write: bool) -> Result<()> {
    let flags = file.flags();
    if if write { flags.writable() } else { flags.readable() } { Ok(()) } else { Err(Errno::EBADF) }
}

/// The outer result is that of the submission, the inner one that of the transfer.
fn transfer(
    t: &mut CurrentTask,
    file: &Arc<File>,
    buffers: &Buffers,
    iocb: &Iocb,
    write: bool,
) -> Result<SysResult> {
    if iocb.flags & FLAG_IOPRIO != 0 && !(0..=0x7fff).contains(&iocb.reqprio) {
        return Err(Errno::EINVAL);
    }
    aio_transfer(t, file, buffers, iocb.offset, iocb.rw_flags, write)
}

fn poll(context: &Arc<Context>, file: &Arc<File>, iocb: &Iocb, done: Completion) -> Result<()> {
    let events = u16::try_from(iocb.buf).map_err(|_| Errno::EINVAL)?;
    if iocb.offset != 0 || iocb.nbytes != 0 || iocb.rw_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let events = EventMask::from_bits_truncate(u32::from(events)) | EventMask::ALWAYS;
    context.poll(file, events, done);
    Ok(())
}

fn wait(
    t: &mut CurrentTask,
    ctx_id: UserAddr,
    min_nr: i64,
    nr: i64,
    events: UserAddr,
    timeout: Timeout,
) -> SysResult {
    let context = t.kernel().aio.find(t.mm(), ctx_id)?;
    let (Ok(min), Ok(max)) = (u64::try_from(min_nr), u64::try_from(nr)) else {
        return Err(Errno::EINVAL);
    };
    if min > max {
        return Err(Errno::EINVAL);
    }
    let mm = t.mm().clone();
    let take = |done: u64| {
        let to =
            UserAddr(events.0.wrapping_add(done * size_of::<crate::kernel::aio::IoEvent>() as u64));
        context.take(&mm, to, max - done)
    };
    let mut done = take(0)?;
    if done >= min || timeout == Timeout::Zero {
        return Ok(done);
    }
    let key = context.queue.add(EventMask::READABLE, t.waker());
    let result = loop {
        match take(done) {
            Ok(n) => done += n,
            Err(e) if done == 0 => break Err(e),
            Err(_) => break Ok(done),
        }
        if done >= min || context.is_dead() {
            break Ok(done);
        }
        match t.block(timeout.deadline()) {
            Wake::Event => {}
            Wake::Timeout => break Ok(done),
            Wake::Interrupted if done == 0 => break Err(Errno::EINTR),
            Wake::Interrupted => break Ok(done),
        }
    };
    context.queue.remove(key);
    result
}

/// `io_getevents(2)`.
pub fn io_getevents(
    t: &mut CurrentTask,
    ctx_id: UserAddr,
    min_nr: i64,
    nr: i64,
    events: UserAddr,
    timeout: UserAddr,
) -> SysResult {
    let timeout = read_timeout(t, timeout)?;
    wait(t, ctx_id, min_nr, nr, events, timeout)
}

/// A time to wait, which unlike other calls' is not checked: a negative one is over.
fn read_timeout(t: &CurrentTask, addr: UserAddr) -> Result<Timeout> {
    if addr.is_null() {
        return Ok(Timeout::Never);
    }
    let [sec, nsec]: [i64; 2] = t.mm().read_obj(addr)?;
    let nanos = sec.saturating_mul(1_000_000_000).saturating_add(nsec);
    Ok(Timeout::after(u64::try_from(nanos).unwrap_or(0)))
}

/// `io_pgetevents(2)`.
pub fn io_pgetevents(
    t: &mut CurrentTask,
    ctx_id: UserAddr,
    min_nr: i64,
    nr: i64,
    events: UserAddr,
    timeout: UserAddr,
    usig: UserAddr,
) -> SysResult {
    let timeout = read_timeout(t, timeout)?;
    let [mask, size]: [u64; 2] = match usig.is_null() {
        true => [0, 0],
        false => t.mm().read_obj(usig)?,
    };
    let call = |t: &mut CurrentTask| wait(t, ctx_id, min_nr, nr, events, timeout);
    with_mask(t, UserAddr(mask), size, call).map_err(|e| match e {
        Errno::EINTR => Errno::ERESTARTNOHAND,
        e => e,
    })
}

/// `io_cancel(2)`.
pub fn io_cancel(
    t: &mut CurrentTask,
    ctx_id: UserAddr,
    iocb: UserAddr,
    _result: UserAddr,
) -> SysResult {
    let key: u32 = t.mm().read_obj(UserAddr(iocb.0.wrapping_add(KEY_OFFSET)))?;
    if key != KEY {
        return Err(Errno::EINVAL);
    }
    t.kernel().aio.find(t.mm(), ctx_id)?.cancel(iocb)?;
    Err(Errno::EINPROGRESS)
}
