//! Limits of message queues (`/proc/sys/fs/mqueue`) and what users have taken (`RLIMIT_MSGQUEUE`).

use crate::errno::{Errno, Result};
use crate::kernel::{Credentials, Rlimit, Task};
use crate::sync::{Mutex, rank};
use crate::vfs::permission::CAP_SYS_RESOURCE;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};

/// Most messages of a queue, for the privileged too.
pub const HARD_MSGMAX: i32 = 65536;
/// Longest message in bytes, for the privileged too.
pub const HARD_MSGSIZEMAX: i32 = 16 << 20;
/// What a message costs beyond its text.
const MESSAGE_OVERHEAD: u64 = 48;
/// What a priority in use costs.
const PRIORITY_OVERHEAD: u64 = 48;

/// The limits of an IPC namespace.
pub struct Settings {
    /// `queues_max`: queues.
    pub queues_max: AtomicI32,
    /// `msg_max`: messages of a queue.
    pub msg_max: AtomicI32,
    /// `msgsize_max`: bytes of a message.
    pub msgsize_max: AtomicI32,
    /// `msg_default`: messages of a queue made without attributes.
    pub msg_default: AtomicI32,
    /// `msgsize_default`: bytes of a message of such a queue.
    pub msgsize_default: AtomicI32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queues_max: AtomicI32::new(256),
            msg_max: AtomicI32::new(10),
            msgsize_max: AtomicI32::new(8192),
            msg_default: AtomicI32::new(10),
            msgsize_default: AtomicI32::new(8192),
        }
    }
}

/// How large a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Most messages.
    pub messages: u64,
    /// Most bytes of a message.
    pub bytes: u64,
}

impl Settings {
    /// The size of a new queue; `wanted` are `mq_maxmsg` and `mq_msgsize`. `EINVAL`, `EOVERFLOW`.
    pub fn size(&self, creds: &Credentials, wanted: Option<(i64, i64)>) -> Result<Size> {
        let get = |place: &AtomicI32| i64::from(place.load(Ordering::Relaxed));
        let (max, longest) = (get(&self.msg_max), get(&self.msgsize_max));
        let (messages, bytes) = wanted.unwrap_or_else(|| {
            (max.min(get(&self.msg_default)), longest.min(get(&self.msgsize_default)))
        });
        let (max, longest) = match creds.has(CAP_SYS_RESOURCE) {
            true => (i64::from(HARD_MSGMAX), i64::from(HARD_MSGSIZEMAX)),
            false => (max, longest),
        };
        if !(1..=max).contains(&messages) || !(1..=longest).contains(&bytes) {
            return Err(Errno::EINVAL);
        }
        Ok(Size { messages: messages as u64, bytes: bytes as u64 })
    }

    /// `ENOSPC` if the namespace has `queues` already and may not have one more.
    pub fn check_room(&self, creds: &Credentials, queues: usize) -> Result<()> {
        let max = usize::try_from(self.queues_max.load(Ordering::Relaxed)).unwrap_or(0);
        let room = queues < max || creds.has(CAP_SYS_RESOURCE);
        if room { Ok(()) } else { Err(Errno::ENOSPC) }
    }
}

/// What each user has taken, in bytes.
static TAKEN: Mutex<BTreeMap<u32, u64>, { rank::LEAF }> = Mutex::new(BTreeMap::new());

/// Bytes taken from a user's `RLIMIT_MSGQUEUE`; given back when it is dropped.
pub struct Charge {
    uid: u32,
    bytes: u64,
}

impl Charge {
    /// Takes what a queue of that size may need. `EMFILE` when the user has too much.
    pub fn take(task: &Task, size: Size) -> Result<Charge> {
        let priorities = size.messages.min(super::PRIO_MAX.into());
        let bytes = size
            .messages
            .saturating_mul(size.bytes + MESSAGE_OVERHEAD)
            .saturating_add(priorities * PRIORITY_OVERHEAD);
        let uid = task.creds().uid;
        let limit = task.limit(Rlimit::Msgqueue).soft;
        let mut taken = TAKEN.lock();
        let before = taken.get(&uid).copied().unwrap_or(0);
        let after = before.checked_add(bytes).filter(|n| *n <= limit).ok_or(Errno::EMFILE)?;
        taken.insert(uid, after);
        Ok(Charge { uid, bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock();
        let left = taken.get(&self.uid).map_or(0, |n| n.saturating_sub(self.bytes));
        match left {
            0 => drop(taken.remove(&self.uid)),
            left => drop(taken.insert(self.uid, left)),
        }
    }
}
