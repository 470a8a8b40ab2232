//! One thread of the sentry that watches descriptors of the host for changes and tells wait queues.

use crate::errno::Result;
use crate::io::from_host;
use crate::sync::{Mutex, rank};
use crate::vfs::File;
use crate::wait::{EventMask, WaitQueue};
use platform::host::{Errno as HostErrno, poll, thread, watch::Watch};
use rustc_hash::FxHashMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Stack of the watching thread, in bytes.
const STACK: usize = 64 << 10;

/// The thread that watches, and whom it tells.
struct Watcher {
    watch: Watch,
    next: AtomicU64,
    queues: Mutex<FxHashMap<u64, Weak<WaitQueue>>, { rank::LEAF }>,
}

/// A descriptor is watched as long as this is there.
pub struct Watched(u64);

impl Watched {
    /// Has `queue` told when the readiness of `fd` changes.
    pub fn new(fd: BorrowedFd<'_>, queue: &Arc<WaitQueue>) -> Result<Watched> {
        let watcher = watcher()?;
        let watched = Watched(watcher.next.fetch_add(1, Ordering::Relaxed));
        watcher.queues.lock().insert(watched.0, Arc::downgrade(queue));
        match watcher.watch.add(fd, watched.0) {
            // Always ready, or watched already.
            Ok(()) | Err(HostErrno::EPERM | HostErrno::EEXIST) => Ok(watched),
            Err(e) => Err(from_host(e)),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The host forgets a descriptor when it is closed.
        if let Ok(watcher) = watcher() {
            watcher.queues.lock().remove(&self.0);
        }
    }
}

fn watcher() -> Result<&'static Watcher> {
    static WATCHER: OnceLock<std::result::Result<Watcher, HostErrno>> = OnceLock::new();
    static STARTED: OnceLock<std::result::Result<(), HostErrno>> = OnceLock::new();
    let made = WATCHER.get_or_init(|| {
        let (next, queues) = (AtomicU64::new(0), Mutex::default());
        Ok(Watcher { watch: Watch::new()?, next, queues })
    });
    let watcher = made.as_ref().map_err(|e| from_host(*e))?;
    let started =
        STARTED.get_or_init(|| thread::spawn("host-files", STACK, || watcher.run()).map(drop));
    started.as_ref().map_err(|e| from_host(*e))?;
    Ok(watcher)
}

impl Watcher {
    fn run(&self) {
        loop {
            let waited = self.watch.wait(|key, events| {
                let queue = self.queues.lock().get(&key).and_then(Weak::upgrade);
                if let Some(queue) = queue {
                    queue.notify(EventMask::from_bits_truncate(events));
                }
            });
            match waited {
                Ok(()) | Err(HostErrno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// What of `wanted` and of what the file was opened for is there now, as `poll(2)` tells it here.
pub fn ready_now(fd: BorrowedFd<'_>, file: &File, mut wanted: poll::Events) -> EventMask {
    if file.flags().readable() {
        wanted |= libc::POLLIN;
    }
    if file.flags().writable() {
        wanted |= libc::POLLOUT;
    }
    let found = poll::poll_now(fd, wanted).unwrap_or(libc::POLLERR);
    let mut mask = EventMask::from_bits_truncate(u32::from(found as u16));
    if mask.contains(EventMask::IN) {
        mask |= EventMask::RDNORM;
    }
    if mask.contains(EventMask::OUT) {
        mask |= EventMask::WRNORM;
    }
    mask
}
