//! Which epoll instances watch an open file, so that a watch ends with the file.

use super::{Epoll, item::Key};
use crate::sync::{Mutex, rank};
use crate::vfs::File;
use std::sync::{Arc, Weak};

/// The watches on an open file description. Costs nothing until it is watched.
#[derive(Default)]
pub struct Links(Mutex<Vec<Link>, { rank::LEAF }>);

struct Link {
    /// The instance's open file.
    instance: Weak<File>,
    key: Key,
}

impl Links {
    /// Notes a watch.
    pub(super) fn add(&self, instance: &Arc<File>, key: Key) {
        self.0.lock().push(Link { instance: Arc::downgrade(instance), key });
    }

    /// Forgets a watch.
    pub(super) fn remove(&self, instance: &File, key: Key) {
        let mut links = self.0.lock();
        let found =
            links.iter().position(|l| l.key == key && std::ptr::eq(l.instance.as_ptr(), instance));
        if let Some(i) = found {
            let _ = links.swap_remove(i);
        }
    }

    /// The instances that watch the file.
    pub(super) fn instances(&self) -> Vec<Arc<File>> {
        self.0.lock().iter().filter_map(|l| l.instance.upgrade()).collect()
    }

    /// The file is about to go: ends every watch on it. No lock may be held.
    pub fn release(&self, file: &File) {
        let links = std::mem::take(&mut *self.0.lock());
        for link in links {
            if let Some(instance) = link.instance.upgrade()
                && let Some(epoll) = instance.ops_as::<Epoll>()
            {
                epoll.forget(link.key, file);
            }
        }
    }
}
