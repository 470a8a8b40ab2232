//! `epoll_create(2)`, `epoll_ctl(2)`, `epoll_wait(2)` and their kin.

use super::wait::{Timeout, with_mask};
use crate::errno::{Errno, Result};
use crate::fs::epoll::{Epoll, Event};
use crate::kernel::{CurrentTask, Wake};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags};
use crate::vfs::File;
use crate::wait::EventMask;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, Unaligned};

const EPOLL_CLOEXEC: u32 = 0o2000000;
const EPOLL_CTL_ADD: i32 = 1;
const EPOLL_CTL_DEL: i32 = 2;
const EPOLL_CTL_MOD: i32 = 3;

/// `struct epoll_event`, packed as on x86-64.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, Unaligned)]
#[repr(C, packed)]
struct EpollEvent {
    events: u32,
    data: u64,
}

const EVENT_SIZE: i32 = size_of::<EpollEvent>() as i32;

/// `epoll_create(2)`.
pub fn epoll_create(t: &mut CurrentTask, size: i32) -> SysResult {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    epoll_create1(t, Flags(0))
}

/// `epoll_create1(2)`.
pub fn epoll_create1(t: &mut CurrentTask, flags: Flags) -> SysResult {
    if flags.0 & !EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    super::install(t, Epoll::open(), flags.0 & EPOLL_CLOEXEC != 0)
}

/// `epoll_ctl(2)`.
pub fn epoll_ctl(t: &mut CurrentTask, epfd: Fd, op: i32, fd: Fd, event: UserAddr) -> SysResult {
    let event = if op == EPOLL_CTL_DEL {
        Event { events: 0, data: 0 }
    } else {
        let e: EpollEvent = t.mm().read_obj(event)?;
        Event { events: e.events, data: e.data }
    };
    let epfile = t.file(epfd.0)?;
    let file = t.file(fd.0)?;
    if file.ops().wait_queue().is_none() {
        return Err(Errno::EPERM);
    }
    let epoll = match epfile.ops_as::<Epoll>() {
        Some(epoll) if epfile.id() != file.id() => epoll,
        _ => return Err(Errno::EINVAL),
    };
    match op {
        EPOLL_CTL_ADD => epoll.add(&epfile, fd.0, &file, event)?,
        EPOLL_CTL_MOD => epoll.modify(fd.0, &file, event)?,
        EPOLL_CTL_DEL => epoll.delete(&epfile, fd.0, &file)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn do_wait(
    t: &mut CurrentTask,
    file: &Arc<File>,
    events: UserAddr,
    max: i32,
    timeout: Timeout,
) -> SysResult {
    let epoll = file.ops_as::<Epoll>().ok_or(Errno::EINVAL)?;
    let max = max as usize;
    let collect = |t: &CurrentTask| -> Result<usize> {
        epoll.collect(max, |i, event| {
            let out = EpollEvent { events: event.events, data: event.data };
            let at = events.offset((i * size_of::<EpollEvent>()) as u64);
            t.mm().write_obj(at, &out)
        })
    };
    let n = collect(t)?;
    if n > 0 || timeout == Timeout::Zero {
        return Ok(n as u64);
    }
    let key = epoll.waiters().add_exclusive(EventMask::READABLE, t.waker());
    let result = loop {
        match collect(t) {
            Ok(0) => {}
            other => break other,
        }
        match t.block(timeout.deadline()) {
            Wake::Event => {}
            Wake::Timeout => break collect(t),
            Wake::Interrupted => break Err(Errno::EINTR),
        }
    };
    epoll.waiters().remove(key);
    if epoll.maybe_ready() {
        // Our wake-up may have been meant for events that others can still take.
        epoll.waiters().notify(EventMask::READABLE);
    }
    result.map(|n| n as u64)
}

fn check(t: &CurrentTask, epfd: Fd, max: i32) -> Result<Arc<File>> {
    if max <= 0 || max > i32::MAX / EVENT_SIZE {
        return Err(Errno::EINVAL);
    }
    let file = t.file(epfd.0)?;
    if file.ops_as::<Epoll>().is_none() {
        return Err(Errno::EINVAL);
    }
    Ok(file)
}

/// `epoll_wait(2)`.
pub fn epoll_wait(
    t: &mut CurrentTask,
    epfd: Fd,
    events: UserAddr,
    maxevents: i32,
    timeout: i32,
) -> SysResult {
    let file = check(t, epfd, maxevents)?;
    do_wait(t, &file, events, maxevents, Timeout::from_millis(timeout))
}

/// `epoll_pwait(2)`.
pub fn epoll_pwait(
    t: &mut CurrentTask,
    epfd: Fd,
    events: UserAddr,
    maxevents: i32,
    timeout: i32,
    sigmask: UserAddr,
    sigsetsize: u64,
) -> SysResult {
    with_mask(t, sigmask, sigsetsize, |t| epoll_wait(t, epfd, events, maxevents, timeout))
}

/// `epoll_pwait2(2)`.
pub fn epoll_pwait2(
    t: &mut CurrentTask,
    epfd: Fd,
    events: UserAddr,
    maxevents: i32,
    timeout: UserAddr,
    sigmask: UserAddr,
    sigsetsize: u64,
) -> SysResult {
    let limit = Timeout::read_timespec(t, timeout)?;
    with_mask(t, sigmask, sigsetsize, |t| {
        let file = check(t, epfd, maxevents)?;
        do_wait(t, &file, events, maxevents, limit)
    })
}
