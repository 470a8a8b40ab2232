//! Control-group namespaces (`cgroup_namespaces(7)`): which group a process sees as the root.

use super::{Counted, Kind, UserNamespace, next_id};
use crate::errno::Result;
use crate::kernel::cgroup::Cgroup;
use std::sync::Arc;

/// A control-group namespace.
pub struct CgroupNamespace {
    id: u64,
    root: Arc<Cgroup>,
    user_ns: Arc<UserNamespace>,
    _counted: Option<Counted>,
}

impl CgroupNamespace {
    pub(super) fn initial(user_ns: &Arc<UserNamespace>, root: &Arc<Cgroup>) -> Arc<Self> {
        let id = Kind::Cgroup.initial_id();
        Arc::new(Self { id, root: root.clone(), user_ns: user_ns.clone(), _counted: None })
    }

    /// A new one that belongs to `user_ns` and has `root`. `ENOSPC` when there are too many.
    pub fn create(user_ns: &Arc<UserNamespace>, root: Arc<Cgroup>) -> Result<Arc<Self>> {
        let counted = Some(Counted::new(Kind::Cgroup)?);
        Ok(Arc::new(Self { id: next_id(), root, user_ns: user_ns.clone(), _counted: counted }))
    }

    /// The group that is `/` in it.
    pub fn root(&self) -> &Arc<Cgroup> {
        &self.root
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
