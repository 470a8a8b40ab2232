//! Signals as a file (`signalfd(2)`).

use super::{SigFields, SigInfo, SigSet, send};
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::kernel::{ThreadGroup, inspect};
use crate::vfs::{Attr, File, FileOps};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Size of `struct signalfd_siginfo`.
const RECORD: usize = 128;

/// A file from which pending signals are read. Reading takes the signals of whoever reads; readiness is
/// announced for the process that made the file.
pub struct SignalFd {
    mask: AtomicU64,
    group: Arc<ThreadGroup>,
}

impl SignalFd {
    /// A file that takes the signals in `mask`.
    pub fn new(group: &Arc<ThreadGroup>, mask: SigSet) -> SignalFd {
        SignalFd { mask: AtomicU64::new(mask.0), group: group.clone() }
    }

    /// Changes the signals it takes.
    pub fn set_mask(&self, mask: SigSet) {
        self.mask.store(mask.0, Ordering::Relaxed);
        self.group.signal_queue.notify(EventMask::READABLE);
    }

    fn mask(&self) -> SigSet {
        SigSet(self.mask.load(Ordering::Relaxed))
    }
}

/// The record that a read returns for a signal.
fn record(info: &SigInfo) -> [u8; RECORD] {
    let mut out = [0; RECORD];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &info.signal.number().to_le_bytes());
    put(4, &info.errno.to_le_bytes());
    put(8, &info.code.to_le_bytes());
    match info.fields {
        SigFields::Kill { pid, uid } => {
            put(12, &pid.to_le_bytes());
            put(16, &uid.to_le_bytes());
        }
        SigFields::Queue { pid, uid, value } => {
            put(12, &pid.to_le_bytes());
            put(16, &uid.to_le_bytes());
            put(44, &(value as u32).to_le_bytes());
            put(48, &value.to_le_bytes());
        }
        SigFields::Raw(bytes) => {
            // As queued by sigqueue(3): process id, user id, value.
            put(12, bytes.get(..8).unwrap_or_default());
            put(44, bytes.get(8..12).unwrap_or_default());
            put(48, bytes.get(8..16).unwrap_or_default());
        }
        SigFields::Timer { id, overrun, value, .. } => {
            put(24, &id.to_le_bytes());
            put(32, &overrun.to_le_bytes());
            put(44, &(value as u32).to_le_bytes());
            put(48, &value.to_le_bytes());
        }
        SigFields::Child { pid, uid, status, utime, stime } => {
            put(12, &pid.to_le_bytes());
            put(16, &uid.to_le_bytes());
            put(40, &status.to_le_bytes());
            put(56, &utime.to_le_bytes());
            put(64, &stime.to_le_bytes());
        }
        SigFields::Fault { addr } | SigFields::KeyFault { addr, .. } => {
            put(72, &addr.to_le_bytes())
        }
        SigFields::Poll { band, fd } => {
            put(20, &fd.to_le_bytes());
            put(28, &(band as u32).to_le_bytes());
        }
        SigFields::Sys { addr, nr, arch } => {
            put(84, &nr.to_le_bytes());
            put(88, &addr.to_le_bytes());
            put(96, &arch.to_le_bytes());
        }
    }
    out
}

impl FileOps for SignalFd {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let Some(task) = inspect::current() else { return Err(Errno::EAGAIN) };
        if dst.remaining() < RECORD {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        while dst.remaining() >= RECORD {
            let Some(info) = send::take_from_set(&task, self.mask()) else { break };
            match dst.put(&record(&info)) {
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn poll(&self, _file: &File) -> EventMask {
        let ready = match inspect::current() {
            Some(task) => task.pending_hint(),
            None => SigSet(self.group.shared_pending.load(Ordering::SeqCst)),
        };
        // As Linux: no `RDNORM`.
        if ready.and(self.mask()).is_empty() { EventMask::empty() } else { EventMask::IN }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.group.signal_queue)
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(crate::fs::anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[signalfd]".to_owned())
    }

    fn fdinfo(&self) -> String {
        format!("sigmask:\t{:016x}\n", self.mask().0)
    }

    fn ignores_position(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
