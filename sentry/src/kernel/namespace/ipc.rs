//! IPC namespaces (`ipc_namespaces(7)`).

use super::{Counted, Kind, UserNamespace, next_id};
use crate::errno::Result;
use crate::fs::mqueue::Mqueue;
use crate::kernel::ipc::{limits::Limits, msg::Queues, sem::Sets, shm::Segments};
use std::sync::Arc;

/// An IPC namespace.
pub struct IpcNamespace {
    id: u64,
    user_ns: Arc<UserNamespace>,
    /// Shared memory segments.
    pub shm: Segments,
    /// Semaphore sets.
    pub sem: Sets,
    /// Message queues.
    pub msg: Queues,
    /// POSIX message queues.
    pub mqueue: Mqueue,
    /// What `/proc/sys/kernel` says of System V objects.
    pub limits: Limits,
    _counted: Option<Counted>,
}

impl IpcNamespace {
    fn new(id: u64, user_ns: &Arc<UserNamespace>, counted: Option<Counted>) -> Arc<Self> {
        Arc::new(Self {
            id,
            user_ns: user_ns.clone(),
            shm: Segments::default(),
            sem: Sets::default(),
            msg: Queues::default(),
            mqueue: Mqueue::default(),
            limits: Limits::default(),
            _counted: counted,
        })
    }

    pub(super) fn initial(user_ns: &Arc<UserNamespace>) -> Arc<Self> {
        Self::new(Kind::Ipc.initial_id(), user_ns, None)
    }

    /// A new one that belongs to `user_ns`. `ENOSPC` when there are too many.
    pub fn create(user_ns: &Arc<UserNamespace>) -> Result<Arc<Self>> {
        let counted = Some(Counted::new(Kind::Ipc)?);
        Ok(Self::new(next_id(), user_ns, counted))
    }

    /// Inode number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The user namespace it belongs to.
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
    }
}
