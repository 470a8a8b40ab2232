//! `poll(2)` and `ppoll(2)`.

use super::wait::{Timeout, with_mask};
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Wake};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::time::restart::RestartBlock;
use crate::vfs::File;
use crate::wait::{EventMask, WaitKey};
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct pollfd`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PollFd {
    fd: i32,
    events: u16,
    revents: u16,
}

/// A file and the events that are waited for.
pub(super) struct Watched {
    pub file: Arc<File>,
    pub events: EventMask,
}

impl Watched {
    /// Wanted events that have happened; errors and hang-ups are always wanted.
    pub fn ready(&self) -> EventMask {
        self.file.poll() & (self.events | EventMask::ALWAYS)
    }
}

/// Waits until `scan` finds something (returns more than 0), calling it again whenever one of the
/// files announces something. 0 when the time is up; `ERESTARTNOHAND` for a signal.
pub(super) fn wait_for(
    t: &mut CurrentTask,
    files: &[Watched],
    timeout: Timeout,
    mut scan: impl FnMut() -> usize,
) -> Result<usize> {
    let n = scan();
    if n > 0 || timeout == Timeout::Zero {
        return Ok(n);
    }
    let mut keys: Vec<Option<WaitKey>> = Vec::with_capacity(files.len());
    for watched in files {
        let queue = watched.file.ops().wait_queue();
        keys.push(queue.map(|q| q.add(watched.events, t.waker())));
    }
    let result = loop {
        let n = scan();
        if n > 0 {
            break Ok(n);
        }
        match t.block(timeout.deadline()) {
            Wake::Event => {}
            Wake::Timeout => break Ok(scan()),
            Wake::Interrupted => break Err(Errno::ERESTARTNOHAND),
        }
    };
    for (watched, key) in files.iter().zip(keys) {
        if let (Some(queue), Some(key)) = (watched.file.ops().wait_queue(), key) {
            queue.remove(key);
        }
    }
    result
}

fn do_poll(t: &mut CurrentTask, addr: UserAddr, nfds: u32, timeout: Timeout) -> SysResult {
    if u64::from(nfds) > super::wait::max_fds(t) {
        return Err(Errno::EINVAL);
    }
    let mut fds = vec![PollFd::default(); nfds as usize];
    t.mm().read(addr, fds.as_mut_slice().as_mut_bytes())?;
    let mut files = Vec::new();
    // Where in `fds` each file stands.
    let mut index = Vec::new();
    let mut invalid = 0;
    for (i, pollfd) in fds.iter_mut().enumerate() {
        pollfd.revents = 0;
        if pollfd.fd < 0 {
            continue;
        }
        match t.file(pollfd.fd) {
            Ok(file) => {
                let events = EventMask::from_bits_truncate(u32::from(pollfd.events));
                files.push(Watched { file, events });
                index.push(i);
            }
            Err(_) => {
                pollfd.revents = EventMask::NVAL.bits() as u16;
                invalid += 1;
            }
        }
    }
    // A bad descriptor is an event: then nothing is waited for.
    let timeout = if invalid > 0 { Timeout::Zero } else { timeout };
    let n = wait_for(t, &files, timeout, || {
        let mut n = 0;
        for (watched, &i) in files.iter().zip(&index) {
            let ready = watched.ready();
            if let Some(pollfd) = fds.get_mut(i) {
                pollfd.revents = ready.bits() as u16;
            }
            n += usize::from(!ready.is_empty());
        }
        n
    })?;
    // Only the answers are stored: the program may change the rest meanwhile.
    for (i, pollfd) in fds.iter().enumerate() {
        t.mm().write(addr.offset(i as u64 * 8 + 6), &pollfd.revents.to_ne_bytes())?;
    }
    Ok((n + invalid) as u64)
}

/// `poll(2)`.
pub fn poll(t: &mut CurrentTask, fds: UserAddr, nfds: u32, timeout: i32) -> SysResult {
    let timeout = Timeout::from_millis(timeout);
    restart_poll(t, fds, nfds, timeout.deadline())
}

/// `poll(2)` until an absolute time: how an interrupted one goes on.
pub fn restart_poll(
    t: &mut CurrentTask,
    fds: UserAddr,
    count: u32,
    deadline: Option<u64>,
) -> SysResult {
    let timeout = match deadline {
        None => Timeout::Never,
        Some(0) => Timeout::Zero,
        Some(at) => Timeout::At(at),
    };
    do_poll(t, fds, count, timeout).map_err(|e| match e {
        Errno::ERESTARTNOHAND => {
            t.restart = Some(RestartBlock::Poll { fds, count, deadline });
            Errno::ERESTART_RESTARTBLOCK
        }
        e => e,
    })
}

/// `ppoll(2)`.
pub fn ppoll(
    t: &mut CurrentTask,
    fds: UserAddr,
    nfds: u32,
    tmo: UserAddr,
    sigmask: UserAddr,
    sigsetsize: u64,
) -> SysResult {
    let timeout = Timeout::read_timespec(t, tmo)?;
    let result = with_mask(t, sigmask, sigsetsize, |t| do_poll(t, fds, nfds, timeout));
    timeout.write_left(t, tmo, false);
    result
}
