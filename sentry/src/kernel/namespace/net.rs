//! Network namespaces (`network_namespaces(7)`).

use super::{Counted, Kind, UserNamespace, next_id};
use crate::errno::Result;
use std::sync::Arc;

/// A network namespace.
pub struct NetNamespace {
    id: u64,
    user_ns: Arc<UserNamespace>,
    _counted: Option<Counted>,
}

impl NetNamespace {
    pub(super) fn initial(user_ns: &Arc<UserNamespace>) -> Arc<Self> {
        let id = Kind::Net.initial_id();
        Arc::new(Self { id, user_ns: user_ns.clone(), _counted: None })
    }

    /// A new one that belongs to `user_ns`. `ENOSPC` when there are too many.
    pub fn create(user_ns: &Arc<UserNamespace>) -> Result<Arc<Self>> {
        let counted = Some(Counted::new(Kind::Net)?);
        Ok(Arc::new(Self { id: next_id(), user_ns: user_ns.clone(), _counted: counted }))
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
