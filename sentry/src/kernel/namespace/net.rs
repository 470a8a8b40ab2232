//! Network namespaces (`network_namespaces(7)`).

use super::{Counted, Kind, UserNamespace, next_id};
use crate::errno::Result;
use crate::socket::inet::Net;
use std::sync::Arc;

/// A network namespace.
pub struct NetNamespace {
    id: u64,
    net: Arc<Net>,
    user_ns: Arc<UserNamespace>,
    _counted: Option<Counted>,
}

impl NetNamespace {
    pub(super) fn initial(user_ns: &Arc<UserNamespace>) -> Arc<Self> {
        let id = Kind::Net.initial_id();
        Arc::new(Self { id, net: Net::new(true), user_ns: user_ns.clone(), _counted: None })
    }

    /// A new one that belongs to `user_ns`, with a loopback interface that is down. `ENOSPC` when there are too many.
    pub fn create(user_ns: &Arc<UserNamespace>) -> Result<Arc<Self>> {
        let counted = Some(Counted::new(Kind::Net)?);
        let (id, net, user_ns) = (next_id(), Net::new(false), user_ns.clone());
        Ok(Arc::new(Self { id, net, user_ns, _counted: counted }))
    }

    /// Inode number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its interfaces, ports and connections.
    pub fn net(&self) -> &Arc<Net> {
        &self.net
    }

    /// The user namespace it belongs to.
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
    }
}
