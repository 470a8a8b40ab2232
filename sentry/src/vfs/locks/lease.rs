//! File leases (`F_SETLEASE` of `fcntl(2)`): who holds one is told with a signal before someone else opens the
//! file in a way that does not go with it, and has some time to give it up.

use super::{F_RDLCK, F_UNLCK, F_WRLCK};
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Wake};
use crate::sync::{Mutex, rank};
use crate::vfs::async_io::{self, LeaseBell};
use crate::vfs::permission::CAP_LEASE;
use crate::vfs::{Attachments, File, FileType};
use crate::wait::{EventMask, WaitQueue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// `fs.lease-break-time`, in seconds.
pub static BREAK_TIME: AtomicU32 = AtomicU32::new(45);
/// `fs.leases-enable`.
pub static ENABLED: AtomicU32 = AtomicU32::new(1);

/// The leases of an inode.
#[derive(Default)]
struct Leases {
    list: Mutex<Vec<Lease>, { rank::FILE_LOCKS }>,
    /// Those who wait for one to go.
    queue: WaitQueue,
}

struct Lease {
    /// Open file description that holds it.
    file: u64,
    write: bool,
    bell: LeaseBell,
    breaking: Option<Breaking>,
}

/// A lease whose holder has been told.
#[derive(Clone, Copy)]
struct Breaking {
    /// It has to go; otherwise it has to become a read lease.
    remove: bool,
    /// When that happens by itself, in nanoseconds of the monotonic clock.
    at: u64,
}

impl Lease {
    /// What is left of it, as `F_GETLEASE` tells.
    fn target(&self) -> i16 {
        match self.breaking {
            Some(Breaking { remove: true, .. }) => F_UNLCK,
            Some(_) => F_RDLCK,
            None if self.write => F_WRLCK,
            None => F_RDLCK,
        }
    }
}

/// Ends what holders have had time enough to end. True if something changed.
fn expire(list: &mut Vec<Lease>, now: u64) -> bool {
    let mut changed = false;
    for lease in list.iter_mut().filter(|l| l.breaking.is_some_and(|b| !b.remove && b.at <= now)) {
        (lease.write, lease.breaking, changed) = (false, None, true);
    }
    let before = list.len();
    list.retain(|l| {
        let over = l.breaking.is_some_and(|b| b.remove && b.at <= now);
        if over {
            l.bell.end();
        }
        !over
    });
    changed || list.len() != before
}

fn now(t: &CurrentTask) -> u64 {
    t.kernel().time.monotonic()
}

/// The place of a file that can have leases. `EACCES` unless the caller owns it, `EINVAL` if it is not regular.
fn attachments<'a>(t: &CurrentTask, file: &'a File) -> Result<&'a Attachments> {
    let path = file.path().ok_or(Errno::EINVAL)?;
    let attr = file.attr()?;
    if attr.uid != t.creds().fsuid && !t.creds().has_over(&attr, CAP_LEASE) {
        return Err(Errno::EACCES);
    }
    if path.dentry.file_type() != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    Ok(path.inode().attachments())
}

/// `F_SETLEASE`. `EAGAIN` while the file is open in a way that does not go with the lease, or when one that is
/// to be given up is not there.
pub fn set(t: &CurrentTask, file: &Arc<File>, fd: i32, kind: i16) -> Result<()> {
    if !matches!(kind, F_RDLCK | F_WRLCK | F_UNLCK) {
        return Err(Errno::EINVAL);
    }
    let attachments = attachments(t, file)?;
    if kind == F_UNLCK {
        return if remove(attachments, file.id()) { Ok(()) } else { Err(Errno::EAGAIN) };
    }
    if ENABLED.load(Ordering::Relaxed) == 0 {
        return Err(Errno::EINVAL);
    }
    let write = kind == F_WRLCK;
    let flags = file.flags();
    let leases = attachments.get_or_insert_with(Leases::default);
    {
        let mut list = leases.list.lock();
        expire(&mut list, now(t));
        let others = if write {
            let own = (u32::from(!flags.writable()), u32::from(flags.writable()));
            attachments.open_counts() != own
        } else {
            attachments.open_counts().1 != 0
        };
        let in_the_way = |l: &Lease| {
            l.file != file.id() && (write || l.breaking.is_some_and(|breaking| breaking.remove))
        };
        if others || list.iter().any(in_the_way) {
            return Err(Errno::EAGAIN);
        }
        list.retain(|l| l.file != file.id());
        let bell = async_io::lease_bell(t, file, fd);
        list.push(Lease { file: file.id(), write, bell, breaking: None });
    }
    leases.queue.notify(EventMask::IN);
    Ok(())
}

/// `F_GETLEASE`.
pub fn get(t: &CurrentTask, file: &File) -> i16 {
    let leases = file.path().and_then(|p| p.inode().attachments().get::<Leases>());
    let Some(leases) = leases else { return F_UNLCK };
    let mut list = leases.list.lock();
    expire(&mut list, now(t));
    list.iter().find(|l| l.file == file.id()).map_or(F_UNLCK, Lease::target)
}

fn remove(attachments: &Attachments, file: u64) -> bool {
    let Some(leases) = attachments.get::<Leases>() else { return false };
    let gone: Vec<Lease> = {
        let mut list = leases.list.lock();
        let at = list.iter().position(|l| l.file == file);
        at.map(|i| list.swap_remove(i)).into_iter().collect()
    };
    for lease in &gone {
        lease.bell.end();
    }
    if !gone.is_empty() {
        leases.queue.notify(EventMask::IN);
    }
    !gone.is_empty()
}

/// The open file description is gone, and its lease with it.
pub fn release(file: &File) {
    if let Some(path) = file.path() {
        remove(path.inode().attachments(), file.id());
    }
}

/// Told of by those who break leases: whom to tell, and until when to wait. `None`: nothing is in the way.
fn begin(list: &mut Vec<Lease>, write: bool, now: u64) -> Option<(Vec<LeaseBell>, u64)> {
    expire(list, now);
    let until = now + u64::from(BREAK_TIME.load(Ordering::Relaxed)) * 1_000_000_000;
    let (mut bells, mut last) = (Vec::new(), None);
    for lease in list.iter_mut().filter(|l| write || l.write) {
        let told = lease.breaking.is_some_and(|b| b.remove || !write);
        if !told {
            lease.breaking = Some(Breaking { remove: write, at: until });
            bells.push(lease.bell.clone());
        }
        last = last.max(lease.breaking.map(|b| b.at));
    }
    last.map(|last| (bells, last))
}

/// Breaks the leases that do not go with an opening (or a truncation, which is a `write`), and waits until they
/// are gone. `EWOULDBLOCK` instead with `nonblocking`, `ERESTARTSYS` for a signal. No lock may be held.
pub fn break_leases(
    t: &mut CurrentTask,
    attachments: &Attachments,
    write: bool,
    nonblocking: bool,
) -> Result<()> {
    let Some(leases) = attachments.get::<Leases>() else { return Ok(()) };
    let key = leases.queue.add(EventMask::IN, t.waker());
    let result = loop {
        let begun = begin(&mut leases.list.lock(), write, now(t));
        let Some((bells, until)) = begun else { break Ok(()) };
        for bell in bells {
            bell.ring();
        }
        if nonblocking {
            break Err(Errno::EAGAIN);
        }
        if let Wake::Interrupted = t.block(Some(until)) {
            break Err(Errno::ERESTARTSYS);
        }
    };
    leases.queue.remove(key);
    result
}
