//! UTS namespaces (`uts_namespaces(7)`): host and domain name.

use super::{Counted, Kind, UserNamespace, next_id};
use crate::errno::Result;
use crate::sync::{RwLock, rank};
use std::sync::Arc;

/// Host and domain name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// `nodename`.
    pub host: Vec<u8>,
    /// `domainname`.
    pub domain: Vec<u8>,
}

/// A UTS namespace.
pub struct UtsNamespace {
    id: u64,
    user_ns: Arc<UserNamespace>,
    /// The names.
    pub names: RwLock<Names, { rank::LEAF }>,
    _counted: Option<Counted>,
}

impl UtsNamespace {
    pub(super) fn initial(user_ns: &Arc<UserNamespace>, names: Names) -> Arc<Self> {
        Arc::new(Self {
            id: Kind::Uts.initial_id(),
            user_ns: user_ns.clone(),
            names: RwLock::new(names),
            _counted: None,
        })
    }

    /// A copy that belongs to `user_ns`.
    pub fn copy(&self, user_ns: &Arc<UserNamespace>) -> Result<Arc<Self>> {
        let counted = Some(Counted::new(Kind::Uts)?);
        let names = RwLock::new(self.names.read().clone());
        Ok(Arc::new(Self { id: next_id(), user_ns: user_ns.clone(), names, _counted: counted }))
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
