//! Control-group namespaces (`cgroup_namespaces(7)`). There is one control group, so all show the same.

use super::{Counted, Kind, UserNamespace, next_id};
use crate::errno::Result;
use std::sync::Arc;

/// A control-group namespace.
pub struct CgroupNamespace {
    id: u64,
    user_ns: Arc<UserNamespace>,
    _counted: Option<Counted>,
}

impl CgroupNamespace {
    pub(super) fn initial(user_ns: &Arc<UserNamespace>) -> Arc<Self> {
        let id = Kind::Cgroup.initial_id();
        Arc::new(Self { id, user_ns: user_ns.clone(), _counted: None })
    }

    /// A new one that belongs to `user_ns`. `ENOSPC` when there are too many.
    pub fn create(user_ns: &Arc<UserNamespace>) -> Result<Arc<Self>> {
        let counted = Some(Counted::new(Kind::Cgroup)?);
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
