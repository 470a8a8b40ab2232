//! IPC namespaces (`ipc_namespaces(7)`).

use super::{Counted, Kind, UserNamespace, next_id};
use crate::errno::Result;
use crate::kernel::ipc::shm::Segments;
use std::sync::Arc;

/// An IPC namespace.
pub struct IpcNamespace {
    id: u64,
    user_ns: Arc<UserNamespace>,
    /// Shared memory segments.
    pub shm: Segments,
    _counted: Option<Counted>,
}

impl IpcNamespace {
    pub(super) fn initial(user_ns: &Arc<UserNamespace>) -> Arc<Self> {
        let id = Kind::Ipc.initial_id();
        Arc::new(Self { id, user_ns: user_ns.clone(), shm: Segments::default(), _counted: None })
    }

    /// A new one that belongs to `user_ns`. `ENOSPC` when there are too many.
    pub fn create(user_ns: &Arc<UserNamespace>) -> Result<Arc<Self>> {
        let counted = Some(Counted::new(Kind::Ipc)?);
        let (id, shm) = (next_id(), Segments::default());
        Ok(Arc::new(Self { id, user_ns: user_ns.clone(), shm, _counted: counted }))
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
